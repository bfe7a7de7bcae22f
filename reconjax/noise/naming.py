"""The text that names a noise, of which `reconjax.noise.text` makes the same noise."""

import math
from collections.abc import Sequence

import numpy as np
from jax.typing import ArrayLike

from reconjax.noise import additive, basis, compose, masks, operators, random_masks, visibility
from reconjax.noise.base import Noise
from reconjax.noise.groups import cut_at_edges, patch_groups
from reconjax.noise.text import Context, Data


def noise_text(noise: Noise, example_shape: Sequence[int], data: Data | None = None) -> str:
    """The text that names a noise: `parse_noise` makes the same of it, to 6 digits.

    Args:
      noise: any that a text can name.
      example_shape: as in `parse_noise`.
      data: as in `parse_noise`; needed for fills alone.

    Returns:
      The text.

    Raises:
      ValueError: a noise that no text names (a matrix, a function, ratios by patch, ...).

    Example:
      >>> reconjax.noise.noise_text(reconjax.noise.patch_mask(0.75, 2, (8, 8, 1)), (8, 8, 1))
      'mask:0.75:2x2'
    """
    return _text(noise, Context(tuple(example_shape), data))


def _text(noise: Noise, context: Context) -> str:
    if isinstance(noise, compose.Mixture):
        each = (
            f"{decimal(weight)}*{_text(part, context)}"
            for weight, part in zip(noise.probabilities, noise.noises, strict=True)
        )
        return "|".join(each)
    if isinstance(noise, compose.Chain):
        each = (
            f"({_text(part, context)})"
            if isinstance(part, compose.Mixture)
            else _text(part, context)
            for part in noise.noises
        )
        return "+".join(each)
    parts = _term_text(noise, context)
    if parts is None:
        raise ValueError(f"noise: {type(noise).__name__} with these parameters has no text form")
    return ":".join(parts)


def _term_text(noise: Noise, context: Context) -> list[str] | None:
    """Name and values, or None."""
    match noise:
        case compose.Identity():
            return ["identity"]
        case additive.Gaussian() | additive.Speckle() | operators.Blur():
            return [type(noise).__name__.lower(), decimal(noise.std)]
        case additive.Thinning(poisson=True):
            return ["thin", decimal(noise.ratio), decimal(noise.photons)]
        case operators.Shift(wrap=False):
            return ["shift", str(noise.largest)]
        case operators.Flip():
            last = len(noise.axes) - 1
            usual = last if noise.axes[last] > 1 else last - 1
            name = "flip" if noise.axis == usual else "vflip" if noise.axis == last - 1 else "tflip"
            return [name, decimal(noise.probability)]
        case operators.Crop():
            return ["crop", _size(noise.window)]
        case basis.InBasis(noise=masks.Mask() as inner):
            alone = inner.fill is None and inner.ratio.ndim == 0 and inner.count == inner.features
            return ["pca-mask", decimal(inner.ratio)] if alone else None
        case masks.GroupMask():
            parts = _mask_text(noise, context.shape)
            return None if parts is None else parts + _fill_text(noise, context)
    return None


def _mask_text(noise: masks.GroupMask, shape: tuple[int, ...]) -> list[str] | None:
    if isinstance(noise, visibility.BlockMask):
        return ["cutout" if noise.partial else "block", _size(noise.window)]
    groups = np.asarray(noise.groups)
    single = noise.count == groups.size
    match noise:
        case masks.Mask() if noise.ratio.ndim:
            return None
        case masks.SaltAndPepper():
            values = [decimal(noise.ratio), decimal(noise.amplitude)]
            return ["saltpepper", *values] if single else None
        case masks.Mask() if len(shape) not in (3, 4):
            return ["pixel", decimal(noise.ratio)] if single else None
        case masks.Mask():
            values = [decimal(noise.ratio)]
            if single and shape[-1] > 1:
                return ["pixel", *values]
            channels = np.tile(np.arange(shape[-1]), math.prod(shape[:-1]))
            if shape[-1] > 1 and np.array_equal(groups, channels):
                return ["channel", *values]
            name = "mask"
        case random_masks.ExactMask():
            name, values = "exact", [_exact_ratio(int(noise.kept), noise.count)]
        case random_masks.RandomMask(ratio=random_masks.Uniform() as ratio):
            name = "random-exact" if noise.exact else "random-mask"
            values = [f"{decimal(ratio.low)}-{decimal(ratio.high)}"]
        case _:
            return None
    patch = _patch(groups, shape)
    if patch is None:
        return None
    partial = ["partial"] if cut_at_edges(patch, shape) else []
    return [name, *values, _size(patch), *partial]


def _patch(groups: np.ndarray, shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """The patch shape whose groups these are, perhaps with partial patches at the edges."""
    if math.prod(shape) != groups.size or len(shape) not in (3, 4):
        return None
    first = groups.reshape(shape)[..., 0] == groups[0]
    ends = [
        tuple(slice(None) if i == a else 0 for i in range(first.ndim)) for a in range(first.ndim)
    ]
    patch = tuple(int(first[end].sum()) for end in ends)
    return patch if np.array_equal(patch_groups(patch, shape, partial=True), groups) else None


def _fill_text(noise: masks.GroupMask, context: Context) -> list[str]:
    if noise.fill is None:
        return []
    raw = np.asarray(noise.fill) + context.mean()
    if np.ptp(raw) > 1e-6 * (1 + np.abs(raw).max()):
        raise ValueError("noise: a fill that is not one raw intensity has no text form")
    return [f"fill={decimal(raw.mean())}"]


def _exact_ratio(kept: int, count: int) -> str:
    """The shortest ratio that keeps so many."""
    ratio = 1 - kept / count
    texts = (f"{math.floor(ratio * 10**d + 1e-6) / 10**d:.{d}g}" for d in range(1, 16))
    return next(t for t in texts if math.floor((1 - float(t)) * count + 1e-9) == kept)


def decimal(value: ArrayLike, digits: int = 6) -> str:
    """The number to so many significant digits. No exponent: its sign would read as a chain."""
    return np.format_float_positional(
        float(np.asarray(value)), precision=digits, unique=False, fractional=False, trim="-"
    )


def _size(window: tuple[int, ...]) -> str:
    return "x".join(map(str, window))
