"""The grid in one compiled call: its values, its traces, its memory and its errors."""

import functools
import importlib

import chex
import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from oracle import SHAPE

import reconjax as rj
from reconjax import noise as rn
from reconjax.data import Dataset, digits, load

module = importlib.import_module("reconjax.grid.sweep")
grid_module = importlib.import_module("reconjax.grid.kernel")

SLOW = pytest.mark.slow
WEIGHTS = [0.0, 1e-3, 1.0, 1e3, np.inf]
PATCHES = [(2, 2), (1, 4)]
RATIOS = [0.0, 0.5, 0.99]


def masked(clean, patch, ratio, share_channels=True):
    groups = oracle.patch_groups(SHAPE, patch, share_channels)
    return oracle.with_dropout(clean, groups, ratio)


def exactly(clean, patch, ratio):
    groups = oracle.patch_groups(SHAPE, patch)
    count = groups.max() + 1
    return oracle.with_masks(clean, groups, *oracle.exact_masks(count, round((1 - ratio) * count)))


# name: (grid for the library, the same grid of the oracle's noisy moments)
GRIDS = {
    "masks": (
        lambda: rj.mask_grid(SHAPE, PATCHES, RATIOS),
        lambda clean: [[masked(clean, patch, p) for p in RATIOS] for patch in PATCHES],
    ),
    "masks of one channel": (
        lambda: rj.mask_grid(SHAPE, [(2, 2), (3, 3)], RATIOS, share_channels=False, partial=True),
        lambda clean: [
            [masked(clean, patch, p, share_channels=False) for p in RATIOS]
            for patch in [(2, 2), (3, 3)]
        ],
    ),
    "exact masks": (
        lambda: rj.mask_grid(SHAPE, [(2, 2), (1, 2)], [0.0, 0.25, 0.75], exact=True),
        lambda clean: [
            [exactly(clean, patch, p) for p in [0.0, 0.25, 0.75]] for patch in [(2, 2), (1, 2)]
        ],
    ),
    "pixels": (
        lambda: rj.grid.pixel_grid(SHAPE, RATIOS) * 2,
        lambda clean: [[oracle.with_dropout(clean, np.arange(32), p) for p in RATIOS]] * 2,
    ),
    "gaussian": (
        lambda: rj.grid.gaussian_grid([0.0, 0.5, 3.0]),
        lambda clean: [[oracle.with_gaussian(clean, std) for std in (0.0, 0.5, 3.0)]],
    ),
}


def close(actual, expected, tolerance):
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance)


def plain():
    return rj.moments(*oracle.dataset("plain"))


# Values


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("data", ["plain", "short", "constant pixels", "low rank", "unbalanced"])
def test_losses_are_those_of_the_oracle_at_every_point(data, grid):
    images, labels = oracle.dataset(data)
    x, y = oracle.centered(images, labels)
    spread, variance = np.sum(y**2) / len(y), np.sum(x**2) / len(x)
    moments, noises = rj.moments(images, labels), GRIDS[grid][0]()
    clean, noisy = (
        rj.sweep(moments, noises, WEIGHTS, readout=readout) for readout in ("clean", "noisy")
    )
    assert clean.supervised_loss.shape == (len(noises), 3, 5, 32)
    assert int(clean.rank) == int(noisy.rank) == np.linalg.matrix_rank(x)
    assert np.all(clean.error < 1e-8)
    assert np.all(noisy.error < 1e-8)
    oracles = GRIDS[grid][1](oracle.noiseless(x, y))
    for point in np.ndindex(len(noises), 3, 5):
        i, j, k = point
        expected = oracle.curves(x, y, oracles[i][j], WEIGHTS[k])
        for found, readout in ((clean, "clean"), (noisy, "noisy")):
            close(found.supervised_loss[point], expected.supervised(readout), 1e-8 * spread)
            close(found.reconstruction_loss[point], expected.reconstruction, 1e-8 * variance)
    close(clean.r2, 1 - clean.supervised_loss / spread, 1e-12)


def test_alignment_is_equation_7_of_the_encoder_of_each_point():
    images, labels = oracle.dataset("unbalanced")
    x, y = oracle.centered(images, labels)
    left = np.linalg.svd(x, full_matrices=False)[0]
    whole = np.sum((y @ (y.T @ left)) ** 2)
    found = rj.sweep(rj.moments(images, labels), GRIDS["masks"][0](), WEIGHTS)
    for j, ratio in enumerate(RATIOS):
        noisy = masked(oracle.noiseless(x, y), (2, 2), ratio)
        for k, weight in enumerate(WEIGHTS):
            vectors = oracle.encoder(noisy, weight)
            for latent_dim in (1, 3, 12, 32):
                features = np.linalg.qr(x @ vectors[:, :latent_dim])[0]
                expected = np.sum((y @ (y.T @ features)) ** 2) / whole
                assert found.alignment[0, j, k, latent_dim - 1].item() == pytest.approx(
                    expected, abs=1e-8
                )


def test_at_ratio_zero_it_is_the_alignment_of_pca():
    moments = plain()
    found = rj.sweep(moments, GRIDS["masks"][0](), WEIGHTS)
    expected = rj.alignment(rj.spectrum(moments))
    for i in range(2):
        close(found.alignment[i, 0, -1], expected.alignment, 1e-10)
        close(found.r2[i, 0, -1], expected.r2, 1e-10)


def test_latent_dims_pick_from_the_curves():
    moments, noises = plain(), GRIDS["masks"][0]()
    whole = rj.sweep(moments, noises, WEIGHTS)
    some = rj.sweep(moments, noises, WEIGHTS, [7, 1, 32])
    for name in ("supervised_loss", "reconstruction_loss", "r2", "alignment"):
        curves = np.asarray(getattr(whole, name))
        close(getattr(some, name), curves[..., [6, 0, 31]], 1e-10)
    assert some.latent_dim.tolist() == [7, 1, 32]


def test_points_solved_side_by_side_are_the_same():
    # 15 points a ray: 4 leaves a remainder.
    moments, noises = plain(), GRIDS["masks"][0]()
    together = rj.sweep(moments, noises, WEIGHTS, batch_size=4)
    one_by_one = rj.sweep(moments, noises, WEIGHTS)
    chex.assert_trees_all_close(together, one_by_one, atol=1e-10, rtol=0)


def test_mixed_precision_is_close_to_float64():
    moments, noises = plain(), GRIDS["masks"][0]()
    fast = rj.sweep(moments, noises, WEIGHTS, precision="mixed")
    slow = rj.sweep(moments, noises, WEIGHTS)
    assert fast.supervised_loss.dtype == jnp.float32
    variance = float(jnp.trace(moments.second_moment))
    for k, weight in enumerate(WEIGHTS):
        # At the smallest weight, what orders the directions is itself close to rounding.
        tolerance = 4e-3 if weight == 1e-3 else 1e-3
        close(fast.r2[:, :, k], slow.r2[:, :, k], tolerance)
        close(fast.alignment[:, :, k], slow.alignment[:, :, k], tolerance)
    close(fast.reconstruction_loss, slow.reconstruction_loss, 1e-5 * variance)


@pytest.mark.slow
def test_without_float64_digits_agree_with_float64(float32):
    data = digits()
    images, labels = data.train.examples(np.arange(0, 1437, 4))
    grid = rj.mask_grid((8, 8, 1), [(1, 1), (2, 2)], [0.0, 0.75])
    found = rj.sweep(rj.moments(images, labels), grid, [1.0, np.inf])
    assert found.r2.dtype == jnp.float32
    with jax.enable_x64(True):
        grid = rj.mask_grid((8, 8, 1), [(1, 1), (2, 2)], [0.0, 0.75])
        moments = rj.moments(images.astype(np.float64), labels)
        expected = rj.sweep(moments, grid, [1.0, np.inf])
        spectrum = rj.alignment(rj.spectrum(moments))
    curves = rj.alignment(rj.spectrum(rj.moments(images, labels)))
    np.testing.assert_allclose(curves.alignment, spectrum.alignment, atol=1e-3)
    # Digits have pixels that are almost constant: their order is decided by little.
    for name in ("r2", "alignment"):
        gap = np.abs(np.asarray(getattr(found, name)) - np.asarray(getattr(expected, name)))
        assert np.max(gap) < 2e-3, name
    variance = float(np.trace(moments.second_moment))
    gap = np.asarray(found.reconstruction_loss) - np.asarray(expected.reconstruction_loss)
    assert np.max(np.abs(gap)) < 1e-4 * variance


ROUGH = [
    (data, readout, precision)
    for data in ("plain", "digits", "unbalanced", "scenes")
    for readout in ("clean", "noisy")
    for precision in ("mixed", "float32")
]
ROUGH_AND_QUICK = [("digits", "noisy", "float32")]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("data", "readout", "precision"),
    [pytest.param(*case, marks=() if case in ROUGH_AND_QUICK else SLOW) for case in ROUGH],
)
def test_the_error_is_about_that_against_float64(data, readout, precision):
    weights = [1e-2, 1.0, np.inf]
    if data in ("scenes", "digits"):
        found = load({"scenes": "scenes:size=8,samples=600"}.get(data, data))
        images, labels = found.train.examples(np.arange(600))
        noises = rj.mask_grid(images.shape[1:], [1, 2], [0.0, 0.5, 0.9])
    else:
        images, labels = oracle.dataset(data)
        noises = rj.mask_grid(SHAPE, [(1, 1), (2, 2)], [0.0, 0.5, 0.9])
    moments = rj.moments(images, labels)
    exact = rj.sweep(moments, noises, weights, readout=readout, precision="float64")
    rough = rj.sweep(moments, noises, weights, readout=readout, precision=precision)
    assert rough.r2.dtype == jnp.float32
    assert np.all(exact.error < 1e-9)
    error = np.abs(np.asarray(rough.r2) - np.asarray(exact.r2))
    # An estimate, not a bound; but no error is much larger, and the largest is not far off.
    estimate = np.asarray(rough.error)
    assert estimate.shape == error.shape
    assert np.all(error < 4 * estimate)
    assert np.mean(error < estimate) >= 0.8
    assert np.max(estimate) < 300 * np.max(error)


def test_precision_float64_is_refused_without_it(float32):
    moments = rj.moments(np.eye(4, dtype=np.float32), np.arange(4), num_classes=4)
    noises = rj.grid.pixel_grid((4,), [0.1])
    for precision in ("float64", "mixed"):
        with pytest.raises(ValueError, match=f"'{precision}' needs float64 moments.*float32"):
            rj.sweep(moments, noises, precision=precision)
    assert rj.sweep(moments, noises, precision="float32").r2.dtype == jnp.float32


@pytest.mark.parametrize("precision", ["mixed", pytest.param("float64", marks=SLOW)])
def test_rays_that_the_host_factorized_give_the_same(monkeypatch, precision):
    # As on a TPU, whose default device has no float64: here another CPU plays the host.
    moments, noises = plain(), GRIDS["masks"][0]()
    expected = rj.sweep(moments, noises, WEIGHTS, precision=precision)
    monkeypatch.setattr(module, "_host_for", lambda dtype: jax.devices()[1])
    found = rj.sweep(moments, noises, WEIGHTS, precision=precision)
    assert found.r2.devices() == {jax.devices()[0]}
    close(found.r2, expected.r2, 1e-12 if precision == "float64" else 2e-3)
    assert int(found.rank) == int(expected.rank)


# In a subspace


@functools.cache
def images_of_scenes():
    """Moments of 8 x 8 images in color, D = 192."""
    found = load("scenes:size=8,samples=3000").train
    return rj.moments(*found.examples(np.arange(len(found))))


def wide():
    """Moments of 256 features whose spectrum hardly falls off."""
    rng = np.random.default_rng(0)
    codes = rng.normal(size=(2000, 256)) * np.arange(1.0, 257) ** -0.1
    rotation = np.linalg.qr(rng.normal(size=(256, 256)))[0]
    return rj.moments(codes @ rotation, np.argmax(codes[:, ::50], axis=1))


@pytest.mark.parametrize(
    ("readout", "precision"),
    [
        ("clean", "mixed"),
        *(pytest.param(*case, marks=SLOW) for case in (("noisy", "float64"), ("clean", "float64"))),
        pytest.param("noisy", "mixed", marks=SLOW),
    ],
)
def test_a_ray_in_a_subspace_is_as_good_as_it_says(readout, precision):
    moments = images_of_scenes()
    noises = rj.mask_grid((8, 8, 3), [1, 4], np.linspace(0, 0.9, 5))
    dims, weights = np.arange(1, 17), [1.0, np.inf]
    options = {"readout": readout, "precision": precision}
    whole = rj.sweep(moments, noises, weights, dims, **options)
    found = rj.sweep(moments, noises, weights, dims, tolerance=0.02, **options)
    assert np.all(found.reduced)
    assert not np.any(whole.reduced)
    error = np.abs(np.asarray(found.r2) - np.asarray(whole.r2))
    assert np.max(error) < 0.02
    # Measured at the point of the largest residual, it is an estimate for the others.
    assert np.max(error) < 6 * np.max(np.asarray(found.error))
    assert int(found.rank) == int(whole.rank) == 192
    # Without noise the principal directions are the solution.
    tolerance = 1e-9 if precision == "float64" else 1e-3
    close(found.r2[:, 0, 1], whole.r2[:, 0, 1], tolerance)
    close(found.alignment[:, 0, 1], whole.alignment[:, 0, 1], tolerance)
    variance = float(jnp.trace(moments.second_moment))
    gap = np.asarray(found.reconstruction_loss) - np.asarray(whole.reconstruction_loss)
    assert np.max(np.abs(gap[:, :, 1])) < 1e-3 * variance
    if precision == "float64":
        # A smaller space reconstructs less, at every K.
        assert np.min(gap[:, :, 1]) > -1e-9 * variance


def test_a_ray_that_a_subspace_cannot_serve_is_solved_in_full():
    moments = wide()
    noises = rj.mask_grid((16, 16, 1), [1, 4], np.linspace(0, 0.9, 5))
    dims = np.arange(1, 20)
    found = rj.sweep(moments, noises, np.inf, dims, tolerance=1e-12)
    whole = rj.sweep(moments, noises, np.inf, dims)
    assert not np.any(found.reduced)
    chex.assert_trees_all_close(found, whole, atol=1e-12, rtol=0)


@pytest.mark.slow
def test_where_a_subspace_does_not_pay_none_is_used():
    noises = rj.mask_grid((16, 16, 1), [1], np.linspace(0, 0.9, 5))
    for ratios, dims in (([0.0, 0.5, 0.9], [20]), (np.linspace(0, 0.9, 5), [200])):
        noises = rj.mask_grid((16, 16, 1), [1], ratios)
        assert not np.any(rj.sweep(wide(), noises, np.inf, dims, tolerance=0.5).reduced)
    # A larger one pays where more points share it.
    noises = rj.mask_grid((16, 16, 1), [1], np.linspace(0, 0.9, 16))
    for count, pays in ((4, False), (16, True)):
        some = [row[:count] for row in noises]
        assert np.all(rj.sweep(wide(), some, np.inf, [32], tolerance=0.5).reduced) == pays


@pytest.mark.slow
@pytest.mark.parametrize("data", [pytest.param("short", marks=SLOW), "constant pixels"])
def test_a_subspace_of_singular_data(data):
    rng = np.random.default_rng(3)
    x = rng.normal(size=(120, 256)) * np.arange(1.0, 257) ** -0.75
    if data == "constant pixels":
        x = np.concatenate([x] * 30) + 0.1 * rng.normal(size=(3600, 256)) / np.arange(1.0, 257)
        x[:, ::5] = 1.0
    labels = rng.integers(0, 4, len(x))
    moments = rj.moments(x, labels)
    noises = rj.mask_grid((16, 16, 1), [2, 16], np.linspace(0, 0.9, 5))
    dims = np.arange(1, 17)
    whole = rj.sweep(moments, noises, np.inf, dims)
    found = rj.sweep(moments, noises, np.inf, dims, tolerance=0.05)
    assert np.any(found.reduced)
    close(found.r2, whole.r2, 0.05)
    assert int(found.rank) == int(whole.rank)


@pytest.mark.slow
@pytest.mark.parametrize("dependent", [pytest.param(False, marks=SLOW), True])
def test_a_test_split_that_varies_where_training_data_did_not_is_judged_as_in_full(dependent):
    whole = load("scenes:size=8,samples=2000").train
    images, labels = whole.examples(np.arange(2000))
    images = images / 255.0
    images[:1500, 0] = 0.5
    if dependent:
        images[:1500, 1, :, 1] = images[:1500, 1, :, 0]
    moments = rj.moments(images[:1500], labels[:1500])
    test = Dataset.from_arrays(images[1500:], labels[1500:]).train
    judging = rj.held_out(rj.summary.each_fold(test, 2, num_classes=10), moments)
    noises = rj.mask_grid((8, 8, 3), [2], np.linspace(0.1, 0.9, 8))
    dims = np.arange(1, 9)
    found = rj.sweep(moments, noises, np.inf, dims, held_out=judging, tolerance=0.02)
    assert found.reduced.tolist() == [not dependent]
    expected = rj.sweep(moments, noises, np.inf, dims, held_out=judging)
    close(found.held_out, expected.held_out, 0.03)


# On many devices


@pytest.mark.parametrize("count", [4, *(pytest.param(n, marks=SLOW) for n in (1, 2, 3))])
def test_devices_that_share_the_grid_give_what_one_gives(count):
    moments = plain()
    noises = rj.mask_grid(SHAPE, [(1, 1), (2, 2)], [0.0, 0.3, 0.6] if count == 3 else [0.1, 0.5])
    calls = []
    progress = functools.partial(calls.append, 1)
    mesh = jax.make_mesh((count,), ("anything",), devices=jax.devices()[:count])
    found = rj.sweep(moments, noises, WEIGHTS, mesh=mesh, progress=progress)
    expected = rj.sweep(moments, noises, WEIGHTS)
    chex.assert_trees_all_close(found, expected, atol=1e-12, rtol=0)
    jax.effects_barrier()
    assert len(calls) == expected.r2[..., 0].size


@pytest.mark.slow
def test_devices_share_rays_in_a_subspace_too():
    moments = images_of_scenes()
    noises = rj.mask_grid((8, 8, 3), [1, 2], np.linspace(0.1, 0.9, 8))
    dims = np.arange(1, 17)
    mesh = jax.make_mesh((4,), ("d",), devices=jax.devices()[:4])
    found = rj.sweep(moments, noises, np.inf, dims, tolerance=0.02, mesh=mesh)
    assert found.reduced.tolist() == [True, True]
    close(found.r2, rj.sweep(moments, noises, np.inf, dims).r2, 0.02)


def test_devices_that_do_not_divide_the_grid_are_refused():
    mesh = jax.make_mesh((4,), ("d",), devices=jax.devices()[:4])
    with pytest.raises(ValueError, match=r"mesh: 4 devices; a grid of 3 rays x 3 .* 1, 3, 9$"):
        rj.sweep(plain(), rj.mask_grid(SHAPE, [1, 2, 4], [0.1, 0.5, 0.6], partial=True), mesh=mesh)


# One compilation, bounded memory, progress


def test_other_values_do_not_trace_again_but_other_shapes_do(monkeypatch):
    traced = chex.assert_max_traces(grid_module.solve_grid.__wrapped__, n=1)
    again = jax.jit(traced, static_argnames=("options", "mesh"))
    monkeypatch.setattr(module, "solve_grid", again)
    moments = plain()
    first = rj.sweep(moments, rj.mask_grid(SHAPE, [1, 2], [0.1, 0.2]), [0.0, 1.0], [1, 2, 3])
    other = rj.mask_grid(SHAPE, [(4, 2), (1, 4)], [0.9, 0.0])
    second = rj.sweep(moments, other, [np.inf, 5.0], [32, 7, 9])
    assert jnp.max(jnp.abs(first.r2 - second.r2)) > 0.1
    with pytest.raises(AssertionError, match="traced"):
        rj.sweep(moments, rj.mask_grid(SHAPE, [1, 2], [0.1]), [0.0, 1.0], [1, 2, 3])


def compiled_memory(features, strengths, weights, batch_size, folds=0):
    rng = np.random.default_rng(0)
    moments = rj.moments(rng.normal(size=(70, features)), np.arange(70) % 10)
    noises = rj.grid.pixel_grid((features,), np.linspace(0.1, 0.9, strengths))
    judging = None
    if folds:
        cross = moments.cross_moment
        judging = rj.theory.HeldOut(
            moments.second_moment,
            cross,
            jnp.trace(moments.label_moment),
            jnp.stack([cross] * folds),
        )
    lowered = grid_module.solve_grid.lower(
        moments,
        module.grid_points(noises, features),
        jnp.linspace(0.0, 1.0, weights),
        jnp.array([3], jnp.int32),
        jnp.asarray(0.0),
        None,
        judging,
        options=grid_module.Options(True, batch_size, jnp.dtype("float64"), None, 0),
    )
    return lowered.compile().memory_analysis()


@pytest.mark.slow
def test_memory_does_not_grow_with_the_grid_and_stays_under_the_estimate():
    small, large = (compiled_memory(64, points, 2, 1) for points in (2, 40))
    square = 8 * 64**2
    assert abs(large.temp_size_in_bytes - small.temp_size_in_bytes) < square
    judged = compiled_memory(64, 8, 2, 4, folds=5)
    for batch_size, folds, found in (
        (1, 0, large),
        (4, 0, compiled_memory(64, 8, 2, 4)),
        (4, 5, judged),
    ):
        used = found.temp_size_in_bytes + found.argument_size_in_bytes
        estimate = rj.grid.sweep_memory(64, 10, batch_size, held_out_folds=folds)
        assert 0.3 * estimate < used < estimate, (batch_size, folds, used / estimate)


def test_progress_is_told_of_every_point():
    calls = []
    moments = rj.moments(np.eye(4), np.arange(4), num_classes=4)
    noises = rj.grid.pixel_grid((4,), [0.1, 0.5, 0.9]) * 2
    rj.sweep(moments, noises, [0.0, 1.0], progress=lambda: calls.append(1), batch_size=5)
    jax.effects_barrier()
    assert len(calls) == 2 * 3 * 2


# Errors

MASK = functools.partial(rn.patch_mask, image_shape=SHAPE)


@pytest.mark.parametrize(
    ("noises", "match"),
    [
        ([], "noises: an empty grid"),
        ([[]], "noises: an empty grid"),
        ([MASK(0.1, 2)], "noises: rows of noises are needed, such as from `mask_grid`"),
        ([[MASK(0.1, 2), MASK(0.1, 1)]], "of one row lie on different rays"),
        ([[MASK(0.1, 2), rn.gaussian(1.0)]], "of one row lie on different rays"),
        ([[MASK(0.1, 2)], [rn.gaussian(1.0)]], "rows of different kinds of noise"),
        ([[MASK(0.1, 2)], [MASK(0.1, 1)] * 2], "noises: rows of 1 and 2"),
        (
            [[rn.chain(MASK(0.1, 2), rn.gaussian(1.0))]],
            "noises: Chain lies on no ray; use solve",
        ),
        ([[rn.patch_mask(0.1, 1, (4, 4, 1))]], "made for 16 features; the moments have 32"),
    ],
)
def test_grids_that_are_none_are_refused(noises, match):
    with pytest.raises(ValueError, match=match):
        rj.sweep(plain(), noises)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"reconstruction_weights": [1.0, -1.0]}, r"reconstruction_weight: .*\[0, inf\]"),
        ({"reconstruction_weights": np.nan}, r"reconstruction_weight: nan; .*\[0, inf\]"),
        ({"reconstruction_weights": []}, "reconstruction_weights: .* at least one"),
        ({"reconstruction_weights": np.ones((2, 2))}, "reconstruction_weights: shape"),
        ({"latent_dims": [1, 0]}, "latent_dim: 0; 1 .. 32 is allowed"),
        ({"latent_dims": [33, 1]}, "latent_dim: 33; 1 .. 32 is allowed"),
        ({"latent_dims": [1, 2.5]}, "latent_dim: 2.5; 1 .. 32 is allowed, in whole numbers"),
        ({"latent_dims": np.nan}, "latent_dim: nan; 1 .. 32 is allowed, in whole numbers"),
        ({"latent_dims": []}, "latent_dims: .* at least one"),
        ({"tolerance": -0.1}, r"tolerance: -0.1; it must be in \[0, 1\)"),
        ({"precision": "half"}, "precision: 'half'; one of float64, mixed, float32"),
        ({"batch_size": 0}, "batch_size: 0; it must be at least 1"),
        ({"readout": "dirty"}, "readout: 'dirty'; 'clean' or 'noisy'"),
        ({"held_out": plain()}, r"held_out: Moments; make it with `reconjax.held_out\("),
    ],
)
def test_options_out_of_range_are_refused(options, match):
    with pytest.raises(ValueError, match=match):
        rj.sweep(plain(), [[MASK(0.1, 2)]], **options)


def test_uncentered_moments_are_refused_where_the_noise_moves_the_mean():
    bare = rj.summary.uncentered(plain())
    filled = rn.patch_mask(0.5, 2, SHAPE, fill=0.3)
    with pytest.raises(ValueError, match=r"moves the mean .* centered moments are needed"):
        rj.solve(rj.problem(bare, filled))
    with pytest.raises(ValueError, match=r"moves the mean .* centered moments are needed"):
        rj.sweep(bare, [[filled]])
    # A mask that drops to 0 moves nothing.
    loss = rj.sweep(bare, [[MASK(0.5, 2)]], 1.0, precision="float64").supervised_loss[0, 0, 0]
    close(loss, rj.solve(rj.problem(bare, MASK(0.5, 2)), 1.0).supervised_loss, 1e-9)


def test_no_noise_is_a_ray_and_adds_nothing_to_another():
    moments = plain()
    nothing = rn.chain(rn.identity(), rn.identity())
    none = rj.sweep(moments, [[rn.identity(), nothing, rn.gaussian(0.0)]] * 2, WEIGHTS)
    for k, weight in enumerate(WEIGHTS):
        expected = rj.solve(rj.problem(moments), weight).supervised_loss
        for curve in none.supervised_loss[0, :, k]:
            close(curve, expected, 1e-9)
    mask = MASK(0.5, 2)
    alone = rj.sweep(moments, [[mask] * 3] * 2, WEIGHTS)
    chained = rj.sweep(moments, [[rn.chain(rn.identity(), mask)] * 3] * 2, WEIGHTS)
    chex.assert_trees_all_equal(chained, alone)
