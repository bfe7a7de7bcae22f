"""Sequences, volumes and clips: masks and operators along the axes that are there."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reconjax import noise as rn

VOLUME = (2, 4, 3, 2)
SEQUENCE = (6, 1, 2)
RNG = np.random.default_rng(0)


def moment(features):
    root = RNG.normal(size=(features, features))
    return jnp.asarray(root @ root.T / features)


def groups_by_hand(shape, sides):
    """The patch of every value by counting places."""
    numbers = {}
    groups = np.zeros(shape, int)
    for place in itertools.product(*map(range, shape)):
        patch = tuple(at // side for at, side in zip(place, sides, strict=False))
        groups[place] = numbers.setdefault(patch, len(numbers))
    return groups.reshape(-1)


@pytest.mark.parametrize(
    ("text", "shape", "sides"),
    [
        ("1x2x3", VOLUME, (1, 2, 3)),
        ("2x*x1", VOLUME, (2, 4, 1)),
        ("1", VOLUME, (1, 1, 1)),
        ("3", SEQUENCE, (3, 1)),
        ("2x*", SEQUENCE, (2, 1)),
        ("1x*", (4, 6, 3), (1, 6)),
        ("*x2", (4, 6, 3), (4, 2)),
        ("4", (4, 1, 3), (4, 1)),
    ],
)
def test_patches_have_a_side_for_each_axis(text, shape, sides):
    noise = rn.parse_noise(f"mask:0.75:{text}", shape)
    np.testing.assert_array_equal(noise.groups, groups_by_hand(shape, sides))
    named = rn.noise_text(noise, shape)
    np.testing.assert_array_equal(rn.parse_noise(named, shape).groups, noise.groups)


@pytest.mark.parametrize("shape", [VOLUME, SEQUENCE])
@pytest.mark.parametrize(
    "text", ["blur:0.8", "shift:1", "flip:0.3", "vflip:0.3", "tflip:0.3", "crop:{}", "block:{}"]
)
def test_moments_of_operators_are_those_of_their_draws(text, shape):
    window = {4: "1x3x2", 3: "4x1"}[len(shape)]
    if len(shape) == 3 and text.startswith("vflip"):
        text = "tflip:0.3"
    noise = rn.parse_noise(text.format(window), shape)
    size = int(np.prod(shape))
    x = np.asarray(jnp.linalg.cholesky(moment(size)).T * np.sqrt(size))  # moments exactly M
    exact = noise.second_moment(jnp.asarray(x.T @ x / size))
    draws = 1500 if text[0] != "b" or "block" in text else 1
    keys = jax.random.split(jax.random.key(0), draws)
    drawn = jax.jit(jax.vmap(lambda key: noise.sample(key, jnp.asarray(x))))(keys)
    sampled = np.einsum("bni,bnj->ij", drawn, drawn) / (draws * size)
    scale = float(jnp.max(jnp.abs(exact)))
    tolerance = 1e-9 if draws == 1 else 0.06
    np.testing.assert_allclose(sampled / scale, exact / scale, atol=tolerance)
    mean = noise.mean(jnp.asarray(x.T))
    np.testing.assert_allclose(
        np.mean(drawn, axis=0), np.asarray(mean).T, atol=1e-9 if draws == 1 else 0.35
    )
    # Images with their axes are taken too.
    images = noise.sample(keys[0], jnp.asarray(x).reshape(-1, *shape))
    np.testing.assert_array_equal(images.reshape(x.shape), noise.sample(keys[0], jnp.asarray(x)))


def test_an_operator_on_a_volume_is_that_of_its_axes_one_by_one():
    x = jnp.asarray(RNG.normal(size=(5, *VOLUME)))
    turned = rn.flip(1.0, VOLUME, axis=0).sample(jax.random.key(0), x)
    np.testing.assert_array_equal(turned, x[:, ::-1])
    whole = rn.blur(0.7, VOLUME).sample(jax.random.key(0), x)
    slices = rn.blur(0.7, VOLUME[1:]).sample(jax.random.key(0), x.reshape(-1, *VOLUME[1:]))
    depth = rn.blur(0.7, (2, 1, 24)).sample(jax.random.key(0), slices.reshape(5, 2, 1, 24))
    np.testing.assert_allclose(whole.reshape(-1), depth.reshape(-1), atol=1e-12)


def test_a_sequence_is_shifted_and_cropped_in_time_alone():
    x = jnp.asarray(RNG.normal(size=(1, *SEQUENCE)))
    for key in jax.random.split(jax.random.key(1), 6):
        shifted = np.asarray(rn.shift(2, SEQUENCE, wrap=True).sample(key, x))
        steps = [np.array_equal(shifted, np.roll(x, by, axis=1)) for by in range(-2, 3)]
        assert sum(steps) == 1


def test_smooth_noise_is_correlated_along_every_axis():
    noise = rn.smooth_gaussian(1.0, 1.5, VOLUME)
    covariance = np.asarray(noise.second_moment(jnp.zeros((48, 48)))).reshape(*VOLUME, *VOLUME)
    at = [0, 0, 0, 0]
    for axis in range(3):
        other = list(at)
        other[axis] = 1
        np.testing.assert_allclose(covariance[(*at, *other)], np.exp(-1 / (2 * 1.5**2)))
    assert covariance[0, 0, 0, 0, 0, 0, 0, 1] == 0


@pytest.mark.parametrize(
    ("text", "shape", "part"),
    [
        ("mask:0.5:2x2", VOLUME, "(depth, height, width) from (1, 1, 1) to (2, 4, 3)"),
        ("mask:0.5:2x2x2", (4, 4, 1), "(height, width) from (1, 1) to (4, 4)"),
        ("mask:0.5:2x3x3", VOLUME, "2x3x3 does not divide the 2x4x3 image"),
        ("mask:0.5:4", (8,), "sequences (T, 1, C)"),
        ("mask:0.5:2xx2", VOLUME, "PATCH is HEIGHTxWIDTH or one number, * for a whole axis"),
        ("shift:2", VOLUME, "largest: 2.0; 0 .. 1 is allowed"),
        ("crop:7", SEQUENCE, "(height, width) from (1, 1) to (6, 1)"),
    ],
)
def test_patches_of_other_axes_are_refused_in_a_line(text, shape, part):
    with pytest.raises(ValueError) as caught:
        rn.parse_noise(text, shape)
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_named_groups_of_a_vector_are_dropped_together():
    groups = ["b", "a", "b", "c", "a"]
    noise = rn.group_mask(0.3, groups)
    same = np.asarray(groups)[:, None] == np.asarray(groups)
    second = moment(5)
    expected = np.where(same, 0.7, 0.49) * second
    np.testing.assert_allclose(noise.second_moment(second), expected, atol=1e-12)
    drawn = np.asarray(noise.sample(jax.random.key(0), jnp.ones((50, 5))))
    np.testing.assert_array_equal(drawn[:, 0], drawn[:, 2])
    np.testing.assert_array_equal(drawn[:, 1], drawn[:, 4])
    each = rn.group_mask([0.0, 0.5, 0.9], groups)  # a is kept
    np.testing.assert_allclose(each.mean(jnp.eye(5)).diagonal(), [0.5, 1, 0.5, 0.1, 1])
    for wrong in ([], [["a"]]):
        with pytest.raises(ValueError, match=r"groups: shape .*; \(D,\) a name for each feature"):
            rn.group_mask(0.5, wrong)
