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
from reconjax.data import digits

module = importlib.import_module("reconjax.sweep")

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
        lambda: rj.pixel_grid(SHAPE, RATIOS) * 2,
        lambda clean: [[oracle.with_dropout(clean, np.arange(32), p) for p in RATIOS]] * 2,
    ),
    "gaussian": (
        lambda: rj.gaussian_grid([0.0, 0.5, 3.0]),
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
    assert np.all(clean.rounding < 1e-8)
    assert np.all(np.isnan(noisy.rounding))
    oracles = GRIDS[grid][1](oracle.noiseless(x, y))
    for point in np.ndindex(len(noises), 3, 5):
        i, j, k = point
        expected = oracle.curves(x, y, oracles[i][j], WEIGHTS[k])
        for found, readout in ((clean, "clean"), (noisy, "noisy")):
            close(found.supervised_loss[point], expected.supervised(readout), 1e-8 * spread)
            close(found.reconstruction_loss[point], expected.reconstruction, 1e-8 * variance)
    close(clean.explained, 1 - clean.supervised_loss / spread, 1e-12)


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
        close(found.explained[i, 0, -1], expected.explained, 1e-10)


def test_latent_dims_pick_from_the_curves():
    moments, noises = plain(), GRIDS["masks"][0]()
    whole = rj.sweep(moments, noises, WEIGHTS)
    some = rj.sweep(moments, noises, WEIGHTS, [7, 1, 32])
    for name in ("supervised_loss", "reconstruction_loss", "explained", "alignment"):
        curves = np.asarray(getattr(whole, name))
        close(getattr(some, name), curves[..., [6, 0, 31]], 1e-10)
    assert some.latent_dim.tolist() == [7, 1, 32]


def test_points_solved_side_by_side_are_the_same():
    # 15 points a ray: 4 leaves a remainder.
    moments, noises = plain(), GRIDS["masks"][0]()
    together = rj.sweep(moments, noises, WEIGHTS, batch_size=4)
    one_by_one = rj.sweep(moments, noises, WEIGHTS)
    chex.assert_trees_all_close(together, one_by_one, atol=1e-10, rtol=0)


def test_dtype_float32_is_close_to_float64():
    moments, noises = plain(), GRIDS["masks"][0]()
    fast = rj.sweep(moments, noises, WEIGHTS, dtype="float32")
    slow = rj.sweep(moments, noises, WEIGHTS)
    assert fast.supervised_loss.dtype == jnp.float32
    variance = float(jnp.trace(moments.second_moment))
    for k, weight in enumerate(WEIGHTS):
        # At the smallest weight, what orders the directions is itself close to rounding.
        tolerance = 4e-3 if weight == 1e-3 else 1e-3
        close(fast.explained[:, :, k], slow.explained[:, :, k], tolerance)
        close(fast.alignment[:, :, k], slow.alignment[:, :, k], tolerance)
    close(fast.reconstruction_loss, slow.reconstruction_loss, 1e-5 * variance)


def test_without_float64_digits_agree_with_float64(float32):
    data = digits()
    images, labels = data.train.examples(np.arange(0, 1437, 4))
    grid = rj.mask_grid((8, 8, 1), [(1, 1), (2, 2)], [0.0, 0.75])
    found = rj.sweep(rj.moments(images, labels), grid, [1.0, np.inf])
    assert found.explained.dtype == jnp.float32
    with jax.enable_x64(True):
        grid = rj.mask_grid((8, 8, 1), [(1, 1), (2, 2)], [0.0, 0.75])
        moments = rj.moments(images.astype(np.float64), labels)
        expected = rj.sweep(moments, grid, [1.0, np.inf])
        spectrum = rj.alignment(rj.spectrum(moments))
    curves = rj.alignment(rj.spectrum(rj.moments(images, labels)))
    np.testing.assert_allclose(curves.alignment, spectrum.alignment, atol=1e-3)
    # Digits have pixels that are almost constant: their order is decided by little.
    for name in ("explained", "alignment"):
        gap = np.abs(np.asarray(getattr(found, name)) - np.asarray(getattr(expected, name)))
        assert np.max(gap) < 2e-3, name
    variance = float(np.trace(moments.second_moment))
    gap = np.asarray(found.reconstruction_loss) - np.asarray(expected.reconstruction_loss)
    assert np.max(np.abs(gap)) < 1e-4 * variance


# One compilation, bounded memory, progress


def test_other_values_do_not_trace_again_but_other_shapes_do(monkeypatch):
    traced = chex.assert_max_traces(module._sweep.__wrapped__, n=1)
    static = ("clean", "batch_size", "dtype", "progress")
    monkeypatch.setattr(module, "_sweep", jax.jit(traced, static_argnames=static))
    moments = plain()
    first = rj.sweep(moments, rj.mask_grid(SHAPE, [1, 2], [0.1, 0.2]), [0.0, 1.0], [1, 2, 3])
    other = rj.mask_grid(SHAPE, [(4, 2), (1, 4)], [0.9, 0.0])
    second = rj.sweep(moments, other, [np.inf, 5.0], [32, 7, 9])
    assert jnp.max(jnp.abs(first.explained - second.explained)) > 0.1
    with pytest.raises(AssertionError, match="traced"):
        rj.sweep(moments, rj.mask_grid(SHAPE, [1, 2], [0.1]), [0.0, 1.0], [1, 2, 3])


def compiled_memory(features, strengths, weights, batch_size):
    rng = np.random.default_rng(0)
    moments = rj.moments(rng.normal(size=(70, features)), np.arange(70) % 10)
    noises = rj.pixel_grid((features,), np.linspace(0.1, 0.9, strengths))
    lowered = module._sweep.lower(
        moments,
        module._stacked(noises, features),
        jnp.linspace(0.0, 1.0, weights),
        jnp.array([3], jnp.int32),
        clean=True,
        batch_size=batch_size,
        dtype=jnp.dtype("float64"),
        progress=None,
    )
    return lowered.compile().memory_analysis()


def test_memory_does_not_grow_with_the_grid_and_stays_under_the_estimate():
    small, large = (compiled_memory(64, points, 2, 1) for points in (2, 40))
    square = 8 * 64**2
    assert abs(large.temp_size_in_bytes - small.temp_size_in_bytes) < square
    for batch_size, found in ((1, large), (4, compiled_memory(64, 8, 2, 4))):
        used = found.temp_size_in_bytes + found.argument_size_in_bytes
        estimate = rj.sweep_memory(64, 10, batch_size)
        assert 0.3 * estimate < used < estimate, (batch_size, used / estimate)


def test_progress_is_told_of_every_point():
    calls = []
    moments = rj.moments(np.eye(4), np.arange(4))
    noises = rj.pixel_grid((4,), [0.1, 0.5, 0.9]) * 2
    rj.sweep(moments, noises, [0.0, 1.0], progress=lambda: calls.append(1), batch_size=5)
    jax.effects_barrier()
    assert len(calls) == 2 * 3 * 2


# Errors

MASK = functools.partial(rj.patch_mask, image_shape=SHAPE)


@pytest.mark.parametrize(
    ("noises", "match"),
    [
        ([], "noises: an empty grid"),
        ([[]], "noises: an empty grid"),
        ([[MASK(0.1, 2), MASK(0.1, 1)]], "of one row lie on different rays"),
        ([[MASK(0.1, 2), rj.gaussian(1.0)]], "of one row lie on different rays"),
        ([[MASK(0.1, 2)], [rj.gaussian(1.0)]], "rows of different kinds of noise"),
        ([[MASK(0.1, 2)], [MASK(0.1, 1)] * 2], "noises: rows of 1 and 2"),
        ([[rj.chain(MASK(0.1, 2), rj.gaussian(1.0))]], "noises: Chain lies on no ray; use solve"),
        ([[rj.patch_mask(0.1, 1, (4, 4, 1))]], "made for 16 features; the moments have 32"),
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
        ({"latent_dims": [1, 2.5]}, r"latent_dims: \[1, 2.5\]; whole numbers are needed"),
        ({"latent_dims": np.nan}, "latent_dims: nan; whole numbers are needed"),
        ({"latent_dims": []}, "latent_dims: .* at least one"),
        ({"batch_size": 0}, "batch_size: 0; it must be at least 1"),
        ({"readout": "dirty"}, "readout: 'dirty'; 'clean' or 'noisy'"),
    ],
)
def test_options_out_of_range_are_refused(options, match):
    with pytest.raises(ValueError, match=match):
        rj.sweep(plain(), [[MASK(0.1, 2)]], **options)


def test_no_noise_is_a_ray_and_adds_nothing_to_another():
    moments = plain()
    nothing = rj.chain(rj.identity(), rj.identity())
    none = rj.sweep(moments, [[rj.identity(), nothing, rj.gaussian(0.0)]] * 2, WEIGHTS)
    for k, weight in enumerate(WEIGHTS):
        expected = rj.solve(rj.problem(moments), weight).supervised_loss
        for curve in none.supervised_loss[0, :, k]:
            close(curve, expected, 1e-9)
    mask = MASK(0.5, 2)
    alone = rj.sweep(moments, [[mask] * 3] * 2, WEIGHTS)
    chained = rj.sweep(moments, [[rj.chain(rj.identity(), mask)] * 3] * 2, WEIGHTS)
    chex.assert_trees_all_equal(chained, alone)
