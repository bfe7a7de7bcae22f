"""Fig. 10: images on the top and the bottom subspace, and what each tells a linear head.

    python -m experiments.subspaces --data digits cifar10 --data-dir DIR --out out

r2 adds up over orthogonal directions, so the closed form says for every share of
the pixel variance how much of the labels a linear head can read from either side.
"""

from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from experiments import report, sets
from reconjax import studies
from reconjax.data import Dataset
from reconjax.plots import STYLE, projection_figure
from reconjax.plots.style import COLORS

SHARES = (0.5, 0.75, 0.9, 0.95, 0.99)
SHOWN = 0.75


def main(argv: list[str] | None = None) -> None:
    options = report.arguments(__doc__, argv, data=["digits", "scenes"])
    results = sets.measured(options, "subspaces", measure)
    report.picture(options.out, "subspaces", picture(results["parts"]))
    print("label variance that a linear head explains on the top / the bottom subspace")
    print(f"{'top share of pixel variance':<28}" + " ".join(f"{s:>13.0%}" for s in SHARES))
    for name, part in results["parts"].items():
        cells = (f"{row['top']:.3f} / {row['bottom']:.3f}" for row in part["shares"].values())
        print(f"{name:<28}" + " ".join(f"{cell:>13}" for cell in cells))


def measure(name: str, options: Any) -> dict[str, Any]:
    dataset, moments = sets.training_moments(name, options)
    curves = studies.align(moments)
    variance = np.cumsum(curves.eigenvalues.values)
    variance /= variance[-1]
    r2 = curves.r2.values
    total = r2[-1]
    shares = {}
    for share in SHARES:
        count = int(np.argmax(variance >= share)) + 1
        top = float(r2[count - 1])
        shares[str(share)] = {"directions": count, "top": top, "bottom": float(total - top)}
    draw(dataset, options)
    return {
        "samples": curves.attrs["samples"],
        "features": moments.features,
        "rank": curves.attrs["rank"],
        "r2_by_all": float(total),
        "shares": shares,
    }


def draw(dataset: Dataset, options: Any) -> None:
    """Images of the test split, or else of the training split, on both subspaces."""
    limit: Any = {"max_samples": sets.SAMPLES[options.preset], "seed": options.seed}
    sides = studies.project(dataset, variance=SHOWN, images=8, **limit)
    figure = projection_figure(
        sides.images,
        sides.top,
        sides.bottom,
        rows=(
            "original",
            f"top {SHOWN:.0%}\n({sides.attrs['top_directions']} directions)",
            f"bottom {1 - SHOWN:.0%}\n({sides.attrs['bottom_directions']} directions)",
        ),
        names=sides.class_name.values.tolist(),
        title=f"{dataset.name}: held-out images on the subspaces of the training images",
    )
    report.picture(options.out, dataset.name.partition(":")[0], figure, dpi=90)


def picture(parts: dict[str, Any]) -> Figure:
    with matplotlib.rc_context(STYLE):
        across = min(len(parts), 4)
        down = -(-len(parts) // across)
        figure = Figure(figsize=(2.7 * across + 0.6, 2.8 * down), layout="constrained")
        panels = figure.subplots(down, across, squeeze=False)
        for axes in panels.flat[len(parts) :]:
            axes.set_axis_off()
        for axes, (name, part) in zip(panels.flat, parts.items(), strict=False):
            place = np.arange(len(SHARES))
            rows = part["shares"].values()
            axes.bar(
                place - 0.2,
                [row["top"] for row in rows],
                0.4,
                color=COLORS[1],
                label="top subspace",
            )
            below = [row["bottom"] for row in rows]
            axes.bar(place + 0.2, below, 0.4, color=COLORS[0], label="bottom subspace")
            axes.set_xticks(place, [f"{share:.0%}" for share in SHARES], fontsize=8)
            axes.yaxis.set_major_formatter(PercentFormatter(1))
            axes.set_title(name)
        for axes in panels[:, 0]:
            axes.set_ylabel("label variance explained\nby a linear head")
        for axes in panels.flat[max(len(parts) - across, 0) : len(parts)]:
            axes.set_xlabel("pixel variance in the top")
        where = "outside lower center" if panels.size == len(parts) else "lower right"
        figure.legend(*panels[0, 0].get_legend_handles_labels(), loc=where)
    return figure


if __name__ == "__main__":
    main()
