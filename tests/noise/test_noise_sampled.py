"""Noises given as a plain function: moments measured by Monte Carlo, with honest errors."""

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest

import reconjax as rj
from reconjax import noise as rn

SIZE = oracle.FEATURES
X, LABELS = oracle.dataset("plain")
FLAT, TARGETS = oracle.centered(X, LABELS)
IMAGES = FLAT.reshape(X.shape)
SECOND = jnp.asarray(FLAT.T @ FLAT / len(FLAT))
KEY = jax.random.key(0)


def speckled(key, x):
    """Speckle, shifted by a constant, as a user would write it."""
    return x * (1 + 0.4 * jax.random.normal(key, x.shape, x.dtype)) * 0.8 + 0.3


def oracle_noise():
    return rn.chain(rn.speckle(0.4), rn.linear(0.8 * jnp.eye(SIZE)))


@pytest.fixture(scope="module")
def measured():
    return rn.estimated(speckled, IMAGES, key=KEY, draws=64, batch_size=40)


def test_measured_moments_are_the_closed_form_within_their_standard_errors(measured):
    expected = oracle_noise()
    for found, error, closed in (
        (measured.second, measured.error.covariance, expected.second_moment(SECOND)),
        (measured.inputs, measured.error.input_moment, expected.mean(SECOND)),
        (measured.shift, measured.error.mean, jnp.full(SIZE, 0.3)),
    ):
        z = np.asarray((found - closed) / error)
        low, high = (0.75, 1.3) if z.ndim == 2 else (0.4, 1.8)
        assert low < np.mean(z**2) < high
        assert np.max(np.abs(z)) < 5.5
    assert abs(float(measured.nonlinearity)) < 0.01


def test_standard_errors_shrink_as_draws_grow(measured):
    few = rn.estimated(speckled, IMAGES, key=jax.random.key(1), draws=16)
    ratio = jnp.mean(few.error.covariance) / jnp.mean(measured.error.covariance)
    assert 1.7 < float(ratio) < 2.3  # (64 / 16)^½ = 2


def test_a_measured_noise_gives_back_what_was_measured(measured):
    np.testing.assert_allclose(measured.second_moment(SECOND), measured.second, atol=1e-12)
    np.testing.assert_allclose(measured.mean(SECOND), measured.inputs, atol=1e-12)
    x = jnp.asarray(FLAT)
    np.testing.assert_array_equal(measured.sample(KEY, x), speckled(KEY, x))


def test_a_measured_noise_solves_nearly_the_problem_of_the_closed_form(measured):
    moments = rj.moments(X, LABELS)
    for readout in ("clean", "noisy"):
        found = rj.solve(rj.problem(moments, measured), 0.5, readout=readout)
        expected = rj.solve(rj.problem(moments, oracle_noise()), 0.5, readout=readout)
        np.testing.assert_allclose(found.r2, expected.r2, atol=0.02)
    chained = rn.chain(measured, rn.patch_mask(0.5, 2, oracle.SHAPE))
    assert rj.solve(rj.problem(moments, chained)).r2.shape == (SIZE,)


def test_measuring_a_noise_with_a_closed_form_agrees_with_it():
    noise = rn.patch_mask(0.5, 2, oracle.SHAPE, fill=0.5)
    found = rn.estimated(noise, FLAT, key=KEY, draws=64)
    z = np.asarray((found.second - noise.second_moment(SECOND)) / found.error.covariance)
    assert np.mean(z**2) < 1.5  # entries share their masks
    np.testing.assert_allclose(found.shift, noise.offset(), atol=0.05)


def test_few_samples_leave_no_bias_in_the_covariance():
    x = np.array([[1.0, -1.0], [-1.0, 1.0]])
    found = rn.estimated(rn.gaussian(1.0), x, key=KEY, draws=200)
    np.testing.assert_allclose(found.second, x.T @ x / 2 + np.eye(2), atol=0.3)


def test_noise_whose_mean_is_not_linear_says_so():
    found = rn.estimated(lambda key, x: jnp.abs(x), FLAT, key=KEY, draws=2)
    # Of |x|, the regression on x explains a part; the rest is a function of x, not noise.
    values = np.abs(FLAT) - np.abs(FLAT).mean(0)
    fitted = FLAT @ np.linalg.lstsq(FLAT, values)[0]
    expected = np.sum((values - fitted) ** 2) / np.sum(values**2)
    assert expected > 0.3
    assert float(found.nonlinearity) == pytest.approx(expected, rel=1e-6)


def test_functions_draw_and_have_no_closed_form():
    noise = rn.from_function(speckled)
    np.testing.assert_array_equal(noise.sample(KEY, IMAGES), speckled(KEY, IMAGES))
    half = noise.sample(KEY, jnp.asarray(IMAGES, jnp.float32))
    assert half.dtype == jnp.float32
    chained = rn.chain(noise, rn.gaussian(0.1))
    assert chained.sample(KEY, jnp.asarray(FLAT)).shape == FLAT.shape
    assert noise.ray() is None
    for one in (noise, chained):
        with pytest.raises(ValueError, match=r"of the function speckled are not known.*estimated"):
            rj.problem(rj.moments(X, LABELS), one)


def test_numpy_functions_work():
    rng = np.random.default_rng(0)
    found = rn.estimated(
        lambda key, x: np.asarray(x) + rng.normal(size=x.shape), FLAT, key=KEY, draws=8
    )
    np.testing.assert_allclose(np.diag(found.second), 1 + np.diag(SECOND), rtol=0.3)


@pytest.mark.parametrize(
    ("function", "match"),
    [
        (lambda key, x: x[:, :3], r"<lambda> returned shape \(90, 3\) for x of shape \(90, 32\)"),
        (lambda key, x: jnp.sum(x), r"returned shape \(\) for x of shape"),
        (lambda key, x: x / 0.0, "<lambda> returned NaN or inf"),
        (lambda key, x: jnp.where(x > 0, x, jnp.nan), "<lambda> returned NaN or inf"),
    ],
)
def test_functions_that_return_something_else_are_refused(function, match):
    for draw in (
        lambda: rn.estimated(function, FLAT, key=KEY),
        lambda: rn.from_function(function).sample(KEY, jnp.asarray(FLAT)),
    ):
        with pytest.raises(ValueError, match=match) as caught:
            draw()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"noise": 3}, "noise: 3; a noise or a function"),
        ({"draws": 1}, "draws, batch_size: 1, 1024; at least 2 and 1"),
        ({"x": FLAT[:1]}, r"x: shape \(1, 32\); at least 2 samples"),
        ({"x": FLAT[0]}, r"x: shape \(32,\); at least 2 samples"),
        ({"x": FLAT + 1}, "x: means up to 1 at a deviation of .*; centered samples that vary"),
        ({"x": 0 * FLAT}, "centered samples that vary are needed"),
        ({"x": FLAT * np.nan}, "x: means up to nan"),
    ],
)
def test_measurements_that_cannot_be_made_are_refused(arguments, match):
    with pytest.raises(ValueError, match=match):
        rn.estimated(**({"noise": speckled, "x": FLAT, "key": KEY} | arguments))
    with pytest.raises(ValueError, match="function: 3; a function"):
        rn.from_function(3)
