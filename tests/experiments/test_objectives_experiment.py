"""The experiment of what networks should learn: its cells, its settings, and its arithmetic."""

import argparse

import numpy as np
import pytest

from experiments import table
from experiments.objectives import __main__ as command
from experiments.objectives import cells, page, picture, settings, verdict
from experiments.objectives.cells import CHOICES, Cell, Choice, Row, Settings
from experiments.objectives.predictors import EMBEDDING, Value, closed
from reconjax.data import Dataset

PIXELS, EMBEDDED = Choice("pixels", cells.NOISES[0]), Choice("whitening", cells.NOISES[0])


def options(tmp_path, **changes):
    values = {"out": tmp_path, "data": ["a", "b"], "tuned_on": ["a"], "nets": ["mlp"], "seeds": 3}
    return argparse.Namespace(
        **values
        | {"images": 500, "samples": 500, "data_dir": None, "minutes": None, "choices": None}
        | changes
    )


def row(data, choice, seed, r2, candidate, validation_r2=0.5):
    weights = " ".join(f"{weight:g}" for weight in candidate.weights or ())
    return Row(
        data, "mlp", *choice, 500, candidate.learning_rate, weights, seed, 0.1, validation_r2, r2,
        2 * r2, "cpu, jax 0",
    )  # fmt: skip


def known(tmp_path, best=1):
    """Trials of all kinds, of which the `best`-th candidate is; gives it for each."""
    chosen = {}
    for kind in ("pixels", "whitened:0.75", "whitening", "vicreg"):
        for place, candidate in enumerate(settings.candidates(kind)):
            rows = [
                row("a", Choice(kind, cells.NOISES[0]), 100, 0.0, candidate, float(place == best))
            ]
            table.append(tmp_path / "settings.csv", rows)
        chosen[kind] = settings.candidates(kind)[best]
    return chosen


def test_choices_are_all_there_and_the_first_answer_both_questions():
    assert len(set(CHOICES)) == len(CHOICES) == 13
    assert {choice.noise for choice in CHOICES if choice.embedding} == set(cells.NOISES)
    asked = {question for question, *pair in verdict.pairs() if set(pair) <= set(CHOICES[:4])}
    assert asked == {"target", "embedding"}
    for _, one, other in verdict.pairs():
        assert (one.noise, other.learned) == (other.noise, "pixels")
        assert {one, other} <= set(CHOICES)


def test_settings_are_the_best_on_average_by_validation_alone(tmp_path):
    candidates = settings.candidates("pixels")
    # Relative to the best of each set: one set of large numbers does not decide.
    scores = np.array([[0.9, 0.05], [0.85, 0.10], [0.1, 0.09]])
    assert settings.best(scores, candidates) == candidates[1]
    given = options(tmp_path)
    assert settings.known("mlp", "pixels", given) is None
    chosen = known(tmp_path, best=2)
    for kind, candidate in chosen.items():
        assert settings.known("mlp", kind, given) == candidate
    assert settings.known("mlp", "pixels", options(tmp_path, images=600)) is None
    assert settings.known("conv", "pixels", given) is None
    assert settings.kind_of(Choice("whitened:0.5", "none")) == "whitened:0.75"


def test_what_is_not_trained_is_trained_once_and_with_the_settings_of_its_kind(
    tmp_path, monkeypatch
):
    made = []

    def train(cell, data, candidate, seeds):
        made.append((cell, candidate, tuple(seeds)))
        best = candidate.learning_rate == settings.LEARNING_RATES[1]
        return [row(cell.data, cell.choice, seed, 0.3, candidate, float(best)) for seed in seeds]

    monkeypatch.setattr(cells, "train", train)
    monkeypatch.setattr(cells, "dataset", lambda *_: None)
    given = options(tmp_path, seeds=2)
    command.train(given)
    trials = [entry for entry in made if entry[2] == settings.SEEDS]
    assert len(trials) == 3 + 3 + 3 + 5
    assert len(made) - len(trials) == 2 * len(CHOICES)
    reported = [(cell, own) for cell, own, seeds in made if seeds == (0, 1)]
    assert {own.learning_rate for _, own in reported} == {settings.LEARNING_RATES[1]}
    made.clear()
    command.train(given)
    assert made == []
    command.train(options(tmp_path, seeds=3))
    assert {seeds for *_, seeds in made} == {(2,)}
    made.clear()
    command.train(options(tmp_path, seeds=4, minutes=0))
    assert made == []


def values(gain):
    """Closed forms in which joint embedding gains so much over pixels."""
    found = {}
    for data in ("a", "b"):
        for choice in map(closed, CHOICES):
            r2 = 0.2 + gain * (choice.learned == EMBEDDING)
            found[data, choice] = Value(data, *choice, 500, 32, r2, r2)
    return found


def test_a_clear_difference_is_foreseen_or_not(tmp_path):
    given, chosen = options(tmp_path), known(tmp_path)
    rows = [row("a", PIXELS, seed, 0.3 + 0.01 * seed, chosen["pixels"]) for seed in range(3)]
    rows += [row("a", EMBEDDED, seed, 0.4 + 0.01 * seed, chosen["whitening"]) for seed in range(3)]
    # Of other settings, or not all seeds: left out.
    rows += [row("a", EMBEDDED, seed, 0.9, Settings(0.5)) for seed in range(3)]
    vicreg = Choice("vicreg", cells.NOISES[0])
    rows += [row("a", vicreg, seed, 0.9, chosen["vicreg"]) for seed in range(2)]
    for gain, foreseen in ((0.05, 1), (-0.05, 0)):
        results = verdict.verdict(rows, values(gain), given)
        net = results["nets"]["mlp"]
        assert net["signs"] == {
            "whitening": {
                "comparisons": 1, "better": 1, "worse": 0, "clear": 1, "foreseen": foreseen,
            }
        }  # fmt: skip
        (comparison,) = net["sets"]["a"]["comparisons"]
        assert comparison["difference"]["mean"] == pytest.approx(0.1)
        assert comparison["closed_form"] == pytest.approx(gain)
        assert len(net["missing"]["a"]) == len(CHOICES) - 2
        assert len(net["missing"]["b"]) == len(CHOICES)
    text = page.page(results)
    assert "| pixels, mask:0.75:4x4 | 31.0 ± 0.6 [20.0] |" in text
    assert "1 comparisons, better in 1, worse in 0" in text
    assert "the sign of 0 of the 1 clear ones" in text
    assert f"{2 * len(CHOICES) - 2} of {2 * len(CHOICES)} cells" in text
    figure = picture.picture(results)
    titles = [axes.get_title("left") for axes in figure.axes]
    assert titles[:2] == ["mlp, a", "mlp, b"]


def test_a_table_of_several_choices_says_how_far_seeds_and_choices_spread(tmp_path):
    given, chosen = options(tmp_path), known(tmp_path)
    rows = []
    for place, choice in enumerate(CHOICES[:4]):
        candidate = chosen[settings.kind_of(choice)]
        rows += [row("a", choice, seed, place / 10 + seed / 100, candidate) for seed in range(3)]
    found = verdict.verdict(rows, values(0.5), given)["nets"]["mlp"]["sets"]["a"]
    assert found["spread"]["seeds"] == pytest.approx(0.01)
    assert found["spread"]["choices"] == pytest.approx(np.std([0, 1, 2, 3], ddof=1) / 10)
    assert found["f"] == pytest.approx(3 * np.var([0, 1, 2, 3], ddof=1) / 100 / 0.01**2)
    assert found["rank_correlation"] > 0


@pytest.mark.slow
def test_a_cell_is_trained_and_read_off():
    rng = np.random.default_rng(0)
    y = np.arange(700) % 4
    x = np.kron(np.eye(4)[y].reshape(700, 2, 2, 1), np.ones((1, 8, 8, 1)))
    x = (x + rng.normal(size=x.shape)).astype(np.float32)
    data = Dataset.from_arrays(x[:500], y[:500], x[500:], y[500:], name="quarters")
    for choice in (Choice("whitened:0.75", "none"), EMBEDDED):
        cell = Cell("quarters", "mlp", choice, 1500)
        rows = cells.train(cell, data, Settings(3e-2), [0, 1])
        assert [row.cell for row in rows] == [cell] * 2
        assert [row.seed for row in rows] == [0, 1]
        assert all(0.2 < row.r2 <= 1 and row.accuracy > 0.5 for row in rows)
