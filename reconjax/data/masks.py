"""Masks that are stored as images: a whole number for each pixel."""

import copy
import dataclasses
import io
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from reconjax.data.encoded import CHUNK, in_threads
from reconjax.data.geometry import Geometry
from reconjax.data.images import Encoded

# What stands for no class, all over a mask that is not there.
ABSENT = -1


class MaskFiles(Protocol):
    """Encoded masks by number; several threads may ask at once."""

    def read(self, numbers: Sequence[int]) -> Sequence[Encoded | None]:
        """The encoded masks, or their paths, at `numbers`; None where there is none."""

    def title(self, number: int) -> str:
        """What messages call a mask."""


class StoredMasks:
    """Masks (N, H, W), decoded whenever they are asked for.

    An index takes some of them and decodes nothing; `np.asarray` decodes, on all cores.

    Attributes:
      shape: (N, H, W), of what becomes of them.
      dtype: int32; -1 all over stands for a mask that is not there.
    """

    dtype = np.dtype(np.int32)

    def __init__(self, files: MaskFiles, numbers: np.ndarray, geometry: Geometry) -> None:
        """The masks at `numbers`, changed as the images are; one is decoded for its size.

        Raises:
          ValueError: one line: none is there, or the first is no mask.
        """
        self._files, self._numbers, self._geometry = files, np.asarray(numbers), geometry
        there = (n for n in self._numbers.tolist() if files.read([n])[0] is not None)
        first = next(there, None)
        if first is None:
            raise ValueError("masks: none is there")
        self._first = first
        self.shape = (len(self._numbers), *self._decoded(first).shape)

    def __len__(self) -> int:
        """N."""
        return len(self._numbers)

    def __getitem__(self, index: Any) -> "StoredMasks":
        """Those at a slice or at indices."""
        some = copy.copy(self)
        some._numbers = self._numbers[index]
        some.shape = (len(some._numbers), *self.shape[1:])
        return some

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """(N, H, W) decoded. Raises ValueError for damage, color, and masks of other sizes."""
        masks = np.full(self.shape, ABSENT, self.dtype if dtype is None else dtype)

        def fill(places: np.ndarray) -> None:
            for place in places.tolist():
                number = int(self._numbers[place])
                mask = self._decoded(number)
                if mask is None:
                    continue
                if mask.shape != self.shape[1:]:
                    raise ValueError(
                        f"{self._sized(number, mask.shape)}, {self._sized(self._first)}: --resize"
                        " makes them alike"
                    )
                masks[place] = mask

        starts = range(0, len(self), CHUNK)
        in_threads(fill, [np.arange(s, min(s + CHUNK, len(self))) for s in starts])
        return masks

    def _sized(self, number: int, sides: tuple[int, ...] | None = None) -> str:
        """A mask and its size, for messages."""
        return f"{self._files.title(number)} is {' x '.join(map(str, sides or self.shape[1:]))}"

    def _decoded(self, number: int) -> Any:
        (encoded,) = self._files.read([number])
        if encoded is None:
            return None
        return decoded_mask(encoded, self._geometry, self._files.title(number))


def decoded_mask(encoded: Encoded, geometry: Geometry, title: str) -> np.ndarray:
    """(H, W) the values of a mask of mode 1, L, P (the numbers of its palette) or I, resized.

    Args:
      encoded: the bytes of a file, or its path.
      geometry: what is done to the image that it belongs to; no values are mixed.
      title: what messages call it.

    Raises:
      ValueError: one line, for damage and for a mask in color.
    """
    from PIL import Image

    opened = io.BytesIO(encoded) if isinstance(encoded, bytes) else encoded
    try:
        with Image.open(opened) as picture:
            mode = picture.mode
            values = np.asarray(picture)
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        raise ValueError(f"{title} cannot be read: {' '.join(str(error).split())}") from None
    if values.ndim != 2:
        raise ValueError(f"{title} is a mask of mode {mode}: one number for each pixel is needed")
    plain = dataclasses.replace(geometry, gray=False, resampling="nearest")
    changed = plain.of_picture(Image.fromarray(values.astype(np.int32)))
    return np.asarray(changed)
