"""What lies at a path, and which door opens it."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from reconjax.data.dataset import Dataset
from reconjax.data.hub import load_hub
from reconjax.data.image_folder import is_image_folder, load_images
from reconjax.data.images import SUFFIXES
from reconjax.data.npz import load_npz
from reconjax.data.stored import HDF5, is_array_folder, is_zarr, load_hdf5, load_npy, load_zarr
from reconjax.data.tables import TABLES, is_saved, is_table_folder, load_table
from reconjax.data.tars import is_tar_folder, load_tars
from reconjax.data.tfds import load_tfds
from reconjax.data.tfds_folders import described, is_prepared, versions_in

_ARRAYS = ("channels_first", "axes", "targets", "target_key", "target_patch")
_COLUMNS = ("targets", "skip_corrupt", "image_key", "target_key", "target_patch")
_TABLE = ("channels_first", "axes", *_COLUMNS)
TFDS = ("targets", "image_key", "target_key", "target_patch")
# How to bring other files to a form that is read.
_CONVERT = {
    ".mat": "scipy.io.loadmat, then numpy.savez",
    ".pkl": "pickle.load, then numpy.savez",
    ".pickle": "pickle.load, then numpy.savez",
    ".pt": "torch.load, then numpy.savez",
    ".pth": "torch.load, then numpy.savez",
    ".tfrecord": "prepare it with TFDS as array_record",
    ".zip": "unpack it",
    ".gz": "unpack it",
    ".tgz": "unpack it",
    ".json": "datasets.load_dataset('json', ...), then save_to_disk",
    ".jsonl": "datasets.load_dataset('json', ...), then save_to_disk",
    ".xlsx": "save it as .csv",
    ".tsv": "save it as .csv",
}


class Door(NamedTuple):
    """A way to open data.

    Attributes:
      what: what lies there, for messages.
      open: makes the data set; takes `options` as keywords, and a `geometry` where `images`.
      options: the names of its options.
      images: whether it changes images itself, as it decodes them.
      path: whether the name is a path.
    """

    what: str
    open: Callable[..., Dataset]
    options: tuple[str, ...] = ()
    images: bool = False
    path: bool = True


def door_at(data: str) -> Door | None:
    """The door for a path, or for hf:NAME; None where `data` names no path.

    Raises:
      FileNotFoundError: the file is not there.
      ValueError: one line: no door opens what lies there, or two do.
    """
    if data.startswith("hf:"):
        opened = functools.partial(load_hub, data.removeprefix("hf:"))
        return Door("a set of the Hub", opened, _TABLE, images=True, path=False)
    path = Path(data).expanduser()
    if path.is_dir():
        return _folder(data, path)
    suffix = path.suffix.lower()
    door = _file(path, suffix)
    if path.exists():
        if door is None:
            raise ValueError(_unknown(data, path))
        return door
    if door is not None or suffix in _CONVERT or suffix in SUFFIXES:
        raise FileNotFoundError(f"{data}: no such file")
    return None


def _file(path: Path, suffix: str) -> Door | None:
    if suffix == ".npz":
        return Door("an .npz", functools.partial(load_npz, path), _ARRAYS)
    if suffix == ".npy":
        return Door("an array", functools.partial(load_npy, path), _ARRAYS)
    if suffix in HDF5:
        return Door("an HDF5 file", functools.partial(load_hdf5, path), _ARRAYS)
    if suffix == ".zarr":
        return Door("a Zarr store", functools.partial(load_zarr, path), _ARRAYS)
    if suffix in TABLES:
        return Door("a table", functools.partial(load_table, path), _TABLE, images=True)
    if suffix == ".tar":
        return Door("a tar file", functools.partial(load_tars, path), _COLUMNS, images=True)
    return None


def _folder(data: str, path: Path) -> Door:
    doors = []
    if is_saved(path) or is_table_folder(path):
        what = "a saved data set" if is_saved(path) else "a folder of tables"
        doors.append(Door(what, functools.partial(load_table, path), _TABLE, images=True))
    elif is_prepared(path):
        return Door("a prepared TFDS set", functools.partial(load_tfds, data), TFDS)
    if is_zarr(path):
        return Door("a Zarr store", functools.partial(load_zarr, path), _ARRAYS)
    if versions := versions_in(path):
        one = (path / versions[-1]).as_posix()
        raise ValueError(
            f"{data} holds {', '.join(versions)}: name the folder of one version, as in {one}"
        )
    if is_array_folder(path):
        doors.append(Door("a folder of arrays", functools.partial(load_npy, path), _ARRAYS))
    if is_tar_folder(path):
        what, opened = "a folder of tar files", functools.partial(load_tars, path)
        doors.append(Door(what, opened, _COLUMNS, images=True))
    if is_image_folder(path):
        what, opened = "a folder of images", functools.partial(load_images, path)
        options = ("skip_corrupt", "target_key", "target_patch")
        doors.append(Door(what, opened, options, images=True))
    if len(doors) > 1:
        raise ValueError(
            f"{data} is {' and '.join(door.what for door in doors)}: name a file, or move one away"
        )
    if not doors:
        raise ValueError(_unknown(data, path))
    return doors[0]


def _unknown(data: str, path: Path) -> str:
    """What lies there, what is missing for data, and how to come by it."""
    what = described(path)
    if path.is_dir():
        needed = (
            "it needs images in class folders, x_train.npy, parquet or tar files, or a TFDS set's"
            " dataset_info.json"
        )
        return f"{data} {what}: {needed}"
    suffix = path.suffix.lower()
    if suffix in SUFFIXES:
        return f"{data} is an image: name the folder that holds the class folders"
    way = _CONVERT.get(suffix, "save x_train and y_train as .npz (numpy.savez)")
    return f"{data} {what}, which is not read here: {way}"
