"""The spectrum: a data set in the coordinates of its principal directions.

With M = P diag(d) Pᵀ of rank r, everything that the noise-free theory needs (Theorem 1, Eq. 7,
Proposition 1) is d, the number of samples, S and the labels' coordinates

    Ŷ = Cᵀ P diag(d)^-½    (C, R),

which is YᵀU/√N of the sample-side singular vectors U in which the paper writes its formulas.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from reconjax.data.targets import as_targets
from reconjax.linalg.eigen import eigh_descending, inverse_root, labels_turned, significant, signs
from reconjax.linalg.precision import highest
from reconjax.summary.class_moment import MANY, ClassMoment, class_sums
from reconjax.summary.moments import Moments, as_arrays, moments
from reconjax.summary.sample_gram import mean_gram, transposed_product
from reconjax.summary.unweighted import Unweighted


class Spectrum(NamedTuple):
    """Eigendecomposition of a second moment, largest eigenvalue first, with the labels in it.

    R is D from moments (D-side) and min(N, D) from samples (N-side where N < D). Eigenvalues and
    labels are always those of all R directions; of the directions themselves only the leading ones
    may be kept (`spectrum_from_samples`). What needs more than are kept raises ValueError.

    Attributes:
      eigenvalues: (R,) variance along each direction, in squared units of x; 0 past the rank.
      eigenvectors: (D, kept) the leading orthonormal directions, in columns; the sign makes the
        entry of largest magnitude positive. Past the rank: a basis of the null space (D-side) or 0
        (N-side).
      rank: int32 scalar, the number of eigenvalues above the relative cut-off.
      labels: (C, R) Ŷ; 0 past the rank. (0, R) where no labels were given. The signs of the columns
        are those of the kept directions, and arbitrary past them.
      label_moment: (C, C) S.
      mean_y: (C,) mean target.
      mean: (D,) and scale (D,): x stands for (input - mean) / scale.
      scale: see `mean`.
      samples: number of samples N.
      unweighted: `Moments.unweighted`.
      every: all eigenvalues as they are, and second: what they are of, as in
        `reconjax.theory.uncertainty.uncertain`; None where the rank is cut by a tolerance of one's
        own.
      second: see `every`.
    """

    eigenvalues: Array
    eigenvectors: Array
    rank: Array
    labels: Array
    label_moment: Array | ClassMoment
    mean_y: Array
    mean: Array
    scale: Array
    samples: Array
    unweighted: Unweighted | None = None
    every: Array | None = None
    second: Array | None = None

    @property
    def features(self) -> int:
        """Number of input features D."""
        return self.eigenvectors.shape[-2]

    @property
    def kept(self) -> int:
        """Number of directions that `eigenvectors` holds, at most R."""
        return self.eigenvectors.shape[-1]

    def check_kept(self, needed: ArrayLike, purpose: str) -> None:
        """Raises ValueError if fewer than `needed` directions are kept (skipped while traced)."""
        if self.kept == self.eigenvalues.shape[-1] or isinstance(needed, jax.core.Tracer):
            return
        if int(np.asarray(needed)) > self.kept:
            raise ValueError(
                f"spectrum: keeps {self.kept} directions; {purpose} needs {int(np.asarray(needed))}"
            )


@jax.jit
@highest
def spectrum(moments: Moments, rank_tolerance: ArrayLike | None = None) -> Spectrum:
    """Spectrum from moments, by one (D, D) eigendecomposition.

    Args:
      moments: from `reconjax.moments`.
      rank_tolerance: eigenvalues up to this share of the largest count as 0; by default what
        cannot be distinguished from rounding, see `significant`.

    Returns:
      `Spectrum` with R = D.

    Example:
      >>> x, y = np.random.default_rng(0).normal(size=(50, 6)), np.arange(50) % 2
      >>> moments = reconjax.moments(x, y)
      >>> spectrum = reconjax.spectrum(moments)
      >>> spectrum.eigenvectors.shape, int(spectrum.rank)
      ((6, 6), 6)
    """
    result, every = decomposed(moments, rank_tolerance)
    if rank_tolerance is not None:
        return result
    return result._replace(every=every, second=moments.second_moment)


def decomposed(moments: Moments, rank_tolerance: ArrayLike | None) -> tuple[Spectrum, Array]:
    """The spectrum, and all eigenvalues (D,) as they are, those that count as 0 among them."""
    # Centered samples add up to 0: no more than N - 1 of them are independent.
    independent = moments.samples - (1 if moments.centered else 0)
    eigenvalues, vectors, rank, labels, every = _principal(
        moments.second_moment, moments.cross_moment, rank_tolerance, independent
    )
    result = Spectrum(
        eigenvalues=eigenvalues,
        eigenvectors=vectors,
        rank=rank,
        labels=labels,
        label_moment=moments.label_moment,
        mean_y=moments.mean_y,
        mean=moments.mean_x,
        scale=moments.scale,
        samples=moments.samples,
        unweighted=moments.unweighted,
    )
    return result, every


@jax.custom_jvp
def _principal(
    second_moment: Array,
    cross_moment: Array,
    rank_tolerance: ArrayLike | None,
    independent: ArrayLike,
) -> tuple[Array, Array, Array, Array, Array]:
    """Eigenvalues (D,), eigenvectors (D, D), rank, Ŷ (C, D), eigenvalues as they are (D,).

    Derivatives as `labels_turned`. No more than `independent` eigenvalues are kept.
    """
    every, vectors = eigh_descending(second_moment)
    _, eigenvalues = _cut(every, rank_tolerance)
    index = jnp.arange(every.shape[0], dtype=jnp.int32).astype(every.dtype)
    eigenvalues = jnp.where(index < independent, eigenvalues, 0.0)
    rank = jnp.sum(eigenvalues > 0, dtype=jnp.int32)
    labels = (cross_moment.T @ vectors) * inverse_root(eigenvalues)
    return eigenvalues, vectors, rank, labels, every


@_principal.defjvp
def _principal_jvp(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Any, Any]:
    result = _principal(*primals)
    values, vectors, rank, _, every = result
    values, vectors, labels = labels_turned(values, vectors, tangents[0], primals[1], tangents[1])
    no_rank = np.zeros(rank.shape, jax.dtypes.float0)
    return result, (values, vectors, no_rank, labels, jnp.zeros_like(every))


def spectrum_from_samples(
    x: ArrayLike,
    y: ArrayLike,
    *,
    num_classes: int | None = None,
    center: bool = True,
    rank_tolerance: float | None = None,
    directions: int | None = None,
    variance: float | None = None,
    targets: str | None = None,
) -> Spectrum:
    """Spectrum from samples in memory, by the smaller of the (D, D) and the (N, N) problem.

    The N-side never forms anything of size D x D, nor x as floats: see `SampleSide`. There, keep as
    few directions as are needed: they take D N floats in all, 12 GB for 10,000 images of 224 x 224.

    Args:
      x: (N, D) vectors or (N, H, W, C) images, as in `moments`.
      y: class numbers or real targets, as in `moments`.
      num_classes: C for class numbers.
      center: remove the means.
      rank_tolerance: as in `spectrum`.
      directions: number of eigenvectors to keep, the leading ones; all by default. Alignment and
        losses need none.
      variance: instead of `directions`, the share of the variance that they explain, which is what
        `project` needs for the top of that share.
      targets: "classes" or "real", as in `moments`.

    Returns:
      `Spectrum` with R = min(N, D).

    Raises:
      ValueError: as `moments`; directions or variance out of range, or both given.

    Example:
      >>> x = np.random.default_rng(0).normal(size=(8, 20))
      >>> spectrum = reconjax.spectrum_from_samples(x, np.arange(8) % 2)
      >>> spectrum.eigenvectors.shape, int(spectrum.rank)
      ((20, 8), 7)
    """
    samples = np.shape(x)[0]
    features = int(np.prod(np.shape(x)[1:]))
    if features <= samples:
        given = moments(x, y, num_classes=num_classes, center=center, targets=targets)
        whole = spectrum(given, rank_tolerance)
        count = _kept(whole, directions, variance)
        if count == whole.kept:
            return whole
        return whole._replace(eigenvectors=whole.eigenvectors[:, :count])
    side = SampleSide(
        x,
        y,
        num_classes=num_classes,
        center=center,
        rank_tolerance=rank_tolerance,
        targets=targets,
    )
    return side.spectrum(directions=directions, variance=variance)


class SampleSide:
    """The N-side of wide data, N < D: the decomposed Gram matrix X Xᵀ = U diag(Nd) Uᵀ (N, N).

    All that is of size D are the samples, which stay as they are (8-bit images: 1 byte a pixel),
    and what is wanted of it: principal directions P = Xᵀ U (Nd)^-½ (paper, Sec. 5.7), as many as
    wanted, or the combinations of them that are Theorem 1's encoder.

    Attributes:
      x: (N, D) the samples, as they were given.
      every: (N,) all eigenvalues of X Xᵀ / N, those below the cut-off too.
    """

    def __init__(
        self,
        x: ArrayLike,
        y: ArrayLike,
        *,
        num_classes: int | None = None,
        center: bool = True,
        rank_tolerance: float | None = None,
        targets: str | None = None,
    ) -> None:
        """Decomposes; arguments and errors as `spectrum_from_samples`. x is kept, not copied."""
        samples = np.shape(x)[0]
        # The moments of the labels alone check the arguments and give S; x is a stand-in.
        stand_in = np.linspace(0, 1, samples)[:, None]
        task = moments(stand_in, y, num_classes=num_classes, center=center, targets=targets)
        self.x = np.asarray(as_arrays(x, y, num_classes, targets)[0]).reshape(samples, -1)
        gram, mean = mean_gram(self.x, center=center)
        given = as_targets(jnp.asarray(y), num_classes=num_classes, targets=targets)
        if given.ndim == 1:
            given = given.astype(jnp.int32)
        if given.ndim == 1 and task.targets <= MANY:
            given = jax.nn.one_hot(given, task.targets, dtype=gram.dtype)
        if given.ndim == 2:
            given = given.astype(gram.dtype) - task.mean_y
        eigenvalues, rank, labels, self._whitened, self.every = _decomposed(
            gram,
            given,
            task.mean_y,
            rank_tolerance,
            center,
            min(self.x.shape),
        )
        self._spectrum = Spectrum(
            eigenvalues=eigenvalues,
            eigenvectors=jnp.zeros((self.x.shape[1], 0), mean.dtype),
            rank=rank,
            labels=labels,
            label_moment=task.label_moment,
            mean_y=task.mean_y,
            mean=mean,
            scale=jnp.ones_like(mean),
            samples=task.samples,
        )
        if rank_tolerance is None and len(self.x) <= self.x.shape[1]:
            varying = jnp.ones(len(self.x), eigenvalues.dtype)
            self._spectrum = self._spectrum._replace(every=self.every, second=varying)

    def spectrum(self, *, directions: int | None = None, variance: float | None = None) -> Spectrum:
        """The spectrum with the leading directions alone; arguments as `spectrum_from_samples`."""
        whole = self._spectrum
        count = _kept(whole, directions, variance)
        if count == 0:
            return whole
        vectors = transposed_product(self.x, whole.mean, self._whitened[:, :count])
        vectors, sign = _oriented(vectors)
        sign = jnp.pad(sign, (0, whole.labels.shape[1] - count), constant_values=1)
        return whole._replace(eigenvectors=vectors, labels=whole.labels * sign)

    def combined(self, weights: ArrayLike) -> Array:
        """P w (D, K) of weights w (R, K) on the directions, in one pass over the samples.

        P itself, (D, R), is never formed; its signs are those of `spectrum(directions=0).labels`.
        """
        with highest:
            return transposed_product(self.x, self._spectrum.mean, self._whitened @ weights)

    def left_vectors(self) -> Array:
        """U (N, R), orthonormal in the columns up to the rank and 0 past it."""
        return self._whitened * jnp.sqrt(self._spectrum.eigenvalues * len(self.x))


@functools.partial(jax.jit, static_argnames=("center", "size"))
@highest
def _decomposed(
    gram: Array,
    y: Array,
    mean_y: Array,
    rank_tolerance: ArrayLike | None,
    center: bool,
    size: int,
) -> tuple[Array, Array, Array, Array, Array]:
    """Eigenvalues (R,), rank, Ŷ (C, R), U (Nd)^-½ (N, R) and every eigenvalue of X Xᵀ / N.

    Targets y are (N, C) without their mean, or (N,) labels of many classes.
    """
    samples = gram.shape[0]
    every, u = eigh_descending(gram)
    # Centered rows add up to 0: the last eigenvalue would be 0, and shows what the others are off.
    rounding = 4 * jnp.abs(every[-1]) if center else 0.0
    rank, eigenvalues = _cut(every, rank_tolerance, rounding)
    within = jnp.arange(size, dtype=jnp.int32) < rank
    if y.ndim == 1:
        along = class_sums(u, y, mean_y.shape[0]) - jnp.outer(mean_y, jnp.sum(u, axis=0))
    else:
        along = y.T @ u
    labels = jnp.where(within, along[:, :size] / samples**0.5, 0.0)
    whitened = u * (inverse_root(eigenvalues) / samples**0.5)
    return eigenvalues[:size], jnp.minimum(rank, size), labels, whitened[:, :size], every


@functools.partial(jax.jit, donate_argnums=0)
def _oriented(vectors: Array) -> tuple[Array, Array]:
    """Vectors with the entry of largest magnitude positive, and the signs that make them so."""
    sign = signs(vectors)
    return vectors * sign, sign


def _kept(spectrum: Spectrum, directions: int | None, variance: float | None) -> int:
    """How many directions to keep; arguments as `spectrum_from_samples`."""
    if directions is not None and variance is not None:
        raise ValueError("variance, directions: at most one of the two may be given")
    size = spectrum.eigenvalues.shape[0]
    if variance is not None:
        return int(top_directions(spectrum, variance, None, "top"))
    if directions is None:
        return size
    if directions != int(directions) or not 0 <= directions <= spectrum.features:
        raise ValueError(f"directions: {directions}; 0 .. {spectrum.features} is allowed")
    return min(int(directions), size)


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


def _cut(
    eigenvalues: Array, rank_tolerance: ArrayLike | None, rounding: ArrayLike = 0.0
) -> tuple[Array, Array]:
    """Rank and eigenvalues with all up to the cut-off set to 0."""
    if rank_tolerance is None:
        cutoff = jnp.maximum(significant(eigenvalues), rounding)
    else:
        cutoff = jnp.asarray(rank_tolerance, eigenvalues.dtype) * eigenvalues[0]
    kept = eigenvalues > cutoff
    return jnp.sum(kept, dtype=jnp.int32), jnp.where(kept, eigenvalues, 0.0)
