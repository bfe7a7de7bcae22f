"""Pictures of probes: accuracies beside their baselines, and the path of the ridge weights."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from reconjax.plots.style import STYLE


def probe_figure(
    rows: Sequence[Mapping[str, Any]],
    paths: Mapping[str, Mapping[str, Any]],
    *,
    chance: float,
    split: str,
    title: str | None = None,
) -> Figure:
    """Accuracy of every probe on every kind of features, and the ridge probe at every weight.

    Args:
      rows: each a bar, with "probe", "features" and, under `split`, "accuracy" and
        "standard_error".
      paths: what the features are -> "ridge_weight" (L,), "chosen" and, each (L,) or None,
        "train", "validation", "test".
      chance: accuracy of the largest class.
      split: of which the bars are.
      title: above the figure.

    Returns:
      The figure.

    Example:
      >>> scores = {"accuracy": 0.9, "standard_error": 0.01}
      >>> rows = [{"probe": "linear, ridge", "features": "net", "test": scores}]
      >>> path = {"ridge_weight": [0.1, 1.0], "chosen": 0}
      >>> paths = {"net": {**path, "train": None, "validation": None, "test": [0.9, 0.8]}}
      >>> len(reconjax.plots.probe_figure(rows, paths, chance=0.1, split="test").axes)
      2
    """
    with matplotlib.rc_context(STYLE):
        probes = list(dict.fromkeys(row["probe"] for row in rows))
        figure = Figure(figsize=(12, 2.8 + 0.55 * max(len(probes), 4)), layout="constrained")
        bars, path = figure.subplots(1, 2, width_ratios=(1.1, 1))
        _bars(bars, rows, probes, split)
        bars.axvline(chance, color="gray", linestyle=":", linewidth=1.1, label="largest class")
        figure.legend(*bars.get_legend_handles_labels(), loc="outside lower left", fontsize=8)
        for index, (features, ridge) in enumerate(paths.items()):
            _path(path, ridge, features, f"C{index}")
        path.set_xscale("log")
        path.set_xlabel("ridge weight")
        path.set_title("linear (ridge); the dot is the weight chosen")
        path.yaxis.set_major_formatter(PercentFormatter(1))
        handles = path.get_legend_handles_labels()
        figure.legend(*handles, loc="outside lower right", ncols=min(len(paths), 2), fontsize=8)
        if title:
            figure.suptitle(title)
    return figure


def _bars(axes: Axes, rows: Sequence[Mapping[str, Any]], probes: Sequence[str], split: str) -> None:
    kinds = list(dict.fromkeys(row["features"] for row in rows))
    height = 0.8 / len(kinds)
    for index, kind in enumerate(kinds):
        shown = [row for row in rows if row["features"] == kind]
        at = [probes.index(row["probe"]) + (index - (len(kinds) - 1) / 2) * height for row in shown]
        accuracy = [row[split]["accuracy"] for row in shown]
        error = [row[split]["standard_error"] for row in shown]
        axes.barh(at, accuracy, height, xerr=error, color=f"C{index}", alpha=0.85, label=kind)
        for place, value in zip(at, accuracy, strict=True):
            axes.annotate(f"{value:.1%}", (1.01, place), va="center", fontsize=8, color=f"C{index}")
    axes.set_yticks(range(len(probes)), probes)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.1)
    axes.set_xticks(np.linspace(0, 1, 6))
    axes.grid(axis="y", visible=False)
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.set_title(f"{split} accuracy (± standard error)")


def _path(axes: Axes, ridge: Mapping[str, Any], features: str, color: str) -> None:
    weights = np.asarray(ridge["ridge_weight"])
    styles = {"train": (":", 1.1), "validation": ("--", 1.4), "test": ("-", 1.8)}
    for split, (style, width) in styles.items():
        if ridge[split] is None:
            continue
        accuracy = np.asarray(ridge[split])
        label = f"{features}, {'leave-one-out' if split == 'validation' else split}"
        axes.plot(weights, accuracy, style, linewidth=width, color=color, label=label)
        if split == "validation":
            chosen = ridge["chosen"]
            axes.plot(weights[chosen], accuracy[chosen], "o", color=color)
