import importlib
import io
import json
import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from reconjax.data import (
    SOURCES,
    Dataset,
    default_data_dir,
    digits,
    load,
    load_npz,
    load_tfds,
    prepared,
    scenes,
)

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (11, 6, 5, 3), dtype=np.uint8)
CLASSES = np.arange(11) % 3


def whole(split):
    """All examples of a split, at once."""
    return split.examples(np.arange(len(split)))


def fails(error, call, *parts):
    """Check that `call` raises an error of one line that holds all `parts`."""
    with pytest.raises(error) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 400
    for part in parts:
        assert part in message


# Splits and sets of arrays


def test_from_arrays_keeps_the_data_and_counts_classes():
    data = Dataset.from_arrays(PIXELS, CLASSES, PIXELS[:2], [4, 0], name="mine")
    images, labels = whole(data.train)
    assert (images == PIXELS).all()
    assert images.dtype == np.uint8
    assert (labels == CLASSES).all()
    assert labels.dtype == data.train.labels.dtype == np.int64
    assert data.name == "mine"
    assert data.example_shape == data.image_shape == (6, 5, 3)
    assert data.features == 90
    assert data.num_classes == 4  # those that occur, over both splits
    assert data.class_names == ("0", "1", "2", "4")
    assert data.test.labels.tolist() == [3, 0]
    assert len(data.test) == 2


def test_from_arrays_takes_names_for_classes_without_examples():
    data = Dataset.from_arrays(PIXELS, CLASSES, class_names=["a", "b", "c", "d"])
    assert data.num_classes == 4
    assert data.test is None


def test_from_arrays_adds_a_channel_and_leaves_vectors():
    assert Dataset.from_arrays(PIXELS[..., 0], CLASSES).example_shape == (6, 5, 1)
    vectors = Dataset.from_arrays(PIXELS[:, 0, 0], CLASSES)
    assert vectors.example_shape == (3,)
    fails(
        ValueError,
        lambda: vectors.image_shape,
        "arrays holds vectors of length 3; this needs images (N, H, W, C)",
    )


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (PIXELS, np.uint8),
        (PIXELS.astype(np.int64), np.float32),
        (PIXELS.astype(np.int64) + 2**24, np.float64),
        (PIXELS.astype(np.int32) - 1, np.float32),
        (PIXELS.astype(np.uint16) + 300, np.float32),
        (PIXELS > 100, np.float32),
        (PIXELS.astype(np.float16), np.float16),
        (PIXELS.astype(np.float64), np.float64),
        (jax.numpy.asarray(PIXELS), np.uint8),
    ],
)
def test_from_arrays_dtypes(given, kept):
    images, _ = whole(Dataset.from_arrays(given, CLASSES).train)
    assert images.dtype == kept
    assert (images == np.asarray(given)).all()


def test_from_arrays_takes_whole_float_labels():
    assert (Dataset.from_arrays(PIXELS, CLASSES.astype(float)).train.labels == CLASSES).all()


def spoilt(value, index=(2, 1, 0, 1)):
    images = PIXELS.astype(np.float32)
    images[index] = value
    return images


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ({"x_train": PIXELS[:0], "y_train": []}, ["x_train is empty"]),
        ({"x_train": PIXELS[0, 0, 0]}, ["x_train has shape (3,)", "(N, H, W, C)"]),
        ({"x_train": PIXELS[None, None]}, ["x_train has shape (1, 1, 11, 6, 5, 3)"]),
        ({"x_train": [[1.0], [1.0, 2.0]]}, ["x_train is no regular array"]),
        ({"x_train": PIXELS.astype(str)}, ["x_train is of dtype", "uint8"]),
        ({"x_train": spoilt(np.nan)}, ["x_train holds 1 values", "first at (2, 1, 0, 1)"]),
        ({"x_train": spoilt(np.inf, 3)}, ["x_train holds 90 values", "first at (3, 0, 0, 0)"]),
        ({"y_train": CLASSES[:4]}, ["y_train has 4 labels for 11 examples"]),
        ({"y_train": CLASSES[:, None, None]}, ["y_train has shape (11, 1, 1)", "(N, C)"]),
        ({"y_train": CLASSES - 3}, ["y_train holds -3", "0 or more"]),
        ({"y_train": CLASSES / 2, "targets": "classes"}, ["y_train holds 0.5", "whole"]),
        ({"y_train": CLASSES + np.nan}, ["y_train: no example has a label"]),
        ({"y_train": CLASSES + 0j}, ["y_train is of dtype", "whole"]),
        ({"y_train": CLASSES * 0 + 2}, ["y_train holds class 2 alone"]),
        ({"x_test": PIXELS}, ["x_test is given without y_test"]),
        ({"y_test": CLASSES}, ["y_test is given without x_test"]),
        (
            {"x_test": PIXELS[:, 1:], "y_test": CLASSES},
            ["x_test holds examples of shape (5, 5, 3)", "(6, 5, 3)"],
        ),
        ({"x_test": PIXELS / 255, "y_test": CLASSES}, ["x_test is float64", "x_train uint8"]),
        ({"x_test": PIXELS, "y_test": CLASSES[1:]}, ["y_test has 10 labels for 11"]),
        ({"class_names": ["a", "b"]}, ["class_names has 2 names", "3 classes"]),
    ],
)
def test_from_arrays_refuses(arguments, parts):
    arguments = {"x_train": PIXELS, "y_train": CLASSES, **arguments}
    fails(ValueError, lambda: Dataset.from_arrays(**arguments), *parts)


def test_labels_may_be_missing(tmp_path):
    np.savez(tmp_path / "mine.npz", x_train=PIXELS, x_test=PIXELS[:2])
    data = load_npz(tmp_path / "mine.npz")
    assert (data.num_classes, data.class_names) == (0, ())
    assert (whole(data.train)[0] == PIXELS).all()
    assert (whole(data.train)[1] == np.zeros(11)).all()
    assert len(data.test) == 2
    for argument, value in (("y_test", [0, 1]), ("class_names", ["a"])):
        given = {"x_train": PIXELS, "x_test": PIXELS[:2], argument: value}
        fails(ValueError, lambda given=given: Dataset.from_arrays(**given), argument, "y_train")


def test_batches_are_the_whole_in_order():
    split = Dataset.from_arrays(PIXELS, CLASSES).train
    images, labels = zip(*split.batches(4), strict=True)
    assert [len(part) for part in images] == [4, 4, 3]
    assert (np.concatenate(images) == PIXELS).all()
    assert (np.concatenate(labels) == CLASSES).all()
    assert len(list(split.batches())) == 1
    fails(ValueError, lambda: split.batches(0), "batch_size is 0")


def test_batches_are_copies():
    split = Dataset.from_arrays(PIXELS, CLASSES).train
    for images, labels in split.batches():
        images[:] = 0
        labels[:] = 0
    assert (whole(split)[0] == PIXELS).all()
    assert (split.labels == CLASSES).all()


def test_sample():
    numbers = np.arange(50)
    split = Dataset.from_arrays(numbers[:, None].astype(np.float32), numbers % 7).train
    drawn, labels = whole(split.sample(20))
    assert len(set(drawn[:, 0])) == 20
    assert (np.diff(drawn[:, 0]) > 0).all()
    assert (labels == drawn[:, 0] % 7).all()
    assert (whole(split.sample(20, seed=0))[0] == drawn).all()
    assert (whole(split.sample(20, seed=1))[0] != drawn).any()
    assert split.sample(50) is split.sample(99) is split
    fails(ValueError, lambda: split.sample(0), "count is 0")


# Digits


def test_digits():
    data = digits()
    images, labels = whole(data.train)
    assert (len(data.train), len(data.test)) == (1437, 360)
    assert data.image_shape == (8, 8, 1)
    assert images.dtype == np.float32
    assert set(np.unique(images * 16)) == set(range(17))
    assert (np.bincount(labels) > 100).all()
    assert data.num_classes == 10


@pytest.mark.parametrize(
    ("module", "call", "hint"),
    [
        ("sklearn.datasets", digits, "pip install scikit-learn"),
        ("tensorflow_datasets", lambda: load("tiny"), "pip install tensorflow-datasets"),
    ],
)
def test_missing_packages(module, call, hint, monkeypatch, tiny):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tiny))
    monkeypatch.setitem(sys.modules, module, None)
    fails(ImportError, call, hint)


def test_import_is_light():
    heavy = "{'sklearn', 'tensorflow_datasets', 'matplotlib', 'tensorflow'}"
    code = f"import sys, reconjax.data; print({heavy} & set(sys.modules))"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert done.stdout.strip() == "set()", done.stderr


# Scenes


@pytest.fixture(scope="module")
def made():
    return scenes(size=16, samples=500, background=0.5)


def test_scenes_shapes_and_balance(made):
    images, labels = whole(made.train)
    assert images.shape == (500, 16, 16, 3)
    assert images.dtype == np.uint8
    assert set(np.bincount(labels)) == {50}
    assert (labels != np.sort(labels)).any()
    assert len(made.test) == 100
    assert made.class_names[:2] == ("disc, solid", "square, horizontal stripes")
    assert np.bincount(whole(scenes(size=8, classes=7, samples=30).train)[1]).tolist() == [
        *(5, 5),
        *(4,) * 5,
    ]


def test_scenes_classes_are_different_pairs():
    names = scenes(size=8, classes=100, samples=100).class_names
    assert len(set(names)) == 100
    shapes, textures = zip(*(name.split(", ") for name in names[:10]), strict=True)
    assert len(set(shapes)) == len(set(textures)) == 10


def test_scenes_follow_the_seed(made):
    again = scenes(size=16, samples=500, background=0.5)
    with jax.enable_x64(True):
        wide = scenes(size=16, samples=500, background=0.5)
    other = scenes(size=16, samples=500, background=0.5, seed=1)
    images, labels = whole(made.train)
    for same in (again, wide):
        assert (whole(same.train)[0] == images).all()
        assert (same.train.labels == labels).all()
    assert (whole(other.train)[0] != images).mean() > 0.5
    assert (whole(made.test)[0] != images[:100]).mean() > 0.5


def test_scenes_do_not_depend_on_the_chunk(made, monkeypatch):
    # The package's attribute of that name is the function.
    module = importlib.import_module("reconjax.data.rendering")
    monkeypatch.setattr(module, "_CHUNK", 70)
    chunked = scenes(size=16, samples=500, background=0.5)
    assert (whole(chunked.train)[0] == whole(made.train)[0]).all()


def test_background_contrast():
    def border(background):
        images, _ = whole(scenes(size=32, samples=100, background=background).train)
        return np.stack([images[:, 0, 0], images[:, 0, -1], images[:, -1, 0], images[:, -1, -1]])

    assert len(np.unique(border(0))) == 1
    assert 0.05 < border(0.5).std() / 255 < 0.15
    assert 0.1 < border(1.0).std() / 255 < 0.3


def test_background_spectrum_falls_like_one_over_f():
    from reconjax.data.rendering import _one_over_f

    keys = jax.random.split(jax.random.key(0), 200)
    fields = np.asarray(jax.vmap(lambda key: _one_over_f(key, 32, 3))(keys))
    assert fields.dtype == np.float32
    assert fields.var() == pytest.approx(1, rel=0.05)
    power = (np.abs(np.fft.fft2(fields, axes=(1, 2))) ** 2).mean((0, 3))
    assert power[0, 2] / power[0, 8] == pytest.approx(16, rel=0.3)
    assert np.corrcoef(fields[..., 0].ravel(), fields[..., 1].ravel())[0, 1] > 0.8


def test_objects_can_be_told_apart():
    # Amplitude spectra do not change with place, nor with the sign of the colours: if classes
    # differ to the eye, their nearest mean spectrum is mostly the right one.
    data = scenes(size=32, channels=1, background=0, samples=600)

    def spectra(split):
        images, labels = whole(split)
        bare = images[..., 0] / 255 - 0.5
        spectrum = np.log1p(np.abs(np.fft.rfft2(bare))).reshape(len(bare), -1)
        return spectrum / np.linalg.norm(spectrum, axis=1, keepdims=True), labels

    train, labels = spectra(data.train)
    means = np.stack([train[labels == k].mean(0) for k in range(10)])
    test, truth = spectra(data.test)
    assert (((test[:, None] - means) ** 2).sum(2).argmin(1) == truth).mean() > 0.8


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ({"size": 7}, "size is 7"),
        ({"classes": 1}, "classes is 1"),
        ({"classes": 101}, "classes is 101"),
        ({"channels": 2}, "channels is 2"),
        ({"background": -0.1}, "background is -0.1"),
        ({"background": np.inf}, "background is inf"),
        ({"background": np.nan}, "background is nan"),
        ({"samples": 9}, "samples is 9"),
    ],
)
def test_scenes_refuses(arguments, part):
    fails(ValueError, lambda: scenes(**arguments), part)


# Files


def test_npz(tmp_path):
    path = tmp_path / "mine.npz"
    names = np.array(["x", "y", "z"])
    arrays = {"x_train": PIXELS, "y_train": CLASSES, "x_test": PIXELS[:3], "y_test": [0, 1, 2]}
    np.savez(path, **arrays, class_names=names)
    data = load_npz(path)
    assert (data.name, data.class_names) == ("mine", ("x", "y", "z"))
    assert (whole(data.train)[0] == PIXELS).all()
    assert (whole(load(str(path)).test)[1] == [0, 1, 2]).all()


def test_npz_refuses(tmp_path):
    path = tmp_path / "mine.npz"
    fails(FileNotFoundError, lambda: load_npz(path), "mine.npz", "no such file")

    np.savez(path, pictures=PIXELS, other=CLASSES)
    fails(ValueError, lambda: load_npz(path), "no x_train", "it holds other, pictures")

    np.savez(path, x_train=PIXELS, y_train=CLASSES)
    content = path.read_bytes()
    for damaged in (content[: len(content) // 2], b"text", b"", content.replace(b"\x93", b"\x92")):
        path.write_bytes(damaged)
        fails(ValueError, lambda: load_npz(path), "mine.npz cannot be read")

    np.savez(path, x_train=PIXELS, y_train=np.array([None] * 11))
    fails(ValueError, lambda: load_npz(path), "mine.npz cannot be read", "Object arrays")


# TFDS


def png(image):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def builder_of(name, version, features, examples, config=None):
    """A TFDS builder class whose splits are the lists of the dictionary `examples`."""
    import tensorflow_datasets as tfds

    tfds.disable_progress_bar()

    class Made(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version(version)
        BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=config)] if config else []

        def _info(self):
            # Without shuffling the records stay in the order of their numbers.
            return tfds.core.DatasetInfo(
                builder=self,
                features=tfds.features.FeaturesDict(features),
                disable_shuffling=True,
            )

        def _split_generators(self, dl_manager):
            return {split: iter(enumerate(found)) for split, found in examples.items()}

        def _generate_examples(self):
            raise NotImplementedError

    Made.name = name
    return Made


def write(data_dir, *args, **kwargs):
    builder_of(*args, **kwargs)(
        data_dir=str(data_dir), file_format="array_record"
    ).download_and_prepare()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A data directory with small sets, written by TFDS itself."""
    import tensorflow_datasets as tfds

    data_dir = tmp_path_factory.mktemp("tfds")
    label = tfds.features.ClassLabel(names=["ant", "bee", "cat"])
    image = tfds.features.Image(shape=(6, 5, 3))
    rows = [
        {"image": png(pixels), "label": int(k)} for pixels, k in zip(PIXELS, CLASSES, strict=True)
    ]
    usual = {"image": image, "label": label}
    write(data_dir, "tiny", "1.2.0", usual, {"train": rows, "test": rows[:4]})
    write(data_dir, "tiny", "1.10.0", usual, {"train": rows, "validation": rows[:5]})

    scan = [{"scan": row["image"], "label": row["label"]} for row in rows]
    write(data_dir, "scans", "1.0.0", {"scan": image, "label": label}, {"train": scan}, config="a")
    free = {"image": tfds.features.Image(shape=(None, None, 3)), "label": label}
    write(data_dir, "free", "1.0.0", free, {"train": rows})
    odd = [*rows, {"image": png(PIXELS[0, 1:]), "label": 0}]
    write(data_dir, "odd", "1.0.0", free, {"train": odd})

    write(data_dir, "untrained", "1.0.0", usual, {"test": rows})
    plain = {"image": image, "label": np.int64}
    write(data_dir, "unlabeled", "1.0.0", plain, {"train": rows})
    two = [{"left": row["image"], "right": row["image"], "label": 0} for row in rows]
    write(data_dir, "two", "1.0.0", {"left": image, "right": image, "label": label}, {"train": two})
    deep = tfds.features.Image(shape=(6, 5, 1), dtype=np.uint16)
    write(data_dir, "deep", "1.0.0", {"image": deep, "label": label}, {"train": rows})
    return data_dir


@pytest.fixture
def copied(tiny, tmp_path):
    """A copy of the folder of one version of the set `tiny`, to be damaged."""
    return Path(shutil.copytree(tiny / "tiny" / "1.2.0", tmp_path / "tiny" / "1.2.0"))


def test_tfds_streams_what_was_written(tiny, monkeypatch, capfd):
    def offline(*args, **kwargs):
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", offline)
    data = load_tfds("tiny", tiny)
    images, labels = zip(*data.train.batches(4), strict=True)
    assert [len(part) for part in images] == [4, 4, 3]
    assert np.concatenate(images).dtype == np.uint8
    assert (np.concatenate(images) == PIXELS).all()
    assert (np.concatenate(labels) == CLASSES).all()
    assert (data.train.labels == CLASSES).all()
    assert data.train.labels is data.train.labels  # read once
    assert data.train.labels.dtype == np.int64
    assert (data.name, data.class_names) == ("tiny", ("ant", "bee", "cat"))
    assert data.image_shape == (6, 5, 3)
    assert capfd.readouterr() == ("", "")


def test_tfds_samples_lazily(tiny):
    split = load_tfds("tiny", tiny).train
    sample = split.sample(5, seed=3)
    images, labels = whole(sample)
    in_memory = Dataset.from_arrays(PIXELS, CLASSES).train.sample(5, seed=3)
    assert (images == whole(in_memory)[0]).all()
    assert (labels == in_memory.labels).all()
    assert (sample.labels == in_memory.labels).all()
    assert (whole(sample.sample(2))[0] == whole(in_memory.sample(2))[0]).all()
    assert split.sample(11) is split


def test_labels_are_read_without_decoding(tiny, monkeypatch):
    import tensorflow_datasets as tfds

    split = load_tfds("tiny", tiny).train

    def no_decoding(self, example):
        raise AssertionError("an image was decoded")

    monkeypatch.setattr(tfds.features.Image, "decode_example_np", no_decoding)
    assert (split.labels == CLASSES).all()


def test_large_images_are_decoded_by_several_threads_in_order(tiny, monkeypatch):
    import tensorflow_datasets as tfds

    from reconjax.data import records

    monkeypatch.setattr(records, "_WORTH_THREADS", 1)
    monkeypatch.setattr(records, "_THREADS", 3)
    threads, decode = set(), tfds.features.Image.decode_example_np

    def seen(self, example):
        threads.add(threading.current_thread().name)
        return decode(self, example)

    monkeypatch.setattr(tfds.features.Image, "decode_example_np", seen)
    split = load_tfds("tiny", tiny).train
    assert (whole(split)[0] == PIXELS).all()
    assert any(name.startswith("reconjax-decode") for name in threads)
    assert not [t for t in threading.enumerate() if t.name.startswith("reconjax-decode")]


def test_labels_have_no_pass_of_their_own_when_images_are_read(tiny, monkeypatch):
    from reconjax.data import records

    def refuse(self, indices):
        raise AssertionError("labels were read alone")

    monkeypatch.setattr(records.RecordFile, "read_labels", refuse)
    assert (whole(load_tfds("tiny", tiny).train)[1] == CLASSES).all()


@pytest.mark.parametrize("threads", [1, 3])
def test_images_that_cannot_be_decoded_are_damage(tiny, monkeypatch, threads):
    import tensorflow_datasets as tfds

    from reconjax.data import records

    monkeypatch.setattr(records, "_WORTH_THREADS", 1)
    monkeypatch.setattr(records, "_THREADS", threads)

    def broken(self, example):
        raise OSError("truncated\nfile")

    split = load_tfds("tiny", tiny).train
    monkeypatch.setattr(tfds.features.Image, "decode_example_np", broken)
    split = load_tfds("tiny", tiny).train
    fails(ValueError, lambda: whole(split), "tiny (train) is damaged: truncated file")


@pytest.mark.parametrize(
    ("name", "test_size"),
    [("tiny", 5), ("tiny:1.*.*", 5), ("tiny:1.2.*", 4), ("tiny:1.2.0", 4), ("tiny:*", 5)],
)
def test_tfds_versions(tiny, name, test_size):
    # Version 1.10.0 is newer than 1.2.0; it has a validation split only.
    assert len(load(name, data_dir=tiny).test) == test_size


def test_tfds_ways_to_name_a_set(tiny, monkeypatch):
    assert len(load(str(tiny / "tiny" / "1.2.0")).test) == 4
    monkeypatch.setenv("TFDS_DATA_DIR", str(tiny))
    assert default_data_dir() == tiny
    assert len(load("tiny").test) == 5
    for name in ("scans", "scans/a", "scans/a:1.*.*"):
        assert (whole(load(name).train)[0] == PIXELS).all()
    assert load("scans").test is None
    monkeypatch.delenv("TFDS_DATA_DIR")
    assert default_data_dir() == Path.home() / "tensorflow_datasets"


def test_prepared(tiny, tmp_path):
    found = prepared(tiny)
    assert [set_.version for set_ in found if set_.name == "tiny"] == ["1.2.0", "1.10.0"]
    assert [set_.name for set_ in found] == sorted(set_.name for set_ in found)
    assert ("scans/a", "1.0.0", tiny / "scans" / "a" / "1.0.0") in found
    assert prepared(tmp_path / "none") == []

    unfinished = tmp_path / "tiny" / "incomplete.ABC_1.0.0"
    shutil.copytree(tiny / "tiny" / "1.2.0", unfinished)
    assert prepared(tmp_path) == []


def test_tfds_image_sizes(tiny):
    free = load("free", data_dir=tiny)
    assert free.image_shape == (6, 5, 3)
    assert (whole(free.train)[0] == PIXELS).all()
    odd = load("odd", data_dir=tiny).train
    fails(ValueError, lambda: whole(odd), "odd (train)", "(6, 5, 3) and (5, 5, 3)")


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("untrained", ["untrained has no split train: it has test"]),
        ("unlabeled", ["unlabeled has no class feature `label` (--target-key", "image (Image)"]),
        ("two", ["two has no feature `image`", "left (Image)", "right (Image)"]),
        ("deep", ["deep has uint16 images"]),
    ],
)
def test_tfds_refuses(tiny, name, parts):
    fails(ValueError, lambda: load(name, data_dir=tiny), *parts)


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """A data directory with a set of many features."""
    import tensorflow_datasets as tfds

    data_dir = tmp_path_factory.mktemp("many")
    features = {
        "image": tfds.features.Image(shape=(6, 5, 3)),
        "label": tfds.features.ClassLabel(names=["ant", "bee", "cat"]),
        "mask": tfds.features.Image(shape=(6, 5, 1)),
        "age": np.float32,
        "where": tfds.features.Tensor(shape=(2,), dtype=np.float64),
        "kind": tfds.features.Text(),
        "parts": tfds.features.Sequence(np.int64),
    }
    rows = [
        {
            "image": png(pixels),
            "label": -1 if n == 2 else int(k),
            "mask": png(pixels[..., 0] // 128),
            "age": n / 3,
            "where": [n, n**2],
            "kind": "odd" if n % 2 else "even",
            "parts": [1] * n,
        }
        for n, (pixels, k) in enumerate(zip(PIXELS, CLASSES, strict=True))
    ]
    write(data_dir, "many", "1.0.0", features, {"train": rows, "test": rows[:5]})
    return data_dir


def test_features_of_a_tfds_set_are_targets_by_their_names(many):
    number = np.arange(len(PIXELS))
    for key, targets in (("kind", np.where(number % 2, "odd", "even")), ("age", number / 3)):
        data = load("many", data_dir=many, target_key=key)
        expected = Dataset.from_arrays(PIXELS, targets)
        assert data.targets_text == expected.targets_text
        assert data.class_names == expected.class_names
        np.testing.assert_allclose(data.train.labels, expected.train.labels, rtol=1e-6)
        images, labels = whole(data.train.subset(np.array([3, 1])))
        assert (images == PIXELS[[3, 1]]).all()
        np.testing.assert_array_equal(labels, data.train.labels[[3, 1]])
    keys = ["label", "where", "mask"]
    data = load(many / "many" / "1.0.0", target_key=keys, target_patch="3x5")
    tasks = {
        "label": np.where(number == 2, None, np.array(["ant", "bee", "cat"])[CLASSES]),
        "where": np.stack([number, number**2], axis=1).astype(float),
        "mask": PIXELS[..., 0] // 128,
    }
    expected = Dataset.from_arrays(PIXELS, tasks, target_patch="3x5")
    assert data.targets_text == expected.targets_text
    assert data.notes == (*expected.notes, "1 test examples without a label are left out")
    np.testing.assert_allclose(data.train.labels, expected.train.labels, atol=1e-12)
    assert (whole(data.unlabeled[0])[0] == PIXELS[[2]]).all()
    assert (len(data.train), len(data.test)) == (len(PIXELS) - 1, 4)
    assert load("many", data_dir=many, target_key="label", targets="classes").num_classes == 3
    assert load("many", data_dir=many, image_key="mask").image_shape == (6, 5, 1)


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"target_key": "size"}, ["many has no feature 'size': it has ", "label (ClassLabel)"]),
        ({"target_key": "parts"}, ["target_key: 'parts' is Sequence: a class, a text, numbers"]),
        ({"target_key": "mask", "resize": 4}, ["resize: it would move the images of many"]),
        (
            {"target_key": "mask", "target_patch": 4},
            ["target_patch: 4x4 does not divide the masks"],
        ),
        ({"image_key": "age"}, ["many has no images called 'age': it has ", "image (Image)"]),
        ({"targets": "real"}, ["targets: 'real'; without --target-key many has its classes"]),
        ({"target_patch": 3}, ["target_patch: 3; without --target-key many has its classes"]),
        ({"target_key": "image", "image_key": "mask"}, ["many: image of record 0 of", "mode RGB"]),
    ],
)
def test_tfds_features_that_are_no_targets_are_refused(many, options, parts):
    fails(ValueError, lambda: load("many", data_dir=many, **options), *parts)


@pytest.mark.parametrize("name", ["cifar10", "tiny:2.*.*", "tiny/big", "scans/b"])
def test_tfds_not_prepared(tiny, name):
    fails(
        FileNotFoundError,
        lambda: load(name, data_dir=tiny),
        f"{name} is not prepared under {tiny}, and no file or folder here: prepare it with "
        f"`reconjax datasets --download {name}`, or pass --data-dir",
    )


def test_tfds_several_configurations(copied):
    root = copied.parent.parent
    for config in "ab":
        shutil.copytree(copied, root / "both" / config / "1.0.0")
    fails(ValueError, lambda: load("both", data_dir=root), "name one: both/a, both/b")


def test_tfds_damage(copied):
    name = str(copied)
    (records,) = copied.glob("*-train.array_record*")
    records.write_bytes(records.read_bytes()[:50])
    fails(ValueError, lambda: whole(load(name).train), "tiny (train) is damaged")

    description = copied / "dataset_info.json"
    stored = json.loads(description.read_text())
    description.write_text(json.dumps(stored | {"fileFormat": "tfrecord"}))
    fails(ValueError, lambda: load(name), "stored as tfrecord", "array_record")
    stored["splits"][0]["shardLengths"] = ["0"]
    description.write_text(json.dumps(stored))
    fails(ValueError, lambda: load(name), "empty")
    description.write_text("{broken")
    fails(ValueError, lambda: load(name), f"{name} cannot be read")


def test_tfds_hidden_labels(tmp_path):
    import tensorflow_datasets as tfds

    features = {
        "image": tfds.features.Image(shape=(6, 5, 3)),
        "label": tfds.features.ClassLabel(num_classes=3),
    }
    rows = [{"image": png(PIXELS[0]), "label": k} for k in (0, 1, -1)]
    write(tmp_path, "hidden", "1.0.0", features, {"train": rows})
    split = load("hidden", data_dir=tmp_path).train
    fails(ValueError, lambda: split.labels, "hidden (train) holds label -1")
    fails(ValueError, lambda: whole(split), "hidden (train) holds label -1")


def test_download(tmp_path, monkeypatch, capsys):
    import tensorflow_datasets as tfds

    features = {
        "image": tfds.features.Image(shape=(6, 5, 3)),
        "label": tfds.features.ClassLabel(num_classes=2),
    }
    rows = [{"image": png(PIXELS[k]), "label": k} for k in (0, 1)]

    def public(name, data_dir, file_format):
        made = builder_of(name, "1.0.0", features, {"train": rows})
        return made(data_dir=data_dir, file_format=file_format)

    monkeypatch.setattr(tfds, "builder", public)
    data = load("fetched", data_dir=tmp_path, download=True)
    assert (whole(data.train)[0] == PIXELS[:2]).all()
    assert capsys.readouterr().out == ""

    def unreachable(*args, **kwargs):
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr(tfds, "builder", unreachable)
    assert len(load("fetched", data_dir=tmp_path, download=True).train) == 2  # it is there
    fails(
        OSError,
        lambda: load("another", data_dir=tmp_path, download=True),
        "another could not be downloaded: no route",
    )

    def lacking(*args, **kwargs):
        raise ModuleNotFoundError("No module named 'tensorflow'")

    monkeypatch.setattr(tfds, "builder", lacking)
    fails(
        ImportError,
        lambda: load("another", data_dir=tmp_path, download=True),
        "preparing another needs another package: No module named 'tensorflow'",
    )


# Naming data


def test_load_names_data():
    assert load().name == "digits"
    made = load("scenes:size=8,classes=4,channels=1,background=0.25,samples=8")
    assert made.image_shape == (8, 8, 1)
    assert made.num_classes == 4
    assert len(made.train) == 8


@pytest.mark.parametrize(
    ("error", "name", "parts"),
    [
        (ValueError, "scenes:sise=64", ["no option 'sise'", "size, classes, channels"]),
        (ValueError, "scenes:size", ["size is ''", "whole number"]),
        (ValueError, "scenes:size=6.5", ["size is '6.5'", "whole number"]),
        (ValueError, "scenes:background=much", ["background is 'much'", "a number"]),
        (ValueError, "scenes:classes=1", ["classes is 1"]),
        (FileNotFoundError, "no data", ["'no data' names no data", "digits", "FILE.npz"]),
        (FileNotFoundError, "nonesuch", ["nonesuch is not prepared", "digits", "scenes["]),
        (FileNotFoundError, "/no/folder", ["/no/folder: no such folder"]),
        (FileNotFoundError, "no.npz", ["no.npz: no such file"]),
    ],
)
def test_load_refuses(error, name, parts, tmp_path):
    fails(error, lambda: load(name, data_dir=tmp_path), *parts)


def test_sources_tell_the_options_of_scenes():
    (line,) = [text for pattern, text in SOURCES if pattern.startswith("scenes")]
    assert "size=32" in line
    assert "background=1.0" in line
