"""Sweeps over noises: curves over K (Fig. 6), and the map of masks at a few K."""

from collections.abc import Sequence

import matplotlib
import numpy as np
import xarray
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from numpy.typing import ArrayLike

from reconjax.evidence.bootstrap import interval_reach
from reconjax.plots.style import (
    BAND,
    CHANGES,
    HELD_OUT,
    INTERVAL,
    QUIET,
    STRENGTHS,
    STYLE,
    band,
    latent_axis,
)

# Changes up to which a panel reaches at least: rounding is not to look like more.
LEAST = 1e-3


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
      quantity: the variable whose curves are drawn, such as "r2" or "alignment". For "r2" and the
        strength of each panel that comes out best on the training split, which alone would be
        chosen, the interval is a band and what is held out is dashed, where they are there.
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
        size = (2.0 + 5.6 * len(weights), 1.5 + 2.4 * len(rows))
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
                    only=_best(curves[p, :, c] - base[c]),
                )
                axes.set_title(row if len(weights) == 1 else f"{row}, λ = {weight:g}")
                axes.label_outer()
            panels[p, 0].set_ylabel(f"change of {quantity}")
        handles, labels = panels[0, 0].get_legend_handles_labels()
        name = {"std": "noise std", "ratio": "mask ratio"}[strength]
        figure.legend(handles, labels, title=name, loc="outside right upper")
        kinds = []
        if tested is not None:
            kinds += panels[0, 0].plot([], [], color=QUIET, label="held-out", **HELD_OUT)
        if bands is not None:
            kinds += [panels[0, 0].fill_between([], [], color=QUIET, label=INTERVAL, **BAND)]
        if kinds:
            about = "of the one that gains most in a panel"
            figure.legend(handles=kinds, title=about, loc="outside lower left", ncols=2)
        about = "{data}: {noise} noise against none".format(**result.attrs)
        figure.suptitle(about if title is None else title, x=0.01, ha="left")
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
    only: int | None = None,
) -> None:
    """One panel of Fig. 6: changes of curves (R, Kn) from the baseline (Kn,), from light to dark.

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
      only: the strength that has a band and what is held out; None for all.

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
    colors = matplotlib.colormaps[STRENGTHS](np.linspace(0.1, 1, max(len(lines), 2)))
    axes.axhline(0, color="black", linewidth=1)
    for index, (curve, color, line) in enumerate(zip(changes, colors, lines, strict=False)):
        axes.plot(dims[shown], curve[shown], color=color, label=line)
        if only not in (None, index):
            continue
        if bands is not None:
            band(axes, dims[shown], [end[index][shown] for end in bands], color)
        if held_out is not None:
            axes.plot(dims[shown], held_out[index][shown], color=color, **HELD_OUT)
    if relative:
        axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.update_datalim([(dims[-1], -LEAST), (dims[-1], LEAST)])
    axes.autoscale_view()
    latent_axis(axes)


def _change(curves: ArrayLike, baseline: ArrayLike, relative: bool) -> np.ndarray:
    """Of curves from a baseline, (..., Kn) both: relative to it, or the difference."""
    curves, base = np.asarray(curves), np.asarray(baseline)
    with np.errstate(divide="ignore", invalid="ignore"):  # where the baseline is 0
        return curves / base - 1 if relative else curves - base


def _best(changes: np.ndarray) -> int:
    """Of changes (R, Kn), the row that reaches highest anywhere."""
    return int(np.argmax(np.max(changes, axis=1)))


def mask_map_figure(
    result: xarray.Dataset,
    *,
    latent_dims: Sequence[int] | None = None,
    weight: float = np.inf,
    title: str | None = None,
) -> Figure:
    """What every mask changes, patch shapes by ratios, at a few K; the best one is framed.

    Colors and numbers are changes of r2 against no mask: on the test split where there is one, else
    on the training split. The frame is the mask that the training split prefers; none where that
    is no mask.

    Args:
      result: of `reconjax.studies.sweep` over masks.
      latent_dims: K of the panels; three of those that are there by default.
      weight: λ, one of the result.
      title: above the figure; the data by default.

    Returns:
      The figure.

    Raises:
      ValueError: a result without patches, or K that it does not have.

    Example:
      >>> grid = dict(patches=[2, 4], ratios=[0, 0.5], precision="float32", bootstrap=0)
      >>> result = reconjax.studies.sweep("digits", **grid)
      >>> figure = reconjax.plots.mask_map_figure(result, latent_dims=[4, 16])
      >>> [axes.get_title("left") for axes in figure.axes]
      ['K = 4', 'K = 16']
    """
    if "patch" not in result.dims:
        raise ValueError(f"result: its axes are {tuple(result.dims)}; patch is needed")
    known = result.latent_dim.values
    if latent_dims is None:
        wanted = 2 ** np.round(np.log2(known[-1]) * np.array([1 / 4, 1 / 2, 3 / 4]))
        latent_dims = sorted({int(known[np.argmin(abs(known - k))]) for k in wanted})
    missing = [k for k in latent_dims if k not in known]
    if missing:
        raise ValueError(f"latent_dims: {missing[0]}; the result has {known[0]} .. {known[-1]}")
    part = result.sel(weight=weight, latent_dim=list(latent_dims)).transpose("patch", "ratio", ...)
    split = "held_out" if "held_out" in result else "r2"
    changes = (part[split] - part[f"{split}_without"]).values
    chosen = (part.r2 - part.r2_without).values
    columns = [f"{ratio:g}" for ratio in part.ratio.values]
    with matplotlib.rc_context(STYLE | {"axes.grid": False}):
        size = (0.8 + (0.62 * len(columns) + 0.3) * len(latent_dims), 1.8 + 0.5 * len(part.patch))
        figure = Figure(figsize=size, layout="constrained")
        panels = figure.subplots(1, len(latent_dims), squeeze=False)[0]
        for k, axes in enumerate(panels):
            mask_map(axes, changes[..., k], chosen[..., k], float(abs(changes).max()))
            axes.set_xticks(range(len(columns)), columns)
            axes.set_yticks(range(len(part.patch)), part.patch.values if k == 0 else [])
            axes.set_title(f"K = {latent_dims[k]}")
            axes.set_xlabel("mask ratio")
        panels[0].set_ylabel("patch")
        where = "on new data" if split == "held_out" else "on the training split"
        about = "{}: change of r2 {}, in thousandths".format(result.attrs["data"], where)
        figure.suptitle(about if title is None else title, x=0.01, ha="left")
        if (chosen > 1e-6).any():
            note = "framed: the best on the training split"
            figure.supxlabel(note, fontsize=10, color=QUIET, x=0.99, ha="right")
    return figure


def mask_map(axes: Axes, changes: np.ndarray, chosen: np.ndarray, reach: float) -> None:
    """One panel: changes (P, R) as colors and in thousandths.

    Args:
      axes: drawn on.
      changes: (P, R) what is shown.
      chosen: (P, R) by what the best is chosen; nothing is framed where that is not above 0.
      reach: the change of the strongest colors.
    """
    reach = max(reach, LEAST)
    drawn = axes.imshow(changes, cmap=CHANGES, vmin=-reach, vmax=reach, aspect="auto")
    light = drawn.to_rgba(changes)[..., :3] @ (0.299, 0.587, 0.114)  # how light a cell is
    for (row, column), change in np.ndenumerate(changes):
        color = "white" if light[row, column] < 0.5 else "black"
        text = f"{1000 * change:+.0f}" if abs(change) >= 5e-4 else "0"
        axes.text(column, row, text, ha="center", va="center", fontsize=9, color=color)
    if chosen.max() > 1e-6:
        row, column = np.unravel_index(np.argmax(chosen), chosen.shape)
        frame = matplotlib.patches.Rectangle(
            (column - 0.5, row - 0.5), 1, 1, fill=False, lw=2.5, ec="black", clip_on=False
        )
        axes.add_patch(frame)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
