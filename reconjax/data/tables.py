"""Tables of Hugging Face `datasets`: parquet, Arrow, CSV, and sets that `save_to_disk` wrote.

The images are the column of type Image, or of bytes beside a path as other programs write it, or
the one that `image_key` names. Without images, the inputs are a column of lists or arrays of
numbers, or else all columns of numbers, a feature each. The targets are the column of type
ClassLabel, or one called label, labels, target, targets, class or y, or what `target_key` names.
Images are decoded as they are asked for; other columns are read into memory.
"""

import dataclasses
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from reconjax.data.changed import with_geometry
from reconjax.data.dataset import Dataset
from reconjax.data.encoded import Images, encoded_dataset, surveyed
from reconjax.data.geometry import Geometry
from reconjax.data.hf import cause, datasets_package, quiet
from reconjax.data.masks import StoredMasks
from reconjax.data.table_columns import check_numbers, column, finite_column
from reconjax.data.table_files import TableFiles, TableMasks
from reconjax.data.tasks import known

TABLES = (".parquet", ".arrow", ".csv")
_BUILDERS = {".parquet": "parquet", ".arrow": "arrow", ".csv": "csv"}
_TARGETS = ("label", "labels", "target", "targets", "class", "y")
_TRAIN = ("train", "training")
_TEST = ("test", "testing", "validation", "valid", "val")
_BYTES = {"bytes", "path"}


def load_table(path: str | PathLike[str], **options: Any) -> Dataset:
    """Opens a parquet, Arrow or CSV file, a folder of them, or a set that `save_to_disk` wrote.

    Args:
      path: the file or folder. Files of a folder are parted into splits by their names.
      **options: geometry, skip_corrupt, image_key, target_key, targets and others, as in
        `reconjax.data.load`.

    Raises:
      ImportError: `datasets` is missing.
      ValueError: one line: damage, or no columns that can be used.
    """
    path = Path(path).expanduser()
    package = datasets_package(f"{path}")
    try:
        with quiet(package):
            if path.is_dir() and is_saved(path):
                opened = package.load_from_disk(str(path))
            elif path.is_dir():
                kind = _BUILDERS[_suffix(path)]
                opened = package.load_dataset(kind, data_dir=str(path))
            else:
                kind = _BUILDERS[path.suffix.lower()]
                opened = package.load_dataset(kind, data_files={"train": str(path)})
    except Exception as error:  # datasets, Arrow and pandas each have errors of their own
        raise ValueError(f"{path} cannot be read as a table: {cause(error)}") from None
    return from_tables(opened, path.stem, **options)


def from_tables(
    opened: Any,
    name: str,
    *,
    geometry: Geometry | None = None,
    skip_corrupt: bool = False,
    image_key: str | None = None,
    target_key: str | Sequence[str] | None = None,
    targets: str | None = None,
    target_patch: str | int | Sequence[int] | None = None,
    **of_arrays: Any,
) -> Dataset:
    """A data set of a `datasets.Dataset` or `DatasetDict`; see the module's text.

    `of_arrays` is `channels_first` or `axes` of a column of arrays, as in `Dataset.from_arrays`.

    Raises:
      ValueError: one line: columns that are missing or cannot be used.
    """
    tables = _splits(opened, name)
    for table in tables:
        if not len(table):
            raise ValueError(f"{name}: a split is empty: it must hold some examples")
    features = tables[0].features
    named = [target_key] if isinstance(target_key, str) else list(dict.fromkeys(target_key or ()))
    for key in (image_key, *named):
        if key is not None and key not in features:
            raise ValueError(f"{name} has no column {key!r}: it has {_columns(features)}")
    for table in tables[1:]:
        if missing := set(features) - set(table.features):
            raise ValueError(f"{name}: the test split has no column {sorted(missing)[0]!r}")
    wanted = _target(features, named, image_key, name)
    images = _image(features, image_key, wanted, name)
    notes: list[str] = []
    size = geometry or Geometry()
    if images is None:
        data = _numbers(tables, features, wanted, name, targets, notes, target_patch, of_arrays)
        return with_geometry(data, size)
    for option, value in of_arrays.items():
        raise ValueError(
            f"{option}: {value!r}; it does not apply to {name}, whose images are files"
        )
    files = TableFiles(name, tables, images)
    layout, numbers = surveyed(files, size, skip_corrupt)
    notes += layout.notes
    if bad := len(files) - len(numbers):
        notes.append(f"{bad} corrupt images of {len(files)} are left out")
    decoded = Images(files, layout)
    parts = [numbers[numbers < len(tables[0])], numbers[numbers >= len(tables[0])]]
    values, kind = None, None
    if not wanted:
        notes.append(_no_target(features, images))
    else:
        values, kind = _labels(tables, wanted, name, targets, size)
    data = encoded_dataset(
        name,
        decoded,
        parts[: len(tables)],
        values,
        titles=_titles(name, wanted),
        targets=kind,
        target_patch=target_patch,
        notes=[note for note in notes if note],
    )
    return _called(data, features, wanted)


def is_saved(path: Path) -> bool:
    """Whether a folder is what `save_to_disk` writes."""
    return any((path / file).is_file() for file in ("dataset_dict.json", "state.json"))


def is_table_folder(path: Path) -> bool:
    """Whether a folder holds parquet, Arrow or CSV files, in itself or one folder deeper.

    CSV files count only where there are no others beside them: they often tell of other data.
    """
    kinds = _kinds(path)
    if kinds - {".csv"}:
        return True
    others = [entry for entry in path.iterdir() if not entry.name.startswith(".")]
    return ".csv" in kinds and all(one.suffix.lower() in (".csv", ".md", ".txt") for one in others)


def _splits(opened: Any, name: str) -> list[Any]:
    """The training split and, if there is one, the test split."""
    if not isinstance(opened, dict):
        return [opened]
    train = next((key for key in _TRAIN if key in opened), None)
    if train is None:
        if len(opened) != 1:
            raise ValueError(f"{name} has no split train: it has {', '.join(sorted(opened))}")
        (train,) = opened
    test = next((key for key in _TEST if key in opened and key != train), None)
    return [opened[train]] + ([] if test is None else [opened[test]])


def _image(features: Any, image_key: str | None, wanted: Sequence[str], name: str) -> str | None:
    """The column of images; None where there are none."""
    if image_key is not None:
        return image_key if _is_image(features[image_key], named=True) else None
    found = [key for key, value in features.items() if _is_image(value) and key not in wanted]
    if len(found) > 1:
        if "image" not in found:
            raise ValueError(f"{name} has images in {', '.join(found)}: --image-key names one")
        found = ["image"]
    return found[0] if found else None


def _is_image(feature: Any, named: bool = False) -> bool:
    kind = type(feature).__name__
    if kind == "Image":
        return True
    if isinstance(feature, dict):
        return set(feature) == _BYTES
    return named and kind == "Value" and "binary" in feature.dtype


def _target(features: Any, named: list[str], image_key: str | None, name: str) -> list[str]:
    """The columns of targets: of one task, of several, or none."""
    if named:
        return named
    classes = [key for key, value in features.items() if type(value).__name__ == "ClassLabel"]
    if len(classes) > 1:
        raise ValueError(
            f"{name} has classes in {', '.join(classes)}: --target-key names one, or several"
        )
    if classes:
        return classes
    found = [key for key in features if key.lower() in _TARGETS and key != image_key]
    if len(found) > 1:
        raise ValueError(
            f"{name} has targets in {', '.join(found)}: --target-key names one, or several"
        )
    return found


def _no_target(features: Any, images: str) -> str:
    others = [key for key in features if key != images]
    if not others:
        return ""
    return f"no column is known to be the target (--target-key names one): {_columns(features)}"


def _labels(
    tables: Sequence[Any],
    wanted: Sequence[str],
    name: str,
    targets: str | None,
    size: Geometry,
) -> tuple[Any, str | None]:
    """The targets of one task as `_targets`, or task -> targets."""
    if len(wanted) == 1:
        return _targets(tables, wanted[0], name, targets, size)
    every: dict[str, Any] = {}
    for key in wanted:
        values, _ = _targets(tables, key, name, None, size)
        feature = tables[0].features[key]
        if type(feature).__name__ == "ClassLabel":
            named = [None if np.isnan(number) else feature.names[int(number)] for number in values]
            values = np.array(named, object)
        every[key] = values
    return every, targets


def _targets(
    tables: Sequence[Any], target: str, name: str, targets: str | None, size: Geometry
) -> tuple[Any, str | None]:
    """The targets of all splits, NaN or None where there is none, and what they are."""
    if _is_image(tables[0].features[target]):
        return _masks(tables, target, name, size), targets
    if targets == "real":
        check_numbers(tables[0], target, name, needed=True)
    values = [column(table, target) for table in tables]
    feature = tables[0].features[target]
    if type(feature).__name__ != "ClassLabel":
        return np.concatenate(values), targets
    if targets == "real":
        raise ValueError(f"targets: 'real'; {target} of {name} holds classes")
    numbers = np.concatenate(values).astype(float)
    # As test splits of public sets have it whose labels are kept back.
    return np.where(numbers >= 0, numbers, np.nan), "classes"


def _masks(tables: Sequence[Any], target: str, name: str, size: Geometry) -> StoredMasks:
    """(N, H, W) masks of a column of images, changed as images are, without mixing values."""
    files = TableMasks(name, tables, target)
    return StoredMasks(files, np.arange(len(files)), size)


def _titles(name: str, wanted: Sequence[str]) -> tuple[str, str]:
    target = wanted[0] if len(wanted) == 1 else "the targets"
    return f"{name}: {target} of the training split", f"{name}: {target} of the test split"


def _called(data: Dataset, features: Any, wanted: Sequence[str]) -> Dataset:
    """With classes called as the one column of targets has it."""
    if len(wanted) != 1 or type(features[wanted[0]]).__name__ != "ClassLabel":
        return data
    names = tuple(features[wanted[0]].names[int(number)] for number in data.class_names)
    return dataclasses.replace(data, class_names=names)


def _numbers(
    tables: Sequence[Any],
    features: Any,
    wanted: Sequence[str],
    name: str,
    targets: str | None,
    notes: list[str],
    target_patch: str | int | Sequence[int] | None,
    of_arrays: dict[str, Any],
) -> Dataset:
    """A data set of columns of numbers, in memory."""
    lists = [k for k, v in features.items() if k not in wanted and _is_list(v)]
    scalars = [k for k, v in features.items() if k not in wanted and _is_number(v)]
    if len(lists) == 1:
        inputs = [finite_column(table, lists[0], name) for table in tables]
    elif lists or not scalars:
        why = "has neither images nor columns of numbers" if not lists else "has several arrays"
        raise ValueError(f"{name} {why} (--image-key names the inputs): {_columns(features)}")
    else:
        inputs = [
            np.stack([finite_column(table, key, name) for key in scalars], axis=1)
            for table in tables
        ]
        left_out = [key for key in features if key not in scalars and key not in wanted]
        for key in left_out:
            check_numbers(tables[0], key, name)
        notes.append(f"features are {_listed(scalars)}")
        if left_out:
            notes.append(f"left out, for they are no numbers: {_listed(left_out)}")
    first, x_test = inputs[0], inputs[1] if len(inputs) > 1 else None
    if not wanted:
        return _noted(Dataset.from_arrays(first, None, x_test, name=name, **of_arrays), notes)
    values, kind = _labels(tables, wanted, name, targets, Geometry())
    split = [slice(0, len(first)), slice(len(first), None)][: len(inputs)]
    if isinstance(values, dict):
        given: list[Any] = [{key: own[part] for key, own in values.items()} for part in split]
    else:
        given = [values[part] for part in split]
    # They are checked under their own names before the arrays are.
    labels = known(given, _titles(name, wanted), targets=kind, target_patch=target_patch)
    if not labels.tasks and not labels.about_masks:
        kind = "real" if labels.real_targets else "classes"
    data = Dataset.from_arrays(
        first,
        given[0],
        x_test,
        given[1] if len(given) > 1 else None,
        name=name,
        targets=kind,
        target_patch=target_patch,
        **of_arrays,
    )
    return _noted(_called(data, features, wanted), notes, labels.note)


def _noted(data: Dataset, notes: list[str], guess: str = "") -> Dataset:
    return dataclasses.replace(data, notes=(*notes, *data.notes), targets_note=guess)


def _is_list(feature: Any) -> bool:
    kind = type(feature).__name__
    if kind.startswith("Array"):
        return True
    inner = getattr(feature, "feature", None)
    return inner is not None and (_is_number(inner) or _is_list(inner))


def _is_number(feature: Any) -> bool:
    if type(feature).__name__ != "Value":
        return False
    return feature.dtype.startswith(("int", "uint", "float", "bool"))


def _columns(features: Any) -> str:
    kinds = {
        key: getattr(value, "dtype", None) if type(value).__name__ == "Value" else None
        for key, value in features.items()
    }
    return _listed([f"{k} ({kinds[k] or type(v).__name__})" for k, v in features.items()])


def _listed(names: Sequence[str], shown: int = 8) -> str:
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more


def _kinds(path: Path) -> set[str]:
    """The endings of tables in a folder, one folder deeper too."""
    files = [*path.glob("*"), *path.glob("*/*")]
    return {file.suffix.lower() for file in files if file.suffix.lower() in TABLES}


def _suffix(path: Path) -> str:
    kinds = _kinds(path)
    return next(suffix for suffix in TABLES if suffix in kinds)
