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

from reconjax.grid.columns import alone, column_sums, target_products
from reconjax.grid.kernel import DOUBTFUL, Factorized, solve_grid
from reconjax.grid.new_data import TestMoments, TestSplit
from reconjax.grid.points import grid_points
from reconjax.grid.ray import (
    Principal,
    Ray,
    in_coordinates,
    visible,
    within_rank,
)
from reconjax.grid.stored_samples import NewSamples, Samples
from reconjax.grid.subspace import read_out
from reconjax.grid.sweep import (
    Sweep,
    checked,
    checked_targets,
    checked_tasks,
    points_dtype,
    result_of,
)
from reconjax.grid.task import Options, cast
from reconjax.linalg.eigen import inverse_root
from reconjax.linalg.precision import highest
from reconjax.linalg.products import symmetric_product
from reconjax.noise import Isotropic, Noise
from reconjax.summary.moments import Moments
from reconjax.theory.spectrum import Spectrum
from reconjax.theory.targets import Target


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
    tasks: Sequence[int] | None = None,
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
      tasks: as in `sweep`.
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
    return sweep_samples_targets(
        data,
        noises,
        [target],
        reconstruction_weights,
        latent_dims,
        readout=readout,
        precision=precision,
        batch_size=batch_size,
        tasks=tasks,
        progress=progress,
        columns=columns,
    )[0]


def sweep_samples_targets(
    data: Samples,
    noises: Sequence[Sequence[Noise]],
    targets: Sequence[Target | None],
    reconstruction_weights: ArrayLike = np.inf,
    latent_dims: ArrayLike | None = None,
    *,
    readout: str = "clean",
    precision: str | None = None,
    batch_size: int = 1,
    tasks: Sequence[int] | None = None,
    progress: Callable[[], None] | None = None,
    columns: Callable[[int], None] | None = None,
) -> list[Sweep]:
    """`sweep_samples` for several targets, by one factorization of each ray.

    Args:
      data: as in `sweep_samples`, like all but `targets`.
      noises: see `data`.
      targets: what is predicted; None for x itself.
      reconstruction_weights: see `data`.
      latent_dims: see `data`.
      readout: see `data`.
      precision: see `data`.
      batch_size: see `data`.
      tasks: see `data`.
      progress: see `data`.
      columns: see `data`.

    Raises:
      ValueError: as `sweep_samples`; no target.

    Example:
      >>> x, y = np.random.default_rng(0).normal(size=(8, 4, 6, 1)), np.arange(8) % 2
      >>> grid, data = reconjax.mask_grid((4, 6, 1), [2], [0.5]), reconjax.grid.samples(x, y)
      >>> views = reconjax.theory.targets.joint_embedding()
      >>> len(reconjax.grid.sweep_samples_targets(data, grid, [None, views]))
      2
    """
    features, size = data.rows.train.shape[1], len(data.rows.train)
    if latent_dims is None:
        latent_dims = np.arange(1, min(features, size) + 1)
    weights, dims = checked(
        features, reconstruction_weights, latent_dims, readout, batch_size, tolerance=0.0
    )
    dtype = points_dtype(data.vectors.dtype, precision)
    own = checked_tasks(tasks, data.spectrum.mean_y.shape[0])
    read = read_out(int(dims.max()), size)
    options = Options(readout == "clean", batch_size, dtype, progress, 0, own, read)
    if not options.clean:
        data = data._replace(rows=data.rows._replace(test=data.rows.test[:0]), test=None)
    aims = [_aim(data, target) for target in checked_targets(targets, features)]
    labels = _labels_alone(data.spectrum)
    parts = []
    for row in noises:
        points = grid_points([row], features)
        direction = jax.tree.map(lambda leaf: leaf[0], points.direction)
        ray = _factorized(data, direction, columns)
        rays = [cast(_aimed(ray, data.principal, *aim), dtype) for aim in aims]
        parts.append(
            solve_grid(
                labels,
                points._replace(direction=None),
                weights,
                np.minimum(dims, size),
                np.zeros(()),
                tuple(jax.tree.map(lambda leaf: leaf[None], ray) for ray in rays),
                options=options,
            )
        )
    curves = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *parts)
    return [result_of(of_target, dims, weights, labels.label_moment) for of_target in curves]


def _aim(data: Samples, target: Target | None) -> tuple[Target | None, Array | None]:
    """A target, and E[z tᵀ] E[t zᵀ] along the whitened directions."""
    predicted = None if target is None else target.spectral(data.principal.eigenvalues)
    if target is not None and predicted is None:
        moment = target_products(data.rows, target)
        predicted = _rotated(data.vectors, moment, moment[:, :0])[0]
    return target, predicted


@jax.jit
@highest
def _aimed(
    ray: Factorized, data: Principal, target: Target | None, predicted: Array | None
) -> Factorized:
    return ray.aimed(data, target, predicted)


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


class Inner(NamedTuple):
    """The direction of a ray in the principal coordinates of the samples.

    Attributes:
      products: (N, N) Uᵀ E U.
      change: (N, N) what it changes by when it is made again; None where nothing is doubtful.
      cross: (N, Nt) Uᵀ g(x) of the new samples; None where there are none.
      kappa: κ = tr M / tr B.
      magnified: as in `Sums`.
    """

    products: Array
    change: Array | None
    cross: Array | None
    kappa: Array
    magnified: Array


def inner_products(
    data: Samples, direction: Any, columns: Callable[[int], None] | None = None
) -> Inner:
    """E of one direction, and g of the test split; arguments as `sweep_samples`.

    Raises:
      ValueError: a direction that has no form by samples.
    """
    principal, test = data.principal, data.test
    features = data.rows.train.shape[1]
    variance = jnp.sum(principal.eigenvalues)
    single = alone(direction, features)
    kappa = variance / (variance if single is None else single.trace(variance))
    if isinstance(direction, Isotropic):
        # E = A Aᵀ, and g(x) = A x.
        if columns is not None:
            columns(features)
        inner, cross = jnp.diag(principal.eigenvalues), None if test is None else test.cross
        return Inner(inner, None, cross, kappa, jnp.zeros_like(variance))
    sums = column_sums(data.rows, direction, columns)
    inner, cross = _rotated(data.vectors, sums.inner, sums.cross)
    change = None
    if sums.change is not None:
        change = _rotated(data.vectors, sums.change, sums.cross[:, :0])[0]
    return Inner(inner, change, cross, kappa, jnp.asarray(sums.magnified, variance.dtype))


def _factorized(data: Samples, direction: Any, columns: Callable[[int], None] | None) -> Factorized:
    """One ray in the coordinates of the samples."""
    principal, test = data.principal, data.test
    inner, change, cross, kappa, size = inner_products(data, direction, columns)
    ray, basis, epsilon = ray_by_samples(principal, inner, kappa, size, again=False)
    doubtful = ray.magnified > DOUBTFUL[ray.clean.dtype.name]
    doubtful |= (principal.clear < principal.rank) | (change is not None)
    doubtful |= jnp.max(principal.uncertain.missing) > 0
    if doubtful:
        other = inner if change is None else inner + change
        again = ray_by_samples(principal, other, kappa, size, again=True)[0]
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
def ray_by_samples(
    data: Principal, inner: Array, kappa: Array, magnified: Array, again: bool
) -> tuple[Ray, Array, Array]:
    """The ray, Q (N, N) in principal coordinates, and ε (N,), of Uᵀ E U; 0 past the rank."""
    rank = data.clear if again else data.rank
    epsilon, basis = within_rank(inner, rank)
    mu = visible(epsilon / (kappa + epsilon), rank)
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
        rounding=jnp.zeros_like(mu),
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
        target_variances=jnp.sum(labels**2, axis=0) / count,
    )
