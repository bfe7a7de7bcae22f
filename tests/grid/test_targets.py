"""What is predicted in place of x, and joint embedding, against dense algebra on both sides."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import linalg
from sklearn.cross_decomposition import CCA

import reconjax as rj
from reconjax.linalg import eigen
from reconjax.noise import parse_noise
from reconjax.theory import optimum as core
from reconjax.theory.targets import (
    WhitenedInput,
    high_pass,
    joint_embedding,
    linear_target,
    parse_target,
    patch_centered,
    whitened,
)

SHAPE = (4, 4, 2)
SIZE = 32
WEIGHTS = (1e-3, 1.0, np.inf)
SLOW = pytest.mark.slow


def data(samples=200, constant=False):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(samples, SIZE)) @ np.diag(np.linspace(1, 0.1, SIZE))
    x = x @ rng.normal(size=(SIZE, SIZE))
    if constant:
        x[:, [3, 17]] = 2.0
    return x.reshape(-1, *SHAPE), np.arange(samples) % 3


def power(second, exponent):
    """M^exponent (D, D) on the range of M."""
    values, vectors = np.linalg.eigh(second)
    kept = values > 1e-10 * values[-1]
    return vectors[:, kept] * values[kept] ** exponent @ vectors[:, kept].T


def oracle(moments, matrix, noise, weight):
    """r2, reconstruction loss and target loss (D,) for t = Aᵀ x, what is tied by variance."""
    second, cross = np.asarray(moments.second_moment), np.asarray(moments.cross_moment)
    noisy, inputs = np.asarray(noise.second_moment(second)), np.asarray(noise.mean(second))
    labels = np.asarray(noise.mean(cross))
    alpha, share = (0, 1) if np.isinf(weight) else (1, weight)
    objective = share * inputs @ matrix @ matrix.T @ inputs.T + alpha * labels @ labels.T
    whitener = power(noisy, -0.5)
    rank = np.linalg.matrix_rank(second, hermitian=True)
    values, vectors = np.linalg.eigh(whitener @ objective @ whitener)
    values, vectors = values[::-1], vectors[:, ::-1]
    known = values > 1e-11 * values[0]
    rest = vectors[:, ~known]
    turn = np.linalg.eigh(rest.T @ whitener @ inputs @ inputs.T @ whitener @ rest)[1][:, ::-1]
    encoder = whitener @ np.concatenate([vectors[:, known], rest @ turn], axis=1)[:, :rank]
    factor = np.linalg.cholesky(encoder.T @ second @ encoder)
    along = np.linalg.solve(factor, encoder.T @ cross)
    r2 = np.cumsum(np.sum(along**2, axis=1)) / float(moments.label_moment.trace())
    by_inputs = np.sum((inputs.T @ encoder) ** 2, axis=0)
    by_target = np.sum((matrix.T @ inputs.T @ encoder) ** 2, axis=0)
    return (
        r2,
        np.trace(second) - np.cumsum(by_inputs),
        np.trace(matrix.T @ second @ matrix) - np.cumsum(by_target),
    )


def cases(moments):
    """Targets, and A of each."""
    unit = jnp.eye(SIZE)
    second = np.asarray(moments.second_moment)
    some = np.random.default_rng(1).normal(size=(SIZE, 5))
    return {
        "whitened": (whitened(0.75), power(second, -0.375)),
        "pixels": (whitened(0.0), np.eye(SIZE)),
        "high-pass": (high_pass(1.0, SHAPE), np.asarray(high_pass(1.0, SHAPE).apply(unit))),
        "patch": (patch_centered(2, SHAPE), np.asarray(patch_centered(2, SHAPE).apply(unit))),
        "matrix": (linear_target(some), some),
        "function": (linear_target(lambda x: x @ some, SIZE), some),
        "embedding": (joint_embedding(), power(second, -0.5)),
    }


def check(result, moments, matrix, grid, *, embedding):
    for row, noises in enumerate(grid):
        for column, noise in enumerate(noises):
            for level, weight in enumerate(WEIGHTS):
                truth = oracle(moments, matrix, noise, weight)
                size = len(truth[0])
                place = row, column, level
                np.testing.assert_allclose(result.r2[place][:size], truth[0], atol=1e-9)
                loss = result.reconstruction_loss[place][:size]
                np.testing.assert_allclose(loss, truth[1], atol=1e-7)
                if not embedding:
                    loss = result.target_loss[place][:size]
                    np.testing.assert_allclose(loss, truth[2], atol=1e-8)


QUICK = [("whitened", False), ("patch", True), ("embedding", True)]
NAMES = ("whitened", "pixels", "high-pass", "patch", "matrix", "function", "embedding")


@pytest.mark.parametrize(
    ("name", "constant"),
    [
        pytest.param(name, constant, marks=() if (name, constant) in QUICK else SLOW)
        for name in NAMES
        for constant in (False, True)
    ],
)
def test_both_sides_equal_dense_algebra(name, constant):
    x, y = data(constant=constant)
    moments = rj.moments(x, y)
    target, matrix = cases(moments)[name]
    grid = rj.mask_grid(SHAPE, [1, 2], [0.5, 0.9])
    by_features = rj.sweep(moments, grid, WEIGHTS, target=target)
    check(by_features, moments, matrix, grid, embedding=name == "embedding")
    dims = np.arange(1, SIZE + 1)
    sides = rj.grid.samples(x, y)
    by_samples = rj.grid.sweep_samples(sides, grid, WEIGHTS, dims, target=target)
    check(by_samples, moments, matrix, grid, embedding=name == "embedding")


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["whitened", pytest.param("high-pass", marks=SLOW), pytest.param("embedding", marks=SLOW)],
)
def test_fewer_samples_than_features(name):
    x, y = data(samples=20)
    moments = rj.moments(x, y)
    target, _ = cases(moments)[name]
    grid = rj.mask_grid(SHAPE, [1, 2], [0.0, 0.5, 0.9])
    by_features = rj.sweep(moments, grid, WEIGHTS, target=target)
    by_samples = rj.grid.sweep_samples(rj.grid.samples(x, y), grid, WEIGHTS, target=target)
    for field in ("r2", "reconstruction_loss", "target_loss"):
        wide, narrow = getattr(by_features, field)[..., :20], getattr(by_samples, field)
        np.testing.assert_allclose(narrow, wide, atol=1e-8)


@pytest.mark.parametrize("text", ["shift:1", "mask:0.5:2x2+gaussian:0.2"])
@pytest.mark.parametrize("name", ["whitened", "matrix", "embedding"])
def test_the_general_solver_equals_dense_algebra(text, name):
    moments = rj.moments(*data())
    target, matrix = cases(moments)[name]
    noise = parse_noise(text, SHAPE)
    for weight in WEIGHTS:
        r2, loss, target_loss = oracle(moments, matrix, noise, weight)
        solution = rj.solve(rj.problem(moments, noise, target), weight)
        np.testing.assert_allclose(solution.r2, r2, atol=1e-9)
        np.testing.assert_allclose(solution.reconstruction_loss, loss, atol=1e-7)
        if name != "embedding":
            np.testing.assert_allclose(solution.target_loss, target_loss, atol=1e-8)


@pytest.mark.slow
def test_without_noise_partial_whitening_leaves_the_order_of_pca():
    moments = rj.moments(*data())
    grid = [[parse_noise("gaussian:0", SHAPE)]]
    plain = rj.sweep(moments, grid).r2
    for target in (whitened(0.9), joint_embedding()):
        np.testing.assert_allclose(rj.sweep(moments, grid, target=target).r2, plain, atol=1e-10)
    high = rj.sweep(moments, grid, target=high_pass(1.0, SHAPE)).r2
    assert np.max(np.abs(high - plain)) > 1e-3


def test_the_derivative_in_the_power_equals_finite_differences():
    moments = rj.moments(*data())
    noise = parse_noise("mask:0.5:2x2", SHAPE)

    def by_solver(s):
        return rj.solve(rj.problem(moments, noise, WhitenedInput(power=s))).r2[9]

    def on_ray(s):
        target = WhitenedInput(power=s)
        return rj.sweep(moments, [[noise]], np.inf, [10], target=target).r2.sum()

    at, step = jnp.asarray(0.6), 1e-5
    change = (by_solver(at + step) - by_solver(at - step)) / (2 * step)
    assert abs(change) > 1e-4
    np.testing.assert_allclose(jax.grad(by_solver)(at), change, rtol=1e-5)
    np.testing.assert_allclose(jax.grad(on_ray)(at), change, rtol=1e-5)


# Joint embedding


def explained(codes, y):
    """(K,) r2 of class labels on nested codes (N, K)."""
    targets = np.eye(3)[y] - np.eye(3)[y].mean(axis=0)
    basis = np.linalg.qr(codes - codes.mean(axis=0))[0]
    return np.cumsum(np.sum((basis.T @ targets) ** 2, axis=1)) / np.sum(targets**2)


@pytest.mark.parametrize("samples", [25, 200])
def test_under_patch_masks_it_is_maxvar_generalized_correlation(samples):
    """The eigenvectors of the sum of the projectors onto the patches (Kettenring, 1971)."""
    x, y = data(samples)
    total = np.zeros((samples, samples))
    for row in (0, 2):
        for column in (0, 2):
            patch = x[:, row : row + 2, column : column + 2].reshape(samples, -1)
            basis = linalg.orth(patch - patch.mean(axis=0))
            total += basis @ basis.T
    order = np.linalg.eigh(total)[1][:, ::-1]
    rank = min(samples - 1, SIZE)
    truth = explained(order[:, :rank], y)
    for ratio in (0.25, 0.9):
        grid = rj.mask_grid(SHAPE, [2], [ratio])
        curve = rj.sweep(rj.moments(x, y), grid, target=joint_embedding()).r2[0, 0, 0]
        np.testing.assert_allclose(curve[:rank], truth, atol=1e-9)


def test_of_two_views_it_is_canonical_correlation():
    x, y = data()
    moments = rj.moments(x, y)
    halves = rj.mask_grid(SHAPE, [(2, 4)], [0.5])
    curve = rj.sweep(moments, halves, target=joint_embedding()).r2[0, 0, 0]
    views = [half.reshape(len(x), -1) for half in (x[:, :2], x[:, 2:])]
    variates = CCA(4, max_iter=5000, tol=1e-12).fit(*views).transform(*views)
    codes = sum(part / part.std(axis=0) for part in variates)
    np.testing.assert_allclose(curve[:4], explained(codes, y), atol=1e-4)


def test_gradient_descent_on_the_distance_of_two_views_finds_no_less():
    """min E‖Vᵀ x'₁ − Vᵀ x'₂‖² with Vᵀ G V = I, by steps along the constraint."""
    moments = rj.moments(*data())
    noise = parse_noise("mask:0.75:2x2", SHAPE)
    second = np.asarray(moments.second_moment)
    noisy, mean = np.asarray(noise.second_moment(second)), np.asarray(noise.mean(second))
    common = mean @ np.linalg.pinv(second) @ mean.T
    whitener = power(noisy, -0.5)
    distance = 2 * (np.eye(SIZE) - whitener @ common @ whitener)
    codes = np.linalg.qr(np.random.default_rng(2).normal(size=(SIZE, 4)))[0]
    for _ in range(4000):
        codes = np.linalg.qr(codes - 0.3 * distance @ codes)[0]
    loss = np.trace(codes.T @ distance @ codes)
    result = rj.sweep(moments, [[noise]], target=joint_embedding())
    np.testing.assert_allclose(result.target_loss[0, 0, 0, 3], loss, rtol=1e-6)
    solution = rj.solve(rj.problem(moments, noise, joint_embedding()))
    np.testing.assert_allclose(solution.target_loss[3], loss, rtol=1e-6)


def test_what_the_noise_leaves_untouched_is_ordered_by_variance():
    """Noise on the last features alone: the others tie, and come in the order of what they tell."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(300, 8)) * np.linspace(2, 1, 8), np.arange(300) % 3
    moments = rj.moments(x, y)
    second = np.asarray(moments.second_moment)
    factor = np.eye(8)[:, 5:]
    noise = rj.noise.colored_gaussian(1.0, factor @ factor.T)
    order = linalg.eigh(second[:5] @ second[:5].T, second[:5, :5])[1][:, ::-1]
    truth = explained((x - x.mean(axis=0))[:, :5] @ order, y)
    result = rj.sweep(moments, [[noise]], target=joint_embedding())
    np.testing.assert_allclose(result.r2[0, 0, 0, :5], truth, atol=1e-9)
    solution = rj.solve(rj.problem(moments, noise, joint_embedding()))
    np.testing.assert_allclose(solution.r2[:5], truth, atol=1e-9)


def test_no_noise_leaves_the_principal_directions_also_with_labels():
    moments = rj.moments(*data())
    none = [[parse_noise("gaussian:0", SHAPE)]]
    embedded = rj.sweep(moments, none, WEIGHTS, target=joint_embedding())
    assert np.all(np.diff(np.asarray(embedded.r2), axis=-1) > -1e-12)
    np.testing.assert_allclose(embedded.target_loss, 0, atol=1e-10)


def test_on_a_ray_it_needs_no_eigendecomposition_of_its_own(monkeypatch):
    """Counted as they are computed: one of the data and one of the ray, for any strengths."""
    counted = []

    def counting(matrix):
        jax.debug.callback(lambda _: counted.append(matrix.shape), matrix[0, 0])
        return eigen.eigh_descending(matrix)

    monkeypatch.setattr(core, "nested_eigh", counting)
    moments = rj.moments(*data(201))
    grid = rj.mask_grid(SHAPE, [2], [0.0, 0.25, 0.5, 0.75, 0.9, 0.95, 0.97])
    jax.block_until_ready(rj.sweep(moments, grid, target=joint_embedding()))
    jax.effects_barrier()
    assert not counted
    jax.block_until_ready(rj.sweep(moments, grid, target=whitened(0.5)))
    jax.effects_barrier()
    assert len(counted) == 7


# The door


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("whitened:1.5", "in \\[0, 1\\]"),
        ("whitened:half", "whitened:half"),
        ("patch-centered:3x3", "patch"),
        ("highpass:-1", "std"),
        ("edges", "known are pixels"),
    ],
)
def test_a_text_that_names_no_target_is_refused(text, why):
    with pytest.raises(ValueError, match=why):
        parse_target(text, SHAPE)


def test_targets_of_other_sizes_and_functions_that_are_not_linear_are_refused():
    moments = rj.moments(*data())
    with pytest.raises(ValueError, match="made for 16 features, not 32"):
        rj.sweep(moments, [[parse_noise("gaussian:1", SHAPE)]], target=high_pass(1.0, (4, 4, 1)))
    with pytest.raises(ValueError, match="not linear"):
        linear_target(lambda x: x**2, SIZE)
    with pytest.raises(ValueError, match="it makes"):
        linear_target(lambda x: x[:3], SIZE)
    with pytest.raises(ValueError, match="target: 'pixels'"):
        rj.problem(moments, None, "pixels")


@pytest.mark.parametrize("samples", [400, 40])
def test_far_below_d_the_leading_features_alone_give_the_same_curves(samples):
    """Also of a target that three directions tell all of: the others are ordered by variance."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(samples + 30, 64)) @ np.diag(np.geomspace(1, 0.05, 64))
    x, y = x @ rng.normal(size=(64, 64)), np.arange(samples + 30) % 3
    moments = rj.moments(x[:-30], y[:-30])
    test = rj.held_out([rj.moments(x[-30:], y[-30:])] * 2, moments)
    grid = rj.mask_grid((8, 8, 1), [1, 4], [0, 0.5])
    few = linear_target(rng.normal(size=(64, 3)))
    targets = [None, whitened(0.75), few, joint_embedding()]
    dims = [1, 3, 8]
    whole = rj.grid.sweep_targets(moments, grid, targets, latent_dims=[*dims, 64], held_out=test)
    leading = rj.grid.sweep_targets(moments, grid, targets, latent_dims=dims, held_out=test)
    for one, other in zip(whole, leading, strict=True):
        for name in ("r2", "reconstruction_loss", "alignment", "held_out", "target_loss"):
            if getattr(one, name) is not None:
                np.testing.assert_allclose(
                    getattr(other, name), getattr(one, name)[..., : len(dims)], atol=1e-8, rtol=1e-8
                )
        np.testing.assert_allclose(other.agreement, one.agreement[..., : len(dims), :], atol=1e-8)
        assert (np.abs(other.r2 - one.r2[..., : len(dims)]) <= other.error + 1e-12).all()
