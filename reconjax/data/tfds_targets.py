"""Targets of a TFDS set beside its usual class: any features, one task or several."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from reconjax.data.dataset import Dataset
from reconjax.data.geometry import Geometry
from reconjax.data.images import Encoded
from reconjax.data.masks import StoredMasks
from reconjax.data.records import RecordFile, RecordSplit
from reconjax.data.tasks import known


def with_targets(
    name: str,
    features: Any,
    splits: Sequence[RecordSplit],
    keys: Sequence[str],
    targets: str | None,
    target_patch: Any,
) -> Dataset:
    """The data set of the images of some splits, with features as targets, which are read at once.

    Args:
      name: of the set.
      features: of the set, by name.
      splits: the training split and, if there is one, the test split.
      keys: the features that are targets: classes, texts, numbers, or images that are masks.
      targets: as in `reconjax.data.load`, like `target_patch`.
      target_patch: see targets.

    Raises:
      ValueError: one line: a feature that is no target, damage, and as `known`.
    """
    given: list[Any] = []
    for split in splits:
        values = {key: _values(name, key, features[key], split.file) for key in keys}
        given.append(values if len(keys) > 1 else values[keys[0]])
    what = f"{name}: {' and '.join(keys)}"
    titles = f"{what} of the training split", f"{what} of the test split"
    labels = known(given, titles, targets=targets, target_patch=target_patch)
    made = [
        RecordSplit(split.file, split.indices[there], split.shape, own)
        for split, there, own in zip(splits, labels.there, labels.labels, strict=True)
    ]
    first = splits[0]
    absent = first.indices[~labels.there[0]]
    none = RecordSplit(first.file, absent, first.shape, np.zeros(len(absent), np.int64))
    return Dataset(
        name=name,
        train=made[0],
        test=made[1] if len(made) > 1 else None,
        notes=labels.notes,
        unlabeled=(none,) if len(absent) else (),
        **labels.described,
    )


def _values(name: str, key: str, feature: Any, file: RecordFile) -> Any:
    """The targets of all records; None where a class is hidden."""
    kind = type(feature).__name__
    if kind == "Image":
        return StoredMasks(_Masks(name, key, file), np.arange(len(file)), Geometry())
    stored = np.dtype(getattr(feature, "np_dtype", object)) if kind != "Text" else None
    shape = getattr(feature, "shape", (None,))
    if stored is not None and (stored.kind not in "biuf" or None in shape):
        raise ValueError(
            f"{name}: target_key: {key!r} is {kind}: a class, a text, numbers of one shape or a"
            " mask is needed"
        )
    values = file.read_values(key)
    if kind == "ClassLabel":
        return np.array([feature.names[n] if n >= 0 else None for n in values], object)
    if kind == "Text":
        return np.array([value.decode("utf-8", "replace") for value in values])
    return np.array(values)


class _Masks:
    """A feature of images, for `StoredMasks`."""

    def __init__(self, name: str, key: str, file: RecordFile) -> None:
        self._name, self._key, self._file = name, key, file

    def read(self, numbers: Sequence[int]) -> list[Encoded | None]:
        return self._file.read_values(self._key, np.asarray(numbers))

    def title(self, number: int) -> str:
        return f"{self._name}: {self._key} of record {number} of {self._file.name}"
