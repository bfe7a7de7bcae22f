"""Arrays on disk, as NumPy, Keras, MedMNIST, h5py and Zarr users write them."""

import h5py
import numpy as np
import pytest
from files import pictures, refused, whole

import reconjax as rj
from reconjax.data import Dataset, ManyClassesWarning, load
from reconjax.data.keys import roles

X = pictures(20)
Y = np.arange(20) % 3
X_TEST, Y_TEST = X[:6], Y[:6]


def check(data, images=X, labels=Y, held=X_TEST):
    np.testing.assert_array_equal(whole(data.train)[0], images)
    np.testing.assert_array_equal(whole(data.train)[1], labels)
    assert whole(data.train)[0].dtype == images.dtype
    if held is None:
        assert data.test is None
    else:
        np.testing.assert_array_equal(whole(data.test)[0], held)
        np.testing.assert_array_equal(data.test.labels, Y_TEST)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["x_train", "y_train", "x_test", "y_test"], "x_train y_train x_test y_test"),
        (
            [f"{s}_{k}" for s in ("train", "val", "test") for k in ("images", "labels")],
            "train_images train_labels test_images test_labels",
        ),
        (["train/x", "train/y", "valid/x", "valid/y"], "train/x train/y valid/x valid/y"),
        (["X_train", "Y_train", "X_val", "Y_val"], "X_train Y_train X_val Y_val"),
        (["X", "y"], "X y"),
        (["images", "labels", "mean", "class_names"], "images labels"),
        (["data", "target"], "data target"),
        (["features"], "features"),
    ],
)
def test_names_that_programs_give_to_arrays(names, expected):
    found = roles(names, "file")
    keys = [key for key in ("x_train", "y_train", "x_test", "y_test") if key in found]
    assert [found[key] for key in keys] == expected.split()


@pytest.mark.parametrize(
    ("names", "part"),
    [
        ([], "no x_train (nor train_images, x or images); it holds nothing"),
        (["x_test", "y_test"], "no x_train"),
        (["x_train", "train_images"], "train_images and x_train both fit"),
        (["x_train", "x"], "x_train and x both fit as x_train"),
        (["x_train", "y_train", "y_test"], "y_test is there without its inputs"),
        (["x_train", "x_test", "y_test"], "y_test is there without labels to train on"),
    ],
)
def test_names_that_do_not_fit(names, part):
    refused(lambda: roles(names, "file"), part)


def test_medmnist(tmp_path):
    np.savez_compressed(
        tmp_path / "pathmnist.npz",
        train_images=X,
        train_labels=Y[:, None].astype(np.uint8),
        val_images=X[6:9],
        val_labels=Y[6:9, None].astype(np.uint8),
        test_images=X_TEST,
        test_labels=Y_TEST[:, None].astype(np.uint8),
    )
    data = load(str(tmp_path / "pathmnist.npz"))
    check(data)
    assert (data.name, data.targets_text) == ("pathmnist", "3 classes")


def test_arrays_beside_each_other_are_mapped(tmp_path, monkeypatch):
    for name, array in {"x": X, "y": Y, "x_train": X[::-1], "y_train": Y[::-1]}.items():
        np.save(tmp_path / f"{name}.npy", array)
    np.save(tmp_path / "x_test.npy", X_TEST)
    np.save(tmp_path / "y_test.npy", Y_TEST)
    check(load(str(tmp_path / "x.npy")), held=None)
    data = load(str(tmp_path / "x_train.npy"))
    check(data, X[::-1], Y[::-1])
    assert isinstance(data.train._rows, np.memmap)
    refused(lambda: load(str(tmp_path)), "x_train and x both fit")
    (tmp_path / "x.npy").unlink()
    check(load(str(tmp_path)), X[::-1], Y[::-1])
    refused(lambda: load(str(tmp_path / "x_test.npy")), "x_test is no inputs", "x_train.npy")
    refused(lambda: load(str(tmp_path / "x.npy")), "no such file", error=FileNotFoundError)
    (tmp_path / "x.npy").write_bytes(b"\x93NUMPY broken")
    refused(lambda: load(str(tmp_path / "x.npy")), "x.npy cannot be read as .npy")


def test_a_mapped_array_is_read_by_batches(tmp_path):
    np.save(tmp_path / "x.npy", X)
    np.save(tmp_path / "y.npy", Y)
    split = load(str(tmp_path / "x.npy")).train
    read = []
    rows = split._rows

    class Seen:
        shape, dtype = rows.shape, rows.dtype

        def __getitem__(self, key):
            part = rows[key]
            read.append(len(part))
            return part

    split._rows = Seen()
    found = rj.moments_from_batches(split.batches(6), num_classes=3)
    right = rj.moments(X, Y, num_classes=3)
    np.testing.assert_allclose(found.second_moment, right.second_moment, atol=1e-12)
    assert read == [6, 6, 6, 2]
    part = split.subset(np.array([17, 3, 3]))
    np.testing.assert_array_equal(whole(part)[0], X[[17, 3, 3]])


@pytest.mark.parametrize("groups", [False, True])
def test_hdf5(tmp_path, groups):
    path = tmp_path / "set.h5"
    with h5py.File(path, "w") as file:
        for split, x, y in (("train", X, Y), ("test", X_TEST, Y_TEST)):
            names = (
                (f"{split}/images", f"{split}/labels") if groups else (f"x_{split}", f"y_{split}")
            )
            file.create_dataset(names[0], data=x, chunks=(4, 6, 5, 3), compression="gzip")
            file.create_dataset(names[1], data=y)
        file["class_names"] = ["a", "b", "c"]
    data = load(str(path))
    check(data)
    assert data.class_names == ("a", "b", "c")
    picked = np.array([19, 0, 7, 7])
    np.testing.assert_array_equal(data.train.examples(picked)[0], X[picked])
    np.testing.assert_array_equal(whole(data.train.sample(4))[1], data.train.sample(4).labels)
    content = path.read_bytes()
    (tmp_path / "cut.h5").write_bytes(content[:100])
    refused(lambda: load(str(tmp_path / "cut.h5")), "cut.h5 cannot be read as HDF5")


@pytest.mark.parametrize("version", [2, 3])
def test_zarr(tmp_path, version):
    zarr = pytest.importorskip("zarr")
    path = tmp_path / "set.zarr"
    group = zarr.open_group(str(path), mode="w", zarr_format=version)
    for name, array in (("x_train", X), ("y_train", Y)):
        group.create_array(name, data=array, chunks=(4, *array.shape[1:]))
    held = group.create_group("test")
    held.create_array("images", data=X_TEST)
    held.create_array("labels", data=Y_TEST)
    data = load(str(path))
    check(data)
    picked = np.array([19, 0, 7, 7])
    np.testing.assert_array_equal(data.train.examples(picked)[0], X[picked])
    refused(lambda: load(str(tmp_path / "no.zarr")), "no such file", error=FileNotFoundError)


def test_what_stored_arrays_are_taken_for(tmp_path):
    def saved(x, y, **options):
        np.save(tmp_path / "x.npy", x)
        np.save(tmp_path / "y.npy", y)
        return load(str(tmp_path / "x.npy"), **options)

    deep = X.astype(np.uint16) * 200
    found = whole(saved(deep, Y).train)[0]
    np.testing.assert_array_equal(found, deep)
    assert found.dtype == np.float32
    assert saved(X[..., 0], Y).image_shape == (6, 5, 1)
    first = np.moveaxis(np.repeat(X, 4, axis=-1), -1, 1)
    refused(lambda: saved(first[..., :5, :], Y), "--channels-first")
    moved = saved(first, Y, channels_first=True)
    np.testing.assert_array_equal(whole(moved.train)[0], np.repeat(X, 4, axis=-1))
    assert saved(X, Y / 2).targets_text == "1 real target"
    assert saved(X, np.array(["u", "v", "w"])[Y]).class_names == ("u", "v", "w")
    with pytest.warns(ManyClassesWarning, match="y: integers taken"):
        saved(X, np.arange(20))
    refused(lambda: saved(X, Y[:7]), "has 7 labels for 20 examples")
    refused(lambda: saved(X, np.full(20, np.nan)), "no example has a label")
    refused(lambda: saved(X[:0], Y[:0]), "is empty")
    few = saved(X, np.where(np.arange(20) < 15, Y, -1))
    assert (len(few.train), len(few.unlabeled[0])) == (15, 5)
    np.testing.assert_array_equal(whole(few.unlabeled[0])[0], X[15:])
    refused(lambda: saved(X.astype(str), Y), "is of dtype")
    spoilt = X.astype(np.float64)
    spoilt[13] = np.nan
    data = saved(spoilt, Y)
    refused(lambda: whole(data.train), "x.npy: x holds NaN or infinity in row 13")
    np.save(tmp_path / "x_train.npy", X)
    np.save(tmp_path / "y_train.npy", Y)
    np.save(tmp_path / "x_test.npy", X_TEST / 255)
    refused(lambda: load(str(tmp_path / "x_train.npy")), "x_test is float64, x_train uint8")
    np.save(tmp_path / "x_test.npy", X_TEST[:, 1:])
    refused(lambda: load(str(tmp_path / "x_train.npy")), "examples of shape (5, 5, 3)")
    np.save(tmp_path / "x_test.npy", X_TEST)
    refused(lambda: load(str(tmp_path / "x_train.npy")), "x_test is there without its labels")


# Loaders


def loader(x=X, y=Y, size=6):
    return [(x[i : i + size], y[i : i + size]) for i in range(0, len(x), size)]


class Torchlike:
    """What NumPy takes for an array without being one, as PyTorch's tensors on a CPU are."""

    def __init__(self, values):
        self.values = values

    def __array__(self, dtype=None, copy=None):
        return self.values

    def __len__(self):
        return len(self.values)


@pytest.mark.parametrize("kept", [2**30, 0])
def test_batches_of_a_loader(monkeypatch, kept):
    from reconjax.data import batched

    monkeypatch.setattr(batched, "KEPT_BYTES", kept)
    data = Dataset.from_batches(loader(), loader(X_TEST, Y_TEST))
    check(data)
    assert [len(y) for _, y in data.train.batches(7)] == [7, 7, 6]
    part = data.train.subset(np.array([2, 9, 17]))
    np.testing.assert_array_equal(whole(part)[0], X[[2, 9, 17]])
    np.testing.assert_array_equal(np.concatenate([x for x, _ in part.batches(2)]), X[[2, 9, 17]])
    turned = data.train.subset(np.array([9, 2, 2]))
    np.testing.assert_array_equal(np.concatenate([x for x, _ in turned.batches(2)]), X[[9, 2, 2]])
    folds = rj.fold_moments(data.train, 3, num_classes=3)
    memory = rj.fold_moments(Dataset.from_arrays(X, Y).train, 3, num_classes=3)
    np.testing.assert_allclose(folds.second_moment, memory.second_moment, atol=1e-12)
    tensors = [(Torchlike(x.transpose(0, 3, 1, 2)), Torchlike(y)) for x, y in loader()]
    check(Dataset.from_batches(tensors, channels_first=True), held=None)


def test_loaders_that_are_refused(monkeypatch):
    from reconjax.data import batched

    check(Dataset.from_batches(iter(loader())), held=None)  # small enough to be kept
    refused(lambda: Dataset.from_batches([]), "train: no batches")
    refused(lambda: Dataset.from_batches([X]), "train: pairs (x, y)")
    refused(lambda: Dataset.from_batches([(X, Y[:3])]), "a batch of 3 targets for 20 examples")
    refused(lambda: Dataset.from_batches([(X, Y), (X[:, 1:], Y)]), "examples (5, 5, 3) after (6, 5")
    refused(lambda: Dataset.from_batches([(X, Y)], [(X[:, 1:], Y)]), "test: examples of shape (5")
    monkeypatch.setattr(batched, "KEPT_BYTES", 0)
    refused(lambda: Dataset.from_batches(iter(loader())), "an iterator of more than 0 MiB")

    class Shuffled:
        passes = 0

        def __iter__(self):
            Shuffled.passes += 1
            order = np.random.default_rng(Shuffled.passes).permutation(20)
            return iter(loader(X[order], Y[order]))

    data = Dataset.from_batches(Shuffled())
    refused(lambda: whole(data.train), "differ from those of the first pass", "shuffle=False")


def test_batches_of_large_examples_are_small():
    wide = Dataset.from_arrays(np.zeros((3, 2**25), np.uint8))
    assert [len(x) for x, _ in wide.train.batches()] == [2, 1]
    narrow = Dataset.from_arrays(np.zeros((5000, 2), np.uint8))
    assert [len(x) for x, _ in narrow.train.batches()] == [4096, 904]
