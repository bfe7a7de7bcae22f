"""What trained networks say to what the closed form says: differences of choices, set by set."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments import networks, report
from experiments.advisor.verdict import f_ratio
from experiments.objectives import settings
from experiments.objectives.cells import CHOICES, LOSSES, TARGETS, Cell, Choice, Row, Settings
from experiments.objectives.predictors import closed
from reconjax.training.eigenspace import rank_correlation

# Fewer choices of a set are not ranked.
LEAST = 4


def verdict(
    rows: Sequence[Row], values: Mapping[tuple[str, Choice], Any], options: Any
) -> dict[str, Any]:
    """Of every network: its settings, its table, and what becomes of both questions."""
    results: dict[str, Any] = {
        "seeds": options.seeds,
        "images": options.images,
        "samples": options.samples,
        "data": list(options.data),
        "trained_on": sorted({row.device for row in rows}),
        "nets": {},
    }
    for net in options.nets:
        kinds = dict.fromkeys(map(settings.kind_of, CHOICES))
        chosen = {kind: settings.known(net, kind, options) for kind in kinds}
        own = measured(rows, net, options, chosen)
        sets = {data: of_set(data, own.get(data, {}), values) for data in options.data}
        results["nets"][net] = {
            "settings": chosen,
            "missing": {
                data: left
                for data in options.data
                if (left := [choice for choice in CHOICES if choice not in own.get(data, {})])
            },
            "sets": sets,
            "signs": signs(sets),
        }
    return report.plain(results)


def measured(
    rows: Sequence[Row], net: str, options: Any, chosen: Mapping[str, Settings | None]
) -> dict[str, dict[Choice, list[Row]]]:
    """Set -> choice -> rows of all seeds, of the settings that were chosen; others are left out."""
    found: dict[str, dict[Choice, list[Row]]] = {}
    for data in options.data:
        for choice in CHOICES:
            own = chosen[settings.kind_of(choice)]
            cell = Cell(data, net, choice, options.images)
            by_seed = {
                row.seed: row
                for row in rows
                if own is not None and settings.settled(row, cell, own)
            }
            if all(seed in by_seed for seed in range(options.seeds)):
                found.setdefault(data, {})[choice] = [by_seed[s] for s in range(options.seeds)]
    return found


def of_set(
    data: str,
    found: Mapping[Choice, Sequence[Row]],
    values: Mapping[tuple[str, Choice], Any],
) -> dict[str, Any]:
    """The table of a set, and its comparisons."""
    r2 = {choice: np.array([row.r2 for row in own]) for choice, own in found.items()}
    expected = {choice: values[data, closed(choice)].held_out for choice in CHOICES}
    part: dict[str, Any] = {
        "choices": [
            {
                "learned": choice.learned,
                "noise": choice.noise,
                "closed_form": expected[choice],
                "r2": networks.mean(r2[choice]) if choice in r2 else None,
                "accuracy": networks.mean([row.accuracy for row in found[choice]])
                if choice in found
                else None,
            }
            for choice in CHOICES
        ],
        "comparisons": [
            {
                "question": question,
                "learned": one.learned,
                "against": other.learned,
                "noise": one.noise,
                "closed_form": expected[one] - expected[other],
                "difference": networks.difference(r2[one], r2[other]),
            }
            for question, one, other in pairs()
            if one in r2 and other in r2
        ],
    }
    if len(r2) >= LEAST:
        table = np.stack(list(r2.values()))
        part["f"] = f_ratio(table)
        part["spread"] = {
            "choices": table.mean(1).std(ddof=1),
            "seeds": np.sqrt(table.var(axis=1, ddof=1).mean()),
        }
        part["rank_correlation"] = rank_correlation(
            np.array([expected[choice] for choice in r2]), table.mean(1)
        )
    return part


def pairs() -> list[tuple[str, Choice, Choice]]:
    """(question, choice, what it is compared with), behind the same noise."""
    found = []
    for question, learned in (("target", TARGETS), ("embedding", LOSSES)):
        for choice in CHOICES:
            if choice.learned in learned:
                found.append((question, choice, Choice("pixels", choice.noise)))
    return found


def signs(sets: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    """For each question: comparisons, clear ones, and those that the closed form foresaw."""
    counts: dict[str, dict[str, int]] = {}
    for part in sets.values():
        for comparison in part["comparisons"]:
            name = comparison["question"]
            if name == "embedding":
                name = comparison["learned"]
            count = counts.setdefault(
                name, {"comparisons": 0, "better": 0, "worse": 0, "clear": 0, "foreseen": 0}
            )
            sign = comparison["difference"]["sign"]
            count["comparisons"] += 1
            count["better"] += sign > 0
            count["worse"] += sign < 0
            count["clear"] += sign != 0
            count["foreseen"] += sign != 0 and sign == np.sign(comparison["closed_form"])
    return counts
