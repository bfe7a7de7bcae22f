"""The closed forms of the paper, on moments.

spectrum       principal directions, and projections on them
solver         the one problem of which Theorems 1 and 3 are cases; Theorem 2
optimum        its core, for every K at once
alignment      Eq. 7, its chance line, Proposition 1
certificate    what a noise can never change (Corollary 3.1)
commuting      its numbers, in arrays that JAX traces
angles         principal angles between representations, for the certificate
held_out       encoders and heads on a test split
learned_mask   a mask that is learned by gradients
"""
