"""Data sets kept in one .npz file."""

import zipfile
import zlib
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from reconjax.data.dataset import Dataset

_NEEDED = ("x_train",)
_OPTIONAL = ("y_train", "x_test", "y_test", "class_names")


def load_npz(
    path: str | PathLike[str], *, channels_first: bool | None = None, targets: str | None = None
) -> Dataset:
    """Read x_train and, if there, y_train, x_test, y_test and class_names from a .npz file.

    The arrays and options are those of `Dataset.from_arrays`; the set is called by the file's stem.
    Nothing pickled is read.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, no .npz, holds objects, lacks x_train, or holds
            arrays that `Dataset.from_arrays` refuses. One line, like the former.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    arrays = _read(path)
    return Dataset.from_arrays(
        **arrays, name=path.stem, channels_first=channels_first, targets=targets
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        with zipfile.ZipFile(path):  # np.load takes .npy and pickles too; only a zip is an .npz
            pass
        with np.load(path, allow_pickle=False) as file:
            if missing := [key for key in _NEEDED if key not in file]:
                found = ", ".join(file.files) or "nothing"
                raise ValueError(f"no {' and no '.join(missing)}; found {found}")
            return {key: file[key] for key in (*_NEEDED, *_OPTIONAL) if key in file}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path} cannot be read as .npz: {reason}") from None
