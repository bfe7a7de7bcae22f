"""Families of noises, each at several strengths, that suit a data set."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from reconjax.data.layout import shape_text
from reconjax.noise import Noise, parse_noise
from reconjax.noise.groups import cut_at_edges
from reconjax.noise.naming import decimal
from reconjax.noise.text import Directions
from reconjax.summary.moments import Moments

# Deviation of additive noise, in units of the data's own root mean square deviation.
DEVIATIONS = (0.25, 0.5, 1.0, 2.0, 4.0)
RATIOS = (0.25, 0.5, 0.75, 0.9, 0.99)
# Of a strength that is made from the data, for names that can be read.
DIGITS = 3


class Family(NamedTuple):
    """Noises of one kind that differ in strength.

    Attributes:
      name: of the family.
      texts: (R,) what each strength is called, e.g. "mask:0.5:2x2".
      noises: (R,) the noises.
    """

    name: str
    texts: tuple[str, ...]
    noises: tuple[Noise, ...]


class _Data(NamedTuple):
    """What the strengths depend on."""

    shape: tuple[int, ...]
    moments: Moments | Directions

    def images(self) -> bool:
        return len(self.shape) > 2

    def shortest(self) -> int:
        """Pixels of the shortest axis that has more than one."""
        return min((axis for axis in self.shape[:-1] if axis > 1), default=1)

    def deviations(self) -> list[str]:
        """Of additive noise."""
        unit = np.sqrt(self.variance() / math.prod(self.shape))
        return [decimal(factor * unit, DIGITS) for factor in DEVIATIONS]

    def raw(self) -> bool:
        """Whether the inputs are intensities that photons could have made."""
        plain = bool(np.all(np.asarray(self.moments.scale) == 1))
        return plain and bool(np.all(self.mean() >= 0))

    def variance(self) -> float:
        """Tr M."""
        if isinstance(self.moments, Moments):
            return float(np.trace(self.moments.second_moment))
        return float(np.sum(self.moments.eigenvalues))

    def mean(self) -> np.ndarray:
        """(D,) the mean image."""
        moments = self.moments
        return np.asarray(moments.mean_x if isinstance(moments, Moments) else moments.mean)

    def photons(self) -> list[str]:
        """Counts at intensity 1 that make noise of the same deviations."""
        mean = float(np.mean(self.mean()))
        return [decimal(mean / float(std) ** 2, DIGITS) for std in self.deviations()]

    def patches(self) -> list[str]:
        """Patches of which there are four at least, as texts name them.

        Squares, or cubes, that divide the image, cut to it where it is lower or narrower than they
        are. Where 1 x 1 alone does, as with 11 x 13 pixels, 2, 4, 8, ... with partial patches.
        """
        axes = self.shape[:-1]
        sides = range(1, max(axes))
        sizes = list(dict.fromkeys(tuple(min(side, axis) for axis in axes) for side in sides))
        whole = [size for size in sizes if not cut_at_edges(size, axes)]
        whole = [s for s in whole if _count(s, self.shape) >= 4 or max(s) == 1]
        if len(whole) > 1 or max(axes) < 4:
            return [_text(size) for size in whole]
        powers = [size for size in sizes if max(size) in (2, 4, 8, 16, 32, 64, 128, 256)]
        some = [size for size in powers if _count(size, self.shape) >= 4]
        return [_text(size) for size in whole] + [f"{_text(size)}:partial" for size in some]

    def windows(self, shares: Sequence[float]) -> list[str]:
        """Parts of the image."""
        axes = self.shape[:-1]
        sizes = (tuple(round(share * a) if a > 1 else 1 for a in axes) for share in shares)
        return [
            _text(size)
            for size in dict.fromkeys(sizes)
            if all(0 < side < axis or axis == 1 for side, axis in zip(size, axes, strict=True))
            and size != axes
        ]


# The families of one kind: what each is called beside the kind, and the texts of its strengths.
Kind = Callable[[_Data], Iterator[tuple[str, list[str]]]]


def _masks(data: _Data) -> Iterator[tuple[str, list[str]]]:
    for size in data.patches() if data.images() else ():
        yield f"mask {size.replace(':', ' ')}", [f"mask:{ratio:g}:{size}" for ratio in RATIOS]


def _count(size: tuple[int, ...], shape: tuple[int, ...]) -> int:
    """How many patches an image has, partial ones included."""
    return math.prod(math.ceil(axis / side) for axis, side in zip(shape, size, strict=False))


def _text(size: tuple[int, ...]) -> str:
    return "x".join(map(str, size))


def _single(texts: Callable[[_Data], list[str]], applies: Callable[[_Data], bool]) -> Kind:
    def make(data: _Data) -> Iterator[tuple[str, list[str]]]:
        if applies(data) and (strengths := texts(data)):
            yield "", strengths

    return make


def _always(data: _Data) -> bool:
    return True


def _colors(data: _Data) -> bool:
    return data.images() and data.shape[-1] > 1


# Blur alone can be undone, so that it changes no linear representation: a little noise keeps it.
_KINDS: dict[str, Kind] = {
    "mask": _masks,
    "pixel": _single(lambda d: [f"pixel:{ratio:g}" for ratio in RATIOS], lambda d: d.shape[-1] > 1),
    "channel": _single(lambda d: [f"channel:{ratio:g}" for ratio in RATIOS], _colors),
    "gaussian": _single(lambda d: [f"gaussian:{std}" for std in d.deviations()], _always),
    "colored": _single(
        lambda d: [f"colored:{std}:{max(d.shape) / 16:g}" for std in d.deviations()], _Data.images
    ),
    "speckle": _single(lambda d: [f"speckle:{std:g}" for std in DEVIATIONS], _always),
    "thin": _single(lambda d: [f"thin:0:{photons}" for photons in d.photons()], _Data.raw),
    "saltpepper": _single(
        lambda d: [f"saltpepper:{ratio}:{d.deviations()[3]}" for ratio in (0.1, 0.5, 0.9)], _always
    ),
    "block": _single(lambda d: [f"block:{w}" for w in d.windows((0.25, 0.5, 0.75))], _Data.images),
    "blur": _single(
        lambda d: [f"blur:{std}+gaussian:{d.deviations()[0]}" for std in (0.5, 1, 2)], _Data.images
    ),
    "shift": _single(
        lambda d: [f"shift:{by}" for by in (1, 2, 4) if 2 * by < d.shortest()], _Data.images
    ),
    "crop": _single(lambda d: [f"crop:{w}" for w in d.windows((0.875, 0.75, 0.5))], _Data.images),
    "flip": _single(lambda d: ["flip:0.5"], _Data.images),
    "vflip": _single(lambda d: ["vflip:0.5"], lambda d: d.images() and d.shape[-2] > 1),
    "tflip": _single(lambda d: ["tflip:0.5"], lambda d: len(d.shape) == 4),
}
NAMES = tuple(_KINDS)


def families(
    example_shape: Sequence[int],
    moments: Moments | Directions,
    names: Sequence[str] | None = None,
) -> list[Family]:
    """Families at strengths that suit the data; those that do not apply are left out.

    Additive noise is measured by the data's own deviation, so that any units will do. An exact
    number of patches and random ratios lie on the rays of patch masks, and are not listed apart.

    Args:
      example_shape: (H, W, C) or (D,); (D, H, W, C) of volumes, (T, 1, C) of sequences.
      moments: of the training split, or their spectrum.
      names: of `NAMES`, or texts of `reconjax.noise.parse_noise`, each a family of one strength;
        all of `NAMES` by default.

    Raises:
      ValueError: a name or a text that is not known; a family by name that does not apply.
    """
    data = _Data(tuple(example_shape), moments)
    suitable = []
    for name in dict.fromkeys(NAMES if names is None else names):
        kind = _KINDS.get(name)
        made = [(name, [name])] if kind is None else list(kind(data))
        if not made and names is not None:
            raise ValueError(f"families: {name}; it does not apply to {shape_text(data.shape)}")
        for own, texts in made:
            noises = tuple(_parsed(text, data) for text in texts)
            suitable.append(Family(own or name, tuple(texts), noises))
    return suitable


def check_names(names: Sequence[str], example_shape: Sequence[int]) -> None:
    """Raises ValueError for a name that is no family and no noise, before the data are read."""
    for name in names:
        if name in _KINDS:
            continue
        if not any(mark in name for mark in ":+|("):
            raise ValueError(f"families: {name!r}; known are {', '.join(NAMES)}, and noise texts")
        if "pca-mask" not in name:  # which needs more than a mean image to be made
            parse_noise(name, example_shape, np.zeros(math.prod(example_shape)))


def _parsed(text: str, data: _Data) -> Noise:
    return parse_noise(text, data.shape, data.moments)
