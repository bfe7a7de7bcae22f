"""TensorFlow Datasets, read without TensorFlow and, unless asked to download, without network."""

import contextlib
import logging
import sys
from collections.abc import Iterator, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from reconjax.data.dataset import Dataset
from reconjax.data.records import RecordFile, RecordSplit
from reconjax.data.tfds_folders import default_data_dir, described, find, is_prepared, versions_in
from reconjax.data.tfds_targets import with_targets


def load_tfds(
    name: str,
    data_dir: str | PathLike[str] | None = None,
    download: bool = False,
    *,
    image_key: str | None = None,
    target_key: str | Sequence[str] | None = None,
    targets: str | None = None,
    target_patch: int | str | Sequence[int] | None = None,
) -> Dataset:
    """Open a prepared TFDS set of images; nothing but its description is read yet.

    The set needs a feature `image`, or one image feature of another name, a class feature `label`
    and a split `train`. The split `test`, or else `validation`, becomes the test split. Targets
    that have other names are read when it is opened.

    Args:
        name: `NAME[/CONFIG][:VERSION]`, where VERSION may have `*`, as in mnist:3.*.*, and the
            newest version that matches is taken; or the folder of one prepared version.
        data_dir: where sets are prepared; by default $TFDS_DATA_DIR, or ~/tensorflow_datasets.
        download: prepare the set first, from the network, unless it is prepared already. TFDS
            tries a failing connection for some minutes.
        image_key: the feature of the images, where there are several.
        target_key: the feature of the targets, in place of `label`: classes, texts, numbers, or
            masks; several are several tasks, see `reconjax.data.tasks`.
        targets: as in `Dataset.from_arrays`, of such targets.
        target_patch: as in `Dataset.from_arrays`, of masks.

    Raises:
        FileNotFoundError: the set is not prepared, or `name` has another form.
        ValueError: the set is none that can be used, `name` is a folder or file that is no set, or
            one of its configurations is to be named.
        OSError: preparing it failed.
        ImportError: a package that is needed is missing.

    All with messages of one line.

    Example:
      >>> reconjax.data.load_tfds("mnist", data_dir="no/such/folder")
      Traceback (most recent call last):
        ...
      FileNotFoundError: mnist is not prepared ...
    """
    root = default_data_dir() if data_dir is None else Path(data_dir).expanduser()
    folder = Path(name).expanduser()
    wanted = _Wanted(image_key, _keys(target_key), targets, target_patch)
    if is_prepared(folder):
        return _open(folder, wanted)
    path_like = folder.is_absolute() or name.startswith((".", "~")) or name.endswith("/")
    if path_like and not folder.exists():
        raise FileNotFoundError(f"{name}: no such folder")
    try:
        if not path_like:
            return _open(find(name, root), wanted)
    except FileNotFoundError:
        if not download and not folder.exists():
            raise
    if folder.exists() and (path_like or not download):
        raise ValueError(_no_set(name, folder))
    return _open(_prepare(name, root), wanted)


class _Wanted(NamedTuple):
    """Options of `load_tfds`."""

    image_key: str | None
    target_key: list[str]
    targets: str | None
    target_patch: Any


def _keys(given: str | Sequence[str] | None) -> list[str]:
    return [given] if isinstance(given, str) else list(dict.fromkeys(given or ()))


def _no_set(name: str, folder: Path) -> str:
    """Why a folder or file that exists is no data set."""
    if folder.is_dir() and (versions := versions_in(folder)):
        one = (folder / versions[-1]).as_posix()
        return f"{name} holds {', '.join(versions)}: name the folder of one version, as in {one}"
    what = described(folder)
    if folder.is_dir():
        return f"{name} {what}, and no dataset_info.json: it is no version of a prepared TFDS set"
    return f"{name} {what}: data in a file are arrays in an .npz (np.savez)"


def _open(directory: Path, wanted: _Wanted) -> Dataset:
    tfds = _import_tfds()
    try:
        builder = tfds.builder_from_directory(str(directory))
        features = dict(builder.info.features or {})
        stored = set(builder.info.splits)
    except Exception as error:  # protobuf, JSON and TFDS each have errors of their own
        raise ValueError(f"{directory} cannot be read: {_line(error)}") from None
    name = builder.name
    if "train" not in stored:
        raise ValueError(f"{name} has no split train: it has {', '.join(sorted(stored))}")
    _check_targets(tfds, name, features, wanted)
    image_key = _image_key(tfds, name, features, wanted)
    test = next((split for split in ("test", "validation") if split in stored), None)
    splits = ["train"] if test is None else ["train", test]
    opened = [_open_split(tfds, builder, split, image_key) for split in splits]
    is_class = isinstance(features.get("label"), tfds.features.ClassLabel)
    plain = wanted.targets in (None, "classes") and wanted.target_patch is None
    if wanted.target_key in ([], ["label"]) and is_class and plain:
        names = tuple(features["label"].names)
        return Dataset(name, names, opened[0], opened[1] if test else None)
    keys, others = wanted.target_key, (wanted.targets, wanted.target_patch)
    return with_targets(name, features, opened, keys, *others)


def _check_targets(tfds: Any, name: str, features: dict[str, Any], wanted: _Wanted) -> None:
    """Raises ValueError unless the targets are there."""
    for key in wanted.target_key:
        if key not in features:
            raise ValueError(f"{name} has no feature {key!r}: it has {_listed(features)}")
    if wanted.target_key:
        return
    if wanted.targets == "real" or wanted.target_patch is not None:
        option = "targets" if wanted.target_patch is None else "target_patch"
        value = getattr(wanted, option)
        raise ValueError(f"{option}: {value!r}; without --target-key {name} has its classes")
    if not isinstance(features.get("label"), tfds.features.ClassLabel):
        raise ValueError(
            f"{name} has no class feature `label` (--target-key names targets): it has"
            f" {_listed(features)}"
        )


def _listed(features: dict[str, Any]) -> str:
    return ", ".join(f"{key} ({type(value).__name__})" for key, value in features.items()) or "none"


def _image_key(tfds: Any, name: str, features: dict[str, Any], wanted: _Wanted) -> str:
    """Which feature is the image, once it is seen to be fit for use."""
    images = [
        key
        for key, value in features.items()
        if isinstance(value, tfds.features.Image) and key not in wanted.target_key
    ]
    if "image" in images:
        images = ["image"]
    if wanted.image_key is not None:
        images = [key for key in (wanted.image_key,) if key in features]
        if not images or not isinstance(features[images[0]], tfds.features.Image):
            found = _listed(features)
            raise ValueError(f"{name} has no images called {wanted.image_key!r}: it has {found}")
    if len(images) != 1:
        raise ValueError(
            f"{name} has no feature `image`, nor one image alone (--image-key names one): it has"
            f" {_listed(features)}"
        )
    dtype = np.dtype(features[images[0]].np_dtype)
    if dtype not in (np.uint8, np.float32):
        raise ValueError(f"{name} has {dtype} images: they must be uint8 or float32")
    return images[0]


def _open_split(tfds: Any, builder: Any, split: str, image_key: str) -> RecordSplit:
    images = [
        key
        for key, feature in builder.info.features.items()
        if isinstance(feature, tfds.features.Image)
    ]
    # PartialDecoding, which would leave out all other features, is for tf.data alone.
    skip = {key: tfds.decode.SkipDecoding() for key in images}
    name = f"{builder.name} ({split})"
    if not builder.info.splits[split].num_examples:
        raise ValueError(f"{name} is empty: it must hold some examples")
    try:
        records = builder.as_data_source(split, decoders=skip)
    except NotImplementedError:
        raise ValueError(
            f"{builder.name} under {builder.data_dir} is stored as "
            f"{builder.info.file_format.value}, which needs TensorFlow: prepare it as array_record"
        ) from None
    feature = builder.info.features[image_key]
    file = RecordFile(name, records, feature.decode_example_np, image_key, "label")
    shape = feature.shape
    if None in shape:  # the description leaves it open, though images may well agree
        (first,), _ = file.read(np.array([0]))
        shape = first.shape
    return RecordSplit(file, np.arange(len(file)), tuple(shape))


def _prepare(name: str, data_dir: Path) -> Path:
    """Download a set and write it under `data_dir`; the folder of its version."""
    tfds = _import_tfds()
    try:
        # Standard output is for results; connections that fail are told of once, at the end.
        with contextlib.redirect_stdout(sys.stderr), _quiet("urllib3"):
            builder = tfds.builder(name, data_dir=str(data_dir), file_format="array_record")
            builder.download_and_prepare()
            return Path(builder.data_dir)
    except ImportError as error:
        raise ImportError(f"preparing {name} needs another package: {_line(error)}") from None
    except Exception as error:  # TFDS, requests and promises each have errors of their own
        raise OSError(f"{name} could not be downloaded: {_line(error)}") from None


def _import_tfds() -> Any:
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise ImportError(
            "TFDS sets need tensorflow-datasets: "
            f"pip install tensorflow-datasets array-record importlib-resources ({_line(error)})"
        ) from None
    logging.getLogger("absl").addFilter(_not_chatter)
    return tfds


def _not_chatter(record: logging.LogRecord) -> bool:
    """Drop what TFDS logs below errors, such as the advice to install OpenCV."""
    return "tensorflow_datasets" not in record.pathname or record.levelno >= logging.ERROR


@contextlib.contextmanager
def _quiet(logger_name: str) -> Iterator[None]:
    logger = logging.getLogger(logger_name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _line(error: Exception) -> str:
    """The first line of an error's message; TFDS adds long lists to some."""
    first, *_ = str(error).strip().splitlines() or [type(error).__name__]
    return first if len(first) <= 200 else f"{first[:200]}..."
