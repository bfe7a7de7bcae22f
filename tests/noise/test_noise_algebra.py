"""The noises beyond masks and Gaussian: drawn against closed form, rays, limits, the solver."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest

import reconjax as rj
from reconjax import noise as rn

SHAPE = (6, 6, 2)
SIZE = 72
SAMPLES = 3
DRAWS = 600
RNG = np.random.default_rng(0)
# Far from isotropic, unbalanced between pixels, and of rank 2.
IMAGES = RNG.normal(size=(SAMPLES, *SHAPE)) * np.geomspace(2, 0.05, SIZE).reshape(SHAPE)
IMAGES -= IMAGES.mean(0)
MEAN_IMAGE = RNG.uniform(8, 9, SHAPE)  # raw intensities stay positive
BLACK = -MEAN_IMAGE / 10
BASIS = np.linalg.qr(RNG.normal(size=(SIZE, SIZE)))[0]
COUNTS = np.round(IMAGES * 20) / 20  # whole counts of 20 photons about a mean image of such
COUNTS -= np.round(COUNTS.mean(0) * 20) / 20


def second_moment(samples=200, seed=3):
    x = np.random.default_rng(seed).normal(size=(samples, SIZE)) * np.geomspace(2, 0.1, SIZE)
    return jnp.asarray(np.cov((x @ BASIS[:, ::-1]).T))


SECOND = second_moment()


def patches(ratio, patch, **options):
    return rn.patch_mask(ratio, patch, SHAPE, **options)


def pairwise():
    """Neighboring columns of pixels are kept together more often than distant ones."""
    column = np.arange(6)
    keep = np.linspace(0.3, 0.8, 6)
    near = np.exp(-np.abs(column[:, None] - column))
    spread = np.sqrt(keep * (1 - keep))
    visibility = np.outer(keep, keep) + 0.5 * near * np.outer(spread, spread)
    np.fill_diagonal(visibility, keep)
    low, high = np.maximum(0, keep[:, None] + keep - 1), np.minimum(keep[:, None], keep)
    return np.clip(visibility, low, high)


COLUMNS = np.tile(np.repeat(np.arange(6), 2), 6)

NOISES = {
    "colored": rn.colored_gaussian(0.5, SECOND),
    "smooth": rn.smooth_gaussian(0.4, 1.5, SHAPE),
    "speckle": rn.speckle(0.6),
    "poisson": rn.thinning(0.4, 3.0, MEAN_IMAGE),
    "shot noise": rn.thinning(0.0, 5.0, MEAN_IMAGE),
    "salt and pepper": rn.salt_and_pepper(0.3, 0.7, SHAPE),
    "salt and pepper on pixels, filled": rn.salt_and_pepper(
        0.3, 0.7, SHAPE, share_channels=True, fill=0.2
    ),
    "channels": rn.channel_dropout(0.4, SHAPE),
    "filled patches": patches(0.6, (2, 3), fill=BLACK),
    "filled exact patches": rn.exact_patch_mask(0.5, (2, 3), SHAPE, fill=0.5),
    "ratios by patch": patches(np.linspace(0, 0.9, 6), (2, 3), fill=0.1),
    "random ratio": rn.random_patch_mask((0.2, 0.9), (2, 3), SHAPE),
    "random exact ratio": rn.random_patch_mask((0.2, 0.9), (2, 3), SHAPE, exact=True, fill=-0.3),
    "beta ratio": rn.random_patch_mask(rn.Beta.of(2.0, 1.5), (3, 3), SHAPE),
    "block": rn.block_mask((3, 4), SHAPE),
    "cut-out": rn.block_mask(4, SHAPE, partial=True, fill=BLACK),
    "set of masks": rn.mask_set(
        [[1, 1, 0, 1, 0, 0], [0, 1, 1, 0, 1, 1], [0, 0, 0, 1, 1, 1]],
        [0.2, 0.5, 0.3],
        groups=COLUMNS,
        fill=0.4,
    ),
    "pairwise visibility": rn.visibility_mask(pairwise(), groups=COLUMNS),
    "operator": rn.linear(BASIS * np.linspace(0, 2, SIZE)),
    "blur": rn.blur(0.8, SHAPE),
    "shift": rn.shift(2, SHAPE),
    "shift around": rn.shift(1, SHAPE, wrap=True),
    "flip": rn.flip(0.3, SHAPE),
    "upside down": rn.flip(0.5, SHAPE, vertical=True),
    "crop": rn.crop((4, 3), SHAPE),
    "principal components": rn.pca_mask(0.4, BASIS),
    "some principal components": rn.pca_mask(np.linspace(0.9, 0, 20), BASIS[:, :20]),
    "filled components": rn.in_basis(rn.pixel_dropout(0.3, (5,), fill=0.6), BASIS[:, :5]),
    # Compositions in which a later noise meets a mean that an earlier one has moved.
    "fill, then mask": rn.chain(patches(0.5, 3, fill=BLACK), patches(0.3, (2, 3), fill=0.2)),
    "fill, then speckle": rn.chain(patches(0.5, 3, fill=BLACK), rn.speckle(0.5)),
    "fill, then shift": rn.chain(patches(0.5, 3, fill=BLACK), rn.shift(1, SHAPE)),
    "fill, then rotated mask": rn.chain(
        patches(0.5, 3, fill=BLACK), rn.pca_mask(0.5, BASIS[:, :9])
    ),
    "thin, then blur, then gaussian": rn.chain(
        rn.thinning(0.2, 3.0, MEAN_IMAGE), rn.blur(0.5, SHAPE), rn.gaussian(0.1)
    ),
    "mixture": rn.mixture(
        patches(0.5, 3, fill=BLACK),
        rn.gaussian(0.5),
        rn.flip(1.0, SHAPE),
        probabilities=[0.3, 0.5, 0.2],
    ),
    "fill, then a mixture of masks": rn.chain(
        patches(0.5, 3, fill=BLACK),
        rn.mixture(patches(0.5, (2, 3)), rn.chain(rn.identity(), patches(0.9, 1, fill=0.3))),
        rn.pixel_dropout(0.2, SHAPE),
    ),
}


def quick_first(names, slow):
    return [pytest.param(name, marks=[pytest.mark.slow] * (name in slow)) for name in names]


def tiled(images, dtype=jnp.float64):
    """(DRAWS SAMPLES, H, W, C): the images again and again, in the one shape that all tests draw.

    One batch, not a program for each noise: compiling is what these tests cost.
    """
    return jnp.asarray(np.tile(images, (DRAWS * SAMPLES // len(images), 1, 1, 1)), dtype)


def drawn(noise, images, dtype):
    x = tiled(images, dtype)
    found = noise.sample(jax.random.key(11), x)
    assert (found.shape, found.dtype) == (x.shape, dtype)
    return np.asarray(found, np.float64).reshape(DRAWS, len(images), SIZE)


def check_moments(noise, images, dtype=jnp.float64):
    """E[x'], E[x' fᵀ] and E[x' x'ᵀ] of draws, in random directions and entry by entry."""
    samples, found = len(images), drawn(noise, images, dtype)
    x = images.reshape(samples, SIZE)
    targets = np.random.default_rng(5).normal(size=(samples, 2))
    targets -= targets.mean(0)
    # 8 entries of strong pixels, and random combinations of all.
    seen = np.concatenate(
        [np.eye(SIZE)[:, :8], np.random.default_rng(6).normal(size=(SIZE, 16)) / SIZE**0.5], axis=1
    )
    offset = noise.offset()
    offset = np.zeros(SIZE) if offset is None else np.asarray(offset, np.float64)
    covariance = noise.second_moment(jnp.asarray(x.T @ x / samples, dtype))
    assert covariance.dtype == dtype
    by_target = np.asarray(noise.mean(jnp.asarray(x.T @ targets / samples, dtype)), np.float64)
    second = np.asarray(covariance, np.float64) + np.outer(offset, offset)
    projected = found @ seen
    tolerance = 1e-10 if dtype == jnp.float64 else 2e-5
    for moment, closed in (
        (projected.mean(1), offset @ seen),
        (np.einsum("tni,nj->tij", projected, targets) / samples, seen.T @ by_target),
        (np.einsum("tni,tnj->tij", projected, projected) / samples, seen.T @ second @ seen),
    ):
        error = moment.std(axis=0, ddof=1) / DRAWS**0.5
        distance = np.abs(moment.mean(axis=0) - np.asarray(closed))
        allowed = 4 * error + tolerance * np.max(np.abs(second))
        assert np.all(distance <= allowed), np.max(distance / allowed)


# Drawn against closed form


@pytest.mark.parametrize(
    "name",
    # Slow to compile, or a second one of its kind.
    quick_first(
        NOISES,
        {
            *("beta ratio", "shot noise", "shift around", "upside down", "smooth"),
            *("salt and pepper on pixels, filled", "filled components"),
            *("fill, then rotated mask", "thin, then blur, then gaussian"),
        },
    ),
)
def test_drawn_moments_are_the_closed_form_within_four_standard_errors(name):
    check_moments(NOISES[name], IMAGES)


@pytest.mark.parametrize(
    "name",
    quick_first(NOISES, set(NOISES) - {"salt and pepper", "random exact ratio", "crop"}),
)
def test_drawn_moments_are_the_closed_form_in_float32(name):
    check_moments(NOISES[name], IMAGES, jnp.float32)


@pytest.mark.parametrize(
    "name",
    quick_first(NOISES, set(NOISES) - {"filled patches", "speckle", "shift", "fill, then speckle"}),
)
def test_closed_forms_in_float32_are_those_of_float64(name):
    noise, mean = NOISES[name], BLACK.reshape(-1)
    expected = noise.second_moment(SECOND, jnp.asarray(mean))
    found = noise.second_moment(SECOND.astype(jnp.float32), jnp.asarray(mean, jnp.float32))
    assert found.dtype == jnp.float32
    size = float(np.max(np.abs(expected)))
    np.testing.assert_allclose(found, np.asarray(expected), atol=3e-6 * size)


def test_binomial_thinning_of_whole_counts_has_the_closed_form():
    mean = np.full(SHAPE, 8.0)
    images = COUNTS - COUNTS.mean(0)
    noise = rn.thinning(0.4, 20.0, mean + COUNTS.mean(0), counts="binomial")
    check_moments(noise, images)
    # Fewer photons are left than with Poisson counts of the same mean.
    poisson = rn.thinning(0.4, 20.0, mean)
    assert jnp.trace(noise.second_moment(SECOND)) < jnp.trace(poisson.second_moment(SECOND))


def test_the_check_would_tell_noises_that_differ_a_little():
    for wrong, right in (
        (rn.speckle(0.66), rn.speckle(0.6)),
        (patches(0.6, (2, 3), fill=0.9 * BLACK), NOISES["filled patches"]),
        (rn.block_mask((4, 3), SHAPE), NOISES["block"]),
        (rn.shift(2, SHAPE, wrap=True), NOISES["shift"]),
        (rn.exact_patch_mask(0.5, (2, 3), SHAPE), rn.patch_mask(0.5, (2, 3), SHAPE)),
    ):

        class Mislabeled:
            sample, offset, mean = right.sample, right.offset, right.mean
            second_moment = wrong.second_moment

        with pytest.raises(AssertionError):
            check_moments(Mislabeled, IMAGES)


# Draws, looked at


def test_operators_do_to_images_what_their_names_say():
    key, one = jax.random.key(0), IMAGES[0]
    x, many = tiled(IMAGES), tiled(IMAGES[:1])

    def places(noise):
        return {image.tobytes() for image in np.asarray(noise.sample(key, many))}

    np.testing.assert_array_equal(rn.flip(1.0, SHAPE).sample(key, x), x[:, :, ::-1])
    np.testing.assert_array_equal(rn.flip(1.0, SHAPE, vertical=True).sample(key, x), x[:, ::-1])
    padded = np.pad(one, ((1, 1), (1, 1), (0, 0)))
    shifted = {padded[i : i + 6, j : j + 6].tobytes() for i in range(3) for j in range(3)}
    assert places(rn.shift(1, SHAPE)) == shifted
    rolled = {np.roll(one, (i, j), (0, 1)).tobytes() for i in (-1, 0, 1) for j in (-1, 0, 1)}
    assert places(rn.shift(1, SHAPE, wrap=True)) == rolled
    # A window of 3 x 5 has 4 x 2 places; the picture is then that of a bilinear enlargement.
    windows = [one[i : i + 3, j : j + 5] for i in range(4) for j in range(2)]
    enlarged = np.stack([jax.image.resize(jnp.asarray(w), SHAPE, "linear") for w in windows])
    crops = np.asarray(rn.crop((3, 5), SHAPE).sample(key, many))
    distance = np.abs(crops[:, None] - enlarged).max((2, 3, 4))
    assert np.all(distance.min(1) < 1e-12)
    assert set(distance.argmin(1)) == set(range(8))
    blurred = np.asarray(rn.blur(0.7, SHAPE).sample(key, x))
    weights = np.exp(-((np.arange(6)[:, None] - np.arange(6)) ** 2) / (2 * 0.49))
    weights /= weights.sum(1, keepdims=True)
    np.testing.assert_allclose(blurred[0, :, :, 1], weights @ one[:, :, 1] @ weights.T, atol=1e-14)


def test_blocks_are_blocks_and_are_seen_everywhere():
    x = tiled(np.ones((1, *SHAPE)))
    hidden = np.asarray(rn.block_mask((2, 3), SHAPE).sample(jax.random.key(0), x))[..., 0] == 0
    assert set(hidden.sum((1, 2))) == {6}
    assert {(image.any(1).sum(), image.any(0).sum()) for image in hidden} == {(2, 3)}
    assert np.all(hidden.any(0))
    cut = np.asarray(rn.block_mask(3, SHAPE, partial=True).sample(jax.random.key(0), x)) == 0
    assert set(cut[..., 0].sum((1, 2))) == {4, 6, 9}
    np.testing.assert_array_equal(cut[..., 0], cut[..., 1])


def test_what_is_dropped_becomes_the_fill_and_the_rest_stays():
    x = tiled(IMAGES)
    flat = np.asarray(x).reshape(-1, SIZE)
    for name in ("filled patches", "filled exact patches", "cut-out", "set of masks"):
        noise = NOISES[name]
        found = np.asarray(noise.sample(jax.random.key(1), x)).reshape(-1, SIZE)
        fill = np.broadcast_to(np.asarray(noise.fill), found.shape)
        assert np.all((found == fill) | (found == flat))
        assert 0 < (found == fill).sum() < found.size
    salted = np.asarray(NOISES["salt and pepper"].sample(jax.random.key(1), x))
    changed = salted[salted != np.asarray(x)]
    assert set(np.round(changed, 12)) == {-0.7, 0.7}


def test_random_exact_masks_keep_whole_numbers_between_the_bounds():
    noise = rn.random_patch_mask((0.2, 0.7), 1, SHAPE, exact=True)
    found = np.asarray(noise.sample(jax.random.key(0), tiled(np.ones((1, *SHAPE)))))
    kept = found.sum((1, 2, 3)) / 2
    assert kept.min() >= np.floor(0.3 * 36)
    assert kept.max() <= 0.8 * 36
    assert len(set(kept)) > 15


# Rays

RAYS = {
    name: NOISES[name]
    for name in (
        *("colored", "smooth", "speckle", "poisson", "shot noise", "salt and pepper", "channels"),
        *("salt and pepper on pixels, filled", "filled patches", "random ratio", "beta ratio"),
        "principal components",
    )
}
RAYS["mixture on one ray"] = rn.mixture(
    patches(0.2, 3),
    rn.exact_patch_mask(0.5, 3, SHAPE),
    rn.identity(),
    probabilities=[0.5, 0.3, 0.2],
)
RAYS["binomial"] = rn.thinning(0.3, 2.0, MEAN_IMAGE, counts="binomial")


@pytest.mark.parametrize("name", RAYS)
def test_a_point_on_a_ray_has_the_moments_of_the_noise(name):
    noise = RAYS[name]
    point = noise.ray()
    direction = point.direction.covariance(SECOND)
    mixed = point.scale * ((1 - point.share) * SECOND + point.share * direction)
    np.testing.assert_allclose(mixed, noise.second_moment(SECOND), atol=1e-12)
    np.testing.assert_allclose(point.keep * SECOND, noise.mean(SECOND), atol=1e-13)
    assert 0 < float(point.share) < 1


def test_noises_that_are_no_ray_say_so():
    for name in set(NOISES) - set(RAYS):
        assert NOISES[name].ray() is None, name
    assert rn.mixture(patches(0.2, 3), patches(0.2, 2)).ray() is None
    assert rn.mixture(patches(0.2, 3), rn.gaussian(0.1)).ray() is None
    assert rn.mixture(rn.identity(), rn.chain(rn.identity(), rn.identity())).ray().share == 0


FAMILIES = {
    "filled": lambda p: rn.patch_mask(p, 2, oracle.SHAPE, fill=0.3),
    "speckle": rn.speckle,
    "smooth": lambda std: rn.smooth_gaussian(std, 1.0, oracle.SHAPE),
    "thin": lambda p: rn.thinning(p, 9.0, np.ones(oracle.SHAPE)),
}
SLOW = {"speckle", "smooth", "thin"}


@pytest.mark.parametrize("family", quick_first(FAMILIES, SLOW))
def test_strengths_of_one_family_are_one_ray_in_a_sweep(family):
    moments, _, _ = problem_data()
    row = [FAMILIES[family](strength) for strength in (0.2, 0.6)]
    curves = rj.sweep(moments, [row], [0.5, np.inf])
    for i, noise in enumerate(row):
        for j, weight in enumerate((0.5, np.inf)):
            solved = rj.solve(rj.problem(moments, noise), weight)
            np.testing.assert_allclose(curves.r2[0, i, j], solved.r2, atol=1e-8)


# Limits and identities


def same_moments(one, other, atol=1e-12):
    mean = jnp.asarray(BLACK.reshape(-1))
    np.testing.assert_allclose(one.second_moment(SECOND), other.second_moment(SECOND), atol=atol)
    np.testing.assert_allclose(
        one.second_moment(SECOND, mean), other.second_moment(SECOND, mean), atol=atol
    )
    np.testing.assert_allclose(one.mean(SECOND), other.mean(SECOND), atol=atol)


@pytest.mark.parametrize(
    "noise",
    [
        patches(0.0, 3, fill=1.0),
        rn.speckle(0.0),
        rn.smooth_gaussian(0.0, 1.0, SHAPE),
        rn.salt_and_pepper(0.0, 1.0, SHAPE),
        rn.channel_dropout(0.0, SHAPE),
        rn.random_patch_mask((0.0, 0.0), 3, SHAPE),
        rn.random_patch_mask((0.0, 0.0), 3, SHAPE, exact=True),
        rn.blur(0.0, SHAPE),
        rn.shift(0, SHAPE),
        rn.flip(0.0, SHAPE),
        rn.crop((6, 6), SHAPE),
        rn.pca_mask(0.0, BASIS[:, :7]),
        rn.linear(np.eye(SIZE)),
        rn.thinning(0.0, 3.0, MEAN_IMAGE, counts="binomial"),
        rn.mask_set(np.ones((2, SIZE))),
        rn.mixture(rn.identity(), rn.chain(rn.identity(), rn.identity())),
    ],
    ids=lambda noise: type(noise).__name__,
)
def test_no_strength_is_no_noise(noise):
    same_moments(noise, rn.identity())
    x = jnp.asarray(IMAGES)
    if not isinstance(noise, rn.Thinning):  # whose images would have to be whole counts
        np.testing.assert_allclose(noise.sample(jax.random.key(0), x), x, atol=1e-12)


def test_random_ratios_that_are_not_random_are_fixed_ones():
    same_moments(rn.random_patch_mask((0.4, 0.4), 3, SHAPE, fill=0.2), patches(0.4, 3, fill=0.2))
    for ratio in (0.5, 0.7, 0.75):
        same_moments(
            rn.random_patch_mask((ratio, ratio), 3, SHAPE, exact=True, fill=0.2),
            rn.exact_patch_mask(ratio, 3, SHAPE, fill=0.2),
        )
    # Beta(1, 1) is uniform; its density ends at 1, Uniform's before.
    same_moments(
        rn.random_patch_mask(rn.Beta.of(1.0, 1.0), 3, SHAPE, exact=True),
        rn.random_patch_mask((0.0, 1 - 1e-12), 3, SHAPE, exact=True),
        1e-9,
    )


def test_one_noise_in_several_dresses():
    mean = jnp.asarray(MEAN_IMAGE)
    same_moments(rn.mixture(rn.speckle(0.3)), rn.speckle(0.3))
    assert rn.mixture(NOISES["blur"]) is NOISES["blur"]
    same_moments(rn.mixture(*[patches(0.3, 2)] * 3), patches(0.3, 2))
    same_moments(rn.colored_gaussian(0.3, np.eye(SIZE)), rn.gaussian(0.3))
    same_moments(patches(np.full(4, 0.3), 3, fill=BLACK), patches(0.3, 3, fill=BLACK))
    same_moments(rn.in_basis(NOISES["speckle"], np.eye(SIZE)), NOISES["speckle"])
    same_moments(rn.pca_mask(0.3, np.eye(SIZE)), rn.pixel_dropout(0.3, SHAPE))
    same_moments(rn.in_basis(rn.linear(2 * np.eye(3)), BASIS[:, :3]), _stretched())
    same_moments(
        rn.flip(0.3, SHAPE),
        rn.mixture(rn.identity(), rn.flip(1.0, SHAPE), probabilities=[0.7, 0.3]),
    )
    masks, chances = oracle.exact_masks(4, 1)
    groups = rn.patch_groups(3, SHAPE)
    same_moments(rn.mask_set(masks, chances, groups=groups), rn.exact_patch_mask(0.75, 3, SHAPE))
    pairs = np.where(np.eye(4), 0.6, 0.36)
    same_moments(rn.visibility_mask(pairs, groups=groups), patches(0.4, 3))
    # Intensities read as counts of more and more photons are left as they are.
    bright = rn.thinning(0.3, 1e12, mean)
    same_moments(bright, rn.linear(0.7 * np.eye(SIZE)), 1e-9)


def _stretched():
    return rn.linear(np.eye(SIZE) + BASIS[:, :3] @ BASIS[:, :3].T)


def test_two_blocks_are_the_product_of_their_visibilities():
    block = rn.block_mask(2, SHAPE)
    _, pairs = block.visibility(jnp.float64)
    np.testing.assert_allclose(
        rn.chain(block, block).second_moment(SECOND), pairs**2 * SECOND, atol=1e-13
    )


def test_the_visibility_of_a_block_is_that_counted_over_its_places():
    for partial in (False, True):
        noise = rn.block_mask((3, 2), SHAPE, partial=partial)
        rows = range(-1, 5) if partial else range(4)
        columns = range(-1, 5) if partial else range(5)
        seen = []
        for i in rows:
            for j in columns:
                image = np.ones(SHAPE)
                image[max(i, 0) : max(i + 3, 0), max(j, 0) : max(j + 2, 0)] = 0
                seen.append(image.reshape(-1))
        single, pairs = noise.visibility(jnp.float64)
        np.testing.assert_allclose(single, np.mean(seen, 0), atol=1e-14)
        np.testing.assert_allclose(pairs, np.mean([np.outer(s, s) for s in seen], 0), atol=1e-14)


# Parameters


PARAMETERS = {
    "mask": lambda v: patches(v, 3, fill=0.1),
    "mixture": lambda v: rn.mixture(rn.gaussian(v), rn.shift(1, SHAPE), probabilities=[v, 1 - v]),
    "random": lambda v: rn.random_patch_mask((v, 0.8), 3, SHAPE, exact=True),
    "blur": lambda v: rn.blur(v, SHAPE),
    "speckle": rn.speckle,
    "flip": lambda v: rn.flip(v, SHAPE),
    "salt": lambda v: rn.salt_and_pepper(v, v, SHAPE),
    "thin": lambda v: rn.thinning(v, 3.0, MEAN_IMAGE),
    "chain": lambda v: rn.chain(rn.gaussian(v), patches(v, 2)),
    "operator": lambda v: rn.linear(v * np.eye(SIZE)),
    "components": lambda v: rn.pca_mask(v, BASIS),
}


@pytest.mark.parametrize("name", quick_first(PARAMETERS, list(PARAMETERS)[4:]))
def test_parameters_are_leaves_that_vmap_and_do_not_trace_again(name):
    noises = [PARAMETERS[name](value) for value in (0.2, 0.7)]
    chex.clear_trace_counter()

    @jax.jit
    @chex.assert_max_traces(n=1)
    def moments(noise):
        return noise.second_moment(SECOND)

    alone = [moments(noise) for noise in noises]
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *noises)
    together = jax.jit(jax.vmap(lambda noise: noise.second_moment(SECOND)))(stacked)
    np.testing.assert_allclose(together, np.stack(alone), atol=1e-12)
    assert not np.allclose(alone[0], alone[1])


def test_gradients_are_those_of_finite_differences():
    def variance(ratios):
        noise = patches(ratios, 3, fill=0.5)
        return jnp.sum(noise.second_moment(SECOND) ** 2)

    both = jax.jit(jax.value_and_grad(variance))
    ratios = np.array([0.1, 0.4, 0.6, 0.8])
    found = both(ratios)[1]
    for i in range(4):
        step = 1e-6 * np.eye(4)[i]
        slope = (float(both(ratios + step)[0]) - float(both(ratios - step)[0])) / 2e-6
        assert float(found[i]) == pytest.approx(slope, rel=1e-6)


# The solver


def problem_data():
    x, labels = oracle.dataset("unbalanced")
    return rj.moments(x, labels), *oracle.centered(x, labels)


def test_filled_masks_solve_the_problem_of_all_masks_written_out():
    moments, x, y = problem_data()
    groups = oracle.patch_groups(oracle.SHAPE, (2, 2))
    masks, chances = oracle.bernoulli_masks(4, 0.4)
    fill = np.linspace(-1, 1, oracle.FEATURES)
    noisy = oracle.Noisy(*(np.zeros((32, size)) for size in (32, 32, 4)))
    mean = np.zeros(32)
    for mask, chance in zip(masks[:, groups], chances, strict=True):
        drawn = x * mask + fill * (1 - mask)
        mean += chance * drawn.mean(0)
        parts = (drawn, x, y)
        for total, part in zip(noisy, parts, strict=True):
            total += chance * drawn.T @ part / len(x)
    noisy = noisy._replace(second=noisy.second - np.outer(mean, mean))
    problem = rj.problem(moments, rn.patch_mask(0.4, 2, oracle.SHAPE, fill=fill))
    for weight in (0.3, np.inf):
        expected = oracle.curves(x, y, noisy, weight)
        for readout in ("clean", "noisy"):
            found = rj.solve(problem, weight, readout=readout)
            np.testing.assert_allclose(
                found.supervised_loss, expected.supervised(readout), atol=1e-9
            )
            np.testing.assert_allclose(
                found.reconstruction_loss, expected.reconstruction, atol=1e-9
            )


def test_random_shifts_solve_the_problem_of_all_shifts_written_out():
    moments, x, y = problem_data()
    images = np.pad(x.reshape(-1, *oracle.SHAPE), ((0, 0), (1, 1), (1, 1), (0, 0)))
    parts = [
        images[:, i : i + 4, j : j + 4].reshape(len(x), -1) for i in range(3) for j in range(3)
    ]
    noisy = oracle.Noisy(
        *(
            sum(part.T @ (part if t is None else t) for part in parts) / 9 / len(x)
            for t in (None, x, y)
        )
    )
    problem = rj.problem(moments, rn.shift(1, oracle.SHAPE))
    expected = oracle.curves(x, y, noisy, 0.5)
    found = rj.solve(problem, 0.5)
    np.testing.assert_allclose(found.supervised_loss, expected.clean, atol=1e-9)
    np.testing.assert_allclose(found.reconstruction_loss, expected.reconstruction, atol=1e-9)


def test_no_gradient_step_betters_the_optimum_under_a_mixture_with_fills():
    moments, _, _ = problem_data()
    noise = rn.mixture(
        rn.patch_mask(0.5, 2, oracle.SHAPE, fill=0.8),
        rn.chain(rn.blur(0.6, oracle.SHAPE), rn.speckle(0.4)),
        probabilities=[0.6, 0.4],
    )
    problem = rj.problem(moments, noise)
    solution = rj.solve(problem, 0.7, readout="noisy")
    latent = 3
    optimum = solution.encoder[:, :latent], solution.head(latent), solution.decoder[:latent]

    def loss(weights):
        encoder, head, decoder = weights
        gram = encoder.T @ problem.noisy_second_moment @ encoder
        total = jnp.trace(problem.label_moment) + 0.7 * problem.input_variance
        for out, cross, factor in (
            (head, problem.noisy_label_moment, 1.0),
            (decoder, problem.noisy_input_moment, 0.7),
        ):
            fitted = jnp.sum((gram @ out) * out) - 2 * jnp.sum((encoder.T @ cross) * out)
            total = total + factor * fitted
        return total

    expected = solution.supervised_loss[latent - 1] + 0.7 * solution.reconstruction_loss[latent - 1]
    slope = jax.jit(jax.value_and_grad(loss))
    reached, slopes = slope(optimum)
    assert float(reached) == pytest.approx(float(expected), rel=1e-10)
    assert max(float(np.max(np.abs(part))) for part in slopes) < 1e-9
    weights = tuple(0.3 * np.random.default_rng(4).normal(size=part.shape) for part in optimum)
    for _ in range(3000):
        reached, slopes = slope(weights)
        weights = tuple(
            part - 0.02 * np.asarray(down) for part, down in zip(weights, slopes, strict=True)
        )
    assert float(expected) <= float(reached) <= 1.002 * float(expected)


@pytest.mark.parametrize("ratio", [0.3, 0.9])
def test_dropping_principal_components_alike_changes_nothing(ratio):
    moments, _, _ = problem_data()
    noise = rn.pca_mask(ratio, rj.spectrum(moments).eigenvectors)
    clean = rj.solve(rj.problem(moments), 0.4)
    swept = rj.sweep(moments, [[noise]], np.inf)
    plain = rj.solve(rj.problem(moments), np.inf)
    np.testing.assert_allclose(swept.r2[0, 0, 0], plain.r2, atol=1e-9)
    solved = rj.solve(rj.problem(moments, noise), np.inf)
    np.testing.assert_allclose(solved.r2, plain.r2, atol=1e-9)
    weighted = rj.solve(rj.problem(moments, noise), 0.4)
    np.testing.assert_allclose(weighted.r2, clean.r2, atol=1e-9)
    # Components dropped unalike do.
    other = rn.pca_mask(np.linspace(0.9, 0, 32), rj.spectrum(moments).eigenvectors)
    change = rj.solve(rj.problem(moments, other), np.inf).r2 - solved.r2
    assert float(jnp.max(jnp.abs(change))) > 0.01


# Bad input


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: patches(0.5, 3, fill=np.zeros(5)), r"fill: shape \(5,\); a scalar or 72 values"),
        (lambda: patches(0.5, 3, fill=np.nan), "fill: nan; it must be finite"),
        (lambda: patches(np.full(5, 0.5), 3), r"mask_ratio: shape \(5,\); a scalar or \(4,\)"),
        (lambda: rn.speckle(-1.0), "std: -1.0; it must be finite and >= 0"),
        (lambda: rn.colored_gaussian(1.0, -np.eye(3)), "smallest eigenvalue is -1"),
        (lambda: rn.colored_gaussian(1.0, np.ones((2, 3))), r"covariance: shape \(2, 3\)"),
        (lambda: rn.smooth_gaussian(1.0, 0.0, SHAPE), "length: 0.0; it must be finite and > 0"),
        (lambda: rn.thinning(0.5, 0.0, MEAN_IMAGE), "photons: 0.0; it must be finite and > 0"),
        (lambda: rn.thinning(0.5, 9.0, -MEAN_IMAGE), "intensities >= 0 are needed"),
        (lambda: rn.thinning(0.5, 9.0, MEAN_IMAGE, counts="?"), "counts: '\\?'; 'poisson' or"),
        (
            lambda: rn.chain(rn.gaussian(0.1), NOISES["poisson"]),
            "noises: thinning .* must come first",
        ),
        (
            lambda: rn.chain(rn.gaussian(0.1), rn.mixture(NOISES["poisson"], rn.identity())),
            "noises: thinning .* must come first",
        ),
        (lambda: rn.salt_and_pepper(0.1, -1.0, SHAPE), "amplitude: -1.0; it must be"),
        (lambda: rn.random_patch_mask((0.5, 0.3), 3, SHAPE), "high: 0.3; .* at least low = 0.5"),
        (lambda: rn.random_patch_mask((0.5, 1.0), 3, SHAPE), r"mask_ratio: 1.0; .* in \[0, 1\)"),
        (lambda: rn.random_patch_mask((0.5,), 3, SHAPE), r"mask_ratio: \(0.5,\); \(low, high\)"),
        (lambda: rn.Beta.of(0.0, 1.0), "a: 0.0; it must be finite and > 0"),
        (lambda: rn.block_mask((7, 1), SHAPE), r"window: \(7, 1\); .* to \(6, 6\)"),
        (lambda: rn.block_mask(6, SHAPE), "always drops the whole image"),
        (lambda: rn.mask_set([[0, 2]]), "masks: shape .* 0 .dropped. and 1 .kept."),
        (lambda: rn.mask_set([[0, 1]], [0.5]), "probabilities: .0.5.; they must be >= 0 and add"),
        (lambda: rn.mask_set([[0, 1]], [0.5, 0.5]), r"probabilities: shape \(2,\); \(1,\) is"),
        (lambda: rn.mask_set([[0, 1]], groups=[0, 0, 2]), r"groups: \(D,\) of 0 .. 1 is needed"),
        (lambda: rn.visibility_mask(np.ones((2, 3))), "visibility: shape"),
        (
            lambda: rn.visibility_mask([[0.5, 0.6], [0.6, 0.5]]),
            "visibility: 0.6 of groups 0 and 1, each kept with probability 0.5 and 0.5",
        ),
        (
            lambda: rn.visibility_mask(np.where(np.eye(4), 0.5, 0.0)),
            "not positive semi-definite; no mask has it",
        ),
        (lambda: rn.linear(np.ones((2, 3))), r"matrix: shape \(2, 3\)"),
        (lambda: rn.linear(np.full((2, 2), np.nan)), "matrix: NaN or inf"),
        (lambda: rn.blur(np.inf, SHAPE), "std: inf"),
        (lambda: rn.shift(6, SHAPE), "largest: 6; 0 .. 5 is allowed"),
        (lambda: rn.shift(0.5, SHAPE), "largest: 0.5; 0 .. 5 is allowed"),
        (lambda: rn.flip(1.5, SHAPE), r"probability: 1.5; it must be in \[0, 1\]"),
        (lambda: rn.crop((7, 7), SHAPE), r"window: \(7, 7\)"),
        (lambda: rn.crop(3, (24,)), r"image_shape: \(24,\)"),
        (lambda: rn.pca_mask(0.5, 2 * BASIS), "basis: columns are not orthonormal, off by 3"),
        (
            lambda: rn.in_basis(NOISES["blur"], BASIS[:, :5]),
            "made for 72 features; the basis has 5",
        ),
        (lambda: rn.mixture(), "noises: none"),
        (
            lambda: rn.mixture(rn.identity(), rn.identity(), probabilities=[1.1, -0.1]),
            "must be",
        ),
    ],
)
def test_bad_parameters_are_refused_in_one_line(make, match):
    with pytest.raises(ValueError, match=match) as caught:
        make()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["blur", "speckle", "principal components", "mixture", "thin"])
def test_inputs_of_another_size_are_refused(name):
    noise = NOISES.get(name, NOISES["poisson"])
    moments, _, _ = problem_data()
    if name == "speckle":  # takes any size
        assert noise.features is None
        rj.problem(moments, noise)
        return
    with pytest.raises(ValueError, match="noise: made for 72 features; the moments have 32"):
        rj.problem(moments, noise)
    with pytest.raises(ValueError, match="this noise was made for 72 features"):
        noise.sample(jax.random.key(0), jnp.zeros((2, 4, 4, 2)))


def test_a_visibility_that_no_gaussian_vector_has_is_not_drawn():
    # Exactly one of three: no two are ever kept together.
    noise = rn.visibility_mask(np.eye(3) / 3)
    same = rn.mask_set(np.eye(3))
    second = jnp.asarray(np.cov(RNG.normal(size=(3, 10))))
    np.testing.assert_allclose(noise.second_moment(second), same.second_moment(second), atol=1e-12)
    with pytest.raises(ValueError, match=r"no Gaussian vector has it.*mask_set"):
        noise.sample(jax.random.key(0), jnp.ones((2, 3)))


def test_fills_need_centered_moments():
    x, labels = oracle.dataset("plain")
    moments = rj.moments(x, labels, center=False)
    with pytest.raises(ValueError, match="centered moments are needed"):
        rj.problem(moments, rn.patch_mask(0.5, 2, oracle.SHAPE, fill=1.0))
    rj.problem(moments, rn.patch_mask(0.5, 2, oracle.SHAPE))
