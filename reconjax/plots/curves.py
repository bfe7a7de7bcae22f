"""Curves of alignment (Fig. 2), and projections of images (Fig. 10)."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
import xarray
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from numpy.typing import ArrayLike

from reconjax.plots.pictures import picture_rows
from reconjax.plots.style import (
    BAND,
    CHANCE,
    COLORS,
    HELD_OUT,
    INTERVAL,
    QUIET,
    STRENGTHS,
    STYLE,
    band,
    end_labels,
    latent_axis,
)


def alignment_figure(
    curves: Mapping[str, Any],
    *,
    title: str | None = None,
    bands: Mapping[str, Mapping[str, tuple[ArrayLike, ArrayLike]]] | None = None,
    held_out: Mapping[str, ArrayLike] | None = None,
) -> Figure:
    """Alignment with chance lines, by K and by K / D, and r2 (Fig. 2).

    Args:
      curves: name of the data set -> its `Alignment`, or the result of `reconjax.studies.align`.
      title: above the figure.
      bands: name of the data set -> "alignment" and "r2" -> (D,), (D,) ends of intervals.
      held_out: name of the data set -> (D,) explained on the test split.

    Returns:
      The figure.

    Example:
      >>> result = reconjax.studies.align("digits", bootstrap=0)
      >>> figure = reconjax.plots.alignment_figure({"digits": result})
      >>> figure.axes[0].get_xlabel() != ""
      True
    """
    bands, held_out = bands or {}, held_out or {}
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(13, 4.2), layout="constrained")
        by_dim, by_share, r2 = figure.subplots(1, 3)
        for index, (name, curve) in enumerate(curves.items()):
            color = COLORS[index % len(COLORS)]
            dims = np.asarray(curve.latent_dim)
            share = dims / dims[-1]
            chance = {"color": color, "alpha": 0.7, **CHANCE}
            for axes, x in ((by_dim, dims), (by_share, share)):
                axes.plot(x, np.asarray(curve.alignment), color=color)
                axes.plot(x, np.asarray(curve.chance), **chance)
                band(axes, x, bands.get(name, {}).get("alignment"), color)
            r2.plot(dims, np.asarray(curve.r2), color=color)
            r2.plot(dims, np.asarray(curve.r2_chance), **chance)
            band(r2, dims, bands.get(name, {}).get("r2"), color)
            if name in held_out:
                r2.plot(dims, np.asarray(held_out[name]), color=color, **HELD_OUT)
        for axes in (by_dim, r2):
            latent_axis(axes)
        by_share.set_xlabel("K / input dimension D")
        by_share.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        by_dim.set_title("alignment (Eq. 7), by K")
        by_share.set_title("alignment (Eq. 7), by K / D")
        r2.set_title("label variance explained (r2)")
        for axes in (by_dim, by_share, r2):
            axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
            axes.set_ylim(bottom=0)
        ends = [float(np.asarray(curve.r2)[-1]) for curve in curves.values()]
        end_labels(r2, ends, list(curves), [COLORS[i % len(COLORS)] for i in range(len(ends))])
        # What kinds of lines there are; the colors are told at their ends.
        by_dim.plot([], [], color=QUIET, label="chance", **CHANCE)
        if held_out:
            by_dim.plot([], [], color=QUIET, label="held-out", **HELD_OUT)
        if any(bands.values()):
            by_dim.fill_between([], [], color=QUIET, label=INTERVAL, **BAND)
        handles, labels = by_dim.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower left", ncols=3)
        if title:
            figure.suptitle(title)
    return figure


def targets_figure(result: xarray.Dataset, *, most: int = 12) -> Figure:
    """What a linear head explains of each target, or class against all others, for every K.

    Args:
      result: of `reconjax.studies.align`, with `r2_by_target`.
      most: so many targets at most are drawn, the best and the worst read ones.

    Returns:
      The figure.

    Example:
      >>> result = reconjax.studies.align("digits", bootstrap=0)
      >>> len(reconjax.plots.targets_figure(result, most=4).axes[0].lines)
      4
    """
    r2 = result.r2_by_target
    order = r2.sum("latent_dim").argsort().values[::-1]
    if len(order) > most:
        order = np.concatenate([order[: most // 2], order[len(order) - most // 2 :]])
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.4, 4.4), layout="constrained")
        axes = figure.subplots()
        colors = matplotlib.colormaps[STRENGTHS](np.linspace(1, 0.1, len(order)))
        names = [str(result.target.values[index]) for index in order]
        for index, color, name in zip(order, colors, names, strict=True):
            axes.plot(result.latent_dim, r2.isel(target=index), color=color, label=name)
        latent_axis(axes)
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.set_title(f"{result.attrs['data']}: variance of each target explained on K directions")
        end_labels(axes, [float(r2[index, -1]) for index in order], names, list(colors), gap=0.06)
    return figure


def subspace_figure(
    result: xarray.Dataset, *, title: str | None = None, channel: int | None = None
) -> Figure:
    """Images on the top subspace of a share of variance and on its complement (Fig. 10).

    Args:
      result: of `reconjax.studies.project`.
      title: above the figure.
      channel: see `projection_figure`.

    Returns:
      The figure.

    Example:
      >>> result = reconjax.studies.project("digits", images=2)
      >>> len(reconjax.plots.subspace_figure(result).axes)
      6
    """
    facts = result.attrs
    variance, top, bottom = (
        facts[name] for name in ("variance", "top_directions", "bottom_directions")
    )
    return projection_figure(
        result.images.values,
        result.top.values,
        result.bottom.values,
        rows=(
            "original",
            f"top {variance:.0%}\n({top} directions)",
            f"bottom {1 - variance:.0%}\n({bottom} directions)",
        ),
        names=result.class_name.values.tolist(),
        title=title or f"{facts['data']}: what explains the pixels, and what is left",
        channel=channel,
    )


def projection_figure(
    images: ArrayLike,
    top: ArrayLike,
    bottom: ArrayLike,
    *,
    rows: Sequence[str],
    names: Sequence[str],
    title: str,
    channel: int | None = None,
) -> Figure:
    """Images above their top and bottom subspace parts, side by side (Fig. 10).

    Args:
      images: (n, H, W, C); range and channels as in `reconstruction_figure`.
      top: (n, H, W, C) projections with the mean.
      bottom: (n, H, W, C) projections without the mean; shown about gray, stretched alike so that
        99 % of their values fit.
      rows: three row titles.
      names: (n,) titles of the images.
      title: above the figure; where not all channels are shown, it is followed by those that are.
      channel: the only one that is shown, 0 .. C - 1; by default as `picture_rows` chooses.

    Returns:
      The figure.

    Raises:
      ValueError: a channel that is not there.

    Example:
      >>> images = np.linspace(0, 1, 32).reshape(2, 4, 4, 1)
      >>> titles = {"rows": ["original", "top", "bottom"], "names": ["a", "b"], "title": "Fig. 10"}
      >>> len(reconjax.plots.projection_figure(images, images, 0 * images, **titles).axes)
      6
    """
    images, top, bottom = (np.asarray(part) for part in (images, top, bottom))
    channels = images.shape[-1]
    if channel is not None:
        if not 0 <= channel < channels:
            raise ValueError(f"channel: {channel}; 0 .. {channels - 1} is allowed")
        images, top, bottom = (part[..., [channel]] for part in (images, top, bottom))
        title = f"{title}; channel {channel} of {channels}"
    shown = dict(zip(rows, (images, top, bottom), strict=True))
    return picture_rows(images, shown, about_gray=(rows[2],), names=names, title=title)
