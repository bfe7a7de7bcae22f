"""A split that reads a loader: any iterable of batches (x, y), such as PyTorch's or Grain's."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from reconjax.data.arrays import as_images
from reconjax.data.dataset import Dataset
from reconjax.data.split import ArraySplit, Split
from reconjax.data.tasks import known

# Examples of so many bytes in all are kept in memory from the first pass on.
KEPT_BYTES = 2**30


class LoaderSplit(Split):
    """The examples at `numbers` (N,), sorted, of a loader that gives them in the same order always.

    Examples are found by going through the loader; labels are those of the first pass.
    """

    def __init__(
        self,
        loader: "_Loader",
        numbers: np.ndarray,
        labels: np.ndarray,
        shape: tuple[int, ...],
    ) -> None:
        """Nothing is read."""
        self._loader, self._numbers, self._labels, self._shape = loader, numbers, labels, shape

    def __len__(self) -> int:
        """The number of examples."""
        return len(self._numbers)

    @property
    def example_shape(self) -> tuple[int, ...]:
        """(H, W, C) or (D,)."""
        return self._shape

    @property
    def labels(self) -> np.ndarray:
        """(N,) int64 or (N, C) float64."""
        return self._labels

    def examples(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The examples at `indices`, by one pass over the loader up to the last of them."""
        indices = np.asarray(indices)
        wanted, inverse = np.unique(self._numbers[indices], return_inverse=True)
        parts = list(self._loader.rows(wanted))
        if not parts:
            return np.empty((0, *self._shape)), self._labels[indices]
        return np.concatenate(parts)[inverse], self._labels[indices]

    def subset(self, indices: np.ndarray) -> "LoaderSplit":
        """The split of the examples at `indices`; nothing is read."""
        indices = np.asarray(indices)
        return LoaderSplit(self._loader, self._numbers[indices], self._labels[indices], self._shape)

    def batches(self, batch_size: int | None = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """As `Split.batches`, by one pass over the loader."""
        batch_size = self._batch_size(batch_size)
        if (np.diff(self._numbers) <= 0).any():  # an order of its own: every batch is looked for
            return super().batches(batch_size)
        return self._in_order(batch_size)

    def _in_order(self, size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        held: list[np.ndarray] = []
        count = done = 0
        for part in self._loader.rows(self._numbers):
            held.append(part)
            count += len(part)
            while count >= size:
                rows = np.concatenate(held)
                yield rows[:size].copy(), self._labels[done : done + size].copy()
                held, count, done = [rows[size:]], count - size, done + size
        if count:
            yield np.concatenate(held), self._labels[done:].copy()


class _Loader:
    """Passes over an iterable of batches, whose targets are those of the first pass."""

    def __init__(
        self, batches: Iterable[Any], name: str, channels_first: bool | None, axes: str | None
    ) -> None:
        self._batches, self._name, self._how = batches, name, (channels_first, axes)
        self._targets: Any = np.zeros(0)

    def first_pass(self) -> tuple[np.ndarray | None, Any, tuple[int, ...], int]:
        """Examples (N, ...), or None where they are too large; targets; their shape; N."""
        kept: list[np.ndarray] | None = []
        targets, shape, size, count = [], None, 0, 0
        for x, y in self._pairs():
            if shape is not None and x.shape[1:] != shape:
                raise ValueError(f"{self._name}: a batch of examples {x.shape[1:]} after {shape}")
            shape, size, count = x.shape[1:], size + x.nbytes, count + len(x)
            targets.append(y)
            if size > KEPT_BYTES:
                kept = None
            if kept is not None:
                kept.append(np.array(x))
        if shape is None:
            raise ValueError(f"{self._name}: no batches; at least one is needed")
        self._targets = _joined(targets, self._name)
        if kept is None and iter(self._batches) is self._batches:
            raise ValueError(
                f"{self._name}: an iterator of more than {KEPT_BYTES >> 20} MiB; a loader that can"
                " be gone through again is needed"
            )
        return None if kept is None else np.concatenate(kept), self._targets, shape, count

    def rows(self, numbers: np.ndarray) -> Iterator[np.ndarray]:
        """The examples at `numbers`, sorted, batch by batch."""
        start = place = 0
        for x, y in self._pairs():
            if not _same(y, _part(self._targets, slice(start, start + len(x)))):
                raise ValueError(
                    f"{self._name}: targets {start} .. {start + len(x)} differ from those of the"
                    " first pass: the order must stay (shuffle=False)"
                )
            end = np.searchsorted(numbers, start + len(x))
            if end > place:
                yield x[numbers[place:end] - start]
            start, place = start + len(x), int(end)
            if place == len(numbers):
                return
        raise ValueError(f"{self._name}: {start} examples, fewer than in the first pass")

    def _pairs(self) -> Iterator[tuple[np.ndarray, Any]]:
        for batch in self._batches:
            if not isinstance(batch, tuple | list) or len(batch) != 2:
                raise ValueError(f"{self._name}: pairs (x, y) of a batch each are needed")
            x = as_images(batch[0], self._name, *self._how)
            y = batch[1]
            if isinstance(y, Mapping):
                tasks = {name: np.asarray(own) for name, own in y.items()}
            else:
                tasks = {"": np.asarray(y)}
            for own in tasks.values():
                if len(own) != len(x):
                    raise ValueError(
                        f"{self._name}: a batch of {len(own)} targets for {len(x)} examples"
                    )
            yield x, tasks if isinstance(y, Mapping) else tasks[""]


def _joined(targets: list[Any], name: str) -> Any:
    """Those of all batches, of one task or of each."""
    if not isinstance(targets[0], Mapping):
        return np.concatenate(targets)
    for own in targets:
        if not isinstance(own, Mapping) or set(own) != set(targets[0]):
            raise ValueError(f"{name}: a batch without the tasks {', '.join(targets[0])}")
    return {task: np.concatenate([own[task] for own in targets]) for task in targets[0]}


def _part(targets: Any, rows: slice) -> Any:
    if isinstance(targets, Mapping):
        return {task: own[rows] for task, own in targets.items()}
    return targets[rows]


def _same(given: Any, first: Any) -> bool:
    """Whether targets are those of the first pass; NaN, for no label, is like NaN."""
    if isinstance(given, Mapping):
        return all(_same(own, first[task]) for task, own in given.items())
    return np.array_equal(given, first, equal_nan=given.dtype.kind == "f")


def dataset_of_batches(
    train: Iterable[Any],
    test: Iterable[Any] | None,
    class_names: Any,
    name: str,
    channels_first: bool | None,
    axes: str | None,
    targets: str | None,
) -> Dataset:
    """`Dataset.from_batches`."""
    loaders = [_Loader(train, "train", channels_first, axes)]
    if test is not None:
        loaders.append(_Loader(test, "test", channels_first, axes))
    passes = [loader.first_pass() for loader in loaders]
    if len(passes) > 1 and passes[0][2] != passes[1][2]:
        raise ValueError(f"test: examples of shape {passes[1][2]}; train has {passes[0][2]}")
    labels = known(
        [each[1] for each in passes],
        ("y of train", "y of test"),
        counts=[each[3] for each in passes],
        class_names=class_names,
        targets=targets,
    )

    def split(place: int, numbers: np.ndarray, own: np.ndarray) -> Split:
        kept, _, shape, count = passes[place]
        if kept is None:
            return LoaderSplit(loaders[place], numbers, own, shape)
        return ArraySplit(kept if len(numbers) == count else kept[numbers], own)

    splits = [
        split(place, np.flatnonzero(there), own)
        for place, (there, own) in enumerate(zip(labels.there, labels.labels, strict=True))
    ]
    absent = np.flatnonzero(~labels.there[0])
    none = (split(0, absent, np.zeros(len(absent), np.int64)),) if len(absent) else ()
    return Dataset(
        name=name,
        train=splits[0],
        test=splits[1] if len(splits) > 1 else None,
        notes=labels.notes,
        unlabeled=none,
        **labels.described,
    )
