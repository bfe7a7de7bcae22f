"""Labels of any kind: texts, gaps, one-hot, attributes, and what is refused."""

import numpy as np
import pytest
from files import refused

import reconjax as rj
from reconjax.data import Dataset

RNG = np.random.default_rng(0)
Y = np.arange(30) % 3
X = RNG.random((30, 5)) + np.eye(3, 5)[Y]
RIGHT = np.asarray(rj.alignment(rj.spectrum(rj.moments(X, Y))).r2)


def r2(data):
    found = rj.moments_from_batches(data.train.batches(), num_classes=data.num_classes or None)
    return np.asarray(rj.alignment(rj.spectrum(found)).r2)


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (np.array(["cat", "ant", "bee"])[Y], ("ant", "bee", "cat")),
        (np.array([b"u", b"v", b"w"])[Y], ("u", "v", "w")),
        (np.array(["u", "v", "w"], object)[Y], ("u", "v", "w")),
        (np.array(["u", "v", "w"])[Y][:, None], ("u", "v", "w")),
        (["uvw"[k] for k in Y], ("u", "v", "w")),
        (Y + 1, ("1", "2", "3")),
        (np.array([3, 700, 90000])[Y], ("3", "700", "90000")),
        (np.array([3, 700, 10**12])[Y] * 1.0, ("3", "700", "1000000000000")),
        (np.eye(3, dtype=np.uint8)[Y], ("0", "1", "2")),
        (np.eye(3)[Y], ("0", "1", "2")),
        (np.eye(3, dtype=bool)[Y], ("0", "1", "2")),
        (np.eye(6)[2 * Y + 1], ("1", "3", "5")),  # three of six columns
    ],
)
def test_classes_without_gaps(labels, names):
    data = Dataset.from_arrays(X, labels)
    assert data.class_names == names
    hot = np.ndim(labels) == 2 and np.shape(labels)[1] > 1
    assert data.targets_text == "3 classes" + " (one-hot)" * hot
    np.testing.assert_allclose(r2(data), RIGHT, atol=1e-9)


@pytest.mark.parametrize("labels", [Y > 0, (Y > 0)[:, None], np.where(Y > 0, 1, -1)])
def test_two_classes(labels):
    data = Dataset.from_arrays(X, labels)
    assert data.class_names in (("False", "True"), ("-1", "1"))
    assert data.train.labels.tolist() == (Y > 0).astype(int).tolist()


def test_classes_of_both_splits_are_numbered_alike():
    data = Dataset.from_arrays(X, np.array(["b", "c", "d"])[Y], X[:4], ["d", "a", "d", "b"])
    assert data.class_names == ("a", "b", "c", "d")
    assert data.test.labels.tolist() == [3, 0, 3, 1]
    assert data.train.labels[:3].tolist() == [1, 2, 3]
    data = Dataset.from_arrays(X, 10 * Y + 10, X[:2], [30, 20])
    assert data.test.labels.tolist() == [2, 1]
    data = Dataset.from_arrays(X, np.eye(3)[Y], X[:2], np.eye(3)[[2, 1]])
    assert data.test.labels.tolist() == [2, 1]


def test_names_given_are_those_of_all_classes():
    data = Dataset.from_arrays(X, Y + 1, class_names=["none", "a", "b", "c", "d"])
    assert data.num_classes == 5
    assert data.train.labels.tolist() == (Y + 1).tolist()
    data = Dataset.from_arrays(X, np.array(["b", "a", "c"])[Y], class_names=["c", "b", "a"])
    assert data.train.labels[:3].tolist() == [1, 2, 0]
    assert data.class_names == ("c", "b", "a")


def test_attributes_stay_several_targets():
    attributes = np.stack([Y > 0, Y > 1], axis=1)
    data = Dataset.from_arrays(X, attributes, X[:3], attributes[:3])
    assert data.targets_text == "2 real targets (of 0 and 1)"
    np.testing.assert_array_equal(data.test.labels, attributes[:3])
    assert Dataset.from_arrays(X, np.eye(3)[Y], targets="real").targets_text == "3 real targets"
    with pytest.raises(ValueError, match=r"class numbers are \(N,\)"):
        Dataset.from_arrays(X, attributes, targets="classes")


def spoilt(value, kind=float, index=(4, 5)):
    labels = Y.astype(kind)
    labels[list(index)] = value
    return labels


@pytest.mark.parametrize(
    "y_train",
    [spoilt(-1, int), spoilt(-1.0), spoilt(np.nan), spoilt(None, object), spoilt(np.nan) / 2],
)
def test_examples_without_a_label_are_kept_apart(y_train):
    data = Dataset.from_arrays(X, y_train, X[:4], y_train[:4])
    assert (len(data.train), len(data.test)) == (28, 4)
    np.testing.assert_array_equal(data.unlabeled[0].examples(np.arange(2))[0], X[[4, 5]])
    assert data.notes == ("2 examples have no label: encoders learn from them, heads do not",)
    again = Dataset.from_arrays(X, y_train, X[:6], y_train[:6])
    assert len(again.test) == 4
    assert again.notes[1] == "2 test examples without a label are left out"


def test_labels_of_another_number_are_counted_as_they_are():
    refused(lambda: Dataset.from_arrays(X, spoilt(-1, int)[:9]), "9 labels for 30 examples")


@pytest.mark.parametrize(
    ("y_train", "parts"),
    [
        (np.full(30, np.nan), ["y_train: no example has a label"]),
        (np.full(30, -1), ["y_train: no example has a label"]),
        (spoilt(-5, int), ["y_train holds -5: labels must be 0 or more"]),
        (np.where(Y == 0, None, "a"), ["y_train holds class a alone"]),
        (np.full(30, None), ["y_train: no example has a label"]),
        (np.array([{}] * 30), ["y_train holds objects (dict)"]),
        (np.array(["a"] * 30), ["y_train holds class a alone"]),
        (np.eye(3)[Y * 0], ["y_train holds class 0 alone"]),
        (np.stack([Y + 0.5, spoilt(np.nan)], 1), ["NaN or infinity in 2 of 30 rows"]),
        (np.zeros((30, 0)), ["must hold a target at least"]),
    ],
)
def test_labels_that_are_refused(y_train, parts):
    refused(lambda: Dataset.from_arrays(X, y_train), *parts)


@pytest.mark.parametrize(
    ("y_train", "y_test", "part"),
    [
        (np.eye(3)[Y], Y[:4], "y_test has shape (4,)"),
        (np.eye(3)[Y], np.ones((4, 3)), "y_test is not one-hot as y_train is"),
        (np.array(["u", "v", "w"])[Y], Y[:4], "y_test is of dtype int64"),
        (Y, ["u"] * 4, "y_test holds texts"),
        (Y / 2, ["u"] * 4, "y_test holds texts"),
        (Y > 0, Y[:4], "y_test holds other values than 0 and 1"),
        (Y, [-1] * 4, "y_test: no example has a label"),
    ],
)
def test_test_labels_are_of_the_kind_of_the_training_labels(y_train, y_test, part):
    refused(lambda: Dataset.from_arrays(X, y_train, X[:4], y_test), part)


def test_many_classes_are_refused():
    labels = np.arange(100_000)
    refused(
        lambda: Dataset.from_arrays(np.zeros((100_000, 1), np.uint8), labels),
        "y_train holds 100000 different values",
        "targets='real'",
    )
