"""The picture of what should be learned: held-out r2 of each objective over K."""

from typing import Any

import matplotlib
import numpy as np
import xarray
from matplotlib.figure import Figure

from reconjax.evidence.bootstrap import interval_reach
from reconjax.plots.style import STYLE

# Distinct for color-blind readers too, and in gray.
COLORS = ("#0072b2", "#009e73", "#d55e00")


def objectives_figure(result: xarray.Dataset, *, level: float = 0.9) -> Figure:
    """What a linear head explains of new data, against K, for each objective at its best noise.

    Args:
      result: from `reconjax.studies.objectives`.
      level: of the bands, for the gain over no noise.

    Returns:
      The figure.
    """
    dims = result.latent_dim.values
    reach = interval_reach(int(result.attrs["folds"]), level)
    names = list(dict.fromkeys(result.family.values.tolist()))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.5, 4.2), layout="constrained")
        axes = figure.subplots()
        axes.set_xscale("log", base=2)
        curves = {"reconstruction, no noise": (result.held_out_without.values, None, "#555555")}
        for name, color in zip(names, COLORS, strict=False):
            mine = result.isel(point=result.family.values == name)
            chosen = mine.where(mine.position > 0)
            value = chosen.held_out.max("point").values
            error = reach * chosen.gain_standard_error.max("point").values
            curves[name] = value, error, color
        for name, (value, error, color) in curves.items():
            style = "--" if error is None else "-"
            # Where nothing is gained by a target, both are to be seen.
            width = 4.0 if color == COLORS[0] else 1.8
            look: Any = {"marker": "o", "markersize": 3.5, "linewidth": width}
            axes.plot(dims, value, style, color=color, label=name, **look)
            if error is not None:
                axes.fill_between(dims, value - error, value + error, color=color, alpha=0.15)
        axes.plot(dims, result.chance.values, ":", color="#999999", label="chance, training split")
        axes.set_xticks(dims, [str(k) for k in dims.tolist()])
        axes.minorticks_off()
        top = max(float(np.nanmax(value)) for value, _, _ in curves.values())
        low = min(float(np.nanmin(value)) for value, _, _ in curves.values())
        axes.set_ylim(max(min(low, 0.0), -0.1 * top) - 0.02 * top, 1.08 * top)
        axes.set_xlabel("latent dimensions K")
        axes.set_ylabel("r2 on held-out samples")
        axes.set_title(f"{result.attrs['data']}: what should be learned?")
        axes.legend(fontsize=9)
    return figure
