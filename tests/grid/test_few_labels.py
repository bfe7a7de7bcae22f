"""An encoder of all samples, a head of those with labels: both solvers against least squares."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import reconjax as rj
from reconjax import noise as rn
from reconjax.theory import targets

SHAPE, SIZE, ALL, LABELED = (4, 6, 1), 24, 200, 40
GRID = rj.mask_grid(SHAPE, [1, 2], [0.0, 0.5, 0.9])


def data(labeled=LABELED, constant=False, seed=0):
    """x (ALL, D), y of the first ones, unbalanced, and x, y of a test split."""
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(SIZE, SIZE)) * 0.8 ** np.arange(SIZE)
    x = rng.normal(size=(ALL + 60, SIZE)) @ mixing.T + rng.normal(size=SIZE)
    if constant:
        x[:, [3, 7]] = 2.0
    score = x @ rng.normal(size=SIZE)
    y = (score > np.quantile(score, 0.3)).astype(int) + (score > np.quantile(score, 0.9))
    return x[:ALL], y[:labeled], x[ALL:], y[ALL:]


def one_hot(y):
    return np.eye(3)[y]


def encoder(x, noise, target=None):
    """(D, R) the reduced-rank regression of t on x', of all samples, whatever their labels."""
    x = x - x.mean(0)
    second = x.T @ x / len(x)
    noisy, cross = np.asarray(noise.second_moment(second)), np.asarray(noise.mean(second))
    values, vectors = np.linalg.eigh(noisy)
    kept = values > 1e-12 * values[-1]
    whitener = vectors[:, kept] / np.sqrt(values[kept])
    if target is not None:
        spectrum, directions = np.linalg.eigh(second)
        spectrum = np.maximum(spectrum, 0)
        spectrum[spectrum < 1e-12 * spectrum[-1]] = 0
        root = directions * spectrum ** ((1 - target) / 2)
        powers = np.where(spectrum > 0, np.maximum(spectrum, 1e-300) ** (-target / 2), 0)
        cross = cross @ (directions * powers) @ directions.T
        assert root.shape == cross.shape
    left, _, _ = np.linalg.svd(whitener.T @ cross)
    return whitener @ left


def explained(x, y, features, test=None):
    """(R,) r2 of least squares with an intercept on the first K features; on a test split too."""
    y = one_hot(y)
    means = features.T @ x.mean(0), y.mean(0)
    curves = [[], []]
    for k in range(1, features.shape[1] + 1):
        z = (x @ features - means[0])[:, :k]
        head = np.linalg.lstsq(z, y - means[1], rcond=1e-11)[0]
        for curve, (given, labels) in zip(
            curves, ((x, y), (x, y) if test is None else test), strict=True
        ):
            residual = labels - means[1] - (given @ features - means[0])[:, :k] @ head
            curve.append(1 - np.sum(residual**2) / np.sum((labels - means[1]) ** 2))
    return np.asarray(curves)


@pytest.mark.parametrize(
    ("labeled", "constant"), [(LABELED, False), (LABELED, True), (12, False), (ALL, False)]
)
def test_a_grid_is_that_of_least_squares(labeled, constant):
    x, y, new, new_y = data(labeled, constant)
    few = rj.moments(x[:labeled], y, num_classes=3)
    test = rj.held_out([rj.moments(new, new_y, num_classes=3)], few)
    result = rj.sweep(few, GRID, encoder=rj.moments(x), held_out=test)
    for row, noises in enumerate(GRID):
        for column, noise in enumerate(noises):
            features = encoder(x, noise)
            r2, held_out = explained(x[:labeled], y, features, (new, one_hot(new_y)))
            size = min(features.shape[1], labeled - 2)
            np.testing.assert_allclose(result.r2[row, column, 0][:size], r2[:size], atol=1e-8)
            found = result.held_out[row, column, 0][: size - 1]
            np.testing.assert_allclose(found, held_out[: size - 1], atol=1e-6)
            assert np.all(result.r2[row, column, 0] <= 1 + 1e-9)
    if labeled == 12:  # as many features as labels: all is explained
        np.testing.assert_allclose(result.r2[..., labeled - 1 :], 1, atol=1e-8)


def test_targets_and_views_learn_from_all_samples_too():
    x, y, _, _ = data()
    few, encoders = rj.moments(x[:LABELED], y, num_classes=3), rj.moments(x)
    result = rj.sweep(few, GRID, encoder=encoders, target=targets.whitened(0.5))
    for row, noises in enumerate(GRID):
        truth = explained(x[:LABELED], y, encoder(x, noises[1], 0.5))[0]
        np.testing.assert_allclose(result.r2[row, 1, 0], truth, atol=1e-8)
    views = rj.sweep(few, GRID, encoder=encoders, target=targets.joint_embedding())
    truth = explained(x[:LABELED], y, encoder(x, GRID[1][1], 1.0))[0]
    np.testing.assert_allclose(views.r2[1, 1, 0], truth, atol=1e-8)


@pytest.mark.parametrize("noise", [rn.gaussian(0.7), rn.flip(0.5, SHAPE)])
def test_the_general_solver_is_that_of_least_squares(noise):
    x, y, _, _ = data()
    problem = rj.problem(rj.moments(x[:LABELED], y, num_classes=3), noise, encoder=rj.moments(x))
    solution = rj.solve(problem)
    truth = explained(x[:LABELED], y, encoder(x, noise))[0][:12]  # a flip destroys the rest
    np.testing.assert_allclose(solution.r2[:12], truth, atol=1e-8)
    # The head is about the mean of the samples that it was fitted on.
    residual = one_hot(y) - np.asarray(solution.predict(x[:LABELED], 5))
    spread = np.sum((one_hot(y) - one_hot(y).mean(0)) ** 2)
    assert 1 - np.sum(residual**2) / spread == pytest.approx(float(solution.r2[4]), abs=1e-8)


def test_the_general_solver_needs_no_more_than_few_labels_tell():
    x, y, _, _ = data()
    problem = rj.problem(rj.moments(x[:LABELED], y, num_classes=3), encoder=rj.moments(x))
    with pytest.raises(ValueError, match="reconstruction_weight: 2; with an encoder of its own"):
        rj.solve(problem, 2.0)
    with pytest.raises(ValueError, match="readout: 'noisy'; with an encoder of its own"):
        rj.solve(problem, readout="noisy")
    with pytest.raises(ValueError, match="reconstruction_weight: traced; with"):
        jax.jit(lambda weight: rj.solve(problem, weight).r2)(jnp.inf)


def test_with_all_samples_labeled_it_is_the_sweep_without():
    x, y, _, _ = data(ALL)
    moments = rj.moments(x, y, num_classes=3)
    plain = rj.sweep(moments, GRID)
    both = rj.sweep(moments, GRID, encoder=moments)
    for name in ("r2", "reconstruction_loss", "alignment"):
        np.testing.assert_allclose(getattr(both, name), getattr(plain, name), atol=1e-10)


@pytest.mark.slow
def test_more_samples_make_a_better_encoder_of_few_labels():
    """With as few labels as here, their own principal directions are those of noise."""
    rng = np.random.default_rng(1)
    signal = rng.normal(size=(400, 3))
    x = np.concatenate([signal, np.zeros((400, 37))], axis=1) + 0.7 * rng.normal(size=(400, 40))
    y = (signal[:, 0] > 0).astype(int)
    few = rj.moments(x[:16], y[:16], num_classes=2)
    test = rj.held_out([rj.moments(x[200:], y[200:], num_classes=2)], few)
    grid = [[rn.identity()]]
    alone = rj.sweep(few, grid, latent_dims=[3], held_out=test).held_out.item()
    helped = rj.sweep(few, grid, latent_dims=[3], held_out=test, encoder=rj.moments(x[:200]))
    assert helped.held_out.item() > alone + 0.05


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"encoder": 3}, "encoder: int; `Moments` are needed"),
        ({"encoder": rj.moments(np.eye(5))}, "encoder: 5 features; 24 are needed"),
        ({"reconstruction_weights": [1.0]}, "reconstruction_weights: 1; .* inf alone"),
        ({"readout": "noisy"}, "readout: 'noisy'; .* 'clean' is needed"),
    ],
)
def test_what_an_encoder_of_its_own_cannot_do_is_refused(options, why):
    x, y, _, _ = data()
    few = rj.moments(x[:LABELED], y, num_classes=3)
    with pytest.raises(ValueError, match=why):
        rj.sweep(few, GRID, **{"encoder": rj.moments(x), **options})
