"""Gradients of the curves against central finite differences, where eigenvalues are equal too."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import load_digits

import reconjax
from reconjax.linalg.eigen import at_no_tie, nested_eigh, ties
from reconjax.linalg.whitening import whitening_vectors

DIM = 16
# The others take long to compile, and are behind the marker.
QUICK = [("supervised_loss", "clean", 0.5), ("reconstruction_loss", "noisy", np.inf)]


def digits(samples=1437):
    """Moments of scikit-learn's digits, by default of reconjax's training split."""
    data = load_digits()
    part = slice(samples)
    return reconjax.moments((data.images / 16)[part, ..., None], data.target[part], num_classes=10)


def finite_difference(function, at, step=1e-4):
    return (float(function(at + step)) - float(function(at - step))) / (2 * step)


def masked(moments, patch, curve="r2", latent_dim=DIM, **options):
    def value(ratio):
        noise = reconjax.noise.patch_mask(ratio, patch, (8, 8, 1))
        solution = reconjax.solve(reconjax.problem(moments, noise), **options)
        return getattr(solution, curve)[latent_dim - 1]

    return jax.jit(value)


@pytest.mark.parametrize(
    ("patch", "expected"),
    [
        (2, -0.0230),
        pytest.param(1, -0.0136, marks=pytest.mark.slow),
        pytest.param(4, -0.0306, marks=pytest.mark.slow),
    ],
)
def test_constant_pixels_do_no_harm(patch, expected):
    value = masked(digits(), patch)
    found = float(jax.grad(value)(0.5))
    np.testing.assert_allclose(found, finite_difference(value, 0.5), rtol=1e-5)
    assert round(found, 4) == expected


def test_fewer_samples_than_features():
    value = masked(digits(30), 1)
    found = float(jax.grad(value)(0.5))
    np.testing.assert_allclose(found, finite_difference(value, 0.5), rtol=1e-5)
    assert round(found, 4) == -0.0126


@pytest.mark.parametrize(
    ("curve", "readout", "weight"),
    [
        pytest.param(*case, marks=() if case in QUICK else pytest.mark.slow)
        for case in itertools.product(
            ("supervised_loss", "reconstruction_loss"), ("clean", "noisy"), (np.inf, 3.0, 0.5)
        )
    ],
)
def test_losses_for_every_weight_and_readout(curve, readout, weight):
    value = masked(digits(), 2, curve, reconstruction_weight=weight, readout=readout)
    found = float(jax.grad(value)(0.5))
    np.testing.assert_allclose(found, finite_difference(value, 0.5), rtol=1e-5)
    forward = float(jax.jvp(value, (0.5,), (1.0,))[1])
    np.testing.assert_allclose(found, forward, rtol=1e-9)


def test_the_weight_has_a_gradient():
    posed = reconjax.problem(digits(), reconjax.noise.patch_mask(0.5, 2, (8, 8, 1)))
    value = jax.jit(lambda weight: reconjax.solve(posed, weight).r2[DIM - 1])
    np.testing.assert_allclose(
        float(jax.grad(value)(2.0)), finite_difference(value, 2.0), rtol=1e-5
    )


def made(eigenvalues, seed=0, targets=3):
    """Moments with prescribed eigenvalues and a cross moment of full rank."""
    rng = np.random.default_rng(seed)
    size = len(eigenvalues)
    basis = np.linalg.qr(rng.normal(size=(size, size)))[0]
    second = basis * eigenvalues @ basis.T
    labels = np.linalg.qr(rng.normal(size=(targets, targets)))[0] @ rng.normal(size=(targets, size))
    cross = basis * np.sqrt(eigenvalues) @ labels.T / 5
    example = reconjax.moments(rng.normal(size=(9, size)), rng.normal(size=(9, targets)))
    return dataclasses.replace(
        example,
        second_moment=jnp.asarray((second + second.T) / 2),
        cross_moment=jnp.asarray(cross),
        label_moment=jnp.asarray(labels @ labels.T / 5),
    )


def noisy_share(moments, latent_dim):
    def value(std):
        noise = reconjax.noise.gaussian(std)
        return reconjax.solve(reconjax.problem(moments, noise)).r2[latent_dim - 1]

    return value


def test_equal_eigenvalues_past_k_and_a_cut_through_them():
    moments = made([4.0, 1.0, 1.0])
    assert abs(float(jax.grad(noisy_share(moments, 1))(0.5))) < 1e-12
    assert abs(float(jax.grad(noisy_share(moments, 3))(0.5))) < 1e-12
    assert not np.isfinite(float(jax.grad(noisy_share(moments, 2))(0.5)))


SPECTRA = {
    "different": [5.0, 4.0, 3.0, 2.0, 1.0, 0.5],
    "equal": [5.0, 3.0, 3.0, 3.0, 1.0, 1.0],
    "null space": [5.0, 3.0, 3.0, 1.0, 0.0, 0.0],
}


def directions(moments):
    """A change of the moments that keeps the null space of M, as a function of a number."""
    rng = np.random.default_rng(5)
    size = moments.features
    a = rng.normal(size=(size, size))
    label = rng.normal(size=(size, moments.targets))

    def changed(t):
        second, cross = np.asarray(moments.second_moment), np.asarray(moments.cross_moment)
        map_ = jnp.eye(size) + t * a
        return dataclasses.replace(
            moments,
            second_moment=map_ @ second @ map_.T,
            cross_moment=map_ @ (cross + t * second @ label),
        )

    return changed


CURVES = {
    "eq7": lambda m: reconjax.alignment(reconjax.spectrum(m)).alignment,
    "loss": lambda m: reconjax.alignment(reconjax.spectrum(m), convention="loss").alignment,
    "r2": lambda m: reconjax.alignment(reconjax.spectrum(m)).r2,
    "pca": lambda m: reconjax.alignment(reconjax.spectrum(m)).reconstruction_loss,
    "theorem 1": lambda m: reconjax.theorem1(reconjax.spectrum(m)).r2,
    "solve": lambda m: reconjax.solve(reconjax.problem(m)).r2,
    "solve, weighted": lambda m: reconjax.solve(reconjax.problem(m), 2.0).r2,
    "solve, reconstruction": lambda m: reconjax.solve(reconjax.problem(m)).reconstruction_loss,
}


@pytest.mark.parametrize(
    "spectrum",
    [s if s == "null space" else pytest.param(s, marks=pytest.mark.slow) for s in SPECTRA],
)
def test_curves_at_every_k(spectrum):
    eigenvalues = np.array(SPECTRA[spectrum])
    changed = directions(made(eigenvalues))
    function = jax.jit(lambda t: jnp.stack([curve(changed(t)) for curve in CURVES.values()]))
    step = 1e-5
    numeric = np.asarray(function(step) - function(-step)) / (2 * step)
    backward = jax.jit(jax.vmap(jax.grad(lambda t, one: jnp.vdot(function(t), one)), (None, 0)))
    every = np.eye(numeric.size).reshape(-1, *numeric.shape)
    found = np.asarray(backward(0.0, every)).reshape(numeric.shape)
    forward = np.asarray(jax.jvp(function, (0.0,), (1.0,))[1])
    parts = np.append((np.diff(eigenvalues) == 0) & (eigenvalues[1:] > 0), False)
    parts = np.tile(parts, (len(CURVES), 1))
    parts[list(CURVES).index("solve, weighted")] = False  # the objective's eigenvalues differ
    np.testing.assert_allclose(found[~parts], numeric[~parts], rtol=2e-5, atol=2e-7)
    np.testing.assert_allclose(forward[~parts], numeric[~parts], rtol=2e-5, atol=2e-7)
    assert not np.any(np.isfinite(found[parts]))
    assert not np.any(np.isfinite(forward[parts]))


def test_theorem1_between_the_tasks_cannot_tell_within_equal_eigenvalues():
    def value(t, moments):
        return reconjax.theorem1(reconjax.spectrum(directions(moments)(t)), 2.0).r2[1]

    different, equal = made(SPECTRA["different"]), made(SPECTRA["equal"])
    np.testing.assert_allclose(
        float(jax.grad(value)(0.0, different)),
        finite_difference(lambda t: value(t, different), 0.0, 1e-5),
        rtol=1e-6,
    )
    assert not np.isfinite(float(jax.grad(value)(0.0, equal)))


def test_whitening_follows_a_null_space():
    moments = made(SPECTRA["null space"])
    changed = directions(moments)

    def inverse(t):
        whitener, _ = whitening_vectors(changed(t).second_moment)
        return whitener @ whitener.T

    step = 1e-5
    numeric = np.linalg.pinv(changed(step).second_moment, rcond=1e-9, hermitian=True)
    numeric = numeric - np.linalg.pinv(changed(-step).second_moment, rcond=1e-9, hermitian=True)
    found = np.asarray(jax.jvp(inverse, (0.0,), (1.0,))[1])
    np.testing.assert_allclose(found, numeric / (2 * step), atol=1e-6 * np.abs(found).max())


def test_values_are_those_of_the_plain_decomposition():
    second = made(SPECTRA["different"]).second_moment
    for found, wanted in zip(
        nested_eigh(second), reconjax.linalg.eigen.eigh_descending(second), strict=True
    ):
        np.testing.assert_array_equal(found, wanted)


def test_ties_and_their_derivatives():
    cut = ties(jnp.array([3.0, 3.0, 1.0, 0.0, 0.0]), jnp.int32(3))
    np.testing.assert_array_equal(cut, [True, False, False, False, False])
    curve = jnp.arange(5.0)
    each = jax.jit(jax.jacrev(lambda curve: at_no_tie(curve, cut)))(curve)
    np.testing.assert_array_equal(each[1:], np.eye(5)[1:])
    assert np.isnan(each[0, 0])
    np.testing.assert_array_equal(at_no_tie(curve, cut), curve)
