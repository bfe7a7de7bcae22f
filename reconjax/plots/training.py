"""Pictures of training: loss and accuracy over the steps, images beside their reconstructions."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
import xarray
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from reconjax.plots.pictures import picture_rows
from reconjax.plots.style import STYLE

# Rows of metrics that a step has, in the order in which they get a panel.
PANELS = (
    "loss", "reconstruction", "supervised", "accuracy", "invariance", "variance", "covariance",
)  # fmt: skip


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


def finalists_figure(result: xarray.Dataset) -> Figure:
    """What probes of trained networks explain, against the closed form of their masks, by round.

    Args:
      result: from `reconjax.training.train_finalists`.

    Returns:
      The figure.

    Example:
      >>> import xarray
      >>> trained = np.array([[0.5, 0.6], [0.4, np.nan]])
      >>> result = xarray.Dataset(
      ...     {"predicted": ("noise", [0.3, 0.2]), "r2": (("noise", "round"), trained)}
      ...     | {"epochs": ("round", [5, 10])},
      ...     {"noise": ["exact:0.5:4x4", "exact:0.75:4x4"]},
      ...     {"data": "digits"},
      ... )
      >>> len(reconjax.plots.finalists_figure(result).axes)
      1
    """
    predicted = result.predicted.values
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 4.4), layout="constrained")
        axes = figure.subplots()
        for number, epochs in enumerate(result.epochs.values.tolist()):
            r2 = result.r2.isel(round=number).values
            axes.plot(predicted, r2, "o", label=f"{epochs} epochs", color=f"C{number}")
            for at, value, noise in zip(predicted, r2, result.noise.values, strict=True):
                if np.isfinite(value):
                    axes.annotate(
                        noise.removeprefix("exact:"), (at, value), fontsize=7,
                        xytext=(4, 4), textcoords="offset points",
                    )  # fmt: skip
        axes.plot(predicted, np.full(len(predicted), axes.get_ylim()[0]), "|", color="0.5")
        axes.set_xlabel("r2 of the closed form, test split (ticks: all masks)")
        axes.set_ylabel("r2 of the trained networks, test split")
        axes.set_title(f"{result.attrs['data']}: masks before and after training")
        axes.legend()
    return figure
