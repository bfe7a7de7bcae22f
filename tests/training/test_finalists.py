"""Masks trained within a budget: which, for how long, and what goes on after an interruption."""

import json
import shutil
from functools import partial

import numpy as np
import pytest

import reconjax as rj
from reconjax.cli.main import main
from reconjax.noise import parse_noise
from reconjax.storage.files import write_json
from reconjax.training import finalists

READING = {"max_samples": 300, "progress": False}


@pytest.mark.parametrize("shape", [(32, 32, 3), (28, 28, 1), (8, 8, 1), (7, 5, 2), (224, 224, 3)])
def test_masks_keep_whole_numbers_of_blocks_of_the_patches_of_a_network(shape):
    height, width = rj.nets.usual_patch(shape)
    found = finalists.masks(shape)
    assert len(set(found)) == len(found) >= 4
    seen = set()
    for text in found:
        noise = parse_noise(text, shape)
        _, ratio, patch = text.split(":")
        rows, columns = map(int, patch.split("x"))
        assert rows % height == columns % width == 0
        assert 1 <= int(noise.kept) < noise.count
        # As many as the ratio says, although it is written with six digits.
        assert abs((1 - float(ratio)) * noise.count - int(noise.kept)) < 0.3
        seen.add((patch, int(noise.kept)))
        rj.training.masked(noise)
    assert len(seen) == len(found)


def test_a_budget_is_kept_to_and_is_spent():
    for budget, epoch, beside in [(1000, 1, 2), (200, 2, 5), (60, 3, 4), (5, 10, 3), (1e5, 1, 0)]:
        plan = finalists._schedule(budget, epoch, beside)
        start, first = plan["start"], plan["epochs"]
        rounds = int(np.log2(start)) + 1
        runs = [(start >> number, first << number) for number in range(rounds)]
        cost = sum(count * (epochs * epoch + beside) for count, epochs in runs)
        assert runs[-1][0] == 1
        if start > 1:
            assert first >= finalists.LEAST_EPOCHS
        if first > 1:
            assert cost <= (1 - finalists.RESERVE) * budget
            more = cost + sum(count * (epochs // first) * epoch for count, epochs in runs)
            assert more > (1 - finalists.RESERVE) * budget
    assert finalists._schedule(5, 10, 3) == {"start": 1, "epochs": 1}
    assert finalists._schedule(1000, 1, 2)["start"] == 4


@pytest.fixture(scope="module")
def shallow():
    """Networks of one block in place of three: blocks are what compiling takes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finalists, "make", partial(rj.nets.make, depth=1))
        yield


@pytest.fixture(scope="module")
def trained(tmp_path_factory, shallow):
    """Two masks for an epoch, the better one for two."""
    folder = tmp_path_factory.mktemp("finalists")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finalists, "_schedule", lambda *_: {"start": 2, "epochs": 1})
        result = rj.training.train_finalists("digits", 60.0, out=folder, **READING)
    return folder, result


def test_the_first_by_the_closed_form_are_trained_and_the_better_half_goes_on(trained):
    _, result = trained
    predicted = result.predicted.values
    assert (np.diff(predicted) <= 0).all()
    assert result.epochs.values.tolist() == [1, 2]
    there = result.r2.notnull().values
    assert there[:, 0].tolist() == [True, True] + [False] * (len(predicted) - 2)
    assert there[:, 1].sum() == 1
    better = int(np.argmax(result.validation_r2.values[:2, 0]))
    assert there[better, 1]
    assert result.attrs["chosen"] == result.noise[better].item()
    # The closed form is that of the sweep, at half of the features.
    digits = rj.data.load("digits")
    _, ratio, patch = result.noise[0].item().split(":")
    sweep = rj.studies.sweep(
        digits, noise="exact", patches=[patch], ratios=[float(ratio)], latent_dims=[32],
        max_samples=300, bootstrap=0, progress=False,
    )  # fmt: skip
    assert float(sweep.held_out.squeeze()) == pytest.approx(predicted[0], abs=1e-6)


def test_what_is_there_is_not_trained_again(trained, monkeypatch, tmp_path):
    folder, before = trained
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    calls = []
    fit = finalists.fit
    monkeypatch.setattr(
        finalists, "fit", lambda *a, **k: calls.append(k["out"].name) or fit(*a, **k)
    )
    again = rj.training.train_finalists("digits", 60.0, out=copy, **READING)
    assert not calls
    for name in before.data_vars:
        np.testing.assert_array_equal(again[name], before[name])
    # The last one was interrupted after its training, before its probe.
    (last,) = copy.glob("1-*.json")
    last.unlink()
    again = rj.training.train_finalists("digits", 60.0, out=copy, **READING)
    assert calls == [last.stem]
    np.testing.assert_allclose(again.r2, before.r2, atol=1e-6)


def test_bad_input_is_refused_in_one_line(trained):
    folder, _ = trained
    x, y = np.zeros((40, 8, 8, 1), np.float32), np.arange(40) % 2
    x[:, 0, 0, 0] = y
    data = rj.data.Dataset.from_arrays
    train = rj.training.train_finalists
    with pytest.raises(ValueError, match=r"budget: 0\.0; seconds > 0"):
        train("digits", 0.0)
    with pytest.raises(ValueError, match="of another budget"):
        train("digits", 50.0, out=folder, **READING)
    with pytest.raises(ValueError, match="has no test split; --test-share"):
        train(data(x, y), 1.0)
    with pytest.raises(ValueError, match="images"):
        train(data(x.reshape(40, 64), y, x.reshape(40, 64), y), 1.0)
    with pytest.raises(ValueError, match="classes are needed"):
        train(data(x, x[:, 0, 0], x, x[:, 0, 0]), 1.0)
    with pytest.raises(ValueError, match="class_weight: balanced; networks are trained without"):
        train("digits", 1.0, class_weight="balanced")
    plan = json.loads((folder / "plan.json").read_text())
    write_json({**plan, "order": plan["order"][::-1]}, folder / "plan.json")
    with pytest.raises(ValueError, match="of another data"):
        train("digits", 60.0, out=folder, **READING)
    write_json(plan, folder / "plan.json")


def test_the_command_prints_what_training_said(trained, tmp_path, capsys):
    folder, result = trained
    shutil.copytree(folder, tmp_path / "finalists")
    options = ["--max-samples", "300", "--latent-dims", "16", "--patches", "2", "--ratios", "0.5"]
    command = ["advise", "digits", *options, "--target", "whitened:0.5", "--out", str(tmp_path)]
    assert main([*command, "--train", "1m"]) == 0
    printed = capsys.readouterr().out
    assert "closed form, K = 32 1 epoch 2 epochs" in printed
    chosen = result.attrs["chosen"]
    assert f"{chosen} was trained last" in printed
    record = json.loads((tmp_path / "advise.json").read_text())["finalists"]
    assert record["chosen"] == chosen
    assert len(record["trained"]) == 3
    assert (tmp_path / "finalists.png").stat().st_size > 5000
    assert main([*command, "--train", "soon"]) == 2
    assert "--train: soon; a time like 90s, 20m or 1h is needed" in capsys.readouterr().err
