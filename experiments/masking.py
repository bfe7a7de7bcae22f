"""Fig. 6: what masking changes, for several patch shapes, ratios and data sets.

    python -m experiments.masking --data digits cifar10 --data-dir DIR --out out

Theorem 3 with the clean read-out (Eq. 9); every number is relative to no mask at the same K.
"""

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from experiments import report, sets
from experiments.alignment import thinned
from reconjax import studies
from reconjax.plots import STYLE, sweep_panel
from reconjax.plots.sweeps import mask_map

PATCHES = (1, 2, 4)
COLUMNS = 3  # of sets in the maps
AT = (16, 64)  # K of the maps, or those next to it that were kept
MAPPED = (0.0, 0.25, 0.3, 0.5, 0.7, 0.75, 0.9, 0.99)  # ratios of the maps, where they are there
RATIOS = {
    "smoke": (0.0, 0.5, 0.9),
    "quick": (0.0, 0.25, 0.5, 0.75, 0.9, 0.99),
    "full": (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.99),
}


def main(argv: list[str] | None = None) -> None:
    options = report.arguments(__doc__, argv, data=["digits", "scenes:size=16"])
    results = sets.measured(options, "masking", measure)
    report.picture(options.out, "masking", picture(results["parts"], RATIOS[options.preset]))
    report.picture(options.out, "map", maps(results["parts"], RATIOS[options.preset]))
    print("alignment (Eq. 7), change against no mask: best and worst over K >= D/96 and ratios")
    for name, part in results["parts"].items():
        for patch, row in part["patches"].items():
            best, worst = row["best"], row["worst"]
            print(
                f"{name:<20} patch {patch}: best {best['change']:+.2%} (K {best['latent_dim']},"
                f" ratio {best['mask_ratio']}), worst {worst['change']:+.2%}"
                f" (K {worst['latent_dim']}, ratio {worst['mask_ratio']}); better than no mask on"
                f" {row['share_better']:.0%} of the grid"
            )


def measure(name: str, options: Any) -> dict[str, Any]:
    dataset, moments = sets.training_moments(name, options)
    height, width, _ = dataset.image_shape
    patches = [p for p in PATCHES if height % p == 0 and width % p == 0]
    ratios = RATIOS[options.preset]
    result = studies.sweep(
        moments,
        patches=patches,
        ratios=ratios,
        precision="float64",
        image_shape=dataset.image_shape,
    )
    alignment, r2 = (result[name].values[:, :, 0] for name in ("alignment", "r2"))
    dims = thinned(moments.features)
    return {
        "samples": int(moments.samples),
        "features": moments.features,
        "mask_ratio": list(ratios),
        "latent_dim": dims.tolist(),
        "error": result.attrs["error"],
        "patches": {
            f"{p}x{p}": summary(alignment[i], r2[i], ratios, dims) for i, p in enumerate(patches)
        },
    }


def summary(alignment: np.ndarray, r2: np.ndarray, ratios: Any, dims: np.ndarray) -> dict[str, Any]:
    """Curves (R, D) of one patch shape against their first row, ratio 0."""
    change = alignment / alignment[0] - 1
    first = max(alignment.shape[1] // 96, 1)
    shown = change[1:, first - 1 :]

    def extreme(flat: Any) -> dict[str, Any]:
        row, column = np.unravel_index(int(flat), shown.shape)
        return {
            "change": float(shown[row, column]),
            "latent_dim": int(first + column),
            "mask_ratio": ratios[1 + row],
        }

    return {
        "best": extreme(np.argmax(shown)),
        "worst": extreme(np.argmin(shown)),
        "share_better": float(np.mean(shown > 1e-9)),
        "change_of_root_at_ratio_0.9": {
            # The authors plot square roots; their figures can be compared with these.
            str(k): float(np.sqrt(1 + change[ratios.index(0.9), k - 1]) - 1)
            for k in (8, 64, 256)
            if k <= alignment.shape[1]
        },
        "alignment": [report.rounded(curve[dims - 1]) for curve in alignment],
        "r2": [report.rounded(curve[dims - 1]) for curve in r2],
    }


def picture(parts: dict[str, Any], ratios: Any) -> Figure:
    rows = [f"{p}x{p}" for p in PATCHES]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(3.4 * len(parts) + 1, 2.4 * len(rows) + 0.5), layout="constrained")
        panels = figure.subplots(len(rows), len(parts), squeeze=False, sharex="col")
        for column, (name, part) in enumerate(parts.items()):
            for row, patch in enumerate(rows):
                axes = panels[row, column]
                if patch not in part["patches"]:
                    axes.set_axis_off()
                    continue
                curves = np.asarray(part["patches"][patch]["alignment"])
                lines = [f"{p:g}" for p in ratios]
                sweep_panel(axes, part["latent_dim"], curves, curves[0], lines)
                axes.tick_params(labelsize=8)
                if row < len(rows) - 1:
                    axes.set_xlabel("")
                if column == 0:
                    axes.set_ylabel(f"patch {patch}\nchange of alignment")
            panels[0, column].set_title(name)
        handles, labels = panels[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, title="mask ratio", loc="outside right upper")
    return figure


def maps(parts: dict[str, Any], ratios: Sequence[float]) -> Figure:
    """Change of r2 by patch shape and ratio, one column a set, at about two K."""
    shown = [i for i, ratio in enumerate(ratios) if ratio in MAPPED]
    names = [f"{ratios[i]:g}" for i in shown]
    with matplotlib.rc_context(STYLE | {"axes.grid": False}):
        rows = -(-len(parts) // COLUMNS)
        figure = Figure(figsize=(10.5, 1 + 3.6 * rows), layout="constrained")
        panels = figure.subplots(2 * rows, COLUMNS, squeeze=False)
        for place, (name, part) in enumerate(parts.items()):
            row, column = divmod(place, COLUMNS)
            dims, patches = np.asarray(part["latent_dim"]), list(part["patches"])
            r2 = np.asarray([part["patches"][patch]["r2"] for patch in patches])
            changes = (r2 - r2[:, :1])[:, shown]
            for k, axes in zip(AT, panels[2 * row : 2 * row + 2, column], strict=True):
                at = int(np.argmin(abs(np.log(dims / k))))
                reach = float(abs(changes[..., at]).max())
                mask_map(axes, changes[..., at], changes[..., at], reach)
                axes.set_xticks(range(len(names)), names if k == AT[-1] else [])
                axes.set_yticks(range(len(patches)), patches if column == 0 else [])
                axes.set_title(f"{name}, K = {dims[at]}")
        for axes in panels.ravel():
            axes.set_visible(bool(axes.images))
        about = "change of r2 in thousandths, by patch (rows) and mask ratio; framed: the best"
        figure.suptitle(about, x=0.01, ha="left")
    return figure


if __name__ == "__main__":
    main()
