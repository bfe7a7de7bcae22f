"""What the axes of images are: channels last, (N, H, W, C), after this door.

Nothing in an array says which axis holds the channels. (N, a, b, c) is taken for channels last, and
every command says in its head line how it understood the shape. Two shapes are far more likely to
have their channels first, and are asked about:

- b = c > 4 and a != b: a square picture is common, as many channels as columns are not;
- a = 3 and c > 4: three colors.

`channels_first=True` moves the channels, `channels_first=False` says that they are last.
"""

from collections.abc import Sequence

import numpy as np

# Up to so many channels are common in the last axis: gray, gray and alpha, color, color and alpha.
_COMMON_CHANNELS = 4


def channels_last(images: np.ndarray, name: str, channels_first: bool | None) -> np.ndarray:
    """Images (N, ...) with their channels in the last axis; vectors (N, D) and (N, H, W) as is.

    Args:
      images: 2 to 4 axes.
      name: what messages call the argument.
      channels_first: True for (N, C, H, W); False for (N, H, W, C); None: the module's rule.

    Raises:
      ValueError: one line, where `channels_first` does not apply, or where it must be said.
    """
    if not check_channels(images.shape, name, channels_first):
        return images
    return np.ascontiguousarray(np.moveaxis(images, 1, -1))


def check_channels(shape: tuple[int, ...], name: str, channels_first: bool | None) -> bool:
    """Whether images of that shape (N, ...) have their channels first; as `channels_last`."""
    if len(shape) != 4:
        if channels_first:
            raise ValueError(
                f"{name} has shape {shape}: with channels first it must be (N, C, H, W)"
                " (--channels-first)"
            )
        return False
    if channels_first is None and looks_channels_first(shape[1:]):
        channels, height, width = shape[1:]
        raise ValueError(
            f"{name} has shape {shape}: is it {shape_text((height, width, channels))}"
            f" (--channels-first, channels_first=True) or {shape_text(shape[1:])}"
            " (--no-channels-first, channels_first=False)?"
        )
    return bool(channels_first)


def looks_channels_first(example_shape: Sequence[int]) -> bool:
    """Whether (a, b, c) is more likely (C, H, W) than (H, W, C); see the module's text."""
    first, middle, last = example_shape
    square = middle == last != first
    return last > _COMMON_CHANNELS and (square or (first == 3 != middle))


def shape_text(example_shape: Sequence[int]) -> str:
    """An example's shape in words: "8 x 8, 12 channels", or "vectors of length 5"."""
    if len(example_shape) != 3:
        return f"vectors of length {example_shape[0]}"
    height, width, channels = example_shape
    return f"{height} x {width}, {channels} channel{'s' if channels > 1 else ''}"
