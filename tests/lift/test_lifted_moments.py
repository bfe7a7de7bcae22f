"""Lifted moments against NumPy on the same draws; their Monte Carlo error against new draws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import reconjax
from reconjax.data import Dataset
from reconjax.lift import seen
from reconjax.noise import patch_mask

SHAPE = (4, 4, 1)
N, M = 60, 10


def dataset(real=False, test=True):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, size=(N + 30, *SHAPE)).astype(np.uint8)
    y = rng.normal(size=(N + 30, 2)) if real else rng.choice(3, size=N + 30, p=[0.6, 0.3, 0.1])
    held = {"x_test": x[N:], "y_test": y[N:]} if test else {}
    return Dataset.from_arrays(x[:N], y[:N], **held)


@pytest.fixture(autouse=True)
def several_batches(monkeypatch):
    monkeypatch.setattr(seen, "LARGEST", 25)


def targets_of(data):
    _, y = data.train.examples(range(N))
    return np.eye(3)[y] if data.num_classes else y


def inputs_of(data, weights=None):
    x, _ = data.train.examples(range(N))
    x = x.reshape(N, -1) / 255
    return x - np.average(x, axis=0, weights=weights)


def draws_of(noise, x, features, draws, seed=0, first=0):
    """(draws, N, M) noisy features, by the keys that `lifted_moments` documents."""
    made = []
    for index, start in enumerate(range(0, N, 25)):
        images = jnp.asarray(x[start : start + 25])
        rows = len(images)
        images = jnp.pad(images, ((0, 25 - rows), (0, 0))).reshape(25, *SHAPE)
        keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), index), 2 * draws)
        of_batch = [noise.sample(key, images).reshape(25, -1)[:rows] for key in keys]
        made.append([np.asarray(features.apply(each)) for each in of_batch[first : first + draws]])
    return np.concatenate(made, axis=1)


@pytest.mark.parametrize(
    ("real", "balanced", "draws", "devices"),
    [(False, False, 1, None), (True, False, 3, None), (False, True, 2, 2)],
)
def test_moments_are_those_of_the_same_draws(real, balanced, draws, devices):
    data = dataset(real)
    y = targets_of(data)
    weight, row = None, np.ones(N)
    if balanced:
        labels = y.argmax(axis=1)
        weight = reconjax.summary.balanced_class_weight(labels, 3)
        row = weight[labels]
    row = row / row.sum()
    x = inputs_of(data, row)
    features = reconjax.lift.random_layers([M], 16, activation="gelu", unit=0.3)
    lift = reconjax.lift.lift(data, features, class_weight=weight)
    clean = np.asarray(features.apply(jnp.asarray(x)))
    clean = clean - row @ clean
    y = y - row @ y
    np.testing.assert_allclose(lift.clean.second_moment, (clean.T * row) @ clean, atol=1e-12)
    np.testing.assert_allclose(lift.clean.cross_moment, (clean.T * row) @ y, atol=1e-12)

    noise = patch_mask(0.5, 2, SHAPE)
    places = None if devices is None else jax.devices()[:devices]
    pairs = draws > 1
    lifted = reconjax.lift.lifted_moments(lift, noise, draws=draws, pairs=pairs, devices=places)
    phi = draws_of(noise, x, features, draws)
    mean = np.einsum("n,rnm->m", row, phi) / draws
    phi = phi - mean
    np.testing.assert_allclose(lifted.mean, mean, atol=1e-10)
    got = lifted.covariances
    second = np.einsum("n,rni,rnj->ij", row, phi, phi) / draws
    np.testing.assert_allclose(got.second, second, atol=1e-10)
    np.testing.assert_allclose(
        got.inputs, np.einsum("n,rni,nj->ij", row, phi, x) / draws, atol=1e-10
    )
    np.testing.assert_allclose(
        got.labels, np.einsum("n,rni,nj->ij", row, phi, y) / draws, atol=1e-10
    )
    if pairs:
        every = [(r, s) for r in range(draws) for s in range(draws) if r != s]
        both = sum(np.einsum("n,ni,nj->ij", row, phi[r], phi[s]) for r, s in every) / len(every)
        np.testing.assert_allclose(got.pairs, both, atol=1e-10)


def test_without_noise_they_are_the_clean_ones_and_nothing_is_left_to_chance():
    data = dataset()
    lift = reconjax.lift.lift(data, reconjax.lift.random_layers([M], 16))
    lifted = reconjax.lift.lifted_moments(lift, pairs=True)
    assert lifted.apart is None
    np.testing.assert_allclose(lifted.covariances.second, lift.clean.second_moment, atol=1e-12)
    np.testing.assert_allclose(lifted.covariances.pairs, lift.clean.second_moment, atol=1e-12)
    np.testing.assert_allclose(lifted.covariances.labels, lift.clean.cross_moment, atol=1e-12)
    np.testing.assert_allclose(lifted.mean, lift.clean.mean_x, atol=1e-12)


def test_the_test_split_is_seen_about_the_means_of_the_training_split():
    data = dataset()
    features = reconjax.lift.random_layers([M], 16)
    lift = reconjax.lift.lift(data, features)
    x, labels = data.test.examples(range(30))
    train = inputs_of(data)
    images, _ = data.train.examples(range(N))
    moved = x.reshape(30, -1) / 255 - images.reshape(N, -1).mean(axis=0) / 255
    phi = np.asarray(features.apply(jnp.asarray(moved)))
    phi = phi - np.asarray(features.apply(jnp.asarray(train))).mean(axis=0)
    y = np.eye(3)[labels] - targets_of(data).mean(axis=0)
    np.testing.assert_allclose(lift.held_out.second_moment, phi.T @ phi / 30, atol=1e-10)
    np.testing.assert_allclose(lift.held_out.cross_moment, phi.T @ y / 30, atol=1e-10)
    np.testing.assert_allclose(lift.held_out.label_variance, np.mean(np.sum(y**2, 1)), atol=1e-10)


@pytest.mark.parametrize("draws", [1, 2])
def test_the_change_of_the_moments_is_as_large_as_other_draws_make_it(draws):
    data = dataset(test=False)
    lift = reconjax.lift.lift(data, reconjax.lift.random_layers([M], 16))
    noise = patch_mask(0.5, 2, SHAPE)
    runs = [reconjax.lift.lifted_moments(lift, noise, draws=draws, seed=s) for s in range(40)]
    for name in ("second", "inputs", "labels"):
        every = np.stack([getattr(run.covariances, name) for run in runs])
        apart = np.stack([getattr(run.apart, name) for run in runs])
        spread = np.mean(np.var(every, axis=0, ddof=1))
        assert 0.7 < np.mean(apart**2) / spread < 1.4


def test_draws_of_two_runs_are_those_of_one():
    data = dataset()
    features = reconjax.lift.random_layers([M], 16)
    lift = reconjax.lift.lift(data, features)
    noise = patch_mask(0.5, 2, SHAPE)
    first = reconjax.lift.lifted_moments(lift, noise, draws=2, pairs=True, seed=0)
    second = reconjax.lift.lifted_moments(lift, noise, draws=4, pairs=True, seed=1)
    both = reconjax.lift.more_draws(first, second)
    x = inputs_of(data)
    parts = [draws_of(noise, x, features, 2, 0), draws_of(noise, x, features, 4, 1)]
    phi = np.concatenate(parts)
    phi = phi - phi.mean(axis=(0, 1))
    assert both.draws == 6
    np.testing.assert_allclose(
        both.covariances.second, np.einsum("rni,rnj->ij", phi, phi) / (6 * N), atol=1e-10
    )
    np.testing.assert_allclose(
        both.covariances.inputs, np.einsum("rni,nj->ij", phi, x) / (6 * N), atol=1e-10
    )
    with pytest.raises(ValueError, match="draws: 0; exact"):
        reconjax.lift.more_draws(first, reconjax.lift.exact_moments(lift.moments))


def test_products_in_float32_are_summed_in_float64():
    data = dataset()
    features = reconjax.lift.random_layers([M], 16)
    noise = patch_mask(0.5, 2, SHAPE)
    exact, rough = (
        reconjax.lift.lifted_moments(reconjax.lift.lift(data, features, dtype=dtype), noise)
        for dtype in (jnp.float64, jnp.float32)
    )
    assert rough.covariances.second.dtype == jnp.float64
    np.testing.assert_allclose(rough.covariances.second, exact.covariances.second, atol=1e-6)
    assert rough.rounding > 1e-8 > exact.rounding


def test_bad_input_is_refused_in_a_line():
    data = dataset()
    features = reconjax.lift.random_layers([M], 16)
    lift = reconjax.lift.lift(data, features)
    noise = patch_mask(0.5, 2, SHAPE)
    with pytest.raises(ValueError, match="draws: 0; a whole number, at least 1"):
        reconjax.lift.lifted_moments(lift, noise, draws=0)
    with pytest.raises(ValueError, match="draws: 1; a whole number, at least 2"):
        reconjax.lift.lifted_moments(lift, noise, pairs=True)
    with pytest.raises(ValueError, match="noise: made for 64 features; the moments have 16"):
        reconjax.lift.lifted_moments(lift, patch_mask(0.5, 2, (8, 8, 1)))
    with pytest.raises(ValueError, match=r"relu:4096, 4096 features .* GiB are there \(memory\)"):
        reconjax.lift.lift(data, reconjax.lift.random_layers([4096], 16), memory=0.5)
    with pytest.raises(ValueError, match="features: made for 20 values; the data have 16"):
        reconjax.lift.lift(data, reconjax.lift.random_layers([M], 20))
    odd = reconjax.lift.function_features(
        lambda x: 1 / jnp.where(x[:, 0, :2, 0] > 0.3, 0.0, 1.0), SHAPE
    )
    with pytest.raises(ValueError, match="features: NaN or inf in 2 of 2 features"):
        reconjax.lift.lift(data, odd)
    uncentered = reconjax.summary.uncentered(lift.moments)
    with pytest.raises(ValueError, match="moments: uncentered"):
        reconjax.lift.lift(data, features, moments=uncentered)
