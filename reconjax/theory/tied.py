"""Directions between which an objective is indifferent, in the order of their variance."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike


def by_variance(
    values: Array,
    variance: Callable[[], Array],
    exists: Array,
    top: Array,
    rounding: ArrayLike = 0.0,
    leading: int | None = None,
) -> Array:
    """Q (R, R) that orders by variance the directions that are tied; the others stay.

    A target that some directions say nothing of has θ = 0 for these. Joint embedding has θ = 0 for
    what the noise destroys, and θ = 1 for what it leaves untouched. One eigendecomposition, and
    none where nothing is tied, or where all that is lies past the leading ones.

    Args:
      values: (R,) θ in [0, 1], largest first.
      variance: gives (R, R) E[z xᵀ] E[x zᵀ] in the same coordinates.
      exists: (R,) which of them there are.
      top: bool, whether those with θ = 1 are tied too.
      rounding: (R,) what whitening may have made of the rounding in each θ near 1.
      leading: how many of the first are asked for; all of them if None.
    """
    size = values.shape[0]
    least = 64 * size * float(jnp.finfo(values.dtype).eps)
    untouched = exists & (values > 1 - jnp.clip(8 * rounding, least, 0.5)) & top
    destroyed = exists & (values < least)
    between = exists & ~untouched & ~destroyed

    def ordered() -> Array:
        same = (untouched[:, None] & untouched) | (destroyed[:, None] & destroyed)
        own = variance()
        share = jnp.where(same, own, 0.0) / jnp.trace(own)
        apart = jnp.where(untouched, 4.0, 0.0) + jnp.where(between, 2.0 + values, 0.0)
        apart = apart - jnp.where(exists, 0.0, 1.0)
        rotation = jnp.linalg.eigh(share + jnp.diag(apart), symmetrize_input=False)[1]
        return rotation[:, ::-1]

    asked = jnp.any(destroyed[:leading])
    tied = (jnp.sum(untouched) > 1) | ((jnp.sum(destroyed) > 1) & asked)
    return jax.lax.cond(tied, ordered, lambda: jnp.eye(size, dtype=values.dtype))
