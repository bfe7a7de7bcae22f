"""The lifted problem against dense NumPy, gradient descent, and the theorems it has as limits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
import scipy.optimize

import reconjax
from reconjax.data import Dataset
from reconjax.lift.moments import Covariances, LiftedMoments
from reconjax.noise import chain, gaussian, parse_noise, patch_mask
from reconjax.theory.targets import joint_embedding, linear_target, patch_centered, whitened

SHAPE = (4, 4, 1)
# As many features as inputs: what is compiled for one serves the other.
N, M = 80, 16


def dataset(samples=N, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, size=samples + 40)
    spread = np.linspace(2, 0.1, 16)
    x = rng.normal(size=(samples + 40, 16)) * spread + np.eye(3, 16)[y] + 0.2 * y[:, None]
    x = x @ np.linalg.qr(rng.normal(size=(16, 16)))[0]
    x = x.reshape(-1, *SHAPE)
    held = {"x_test": x[samples:], "y_test": y[samples:]}
    return Dataset.from_arrays(x[:samples], y[:samples], **held)


@pytest.fixture(scope="module")
def lift():
    return reconjax.lift.lift(dataset(), reconjax.lift.random_layers([M], 16))


@pytest.fixture(scope="module")
def lifted(lift):
    noise = patch_mask(0.5, 2, SHAPE)
    return reconjax.lift.lifted_moments(lift, noise, draws=2, pairs=True)


class Dense:
    """The problem of some moments by SciPy's generalized eigenvectors, and least squares."""

    def __init__(self, lift, lifted, ridge, weight, target=None, readout="clean"):
        g, labels, inputs, pairs = (np.asarray(part) for part in lifted.covariances)
        decay = ridge * np.mean(np.diag(g))
        alpha, lam = (0, 1) if np.isinf(weight) else (1, weight)
        told, self.variance = inputs, float(np.trace(lift.moments.second_moment))
        if isinstance(target, np.ndarray):
            told = inputs @ target
            self.variance = np.trace(target.T @ np.asarray(lift.moments.second_moment) @ target)
        objective = alpha * labels @ labels.T + lam * told @ told.T
        if isinstance(target, str):
            objective = lam * pairs + alpha * labels @ labels.T
        values, v = scipy.linalg.eigh(objective, g + decay * np.eye(len(g)))
        self.theta, self.v = values[::-1], v[:, ::-1]
        self.g, self.pairs, self.labels, self.told, self.inputs = g, pairs, labels, told, inputs
        self.clean, self.readout, self.lift = lift.clean, readout, lift

    def r2(self, k):
        v = self.v[:, :k]
        second, cross = np.asarray(self.clean.second_moment), np.asarray(self.clean.cross_moment)
        if self.readout == "noisy":
            second, cross = self.g, self.labels
        head = np.linalg.lstsq(v.T @ second @ v, v.T @ cross, rcond=None)[0]
        explained = np.sum(head * (v.T @ cross))
        return explained / np.trace(self.clean.label_moment), v @ head

    def held_out(self, k):
        test, head = self.lift.held_out, self.r2(k)[1]
        loss = np.trace(head.T @ np.asarray(test.second_moment) @ head)
        loss -= 2 * np.sum(head * np.asarray(test.cross_moment))
        return -loss / float(test.label_variance)

    def loss(self, k, told, variance):
        v = self.v[:, :k]
        decoder = v.T @ told
        return variance - 2 * np.sum(decoder**2) + np.trace(decoder.T @ v.T @ self.g @ v @ decoder)


def checked(solution, dense, most=16):
    total = np.trace(dense.lift.moments.second_moment)
    for k in range(1, most + 1):
        np.testing.assert_allclose(solution.solution.r2[k - 1], dense.r2(k)[0], atol=1e-8)
        loss = dense.loss(k, dense.inputs, total)
        np.testing.assert_allclose(solution.solution.reconstruction_loss[k - 1], loss, atol=1e-8)


@pytest.mark.parametrize(("weight", "readout"), [(np.inf, "clean"), (1.0, "noisy")])
def test_every_curve_is_that_of_dense_numpy(lift, lifted, weight, readout):
    ridges, lifted = [0, 0.01, 1], lifted._replace(apart=None)
    path = reconjax.lift.solve_lifted(
        lift, lifted, ridges, reconstruction_weight=weight, readout=readout
    )
    for ridge, solution in zip(ridges, path, strict=True):
        dense = Dense(lift, lifted, ridge, weight, readout=readout)
        checked(solution, dense)
        if readout == "clean":
            wanted = [dense.held_out(k) for k in range(1, 17)]
            np.testing.assert_allclose(solution.held_out[:16], wanted, atol=1e-8)
            images, labels = lift_test()
            codes = np.asarray(solution.encode(images, 5))
            assert codes.shape == (40, 5)
            loss = np.mean(np.sum((solution.predict(images, 5) - np.eye(3)[labels]) ** 2, axis=1))
            spread = float(lift.held_out.label_variance)
            np.testing.assert_allclose(1 - loss / spread, solution.held_out[4], atol=1e-8)
        else:
            assert solution.held_out is None


def lift_test():
    return dataset().test.examples(range(40))


@pytest.mark.parametrize("ridge", [0, 0.1])
def test_targets_and_joint_embedding_are_those_of_dense_numpy(lift, lifted, ridge):
    values, vectors = np.linalg.eigh(np.asarray(lift.moments.second_moment))
    lifted = lifted._replace(apart=None)
    for target, matrix in (
        (whitened(0.6), vectors * values**-0.3),
        (patch_centered(2, SHAPE), np.asarray(patch_centered(2, SHAPE).apply(jnp.eye(16)))),
    ):
        (solution,) = reconjax.lift.solve_lifted(lift, lifted, [ridge], target=target)
        dense = Dense(lift, lifted, ridge, np.inf, matrix)
        few = min(np.linalg.matrix_rank(matrix), 12)
        checked(solution, dense, few)
        wanted = [dense.loss(k, dense.told, dense.variance) for k in range(1, few + 1)]
        np.testing.assert_allclose(solution.solution.target_loss[:few], wanted, atol=1e-8)
    (solution,) = reconjax.lift.solve_lifted(lift, lifted, [ridge], target=joint_embedding())
    dense = Dense(lift, lifted, ridge, np.inf, "joint embedding")
    # What two draws have not in common is none, and has no order.
    most = int(np.sum(dense.theta > 1e-9))
    checked(solution, dense, most)
    v = dense.v[:, :most]
    distance = 2 * np.cumsum(np.diag(v.T @ (dense.g - dense.pairs) @ v))
    np.testing.assert_allclose(solution.solution.target_loss[:most], distance, atol=1e-8)


@pytest.mark.parametrize("target", [None, joint_embedding()], ids=["pixels", "embedding"])
def test_few_directions_of_many_are_those_of_dense_numpy(target):
    rng, shape = np.random.default_rng(0), (24, 24, 1)
    x = rng.normal(size=(300, 576)) * 0.98 ** np.arange(576)
    lift = reconjax.lift.linear_lift(reconjax.moments(x, np.arange(300) % 3))
    lifted = reconjax.lift.exact_moments(lift.moments, parse_noise("mask:0.5:2x2", shape))
    few, weight = 6, np.inf if target is None else 1.0
    (solution,) = reconjax.lift.solve_lifted(
        lift, lifted, [0.1], reconstruction_weight=weight, target=target, latent_dim=few
    )
    dense = Dense(lift, lifted, 0.1, weight, target and "joint embedding")
    assert solution.solution.encoder.shape == (576, few)
    checked(solution, dense, few)


@pytest.mark.parametrize("ridge", [0.3])
def test_it_is_the_optimum_that_gradient_descent_finds(lift, lifted, ridge):
    g, labels, inputs, _ = lifted.covariances
    decay, k, weight = ridge * jnp.mean(jnp.diagonal(g)), 3, 2.0
    total = jnp.trace(lift.moments.second_moment)

    def objective(encoder, head, decoder):
        loss = 0.0
        for factor, told, out in ((1.0, labels, head), (weight, inputs, decoder)):
            whole = encoder @ out
            penalty = jnp.sum(whole * (g @ whole)) + decay * jnp.sum(whole**2)
            loss += factor * (penalty - 2 * jnp.sum(whole * told))
        return loss + weight * total

    shapes = (M, k), (k, 3), (k, 16)
    ends = np.cumsum([a * b for a, b in shapes])

    @jax.jit
    @jax.value_and_grad
    def flat(parameters):
        parts = jnp.split(parameters, ends[:-1])
        return objective(*(part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)))

    start = np.random.default_rng(0).normal(size=ends[-1]) * 0.3
    found = scipy.optimize.minimize(
        lambda p: tuple(np.asarray(part) for part in flat(jnp.asarray(p))),
        start,
        jac=True,
        options={"maxiter": 3000, "gtol": 1e-9},
    )
    (solution,) = reconjax.lift.solve_lifted(
        lift, lifted._replace(apart=None), [ridge], reconstruction_weight=weight, readout="noisy"
    )
    encoder = solution.solution.encoder[:, :k]
    closed = objective(encoder, encoder.T @ labels, encoder.T @ inputs)
    np.testing.assert_allclose(found.fun, closed, rtol=1e-7)
    if ridge == 0:
        joint = solution.solution.reconstruction_loss[k - 1]
        direct = total - jnp.sum((encoder.T @ inputs) ** 2)
        np.testing.assert_allclose(joint, direct, rtol=1e-9)


def test_identity_features_are_the_linear_closed_form_to_the_monte_carlo_error():
    data = dataset(400)
    lift = reconjax.lift.lift(data, reconjax.lift.identity_features())
    noise = patch_mask(0.5, 2, SHAPE)
    linear = reconjax.solve(reconjax.problem(lift.moments, noise))
    lifted = reconjax.lift.lifted_moments(lift, noise, draws=8)
    (solution,) = reconjax.lift.solve_lifted(lift, lifted, [0], latent_dim=8)
    off = np.asarray(solution.solution.r2 - linear.r2[:8])
    error = np.asarray(solution.monte_carlo_error)
    assert 0 < np.sqrt(np.mean(error**2)) < 0.02
    assert np.sqrt(np.mean(off**2)) < 3 * np.sqrt(np.mean(error**2))
    held = reconjax.held_out([reconjax.moments(*data.test.examples(range(40)))], lift.moments)
    np.testing.assert_allclose(lift.held_out.second_moment, held.second_moment, atol=1e-10)


def without_a_ridge(text, weight, targets):
    data = dataset()
    moments = reconjax.moments(*data.train.examples(range(N)))
    test = reconjax.held_out([reconjax.moments(*data.test.examples(range(40)))], moments)
    noise = parse_noise(text, SHAPE, moments)
    for target in targets:
        linear = reconjax.solve(reconjax.problem(moments, noise, target), weight)
        (solution,) = reconjax.lift.ridge_path(
            moments, noise, [0], reconstruction_weight=weight, target=target, held_out=test
        )
        assert not np.any(solution.monte_carlo_error)
        # Past the rank of what is told about x, here of the flipped, the lift's curve is flat.
        most = 8 if text == "flip" else 16
        np.testing.assert_allclose(solution.solution.r2[:most], linear.r2[:most], atol=1e-8)
        if target is None:
            loss = solution.solution.reconstruction_loss[:most]
            np.testing.assert_allclose(loss, linear.reconstruction_loss[:most], atol=1e-8)
            assert solution.solution.rank == most


@pytest.mark.parametrize(("text", "weight"), [("mask:0.5:2x2", np.inf), ("flip", np.inf)])
def test_without_a_ridge_exact_moments_are_the_linear_closed_form(text, weight):
    without_a_ridge(text, weight, [None])


@pytest.mark.slow
@pytest.mark.parametrize("text", ["mask:0.5:2x2", "gaussian:0.3", "flip", "shift:1", "block:2"])
@pytest.mark.parametrize("weight", [np.inf, 0.5, 0.0])
def test_so_they_are_for_every_noise_and_target(text, weight):
    without_a_ridge(text, weight, [None, whitened(0.5), joint_embedding()])


def test_a_ridge_acts_as_gaussian_noise():
    data = dataset()
    moments = reconjax.moments(*data.train.examples(range(N)))
    test = reconjax.held_out([reconjax.moments(*data.test.examples(range(40)))], moments)
    mask = patch_mask(0.5, 2, SHAPE)
    second = mask.second_moment(moments.second_moment)
    std = float(jnp.sqrt(0.2 * jnp.mean(jnp.diagonal(second))))
    (solution,) = reconjax.lift.ridge_path(moments, mask, [0.2], held_out=test)
    linear = reconjax.solve(reconjax.problem(moments, chain(mask, gaussian(std))))
    np.testing.assert_allclose(solution.solution.r2, linear.r2, atol=1e-10)
    assert solution.held_out.shape == (16,)


def test_more_features_than_samples_and_no_ridge_are_theorem_2():
    samples = 30
    data = dataset(samples)
    lift = reconjax.lift.lift(data, reconjax.lift.random_layers([64], 16))
    lifted = reconjax.lift.lifted_moments(lift)
    x, y = data.train.examples(range(samples))
    x, y = x.reshape(samples, -1), np.eye(3)[y]
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    codes, values = reconjax.optimal_codes(x, y, 2.0, 18)
    path = reconjax.lift.solve_lifted(lift, lifted, [0, 1e-9], reconstruction_weight=2.0)
    for solution, close in zip(path, (1e-8, 1e-5), strict=True):
        found = solution.solution
        wanted = [np.sum((codes[:, :k].T @ y) ** 2) / np.sum(y**2) for k in range(1, 19)]
        np.testing.assert_allclose(found.r2[:18], wanted, atol=close)
        loss = (found.supervised_loss + 2 * found.reconstruction_loss) / 3
        whole = (np.sum(y**2) + 2 * np.sum(x**2)) / 3
        wanted = (whole - np.cumsum(values)) / samples
        np.testing.assert_allclose(loss[:18], wanted, atol=close)
        assert found.rank == 18


def test_past_the_rank_of_what_is_told_nothing_is_read_out():
    data = dataset()
    x, y = data.train.examples(range(N))
    x = np.array(x)
    x[..., 2:, 0] = 0.5  # constant pixels
    test = data.test.examples(range(40))
    flat = Dataset.from_arrays(x, y, x_test=test[0], y_test=test[1])
    lift = reconjax.lift.lift(flat, reconjax.lift.random_layers([M], 16))
    lifted = reconjax.lift.lifted_moments(lift, patch_mask(0.5, 2, SHAPE))
    (solution,) = reconjax.lift.solve_lifted(lift, lifted._replace(apart=None), [0.1])
    assert solution.solution.rank == 8
    assert np.ptp(solution.solution.r2[7:]) == 0

    def with_constants(x):
        return jnp.concatenate([x.reshape(-1, 16)[:, :13], jnp.ones((len(x), 3), x.dtype)], axis=1)

    dead = reconjax.lift.function_features(with_constants, SHAPE)
    lift = reconjax.lift.lift(data, dead)
    lifted = reconjax.lift.lifted_moments(lift)
    none, least, some = reconjax.lift.solve_lifted(lift, lifted, [0, 1e-9, 0.1])
    checked(some, Dense(lift, lifted, 0.1, np.inf), 13)
    np.testing.assert_allclose(none.solution.r2, least.solution.r2, atol=1e-6)
    assert none.solution.rank == some.solution.rank == 13


def test_the_monte_carlo_error_is_how_far_other_draws_are(lift):
    noise = patch_mask(0.5, 2, SHAPE)
    curves, errors = [], []
    for seed in range(12):
        lifted = reconjax.lift.lifted_moments(lift, noise, draws=4, seed=seed)
        (solution,) = reconjax.lift.solve_lifted(lift, lifted, [0.3], latent_dim=8)
        curves.append(np.asarray(solution.held_out))
        errors.append(np.asarray(solution.held_out_error))
    spread = np.sqrt(np.mean(np.var(curves, axis=0, ddof=1)))
    assert 0.5 < np.sqrt(np.mean(np.square(errors))) / spread < 2


@pytest.mark.parametrize(
    "targets", [[None], pytest.param([whitened(0.5), joint_embedding()], marks=pytest.mark.slow)]
)
def test_directions_of_a_changed_problem_are_found_by_iteration(lift, lifted, targets):
    change = jax.tree.map(lambda part: 0.3 * part, lifted.apart)
    moved = LiftedMoments(
        Covariances(*jax.tree.map(jnp.add, lifted.covariances, change)), lifted.mean, 2, None, 1e-16
    )
    back = LiftedMoments(
        Covariances(*jax.tree.map(jnp.subtract, lifted.covariances, change)),
        lifted.mean, 2, None, 1e-16,
    )  # fmt: skip
    given = lifted._replace(apart=change)
    for target in targets:
        options = {"target": target, "latent_dim": 8}
        (solution,) = reconjax.lift.solve_lifted(lift, given, [0.3], **options)
        above, below = (
            reconjax.lift.solve_lifted(lift, each, [0.3], **options)[0].solution.r2
            for each in (moved, back)
        )
        wanted = np.hypot((above - below) / 2, (above + below) / 2 - solution.solution.r2)
        np.testing.assert_allclose(solution.monte_carlo_error, wanted, atol=2e-4)


@pytest.mark.slow
def test_the_eigendecomposition_in_float32_is_near(lift, lifted):
    lifted = lifted._replace(apart=None)
    exact, rough = (
        reconjax.lift.solve_lifted(lift, lifted, [0.1], latent_dim=8, precision=precision)[0]
        for precision in ("float64", "mixed")
    )
    np.testing.assert_allclose(rough.solution.r2, exact.solution.r2, atol=1e-4)
    np.testing.assert_allclose(rough.held_out, exact.held_out, atol=1e-4)


def test_bad_input_is_refused_in_a_line(lift, lifted):
    solve = reconjax.lift.solve_lifted
    for ridges, text in (
        ([], "ridges: none"),
        ([-1], "ridge: -1; it must be finite and >= 0"),
        ([np.nan], "ridge: nan"),
    ):
        with pytest.raises(ValueError, match=text):
            solve(lift, lifted, ridges)
    with pytest.raises(ValueError, match="ridge: 0; with features in float32 at least 1e-05"):
        solve(lift, lifted._replace(rounding=1e-7), [0])
    with pytest.raises(ValueError, match=r"latent_dim: 17; 1 .. 16"):
        solve(lift, lifted, latent_dim=17)
    with pytest.raises(ValueError, match="reconstruction_weight: -1"):
        solve(lift, lifted, reconstruction_weight=-1)
    with pytest.raises(ValueError, match="readout: 'both'"):
        solve(lift, lifted, readout="both")
    with pytest.raises(ValueError, match="precision: 'half'"):
        solve(lift, lifted, precision="half")
    with pytest.raises(ValueError, match="target: made for 4 features, not 16"):
        solve(lift, lifted, target=linear_target(np.eye(4)))
    single = lifted._replace(covariances=lifted.covariances._replace(pairs=None))
    with pytest.raises(ValueError, match="target: joint embedding needs pairs of draws"):
        solve(lift, single, target=joint_embedding())
    (solution,) = solve(lift, lifted, latent_dim=8)
    with pytest.raises(ValueError, match=r"x: shape \(3, 5\); \(n, D\) of D = 16"):
        solution.encode(np.zeros((3, 5)))
