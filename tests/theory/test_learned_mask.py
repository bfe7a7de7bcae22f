"""Gradients through the projector, against finite differences; masks that find what was planted."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import reconjax
from reconjax.evidence.comparison import compare
from reconjax.noise.families import Family
from reconjax.summary.moments import Moments
from reconjax.theory.held_out import held_out
from reconjax.theory.mask_learning import leading, learned_mask, r2_at

SHAPE, PATCH = (4, 4, 1), 2


def made(second, cross, samples=1000.0):
    """Moments with these second moments, of three targets."""
    features, targets = cross.shape
    zeros = jnp.zeros(features)
    return Moments(
        samples=jnp.asarray(samples),
        weight=jnp.asarray(samples),
        mean_x=zeros,
        mean_y=jnp.zeros(targets),
        second_moment=jnp.asarray(second),
        cross_moment=jnp.asarray(cross),
        label_moment=jnp.eye(targets),
        scale=zeros + 1,
    )


def nuisance(count, seed):
    """Images whose upper half varies most, and whose lower half tells the class."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, count)
    images = np.zeros((count, 4, 4, 1))
    # Smooth within a patch, else the noise of dropping it would not tell it from white noise.
    images[:, :2] = 0.8 * np.repeat(rng.normal(size=(count, 1, 2, 1)), 2, axis=2)
    signal = np.eye(3)[labels] @ (np.eye(4)[:3] - 0.3)
    images[:, 2:] = np.repeat(signal.reshape(count, 1, 4, 1), 2, axis=1)
    images += 0.3 * rng.normal(size=images.shape)
    return images, labels


@pytest.fixture(scope="module")
def planted():
    images, labels = nuisance(800, 0)
    return reconjax.moments(images, labels, num_classes=3)


def share(moments, latent_dim):
    """The r2 as a function of the drop probabilities."""

    mask = reconjax.noise.patch_mask(np.full(4, 0.5), PATCH, SHAPE)

    def found(ratio):
        # Past the checks of the constructor, so that differences may be taken at 0.
        return r2_at(moments, dataclasses.replace(mask, ratio=ratio), latent_dim)

    return found


def differences(function, point, step=1e-5):
    rows = step * np.eye(len(point))
    return np.array([float(function(point + r) - function(point - r)) / (2 * step) for r in rows])


@pytest.mark.parametrize("latent_dim", [1, 3, 16])
def test_the_share_is_that_of_the_solver(planted, latent_dim):
    noise = reconjax.noise.patch_mask(np.array([0.2, 0.7, 0.4, 0.9]), PATCH, SHAPE)
    wanted = reconjax.solve(reconjax.problem(planted, noise)).r2[latent_dim - 1]
    found = float(r2_at(planted, noise, latent_dim))
    assert found == pytest.approx(float(wanted), abs=1e-9)


@pytest.mark.parametrize("latent_dim", [1, 2, 5])
def test_the_gradient_is_that_of_finite_differences(planted, latent_dim):
    point = jnp.array([0.2, 0.7, 0.4, 0.9])
    function = share(planted, latent_dim)
    wanted = differences(function, point)
    found = np.asarray(jax.grad(function)(point))
    assert np.abs(wanted).max() > 5e-5
    np.testing.assert_allclose(found, wanted, atol=1e-9)


def test_equal_eigenvalues_on_one_side_do_no_harm():
    rng = np.random.default_rng(1)
    rotation = np.linalg.qr(rng.normal(size=(16, 16)))[0]
    # Without noise, θ = 4 six times and 1 ten times, exactly up to rounding.
    second = rotation @ np.diag([4.0] * 6 + [1.0] * 10) @ rotation.T
    moments = made((second + second.T) / 2, 0.2 * rng.normal(size=(16, 3)))
    function = share(moments, 6)
    point = jnp.zeros(4)
    wanted = differences(function, point)
    found = np.asarray(jax.grad(function)(point))
    assert np.abs(wanted).max() > 1e-3
    np.testing.assert_allclose(found, wanted, atol=1e-6 * np.abs(wanted).max())

    # The derivative of the eigenvectors themselves, by which one would go otherwise, is useless.
    def by_eigenvectors(ratio):
        posed = reconjax.problem(moments, reconjax.noise.patch_mask(ratio, PATCH, SHAPE))
        root = jnp.linalg.cholesky(posed.noisy_second_moment)
        white = jnp.linalg.solve(root, posed.noisy_input_moment)
        vectors = jnp.linalg.solve(root.T, jnp.linalg.eigh(white @ white.T)[1][:, -6:])
        labels = vectors.T @ posed.cross_moment
        gram = vectors.T @ posed.second_moment @ vectors
        return jnp.sum(labels * jnp.linalg.solve(gram, labels)) / 3

    value, naive = jax.jit(jax.value_and_grad(by_eigenvectors))(point)
    assert float(value) == pytest.approx(float(function(point)))
    naive = np.asarray(naive)
    assert not np.allclose(naive, wanted, rtol=0.1, atol=0)


def test_a_tie_at_k_leaves_its_pair_out():
    moments = made(np.diag([3.0, 2.0, 2.0, 1.0] + [0.5] * 12), np.ones((16, 3)) * 0.1)
    gradient = np.asarray(jax.grad(share(moments, 2))(jnp.full(4, 0.3)))
    assert np.all(np.isfinite(gradient))


def test_the_gradient_with_respect_to_inputs_and_second_moment(planted):
    rng = np.random.default_rng(2)
    inputs = jnp.asarray(rng.normal(size=(5, 7)))
    half = rng.normal(size=(5, 5))
    noisy = jnp.asarray(half @ half.T + np.eye(5))
    fixed = jnp.asarray(rng.normal(size=(5, 2)))

    @jax.jit
    def projected(noisy, inputs):
        vectors = leading(noisy, inputs, jnp.int32(2), 3)
        gram = vectors.T @ vectors + jnp.diag(jnp.array([0.0, 0.0, 1.0]))
        return jnp.sum(fixed * (vectors @ jnp.linalg.solve(gram, vectors.T @ fixed)))

    gradients = jax.jit(jax.grad(projected, (0, 1)))(noisy, inputs)
    change = rng.normal(size=(5, 5))
    symmetric, across = jnp.asarray(change + change.T), jnp.asarray(rng.normal(size=(5, 7)))
    for gradient, left, right in (
        (gradients[0], symmetric, 0 * inputs),
        (gradients[1], 0 * noisy, across),
    ):
        up, down = (projected(noisy + s * left, inputs + s * right) for s in (1e-6, -1e-6))
        found = jnp.sum(gradient * (left if gradient.shape == left.shape else right))
        assert float(found) == pytest.approx(float(up - down) / 2e-6, rel=1e-5)


def test_a_learned_mask_drops_what_is_planted_as_nuisance(planted):
    mask = learned_mask(planted, PATCH, SHAPE, 2, steps=40)
    ratio = np.asarray(mask.noise.ratio)
    assert ratio[:2].min() > 0.8 > 0.2 > ratio[2:].max()
    assert mask.r2.shape == (41,)
    assert mask.r2.max() > mask.r2[0] + 0.5
    reached = reconjax.solve(reconjax.problem(planted, mask.noise)).r2[1]
    assert float(reached) == pytest.approx(mask.r2.max(), abs=1e-9)

    # On samples of its own, it beats every uniform ratio of the same patches.
    folds = [reconjax.moments(*nuisance(100, seed), num_classes=3) for seed in range(1, 6)]
    ratios = (0.1, 0.5, 0.9)
    noises = (*(reconjax.noise.patch_mask(p, PATCH, SHAPE) for p in ratios), mask.noise)
    family = Family("both", (*map(str, ratios), "learned"), noises)
    found = compare(planted, held_out(folds, planted), [family], np.array([2]))
    assert found.held_out[3, 0] > found.held_out[:3, 0].max() + 0.1


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"latent_dim": 0}, "latent_dim: 0; 1 .. 16"),
        ({"start": 1.0}, r"start: 1.0; it must be in \(0, 1\)"),
        ({"steps": 0}, "steps: 0; at least 1"),
        ({"learning_rate": 0.0}, "learning_rate: 0.0"),
        ({"patch_shape": 3}, "does not divide"),
        ({"image_shape": (2, 4, 1)}, "8 features; the moments have 16"),
    ],
)
def test_bad_arguments_are_refused(planted, arguments, text):
    usual = {"patch_shape": PATCH, "image_shape": SHAPE, "latent_dim": 2}
    with pytest.raises(ValueError, match=text):
        learned_mask(planted, **{**usual, **arguments})
