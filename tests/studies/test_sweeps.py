"""The study of a grid of noises: what the command gives, in one call and with labels."""

import json

import numpy as np
import oracle
import pytest
import xarray

import reconjax
from reconjax import studies
from reconjax.data import Dataset
from reconjax.evidence.p_values import search_p_values
from reconjax.studies import rays

GRID = {
    "patches": ["2x2", (4, 2)],
    "ratios": [0, 0.25, 0.7],
    "weights": [0.5, np.inf],
    "precision": "float64",
}


@pytest.fixture(scope="module")
def arrays():
    """Training and test split, with the mean image of the former at its place."""
    (x, labels), (test_x, test_labels) = (oracle.dataset("plain", seed) for seed in (0, 1))
    return x, labels, test_x, test_labels


@pytest.fixture(scope="module")
def data(arrays):
    return Dataset.from_arrays(*arrays, name="small")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("sweep")


@pytest.fixture(scope="module")
def result(data, folder):
    return studies.sweep(data, **GRID, bootstrap=7, out=folder)


@pytest.fixture(scope="module")
def moments(arrays):
    return reconjax.moments(*arrays[:2])


def test_a_point_is_found_by_its_coordinates_and_is_that_of_the_oracle(result, arrays):
    x, y = oracle.centered(*arrays[:2])
    clean, total = oracle.noiseless(x, y), np.sum(y**2) / len(y)
    assert result.r2.dims == ("patch", "ratio", "weight", "latent_dim")
    assert result.patch.values.tolist() == ["2x2", "4x2"]
    assert result.ratio.values.tolist() == GRID["ratios"]
    for weight in GRID["weights"]:
        groups = oracle.patch_groups(oracle.SHAPE, (4, 2))
        noisy = oracle.with_dropout(clean, groups, 0.7)
        expected = oracle.curves(x, y, noisy, weight)
        point = result.sel(patch="4x2", ratio=0.7, weight=weight)
        np.testing.assert_allclose(point.r2, 1 - expected.clean / total, atol=1e-9)
        assert float(point.r2.sel(latent_dim=32)) == pytest.approx(1 - expected.clean[31] / total)
        np.testing.assert_allclose(point.supervised_loss, expected.clean, atol=1e-9)
        np.testing.assert_allclose(point.reconstruction_loss, expected.reconstruction, atol=1e-9)
        without = oracle.curves(x, y, clean, weight)
        here = result.sel(weight=weight)
        np.testing.assert_allclose(here.r2_without, 1 - without.clean / total, atol=1e-9)
        np.testing.assert_allclose(
            here.reconstruction_loss_without, without.reconstruction, atol=1e-9
        )
        gain = (without.clean - expected.clean) / total
        np.testing.assert_allclose(point.gain, gain, atol=1e-9)


def test_the_held_out_curve_is_that_of_least_squares(result, arrays):
    x, y = oracle.centered(*arrays[:2])
    test_x = arrays[2].reshape(len(arrays[2]), -1) - arrays[0].reshape(len(x), -1).mean(0)
    test_y = np.eye(4)[arrays[3]] - np.eye(4)[arrays[1]].mean(0)
    groups = oracle.patch_groups(oracle.SHAPE, (2, 2))
    vectors = oracle.encoder(oracle.with_dropout(oracle.noiseless(x, y), groups, 0.25), np.inf)
    for k in (1, 5, 20):
        head = np.linalg.lstsq(x @ vectors[:, :k], y)[0]
        residual = test_x @ vectors[:, :k] @ head - test_y
        point = result.sel(patch="2x2", ratio=0.25, weight=np.inf, latent_dim=k)
        expected = 1 - np.sum(residual**2) / np.sum(test_y**2)
        assert float(point.held_out) == pytest.approx(expected, abs=1e-8)
    assert result.attrs["test_samples"] == 90


def test_the_uncertainty_of_every_point_is_beside_it(result):
    for name in ("r2", "gain"):
        assert result[f"{name}_corrected"].dims == result.r2.dims
        assert np.all(result[f"{name}_standard_error"].sel(ratio=0.7) > 0)
    none = result.sel(ratio=0)
    assert np.all(none.gain_standard_error.sel(patch="2x2") == 0)
    assert np.all(none.gain_standard_error < 1e-9)
    assert np.all(none.p_value.sel(patch="2x2") == 1)
    assert result.agreement.dims == (*result.r2.dims, "fold")
    for weight in GRID["weights"]:
        of_weight = result.sel(weight=weight)
        # r2 on each fold: its mean is that of the split, its spread twice that of the agreement.
        folds, none = (
            of_weight[f"held_out{end}"] + 2 * (agreement - agreement.mean("fold"))
            for end, agreement in (
                ("", of_weight.agreement),
                ("_without", of_weight.agreement_without),
            )
        )
        error = of_weight.error + of_weight.error_without
        expected = search_p_values(folds.transpose("patch", "ratio", ...), none, error)
        np.testing.assert_array_equal(of_weight.p_value, expected)


def test_chance_is_that_of_permuted_labels(result, arrays):
    x, y = oracle.centered(*arrays[:2])
    u, _, _ = np.linalg.svd(x, full_matrices=False)
    rng = np.random.default_rng(0)
    permuted = []
    for _ in range(400):
        coordinates = u.T @ rng.permutation(y)
        eq7 = np.sum((coordinates @ (y.T @ y)) * coordinates, axis=1)
        r2 = np.sum(coordinates**2, axis=1) / np.sum(y**2)
        permuted.append((np.cumsum(r2), np.cumsum(eq7) / np.sum(eq7)))
    for name, draws in zip(("r2_chance", "chance"), np.array(permuted).swapaxes(0, 1), strict=True):
        error = draws.std(axis=0, ddof=1) / np.sqrt(len(draws))
        assert np.all(np.abs(result[name] - draws.mean(axis=0)) < 4 * error + 1e-12)


def test_its_file_says_where_it_is_from_and_opens_alike(result, folder):
    opened = studies.open(folder / "sweep.nc")
    xarray.testing.assert_equal(opened, result)
    for name, value in {"data": "small", "noise": "mask", "readout": "clean", "rank": 32}.items():
        assert opened.attrs[name] == value
    assert json.loads(opened.attrs["settings"])["weights"] == ["0.5", "inf"]
    point = {"patch": "4x2", "ratio": 0.7, "weight": 0.5, "latent_dim": 8}
    assert float(opened.r2.sel(point)) == float(result.r2.sel(point))
    plain = dict(np.load(folder / "sweep.npz"))
    np.testing.assert_array_equal(plain.pop("patch_shape"), [[2, 2], [4, 2]])
    np.testing.assert_array_equal(plain.pop("mask_ratio"), GRID["ratios"])
    np.testing.assert_array_equal(plain.pop("reconstruction_weight"), GRID["weights"])
    assert {"r2", "held_out", "p_value", "gain_corrected", "error", "reduced"} <= plain.keys()
    for name, values in plain.items():
        np.testing.assert_array_equal(values, result[name])
    assert sorted(path.name for path in folder.iterdir()) == ["sweep.nc", "sweep.npz"]


def test_moments_give_the_same_without_folds_and_test_split(result, moments):
    alone = studies.sweep(moments, **GRID, image_shape=oracle.SHAPE)
    for name in ("r2", "alignment", "gain"):
        np.testing.assert_allclose(alone[name], result[name], rtol=0, atol=1e-10)
    assert not {"held_out", "p_value", "r2_standard_error"} & set(alone)
    for options, message in (
        ({"image_shape": None}, r"image_shape: not given; .* the \(H, W, C\) of moments"),
        ({"image_shape": (4, 4, 3)}, r"image_shape: \(4, 4, 3\); \(H, W, C\) of 32 values"),
        ({"image_shape": oracle.SHAPE, "bootstrap": 7}, "bootstrap: 7; moments have no folds"),
        ({"image_shape": oracle.SHAPE, "max_samples": 5}, "max_samples: 5; it does not apply"),
    ):
        with pytest.raises(ValueError, match=message):
            studies.sweep(moments, **{**GRID, **options})


@pytest.mark.slow
def test_noises_without_patches_have_no_such_axis(moments):
    options = {"precision": "float64", "latent_dims": [3, 30]}
    pixel = studies.sweep(moments, noise="pixel", ratios=[0.1, 0.3], **options)
    assert pixel.r2.dims == ("ratio", "weight", "latent_dim")
    gaussian = studies.sweep(moments, noise="gaussian", stds=[0.1, 0.3], **options)
    assert gaussian.r2.dims == ("std", "weight", "latent_dim")
    # Corollary 3.1: nothing changes, but what is reconstructed.
    np.testing.assert_allclose(gaussian.gain, 0, atol=1e-9)
    assert np.all(gaussian.reconstruction_loss > gaussian.reconstruction_loss_without)
    assert studies.best(pixel).ratio.dims == ("weight", "latent_dim")


def test_the_best_is_the_largest_r2_of_the_grid(result):
    best = studies.best(result, [2, 16])
    for w, weight in enumerate(GRID["weights"]):
        for k in (2, 16):
            grid = result.r2.values[:, :, w, k - 1]
            p, r = np.unravel_index(np.argmax(grid), grid.shape)
            row = best.sel(weight=weight, latent_dim=k)
            assert (row.patch.item(), row.ratio.item()) == (["2x2", "4x2"][p], GRID["ratios"][r])
            assert row.r2.item() == grid.max()
            for name in ("gain", "p_value", "held_out", "error", "gain_standard_error"):
                values = result[name].values
                assert row[name].item() == values[(p, r, w, k - 1)[: values.ndim]]
    # The whole table of few K, else powers of two and the rank.
    assert studies.best(result).latent_dim.values.tolist() == [1, 2, 4, 8, 16, 32]
    few = result.sel(latent_dim=slice(3, 6))
    assert studies.best(few).latent_dim.values.tolist() == [3, 4, 5, 6]
    # And of a part of the grid.
    part = studies.best(result.sel(patch="4x2", weight=0.5), [2])
    np.testing.assert_array_equal(part.r2, result.r2.values[1, :, 0, 1].max())
    with pytest.raises(ValueError, match=r"latent_dims: 33; 1 \.\. 32 are there"):
        studies.best(result, [33])
    with pytest.raises(ValueError, match="result: of the study None; 'sweep' is needed"):
        studies.best(result.drop_attrs())


def test_finished_rays_are_not_solved_again(data, tmp_path, monkeypatch, capsys, folder, result):
    calls, sweep, last = [], rays.sweep_targets, 9

    def counted(*args, **options):
        if len(calls) == last:
            raise KeyboardInterrupt
        calls.append(args)
        return sweep(*args, **options)

    monkeypatch.setattr(rays, "sweep_targets", counted)
    options = {**GRID, "bootstrap": 7, "out": tmp_path}
    with pytest.raises(KeyboardInterrupt):  # in the folds of the first ray
        studies.sweep(data, **options)
    assert not (tmp_path / "sweep.npz").exists()
    with pytest.raises(ValueError, match="unfinished run with another readout"):
        studies.sweep(data, **options, readout="noisy")
    assert len(calls) == last
    last = 11
    calls.clear()
    with pytest.raises(KeyboardInterrupt):  # in those of the second: those of the first are kept
        studies.sweep(data, **options)
    assert len(calls) == 11
    assert "going on: 2 of 2 rays are finished" in capsys.readouterr().err
    last = None
    calls.clear()
    studies.sweep(data, **options)
    assert len(calls) == 8
    assert not (tmp_path / "parts").exists()
    assert (tmp_path / "sweep.npz").read_bytes() == (folder / "sweep.npz").read_bytes()


def test_what_is_replaced_is_said_in_a_line(moments, tmp_path, capsys):
    options = {"precision": "float64", "latent_dims": [3, 30], "noise": "pixel", "out": tmp_path}
    studies.sweep(moments, ratios=[0.1, 0.3], **options)
    studies.sweep(moments, ratios=[0.1, 0.3], **options)
    assert capsys.readouterr().err == ""
    studies.sweep(moments, ratios=[0.1, 0.4], **options)
    line = f"{tmp_path}/sweep.nc: of another ratio; it is replaced once this sweep is finished\n"
    assert capsys.readouterr().err == line
    assert studies.open(tmp_path / "sweep.nc").ratio.values.tolist() == [0.1, 0.4]


def test_an_error_for_each_k_keeps_its_axis(moments, data, monkeypatch):
    """The numerical error of each K judges the gains at that K alone."""
    whole = studies.sweep(data, **GRID, bootstrap=0)

    def with_errors(*args, **options):
        (solved,) = rays_sweep(*args, **options)
        error = np.asarray(solved.error)
        error = np.where(np.asarray(solved.latent_dim) < 20, error, 1.0)
        return [solved._replace(error=error)]

    rays_sweep = rays.sweep_targets
    monkeypatch.setattr(rays, "sweep_targets", with_errors)
    each = studies.sweep(data, **GRID, bootstrap=0)
    assert each.error.dims == each.r2.dims
    assert each.error_without.dims == ("weight", "latent_dim")
    assert np.all(studies.best(each, [25]).error == 1)
    assert np.all(studies.best(each, [4]).error < 1e-6)
    # A difference within the error is none.
    assert np.all(each.p_value.sel(latent_dim=slice(20, 32)) == 1)
    some = {"latent_dim": slice(1, 19), "ratio": [0.25, 0.7]}
    np.testing.assert_allclose(each.p_value.sel(some), whole.p_value.sel(some))
    assert np.all(each.p_value.sel(some).min() < 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"noise": "salt"}, "noise: 'salt'; one of mask, exact, pixel, gaussian"),
        ({"patches": ["two"]}, "patches: 'two'; sizes like 4"),
        ({"patches": [2.5]}, "patches: 2.5; sizes like 4"),
        ({"patches": [(1, 2, 3)]}, r"patches: \(1, 2, 3\); \(height, width\) from"),
        ({"patches": []}, "patches: none"),
        ({"patches": [3]}, "3x3 does not divide the 4x4 image"),
        ({"ratios": [0.5, 1]}, r"ratios: 1.0; it must be in \[0, 1\)"),
        ({"ratios": [np.nan]}, r"ratios: nan; it must be in \[0, 1\)"),
        ({"ratios": []}, "ratios: none"),
        ({"stds": [0.1]}, "stds: does not apply to noise mask"),
        ({"noise": "gaussian", "ratios": [0.1]}, "ratios: does not apply to noise gaussian"),
        ({"noise": "gaussian", "stds": [-1]}, "stds: -1.0; it must be finite and >= 0"),
        ({"noise": "pixel", "patches": [2]}, "patches: does not apply to noise pixel"),
        ({"weights": [-1]}, r"weights: -1.0; it must be in \[0, inf\]"),
        ({"latent_dims": [33]}, "latent_dim: 33; 1 .. 32"),
        ({"latent_dims": [2.5]}, "latent_dim: 2.5; it must be a whole number"),
        ({"latent_dims": [2], "max_latent_dim": 3}, "max_latent_dim: given with latent_dims"),
        ({"tolerance": 1}, r"tolerance: 1; it must be in \[0, 1\)"),
        ({"readout": "dirty"}, "readout: 'dirty'"),
        ({"precision": "bfloat16"}, "precision: 'bfloat16'; one of float64, mixed, float32"),
        ({"batch_size": 0}, "batch_size: 0"),
        ({"devices": 99}, "devices: 99; 4 are there"),
        ({"bootstrap": 12}, "bootstrap: 12; 0, 7"),
        ({"memory": 1e-5}, "D = 32 features need about"),
    ],
)
def test_bad_options_are_refused_before_any_work(data, monkeypatch, options, message):
    def work(*args, **kwargs):
        raise AssertionError("work was done")

    monkeypatch.setattr("reconjax.studies.source.moments_from_batches", work)
    monkeypatch.setattr("reconjax.studies.source.fold_moments", work)
    with pytest.raises(ValueError, match=message):
        studies.sweep(data, **options)
