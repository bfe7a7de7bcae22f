import json

import jax
import numpy as np
import pytest

from experiments import alignment, masking, optimality, regimes, report, subspaces


def read(folder, module):
    return json.loads((folder / f"{module.NAME}.json").read_text())


def run(module, folder, *more):
    with jax.numpy_dtype_promotion("standard"):  # as on the command line
        module.main(["--preset", "smoke", "--out", str(folder), *more])
    return read(folder, module)


@pytest.fixture(scope="module")
def optimality_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("optimality")
    return folder, run(optimality, folder)


@pytest.fixture(scope="module")
def regimes_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("regimes")
    return folder, run(regimes, folder)


def refuse(*args, **kwargs):
    raise AssertionError("measured again")


@pytest.fixture
def no_work(monkeypatch):
    """Measuring anything is an error, and nothing is drawn."""
    for module in (optimality, regimes):
        monkeypatch.setattr(module, "measure", refuse)
    monkeypatch.setattr(report, "picture", lambda *args, **kwargs: None)


@pytest.mark.slow
def test_gradient_descent_reaches_the_closed_form_and_never_beats_it(optimality_run):
    folder, results = optimality_run
    panels = [panel for part in results["parts"].values() for panel in part["panels"]]
    assert len(panels) == 8
    assert {panel["reconstruction_weight"] for panel in panels} >= {0.0, 10.0, "inf"}
    for panel in panels:
        assert panel["smallest_gap"] > -1e-12
        assert panel["smallest_gap_float32"] > -1e-5
        assert abs(panel["closed_form_gap"]) < 1e-12
        assert panel["final_gap_worst"] < 1e-6
        for check in panel.get("sampled_noise", {}).values():
            assert abs(check["standard_errors"]) < 4
    assert results["summary"]["sampling_checks"] == 8
    for name in ("fig9", "beyond_fig9"):
        assert (folder / f"{name}.png").stat().st_size > 5000


def test_regimes_have_a_verdict_on_every_factor(regimes_run):
    folder, results = regimes_run
    preset = regimes.PRESETS["smoke"]
    assert len(results["parts"]) == 4
    for part in results["parts"].values():
        assert len(part["runs"]) == preset["seeds"]
        for measured in part["runs"]:
            assert 0 < measured["corrected_k90_share"] <= 1
            assert 0 < measured["k90_share"] <= 1
            assert measured["r2_test"] < measured["r2_train"]
            assert measured["curves"]["alignment"][-1] == pytest.approx(1)
    for factor in regimes.FACTORS:
        verdict = results["summary"][factor]
        assert verdict["values"] == preset[factor]
        assert isinstance(verdict["held"], bool)
        for name in regimes.CLAIMS:
            assert len(verdict[name]["mean"]) == len(preset[factor])
    assert results["summary"]["self_check"] < 1e-9
    for name in ("regimes", "r2"):
        assert (folder / f"{name}.png").stat().st_size > 5000


@pytest.mark.usefixtures("no_work")
@pytest.mark.parametrize("module", [pytest.param(optimality, marks=pytest.mark.slow), regimes])
def test_finished_parts_are_not_measured_again(module, request):
    folder, before = request.getfixturevalue(f"{module.NAME}_run")
    assert run(module, folder)["parts"] == before["parts"]


@pytest.mark.usefixtures("no_work")
@pytest.mark.parametrize("module", [pytest.param(optimality, marks=pytest.mark.slow), regimes])
def test_results_of_other_settings_are_refused(module, request, capsys):
    folder, _ = request.getfixturevalue(f"{module.NAME}_run")
    with pytest.raises(SystemExit) as error:
        run(module, folder, "--seed", "7")
    assert error.value.code == 2
    line = capsys.readouterr().err.strip()
    assert "seed" in line
    assert "\n" not in line


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit) as error:
        report.arguments("", ["--out", str(tmp_path / "file" / "folder")])
    assert error.value.code == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_numbers_that_json_lacks_are_written_all_the_same(tmp_path):
    report.write(tmp_path, "some", {"values": [float("nan"), float("inf"), -float("inf"), 1.5]})
    assert json.loads((tmp_path / "some.json").read_text())["values"] == [None, "inf", "-inf", 1.5]


def test_a_broken_file_is_refused(tmp_path, capsys):
    (tmp_path / "some.json").write_text("{")
    with pytest.raises(SystemExit):
        report.measured(tmp_path, "some", {}, {})
    assert "cannot be read" in capsys.readouterr().err


def test_a_run_that_was_killed_goes_on_with_the_next_part(tmp_path, capsys):
    calls = []

    def measure(name, fails=False):
        calls.append(name)
        if fails:
            raise KeyboardInterrupt
        return {"value": np.float64(0.1), "curve": np.array([np.nan, np.inf]), "name": name}

    def cases(fails):
        return {"a: 1/2": lambda: measure("a"), "b": lambda: measure("b", fails)}

    with pytest.raises(KeyboardInterrupt):
        report.measured(tmp_path, "some", {"seed": 0}, cases(True))
    assert not (tmp_path / "some.json").exists()
    with pytest.raises(SystemExit):
        report.measured(tmp_path, "some", {"seed": 1}, cases(False))
    assert "seed" in capsys.readouterr().err.splitlines()[-1]
    results = report.measured(tmp_path, "some", {"seed": 0}, cases(False))
    assert calls == ["a", "b", "b"]
    assert list(results["parts"]) == ["a: 1/2", "b"]
    part = results["parts"]["a: 1/2"]
    assert part.pop("seconds") >= 0
    assert part == {"value": 0.1, "curve": [None, "inf"], "name": "a"}
    # Of a finished run, the file alone is left, and it is read.
    assert [path.name for path in tmp_path.iterdir()] == ["some.json"]
    again = report.measured(tmp_path, "some", {"seed": 0}, cases(True))
    assert again["parts"]["b"] == results["parts"]["b"]


def test_alignment_masking_and_subspaces_agree_on_the_digits(tmp_path, monkeypatch):
    results = {}
    for module, name in ((alignment, "alignment"), (masking, "masking"), (subspaces, "subspaces")):
        argv = ["--preset", "smoke", "--data", "digits", "--out", str(tmp_path)]
        module.main(argv)
        results[name] = json.loads((tmp_path / f"{name}.json").read_text())["parts"]["digits"]
        assert (tmp_path / f"{name}.png").stat().st_size > 5000
        # A second run measures nothing.
        monkeypatch.setattr(module, "measure", refuse)
        module.main(argv)
    curves, masks, sides = (results[name] for name in ("alignment", "masking", "subspaces"))
    assert curves["latent_dim"] == masks["latent_dim"]
    for patch in masks["patches"].values():
        assert patch["alignment"][0] == pytest.approx(curves["alignment"], abs=2e-5)
        assert patch["worst"]["change"] < 0 < patch["best"]["change"]
    for share, row in sides["shares"].items():
        assert row["top"] + row["bottom"] == pytest.approx(curves["r2_by_all"])
        assert 1 <= row["directions"] <= curves["rank"]
        assert float(share) <= 1
    with pytest.raises(SystemExit):
        alignment.main(["--preset", "quick", "--data", "digits", "--out", str(tmp_path)])
