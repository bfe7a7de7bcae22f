"""Several tasks side by side: how aligned is each, and which noise helps which of them."""

from collections.abc import Sequence

import matplotlib
import numpy as np
import xarray
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from reconjax.evidence.bootstrap import interval_reach
from reconjax.plots.style import BAND, CHANGES, HELD_OUT, STYLE
from reconjax.studies.choice import of_task
from reconjax.studies.families import ranking


def tasks_figure(result: xarray.Dataset) -> Figure:
    """Alignment of reconstruction with each task, and what is explained of each, for every K.

    Args:
      result: of `reconjax.studies.align`, of data with several tasks.

    Returns:
      The figure. Dotted is chance, the same for all; dashed is held out.

    Raises:
      ValueError: a result without tasks.

    Example:
      >>> x, digits = reconjax.data.load("digits").train.examples(np.arange(300))
      >>> data = reconjax.data.Dataset.from_arrays(x, {"digit": digits, "odd": digits % 2})
      >>> figure = reconjax.plots.tasks_figure(reconjax.studies.align(data, bootstrap=0))
      >>> [axes.get_title("left") for axes in figure.axes]
      ['alignment (Eq. 7) with each task', 'variance of each task explained on K directions']
    """
    if "r2_by_task" not in result:
        raise ValueError("result: of data with several tasks is needed, see --target-key")
    panels = (
        ("alignment_by_task", "alignment (Eq. 7) with each task", "chance"),
        ("r2_by_task", "variance of each task explained on K directions", "r2_chance"),
    )
    shown = [panel for panel in panels if panel[0] in result]
    dims = result.latent_dim.values
    folds = int(result.attrs.get("folds", 0))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(1.6 + 5.2 * len(shown), 4), layout="constrained")
        for axes, (name, title, chance) in zip(
            np.atleast_1d(figure.subplots(1, len(shown))), shown, strict=True
        ):
            for place, task in enumerate(result.task.values):
                color, own = f"C{place % 10}", result[name].sel(task=task)
                axes.plot(dims, own, color=color, label=str(task))
                if name == "r2_by_task" and "held_out_by_task" in result:
                    axes.plot(dims, result.held_out_by_task.sel(task=task), color=color, **HELD_OUT)
                if folds and f"{name}_standard_error" in result:
                    center = result[f"{name}_corrected"].sel(task=task)
                    reach = interval_reach(folds) * result[f"{name}_standard_error"].sel(task=task)
                    axes.fill_between(dims, center - reach, center + reach, color=color, **BAND)
            axes.plot(dims, result[chance], color="gray", linestyle=":", label="chance")
            axes.set_xscale("log", base=2)
            axes.set_xlabel("latent dimension K")
            axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
            axes.set_ylim(bottom=0)
            axes.set_title(title)
        if "held_out_by_task" in result:
            axes.plot([], [], color="gray", label="held-out", **HELD_OUT)
        figure.legend(*axes.get_legend_handles_labels(), loc="outside right center")
        figure.suptitle(str(result.attrs["data"]))
    return figure


def task_gains_figure(result: xarray.Dataset, latent_dim: int) -> Figure:
    """The gain of every noise of a sweep for every task, at one K.

    Args:
      result: of `reconjax.studies.sweep`, of data with several tasks.
      latent_dim: K.

    Returns:
      The figure: a row for each task, a column for each noise; on the test split where there is
      one, at the largest λ.

    Raises:
      ValueError: a result without tasks, or without that K.

    Example:
      >>> x, digits = reconjax.data.load("digits").train.examples(np.arange(300))
      >>> data = reconjax.data.Dataset.from_arrays(x, {"digit": digits, "odd": digits % 2})
      >>> grid = dict(patches=[2, 4], ratios=[0.25, 0.75], precision="float32", bootstrap=0)
      >>> result = reconjax.studies.sweep(data, **grid)
      >>> len(reconjax.plots.task_gains_figure(result, 16).axes[0].get_xticks())
      4
    """
    if "gain_by_task" not in result:
        raise ValueError("result: of data with several tasks is needed, see --target-key")
    if latent_dim not in result.latent_dim.values:
        dims = result.latent_dim.values
        raise ValueError(f"latent_dim: {latent_dim}; {dims[0]} .. {dims[-1]} are there")
    gain = result.gain_by_task
    where = "training split"
    if "held_out_by_task" in result:
        gain = result.held_out_by_task - result.held_out_by_task_without
        where = "test split"
    at = gain.sel(latent_dim=latent_dim).isel(weight=-1)
    noises = [name for name in ("patch", "ratio", "std") if name in at.dims]
    at = at.transpose("task", *noises)
    names = [
        " ".join(str(value) for value in point)
        for point in np.array(
            np.meshgrid(*(at[n].values.astype(str) for n in noises), indexing="ij")
        )
        .reshape(len(noises), -1)
        .T
    ]
    values = at.values.reshape(len(at.task), -1)
    title = f"{result.attrs['data']}: gain of each task at K = {latent_dim}, {where}"
    with matplotlib.rc_context(STYLE):
        size = 2.5 + 0.45 * len(names), 1.6 + 0.45 * len(values)
        figure = Figure(figsize=size, layout="constrained")
        axes = _gains(figure, values, at.task.values, names)
        axes.tick_params("x", rotation=90)
        axes.set_xlabel(", ".join(noises))
        axes.set_title(title)
    return figure


def task_choices_figure(result: xarray.Dataset, latent_dim: int, *, level: float = 0.9) -> Figure:
    """What every task gains by each family of noise, or by each objective, at its best strength.

    Args:
      result: of `reconjax.studies.compare`, `objectives` or `advise`, of data with several tasks.
      latent_dim: K.
      level: a gain whose p-value is at most 1 - `level` is set in bold.

    Returns:
      The figure: a row for each task, a column for each family, the one that helps the tasks most
      on the left; gains of the held-out r2 of a strength chosen for that task.

    Raises:
      ValueError: a result without tasks, or without that K.

    Example:
      >>> x, digits = reconjax.data.load("digits").train.examples(np.arange(300))
      >>> data = reconjax.data.Dataset.from_arrays(x, {"digit": digits, "odd": digits % 2})
      >>> result = reconjax.studies.compare(data, families=["gaussian", "flip"], latent_dims=[8])
      >>> len(reconjax.plots.task_choices_figure(result, 8).axes[0].get_yticks())
      2
    """
    if "gain_by_task" not in result:
        raise ValueError("result: of data with several tasks is needed, see --target-key")
    if latent_dim not in result.latent_dim.values:
        there = ", ".join(map(str, result.latent_dim.values.tolist()))
        raise ValueError(f"latent_dim: {latent_dim}; {there} are there")
    tasks = [str(task) for task in result.task.values]
    places = {
        (task, place.family): place
        for task in tasks
        for place in ranking(of_task(result.sel(latent_dim=[latent_dim]), task))
    }
    families = list(dict.fromkeys(family for _, family in places))
    families.sort(key=lambda name: -np.mean([places[task, name].gain for task in tasks]))
    values = np.array([[places[task, name].gain for name in families] for task in tasks])
    with matplotlib.rc_context(STYLE):
        size = 3.0 + 0.9 * len(families), 2.4 + 0.45 * len(tasks)
        figure = Figure(figsize=size, layout="constrained")
        names = [name.replace(", ", ",\n", 1) for name in families]
        axes = _gains(figure, values, tasks, names)
        axes.tick_params("x", rotation=30)
        largest = _largest(values)
        for row, task in enumerate(tasks):
            for column, name in enumerate(families):
                place = places[task, name]
                axes.annotate(
                    f"{round(place.gain, 3) + 0.0:+.3f}",  # without the sign of a zero
                    (column, row),
                    ha="center",
                    va="center",
                    fontsize=8,
                    fontweight="bold" if place.p_value <= 1 - level else "normal",
                    color="white" if abs(place.gain) > 0.6 * largest else "black",
                )
        samples = result.attrs["held_out_samples"]
        axes.set_title(
            f"{result.attrs['data']}: gain of each task at K = {latent_dim},"
            f" {samples} held-out samples"
        )
    return figure


def _gains(figure: Figure, values: np.ndarray, tasks: Sequence[str], names: Sequence[str]) -> Axes:
    """A row of gains for each task, a column for each name."""
    largest = _largest(values)
    axes = figure.subplots()
    image = axes.imshow(values, cmap=CHANGES, vmin=-largest, vmax=largest, aspect="auto")
    axes.set_xticks(range(len(names)), names)
    axes.set_yticks(range(len(tasks)), [str(task) for task in tasks])
    axes.grid(visible=False)
    extend = "both" if np.abs(values).max() > largest else "neither"
    figure.colorbar(image, ax=axes, label="gain in r2", extend=extend)
    return axes


def _largest(values: np.ndarray) -> float:
    """Where the colors end: one noise that ruins a task shall not hide all that the others do."""
    return max(float(np.quantile(np.abs(values), 0.9)), 1e-6)
