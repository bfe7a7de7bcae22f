"""What trained networks should learn: `python -m experiments.objectives`.

cells        which networks are trained on what, and what a probe reads off them
settings     learning rates and weights, chosen by other seeds
predictors   what the closed form says of each cell
verdict      what held
picture      of it
page         in words

What was fixed before any of it was looked at:

- The measure of a network is the R² of one-hot labels on the test split, by a linear probe of the
  code whose ridge weight is the best by leave-one-out on the training split.
- The prediction is the R² of the linear closed form on the same test split, its head fitted on
  clean inputs, at K equal to the size of the code.
- Settings are chosen by R² by leave-one-out on the training split, of seeds that are not reported.
- A difference is clear where it is more than two standard errors of its mean over the seeds.
"""
