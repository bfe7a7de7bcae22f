"""Input that was misread or passed unseen: exponents, whole numbers of NumPy, sizes that differ."""

import numpy as np
import pytest

import reconjax as rj
from reconjax import noise as rn

SHAPE = (4, 4, 1)


@pytest.mark.parametrize(
    ("text", "stds"),
    [
        ("gaussian:1e+1", [10.0]),
        ("gaussian:2.5E+0+gaussian:1e-1", [2.5, 0.1]),
        ("gaussian:1e+0+gaussian:.5e+1", [1.0, 5.0]),
        ("gaussian:1+gaussian:2", [1.0, 2.0]),
    ],
)
def test_the_sign_of_an_exponent_chains_nothing(text, stds):
    noise = rj.parse_noise(text, SHAPE)
    parts = noise.noises if len(stds) > 1 else [noise]
    assert [float(part.std) for part in parts] == stds


def test_exponents_in_ranges_and_weights():
    ratios = rj.parse_noise("random-mask:1e-1-5e-1:2x2", SHAPE).visibility(float)[0]
    np.testing.assert_allclose(np.unique(ratios), 1 - 0.3)
    mixture = rj.parse_noise("2e-1*flip|8e-1*identity", SHAPE)
    np.testing.assert_allclose(mixture.probabilities, [0.2, 0.8])
    mixture = rj.parse_noise("0e+0*flip|1e+0*identity", SHAPE)
    np.testing.assert_array_equal(mixture.probabilities, [0, 1])


@pytest.mark.parametrize("patch", [np.int64(2), np.array(2), (np.int32(2), np.int64(2))])
def test_patches_of_numpy_numbers(patch):
    moment = np.eye(16) + 0.5
    expected = rn.patch_mask(0.5, 2, SHAPE).second_moment(moment)
    np.testing.assert_array_equal(rn.patch_mask(0.5, patch, SHAPE).second_moment(moment), expected)
    np.testing.assert_array_equal(rn.patch_groups(patch, SHAPE), rn.patch_groups(2, SHAPE))


@pytest.mark.parametrize("patch", [2.5, (2, 2.0), "2x2"])
def test_patches_that_are_no_whole_pixels(patch):
    with pytest.raises(ValueError, match=r"patch_shape: .* whole"):
        rn.patch_mask(0.5, patch, SHAPE)


def test_chains_and_mixtures_of_nothing_or_of_other_sizes():
    small, large = rn.patch_mask(0.5, 2, SHAPE), rn.pixel_dropout(0.5, (64,))
    for make in (rn.chain, rn.mixture):
        with pytest.raises(ValueError, match="noises: none"):
            make()
        for noises in (
            (small, large),
            (rn.gaussian(0.1), rn.chain(small, rn.flip(0.5, SHAPE))),
        ):
            if noises[1] is large:
                with pytest.raises(ValueError, match="made for 16 and 64 features"):
                    make(*noises)
            else:  # of one size, and of none
                assert make(*noises).features == 16
