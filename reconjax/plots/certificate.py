"""The picture of certificates: what each noise can change, by K."""

from collections.abc import Mapping

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from reconjax.plots.style import STYLE
from reconjax.theory.certificate import Certificate


def certificate_figure(found: Mapping[str, Certificate], *, title: str | None = None) -> Figure:
    """The largest possible change and the mean squared cosine by K, a line for each noise.

    Args:
      found: name of the noise -> its certificate, all of the same data.
      title: above the figure.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(12, 4.2), layout="constrained")
        change, overlap = figure.subplots(1, 2)
        for index, (name, one) in enumerate(found.items()):
            color = f"C{index % 10}"
            line = {"color": color, "label": f"{name}: {one.verdict}"}
            change.plot(one.latent_dim, one.largest_change, marker="o", markersize=4, **line)
            unclear = one.ambiguous | (one.gap < one.sampling)
            hollow = {"markeredgecolor": color, "markerfacecolor": "white", "markersize": 4}
            change.plot(
                one.latent_dim[unclear], one.largest_change[unclear], "o", zorder=3, **hollow
            )
            overlap.plot(np.arange(1, one.rank + 1), one.overlap, **line)
        ranks = [one.rank for one in found.values()]
        every = np.arange(1, max(ranks, default=1) + 1)
        random = {"color": "grey", "linestyle": ":", "linewidth": 1.1}
        overlap.plot(every, every / every[-1], **random, label="spaces at random")
        hollow = {"color": "grey", "markerfacecolor": "white", "markersize": 4}
        overlap.plot([], [], "o", **hollow, label="K cuts near-equal eigenvalues")
        change.set_title("largest possible change of the explained share, for any label")
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
