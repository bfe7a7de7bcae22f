"""Predicted against measured, what each predictor is worth, and what a search costs."""

from collections.abc import Mapping
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure

from reconjax.plots import STYLE

COLUMNS = 3
MARKERS = {1: "o", 2: "s", 4: "D"}


def picture(net: str, result: Mapping[str, Any]) -> Figure:
    """Of one kind of network."""
    sets = result["sets"]
    rows = -(-(len(sets) + 2) // COLUMNS)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.4 * COLUMNS, 3.7 * rows), layout="constrained")
        panels = figure.subplots(rows, COLUMNS, squeeze=False).ravel()
        for axes, (data, part) in zip(panels, sets.items(), strict=False):
            drawn = draw_set(axes, short(data), part, result["primary"])
        figure.colorbar(drawn, ax=panels[: len(sets)].tolist(), label="masked share", shrink=0.6)
        draw_predictors(panels[len(sets)], result)
        draw_searches(panels[len(sets) + 1], sets)
        for axes in panels[len(sets) + 2 :]:
            axes.axis("off")
        figure.suptitle(f"{net}: masks before and after training")
    return figure


def short(data: str) -> str:
    """A name without the options that all share."""
    name, _, options = data.partition(":")
    shown = [text for text in options.split(",") if text.startswith("background")]
    return " ".join([name, *shown])


def draw_set(axes: Axes, title: str, part: Mapping[str, Any], primary: str) -> PathCollection:
    """R² of every mask's networks against that of the closed form; gives what a color bar needs."""
    for block, marker in MARKERS.items():
        own = [mask for mask in part["masks"] if mask["mask"][0] == block and mask["mask"][1]]
        if own:
            x, y = ([mask[name] for mask in own] for name in ("predicted", "r2"))
            axes.errorbar(x, y, [mask["seeds"] for mask in own], fmt="none", ecolor="0.7", lw=1)
            drawn = axes.scatter(
                x, y, c=[mask["ratio"] for mask in own], vmin=0, vmax=1, marker=marker, s=28,
                cmap="viridis", zorder=3, edgecolor="white", lw=0.5, label=f"blocks of {block}",
            )  # fmt: skip
    for mask in part["masks"]:
        if not mask["mask"][1]:
            axes.scatter(
                mask["predicted"], mask["r2"], marker="x", color="C3", zorder=3, label="no mask"
            )
    score = part["predictors"][primary]["rank_correlation"]
    axes.set_title(f"{title}: rank correlation {score:+.2f}")
    axes.set(xlabel=f"closed form: {primary}", ylabel="R² of trained networks")
    axes.legend(fontsize=7)
    return drawn


def draw_predictors(axes: Axes, result: Mapping[str, Any]) -> None:
    """Rank correlations, a point for each set and a bar for their mean."""
    names = [name for name in result["means"] if "training split" not in name]
    names.sort(key=lambda name: result["means"][name]["rank_correlation"])
    for place, name in enumerate(names):
        mean = result["means"][name]["rank_correlation"]
        axes.barh(place, mean, color="C0" if name == result["primary"] else "0.8")
        each = [result["sets"][data]["predictors"][name] for data in result["told"]]
        axes.plot([part["rank_correlation"] for part in each], [place] * len(each), "k.", ms=4)
    axes.set_yticks(np.arange(len(names)), names, fontsize=7)
    axes.axvline(0, color="black", lw=0.8)
    axes.set(xlim=(-1, 1), xlabel="rank correlation with the trained networks")
    axes.set_title("predictors: sets (dots) and their mean")


def draw_searches(axes: Axes, sets: Mapping[str, Any]) -> None:
    """Regret against cost, as a share of what a mask at random loses; means over the sets."""
    for name in next(iter(sets.values()))["searches"]:
        curves = []
        for part in sets.values():
            points = list(part["searches"][name].values())
            curves.append([(p["cost"], p["regret"] / part["random_regret"]) for p in points])
        steps = min(len(curve) for curve in curves)
        mean = np.mean([curve[:steps] for curve in curves], axis=0)
        axes.plot(*mean.T, "o-", ms=4, label=name)
    axes.axhline(1, color="0.5", ls=":", label="a mask at random")
    axes.set(xlabel="cost in whole trainings", ylabel="R² lost / lost by a mask at random")
    axes.set_ylim(bottom=0)
    axes.set_title("what a search costs, and still loses")
    axes.legend(fontsize=7)
