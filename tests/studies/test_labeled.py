"""Results that say what they are: written, opened again, selected in the user's words."""

import json

import numpy as np
import pytest
import xarray

import reconjax
from reconjax import studies
from reconjax.cli.main import main
from reconjax.data import Dataset
from reconjax.studies import progress


@pytest.fixture(scope="module")
def dataset():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 60)
    images = rng.normal(size=(60, 2, 3, 1)) + labels[:, None, None, None]
    return Dataset.from_arrays(images, labels, images[:20], labels[:20], name="tiny")


def test_a_result_is_the_same_when_it_is_opened_again(dataset, tmp_path):
    result = studies.align(dataset, bootstrap=7, out=tmp_path)
    again = studies.open(tmp_path / "align.nc")
    xarray.testing.assert_identical(result, again)
    assert again.sel(latent_dim=2).r2.item() == result.r2.values[1]


def test_attributes_say_what_was_asked_and_where_it_ran(dataset):
    result = studies.align(dataset, bootstrap=0, seed=3)
    about = result.attrs
    assert (about["study"], about["data"], about["samples"], about["classes"]) == (
        "align",
        "tiny",
        60,
        3,
    )
    assert list(about["example_shape"]) == [2, 3, 1]
    settings = json.loads(about["settings"])
    assert (settings["seed"], settings["bootstrap"], settings["convention"]) == (3, 0, "eq7")
    for name in ("reconjax", "jax", "device", "created", "seconds", "precision"):
        assert about[name]
    assert result.r2.attrs["long_name"]
    assert result.supervised_loss.attrs["units"] == "squared units of y"


def test_values_are_those_of_the_closed_form(dataset):
    images, labels = dataset.train.examples(np.arange(60))
    moments = reconjax.moments(images, labels)
    for given in (dataset, moments):
        result = studies.align(given, bootstrap=0)
        curve = reconjax.alignment(reconjax.spectrum(moments))
        np.testing.assert_allclose(result.r2, curve.r2, rtol=0, atol=1e-12)
        np.testing.assert_allclose(result.alignment, curve.alignment, rtol=0, atol=1e-12)


def test_other_files_are_refused_in_a_line(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file"):
        studies.open(tmp_path / "none.nc")
    (tmp_path / "text.nc").write_text("text")
    with pytest.raises(ValueError, match="is no NetCDF file"):
        studies.open(tmp_path / "text.nc")
    xarray.Dataset({"a": 1}).to_netcdf(tmp_path / "other.nc", engine="h5netcdf")
    with pytest.raises(ValueError, match="names no study"):
        studies.open(tmp_path / "other.nc")


def test_options_that_do_not_apply_are_refused(dataset):
    images, labels = dataset.train.examples(np.arange(60))
    moments = reconjax.moments(images, labels)
    with pytest.raises(ValueError, match="bootstrap: 7; moments have no folds"):
        studies.align(moments, bootstrap=7)
    with pytest.raises(ValueError, match="standardize: True; it does not apply to moments"):
        studies.align(moments, standardize=True)
    with pytest.raises(ValueError, match="data: float; a name, a `Dataset` or `Moments`"):
        studies.align(1.5)
    with pytest.raises(TypeError, match="colour: no such option"):
        studies.align(dataset, colour=1)


def test_alignment_says_which_target_is_explained(dataset, tmp_path, capsys):
    result = studies.align(dataset, bootstrap=0)
    assert result.r2_by_target.sizes == {"target": 3, "latent_dim": 6}
    shares = np.bincount(dataset.train.labels) / 60
    variances = shares * (1 - shares)
    np.testing.assert_allclose(
        variances @ result.r2_by_target.values / variances.sum(), result.r2, atol=1e-6
    )
    assert result.r2_by_target.sel(target="1").shape == (6,)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(50, 4))
    targets = x @ np.diag([1.0, 0.5, 2.0, 1.0])[:, :3] + 0.1 * rng.normal(size=(50, 3))
    np.savez(tmp_path / "several.npz", x_train=x, y_train=targets)
    assert main(["align", str(tmp_path / "several.npz"), "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert "r2 by target at K = " in printed
    assert (tmp_path / "out" / "targets.png").stat().st_size > 5000
    record = json.loads((tmp_path / "out" / "align.json").read_text())
    assert sorted(record["r2_by_target"]) == ["0", "1", "2"]
    one = studies.align(Dataset.from_arrays(x, targets[:, 0]), bootstrap=0)
    assert "r2_by_target" not in one


def test_several_studies_say_a_line_once(capsys):
    with progress.each_line_once():
        progress.say("2 files are left out")
        progress.say("2 files are left out")
    progress.say("2 files are left out")
    assert capsys.readouterr().err == "2 files are left out\n" * 2
