"""Learning rates and weights of VICReg, chosen by seeds that are not reported.

Each kind of objective is trained with each candidate on some sets; the one whose probes are best by
leave-one-out on the training split, on average over the sets, is taken.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.advisor import table
from experiments.objectives import cells
from experiments.objectives.cells import LOSSES, NOISES, TARGETS, Cell, Choice, Row, Settings
from reconjax.studies.progress import say

SEEDS = (100,)
LEARNING_RATES = (3e-3, 1e-2, 3e-2)
WEIGHTS = ((25.0, 25.0, 1.0), (5.0, 25.0, 1.0), (1.0, 25.0, 1.0))
# Whitened targets share the settings of the last, and all noises those of the first.
KINDS = ("pixels", TARGETS[-1], *LOSSES)


def candidates(kind: str) -> list[Settings]:
    """Those of a kind of objective."""
    weights: Sequence[Any] = WEIGHTS if kind == "vicreg" else (None,)
    return [Settings(rate, own) for own in weights for rate in LEARNING_RATES]


def kind_of(choice: Choice) -> str:
    """The kind whose settings a choice has."""
    return TARGETS[-1] if choice.learned in TARGETS else choice.learned


def chosen(net: str, options: Any, wanted: Sequence[str] = KINDS) -> dict[str, Settings]:
    """The settings of each kind for a network; what is not trained yet is, and is kept.

    Of another length than that of the experiment, other rows of `settings.csv` are left alone.
    """
    path = options.out / "settings.csv"
    return {kind: best(score(kind, net, options, path), kind) for kind in wanted}


def score(kind: str, net: str, options: Any, path: Path) -> np.ndarray:
    """(candidates, sets) R² by leave-one-out, means over the seeds."""
    scores = []
    for candidate in candidates(kind):
        for data in options.tuned_on:
            cell = Cell(data, net, Choice(kind, NOISES[0]), options.images)
            found = [row for row in cells.read(path) if settled(row, cell, candidate)]
            if len(found) < len(SEEDS):
                known = cells.dataset(data, options.data_dir, options.samples)
                found = cells.train(cell, known, candidate, SEEDS)
                table.append(path, found)
                say(f"settings of {net}, {kind}, {data}: {candidate}")
            scores.append(np.mean([row.validation_r2 for row in found]))
    return np.reshape(scores, (len(candidates(kind)), -1))


def settled(row: Row, cell: Cell, candidate: Settings) -> bool:
    """Whether a row is of a cell with these settings."""
    weights = tuple(map(float, row.weights.split())) or None
    return row.cell == cell and (row.learning_rate, weights) == candidate


def best(scores: np.ndarray, kind: str) -> Settings:
    """The candidate with the largest mean of the sets, each relative to its best."""
    return candidates(kind)[int((scores / scores.max(axis=0)).mean(axis=1).argmax())]
