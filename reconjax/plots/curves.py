"""Curves of alignment (Fig. 2), sweeps (Fig. 6) and projections (Fig. 10)."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
import xarray
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, PercentFormatter
from numpy.typing import ArrayLike

from reconjax.evidence.bootstrap import interval_reach
from reconjax.plots.pictures import picture_rows
from reconjax.plots.style import STYLE

HELD_OUT: Any = {"linestyle": "--", "linewidth": 1.1}
# Corrected for what few samples add to a curve, they may lie beside it.
INTERVAL = "90 % interval, bias corrected"
BAND: Any = {"alpha": 0.2, "linewidth": 0}
# Changes up to which a panel reaches at least: rounding is not to look like more.
LEAST = 1e-3


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
        figure = Figure(figsize=(13, 4), layout="constrained")
        by_dim, by_share, r2 = figure.subplots(1, 3)
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
            r2.plot(dims, np.asarray(curve.r2), **line)
            r2.plot(dims, np.asarray(curve.r2_chance), **chance)
            _band(r2, dims, bands.get(name, {}).get("r2"), color)
            if name in held_out:
                r2.plot(dims, np.asarray(held_out[name]), color=color, **HELD_OUT)
        for axes in (by_dim, r2):
            _latent_axis(axes)
        by_share.set_xlabel("latent dimension K / input dimension D")
        by_share.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        by_dim.set_title("alignment (Eq. 7), by K")
        by_share.set_title("alignment (Eq. 7), by K / D")
        r2.set_title("label variance explained on K directions")
        for axes in (by_dim, by_share, r2):
            axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
            axes.set_ylim(bottom=0)
        by_dim.plot([], [], color="gray", linestyle=":", linewidth=1.1, label="chance")
        if held_out:
            by_dim.plot([], [], color="gray", label="held-out", **HELD_OUT)
        if any(bands.values()):
            by_dim.fill_between([], [], color="gray", label=INTERVAL, **BAND)
        figure.legend(*by_dim.get_legend_handles_labels(), loc="outside right center")
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
      >>> len(reconjax.plots.targets_figure(result, most=4).axes[0].get_legend().get_texts())
      4
    """
    r2 = result.r2_by_target
    order = r2.sum("latent_dim").argsort().values[::-1]
    if len(order) > most:
        order = np.concatenate([order[: most // 2], order[len(order) - most // 2 :]])
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.4, 4.4), layout="constrained")
        axes = figure.subplots()
        for place, index in enumerate(order):
            color = matplotlib.colormaps["tab20"](place % 20)
            name = str(result.target.values[index])
            axes.plot(result.latent_dim, r2.isel(target=index), color=color, label=name)
        _latent_axis(axes)
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.set_title(f"{result.attrs['data']}: variance of each target explained on K directions")
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def sweep_figure(
    result: xarray.Dataset,
    *,
    quantity: str = "r2",
    relative: bool = False,
    title: str | None = None,
) -> Figure:
    """Change against no noise: one panel a ray, one line a strength (the layout of Fig. 6).

    Args:
      result: from `reconjax.studies.sweep`, or a part of it by `.sel` with lists.
      quantity: the variable whose curves are drawn, such as "r2" or "alignment". For "r2" intervals
        are bands and what is held out is dashed, where they are there.
      relative: to no noise, for K of at least 1/96 of the largest (as in the paper): below, ratios
        of tiny numbers would fill the panel. Else differences from it, for every K; these alone
        have bands.
      title: above the figure; the data and the noise by default.

    Returns:
      The figure.

    Raises:
      ValueError: the result lacks the curves.

    Example:
      >>> grid = dict(patches=[2, "4x4"], ratios=[0, 0.75], precision="float32", bootstrap=0)
      >>> figure = reconjax.plots.sweep_figure(reconjax.studies.sweep("digits", **grid))
      >>> len(figure.axes)
      2
    """
    if quantity not in result or f"{quantity}_without" not in result:
        raise ValueError(f"quantity: {quantity!r}; curves of a sweep, such as 'r2', are needed")
    strength = "std" if "std" in result.dims else "ratio"
    masks = "patch" in result.dims
    order = [*["patch"] * masks, strength, "weight", "latent_dim"]
    rows = [f"{result.attrs['noise']} noise"]
    if masks:
        rows = [f"patch {patch}" for patch in result.patch.values]

    def of_grid(name: str) -> np.ndarray:
        values = result[name].transpose(*order).values
        return values if masks else values[None]

    def without(name: str) -> np.ndarray:
        return result[f"{name}_without"].transpose("weight", "latent_dim").values

    dims, weights = result.latent_dim.values, result.weight.values
    curves, base, bands, tested = of_grid(quantity), without(quantity), None, None
    if quantity == "r2" and "gain_standard_error" in result and not relative:
        reach = interval_reach(int(result.attrs["folds"])) * of_grid("gain_standard_error")
        bands = (of_grid("gain_corrected") - reach, of_grid("gain_corrected") + reach)
    if quantity == "r2" and "held_out" in result:
        tested = _change(of_grid("held_out"), without("held_out"), relative)
    lines = [f"{value:g}" for value in result[strength].values]
    with matplotlib.rc_context(STYLE):
        size = (1.2 + 5.6 * len(weights), 0.8 + 2.5 * len(rows))
        figure = Figure(figsize=size, layout="constrained")
        panels = figure.subplots(len(rows), len(weights), sharex=True, sharey=True, squeeze=False)
        for p, row in enumerate(rows):
            for c, weight in enumerate(weights):
                axes = panels[p, c]
                sweep_panel(
                    axes,
                    dims,
                    curves[p, :, c],
                    base[c],
                    lines,
                    relative=relative,
                    bands=None if bands is None else tuple(end[p, :, c] for end in bands),
                    held_out=None if tested is None else tested[p, :, c],
                )
                axes.set_title(row if len(weights) == 1 else f"{row}, λ = {weight:g}")
                axes.label_outer()
            panels[p, 0].set_ylabel(f"change of {quantity}")
        if tested is not None:
            panels[0, 0].plot([], [], color="gray", label="held-out", **HELD_OUT)
        if bands is not None:
            panels[0, 0].fill_between([], [], color="gray", label=INTERVAL, **BAND)
        handles, labels = panels[0, 0].get_legend_handles_labels()
        name = {"std": "noise std", "ratio": "mask ratio"}[strength]
        figure.legend(handles, labels, title=name, loc="outside right upper")
        about = "{data}: {noise} noise against none".format(**result.attrs)
        figure.suptitle(about if title is None else title)
    return figure


def sweep_panel(
    axes: Axes,
    latent_dim: ArrayLike,
    curves: ArrayLike,
    baseline: ArrayLike,
    lines: Sequence[str],
    *,
    relative: bool = True,
    bands: Sequence[np.ndarray] | None = None,
    held_out: np.ndarray | None = None,
) -> None:
    """One panel of Fig. 6: changes of curves (R, Kn) from the baseline (Kn,), from cyan to pink.

    The `bands`, (R, Kn) twice, and `held_out` (R, Kn) are changes already; see `sweep_figure`.

    Args:
      axes: drawn on.
      latent_dim: (Kn,) K.
      curves: (R, Kn), a row for each strength.
      baseline: (Kn,) without noise.
      lines: (R,) what the strengths are called.
      relative: the change in shares of the baseline, else the difference.
      bands: see above; None for none.
      held_out: see above; None for none.

    Example:
      >>> from matplotlib.figure import Figure
      >>> axes = Figure().subplots()
      >>> baseline = np.array([0.5, 0.6])
      >>> reconjax.plots.sweep_panel(axes, [1, 2], [baseline + 0.1], baseline, ["ratio 0.5"])
      >>> len(axes.lines)
      2
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


def _change(curves: ArrayLike, baseline: ArrayLike, relative: bool) -> np.ndarray:
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


def _band(axes: Axes, x: Any, ends: Any, color: Any) -> None:
    if ends is not None:
        axes.fill_between(x, np.asarray(ends[0]), np.asarray(ends[1]), color=color, **BAND)


def _latent_axis(axes: Axes) -> None:
    axes.set_xscale("log", base=2)
    axes.set_xlabel("latent dimension K")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda k, _: f"{k:g}"))
