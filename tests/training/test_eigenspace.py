"""Eigenspace tracking against dense NumPy, exact PCA and ranks by counting."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import reconjax
from reconjax.training.eigenspace import (
    Tracked,
    _tracked,
    eigenspace,
    grouped,
    halves,
    learned,
    learning_order,
    octaves,
    pca_reference,
    rank_correlation,
    track,
)

SIZE = 8
THREE = reconjax.spectrum(reconjax.moments(np.eye(3), np.array([0, 1, 1]), num_classes=2))


@pytest.fixture(scope="module")
def data():
    """200 centered samples with a decaying spectrum."""
    random = np.random.default_rng(0)
    rotation, _ = np.linalg.qr(random.normal(size=(SIZE, SIZE)))
    x = random.normal(size=(200, SIZE)) * 0.5 ** np.arange(SIZE) @ rotation.T
    return x - x.mean(0)


@pytest.fixture(scope="module")
def space(data):
    return eigenspace(data[:50], reconjax.spectrum(reconjax.moments(data, np.arange(200) % 2)))


class Linear(nnx.Module):
    """x̂ = x A."""

    def __init__(self, matrix):
        self.matrix = nnx.Param(jnp.asarray(matrix, jnp.float32))

    def __call__(self, x):
        return x @ self.matrix[...]


def test_a_pca_autoencoder_has_the_pattern_of_the_reference(data, space):
    top = np.asarray(space.eigenvectors)[:, :3]
    found = track(Linear(top @ top.T), space)
    reference = pca_reference(space, 3)
    np.testing.assert_allclose(reference.energy, [1, 1, 1, 0, 0, 0, 0, 0])
    np.testing.assert_allclose(found.energy, reference.energy, atol=1e-5)
    np.testing.assert_allclose(found.residual, reference.residual, atol=1e-5)
    np.testing.assert_array_equal(found.eigenvalue, reference.eigenvalue)


@pytest.mark.parametrize(
    ("model", "energy", "residual"),
    [
        (lambda x: x, 1.0, 0.0),
        (lambda x: 0 * x, 0.0, 1.0),
        (lambda x: -x, 1.0, 4.0),
        (lambda x: 2 * x, 4.0, 1.0),
    ],
)
def test_simple_networks(space, model, energy, residual):
    found = track(model, space, batch_size=16)
    np.testing.assert_allclose(found.energy, energy, atol=1e-5)
    np.testing.assert_allclose(found.residual, residual, atol=1e-5)


@pytest.mark.parametrize("batch_size", [7, 50, 1000])
def test_a_dense_computation_gives_the_same(data, space, batch_size):
    matrix = np.random.default_rng(1).normal(size=(SIZE, SIZE))
    found = track(Linear(matrix), space, batch_size=batch_size)
    _, vectors = np.linalg.eigh(data.T @ data)
    vectors = vectors[:, ::-1]
    x = data[:50]
    made = x @ matrix
    variance = np.mean((x @ vectors) ** 2, axis=0)
    np.testing.assert_allclose(found.eigenvalue, variance, rtol=1e-4)
    np.testing.assert_allclose(
        found.energy, np.mean((made @ vectors) ** 2, axis=0) / variance, rtol=1e-3
    )
    np.testing.assert_allclose(
        found.residual, np.mean(((x - made) @ vectors) ** 2, axis=0) / variance, rtol=1e-3
    )
    assert int(found.samples) == 50


def test_images_and_a_network_that_is_nan_outside_the_samples():
    images = np.random.default_rng(2).normal(size=(10, 2, 2, 3)).astype(np.float32)
    space = eigenspace(images - images.mean(0))
    assert space.eigenvectors.shape == (12, 9)  # ten centered samples span nine directions

    def model(x):  # the zeros that fill up the last batch become NaN
        return (
            x
            / jnp.sum(jnp.abs(x), axis=(1, 2, 3), keepdims=True).clip(0)
            * jnp.sum(jnp.abs(x), axis=(1, 2, 3), keepdims=True)
        )

    found = track(model, space, batch_size=4)
    np.testing.assert_allclose(found.energy, 1.0, atol=1e-4)
    assert eigenspace(images - images.mean(0), directions=4).eigenvectors.shape == (12, 4)


def test_a_later_step_does_not_compile_again(space):
    model = Linear(np.eye(SIZE))
    track(model, space)
    before = _tracked._cache_size()
    model.matrix[...] = model.matrix[...] * 0.5
    found = track(model, space)
    assert _tracked._cache_size() == before
    np.testing.assert_allclose(found.energy, 0.25, atol=1e-5)


def test_several_networks_are_tracked_side_by_side(space):
    chex.clear_trace_counter()
    scales = jnp.array([0.0, 1.0, 3.0], jnp.float32)
    found = jax.vmap(lambda scale: track(lambda x: scale * x, space))(scales)
    np.testing.assert_allclose(found.energy, np.repeat([[0.0], [1.0], [9.0]], SIZE, 1), atol=1e-4)


def test_groups_are_weighted_by_variance():
    variance = np.array([4.0, 2.0, 1.0, 1.0])
    one = Tracked(variance, np.array([1, 0.5, 0, 1]), np.array([0, 0.5, 1, 0]), np.int32(9))
    np.testing.assert_array_equal(halves(variance), [0, 1, 1, 1])
    np.testing.assert_array_equal(octaves(9), [0, 1, 1, 2, 2, 2, 2, 3, 3])
    both = grouped(one, halves(variance))
    np.testing.assert_allclose(both.eigenvalue, [4, 4])
    np.testing.assert_allclose(both.energy, [1, 0.5])
    np.testing.assert_allclose(both.residual, [0, 0.5])
    whole = grouped(one, np.zeros(4, int))
    np.testing.assert_allclose(whole.residual, [2 / 8])


def test_the_step_at_which_a_direction_is_learned():
    residual = [[1.0, 1.0, 1.0], [0.4, 0.9, 0.6], [0.6, 0.3, 0.5]]
    np.testing.assert_array_equal(learned(residual, [0, 10, 20]), [10, 20, np.inf])
    np.testing.assert_array_equal(learned(residual, [0, 10, 20], threshold=0.55), [10, 20, 20])


def test_gradient_descent_learns_from_the_top_down(data):
    """Linear regression of x on x: residual (1 − η d)^2t, so the step of each is known."""
    space = eigenspace(data, reconjax.spectrum(reconjax.moments(data, np.arange(200) % 2)))
    d = np.asarray(space.eigenvalue, np.float64)
    vectors = np.asarray(space.eigenvectors, np.float64)
    rate, steps = 0.5 / d[0], [0, 1, 3, 10, 30, 100, 300, 1000]
    history = []
    for step in steps:
        matrix = vectors @ np.diag(1 - (1 - rate * d) ** step) @ vectors.T
        history.append(track(Linear(matrix), space))
    found = learning_order(history, steps)
    left = np.array([(1 - rate * d) ** (2 * step) for step in steps])
    expected = [
        next((s for s, share in zip(steps, column, strict=True) if share < 0.5), np.inf)
        for column in left.T
    ]
    np.testing.assert_array_equal(found.step, expected)
    assert found.never == np.isinf(expected).sum() > 0
    ranks = [[sum(v < u) + sum(v == u) / 2 for u in v] for v in (d, np.asarray(expected))]
    assert found.rank_correlation == pytest.approx(np.corrcoef(*ranks)[0, 1])
    assert found.rank_correlation < -0.9
    assert (found.top, found.delay) == (1, found.bottom)
    assert found.bottom > found.top


@pytest.mark.parametrize("seed", range(3))
def test_rank_correlation_is_that_of_mean_ranks(seed):
    random = np.random.default_rng(seed)
    a, b = random.normal(size=30), random.integers(0, 6, 30).astype(float)
    b[b == 5] = np.inf
    ranks = [[sum(v < u) + sum(v == u) / 2 for u in v] for v in (a, b)]
    assert rank_correlation(a, b) == pytest.approx(np.corrcoef(*ranks)[0, 1])
    assert rank_correlation(a, np.exp(a)) == pytest.approx(1)
    assert np.isnan(rank_correlation(a, np.ones(30)))


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda s: track(lambda x: x[:, :2], s), "model: makes"),
        (lambda s: track(3, s), "model: int"),
        (lambda s: track(lambda x: x, s, batch_size=0), "batch_size: 0"),
        (lambda s: pca_reference(s, 0), "latent_dim: 0"),
        (lambda s: eigenspace(np.zeros((4, 3), np.uint8)), "uint8"),
        (lambda s: eigenspace(np.full((4, 3), np.nan)), "NaN"),
        (lambda s: eigenspace(np.eye(4), directions=5), r"directions: 5; 1 \.\. 4"),
        (lambda s: eigenspace(np.eye(4), THREE), "4 features"),
        (lambda s: grouped(pca_reference(s, 1), [0, 1]), "groups"),
        (lambda s: learned(np.ones((2, 3)), [1, 1]), "ascend"),
        (lambda s: learned(np.ones((2, 3)), [1, 2, 3]), "residual"),
        (lambda s: learned(np.ones((2, 3)), [1, 2], threshold=0), "threshold: 0"),
        (lambda s: learning_order([], []), "empty"),
        (lambda s: rank_correlation([1, 2], [1, np.nan]), "NaN"),
        (lambda s: rank_correlation([1], [1]), "n >= 2"),
    ],
)
def test_bad_input_is_told_in_one_line(space, call, text):
    with pytest.raises(ValueError, match=text) as error:
        call(space)
    assert "\n" not in str(error.value)
