"""The whole grid - ray (patch shape), strength (mask ratio), λ, K - in one compiled call."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike, DTypeLike

from reconjax.alignment import direction_weights
from reconjax.moments import Moments, highest
from reconjax.noise import RayPoint, exact_patch_mask, gaussian, patch_mask, pixel_dropout
from reconjax.optimum import optimum
from reconjax.ray import at, factorise
from reconjax.solver import check_latent_dim, check_readout, check_weight


class Sweep(NamedTuple):
    """Curves of a grid of P rays, R strengths, L weights and Kn latent dimensions.

    Attributes:
      latent_dim: (Kn,) int32.
      reconstruction_weight: (L,) λ.
      explained: (P, R, L, Kn) 1 − supervised loss / tr S.
      supervised_loss: (P, R, L, Kn) of the read-out.
      reconstruction_loss: (P, R, L, Kn) of denoising, E‖Zᵀ Vᵀ x' − x‖².
      alignment: (P, R, L, Kn) Eq. 7 for the encoder of that point: it grows when the loss falls,
        and is 1 where all that a linear head can explain on clean data is explained.
      rounding: (P, R, L) the numerical error of `alignment` at full K, where with the clean
        read-out exact arithmetic gives 1 at every point; NaN with the noisy one.
      rank: number of directions of the data; the curves are flat from there on.
    """

    latent_dim: Array
    reconstruction_weight: Array
    explained: Array
    supervised_loss: Array
    reconstruction_loss: Array
    alignment: Array
    rounding: Array
    rank: Array


def mask_grid(
    image_shape: Sequence[int],
    patch_shapes: Sequence[Any],
    mask_ratios: Sequence[float],
    *,
    exact: bool = False,
    share_channels: bool = True,
    partial: bool = False,
) -> list[list[Any]]:
    """(P, R) noises for `sweep`: a row for each patch shape, a column for each ratio.

    Args:
      image_shape: (H, W, C).
      patch_shapes: (height, width) pairs, or ints for squares.
      mask_ratios: p in [0, 1), the share that is dropped.
      exact: keep an exact number of patches (MAE) instead of Bernoulli masks.
      share_channels: the channels of a pixel are dropped together.
      partial: allow partial edge patches.

    Raises:
      ValueError: as `patch_mask`.
    """
    make = exact_patch_mask if exact else patch_mask
    return [
        [
            make(ratio, patch, image_shape, share_channels=share_channels, partial=partial)
            for ratio in mask_ratios
        ]
        for patch in patch_shapes
    ]


def pixel_grid(example_shape: Sequence[int], mask_ratios: Sequence[float]) -> list[list[Any]]:
    """(1, R) noises: independent dropout of every value."""
    return [[pixel_dropout(ratio, example_shape) for ratio in mask_ratios]]


def gaussian_grid(stds: Sequence[float]) -> list[list[Any]]:
    """(1, R) noises: isotropic Gaussian noise of each standard deviation."""
    return [[gaussian(std) for std in stds]]


def sweep(
    moments: Moments,
    noises: Sequence[Sequence[Any]],
    reconstruction_weights: ArrayLike = np.inf,
    latent_dims: ArrayLike | None = None,
    *,
    readout: str = "clean",
    batch_size: int = 1,
    dtype: DTypeLike | None = None,
    progress: Callable[[], None] | None = None,
) -> Sweep:
    """Theorem 3 (and Theorem 1's λ) on a grid, in one compiled call with one trace per grid shape.

    Other ratios, weights, latent dimensions or patches of the same number do not compile again.

    Memory: about `sweep_memory(D, C, batch_size)` bytes whatever the size of the grid, plus the
    result. Points are solved one after the other unless `batch_size` says otherwise, which pays
    only where the device is not filled by one (D, D) eigendecomposition.

    Args:
      moments: centered moments of the data.
      noises: (P, R) noises; those of one row must lie on one ray, e.g. from `mask_grid`.
      reconstruction_weights: (L,) λ in [0, inf].
      latent_dims: (Kn,) K in 1 .. D; all of them by default.
      readout: "clean" fits the head on clean inputs (Eq. 9), "noisy" on x' (Sec. 5.4).
      batch_size: points solved side by side.
      dtype: floating dtype in which the points are solved, that of the moments by default. With
        float64 moments, float32 here halves the time: spectrum and whitening, where float32 would
        lose the directions that carry labels, stay in float64.
      progress: called once for every finished point (in any order); use one function for all
        calls, since it is part of what is compiled.

    Returns:
      `Sweep`.

    Raises:
      ValueError: a noise without a ray, noises of one row on different rays, rows of different
        lengths, an empty grid, and λ, K or batch_size out of range.
    """
    check_readout(readout)
    check_weight(reconstruction_weights)
    weights = jnp.atleast_1d(jnp.asarray(reconstruction_weights, float))
    features = moments.features
    if latent_dims is None:
        latent_dims = np.arange(1, features + 1)
    if not np.all(np.mod(latent_dims, 1) == 0):
        raise ValueError(f"latent_dims: {latent_dims}; whole numbers are needed")
    dims = np.atleast_1d(np.asarray(latent_dims)).astype(np.int32)
    for name, values in (("latent_dims", dims), ("reconstruction_weights", weights)):
        if values.ndim != 1 or values.size == 0:
            raise ValueError(f"{name}: shape {values.shape}; a list of at least one is needed")
    check_latent_dim(int(dims.min()), features)
    check_latent_dim(int(dims.max()), features)
    if batch_size < 1:
        raise ValueError(f"batch_size: {batch_size}; it must be at least 1")
    points = _stacked(noises, features)
    return _sweep(
        moments,
        points,
        weights,
        jnp.asarray(dims),
        clean=readout == "clean",
        batch_size=batch_size,
        dtype=jnp.dtype(dtype or moments.second_moment.dtype),
        progress=progress,
    )


def sweep_memory(features: int, targets: int, batch_size: int = 1, itemsize: int = 8) -> int:
    """Bytes that `sweep` holds at its peak, its arguments included and its result not.

    An upper estimate: 8 (D, D) arrays for moments, spectrum and ray, 8 more for every point that
    is solved at the same time, and the labels' coordinates.
    """
    return itemsize * (features**2 * (8 + 8 * batch_size) + 8 * targets * features)


def _stacked(noises: Sequence[Sequence[Any]], features: int) -> RayPoint:
    """(P, R) ray points: leaves (P, R), the direction's leaves (P, ...)."""
    if not noises or not noises[0]:
        raise ValueError("noises: an empty grid; at least one noise is needed")
    rows = []
    for row in noises:
        if len(row) != len(noises[0]):
            raise ValueError(f"noises: rows of {len(noises[0])} and {len(row)}; all must be equal")
        points = []
        for noise in row:
            point = noise.ray()
            if point is None:
                raise ValueError(f"noises: {type(noise).__name__} lies on no ray; use solve for it")
            points.append(point)
        direction = points[0].direction
        for point in points:
            if type(point.direction) is not type(direction) or not jax.tree.all(
                jax.tree.map(lambda a, b: bool(jnp.all(a == b)), point.direction, direction)
            ):
                raise ValueError("noises: the noises of one row lie on different rays")
        for leaf in jax.tree.leaves(direction):
            if leaf.shape[0] != features:
                raise ValueError(
                    f"noises: made for {leaf.shape[0]} features; the moments have {features}"
                )
        columns = (jnp.stack([point[i] for point in points]) for i in (1, 2, 3))
        rows.append(RayPoint(direction, *columns))
    if any(type(row.direction) is not type(rows[0].direction) for row in rows):
        raise ValueError("noises: rows of different kinds of noise; sweep each kind on its own")
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *rows)


@jax.jit(static_argnames=("clean", "batch_size", "dtype", "progress"))
@highest
def _sweep(
    moments: Moments,
    points: RayPoint,
    weights: Array,
    latent_dims: Array,
    *,
    clean: bool,
    batch_size: int,
    dtype: Any,
    progress: Callable[[], None] | None,
) -> Sweep:
    label_moment = moments.label_moment.astype(dtype)
    strengths, levels = points.share.shape[1], weights.shape[0]

    def one_ray(row: RayPoint) -> tuple[Any, Array]:
        direction = row.direction.covariance(moments.second_moment)
        ray = jax.tree.map(
            lambda leaf: leaf.astype(dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf,
            factorise(moments, direction),
        )

        def one_point(index: Array) -> tuple[Array, ...]:
            here = RayPoint(None, *(v[index // levels] for v in (row.share, row.scale, row.keep)))
            found = optimum(at(ray, here, label_moment), weights[index % levels], clean)
            if progress is not None:
                jax.debug.callback(lambda _: progress(), found.rank)
            alignment = jnp.cumsum(direction_weights(found.coordinates.T, label_moment)[0])
            alignment = alignment / ray.attainable
            rounding = jnp.abs(1 - alignment[-1]) if clean else jnp.asarray(jnp.nan, dtype)
            curves = found.supervised_loss, found.reconstruction_loss, alignment
            return *(curve[latent_dims - 1] for curve in curves), rounding

        grid = jnp.arange(strengths * levels, dtype=jnp.int32)
        batches = None if batch_size == 1 else batch_size
        return jax.lax.map(one_point, grid, batch_size=batches), ray.rank

    (*curves, rounding), ranks = jax.lax.map(one_ray, points)
    shape = (points.share.shape[0], strengths, levels)
    supervised, reconstruction, alignment = (curve.reshape(*shape, -1) for curve in curves)
    return Sweep(
        latent_dim=latent_dims,
        reconstruction_weight=weights,
        explained=1 - supervised / jnp.trace(label_moment),
        supervised_loss=supervised,
        reconstruction_loss=reconstruction,
        alignment=alignment,
        rounding=rounding.reshape(shape),
        rank=jnp.max(ranks),
    )
