"""One factorisation for a whole ray of noises.

On a ray, E[x' x'ᵀ] = g ((1 − ρ) M + ρ B). With κ = tr M / tr B (1 for masks) factorise the pencil

    A = M + κ B = P diag(a) Pᵀ,   T = P a^-½ Q   so that   Tᵀ (κ B) T = diag(β),   Tᵀ M T = diag(μ)

and μ + β = 1. Every point of the ray is then whitened by T s / √g, s = ((1 − ρ) μ + ρ β / κ)^-½;
one eigendecomposition of s Tᵀ (λ M² + α C Cᵀ) T s gives the encoder for every K, and the clean
read-out needs only the diagonal s² μ / g.

P and a are taken in units in which A has diagonal 1. Whitening A instead of M keeps the
factorisation accurate where M is badly conditioned, and exact where it is singular: outside the
range of A both M and B vanish, so nothing that the encoder could use to cancel noise is cut off.
(Restricting the problem to the range of M would be wrong there, unless B were replaced by its
Schur complement on the null space, which the tests compare with.)
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from reconjax.alignment import direction_weights
from reconjax.moments import Moments
from reconjax.noise import RayPoint
from reconjax.optimum import Whitened
from reconjax.spectrum import eigh_descending, significant


class Ray(NamedTuple):
    """What one factorisation leaves for every point of a ray, in the coordinates Tᵀ x.

    Attributes:
      clean: (D,) μ, the variance of the data.
      noise: (D,) β / κ, the variance of B.
      inputs: (D, D) Tᵀ M² T.
      labels: (C, D) Cᵀ T.
      rank: number of μ above rounding, the rank of M.
      attainable: Eq. 7's normaliser: what a linear head can reach on clean data at all.
      variance: tr M.
    """

    clean: Array
    noise: Array
    inputs: Array
    labels: Array
    rank: Array
    attainable: Array
    variance: Array


def factorise(moments: Moments, direction: Array) -> Ray:
    """One ray's factorisation: two (D, D) eigendecompositions, whatever is then asked of the ray.

    Args:
      moments: centered moments of the data.
      direction: (D, D) B, positive semi-definite.
    """
    second = moments.second_moment
    total = jnp.trace(direction)
    kappa = jnp.where(total > 0, jnp.trace(second) / jnp.where(total > 0, total, 1.0), 1.0)
    direction = kappa * direction
    # In units of its own in which A has diagonal 1, no feature is too small to be seen; those
    # that are 0 stay 0.
    variance = jnp.diagonal(second) + jnp.diagonal(direction)
    varies = variance > 0
    unit = jnp.where(varies, jax.lax.rsqrt(jnp.where(varies, variance, 1.0)), 0.0)
    units = unit[:, None] * unit
    scales, vectors = eigh_descending((second + direction) * units)
    epsilon = float(jnp.finfo(scales.dtype).eps)
    kept = scales > jnp.maximum(significant(scales), 8 * epsilon * scales[0])
    root = jnp.where(kept, jax.lax.rsqrt(jnp.where(kept, scales, 1.0)), 0.0)
    rotated = vectors.T @ (direction * units) @ vectors
    # Outside the range of A there is no data: -1 keeps these columns apart, and puts them last.
    outside = jnp.diag(jnp.where(kept, 0.0, 1.0).astype(root.dtype))
    beta, basis = eigh_descending(rotated * root[:, None] * root - outside)
    inside = beta > -0.5
    mu = jnp.where(inside, 1 - beta, 0.0)
    # The rounding of A, magnified by whitening it, decides what of μ can be told from 0.
    magnified = 2 * epsilon * scales[0] * (root**2 @ basis**2)
    mu = jnp.where(mu > jnp.maximum(significant(mu), magnified), mu, 0.0)
    beta = jnp.clip(beta, 0.0, 1.0)
    transform = unit[:, None] * (vectors @ (root[:, None] * basis))
    across = second @ transform
    labels = moments.cross_moment.T @ transform
    clean = mu > 0
    labels = jnp.where(clean, labels, 0.0)
    whole = labels * jax.lax.rsqrt(jnp.where(clean, mu, 1.0))
    return Ray(
        clean=mu,
        noise=beta / kappa,
        inputs=across.T @ across,
        labels=labels,
        rank=jnp.sum(clean, dtype=jnp.int32),
        attainable=jnp.sum(direction_weights(whole, moments.label_moment)[0]),
        variance=jnp.trace(second),
    )


def at(ray: Ray, point: RayPoint, label_moment: Array) -> Whitened:
    """The whitened problem at one point of a ray, in the dtype of the ray."""
    dtype = ray.clean.dtype
    share, scale, keep = (v.astype(dtype) for v in (point.share, point.scale, point.keep))
    variance = (1 - share) * ray.clean + share * ray.noise
    kept = variance > 0
    s = jnp.where(kept, jax.lax.rsqrt(jnp.where(kept, variance, 1.0)), 0.0)
    clean_labels = ray.labels * (s * jax.lax.rsqrt(scale))
    return Whitened(
        inputs=ray.inputs * (s[:, None] * s) * (keep**2 / scale),
        labels=keep * clean_labels,
        clean_gram=ray.clean * s**2 / scale,
        clean_labels=clean_labels,
        rank=ray.rank,
        label_moment=label_moment,
        input_variance=ray.variance,
    )
