"""One factorisation for a whole ray of noises.

On a ray, E[x' x'ᵀ] = g ((1 − ρ) M + ρ B). With κ = tr M / tr B (1 for masks) factorise the pencil

    A = M + κ B,   T   so that   Tᵀ A T = I,   Tᵀ (κ B) T = diag(β),   Tᵀ M T = diag(μ)

and μ + β = 1. Every point of the ray is then whitened by T s / √g, s = ((1 − ρ) μ + ρ β / κ)^-½;
one eigendecomposition of s Tᵀ (λ M² + α C Cᵀ) T s gives the encoder for every K, and the clean
read-out needs only the diagonal s² μ / g.

A is taken in units in which it has diagonal 1, and whitened by its Cholesky factor L: with
L⁻¹ (κ B) L⁻ᵀ = Q diag(β) Qᵀ, T = L⁻ᵀ Q. Where A is singular or nearly so, its eigenvectors whiten
it instead.

Whitening A instead of M keeps the factorisation accurate where M is badly conditioned, and exact
where it is singular: outside the range of A both M and B vanish, so nothing that the encoder could
use to cancel noise is cut off. (Restricting the problem to the range of M would be wrong there,
unless B were replaced by its Schur complement on the null space, which the tests compare with.)
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from reconjax.linalg.eigen import eigh_descending, significant
from reconjax.linalg.products import gram
from reconjax.noise import RayPoint
from reconjax.summary.moments import Moments
from reconjax.theory.alignment import direction_weights
from reconjax.theory.held_out import HeldOut, held_out_curves
from reconjax.theory.optimum import Optimum, Whitened


class Ray(NamedTuple):
    """What one factorisation leaves for every point of a ray, in the coordinates Tᵀ x.

    Attributes:
      clean: (D,) μ, the variance of the data.
      noise: (D,) β / κ, the variance of B.
      inputs: (D, D) Tᵀ M² T.
      labels: (C, D) Cᵀ T.
      transform: (D, D) T.
      rank: number of μ above rounding, the rank of M.
      attainable: Eq. 7's normaliser: what a linear head can reach on clean data at all.
      explainable: its loss form, the label variance that a linear head explains on clean data.
      variance: tr M.
    """

    clean: Array
    noise: Array
    inputs: Array
    labels: Array
    transform: Array
    rank: Array
    attainable: Array
    explainable: Array
    variance: Array


def factorise(moments: Moments, direction: Array, root: Array | None = None) -> Ray:
    """One ray's factorisation: one (D, D) eigendecomposition, whatever is then asked of the ray.

    Args:
      moments: centered moments of the data.
      direction: (D, D) B, positive semi-definite.
      root: (n, D) whose Gram matrix is E[x tᵀ]ᵀ E[x tᵀ] for the t that the decoder reconstructs;
        M by default, for t = x.
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
    both, noise = (second + direction) * units, direction * units
    epsilon = float(jnp.finfo(both.dtype).eps)

    # Constant features: outside the range of A there is no data; -1 keeps these columns apart.
    outside = jnp.diag(jnp.where(varies, 0.0, 1.0).astype(both.dtype))
    factor = jnp.linalg.cholesky(both + outside, symmetrize_input=False)
    pivots = jnp.min(jnp.diagonal(factor))
    regular = jnp.isfinite(pivots) & (pivots**2 > 64 * both.shape[0] * epsilon)

    def by_cholesky() -> tuple[Array, Array, Array]:
        half = jax.scipy.linalg.solve_triangular(factor, noise, lower=True)
        whitened = jax.scipy.linalg.solve_triangular(factor, half.T, lower=True)
        return whitened - outside, factor, jnp.max(jnp.sum(jnp.abs(both), axis=0))

    def by_eigenvectors() -> tuple[Array, Array, Array]:
        scales, vectors = eigh_descending(both)
        kept = scales > jnp.maximum(significant(scales), 8 * epsilon * scales[0])
        root = jnp.where(kept, jax.lax.rsqrt(jnp.where(kept, scales, 1.0)), 0.0)
        rotated = vectors.T @ noise @ vectors
        empty = jnp.diag(jnp.where(kept, 0.0, 1.0).astype(root.dtype))
        return rotated * root[:, None] * root - empty, vectors * root, scales[0]

    whitened, whitener, norm = jax.lax.cond(regular, by_cholesky, by_eigenvectors)
    beta, basis = eigh_descending(whitened)
    transform = jax.lax.cond(
        regular,
        lambda: jax.scipy.linalg.solve_triangular(whitener, basis, trans="T", lower=True),
        lambda: whitener @ basis,
    )
    mu = jnp.where(beta > -0.5, 1 - beta, 0.0)
    # The rounding of A, magnified by whitening it, decides what of μ can be told from 0.
    magnified = 2 * epsilon * norm * jnp.sum(transform**2, axis=0)
    mu = jnp.where(mu > jnp.maximum(significant(mu), magnified), mu, 0.0)
    beta = jnp.clip(beta, 0.0, 1.0)
    transform = unit[:, None] * transform
    across = (second if root is None else root) @ transform
    labels = moments.cross_moment.T @ transform
    clean = mu > 0
    labels = jnp.where(clean, labels, 0.0)
    whole = labels * jax.lax.rsqrt(jnp.where(clean, mu, 1.0))
    attainable, explainable = direction_weights(whole, moments.label_moment)
    return Ray(
        clean=mu,
        noise=beta / kappa,
        inputs=gram(across),
        labels=labels,
        transform=transform,
        rank=jnp.sum(clean, dtype=jnp.int32),
        attainable=jnp.sum(attainable),
        explainable=jnp.sum(explainable),
        variance=jnp.trace(second),
    )


def deviation(ray: Ray, point: RayPoint) -> Array:
    """(D,) s: the features Tᵀ x' scaled by s / √g have unit variance; 0 where they have none."""
    share = point.share.astype(ray.clean.dtype)
    variance = (1 - share) * ray.clean + share * ray.noise
    kept = variance > 0
    return jnp.where(kept, jax.lax.rsqrt(jnp.where(kept, variance, 1.0)), 0.0)


def at(ray: Ray, point: RayPoint, label_moment: Array) -> Whitened:
    """The whitened problem at one point of a ray, in the dtype of the ray."""
    scale, keep = (v.astype(ray.clean.dtype) for v in (point.scale, point.keep))
    s = deviation(ray, point)
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


class Judge(NamedTuple):
    """A test split in the coordinates Tᵀ x of a ray, m of them; see `HeldOut`.

    Attributes:
      clean: (m, m) second moment of the clean inputs.
      noise: (m, m) that of B on the test split; None where the read-out is clean.
      cross: (m, C) with the labels.
      folds: (m, B, C) the same of each fold.
      label_variance: as in `HeldOut`.
    """

    clean: Array
    noise: Array | None
    cross: Array
    folds: Array
    label_variance: Array


def judge(held_out: HeldOut, transform: Array, noise: Array | None) -> Judge:
    """The test split, given T (D, m), and B (D, D) there where the read-out is noisy."""
    return Judge(
        clean=transform.T @ held_out.second_moment @ transform,
        noise=None if noise is None else transform.T @ noise @ transform,
        cross=transform.T @ held_out.cross_moment,
        folds=jnp.einsum("dm,bdc->mbc", transform, held_out.folds),
        label_variance=held_out.label_variance,
    )


def judged(judge: Judge, ray: Ray, point: RayPoint, found: Optimum) -> tuple[Array, Array]:
    """What the test split says of the optimum at a point of a ray, for every K.

    Returns:
      (K,) the share of the label variance that encoder and head explain there, and (K, B) the
      agreement of their prediction with the labels of each fold, as a share of it.
    """
    share, scale, keep = (value.astype(ray.clean.dtype) for value in point[1:])
    unit = jax.lax.rsqrt(scale)
    vectors = deviation(ray, point)[:, None] * found.rotation
    gram = vectors.T @ judge.clean @ vectors
    cross = unit * (vectors.T @ judge.cross)
    folds = unit * jnp.einsum("mk,mbc->kbc", vectors, judge.folds)
    if judge.noise is not None:
        gram = (1 - share) * gram + share * (vectors.T @ judge.noise @ vectors)
        cross, folds = keep * cross, keep * folds
    elif found.readout_factor is not None:
        # The features of which `coordinates` are the head have unit second moment on clean data.
        factor = found.readout_factor

        def whiten(right: Array) -> Array:
            return jax.scipy.linalg.solve_triangular(factor, right, lower=True)

        gram = whiten(whiten(unit**2 * gram).T)
        cross = whiten(cross)
        folds = whiten(folds.reshape(len(folds), -1)).reshape(folds.shape)
    return held_out_curves(found.coordinates, cross, gram, folds, judge.label_variance)
