"""The one way to name data, for programs and for the command line."""

import difflib
import inspect
from collections.abc import Sequence
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from reconjax.data.changed import with_geometry, with_test_split
from reconjax.data.dataset import Dataset
from reconjax.data.embedded import digits
from reconjax.data.geometry import Geometry, Size, geometry
from reconjax.data.paths import TFDS, Door, door_at
from reconjax.data.rendering import scenes
from reconjax.data.targets import check_kind
from reconjax.data.tfds import load_tfds
from reconjax.data.tfds_folders import find, prepared

# What scenes takes, and of which type, is told by its signature alone.
_SCENES_OPTIONS = {key: p.default for key, p in inspect.signature(scenes).parameters.items()}

SOURCES: tuple[tuple[str, str], ...] = (
    ("digits", "scikit-learn's 8x8 handwritten digits; nothing to download"),
    (
        "scenes[:KEY=VALUE,...]",
        "made-up scenes; " + ", ".join(f"{key}={value}" for key, value in _SCENES_OPTIONS.items()),
    ),
    (
        "FOLDER",
        "images in class folders, perhaps under train/ and test/ or val/; or --target-key MASKS",
    ),
    (
        "FILE.npz, .npy, .h5, .zarr",
        "arrays x_train, y_train[, x_test, y_test]; train_images, ...",
    ),
    ("FILE.parquet, .arrow, .csv", "a table with images or features; a folder of them"),
    ("FILE.tar", "WebDataset shards; a folder of them"),
    ("hf:NAME[/CONFIG]", "a set of the Hugging Face Hub, or of its cache; or a saved one's folder"),
    ("NAME[/CONFIG][:VERSION]", "a TFDS set prepared in the data directory; VERSION may have *"),
)


def load(
    data: str | PathLike[str] = "digits",
    *,
    data_dir: str | PathLike[str] | None = None,
    download: bool = False,
    channels_first: bool | None = None,
    axes: str | None = None,
    targets: str | None = None,
    resize: Size | None = None,
    crop: Size | None = None,
    gray: bool | None = False,
    test_share: float | None = None,
    skip_corrupt: bool | None = False,
    image_key: str | None = None,
    target_key: str | Sequence[str] | None = None,
    target_patch: Size | None = None,
    seed: int = 0,
) -> Dataset:
    """Open the data set that `data` names in one of the ways listed in `SOURCES`.

    A path that exists is read as what lies there, never as the name of a TFDS set.

    Args:
        data: digits, scenes, scenes:size=64,classes=20, a path, hf:NAME, or what `load_tfds` takes.
        data_dir: where TFDS sets are prepared; by default $TFDS_DATA_DIR, or
            ~/tensorflow_datasets.
        download: prepare a TFDS set from the network first, unless it is prepared already.
        channels_first: of images in arrays, as in `Dataset.from_arrays`.
        axes: what the axes of arrays are, as in `Dataset.from_arrays`.
        targets: of labels in arrays and tables, as in `Dataset.from_arrays`.
        resize: the size of images, 32 or "48x64" (height x width), or "48x64:lanczos" with one of
            Pillow's filters; see `reconjax.data.geometry`.
        crop: the size of their centered part that is kept, after resizing.
        gray: make colors gray.
        test_share: the share of each class that becomes the test split, where there is none.
        skip_corrupt: leave out images that cannot be decoded.
        image_key: the column of a table, the ending in a tar file, or the feature of a TFDS set
            that holds images.
        target_key: the same for targets, the names of targets among arrays, or the folder of masks
            for a folder of images; several are several tasks, see `reconjax.data.tasks`.
        target_patch: of masks, the size of a patch, as in `Dataset.from_arrays`.
        seed: of the test split that `test_share` draws.

    Raises:
        ValueError: an option is out of range or does not apply, or the data cannot be used.
        FileNotFoundError: no data has that name here; the message lists what can be named.
        OSError: preparing a TFDS set or reaching the Hub failed.
        ImportError: a package that is needed is missing.

    All with messages of one line.

    Example:
        >>> data = reconjax.data.load("digits", resize="4x4:box", test_share=None)
        >>> data.image_shape
        (4, 4, 1)
    """
    check_kind(targets)
    size = geometry(resize, crop, gray)
    options = {
        "channels_first": channels_first,
        "axes": axes,
        "targets": targets,
        "skip_corrupt": skip_corrupt or None,
        "image_key": image_key,
        "target_key": _keys(target_key),
        "target_patch": target_patch,
    }
    given = {key: value for key, value in options.items() if value is not None}
    opened = _opened(fspath(data), size, given, data_dir, download)
    return opened if test_share is None else with_test_split(opened, test_share, seed)


def _keys(given: str | Sequence[str] | None) -> str | list[str] | None:
    """One key, or several."""
    if given is None or isinstance(given, str):
        return given
    several = list(dict.fromkeys(given))
    return None if not several else several[0] if len(several) == 1 else several


def _opened(
    data: str, size: Geometry, given: dict[str, Any], data_dir: Any, download: bool
) -> Dataset:
    kind, _, rest = data.partition(":")
    door = None if data == "digits" or kind == "scenes" else door_at(data)
    if door is not None:
        _check_options(data, given, door.options)
        _check_one_name(data, data_dir, door)
        taken = {**given, "geometry": size} if door.images else given
        opened = door.open(**taken)
        return opened if door.images else with_geometry(opened, size)
    _check_options(data, given, () if data == "digits" or kind == "scenes" else TFDS)
    if data == "digits":
        return with_geometry(digits(), size)
    if kind == "scenes":
        return with_geometry(scenes(**_scenes_options(rest)), size)
    try:
        return with_geometry(load_tfds(data, data_dir, download, **given), size)
    except FileNotFoundError as error:
        ways = ", ".join(pattern for pattern, _ in SOURCES)
        names = ["digits", "scenes", *(one.name for one in prepared(data_dir))]
        close = difflib.get_close_matches(data.lower(), names, 1)
        meant = f"did you mean {close[0]}? " if close else ""
        raise FileNotFoundError(f"{meant}{error} (data can be {ways})") from None


def _check_options(data: str, given: dict[str, Any], allowed: Sequence[str]) -> None:
    for name, value in given.items():
        # Classes are what sets without arrays have.
        plain = name == "targets" and value == "classes"
        if name not in allowed and not plain:
            where = {
                "channels_first": "arrays in a file",
                "axes": "arrays in a file",
                "target_patch": "masks in arrays, tables, folders and TFDS sets",
                "targets": "arrays in a file, to tables, and to TFDS sets",
                "skip_corrupt": "images that are stored as files",
                "target_key": "arrays in a file, tables, tar files, masks in folders, TFDS sets",
            }.get(name, "tables, tar files and TFDS sets")
            raise ValueError(f"{name}: does not apply to {data}, but to {where}")
    for name in set(given) - set(allowed):
        del given[name]


def _check_one_name(data: str, data_dir: Any, door: Door) -> None:
    """Raises ValueError for a path that is also the name of a prepared TFDS set."""
    if not door.path or not data.replace("/", "").replace("_", "").isalnum():
        return
    from reconjax.data.tfds_folders import default_data_dir

    root = default_data_dir() if data_dir is None else Path(data_dir).expanduser()
    try:
        find(data, root)
    except (FileNotFoundError, ValueError):
        return
    raise ValueError(
        f"{data}: {door.what} lies here, and a TFDS set of that name is prepared under {root}: say"
        f" ./{data} for the former, {data}:* for the latter"
    )


def _scenes_options(text: str) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for item in text.split(",") if text else ():
        key, _, value = item.partition("=")
        if key not in _SCENES_OPTIONS:
            raise ValueError(f"scenes has no option {key!r}: it has {', '.join(_SCENES_OPTIONS)}")
        kind = type(_SCENES_OPTIONS[key])
        try:
            options[key] = kind(value)
        except ValueError:
            what = "a whole number" if kind is int else "a number"
            raise ValueError(f"scenes option {key} is {value!r}: it must be {what}") from None
    return options
