"""Certificates by samples: those by (D, D) moments, and the angles between dense features."""

import numpy as np
import pytest
from scipy import linalg

import reconjax as rj
from reconjax.grid import certificates_by_samples, sample_certificate, samples
from reconjax.noise import parse_noise

SHAPE = (4, 6, 1)
NOISES = [
    "gaussian:0.5",
    "mask:0.75:2x2",
    "mask:0.5:4x3",  # as wide as there are samples
    "mask:0.5:4x6",  # B = M
    "exact:0.5:2x2",
    "speckle:0.4",
    "saltpepper:0.3:0.5",
]


def images(kind="", count=12):
    rng = np.random.default_rng(0)
    x = rng.random((count, *SHAPE))
    if kind == "constant and duplicate":
        x[:, 0, 0] = 0.5
        x[:, :, 5] = 0.2
        x[3] = x[4]
    if kind == "standardized":  # speckle is isotropic then
        x = (x - x.mean(0)) / x.std(0)
    if kind == "apart":  # patches that never vary together
        x[:6, :, :3] = x[6:, :, :3].mean(0)
        x[6:, :, 3:] = x[:6, :, 3:].mean(0)
    return (255 * x).astype(np.uint8) if kind == "8 bit" else x


@pytest.mark.parametrize(
    "kind",
    [
        *["", "constant and duplicate", "standardized", "8 bit"],
        pytest.param("more", marks=pytest.mark.slow),
    ],
)
def test_both_sides_are_equal(kind):
    x = images(kind, 40 if kind == "more" else 12)
    y = np.arange(len(x)) % 2
    moments, data = rj.moments(x, y), samples(x, y)
    floats = (x.reshape(len(x), -1) - x.reshape(len(x), -1).mean(0)) / (
        255 if kind == "8 bit" else 1
    )
    noises = [parse_noise(text, SHAPE) for text in NOISES]
    every = certificates_by_samples(data, noises)
    for text, noise, found in zip(NOISES, noises, every, strict=True):
        wanted = rj.certificate(moments, noise)
        for name, value in wanted._asdict().items():
            here = getattr(found, name)
            if isinstance(value, str | tuple):
                assert here == value, (text, name)
            elif name == "worst_label":
                # A label and its negative are the same; where nothing changes, any will do.
                some = wanted.largest_change > 1e-6
                labels, others = floats @ here[some].T, floats @ value[some].T
                sign = np.sign(np.sum(labels * others, axis=0))
                np.testing.assert_allclose(labels * sign, others, atol=1e-7, err_msg=text)
            else:
                np.testing.assert_allclose(here, value, rtol=0, atol=1e-8, err_msg=f"{text} {name}")


def test_changes_are_the_angles_between_dense_features():
    check_angles(1e-7)


@pytest.mark.slow
def test_in_float32_too(float32):
    check_angles(1e-3)


def check_angles(tolerance):
    x = images("constant and duplicate")
    flat = x.reshape(12, -1) - x.reshape(12, -1).mean(0)
    second = flat.T @ flat / 12
    patch = np.arange(24) // 12 * 3 + np.arange(24) % 6 // 2
    noisy = np.where(patch[:, None] == patch, 0.5, 0.25) * second
    values, vectors = np.linalg.eigh(noisy)
    root = vectors[:, values > 1e-12] / np.sqrt(values[values > 1e-12])
    codes = flat @ root @ np.linalg.eigh(root.T @ second @ second @ root)[1][:, ::-1]
    plain = np.linalg.svd(flat, full_matrices=False)[0]
    data = samples(x, np.arange(12) % 2)
    (found,) = certificates_by_samples(data, [parse_noise("mask:0.5:2x2", SHAPE)], [1, 3, 7])
    assert found.rank == 10
    for place, k in enumerate(found.latent_dim):
        angles = linalg.subspace_angles(plain[:, :k], codes[:, :k])
        mean = np.mean(np.cos(angles) ** 2)
        assert found.largest_change[place] == pytest.approx(np.sin(angles[0]), abs=tolerance)
        assert found.mean_squared_cosine[place] == pytest.approx(mean, abs=tolerance)
        label = flat @ found.worst_label[place]
        assert np.mean(label**2) == pytest.approx(1, abs=tolerance)
    added = noisy - 0.25 * second
    turned = np.linalg.norm(added @ second - second @ added)
    expected = turned / np.linalg.norm(added) / np.linalg.norm(second)
    assert found.commutator == pytest.approx(expected, rel=tolerance)


def test_patches_that_never_vary_together_commute():
    x = images("apart")
    data = samples(x, np.arange(12) % 2)
    (found,) = certificates_by_samples(data, [parse_noise("mask:0.5:4x3", SHAPE)])
    assert found.verdict == "never"
    assert found.commutator < 1e-12


@pytest.mark.parametrize(
    ("noise", "text"),
    [
        ("flip", "noises: Flip has no form by samples; masks of patches"),
        ("colored:0.5:1", "noises: Colored has no form by samples"),
        ("saltpepper:0.3:0.5", "noises: made for 48 features; 24 are there"),
    ],
)
def test_what_has_no_form_is_said(noise, text):
    shape = (8, 6, 1) if "48" in text else SHAPE
    x = images()
    with pytest.raises(ValueError, match=text):
        certificates_by_samples(samples(x, np.arange(12) % 2), [parse_noise(noise, shape)])


def test_noises_of_one_ray_share_its_sums_and_its_factorization(monkeypatch):
    calls = []
    for name in ("commutation", "inner_products", "ray_by_samples"):
        original = getattr(sample_certificate, name)

        def counted(*args, name=name, original=original, **options):
            calls.append(name)
            return original(*args, **options)

        monkeypatch.setattr(sample_certificate, name, counted)
    data = samples(images(), np.arange(12) % 2)
    texts = ["mask:0.5:2x2", "gaussian:0.5", "mask:0:2x2", "mask:0.75:2x2", "exact:0.5:2x2"]
    noises = [parse_noise(text, SHAPE) for text in texts]
    columns = []
    together = certificates_by_samples(data, noises, columns=columns.append)
    assert sorted(calls) == ["commutation", "inner_products", "ray_by_samples"]
    assert sum(columns) == 2 * 24 * len(texts)
    for noise, found in zip(noises, together, strict=True):
        (alone,) = certificates_by_samples(data, [noise])
        np.testing.assert_array_equal(found.overlap, alone.overlap)
        assert found.commutator == alone.commutator
