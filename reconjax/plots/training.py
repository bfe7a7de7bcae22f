"""Pictures of training: loss and accuracy over the steps, images beside their reconstructions."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from reconjax.plots.pictures import picture_rows
from reconjax.plots.style import STYLE

# Rows of metrics that a step has, in the order in which they get a panel.
PANELS = ("loss", "reconstruction", "supervised", "accuracy")


def history_figure(history: Sequence[Mapping[str, Any]], *, title: str) -> Figure:
    """Loss, its parts and accuracy against the step, on the training and the test split.

    Args:
      history: rows of metrics, as in `reconjax.training.Trained`.
      title: above the figure.

    Returns:
      The figure.

    Example:
      >>> losses = {1: 2.0, 2: 1.0}
      >>> history = [{"step": n, "split": "train", "loss": losses[n]} for n in losses]
      >>> len(reconjax.plots.history_figure(history, title="two steps").axes)
      1
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


def reconstruction_figure(
    images: ArrayLike, rows: Mapping[str, ArrayLike], *, title: str
) -> Figure:
    """Images above what became of them, side by side (Figs 5 and 7).

    Args:
      images: (n, H, W, C), shown from 0 to 1, or from their least to their largest value where they
        go beyond it. Of other than 1 or 3 channels, the first, middle and last get rows of theirs.
      rows: name -> (n, H, W, C), e.g. noisy inputs and reconstructions.
      title: above the figure.

    Returns:
      The figure.

    Example:
      >>> images = np.linspace(0, 1, 32).reshape(2, 4, 4, 1)
      >>> rows = {"half": images / 2}
      >>> len(reconjax.plots.reconstruction_figure(images, rows, title="two images").axes)
      4
    """
    return picture_rows(images, {"original": images, **rows}, title=title)
