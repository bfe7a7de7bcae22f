"""Examples without a label in studies: what learns from them, what is said, what is refused."""

import numpy as np
import pytest

import reconjax as rj
from reconjax import studies
from reconjax.data import Dataset, digits, load

GRID = {"patches": [2], "ratios": [0.0, 0.75], "latent_dims": [4, 16], "precision": "float64"}
LABELED = 400


@pytest.fixture(scope="module")
def arrays():
    data = digits()
    x, y = data.train.examples(np.arange(len(data.train)))
    return x, y, *data.test.examples(np.arange(len(data.test)))


@pytest.fixture(scope="module")
def few(arrays):
    x, y, x_test, y_test = arrays
    marked = np.where(np.arange(len(y)) < LABELED, y, -1)
    return Dataset.from_arrays(x, marked, x_test, y_test, name="few")


def test_what_has_no_label_is_kept_apart(few, arrays):
    assert (len(few.train), len(few.test), few.num_classes) == (LABELED, 360, 10)
    np.testing.assert_array_equal(few.unlabeled[0].examples(np.arange(3))[0], arrays[0][400:403])
    assert few.notes == ("1037 examples have no label: encoders learn from them, heads do not",)


@pytest.mark.parametrize("missing", [np.nan, None])
def test_nan_and_none_mark_it_too(arrays, missing):
    x, y = arrays[0][:60], arrays[1][:60]
    marked = np.array([label if i < 50 else missing for i, label in enumerate(y.tolist())])
    data = Dataset.from_arrays(x, marked)
    np.testing.assert_array_equal(data.train.labels, y[:50])
    assert len(data.unlabeled[0]) == 10
    real = Dataset.from_arrays(x, np.where(np.arange(60) < 50, y / 3, np.nan))
    assert (len(real.train), real.real_targets) == (50, 1)


def test_two_classes_of_either_sign_are_two_classes(arrays):
    data = Dataset.from_arrays(arrays[0][:60], np.where(arrays[1][:60] > 4, 1, -1))
    assert (data.class_names, data.unlabeled) == (("-1", "1"), ())


def test_a_sweep_learns_from_all_and_reads_out_by_some(few, arrays):
    x, y, x_test, y_test = arrays
    result = studies.sweep(few, bootstrap=7, **GRID)
    labeled, encoder = rj.moments(x[:LABELED], y[:LABELED], num_classes=10), rj.moments(x)
    test = rj.held_out([rj.moments(x_test, y_test, num_classes=10)], labeled)
    grid = rj.mask_grid((8, 8, 1), [2], [0.0, 0.75])
    truth = rj.sweep(labeled, grid, latent_dims=[4, 16], encoder=encoder, held_out=test)
    for name in ("r2", "held_out", "alignment"):
        np.testing.assert_allclose(
            result[name].values[0, :, 0], getattr(truth, name)[0, :, 0], atol=1e-9
        )
    np.testing.assert_allclose(result.r2_without[0], truth.r2[0, 0, 0], atol=1e-9)
    assert (result.attrs["samples"], result.attrs["unlabeled"]) == (LABELED, 1037)
    np.testing.assert_allclose(result.r2_chance, np.array([4, 16]) / (LABELED - 1))
    assert np.all(result.r2_standard_error > 0)


def test_alignment_is_that_without_noise(few, capsys):
    curve = studies.align(few)
    grid = studies.sweep(few, bootstrap=0, **GRID)
    for k in (4, 16):
        here, there = curve.sel(latent_dim=k), grid.sel(latent_dim=k, weight=np.inf)
        for name in ("r2", "alignment", "held_out"):
            assert float(here[name]) == pytest.approx(float(there[f"{name}_without"]), abs=1e-9)
    assert float(curve.alignment[-1]) == pytest.approx(1)
    for options, why in (
        ({"convention": "loss"}, "convention: 'loss'; 'eq7' is needed"),
        ({"bootstrap": 7}, "bootstrap: 7; 0 is needed"),
    ):
        with pytest.raises(ValueError, match=why):
            studies.align(few, **options)


def test_other_data_add_to_the_encoder(few, arrays, tmp_path, capsys):
    x, y, x_test, y_test = arrays
    labeled = Dataset.from_arrays(x[:LABELED], y[:LABELED], x_test, y_test, name="few")
    more = Dataset.from_arrays(x[LABELED:], name="more")
    apart = studies.align(labeled, unlabeled=more)
    np.testing.assert_allclose(apart.r2, studies.align(few).r2, atol=1e-10)
    np.savez(tmp_path / "more.npz", x_train=x[LABELED:])
    again = studies.align(labeled, unlabeled=str(tmp_path / "more.npz"))
    np.testing.assert_allclose(again.r2, apart.r2, atol=1e-10)
    small = load("digits", resize=4)
    with pytest.raises(ValueError, match=r"unlabeled: digits has 4 x 4.*few has 8 x 8"):
        studies.align(labeled, unlabeled=small)


def test_no_label_is_needed_to_detect(few, arrays):
    detected = studies.detect(few, noises=["mask:0.5:2x2"], latent_dims=[4])
    whole = studies.detect(Dataset.from_arrays(arrays[0]), noises=["mask:0.5:2x2"], latent_dims=[4])
    assert detected.attrs["samples"] == len(arrays[0])
    assert detected.largest_change.item() == pytest.approx(whole.largest_change.item(), abs=1e-9)


def test_what_does_not_go_with_it_is_refused_or_said(few, capsys):
    for options, why in (
        ({"class_weight": "balanced"}, "class_weight: 'balanced'; it does not apply"),
        ({"standardize": True}, "standardize: True; it does not apply"),
        ({"weights": [1.0]}, "reconstruction_weights: 1; .* inf alone"),
        ({"readout": "noisy"}, "readout: 'noisy'"),
        ({"side": "samples"}, "side: 'samples' does not apply to examples without a label"),
    ):
        with pytest.raises(ValueError, match=why):
            studies.sweep(few, **{**GRID, **options})
    studies.compare(few, families=["gaussian:0.5"], latent_dims=[4])
    assert "few: 1037 examples without a label left out" in capsys.readouterr().err


def test_the_command_says_how_many_there_are(arrays, tmp_path, capsys):
    from reconjax.cli.main import main

    x, y, x_test, y_test = arrays
    path = tmp_path / "few.npz"
    marked = np.where(np.arange(len(y)) < LABELED, y, -1)
    np.savez(path, x_train=x, y_train=marked, x_test=x_test, y_test=y_test)
    assert main(["align", str(path)]) == 0
    shown = capsys.readouterr()
    assert "few: 400 labeled samples, 1037 without a label, 64 features of rank 61" in shown.out
    assert "1037 examples have no label" in shown.err
