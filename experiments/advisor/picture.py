"""Predicted against measured, what each predictor is worth, and what a search costs."""

from collections.abc import Mapping
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from reconjax.plots import STYLE
from reconjax.plots.style import CHANCE, COLORS, QUIET, STRENGTHS, end_labels

COLUMNS = 3
MARKERS = {1: "o", 2: "s", 4: "D"}
NO_MASK = COLORS[1]


def picture(net: str, result: Mapping[str, Any]) -> Figure:
    """Of one kind of network."""
    sets = result["sets"]
    rows = -(-(len(sets) + 2) // COLUMNS)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.6 * COLUMNS, 4.1 * rows), layout="constrained")
        panels = figure.subplots(rows, COLUMNS, squeeze=False).ravel()
        for axes, (data, part) in zip(panels, sets.items(), strict=False):
            drawn = draw_set(axes, short(data), part, result["primary"])
        figure.colorbar(drawn, ax=panels[: len(sets)].tolist(), label="masked share", shrink=0.6)
        draw_predictors(panels[len(sets)], result)
        draw_searches(panels[len(sets) + 1], sets)
        for axes in panels[len(sets) + 2 :]:
            axes.axis("off")
        blocks = [
            Line2D([], [], color=QUIET, marker=marker, linestyle="", label=f"blocks of {block}")
            for block, marker in MARKERS.items()
        ]
        nothing = Line2D([], [], color=NO_MASK, marker="x", linestyle="", label="no mask")
        figure.legend(handles=[*blocks, nothing], loc="outside lower left", ncols=4)
        figure.suptitle(f"{net}: what the closed form says of each mask, and what training gave")
    return figure


def short(data: str) -> str:
    """A name without the options that all share."""
    name, _, options = data.partition(":")
    shown = [text for text in options.split(",") if text.startswith("background")]
    return " ".join([name, *shown])


def draw_set(axes: Axes, title: str, part: Mapping[str, Any], primary: str) -> PathCollection:
    """R² of every mask's networks against that of the closed form; gives what a color bar needs."""
    masked = [mask for mask in part["masks"] if mask["mask"][1]]
    for block, marker in MARKERS.items():
        own = [mask for mask in masked if mask["mask"][0] == block]
        if own:
            x, y = ([mask[name] for mask in own] for name in ("predicted", "r2"))
            axes.errorbar(x, y, [mask["seeds"] for mask in own], fmt="none", ecolor="0.75", lw=1)
            drawn = axes.scatter(
                x, y, c=[mask["ratio"] for mask in own], vmin=0, vmax=1, marker=marker, s=44,
                cmap=STRENGTHS, zorder=3, edgecolor="white", lw=0.5,
            )  # fmt: skip
    low, high = axes.get_ylim()
    for mask in part["masks"]:
        if not mask["mask"][1]:
            # Where it is far from all masks, it would flatten what the panel is about.
            far = mask["r2"] < low - 0.3 * (high - low)
            height = low if far else mask["r2"]
            axes.scatter(mask["predicted"], height, marker="x", color=NO_MASK, zorder=3, s=50)
            if far:
                axes.annotate(
                    f"{mask['r2']:.2f} ↓", (mask["predicted"], height), (-6, 6), ha="right",
                    textcoords="offset points", color=NO_MASK,
                )  # fmt: skip
    score = part["predictors"][primary]["rank_correlation"]
    axes.set_title(f"{title}\nrank correlation {score:+.2f}")
    axes.set(xlabel=f"closed form: {primary}", ylabel="R² of trained networks")
    return drawn


def draw_predictors(axes: Axes, result: Mapping[str, Any]) -> None:
    """Rank correlations, a point for each set and a bar for their mean."""
    names = [name for name in result["means"] if "training split" not in name]
    names.sort(key=lambda name: result["means"][name]["rank_correlation"])
    for place, name in enumerate(names):
        mean = result["means"][name]["rank_correlation"]
        axes.barh(place, mean, color=COLORS[0] if name == result["primary"] else "0.85")
        each = [result["sets"][data]["predictors"][name] for data in result["told"]]
        axes.plot(
            [part["rank_correlation"] for part in each],
            [place] * len(each),
            ".",
            color="0.25",
            ms=6,
        )
    axes.set_yticks(np.arange(len(names)), names, fontsize=9)
    axes.axvline(0, color="black", lw=0.8)
    axes.set(xlim=(-1, 1), xlabel="rank correlation with the trained networks")
    axes.set_title("predictors:\neach set, and the mean")


def draw_searches(axes: Axes, sets: Mapping[str, Any]) -> None:
    """Regret against cost, as a share of what a mask at random loses; means over the sets."""
    names = list(next(iter(sets.values()))["searches"])
    ends = []
    for name, color in zip(names, COLORS, strict=False):
        curves = []
        for part in sets.values():
            points = list(part["searches"][name].values())
            curves.append([(p["cost"], p["regret"] / part["random_regret"]) for p in points])
        steps = min(len(curve) for curve in curves)
        mean = np.mean([curve[:steps] for curve in curves], axis=0)
        axes.plot(*mean.T, "o-", ms=4, color=color)
        ends.append(float(mean[-1, 1]))
    axes.axhline(1, color=QUIET, **CHANCE)
    axes.set(xlabel="cost in whole trainings", ylabel="R² lost / lost by a mask at random")
    axes.set_ylim(bottom=0)
    axes.set_title("what a search costs,\nand still loses")
    texts = [name.replace(", then", ",\nthen") for name in names]
    end_labels(
        axes, [*ends, 1.0], [*texts, "a mask\nat random"], [*COLORS[: len(names)], QUIET], gap=0.13
    )
