"""The sample side of Theorem 3: grids for fewer samples than features, with nothing of size D x D.

In the coordinates of the samples a ray needs three (N, N) matrices alone: A Aᵀ, of which the
spectrum is made, the labels on it, and E = A B⁺ Aᵀ (`reconjax.grid.columns`). With the principal
directions on the samples U, Uᵀ E U = Q diag(ε) Qᵀ and

    A (M + κ B)⁺ Aᵀ = Q diag(μ) Qᵀ,   μ = ε / (κ + ε),

which is what `reconjax.grid.ray` makes of the (D, D) moments. From there on every point is solved
as there: the same losses, codes, errors. A new sample x has the coordinates

    Tᵀ x = diag(μ^-½ / (κ + ε)) Qᵀ Uᵀ g(x),   g(x) = A B⁺ x.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from reconjax.data.targets import as_targets
from reconjax.grid.columns import Rows, alone, column_sums, target_products
from reconjax.grid.kernel import DOUBTFUL, Factorized, solve_grid
from reconjax.grid.new_data import TestMoments, TestSplit
from reconjax.grid.ray import (
    Principal,
    Ray,
    in_coordinates,
    of_spectrum,
    preferred,
    visible,
    within_rank,
)
from reconjax.grid.sweep import (
    Sweep,
    checked,
    checked_target,
    grid_points,
    points_dtype,
    result_of,
)
from reconjax.grid.task import Options, cast
from reconjax.linalg.eigen import inverse_root
from reconjax.linalg.precision import highest
from reconjax.linalg.products import symmetric_product
from reconjax.noise import Isotropic, Noise
from reconjax.summary.moments import Moments
from reconjax.theory.spectrum import SampleSide, Spectrum
from reconjax.theory.targets import Target


class NewSamples(NamedTuple):
    """A test split of Nt samples.

    Attributes:
      labels: (Nt, C) y, less the mean of the training split's.
      folds: (Nt,) int32, the fold of each sample.
      cross: (N, Nt) Uᵀ A x, with the training samples in principal coordinates.
    """

    labels: Array
    folds: Array
    cross: Array


class Samples(NamedTuple):
    """Training samples, and a test split, as grids on the sample side need them.

    Attributes:
      rows: the samples as they are stored.
      spectrum: of the training samples, without principal directions.
      principal: the same as rays need it, with arrays of size N for D.
      vectors: (N, N) U; 0 past the rank.
      test: the test split, or None.
    """

    rows: Rows
    spectrum: Spectrum
    principal: Principal
    vectors: Array
    test: NewSamples | None


def samples(
    x: ArrayLike,
    y: ArrayLike,
    *,
    test: tuple[ArrayLike, ArrayLike] | None = None,
    folds: ArrayLike | None = None,
    num_classes: int | None = None,
    targets: str | None = None,
) -> Samples:
    """What `sweep_samples` needs of samples in memory: one (N, N) eigendecomposition.

    Memory: the samples as they are stored, and about five (N, N) arrays.

    Args:
      x: (N, D) vectors or (N, H, W, C) images as in `moments`; N may be more than D too.
      y: class numbers or real targets, as in `moments`.
      test: (x, y) of a test split of the same kind, or None.
      folds: (Nt,) the fold of each of its samples, 0 .. Fn - 1, for `Sweep.agreement`; one for all
        by default.
      num_classes: C for class numbers.
      targets: "classes" or "real", as in `moments`.

    Raises:
      ValueError: as `moments`; a test split of another size or type.

    Example:
      >>> x, y = np.random.default_rng(0).normal(size=(8, 4, 6, 1)), np.arange(8) % 2
      >>> data = reconjax.grid.samples(x, y)
      >>> int(data.spectrum.rank)
      7
    """
    side = SampleSide(x, y, num_classes=num_classes, targets=targets)
    spectrum = side.spectrum(directions=0)
    size, features = side.x.shape
    filling = size - spectrum.eigenvalues.shape[0]  # where N > D
    eigenvalues = jnp.pad(spectrum.eigenvalues, (0, filling))
    labels = jnp.pad(spectrum.labels, ((0, 0), (0, filling)))
    vectors = jnp.pad(side.left_vectors(), ((0, 0), (0, filling)))
    principal = of_spectrum(
        spectrum._replace(eigenvalues=eigenvalues, labels=labels),
        side.every,
        (jnp.arange(size) < min(size, features)).astype(eigenvalues.dtype),
        root=jnp.zeros((size, 0), vectors.dtype),
        inputs=eigenvalues,
    )
    mean = np.asarray(spectrum.mean)
    if test is None:
        empty = np.zeros((0, features), side.x.dtype)
        return Samples(Rows(side.x, empty, mean), spectrum, principal, vectors, None)
    new = np.asarray(test[0])
    new = new.reshape(len(new), -1)
    if new.shape[1] != features or new.dtype != side.x.dtype:
        raise ValueError(
            f"test: {new.shape[1]} features of {new.dtype};"
            f" the training samples have {features} of {side.x.dtype}"
        )
    classes = spectrum.mean_y.shape[0]
    given = as_targets(jnp.asarray(test[1]), num_classes=num_classes, targets=targets)
    if given.ndim == 1:
        given = jax.nn.one_hot(given.astype(jnp.int32), classes, dtype=mean.dtype)
    if given.shape != (len(new), classes):
        raise ValueError(f"test: targets {given.shape}; {(len(new), classes)} is needed")
    fold = np.zeros(len(new), np.int32) if folds is None else np.asarray(folds, np.int32)
    rows = Rows(side.x, new, mean)
    with highest:
        cross = vectors.T @ rows.products()
    split = NewSamples(given.astype(mean.dtype) - spectrum.mean_y, jnp.asarray(fold), cross)
    return Samples(rows, spectrum, principal, vectors, split)


def samples_memory(size: int, features: int, batch_size: int = 1, itemsize: int = 1) -> int:
    """Bytes that `samples` and `sweep_samples` hold at their peak, the stored samples included.

    Args:
      size: N.
      features: D.
      batch_size: as in `sweep_samples`.
      itemsize: bytes of a stored value.

    Example:
      >>> from reconjax.grid.sample_side import samples_memory
      >>> samples_memory(4000, 150528) / 2**30 < 3
      True
    """
    return 8 * size**2 * (8 + 11 * batch_size) + size * features * itemsize


def sweep_samples(
    data: Samples,
    noises: Sequence[Sequence[Noise]],
    reconstruction_weights: ArrayLike = np.inf,
    latent_dims: ArrayLike | None = None,
    *,
    readout: str = "clean",
    target: Target | None = None,
    precision: str | None = None,
    batch_size: int = 1,
    progress: Callable[[], None] | None = None,
    columns: Callable[[int], None] | None = None,
) -> Sweep:
    """Theorem 3 on a grid as `sweep`, on the sample side.

    A ray costs N² D for E and one (N, N) eigendecomposition, a point one more. Memory: about
    8 + 11 `batch_size` (N, N) arrays beside the samples. Equal to `sweep` up to rounding, with one
    exception: there is no held-out curve of the noisy read-out, which would need x' of new samples.

    Args:
      data: from `samples`.
      noises: (P, R) noises on rays: masks of patches, of pixels or of values, speckle, salt and
        pepper of values, Gaussian noise.
      reconstruction_weights: (L,) λ in [0, inf].
      latent_dims: (Kn,) K in 1 .. D; 1 .. min(N, D) by default.
      readout: as in `sweep`.
      target: as in `sweep`; one that is not whitened or an embedding costs N² D once.
      precision: as in `sweep`.
      batch_size: as in `sweep`.
      progress: called once for every finished point.
      columns: called with the number of columns of E that are done, D in all for each ray.

    Returns:
      `Sweep`, on one device.

    Raises:
      ValueError: as `sweep`; a noise without a form by samples.

    Example:
      >>> x, y = np.random.default_rng(0).normal(size=(8, 4, 6, 1)), np.arange(8) % 2
      >>> grid = reconjax.mask_grid((4, 6, 1), [1, 2], [0, 0.5])
      >>> result = reconjax.grid.sweep_samples(reconjax.grid.samples(x, y), grid)
      >>> result.r2.shape
      (2, 2, 1, 8)
    """
    features, size = data.rows.train.shape[1], len(data.rows.train)
    if latent_dims is None:
        latent_dims = np.arange(1, min(features, size) + 1)
    weights, dims = checked(
        features, reconstruction_weights, latent_dims, readout, batch_size, tolerance=0.0
    )
    dtype = points_dtype(data.vectors.dtype, precision)
    options = Options(readout == "clean", batch_size, dtype, progress, 0)
    if not options.clean:
        data = data._replace(rows=data.rows._replace(test=data.rows.test[:0]), test=None)
    target = checked_target(target, features)
    if target is not None:
        data = data._replace(principal=_predicting(data, target))
    labels = _labels_alone(data.spectrum)
    parts = []
    for row in noises:
        points = grid_points([row], features)
        direction = jax.tree.map(lambda leaf: leaf[0], points.direction)
        ray = _factorized(data, direction, columns)
        ray = jax.tree.map(lambda leaf: leaf[None], cast(ray, dtype))
        parts.append(
            solve_grid(
                labels,
                points._replace(direction=None),
                weights,
                np.minimum(dims, size),
                np.zeros(()),
                ray,
                options=options,
            )
        )
    curves = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *parts)
    return result_of(curves, dims, weights, labels.label_moment)


def _predicting(data: Samples, target: Target) -> Principal:
    """The training samples with a target in place of x."""
    principal = data.principal
    predicted = target.spectral(principal.eigenvalues)
    if predicted is None:
        moment = target_products(data.rows, target)
        predicted = _rotated(data.vectors, moment, moment[:, :0])[0]
    return principal._replace(target=target, predicted=predicted)


def _labels_alone(spectrum: Spectrum) -> Moments:
    """Moments of which the kernel reads those of the labels only, once rays are factorized."""
    empty = jnp.zeros((0,), spectrum.eigenvalues.dtype)
    return Moments(
        samples=spectrum.samples,
        weight=spectrum.samples,
        mean_x=empty,
        mean_y=spectrum.mean_y,
        second_moment=empty[:, None],
        cross_moment=empty[:, None],
        label_moment=spectrum.label_moment,
        scale=empty,
    )


def _factorized(data: Samples, direction: Any, columns: Callable[[int], None] | None) -> Factorized:
    """One ray in the coordinates of the samples."""
    principal, test = data.principal, data.test
    features = data.rows.train.shape[1]
    variance = jnp.sum(principal.eigenvalues)
    single = alone(direction, features)
    change, magnified = None, 0.0
    if isinstance(direction, Isotropic):
        # E = A Aᵀ, and g(x) = A x.
        inner = jnp.diag(principal.eigenvalues)
        cross = None if test is None else test.cross
        if columns is not None:
            columns(features)
    else:
        sums = column_sums(data.rows, direction, columns)
        inner, cross = _rotated(data.vectors, sums.inner, sums.cross)
        magnified = sums.magnified
        if sums.change is not None:
            change = _rotated(data.vectors, sums.change, sums.cross[:, :0])[0]
    kappa = variance / (variance if single is None else single.trace(variance))
    solve = functools.partial(_ray, principal)
    size = jnp.asarray(magnified, variance.dtype)
    ray, basis, epsilon = solve(inner, kappa, size, again=False)
    doubtful = ray.magnified > DOUBTFUL[ray.clean.dtype.name]
    doubtful |= (principal.clear < principal.rank) | (change is not None)
    doubtful |= jnp.max(principal.uncertain.missing) > 0
    if doubtful:
        again = solve(inner if change is None else inner + change, kappa, size, again=True)[0]
    else:
        again = jax.tree.map(jnp.zeros_like, ray)
    split = None
    if test is not None:
        folds = int(np.max(np.asarray(test.folds))) + 1
        split = _test_split(principal, test, cross, ray.clean, basis, epsilon, kappa, folds=folds)
    return Factorized(ray, again, jnp.asarray(doubtful), principal.uncertain, split)


@jax.jit
@highest
def _rotated(vectors: Array, inner: Array, cross: Array) -> tuple[Array, Array]:
    """Uᵀ E U and Uᵀ g."""
    return symmetric_product(vectors, inner @ vectors), vectors.T @ cross


@jax.jit(static_argnames="again")
@highest
def _ray(
    data: Principal, inner: Array, kappa: Array, magnified: Array, again: bool
) -> tuple[Ray, Array, Array]:
    """The ray, Q (N, N) in principal coordinates, and ε (N,), of Uᵀ E U; 0 past the rank."""
    rank = data.clear if again else data.rank
    epsilon, basis = within_rank(inner, rank)
    mu = visible(epsilon / (kappa + epsilon), rank)
    basis = preferred(data, mu, basis)
    nothing = jnp.zeros((0, inner.shape[0]), inner.dtype)
    ray = in_coordinates(
        data,
        mu,
        basis,
        kappa,
        rank,
        variance=jnp.sum(data.eigenvalues),
        magnified=magnified,
        transform=nothing,
        noiseless=nothing,
    )
    return ray, basis, jnp.maximum(epsilon, 0.0)


@functools.partial(jax.jit, static_argnames="folds")
@highest
def _test_split(
    data: Principal,
    test: NewSamples,
    cross: Array,
    mu: Array,
    basis: Array,
    epsilon: Array,
    kappa: Array,
    folds: int,
) -> TestSplit:
    """The test split in the coordinates of the ray, and in those by the principal directions."""
    noisy = (inverse_root(mu) / (kappa + epsilon))[:, None] * (basis.T @ cross)
    unscaled = inverse_root(data.eigenvalues)[:, None] ** 2 * test.cross
    noiseless = jnp.sqrt(mu)[:, None] * (basis.T @ unscaled)
    return TestSplit(*(_test_moments(codes, test, folds) for codes in (noisy, noiseless)))


def _test_moments(codes: Array, test: NewSamples, folds: int) -> TestMoments:
    """Of codes (N, Nt) of the new samples, as `reconjax.grid.new_data.test_moments`."""
    count = codes.shape[1]
    labels = test.labels
    member = jax.nn.one_hot(test.folds, folds, dtype=codes.dtype)
    share = member / jnp.maximum(jnp.sum(member, axis=0), 1)
    apart = codes - jnp.mean(codes, axis=1, keepdims=True)
    about = labels - jnp.mean(labels, axis=0)
    return TestMoments(
        clean=codes @ codes.T / count,
        noise=None,
        cross=codes @ labels / count,
        folds=jnp.einsum("mn,nb,nc->mbc", apart, share, about),
        label_variance=jnp.sum(labels**2) / count,
    )
