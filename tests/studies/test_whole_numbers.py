"""Whole numbers are whole: a fraction is refused in a line and never rounded."""

import numpy as np
import pytest

import reconjax
from reconjax import studies
from reconjax.data import Dataset


@pytest.fixture(scope="module")
def dataset():
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 3
    return Dataset.from_arrays(
        rng.uniform(size=(60, 2, 3, 1)) + labels[:, None, None, None], labels
    )


STUDIES = {
    "align": {},
    "sweep": {"patches": [1], "ratios": [0.5], "precision": "float64"},
    "compare": {"families": ["mask:0.5:1x1"], "latent_dims": [2]},
    "detect": {"noises": ["gaussian:1"]},
    "project": {"images": 2},
}


@pytest.mark.parametrize("name", STUDIES)
@pytest.mark.parametrize(
    ("option", "value"), [("max_samples", 20.5), ("max_samples", 0), ("seed", 1.5), ("seed", -1)]
)
def test_every_study_reads_by_whole_numbers(dataset, name, option, value):
    with pytest.raises(ValueError, match=rf"^{option}: {value}; a whole number, at least [01],"):
        getattr(studies, name)(dataset, **{**STUDIES[name], option: value})


@pytest.mark.parametrize(
    ("name", "options", "text"),
    [
        ("align", {"bootstrap": 2.5}, "bootstrap: 2.5; a whole number"),
        ("align", {"bootstrap": 7.0}, "bootstrap: 7.0; a whole number"),
        ("align", {"bootstrap": True}, "bootstrap: True; a whole number"),
        ("align", {"bootstrap": 2.5, "max_samples": 4}, "bootstrap: 2.5; a whole number"),
        ("align", {"memory": -1}, "memory: -1; GiB > 0"),
        ("align", {"memory": 0}, "memory: 0; GiB > 0"),
        ("sweep", {"bootstrap": 2.5}, "bootstrap: 2.5; a whole number"),
        ("sweep", {"batch_size": 1.5}, "batch_size: 1.5; a whole number, at least 1"),
        ("sweep", {"batch_size": 0}, "batch_size: 0; a whole number, at least 1"),
        ("sweep", {"devices": 1.0}, "devices: 1.0; a whole number, at least 1"),
        ("sweep", {"latent_dims": [2.5]}, "latent_dim: 2.5; it must be a whole number"),
        ("sweep", {"max_latent_dim": 2.5}, "latent_dim: 2.5; it must be a whole number"),
        ("compare", {"latent_dims": [2.5]}, r"latent_dim: 2.5; 1 \.\. 6 is allowed, in whole"),
        ("compare", {"latent_dims": None, "max_latent_dim": 2.5}, r"latent_dim: 2.5; 1 \.\. 6 is"),
        ("detect", {"latent_dims": [2.5]}, r"latent_dim: 2.5; 1 \.\. 6 is allowed, in whole"),
        ("project", {"images": 2.5}, "images: 2.5; a whole number"),
    ],
)
def test_fractions_are_refused_before_any_work(dataset, name, options, text, monkeypatch):
    def work(*args, **kwargs):
        raise AssertionError("work was done")

    monkeypatch.setattr(studies.source.Source, "moments", work)
    with pytest.raises(ValueError, match=f"^{text}") as error:
        getattr(studies, name)(dataset, **{**STUDIES[name], **options})
    assert "\n" not in str(error.value)


def test_numpys_whole_numbers_are_whole(dataset):
    given = studies.align(dataset, bootstrap=np.int64(0), max_samples=np.int32(30), seed=np.int8(1))
    right = studies.align(dataset, bootstrap=0, max_samples=30, seed=1)
    np.testing.assert_array_equal(given.r2, right.r2)


def test_damaged_files_and_those_of_another_version_are_refused_in_a_line(tmp_path, dataset):
    result = studies.detect(dataset, noises=["gaussian:1"], latent_dims=[2], out=tmp_path)
    whole = (tmp_path / "detect.nc").read_bytes()
    middle = len(whole) // 2
    (tmp_path / "half.nc").write_bytes(whole[:middle])
    (tmp_path / "holes.nc").write_bytes(whole[:middle] + b"\xff" * 4000 + whole[middle + 4000 :])
    later = result.assign_attrs(format=2, reconjax="9.1")
    later.to_netcdf(tmp_path / "later.nc", engine="h5netcdf")
    for name, text in (
        ("half", "is no NetCDF file, or a damaged one"),
        ("holes", "is no NetCDF file, or a damaged one"),
        ("later", "reconjax 9.1 wrote it in another form .format 2, here 1.; make it again by det"),
    ):
        with pytest.raises(ValueError, match=text) as error:
            reconjax.studies.open(tmp_path / f"{name}.nc")
        assert "\n" not in str(error.value)
    assert studies.open(tmp_path / "detect.nc").attrs["reconjax"] == result.attrs["reconjax"]
