"""What to train: the ranking as it is read, the commands that it ends in, its refusals."""

import json
import shlex

import numpy as np
import pytest

from reconjax import studies
from reconjax.cli.main import application, main
from reconjax.data import Dataset, digits
from reconjax.report import training_commands
from reconjax.studies.objective_choice import NOISE

GRID = {"patches": [2, 4], "ratios": [0.0, 0.75], "target": ["whitened:0.75"]}


@pytest.fixture(scope="module")
def result():
    return studies.advise("digits", **GRID, latent_dims=[4, 16])


def test_the_largest_gain_comes_first_and_no_noise_last(result):
    for latent_dim in (4, 16):
        rows = studies.recipes(result, latent_dim)
        gains = [row.gain for row in rows[:-1]]
        assert gains == sorted(gains, reverse=True)
        assert rows[-1][:4] == ("reconstruction", "pixels", "", latent_dim)
        assert len({row[:3] for row in rows}) == len(rows)
        for row in rows:
            without = float(result.held_out_without.sel(latent_dim=latent_dim))
            assert row.held_out - without == pytest.approx(row.gain, abs=1e-6)
    assert studies.recipes(result) == studies.recipes(result, 16)


def test_each_is_a_point_of_the_grid(result):
    for row in studies.recipes(result)[:-1]:
        name = f"{row.noise} {row.target}" if row.target not in ("", "pixels") else row.noise
        at = result.isel(point=np.flatnonzero(result.noise.values == name)).sel(latent_dim=16)
        assert row.r2 in at.r2.values.tolist()


def test_all_directions_explain_what_align_says(result):
    whole = studies.align("digits", bootstrap=0)
    assert result.attrs["r2_all"] == pytest.approx(float(whole.r2[-1]), abs=1e-5)
    assert result.latent_dim.values.tolist() == [4, 16]


def test_another_k_or_study_is_refused(result):
    with pytest.raises(ValueError, match="latent_dim: 5; 4, 16 are there"):
        studies.recipes(result, 5)
    with pytest.raises(ValueError, match="one of compare is needed"):
        studies.recipes(result.assign_attrs(study="align"))


def test_the_command_ends_in_lines_that_run(tmp_path, capsys):
    options = ["--patches", "2", "4", "--ratios", "0", "0.75", "--target", "whitened:0.75"]
    options += ["--latent-dims", "4", "16", "--out", str(tmp_path), "--max-samples", "1200"]
    assert main(["advise", "digits", *options]) == 0
    printed = capsys.readouterr().out
    assert ("First choice: " in printed) != ("PCA is as good" in printed)
    assert "Never matters: Gaussian noise" in printed
    written = json.loads((tmp_path / "advise.json").read_text())
    assert {row["latent_dim"] for row in written["recipes"]} == {4, 16}
    assert (tmp_path / "advise.png").stat().st_size > 5000
    assert 1 <= len(written["commands"]) <= 2
    for line in written["commands"]:
        assert line in printed
        program, *argv = shlex.split(line)
        assert program == "reconjax"
        command, _, _ = application().parse_args(argv, exit_on_error=False, print_error=False)
        assert command.__name__ == "train"
        assert argv[-2:] == ["--max-samples", "1200"]  # of the same examples
    assert not (tmp_path / "objectives.nc").exists()
    assert studies.open(tmp_path / "advise.nc").latent_dim.values.tolist() == [4, 16]


def test_labels_without_signal_make_no_first_choice(tmp_path, capsys):
    """Images of digits, for which everything is compiled already, with labels at random."""
    splits = digits().train, digits().test
    parts = (split.examples(range(len(split))) for split in splits)
    images, labels = (np.concatenate(both) for both in zip(*parts, strict=True))
    labels = np.random.default_rng(0).permutation(labels)
    cut = len(splits[0])
    mixed = Dataset.from_arrays(images[:cut], labels[:cut], images[cut:], labels[cut:])
    assert not studies.recipes(studies.advise(mixed, **GRID, latent_dims=[4, 16]))[0].certain
    path = str(tmp_path / "mixed.npz")
    given = {"x_train": images[:cut], "y_train": labels[:cut]}
    np.savez(path, **given, x_test=images[cut:], y_test=labels[cut:])
    options = ["--patches", "2", "4", "--ratios", "0", "0.75", "--target", "whitened:0.75"]
    assert main(["advise", path, *options, "--latent-dims", "4", "16"]) == 0
    printed = capsys.readouterr().out
    assert "cannot be told from permuted ones" in printed
    assert "aligned at" not in printed
    assert "reconjax train" not in printed
    assert main(["align", path, "--bootstrap", "0"]) == 0
    assert "cannot be told from permuted ones" in capsys.readouterr().out
    assert main(["align", "digits", "--bootstrap", "0"]) == 0
    assert "cannot be told" not in capsys.readouterr().out


def recipe(objective, target, noise, p_value, gain=0.1):
    return studies.Recipe(objective, target, noise, 16, 0.6, 0.5, gain, 0.01, p_value)


PLAIN = recipe("reconstruction", "pixels", "", 1.0, 0.0)


def test_commands_train_what_is_the_first_choice(result):
    embedding = recipe("joint-embedding", "", "mask:0.75:4x4", 0.01)
    whitened = recipe("reconstruction", "whitened:0.75", "mask:0.75:2x2", 0.02)
    pixels = recipe("reconstruction", "pixels", "mask:0.75:4x4", 0.03)
    doubtful = recipe("reconstruction", "pixels", "mask:0.75:4x4", 0.5)

    def commands(*rows):
        found = training_commands("digits", result, [*rows, PLAIN], {})
        return [line.removeprefix("reconjax train digits ") for line in found]

    views = "--noise mask:0.75:4x4 --objective joint-embedding --latent-dim 16 --out embedding"
    assert commands(embedding, doubtful) == [views]
    first, vit, mlp = commands(embedding, whitened, pixels)
    assert first == views
    # The patches of a vision transformer are 2 x 2 here, and it reconstructs pixels.
    at = result.isel(point=result.family.values == NOISE).sel(latent_dim=16)
    masks = zip(at.r2.values.tolist(), at.noise.values.tolist(), strict=True)
    best = max(pair for pair in masks if not pair[1].startswith("mask:0:"))[1]
    assert vit == f"--net vit --noise {best.replace('mask', 'exact')} --out vit"
    assert mlp == "--noise mask:0.75:4x4 --latent-dim 16 --out mlp"
    assert commands(whitened, doubtful)[-1].startswith("--noise mask:0.75:2x2 --target whitened")
    # Of 4 or 16 patches, 0.99 would keep none.
    noises = [str(name).replace(":0.75:", ":0.99:") for name in result.noise.values]
    strong = result.assign_coords(noise=("point", noises))
    (mlp,) = training_commands("digits", strong, [pixels, PLAIN], {})
    assert mlp.endswith("--out mlp")
    assert commands(doubtful) == ["--latent-dim 16 --out run"]


def test_fewer_samples_than_features_have_no_verdict_on_the_training_samples(
    result, monkeypatch, capsys
):
    monkeypatch.setattr(studies, "advise", lambda *_, **__: result.assign_attrs(features=2000))
    assert main(["advise", "digits"]) == 0
    printed = capsys.readouterr().out
    assert "1437 samples of 2000 features: on so few any labels can be explained" in printed
    assert "aligned at" not in printed
    assert "On new samples, without noise, it explains 0.247 at K = 4, 0.516 at K = 16." in printed
