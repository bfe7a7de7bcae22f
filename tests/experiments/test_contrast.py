"""What the experiment on contrast reads off a study, against NumPy; its table and its picture."""

import json

import numpy as np
import pytest

import reconjax
from experiments import contrast
from experiments.report import plain
from reconjax.studies import ranking

GRID = {"patches": [1], "ratios": [0, 0.5], "target": ["whitened:0.5"], "latent_dims": [16]}


def test_variance_within_classes_is_that_of_numpy():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, size=60)
    x = rng.normal(size=(60, 4)) + np.eye(3, 4)[y]
    within = sum(np.var(x[y == label], axis=0).sum() * np.sum(y == label) for label in range(3))
    share = within / 60 / np.var(x, axis=0).sum()
    assert contrast.within_classes(reconjax.moments(x, y)) == pytest.approx(share)


def test_choices_are_those_of_the_ranking_and_are_drawn():
    result = reconjax.studies.objectives("digits", max_samples=300, progress=False, **GRID)
    at = contrast.curves(result.sel(latent_dim=16))
    for place in ranking(result):
        found = at["choices"][place.family]
        assert (found["noise"], found["held_out"]) == (place.noise, place.held_out)
        assert found["gain"] == pytest.approx(place.gain)
    held_out = {name: row["held_out"] for name, row in at["choices"].items()}
    gain = held_out[contrast.EMBEDDING] - held_out[contrast.NOISE]
    assert at["over mask"]["gain"] == pytest.approx(gain, abs=1e-6)
    assert at["over mask"]["standard_error"] > 0
    part = json.loads(json.dumps(plain({"within_classes": 0.5, "K": {"16": at}})))
    names = [*contrast.SCENES[:2], "digits"]
    parts = {f"{name}, {encoder}": part for name in names for encoder in contrast.ENCODERS}
    assert len(contrast.table(parts, names, "linear")) == 5
    scenes, lifted, sets = contrast.picture(parts, names).axes
    assert len(scenes.lines) == len(lifted.lines) == 4
    assert len(sets.get_yticks()) == 3
