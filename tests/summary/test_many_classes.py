"""Integer labels of many classes: nothing of size C x C, and the values of few."""

import time
import tracemalloc

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import reconjax
from reconjax.summary.class_moment import MANY, ClassMoment
from reconjax.summary.exact_sums import ExactSums
from reconjax.summary.moments import batch_moments, uncentered
from reconjax.theory.alignment import CONVENTIONS

CLASSES = 8142
SAMPLES = 24_000
FEATURES = 64


def many(seed=0, classes=CLASSES, samples=SAMPLES, features=FEATURES):
    rng = np.random.default_rng(seed)
    labels = np.append(np.arange(classes), rng.integers(0, classes, samples - classes))
    centers = rng.normal(size=(classes, features))
    x = centers[labels] + rng.normal(size=(samples, features))
    return x * np.geomspace(1, 0.05, features), labels


def by_class_sums(x, labels, weights=None):
    """d, r2 and Eq. 7 at every K, from class sums and NumPy's SVD."""
    unit = np.ones(len(x)) if weights is None else weights
    unit = unit / unit.sum()
    x = x - unit @ x
    share = np.bincount(labels, unit)
    u, s, _ = np.linalg.svd(x * np.sqrt(unit)[:, None], full_matrices=False)
    sums = np.zeros((share.size, u.shape[1]))
    np.add.at(sums, labels, u * np.sqrt(unit)[:, None])
    sums = sums - np.outer(share, np.sqrt(unit) @ u)
    squares = np.sum(sums**2, axis=0)
    eq7 = share @ sums**2 - (share @ sums) ** 2
    return (
        s**2,
        np.cumsum(squares) / np.sum(share * (1 - share)),
        np.cumsum(eq7) / eq7.sum(),
    )


def check(spectrum, x, labels, weights=None, atol=1e-10):
    curve = reconjax.alignment(spectrum)
    eigenvalues, r2, alignment = by_class_sums(x, labels, weights)
    np.testing.assert_allclose(curve.eigenvalues, eigenvalues, rtol=1e-9)
    np.testing.assert_allclose(curve.r2, r2, atol=atol)
    np.testing.assert_allclose(curve.alignment, alignment, atol=atol)


def test_8142_classes_take_seconds_and_little_memory():
    x, labels = many()
    tracemalloc.start()
    begin = time.perf_counter()
    moments = reconjax.moments_from_batches(
        ((x[i : i + 4096], labels[i : i + 4096]) for i in range(0, SAMPLES, 4096)),
        num_classes=CLASSES,
    )
    spectrum = reconjax.spectrum(moments)
    jax.block_until_ready(reconjax.alignment(spectrum))
    seconds, peak = time.perf_counter() - begin, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert seconds < 30
    assert peak < 2**28
    check(spectrum, x, labels)


def largest_array(function, *arguments):
    """The number of entries of the largest array that a function makes."""

    def jaxprs(jaxpr):
        yield jaxpr
        for equation in jaxpr.eqns:
            for value in equation.params.values():
                for part in value if isinstance(value, tuple | list) else [value]:
                    inner = getattr(part, "jaxpr", part)
                    if hasattr(inner, "eqns"):
                        yield from jaxprs(inner)

    sizes = [
        variable.aval.size
        for jaxpr in jaxprs(jax.make_jaxpr(function)(*arguments).jaxpr)
        for equation in jaxpr.eqns
        for variable in equation.outvars
    ]
    return max(sizes)


def test_nothing_is_of_the_size_of_classes_squared():
    classes, samples = 2000, 2500
    x, labels = many(classes=classes, samples=samples, features=8)
    labels = jnp.asarray(labels, jnp.int32)
    ones = jnp.ones(samples)

    def everything(x, labels, weights):
        found = batch_moments(x, labels, weights, dtype=jnp.float64, num_classes=classes)
        found = reconjax.merge(found, found)
        posed = reconjax.problem(found, reconjax.noise.gaussian(0.3))
        solutions = [reconjax.solve(posed, weight) for weight in (0.0, 2.0)]
        curves = [
            reconjax.alignment(reconjax.spectrum(found), convention=convention)
            for convention in CONVENTIONS
        ]
        return solutions, curves

    assert largest_array(everything, jnp.asarray(x), labels, ones) <= 8 * samples
    assert largest_array(everything, jnp.asarray(x), labels, ones) >= 8 * classes


@pytest.fixture
def both():
    """The same samples as many classes, and with a few more classes than that dense."""
    x, labels = many(classes=MANY + 88, samples=900, features=12)
    targets = np.eye(MANY + 88)[labels]
    return x, labels, reconjax.moments(x, labels, targets="classes"), reconjax.moments(x, targets)


def test_moments_are_those_of_dense_targets(both):
    *_, found, dense = both
    assert isinstance(found.label_moment, ClassMoment)
    assert found.targets == dense.targets
    for name in ("mean_x", "mean_y", "second_moment", "cross_moment"):
        np.testing.assert_allclose(getattr(found, name), getattr(dense, name), atol=1e-14)
    for mine, theirs in (
        (found, dense),
        (
            uncentered(found),
            uncentered(dense),
        ),
    ):
        moment = mine.label_moment
        np.testing.assert_allclose(moment.dense(), theirs.label_moment, atol=1e-15)
        np.testing.assert_allclose(moment.trace(), np.trace(theirs.label_moment), rtol=1e-12)
        np.testing.assert_allclose(moment.squares(), np.sum(theirs.label_moment**2), rtol=1e-12)
        assert moment.shape == theirs.label_moment.shape


def test_solutions_are_those_of_dense_targets(both):
    *_, found, dense = both
    noise = reconjax.noise.gaussian(0.2)
    for weight in (np.inf, 1.0, 0.0):
        mine, theirs = (reconjax.solve(reconjax.problem(m, noise), weight) for m in (found, dense))
        for name in ("r2", "reconstruction_loss"):
            np.testing.assert_allclose(getattr(mine, name), getattr(theirs, name), atol=1e-10)
    for convention in ("eq7", "loss", "sec58", "reference"):
        mine, theirs = (
            reconjax.alignment(reconjax.spectrum(m), convention=convention) for m in (found, dense)
        )
        np.testing.assert_allclose(mine.alignment, theirs.alignment, atol=1e-12)
    grid = reconjax.grid.gaussian_grid([0.0, 0.5])
    mine, theirs = (
        reconjax.sweep(m, grid, reconstruction_weights=[0.0, np.inf]) for m in (found, dense)
    )
    np.testing.assert_allclose(mine.r2, theirs.r2, atol=1e-10)


def test_weights_folds_and_parts(both):
    x, labels, *_ = both
    classes = labels.max() + 1
    weight = reconjax.summary.balanced_class_weight(labels, classes)
    whole = reconjax.moments(x, labels, class_weight=weight, targets="classes")
    check(reconjax.spectrum(whole), x, labels, weight[labels])
    parts = [
        reconjax.moments(x[part], labels[part], class_weight=weight, num_classes=classes)
        for part in (slice(0, 300), slice(300, None))
    ]
    merged = reconjax.merge(*parts)
    check(reconjax.spectrum(merged), x, labels, weight[labels])
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *parts)
    check(reconjax.spectrum(reconjax.summary.combined(stacked)), x, labels, weight[labels])


def test_8_bit_images_are_summed_without_rounding():
    rng = np.random.default_rng(3)
    classes, samples = MANY + 10, 1500
    labels = np.append(np.arange(classes), rng.integers(0, classes, samples - classes))
    x = rng.integers(0, 256, (samples, 20), dtype=np.uint8)
    whole = reconjax.moments(x, labels, targets="classes")
    again = reconjax.moments_from_batches(
        ((x[i : i + 400], labels[i : i + 400]) for i in range(0, samples, 400)),
        num_classes=classes,
    )
    for one, other in zip(jax.tree.leaves(whole), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(one, other)
    check(reconjax.spectrum(whole), x / 255, labels, atol=1e-12)
    with pytest.raises(ValueError, match="num_classes"):
        ExactSums(3, classes).totals()


def test_fewer_samples_than_features():
    x, labels = many(classes=MANY + 8, samples=540, features=560)
    found = reconjax.alignment(reconjax.spectrum_from_samples(x, labels, num_classes=MANY + 8))
    _, r2, alignment = by_class_sums(x, labels)
    np.testing.assert_allclose(found.r2[:539], r2[:539], atol=1e-10)
    np.testing.assert_allclose(found.alignment[:539], alignment[:539], atol=1e-10)
