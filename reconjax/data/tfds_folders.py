"""Which TFDS sets lie prepared in a data directory, found without TFDS."""

import json
import os
import re
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

_VERSION = re.compile(r"\d+\.\d+\.\d+")
_QUERY = re.compile(r"(?P<name>[\w.+-]+(/[\w.+-]+)?)(:(?P<version>[\d.*]+))?")


_SHOWN = 5  # entries of a folder in a message

# What TFDS reads without TensorFlow.
READABLE = ("array_record", "parquet")


class Prepared(NamedTuple):
    """A prepared set: its name, with "/CONFIG" if it has one, its version and its folder."""

    name: str
    version: str
    directory: Path

    @property
    def file_format(self) -> str:
        """How its records are stored, "?" where its description cannot be read."""
        try:
            stored = json.loads((self.directory / "dataset_info.json").read_text())
            # Sets from before there were several formats do not say.
            return str(stored.get("fileFormat", "tfrecord"))
        except (OSError, ValueError, AttributeError):
            return "?"

    @property
    def readable(self) -> bool:
        """Whether its records can be read here."""
        return self.file_format in READABLE


def default_data_dir() -> Path:
    """$TFDS_DATA_DIR, or else ~/tensorflow_datasets.

    Example:
      >>> import os
      >>> given = os.environ.get("TFDS_DATA_DIR")
      >>> str(reconjax.data.default_data_dir()).endswith(given or "tensorflow_datasets")
      True
    """
    return Path(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()


def is_prepared(directory: Path) -> bool:
    """Whether a folder holds one version of a prepared set."""
    return (directory / "dataset_info.json").is_file()


def described(path: Path) -> str:
    """What lies in a folder, or what a file is, that is no prepared set: for messages, one line."""
    if not path.is_dir():
        return f"is a file{f' of type {path.suffix}' if path.suffix else ''}"
    names = sorted(entry.name for entry in path.iterdir())
    folders = [name for name in names if (path / name).is_dir()]
    shown = ", ".join(name + "/" * (name in folders) for name in names[:_SHOWN])
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"is a folder that holds {shown}{more}" if names else "is an empty folder"


def versions_in(directory: Path) -> list[str]:
    """The prepared versions in the folder of a set, or of its configurations: "3.0.1", ..."""
    return [
        found.parent.relative_to(directory).as_posix()
        for pattern in ("*/dataset_info.json", "*/*/dataset_info.json")
        for found in sorted(directory.glob(pattern))
        if _VERSION.fullmatch(found.parent.name)
    ]


def prepared(data_dir: str | os.PathLike[str] | None = None) -> list[Prepared]:
    """The sets prepared under `data_dir`, sorted by name, the oldest version first.

    None stands for $TFDS_DATA_DIR, or else ~/tensorflow_datasets. A folder that does not exist
    holds no sets.

    Example:
      >>> reconjax.data.prepared("no/such/folder")
      []
    """
    root = default_data_dir() if data_dir is None else Path(data_dir).expanduser()
    found = [
        Prepared(directory.parent.relative_to(root).as_posix(), directory.name, directory)
        for pattern in ("*/*", "*/*/*")
        for directory in root.glob(pattern)
        # Preparation that was cut off leaves folders like incomplete.AB12CD_1.0.0.
        if _VERSION.fullmatch(directory.name) and is_prepared(directory)
    ]
    return sorted(found, key=lambda set_: (set_.name, _order(set_.version)))


def find(query: str, data_dir: Path) -> Path:
    """The folder of the newest version that NAME[/CONFIG][:VERSION] means.

    VERSION may have `*` in place of numbers. CONFIG may be left out if there is one alone.

    Raises:
        FileNotFoundError: `query` is not of that form, or no such set is prepared.
        ValueError: CONFIG is left out and there are several.
    """
    match = _QUERY.fullmatch(query)
    if match is None:
        raise FileNotFoundError(f"{query!r} names no data: a TFDS set is NAME[/CONFIG][:VERSION]")
    name, version = match["name"], match["version"] or "*"

    sets = [set_ for set_ in prepared(data_dir) if fnmatchcase(set_.version, version)]
    exact = [set_ for set_ in sets if set_.name == name]
    within = [set_ for set_ in sets if set_.name.startswith(f"{name}/")]
    configs = sorted({set_.name for set_ in within})
    if not exact and len(configs) > 1:
        raise ValueError(f"{name} has several configurations, name one: {', '.join(configs)}")
    if not (matching := exact or within):
        raise FileNotFoundError(
            f"{query} is not prepared under {data_dir}, and no file or folder here:"
            f" prepare it with `reconjax datasets --download {query}`, or pass --data-dir"
        )
    return matching[-1].directory


def _order(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))
