"""No curve is off by much more than it says: smooth float images, and a search for others."""

import jax
import numpy as np
import pytest
from scipy import ndimage

import reconjax as rj
from benchmarks.error_cases import Case, factors, r2, random_case, rank_of, smooth
from benchmarks.errors import MISS, measure

SLOW = pytest.mark.slow


def label_patch():
    """Float images of 16 x 16 in which one patch tells the class by a little."""
    labels = np.arange(60) % 3
    rng = np.random.default_rng(0)
    x = ndimage.gaussian_filter(rng.standard_normal((60, 16, 16)), (0, 3, 3)) * 10
    x[:, 4:8, 4:8] += 0.2 * labels[:, None, None]
    return x[..., None].astype("float32"), labels


def eight_bit():
    x = smooth(60, 16)
    return np.clip(128 + 40 * x / x.std(), 0, 255).astype(np.uint8), np.arange(60) % 2


def wide():
    rng = np.random.default_rng(0)
    x = ndimage.gaussian_filter(rng.standard_normal((240, 16, 128)), (0, 3, 3)) * 10.5
    return x[..., None].astype("float32"), np.arange(240) % 2


CASES = {
    "20 of 8 x 8": Case("", smooth(20, 8), np.arange(20) % 2),
    "60 of 16 x 16": Case("", smooth(60, 16), np.arange(60) % 2),
    "5000 of 16 x 16": Case("", smooth(5000, 16), np.arange(5000) % 2),
    "a patch that tells the class": Case("", *label_patch()),
    "8 bit": Case("", *eight_bit(), precision="mixed"),
    "float32": Case("", smooth(20, 8), np.arange(20) % 2, precision="float32"),
}
# At ratio 0, from the singular value decomposition of the centered images: K and r2.
RIGHT = {
    "20 of 8 x 8": {16: 0.8516, 19: 1.0},
    "60 of 16 x 16": {54: 0.8773, 59: 1.0},
    "a patch that tells the class": {57: 0.9684, 59: 1.0},
}


def curves(case, found):
    """(R, D) what the sweep gives, states as its error, and is true, at λ = inf."""
    stated = np.broadcast_to(np.asarray(found.error, float), found.r2.shape)
    truth = np.array([r2(case, s, np.inf) for s in case.strengths])
    return np.asarray(found.r2, float)[0, :, 0], stated[0, :, 0], truth


QUICK = ("20 of 8 x 8", "a patch that tells the class", "float32")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else SLOW) for name in CASES]
)
def test_smooth_images(name):
    case = CASES[name]
    found = case.solved()
    given, stated, truth = curves(case, found)
    assert np.all(np.abs(given - truth) < MISS * stated)
    spectrum = rj.spectrum(rj.moments(case.x, case.y))
    if case.precision == "float32":
        # What float32 hides shows in the stated error, not as a curve that ends.
        assert int(found.rank) < int(spectrum.rank)
        assert stated[0, -1] > 0.1
        return
    assert int(found.rank) == int(spectrum.rank) <= len(case.x) - 1
    alignment = np.asarray(rj.alignment(spectrum).r2)
    # Both are off by rounding, each in its own way, and what is stated is an estimate.
    rounding = 1e-9 if case.precision == "float64" else 0.1
    assert np.all(np.abs(given[0] - alignment) <= rounding + MISS * stated[0])
    for latent_dim, value in RIGHT.get(name, {}).items():
        assert truth[0, latent_dim - 1] == pytest.approx(value, abs=5e-5)
        assert given[0, latent_dim - 1] == pytest.approx(value, abs=5e-5)
    if name == "8 bit":
        # Right and sure at small K, unsure where float32 mixes directions.
        assert np.max(stated[:, :16]) < 1e-4
        assert stated[0, 53] > 1e-3


@SLOW
def test_exact_masks_of_wide_float_images():
    case = Case("", *wide(), noise="exact mask", patch=(4, 32))
    found = case.solved()
    given, stated, truth = curves(case, found)
    # By the singular values of the stacked factors, without squaring anything.
    assert truth[1, 31] == pytest.approx(0.1411, abs=5e-5)
    assert 1e-6 < stated[1, 31] < 1e-2
    assert np.all(np.abs(given - truth) < MISS * stated)
    assert int(found.rank) == 239


def test_the_rank_is_that_of_the_samples_with_prescribed_spectra():
    rng = np.random.default_rng(1)
    waves = np.cos(np.pi * np.outer(np.arange(16) + 0.5, np.arange(16)) / 16)
    for lowest in (1e-4, 1e-10, 1e-12):
        codes = rng.normal(size=(60, 16))
        codes = np.linalg.qr(codes - codes.mean(axis=0))[0] * np.sqrt(60)
        x = (codes * np.sqrt(np.logspace(0, np.log10(lowest), 16)) @ waves.T).reshape(-1, 4, 4, 1)
        for patch in ((2, 2), (4, 4)):
            case = Case("", x, np.arange(60) % 3, patch=patch, strengths=(0.0, 0.5, 0.9))
            found = case.solved()
            given, stated, truth = curves(case, found)
            assert int(found.rank) == rank_of(factors(case)[0]) == 16
            assert np.all(np.abs(given - truth) < MISS * stated)


def test_float32_moments_of_smooth_images_are_right_as_far_as_they_say(float32):
    case = CASES["float32"]._replace(precision="as moments")
    found = case.solved()
    assert found.r2.dtype == np.float32
    given, stated, truth = curves(case, found)
    assert np.all(np.abs(given - truth) < MISS * stated)
    assert np.max(given) > 0.5


SMALL = {"shapes": ((4, 4, 1),), "precisions": ("float64",), "noises": ("mask",)}


def check(cases):
    """Fails with the cases that were missed, each by what makes it again."""
    rows = [measure(case) for case in cases]
    missed = [row for row in rows if not row["ratio"] <= MISS]
    assert not missed, "\n".join(str(row) for row in missed)


def test_a_small_search_finds_no_curve_that_is_off_by_more_than_it_says():
    check(random_case(seed, readouts=("clean",), **SMALL) for seed in range(15))


# Problems that an earlier estimate missed by more than 10 times: directions below a gap in the
# spectrum, which neither of two cut-offs saw, and whitening that left out what was there.
@pytest.mark.parametrize(
    "seed", [220, 337, 484, 529, *(pytest.param(seed, marks=SLOW) for seed in (249, 326, 11))]
)
def test_what_rounding_hides_is_in_the_estimate(seed):
    check([random_case(seed)])


@pytest.mark.slow
def test_a_subspace_states_what_it_misses_of_smooth_images():
    """Also where labels count for most and depend on directions of little variance."""
    rng = np.random.default_rng(0)
    reduced = []
    for reach in (0.7, 0.9):
        x = ndimage.gaussian_filter(rng.standard_normal((2000, 16, 16)), (0, reach, reach))[
            ..., None
        ]
        y = np.digitize(x[:, 8, 8, 0] - x[:, 2, 3, 0], [-0.1, 0.1])
        moments, dims = rj.moments(x, y), np.arange(1, 17)
        grid = rj.mask_grid((16, 16, 1), [2, (16, 8)], [0.0, 0.05, 0.5, 0.75, 0.9])
        weights = [1e-3, np.inf]
        full = rj.sweep(moments, grid, weights, dims)
        leading = rj.sweep(moments, grid, weights, dims, tolerance=1e-2)
        reduced += list(np.asarray(leading.reduced))
        assert np.all(np.abs(leading.r2 - full.r2) < MISS * leading.error)
    assert sum(reduced) >= 2


@SLOW
@pytest.mark.parametrize("start", range(0, 400, 20))
def test_a_large_search_finds_none(start):
    check(random_case(seed) for seed in range(start, start + 20))
    jax.clear_caches()


def test_an_estimate_that_is_too_small_is_found(monkeypatch):
    """The search itself: an error that is stated as 0 is a miss."""
    case = random_case(0, readouts=("clean",), **SMALL)
    found = case.solved()
    wrong = found._replace(r2=found.r2 + 1e-3)
    monkeypatch.setattr(Case, "solved", lambda self: wrong)
    assert measure(case)["ratio"] > MISS
