"""How figures look, what lines are called at their ends, and how figures are written."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from reconjax.storage.files import replacing

# Told apart by color-blind readers too (Okabe and Ito 2008, without the yellow, which is lost on
# white), and all but the gray in gray.
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#555555")
# Strengths of a noise, from weak to strong.
STRENGTHS = "viridis_r"
# Changes, as on the page of a report: blue is a gain, orange a loss.
CHANGES = LinearSegmentedColormap.from_list(
    "changes", ("#7f3300", "#c85a08", "#f3a55a", "#fbe3c8", "#f7f7f7", "#cfe1f0", "#7fb2d9",
                "#2070b4", "#08376b"),
)  # fmt: skip
QUIET = "#777777"
BAND: Any = {"alpha": 0.15, "linewidth": 0}
CHANCE: Any = {"linestyle": ":", "linewidth": 1.3}
HELD_OUT: Any = {"linestyle": "--", "linewidth": 1.3}
# Corrected for what few samples add to a curve, they may lie beside it.
INTERVAL = "90 % interval, bias corrected"
STYLE: Any = {
    "axes.grid": True,
    "axes.prop_cycle": cycler(color=COLORS),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 12,
    "font.size": 11,
    "grid.alpha": 0.2,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 10,
    "lines.linewidth": 2,
    "lines.solid_capstyle": "round",
    "savefig.bbox": "tight",
}


def band(axes: Axes, x: Any, ends: Any, color: Any) -> None:
    """A quiet band between two curves (lower, upper); nothing for None."""
    if ends is not None:
        axes.fill_between(x, np.asarray(ends[0]), np.asarray(ends[1]), color=color, **BAND)


def latent_axis(axes: Axes) -> None:
    """K along x, by powers of 2, in plain numbers."""
    axes.set_xscale("log", base=2)
    axes.set_xlabel("latent dimension K")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda k, _: f"{k:g}"))


def end_labels(
    axes: Axes,
    heights: Sequence[float],
    texts: Sequence[str],
    colors: Sequence[Any],
    *,
    gap: float = 0.065,
) -> None:
    """Writes what lines are called right of the axes, at the height of their ends.

    To be called once the limits of the axes are as they stay.

    Args:
      axes: drawn on.
      heights: of the ends, in units of the data.
      texts: one a line.
      colors: one a line.
      gap: least distance of two texts, in heights of the axes: those that are closer move apart.
    """
    to_axes = axes.transData + axes.transAxes.inverted()
    wanted = np.array([to_axes.transform((axes.get_xlim()[1], height))[1] for height in heights])
    places = apart(wanted, gap)
    for place, text, color in zip(places, texts, colors, strict=True):
        axes.annotate(
            text, (1, place), (6, 0), xycoords="axes fraction", textcoords="offset points",
            color=color, va="center", annotation_clip=False,
        )  # fmt: skip


def apart(places: np.ndarray, gap: float) -> np.ndarray:
    """The places (n,), moved as little as groups of neighbors allow until all are `gap` apart.

    All stay in 0 .. 1, where there is room for so many.
    """
    groups = [[int(index)] for index in np.argsort(places)]

    def center(group: list[int]) -> float:
        half = min(gap * (len(group) - 1) / 2, 0.5)
        return float(np.clip(np.mean(places[group]), half, 1 - half))

    i = 0
    while i < len(groups) - 1:
        near = gap * (len(groups[i]) + len(groups[i + 1])) / 2
        if center(groups[i + 1]) - center(groups[i]) < near - 1e-9:
            groups[i : i + 2] = [groups[i] + groups[i + 1]]
            i = max(i - 1, 0)
        else:
            i += 1
    result = np.empty(len(places))
    for group in groups:
        result[group] = center(group) + gap * (np.arange(len(group)) - (len(group) - 1) / 2)
    return result


def save(figure: Figure, path: str | os.PathLike[str], *, dpi: int = 110) -> None:
    """Writes the figure, whole or not at all; the suffix gives the format.

    Args:
      figure: from a function of this package.
      path: of the file.
      dpi: dots per inch of pixel formats.

    Raises:
      OSError: the file cannot be written; what was there stays.

    Example:
      >>> import os, tempfile
      >>> from matplotlib.figure import Figure
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     reconjax.plots.save(Figure(), folder + "/empty.png")
      ...     os.listdir(folder)
      ['empty.png']
    """
    with replacing(path) as part:
        figure.savefig(part, dpi=dpi)
