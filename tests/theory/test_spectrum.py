"""The spectrum against NumPy's SVD on either side, its rank, and projections on its subspaces."""

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest

import reconjax as rj

DATA = ["plain", "short", "constant pixels", "low rank", "unbalanced"]
RANK = {"plain": 32, "short": 19, "constant pixels": 27, "low rank": 9, "unbalanced": 32}


def both_sides(images, labels):
    return rj.spectrum(rj.moments(images, labels)), rj.spectrum_from_samples(images, labels)


def projector(vectors):
    return vectors @ vectors.T


# The decomposition


@pytest.mark.parametrize("data", DATA)
def test_both_sides_are_the_svd_of_the_samples(data):
    images, labels = oracle.dataset(data)
    x, y = oracle.centered(images, labels)
    left, singular, right = np.linalg.svd(x, full_matrices=False)
    rank = RANK[data]
    for spectrum, size in zip(both_sides(images, labels), (32, min(x.shape)), strict=True):
        assert int(spectrum.rank) == rank
        assert spectrum.eigenvalues.shape == (size,)
        assert spectrum.eigenvectors.shape == (32, size)
        assert spectrum.labels.shape == (4, size)
        np.testing.assert_allclose(
            spectrum.eigenvalues[:rank], singular[:rank] ** 2 / len(x), rtol=1e-10
        )
        assert not np.any(spectrum.eigenvalues[rank:])
        assert not np.any(spectrum.labels[:, rank:])
        for k in (1, 3, rank):
            ours, theirs = spectrum.eigenvectors[:, :k], right[:k].T
            np.testing.assert_allclose(projector(ours), projector(theirs), atol=1e-9)
            coordinates = left[:, :k].T @ y / len(x) ** 0.5
            np.testing.assert_allclose(
                spectrum.labels[:, :k] @ ours.T, coordinates.T @ theirs.T, atol=1e-9
            )
        np.testing.assert_allclose(spectrum.label_moment, y.T @ y / len(y), atol=1e-12)
        np.testing.assert_allclose(spectrum.mean, images.reshape(len(x), -1).mean(0), rtol=1e-12)
        np.testing.assert_allclose(spectrum.mean_y, np.bincount(labels) / len(y), rtol=1e-12)
        assert (int(spectrum.samples), spectrum.features) == (len(x), 32)


@pytest.mark.parametrize("data", DATA)
def test_past_the_rank_are_a_null_space_or_zeros(data):
    d_side, n_side = both_sides(*oracle.dataset(data))
    np.testing.assert_allclose(d_side.eigenvectors.T @ d_side.eigenvectors, np.eye(32), atol=1e-12)
    if data == "short":
        assert n_side.eigenvalues.shape == (20,)
        assert not np.any(n_side.eigenvectors[:, 19:])


@pytest.mark.parametrize("data", ["plain", "short"])
def test_the_entry_of_largest_magnitude_is_positive(data):
    images, labels = oracle.dataset(data)
    for spectrum in both_sides(images, labels):
        vectors = np.asarray(spectrum.eigenvectors)[:, : RANK[data]]
        largest = np.argmax(np.abs(vectors), axis=0)
        assert np.all(vectors[largest, np.arange(RANK[data])] > 0)
    # So mirrored images have the same directions, and their labels' coordinates change sign.
    mirrored = rj.spectrum_from_samples(-images, labels)
    np.testing.assert_allclose(mirrored.eigenvectors, spectrum.eigenvectors, atol=1e-8)
    np.testing.assert_allclose(mirrored.labels, -spectrum.labels, atol=1e-8)


@pytest.mark.parametrize("data", DATA)
def test_both_sides_have_equal_curves(data):
    d_side, n_side = (rj.alignment(s) for s in both_sides(*oracle.dataset(data)))
    for name in ("alignment", "r2", "reconstruction_loss", "eigenvalues", "chance"):
        ours, theirs = getattr(d_side, name), getattr(n_side, name)
        assert ours.shape == theirs.shape == (32,)
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-10)


@pytest.mark.parametrize("data", DATA)
def test_float32_finds_the_same_rank_and_curves(float32, data):
    images, labels = oracle.dataset(data)
    x, _ = oracle.centered(images, labels)
    singular = np.linalg.svd(x, compute_uv=False)
    for spectrum in both_sides(images, labels):
        assert spectrum.eigenvectors.dtype == spectrum.labels.dtype == jnp.float32
        assert int(spectrum.rank) == RANK[data]
        values = singular[: RANK[data]] ** 2 / len(x)
        np.testing.assert_allclose(
            spectrum.eigenvalues[: RANK[data]], values, rtol=0, atol=1e-6 * values[0]
        )


def test_without_centering_the_mean_is_the_first_direction():
    images, labels = oracle.dataset("short")
    x = images.reshape(len(images), -1)
    singular = np.linalg.svd(x, compute_uv=False)
    sides = (
        rj.spectrum(rj.moments(images, labels, center=False)),
        rj.spectrum_from_samples(images, labels, center=False),
    )
    for spectrum in sides:
        np.testing.assert_allclose(spectrum.eigenvalues[:20], singular**2 / len(x), rtol=1e-9)
        assert not np.any(spectrum.mean)
        assert not np.any(spectrum.mean_y)


def test_real_targets_on_the_sample_side():
    images, labels = oracle.dataset("short")
    x, _ = oracle.centered(images, labels)
    y = np.random.default_rng(0).normal(size=(20, 3)) + 5
    left = np.linalg.svd(x, full_matrices=False)[0][:, :19]
    for spectrum in both_sides(images, y):
        gains = np.sum(((y - y.mean(0)).T @ left) ** 2, axis=0) / len(y)
        np.testing.assert_allclose(np.sum(spectrum.labels**2, axis=0)[:19], gains, atol=1e-10)


def test_a_rank_tolerance_cuts_directions_off():
    images, labels = oracle.dataset("plain")
    values = np.asarray(rj.spectrum(rj.moments(images, labels)).eigenvalues)
    tolerance = (values[9] + values[10]) / 2 / values[0]
    cut = rj.spectrum(rj.moments(images, labels), tolerance)
    assert int(cut.rank) == 10
    assert not np.any(cut.eigenvalues[10:])
    short = oracle.dataset("short")
    values = np.asarray(rj.spectrum_from_samples(*short).eigenvalues)
    tolerance = (values[4] + values[5]) / 2 / values[0]
    assert int(rj.spectrum_from_samples(*short, rank_tolerance=tolerance).rank) == 5


@pytest.mark.parametrize("side", ["N > D", "N < D"])
def test_samples_that_no_theorem_can_use_are_refused(side):
    images, labels = oracle.dataset("plain" if side == "N > D" else "short")
    holed = images.copy()
    holed[1, 2, 3, 0] = np.nan
    for x, y, match in (
        (holed, labels, "x: NaN or inf in 1 of 32 features"),
        (images, labels[:7], "y: 7 labels for"),
        (images, 0 * labels, "only class 0 occurs"),
        (images, labels - 1, "y: label -1"),
    ):
        with pytest.raises(ValueError, match=match):
            rj.spectrum_from_samples(x, y)


# Projections


@pytest.mark.parametrize("shape", [(4, 4, 2), (32,)], ids=["images", "vectors"])
@pytest.mark.parametrize("data", ["plain", "short"])
def test_projections_by_directions_are_those_of_numpy(data, shape):
    images, labels = oracle.dataset(data)
    x, _ = oracle.centered(images, labels)
    right = np.linalg.svd(x, full_matrices=False)[2]
    new = np.random.default_rng(1).normal(size=(5, 32))
    for spectrum in both_sides(images, labels):
        mean = np.asarray(spectrum.mean)
        for k in (0, 1, 6, 32):
            top = (new - mean) @ right[: min(k, RANK[data])].T @ right[: min(k, RANK[data])]
            found = rj.project(spectrum, new.reshape(5, *shape), directions=k)
            assert found.shape == (5, *shape)
            np.testing.assert_allclose(found.reshape(5, 32), top + mean, atol=1e-9)
            bare = rj.project(spectrum, new.reshape(5, *shape), directions=k, keep_mean=False)
            np.testing.assert_allclose(bare.reshape(5, 32), top, atol=1e-9)
            rest = max(RANK[data] - k, 0)
            lower = (new - mean) - (new - mean) @ right[:rest].T @ right[:rest]
            found = rj.project(spectrum, new, directions=k, subspace="bottom")
            np.testing.assert_allclose(found, lower + mean, atol=1e-9)


@pytest.mark.parametrize("variance", [0.0, 0.1, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("data", ["plain", "short", "constant pixels"])
def test_top_and_bottom_are_complements_and_idempotent(data, variance):
    images, labels = oracle.dataset(data)
    new = np.random.default_rng(1).normal(size=(7, 4, 4, 2))
    for spectrum in both_sides(images, labels):
        top = rj.project(spectrum, new, variance=variance)
        bottom = rj.project(spectrum, new, variance=1 - variance, subspace="bottom")
        mean = spectrum.mean.reshape(4, 4, 2)
        np.testing.assert_allclose(top + bottom - mean, new, atol=1e-12)
        again = rj.project(spectrum, top, variance=variance)
        np.testing.assert_allclose(again, top, atol=1e-9)
        again = rj.project(spectrum, bottom, variance=1 - variance, subspace="bottom")
        np.testing.assert_allclose(again, bottom, atol=1e-9)


@pytest.mark.parametrize("variance", [0.2, 0.7, 0.95])
def test_the_top_is_the_fewest_directions_that_explain_the_share(variance):
    images, labels = oracle.dataset("plain")
    x, _ = oracle.centered(images, labels)
    shares = np.cumsum(np.linalg.svd(x, compute_uv=False) ** 2) / np.sum(x**2)
    count = int(np.sum(shares < variance)) + 1
    for spectrum in both_sides(images, labels):
        found = rj.project(spectrum, images, variance=variance, keep_mean=False)
        kept = np.sum(np.asarray(found) ** 2) / np.sum(x**2)
        assert kept == pytest.approx(shares[count - 1], abs=1e-9)
        assert (shares[count - 2] if count > 1 else 0) < variance <= kept


def test_a_share_that_is_reached_exactly_needs_no_further_direction():
    # Two directions of exactly half the variance each.
    x = np.array([[1.0, 0], [-1, 0], [0, 1], [0, -1]])
    spectrum = rj.spectrum(rj.moments(x, np.arange(4), num_classes=4))
    for variance, count in ((0.5, 1), (0.25, 1), (0.6, 2), (1.0, 2), (0.0, 0)):
        found = rj.project(spectrum, x, variance=variance)
        assert np.linalg.matrix_rank(np.asarray(found)) == count


@pytest.mark.parametrize("data", ["plain", "short", "low rank"])
def test_all_and_none_of_the_variance(data):
    images, labels = oracle.dataset(data)
    for spectrum in both_sides(images, labels):
        mean = np.broadcast_to(spectrum.mean.reshape(4, 4, 2), images.shape)
        np.testing.assert_allclose(rj.project(spectrum, images, variance=1), images, atol=1e-9)
        np.testing.assert_allclose(rj.project(spectrum, images, variance=0), mean, atol=1e-12)
        whole = rj.project(spectrum, images, variance=1, subspace="bottom")
        np.testing.assert_allclose(whole, images, atol=1e-12)
        nothing = rj.project(spectrum, images, variance=0, subspace="bottom")
        np.testing.assert_allclose(nothing, mean, atol=1e-9)


def test_8_bit_images_are_scaled_before_the_projection():
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (50, 4, 4, 1), dtype=np.uint8)
    spectrum = rj.spectrum(rj.moments(pixels, np.arange(50) % 5))
    found = rj.project(spectrum, pixels, variance=0.5)
    assert found.dtype == jnp.float64
    np.testing.assert_allclose(found, rj.project(spectrum, pixels / 255, variance=0.5), atol=1e-12)
    np.testing.assert_allclose(rj.project(spectrum, pixels, variance=1), pixels / 255, atol=1e-12)


def test_standardized_spectra_project_in_the_units_of_the_inputs():
    images, labels = oracle.dataset("plain")
    spectrum = rj.spectrum(rj.standardized(rj.moments(images, labels)))
    x, _ = oracle.centered(images, labels)
    std = x.std(0)
    right = np.linalg.svd(x / std)[2][:5]
    expected = (x / std) @ right.T @ right * std + images.reshape(len(x), -1).mean(0)
    found = rj.project(spectrum, images.reshape(len(x), -1), directions=5)
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_projections_under_jit_and_vmap_over_the_share():
    images, labels = oracle.dataset("plain")
    spectrum = rj.spectrum(rj.moments(images, labels))
    shares = jnp.array([0.0, 0.3, 1.0])
    found = jax.jit(jax.vmap(lambda v: rj.project(spectrum, images, variance=v)))(shares)
    for row, share in zip(found, shares, strict=True):
        expected = rj.project(spectrum, images, variance=float(share))
        np.testing.assert_allclose(row, expected, atol=1e-12)


@pytest.mark.parametrize(
    ("shape", "options", "match"),
    [
        ((3, 31), {"variance": 0.5}, "x: 31 features; 32 are needed"),
        ((3, 4, 4, 3), {"variance": 0.5}, "x: 48 features; 32 are needed"),
        ((3, 32), {}, "variance, directions: exactly one of the two"),
        ((3, 32), {"variance": 0.5, "directions": 2}, "variance, directions: exactly one"),
        ((3, 32), {"variance": 1.01}, "variance: 1.01; 0 .. 1 is allowed"),
        ((3, 32), {"variance": -0.1}, "variance: -0.1; 0 .. 1 is allowed"),
        ((3, 32), {"variance": np.nan}, "variance: nan; 0 .. 1 is allowed"),
        ((3, 32), {"directions": 33}, "directions: 33; 0 .. 32 is allowed"),
        ((3, 32), {"directions": -1}, "directions: -1; 0 .. 32 is allowed"),
        ((3, 32), {"variance": 0.5, "subspace": "middle"}, "subspace: 'middle'; 'top' or"),
    ],
)
def test_projections_that_make_no_sense_are_refused(shape, options, match):
    spectrum = rj.spectrum(rj.moments(*oracle.dataset("plain")))
    with pytest.raises(ValueError, match=match):
        rj.project(spectrum, np.zeros(shape), **options)
