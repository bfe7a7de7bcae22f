"""Curves of alignment (Fig. 2), sweeps (Fig. 6) and projections (Fig. 10)."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
import xarray
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, PercentFormatter

from reconjax.plots.style import STYLE
from reconjax.theory.alignment import Alignment

HELD_OUT: Any = {"linestyle": "--", "linewidth": 1.1}
BAND: Any = {"alpha": 0.2, "linewidth": 0}
# Changes up to which a panel reaches at least: rounding is not to look like more.
LEAST = 1e-3


def alignment_figure(
    curves: Mapping[str, Alignment],
    *,
    title: str | None = None,
    bands: Mapping[str, Mapping[str, tuple[Any, Any]]] | None = None,
    held_out: Mapping[str, Any] | None = None,
) -> Figure:
    """Alignment with chance lines, by K and by K / D, and the explained share (Fig. 2).

    Args:
      curves: name of the data set -> `reconjax.alignment` of it.
      title: above the figure.
      bands: name of the data set -> "alignment" and "explained" -> (D,), (D,) ends of intervals.
      held_out: name of the data set -> (D,) explained on the test split.
    """
    bands, held_out = bands or {}, held_out or {}
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(13, 4), layout="constrained")
        by_dim, by_share, explained = figure.subplots(1, 3)
        for index, (name, curve) in enumerate(curves.items()):
            color = f"C{index % 10}"
            dims = np.asarray(curve.latent_dim)
            share = dims / dims[-1]
            line = {"color": color, "label": name}
            chance = {"color": color, "linestyle": ":", "linewidth": 1.1, "alpha": 0.8}
            for axes, x in ((by_dim, dims), (by_share, share)):
                axes.plot(x, np.asarray(curve.alignment), **line)
                axes.plot(x, np.asarray(curve.chance), **chance)
                _band(axes, x, bands.get(name, {}).get("alignment"), color)
            explained.plot(dims, np.asarray(curve.r2), **line)
            explained.plot(dims, np.asarray(curve.r2_chance), **chance)
            _band(explained, dims, bands.get(name, {}).get("r2"), color)
            if name in held_out:
                explained.plot(dims, np.asarray(held_out[name]), color=color, **HELD_OUT)
        for axes in (by_dim, explained):
            _latent_axis(axes)
        by_share.set_xlabel("latent dimension K / input dimension D")
        by_share.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        by_dim.set_title("alignment (Eq. 7), by K")
        by_share.set_title("alignment (Eq. 7), by K / D")
        explained.set_title("label variance explained on K directions")
        for axes in (by_dim, by_share, explained):
            axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
            axes.set_ylim(bottom=0)
        by_dim.plot([], [], color="grey", linestyle=":", linewidth=1.1, label="chance")
        if held_out:
            by_dim.plot([], [], color="grey", label="held-out", **HELD_OUT)
        if any(bands.values()):
            by_dim.fill_between([], [], color="grey", label="90 % interval", **BAND)
        figure.legend(*by_dim.get_legend_handles_labels(), loc="outside right center")
        if title:
            figure.suptitle(title)
    return figure


def sweep_figure(
    latent_dim: Any,
    alignment: Any,
    baseline: Any,
    *,
    rows: Sequence[str],
    lines: Sequence[str],
    columns: Sequence[str] = ("",),
    title: str | None = None,
    strength: str = "mask ratio",
    quantity: str = "alignment",
    relative: bool = True,
    bands: tuple[Any, Any] | None = None,
    held_out: Any = None,
    held_out_baseline: Any = None,
) -> Figure:
    """Change against no noise: one panel a ray, one line a strength (the layout of Fig. 6).

    Args:
      latent_dim: (Kn,) K.
      alignment: (P, R, L, Kn) curves.
      baseline: (L, Kn) the curves without noise.
      rows: (P,) what to call each ray, e.g. "patch 2x2".
      lines: (R,) what to call each strength; drawn from cyan to pink.
      columns: (L,) what to call each weight.
      title: above the figure.
      strength: what the lines differ in.
      quantity: what the curves are.
      relative: to the baseline, for K of at least 1/96 of the largest (as in the paper): below,
        ratios of tiny numbers would fill the panel. Else differences from it, for every K.
      bands: (P, R, L, Kn) twice, the ends of intervals of the changes.
      held_out: (P, R, L, Kn) curves on the test split.
      held_out_baseline: (L, Kn) those without noise.

    Raises:
      ValueError: one of the held-out curves without the other.
    """
    if (held_out is None) != (held_out_baseline is None):
        raise ValueError("held_out: it needs held_out_baseline, and the other way round")
    curves, base = np.asarray(alignment), np.asarray(baseline)
    tested = None
    if held_out is not None:
        tested = _change(held_out, held_out_baseline, relative)
    with matplotlib.rc_context(STYLE):
        size = (1.2 + 5.6 * len(columns), 0.8 + 2.5 * len(rows))
        figure = Figure(figsize=size, layout="constrained")
        panels = figure.subplots(len(rows), len(columns), sharex=True, sharey="row", squeeze=False)
        for p, row in enumerate(rows):
            for c, column in enumerate(columns):
                axes = panels[p, c]
                sweep_panel(
                    axes,
                    latent_dim,
                    curves[p, :, c],
                    base[c],
                    lines,
                    relative=relative,
                    bands=None if bands is None else tuple(end[p, :, c] for end in bands),
                    held_out=None if tested is None else tested[p, :, c],
                )
                axes.set_title(", ".join(part for part in (row, column) if part))
                axes.label_outer()
            panels[p, 0].set_ylabel(f"change of {quantity}")
        if held_out is not None:
            panels[0, 0].plot([], [], color="grey", label="held-out", **HELD_OUT)
        if bands is not None:
            panels[0, 0].fill_between([], [], color="grey", label="90 % interval", **BAND)
        handles, labels = panels[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, title=strength, loc="outside right upper")
        if title:
            figure.suptitle(title)
    return figure


def sweep_panel(
    axes: Axes,
    latent_dim: Any,
    curves: Any,
    baseline: Any,
    lines: Sequence[str],
    *,
    relative: bool = True,
    bands: Any = None,
    held_out: Any = None,
) -> None:
    """One panel of Fig. 6: changes of curves (R, Kn) from the baseline (Kn,), from cyan to pink.

    The `bands`, (R, Kn) twice, and `held_out` (R, Kn) are changes already; see `sweep_figure`.
    """
    dims = np.asarray(latent_dim)
    shown = dims >= (dims[-1] / 96 if relative else 1)
    changes = _change(curves, baseline, relative)
    colors = matplotlib.colormaps["cool"](np.linspace(0, 1, max(len(lines), 2)))
    axes.axhline(0, color="black", linewidth=1)
    for index, (curve, color, line) in enumerate(zip(changes, colors, lines, strict=False)):
        axes.plot(dims[shown], curve[shown], color=color, label=line)
        if bands is not None:
            _band(axes, dims[shown], [end[index][shown] for end in bands], color)
        if held_out is not None:
            axes.plot(dims[shown], held_out[index][shown], color=color, **HELD_OUT)
    if relative:
        axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.update_datalim([(dims[-1], -LEAST), (dims[-1], LEAST)])
    axes.autoscale_view()
    _latent_axis(axes)


def _change(curves: Any, baseline: Any, relative: bool) -> np.ndarray:
    """Of curves from a baseline, (..., Kn) both: relative to it, or the difference."""
    curves, base = np.asarray(curves), np.asarray(baseline)
    with np.errstate(divide="ignore", invalid="ignore"):  # where the baseline is 0
        return curves / base - 1 if relative else curves - base


def subspace_figure(
    result: xarray.Dataset, *, title: str | None = None, channel: int | None = None
) -> Figure:
    """Images on the top subspace of a share of variance and on its complement (Fig. 10).

    Args:
      result: of `reconjax.studies.project`.
      title: above the figure.
      channel: see `projection_figure`.
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
    images: Any,
    top: Any,
    bottom: Any,
    *,
    rows: Sequence[str],
    names: Sequence[str],
    title: str,
    channel: int | None = None,
) -> Figure:
    """Images above their top and bottom subspace parts, side by side (Fig. 10).

    Args:
      images: (n, H, W, C) in [0, 1].
      top: (n, H, W, C) projections with the mean.
      bottom: (n, H, W, C) projections without the mean; shown about gray, stretched alike so that
        99 % of their values fit.
      rows: three row titles.
      names: (n,) titles of the images.
      title: above the figure; it is told which channels are shown, where these are not all.
      channel: the only one that is shown, 0 .. C - 1. By default all where they are 1 or 3 (gray,
        or red, green and blue), else their mean.

    Raises:
      ValueError: a channel that is not there.
    """
    images, top, bottom = (np.asarray(part) for part in (images, top, bottom))
    channels = images.shape[-1]
    if channel is not None:
        if not 0 <= channel < channels:
            raise ValueError(f"channel: {channel}; 0 .. {channels - 1} is allowed")
        images, top, bottom = (part[..., [channel]] for part in (images, top, bottom))
        title = f"{title}\n(channel {channel} of {channels})"
    elif channels not in (1, 3):
        images, top, bottom = (part.mean(-1, keepdims=True) for part in (images, top, bottom))
        title = f"{title}\n(mean of {channels} channels)"
    reach = max(float(np.quantile(np.abs(bottom), 0.99)), 1e-12)
    parts = (images, top, 0.5 + 0.5 * bottom / reach)
    with matplotlib.rc_context({**STYLE, "axes.grid": False}):
        count = len(names)
        figure = Figure(figsize=(1.35 * count + 1.5, 5.1), layout="constrained")
        panels = figure.subplots(3, count, squeeze=False)
        for panel, part, row in zip(panels, parts, rows, strict=True):
            for axes, picture in zip(panel, np.clip(part, 0, 1), strict=True):
                gray = picture.shape[-1] == 1
                shown = picture[..., 0] if gray else picture
                axes.imshow(shown, cmap="gray" if gray else None, vmin=0, vmax=1)
                axes.set(xticks=[], yticks=[])
                axes.spines[:].set_visible(False)
            panel[0].set_ylabel(row, fontsize=10)
        for axes, name in zip(panels[0], names, strict=True):
            axes.set_title(name.replace(", ", ",\n"), fontsize=9)
        figure.suptitle(title)
    return figure


def _band(axes: Axes, x: Any, ends: Any, color: Any) -> None:
    if ends is not None:
        axes.fill_between(x, np.asarray(ends[0]), np.asarray(ends[1]), color=color, **BAND)


def _latent_axis(axes: Axes) -> None:
    axes.set_xscale("log", base=2)
    axes.set_xlabel("latent dimension K")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda k, _: f"{k:g}"))
