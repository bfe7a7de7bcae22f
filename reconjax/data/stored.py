"""Arrays on disk that are read row by row: .npy files, HDF5 and Zarr.

Their names are those of `reconjax.data.keys`. Inputs are never read whole; labels are.
"""

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from reconjax.data.dataset import Dataset
from reconjax.data.keys import roles
from reconjax.data.layout import Layout, layout
from reconjax.data.regions import is_mask
from reconjax.data.split import Split
from reconjax.data.targets import warn_of_many_classes
from reconjax.data.tasks import Known, known

HDF5 = (".h5", ".hdf5", ".hdf")


class StoredSplit(Split):
    """Rows (N,) of an array on disk, with their labels in memory.

    uint8 stays; other integers and truth values become floats that hold all values of their type
    (float32 up to 16 bits), floats stay.
    """

    def __init__(
        self,
        rows: Any,
        numbers: np.ndarray,
        labels: np.ndarray,
        name: str,
        how: Layout,
    ) -> None:
        """Nothing is read.

        Args:
          rows: an array of NumPy, h5py or Zarr.
          numbers: (N,) which of its rows.
          labels: (N,) or (N, C).
          name: what messages call it.
          how: how rows become examples.
        """
        self._rows, self._numbers, self._labels = rows, numbers, labels
        self._name, self._how = name, how

    def __len__(self) -> int:
        """The number of examples."""
        return len(self._numbers)

    @property
    def example_shape(self) -> tuple[int, ...]:
        """(H, W, C), (D, H, W, C) or (D,)."""
        return self._how.example_shape

    @property
    def labels(self) -> np.ndarray:
        """(N,) int64 or (N, C) float64."""
        return self._labels

    def examples(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The examples at `indices`, read. Raises ValueError for NaN and infinity, and damage."""
        indices = np.asarray(indices)
        numbers = self._numbers[indices]
        try:
            images = _read(self._rows, numbers)
        except (OSError, ValueError, RuntimeError) as error:
            raise ValueError(f"{self._name} cannot be read: {_line(error)}") from None
        images = images.astype(_stored_dtype(images.dtype), copy=False)
        if images.dtype.kind == "f" and not (finite := np.isfinite(images)).all():
            bad = np.flatnonzero(~finite.reshape(len(images), -1).all(axis=1))
            raise ValueError(
                f"{self._name} holds NaN or infinity in row {numbers[bad[0]]}: all must be finite"
            )
        return self._how.apply(images), self._labels[indices]

    def subset(self, indices: np.ndarray) -> "StoredSplit":
        """The split of the rows at `indices`; nothing is read."""
        numbers, labels = self._numbers[indices], self._labels[indices]
        return StoredSplit(self._rows, numbers, labels, self._name, self._how)


def from_stored(
    arrays: Mapping[str, Any],
    name: str,
    *,
    where: str,
    channels_first: bool | None = None,
    axes: str | None = None,
    targets: str | None = None,
    target_key: str | Sequence[str] | None = None,
    target_patch: str | int | Sequence[int] | None = None,
) -> Dataset:
    """A data set of arrays on disk.

    Args:
      arrays: name -> an array with `shape` and `dtype` that gives rows by slices and by lists.
      name: what to call the set.
      where: what messages call the file.
      channels_first: as in `Dataset.from_arrays`.
      axes: as in `Dataset.from_arrays`.
      targets: as in `Dataset.from_arrays`.
      target_key: the names of targets, see `roles`.
      target_patch: as in `Dataset.from_arrays`.

    Raises:
      ValueError: one line, as `Dataset.from_arrays` has, or names that do not fit.
    """
    role = roles(arrays, where, target_key)
    inputs = {key: arrays[role[key]] for key in ("x_train", "x_test") if key in role}
    first = {
        key: _check_rows(rows, f"{where}: {role[key]}", channels_first, axes)
        for key, rows in inputs.items()
    }
    train, test = inputs["x_train"], inputs.get("x_test")
    if test is not None:
        if test.shape[1:] != train.shape[1:]:
            raise ValueError(
                f"{where}: {role['x_test']} holds examples of shape {test.shape[1:]},"
                f" {role['x_train']} of {train.shape[1:]}"
            )
        if (test.dtype == np.uint8) != (train.dtype == np.uint8):
            raise ValueError(
                f"{where}: {role['x_test']} is {test.dtype}, {role['x_train']} {train.dtype}: uint8"
                " alone is divided by 255, so both must be uint8 or neither"
            )
    if "y_train" in role and test is not None and "y_test" not in role:
        raise ValueError(f"{where}: {role['x_test']} is there without its labels")
    counts = [rows.shape[0] for rows in inputs.values()]
    labels: Known | None = None
    if "y_train" in role:
        given = [_values(arrays, role[key]) for key in ("y_train", "y_test") if key in role]
        called = np.asarray(arrays[role["class_names"]][...]) if "class_names" in role else None
        titles = [f"{where}: {_listed(role[key])}" for key in ("y_train", "y_test") if key in role]
        labels = known(
            given,
            titles,
            counts=counts,
            class_names=None if called is None else _texts(called),
            targets=targets,
            target_patch=target_patch,
        )
        numbers = not labels.tasks and given[0].dtype.kind in "iuf" and not labels.note
        if labels.class_names and called is None and targets is None and numbers:
            warn_of_many_classes(labels.labels[0], _listed(role["y_train"]))
    splits = []
    for place, (key, rows) in enumerate(inputs.items()):
        numbers_of, own = np.arange(counts[place]), np.zeros(counts[place], np.int64)
        if labels is not None:
            numbers_of, own = np.flatnonzero(labels.there[place]), labels.labels[place]
        splits.append(StoredSplit(rows, numbers_of, own, f"{where}: {role[key]}", first[key]))
    absent = np.arange(0) if labels is None else np.flatnonzero(~labels.there[0])
    none, title = np.zeros(len(absent), np.int64), f"{where}: {role['x_train']}"
    unlabeled = StoredSplit(train, absent, none, title, first["x_train"])
    return Dataset(
        name=name,
        train=splits[0],
        test=splits[1] if len(splits) > 1 else None,
        notes=() if labels is None else labels.notes,
        unlabeled=(unlabeled,) if len(absent) else (),
        **({"class_names": ()} if labels is None else labels.described),
    )


def _values(arrays: Mapping[str, Any], names: str | Mapping[str, str]) -> Any:
    """Labels, whole but for masks, or task -> labels."""
    if not isinstance(names, str):
        return {task: _values(arrays, name) for task, name in names.items()}
    return arrays[names] if is_mask(arrays[names]) else np.asarray(arrays[names][...])


def _listed(names: str | Mapping[str, str]) -> str:
    return names if isinstance(names, str) else "the targets"


def load_npy(path: str | PathLike[str], **options: Any) -> Dataset:
    """Opens x.npy with y.npy beside it, or x_train.npy and so on, memory-mapped.

    Args:
      path: the folder, or its file of training inputs.
      **options: channels_first, axes, targets, target_key and target_patch, as in
        `reconjax.data.load`.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: one line, for names that do not fit and arrays that cannot be used.
    """
    path = Path(path).expanduser()
    folder = path if path.is_dir() else path.parent
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    files = {file.stem: file for file in sorted(folder.glob("*.npy"))}
    if not path.is_dir():
        files = _beside(path, files)
    arrays = {name: _mapped(file) for name, file in files.items()}
    name = path.name if path.is_dir() else _name(path)
    return from_stored(arrays, name, where=str(path), **options)


def load_hdf5(path: str | PathLike[str], **options: Any) -> Dataset:
    """Opens an HDF5 file with x_train, y_train, ..., or train/images, ...; see `load_npy`."""
    try:
        import h5py
    except ImportError:
        raise ImportError("HDF5 files need h5py: pip install 'reconjax[hdf5]'") from None
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    arrays: dict[str, Any] = {}
    try:
        file = h5py.File(path, "r")

        def collect(name: str, item: Any) -> None:
            if isinstance(item, h5py.Dataset) and item.shape:
                text = h5py.check_string_dtype(item.dtype) is not None
                arrays[name] = np.asarray(item.asstr()[...]) if text else item

        file.visititems(collect)
    except (OSError, ValueError, RuntimeError) as error:
        raise ValueError(f"{path} cannot be read as HDF5: {_line(error)}") from None
    return from_stored(arrays, path.stem, where=str(path), **options)


def load_zarr(path: str | PathLike[str], **options: Any) -> Dataset:
    """Opens a Zarr group with x_train, y_train, ..., or train/images, ...; see `load_npy`."""
    try:
        import zarr
    except ImportError:
        raise ImportError("Zarr stores need zarr: pip install 'reconjax[zarr]'") from None
    path = Path(path).expanduser()
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    arrays: dict[str, Any] = {}

    def collect(group: Any, above: str) -> None:
        for name, array in group.arrays():
            arrays[above + name] = array
        for name, inner in group.groups():
            collect(inner, f"{above}{name}/")

    try:
        collect(zarr.open_group(str(path), mode="r"), "")
    except Exception as error:  # Zarr has errors of its own, and those of its codecs
        raise ValueError(f"{path} cannot be read as Zarr: {_line(error)}") from None
    return from_stored(arrays, path.stem, where=str(path), **options)


def is_array_folder(path: Path) -> bool:
    """Whether a folder holds .npy files."""
    return any(path.glob("*.npy"))


def is_zarr(path: Path) -> bool:
    """Whether a folder is a Zarr store."""
    return any((path / name).is_file() for name in ("zarr.json", ".zgroup", ".zarray"))


def _beside(path: Path, files: Mapping[str, Path]) -> dict[str, Path]:
    """The files that belong to one of training inputs: those that share what its name ends in."""
    try:
        own = roles([path.stem], str(path))
    except ValueError:
        raise ValueError(
            f"{path}: an array called {path.stem} is no inputs of a training split: call it x.npy,"
            " with y.npy beside it, or x_train.npy"
        ) from None
    named = own["x_train"] != path.stem or "train" in path.stem.lower()
    kept = {}
    for stem, file in files.items():
        says = any(word in stem.lower() for word in ("train", "test", "val"))
        if says == named or stem == "class_names":
            kept[stem] = file
    return kept


def _name(path: Path) -> str:
    return f"{path.resolve().parent.name}/{path.name}"


def _mapped(file: Path) -> np.ndarray:
    try:
        return np.load(file, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(f"{file} cannot be read as .npy: {_line(error)}") from None


def _check_rows(rows: Any, name: str, channels_first: bool | None, axes: str | None) -> Layout:
    """How rows become examples. Raises ValueError for what are no inputs."""
    if 0 in rows.shape:
        raise ValueError(f"{name} is empty (shape {rows.shape}): it must hold some examples")
    if np.dtype(rows.dtype).kind not in "biuf":
        raise ValueError(
            f"{name} is of dtype {rows.dtype}: it must be uint8, another integer, float"
        )
    return layout(tuple(rows.shape), name, channels_first, axes, rows.dtype)


def _stored_dtype(dtype: np.dtype[Any]) -> Any:
    if dtype == np.uint8 or dtype.kind == "f":
        return dtype
    return np.dtype(np.float32 if dtype.itemsize <= 2 else np.float64)


def _read(rows: Any, numbers: np.ndarray) -> np.ndarray:
    """Rows of an array on disk, in any order; those that lie together are read at once."""
    if not len(numbers):
        return np.empty((0, *rows.shape[1:]), rows.dtype)
    low, high = int(numbers.min()), int(numbers.max())
    if isinstance(rows, np.ndarray):
        return np.array(rows[numbers])
    if high - low < 2 * len(numbers):  # most of what lies between is wanted
        block = np.asarray(rows[low : high + 1])
        return block[numbers - low]
    sorted_, inverse = np.unique(numbers, return_inverse=True)
    read = rows.oindex[sorted_] if hasattr(rows, "oindex") else rows[sorted_]
    return np.asarray(read)[inverse]


def _texts(values: np.ndarray) -> list[str]:
    listed = values.reshape(-1).tolist()
    return [value.decode() if isinstance(value, bytes) else str(value) for value in listed]


def _line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 200 else f"{text[:200]}..."
