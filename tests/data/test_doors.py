"""The door for arrays: what targets, units and axes are taken for, wherever they come from."""

import re
import warnings

import chex
import jax
import numpy as np
import pytest
import scipy.sparse

import reconjax as rj
from reconjax import studies
from reconjax.data import Dataset, ManyClassesWarning, load, load_npz
from reconjax.data.batched import LoaderSplit
from reconjax.data.layout import looks_channels_first, shape_text
from reconjax.data.sparse import SparseSplit
from reconjax.data.targets import strata
from reconjax.studies.limits import check_fits
from reconjax.training.examples import Centered, Examples

RNG = np.random.default_rng(0)


def r2(x, y, dims):
    """Share of the variance of y (N, C) on the K leading singular vectors of centered x (N, D)."""
    x = x.reshape(len(x), -1).astype(float)
    x, y = x - x.mean(0), y - y.mean(0)
    u = np.linalg.svd(x, full_matrices=False)[0]
    return np.cumsum(np.sum((u.T @ y) ** 2, axis=1))[np.array(dims) - 1] / np.sum(y**2)


def shares(found, dims):
    """The same from moments or a spectrum."""
    principal = found if isinstance(found, rj.Spectrum) else rj.spectrum(found)
    return np.asarray(rj.alignment(principal).r2)[np.array(dims) - 1]


def batches(x, y):
    return [(x[:17], y[:17]), (x[17:400], y[17:400]), (x[400:], y[400:])]


@pytest.fixture(scope="module")
def digits():
    data = load("digits").train
    return data.examples(np.arange(len(data)))


# Targets


@pytest.mark.parametrize("kind", [np.int64, np.uint8, np.float32])
def test_labels_of_one_column_are_class_numbers_where_classes_are_asked_for(digits, kind):
    x, y = digits
    dims = [1, 8, 16]
    right = r2(x, np.eye(10)[y], dims)
    np.testing.assert_allclose(right, [0.0906, 0.4586, 0.5800], atol=5e-5)  # as in the report
    column = y[:, None].astype(kind)
    for found in (
        rj.moments(x, column, num_classes=10),
        rj.moments(x, column, targets="classes"),
        rj.moments_from_batches(batches(x, column), num_classes=10),
        rj.spectrum_from_samples(x, column, num_classes=10),
    ):
        np.testing.assert_allclose(shares(found, dims), right, atol=1e-9)


def test_one_column_of_integers_is_class_numbers_and_of_floats_a_real_target(digits, tmp_path):
    x, y = digits
    dims = [1, 8, 16]
    classes, real = r2(x, np.eye(10)[y], dims), r2(x, y[:, None], dims)
    np.testing.assert_allclose(shares(rj.moments(x, y[:, None]), dims), classes, atol=1e-9)
    np.testing.assert_allclose(shares(rj.moments(x, y[:, None] * 1.0), dims), real, atol=1e-9)
    np.testing.assert_allclose(shares(rj.moments(x, y * 1.0), dims), classes, atol=1e-9)
    np.testing.assert_allclose(shares(rj.moments(x, y, targets="real"), dims), real, atol=1e-9)
    wide = rj.SampleSide(x[:40], y[:40, None]).spectrum(directions=0)
    few = [1, 8, 16]
    right = r2(x[:40], np.eye(10)[y[:40]], few)
    np.testing.assert_allclose(shares(wide, few), right, atol=1e-9)

    np.savez(tmp_path / "ints.npz", x_train=x, y_train=y[:, None])
    np.savez(tmp_path / "floats.npz", x_train=x, y_train=y[:, None] * 1.0)
    for data, targets in (
        (load_npz(tmp_path / "ints.npz"), "10 classes"),
        (load_npz(tmp_path / "floats.npz"), "1 real target"),
        (load(str(tmp_path / "ints.npz"), targets="real"), "1 real target"),
        (Dataset.from_arrays(x, y[:, None]), "10 classes"),
        (Dataset.from_arrays(x, y[:, None] * 1.0), "1 real target"),
        (Dataset.from_arrays(x, np.stack([y, y % 2], axis=1)), "2 real targets"),
        (Dataset.from_arrays(x, y > 4), "2 classes"),
        (Dataset.from_arrays(x, y / 2), "1 real target"),
        (Dataset.from_arrays(x), "no labels"),
    ):
        assert data.targets_text == targets
        assert data.num_targets == (0 if targets == "no labels" else int(targets.split()[0]))


def test_batches_take_the_targets_that_arrays_take(digits):
    x, y = digits
    dims = [1, 8]
    column = y[:, None] * 1.0
    real = r2(x, column, dims)
    np.testing.assert_allclose(
        shares(rj.moments_from_batches(batches(x, column)), dims), real, atol=1e-9
    )
    found = rj.moments_from_batches(batches(x, y), targets="real")
    np.testing.assert_allclose(shares(found, dims), real, atol=1e-9)
    # Once they are real values, a later batch that happens to be whole does not change that.
    values = np.where(np.arange(len(y)) < 17, y + 0.5, y)
    found = rj.moments_from_batches(batches(x, values))
    right = r2(x, values[:, None], dims)
    np.testing.assert_allclose(shares(found, dims), right, atol=1e-9)
    for integers in (y, y[:, None]):
        with pytest.raises(ValueError, match="num_classes: None; batches of integer labels need"):
            rj.moments_from_batches(batches(x, integers))


def test_integers_with_many_values_are_warned_of_and_may_be_real():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((500, 5))
    y = (60 + 10 * x[:, 0]).astype(int)
    right = r2(x, y[:, None], [5])
    assert right[0] > 0.999
    with pytest.warns(ManyClassesWarning, match=r"y: .* classes in 500 samples; real values: targ"):
        as_classes = rj.moments(x, y)
    assert shares(as_classes, [5])[0] < 0.5
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_allclose(shares(rj.moments(x, y, targets="real"), [5]), right, atol=1e-9)
        rj.moments(x, y, num_classes=100)  # said to be classes
        rj.moments(x, y, targets="classes")
        assert Dataset.from_arrays(x, y, targets="real").real_targets == 1
        assert Dataset.from_arrays(x, y, targets="classes").num_classes == len(set(y.tolist()))
    with pytest.warns(ManyClassesWarning, match="y_train: "):
        Dataset.from_arrays(x, y)


@pytest.mark.parametrize(
    ("labels", "warned"),
    [
        (np.arange(12) % 3, False),
        (np.arange(12) % 6, False),
        (np.arange(12) % 7, True),  # fewer than two samples a class
        (np.arange(12), True),
        (np.arange(200) % 20, False),
        (np.arange(199) % 20, True),  # fewer than ten a class, of twenty
        (np.arange(100) % 19, False),
        (30 + np.arange(500) % 50, False),  # 80 numbers, of which 50 occur, ten times each
        (30 + np.arange(499) % 50, True),
        (np.arange(5000) % 100, False),
    ],
)
def test_where_classes_nearly_outnumber_samples(labels, warned):
    x = np.random.default_rng(0).random((len(labels), 2))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        rj.moments(x, labels)
        Dataset.from_arrays(x, labels)
    assert [one.category for one in caught] == [ManyClassesWarning] * (2 * warned)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda x, y: rj.moments(x, y, targets="label"), "targets: 'label'; 'classes' or 'real'"),
        (lambda x, y: rj.moments(x, y, targets="real", num_classes=3), "num_classes: 3; given wi"),
        (lambda x, y: rj.moments(x, y[:, None] + 0.5, num_classes=3), "y: labels that are not wh"),
        (lambda x, y: rj.moments(x, np.eye(3)[y], targets="classes"), r"class numbers are \(N,\)"),
        (lambda x, y: rj.moments(x, y.astype(str)), "y: dtype <U"),
        (lambda x, y: rj.moments(x, y - 1.0), r"y: label -1.0; .* \(N, 1\) floats are real"),
        (
            lambda x, y: Dataset.from_arrays(x, y[:, None] * np.nan),
            "y_train: no example has a label",
        ),
        (lambda x, y: Dataset.from_arrays(x, np.ones((12, 2))), "y_train holds the value"),
        (lambda x, y: Dataset.from_arrays(x, y * 0.5, x, y), None),
        (lambda x, y: Dataset.from_arrays(x, y * 0.5, x, np.eye(3)[y]), r"y_test has shape"),
        (lambda x, y: Dataset.from_arrays(x, y, x, y * 0.5), "y_test holds 0.5: labels must be"),
        (lambda x, y: load("digits", targets="real"), "targets: does not apply to digits"),
    ],
)
def test_targets_that_are_refused(call, match):
    x, y = RNG.random((12, 2)), np.arange(12) % 3
    if match is None:  # whole numbers in the test split of a real target are real too
        assert call(x, y).real_targets == 1
        return
    with pytest.raises(ValueError, match=match) as caught:
        call(x, y)
    assert "\n" not in str(caught.value)


def test_traced_targets_are_told_by_shape_and_dtype(digits):
    x, y = digits[0][:50], digits[1][:50]
    for labels in (y, y[:, None]):
        found = jax.jit(lambda x, y: rj.moments(x, y, num_classes=10))(x, labels)
        assert found.cross_moment.shape == (64, 10)
        np.testing.assert_allclose(found.mean_y, np.bincount(y, minlength=10) / 50)


def test_strata_of_real_targets_are_halves():
    y = np.array([[3.0, 0], [1, 0], [2, 0], [9, 0], [4, 0]])
    assert strata(y).tolist() == [0, 0, 0, 1, 1]
    assert strata(np.array([2, 0, 1])).tolist() == [2, 0, 1]


# Units


@pytest.mark.parametrize("kind", [np.int64, np.uint64, np.int32, np.uint16, np.int8, np.bool_])
def test_only_uint8_is_divided(kind):
    counts = np.random.default_rng(1).poisson(40, (60, 10))
    counts = (counts % 2 if kind is np.bool_ else counts).astype(kind)
    y = np.arange(60) % 2
    trace = np.var(counts.astype(float), axis=0).sum()
    assert kind is np.bool_ or trace > 100
    data = Dataset.from_arrays(counts, y)
    stored = data.train.examples(np.arange(60))[0]
    np.testing.assert_array_equal(stored, counts)
    for found in (
        rj.moments(counts, y),
        rj.moments_from_batches([(counts[:20], y[:20]), (counts[20:], y[20:])], num_classes=2),
        rj.moments_from_batches(data.train.batches(), num_classes=2),
        rj.moments(jax.numpy.asarray(counts), y),
    ):
        np.testing.assert_allclose(np.trace(found.second_moment), trace, rtol=1e-6)
    side = rj.SampleSide(counts[:8], y[:8]).spectrum()
    few = np.var(counts[:8].astype(float), axis=0).sum()
    np.testing.assert_allclose(np.sum(side.eigenvalues), few, rtol=1e-6)
    top = rj.project(rj.spectrum(rj.moments(counts, y)), counts, variance=1.0)
    np.testing.assert_allclose(top, counts.astype(float), atol=1e-6)


def test_uint8_is_an_image_of_255_steps():
    pixels = np.random.default_rng(2).integers(0, 256, (60, 10)).astype(np.uint8)
    found = rj.moments(pixels, np.arange(60) % 2)
    np.testing.assert_allclose(
        np.trace(found.second_moment), np.var(pixels / 255, axis=0).sum(), rtol=1e-12
    )


def test_counts_of_64_bits_are_not_cut_where_jax_has_32(float32):
    counts = np.random.default_rng(3).integers(2**33, 2**34, (60, 3))
    found = rj.moments(counts, np.arange(60) % 2)
    np.testing.assert_allclose(
        np.diagonal(found.second_moment), np.var(counts.astype(float), axis=0), rtol=1e-4
    )


def test_one_scale_of_training_and_test_split():
    rng = np.random.default_rng(4)
    train = rng.integers(0, 11_518, (40, 3, 3)).astype(np.uint16)
    test = rng.integers(0, 256, (12, 3, 3)).astype(np.uint16)
    y, y_test = np.arange(40) % 2, np.arange(12) % 2
    data = Dataset.from_arrays(train, y, test, y_test)
    np.testing.assert_array_equal(data.train.examples(np.arange(40))[0][..., 0], train)
    np.testing.assert_array_equal(data.test.examples(np.arange(12))[0][..., 0], test)
    with pytest.raises(ValueError, match="x_test is int64, x_train uint8: uint8 alone is divided"):
        Dataset.from_arrays(test.astype(np.uint8), y_test, test.astype(int), y_test)
    with pytest.raises(ValueError, match="x_test is uint8, x_train float32"):
        Dataset.from_arrays(test.astype(np.float32), y_test, test.astype(np.uint8), y_test)


def test_training_sees_integers_as_they_are():
    counts = np.random.default_rng(5).integers(0, 200, (20, 3, 3, 2)).astype(np.int32)
    split = Dataset.from_arrays(counts, np.arange(20) % 2).train
    np.testing.assert_allclose(Centered.of(split).mean, counts.mean(0), rtol=1e-6)
    np.testing.assert_array_equal(Examples.of(split, 2).images, counts)
    seen = Centered.of(split).centered(counts)
    np.testing.assert_allclose(seen, counts - counts.mean(0), atol=1e-4)


# Axes


@pytest.mark.parametrize(
    ("shape", "asked"),
    [
        ((12, 8, 8), True),  # bands
        ((16, 64, 64), True),  # frames of a film
        ((1, 32, 32), True),
        ((3, 48, 64), True),
        ((3, 32, 32), True),
        ((8, 8, 12), False),
        ((7, 7, 512), False),
        ((32, 32, 1), False),
        ((1, 128, 9), False),  # a series of 9 channels
        ((5, 3, 3), False),
        ((6, 2, 2), False),
        ((3, 3, 12), False),
        ((48, 64, 4), False),
    ],
)
def test_shapes_that_look_channels_first_are_asked_about(shape, asked):
    assert looks_channels_first(shape) == asked
    x, y = np.zeros((4, *shape), np.uint8), np.arange(4) % 2
    x[0] = 1
    if asked:
        with pytest.raises(ValueError, match="--channels-first") as caught:
            Dataset.from_arrays(x, y)
        assert shape_text((shape[1], shape[2], shape[0])) in str(caught.value)
        assert "\n" not in str(caught.value)
    else:
        assert Dataset.from_arrays(x, y).image_shape == shape
    assert Dataset.from_arrays(x, y, channels_first=False).image_shape == shape
    moved = Dataset.from_arrays(x, y, channels_first=True)
    assert moved.image_shape == (shape[1], shape[2], shape[0])


def test_channels_first_moves_the_channels_of_every_split(tmp_path):
    x = RNG.random((10, 12, 8, 8)).astype(np.float32)
    y = np.arange(10) % 2
    path = tmp_path / "bands.npz"
    np.savez(path, x_train=x, y_train=y, x_test=x[:4], y_test=y[:4])
    for data in (
        load(str(path), channels_first=True),
        load_npz(path, channels_first=True),
        Dataset.from_arrays(x, y, x[:4], y[:4], channels_first=True),
    ):
        assert data.image_shape == (8, 8, 12)
        for split, count in ((data.train, 10), (data.test, 4)):
            images = split.examples(np.arange(count))[0]
            np.testing.assert_array_equal(images, x[:count].transpose(0, 2, 3, 1))
    unlabeled = Dataset.from_arrays(x, channels_first=True)
    assert unlabeled.image_shape == (8, 8, 12)
    with pytest.raises(ValueError, match=r"x_train has shape \(10, 8, 8\): with channels first"):
        Dataset.from_arrays(x[:, 0], y, channels_first=True)
    with pytest.raises(ValueError, match="channels_first: does not apply to digits"):
        load("digits", channels_first=True)


def test_what_is_printed_fits_a_line():
    data = rj.data.load("digits")
    text = "Dataset('digits': 1437 examples and 360 to test of (8, 8, 1), 10 classes)"
    assert repr(data) == text
    x = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    assert repr(rj.moments(x, x[:, :2])) == "Moments(3 features, 2 targets, float64)"
    assert repr(Dataset.from_arrays(x)) == "Dataset('arrays': 20 examples of (3,), no labels)"


def test_loaders_keep_examples_without_a_label_apart_and_take_several_tasks():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 5)), np.arange(40) % 3
    some = np.where(np.arange(40) % 4 == 0, -1, y)
    loader = [(x[i : i + 7], some[i : i + 7]) for i in range(0, 40, 7)]
    found, expected = Dataset.from_batches(loader), Dataset.from_arrays(x, some)
    assert found.notes == expected.notes
    for one, other in ((found.train, expected.train), (found.unlabeled[0], expected.unlabeled[0])):
        every = np.arange(len(other))
        for a, b in zip(one.examples(every), other.examples(every), strict=True):
            np.testing.assert_array_equal(a, b)
    age = np.where(some < 0, np.nan, x[:, 0])
    tasks = [(x[i : i + 7], {"kind": y[i : i + 7], "age": age[i : i + 7]}) for i in range(0, 40, 7)]
    several = Dataset.from_batches(tasks)
    assert several.targets_text == "2 tasks: kind (3 classes), age (1 real target)"
    assert len(several.unlabeled[0]) == 10
    with pytest.raises(ValueError, match="train: a batch without the tasks kind, age"):
        Dataset.from_batches([*tasks[:2], (x[:7], {"kind": y[:7]})])


def test_large_loaders_are_read_anew_for_those_without_a_label(monkeypatch):
    monkeypatch.setattr("reconjax.data.batched.KEPT_BYTES", 100)
    x, y = np.random.default_rng(0).normal(size=(40, 5)), np.arange(40) % 3.0
    y[::4] = np.nan
    data = Dataset.from_batches([(x[i : i + 7], y[i : i + 7]) for i in range(0, 40, 7)])
    assert isinstance(data.train, LoaderSplit)
    np.testing.assert_array_equal(data.unlabeled[0].examples(np.arange(10))[0], x[::4])
    np.testing.assert_array_equal(data.train.examples(np.arange(30))[0], x[np.arange(40) % 4 > 0])


@pytest.mark.parametrize("kind", ["csr_array", "csc_matrix", "coo_array"])
def test_sparse_matrices_stay_sparse_and_are_what_they_are_dense(kind):
    rng = np.random.default_rng(0)
    dense = rng.normal(size=(40, 6)) * (rng.random((40, 6)) < 0.4)
    y = np.arange(40) % 3
    sparse = getattr(scipy.sparse, kind)(dense)
    data = Dataset.from_arrays(sparse, np.where(y == 2, -1, y), sparse, y % 2)
    assert isinstance(data.train, SparseSplit)
    same = Dataset.from_arrays(dense, np.where(y == 2, -1, y), dense, y % 2)
    some = np.arange(9)
    for one, other in ((data.train, same.train), (data.test, same.test)):
        np.testing.assert_array_equal(one.examples(some)[0], other.examples(some)[0])
    rows = scipy.sparse.csr_array(dense)
    batches = Dataset.from_batches([(rows[i : i + 8], y[i : i + 8]) for i in range(0, 40, 8)])
    np.testing.assert_array_equal(batches.train.examples(np.arange(40))[0], dense)
    split = Dataset.from_arrays(rows, y).train
    moments = rj.moments_from_batches(split.batches(16), num_classes=3)
    chex.assert_trees_all_close(moments, rj.moments(dense, y), atol=1e-12)
    with pytest.raises(ValueError, match="x_train holds 1 values that are NaN or infinite"):
        Dataset.from_arrays(getattr(scipy.sparse, kind)(np.diag([1.0, np.inf])), [0, 1])
    with pytest.raises(ValueError, match="sparse: its rows are vectors"):
        Dataset.from_arrays(sparse, y, axes="T")


def test_a_refusal_for_size_says_what_would_fit():
    images = np.random.default_rng(0).integers(0, 256, (60, 40, 40, 3), dtype=np.uint8)
    data = Dataset.from_arrays(images, np.arange(60) % 2)
    with pytest.raises(ValueError) as caught:
        studies.sweep(data, side="features", memory=0.2, patches=[4], ratios=[0.5])
    said = str(caught.value)
    assert "\n" not in said
    form = r"what fits: --resize (\d+) .* or --max-samples (\d+), by samples"
    size, most = re.search(form, said).groups()
    features = 3 * int(size) ** 2
    needed = rj.grid.sweep_memory(features, 2)
    check_fits("set", "a sweep", needed, 0.2 * 2**30, features, (int(size), int(size), 3), True)
    assert int(most) < 4800
