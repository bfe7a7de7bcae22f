"""What rounding in an eigendecomposition does to the curves that are read off it."""

import jax.numpy as jnp
from jax import Array


def mixing(eigenvalues: Array, labels: Array, metric: Array | None = None) -> Array:
    """(R,) estimated error, for every K, of the label variance on the K leading directions.

    It is exact for a matrix that is off by rounding, by E with entries of deviation σ, which to
    first order mixes the directions i <= K < j by E_ij / (θ_i - θ_j). Directions that are closer
    than rounding are mixed at will, but each is still of unit length: its squares add up to 1.

    Args:
      eigenvalues: (R,) θ, largest first, with the rounding of the largest.
      labels: (R, C) coordinates of the labels along the directions, in units in which each
        direction explains the square of its row.
      metric: (R,) variance of the features along the directions, where they are orthonormal as
        vectors instead of as features: a share of a direction with little variance is a smaller
        share of the feature.
    """
    sigma = float(jnp.finfo(eigenvalues.dtype).eps) * jnp.max(eigenvalues)
    sigma = jnp.where(sigma > 0, sigma, 1.0)
    mixed = 1 / (((eigenvalues[:, None] - eigenvalues) / sigma) ** 2 + 1)
    unit = 1 / jnp.sqrt(jnp.maximum(jnp.sum(mixed, axis=1), 1.0))
    effect = (labels @ labels.T) ** 2 * mixed * (unit[:, None] * unit)
    if metric is not None:
        effect *= metric / jnp.where(metric > 0, metric, 1.0)[:, None]
    # The sum over i <= K < j, by what one more direction adds to it and takes from it. Without the
    # diagonal, which is far larger than all that is wanted.
    across = jnp.triu(effect, 1)
    change = jnp.sum(across, axis=1) - jnp.sum(across, axis=0)
    return 2 * jnp.sqrt(jnp.maximum(jnp.cumsum(change), 0.0))


def nearby(differences: Array) -> Array:
    """(R,) the largest of each value and some beside it: one alone may be small by chance."""
    size = differences.shape[0]
    reach = 2
    padded = jnp.pad(differences, reach)
    return jnp.max(jnp.stack([padded[i : i + size] for i in range(2 * reach + 1)]), axis=0)
