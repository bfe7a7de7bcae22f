"""The units of inputs: what a stored number stands for."""

import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike


def as_floats(x: Array, dtype: DTypeLike | None = None) -> Array:
    """Inputs as floats; uint8 images are scaled from [0, 255] to [0, 1], all else is as it is."""
    if x.dtype == jnp.uint8:
        return x.astype(dtype or jnp.result_type(float)) / 255
    if dtype is None and jnp.issubdtype(x.dtype, jnp.floating):
        return x
    return x.astype(dtype or jnp.result_type(float))
