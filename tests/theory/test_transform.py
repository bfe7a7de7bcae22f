"""A solution applied to inputs: codes, predictions and reconstructions, against NumPy."""

import numpy as np
import pytest

import reconjax

SHAPE, CLASSES = (3, 4, 2), 3


@pytest.fixture(scope="module")
def samples():
    random = np.random.default_rng(0)
    labels = random.integers(0, CLASSES, 60)
    images = random.integers(0, 256, (60, *SHAPE)).astype(np.uint8)
    images[:, 0, 0, 0] = 40 * labels + images[:, 0, 0, 0] // 8
    return images, labels


def by_hand(x, labels, covariance, readout):
    """Encoder, head and decoder of PCA's directions of x under added noise, by least squares."""
    y = np.eye(CLASSES)[labels]
    y = y - y.mean(0)
    second, count = x.T @ x / len(x), 4
    noisy = second + covariance
    values, vectors = np.linalg.eigh(noisy)
    root = (vectors / np.sqrt(values)) @ vectors.T
    encoder = root @ np.linalg.eigh(root @ second @ second @ root)[1][:, ::-1][:, :count]
    codes = x @ encoder
    seen = second if readout == "clean" else noisy
    head = np.linalg.solve(encoder.T @ seen @ encoder, codes.T @ y / len(x))
    decoder = np.linalg.solve(encoder.T @ noisy @ encoder, codes.T @ x / len(x))
    return encoder, head, decoder


@pytest.mark.parametrize("readout", ["clean", "noisy"])
@pytest.mark.parametrize("standardized", [False, True])
def test_codes_predictions_and_reconstructions_are_those_of_numpy(samples, readout, standardized):
    images, labels = samples
    moments = reconjax.moments(images, labels)
    pixels = images.reshape(len(images), -1) / 255
    mean, scale = pixels.mean(0), np.ones(pixels.shape[1])
    if standardized:
        moments, scale = reconjax.standardized(moments), pixels.std(0)
    x = (pixels - mean) / scale
    encoder, head, decoder = by_hand(x, labels, 0.25 * np.eye(x.shape[1]), readout)
    noisy = reconjax.problem(moments, reconjax.noise.gaussian(0.5))
    solution = reconjax.solve(noisy, readout=readout)
    codes = x @ encoder
    for given in (images, pixels, pixels.reshape(images.shape)):
        found = np.asarray(solution.transform(given, 4))
        # Of each code, the sign is free.
        np.testing.assert_allclose(np.abs(found), np.abs(codes), atol=1e-10)
        shares = np.eye(CLASSES)[labels].mean(0)
        np.testing.assert_allclose(solution.predict(given, 4), codes @ head + shares, atol=1e-10)
        rebuilt = np.asarray(solution.reconstruct(given, 4))
        assert rebuilt.shape == given.shape
        expected = codes @ decoder * scale + mean
        np.testing.assert_allclose(rebuilt.reshape(expected.shape), expected, atol=1e-10)
    assert solution.transform(images).shape == (60, 24)
    assert solution.transform(pixels[0], 2).shape == (2,)


def test_theorem_1_knows_the_means_too(samples):
    images, labels = samples
    few, few_labels = images[:9], labels[:9]
    wide = reconjax.SampleSide(few, few_labels, num_classes=CLASSES)
    solution = reconjax.theorem1(wide, 1.0, latent_dim=3)
    dense = reconjax.solve(reconjax.problem(reconjax.moments(few, few_labels, num_classes=3)), 1.0)
    for name in ("predict", "reconstruct"):
        by_samples, by_features = (getattr(s, name)(images, 3) for s in (solution, dense))
        np.testing.assert_allclose(by_samples, by_features, atol=1e-8)


@pytest.mark.parametrize("x_dtype", ["float32", "uint8"])
def test_single_precision_inputs_are_taken_as_they_are(samples, x_dtype):
    images, labels = samples
    images = (images / np.float32(255)).astype("float32") if x_dtype == "float32" else images
    solution = reconjax.solve(reconjax.problem(reconjax.moments(images, labels)))
    rebuilt = solution.reconstruct(images, 24)
    expected = images if x_dtype == "float32" else images / 255
    np.testing.assert_allclose(rebuilt, expected, atol=1e-9)


def test_what_does_not_fit_is_refused(samples):
    images, labels = samples
    problem = reconjax.problem(reconjax.moments(images, labels))
    solution = reconjax.solve(problem)
    with pytest.raises(ValueError, match="x: 5 features; 24 are needed"):
        solution.transform(np.zeros((2, 5)))
    for latent_dim in (0, 25, 1.5):
        with pytest.raises(ValueError, match=rf"latent_dim: {latent_dim}; 1 \.\. 24"):
            solution.predict(images, latent_dim)
    bare = reconjax.solve(problem._replace(mean_x=None, mean_y=None, scale=None))
    with pytest.raises(ValueError, match="solution: of a problem without means"):
        bare.reconstruct(images, 2)
