"""Which features a mask keeps or drops together."""

import math
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from reconjax.noise.base import Shape, Window, as_features, image_size, window_size

# The smallest of three sides, each twice the one before, by the shortest axis from which on it is
# tried: at 56 and at 112 pixels half, all and twice the patch of a usual vision transformer.
USUAL_SIDES = ((112, 8), (56, 4), (1, 1))


def patch_groups(
    patch_shape: Window,
    image_shape: Shape,
    *,
    share_channels: bool = True,
    partial: bool = False,
) -> np.ndarray:
    """(D,) int32: the patch to which each value of a flattened image (H, W, C) belongs.

    Args:
      patch_shape: (height, width), or one int for a square; None for a whole axis. Of volumes
        (depth, height, width), of sequences (length, 1), or one int.
      image_shape: (H, W, C) or (H, W); (D, H, W, C) of volumes and clips, (T, 1, C) of sequences.
      share_channels: all channels of a patch are one group; else each has its own.
      partial: allow smaller patches at the lower and right edges.

    Raises:
      ValueError: a patch that does not divide the image (unless `partial`), or an image shape that
        is none of these.

    Example:
      >>> reconjax.noise.patch_groups((1, 2), (2, 4)).tolist()
      [0, 0, 1, 1, 2, 2, 3, 3]
    """
    *axes, channels = image_size(image_shape)
    patch = window_size("patch_shape", patch_shape, image_shape)
    if not partial and cut_at_edges(patch, axes):
        name, whole = ("x".join(map(str, sizes)) for sizes in (patch, axes))
        raise ValueError(
            f"patch_shape: {name} does not divide the {whole} image;"
            " choose a divisor, or allow partial edge patches (partial; in texts"
            f" {name}:partial)"
        )
    groups = np.zeros((), np.int64)
    for axis, side in zip(axes, patch, strict=True):
        places = np.arange(axis) // side
        groups = groups[..., None] * (places[-1] + 1) + places
    groups = np.repeat(groups[..., None], channels, axis=-1)
    if not share_channels:
        groups = groups * channels + np.arange(channels)
    return groups.reshape(-1).astype(np.int32)


def cut_at_edges(patch_shape: Sequence[int], image_shape: Shape) -> bool:
    """Whether a patch, given by its sides, does not divide the image."""
    return any(axis % side for axis, side in zip(image_shape, patch_shape, strict=False))


def usual_patches(image_shape: Shape) -> tuple[list[tuple[int, ...]], bool]:
    """Patch shapes that suit images by default, and whether they need `partial`.

    Squares, or cubes, of 1, 2 and 4, of images of 56 pixels and more 4, 8 and 16, of 112 and more
    8, 16 and 32; cut to the image where it is lower or narrower. Those that divide it and are more
    than one, or of smaller ones two that do. Where none but the smallest divides it, as with 11 x
    13 pixels, the others come with partial patches at the edges.
    """
    *axes, _ = image_size(image_shape)
    shortest = min((axis for axis in axes if axis > 1), default=1)
    tried = [_squares(first, axes) for least, first in USUAL_SIDES if shortest >= least]
    for several in tried:
        whole = [size for size in several if not cut_at_edges(size, axes)]
        if len(whole) > 1 or len(several) == 1:
            return whole, False
    return tried[0] or [(1,) * len(axes)], bool(tried[0])


def _squares(first: int, axes: Sequence[int]) -> list[tuple[int, ...]]:
    """Three, each twice as wide as the one before, cut to the image; no patch is all of it."""
    sizes = (tuple(min(first * times, axis) for axis in axes) for times in (1, 2, 4))
    return [size for size in dict.fromkeys(sizes) if size != tuple(axes)]


def value_groups(example_shape: Shape, *, share_channels: bool = False) -> np.ndarray:
    """(D,) int32: each value of (D,) or (H, W, C) by itself, or each pixel."""
    channels = example_shape[-1] if share_channels and len(example_shape) > 1 else 1
    return np.arange(math.prod(example_shape), dtype=np.int32) // channels


def group_fields(groups: np.ndarray, fill: ArrayLike | None) -> dict[str, Any]:
    """What every mask is made of: groups (D,) of 0 .. n - 1, their number n, and the fill (D,).

    Raises:
      ValueError: a fill of another size, or not finite.
    """
    return {
        "groups": jnp.asarray(groups, jnp.int32),
        "count": int(groups.max()) + 1,
        "fill": None if fill is None else as_features("fill", fill, groups.size),
    }
