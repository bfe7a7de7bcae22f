"""Standard errors, held-out curves and p-values: against dense formulas, and their calibration."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from scipy import stats

import reconjax as rj
from reconjax.data import Dataset
from reconjax.evidence.bootstrap import BALANCED, Bootstrap, balanced_halves, bootstrap
from reconjax.evidence.p_values import search_p_values
from reconjax.summary.folds import combined, each_fold, fold_moments, most_folds, stratified
from reconjax.summary.moments import Moments, batch_moments
from reconjax.theory.held_out import HeldOut, held_out, held_out_r2

CLASSES = oracle.CLASSES


def splits(name="unbalanced", samples=60):
    """A data set whose test split is drawn from elsewhere, and its arrays."""
    images, labels = oracle.dataset(name)
    more, others = oracle.dataset(name, seed=1)
    more = more * 1.1 + 0.2  # another mean, other variances
    data = Dataset.from_arrays(images, labels, more[:samples], others[:samples])
    return data, images, labels, more[:samples], others[:samples]


def assert_moments_of(found, images, labels, weight=None):
    """That moments are those of these samples, by NumPy."""
    weights = np.ones(len(labels)) if weight is None else weight[labels]
    scale = 255 if images.dtype == np.uint8 else 1
    x, y = images.reshape(len(images), -1) / scale, np.eye(CLASSES)[labels]
    unit = weights / weights.sum()
    mean_x, mean_y = unit @ x, unit @ y
    x, y = x - mean_x, y - mean_y
    expected = {
        "samples": len(labels),
        "weight": weights.sum(),
        "mean_x": mean_x,
        "mean_y": mean_y,
        "second_moment": (x.T * unit) @ x,
        "cross_moment": (x.T * unit) @ y,
        "label_moment": (y.T * unit) @ y,
        "scale": np.ones(x.shape[1]),
    }
    for name, values in expected.items():
        got = getattr(found, name)
        np.testing.assert_allclose(got, values, rtol=1e-10, atol=1e-13, err_msg=name)


# Folds


def test_folds_are_stratified_and_of_equal_size():
    labels = np.random.default_rng(0).choice(4, 203, p=[0.05, 0.15, 0.3, 0.5])
    fold = stratified(labels, 7)
    for part in (labels >= 0, *(labels == c for c in range(4))):
        counts = np.bincount(fold[part], minlength=7)
        assert counts.max() - counts.min() <= 1
    np.testing.assert_array_equal(fold, stratified(labels, 7))
    assert np.any(fold != stratified(labels, 7, seed=1))
    # Drawn at random: neighbors of a class are not dealt in turn.
    assert len(set(np.diff(fold[labels == 3]) % 7)) > 2


def test_how_many_folds_there_can_be():
    labels = np.repeat([0, 1, 2], [30, 9, 2])
    assert most_folds(labels) == 9
    assert most_folds(np.zeros(5, int)) == 0
    for folds in (1, 10):
        with pytest.raises(ValueError, match=rf"folds: {folds}; 2 \.\. 9 is allowed"):
            stratified(labels, folds)
    fold = stratified(labels, 9)
    assert all(len(set(labels[fold == b])) > 1 for b in range(9))


@pytest.mark.parametrize("stored", ["float", "uint8"])
def test_sums_of_folds_are_the_moments_of_their_samples(stored):
    _, images, labels, _, _ = splits()
    if stored == "uint8":
        images = np.clip(100 * images + 60, 0, 255).astype(np.uint8)
    data = Dataset.from_arrays(images, labels)
    weight = None if stored == "uint8" else np.array([1.0, 2.0, 0.5, 1.0])
    read = []
    folds = fold_moments(
        data.train, 7, num_classes=CLASSES, class_weight=weight, seed=3, progress=read.append
    )
    assert sum(read) == len(labels)  # each sample once
    assert_moments_of(combined(folds), images, labels, weight)
    fold = stratified(labels, 7, seed=3)
    for counts in ([0, 1, 1, 1, 1, 1, 1], [0, 2, 1, 0, 0, 3, 1]):
        rows = np.concatenate([np.flatnonzero(fold == b) for b in np.repeat(range(7), counts)])
        assert_moments_of(combined(folds, np.array(counts)), images[rows], labels[rows], weight)
    second = combined(folds).second_moment
    np.testing.assert_array_equal(second, second.T)


def test_folds_do_not_compile_again():
    data, *_ = splits()
    fold_moments(data.train, 7, num_classes=CLASSES)
    count = batch_moments._cache_size()
    fold_moments(data.train, 7, num_classes=CLASSES, seed=1)
    assert batch_moments._cache_size() == count


# Standard errors


@pytest.mark.parametrize("folds", BALANCED)
def test_halves_are_balanced(folds):
    halves = balanced_halves(folds)
    assert np.all(halves.sum(1) == (folds - 1) / 2)
    together = halves.T @ halves
    assert set(np.diagonal(together)) == {(folds - 1) / 2}
    assert set(together[~np.eye(folds, dtype=bool)]) == {(folds - 3) / 4}


def test_of_a_linear_curve_the_standard_error_is_the_textbook_one():
    means = np.random.default_rng(0).normal(size=(11, 3))
    halves = balanced_halves(11) @ means / 5
    found = Bootstrap(jnp.asarray(means.mean(0)), jnp.asarray(halves))
    np.testing.assert_allclose(found.standard_error, means.std(0, ddof=1) / 11**0.5, rtol=1e-12)
    np.testing.assert_allclose(found.corrected, means.mean(0), rtol=1e-12)
    low, high = found.interval(0.95)
    expected = stats.t.interval(0.95, 10, means.mean(0), stats.sem(means))
    np.testing.assert_allclose([low, high], expected, rtol=1e-10)


def test_a_bias_of_first_order_is_taken_off():
    # Of a variance about the mean it is -σ² / N, and nothing else.
    values = np.random.default_rng(0).normal(size=(19, 8))
    whole = values.var()
    halves = [values[row > 0].var() for row in balanced_halves(19)]
    found = Bootstrap(jnp.asarray(whole), jnp.asarray(halves))
    between = values.mean(1).var() * 19 / 18  # the folds know of the means between them
    assert float(found.corrected) == pytest.approx(whole + between / 19, rel=1e-10)


def test_a_bootstrap_is_of_any_tree_and_reads_nothing_again():
    data, images, labels, _, _ = splits()
    folds = fold_moments(data.train, 7, num_classes=CLASSES)
    curves = []

    def curve(moments):
        curves.append(moments)
        found = rj.alignment(rj.spectrum(moments))
        return {"r2": found.r2, "alignment": found.alignment}

    found = bootstrap(folds, curve)
    assert len(curves) == 8
    assert_moments_of(curves[0], images, labels)
    expected = rj.alignment(rj.spectrum(curves[0]))
    for name in ("r2", "alignment"):
        np.testing.assert_allclose(found[name].value, getattr(expected, name), atol=1e-10)
        assert found[name].halves.shape == (7, 32)
        assert found[name].folds == 7
    for moments, half, row in zip(curves[1:], found["r2"].halves, balanced_halves(7), strict=True):
        rows = np.isin(stratified(labels, 7), np.flatnonzero(row))
        assert_moments_of(moments, images[rows], labels[rows])
        r2 = rj.alignment(rj.spectrum(moments)).r2
        np.testing.assert_allclose(half, r2, atol=1e-10)
    with pytest.raises(ValueError, match="folds: 6; one of 7, 11, 19"):
        bootstrap(jax.tree.map(lambda leaf: leaf[:6], folds), curve)
    with pytest.raises(ValueError, match=r"level: 1\.5"):
        found["r2"].interval(1.5)


class Population:
    """Gaussian classes, of which all moments are known."""

    def __init__(self, features=6, classes=3, samples=608, folds=19):
        self.deviation = np.geomspace(3, 0.4, features)  # eigenvalues well apart
        # Every direction tells something of the classes.
        turn = 2 * np.pi * np.arange(classes)[:, None] / classes + np.arange(features)
        self.means = 0.6 * np.cos(turn) * self.deviation
        self.labels = np.repeat(np.arange(classes), samples // classes + 1)[:samples]
        share = np.bincount(self.labels) / samples
        apart = self.means - share @ self.means
        one, zero = jnp.asarray(1.0), jnp.zeros(features)
        self.moments = Moments(
            samples=one * samples,
            weight=one * samples,
            mean_x=zero,
            mean_y=jnp.asarray(share),
            second_moment=jnp.asarray(np.diag(self.deviation**2) + (apart.T * share) @ apart),
            cross_moment=jnp.asarray((apart.T * share) @ (np.eye(classes) - share)),
            label_moment=jnp.asarray(np.diag(share) - np.outer(share, share)),
            scale=zero + 1,
        )
        self.fold = stratified(self.labels, folds)
        self.rows = jnp.stack([np.flatnonzero(self.fold == b) for b in range(folds)])

    def folds(self, key):
        """Moments of the folds of one data set, drawn anew with the same labels."""
        noise = jax.random.normal(key, (len(self.labels), len(self.deviation)))
        x, y = self.means[self.labels] + noise * self.deviation, jnp.asarray(self.labels)

        def one_fold(rows):
            ones = jnp.ones(len(rows))
            return batch_moments(x[rows], y[rows], ones, dtype=jnp.float64, num_classes=3)

        return jax.vmap(one_fold)(self.rows)


@pytest.mark.slow
def test_intervals_cover_the_curve_of_the_population():
    """In 85 to 95 % of data sets, at 90 %: of alignment, of a mask and of the gain by the mask."""
    population = Population()
    grid = rj.grid.pixel_grid((6,), [0.0, 0.3])
    weights = jnp.asarray(np.vstack([np.ones(19), balanced_halves(19)]))

    def curve(moments):
        found = rj.alignment(rj.spectrum(moments))
        none, mask = rj.sweep(moments, grid, latent_dims=[1, 2, 4]).r2[0, :, 0]
        # At K = D alignment is 1, whatever the data.
        return jnp.concatenate([found.r2, found.alignment[:-1], mask, mask - none])

    @jax.jit
    def data_set(key):
        folds = population.folds(key)
        return jax.lax.map(lambda row: curve(combined(folds, row)), weights)

    truth = curve(population.moments)
    assert np.min(np.abs(truth[-3:])) > 1e-4  # the mask does change something
    found = jax.lax.map(data_set, jax.random.split(jax.random.key(0), 600), batch_size=100)
    estimate = Bootstrap(found[:, 0], jnp.moveaxis(found[:, 1:], 1, 0))
    low, high = estimate.interval(0.9)
    cover = np.mean((low <= truth) & (truth <= high), axis=0)
    assert np.all((cover > 0.85) & (cover < 0.95)), cover
    # With K = D the curve of the training data lies too high, by overfitting.
    off = [(values - truth)[:, 5] for values in (estimate.value, estimate.corrected)]
    deviations = [np.mean(o) / (np.std(o) / len(o) ** 0.5) for o in off]
    assert deviations[0] > 5
    assert abs(deviations[1]) < 3


# Held-out curves


def explained_on(test, encoder, x, y, noisy, readout):
    """1 - loss / variance on other data, each head by least squares, for every K; dense."""
    other_x, other_y, other_noisy = test
    found = []
    for k in range(1, encoder.shape[1] + 1):
        v = encoder[:, :k]
        if readout == "clean":
            head = np.linalg.lstsq(x @ v, y)[0]
            loss = np.sum((other_x @ v @ head - other_y) ** 2) / len(other_y)
        else:
            head = np.linalg.solve(v.T @ noisy.second @ v, v.T @ noisy.labels)
            loss = np.sum(other_y**2) / len(other_y)
            loss += np.trace(
                head.T @ v.T @ (other_noisy.second @ v @ head - 2 * other_noisy.labels)
            )
        found.append(1 - loss * len(other_y) / np.sum(other_y**2))
    return np.array(found + [found[-1]] * (x.shape[1] - len(found)))


def about_training(images, labels, more, others):
    """Both splits, flat, about the means of the first."""
    x, y = oracle.centered(images, labels)
    flat = images.reshape(len(images), -1)
    test_y = np.eye(CLASSES)[others] - np.eye(CLASSES)[labels].mean(0)
    return x, y, more.reshape(len(more), -1) - flat.mean(0), test_y


@pytest.mark.parametrize("name", ["unbalanced", "low rank", "constant pixels"])
def test_the_held_out_curve_of_alignment_is_that_of_heads_on_principal_components(name):
    data, *arrays = splits(name)
    x, y, test_x, test_y = about_training(*arrays)
    training = rj.moments(*arrays[:2])
    test = held_out(each_fold(data.test, 7, num_classes=CLASSES), training)
    encoder = oracle.encoder(oracle.noiseless(x, y), np.inf)
    if name != "unbalanced":
        encoder = encoder[:, : int(rj.spectrum(training).rank)]
    expected = explained_on((test_x, test_y, None), encoder, x, y, None, "clean")
    found = held_out_r2(rj.spectrum(training), test)
    np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-8)
    assert float(test.label_variance) == pytest.approx(np.sum(test_y**2) / len(test_y))
    # The folds are those of the test split about its own means.
    centered = test_x - test_x.mean(0), test_y - test_y.mean(0)
    counts = np.bincount(stratified(arrays[3], 7)) / len(test_y)
    whole = np.tensordot(counts, test.folds, 1)
    np.testing.assert_allclose(whole, centered[0].T @ centered[1] / len(test_y), atol=1e-12)


def test_standardized_units_are_those_of_the_training_split():
    data, images, labels, more, others = splits()
    scale = np.asarray(rj.standardized(rj.moments(images, labels)).scale).reshape(oracle.SHAPE)
    scaled = Dataset.from_arrays(images / scale, labels, more / scale, others)
    training = rj.standardized(rj.moments(images, labels))
    found = held_out(each_fold(data.test, 7, num_classes=CLASSES), training)
    plain = rj.moments(images / scale, labels)
    expected = held_out(each_fold(scaled.test, 7, num_classes=CLASSES), plain)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


WEIGHTS, RATIOS = [0.3, np.inf], [0.0, 0.6]


@pytest.fixture(scope="module")
def judged():
    """By read-out: a sweep, with the test split held out."""
    data, *arrays = splits()
    training = rj.moments(*arrays[:2])
    test = held_out(each_fold(data.test, 7, num_classes=CLASSES), training)
    own = held_out(each_fold(data.train, 7, num_classes=CLASSES), training)
    grid = rj.mask_grid(oracle.SHAPE, [2], RATIOS)

    def sweep(split, **options):
        test_split = {"test": test, "training": own}[split]
        return rj.sweep(training, grid, WEIGHTS, held_out=test_split, **options)

    return sweep


@pytest.mark.parametrize("readout", ["clean", "noisy"])
def test_held_out_curves_of_a_sweep_are_those_of_dense_encoders_and_heads(judged, readout):
    _, *arrays = splits()
    x, y, test_x, test_y = about_training(*arrays)
    groups = oracle.patch_groups(oracle.SHAPE, (2, 2))
    found = judged("test", readout=readout)
    assert found.held_out.shape == (1, 2, 2, 32)
    assert found.agreement.shape == (1, 2, 2, 32, 7)
    for r, ratio in enumerate(RATIOS):
        noisy, test_noisy = (
            oracle.with_dropout(oracle.noiseless(*both), groups, ratio)
            for both in ((x, y), (test_x, test_y))
        )
        for w, weight in enumerate(WEIGHTS):
            encoder = oracle.encoder(noisy, weight)
            expected = explained_on((test_x, test_y, test_noisy), encoder, x, y, noisy, readout)
            np.testing.assert_allclose(found.held_out[0, r, w], expected, rtol=1e-6, atol=1e-6)
    # The training split as its own test split: all of the curve is agreement.
    found = judged("training", readout=readout)
    np.testing.assert_allclose(found.held_out, found.r2, atol=1e-9)
    shares = np.bincount(stratified(arrays[1], 7)) / len(arrays[1])
    np.testing.assert_allclose(found.agreement @ shares, found.r2, atol=1e-9)


@pytest.mark.slow
def test_held_out_curves_in_mixed_precision_on_two_devices(judged):
    whole = judged("test", readout="clean")
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:2]), ("devices",))
    found = judged("test", readout="clean", precision="mixed", mesh=mesh)
    # With K near the rank, 90 samples overfit so much that rounding shows.
    few = slice(0, 16)
    for name in ("held_out", "agreement"):
        a, b = getattr(found, name), getattr(whole, name)
        assert a.dtype == jnp.float32
        np.testing.assert_allclose(a[:, :, :, few], b[:, :, :, few], rtol=0, atol=1e-3)


def test_what_is_held_out_must_fit():
    data, *arrays = splits()
    training = rj.moments(*arrays[:2])
    folds = list(each_fold(data.test, 7, num_classes=CLASSES))
    with pytest.raises(ValueError, match="folds: none"):
        held_out([], training)
    with pytest.raises(ValueError, match="uncentered"):
        held_out(folds, rj.summary.uncentered(training))
    small = rj.moments(arrays[0][..., :1], arrays[1])
    with pytest.raises(ValueError, match="folds: 32 features; the training split has 16"):
        held_out(folds, small)
    grid = rj.mask_grid((4, 4, 1), [2], [0.5])
    with pytest.raises(ValueError, match=r"held_out: features and targets \(32, 4\)"):
        rj.sweep(small, grid, held_out=held_out(folds, training))


# P-values


def test_p_values_are_those_of_all_signs():
    rng = np.random.default_rng(0)
    agreement, baseline = rng.normal(size=(2, 3, 4, 6)), rng.normal(size=(4, 6))
    agreement[0, 0] = baseline - 100 + rng.normal(size=(4, 6))  # clearly worse: takes no part
    agreement[1, 2] = baseline + 1e-3 * rng.normal(size=(4, 6))  # no more than the error
    error = np.full((2, 3), 0.01)
    found = search_p_values(agreement, baseline, error)
    assert found.shape == (2, 3, 4)
    for k in range(4):
        difference = (agreement[:, :, k] - baseline[k]).reshape(6, 6)

        def scores(values):
            return values.mean(1) / np.sqrt(values.var(1) / 5)

        observed = scores(difference)
        rivals = observed > -3
        rivals[5] = False
        assert rivals.tolist() == [False, True, True, True, True, False]
        reached = []
        for signs in itertools.product([1, -1], repeat=6):
            drawn = scores(difference * np.array(signs))
            reached.append(np.maximum(drawn[rivals].max(), drawn) >= observed - 1e-9)
        expected = np.append(np.mean(reached, 0)[:5], 1)
        np.testing.assert_allclose(found[:, :, k].ravel(), expected, atol=1e-12)
        assert found[0, 0, k] == 1


GRID = rj.mask_grid((3, 3, 1), [1, 3], [0.0, 0.3, 0.8])


def random_draws(count, samples=80, folds=10):
    """(count, P, R, Kn, B) agreement of a grid, the first column without noise, on random labels.

    The inputs of both splits stay, their labels are permuted.
    """
    rng = np.random.default_rng(2)
    x = rng.normal(size=(2, samples, 9)) * np.geomspace(2, 0.3, 9) @ rng.normal(size=(9, 9))
    x = x - x.mean(1, keepdims=True)
    labels = np.arange(samples) % 3
    y = np.eye(3)[labels] - np.bincount(labels) / samples
    order = rng.permuted(np.tile(np.arange(samples), (count, 2, 1)), axis=-1)
    cross = np.einsum("nd,rnc->rdc", x[0], y[order[:, 0]]) / samples
    parts = x[1].reshape(folds, -1, 9), y[order[:, 1]].reshape(count, folds, -1, 3)
    by_fold = np.einsum("bnd,rbnc->rbdc", *parts) / (samples // folds)
    second = jnp.asarray(x[1].T @ x[1] / samples)
    training = rj.moments(x[0], y)

    total = jnp.trace(training.label_moment)
    found = []
    for own, folds_of_test in zip(jnp.asarray(cross), jnp.asarray(by_fold), strict=True):
        moments = dataclasses.replace(training, cross_moment=own)
        test = HeldOut(second, jnp.mean(folds_of_test, axis=0), total, folds_of_test)
        found.append(agreement_of(moments, test))
    return np.asarray(found)


@jax.jit
def agreement_of(moments, test):
    """(P, R, Kn, B)."""
    return rj.sweep(moments, GRID, latent_dims=[1, 3, 6], held_out=test).agreement[:, :, 0]


@pytest.mark.slow
def test_on_random_labels_p_values_are_uniform():
    draws = random_draws(400)
    found = [search_p_values(one[:, 1:], one[0, 0], flips=999) for one in draws]
    smallest = np.min(found, axis=(1, 2))  # found by searching the grid
    for column in range(3):
        assert stats.kstest(smallest[:, column], "uniform").pvalue > 0.01
    # Of points that are tested one by one, the smallest is not uniform.
    alone = [
        [search_p_values(one[p, r + 1], one[0, 0], flips=499) for p, r in np.ndindex(2, 2)]
        for one in draws[:100]
    ]
    assert stats.kstest(np.min(alone, axis=1)[:, 1], "uniform").pvalue < 0.01


def test_p_values_are_uniform_where_labels_carry_a_signal_but_the_mask_does_not_help():
    """Labels that agree equally with both predictors, by construction, whatever else they carry."""
    rng = np.random.default_rng(0)
    images, labels = oracle.dataset("plain")
    training = rj.moments(images, labels)
    predictors = []
    for noise in (None, rj.noise.patch_mask(0.7, 2, oracle.SHAPE)):
        solution = rj.solve(rj.problem(training, noise))
        predictors.append(np.asarray(solution.encoder[:, :6] @ solution.head(6)))
    root = np.linalg.cholesky(training.second_moment + 1e-9 * np.eye(32))
    none, apart = predictors[0], predictors[1] - predictors[0]
    assert np.linalg.norm(root.T @ apart) > 0.1 * np.linalg.norm(root.T @ none)
    overlap = np.sum((root.T @ none) * (root.T @ apart)) / np.sum((root.T @ apart) ** 2)
    signal = 3 * (none - overlap * apart)
    found = []
    for seed in range(400):
        x = rng.normal(size=(10, 40, 32)) @ root.T
        y = x @ signal + 0.5 * rng.normal(size=(10, 40, 4))
        by_fold = np.einsum("bnd,bnc->bdc", x, y) / 40
        agreement = [np.einsum("dc,bdc->b", f, by_fold)[None] for f in predictors]
        found.append(search_p_values(agreement[1][None], agreement[0], flips=999, seed=seed))
    assert stats.kstest(np.ravel(found), "uniform").pvalue > 0.01
    assert agreement[0].mean() > 0.1  # there is a signal


def test_noise_that_changes_nothing_has_p_1_in_spite_of_rounding():
    data, *arrays = splits("plain")
    training = rj.moments(*arrays[:2])
    test = held_out(each_fold(data.test, 10, num_classes=CLASSES), training)
    grid = rj.grid.gaussian_grid([0.0, 0.3, 2.0])
    found = rj.sweep(training, grid, held_out=test, precision="mixed", latent_dims=[1, 5, 20])
    none, some = found.agreement[:, 0, 0], found.agreement[:, 1:, 0]
    assert np.any(none[:, None] != some)
    p = search_p_values(some, none[0], 2 * found.error[:, 1:, 0])
    np.testing.assert_array_equal(p, 1)


def test_a_mask_that_helps_has_a_small_p():
    # Eight pixels that tell the class, and one of more variance that says nothing.
    rng = np.random.default_rng(0)
    labels = np.arange(400) % 3
    together = 2.0 * (labels == 0)[:, None] + 0.5 * rng.normal(size=(400, 9))
    together[:, 4] = 6 * rng.normal(size=400)
    x = together.reshape(400, 3, 3, 1)
    data = Dataset.from_arrays(x[:200], labels[:200], x[200:], labels[200:])
    training = rj.moments(x[:200], labels[:200])
    found = agreement_of(training, held_out(each_fold(data.test, 10, num_classes=3), training))
    p = search_p_values(found, found[0, 0], 1e-9)
    assert p[0, 2, 0] == 1 / 2**10  # single values at ratio 0.8, K = 1: all folds gain
    assert np.all(p[:, 0] == 1)


def test_p_values_refuse_what_does_not_fit():
    values = np.zeros((2, 3, 5))
    with pytest.raises(ValueError, match=r"baseline: shape \(5,\); \(3, 5\) is needed"):
        search_p_values(values, np.zeros(5))
    with pytest.raises(ValueError, match="r2: 1 folds"):
        search_p_values(values[..., :1], np.zeros((3, 1)))
    with pytest.raises(ValueError, match="flips: 0"):
        search_p_values(values, np.zeros((3, 5)), flips=0)
