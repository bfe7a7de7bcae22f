"""The picture of what should be learned: held-out r2 of each objective over K."""

from typing import Any

import matplotlib
import xarray
from matplotlib.figure import Figure

from reconjax.evidence.bootstrap import interval_reach
from reconjax.plots.style import BAND, CHANCE, COLORS, HELD_OUT, QUIET, STYLE, end_labels


def objectives_figure(result: xarray.Dataset, *, level: float = 0.9) -> Figure:
    """What a linear head explains of new data, against K, for each objective at its best noise.

    Args:
      result: from `reconjax.studies.objectives`.
      level: of the intervals of the gains, which are bands.

    Returns:
      The figure.

    Example:
      >>> import xarray
      >>> curves = ["gain", "gain_standard_error", "p_value", "position"]
      >>> points, lines = ("point", "latent_dim"), ["held_out_without", "chance"]
      >>> result = xarray.Dataset(
      ...     {name: (points, np.ones((1, 2))) for name in curves}
      ...     | {name: (points[1], np.zeros(2)) for name in lines},
      ...     {"latent_dim": [2, 4], "family": ("point", ["joint embedding"])},
      ...     {"data": "digits", "folds": 20},
      ... )
      >>> len(reconjax.plots.objectives_figure(result).axes)
      2
    """
    dims = result.latent_dim.values
    reach = interval_reach(int(result.attrs["folds"]), level)
    names = list(dict.fromkeys(result.family.values.tolist()))
    without = result.held_out_without.values
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(12, 4.4), layout="constrained")
        whole, gains = figure.subplots(1, 2)
        plain = {"color": QUIET, **HELD_OUT}
        whole.plot(dims, without, label="reconstruction, no noise", **plain)
        gains.axhline(0, **plain)
        ends = [0.0]
        for name, color in zip(names, COLORS, strict=False):
            mine = result.isel(point=result.family.values == name)
            chosen = mine.where(mine.position > 0)
            gain = chosen.gain.max("point").values
            error = reach * chosen.gain_standard_error.max("point").values
            # Where nothing is gained by a target, both are to be seen.
            width = 4.0 if color == COLORS[0] else 2.0
            look: Any = {"marker": "o", "markersize": 4, "linewidth": width, "color": color}
            whole.plot(dims, without + gain, label=name, **look)
            gains.plot(dims, gain, **look)
            gains.fill_between(dims, gain - error, gain + error, color=color, **BAND)
            ends.append(float(gain[-1]))
        whole.plot(dims, result.chance.values, color=QUIET, **CHANCE)
        for axes in (whole, gains):
            axes.set_xscale("log", base=2)
            axes.set_xticks(dims, [str(k) for k in dims.tolist()])
            axes.minorticks_off()
            axes.set_xlabel("latent dimension K")
        whole.set_ylim(bottom=max(whole.get_ylim()[0], -0.1 * whole.get_ylim()[1]))
        middle = (len(dims) - 1) // 2
        chance = (float(dims[middle]), float(result.chance.values[middle]))
        whole.annotate("chance", chance, (0, 5), textcoords="offset points", color=QUIET)
        whole.set_title(f"{result.attrs['data']}: r2 on new data")
        gains.set_title("gain over reconstruction without noise")
        texts = ["reconstruction,\nno noise", *(_broken(name) for name in names)]
        colors = [QUIET, *COLORS[: len(names)]]
        end_labels(gains, ends, texts[: len(ends)], colors[: len(ends)], gap=0.14)
    return figure


def _broken(name: str) -> str:
    """A name in two lines."""
    return name.replace(", ", ",\n", 1)
