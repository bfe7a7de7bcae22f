"""Data sets kept in one .npz file."""

import zipfile
import zlib
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from reconjax.data.dataset import Dataset
from reconjax.data.keys import roles


def load_npz(
    path: str | PathLike[str],
    *,
    channels_first: bool | None = None,
    axes: str | None = None,
    targets: str | None = None,
    target_key: str | Sequence[str] | None = None,
    target_patch: str | int | Sequence[int] | None = None,
) -> Dataset:
    """Read x_train and, if there, y_train, x_test, y_test and class_names from a .npz file.

    They may be called as other programs call them, see `reconjax.data.keys`, where `target_key` is
    told too. Arrays and options are those of `Dataset.from_arrays`; the set is called by the file's
    stem. Nothing pickled is read.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, no .npz, holds objects, lacks x_train, or holds
            arrays that `Dataset.from_arrays` refuses. One line, like the former.

    Example:
      >>> import tempfile
      >>> x, y = reconjax.data.load("digits").train.examples(np.arange(50))
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     np.savez(folder + "/mine.npz", x_train=x, y_train=y)
      ...     dataset = reconjax.data.load_npz(folder + "/mine.npz")
      >>> dataset.name, len(dataset.train), dataset.num_classes
      ('mine', 50, 10)
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    arrays = _read(path, target_key)
    return Dataset.from_arrays(
        **arrays,
        name=path.stem,
        channels_first=channels_first,
        axes=axes,
        targets=targets,
        target_patch=target_patch,
    )


def _read(path: Path, target_key: str | Sequence[str] | None) -> dict[str, Any]:
    try:
        with zipfile.ZipFile(path):  # np.load takes .npy and pickles too; only a zip is an .npz
            pass
        with np.load(path, allow_pickle=False) as file:
            try:
                names = roles(file.files, str(path), target_key)
            except ValueError as error:
                misnamed = error
            else:
                return {role: _loaded(file, name) for role, name in names.items()}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path} cannot be read as .npz: {reason}") from None
    raise misnamed


def _loaded(file: Any, names: str | Mapping[str, str]) -> Any:
    """An array, or those of several tasks."""
    if isinstance(names, str):
        return file[names]
    return {task: file[name] for task, name in names.items()}
