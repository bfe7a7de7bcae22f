"""Learning rates and weights of VICReg, chosen by seeds that are not reported.

Each kind of objective is trained with each candidate on some sets; the one whose probes are best by
leave-one-out on the training split, on average over the sets, is taken.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments import table
from experiments.cells import claimed
from experiments.objectives import cells
from experiments.objectives.cells import NOISES, TARGETS, Cell, Choice, Row, Settings
from reconjax.studies.progress import say

SEEDS = (100,)
LEARNING_RATES = (1e-2, 3e-2, 1e-1)
WEIGHTS = ((25.0, 25.0, 1.0), (5.0, 25.0, 1.0), (1.0, 25.0, 1.0))


def candidates(kind: str) -> list[Settings]:
    """Those of a kind of objective: learning rates, and weights at the middle one."""
    if kind != "vicreg":
        return [Settings(rate) for rate in LEARNING_RATES]
    others = [Settings(LEARNING_RATES[1], weights) for weights in WEIGHTS[1:]]
    return [*(Settings(rate, WEIGHTS[0]) for rate in LEARNING_RATES), *others]


def kind_of(choice: Choice) -> str:
    """The kind whose settings a choice has: whitened targets share those of the last."""
    return TARGETS[-1] if choice.learned in TARGETS else choice.learned


def chosen(net: str, kind: str, options: Any) -> Settings:
    """The settings of a kind for a network; what `settings.csv` has not yet is trained."""
    path = options.out / "settings.csv"
    # What other processes work at comes last, and is waited for.
    for wait in (False, True):
        for candidate in candidates(kind):
            for cell in trials(net, kind, options):
                with claimed(options.out, (candidate, cell), wait) as mine:
                    rows = cells.read(path) if mine else []
                    if mine and not any(settled(row, cell, candidate) for row in rows):
                        data = cells.dataset(cell.data, options.data_dir, options.samples)
                        table.append(path, cells.train(cell, data, candidate, SEEDS))
                        say(f"settings of {net}, {kind}, {cell.data}: {candidate}")
    found = known(net, kind, options)
    assert found is not None
    return found


def known(net: str, kind: str, options: Any) -> Settings | None:
    """The settings of a kind for a network, None where a candidate is not trained yet."""
    rows = cells.read(options.out / "settings.csv")
    scores = [
        [
            np.mean([row.validation_r2 for row in rows if settled(row, cell, candidate)] or np.nan)
            for cell in trials(net, kind, options)
        ]
        for candidate in candidates(kind)
    ]
    return best(np.array(scores), candidates(kind)) if np.isfinite(scores).all() else None


def trials(net: str, kind: str, options: Any) -> list[Cell]:
    """What is trained with each candidate."""
    return [Cell(data, net, Choice(kind, NOISES[0]), options.images) for data in options.tuned_on]


def settled(row: Row, cell: Cell, candidate: Settings) -> bool:
    """Whether a row is of a cell with these settings."""
    weights = tuple(map(float, row.weights.split())) or None
    return row.cell == cell and (row.learning_rate, weights) == candidate


def best(scores: np.ndarray, candidates: Sequence[Settings]) -> Settings:
    """The candidate with the largest mean over the sets, each relative to its best."""
    return candidates[int((scores / scores.max(axis=0)).mean(axis=1).argmax())]
