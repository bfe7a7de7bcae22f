"""Labeled results: an `xarray.Dataset` with its axes in words, and where it came from."""

import datetime
import json
import os
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np
import xarray

from reconjax.storage.files import replacing
from reconjax.studies.source import Source

# The form of the files; another number is another form.
FORMAT = 1
# What every quantity is called in words, and its unit where it has one.
LONG_NAMES = {
    "latent_dim": "latent dimension K",
    "patch": "patch shape, height x width in pixels",
    "ratio": "mask ratio, the share that is dropped",
    "std": "standard deviation of the noise",
    "weight": "weight λ of reconstruction against supervision",
    "ridge": "weight decay relative to the mean variance of the features",
    "monte_carlo_error": "Monte Carlo error of r2, of the noise that was drawn",
    "held_out_error": "Monte Carlo error of held_out",
    "draws": "noisy copies of every example",
    "rank": "from this latent dimension on the curves are flat",
    "r2": "share of the label variance that a linear head explains",
    "r2_by_target": "share of the variance of each target that a linear head explains",
    "target": "target, or class against all others",
    "task": "task",
    "alignment_by_task": "alignment of each task alone",
    "r2_by_task": "share of the variance of each task that a linear head explains",
    "held_out_by_task": "r2 of each task on the test split",
    "gain_by_task": "gain in r2 of each task over no noise",
    "p_value_by_task": "p-value of a gain of each task on new data, for the whole searched grid",
    "position_by_task": "place in the ranking for each task at K, from 1 on; 0: not chosen",
    "r2_all_by_task": "r2 of each task on all directions",
    "alignment": "alignment, Eq. 7",
    "chance": "alignment of permuted labels",
    "r2_chance": "r2 of permuted labels",
    "agreement": "E[y f(x)] over the label variance, on a fold of the test split",
    "reduced": "whether the ray was solved in a subspace",
    "fold": "fold of the test split",
    "supervised_loss": "supervised loss",
    "reconstruction_loss": "reconstruction loss",
    "target_loss": "loss of the target, or squared distance of two embeddings",
    "eigenvalues": "variance along a principal direction",
    "error": "estimated numerical error of r2",
    "held_out": "r2 on the test split",
    "position": "place in the ranking at K, from 1 on; 0 for strengths that were not chosen",
    "largest_change": "largest change of the r2 of any label, up or down",
    "mean_squared_cosine": "mean squared cosine of the K angles between the representations",
    "overlap": "mean squared cosine of the angles between the representations, at every K",
    "gap": "relative gap between the K-th and the next eigenvalue",
    "ambiguous": "whether rounding may have turned a representation",
    "worst_label": "t: the label y = tᵀx, of variance 1, has the largest change",
    "ties": "whether rounding may have turned a representation, at every K",
    "order_broken": "whether x̂ varies most along other directions than the first K",
    "commutator": "of the second moment and what the noise adds to it, relative to their norms",
    "mixing": "largest correlation of two principal components of x̂",
    "order_margin": "smallest relative gap in the order of the directions; < 0: broken",
    "images": "images",
    "top": "projections on the top subspace, with the mean image",
    "bottom": "projections on the bottom subspace, without the mean image",
    "p_value": "p-value of a gain on new data, for the whole searched grid",
    "gain": "gain in r2 over no noise",
}
UNITS = {
    "target_loss": "squared units of the target",
    "supervised_loss": "squared units of y",
    "reconstruction_loss": "squared units of x",
    "eigenvalues": "squared units of x",
    "std": "units of x",
}
SUFFIXES = {
    "_standard_error": ", standard error",
    "_corrected": ", without its bias of first order",
    "_without": ", without noise",
}

Variables = Mapping[str, tuple[Sequence[str], Any]]


def labeled(
    study: str,
    source: Source,
    variables: Variables,
    coordinates: Mapping[str, Any],
    facts: Mapping[str, Any],
    settings: Mapping[str, Any],
) -> xarray.Dataset:
    """A result with its axes, its settings and where it came from.

    Args:
      study: its name.
      source: the data.
      variables: name -> (dimensions, array).
      coordinates: dimension -> values; `task` and `target` are named by the data.
      facts: what the study says of the whole: numbers, texts, lists of them.
      settings: its arguments; kept as JSON in the attribute `settings`.
    """
    device = jax.devices()[0]
    attributes: dict[str, Any] = {
        "study": study,
        "data": source.name,
        **{name: _storable(value) for name, value in {**source.facts, **facts}.items()},
        "settings": settings_text(source, settings),
        "reconjax": version("reconjax"),
        "format": FORMAT,
        "jax": jax.__version__,
        "device": f"{jax.device_count()} x {device.device_kind} ({device.platform})",
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "seconds": round(time.monotonic() - source.started, 3),
    }
    coordinates = {**coordinates, **_named_by_data(source, variables)}
    dataset = xarray.Dataset(
        {name: (tuple(dims), np.asarray(values)) for name, (dims, values) in variables.items()},
        coords={name: np.asarray(values) for name, values in coordinates.items()},
        attrs=attributes,
    )
    for name, array in dataset.variables.items():
        text = _long_name(str(name))
        if text is not None:
            array.attrs["long_name"] = text
        if name in UNITS:
            array.attrs["units"] = UNITS[str(name)]
    return dataset


def _named_by_data(source: Source, variables: Variables) -> dict[str, list[str]]:
    """What the tasks and the targets are called, where a variable has them for an axis."""
    data = source.dataset
    numbers = list(map(str, range(source.num_targets)))
    names = {
        "task": [] if data is None else [task.name for task in data.tasks],
        "target": numbers if data is None else data.target_names,
    }
    axes = {axis for dims, _ in variables.values() for axis in dims}
    return {axis: own for axis, own in names.items() if axis in axes}


def settings_text(source: Source, settings: Mapping[str, Any]) -> str:
    """The arguments of a study, and how it read its data, as JSON."""
    reading = {k: v for k, v in source.reading.items() if k not in ("progress", "data_dir")}
    return json.dumps({**reading, **settings}, default=str)


def save(result: xarray.Dataset, path: str | os.PathLike[str]) -> None:
    """Writes a result as NetCDF, whole or not at all."""
    with replacing(path) as part:
        result.to_netcdf(part, engine="h5netcdf")


def open_result(path: str | os.PathLike[str]) -> xarray.Dataset:
    """A result that a study has written, read into memory.

    Args:
      path: a `.nc` file.

    Returns:
      The dataset that the study gave: the same values, coordinates and attributes, but that a list
      of one number in an attribute comes back as that number.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it is no result of a study, is damaged, or was written by a version of reconjax
        that keeps results in another form.

    Example:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     curves = reconjax.studies.align("digits", bootstrap=0, out=folder)
      ...     stored = reconjax.studies.open(folder + "/align.nc")
      >>> bool((stored.r2 == curves.r2).all())
      True
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; a study's .nc file is needed")
    try:
        with xarray.open_dataset(path, engine="h5netcdf", phony_dims="sort") as stored:
            result = stored.load()
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        why = " ".join(str(error).split())
        raise ValueError(f"{path}: is no NetCDF file, or a damaged one ({why})") from None
    # Lists are arrays in the file.
    result.attrs = {
        name: value.tolist() if isinstance(value, np.ndarray) else value
        for name, value in result.attrs.items()
    }
    about = result.attrs
    if not {"study", "reconjax"} <= set(about):
        raise ValueError(f"{path}: is no result of a study of reconjax; it names no study")
    if about.get("format", FORMAT) != FORMAT:
        raise ValueError(
            f"{path}: reconjax {about['reconjax']} wrote it in another form (format"
            f" {about['format']}, here {FORMAT}); make it again by {about['study']}"
        )
    return result


def _storable(value: Any) -> Any:
    """What a NetCDF attribute can hold."""
    if isinstance(value, bool):
        return int(value)
    if value is None or isinstance(value, dict):
        return json.dumps(value)
    return value


def _long_name(name: str) -> str | None:
    if name in LONG_NAMES:
        return LONG_NAMES[name]
    for suffix, text in SUFFIXES.items():
        if name.endswith(suffix) and name.removesuffix(suffix) in LONG_NAMES:
            return LONG_NAMES[name.removesuffix(suffix)] + text
    return None
