"""A split: examples with their labels, held in memory or read as they are asked for."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator

import numpy as np

# Examples of a batch, and numbers in it, at most.
_BATCH, _BATCH_NUMBERS = 4096, 2**26


class Split(ABC):
    """N examples in a fixed order, each with a class number or real targets.

    Where targets are real (`Dataset.real_targets`), all labels below are (., C) float64. Examples
    keep the dtype they are stored in, uint8 or a float. Every array that is handed out by
    `examples` and `batches` is a copy of its own.
    """

    @abstractmethod
    def __len__(self) -> int:
        """The number of examples, N."""

    @property
    @abstractmethod
    def example_shape(self) -> tuple[int, ...]:
        """(H, W, C) for images, (D,) for vectors."""

    @property
    @abstractmethod
    def labels(self) -> np.ndarray:
        """(N,) int64: the class number of each example, in order."""

    @abstractmethod
    def examples(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The examples at `indices` (B,): images (B, *example_shape) and labels (B,) int64."""

    @abstractmethod
    def subset(self, indices: np.ndarray) -> "Split":
        """The split of the examples at `indices` (B,), in the order given."""

    def batches(self, batch_size: int | None = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Go through the split once, in order, with one batch in memory at a time.

        Yields images (B, *example_shape) and labels (B,) int64; B is `batch_size`, and less in
        the last batch if N is no multiple of it. By default it is 4096, and less for examples so
        large that a batch would have more than 2^26 numbers. Raises ValueError if `batch_size` is
        below 1.
        """
        batch_size = self._batch_size(batch_size)
        return (
            self.examples(np.arange(start, min(start + batch_size, len(self))))
            for start in range(0, len(self), batch_size)
        )

    def _batch_size(self, given: int | None) -> int:
        """See `batches`."""
        if given is None:
            return max(1, min(_BATCH, _BATCH_NUMBERS // max(math.prod(self.example_shape), 1)))
        if given < 1:
            raise ValueError(f"batch_size is {given}: it must be at least 1")
        return given

    def sample(self, count: int, seed: int = 0) -> "Split":
        """`count` examples drawn at random without replacement, in the order of the split.

        The split itself if `count` is N or more. Raises ValueError if `count` is below 1.
        """
        if count < 1:
            raise ValueError(f"count is {count}: a sample must hold at least 1 example")
        if count >= len(self):
            return self
        drawn = np.random.default_rng(seed).choice(len(self), count, replace=False)
        return self.subset(np.sort(drawn))


class ArraySplit(Split):
    """Examples held in memory: images (N, *example_shape) and labels (N,) or (N, C)."""

    def __init__(self, images: np.ndarray, labels: np.ndarray) -> None:
        """Keep the two arrays as they are; `Dataset.from_arrays` is the door that checks them."""
        self._images = images
        self._labels = labels

    def __len__(self) -> int:
        """The number of examples."""
        return len(self._images)

    @property
    def example_shape(self) -> tuple[int, ...]:
        """(H, W, C) or (D,)."""
        return self._images.shape[1:]

    @property
    def labels(self) -> np.ndarray:
        """(N,) int64."""
        return self._labels

    def examples(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Copies of the examples at `indices`."""
        return self._images[indices], self._labels[indices]

    def subset(self, indices: np.ndarray) -> "ArraySplit":
        """The split of the examples at `indices`, copied."""
        return ArraySplit(*self.examples(indices))
