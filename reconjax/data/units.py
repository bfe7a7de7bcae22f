"""The units of inputs: what a stored number stands for."""

import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike


def as_floats(x: Array, dtype: DTypeLike | None = None) -> Array:
    """Inputs as floats; integers (8-bit images) are scaled from [0, 255] to [0, 1]."""
    if jnp.issubdtype(x.dtype, jnp.integer):
        return x.astype(dtype or jnp.result_type(float)) / 255
    return x if dtype is None else x.astype(dtype)
