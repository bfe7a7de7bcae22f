"""What each choice gains over pixels, trained networks beside the closed form."""

from collections.abc import Mapping
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from reconjax.plots import STYLE
from reconjax.plots.style import COLORS, QUIET

LEARNED = ("whitened:0.5", "whitened:0.75", "whitening", "vicreg")
COLOR = dict(zip(LEARNED, (COLORS[5], COLORS[0], COLORS[2], COLORS[1]), strict=True))
MARKERS = {"none": "o", "mask:0.75:4x4": "s", "mask:0.75:1x1": "^"}
LABELS = {
    "whitened:0.5": "target whitened:0.5",
    "whitened:0.75": "target whitened:0.75",
    "whitening": "joint embedding, whitened",
    "vicreg": "joint embedding, VICReg",
    "none": "no mask",
}
COLUMNS = 3


def picture(results: Mapping[str, Any]) -> Figure:
    """A row of panels for each network, one for each set."""
    nets = {net: part for net, part in results["nets"].items() if any_compared(part)}
    rows = -(-len(results["data"]) // COLUMNS)
    with matplotlib.rc_context(STYLE):
        size = (4.3 * COLUMNS, 3.5 * rows * max(len(nets), 1) + 0.6)
        figure = Figure(figsize=size, layout="constrained")
        panels = figure.subplots(rows * max(len(nets), 1), COLUMNS, squeeze=False).ravel()
        for number, (net, part) in enumerate(nets.items()):
            own = panels[number * rows * COLUMNS : (number + 1) * rows * COLUMNS]
            for axes in own[len(part["sets"]) :]:
                axes.axis("off")
            for axes, (data, found) in zip(own, part["sets"].items(), strict=False):
                draw(axes, f"{net}, {short(data)}", found)
        for axes in panels[len(nets) * rows * COLUMNS :]:
            axes.axis("off")
        handles = [
            dot(COLOR.get(name, QUIET), LABELS.get(name, name), MARKERS.get(name, "o"))
            for name in (*COLOR, *MARKERS)
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=4)
        figure.suptitle(
            "R² of a linear probe: what a choice gains over pixels behind the same mask (bars: two"
            " standard errors).\nShaded: trained networks and the closed form disagree on its sign"
        )
    return figure


def dot(color: str, label: str, marker: str) -> Any:
    """An entry of the legend."""
    return Line2D([], [], color=color, marker=marker, ls="", label=label)


def any_compared(part: Mapping[str, Any]) -> bool:
    """Whether a network has anything to show."""
    return any(found["comparisons"] for found in part["sets"].values())


def short(data: str) -> str:
    """A name without the options that all share."""
    name, _, options = data.partition(":")
    shown = [text.replace("=", " ") for text in options.split(",") if "background" in text]
    return ", ".join([name, *shown])


def draw(axes: Axes, title: str, found: Mapping[str, Any]) -> None:
    """Measured gains against those of the closed form; in the shaded quarters signs disagree."""
    axes.axhline(0, color="0.6", lw=0.8)
    axes.axvline(0, color="0.6", lw=0.8)
    for comparison in found["comparisons"]:
        gain = comparison["difference"]
        axes.errorbar(
            comparison["closed_form"], gain["mean"], 2 * gain["error"], capsize=2, ms=5,
            color=COLOR[comparison["learned"]], marker=MARKERS[comparison["noise"]],
        )  # fmt: skip
    if not found["comparisons"]:
        axes.text(0.5, 0.5, "not trained yet", ha="center", transform=axes.transAxes, color="0.5")
    low, high = np.array([axes.get_xlim(), axes.get_ylim()]).T
    for x, y in (((low[0], 0), (0, high[1])), ((0, high[0]), (low[1], 0))):
        axes.fill_between(x, *y, color="0.93", zorder=0, lw=0)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.set_xlim(low[0], high[0])
    axes.set_ylim(low[1], high[1])
    axes.set(xlabel="gain of the closed form", ylabel="gain of trained networks")
    correlation = found.get("rank_correlation")
    if correlation is not None:
        title = f"{title}\nrank correlation of all choices {correlation:+.2f}"
    axes.set_title(title, fontsize=10)
