"""Which features a mask keeps or drops together."""

import math
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from reconjax.noise.base import Shape, as_features, image_size, window_size

USUAL_SIDES = (1, 2, 4)


def patch_groups(
    patch_shape: int | Shape,
    image_shape: Shape,
    *,
    share_channels: bool = True,
    partial: bool = False,
) -> np.ndarray:
    """(D,) int32: the patch to which each value of a flattened (H, W, C) image belongs.

    Args:
      patch_shape: (height, width), or one int for a square.
      image_shape: (H, W, C) or (H, W).
      share_channels: all channels of a patch are one group; else each has its own.
      partial: allow smaller patches at the lower and right edges.

    Raises:
      ValueError: a patch that does not divide the image (unless `partial`), or an image shape that
        is not (H, W) or (H, W, C).

    Example:
      >>> reconjax.noise.patch_groups((1, 2), (2, 4)).tolist()
      [0, 0, 1, 1, 2, 2, 3, 3]
    """
    height, width, channels = image_size(image_shape)
    patch = window_size("patch_shape", patch_shape, image_shape)
    if not partial and (height % patch[0] or width % patch[1]):
        raise ValueError(
            f"patch_shape: {patch[0]}x{patch[1]} does not divide the {height}x{width} image;"
            " choose a divisor, or allow partial edge patches (partial; in texts"
            f" {patch[0]}x{patch[1]}:partial)"
        )
    rows, columns = np.arange(height) // patch[0], np.arange(width) // patch[1]
    groups = rows[:, None] * (columns[-1] + 1) + columns
    groups = np.repeat(groups[..., None], channels, axis=2)
    if not share_channels:
        groups = groups * channels + np.arange(channels)
    return groups.reshape(-1).astype(np.int32)


def usual_patches(image_shape: Shape) -> tuple[list[tuple[int, int]], bool]:
    """Patch shapes that suit images by default, and whether they need `partial`.

    1 x 1, 2 x 2 and 4 x 4, cut to the image where it is lower or narrower: those that divide it and
    are more than one. Where only 1 x 1 divides it, as with 11 x 13 pixels, the others come with
    partial patches at the edges.
    """
    height, width, _ = image_size(image_shape)
    sizes = dict.fromkeys((min(size, height), min(size, width)) for size in USUAL_SIDES)
    several = [size for size in sizes if size != (height, width)]
    whole = [size for size in several if not (height % size[0] or width % size[1])]
    if len(whole) > 1 or len(several) == 1:
        return whole, False
    return several or [(1, 1)], bool(several)


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
