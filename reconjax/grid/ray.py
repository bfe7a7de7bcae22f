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
singular or nearly so, its eigenvectors whiten it, up to a cut-off. What depends on that, or on the
rounding of A, shows when the ray is factorized `again` with another cut-off and other rounding.
"""

from typing import Any, NamedTuple

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
from reconjax.theory.optimum import Embedding, Whitened
from reconjax.theory.spectrum import Spectrum, decomposed
from reconjax.theory.targets import Target, along
from reconjax.theory.tied import by_variance
from reconjax.theory.uncertainty import Uncertain, clear, uncertain


class Order(NamedTuple):
    """What joint embedding prefers: the coordinates of a ray as they are, but where they are tied.

    Attributes:
      turn: (D, D) the order of variance within ties, in the coordinates of the ray.
      principal: (D, D) the principal directions there; without noise all is tied.
      variances: (D,) their variances.
    """

    turn: Array
    principal: Array
    variances: Array


class ReadOut(NamedTuple):
    """The labeled samples, where the encoder learns from more than these, along a ray.

    Attributes:
      root: (D, D) whose Gram matrix is their second moment of Tᵀ x.
      targets: (C, D) times the root they are E[y xᵀ] T.
      floor: (D,) variances on them that count as 0.
      rank: number of their directions.
    """

    root: Array
    targets: Array
    floor: Array
    rank: Array


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
      attainable: Eq. 7's normalizer: what a linear head can reach on clean data.
      explainable: its loss form, the label variance that it explains.
      variance: tr M.
      magnified: how much whitening may have magnified the rounding of A, at most.
      basis: (D, D) Q.
      rounding: (D,) what whitening may have made of the rounding in each μ near 1.
      predicted: (D, D) Tᵀ E[x tᵀ] E[t xᵀ] T of a target t; None where it is x.
      predicted_variance: tr E[t tᵀ].
      order: of joint embedding, which prefers the coordinates as they are; else None.
      readout: of the labeled samples; None where they are those that the encoder learns from.
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
    basis: Array
    rounding: Array
    predicted: Array | None = None
    predicted_variance: Array | None = None
    order: Order | None = None
    readout: ReadOut | None = None


class Principal(NamedTuple):
    """The data in their principal coordinates, which no noise changes.

    Attributes:
      directions: (D, D) P.
      eigenvalues: (D,) d; 0 past the rank.
      root: (D, D) X̃ = diag(d)^½ Pᵀ; rows past the rank are 0.
      inputs: (D, D) the second moment of what is reconstructed along the whitened directions; or
        (D,) d, where that is x itself.
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
    ties: bool = False,
) -> Ray:
    """One ray's factorization: one (D, D) eigendecomposition, however many points are solved.

    Args:
      moments: centered moments of the data.
      direction: (D, D) B, positive semi-definite.
      root: (n, D) whose Gram matrix is E[x tᵀ]ᵀ E[x tᵀ] for the t that the decoder reconstructs;
        M by default, for t = x.
      data: `principal` of the moments and the root, if it is there already.
      again: with a higher cut-off and an A that is off by rounding, to see what they change.
      ties: find out what rounding does to each μ near 1, which joint embedding needs to know.
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
    unit = basis * inverse_root(mu)
    rounding = jnp.zeros_like(mu)
    if ties:
        # In units of variance 1, those of the whitening, G is off by its rounding at most.
        size = mu.shape[0] * float(jnp.finfo(mu.dtype).eps)
        rounding = size * jnp.sum(whitening.in_units(whitened @ unit) ** 2, axis=0)
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
        transform=whitening.transposed(whitened @ unit),
        noiseless=principal_scaled @ scaled,
        rounding=rounding,
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
    data: Principal, mu: Array, basis: Array, kappa: Array, rank: Array, **others: Any
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
    return Ray(
        clean=mu,
        noise=jnp.where(mu > 0, (1 - mu) / kappa, 0.0),
        inputs=_turned(data.inputs, scaled),
        labels=data.labels @ scaled,
        rank=rank,
        attainable=data.attainable,
        explainable=data.explainable,
        basis=basis,
        **others,
    )


def aimed(ray: Ray, data: Principal, target: Target | None, predicted: Array | None = None) -> Ray:
    """The ray with a target in place of x.

    Args:
      ray: from `factorize`, with its ties for joint embedding.
      data: what it was factorized from.
      target: what is predicted; None for x itself.
      predicted: (D, D) E[z tᵀ] E[t zᵀ] along the whitened principal directions, or (D,) its
        diagonal, where the data do not tell.
    """
    if target is None:
        return ray
    if target.embedding:
        exists, top = ray.clean > 0, jnp.asarray(True)
        tied = by_variance(ray.clean, lambda: ray.inputs, exists, top, ray.rounding)
        return ray._replace(order=Order(tied, ray.basis.T, data.eigenvalues))
    predicted = along(target, data.eigenvalues, data.root) if predicted is None else predicted
    return ray._replace(
        predicted=_turned(predicted, ray.basis * jnp.sqrt(ray.clean)),
        predicted_variance=_trace(predicted),
    )


def read_out_by(ray: Ray, labeled: Principal) -> Ray:
    """The ray with a head that is fitted on other samples, given in principal coordinates."""
    rounding = 8 * float(jnp.finfo(ray.clean.dtype).eps)
    return ray._replace(
        attainable=labeled.attainable,
        explainable=labeled.explainable,
        readout=ReadOut(
            root=labeled.root @ ray.transform,
            targets=labeled.labels,
            floor=rounding**2 * labeled.eigenvalues[0] * jnp.sum(ray.transform**2, axis=0),
            rank=labeled.rank,
        ),
    )


def _turned(moment: Array, basis: Array) -> Array:
    """Bᵀ A B (m, m) of A (D, D), or (D,) a diagonal, for B (D, m)."""
    if moment.ndim == 1:
        return gram(jnp.sqrt(moment)[:, None] * basis)
    return symmetric_product(basis, moment @ basis)


def _trace(moment: Array) -> Array:
    return jnp.sum(moment) if moment.ndim == 1 else jnp.trace(moment)


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
    predicted, predicted_variance, embedding = None, None, None
    if ray.order is not None:
        still = point.share == 0
        theta = ray.clean * s**2 * (keep**2 / scale)
        embedding = Embedding(
            theta=theta,
            rotation=jnp.where(still, ray.order.principal, ray.order.turn),
            values=jnp.where(still, ray.order.variances, theta),
            tied=still,
        )
    elif ray.predicted is not None:
        predicted = ray.predicted * (s[:, None] * s) * (keep**2 / scale)
        predicted_variance = ray.predicted_variance
    root, targets = jnp.sqrt(ray.clean / scale) * s, ray.labels * inverse_root(ray.clean)
    floor, count, read = None, None, ray.readout
    if read is not None:
        root, targets = read.root * (s * jax.lax.rsqrt(scale)), read.targets
        floor, count = read.floor * s**2 / scale, read.rank
    return Whitened(
        inputs=ray.inputs * (s[:, None] * s) * (keep**2 / scale),
        labels=ray.labels * (s * (keep * jax.lax.rsqrt(scale))),
        clean_root=root,
        targets=targets,
        rank=ray.rank,
        label_moment=label_moment,
        input_variance=ray.variance,
        rounding=floor,
        data=count,
        exists=ray.clean > 0,
        predicted=predicted,
        predicted_variance=predicted_variance,
        embedding=embedding,
    )
