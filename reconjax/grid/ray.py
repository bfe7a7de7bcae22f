"""One factorization for a whole ray of noises.

On a ray, E[x' x'ᵀ] = g ((1 − ρ) M + ρ B). With κ = tr M / tr B (1 for masks) factorize the pencil

    A = M + κ B,   T   so that   Tᵀ A T = I,   Tᵀ M T = diag(μ),   Tᵀ (κ B) T = diag(1 − μ).

Every point of the ray is then whitened by T s / √g, s = ((1 − ρ) μ + ρ (1 − μ) / κ)^-½; one
eigendecomposition of s Tᵀ (λ M² + α C Cᵀ) T s gives the encoder for every K, and the clean
read-out needs only the diagonal s² μ / g.

μ, the variance of the data, may be as small as it likes, and must not be lost in the rounding of
1. So it is found in the coordinates of the samples: with the principal directions M = P diag(d) Pᵀ
of rank r, the matrix X̃ = diag(d)^½ Pᵀ (r, D) has the moments of the data, and with

    X̃ A⁺ X̃ᵀ = Q diag(μ) Qᵀ   (r, r),   T = A⁺ X̃ᵀ Q diag(μ)^-½

on the range of M; Tᵀ M² T = diag(μ)^½ Qᵀ diag(d) Q diag(μ)^½, and Cᵀ T = Ŷ Q diag(μ)^½ with the
labels Ŷ = Cᵀ P diag(d)^-½ of the spectrum. Nothing here is divided by a small number, the rank is
that of the spectrum, and without noise, where s = μ^-½, what is left is the spectrum itself,
whatever rounding has done to μ and Q. (Restricting B to the range of M would be wrong: where it
vanishes outside, noise cancels noise. The inverse of A is that of all of it; the tests compare it
with the Schur complement of B on the null space.)

A is taken in units in which it has diagonal 1, and whitened by its Cholesky factor. Where it is
singular or nearly so, its eigenvectors whiten it instead, up to a cut-off. What depends on the
cut-off, or on the rounding of A, shows when the ray is factorized `again` with another cut-off and
with other rounding.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from reconjax.linalg.eigen import eigh_descending, inverse_root
from reconjax.linalg.products import gram, symmetric_product
from reconjax.linalg.whitening import whiten
from reconjax.noise import RayPoint
from reconjax.summary.class_moment import ClassMoment
from reconjax.summary.moments import Moments
from reconjax.theory.alignment import direction_weights
from reconjax.theory.held_out import HeldOut, held_out_curves
from reconjax.theory.optimum import Optimum, Whitened
from reconjax.theory.spectrum import Spectrum, decomposed
from reconjax.theory.uncertainty import Uncertain, clear, uncertain


class Ray(NamedTuple):
    """What one factorization leaves for every point of a ray, in the coordinates Tᵀ x.

    Attributes:
      clean: (D,) μ, the variance of the data; 0 past the rank.
      noise: (D,) (1 − μ) / κ, the variance of B.
      inputs: (D, D) Tᵀ M² T.
      labels: (C, D) Cᵀ T.
      transform: (D, D) T.
      noiseless: (D, D) M⁺ X̃ᵀ Q diag(μ)^½: the coordinates by the principal directions alone. They
        are those of T for all data in the range of M; for new data, which may lie outside, they
        are what there is without noise, where T is the limit of ever less noise.
      rank: number of directions of the data, that of the spectrum.
      attainable: Eq. 7's normalizer: what a linear head can reach on clean data at all.
      explainable: its loss form, the label variance that a linear head explains on clean data.
      variance: tr M.
      magnified: how much whitening may have magnified the rounding of A, at most.
    """

    clean: Array
    noise: Array
    inputs: Array
    labels: Array
    transform: Array
    noiseless: Array
    rank: Array
    attainable: Array
    explainable: Array
    variance: Array
    magnified: Array


class Principal(NamedTuple):
    """The data in their principal coordinates, which no noise changes.

    Attributes:
      directions: (D, D) P.
      eigenvalues: (D,) d; 0 past the rank.
      root: (D, D) X̃ = diag(d)^½ Pᵀ; rows past the rank are 0.
      inputs: (D, D) the second moment of what is reconstructed along the whitened directions:
        diag(d) where that is x itself, given as (D,).
      labels: (C, D) Ŷ.
      rank: r.
      clear: how many of them are clear of the cut-off, and hide no others.
      attainable: Eq. 7's normalizer.
      explainable: its loss form.
      uncertain: what rounding in the moments leaves open, for every K.
    """

    directions: Array
    eigenvalues: Array
    root: Array
    inputs: Array
    labels: Array
    rank: Array
    clear: Array
    attainable: Array
    explainable: Array
    uncertain: Uncertain


def principal(moments: Moments, root: Array | None = None) -> Principal:
    """One (D, D) eigendecomposition; arguments as `factorize`."""
    whole, every = decomposed(moments, None)
    inputs = whole.eigenvalues
    if root is not None:
        inputs = gram(root @ (whole.eigenvectors * inverse_root(whole.eigenvalues)))
    return of_spectrum(
        whole,
        every,
        moments.second_moment,
        root=_root(whole.eigenvalues, whole.eigenvectors, moments.second_moment),
        inputs=inputs,
    )


def of_spectrum(
    whole: Spectrum, every: Array, second: Array, *, root: Array, inputs: Array
) -> Principal:
    """What a spectrum, with or without its directions, says of the data.

    Args:
      whole: the spectrum.
      every: (D,) all eigenvalues as they are.
      second: as in `uncertain`.
      root: as in `Principal`.
      inputs: as in `Principal`.
    """
    attainable, explainable = direction_weights(whole.labels, whole.label_moment)
    unknown = uncertain(whole, every, second)
    return Principal(
        directions=whole.eigenvectors,
        eigenvalues=whole.eigenvalues,
        root=root,
        inputs=inputs,
        labels=whole.labels,
        rank=whole.rank,
        clear=jnp.minimum(clear(whole.eigenvalues, every, unknown), whole.rank),
        attainable=jnp.sum(attainable),
        explainable=jnp.sum(explainable),
        uncertain=unknown,
    )


def _root(eigenvalues: Array, directions: Array, second: Array) -> Array:
    """X̃ = diag(d)^½ Pᵀ = diag(d)^-½ Pᵀ M, whichever has less rounding in it.

    That of the first is of the size of the largest features in all of them; that of the second is
    of the size of each feature, but of the largest directions in all of them.
    """
    small = eigenvalues[:, None] ** 2 <= eigenvalues[0] * jnp.diagonal(second)
    first = jnp.sqrt(eigenvalues)[:, None] * directions.T
    return jnp.where(small, first, (directions * inverse_root(eigenvalues)).T @ second)


def factorize(
    moments: Moments,
    direction: Array,
    root: Array | None = None,
    *,
    data: Principal | None = None,
    again: bool = False,
) -> Ray:
    """One ray's factorization: one (D, D) eigendecomposition, however many points are solved.

    Args:
      moments: centered moments of the data.
      direction: (D, D) B, positive semi-definite.
      root: (n, D) whose Gram matrix is E[x tᵀ]ᵀ E[x tᵀ] for the t that the decoder reconstructs;
        M by default, for t = x.
      data: `principal` of the moments and the root, if it is there already.
      again: with a higher cut-off and an A that is off by rounding, to see what they change.
    """
    data = principal(moments, root) if data is None else data
    second = moments.second_moment
    total = jnp.trace(direction)
    kappa = jnp.where(total > 0, jnp.trace(second) / jnp.where(total > 0, total, 1.0), 1.0)
    whitening = whiten(second + kappa * direction, other_rounding=again)
    whitened = whitening.apply(data.root.T)
    rank = data.clear if again else data.rank
    mu, basis = within_rank(gram(whitened), rank)
    mu = visible(mu, rank)
    scaled = basis * jnp.sqrt(mu)
    principal_scaled = data.directions * inverse_root(data.eigenvalues)
    return in_coordinates(
        data,
        mu,
        basis,
        kappa,
        rank,
        variance=jnp.trace(second),
        magnified=jnp.asarray(whitening.magnified),
        transform=whitening.transposed(whitened @ (basis * inverse_root(mu))),
        noiseless=principal_scaled @ scaled,
    )


def within_rank(matrix: Array, rank: Array) -> tuple[Array, Array]:
    """Eigenvalues (D,) and eigenvectors (D, D) on the first `rank` coordinates; 0 past them."""
    exists = jnp.arange(matrix.shape[0], dtype=jnp.int32) < rank
    inside = exists[:, None] & exists
    # What is no direction of the data is kept apart from the weakest of them.
    apart = jnp.diag(jnp.where(exists, 0.0, 1.0).astype(matrix.dtype))
    values, vectors = eigh_descending(jnp.where(inside, matrix, 0.0) - apart)
    return jnp.where(exists, values, 0.0), jnp.where(inside, vectors, 0.0)


def visible(mu: Array, rank: Array) -> Array:
    """(D,) μ in (0, 1] up to the rank, 0 past it.

    A direction that noise covers is weak, but it is not none: without noise it counts in full.
    """
    exists = jnp.arange(mu.shape[0], dtype=jnp.int32) < rank
    return jnp.where(exists, jnp.clip(mu, float(jnp.finfo(mu.dtype).eps) ** 1.25, 1.0), 0.0)


def in_coordinates(
    data: Principal, mu: Array, basis: Array, kappa: Array, rank: Array, **others: Array
) -> Ray:
    """The ray, given μ (r,), 0 past the rank, and Q (r, r) in principal coordinates.

    Args:
      data: from `principal`.
      mu: the variance of the data.
      basis: Q; 0 past the rank.
      kappa: κ.
      rank: of the data.
      others: the fields of `Ray` that depend on how the ray was factorized.
    """
    scaled = basis * jnp.sqrt(mu)
    if data.inputs.ndim == 1:
        inputs = gram(jnp.sqrt(data.inputs)[:, None] * scaled)
    else:
        inputs = symmetric_product(scaled, data.inputs @ scaled)
    return Ray(
        clean=mu,
        noise=jnp.where(mu > 0, (1 - mu) / kappa, 0.0),
        inputs=inputs,
        labels=data.labels @ scaled,
        rank=rank,
        attainable=data.attainable,
        explainable=data.explainable,
        **others,
    )


def inverse_deviation(ray: Ray, point: RayPoint) -> Array:
    """(D,) s: the features Tᵀ x' scaled by s / √g have unit variance; 0 where they have none."""
    share = point.share.astype(ray.clean.dtype)
    variance = (1 - share) * ray.clean + share * ray.noise
    kept = variance > 0
    return jnp.where(kept, jax.lax.rsqrt(jnp.where(kept, variance, 1.0)), 0.0)


def at(ray: Ray, point: RayPoint, label_moment: Array | ClassMoment) -> Whitened:
    """The whitened problem at one point of a ray, in the dtype of the ray."""
    scale, keep = (v.astype(ray.clean.dtype) for v in (point.scale, point.keep))
    s = inverse_deviation(ray, point)
    return Whitened(
        inputs=ray.inputs * (s[:, None] * s) * (keep**2 / scale),
        labels=ray.labels * (s * (keep * jax.lax.rsqrt(scale))),
        clean_root=jnp.sqrt(ray.clean / scale) * s,
        targets=ray.labels * inverse_root(ray.clean),
        rank=ray.rank,
        label_moment=label_moment,
        input_variance=ray.variance,
        exists=ray.clean > 0,
    )


class TestMoments(NamedTuple):
    """A test split in the coordinates Tᵀ x of a ray, m of them; see `HeldOut`.

    Attributes:
      clean: (m, m) second moment of the clean inputs.
      noise: (m, m) that of B on the test split; None where the read-out is clean.
      cross: (m, C) with the labels.
      folds: (m, Fn, C) the same of each fold.
      label_variance: as in `HeldOut`.
    """

    clean: Array
    noise: Array | None
    cross: Array
    folds: Array
    label_variance: Array


def test_moments(held_out: HeldOut, transform: Array, noise: Array | None) -> TestMoments:
    """The test split, given T (D, m), and B (D, D) there where the read-out is noisy."""
    return TestMoments(
        clean=transform.T @ held_out.second_moment @ transform,
        noise=None if noise is None else transform.T @ noise @ transform,
        cross=transform.T @ held_out.cross_moment,
        folds=jnp.einsum("dm,bdc->mbc", transform, held_out.folds),
        label_variance=held_out.label_variance,
    )


class TestSplit(NamedTuple):
    """A test split on a ray: with noise, and without, where there are the principal directions."""

    noisy: TestMoments
    noiseless: TestMoments


def test_split(held_out: HeldOut, ray: Ray, noise: Array | None) -> TestSplit:
    """The test split in the coordinates of a ray; arguments as `test_moments`."""
    noisy = test_moments(held_out, ray.transform, noise)
    regular = ray.rank == held_out.second_moment.shape[0]
    noiseless = jax.lax.cond(
        regular, lambda: noisy, lambda: test_moments(held_out, ray.noiseless, noise)
    )
    return TestSplit(noisy, noiseless)


def held_out_at(split: TestSplit, ray: Ray, point: RayPoint, best: Optimum) -> tuple[Array, Array]:
    """What the test split says of the optimum at a point of a ray, for every K.

    Returns:
      (K,) the share of the label variance that encoder and head explain there, and (K, Fn) the
      agreement of their prediction with the labels of each fold, as a share of it.
    """
    share, scale, keep = (value.astype(ray.clean.dtype) for value in point[1:])
    test: TestMoments = jax.tree.map(lambda a, b: jnp.where(share > 0, a, b), *split)
    unit = jax.lax.rsqrt(scale)
    vectors = inverse_deviation(ray, point)[:, None] * best.rotation
    gram = vectors.T @ test.clean @ vectors
    cross = unit * (vectors.T @ test.cross)
    folds = unit * jnp.einsum("mk,mbc->kbc", vectors, test.folds)
    if test.noise is not None:
        gram = (1 - share) * gram + share * (vectors.T @ test.noise @ vectors)
        cross, folds = keep * cross, keep * folds
    elif best.readout_factor is not None:
        # The features of which `coordinates` are the head have unit second moment on clean data.
        factor = best.readout_factor

        def whiten(right: Array) -> Array:
            return jax.scipy.linalg.solve_triangular(factor, right, lower=True)

        gram = whiten(whiten(unit**2 * gram).T)
        cross = whiten(cross)
        folds = whiten(folds.reshape(len(folds), -1)).reshape(folds.shape)
    return held_out_curves(best.coordinates, cross, gram, folds, test.label_variance)
