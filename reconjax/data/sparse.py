"""Sparse matrices of SciPy: rows become arrays as they are asked for, a batch at a time."""

from typing import Any

import numpy as np

from reconjax.data.split import Split


class SparseSplit(Split):
    """Rows (N, D) of a sparse matrix, with their labels (N,) or (N, C)."""

    def __init__(self, rows: Any, labels: np.ndarray) -> None:
        """Keeps a matrix of `as_sparse` as it is."""
        self._rows, self._labels = rows, labels

    def __len__(self) -> int:
        """The number of examples."""
        return int(self._rows.shape[0])

    @property
    def example_shape(self) -> tuple[int, ...]:
        """(D,)."""
        return (int(self._rows.shape[1]),)

    @property
    def labels(self) -> np.ndarray:
        """(N,) int64 or (N, C) float64."""
        return self._labels

    def examples(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The examples at `indices`, with all their zeros."""
        return self._rows[np.asarray(indices)].toarray(), self._labels[indices]

    def subset(self, indices: np.ndarray) -> "SparseSplit":
        """The split of the rows at `indices`."""
        return SparseSplit(self._rows[np.asarray(indices)], self._labels[indices])


def is_sparse(value: Any) -> bool:
    """Whether a value is a sparse matrix, or array, of SciPy."""
    return hasattr(value, "tocsr") and hasattr(value, "toarray")


def as_sparse(value: Any, name: str) -> Any:
    """(N, D) by rows, of a float or uint8; as `reconjax.data.arrays.as_images`.

    Raises:
      ValueError: one line: no numbers, none at all, or some that are not finite.
    """
    if len(value.shape) != 2 or 0 in value.shape:
        raise ValueError(f"{name} has shape {value.shape}: a sparse matrix must be (N, D)")
    rows = value.tocsr()
    if rows.dtype.kind not in "biuf":
        raise ValueError(f"{name} is of dtype {rows.dtype}: it must be uint8, an integer, float")
    if rows.dtype.kind != "f" and rows.dtype != np.uint8:
        rows = rows.astype(np.float32 if rows.dtype.itemsize <= 2 else np.float64)
    if bad := int((~np.isfinite(rows.data)).sum()):
        raise ValueError(f"{name} holds {bad} values that are NaN or infinite: all must be finite")
    return rows
