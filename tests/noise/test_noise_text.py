"""Noises by name: every form, its way back, and what is said of a text that names none."""

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest

import reconjax as rj
from reconjax import noise as rn
from reconjax.noise import text as noise_module

SHAPE = (4, 4, 2)
MEAN = np.linspace(0.1, 0.9, 32)


def moments():
    x, labels = oracle.dataset("plain")
    return rj.moments(x - x.min(), labels)  # intensities


MOMENTS = moments()
RAW = np.asarray(MOMENTS.mean_x)

FORMS = {
    "identity": rn.identity(),
    "gaussian:0.5": rn.gaussian(0.5),
    "colored:0.5:1.5": rn.smooth_gaussian(0.5, 1.5, SHAPE),
    "speckle:0.2": rn.speckle(0.2),
    "thin:0.5": rn.thinning(0.5, 255.0, RAW),
    "thin:0.25:9": rn.thinning(0.25, 9.0, RAW),
    "mask:0.75:2x4": rn.patch_mask(0.75, (2, 4), SHAPE),
    "mask:0.75:2": rn.patch_mask(0.75, 2, SHAPE),
    "mask:0.75:3x3:partial": rn.patch_mask(0.75, 3, SHAPE, partial=True),
    "exact:0.5:3:partial:fill=0.5": rn.exact_patch_mask(
        0.5, 3, SHAPE, partial=True, fill=0.5 - RAW
    ),
    "random-mask:0.5-0.9:1x3:partial": rn.random_patch_mask(
        (0.5, 0.9), (1, 3), SHAPE, partial=True
    ),
    "random-exact:0.1-0.5:3x2:partial": rn.random_patch_mask(
        (0.1, 0.5), (3, 2), SHAPE, exact=True, partial=True
    ),
    "mask:0.75:2:fill=0.5": rn.patch_mask(0.75, 2, SHAPE, fill=0.5 - RAW),
    "exact:0.75:2": rn.exact_patch_mask(0.75, 2, SHAPE),
    "random-mask:0.5-0.9:2": rn.random_patch_mask((0.5, 0.9), 2, SHAPE),
    "random-exact:0.5-0.9:1x2": rn.random_patch_mask((0.5, 0.9), (1, 2), SHAPE, exact=True),
    "pixel:0.5": rn.pixel_dropout(0.5, SHAPE),
    "channel:0.3": rn.channel_dropout(0.3, SHAPE),
    "saltpepper:0.1:1": rn.salt_and_pepper(0.1, 1.0, SHAPE),
    "saltpepper:0.1:0.5:fill=0.5": rn.salt_and_pepper(0.1, 0.5, SHAPE, fill=0.5 - RAW),
    "block:2x3": rn.block_mask((2, 3), SHAPE),
    "cutout:3:fill=0": rn.block_mask(3, SHAPE, partial=True, fill=-RAW),
    "pca-mask:0.5": rn.pca_mask(0.5, rj.spectrum(MOMENTS).eigenvectors),
    "blur:1.5": rn.blur(1.5, SHAPE),
    "shift:2": rn.shift(2, SHAPE),
    "flip": rn.flip(0.5, SHAPE),
    "vflip:0.25": rn.flip(0.25, SHAPE, vertical=True),
    "tflip:0.25": rn.flip(0.25, SHAPE, axis=0),
    "crop:3": rn.crop(3, SHAPE),
    "mask:0.5:2x2+gaussian:0.1": rn.chain(rn.patch_mask(0.5, 2, SHAPE), rn.gaussian(0.1)),
    "flip|identity": rn.mixture(rn.flip(0.5, SHAPE), rn.identity()),
    " 0.3*( flip + blur:1 ) | 0.7 * identity": rn.mixture(
        rn.chain(rn.flip(0.5, SHAPE), rn.blur(1.0, SHAPE)),
        rn.identity(),
        probabilities=[0.3, 0.7],
    ),
    "(flip|block:2)+gaussian:1e-3": rn.chain(
        rn.mixture(rn.flip(0.5, SHAPE), rn.block_mask(2, SHAPE)), rn.gaussian(1e-3)
    ),
}


def equal(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-12)


@pytest.mark.parametrize("text", FORMS)
def test_a_text_makes_the_noise_that_it_names_and_the_noise_gives_the_text_back(text):
    noise = rn.parse_noise(text, SHAPE, MOMENTS)
    equal(noise, FORMS[text])
    if text.startswith("colored"):
        with pytest.raises(ValueError, match=r"ColoredGaussian .* has no text form"):
            rn.noise_text(noise, SHAPE)
        return
    back = rn.noise_text(noise, SHAPE, MOMENTS)
    equal(rn.parse_noise(back, SHAPE, MOMENTS), noise)
    assert rn.noise_text(rn.parse_noise(back, SHAPE, MOMENTS), SHAPE, MOMENTS) == back


def test_every_form_is_tried_and_documented():
    tried = {part for text in FORMS for part in noise_module._FORMS if part in text}
    assert tried == set(noise_module._FORMS)
    for name, form in noise_module._FORMS.items():
        assert (
            f"| {form.usage(name).split('[:partial]')[0].removesuffix('[:fill=VALUE]')}"
            in noise_module.__doc__
        )
    assert len(rn.known_noises()) == len(noise_module._FORMS)


def test_texts_are_the_shortest():
    for noise, text in (
        (rn.exact_patch_mask(2 / 3, 1, (1, 3, 1)), "exact:0.6:1x1"),
        (rn.patch_mask(0.1, 2, SHAPE), "mask:0.1:2x2"),
        (rn.pixel_dropout(0.1, SHAPE, share_channels=True), "mask:0.1:1x1"),
        (rn.chain(rn.gaussian(0.5), rn.identity()), "gaussian:0.5+identity"),
    ):
        shape = (1, 3, 1) if text.startswith("exact") else SHAPE
        assert rn.noise_text(noise, shape) == text
        equal(rn.parse_noise(text, shape), noise)


def test_vectors_have_the_noises_that_need_no_image():
    equal(rn.parse_noise("pixel:0.5", (7,)), rn.pixel_dropout(0.5, (7,)))
    assert rn.noise_text(rn.pixel_dropout(0.5, (7,)), (7,)) == "pixel:0.5"
    for text in ("mask:0.5:2", "blur:1", "channel:0.5", "block:2"):
        with pytest.raises(
            ValueError, match=r"image_shape: \(7,\); patches need images \(H, W, C\)"
        ):
            rn.parse_noise(text, (7,))


def test_data_are_moments_a_spectrum_or_a_mean_image():
    spectrum = rj.spectrum(MOMENTS)
    for data in (MOMENTS, spectrum, RAW, RAW.reshape(SHAPE)):
        equal(rn.parse_noise("thin:0.5", SHAPE, data), FORMS["thin:0.5"])
        equal(rn.parse_noise("mask:0.75:2:fill=0.5", SHAPE, data), FORMS["mask:0.75:2:fill=0.5"])
    equal(rn.parse_noise("pca-mask:0.5", SHAPE, spectrum), FORMS["pca-mask:0.5"])


@pytest.mark.parametrize(
    ("noise", "match"),
    [
        (rn.linear(np.eye(32)), "Linear with these parameters has no text form"),
        (
            rn.patch_mask(np.full(4, 0.5), 2, SHAPE),
            "Mask with these parameters has no text form",
        ),
        (rn.patch_mask(0.5, 2, (4, 4, 1)), "Mask with these"),
        (rn.shift(1, SHAPE, wrap=True), "Shift with these parameters"),
        (rn.from_function(lambda key, x: x), "Function with these parameters"),
        (rn.pca_mask(np.linspace(0, 0.5, 32), np.eye(32)), "InBasis with these"),
        (rn.chain(rn.gaussian(0.1), rn.linear(np.eye(32))), "Linear with these"),
    ],
)
def test_noises_that_no_text_names_say_so(noise, match):
    with pytest.raises(ValueError, match=match):
        rn.noise_text(noise, SHAPE)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "noise: '': a noise is missing; known are identity, gaussian,"),
        ("gausian:0.5", "noise: 'gausian:0.5': is no noise; did you mean gaussian:STD?"),
        ("mask:0.5:2+foo", "noise: 'foo' at character 12 of 'mask:0.5:2.foo': is no noise; known"),
        (
            "mask:0.5",
            r"noise: 'mask:0.5': it is written mask:RATIO:PATCH\[:partial\]\[:fill=VALUE\]",
        ),
        ("gaussian:0.5:1", "noise: 'gaussian:0.5:1': it is written gaussian:STD$"),
        ("mask:0.5:2x", "noise: '2x' at character 10 of 'mask:0.5:2x': PATCH is HEIGHTxWIDTH"),
        ("mask:half:2", "noise: 'half' at character 6 of 'mask:half:2': RATIO is a number"),
        ("random-mask:0.5:2", "noise: '0.5' at character 13 .*: LOW-HIGH is two numbers"),
        ("random-mask:a-b:2", "noise: 'a-b' at character 13 .*: LOW-HIGH is two numbers"),
        ("mask:0.5:2:fill=x", "noise: 'x' at character 17 of .*: VALUE is a number"),
        ("mask:1.5:2", r"noise: 'mask:1.5:2': mask_ratio: 1.5; it must be in \[0, 1\)"),
        ("flip+mask:0.5:3", "noise: 'mask:0.5:3' at character 6 of .*: patch_shape: 3x3 does not"),
        ("gaussian:nan", "noise: 'gaussian:nan': std: nan; it must be finite and >= 0"),
        ("identity+", r"noise: '' at character 10 of 'identity\+': a noise is missing"),
        ("(flip", r"noise: '\(flip': its parentheses do not match"),
        ("flip)", r"noise: 'flip\)': its parentheses do not match"),
        ("(flip)(flip)", "its parentheses do not match"),
        ("0.3*flip|flip", "noise: '0.3.flip.flip': give every part of a mixture a weight, or none"),
        ("0.3*flip|0.3*flip", r"probabilities: \[0.3, 0.3\]; they must be >= 0 and add up to 1"),
        ("a*flip|b*flip", r"noise: 'a' at character 1 of .*: WEIGHT is a number"),
        ("0.3*flip", r"noise: '0.3\*flip': is no noise"),
        ("gaussian:1+thin:0.5", "thinning acts on the clean intensities; it must come first"),
        ("shift:9", "noise: 'shift:9': largest: 9.0; 0 .. 3 is allowed"),
    ],
)
def test_a_text_that_names_no_noise_is_pointed_at(text, match):
    with pytest.raises(ValueError, match=match) as caught:
        rn.parse_noise(text, SHAPE, MEAN)
    assert "\n" not in str(caught.value)


def test_what_needs_data_says_which():
    for text in ("thin:0.5", "mask:0.5:2:fill=0"):
        with pytest.raises(ValueError, match="needs the mean image of the data"):
            rn.parse_noise(text, SHAPE)
    with pytest.raises(ValueError, match="needs the principal directions of the data"):
        rn.parse_noise("pca-mask:0.5", SHAPE)
    with pytest.raises(ValueError, match="principal directions of the data: moments or a spectrum"):
        rn.parse_noise("pca-mask:0.5", SHAPE, MEAN)
    with pytest.raises(ValueError, match="data that are not standardized"):
        rn.parse_noise("thin:0.5", SHAPE, rj.standardized(MOMENTS))
    with pytest.raises(ValueError, match="a text is needed"):
        rn.parse_noise(None, SHAPE)


def test_a_noise_of_a_text_draws_and_solves():
    noise = rn.parse_noise("(flip|cutout:2:fill=0)+mask:0.5:2x2+gaussian:0.1", SHAPE, MOMENTS)
    x = jnp.ones((3, *SHAPE))
    assert jax.jit(noise.sample)(jax.random.key(0), x).shape == x.shape
    assert np.all(np.isfinite(rj.problem(MOMENTS, noise).noisy_second_moment))


@pytest.mark.parametrize("std", [1150.0, 1e7, 1.5e-7, 0.1, 0.25, 3.0])
def test_no_number_is_written_with_an_exponent(std):
    text = rn.noise_text(rn.gaussian(std), (4,))
    assert "e" not in text.partition(":")[2]
    np.testing.assert_allclose(rn.parse_noise(text, (4,)).std, std, rtol=1e-5)
