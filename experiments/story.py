"""The picture of the README, and those of `reconjax objectives`, drawn again from results.

    python -m experiments.story --out experiments/results/story

Nothing is measured here: the curves are those of `experiments.alignment`, the gains those of
`reconjax objectives`, as both have written them.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import xarray
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MultipleLocator, PercentFormatter

from experiments import report
from reconjax.evidence.bootstrap import interval_reach
from reconjax.plots import STYLE, objectives_figure
from reconjax.plots.style import CHANCE, COLORS, QUIET
from reconjax.storage.files import output_folder

RESULTS = Path(__file__).parent / "results"
ALIGNED = ("mnist", "fashion_mnist", "arabic_digits")
MISALIGNED = ("cifar10", "scenes", "arabic_characters")
AT = 64  # K at which the left panel is read
CHOSEN = 16  # K at which the choices of the right panel are compared
CHOICES = {
    "reconstruction, best noise": "pixels,\nbehind the best mask",
    "reconstruction, best noise and target": "whitened pixels,\nbehind the best mask",
    "joint embedding, best noise": "joint embedding\nunder masks",
}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the picture")
    out = output_folder(parser.parse_args(argv).out)
    curves = json.loads((RESULTS / "alignment/alignment.json").read_text())["parts"]
    objectives = json.loads((RESULTS / "objectives/cifar10.json").read_text())
    report.picture(out, "story", picture(curves, objectives))
    for name in ("cifar10", "fashion_mnist"):
        record = json.loads((RESULTS / f"objectives/{name}.json").read_text())
        report.picture(out, name, objectives_figure(of_record(record)))


def of_record(record: dict[str, Any]) -> xarray.Dataset:
    """What `objectives_figure` needs, of the JSON that `reconjax objectives` writes."""
    without = {row["latent_dim"]: row for row in record["without"]}
    families = list(CHOICES)
    shape = (len(families), len(without))
    gain, error, position = np.full(shape, np.nan), np.full(shape, np.nan), np.zeros(shape)
    for row in record["ranking"]:
        at = families.index(row["family"]), list(without).index(row["latent_dim"])
        gain[at], error[at], position[at] = row["gain"], row["standard_error"], 1
    grid = ("point", "latent_dim")
    return xarray.Dataset(
        {
            "gain": (grid, gain),
            "gain_standard_error": (grid, error),
            "position": (grid, position),
            "held_out_without": ("latent_dim", [row["held_out"] for row in without.values()]),
            "chance": ("latent_dim", [row["chance"] for row in without.values()]),
        },
        {"latent_dim": list(without), "family": ("point", families)},
        {"data": record["data"], "folds": record["folds"]},
    )


def picture(curves: dict[str, Any], objectives: dict[str, Any]) -> Figure:
    with matplotlib.rc_context(STYLE | {"font.size": 13, "axes.titlesize": 14}):
        figure = Figure(figsize=(13, 4.6), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(1.25, 1))
        draw_alignment(left, curves)
        draw_gains(right, objectives)
    return figure


def draw_alignment(axes: Axes, curves: dict[str, Any]) -> None:
    """Alignment over K of the sets that reconstruction is aligned with, and of the others."""
    for names, color in ((ALIGNED, COLORS[0]), (MISALIGNED, COLORS[1])):
        for name in names:
            axes.plot(curves[name]["latent_dim"], curves[name]["alignment"], color=color)
        at = [np.interp(AT, curves[n]["latent_dim"], curves[n]["alignment"]) for n in names]
        axes.plot([AT] * len(at), at, "o", color=color, ms=6)
    part = curves["cifar10"]
    axes.plot(part["latent_dim"], part["chance"], color=QUIET, **CHANCE)
    texts = [
        (1, 0.9, "mnist, fashion_mnist,\narabic_digits", COLORS[0]),
        (66, 0.43, "cifar10, scenes,\narabic_characters", COLORS[1]),
        (700, 0.13, "chance", QUIET),
    ]
    for x, y, text, color in texts:
        axes.text(x, y, text, color=color, va="center")
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda k, _: f"{k:g}"))
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set(ylim=(0, 1.02), xlabel="latent dimension K (how many features)")
    axes.set_title("How aligned is reconstruction with reading the labels?")
    axes.set_ylabel("alignment (Eq. 7)")


def draw_gains(axes: Axes, objectives: dict[str, Any]) -> None:
    """Held-out r2 of each choice beside that of reconstruction without noise."""
    without = next(row for row in objectives["without"] if row["latent_dim"] == CHOSEN)
    base, reach = without["held_out"], interval_reach(objectives["folds"])
    rows = {row["family"]: row for row in objectives["ranking"] if row["latent_dim"] == CHOSEN}
    axes.axvline(base, color=QUIET, linewidth=1.3)
    axes.plot(base, 0, "o", color=QUIET, ms=9)
    for place, family in enumerate(CHOICES, start=1):
        row = rows[family]
        value, error = row["held_out"], reach * row["standard_error"]
        axes.plot([base, value], [place] * 2, color=COLORS[2], linewidth=5, alpha=0.3)
        axes.errorbar(value, place, xerr=error, fmt="o", color=COLORS[2], ms=9, lw=2)
        axes.annotate(
            f"{value / base - 1:+.0%}", (value + error, place), (8, 0), va="center",
            textcoords="offset points", color=COLORS[2], fontweight="bold",
        )  # fmt: skip
    names = ["pixels, no mask\n(PCA)", *CHOICES.values()]
    axes.set_yticks(range(len(names)), names)
    axes.set(ylim=(len(names) - 0.5, -0.5), xlabel=f"r2 on new images, K = {CHOSEN}")
    axes.set_xlim(right=1.09 * max(row["held_out"] for row in rows.values()))
    axes.xaxis.set_major_locator(MultipleLocator(0.01))
    axes.tick_params(axis="y", length=0)
    axes.grid(False, axis="y")
    axes.set_title("What would mend it, on cifar10?")


if __name__ == "__main__":
    main()
