"""Whether advice before training holds for trained networks: `python -m experiments.advisor`.

cells        which networks are trained on what, and what a probe reads off them
table        the rows of all of them, in a file that other programs read
predictors   what is known of a mask before training
verdict      whether that ranks the masks as the probes do
picture      of it

What was fixed before any of it was looked at:

- The measure of a network is the R² of one-hot labels on the test split, by a linear probe whose
  ridge weight is the best by leave-one-out: of a vision transformer on the mean tokens of all
  blocks, of an autoencoder on its code.
- The predictor is the R² of the linear closed form (Theorem 3, clean read-out) on samples that
  neither it nor the networks have seen, at K equal to the width of the encoder's tokens, or to the
  size of the code.
- Networks are ranked by means over their seeds; sets in which masks do not differ by more than the
  seeds do (F < 3) have nothing to rank.
- Everything else that is looked at is exploratory.
"""
