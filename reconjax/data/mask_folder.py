"""A folder of masks for the photographs of another one: of the same name, but for the ending.

`photos/train/park/1.jpg` has the mask `masks/train/park/1.png`, or without the name of the split
`masks/park/1.png`, or `masks/1.png` where no other image is called so.
"""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from reconjax.data.geometry import Geometry
from reconjax.data.images import SUFFIXES, Encoded
from reconjax.data.masks import StoredMasks


def mask_folder(key: str, root: Path, name: str) -> Path:
    """The folder of masks that a key names: in the folder of images, beside it, or by its path.

    Raises:
      ValueError: one line: there is none, or there are several.
    """
    given = Path(key).expanduser()
    there = [path.resolve() for path in (root / given, root.parent / given, given) if path.is_dir()]
    found = list(dict.fromkeys(there))
    if not found:
        raise ValueError(
            f"target_key: {key!r}; no folder of masks of that name is in {name}, beside it or here"
        )
    if len(found) > 1:
        raise ValueError(f"target_key: {key!r} is {found[0]} and {found[1]}: give the whole path")
    if found[0] == root.resolve():
        raise ValueError(f"target_key: {key!r}; it is the folder of the images itself")
    return found[0]


def masks_of(
    folder: Path, images: Sequence[str], splits: Sequence[str], name: str, geometry: Geometry
) -> tuple[StoredMasks, str]:
    """The masks of images, and a line about those that belong to none; "" where all do.

    Args:
      folder: of the masks.
      images: paths (N,) below the folder of images.
      splits: the folders of the splits below it; "" for the folder itself.
      name: what messages call the folder of images.
      geometry: what is done to the images.

    Raises:
      ValueError: one line: no image has a mask, a mask belongs to two images, or a name to two
        masks.
    """
    by_path: dict[str, str] = {}
    by_name: dict[str, list[str]] = {}
    for here, folders, files in os.walk(folder, followlinks=True):
        folders.sort()
        for file in sorted(files):
            stem, suffix = os.path.splitext(os.path.relpath(os.path.join(here, file), folder))
            if suffix.lower() not in SUFFIXES or file.startswith("."):
                continue
            path = stem + suffix
            if stem in by_path:
                raise ValueError(f"{folder.name} holds {by_path[stem]} and {path}: one is needed")
            by_path[stem] = path
            by_name.setdefault(os.path.basename(stem), []).append(path)
    found: list[str | None] = []
    owners: dict[str, str] = {}
    for image in images:
        stem = os.path.splitext(image)[0]
        below = (os.path.relpath(stem, s) for s in splits if s and stem.startswith(s + os.sep))
        mask = next((by_path[one] for one in (stem, *below) if one in by_path), None)
        if mask is None:
            named = by_name.get(os.path.basename(stem), [])
            if len(named) > 1:
                both = " and ".join(named[:2])
                raise ValueError(f"{name}: {image} has masks {both} in {folder.name}: which is it?")
            mask = named[0] if named else None
        if mask is not None and owners.setdefault(mask, image) != image:
            both = f"{owners[mask]} and {image}"
            raise ValueError(f"{name}: {both} have one mask, {mask} in {folder.name}: which is it?")
        found.append(mask)
    if not owners:
        some = next(iter(by_path.values()), None)
        has = "holds no images" if some is None else f"holds {some}"
        raise ValueError(
            f"{name}: no image has a mask of its name in {folder.name}: the first is {images[0]},"
            f" {folder.name} {has}"
        )
    files_of_all = _Masks(folder, found, f"{name}: {folder.name}")
    left = len(by_path) - len(owners)
    note = f"{left} masks of no image in {folder.name} are left out" if left else ""
    return StoredMasks(files_of_all, np.arange(len(images)), geometry), note


class _Masks:
    """Files of a folder, for `StoredMasks`; None for images without a mask."""

    def __init__(self, folder: Path, paths: list[str | None], title: str) -> None:
        self._folder, self._paths, self._title = str(folder), paths, title

    def read(self, numbers: Sequence[int]) -> list[Encoded | None]:
        paths = (self._paths[number] for number in numbers)
        return [None if path is None else os.path.join(self._folder, path) for path in paths]

    def title(self, number: int) -> str:
        return f"{self._title}/{self._paths[number]}"
