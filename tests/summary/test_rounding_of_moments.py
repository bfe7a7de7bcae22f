"""What rounding leaves of moments, compiled as for users: digits, and sums that are exact."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from definition import assert_moments, data, expected

import reconjax as rj
from reconjax.summary.exact_sums import ExactSums


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_data_far_from_zero_lose_no_digits_to_their_mean(dtype):
    # A mean of 1e4 standard deviations: E[x²] - E[x]² would lose 8 digits, all of float32's.
    x, labels = data(samples=300)
    shifted = (x / x.std(0) + 1e4).astype(dtype)
    tolerance = 1e-5 if dtype == np.float32 else 1e-11
    wanted = expected(shifted, labels)
    assert_moments(rj.moments(shifted, labels), wanted, tolerance)
    batches = [(shifted[i : i + 70], labels[i : i + 70]) for i in range(0, 300, 70)]
    found = rj.moments_from_batches(batches, num_classes=3)
    # The means of the batches, 1e4, are kept in the dtype itself.
    assert_moments(found, wanted, 1e4 * float(jnp.finfo(dtype).eps))
    assert np.min(np.linalg.eigvalsh(found.second_moment)) > 0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("mean", [0.0, 1e4], ids=["centered", "far"])
def test_digits_do_not_get_lost_as_batches_add_up(dtype, mean):
    # Plain merging is off by 5e-6 after 4096 batches in float32, and by 3e-4 with the mean.
    rng = np.random.default_rng(0)
    scales = np.geomspace(1e-3, 1e3, 12)
    x = rng.normal(size=(2048 * 16, 12)) @ rng.normal(size=(12, 12))
    x = ((x / x.std(0) + mean) * scales).astype(dtype)
    labels = np.arange(len(x)) % 3
    # Sorted by the first feature: the first batches tell little of the rest.
    x = x[np.argsort(x[:, 0])]
    batches = ((x[i : i + 16], labels[i : i + 16]) for i in range(0, len(x), 16))
    found = rj.moments_from_batches(batches, num_classes=3, dtype=dtype)
    # The reference in long double: NumPy's sums in float64 err by more than what is asked for.
    wide, onehot = x.astype(np.longdouble), np.eye(3)[labels]
    mean_x = wide.sum(axis=0) / len(x)
    wide = (wide - mean_x).astype(np.float64)
    second = wide.T @ wide / len(x)
    std = np.sqrt(np.diagonal(second))
    eps = float(np.finfo(dtype).eps)
    found = jax.tree.map(np.asarray, found)
    error = np.abs(found.second_moment - second) / np.outer(std, std)
    assert np.max(error) < 8 * eps * (1 if dtype == np.float32 else 4)
    cross = np.abs(found.cross_moment - wide.T @ (onehot - 1 / 3) / len(x)) / std[:, None]
    assert np.max(cross) < 100 * eps
    assert np.max(np.abs(found.mean_x - mean_x) / (np.abs(mean_x) + std)) < 4 * eps


@pytest.mark.parametrize(
    "features", [383, 384, *(pytest.param(n, marks=pytest.mark.slow) for n in (1000, 2000))]
)
def test_halves_of_products_make_the_whole(features):
    # From 384 features on the matrix is made of panels; past 1536 there are 8.
    rng = np.random.default_rng(0)
    x, labels = rng.normal(size=(30, features)), np.arange(30) % 3
    found = rj.moments(x, labels)
    assert_moments(found, expected(x, labels))
    np.testing.assert_array_equal(found.second_moment, found.second_moment.T)
    pixels = rng.integers(0, 256, (30, features), dtype=np.uint8)
    found = rj.moments(pixels, labels)
    assert_moments(found, expected(pixels / 255, labels))
    np.testing.assert_array_equal(found.second_moment, found.second_moment.T)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_standardized_moments_are_those_of_standardized_data(dtype):
    x, labels = data(samples=200)
    x = (x * np.geomspace(1e-3, 1e3, 12)).astype(dtype)
    x[:, 4] = 0.1  # not a binary fraction: its mean is rounded
    x[:, 5] = 0.0
    varies = np.delete(np.arange(12), [4, 5])
    std = np.ones(12)
    std[varies] = x[:, varies].astype(np.float64).std(0)
    found = rj.standardized(rj.moments(x, labels))
    tolerance = 1e-12 if dtype == np.float64 else 1e-5
    np.testing.assert_allclose(found.scale, std, rtol=tolerance)
    wanted = expected(x / std, labels) | {"mean_x": x.astype(np.float64).mean(0)}
    assert_moments(found, wanted, tolerance)
    np.testing.assert_allclose(np.diagonal(found.second_moment)[varies], 1, rtol=1e-6)
    twice = rj.standardized(found)
    np.testing.assert_allclose(twice.scale, found.scale, rtol=1e-6)


# Exact sums of 8-bit images


def test_sums_of_8_bit_images_are_exact():
    # 3000 samples of extreme pixels: sums of up to 3000 · 128², over several blocks.
    rng = np.random.default_rng(0)
    x = rng.choice(np.array([0, 1, 127, 128, 254, 255], np.uint8), (3000, 5))
    labels = rng.integers(0, 3, 3000)
    sums = ExactSums(5, 3)
    sums.add(x[:1025], labels[:1025], np.ones(1025))
    sums.add(x[1025:], labels[1025:], np.ones(1975))
    rows = [
        [int(v) - 128 for v in row] + [int(k == label) for k in range(3)]
        for row, label in zip(x, labels, strict=True)
    ]
    gram = [[sum(row[i] * row[j] for row in rows) for j in range(8)] for i in range(8)]
    found_gram, found_sums = sums.totals()
    assert found_gram.tolist() == gram
    assert found_sums.tolist() == [sum(row[i] for row in rows) for i in range(8)]
    # The moments: one rounding of each quotient, so almost all of float64's digits.
    found = rj.moments(x, labels)
    for i in range(5):
        for j in range(5):
            exact = gram[i][j] * 3000 - int(found_sums[i]) * int(found_sums[j])
            value = exact / (3000**2 * 255**2)
            assert math.isclose(found.second_moment[i, j], value, rel_tol=1e-12, abs_tol=1e-15)


def test_constant_8_bit_pixels_have_no_variance():
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (1000, 4, 4, 1), dtype=np.uint8)
    x[:, 1, 1] = 77
    found = rj.moments(x, np.arange(1000) % 7, dtype=np.float32)
    assert found.second_moment[5, 5] == 0
    assert np.max(np.abs(found.second_moment[5])) < 1e-16
    assert np.max(np.abs(found.cross_moment[5])) < 1e-16


def test_padding_and_sizes_of_exact_sums():
    sums = ExactSums(2, 2)
    x, y = np.array([[255, 0], [9, 9]], np.uint8), np.array([1, 0])
    sums.add(x, y, np.array([1, 0]))
    assert sums.samples == 1
    assert sums.totals()[1].tolist() == [127, -128, 0, 1]
    with pytest.raises(ValueError, match="one of 3 features after 2"):
        sums.add(np.zeros((2, 3), np.uint8), y, np.ones(2))
    with pytest.raises(ValueError, match=r"one of 65537; at most 65536 are allowed"):
        sums.add(np.zeros((2**16 + 1, 2), np.uint8), np.zeros(2**16 + 1), np.ones(2**16 + 1))


def test_exact_sums_outlast_int32():
    # 3 · 2^16 samples of pixels 0 and 255: their sums of products pass 2^31.
    samples = 2**16
    x = np.zeros((samples, 2), np.uint8)
    x[::2, 1] = 255
    sums = ExactSums(2, 1)
    for _ in range(3):
        sums.add(x, np.zeros(samples, np.int32), np.ones(samples))
    sums.add(x[:10], np.zeros(10, np.int32), np.ones(10))
    gram, total = sums.totals()
    odd = even = 3 * samples // 2 + 5
    assert gram[0, 0] == (odd + even) * 128**2 > 2**31
    assert gram[1, 1] == even * 127**2 + odd * 128**2
    assert gram[0, 1] == gram[1, 0] == -128 * (127 * even - 128 * odd)
    assert total.tolist() == [-128 * 2 * odd, 127 * even - 128 * odd, 2 * odd]
    assert gram[2].tolist() == total.tolist()


def test_panels_of_sums_are_exact():
    # 450 columns: 2 panels. The extremes of pixels in blocks that float32 just holds exactly.
    rng = np.random.default_rng(0)
    x = rng.choice(np.array([0, 1, 254, 255], np.uint8), (2500, 447))
    labels = rng.integers(0, 3, 2500)
    one, two = ExactSums(447, 3), ExactSums(447, 3)
    present = np.ones(2500)
    present[2000:] = 0  # padding
    one.add(x, labels, present)
    two.add(x[2000:], labels[2000:], np.ones(500))
    one.merge(two)
    rows = np.concatenate([x.astype(np.int64) - 128, np.eye(3, dtype=np.int64)[labels]], axis=1)
    gram, total = one.totals()
    np.testing.assert_array_equal(gram, rows.T @ rows)
    np.testing.assert_array_equal(total, rows.sum(axis=0))
    assert one.samples == 2500
