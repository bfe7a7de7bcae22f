"""Masks that drop groups of features: patches, pixels, channels, single values.

With k_i = 1 where feature i is kept, a masked input is x' = k x + (1 - k) c; the fill c is 0, the
mean image's value, unless it is given. All that the closed forms need of a mask is how often one
feature is kept, q_i = E k_i, and how often two are, V_ij = E[k_i k_j]:

    E[x'|x] = q x + (1 - q) c,    Cov x' = V ∘ Cov x + (V - q qᵀ) ∘ (E x - c)(E x - c)ᵀ.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike, DTypeLike

from reconjax.noise.base import (
    Noise,
    Shape,
    Window,
    check,
    check_ratio,
    flat,
    image_size,
    pytree,
    static,
)
from reconjax.noise.groups import group_fields, patch_groups, value_groups
from reconjax.noise.rays import FilledGroup, RayPoint, SameGroup, point, same_group


@pytree
class GroupMask(Noise):
    """What all masks share: each group of features is kept or dropped as one.

    Attributes:
      groups: (D,) int32, the group of each feature, 0 .. count - 1.
      fill: (D,) c, the value of what is dropped, in units of centered x; None is 0.
      count: the number of groups n.
    """

    groups: Array
    fill: Array | None = None
    count: int = static()

    def draw(self, key: Array, shape: tuple[int, ...]) -> Array:
        """(*shape, n) bool, which groups of each example are kept."""
        raise NotImplementedError

    def visibility(self, dtype: DTypeLike) -> tuple[Array, Array]:
        """Q, (D,) or a scalar where it is the same for all, and V (D, D)."""
        raise NotImplementedError

    @property
    def features(self) -> int:
        """D."""
        return self.groups.shape[-1]

    @jax.jit
    def sample(self, key: Array, x: Array) -> Array:
        """X with the fill in the dropped groups."""
        values = flat(x, self.features)
        kept = self.draw(key, values.shape[:-1])[..., self.groups]
        fill = jnp.zeros((), x.dtype) if self.fill is None else self.fill.astype(x.dtype)
        return jnp.where(kept, values, fill).reshape(x.shape)

    @jax.jit
    def mean(self, moment: Array) -> Array:
        """Q E[x fᵀ], row by row."""
        return self.visibility(moment.dtype)[0].reshape(-1, 1) * moment

    @jax.jit
    def second_moment(self, moment: Array, mean: Array | None = None) -> Array:
        """V ∘ G, and (V - q qᵀ) ∘ (E x - c)(E x - c)ᵀ where that is not 0."""
        single, pairs = self.visibility(moment.dtype)
        covariance = pairs * moment
        if self.fill is None and mean is None:
            return covariance
        away = jnp.zeros_like(moment[0]) if mean is None else mean
        if self.fill is not None:
            away = away - self.fill.astype(moment.dtype)
        single = jnp.broadcast_to(single, away.shape)
        return covariance + (pairs - single[:, None] * single) * (away[:, None] * away)

    @jax.jit
    def offset(self) -> Array | None:
        """(1 - q) c."""
        if self.fill is None:
            return None
        return (1 - self.visibility(self.fill.dtype)[0]) * self.fill

    def grouped(self, single: ArrayLike, within: ArrayLike, between: ArrayLike) -> Any:
        """Q and V where all groups are alike."""
        same = same_group(self.groups)
        return jnp.asarray(single), jnp.where(same, within, between)


@pytree
class Mask(GroupMask):
    """Each group is dropped with probability `ratio`, independently (Bernoulli).

    Attributes:
      ratio: p, a scalar, or (n,) one for each group.
    """

    ratio: Array

    def draw(self, key: Array, shape: tuple[int, ...]) -> Array:
        """An independent draw for each group."""
        drawn = jax.random.uniform(key, (*shape, self.count), jnp.float32)
        return drawn >= self.ratio.astype(jnp.float32)

    def visibility(self, dtype: DTypeLike) -> tuple[Array, Array]:
        """1 - p; within a group 1 - p, and the product between groups."""
        keep = 1 - jnp.asarray(self.ratio, dtype)
        if keep.ndim == 0:
            return self.grouped(keep, keep, keep**2)
        keep = keep[self.groups]
        return keep, jnp.where(same_group(self.groups), keep, keep[:, None] * keep)

    def ray(self) -> RayPoint | None:
        """ρ = p and B = M (and c cᵀ) within groups: τ = p / (1 - p). None for ratios by group."""
        if jnp.ndim(self.ratio):
            return None
        keep = 1 - jnp.asarray(self.ratio)
        fills = None if self.fill is None else self.fill[:, None]
        return point(_direction(self.groups, fills), self.ratio, keep, keep)


@pytree
class SaltAndPepper(Mask):
    """Each group becomes c + a or c - a with probability p/2 each.

    Attributes:
      amplitude: a >= 0, in units of x.
    """

    amplitude: Array

    @jax.jit
    def sample(self, key: Array, x: Array) -> Array:
        """X with salt and pepper in the dropped groups."""
        first, second = jax.random.split(key)
        values = flat(x, self.features)
        kept = self.draw(first, values.shape[:-1])
        signs = jax.random.rademacher(second, kept.shape, x.dtype)
        fill = (signs * self.amplitude.astype(x.dtype))[..., self.groups]
        if self.fill is not None:
            fill = fill + self.fill.astype(x.dtype)
        return jnp.where(kept[..., self.groups], values, fill).reshape(x.shape)

    @jax.jit
    def second_moment(self, moment: Array, mean: Array | None = None) -> Array:
        """That of the mask, and p a² within groups."""
        dropped = 1 - self.visibility(moment.dtype)[0]
        power = jnp.broadcast_to(dropped * self.amplitude.astype(moment.dtype) ** 2, moment.shape)
        covariance = GroupMask.second_moment(self, moment, mean)
        return covariance + jnp.where(same_group(self.groups), power, 0.0)

    def ray(self) -> RayPoint | None:
        """B = M + c cᵀ + a² / (1 - p) within groups: one ray for a² / (1 - p) that is the same."""
        if jnp.ndim(self.ratio):
            return None
        keep = 1 - jnp.asarray(self.ratio)
        fills = jnp.full((self.features, 1), self.amplitude / jnp.sqrt(keep))
        if self.fill is not None:
            fills = jnp.concatenate([fills, self.fill[:, None]], axis=1)
        return point(FilledGroup(self.groups, fills), self.ratio, keep, keep)


def patch_mask(
    mask_ratio: ArrayLike,
    patch_shape: Window,
    image_shape: Shape,
    *,
    share_channels: bool = True,
    partial: bool = False,
    fill: ArrayLike | None = None,
) -> Mask:
    """Drops each patch with probability `mask_ratio`, independently (Bernoulli).

    Args:
      mask_ratio: p in [0, 1), the share that is dropped; or (n,), one for each patch, row by row.
      patch_shape: (height, width), or one int for square patches.
      image_shape: (H, W, C) or (H, W).
      share_channels: the channels of a pixel are dropped together.
      partial: allow smaller patches at the lower and right edges.
      fill: what dropped values become, in units of centered x: a scalar or an image; 0 by default.

    Raises:
      ValueError: p outside [0, 1), a patch that does not divide the image, a fill of another size.

    Example:
      >>> noise = reconjax.noise.patch_mask(0.5, (1, 2), (1, 4))
      >>> noise.second_moment(np.ones((4, 4)))[0].tolist()  # two patches
      [0.5, 0.5, 0.25, 0.25]
    """
    check_ratio(mask_ratio)
    groups = patch_groups(patch_shape, image_shape, share_channels=share_channels, partial=partial)
    return Mask(ratio=_ratios(mask_ratio, groups), **group_fields(groups, fill))


def pixel_dropout(
    mask_ratio: ArrayLike,
    example_shape: Shape,
    *,
    share_channels: bool = False,
    fill: ArrayLike | None = None,
) -> Mask:
    """Drops each value with probability `mask_ratio`, independently (multiplicative dropout).

    Args:
      mask_ratio: p in [0, 1).
      example_shape: (D,) or (H, W, C).
      share_channels: drop the channels of a pixel together; then it is `patch_mask` with (1, 1).
      fill: as in `patch_mask`.

    Raises:
      ValueError: p outside [0, 1), a fill of another size.

    Example:
      >>> reconjax.noise.pixel_dropout(0.75, (2,)).mean(np.eye(2)).tolist()
      [[0.25, 0.0], [0.0, 0.25]]
    """
    check_ratio(mask_ratio)
    groups = value_groups(example_shape, share_channels=share_channels)
    return Mask(ratio=_ratios(mask_ratio, groups), **group_fields(groups, fill))


def channel_dropout(
    mask_ratio: ArrayLike, image_shape: Shape, *, fill: ArrayLike | None = None
) -> Mask:
    """Drops each channel of an image as a whole with probability `mask_ratio`, independently.

    Args:
      mask_ratio: p in [0, 1), or (C,) one for each channel.
      image_shape: (H, W, C).
      fill: as in `patch_mask`.

    Raises:
      ValueError: p outside [0, 1), not an image, a fill of another size.

    Example:
      >>> noise = reconjax.noise.channel_dropout(0.5, (1, 2, 2))
      >>> noise.second_moment(np.ones((4, 4)))[0].tolist()  # the channels of two pixels
      [0.5, 0.25, 0.5, 0.25]
    """
    check_ratio(mask_ratio)
    *axes, channels = image_size(image_shape)
    groups = np.tile(np.arange(channels, dtype=np.int32), math.prod(axes))
    return Mask(ratio=_ratios(mask_ratio, groups), **group_fields(groups, fill))


def group_mask(mask_ratio: ArrayLike, groups: ArrayLike, *, fill: ArrayLike | None = None) -> Mask:
    """Drops named groups of features as a whole with probability `mask_ratio`, independently.

    For vectors: the columns of one sensor, the bins of one band, one-hot columns of one answer.

    Args:
      mask_ratio: p in [0, 1), or (n,) one for each group, in the order of their sorted names.
      groups: (D,) the group of each feature, by name or number.
      fill: as in `patch_mask`.

    Raises:
      ValueError: p outside [0, 1), groups of another shape, a fill of another size.

    Example:
      >>> noise = reconjax.noise.group_mask(0.5, ["blood", "blood", "scan"])
      >>> noise.second_moment(np.ones((3, 3)))[0].tolist()
      [0.5, 0.5, 0.25]
    """
    check_ratio(mask_ratio)
    names = np.asarray(groups)
    if names.ndim != 1 or names.size == 0:
        raise ValueError(f"groups: shape {names.shape}; (D,) a name for each feature is needed")
    numbers = np.unique(names, return_inverse=True)[1].astype(np.int32)
    return Mask(ratio=_ratios(mask_ratio, numbers), **group_fields(numbers, fill))


def salt_and_pepper(
    mask_ratio: ArrayLike,
    amplitude: ArrayLike,
    example_shape: Shape,
    *,
    share_channels: bool = False,
    fill: ArrayLike | None = None,
) -> SaltAndPepper:
    """Sets each value to `amplitude` or its negative with probability `mask_ratio` / 2 each.

    Args:
      mask_ratio: p in [0, 1).
      amplitude: a >= 0 in units of centered x, about the fill.
      example_shape: (D,) or (H, W, C).
      share_channels: the channels of a pixel get the same.
      fill: the middle c of salt and pepper; 0, the mean image, by default.

    Raises:
      ValueError: p outside [0, 1), a negative amplitude, a fill of another size.

    Example:
      >>> noise = reconjax.noise.salt_and_pepper(0.5, 2.0, (2,))
      >>> noise.second_moment(np.eye(2)).tolist()  # a half of 1, a half of 2²
      [[2.5, 0.0], [0.0, 2.5]]
    """
    check_ratio(mask_ratio)
    check("amplitude", amplitude, lambda a: np.isfinite(a) & (a >= 0), "finite and >= 0")
    groups = value_groups(example_shape, share_channels=share_channels)
    ratio = _ratios(mask_ratio, groups)
    return SaltAndPepper(
        ratio=ratio, amplitude=jnp.asarray(amplitude, float), **group_fields(groups, fill)
    )


def _ratios(mask_ratio: ArrayLike, groups: np.ndarray) -> Array:
    ratio, count = jnp.asarray(mask_ratio, float), int(groups.max()) + 1
    if ratio.shape not in ((), (count,)):
        raise ValueError(f"mask_ratio: shape {ratio.shape}; a scalar or ({count},) is needed")
    return ratio


def _direction(groups: Array, fills: Array | None) -> SameGroup | FilledGroup:
    return SameGroup(groups) if fills is None else FilledGroup(groups, fills)
