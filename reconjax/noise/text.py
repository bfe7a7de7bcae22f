"""One text form for every noise, for the command line and for records.

A term is a name with values, `name:value:value`; values in brackets may be left out. PATCH is
HEIGHTxWIDTH, or one number for a square; * is a whole axis: 1x* is a row. Volumes and clips have
DEPTHxHEIGHTxWIDTH, or one number for a cube; sequences one number. RATIO is the share that is
dropped.

| text                       | noise                                                       |
|----------------------------|-------------------------------------------------------------|
| identity                   | `identity`                                                  |
| gaussian:STD               | `gaussian`                                                  |
| colored:STD:LENGTH         | `smooth_gaussian`, with a correlation length in pixels      |
| speckle:STD                | `speckle`                                                   |
| thin:RATIO[:PHOTONS]       | `thinning`, Poisson, 255 photons at intensity 1; needs data |
| mask:RATIO:PATCH           | `patch_mask`                                                |
| exact:RATIO:PATCH          | `exact_patch_mask`                                          |
| random-mask:LOW-HIGH:PATCH | `random_patch_mask`                                         |
| random-exact:LOW-HIGH:PATCH | `random_patch_mask` that keeps an exact number              |
| pixel:RATIO                | `pixel_dropout`                                             |
| channel:RATIO              | `channel_dropout`                                           |
| saltpepper:RATIO:AMPLITUDE | `salt_and_pepper`                                           |
| block:PATCH                | `block_mask`                                                |
| cutout:PATCH               | `block_mask` that may stick out of the image                |
| pca-mask:RATIO             | `pca_mask`; needs data                                      |
| blur:STD                   | `blur`, in pixels                                           |
| shift:PIXELS               | `shift`                                                     |
| flip[:PROBABILITY]         | `flip`, left and right; 0.5 by default                      |
| vflip[:PROBABILITY]        | `flip`, top and bottom; 0.5 by default                      |
| tflip[:PROBABILITY]        | `flip` of the first axis: of time, or depth; 0.5 by default |
| crop:PATCH                 | `crop`                                                      |

Masks of patches take `partial` after the patch, which allows smaller patches at the lower and right
edges of images that the patch does not divide: `mask:0.75:4x4:partial`.

Masks, blocks, salt and pepper take one more value, `fill=VALUE`: what is dropped becomes this raw
intensity instead of the mean image's (needs data): `mask:0.75:4x4:fill=0` drops to black.

`A+B` is the chain, A first; `A|B` the mixture, with equal probabilities or `0.3*A|0.7*B`; + binds
tighter, and parentheses group: `(flip|identity)+mask:0.5:2x2+gaussian:0.1`.
"""

import difflib
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from jax import Array

from reconjax.linalg.eigen import eigh_descending
from reconjax.noise import additive, basis, compose, masks, operators, random_masks, visibility
from reconjax.noise.base import Noise, parse_window
from reconjax.summary.moments import Moments

PHOTONS = 255.0


class Directions(Protocol):
    """The principal directions of data, as a `Spectrum` has them."""

    @property
    def eigenvectors(self) -> Array:
        """(D, R)."""

    @property
    def eigenvalues(self) -> Array:
        """(R,) the variance along each."""

    @property
    def mean(self) -> Array:
        """(D,) the mean image."""

    @property
    def scale(self) -> Array:
        """(D,) by which features were divided."""


Data = Moments | Directions | Array | np.ndarray
"""What noises may need to know of the data."""


class Context(NamedTuple):
    """What a term may need beside its values."""

    shape: tuple[int, ...]
    data: Data | None

    def mean(self) -> np.ndarray:
        """(D,) the mean image, in raw units."""
        data = self._given("the mean image")
        if not hasattr(data, "scale"):
            return np.asarray(data).reshape(-1)
        if not np.all(np.asarray(data.scale) == 1):
            raise ValueError("raw intensities need data that are not standardized")
        return np.asarray(data.mean_x if isinstance(data, Moments) else data.mean)

    def eigenvectors(self) -> Array:
        """(D, R) the principal directions."""
        data = self._given("the principal directions")
        if isinstance(data, Moments):
            return eigh_descending(data.second_moment)[1]
        if isinstance(data, Array | np.ndarray) or not hasattr(data, "eigenvectors"):
            raise ValueError("it needs the principal directions of the data: moments or a spectrum")
        return data.eigenvectors

    def _given(self, what: str) -> Data:
        if self.data is None:
            raise ValueError(f"it needs {what} of the data, which are not given here")
        return self.data


class _Form(NamedTuple):
    """How a term is written, and how it is made of its values."""

    values: str
    make: Callable[..., Noise]
    optional: int = 0
    fills: bool = False
    partial: bool = False

    def usage(self, name: str) -> str:
        names = self.values.split()
        needed = len(names) - self.optional
        text = "".join(f":{value}" for value in names[:needed])
        text += "".join(f"[:{value}]" for value in names[needed:])
        text += "[:partial]" if self.partial else ""
        return name + text + ("[:fill=VALUE]" if self.fills else "")


# Each is given the context and the values, and the fill where there is one.
_FORMS = {
    "identity": _Form("", lambda c: compose.identity()),
    "gaussian": _Form("STD", lambda c, std: additive.gaussian(std)),
    "colored": _Form("STD LENGTH", lambda c, s, d: additive.smooth_gaussian(s, d, c.shape)),
    "speckle": _Form("STD", lambda c, std: additive.speckle(std)),
    "thin": _Form(
        "RATIO PHOTONS",
        lambda c, p, photons=PHOTONS: additive.thinning(p, photons, c.mean()),
        optional=1,
    ),
    "mask": _Form(
        "RATIO PATCH",
        lambda c, p, s, **f: masks.patch_mask(p, s, c.shape, **f),
        fills=True,
        partial=True,
    ),
    "exact": _Form(
        "RATIO PATCH",
        lambda c, p, s, **f: random_masks.exact_patch_mask(p, s, c.shape, **f),
        fills=True,
        partial=True,
    ),
    "random-mask": _Form(
        "LOW-HIGH PATCH",
        lambda c, p, s, **f: random_masks.random_patch_mask(p, s, c.shape, **f),
        fills=True,
        partial=True,
    ),
    "random-exact": _Form(
        "LOW-HIGH PATCH",
        lambda c, p, s, **f: random_masks.random_patch_mask(p, s, c.shape, exact=True, **f),
        fills=True,
        partial=True,
    ),
    "pixel": _Form("RATIO", lambda c, p, **f: masks.pixel_dropout(p, c.shape, **f), fills=True),
    "channel": _Form("RATIO", lambda c, p, **f: masks.channel_dropout(p, c.shape, **f), fills=True),
    "saltpepper": _Form(
        "RATIO AMPLITUDE",
        lambda c, p, a, **f: masks.salt_and_pepper(p, a, c.shape, **f),
        fills=True,
    ),
    "block": _Form("PATCH", lambda c, s, **f: visibility.block_mask(s, c.shape, **f), fills=True),
    "cutout": _Form(
        "PATCH",
        lambda c, s, **f: visibility.block_mask(s, c.shape, partial=True, **f),
        fills=True,
    ),
    "pca-mask": _Form("RATIO", lambda c, p: basis.pca_mask(p, c.eigenvectors())),
    "blur": _Form("STD", lambda c, std: operators.blur(std, c.shape)),
    "shift": _Form("PIXELS", lambda c, largest: operators.shift(largest, c.shape)),
    "flip": _Form("PROBABILITY", lambda c, p=0.5: operators.flip(p, c.shape), optional=1),
    "vflip": _Form(
        "PROBABILITY", lambda c, p=0.5: operators.flip(p, c.shape, vertical=True), optional=1
    ),
    "tflip": _Form("PROBABILITY", lambda c, p=0.5: operators.flip(p, c.shape, axis=0), optional=1),
    "crop": _Form("PATCH", lambda c, s: operators.crop(s, c.shape)),
}


def parse_noise(text: str, example_shape: Sequence[int], data: Data | None = None) -> Noise:
    """The noise that a text names; see the table above.

    Args:
      text: e.g. "mask:0.5:2x2+gaussian:0.1".
      example_shape: (H, W, C) or (D,); (D, H, W, C) of volumes, (T, 1, C) of sequences.
      data: what `thin`, `pca-mask` and `fill=` need to know: `Moments`, a `Spectrum`, or the mean
        image alone (D,) or (H, W, C), which does not do for `pca-mask`.

    Returns:
      The noise.

    Raises:
      ValueError: one line that quotes the part of the text that names no noise, and says what is
        known.

    Example:
      >>> noise = reconjax.noise.parse_noise("mask:0.75:4x4+gaussian:0.1", (8, 8, 1))
      >>> [type(part).__name__ for part in noise.noises]
      ['Mask', 'Gaussian']
    """
    if not isinstance(text, str):
        raise ValueError(f"noise: {text!r}; a text is needed, e.g. mask:0.75:4x4")
    context = Context(tuple(example_shape), data)
    return _Parser(text, context).mixture(0, len(text))


def known_noises() -> list[str]:
    """How each term is written, e.g. "gaussian:STD".

    Returns:
      A text for each term.

    Example:
      >>> reconjax.noise.known_noises()[:3]
      ['identity', 'gaussian:STD', 'colored:STD:LENGTH']
    """
    return [form.usage(name) for name, form in _FORMS.items()]


class _Parser:
    """Reads a text from left to right; every error quotes the part at which it is."""

    def __init__(self, text: str, context: Context) -> None:
        self.text, self.context = text, context

    def mixture(self, start: int, end: int) -> Noise:
        parts = list(self._split("|", start, end))
        if len(parts) == 1:
            return self._chain(start, end)
        noises, weights = [], []
        for first, last in parts:
            match = re.match(r"\s*((?:[^\s*:+()]|(?<=[eE])\+)+)\s*\*", self.text[first:last])
            if match:
                weights.append(self._value("WEIGHT", first, first + match.end() - 1))
                first += match.end()
            noises.append(self._chain(first, last))
        if weights and len(weights) != len(noises):
            raise self._error(start, end, "give every part of a mixture a weight, or none")
        try:
            return compose.mixture(*noises, probabilities=np.asarray(weights) if weights else None)
        except ValueError as error:
            raise self._error(start, end, str(error)) from None

    def _chain(self, start: int, end: int) -> Noise:
        noises = [self._term(*part) for part in self._split("+", start, end)]
        try:
            return compose.chain(*noises)
        except ValueError as error:
            raise self._error(start, end, str(error)) from None

    def _term(self, start: int, end: int) -> Noise:
        while start < end and self.text[start].isspace():
            start += 1
        while start < end and self.text[end - 1].isspace():
            end -= 1
        term = self.text[start:end]
        if term.startswith("(") and term.endswith(")"):
            return self.mixture(start + 1, end - 1)
        name, *fields = term.split(":")
        form = _FORMS.get(name)
        if form is None:
            close = difflib.get_close_matches(name, _FORMS, 1)
            hint = f"did you mean {_FORMS[close[0]].usage(close[0])}? " if close else ""
            wrong = "is no noise" if term else "a noise is missing"
            raise self._error(start, end, f"{wrong}; {hint}known are {', '.join(_FORMS)}")
        options: dict[str, object] = {}
        fill = None
        if form.fills and fields and fields[-1].strip().startswith("fill="):
            last = fields.pop()
            fill = self._value("VALUE", end - len(last) + last.index("=") + 1, end)
        if form.partial and fields and fields[-1].strip() == "partial":
            fields.pop()
            options["partial"] = True
        kinds = form.values.split()
        if not len(kinds) - form.optional <= len(fields) <= len(kinds):
            raise self._error(start, end, f"it is written {form.usage(name)}")
        values, at = [], start + len(name)
        for kind, field in zip(kinds, fields, strict=False):
            values.append(self._value(kind, at + 1, at + 1 + len(field)))
            at += 1 + len(field)
        try:
            if fill is not None:
                options["fill"] = fill - self.context.mean()
            return form.make(self.context, *values, **options)
        except ValueError as error:
            raise self._error(start, end, str(error)) from None

    def _value(self, kind: str, start: int, end: int) -> Any:
        text = self.text[start:end].strip()
        try:
            if kind == "PATCH":
                return parse_window(text)
            elif kind == "LOW-HIGH":
                low, high = re.split(r"(?<![eE])-", text)
                return float(low), float(high)
            else:
                return float(text)
        except ValueError:
            pass
        what = {
            "PATCH": "HEIGHTxWIDTH or one number, * for a whole axis",
            "LOW-HIGH": "two numbers LOW-HIGH",
        }
        raise self._error(start, end, f"{kind} is {what.get(kind, 'a number')}")

    def _split(self, separator: str, start: int, end: int) -> Iterator[tuple[int, int]]:
        """The parts between separators outside parentheses."""
        depth, first = 0, start
        for at in range(start, end):
            character = self.text[at]
            depth += (character == "(") - (character == ")")
            if depth < 0:
                break
            if character == separator and depth == 0 and not self._in_exponent(start, at):
                yield first, at
                first = at + 1
        if depth:
            raise self._error(start, end, "its parentheses do not match")
        yield first, end

    def _in_exponent(self, start: int, at: int) -> bool:
        """Whether the sign here is that of a number like 1e+1."""
        number = r"(?:^|[:=\s(|+])[+-]?(?:\d+\.?\d*|\.\d+)[eE]$"
        followed = self.text[at + 1 : at + 2].isdigit()
        return followed and self.text[at] == "+" and bool(re.search(number, self.text[start:at]))

    def _error(self, start: int, end: int, why: str) -> ValueError:
        part = self.text[start:end].strip()
        where = "" if part == self.text.strip() else f" at character {start + 1} of {self.text!r}"
        return ValueError(f"noise: {part!r}{where}: {why}")
