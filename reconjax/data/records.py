"""A split of stored records, decoded whenever they are asked for."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from reconjax.data.split import Split

_LABELS_AT_A_TIME = 4096

# Decoding lets other threads run while it unpacks, but not while it prepares to: about half of the
# 60 microseconds that a 32 x 32 PNG takes. Below this many values an image, threads do not pay.
_WORTH_THREADS = 96 * 96 * 3
_THREADS = min(4, os.cpu_count() or 1)


# What readers and decoders raise for records that are not whole.
_DAMAGE = (RuntimeError, ValueError, OSError, KeyError)


class Records(Protocol):
    """Random access to records, each a dictionary of features: a TFDS data source is one."""

    def __len__(self) -> int:
        """The number of records."""

    def __getitems__(self, keys: Sequence[int], /) -> Sequence[dict[str, Any]]:
        """The records at `keys`."""


@dataclass(frozen=True)
class RecordFile:
    """One split as it is stored.

    Attributes:
        name: what messages call it.
        records: records with the images left as they are stored.
        decode: makes an image (H, W, C) of a stored one; several threads call it at once.
        image_key: the feature that holds the image.
        label_key: the feature that holds a class number.
    """

    name: str
    records: Records
    decode: Callable[[Any], np.ndarray]
    image_key: str
    label_key: str

    def __len__(self) -> int:
        """The number of records."""
        return len(self.records)

    def read(self, indices: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
        """The images (H, W, C) and labels (B,) int64 at `indices`.

        Raises ValueError if the records are damaged or a label is negative, which is how hidden
        labels are stored.
        """
        records = self._get(indices)
        labels = self._labels(records)
        return self._images(records), labels

    def read_images(self, indices: np.ndarray) -> list[np.ndarray]:
        """The images (H, W, C) at `indices`. Raises ValueError if the records are damaged."""
        return self._images(self._get(indices))

    def read_values(self, key: str, indices: np.ndarray | None = None) -> list[Any]:
        """Another feature as it is stored, at `indices` or of all. Raises like `read_images`."""
        wanted = np.arange(len(self)) if indices is None else indices
        parts = np.split(wanted, range(_LABELS_AT_A_TIME, len(wanted), _LABELS_AT_A_TIME))
        return [record[key] for part in parts for record in self._get(part)]

    def _images(self, records: Sequence[dict[str, Any]]) -> list[np.ndarray]:
        stored = [record[self.image_key] for record in records]
        try:
            return self._decoded(stored)
        except _DAMAGE as error:
            raise self._damaged(error) from None

    def read_labels(self, indices: np.ndarray) -> np.ndarray:
        """The labels (B,) int64 at `indices`, without decoding images. Raises like `read`."""
        parts = np.split(indices, range(_LABELS_AT_A_TIME, len(indices), _LABELS_AT_A_TIME))
        return np.concatenate([self._labels(self._get(part)) for part in parts])

    def _get(self, indices: np.ndarray) -> Sequence[dict[str, Any]]:
        try:
            return self.records.__getitems__(indices.tolist())
        except _DAMAGE as error:
            raise self._damaged(error) from None

    def _decoded(self, stored: list[Any]) -> list[np.ndarray]:
        images = [self.decode(one) for one in stored[:1]]
        rest = stored[1:]
        if _THREADS == 1 or not rest or images[0].size < _WORTH_THREADS:
            return images + [self.decode(one) for one in rest]
        with ThreadPoolExecutor(_THREADS, "reconjax-decode") as pool:
            return images + list(pool.map(self.decode, rest))

    def _damaged(self, error: Exception) -> ValueError:
        return ValueError(f"{self.name} is damaged: {' '.join(str(error).split())}")

    def _labels(self, records: Sequence[dict[str, Any]]) -> np.ndarray:
        labels = np.array([record[self.label_key] for record in records], np.int64)
        if labels.min(initial=0) < 0:
            raise ValueError(f"{self.name} holds label {labels.min()}: it hides its labels")
        return labels


@dataclass(frozen=True, eq=False)
class RecordSplit(Split):
    """The records at `indices` (N,) of a file, all with images of one shape.

    Images are decoded anew at each reading; labels are read once, when first asked for, unless
    there are `targets` (N,) or (N, C) in their place.
    """

    file: RecordFile
    indices: np.ndarray = field(repr=False)
    shape: tuple[int, int, int]
    targets: np.ndarray | None = field(default=None, repr=False)

    def __len__(self) -> int:
        """The number of examples."""
        return len(self.indices)

    @property
    def example_shape(self) -> tuple[int, ...]:
        """(H, W, C)."""
        return self.shape

    @cached_property
    def labels(self) -> np.ndarray:
        """(N,) int64, from a pass of its own over the records; or the targets. See `examples`."""
        if self.targets is not None:
            return self.targets
        return self.file.read_labels(self.indices)

    def examples(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The examples at `indices`, decoded.

        Raises ValueError if records are damaged, an image has another shape than the rest, or a
        label is negative.
        """
        if self.targets is None:
            images, labels = self.file.read(self.indices[indices])
        else:
            images, labels = self.file.read_images(self.indices[indices]), self.targets[indices]
        for image in images:
            if image.shape != self.shape:
                raise ValueError(
                    f"{self.file.name} holds images of several shapes, {self.shape} and "
                    f"{image.shape}: all must have one"
                )
        return np.stack(images), labels

    def subset(self, indices: np.ndarray) -> "RecordSplit":
        """The split of the records at `indices`; nothing is read."""
        targets = None if self.targets is None else self.targets[indices]
        return RecordSplit(self.file, self.indices[indices], self.shape, targets)
