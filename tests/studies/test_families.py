"""The study of families of noise: against dense least squares, kept parts, what is refused."""

import json

import numpy as np
import pytest
from scipy import linalg

import reconjax
from reconjax import studies
from reconjax.data import Dataset
from reconjax.evidence import comparison

SHAPE = (4, 4, 1)
DIMS = [2, 5]
FAMILIES = ["flip", "mask:0.5:2x2"]
CLASSES = 3


def images(count, seed):
    """Smooth images of three classes."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % CLASSES
    coarse = rng.normal(size=(count, 2, 2, 1))
    coarse[:, 0, 0, 0] += labels
    x = np.repeat(np.repeat(coarse, 2, axis=1), 2, axis=2)
    return x + 0.5 * rng.normal(size=x.shape), labels


@pytest.fixture(scope="module")
def data():
    """A data set with a test split."""
    (x, labels), (test_x, test_labels) = images(150, 0), images(60, 1)
    return Dataset.from_arrays(x, labels, test_x, test_labels, name="smooth")


@pytest.fixture(scope="module")
def bare():
    """One without."""
    return Dataset.from_arrays(*images(120, 2), name="bare")


@pytest.fixture(scope="module")
def result(data):
    return studies.compare(data, families=FAMILIES, latent_dims=DIMS, progress=False)


def dense(text, latent_dim):
    """r2 on both splits, by generalized eigenvectors and least squares."""
    (x, labels), (test_x, test_labels) = images(150, 0), images(60, 1)
    x, test_x = x.reshape(150, -1), test_x.reshape(60, -1)
    one_hot = np.eye(CLASSES)
    y, test_y = (one_hot[part] - one_hot[labels].mean(0) for part in (labels, test_labels))
    x, test_x = x - x.mean(0), test_x - x.mean(0)
    second = x.T @ x / len(x)
    noisy, across = second, second
    if text == "flip":
        order = np.arange(16).reshape(4, 4)[:, ::-1].reshape(-1)
        turn = (np.eye(16) + np.eye(16)[order]) / 2
        noisy = (second + second[order][:, order]) / 2
        across = turn @ second
    elif text is not None:
        patch = (np.arange(16) // 8) * 2 + np.arange(16) % 4 // 2
        same = patch[:, None] == patch
        noisy, across = np.where(same, 0.5, 0.25) * second, 0.5 * second
    vectors = linalg.eigh(across @ across.T, noisy)[1][:, ::-1]
    encoder = vectors[:, :latent_dim]
    head = np.linalg.lstsq(x @ encoder, y, rcond=None)[0]
    splits = (x, y), (test_x, test_y)
    return [1 - np.sum((a @ encoder @ head - b) ** 2) / np.sum(b**2) for a, b in splits]


def test_curves_are_those_of_dense_least_squares(result):
    assert dict(result.sizes) == {"point": 2, "latent_dim": 2, "fold": 20}
    assert result.latent_dim.values.tolist() == DIMS
    for index, (name, text) in enumerate(zip(FAMILIES, ["flip:0.5", "mask:0.5:2x2"], strict=True)):
        assert result.family.values[index] == name
        assert result.noise.values[index] == text
        for k in DIMS:
            r2, held_out = dense(name, k)
            row = result.isel(point=index).sel(latent_dim=k)
            assert float(row.r2) == pytest.approx(r2, abs=1e-9)
            assert float(row.held_out) == pytest.approx(held_out, abs=1e-9)
    for k in DIMS:
        r2, held_out = dense(None, k)
        assert float(result.r2_without.sel(latent_dim=k)) == pytest.approx(r2, abs=1e-9)
        assert float(result.held_out_without.sel(latent_dim=k)) == pytest.approx(held_out, abs=1e-9)
    np.testing.assert_allclose(result.chance, np.array(DIMS) / 149)
    assert np.all(result.error < 1e-6)


def test_gains_and_places(result):
    np.testing.assert_allclose(result.gain, result.held_out - result.held_out_without, atol=1e-12)
    difference = 2 * (result.agreement - result.agreement_without).values
    error = difference.std(axis=-1, ddof=1) / np.sqrt(20)
    np.testing.assert_allclose(result.gain_standard_error, error, atol=1e-12)
    assert np.all((result.p_value > 0) & (result.p_value <= 1))
    places = studies.ranking(result)
    assert [place.latent_dim for place in places] == [2, 2, 5, 5]
    for k in DIMS:
        rows = [place for place in places if place.latent_dim == k]
        order = np.argsort(-result.gain.sel(latent_dim=k).values)
        assert [row.family for row in rows] == [FAMILIES[index] for index in order]
        for row, index in zip(rows, order, strict=True):
            at = result.isel(point=index).sel(latent_dim=k)
            for name, value in (
                ("r2", at.r2),
                ("held_out", at.held_out),
                ("gain", at.gain),
                ("standard_error", at.gain_standard_error),
                ("p_value", at.p_value),
            ):
                assert getattr(row, name) == float(value)
            assert row.noise == at.noise


def test_of_a_family_the_strength_that_explains_most_in_training_is_placed(data):
    found = studies.compare(data, families=["speckle"], latent_dims=DIMS, progress=False)
    assert np.all(found.family == "speckle")
    assert found.sizes["point"] > 1
    for k in DIMS:
        at = found.sel(latent_dim=k)
        best = int(np.argmax(at.r2.values))
        assert int(at.position[best]) == 1
        assert int(at.position.sum()) == 1
        (place,) = [p for p in studies.ranking(found) if p.latent_dim == k]
        assert place.noise == found.noise.values[best]


def test_attributes_say_what_was_done(result):
    facts = result.attrs
    assert (facts["study"], facts["data"], facts["samples"]) == ("compare", "smooth", 150)
    assert (facts["features"], facts["rank"], facts["classes"]) == (16, 16, 3)
    assert (facts["held_out_samples"], facts["held_out_split"]) == (60, "the test split")
    assert (facts["folds"], facts["noises"]) == (20, 2)
    settings = json.loads(facts["settings"])
    assert settings["families"] == FAMILIES
    assert settings["latent_dims"] == DIMS
    assert "permuted" in result.chance.attrs["long_name"]


def test_without_a_test_split_a_fifth_is_kept_apart(bare):
    found = studies.compare(bare, families=["flip"], max_latent_dim=4, progress=False)
    assert found.attrs["held_out_split"] == "a fifth, held out"
    assert (found.attrs["samples"], found.attrs["held_out_samples"]) == (96, 24)
    assert found.latent_dim.values.tolist() == [4]
    other = studies.compare(bare, families=["flip"], max_latent_dim=4, seed=1, progress=False)
    assert float(other.held_out[0, 0]) != float(found.held_out[0, 0])


def test_finished_families_are_kept_and_the_result_is_opened_again(
    data, result, tmp_path, monkeypatch, capsys
):
    options = {"families": FAMILIES, "latent_dims": DIMS, "out": tmp_path}
    solve, calls = comparison.compare, []

    def interrupted(*args, **kwargs):
        calls.append(args[2][0].name)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return solve(*args, **kwargs)

    monkeypatch.setattr(comparison, "compare", interrupted)
    with pytest.raises(KeyboardInterrupt):
        studies.compare(data, **options)
    assert calls == FAMILIES
    assert not (tmp_path / "compare.nc").exists()
    with pytest.raises(ValueError, match="unfinished run with another latent_dims"):
        studies.compare(data, **{**options, "latent_dims": [3]})
    found = studies.compare(data, **options)
    assert calls[2:] == FAMILIES[1:]
    assert "going on: 1 of 2 families are finished" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["compare.nc"]
    opened = studies.open(tmp_path / "compare.nc")
    assert opened.attrs == found.attrs
    for name in result.variables:
        np.testing.assert_array_equal(opened[name], result[name], err_msg=name)
    assert studies.ranking(opened) == studies.ranking(result)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"latent_dims": [2.5]}, r"latent_dim: 2\.5; 1 \.\. 16 is allowed, in whole numbers"),
        ({"latent_dims": [0]}, r"latent_dim: 0; 1 \.\. 16"),
        ({"latent_dims": [17]}, r"latent_dim: 17; 1 \.\. 16"),
        ({"max_latent_dim": 0}, r"latent_dim: 0; 1 \.\. 16"),
        ({"latent_dims": [2], "max_latent_dim": 4}, "max_latent_dim: .* choose one"),
        ({"tolerance": 1.0}, r"tolerance: 1\.0"),
        ({"families": []}, "families: none"),
        ({"families": ["nonsense"]}, "known are mask"),
        ({"memory": 1e-5}, "a comparison of D = 16 features need about"),
    ],
)
def test_options_out_of_range_are_refused(data, options, text, tmp_path):
    with pytest.raises(ValueError, match=text) as error:
        studies.compare(data, **options, out=tmp_path)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_data_that_nothing_can_be_held_out_of_are_refused():
    x, labels = images(6, 3)
    with pytest.raises(ValueError, match="too few samples to hold some out"):
        studies.compare(Dataset.from_arrays(x, labels))
    with pytest.raises(ValueError, match="no labels: no y_train, class folders or --target-key"):
        studies.compare(Dataset.from_arrays(x))
    with pytest.raises(ValueError, match="data: moments; a data set is needed"):
        studies.compare(reconjax.moments(x, labels))
    with pytest.raises(ValueError, match="result: of align"):
        studies.ranking(studies.align(Dataset.from_arrays(x, labels), bootstrap=0))
