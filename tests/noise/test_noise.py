"""Every noise: what it draws has the moments and lies on the ray that it claims."""

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest

from reconjax import noise as rn
from reconjax.noise import Isotropic, SameGroup

SHAPE = (3, 4, 2)
SIZE = 24


def mask(ratio, patch, **options):
    return rn.patch_mask(ratio, patch, SHAPE, **options)


NOISES = {
    "identity": rn.identity(),
    "gaussian": rn.gaussian(0.7),
    "1x1 patches": mask(0.3, 1),
    "3x2 patches": mask(0.6, (3, 2)),
    "1x4 patches of one channel": mask(0.5, (1, 4), share_channels=False),
    "partial 2x3 patches": mask(0.4, (2, 3), partial=True),
    "whole image": mask(0.2, (3, 4)),
    "exactly half of the pixels": rn.exact_patch_mask(0.5, 1, SHAPE),
    "exactly 1 of 3": rn.exact_patch_mask(0.6, (1, 4), SHAPE),
    "exactly 3 of 4 partial": rn.exact_patch_mask(0.25, (2, 3), SHAPE, partial=True),
    "one patch, kept": rn.exact_patch_mask(0.0, (3, 4), SHAPE),
    "pixel dropout": rn.pixel_dropout(0.5, SHAPE),
    "pixel dropout of whole pixels": rn.pixel_dropout(0.5, SHAPE, share_channels=True),
    "vector dropout": rn.pixel_dropout(0.8, (SIZE,)),
    "mask, then gaussian": rn.chain(mask(0.5, (1, 2)), rn.gaussian(0.5)),
    "gaussian, then exact mask": rn.chain(rn.gaussian(0.5), rn.exact_patch_mask(0.5, 1, SHAPE)),
    "mask, then mask": rn.chain(mask(0.3, (3, 2)), mask(0.4, 1)),
}
MASKS = [name for name, noise in NOISES.items() if hasattr(noise, "groups")]


def inputs(samples=4, seed=0):
    x = np.random.default_rng(seed).normal(size=(samples, *SHAPE)) + 0.3
    return x - x.mean(0)


# Drawn against closed form


@pytest.mark.parametrize("name", NOISES)
def test_drawn_moments_are_the_closed_form_within_five_standard_errors(name):
    noise, draws = NOISES[name], 1500
    x = inputs()
    targets = np.random.default_rng(1).normal(size=(4, 3))
    # One batch, not a program of its own for each noise: compiling is what these tests cost.
    drawn = np.asarray(noise.sample(jax.random.key(3), jnp.asarray(np.tile(x, (draws, 1, 1, 1)))))
    drawn = drawn.reshape(draws, *x.shape)
    assert (drawn.shape, drawn.dtype) == ((draws, *x.shape), np.float64)
    drawn, flat = drawn.reshape(draws, 4, SIZE), x.reshape(4, SIZE)
    for moment, closed in (
        (np.einsum("tni,nj->tij", drawn, flat) / 4, noise.mean(flat.T @ flat / 4)),
        (np.einsum("tni,nj->tij", drawn, targets) / 4, noise.mean(flat.T @ targets / 4)),
        (drawn.mT @ drawn / 4, noise.second_moment(flat.T @ flat / 4)),
    ):
        error = moment.std(axis=0) / draws**0.5
        distance = np.abs(moment.mean(axis=0) - np.asarray(closed))
        assert np.all(distance <= 5 * error + 1e-12), np.max(distance / (error + 1e-12))


def test_the_check_would_tell_masks_of_different_ratio_or_patch():
    x = inputs().reshape(4, SIZE)
    second = x.T @ x / 4
    reference = mask(0.5, (1, 2)).second_moment(second)
    for other in (
        mask(0.52, (1, 2)),
        mask(0.5, (3, 2)),
        rn.exact_patch_mask(0.5, (1, 2), SHAPE),
    ):
        assert jnp.max(jnp.abs(other.second_moment(second) - reference)) > 0.01


@pytest.mark.parametrize("name", ["3x2 patches", "1x4 patches of one channel", "exactly 1 of 3"])
def test_closed_forms_are_the_enumeration_of_all_masks(name):
    noise = NOISES[name]
    options = {
        "3x2 patches": ((3, 2), True, oracle.bernoulli_masks(2, 0.6)),
        "1x4 patches of one channel": ((1, 4), False, oracle.bernoulli_masks(6, 0.5)),
        "exactly 1 of 3": ((1, 4), True, oracle.exact_masks(3, 1)),
    }
    patch, share, masks = options[name]
    groups = oracle.patch_groups(SHAPE, patch, share)
    x = inputs(30).reshape(30, SIZE)
    clean = oracle.noiseless(x, np.eye(30)[:, :2])
    noisy = oracle.with_masks(clean, groups, *masks)
    np.testing.assert_allclose(noise.second_moment(clean.second), noisy.second, atol=1e-14)
    np.testing.assert_allclose(noise.mean(clean.labels), noisy.labels, atol=1e-14)
    np.testing.assert_allclose(noise.mean(clean.inputs), noisy.inputs, atol=1e-14)


# What a draw looks like


@pytest.mark.parametrize("name", NOISES)
def test_draws_keep_shape_and_dtype_and_follow_the_key(name):
    noise = NOISES[name]
    x = jnp.ones((20, *SHAPE), jnp.float32)
    first, same, other = (noise.sample(jax.random.key(i), x) for i in (0, 0, 1))
    assert (first.shape, first.dtype) == (x.shape, jnp.float32)
    np.testing.assert_array_equal(first, same)
    certain = name in ("identity", "one patch, kept")
    assert bool(jnp.all(first == other)) == certain
    # Samples are drawn apart.
    assert bool(jnp.all(first == first[:1])) == certain
    flat = noise.sample(jax.random.key(0), x.reshape(20, SIZE))
    np.testing.assert_array_equal(flat.reshape(x.shape), first)
    assert noise.sample(jax.random.key(0), x[0].reshape(SIZE)).shape == (SIZE,)


@pytest.mark.parametrize("name", MASKS)
def test_masks_set_whole_groups_to_zero_and_leave_the_rest(name):
    noise = NOISES[name]
    x = jnp.asarray(inputs(200).reshape(200, SIZE)) + 10
    drawn = np.asarray(noise.sample(jax.random.key(0), x))
    kept = drawn != 0
    np.testing.assert_array_equal(drawn[kept], np.asarray(x)[kept])
    groups = np.asarray(noise.groups)
    for group in np.unique(groups):
        inside = kept[:, groups == group]
        assert np.all(inside == inside[:, :1])


@pytest.mark.parametrize(
    ("ratio", "patch", "count"),
    [(0.75, 1, 12), (0.5, (1, 2), 6), (0.0, 1, 12), (0.99, (3, 4), 1), (0.6, (1, 4), 3)],
)
def test_exact_masks_keep_the_same_number_of_patches_every_time(ratio, patch, count):
    expected = int(np.floor((1 - ratio) * count + 1e-9))
    if expected == 0:
        with pytest.raises(ValueError, match="keeps none of the 1 patches"):
            rn.exact_patch_mask(ratio, patch, SHAPE)
        return
    noise = rn.exact_patch_mask(ratio, patch, SHAPE)
    drawn = np.asarray(noise.sample(jax.random.key(0), jnp.ones((300, SIZE))))
    kept = np.array([len(set(np.asarray(noise.groups)[row > 0].tolist())) for row in drawn])
    assert set(kept) == {expected}
    # Every patch is kept sometimes, and dropped sometimes unless all are kept.
    assert np.all(drawn.sum(0) > 0)
    assert np.all(drawn.sum(0) < 300) or expected == count


def test_ratios_that_keep_a_whole_number_of_patches_are_not_rounded_down():
    for kept in range(1, 12):
        noise = rn.exact_patch_mask(1 - kept / 12, 1, SHAPE)
        assert (int(noise.kept), int(noise.total)) == (kept, 12)


# Groups


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("patch", [(1, 1), (3, 2), (1, 4), (2, 3), (3, 4), (2, 2)])
def test_patch_groups_are_those_counted_value_by_value(patch, share):
    found = rn.patch_groups(patch, SHAPE, share_channels=share, partial=True)
    expected = oracle.patch_groups(SHAPE, patch, share)
    np.testing.assert_array_equal(found[:, None] == found, expected[:, None] == expected)
    assert sorted(set(found.tolist())) == list(range(expected.max() + 1))
    assert found.dtype == np.int32


def test_squares_gray_images_and_dropout_are_special_patches():
    np.testing.assert_array_equal(rn.patch_groups(2, (4, 4, 1)), rn.patch_groups((2, 2), (4, 4)))
    shared = rn.pixel_dropout(0.1, SHAPE, share_channels=True).groups
    np.testing.assert_array_equal(shared, rn.patch_groups(1, SHAPE))
    np.testing.assert_array_equal(rn.pixel_dropout(0.1, SHAPE).groups, np.arange(SIZE))
    np.testing.assert_array_equal(rn.pixel_dropout(0.1, (5,), share_channels=True).groups, range(5))


# Rays


@pytest.mark.parametrize("name", NOISES)
def test_a_point_on_a_ray_has_the_moments_of_the_noise(name):
    noise = NOISES[name]
    point = noise.ray()
    if isinstance(noise, type(rn.chain(rn.identity(), rn.identity()))):
        assert point is None
        return
    x = inputs(30).reshape(30, SIZE)
    second = jnp.asarray(x.T @ x / 30)
    direction = point.direction.covariance(second)
    mixed = point.scale * ((1 - point.share) * second + point.share * direction)
    np.testing.assert_allclose(mixed, noise.second_moment(second), atol=1e-12)
    np.testing.assert_allclose(point.keep * second, noise.mean(second), atol=1e-12)


def test_chains_have_a_ray_where_one_part_acts():
    one = rn.chain(rn.identity(), NOISES["3x2 patches"], rn.identity())
    assert isinstance(one.ray().direction, SameGroup)
    assert float(one.ray().share) == pytest.approx(0.6)
    assert isinstance(rn.chain(rn.identity(), rn.identity()).ray().direction, Isotropic)
    assert rn.chain(NOISES["gaussian"]) is NOISES["gaussian"]


def test_exact_masks_lie_on_the_ray_of_bernoulli_masks():
    noise = rn.exact_patch_mask(0.75, 1, (14, 14, 1))
    assert (int(noise.kept), int(noise.total)) == (49, 196)
    assert float(noise.ray().share) == pytest.approx((196 - 49) / 195)


def test_chained_moments_are_composed_in_order():
    second = jnp.asarray(np.cov(inputs(50).reshape(50, SIZE).T))
    first, then = rn.gaussian(0.5), mask(0.5, 1)
    for chained, expected in (
        (rn.chain(first, then), then.second_moment(first.second_moment(second))),
        (rn.chain(then, first), first.second_moment(then.second_moment(second))),
    ):
        np.testing.assert_allclose(chained.second_moment(second), expected, atol=1e-14)


# Parameters


def test_parameters_are_leaves():
    ratios = jnp.array([0.1, 0.5])
    second = jnp.eye(SIZE)
    found = jax.vmap(lambda ratio: mask(ratio, 1).second_moment(second))(ratios)
    np.testing.assert_allclose(found[1], mask(0.5, 1).second_moment(second))
    stds = jax.vmap(lambda std: rn.gaussian(std).second_moment(second))(ratios)
    np.testing.assert_allclose(stds[1], rn.gaussian(0.5).second_moment(second))
    assert jax.grad(lambda std: rn.gaussian(std).second_moment(second)[0, 0])(0.5) == 1.0


@pytest.mark.parametrize("ratio", [-0.1, 1.0, 1.5, np.nan])
def test_ratios_out_of_range_are_refused(ratio):
    for make in (
        lambda: mask(ratio, 1),
        lambda: rn.exact_patch_mask(ratio, 1, SHAPE),
        lambda: rn.pixel_dropout(ratio, SHAPE),
    ):
        with pytest.raises(ValueError, match=rf"mask_ratio: {ratio}; it must be in \[0, 1\)"):
            make()


@pytest.mark.parametrize("std", [-0.1, np.nan, np.inf])
def test_standard_deviations_out_of_range_are_refused(std):
    with pytest.raises(ValueError, match=rf"std: {std}; it must be finite and >= 0"):
        rn.gaussian(std)


@pytest.mark.parametrize(
    ("patch", "shape", "match"),
    [
        (
            (2, 2),
            SHAPE,
            "2x2 does not divide the 3x4 image; .*[(]partial; in texts 2x2:partial[)]$",
        ),
        ((3, 3), SHAPE, "patch_shape: 3x3 does not divide the 3x4 image"),
        ((0, 1), SHAPE, r"patch_shape: \(0, 1\); .* from \(1, 1\) to \(3, 4\)"),
        ((4, 4), SHAPE, r"patch_shape: \(4, 4\); .* from \(1, 1\) to \(3, 4\)"),
        (1, (24,), r"image_shape: \(24,\); patches need images \(H, W, C\)"),
        (1, (2, 3, 1, 4, 1), r"image_shape: \(2, 3, 1, 4, 1\); patches need"),
        ((1, 1, 1), SHAPE, r"patch_shape: \(1, 1, 1\); \(height, width\)"),
    ],
)
def test_patches_that_do_not_fit_are_refused(patch, shape, match):
    with pytest.raises(ValueError, match=match):
        rn.patch_mask(0.5, patch, shape)


def test_a_draw_of_other_images_is_refused():
    for noise in (mask(0.5, 1), rn.exact_patch_mask(0.5, 1, SHAPE)):
        with pytest.raises(ValueError, match=r"x: shape .*; this noise was made for 24 features"):
            noise.sample(jax.random.key(0), jnp.zeros((2, 4, 4, 2)))
