"""The pictures of a comparison of noises, and of learned masks."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from reconjax.evidence.bootstrap import interval_reach
from reconjax.evidence.places import Place
from reconjax.plots.style import STYLE

BETTER, WORSE, UNSURE = "C0", "C3", "gray"
ROUNDING = 1e-6  # of a gain: far below any that matters

# Characters of a noise that are shown beside its point.
LONGEST = 28


def comparison_figure(
    places: Sequence[Place], folds: int, *, title: str | None = None, level: float = 0.9
) -> Figure:
    """Held-out gain of every family over no noise, with intervals: a panel for each K.

    Args:
      places: from `reconjax.studies.ranking`.
      folds: of the test split, for Student's t.
      title: above the figure.
      level: of the intervals.

    Returns:
      The figure.

    Example:
      >>> from reconjax.evidence.places import Place
      >>> places = [Place(8, "mask", "mask:0.5:2x2", 0.6, 0.5, 0.02, 0.01, 0.04)]
      >>> len(reconjax.plots.comparison_figure(places, 20).axes)
      1
    """
    reach = interval_reach(folds, level)
    dims = list(dict.fromkeys(place.latent_dim for place in places))
    by_name: dict[str, list[Place]] = {}
    for place in places:
        by_name.setdefault(place.family, []).append(place)
    names = sorted(by_name, key=lambda name: np.median([place.gain for place in by_name[name]]))
    chance = 1 - level
    with matplotlib.rc_context(STYLE):
        size = (2.4 + 3.6 * len(dims), 1.5 + 0.32 * len(names))
        figure = Figure(figsize=size, layout="constrained")
        panels = figure.subplots(1, len(dims), sharey=True, squeeze=False)[0]
        for axes, latent_dim in zip(panels, dims, strict=True):
            axes.axvline(0, color="black", linewidth=1)
            row = [next(p for p in by_name[n] if p.latent_dim == latent_dim) for n in names]
            # Heads that explain less than nothing on new data would leave no room for the others.
            low = min([p.gain - reach * p.standard_error for p in row if p.held_out > 0] or [-1.0])
            for y, place in enumerate(row):
                error = reach * place.standard_error
                color = BETTER if place.gain > 0 and place.p_value <= chance else UNSURE
                color = WORSE if place.gain + error < -ROUNDING else color
                if place.held_out > 0:
                    point = {"color": color, "markersize": 5, "linewidth": 1.5}
                    axes.errorbar(place.gain, y, xerr=error, fmt="o", **point)
                else:
                    axes.plot(low, y, "<", color=color, markersize=7)
                axes.annotate(
                    place.noise if len(place.noise) <= LONGEST else f"{place.noise[:LONGEST]}...",
                    (1.0, y),
                    xycoords=("axes fraction", "data"),
                    fontsize=7,
                    ha="right",
                    va="center",
                    color="gray",
                )
            axes.set_yticks(range(len(names)), names)
            axes.xaxis.set_major_locator(MaxNLocator(4))
            # On the right, room for what the strengths are called.
            low, high = axes.get_xlim()
            axes.set_xlim(low, high + 0.45 * (high - low))
            axes.set_title(f"K = {latent_dim}")
            axes.set_xlabel("gain in r2, held out")
        for color, label in (
            (BETTER, f"better: p ≤ {chance:.2g} for all tried"),
            (UNSURE, "no clear change"),
            (WORSE, f"worse: {level:.0%} interval (◂ far worse)"),
        ):
            panels[0].errorbar([], [], xerr=[], fmt="o", color=color, markersize=5, label=label)
        figure.legend(
            *panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=9
        )
        if title:
            figure.suptitle(title)
    return figure


def learned_mask_figure(
    masks: Mapping[str, Sequence[tuple[str, ArrayLike]]],
    means: Mapping[str, ArrayLike],
    *,
    title: str | None = None,
) -> Figure:
    """Learned drop probabilities as pictures below the mean image: a column for each data set.

    Args:
      masks: name of the data set -> (text, (rows, columns) probabilities) of each mask.
      means: name of the data set -> (H, W, C) its mean image in [0, 1].
      title: above the figure.

    Returns:
      The figure.

    Example:
      >>> masks = {"digits": [("patches of 2", np.full((4, 4), 0.5))]}
      >>> means = {"digits": np.full((8, 8, 1), 0.5)}
      >>> len(reconjax.plots.learned_mask_figure(masks, means).axes)  # with the color bar
      3
    """
    rows = 1 + max(map(len, masks.values()))
    with matplotlib.rc_context({**STYLE, "axes.grid": False, "axes.titlesize": 9}):
        size = (2.1 * len(masks) + 1.2, 2.35 * rows + 0.4)
        figure = Figure(figsize=size, layout="constrained")
        panels = figure.subplots(rows, len(masks), squeeze=False)
        shown: Any = None
        for column, (name, row) in enumerate(masks.items()):
            mean = np.clip(np.asarray(means[name]), 0, 1)
            gray = mean.shape[-1] == 1
            panels[0, column].imshow(mean[..., 0] if gray else mean, cmap="gray", vmin=0, vmax=1)
            panels[0, column].set_title(f"{name}\nmean image")
            for axes, (text, ratio) in zip(panels[1:, column], row, strict=False):
                shown = axes.imshow(np.asarray(ratio), cmap="viridis", vmin=0, vmax=1)
                axes.set_title(text)
            for axes in panels[:, column]:
                axes.set(xticks=[], yticks=[])
                axes.spines[:].set_visible(False)
        figure.colorbar(shown, ax=panels[1:], label="drop probability of the patch", shrink=0.6)
        if title:
            figure.suptitle(title)
    return figure
