"""`sweep` through fixed features: what it gives, keeps and refuses."""

import numpy as np
import pytest

import reconjax
from reconjax.data import Dataset
from reconjax.noise import patch_mask
from reconjax.studies import lifted, sweep
from reconjax.theory.targets import joint_embedding

SHAPE = (4, 4, 1)
GRID = {"patches": [2], "ratios": [0, 0.5], "precision": "float64", "progress": False}


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, size=120)
    x = rng.normal(size=(120, 16)) * np.linspace(2, 0.1, 16) + np.eye(3, 16)[y]
    x = x.reshape(-1, *SHAPE)
    return Dataset.from_arrays(x[:80], y[:80], x_test=x[80:], y_test=y[80:])


@pytest.fixture(scope="module")
def result(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    made = sweep(data, features="relu:16", ridges=[0.05, 0.5], out=out, **GRID)
    return made, out


def test_it_is_the_lift_of_every_noise(data, result):
    made, _ = result
    assert made.r2.dims == ("patch", "ratio", "ridge", "weight", "latent_dim")
    moments = reconjax.moments_from_batches(data.train.batches(), num_classes=3)
    unit = np.sqrt(np.trace(moments.second_moment) / 16)
    features = reconjax.lift.parse_features("relu:16", SHAPE, unit=unit)
    lift = reconjax.lift.lift(data, features, moments=moments)
    seen = reconjax.lift.lifted_moments(lift, patch_mask(0.5, 2, SHAPE))
    solution = reconjax.lift.solve_lifted(lift, seen, [0.05, 0.5])[1]
    at = made.sel(patch="2x2", ratio=0.5, ridge=0.5, weight=np.inf)
    np.testing.assert_allclose(at.r2, solution.solution.r2, atol=1e-10)
    np.testing.assert_allclose(at.held_out, solution.held_out, atol=1e-10)
    np.testing.assert_allclose(at.monte_carlo_error, solution.monte_carlo_error, atol=1e-8)
    none = made.sel(ratio=0.0)
    np.testing.assert_array_equal(none.r2[0], made.r2_without)
    assert not np.any(none.monte_carlo_error)
    assert float(made.monte_carlo_error.max()) > 0
    np.testing.assert_allclose(made.gain, made.r2 - made.r2_without)
    assert made.p_value.dims == made.r2.dims
    assert made.attrs["lift"] == "relu:16"
    assert made.attrs["lifted"] == 16


def test_what_it_has_written_is_what_it_gave(result):
    made, out = result
    stored = reconjax.studies.open(out / "sweep.nc")
    np.testing.assert_array_equal(stored.held_out, made.held_out)
    with np.load(out / "sweep.npz") as arrays:
        np.testing.assert_array_equal(arrays["monte_carlo_error"], made.monte_carlo_error)
    best = reconjax.studies.best(made, [4], by="held_out")
    assert best.r2.dims == ("ridge", "weight", "latent_dim")


def test_finished_noises_are_kept(data, tmp_path, monkeypatch, result):
    made, _ = result
    solve, solved = lifted.solve_noise, []

    def stops(lift, noise, *rest, **options):
        solved.append(noise)
        if len(solved) == 2:
            raise KeyboardInterrupt
        return solve(lift, noise, *rest, **options)

    options = {"features": "relu:16", "ridges": [0.05, 0.5], "out": tmp_path, **GRID}
    monkeypatch.setattr(lifted, "solve_noise", stops)
    with pytest.raises(KeyboardInterrupt):
        sweep(data, **options)
    with pytest.raises(ValueError, match="holds an unfinished run with another ridges"):
        sweep(data, **{**options, "ridges": [0.1]})
    again = sweep(data, **options)
    assert [noise is None for noise in solved] == [True, False, False]
    np.testing.assert_array_equal(again.r2, made.r2)


def test_identity_features_are_exact_also_of_moments_alone(data):
    grid = {**GRID, "features": "identity", "ridges": [0.0]}
    made = sweep(data, **grid)
    plain = sweep(data, bootstrap=0, **GRID)
    np.testing.assert_allclose(made.r2[:, :, 0], plain.r2, atol=1e-8)
    np.testing.assert_allclose(made.held_out[:, :, 0], plain.held_out, atol=1e-8)
    assert not np.any(made.monte_carlo_error)
    moments = reconjax.moments_from_batches(data.train.batches(), num_classes=3)
    alone = sweep(moments, image_shape=SHAPE, **grid)
    np.testing.assert_allclose(alone.r2, made.r2, atol=1e-10)
    with pytest.raises(ValueError, match="features: 'relu:16'; of moments alone 'identity'"):
        sweep(moments, image_shape=SHAPE, **{**grid, "features": "relu:16"})


def test_draws_are_doubled_while_they_err_by_too_much(data):
    moments = reconjax.moments_from_batches(data.train.batches(), num_classes=3)
    lift = reconjax.lift.lift(data, reconjax.lift.random_layers([16], 16), moments=moments)
    noise = patch_mask(0.5, 2, SHAPE)
    options = {"tolerance": 1e-9, "draws": 5}
    seen, ((solution,),) = reconjax.lift.solve_noise(lift, noise, [0.5], **options)
    assert seen.draws == 4
    parts = [
        reconjax.lift.lifted_moments(lift, noise, draws=d, seed=s)
        for d, s in [(1, 0), (1, 1), (2, 2)]
    ]
    whole = reconjax.lift.more_draws(reconjax.lift.more_draws(*parts[:2]), parts[2])
    np.testing.assert_allclose(seen.covariances.second, whole.covariances.second, atol=1e-12)
    once, ((rough,),) = reconjax.lift.solve_noise(lift, noise, [0.5], tolerance=1.0, draws=5)
    assert once.draws == 1
    assert float(solution.monte_carlo_error.mean()) < float(rough.monte_carlo_error.mean())
    with pytest.raises(ValueError, match="draws: 1; at least 2"):
        reconjax.lift.solve_noise(lift, noise, target=joint_embedding())
    with pytest.raises(ValueError, match="tolerance: -1; it must be >= 0"):
        reconjax.lift.solve_noise(lift, noise, tolerance=-1)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"features": "tanh:5"}, "features: 'tanh:5'; known are identity"),
        ({"features": "relu:16", "ridges": [-1]}, "ridge: -1.0; it must be finite and >= 0"),
        ({"features": "relu:16", "ridges": []}, "ridges: none"),
        ({"features": "relu:16", "draws": 0}, "draws: 0; a whole number, at least 1,"),
        ({"features": "relu:16", "max_latent_dim": 17}, r"latent_dim: 17; 1 .. 16"),
        ({"features": "relu:16", "max_latent_dim": 0}, "latent_dim: 0; it must be at least 1"),
        (
            {"features": "relu:4096", "memory": 0.5},
            "4096 lifted features, relu:4096,.*GiB are there",
        ),
        (
            {"features": "relu:16", "side": "samples"},
            "side: samples; it does not apply to features",
        ),
        ({"features": "relu:16", "bootstrap": 7}, "bootstrap: 7; it does not apply to features"),
        ({"ridges": [0.1]}, r"ridges: \[0.1\]; it does not apply to inputs as they are"),
        ({"draws": 2}, "draws: 2; it does not apply to inputs as they are"),
        (
            {"features": "relu:16", "precision": "mixed", "ridges": [0]},
            "ridge: 0; with features in",
        ),
    ],
)
def test_bad_input_is_refused_in_a_line(data, options, text):
    with pytest.raises(ValueError, match=text) as raised:
        sweep(data, **{**GRID, **options})
    assert "\n" not in str(raised.value)
