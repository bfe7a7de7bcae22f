"""What the axes of arrays are: channels last, (N, H, W, C), after this door.

| kind              | an example here | `axes`, for example                   |
|-------------------|-----------------|---------------------------------------|
| vectors           | (D,)            | as they are                           |
| sequences         | (T, 1, C)       | T, TC, CT                             |
| images            | (H, W, C)       | HW, HWC, CHW                          |
| volumes and clips | (D, H, W, C)    | DHW, DHWC, CDHW; THWC, TCHW of clips  |

A sequence is an image that is one pixel wide, so that all that is there for images is there for it.
Nothing in an array says which axis is which. (N, D) are taken for vectors, (N, a, b) for images,
(N, a, b, c) and (N, a, b, c, d) with c, or d, of up to 4 channels for images and volumes; and every
command says in its head line how it understood the shape. What is more likely something else is
asked about:

- (N, a, b), not 8-bit, one side 4 times the other: a sequence of channels, most likely;
- (N, a, b, c) with b = c > 4: channels first, or a volume; so too a = 3 with c > 4;
- (N, a, b, c, d) with d > 4.

`axes` names them, a letter each: C are the channels, T, D, H, W all others, in their order.
`channels_first=True` is short for CHW, `channels_first=False` for HWC.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

# Up to so many channels are common in the last axis: gray, gray and alpha, color, color and alpha.
_COMMON_CHANNELS = 4
# An image is seldom so many times as long as it is wide.
_LONG = 4
_LETTERS = "TDHW"


class Layout(NamedTuple):
    """How arrays become examples.

    Attributes:
      order: of the axes of an example, channels last; None where they stay.
      example_shape: (D,), (T, 1, C), (H, W, C) or (D, H, W, C).
    """

    order: tuple[int, ...] | None
    example_shape: tuple[int, ...]

    def apply(self, images: np.ndarray) -> np.ndarray:
        """Examples (N, ...) as they are given in their form here."""
        if self.order is not None:
            images = np.ascontiguousarray(images.transpose(0, *(axis + 1 for axis in self.order)))
        return images.reshape(len(images), *self.example_shape)


def layout(
    shape: Sequence[int],
    name: str,
    channels_first: bool | None = None,
    axes: str | None = None,
    dtype: Any = float,
) -> Layout:
    """How arrays of that shape (N, ...) become examples; see the module's text.

    Args:
      shape: 2 to 5 axes.
      name: what messages call the argument.
      channels_first: True for (N, C, H, W), False for (N, H, W, C), None for the module's rule.
      axes: a letter for each axis of an example, such as "TC"; None for the module's rule.
      dtype: of the values.

    Raises:
      ValueError: one line, for what is none of these, or where it must be said.
    """
    own = tuple(shape[1:])
    if axes is not None:
        if channels_first is not None:
            raise ValueError(f"channels_first: {channels_first}; given with axes, choose one")
        return _named(own, name, axes)
    if not 2 <= len(shape) <= 5:
        raise ValueError(
            f"{name} has shape {tuple(shape)}: it must be (N, H, W, C), (N, H, W) or (N, D), or say"
            " what its axes are (--axes)"
        )
    if channels_first and len(shape) != 4:
        raise ValueError(
            f"{name} has shape {tuple(shape)}: with channels first it must be (N, C, H, W)"
            " (--channels-first); others are named by --axes"
        )
    if channels_first is None and (kinds := _doubts(own, np.dtype(dtype))):
        *others, last = [
            f"{shape_text(_named(own, name, one).example_shape)} ({option(one)})" for one in kinds
        ]
        raise ValueError(f"{name} has shape {tuple(shape)}: is it {', '.join(others)} or {last}?")
    if channels_first:
        return _named(own, name, "CHW")
    return Layout(None, (*own, 1) if len(own) == 2 else own)


def option(axes: str) -> str:
    """How the options of the command line, and of Python, name axes."""
    short = {
        "CHW": "--channels-first, channels_first=True",
        "HWC": "--no-channels-first, channels_first=False",
    }
    return short.get(axes, f"--axes {axes}")


def looks_channels_first(example_shape: Sequence[int]) -> bool:
    """Whether (a, b, c) is more likely (C, H, W) than (H, W, C); see the module's text."""
    first, middle, last = example_shape
    square = middle == last != first
    return last > _COMMON_CHANNELS and (square or (first == 3 != middle))


def shape_text(example_shape: Sequence[int]) -> str:
    """An example's shape in words: "8 x 8, 12 channels", or "vectors of length 5"."""
    if len(example_shape) < 3:
        return f"vectors of length {example_shape[0]}"
    *axes, channels = example_shape
    of = f"{channels} channel{'s' if channels > 1 else ''}"
    if len(axes) == 2 and axes[1] == 1:
        return f"sequences of length {axes[0]}, {of}"
    return f"{' x '.join(map(str, axes))}, {of}"


def _doubts(own: tuple[int, ...], dtype: np.dtype[Any]) -> list[str]:
    """What arrays may be, the likeliest first, where it must be asked."""
    if len(own) == 2:
        long = max(own) >= _LONG * min(own) and min(own) > 1
        if long and dtype != np.uint8:
            return ["TC", "CT", "HW"] if own[0] > own[1] else ["CT", "TC", "HW"]
    if len(own) == 3:
        cube = own[0] == own[1] == own[2] > _COMMON_CHANNELS
        if cube or looks_channels_first(own):
            volume = own[0] > _COMMON_CHANNELS
            return [*["DHW"] * volume, "CHW", "HWC"] if cube else ["CHW", *["DHW"] * volume, "HWC"]
    if len(own) == 4 and own[-1] > _COMMON_CHANNELS:
        return ["DCHW", "CDHW", "DHWC"] if own[1] <= _COMMON_CHANNELS else ["CDHW", "DCHW", "DHWC"]
    return []


def _named(own: tuple[int, ...], name: str, axes: str) -> Layout:
    """The layout that letters name."""
    letters = axes.strip().upper()
    others = [letter for letter in letters if letter != "C"]
    known = set(letters) <= set(_LETTERS + "C") and len(set(letters)) == len(letters)
    if not (known and 1 <= len(others) <= 3):
        raise ValueError(
            f"axes: {axes!r}; a letter for each axis is needed, C for channels and up to three of"
            f" {', '.join(_LETTERS)}, as in TC, HWC, CHW or DHW"
        )
    if len(letters) != len(own):
        raise ValueError(
            f"axes: {axes!r} names {len(letters)} axes; an example of {name} has {own}"
        )
    places = [at for at, letter in enumerate(letters) if letter != "C"]
    sizes = [own[at] for at in places]
    sizes += [1] * (len(sizes) == 1)
    if "C" not in letters:
        return Layout(None, (*sizes, 1))
    order = (*places, letters.index("C"))
    shape = (*sizes, own[order[-1]])
    return Layout(None if order == tuple(range(len(own))) else order, shape)
