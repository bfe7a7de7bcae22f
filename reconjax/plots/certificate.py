"""The picture of certificates: what each noise can change, by K."""

import matplotlib
import xarray
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from reconjax.plots.style import STYLE


def certificate_figure(result: xarray.Dataset, *, title: str | None = None) -> Figure:
    """The largest possible change and the mean squared cosine by K, a line for each noise.

    Args:
      result: of `reconjax.studies.detect`.
      title: above the figure.

    Returns:
      The figure.

    Example:
      >>> result = reconjax.studies.detect("digits", noises=["gaussian:0.5", "mask:0.75:2x2"])
      >>> len(reconjax.plots.certificate_figure(result).axes)
      2
    """
    dims, every = result.latent_dim.values, result.direction.values
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(12, 4.2), layout="constrained")
        change, overlap = figure.subplots(1, 2)
        for index in range(result.sizes["noise"]):
            row, color = result.isel(noise=index), f"C{index % 10}"
            line = {"color": color, "label": f"{row.noise.item()}: {row.verdict.item()}"}
            largest = row.largest_change.values
            change.plot(dims, largest, marker="o", markersize=4, **line)
            unclear = row.ambiguous.values | (row.gap.values < result.attrs["sampling"])
            hollow = {"markeredgecolor": color, "markerfacecolor": "white", "markersize": 4}
            change.plot(dims[unclear], largest[unclear], "o", zorder=3, **hollow)
            overlap.plot(every, row.overlap.values, **line)
        random = {"color": "gray", "linestyle": ":", "linewidth": 1.1}
        overlap.plot(every, every / every[-1], **random, label="spaces at random")
        hollow = {"color": "gray", "markerfacecolor": "white", "markersize": 4}
        overlap.plot([], [], "o", **hollow, label="K cuts near-equal eigenvalues")
        change.set_title("largest possible change of r2, for any label")
        overlap.set_title("mean squared cosine of the two representations")
        for axes in (change, overlap):
            axes.set_xscale("log", base=2)
            axes.set_xlabel("latent dimension K")
            axes.xaxis.set_major_formatter(FuncFormatter(lambda k, _: f"{k:g}"))
            axes.set_ylim(-0.03, 1.03)
        figure.legend(*overlap.get_legend_handles_labels(), loc="outside right upper")
        if title:
            figure.suptitle(title)
    return figure
