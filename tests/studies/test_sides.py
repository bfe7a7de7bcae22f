"""Sweeps on the sample side: chosen, forced, refused, resumed, and judged by the test split."""

import numpy as np
import pytest

from reconjax import studies
from reconjax.data import Dataset

GRID = {"patches": [1, 2], "ratios": [0.0, 0.5], "precision": "float64", "progress": False}


@pytest.fixture(scope="module")
def wide():
    """24 training and 30 test images of 6 x 6, of two classes."""
    rng = np.random.default_rng(0)
    y = np.arange(54) % 2
    x = rng.random((54, 6, 6, 1)) + 0.3 * y[:, None, None, None]
    return Dataset.from_arrays(x[:24], y[:24], x[24:], y[24:], name="wide")


@pytest.fixture(scope="module")
def by_samples(wide):
    return studies.sweep(wide, **GRID)


def test_fewer_samples_than_features_are_solved_by_samples_and_equal_to_moments(wide, by_samples):
    by_features = studies.sweep(wide, side="features", **GRID)
    assert by_samples.attrs["side"] == "samples"
    assert by_features.attrs["side"] == "features"
    assert by_samples.latent_dim.values.tolist() == list(range(1, 25))
    wanted = by_features.sel(latent_dim=by_samples.latent_dim)
    for name in ("r2", "gain", "held_out", "agreement", "p_value", "chance", "r2_chance"):
        np.testing.assert_allclose(by_samples[name], wanted[name], rtol=0, atol=1e-8)
    assert studies.sweep("digits", bootstrap=0, latent_dims=[2], **GRID).attrs["side"] == "features"


def test_precision_is_that_of_the_study_whatever_jax_is_set_to(wide, by_samples, float32):
    np.testing.assert_array_equal(studies.sweep(wide, **GRID).r2, by_samples.r2)
    assert studies.align(wide).attrs["precision"] == "float64"


def test_a_noisy_read_out_keeps_its_held_out_curve(wide):
    result = studies.sweep(wide, readout="noisy", **GRID)
    assert result.attrs["side"] == "features"
    assert "held_out" in result
    forced = studies.sweep(wide, readout="noisy", side="samples", **GRID)
    assert "held_out" not in forced
    wanted = result.r2.sel(latent_dim=forced.latent_dim)
    np.testing.assert_allclose(forced.r2, wanted, rtol=0, atol=1e-8)


def test_the_best_is_chosen_by_what_is_asked(by_samples):
    best = studies.best(by_samples, [4, 23], by="held_out")
    top = by_samples.held_out.sel(latent_dim=[4, 23]).max(("patch", "ratio"))
    np.testing.assert_array_equal(best.held_out, top)
    with pytest.raises(ValueError, match="by: 'p_value'; r2 or held_out is there"):
        studies.best(by_samples, by="p_value")
    with pytest.raises(ValueError, match="by: 'held_out'; r2 is there"):
        studies.best(by_samples.drop_vars("held_out"), by="held_out")


def test_finished_rays_are_kept(wide, by_samples, tmp_path, monkeypatch):
    from reconjax.studies import rays

    once = rays.sweep_samples_targets
    calls = []

    def failing(*arguments, **options):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return once(*arguments, **options)

    monkeypatch.setattr(rays, "sweep_samples_targets", failing)
    with pytest.raises(KeyboardInterrupt):
        studies.sweep(wide, out=tmp_path, **GRID)
    result = studies.sweep(wide, out=tmp_path, **GRID)
    assert len(calls) == 3
    np.testing.assert_array_equal(result.r2, by_samples.r2)
    assert studies.open(tmp_path / "sweep.nc").attrs["side"] == "samples"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"side": "both"}, "side: 'both'; one of auto, features, samples"),
        ({"side": "samples", "class_weight": "balanced"}, "does not apply to class weights"),
        ({"side": "samples", "standardize": True}, "does not apply to standardized features"),
        ({"side": "samples", "devices": 2}, "devices: 2; on the sample side 1 alone"),
        ({"bootstrap": 7}, "bootstrap: 7; on the sample side 0 alone"),
        ({"memory": 1e-6}, "24 samples on the sample side of D = 36 features need"),
    ],
)
def test_what_the_sample_side_cannot_do_is_refused(wide, options, text):
    with pytest.raises(ValueError, match=text):
        studies.sweep(wide, **{**GRID, **options})


def test_align_by_samples_has_the_held_out_curve_of_moments(wide, monkeypatch):
    by_samples = studies.align(wide)
    monkeypatch.setattr("reconjax.studies.source.Source.by_samples", False)
    by_features = studies.align(wide, bootstrap=0)
    rank = by_samples.attrs["rank"]
    for name in ("r2", "held_out"):
        np.testing.assert_allclose(by_samples[name][:rank], by_features[name][:rank], atol=1e-9)
    np.testing.assert_allclose(by_samples.held_out[-1], by_features.held_out[-1], atol=1e-9)


def test_align_by_samples_takes_several_tasks(wide):
    x, y = wide.train.examples(np.arange(24))
    new, of_new = wide.test.examples(np.arange(30))
    first = x[:, 0, 0, 0], new[:, 0, 0, 0]
    several = Dataset.from_arrays(
        x, {"kind": y, "corner": first[0]}, new, {"kind": of_new, "corner": first[1]}
    )
    result, alone = studies.align(several), studies.align(wide)
    for name in ("r2", "held_out", "alignment"):
        own = result[f"{name}_by_task"].sel(task="kind")
        np.testing.assert_allclose(own, alone[name], atol=1e-9)


def test_a_comparison_that_moments_do_not_fit_is_made_by_samples(wide, tmp_path, capsys):
    families = ["gaussian", "mask", "speckle", "pixel:0.5", "saltpepper"]
    given = {"latent_dims": [2, 8], "tolerance": 0.0, "progress": False}
    by_samples = studies.compare(wide, families=families, memory=2e-4, out=tmp_path, **given)
    by_features = studies.compare(wide, families=families, **given)
    assert by_samples.attrs["side"] == "samples"
    assert by_features.attrs["side"] == "features"
    assert by_samples.noise.values.tolist() == by_features.noise.values.tolist()
    for name in ("r2", "held_out", "gain", "r2_without", "held_out_without", "chance"):
        np.testing.assert_allclose(by_samples[name], by_features[name], rtol=0, atol=1e-8)
    np.testing.assert_allclose(by_samples.p_value, by_features.p_value, atol=1e-4)
    with pytest.raises(ValueError, match=r"families: no blur:1 by samples: .*--resize"):
        studies.compare(wide, families=["blur:1", "mask"], memory=2e-4, **given)
