"""The precision of matrix products."""

import jax

# float32 products in full float32, on accelerators too.
highest = jax.default_matmul_precision("highest")
