"""Grids on the sample side: the same as those by (D, D) moments, and as dense NumPy."""

import dataclasses
import functools

import jax
import numpy as np
import pytest
from scipy import ndimage

import reconjax as rj
from benchmarks.error_cases import Case, r2, smooth
from reconjax.data import Dataset
from reconjax.grid import samples, sweep_samples
from reconjax.summary.folds import each_fold, stratified

SHAPE = (4, 6, 2)
RATIOS = [0.0, 0.5, 0.8]
FOLDS = 3
GRIDS = {
    "masks": lambda: rj.mask_grid(SHAPE, [1, 2, (4, 3)], RATIOS),
    "exact": lambda: rj.mask_grid(SHAPE, [2, (1, 2)], RATIOS, exact=True),
    "partial": lambda: rj.mask_grid(SHAPE, [(3, 4)], RATIOS, partial=True),
    "values": lambda: rj.grid.pixel_grid(SHAPE, RATIOS),
    "gaussian": lambda: rj.grid.gaussian_grid([0.0, 0.3, 2.0]),
    "speckle": lambda: [[rj.noise.speckle(std) for std in (0.3, 2.0)]],
    "salt and pepper": lambda: [[rj.noise.parse_noise("saltpepper:0.3:0.5", SHAPE)]],
}


def images(count, seed=0):
    rng = np.random.default_rng(seed)
    y = np.digitize(rng.random(count), [0.5, 0.8])
    y[:3] = range(3)
    y[3:6] = range(3)
    x = rng.random((count, *SHAPE))
    x[:, 1:3, 1:3] += 0.4 * y[:, None, None, None]
    return x, y


def changed(kind, x, y):
    if kind == "constant pixels":
        x[:, 0] = 0.3
        x[:, :, 0, 1] = 0.7
    if kind == "duplicate images":
        x, y = np.concatenate([x, x[:5]]), np.concatenate([y, y[:5]])
    if kind == "duplicate features":
        x[:, 2] = x[:, 3]
    if kind == "8 bit":
        x = np.clip(150 * x, 0, 255).astype(np.uint8)
    return x, y


def both(x, y, new, grid, weights=(0.5, np.inf), **options):
    """The result by moments and that by samples, each with a test split."""
    moments = rj.moments(x, y, num_classes=3)
    split = Dataset.from_arrays(*new).train
    test = rj.held_out(each_fold(split, FOLDS, num_classes=3), moments)
    data = samples(x, y, test=new, folds=stratified(new[1], FOLDS), num_classes=3)
    dims = np.arange(1, moments.features + 1)
    held_out = None if options.get("readout") == "noisy" else test
    return (
        rj.sweep(moments, grid, weights, dims, held_out=held_out, **options),
        sweep_samples(data, grid, weights, dims, **options),
    )


def assert_equal(by_features, by_samples, tolerance=1e-8):
    assert int(by_features.rank) == int(by_samples.rank)
    for name in ("r2", "supervised_loss", "reconstruction_loss", "alignment", "held_out"):
        one, other = getattr(by_features, name), getattr(by_samples, name)
        if one is None:
            assert other is None
            continue
        np.testing.assert_allclose(other, one, rtol=0, atol=tolerance, err_msg=name)
    if by_features.agreement is not None:
        np.testing.assert_allclose(by_samples.agreement, by_features.agreement, atol=tolerance)
    np.testing.assert_array_equal(by_samples.latent_dim, by_features.latent_dim)


@pytest.mark.parametrize(
    "grid",
    [
        g if g in ("masks", "salt and pepper") else pytest.param(g, marks=pytest.mark.slow)
        for g in GRIDS
    ],
)
def test_both_sides_are_equal_for_every_noise(grid):
    assert_equal(*both(*images(20), images(30, 1), GRIDS[grid]()))


@pytest.mark.parametrize(
    "kind",
    [
        "constant pixels",
        pytest.param("duplicate images", marks=pytest.mark.slow),
        pytest.param("duplicate features", marks=pytest.mark.slow),
        "8 bit",
    ],
)
def test_both_sides_are_equal_for_ugly_data(kind):
    x, y = changed(kind, *images(20))
    new = images(30, 1)
    if kind == "8 bit":
        new = changed(kind, *new)
    assert_equal(*both(x, y, new, rj.mask_grid(SHAPE, [2, (4, 6)], RATIOS)))


def test_what_rounding_left_of_constant_pixels_is_no_feature():
    """Some orders of summation leave the square of the rounding of a mean."""
    x, y = changed("constant pixels", *images(20))
    grid = rj.mask_grid(SHAPE, [2, (4, 6)], RATIOS)
    exact, split = rj.moments(x, y, num_classes=3), Dataset.from_arrays(*images(30, 1)).train
    rounding = np.where(np.diagonal(exact.second_moment) < 1e-20, 1.7e-16, 0.0)
    left = rounding[:, None] * rounding
    left = dataclasses.replace(exact, second_moment=exact.second_moment + left)
    results = []
    for moments in (exact, left):
        test = rj.held_out(each_fold(split, FOLDS, num_classes=3), moments)
        results.append(rj.sweep(moments, grid, (0.5, np.inf), held_out=test))
    assert_equal(*results)


@pytest.mark.parametrize("count", [6, pytest.param(120, marks=pytest.mark.slow)])
def test_both_sides_are_equal_with_few_samples_and_with_more_than_features(count):
    assert_equal(*both(*images(count), images(30, 1), rj.mask_grid(SHAPE, [2], RATIOS)))


def test_the_noisy_read_out_is_equal_and_has_no_held_out_curve():
    grid = rj.mask_grid(SHAPE, [2], RATIOS)
    assert_equal(*both(*images(20), images(30, 1), grid, readout="noisy"))


@pytest.mark.parametrize(
    "patch", [(2, 3), *(pytest.param(p, marks=pytest.mark.slow) for p in ((1, 2), (4, 6)))]
)
def test_losses_and_held_out_curves_are_those_of_dense_matrices(patch):
    """NumPy's pseudo-inverses of (D, D), in units in which every feature has variance 1."""
    (x, y), (new, new_y) = images(16), images(40, 1)
    tau = 0.5 / (1 - 0.5)
    unit = 1 / x.reshape(16, -1).std(axis=0)
    flat = (x.reshape(16, -1) - x.reshape(16, -1).mean(axis=0)) * unit
    test = (new.reshape(40, -1) - x.reshape(16, -1).mean(axis=0)) * unit
    groups = np.asarray(rj.noise.patch_groups(patch, SHAPE))
    second = flat.T @ flat / 16
    inside = np.where(groups[:, None] == groups, second, 0)
    whole = np.linalg.pinv(second + tau * inside, rcond=1e-10, hermitian=True)
    scaled = second / unit  # E[x tᵀ] with t the images in units of their own
    _, vectors = np.linalg.eigh(_root(whole) @ scaled @ scaled.T @ _root(whole))
    encoder = _root(whole) @ vectors[:, ::-1]
    labels = np.eye(3)[y] - np.eye(3)[y].mean(axis=0)
    new_labels = np.eye(3)[new_y] - np.eye(3)[y].mean(axis=0)
    grid = rj.mask_grid(SHAPE, [patch], [0.5])
    data = samples(x, y, test=(new, new_y), num_classes=3)
    result = sweep_samples(data, grid)
    for k in (1, 2, 5, 15):
        codes = flat @ encoder[:, :k]
        head = np.linalg.lstsq(codes, labels, rcond=None)[0]
        loss = np.sum((codes @ head - labels) ** 2) / 16
        assert result.supervised_loss[0, 0, 0, k - 1] == pytest.approx(loss, abs=1e-9)
        off = np.sum((test @ encoder[:, :k] @ head - new_labels) ** 2)
        expected = 1 - off / np.sum(new_labels**2)
        assert result.held_out[0, 0, 0, k - 1] == pytest.approx(expected, abs=1e-7)


def _root(matrix):
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T


def test_without_noise_new_samples_are_met_by_the_principal_directions():
    (x, y), new = images(20), images(30, 1)
    center = x.reshape(20, -1).mean(axis=0)
    left, values, right = np.linalg.svd(x.reshape(20, -1) - center, full_matrices=False)
    labels = np.eye(3)[y] - np.eye(3)[y].mean(axis=0)
    wanted = np.eye(3)[new[1]] - np.eye(3)[y].mean(axis=0)
    for result in both(x, y, new, rj.mask_grid(SHAPE, [2], RATIOS), [np.inf]):
        for k in (1, 4, 19):
            head = (left[:, :k] / values[:k]).T @ labels
            off = np.sum(((new[0].reshape(30, -1) - center) @ right[:k].T @ head - wanted) ** 2)
            expected = 1 - off / np.sum(wanted**2)
            assert result.held_out[0, 0, 0, k - 1] == pytest.approx(expected, abs=1e-9)


# The oracle by singular vectors is itself off by up to so much on smooth images.
ORACLE = 1e-7


@pytest.mark.parametrize("precision", ["float64", pytest.param("mixed", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("count", "size", "patch"),
    [(20, 8, 4), *(pytest.param(60, 16, patch, marks=pytest.mark.slow) for patch in (2, 8))],
)
def test_smooth_images_are_right_as_far_as_the_error_says(count, size, patch, precision):
    case = Case("", smooth(count, size), np.arange(count) % 2, patch=(patch, patch), side="samples")
    case = case._replace(precision=precision, strengths=(0.0, 0.5, 0.9))
    result = case.solved()
    assert int(result.rank) == count - 1
    truth = np.array([r2(case, strength, np.inf) for strength in case.strengths])
    error = np.abs(np.asarray(result.r2, float)[0, :, 0] - truth)
    stated = np.asarray(result.error, float)[0, :, 0]
    assert np.all(error < 10 * stated + ORACLE)
    if precision == "float64" and patch > 2:
        # Patches of which the (D, D) moments lose directions are whole here.
        assert np.max(error) < 1e-6
    if precision == "float64" and patch == 4:
        by_features = case._replace(side="features").solved()
        assert np.max(np.abs(np.asarray(by_features.r2)[0, :, 0] - truth)) > 1e-3


def test_blurred_images_of_every_kind_of_rank():
    rng = np.random.default_rng(2)
    for reach in (0.5, 1.5, 4):
        x = ndimage.gaussian_filter(rng.normal(size=(25, 8, 8, 1)), (0, reach, reach, 0))
        case = Case("", x, np.arange(25) % 3, patch=(4, 4), side="samples", strengths=(0.0, 0.9))
        result = case.solved()
        truth = np.array([r2(case, strength, np.inf) for strength in case.strengths])
        error = np.abs(np.asarray(result.r2)[0, :, 0] - truth)
        assert np.all(error < 10 * np.asarray(result.error)[0, :, 0] + ORACLE)


@pytest.mark.slow
def test_without_float64_it_is_right_as_far_as_it_says(float32):
    (x, y), new = images(20), images(30, 1)
    x = x.astype(np.float32)
    data = samples(x, y, test=(new[0].astype(np.float32), new[1]), num_classes=3)
    result = sweep_samples(data, rj.mask_grid(SHAPE, [2], RATIOS))
    assert result.r2.dtype == np.float32
    case = Case("", x, y, patch=(2, 2), strengths=tuple(RATIOS))
    truth = np.array([r2(case, strength, np.inf) for strength in RATIOS])[:, :20]
    error = np.abs(np.asarray(result.r2, float)[0, :, 0] - truth)
    assert np.all(error < 10 * np.asarray(result.error)[0, :, 0])
    assert np.max(error) < 0.01


def test_progress_counts_features_and_points():
    columns, points = [], []
    data = samples(*images(20), num_classes=3)
    grid = rj.mask_grid(SHAPE, [1, 2], RATIOS)
    progress = functools.partial(points.append, 1)
    sweep_samples(data, grid, columns=columns.append, progress=progress)
    jax.effects_barrier()
    assert sum(columns) == 2 * 48
    assert len(points) == 2 * 3


def test_what_has_no_form_by_samples_is_named():
    data = samples(*images(20), num_classes=3)
    colored = [[rj.noise.colored_gaussian(0.3, np.eye(48))]]
    with pytest.raises(ValueError, match="Colored has no form by samples"):
        sweep_samples(data, colored)
    x, y = images(20)
    with pytest.raises(ValueError, match="test: 48 features of float32; the training samples"):
        samples(x, y, test=(x.astype(np.float32), y), num_classes=3)
    with pytest.raises(ValueError, match=r"test: targets \(20, 2\); \(20, 3\) is needed"):
        samples(x, y, test=(x, np.ones((20, 2))), num_classes=3)
    with pytest.raises(ValueError, match=r"latent_dim: 49; 1 .. 48"):
        sweep_samples(data, GRIDS["masks"](), latent_dims=[49])
