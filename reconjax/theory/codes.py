"""Theorem 2: the optimum of an encoder that can reach any representation."""

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from reconjax.linalg.eigen import eigh_descending
from reconjax.linalg.precision import highest
from reconjax.theory.checks import check_latent_dim, check_weight
from reconjax.theory.optimum import weights


def optimal_codes(
    x: ArrayLike, y: ArrayLike, reconstruction_weight: ArrayLike, latent_dim: int
) -> tuple[Array, Array]:
    """Theorem 2: the optimal codes of an encoder that can reach any representation.

    They are the top-K eigenvectors of α Y Yᵀ + λ X Xᵀ (N, N), found through the smaller of that
    and the (D + C, D + C) side.

    Args:
      x: (N, D) inputs and y: (N, C) targets, both with the means that they are to have (center
        them first).
      y: see x.
      reconstruction_weight: λ in [0, inf].
      latent_dim: K in 1 .. N.

    Returns:
      Codes (N, K), orthonormal up to the rank and 0 past it, and the eigenvalues (K,): the loss at
      K is α‖Y‖² + λ‖X‖² minus the sum of the first K.

    Raises:
      ValueError: K or λ out of range, or lengths that differ.

    Example:
      >>> x, y = np.random.default_rng(0).normal(size=(50, 6)), np.arange(50) % 2
      >>> x, y = x - x.mean(axis=0), np.eye(2)[y] - 0.5
      >>> codes, eigenvalues = reconjax.optimal_codes(x, y, 1.0, 3)
      >>> bool(np.allclose(codes.T @ codes, np.eye(3)))
      True
    """
    x, y = jnp.asarray(x), jnp.asarray(y)
    if x.ndim != 2 or y.ndim != 2 or x.shape[0] != y.shape[0]:
        raise ValueError(f"x, y: shapes {x.shape} and {y.shape}; (N, D) and (N, C) are needed")
    check_weight(reconstruction_weight)
    check_latent_dim(latent_dim, x.shape[0])
    return _optimal_codes(x, y, jnp.asarray(reconstruction_weight, float), latent_dim)


@jax.jit(static_argnames="latent_dim")
@highest
def _optimal_codes(
    x: Array, y: Array, reconstruction_weight: Array, latent_dim: int
) -> tuple[Array, Array]:
    alpha, weight = weights(reconstruction_weight, x.dtype)
    samples = x.shape[0]
    width = x.shape[1] + y.shape[1]
    floor = max(samples, width) * float(jnp.finfo(x.dtype).eps)
    if width < samples:
        stacked = jnp.concatenate([jnp.sqrt(alpha) * y, jnp.sqrt(weight) * x], axis=1)
        values, right = eigh_descending(stacked.T @ stacked)
        kept = values > floor * values[0]
        codes = stacked @ jnp.where(kept, right / jnp.sqrt(jnp.where(kept, values, 1.0)), 0.0)
    else:
        # Of wide x there is no second copy.
        values, codes = eigh_descending(alpha * (y @ y.T) + weight * (x @ x.T))
        kept = values > floor * values[0]
    missing = max(latent_dim - values.shape[0], 0)
    codes = jnp.pad(jnp.where(kept, codes, 0.0), ((0, 0), (0, missing)))[:, :latent_dim]
    return codes, jnp.pad(jnp.where(kept, values, 0.0), (0, missing))[:latent_dim]
