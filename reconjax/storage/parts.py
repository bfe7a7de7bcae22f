"""Finished parts of a long run, so that one that was killed goes on where it stopped.

A folder belongs to one run: its settings and the data are in `FOLDER/parts/run.json`, each finished
part in a file of its own, written whole. Readers never see half a file.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from reconjax.storage.files import replacing


class Parts:
    """The finished parts in a folder."""

    def __init__(self, folder: str | os.PathLike[str], settings: Mapping[str, Any]) -> None:
        """Opens the folder for a run with these settings (plain values that JSON can hold).

        Raises:
          ValueError: one line, where the folder holds unfinished parts of another run.
        """
        self._folder = Path(folder) / "parts"
        self._folder.mkdir(exist_ok=True)
        wanted = json.loads(json.dumps(settings))
        record = self._folder / "run.json"
        if record.exists():
            made = json.loads(record.read_text())
            if made != wanted:
                other = sorted(k for k in {*made, *wanted} if made.get(k) != wanted.get(k))
                raise ValueError(
                    f"--out {folder}: holds an unfinished run with another {', '.join(other)};"
                    f" go on with that one, choose another --out, or delete {self._folder}"
                )
        else:
            with replacing(record) as part:
                part.write_text(json.dumps(wanted) + "\n")

    def load(self, name: str) -> dict[str, np.ndarray] | None:
        """The arrays of a finished part, or None."""
        path = self._folder / f"{name}.npz"
        if not path.exists():
            return None
        with np.load(path) as arrays:
            return dict(arrays)

    def save(self, name: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Keeps the arrays of a finished part."""
        with replacing(self._folder / f"{name}.npz") as part:
            np.savez(part, allow_pickle=False, **arrays)

    def clear(self) -> None:
        """Removes the parts, once the whole result is written."""
        shutil.rmtree(self._folder)


def fingerprint(tree: Any) -> str:
    """A hash of every number in a tree of arrays, e.g. of `Moments`: it names the data."""
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(tree):
        array = np.ascontiguousarray(leaf)
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(array.data)
    return digest.hexdigest()[:16]
