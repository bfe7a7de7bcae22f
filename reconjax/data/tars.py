"""WebDataset shards: tar files in which the files of one example share their name.

`n0001.jpg` with `n0001.cls` is an image with its class. Members are read where they lie in the tar
file; nothing is unpacked. Targets are in `.cls` (a number or a text), or the field `label` of
`.json`, unless `target_key` names another ending, or a field as in `json.species`.
"""

import json
import os
import tarfile
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from reconjax.data.dataset import Dataset
from reconjax.data.encoded import Images, encoded_dataset, surveyed
from reconjax.data.geometry import Geometry
from reconjax.data.images import SUFFIXES, Encoded

_TRAIN = ("train", "training")
_TEST = ("test", "testing", "val", "valid", "validation")
_FIELD = "label"


class _Member(NamedTuple):
    """Where a file lies: in which tar file, from which byte on, how many bytes."""

    tar: Path
    start: int
    size: int

    def read(self) -> bytes:
        with self.tar.open("rb") as file:
            file.seek(self.start)
            return file.read(self.size)


def load_tars(
    path: str | PathLike[str],
    *,
    geometry: Geometry | None = None,
    skip_corrupt: bool = False,
    image_key: str | None = None,
    target_key: str | Sequence[str] | None = None,
    targets: str | None = None,
) -> Dataset:
    """Opens a tar file, or the tar files of a folder: train-000.tar, ..., perhaps test-000.tar.

    Args:
      path: the file or folder.
      geometry: see `reconjax.data.geometry`.
      skip_corrupt: leave images out that cannot be decoded.
      image_key: the ending of images, such as "jpg", where there are several.
      target_key: the ending of targets, such as "cls", or a field as in "json.label"; several are
        several tasks.
      targets: as in `Dataset.from_arrays`.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: one line: damage, no images, several for one example, or targets that are missing.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    shards = [[path]] if path.is_file() else _shards(path)
    name = path.stem if path.is_file() else path.resolve().name
    splits = [_examples(tars) for tars in shards]
    several = target_key is not None and not isinstance(target_key, str)
    keys: list[str | None] = list(target_key or ()) if several else [target_key]  # type: ignore[list-item]
    members: list[_Member] = []
    titles: list[str] = []
    values: list[list[list[Any]]] = []
    for examples in splits:
        own = []
        for title, files in examples.items():
            ending = _image_ending(files, image_key, f"{name}: {title}")
            if ending is None:
                continue
            members.append(files[ending])
            titles.append(f"{title}.{ending}")
            own.append([_target(files, one, ending) for one in keys])
        if not own:
            listed = sorted({ending for files in examples.values() for ending in files})
            raise ValueError(f"{name} holds no images: it holds {', '.join(listed) or 'nothing'}")
        values.append(own)
    files_of_all = _TarFiles(name, members, titles)
    layout, numbers = surveyed(files_of_all, geometry or Geometry(), skip_corrupt)
    notes = list(layout.notes)
    if bad := len(members) - len(numbers):
        notes.append(f"{bad} corrupt images of {len(members)} are left out")
    wanted = "cls or json" if target_key is None else " and ".join(map(str, keys))
    images = Images(files_of_all, layout)
    first, every = len(values[0]), [value for own in values for value in own]
    parts = [numbers[numbers < first], numbers[numbers >= first]][: len(values)]
    columns = {key: [row[place] for row in every] for place, key in enumerate(keys)}
    for key, column in columns.items():
        if key is not None and not any(value is not None for value in column):
            raise ValueError(f"{name}: none of {len(every)} images has a target ({key})")
    labels = {
        key: _with_gaps(own) for key, own in columns.items() if any(v is not None for v in own)
    }
    if not labels:
        notes.append("no targets are known (--target-key names their ending)")
    tasks = {str(key): own for key, own in labels.items()}
    return encoded_dataset(
        name,
        images,
        parts,
        tasks if several else next(iter(labels.values()), None),
        titles=(f"{name}: {wanted} of the training split", f"{name}: {wanted} of the test split"),
        targets=targets,
        notes=notes,
    )


def is_tar_folder(path: Path) -> bool:
    """Whether a folder holds tar files."""
    return any(path.glob("*.tar"))


class _TarFiles:
    """The images of tar files, for `Images`."""

    def __init__(self, name: str, members: Sequence[_Member], titles: Sequence[str]) -> None:
        self.name, self._members, self._titles = name, members, titles

    def __len__(self) -> int:
        return len(self._members)

    def read(self, numbers: Sequence[int]) -> list[Encoded]:
        return [self._members[number].read() for number in numbers]

    def title(self, number: int) -> str:
        return self._titles[number]


def _shards(folder: Path) -> list[list[Path]]:
    """The tar files of the training split and, if there are any, of the test split."""
    tars = sorted(folder.glob("*.tar"))

    def called(words: Sequence[str]) -> list[Path]:
        parts = [tar for word in words for tar in tars if _first_word(tar) == word]
        return [tar for tar in parts if _first_word(tar) == _first_word(parts[0])]

    train, test = called(_TRAIN), called(_TEST)
    if not train:
        if test:
            raise ValueError(f"{folder} holds {test[0].name} and no train-*.tar")
        return [tars]
    return [train, test] if test else [train]


def _first_word(tar: Path) -> str:
    stem = tar.stem.lower()
    return "".join(letter if letter.isalpha() else " " for letter in stem).split(" ")[0]


def _examples(tars: Sequence[Path]) -> dict[str, dict[str, _Member]]:
    """Example -> ending -> member, in the order of the files."""
    examples: dict[str, dict[str, _Member]] = {}
    for tar in tars:
        try:
            with tarfile.open(tar, "r:") as file:
                for info in file:
                    directory, base = os.path.split(info.name)
                    if not info.isfile() or base.startswith("."):
                        continue
                    stem, _, ending = base.partition(".")
                    key = f"{tar.name}/{os.path.join(directory, stem)}"
                    member = _Member(tar, info.offset_data, info.size)
                    examples.setdefault(key, {})[ending.lower()] = member
        except (tarfile.TarError, OSError, EOFError) as error:
            raise ValueError(
                f"{tar} cannot be read as tar: {' '.join(str(error).split())}"
            ) from None
    return examples


def _image_ending(files: dict[str, _Member], image_key: str | None, where: str) -> str | None:
    if image_key is not None:
        return image_key if image_key in files else None
    found = [ending for ending in files if f".{ending.rpartition('.')[2]}" in SUFFIXES]
    if len(found) > 1:
        raise ValueError(f"{where} has images {', '.join(found)}: --image-key names one")
    return found[0] if found else None


def _target(files: dict[str, _Member], target_key: str | None, image: str) -> Any:
    """The target of an example; None where it has none."""
    ending, _, field = (target_key or "").partition(".")
    if target_key is None:
        ending = "cls" if "cls" in files else "json"
    if ending not in files or ending == image:
        return None
    text = files[ending].read().decode("utf-8", "replace").strip()
    if ending != "json":
        return text or None
    try:
        return json.loads(text)[field or _FIELD]
    except (ValueError, KeyError, TypeError):
        return None


def _with_gaps(values: Sequence[Any]) -> np.ndarray:
    """Targets (M,) or (M, C) in which NaN or None stands for those that are None."""
    there = np.array([value is not None for value in values])
    known = _array([value for value in values if value is not None])
    if there.all():
        return known
    numbers = known.dtype.kind in "iuf"
    filled = np.full((len(values), *known.shape[1:]), np.nan if numbers else None)
    filled[there] = known
    return filled


def _array(values: Sequence[Any]) -> np.ndarray:
    """Targets as whole numbers or floats where all of them are, else as they are."""
    if all(isinstance(value, str) for value in values):
        for kind in (int, float):
            try:
                return np.array([kind(value) for value in values])
            except ValueError:
                continue
    try:
        return np.array(values)
    except ValueError:
        return np.array(values, object)
