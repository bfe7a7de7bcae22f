"""The study of what noises can change: against dense angles; labels play no part."""

import numpy as np
import pytest
from scipy import linalg

import reconjax
from reconjax import studies
from reconjax.data import Dataset
from reconjax.plots import certificate_figure
from reconjax.theory.certificate import certificate

SHAPE = (4, 4, 1)
TEXTS = ["gaussian:0.5", "mask:0.75:2x2"]
DIMS = [1, 3, 9]


def pixels(seed=0, count=80):
    rng = np.random.default_rng(seed)
    mixed = rng.normal(size=(count, 16)) @ rng.normal(size=(16, 16))
    return mixed.reshape(count, *SHAPE)


@pytest.fixture(scope="module")
def labeled():
    return Dataset.from_arrays(pixels(), np.arange(80) % 2, name="mixed")


@pytest.fixture(scope="module")
def result(labeled):
    return studies.detect(labeled, noises=TEXTS, latent_dims=DIMS, progress=False)


def test_angles_are_those_between_dense_features(result):
    x = pixels().reshape(80, -1)
    x = x - x.mean(0)
    second = x.T @ x / len(x)
    patch = (np.arange(16) // 8) * 2 + np.arange(16) % 4 // 2
    noisy = np.where(patch[:, None] == patch, 0.25, 0.0625) * second
    plain = np.linalg.svd(x, full_matrices=False)[0]
    encoder = linalg.eigh(second @ second, noisy)[1][:, ::-1]
    assert result.verdict.values.tolist() == ["never", "may"]
    assert np.all(result.largest_change.sel(noise="gaussian:0.5") == 0)
    mask = result.sel(noise="mask:0.75:2x2")
    for k in DIMS:
        between = linalg.subspace_angles(plain[:, :k], x @ encoder[:, :k])
        at = mask.sel(latent_dim=k)
        assert float(at.largest_change) == pytest.approx(np.sin(between[0]), abs=1e-6)
        assert float(at.mean_squared_cosine) == pytest.approx(np.mean(np.cos(between) ** 2))
        assert float(mask.overlap.sel(direction=k)) == float(at.mean_squared_cosine)
        label = x @ at.worst_label.values
        assert np.mean(label**2) == pytest.approx(1)
    assert mask.reason.item().startswith("does not commute")


def test_everything_of_a_certificate_is_there(labeled, result):
    moments = reconjax.moments(pixels(), np.arange(80) % 2)
    for text in TEXTS:
        row = result.sel(noise=text)
        noise = reconjax.parse_noise(text, SHAPE)
        expected = certificate(moments, noise, DIMS)
        for name, value in expected._asdict().items():
            if name in ("tolerance", "sampling", "rank"):
                found = result.attrs[name]
            elif name in ("ties", "order_broken"):
                found = tuple(result.direction.values[row[name].values].tolist())
            else:
                found = row[name].values
            if isinstance(value, str | tuple):
                assert found == value, name
            else:
                np.testing.assert_allclose(found, value, atol=1e-9, err_msg=name)
    assert result.attrs["samples"] == 80
    assert result.attrs["classes"] == 2
    assert result.largest_change.attrs["long_name"]


def test_labels_play_no_part_and_need_not_be_there(labeled, result):
    without = Dataset.from_arrays(pixels(), name="mixed")
    other = Dataset.from_arrays(pixels(), np.arange(80) // 40)
    for data in (without, other):
        again = studies.detect(data, noises=TEXTS, latent_dims=DIMS, progress=False)
        for name in result.data_vars:
            np.testing.assert_array_equal(again[name], result[name], err_msg=name)
    with pytest.raises(ValueError, match="class_weight: 'balanced'; it does not apply"):
        studies.detect(labeled, class_weight="balanced")


def test_moments_and_noises_will_do(result):
    moments = reconjax.moments(pixels(), np.arange(80) % 2)
    noises = [reconjax.noise.gaussian(0.5), reconjax.noise.patch_mask(0.75, 2, SHAPE)]
    found = studies.detect(moments, noises=noises, latent_dims=DIMS)
    np.testing.assert_allclose(found.largest_change, result.largest_change, atol=1e-9)
    assert found.noise.values[0] == "gaussian:0.5"
    assert found.noise.values[1] == "Mask"  # for moments know no images
    usual = studies.detect(moments, latent_dims=[1])
    assert usual.noise.values.tolist() == ["gaussian:0.5", "pixel:0.75"]


def test_standardized_data_are_those_of_correlations(labeled):
    found = studies.detect(
        labeled, noises=TEXTS[1:], latent_dims=DIMS, standardize=True, progress=False
    )
    moments = reconjax.standardized(reconjax.moments(pixels(), np.arange(80) % 2))
    expected = certificate(moments, reconjax.noise.patch_mask(0.75, 2, SHAPE), DIMS)
    np.testing.assert_allclose(found.largest_change[0], expected.largest_change, atol=1e-9)


def test_a_result_is_opened_again(labeled, result, tmp_path):
    studies.detect(labeled, noises=TEXTS, latent_dims=DIMS, out=tmp_path, progress=False)
    opened = studies.open(tmp_path / "detect.nc")
    for name in result.variables:
        np.testing.assert_array_equal(opened[name], result[name], err_msg=name)
    assert opened.ambiguous.dtype == bool
    assert opened.sel(noise="mask:0.75:2x2", latent_dim=3).verdict.item() == "may"


def test_the_picture_has_a_line_for_every_noise(result):
    figure = certificate_figure(result, title="here")
    change, overlap = figure.axes
    lines = {line.get_label(): line for line in change.lines}
    for text, verdict in zip(TEXTS, ["never", "may"], strict=True):
        line = lines[f"{text}: {verdict}"]
        np.testing.assert_array_equal(line.get_xdata(), DIMS)
        np.testing.assert_array_equal(line.get_ydata(), result.largest_change.sel(noise=text))
    hollow = [line for line in change.lines if line.get_markerfacecolor() == "white"]
    unclear = result.ambiguous | (result.gap < result.attrs["sampling"])
    assert sum(len(line.get_xdata()) for line in hollow) == int(unclear.sum())
    drawn = [line.get_ydata() for line in overlap.lines[:2]]
    np.testing.assert_array_equal(drawn, result.overlap)
    assert figure.get_suptitle() == "here"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"latent_dims": [17]}, "latent_dim: 17"),
        ({"latent_dims": [2.5]}, r"latent_dim: 2\.5"),
        ({"noises": []}, "noises: none"),
        ({"noises": ["wool:0.5"]}, "wool:0.5"),
        ({"noises": ["mask:0.75:3x3"]}, "does not divide"),
        ({"memory": 1e-5}, "certificates of D = 16 features need about"),
    ],
)
def test_options_out_of_range_are_refused_before_the_work(labeled, options, text, monkeypatch):
    def work(*args, **kwargs):
        raise AssertionError("work was done")

    monkeypatch.setattr("reconjax.studies.source.moments_from_batches", work)
    with pytest.raises(ValueError, match=text) as error:
        studies.detect(labeled, **options)
    assert "\n" not in str(error.value)


def test_fewer_samples_than_features_are_certified_by_samples(monkeypatch):
    x = pixels(count=12)
    few = Dataset.from_arrays(x[:8], np.where(np.arange(8) < 6, np.arange(8) % 2, -1), name="few")
    given = {"noises": TEXTS, "latent_dims": DIMS[:2], "progress": False}
    found = studies.detect(few, **given)
    assert (found.attrs["side"], found.attrs["samples"]) == ("samples", 8)
    every = reconjax.grid.samples(x[:8], np.arange(8) % 2)
    mask = reconjax.parse_noise(TEXTS[1], SHAPE)
    (expected,) = reconjax.grid.certificates_by_samples(every, [mask], DIMS[:2])
    for name in ("largest_change", "overlap", "commutator", "gap"):
        there = found[name].sel(noise=TEXTS[1])
        np.testing.assert_allclose(there, getattr(expected, name), atol=1e-8, err_msg=name)
    # Noises without such a form are certified by moments, where these fit.
    found = studies.detect(few, noises=["pca-mask:0.5"], progress=False)
    assert found.attrs["side"] == "features"
    for text in ("flip", "pca-mask:0.5"):
        for options in ({"side": "samples"}, {"memory": 1e-6}):
            with pytest.raises(ValueError, match=r"has no form by samples.*--resize"):
                studies.detect(few, noises=[text], progress=False, **options)
    with pytest.raises(ValueError, match="8 samples on the sample side of D = 16"):
        studies.detect(few, memory=1e-6, **given)
