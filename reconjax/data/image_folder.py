"""Folders of images as people have them: a folder a class, perhaps under train/ and test/.

Or masks in a folder of their own, see `reconjax.data.mask_folder`.
"""

import os
from collections import Counter
from collections.abc import Collection, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from reconjax.data.dataset import Dataset
from reconjax.data.encoded import Images, encoded_dataset, surveyed
from reconjax.data.geometry import Geometry
from reconjax.data.images import SUFFIXES, Encoded
from reconjax.data.mask_folder import mask_folder, masks_of

TRAIN = ("train", "training")
# What the test split may be called, the first that is there.
TEST = ("test", "testing", "val", "valid", "validation")


class ImageFiles:
    """Files of a folder, for `Images`."""

    def __init__(self, name: str, root: Path, paths: list[str]) -> None:
        """The files at `paths`, relative to `root`."""
        self.name, self._root, self._paths = name, str(root), paths

    def __len__(self) -> int:
        """The number of files."""
        return len(self._paths)

    def read(self, numbers: Sequence[int]) -> list[Encoded]:
        """The paths: decoding reads them."""
        return [os.path.join(self._root, self._paths[number]) for number in numbers]

    def title(self, number: int) -> str:
        """The path below the folder."""
        return self._paths[number]


def load_images(
    path: str | PathLike[str],
    *,
    geometry: Geometry | None = None,
    skip_corrupt: bool = False,
    target_key: str | Sequence[str] | None = None,
    target_patch: str | int | Sequence[int] | None = None,
) -> Dataset:
    """Opens a folder of images; their headers are read, and pixels whenever they are asked for.

    Below the folder, or below `train` and `test` (or else `val`, `validation`) in it, there is a
    folder for each class, with images at any depth. A folder with images alone has no labels.
    Hidden files and what is no image by its name are left out. The common form of the images is
    that of `reconjax.data.images`; sets of up to 256 MiB of pixels stay in memory once read.

    Args:
      path: the folder.
      geometry: see `reconjax.data.geometry`.
      skip_corrupt: leave corrupt files out; they are looked for by decoding all files at once.
      target_key: a folder of masks in place of class folders, in the folder, beside it or by its
        path, see `reconjax.data.mask_folder`; several are several tasks.
      target_patch: as in `Dataset.from_arrays`.

    Raises:
      FileNotFoundError: there is no such folder.
      ValueError: one line, where images differ in size, files are corrupt, a class folder is empty,
        there are no images, or no masks for them.

    Example:
      >>> import os, tempfile
      >>> from PIL import Image
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     for name in ("cat", "dog"):
      ...         os.makedirs(f"{folder}/{name}")
      ...         for index in range(2):
      ...             Image.new("L", (6, 4)).save(f"{folder}/{name}/{index}.png")
      ...     dataset = reconjax.data.load_images(folder)
      >>> dataset.class_names, dataset.image_shape, len(dataset.train)
      (('cat', 'dog'), (4, 6, 1), 4)
    """
    root = Path(path).expanduser()
    if not root.is_dir():
        raise FileNotFoundError(f"{path}: no such folder")
    name = root.resolve().name
    keys = [target_key] if isinstance(target_key, str) else list(dict.fromkeys(target_key or ()))
    folders = {key: mask_folder(key, root, name) for key in keys}
    left = set(folders.values())
    splits = _splits(root, name, left)
    paths: list[str] = []
    classes: list[str | None] = []
    sizes, others = [], 0
    for folder in splits:
        files, left_out = _files(root, folder, name, left)
        others += left_out
        sizes.append(len(files))
        paths += [file for file, _ in files]
        classes += [class_name for _, class_name in files]
    files_of_all = ImageFiles(name, root, paths)
    size = geometry or Geometry()
    layout, numbers = surveyed(files_of_all, size, skip_corrupt)
    notes = list(layout.notes)
    if bad := len(paths) - len(numbers):
        text = "1 corrupt image is" if bad == 1 else f"{bad} corrupt images are"
        notes.append(f"{text} left out of {len(paths)}: {_some(paths, numbers)}")
    if others:
        notes.append(f"{others} files that are no images are left out")
    images = Images(files_of_all, layout)
    parts = [numbers[numbers < sizes[0]], numbers[numbers >= sizes[0]]][: len(splits)]
    for part, folder in zip(parts, splits, strict=True):
        if not len(part):
            raise ValueError(f"{_shown(name, folder)}: no image is left that can be read")
    if folders:
        masks: dict[str, Any] = {}
        for key, folder_of_masks in folders.items():
            masks[key], note = masks_of(folder_of_masks, paths, splits, name, size)
            notes += [note] if note else []
        what = f"{name}: {' and '.join(masks)}"
        return encoded_dataset(
            name,
            images,
            parts,
            masks[keys[0]] if len(keys) == 1 else masks,
            titles=(f"{what} of the training split", f"{what} of the test split"),
            target_patch=target_patch,
            notes=notes,
        )
    in_class = np.array([value is not None for value in classes])
    if in_class.any() and not all(in_class[part].any() for part in parts):
        raise ValueError(f"{name}: {splits[0]} and {splits[-1]} must both have class folders")
    return encoded_dataset(
        name,
        images,
        parts,
        np.array(classes, object) if in_class.any() else None,
        titles=(_shown(name, splits[0]), _shown(name, splits[-1])),
        target_patch=target_patch,
        notes=notes,
    )


def is_image_folder(path: Path) -> bool:
    """Whether there is an image in the folder, at a depth of up to 3."""

    def holds(folder: Path, depth: int) -> bool:
        entries = _entries(folder)
        if any(_is_image(entry.name) for entry in entries if entry.is_file()):
            return True
        return depth > 0 and any(holds(entry, depth - 1) for entry in entries if entry.is_dir())

    return holds(path, 3)


def _splits(root: Path, name: str, left: Collection[Path]) -> list[str]:
    """The folders of the training and the test split, relative to the root; "" for the root.

    Folders in `left` are of something else.
    """
    inside = (entry for entry in _entries(root) if entry.is_dir() and entry.resolve() not in left)
    folders = {entry.name: entry for entry in inside}
    lower = {key.lower(): key for key in folders}
    train = next((lower[key] for key in TRAIN if key in lower), None)
    test = next((lower[key] for key in TEST if key in lower), None)
    named = [key for key in folders if key.lower() in (*TRAIN, *TEST)]
    rest = [key for key in folders if key not in named]
    if train is None:
        if test is not None and not rest:
            raise ValueError(f"{name} holds {test}/ and no train/: a training split is needed")
        return [""]
    below = any(entry.is_dir() for entry in _entries(folders[train]))
    if rest and not below:
        return [""]  # a class that is called train
    if rest:
        raise ValueError(
            f"{name} holds {train}/ with class folders, and {rest[0]}/ beside it: is {rest[0]} a"
            " class or another set? move one of them away"
        )
    return [train] if test is None else [train, test]


def _files(
    root: Path, split: str, name: str, left: Collection[Path]
) -> tuple[list[tuple[str, str | None]], int]:
    """(path below the root, class) of every image of a split, and the number of other files."""
    folder = root / split if split else root
    entries = _entries(folder)
    loose = sorted(entry.name for entry in entries if entry.is_file() and _is_image(entry.name))
    others = sum(entry.is_file() for entry in entries) - len(loose)
    classes = [entry for entry in entries if entry.is_dir() and entry.resolve() not in left]
    where = _shown(name, split)
    if not classes:
        if not loose:
            raise ValueError(f"{where} holds no images ({', '.join(SUFFIXES)})")
        return [(os.path.join(split, one), None) for one in loose], others
    found: list[tuple[str, str | None]] = [(os.path.join(split, one), None) for one in loose]
    for entry in sorted(classes):
        inside: Counter[str] = Counter()
        paths = []
        for here, folders, files in os.walk(entry, followlinks=True):
            kept = (one for one in folders if not _hidden(one))
            folders[:] = sorted(one for one in kept if (Path(here) / one).resolve() not in left)
            for file in sorted(files):
                if _hidden(file):
                    continue
                inside["image" if _is_image(file) else "other"] += 1
                if _is_image(file):
                    paths.append(os.path.relpath(os.path.join(here, file), root))
        if not paths:
            raise ValueError(f"{where}: class folder {entry.name}/ holds no images: move it away")
        others += inside["other"]
        found += [(one, entry.name) for one in paths]
    return found, others


def _entries(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if not _hidden(entry.name))


def _hidden(name: str) -> bool:
    return name.startswith((".", "__MACOSX")) or name == "Thumbs.db"


def _is_image(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in SUFFIXES


def _shown(name: str, split: str) -> str:
    return f"{name}/{split}" if split else name


def _some(paths: list[str], kept: np.ndarray) -> str:
    left_out = [paths[n] for n in sorted(set(range(len(paths))) - set(kept.tolist()))]
    return ", ".join(left_out[:3]) + (", ..." if len(left_out) > 3 else "")
