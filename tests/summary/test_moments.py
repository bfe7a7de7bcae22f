"""Moments against NumPy: every kind of input, batches, merging, weights, scales and errors."""

import dataclasses
import functools
import importlib
import threading

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from definition import assert_moments, data, expected

import reconjax as rj
from reconjax.data import prefetch

FIELDS = ("mean_x", "mean_y", "second_moment", "cross_moment", "label_moment")


# Inputs of every kind


@pytest.mark.parametrize("shape", [(12,), (2, 3, 2)], ids=["vectors", "images"])
@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("real_targets", [True, False])
def test_moments_are_those_of_numpy(shape, center, real_targets):
    x, labels = data()
    y = np.random.default_rng(1).normal(size=(60, 2)) if real_targets else labels
    found = rj.moments(x.reshape(60, *shape), y, center=center)
    assert_moments(found, expected(x, y, center=center))
    assert (found.features, found.targets) == (12, 2 if real_targets else 3)
    assert found.centered == center
    assert found.second_moment.dtype == jnp.float64
    np.testing.assert_array_equal(found.scale, 1)


@pytest.mark.parametrize(
    ("dtype", "option", "result"),
    [
        (np.float64, None, jnp.float64),
        (np.float32, None, jnp.float64),
        (np.float32, np.float32, jnp.float32),
        (np.float64, "float32", jnp.float32),
        (np.uint8, None, jnp.float64),
        (np.uint8, np.float32, jnp.float32),
        (np.int64, None, jnp.float64),
    ],
)
def test_dtypes_of_inputs_and_results(dtype, option, result):
    x, labels = data()
    x = np.clip(20 * x + 100, 0, 255).astype(dtype)
    found = rj.moments(x, labels, dtype=option)
    chex.assert_trees_all_equal_dtypes(found, jax.tree.map(lambda leaf: leaf.astype(result), found))
    scale = 255 if dtype == np.uint8 else 1
    tolerance = 1e-12 if result == jnp.float64 else 1e-5
    assert_moments(found, expected(x.astype(np.float64) / scale, labels), tolerance)


def test_without_float64_everything_is_float32(float32):
    x, labels = data()
    for images in (x, np.clip(20 * x + 100, 0, 255).astype(np.uint8)):
        found = rj.moments(images, labels)
        assert {leaf.dtype for leaf in jax.tree.leaves(found)} == {jnp.dtype("float32")}
        scale = 255 if images.dtype == np.uint8 else 1
        assert_moments(found, expected(images / scale, labels), 1e-5)


def test_labels_may_be_whole_floats_and_jax_arrays():
    x, labels = data()
    for y in (labels.astype(np.float64), jnp.asarray(labels, jnp.uint8), labels.tolist()):
        assert_moments(rj.moments(jnp.asarray(x), y), expected(x, labels))


def test_a_class_without_samples_has_a_row_of_zeros():
    x, labels = data()
    found = rj.moments(x, labels, num_classes=5)
    assert found.label_moment.shape == (5, 5)
    assert not np.any(found.label_moment[3:])
    assert_moments(
        dataclasses.replace(
            found,
            mean_y=found.mean_y[:3],
            cross_moment=found.cross_moment[:, :3],
            label_moment=found.label_moment[:3, :3],
        ),
        expected(x, labels),
    )


# Batches and merging


@pytest.mark.parametrize("kind", ["float", "uint8", "real targets"])
@pytest.mark.parametrize("cuts", [[1, 2, 30], pytest.param([7, 7, 59], marks=pytest.mark.slow)])
def test_batches_of_uneven_sizes_equal_the_whole(cuts, kind):
    x, y = data()
    if kind == "uint8":
        x = np.clip(20 * x + 100, 0, 255).astype(np.uint8).reshape(60, 2, 3, 2)
    if kind == "real targets":
        y = np.random.default_rng(1).normal(size=(60, 2))
    batches = list(zip(np.split(x, cuts), np.split(y, cuts), strict=True))
    for center in (True, False):
        found = rj.moments_from_batches(iter(batches), num_classes=3, center=center)
        scaled = x / 255 if kind == "uint8" else x
        assert_moments(found, expected(scaled, y, center=center))


def test_batches_of_different_dtypes_add_up():
    x, labels = data()
    pixels = np.clip(20 * x + 100, 0, 255).astype(np.uint8)
    batches = [(pixels[:20], labels[:20]), (pixels[20:] / 255, labels[20:])]
    found = rj.moments_from_batches(batches, num_classes=3)
    assert_moments(found, expected(pixels / 255, labels))


@pytest.mark.parametrize("center", [True, False])
def test_merge_is_the_union_in_any_order(center):
    x, labels = data()
    parts = [
        rj.moments(x[part], labels[part], num_classes=3, center=center)
        for part in (slice(0, 10), slice(10, 35), slice(35, 60))
    ]
    left = rj.merge(rj.merge(parts[0], parts[1]), parts[2])
    right = rj.merge(parts[0], rj.merge(parts[1], parts[2]))
    other = rj.merge(rj.merge(parts[2], parts[0]), parts[1])
    for found in (left, right, other):
        assert_moments(found, expected(x, labels, center=center))
        assert found.centered == center


def test_merge_counts_weights():
    x, labels = data()
    weights = np.array([0.5, 1.0, 3.0])
    parts = [
        rj.moments(x[part], labels[part], num_classes=3, class_weight=weights)
        for part in (slice(0, 25), slice(25, 60))
    ]
    assert_moments(rj.merge(*parts), expected(x, labels, weights[labels]))


def test_merge_keeps_a_common_scale():
    x, labels = data()
    scale = np.geomspace(0.1, 10, 12)
    parts = [
        dataclasses.replace(
            rj.moments(x[part] / scale, labels[part], num_classes=3),
            mean_x=jnp.asarray(x[part].mean(0)),
            scale=jnp.asarray(scale),
        )
        for part in (slice(0, 25), slice(25, 60))
    ]
    wanted = expected(x / scale, labels) | {"mean_x": x.mean(0)}
    assert_moments(rj.merge(*parts), wanted)


def test_a_buffer_may_be_used_for_every_batch():
    x, labels = data()
    pixels = np.clip(20 * x + 100, 0, 255).astype(np.uint8)

    def reused(images):
        buffer, targets = np.empty_like(images[:12]), np.empty_like(labels[:12])
        for i in range(0, 60, 12):
            buffer[:], targets[:] = images[i : i + 12], labels[i : i + 12]
            yield buffer, targets
            buffer[:], targets[:] = 0, 0

    for images, scale in ((x, 1), (pixels, 255)):
        found = rj.moments_from_batches(reused(images), num_classes=3)
        assert_moments(found, expected(images / scale, labels))


def test_the_reader_has_the_precision_of_the_caller(float32):
    x, labels = data()
    batches = ((jnp.asarray(x[i : i + 20]), labels[i : i + 20]) for i in (0, 20, 40))
    found = rj.moments_from_batches(batches, num_classes=3)
    assert found.second_moment.dtype == jnp.float32


def test_batches_are_read_while_others_are_summed_and_not_far_ahead():
    x, labels = data()
    read = []

    def counted():
        for i in range(50):
            read.append(i)
            yield x, labels

    taken = 0
    with prefetch.prefetch(counted()) as ahead:
        for _ in ahead:
            taken += 1
            assert len(read) <= taken + 3  # 2 in the queue, 1 in the reader's hand
    assert_moments(
        rj.moments_from_batches(counted(), num_classes=3),
        expected(np.tile(x, (50, 1)), np.tile(labels, 50)),
    )


@pytest.mark.parametrize("depart", ["error in the batches", "error in a batch"])
def test_an_error_ends_the_reader(depart):
    x, labels = data()

    def failing():
        yield x, labels
        yield (x, labels) if depart == "error in the batches" else (x, labels[:3])
        raise ConnectionError("lost")

    kind = ConnectionError if depart == "error in the batches" else ValueError
    with pytest.raises(kind):
        rj.moments_from_batches(failing(), num_classes=3)
    assert not [t for t in threading.enumerate() if t.name == "reconjax-prefetch"]


# Several devices


@pytest.mark.parametrize("count", [4, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 2))])
@pytest.mark.parametrize("batch", [7, pytest.param(19, marks=pytest.mark.slow), 60])
def test_8_bit_moments_of_several_devices_are_those_of_one(count, batch):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (60, 4, 5, 1), dtype=np.uint8)
    labels = np.arange(60) % 3

    def found(**options):
        batches = ((pixels[i : i + batch], labels[i : i + batch]) for i in range(0, 60, batch))
        return rj.moments_from_batches(batches, num_classes=3, **options)

    devices = jax.devices()[-count:]
    several = found(devices=devices)
    assert several.second_moment.devices() == {devices[0]}
    for one, other in zip(jax.tree.leaves(found()), jax.tree.leaves(several), strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.dtype == other.dtype


@pytest.mark.parametrize("count", [4, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 2))])
@pytest.mark.parametrize("weights", [None, [0.5, 1.0, 3.0]])
def test_float_moments_of_several_devices_are_merged(count, weights):
    x, labels = data()
    each = None if weights is None else np.asarray(weights)[labels]
    for arrays in (np.asarray, jnp.asarray):  # on the host, and all on the first device
        batches = [(arrays(x[i : i + 7]), labels[i : i + 7]) for i in range(0, 60, 7)]
        found = rj.moments_from_batches(
            batches, num_classes=3, class_weight=weights, devices=jax.devices()[:count]
        )
        assert_moments(found, expected(x, labels, each))


def test_exact_and_rounded_parts_of_several_devices_add_up():
    x, labels = data()
    pixels = np.clip(20 * x + 100, 0, 255).astype(np.uint8)
    batches = [
        ((pixels if i % 3 else pixels / 255)[i : i + 5], labels[i : i + 5]) for i in range(0, 60, 5)
    ]
    found = rj.moments_from_batches(batches, num_classes=3, devices=jax.devices()[:3])
    assert_moments(found, expected(pixels / 255, labels))


@pytest.mark.parametrize(
    ("devices", "match"),
    [([], "devices: none; at least 1"), (["cpu"], "devices: 'cpu'; those of this process")],
)
def test_devices_that_are_none_are_refused(devices, match):
    with pytest.raises(ValueError, match=match):
        rj.moments_from_batches([data()], num_classes=3, devices=devices)


# Class weights


def unbalanced():
    x, _ = data(samples=70)
    return x, np.repeat(np.arange(3), [10, 20, 40])


def test_balanced_weights_equal_data_with_the_rare_classes_repeated():
    x, labels = unbalanced()
    repeats = np.array([4, 2, 1])[labels]
    wanted = expected(np.repeat(x, repeats, axis=0), np.repeat(labels, repeats))
    del wanted["samples"], wanted["weight"]
    weights = rj.summary.balanced_class_weight(labels, 3)
    np.testing.assert_allclose(weights * [10, 20, 40], 70 / 3)
    found = rj.moments(x, labels, class_weight="balanced")
    assert (float(found.samples), float(found.weight)) == (70, pytest.approx(70))
    assert_moments(found, wanted)
    assert_moments(rj.moments(x, labels, class_weight=weights), wanted)
    cuts = [15, 16]
    batches = zip(np.split(x, cuts), np.split(labels, cuts), strict=True)
    assert_moments(rj.moments_from_batches(batches, num_classes=3, class_weight=weights), wanted)
    np.testing.assert_allclose(found.mean_y, 1 / 3)


def test_classes_that_are_missing_get_no_weight():
    x, labels = unbalanced()
    np.testing.assert_allclose(
        rj.summary.balanced_class_weight(labels, 5) * np.bincount(labels, minlength=5),
        [70 / 3, 70 / 3, 70 / 3, 0, 0],
    )
    found = rj.moments(x, labels, num_classes=5, class_weight="balanced")
    np.testing.assert_allclose(found.mean_y, [1 / 3, 1 / 3, 1 / 3, 0, 0], atol=1e-15)


def test_class_weights_count_samples_and_a_weight_of_zero_leaves_them_out():
    x, labels = unbalanced()
    weights = np.array([2.0, 0.0, 0.5])
    found = rj.moments(x, labels, class_weight=weights)
    inside = labels != 1
    wanted = expected(x[inside], labels[inside], weights[labels[inside]])
    assert_moments(found, wanted)
    assert float(found.samples) == inside.sum()


def test_batches_of_classes_without_weight_are_left_out():
    x, labels = unbalanced()
    weights = np.array([0.0, 1.0, 2.0])
    batches = [(x[i : i + 5], labels[i : i + 5]) for i in range(0, 70, 5)]  # two of class 0 alone
    found = rj.moments_from_batches(batches, num_classes=3, class_weight=weights)
    wanted = expected(x[10:], labels[10:], weights[labels[10:]])
    assert_moments(found, wanted)


def test_weights_of_8_bit_images_are_counted_too():
    x, labels = unbalanced()
    pixels = np.clip(20 * x + 100, 0, 255).astype(np.uint8)
    weights = np.array([2.0, 1.0, 0.5])
    found = rj.moments(pixels, labels, class_weight=weights)
    assert_moments(found, expected(pixels / 255, labels, weights[labels]))


# Uncentered and standardized


def test_uncentered_moments_are_about_zero():
    x, labels = data()
    assert_moments(rj.summary.uncentered(rj.moments(x, labels)), expected(x, labels, center=False))
    assert not rj.summary.uncentered(rj.moments(x, labels)).centered


# jit and vmap


def test_moments_under_jit_and_vmap():
    x, labels = data()
    wanted = expected(x, labels)
    found = jax.jit(functools.partial(rj.moments, num_classes=3))(x, labels)
    assert_moments(found, wanted)
    pixels = np.clip(20 * x + 100, 0, 255).astype(np.uint8)
    found = jax.jit(functools.partial(rj.moments, num_classes=3))(pixels, labels)
    assert_moments(found, expected(pixels / 255, labels))
    balanced = jax.jit(functools.partial(rj.moments, num_classes=3, class_weight="balanced"))
    assert_moments(balanced(x, labels), jax.tree.map(np.asarray, vars_of(x, labels)))
    stacked = jax.vmap(functools.partial(rj.moments, num_classes=3))(
        np.stack([x, 2 * x]), np.stack([labels, labels])
    )
    assert_moments(jax.tree.map(lambda leaf: leaf[1], stacked), expected(2 * x, labels))


def vars_of(x, labels):
    found = rj.moments(x, labels, class_weight="balanced")
    return {name: getattr(found, name) for name in FIELDS}


def test_num_classes_is_needed_under_jit():
    with pytest.raises(ValueError, match=r"num_classes: None; it must be given under jax.jit"):
        jax.jit(rj.moments)(*data())


def test_shorter_batches_and_other_data_do_not_trace_again(monkeypatch):
    module = importlib.import_module("reconjax.summary.moments")
    once = module.batch_moments.__wrapped__
    traced = chex.assert_max_traces(once, n=1)
    counted = jax.jit(traced, static_argnames=("dtype", "num_classes", "weighted"))
    monkeypatch.setattr(module, "batch_moments", counted)
    x, labels = data()
    rj.moments(x, labels)
    rj.moments(x + 1, labels[::-1])
    batches = [(x, labels), (x[:5], labels[:5]), (x[:17], labels[:17])]
    with pytest.raises(AssertionError, match="traced"):
        rj.moments(x[:17], labels[:17])
    chex.clear_trace_counter()
    streaming = importlib.import_module("reconjax.summary.streaming")
    streamed = chex.assert_max_traces(streaming._add.__wrapped__, n=1)
    streamed = jax.jit(streamed, static_argnames=("dtype", "num_classes", "weighted"))
    monkeypatch.setattr(streaming, "batch_moments", once.__wrapped__)
    monkeypatch.setattr(streaming, "_add", streamed)
    rj.moments_from_batches(batches, num_classes=3)
    with pytest.raises(AssertionError, match="traced"):
        rj.moments_from_batches(batches[1:], num_classes=3)


# Errors

X, Y = data(samples=8, features=3)


def holed(value):
    x = X.copy()
    x[2, 1] = value
    return x


@pytest.mark.parametrize(
    ("x", "y", "options", "match"),
    [
        (holed(np.nan), Y, {}, "x: NaN or inf in 1 of 3 features"),
        (holed(np.inf), Y, {}, "x: NaN or inf in 1 of 3 features"),
        (X, np.full((8, 2), np.nan), {}, "y: NaN or inf"),
        (X, Y[:5], {}, "y: 5 labels for 8 samples of x"),
        (X[:, 0], Y, {}, r"x: shape \(8,\); \(N, D\) or \(N, H, W, C\)"),
        (X, Y.reshape(2, 2, 2), {}, r"y: shape \(2, 2, 2\); \(N,\) labels or"),
        (X, -Y, {}, "y: label -2; labels are 0 .. C-1"),
        (X, Y + 0.5, {"num_classes": 4}, "y: labels that are not whole numbers"),
        (X, Y + np.nan, {}, "y: labels that are not whole numbers"),
        (X, np.ones(8, int), {}, "y: only class 1 occurs; at least 2 are needed"),
        (X, np.ones((8, 2)), {}, "y: constant"),
        (X[:1], Y[:1], {}, "1 occurs|only class|1 samples; at least 2"),
        (X[:1], np.eye(2)[:1], {}, "x: 1 samples; at least 2 are needed"),
        (X[:0], np.zeros((0, 2)), {}, "x: 0 samples; at least 2 are needed"),
        (X, Y, {"class_weight": "equal"}, "class_weight: 'equal'; None, 'balanced'"),
        (X, Y, {"class_weight": [1.0, 2.0]}, r"class_weight: shape \(2,\); \(3,\) is needed"),
        (X, Y, {"class_weight": [1.0, -1.0, 1.0]}, "class_weight: negative or not finite"),
        (X, Y, {"class_weight": [1.0, np.nan, 1.0]}, "class_weight: negative or not finite"),
        (X, np.eye(3)[Y], {"class_weight": "balanced"}, "class_weight: given, but y are real"),
        (X, Y, {"num_classes": 2}, "y: label 2; num_classes=2 allows 0 .. C-1"),
    ],
)
def test_data_that_no_theorem_can_use_are_refused(x, y, options, match):
    with pytest.raises(ValueError, match=match):
        rj.moments(x, y, **options)


@pytest.mark.parametrize(
    ("batches", "options", "match"),
    [
        ([], {"num_classes": 3}, "batches: 0 samples in all; at least 2 are needed"),
        ([(X[:0], Y[:0])] * 2, {"num_classes": 3}, "batches: 0 samples in all"),
        ([(X[:1], Y[:1])], {"num_classes": 3}, "batches: 1 samples in all"),
        ((X, Y), {"num_classes": 3}, r"batches: pairs \(x, y\) of a batch each are needed"),
        ([(X, Y)], {}, "num_classes: None; batches of integer labels need the number"),
        ([(X, Y)], {"num_classes": 3, "class_weight": "balanced"}, "balanced_class_weight"),
        ([(X, Y), (holed(np.nan), Y)], {"num_classes": 3}, "x: NaN or inf in 1 of 3 features"),
        ([(X, Y), (X, Y + 9)], {"num_classes": 3}, "y: label 11; num_classes=3 allows"),
        ([(X, Y), (X, -Y)], {"num_classes": 3}, "y: label -2"),
        ([(X, Y), (X, Y[:2])], {"num_classes": 3}, "y: 2 labels for 8 samples"),
        ([(X, 0 * Y)] * 2, {"num_classes": 3}, "y: constant"),
        ([(X, Y), (X[:, :2], Y)], {"num_classes": 3}, "batches: one of 2 features after 3"),
        ([(X, Y), (X, X[:, :2])], {"num_classes": 3}, "batches: one of 2 targets after 3"),
        (
            [(X.astype(np.uint8), Y), (X[:, :2].astype(np.uint8), Y)],
            {"num_classes": 3},
            "batches: one of 2 features after 3",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:invalid value encountered in cast")
def test_batches_that_no_theorem_can_use_are_refused(batches, options, match):
    with pytest.raises(ValueError, match=match):
        rj.moments_from_batches(batches, **options)


def test_moments_that_do_not_belong_together_are_not_merged():
    one = rj.moments(X, Y)
    with pytest.raises(ValueError, match="centered: True and False cannot be merged"):
        rj.merge(one, rj.summary.uncentered(one))
    with pytest.raises(ValueError, match="3 features and 3 targets cannot be merged with 2 and 3"):
        rj.merge(one, rj.moments(X[:, :2], Y))
    with pytest.raises(ValueError, match="3 targets cannot be merged with 3 and 4"):
        rj.merge(one, rj.moments(X, Y, num_classes=4))
