"""E = A B⁺ Aᵀ by groups of columns: its limits, the noise of single values, and what it reads."""

import jax
import numpy as np
import oracle
import pytest

import reconjax as rj
from benchmarks.error_cases import Case, error_and_estimate, r2, smooth
from benchmarks.errors import MISS

SHAPE, CLASSES = oracle.SHAPE, oracle.CLASSES
# The oracle in float64 is itself off on smooth images: by 6e-10 against 40 digits for 20 images, by
# 4e-9 for 60 with patches of 8 x 8, where the curve is known (below).
ORACLE = 1e-8


@pytest.mark.slow
def test_patches_as_wide_as_there_are_samples_change_nothing():
    """Each projector is the identity on centered samples: the encoder is that of PCA, exactly."""
    case = Case("", smooth(60, 16), np.arange(60) % 3, patch=(8, 8), strengths=(0.5, 0.9))
    found = case._replace(side="samples").solved()
    error = np.abs(np.asarray(found.r2)[0, :, 0] - r2(case, 0.0, np.inf))
    assert np.all(error <= MISS * np.asarray(found.error)[0, :, 0])
    assert np.max(error) < 1e-6


@pytest.mark.parametrize("count", [20, pytest.param(200, marks=pytest.mark.slow)])
def test_nearly_dependent_columns_are_right_as_far_as_the_error_says(count):
    size = 8 if count == 20 else 16
    x = smooth(count, size)
    columns = x[:, :4, :4].reshape(count, -1).astype(float)
    assert np.linalg.cond(columns - columns.mean(0)) > 1e7  # else the test is too easy
    case = Case("", x, np.arange(count) % 3, strengths=(0.0, 0.5, 0.9), side="samples")
    error, stated = error_and_estimate(case)
    assert np.all(error <= MISS * stated + ORACLE)
    if count == 20:
        assert np.max(error) < 1e-6
        assert np.max(stated) < 0.01  # nor is a large estimate a refuge
    else:
        # Variances below the rounding of the largest are lost with A Aᵀ, and that is said.
        assert np.max(error) > 0.1


def test_salt_and_pepper_of_values_is_that_of_dense_algebra():
    (x, labels), (new, new_labels) = oracle.dataset("short"), oracle.dataset("full", seed=1)
    data = rj.grid.samples(x, labels, test=(new, new_labels), num_classes=CLASSES)
    ratio, amplitude = 0.4, 0.7
    noise = rj.noise.salt_and_pepper(ratio, amplitude, SHAPE)
    found = rj.grid.sweep_samples(data, [[noise]])
    flat, y = oracle.centered(x, labels)
    clean, keep = oracle.noiseless(flat, y), 1 - ratio
    own = keep * np.diag(clean.second) + ratio * amplitude**2
    second = keep**2 * clean.second
    np.fill_diagonal(second, own)
    noisy = oracle.Noisy(second, keep * clean.inputs, keep * clean.labels)
    vectors = oracle.encoder(noisy, np.inf)
    new = new.reshape(len(new), -1) - x.reshape(len(x), -1).mean(0)
    new_y = np.eye(CLASSES)[new_labels] - np.eye(CLASSES)[labels].mean(0)
    expected = oracle.curves(flat, y, noisy, np.inf)
    for name, curve in (
        ("supervised", expected.clean),
        ("reconstruction", expected.reconstruction),
    ):
        given = getattr(found, f"{name}_loss")[0, 0, 0]
        np.testing.assert_allclose(given, curve[: len(x)], rtol=0, atol=1e-8)
    for k in (1, 5, 12, 19):
        head = np.linalg.lstsq(flat @ vectors[:, :k], y)[0]
        left = np.sum((new @ vectors[:, :k] @ head - new_y) ** 2) / np.sum(new_y**2)
        assert float(found.held_out[0, 0, 0, k - 1]) == pytest.approx(1 - left, abs=1e-8)


def test_noise_that_fills_patches_is_refused():
    data = rj.grid.samples(*oracle.dataset("short"), num_classes=CLASSES)
    filled = rj.noise.salt_and_pepper(0.5, 1.0, SHAPE, share_channels=True)
    with pytest.raises(ValueError, match=r"noises: masks that fill patches.*--resize"):
        rj.grid.sweep_samples(data, [[filled]])


def test_memory_mapped_bytes_are_read_as_they_lie(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (20, *SHAPE), dtype=np.uint8)
    np.save(tmp_path / "x.npy", images)
    y, mapped = np.arange(20) % CLASSES, np.load(tmp_path / "x.npy", mmap_mode="r")
    grid = rj.mask_grid(SHAPE, [2], [0.0, 0.5])
    data = rj.grid.samples(mapped, y, test=(mapped[::2], y[::2]), num_classes=CLASSES)
    assert data.rows.train.dtype == np.uint8
    assert np.shares_memory(data.rows.train, mapped)
    whole = rj.grid.samples(images / 255, y, test=(images[::2] / 255, y[::2]), num_classes=CLASSES)
    given, expected = (rj.grid.sweep_samples(part, grid) for part in (data, whole))
    for one, other in zip(jax.tree.leaves(given[2:6]), jax.tree.leaves(expected[2:6]), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-9)
    np.testing.assert_allclose(given.held_out, expected.held_out, rtol=0, atol=1e-8)
