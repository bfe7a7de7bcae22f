"""`compare` and `objectives` through fixed features: points against the sweep's, and refusals."""

import numpy as np
import pytest

import reconjax
from reconjax.data import Dataset
from reconjax.noise import patch_mask
from reconjax.studies import compare, objectives, ranking, sweep
from reconjax.theory.targets import whitened

SHAPE = (4, 4, 1)
LIFT = {"features": "relu:16", "latent_dims": [2, 5], "progress": False}
AT = np.array([1, 4])


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, size=160)
    x = rng.normal(size=(160, 16)) * np.linspace(2, 0.1, 16) + np.eye(3, 16)[y]
    x = x.reshape(-1, *SHAPE)
    return Dataset.from_arrays(x[:80], y[:80], x_test=x[80:], y_test=y[80:])


def test_families_are_those_of_the_sweep(data, tmp_path):
    grid = {"patches": [2], "ratios": [0.5], "ridges": [0.2], "tolerance": 0}
    wanted = sweep(data, **grid, **LIFT).squeeze()
    given = {"families": ["mask:0.5:2x2", "flip"], "ridge": 0.2, "tolerance": 0, **LIFT}
    result = compare(data, out=tmp_path, **given)
    at = result.isel(point=0)
    for name in ("r2", "held_out", "agreement"):
        np.testing.assert_allclose(at[name], wanted[name], atol=1e-6)
        np.testing.assert_allclose(result[f"{name}_without"], wanted[f"{name}_without"], atol=1e-6)
    error = np.maximum(wanted.monte_carlo_error, wanted.held_out_error)
    np.testing.assert_allclose(at.error, error, rtol=0.05)
    np.testing.assert_allclose(result.chance, np.array([2, 5]) / 79)
    assert (result.attrs["lift"], result.attrs["lifted"], result.attrs["ridge"]) == (
        "relu:16", 16, 0.2,
    )  # fmt: skip
    assert {place.family for place in ranking(result)} == {"mask:0.5:2x2", "flip"}
    assert (tmp_path / "compare.nc").exists()


def test_objectives_share_the_draws_of_a_noise(data):
    grid = {"patches": [2], "ratios": [0, 0.5], "target": ["whitened:0.5"], "ridge": 0.2}
    result = objectives(data, precision="float64", **grid, **LIFT)
    by_noise = {
        (str(point.family.values), str(point.noise.values)): point
        for point in (result.isel(point=index) for index in range(result.sizes["point"]))
    }
    unit = np.sqrt(np.mean(np.var(data.train.examples(range(80))[0].reshape(80, 16), axis=0)))
    lift = reconjax.lift.lift(data, reconjax.lift.parse_features("relu:16", SHAPE, unit=unit))
    drawn = reconjax.lift.lifted_moments(lift, patch_mask(0.5, 2, SHAPE), draws=2, pairs=True)
    (wanted,), (still_wanted,) = (
        reconjax.lift.solve_lifted(lift, moments, [0.2], target=whitened(0.5))
        for moments in (drawn, reconjax.lift.lifted_moments(lift))
    )
    at = by_noise["reconstruction, best noise and target", "mask:0.5:2x2 whitened:0.5"]
    np.testing.assert_allclose(at.r2, wanted.solution.r2[AT], atol=1e-8)
    np.testing.assert_allclose(at.held_out, wanted.held_out[AT], atol=1e-8)
    # Without noise a target is another problem: the ridge weighs on it differently.
    still = by_noise["reconstruction, best noise and target", "mask:0:2x2 whitened:0.5"]
    np.testing.assert_allclose(still.r2, still_wanted.solution.r2[AT], atol=1e-8)
    assert not np.any(still.error)
    plain = by_noise["reconstruction, best noise", "mask:0:2x2"]
    np.testing.assert_array_equal(plain.r2, result.r2_without)
    assert ("joint embedding, best noise", "mask:0:2x2") not in by_noise
    assert 0 < result.attrs["r2_all"] < 1


def test_what_does_not_apply_is_refused_in_a_line(data):
    for study, given, text in (
        (compare, {"ridge": 0.1}, "ridge: 0.1; it does not apply to inputs as they are"),
        (objectives, {"draws": 2}, "draws: 2; it does not apply to inputs as they are"),
        (objectives, {**LIFT, "side": "samples"}, "side: samples; it does not apply to features"),
        (objectives, {**LIFT, "draws": 1}, "draws: 1; "),
        (compare, {**LIFT, "ridge": -1}, "ridge: -1.0; it must be finite and >= 0"),
        (compare, {**LIFT, "latent_dims": [17]}, "17"),
        (compare, {**LIFT, "features": "sigmoid:3"}, "features: 'sigmoid:3'; known are"),
    ):
        with pytest.raises(ValueError, match=r"\A[^\n]*\Z") as error:
            study(data, **given)
        assert text in str(error.value)
    x, y = data.train.examples(range(80))
    several = Dataset.from_arrays(x, {"class": y, "first": y == 0})
    for study in (compare, objectives):
        with pytest.raises(ValueError, match="features: of one task alone"):
            study(several, **LIFT)
