"""The studies of a report: taken up where they are finished, made where they are not."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray

from reconjax import studies
from reconjax.data import Dataset
from reconjax.data.unlabeled import count as unlabeled_count
from reconjax.studies.axes import Patch, image_shape_of, patch_shape
from reconjax.studies.limits import check_whole
from reconjax.studies.objective_choice import LARGEST
from reconjax.studies.progress import say
from reconjax.studies.reading import Reading
from reconjax.studies.source import Source
from reconjax.theory.checks import check_latent_dim

# The share of the samples that is kept apart where there is no test split.
TEST_SHARE = 0.2
# What changes where data lie or how much is said, and not what is read.
ELSEWHERE = ("progress", "data_dir", "memory")
# Files by study; that of finalists is made by `reconjax advise --train`.
FILES = {
    "align": "align.nc",
    "project": "project.nc",
    "sweep": "sweep.nc",
    "objectives": "objectives.nc",
    "detect": "detect.nc",
    "finalists": "finalists/finalists.nc",
}
# Without these there is no report.
NEEDED = ("align", "sweep")
# These have the grid of masks.
GRIDS = ("sweep", "objectives")
MASKS = ("mask", "exact", "pixel")


class Results(NamedTuple):
    """What a report is about.

    Attributes:
      source: the data, as the studies read them.
      reading: how.
      studies: name -> result; `align` and `sweep` are always there.
      left_out: name -> why a study is not there.
    """

    source: Source
    reading: dict[str, Any]
    studies: dict[str, xarray.Dataset]
    left_out: dict[str, str]


class _Asked(NamedTuple):
    """What a user asked for explicitly; None for what is to be as usual, or as it is there."""

    patches: list[str] | None
    ratios: list[float] | None
    latent_dim: int | None

    def of(self, study: str) -> dict[str, Any]:
        """What the settings of a study are to say."""
        if study not in GRIDS:
            return {}
        return {"patch": self.patches, "ratio": self.ratios}


def gather(
    data: str | Dataset,
    folder: Path,
    patches: Sequence[Patch] | None,
    ratios: Sequence[float] | None,
    latent_dim: int | None,
    reading: Mapping[str, Any],
) -> Results:
    """Opens the studies that are finished in a folder, and makes the others there.

    Raises:
      ValueError: a study there is of other data, of other settings than those asked for, or of
        another version; or as the studies.
    """
    source, how = _opened(data, folder, reading)
    sizes = None
    if patches is not None:
        shape = image_shape_of(source, None)
        sizes = ["x".join(map(str, patch_shape(patch, shape))) for patch in patches]
    asked = _Asked(sizes, None if ratios is None else [float(r) for r in ratios], latent_dim)
    if latent_dim is not None:
        check_whole("latent_dim", latent_dim)
        check_latent_dim(latent_dim, source.features)
    found, left_out = {}, {}
    # All that is there is looked at before any work.
    for name, file in FILES.items():
        if (folder / file).exists():
            found[name] = _taken_up(name, folder / file, source, how, asked)
    for name, make in _makers(data, folder, source, how, asked).items():
        if name in found:
            continue
        started = time.monotonic()
        try:
            found[name] = make()
        except ValueError as error:
            if name in NEEDED:
                raise
            left_out[name] = " ".join(str(error).split())
            continue
        if how.get("progress", True):
            say(f"{name}: {time.monotonic() - started:.1f} s")
    return Results(source, how, found, left_out)


def _opened(
    data: str | Dataset, folder: Path, reading: Mapping[str, Any]
) -> tuple[Source, dict[str, Any]]:
    """The data, a part of them kept apart where there is no test split."""
    how = dict(reading)
    source = Source(data, **{**how, "progress": False})
    if source.test is None and how.get("test_share") is None:
        there = [studies.open(folder / file) for file in FILES.values() if (folder / file).exists()]
        stored = [json.loads(result.attrs["settings"]).get("test_share") for result in there]
        how["test_share"] = stored[0] if stored else TEST_SHARE
        source = Source(data, **{**how, "progress": False})
    return source, how


def _makers(
    data: str | Dataset, folder: Path, source: Source, how: dict[str, Any], asked: _Asked
) -> dict[str, Callable[[], xarray.Dataset]]:
    """The studies in the order in which they are made."""
    images = len(source.train.example_shape) == 3
    grid: dict[str, Any] = {"noise": "mask" if images else "pixel", "ratios": asked.ratios}
    if images:
        grid["patches"] = asked.patches
    most = min(LARGEST, source.features)
    dims = {2**i for i in range(most.bit_length()) if 2**i <= most}
    dims |= set() if asked.latent_dim is None else {asked.latent_dim}
    chosen = None if asked.latent_dim is None else sorted(dims)

    def certificates() -> xarray.Dataset:
        weightless = {name: value for name, value in how.items() if name != "class_weight"}
        return studies.detect(data, out=folder, **weightless)

    def pictures() -> xarray.Dataset:
        if not images:
            raise ValueError("the examples are vectors, of which there are no pictures")
        return studies.project(data, out=folder, **how)

    return {
        "align": lambda: studies.align(data, out=folder, **how),
        "project": pictures,
        "sweep": lambda: studies.sweep(data, out=folder, **grid, **how),
        "objectives": lambda: studies.objectives(
            data, latent_dims=chosen, out=folder, **grid, **how
        ),
        "detect": certificates,
    }


def _taken_up(
    name: str, path: Path, source: Source, how: Mapping[str, Any], asked: _Asked
) -> xarray.Dataset:
    """A finished study, where it is one of these data that says what was asked for."""
    result = studies.open(path)
    about = result.attrs
    if about["study"] != name:
        raise ValueError(f"{path}: of the study {about['study']}; one of {name} is needed")
    if about["reconjax"] != version("reconjax"):
        raise ValueError(
            f"{path}: of reconjax {about['reconjax']}, and this is {version('reconjax')}; delete"
            " it, or choose another --out"
        )
    made = json.loads(about["settings"])
    if other := _differing(about, made, source, how):
        raise ValueError(f"{path}: of {other}; choose another --out")
    if name == "sweep":
        _check_sweep(path, result, made)
    for setting, wanted in asked.of(name).items():
        if wanted is not None and made.get(setting) != wanted:
            raise ValueError(
                f"{path}: has {setting} {made.get(setting)} and not {wanted}; choose another --out,"
                " or leave the option out"
            )
    dims = result.get("latent_dim", xarray.DataArray([])).values
    if name in GRIDS and asked.latent_dim is not None and asked.latent_dim not in dims:
        raise ValueError(f"{path}: has no K = {asked.latent_dim}; choose another --out")
    if how.get("progress", True):
        say(f"{name}: taken up from {path}")
    return result


def _differing(
    about: Mapping[str, Any], made: Mapping[str, Any], source: Source, how: Mapping[str, Any]
) -> str:
    """What says that a result is of other data; "" where nothing does."""
    shape = np.atleast_1d(about["example_shape"]).tolist()
    if about["data"] != source.name:
        return f"{about['data']}, not {source.name}"
    if shape != list(source.train.example_shape):
        return f"examples of shape {tuple(shape)}, not {tuple(source.train.example_shape)}"
    stored, wanted = _read(made), _read(how)
    if about["study"] == "detect":
        wanted.pop("class_weight", None)
    if other := sorted(k for k in {*stored, *wanted} if stored.get(k) != wanted.get(k)):
        name = other[0]
        return f"another {name}, {stored.get(name)} and not {wanted.get(name)}"
    count = int(about["samples"]) if "samples" in about else len(source.train)
    if about["study"] == "objectives" and about["held_out_split"] != "the test split":
        count += int(about["held_out_samples"])
    if about["study"] == "detect":
        count -= unlabeled_count(source.unlabeled)
    if count != len(source.train):
        return f"{count} samples, not {len(source.train)}"
    return ""


def _read(settings: Mapping[str, Any]) -> dict[str, str]:
    """How data were read, of settings as they are stored or given; what is usual left out."""
    kept = set(Reading.__annotations__) - set(ELSEWHERE)
    return {
        name: str(value)
        for name, value in settings.items()
        if name in kept and value is not None and value is not False and value != 0
    }


def _check_sweep(path: Path, result: xarray.Dataset, made: Mapping[str, Any]) -> None:
    """Raises ValueError unless it is one of masks, of reconstruction alone."""
    wrong = next((made[name] for name in ("target", "objective") if name in made), None)
    if made["noise"] not in MASKS:
        wrong = f"noise {made['noise']}"
    if not np.isinf(result.weight.values).any():
        wrong = f"weights {', '.join(made['weights'])}"
    if made["readout"] != "clean":
        wrong = f"the {made['readout']} read-out"
    if wrong is not None:
        raise ValueError(
            f"{path}: a sweep of {wrong}; a report needs one of masks, pixels and --weights inf;"
            " choose another --out"
        )
