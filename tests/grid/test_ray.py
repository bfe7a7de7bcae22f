"""One factorization for a whole ray: the pencil, singular data, and the Schur complement."""

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from oracle import SHAPE
from scipy import linalg

import reconjax as rj
from reconjax.grid.ray import at, factorize
from reconjax.noise import RayPoint
from reconjax.theory.optimum import optimum

WEIGHTS = [0.0, 1e-3, 1.0, 1e3, np.inf]


def direction_of(name, x):
    """B of a ray, written out."""
    second = x.T @ x / len(x)
    if name == "isotropic":
        return np.eye(32)
    if name == "pixels":
        return np.diag(np.diag(second))
    if name == "colored":
        factor = np.random.default_rng(5).normal(size=(32, 6))
        return factor @ factor.T
    if name == "nothing":
        return np.zeros((32, 32))
    groups = oracle.patch_groups(SHAPE, (2, 2))
    return np.where(groups[:, None] == groups, second, 0.0)


DIRECTIONS = ["isotropic", "pixels", "patches", "colored", "nothing"]


def losses(moments, direction, strength, weight, readout="clean"):
    """Losses at M + τ B: share and scale are τ / (1 + τ) and 1 + τ."""
    point = RayPoint(None, *map(jnp.asarray, (strength / (1 + strength), 1 + strength, 1.0)))
    ray = jax.jit(factorize)(moments, jnp.asarray(direction))
    whitened = at(ray, point, moments.label_moment)
    return jax.jit(optimum, static_argnums=2)(whitened, jnp.asarray(weight), readout == "clean")


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("data", ["plain", "short", "constant pixels", "low rank"])
def test_any_colored_noise_has_the_losses_of_the_oracle(data, direction):
    images, labels = oracle.dataset(data)
    x, y = oracle.centered(images, labels)
    clean = oracle.noiseless(x, y)
    moments = rj.moments(images, labels)
    noise = direction_of(direction, x)
    for strength in (0.0, 0.3, 20.0):
        noisy = clean._replace(second=clean.second + strength * noise)
        for weight in WEIGHTS:
            expected = oracle.curves(x, y, noisy, weight)
            for readout in ("clean", "noisy"):
                found = losses(moments, noise, strength, weight, readout)
                np.testing.assert_allclose(
                    found.supervised_loss, expected.supervised(readout), rtol=0, atol=1e-8
                )
                np.testing.assert_allclose(
                    found.reconstruction_loss,
                    expected.reconstruction,
                    rtol=0,
                    atol=1e-8 * np.trace(clean.second),
                )


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("data", ["plain", "short", "low rank"])
def test_the_factorization_is_that_of_the_pencil(data, direction):
    images, labels = oracle.dataset(data)
    x, y = oracle.centered(images, labels)
    clean = oracle.noiseless(x, y)
    noise = direction_of(direction, x)
    kappa = np.trace(clean.second) / np.trace(noise) if noise.any() else 1.0
    ray = factorize(rj.moments(images, labels), jnp.asarray(noise))

    both = clean.second + kappa * noise
    basis = oracle.range_basis(both, 1e-12)
    small, second = basis.T @ both @ basis, basis.T @ clean.second @ basis
    shares = linalg.eigh(second, small, eigvals_only=True)
    expected = np.zeros(32)
    expected[: len(shares)] = np.sort(shares)[::-1]
    np.testing.assert_allclose(np.sort(ray.clean)[::-1], expected, atol=1e-9)
    inverse = np.linalg.inv(small)
    squared = basis.T @ clean.second @ clean.second @ basis
    assert float(jnp.trace(ray.inputs)) == pytest.approx(np.trace(inverse @ squared), rel=1e-9)
    cross = basis.T @ clean.labels
    np.testing.assert_allclose(ray.labels @ ray.labels.T, cross.T @ inverse @ cross, atol=1e-9)
    assert int(ray.rank) == np.linalg.matrix_rank(x)
    assert float(ray.variance) == pytest.approx(np.trace(clean.second), rel=1e-12)
    left = np.linalg.svd(x, full_matrices=False)[0][:, : int(ray.rank)]
    attainable = np.sum((y @ (y.T @ left)) ** 2) / len(x) ** 2
    assert float(ray.attainable) == pytest.approx(attainable, rel=1e-8)


# Restricting the problem to the range of M


def restricted(x, y, noise, strength, weight, schur):
    """Losses of the oracle in coordinates of range(M), with B or its Schur complement there."""
    values, vectors = np.linalg.eigh(x.T @ x / len(x))
    inside = values > 1e-11 * values[-1]
    basis, null = vectors[:, inside], vectors[:, ~inside]
    noise_inside = basis.T @ noise @ basis
    if schur:
        across = basis.T @ noise @ null
        noise_inside = noise_inside - across @ np.linalg.pinv(null.T @ noise @ null) @ across.T
    z = x @ basis
    clean = oracle.noiseless(z, y)
    noisy = clean._replace(second=clean.second + strength * noise_inside)
    return oracle.curves(z, y, noisy, weight)


@pytest.mark.parametrize("data", ["short", "low rank"])
def test_with_singular_data_the_schur_complement_is_equal_and_the_restriction_is_not(data):
    images, labels = oracle.dataset(data)
    x, y = oracle.centered(images, labels)
    ratios = np.array([0.25, 0.5, 0.9])
    grid = rj.mask_grid(SHAPE, [(2, 2), (2, 2)], ratios)
    found = rj.sweep(rj.moments(images, labels), grid, WEIGHTS)
    rank, noise = int(found.rank), direction_of("patches", x)
    assert rank < 32
    spread, variance = np.sum(y**2) / len(y), np.sum(x**2) / len(x)
    for i, k in np.ndindex(3, len(WEIGHTS)):
        strength = ratios[i] / (1 - ratios[i])
        equal = restricted(x, y, noise, strength, WEIGHTS[k], schur=True)
        naive = restricted(x, y, noise, strength, WEIGHTS[k], schur=False)
        supervised = found.supervised_loss[0, i, k, :rank]
        reconstruction = found.reconstruction_loss[0, i, k, :rank]
        np.testing.assert_allclose(supervised, equal.clean, rtol=0, atol=1e-8 * spread)
        np.testing.assert_allclose(
            reconstruction, equal.reconstruction, rtol=0, atol=1e-8 * variance
        )
        assert np.max(np.abs(reconstruction - naive.reconstruction)) > 1e-3 * variance
        assert np.max(np.abs(supervised - naive.clean)) > 1e-4 * spread


def test_where_the_noise_vanishes_outside_the_data_the_restriction_is_equal_too():
    images, labels = oracle.dataset("constant pixels")
    x, y = oracle.centered(images, labels)
    noise = direction_of("patches", x)
    expected = restricted(x, y, noise, 1.0, 1.0, schur=False)
    found = losses(rj.moments(images, labels), noise, 1.0, 1.0)
    np.testing.assert_allclose(found.supervised_loss[:27], expected.clean, rtol=0, atol=1e-9)


def test_the_factorization_serves_under_jit_and_vmap():
    moments = rj.moments(*oracle.dataset("plain"))
    noise = jnp.asarray(direction_of("pixels", oracle.centered(*oracle.dataset("plain"))[0]))
    strengths = jnp.array([0.1, 1.0, 10.0])
    ray = jax.jit(factorize)(moments, noise)

    def curve(strength):
        point = RayPoint(None, strength / (1 + strength), 1 + strength, jnp.asarray(1.0))
        whitened = at(ray, point, moments.label_moment)
        return optimum(whitened, jnp.asarray(1.0), clean=True).supervised_loss

    for row, strength in zip(jax.jit(jax.vmap(curve))(strengths), strengths, strict=True):
        np.testing.assert_allclose(row, jax.jit(curve)(strength), atol=1e-12)
