"""Chance with class weights against labels that are permuted with their weights, in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from threadpoolctl import threadpool_limits

import reconjax
from reconjax.cli.tables import too_few
from reconjax.summary.moments import uncentered
from reconjax.theory.chance import ENOUGH, beyond_chance, equal_weights, permuted

# On matrices this small, threads of BLAS cost ten times what they save.
threadpool_limits(1)


def curves(x, labels, weights):
    """Explained share, Eq. 7 and its other conventions at every K, of one labeling."""
    unit = weights[labels] / weights[labels].sum()
    y = np.eye(len(weights))[labels]
    x, mean = x - unit @ x, unit @ y
    s = (y - mean).T @ ((y - mean) * unit[:, None])
    u, d, _ = np.linalg.svd(x * np.sqrt(unit)[:, None], full_matrices=False)
    u = u[:, d > 1e-10 * d[0]]
    along = ((y - mean) * np.sqrt(unit)[:, None]).T @ u
    loss, eq7 = np.sum(along**2, axis=0), np.sum(along * (s @ along), axis=0)
    raw = np.sum(along * ((s + np.outer(mean, mean)) @ along), axis=0)
    return np.array(
        [
            np.cumsum(loss) / np.trace(s),
            np.cumsum(eq7) / eq7.sum(),
            np.cumsum(loss) / loss.sum(),
            np.cumsum(eq7) / np.sum(s**2),
            np.sqrt(np.cumsum(raw) / raw.sum()),
        ]
    )


def permutations(x, labels, weights, count=240, seed=7):
    rng = np.random.default_rng(seed)
    every = np.stack([curves(x, rng.permutation(labels), weights) for _ in range(count)])
    return every.mean(0), every.std(0) / count**0.5


def rare(samples, positives, features, seed=0):
    x = np.random.default_rng(seed).normal(size=(samples, features))
    return x, (np.arange(samples) < positives).astype(int)


def check(x, labels, weights, by=4.5):
    """All curves within the Monte Carlo errors of both."""
    wanted, error = permutations(x, labels, weights)
    moments = reconjax.moments(x, labels, class_weight=weights)
    drawn = permuted(moments.unweighted)
    found = np.array(drawn[:5])
    allowed = by * np.hypot(error, drawn.error) + 1e-9
    assert np.all(np.abs(found - wanted) <= allowed), np.max((found - wanted) / allowed)
    assert drawn.error < 0.02
    return moments, drawn, wanted


@pytest.mark.parametrize(
    ("samples", "positives", "features", "latent_dim", "expected"),
    [
        (3000, 4, 30, 4, 0.772),
        (3000, 30, 30, 30, 0.227),
        (200, 20, 10, 10, 0.138),
        (12, 1, 5, 1, 0.62),
        (200, 4, 5, 5, 0.304),
    ],
)
def test_rare_classes_that_weigh_as_much_as_all_others(
    samples, positives, features, latent_dim, expected
):
    x, labels = rare(samples, positives, features)
    weights = reconjax.summary.balanced_class_weight(labels, 2)
    moments, drawn, _ = check(x, labels, weights)
    curve = reconjax.alignment(reconjax.spectrum(moments))
    np.testing.assert_allclose(curve.r2_chance, drawn.r2, rtol=1e-12)
    np.testing.assert_allclose(curve.chance, drawn.eq7, rtol=1e-12)
    # That of other inputs, of which chance depends on those at hand where they are few.
    assert abs(float(curve.r2_chance[latent_dim - 1]) - expected) < 0.1
    if (positives, latent_dim) == (4, 4):
        assert float(curve.chance[3]) > 0.98


@pytest.mark.parametrize("seed", range(4))
def test_random_weights_counts_and_spectra(seed):
    rng = np.random.default_rng(seed)
    classes, features = int(rng.integers(2, 7)), int(rng.integers(3, 14))
    counts = rng.integers(2, 60, classes)
    labels = np.repeat(np.arange(classes), counts)
    x = rng.normal(size=(len(labels), features)) * np.geomspace(1, 0.03, features)
    x = x + 0.3 * rng.normal(size=(classes, features))[labels]
    check(x, labels, rng.exponential(size=classes) + 0.05)


def test_fewer_samples_than_features():
    x, labels = rare(14, 3, 20)
    weights = reconjax.summary.balanced_class_weight(labels, 2)
    _, drawn, _ = check(x, labels, weights)
    assert len(drawn.r2) == 13
    np.testing.assert_allclose(drawn.r2[-1], 1)


def test_samples_that_count_alike_keep_the_exact_chance():
    x, labels = rare(60, 30, 6)
    plain = reconjax.moments(x, labels)
    alike = reconjax.moments(x, labels, class_weight="balanced")
    assert plain.unweighted is None
    assert equal_weights(alike.unweighted)
    for moments in (plain, alike):
        curve = reconjax.alignment(reconjax.spectrum(moments))
        np.testing.assert_array_equal(curve.r2_chance, np.arange(1, 7) / 59)
        np.testing.assert_allclose(curve.chance, np.arange(1, 7) / 6, rtol=1e-15)
    # The draws know it too.
    drawn = permuted(alike.unweighted)
    np.testing.assert_allclose(drawn.r2, np.arange(1, 7) / 59, atol=5 * drawn.error)
    np.testing.assert_allclose(drawn.eq7, np.arange(1, 7) / 6, atol=5 * drawn.error)


def leaves(moments):
    return jax.tree.leaves(moments.unweighted)


def test_parts_batches_and_folds_keep_what_chance_needs():
    x, labels = rare(90, 12, 5)
    x = x + 3
    weights = reconjax.summary.balanced_class_weight(labels, 2)
    whole = reconjax.moments(x, labels, class_weight=weights)
    order = np.random.default_rng(2).permutation(90)
    x, labels = x[order], labels[order]
    cuts = (slice(0, 37), slice(37, 90))
    parts = [reconjax.moments(x[c], labels[c], class_weight=weights) for c in cuts]
    stacked = jax.tree.map(lambda *each: jnp.stack(each), *parts)
    others = (
        reconjax.merge(*parts),
        reconjax.summary.combined(stacked),
        reconjax.moments_from_batches(
            ((x[c], labels[c]) for c in cuts), num_classes=2, class_weight=weights
        ),
    )
    for other in others:
        for found, wanted in zip(leaves(other), leaves(whole), strict=True):
            np.testing.assert_allclose(found, wanted, atol=1e-13)
    plain = reconjax.moments(x, labels)
    np.testing.assert_allclose(whole.unweighted.second_moment, plain.second_moment, atol=1e-13)
    np.testing.assert_allclose(whole.unweighted.weights, [45, 45])
    assert uncentered(whole).unweighted is None
    std = np.sqrt(np.diagonal(plain.second_moment))
    np.testing.assert_allclose(
        reconjax.standardized(whole).unweighted.second_moment,
        plain.second_moment / np.outer(std, std),
        atol=1e-13,
    )
    with pytest.raises(ValueError, match="class weights"):
        reconjax.merge(whole, plain)


def test_while_traced_chance_is_unknown():
    x, labels = rare(50, 9, 4)
    moments = reconjax.moments(x, labels, class_weight="balanced")
    traced = jax.jit(lambda m: reconjax.alignment(reconjax.spectrum(m)))(moments)
    assert np.all(np.isnan(traced.chance))
    assert np.all(np.isnan(traced.r2_chance))
    without = reconjax.alignment(reconjax.spectrum(moments), with_chance=False)
    assert np.all(np.isnan(without.chance))
    np.testing.assert_allclose(without.r2, traced.r2, rtol=1e-12)


def test_a_line_says_where_few_examples_tell_nothing():
    assert too_few([1, 2], [0.1, 0.49]) is None
    assert "from K = 2 on" in too_few([1, 2, 4], [0.2, 0.6, 0.9])


@pytest.mark.slow
def test_the_stated_error_is_that_of_other_seeds():
    x, labels = rare(400, 40, 8)
    unweighted = reconjax.moments(x, labels, class_weight="balanced").unweighted
    drawn = [permuted(unweighted, seed=seed) for seed in range(8)]
    spread = np.std([np.array(one[:5]) for one in drawn], axis=0, ddof=1)
    assert 0.4 * np.max(spread) < drawn[0].error < 2 * ENOUGH


@pytest.mark.parametrize(("samples", "classes"), [(80, 2), (40, 5)])
def test_permuted_labels_seldom_are_beyond_chance_and_true_ones_are(samples, classes):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(samples, 12))
    left = np.linalg.svd(x - x.mean(0), full_matrices=False)[0]
    labels = np.arange(samples) % classes
    dims = np.arange(1, 13)

    def explained(labels):
        y = np.eye(classes)[labels] - np.bincount(labels) / samples
        return np.cumsum(np.sum((y.T @ left) ** 2, axis=0)) / np.sum(y**2)

    drawn = np.array([explained(rng.permutation(labels)) for _ in range(3000)])
    beyond = [beyond_chance(row, dims, 12, samples, classes) for row in drawn]
    # Three standard deviations of something skewed to the right.
    assert 0 < np.mean(beyond) < 0.02
    # The variance that it takes for granted.
    free = samples - 1
    expected = 2 * dims * (free - dims) / (free**2 * (free + 2)) / (classes - 1)
    np.testing.assert_allclose(drawn.var(0), expected, rtol=0.2)
    np.testing.assert_allclose(drawn.mean(0), dims / free, rtol=0.05)
    ordered = (np.argsort(np.argsort(left[:, 3])) * classes) // samples
    assert beyond_chance(explained(ordered), dims, 12, samples, classes)[3]
    # As many directions as samples explain everything.
    assert not beyond_chance(np.ones(1), np.array([40]), 39, 40, 2).any()
