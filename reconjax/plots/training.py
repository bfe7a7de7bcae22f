"""Pictures of training: loss and accuracy over the steps, images beside their reconstructions."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from reconjax.plots.style import STYLE

# Rows of metrics that a step has, in the order in which they get a panel.
PANELS = ("loss", "reconstruction", "supervised", "accuracy")


def history_figure(history: Sequence[Mapping[str, Any]], *, title: str) -> Figure:
    """Loss, its parts and accuracy against the step, on the training and the test split.

    Args:
      history: rows of metrics, as in `reconjax.training.Trained`.
      title: above the figure.
    """
    there = [name for name in PANELS if any(name in row for row in history)]
    if {"loss", "reconstruction"} <= {*there} and "supervised" not in there:
        there.remove("reconstruction")  # it is the loss
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(1 + 4.2 * len(there), 3.6), layout="constrained")
        panels = figure.subplots(1, len(there), squeeze=False)[0]
        for axes, name in zip(panels, there, strict=True):
            for split, style in (("train", {"alpha": 0.7}), ("test", {"marker": "o"})):
                points = [
                    (row["step"], row[name])
                    for row in history
                    if row["split"] == split and row.get(name) is not None
                ]
                if points:
                    steps, values = np.asarray(points, float).T
                    axes.plot(steps, values, label=split, markersize=4, **style)
            axes.set(title=name, xlabel="step")
            if name != "accuracy":
                axes.set_yscale("log")
        panels[0].legend()
        figure.suptitle(title)
    return figure


def reconstruction_figure(images: Any, rows: Mapping[str, Any], *, title: str) -> Figure:
    """Images above what became of them, side by side (Figs 5 and 7).

    Args:
      images: (n, H, W, C) in [0, 1], C = 1 or 3.
      rows: name -> (n, H, W, C), e.g. noisy inputs and reconstructions.
      title: above the figure.
    """
    shown = {"original": images, **rows}
    with matplotlib.rc_context({**STYLE, "axes.grid": False}):
        count = len(images)
        size = (1.35 * count + 1.5, 1.45 * len(shown) + 0.5)
        figure = Figure(figsize=size, layout="constrained")
        panels = figure.subplots(len(shown), count, squeeze=False)
        for panel, (name, pictures) in zip(panels, shown.items(), strict=True):
            for axes, picture in zip(panel, np.clip(np.asarray(pictures), 0, 1), strict=True):
                gray = picture.shape[-1] == 1
                what = picture[..., 0] if gray else picture
                axes.imshow(what, cmap="gray" if gray else None, vmin=0, vmax=1)
                axes.set(xticks=[], yticks=[])
                axes.spines[:].set_visible(False)
            panel[0].set_ylabel(name, fontsize=10)
        figure.suptitle(title)
    return figure
