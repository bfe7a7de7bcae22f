"""A split of stored records, decoded whenever they are asked for."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from reconjax.data.split import Split

_LABELS_AT_A_TIME = 4096


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
        records: records with the images decoded.
        undecoded: the same records with the images left alone, for a fast look at the labels.
        image_key: the feature that holds an image (H, W, C).
        label_key: the feature that holds a class number.
    """

    name: str
    records: Records
    undecoded: Records
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
        records = self._get(self.records, indices)
        return [record[self.image_key] for record in records], self._labels(records)

    def read_labels(self, indices: np.ndarray) -> np.ndarray:
        """The labels (B,) int64 at `indices`, without decoding images. Raises like `read`."""
        parts = np.split(indices, range(_LABELS_AT_A_TIME, len(indices), _LABELS_AT_A_TIME))
        return np.concatenate([self._labels(self._get(self.undecoded, part)) for part in parts])

    def _get(self, records: Records, indices: np.ndarray) -> Sequence[dict[str, Any]]:
        try:
            return records.__getitems__(indices.tolist())
        except (RuntimeError, ValueError, OSError, KeyError) as error:
            reason = " ".join(str(error).split())
            raise ValueError(f"{self.name} is damaged: {reason}") from None

    def _labels(self, records: Sequence[dict[str, Any]]) -> np.ndarray:
        labels = np.array([record[self.label_key] for record in records], np.int64)
        if labels.min(initial=0) < 0:
            raise ValueError(f"{self.name} holds label {labels.min()}: it hides its labels")
        return labels


@dataclass(frozen=True, eq=False)
class RecordSplit(Split):
    """The records at `indices` (N,) of a file, all with images of one shape.

    Images are decoded anew at each reading; labels are read once, when first asked for.
    """

    file: RecordFile
    indices: np.ndarray = field(repr=False)
    shape: tuple[int, int, int]

    def __len__(self) -> int:
        """The number of examples."""
        return len(self.indices)

    @property
    def example_shape(self) -> tuple[int, ...]:
        """(H, W, C)."""
        return self.shape

    @cached_property
    def labels(self) -> np.ndarray:
        """(N,) int64, from a pass of its own over the records. Raises like `examples`."""
        return self.file.read_labels(self.indices)

    def examples(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The examples at `indices`, decoded.

        Raises ValueError if records are damaged, an image has another shape than the rest, or a
        label is negative.
        """
        images, labels = self.file.read(self.indices[indices])
        for image in images:
            if image.shape != self.shape:
                raise ValueError(
                    f"{self.file.name} holds images of several shapes, {self.shape} and "
                    f"{image.shape}: all must have one"
                )
        return np.stack(images), labels

    def subset(self, indices: np.ndarray) -> "RecordSplit":
        """The split of the records at `indices`; nothing is read."""
        return RecordSplit(self.file, self.indices[indices], self.shape)
