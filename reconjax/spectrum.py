"""The spectrum: a data set in the coordinates of its principal directions.

With M = P diag(d) Pᵀ of rank r, everything that the noise-free theory needs (Theorem 1, Eq. 7,
Proposition 1) is d, the number of samples, S and the labels' coordinates

    Ŷ = Cᵀ P diag(d)^-½    (C, R),

which is YᵀU/√N of the sample-side singular vectors U in which the paper writes its formulas.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from reconjax.moments import Moments, as_floats, highest, moments


class Spectrum(NamedTuple):
    """Eigendecomposition of a second moment, largest eigenvalue first, with the labels in it.

    R is D from moments (D-side) and min(N, D) from samples (N-side where N < D).

    Attributes:
      eigenvalues: (R,) variance along each direction, in squared units of x; 0 past the rank.
      eigenvectors: (D, R) orthonormal directions, in columns; the sign makes the entry of largest
        magnitude positive. Past the rank: a basis of the null space (D-side) or 0 (N-side).
      rank: int32 scalar, the number of eigenvalues above the relative cut-off.
      labels: (C, R) Ŷ; 0 past the rank. (0, R) where no labels were given.
      label_moment: (C, C) S.
      mean_y: (C,) mean target.
      mean: (D,) and scale (D,): x stands for (input - mean) / scale.
      scale: see `mean`.
      samples: number of samples N.
    """

    eigenvalues: Array
    eigenvectors: Array
    rank: Array
    labels: Array
    label_moment: Array
    mean_y: Array
    mean: Array
    scale: Array
    samples: Array

    @property
    def features(self) -> int:
        """Number of input features D."""
        return self.eigenvectors.shape[-2]


@jax.jit
@highest
def spectrum(moments: Moments, rank_tolerance: ArrayLike | None = None) -> Spectrum:
    """Spectrum from moments, by one (D, D) eigendecomposition.

    Args:
      moments: from `reconjax.moments`.
      rank_tolerance: eigenvalues up to this share of the largest count as 0; by default what
        cannot be told from rounding, see `significant`.

    Returns:
      `Spectrum` with R = D.
    """
    eigenvalues, vectors = eigh_descending(moments.second_moment)
    rank, eigenvalues = _cut(eigenvalues, rank_tolerance)
    labels = (moments.cross_moment.T @ vectors) * _inverse_root(eigenvalues)
    return Spectrum(
        eigenvalues=eigenvalues,
        eigenvectors=vectors,
        rank=rank,
        labels=labels,
        label_moment=moments.label_moment,
        mean_y=moments.mean_y,
        mean=moments.mean_x,
        scale=moments.scale,
        samples=moments.samples,
    )


def spectrum_from_samples(
    x: ArrayLike,
    y: ArrayLike,
    *,
    num_classes: int | None = None,
    center: bool = True,
    rank_tolerance: float | None = None,
) -> Spectrum:
    """Spectrum from samples in memory, by the smaller of the (D, D) and the (N, N) problem.

    The N-side never forms anything of size D x D (paper, Sec. 5.7): X Xᵀ = U diag(Nd) Uᵀ gives
    P = Xᵀ U (Nd)^-½.

    Args:
      x: (N, D) vectors or (N, H, W, C) images, as in `moments`.
      y: (N,) integer labels or (N, C) targets.
      num_classes: C for integer labels.
      center: remove the means.
      rank_tolerance: as in `spectrum`.

    Returns:
      `Spectrum` with R = min(N, D).

    Raises:
      ValueError: as `moments`.
    """
    samples = np.shape(x)[0]
    features = int(np.prod(np.shape(x)[1:]))
    if features <= samples:
        found = moments(x, y, num_classes=num_classes, center=center)
        return spectrum(found, rank_tolerance)
    # The moments of the labels alone check the arguments and give S; x is a stand-in.
    flat = as_floats(jnp.asarray(x).reshape(samples, features), jnp.result_type(float))
    mean = jnp.mean(flat, axis=0) if center else jnp.zeros_like(flat[0])
    if not bool(jnp.all(jnp.isfinite(mean))):
        bad = int(jnp.sum(~jnp.isfinite(mean)))
        raise ValueError(f"x: NaN or inf in {bad} of {features} features")
    if not bool(jnp.any(flat != mean)):
        raise ValueError("x: constant; the inputs do not vary")
    column = jnp.linspace(0, 1, samples, dtype=flat.dtype)[:, None]
    task = moments(column, y, num_classes=num_classes, center=center, dtype=flat.dtype)
    targets = jnp.asarray(y)
    if targets.ndim == 1:
        targets = jax.nn.one_hot(targets.astype(jnp.int32), task.targets, dtype=flat.dtype)
    return _sample_side(flat - mean, targets.astype(flat.dtype), mean, task, rank_tolerance)


@jax.jit
@highest
def _sample_side(
    x: Array, y: Array, mean: Array, task: Moments, rank_tolerance: ArrayLike | None
) -> Spectrum:
    """N-side spectrum of centered x (N, D) and raw targets y (N, C)."""
    samples = x.shape[0]
    eigenvalues, u = eigh_descending(x @ x.T / samples)
    rank, eigenvalues = _cut(eigenvalues, rank_tolerance)
    vectors = (x.T @ u) * (_inverse_root(eigenvalues) / samples**0.5)
    sign = _signs(vectors)
    within = jnp.arange(samples, dtype=jnp.int32) < rank
    return Spectrum(
        eigenvalues=eigenvalues,
        eigenvectors=vectors * sign,
        rank=rank,
        labels=jnp.where(within, ((y - task.mean_y).T @ u) * (sign / samples**0.5), 0.0),
        label_moment=task.label_moment,
        mean_y=task.mean_y,
        mean=mean,
        scale=jnp.ones_like(mean),
        samples=task.samples,
    )


@highest
def project(
    spectrum: Spectrum,
    x: ArrayLike,
    *,
    variance: ArrayLike | None = None,
    directions: ArrayLike | None = None,
    subspace: str = "top",
    keep_mean: bool = True,
) -> Array:
    """Projects inputs on the top or the bottom subspace (Figs 1, 4 and 10).

    The statistics are those stored in the spectrum, so the inputs may be ones that it never saw.
    The two subspaces with `variance` v and 1 - v are complements: top + bottom - mean = x.

    Args:
      spectrum: of the training data.
      x: (..., D) vectors or (N, H, W, C) images with H W C = D; floats in the units of the moments,
        or uint8, which is scaled to [0, 1].
      variance: share in [0, 1] of the variance that the subspace explains: the fewest top
        directions that explain at least that share, or for "bottom" their complement.
      directions: instead of `variance`, the number of directions: the first ones for "top", the
        last ones up to the rank (and all that lies outside the span of the data) for "bottom".
      subspace: "top" or "bottom".
      keep_mean: add the mean image back.

    Returns:
      Array of the shape of x.

    Raises:
      ValueError: x of another size, an unknown subspace, both or none of variance and directions,
        or one out of range.
    """
    if subspace not in ("top", "bottom"):
        raise ValueError(f"subspace: {subspace!r}; 'top' or 'bottom'")
    if (variance is None) == (directions is None):
        raise ValueError("variance, directions: exactly one of the two must be given")
    flat = as_floats(jnp.asarray(x))
    shape, features = flat.shape, spectrum.features
    flat = flat if shape[-1:] == (features,) else flat.reshape(shape[0], -1)
    if flat.shape[-1] != features:
        raise ValueError(f"x: {flat.shape[-1]} features; the spectrum has {features}")
    top = top_directions(spectrum, variance, directions, subspace)
    centered = (flat.astype(spectrum.mean.dtype) - spectrum.mean) / spectrum.scale
    kept = jnp.arange(spectrum.eigenvalues.shape[0], dtype=jnp.int32) < top
    coordinates = centered @ jnp.where(kept, spectrum.eigenvectors, 0.0)
    part = coordinates @ spectrum.eigenvectors.T
    if subspace == "bottom":
        part = centered - part
    return (part * spectrum.scale + (spectrum.mean if keep_mean else 0.0)).reshape(shape)


def top_directions(
    spectrum: Spectrum, variance: ArrayLike | None, directions: ArrayLike | None, subspace: str
) -> Array:
    """Number of leading directions in the top subspace, or left out of the bottom one."""
    for name, value, last in (
        ("variance", variance, 1),
        ("directions", directions, spectrum.features),
    ):
        concrete = value is not None and not isinstance(value, jax.core.Tracer)
        if concrete and not 0 <= float(np.asarray(value)) <= last:
            raise ValueError(f"{name}: {value}; 0 .. {last} is allowed")
    if directions is not None:
        count = jnp.minimum(jnp.asarray(directions, jnp.int32), spectrum.rank)
        return count if subspace == "top" else spectrum.rank - count
    share = jnp.cumsum(spectrum.eigenvalues)
    share = share / share[-1]  # ends at 1 exactly, so that every share is reached
    wanted = jnp.asarray(variance, share.dtype)
    wanted = wanted if subspace == "top" else 1 - wanted
    # A share that is reached up to rounding is reached.
    reached = share >= wanted - 4 * jnp.finfo(share.dtype).eps
    return jnp.where(
        wanted <= 0, 0, jnp.minimum(jnp.argmax(reached).astype(jnp.int32) + 1, spectrum.rank)
    )


def eigh_descending(matrix: Array) -> tuple[Array, Array]:
    """Eigenvalues, largest first, and eigenvectors with deterministic signs."""
    eigenvalues, vectors = jnp.linalg.eigh(matrix, symmetrize_input=False)
    vectors = vectors[:, ::-1]
    return eigenvalues[::-1], vectors * _signs(vectors)


def significant(eigenvalues: Array) -> Array:
    """The value up to which eigenvalues of a positive semi-definite matrix count as 0.

    In float64 the customary size x epsilon x largest. In float32 that would cut off directions
    that carry labels (cifar10: all but 354 of 3072), so the rounding is read off the matrix: where
    there is a null space, it shows as negative eigenvalues of the same magnitude.
    """
    epsilon = float(jnp.finfo(eigenvalues.dtype).eps)
    largest = jnp.max(eigenvalues)
    if epsilon < 1e-10:
        return eigenvalues.shape[0] * epsilon * largest
    return jnp.maximum(-4 * jnp.min(eigenvalues), epsilon / 16 * largest)


def _signs(vectors: Array) -> Array:
    """(R,) signs that make the entry of largest magnitude of each column positive."""
    largest = jnp.take_along_axis(
        vectors, jnp.argmax(jnp.abs(vectors), axis=0, keepdims=True), axis=0
    )
    return jnp.where(largest[0] < 0, -1.0, 1.0).astype(vectors.dtype)


def _cut(eigenvalues: Array, rank_tolerance: ArrayLike | None) -> tuple[Array, Array]:
    """Rank and eigenvalues with all up to the cut-off set to 0."""
    if rank_tolerance is None:
        cutoff = significant(eigenvalues)
    else:
        cutoff = jnp.asarray(rank_tolerance, eigenvalues.dtype) * eigenvalues[0]
    kept = eigenvalues > cutoff
    return jnp.sum(kept, dtype=jnp.int32), jnp.where(kept, eigenvalues, 0.0)


def _inverse_root(eigenvalues: Array) -> Array:
    """d^-½, and 0 where d = 0; safe to differentiate."""
    positive = eigenvalues > 0
    return jnp.where(positive, jax.lax.rsqrt(jnp.where(positive, eigenvalues, 1.0)), 0.0)
