"""The one way to name data, for programs and for the command line."""

import difflib
import inspect
from os import PathLike
from pathlib import Path
from typing import Any

from reconjax.data.dataset import Dataset
from reconjax.data.embedded import digits
from reconjax.data.npz import load_npz
from reconjax.data.rendering import scenes
from reconjax.data.targets import check_kind
from reconjax.data.tfds import load_tfds
from reconjax.data.tfds_folders import prepared

# What scenes takes, and of which type, is told by its signature alone.
_SCENES_OPTIONS = {key: p.default for key, p in inspect.signature(scenes).parameters.items()}

SOURCES: tuple[tuple[str, str], ...] = (
    ("digits", "scikit-learn's 8x8 handwritten digits; nothing to download"),
    (
        "scenes[:KEY=VALUE,...]",
        "made-up scenes; " + ", ".join(f"{key}={value}" for key, value in _SCENES_OPTIONS.items()),
    ),
    ("FILE.npz", "arrays x_train, y_train and, if wanted, x_test, y_test, class_names"),
    ("NAME[/CONFIG][:VERSION]", "a TFDS set prepared in the data directory; VERSION may have *"),
    ("FOLDER", "one version of a prepared TFDS set, wherever it lies"),
)


def load(
    data: str = "digits",
    *,
    data_dir: str | PathLike[str] | None = None,
    download: bool = False,
    channels_first: bool | None = None,
    targets: str | None = None,
) -> Dataset:
    """Open the data set that `data` names in one of the ways listed in `SOURCES`.

    Args:
        data: digits, scenes, scenes:size=64,classes=20, a path that ends in .npz, or what
            `load_tfds` takes.
        data_dir: where TFDS sets are prepared; by default $TFDS_DATA_DIR, or
            ~/tensorflow_datasets.
        download: prepare a TFDS set from the network first, unless it is prepared already.
        channels_first: of images in an .npz, as in `Dataset.from_arrays`.
        targets: of labels in an .npz, as in `Dataset.from_arrays`.

    Raises:
        ValueError: an option of scenes is unknown or out of range, or the data cannot be used.
        FileNotFoundError: no data has that name here; the message lists what can be named.
        OSError: preparing a TFDS set failed.
        ImportError: a package that is needed is missing.

    All with messages of one line.
    """
    check_kind(targets)
    file = Path(data).suffix == ".npz"
    for name, given in (("channels_first", channels_first), ("targets", targets == "real")):
        if given and not file:
            raise ValueError(f"{name}: does not apply to {data}, but to arrays in an .npz")
    if data == "digits":
        return digits()
    kind, _, options = data.partition(":")
    if kind == "scenes":
        return scenes(**_scenes_options(options))
    if file:
        return load_npz(data, channels_first=channels_first, targets=targets)
    if Path(data).suffix == ".npy":
        raise ValueError(f"{data}: a single array; save x_train and y_train in an .npz (np.savez)")
    try:
        return load_tfds(data, data_dir, download)
    except FileNotFoundError as error:
        ways = ", ".join(pattern for pattern, _ in SOURCES)
        names = ["digits", "scenes", *(one.name for one in prepared(data_dir))]
        close = difflib.get_close_matches(data.lower(), names, 1)
        meant = f"did you mean {close[0]}? " if close else ""
        raise FileNotFoundError(f"{meant}{error} (data can be {ways})") from None


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
