"""The commands that train what the closed form advises."""

import math
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray

from reconjax.nets import usual_patch
from reconjax.studies.advice import Recipe
from reconjax.studies.objective_choice import NOISE

# Options of a study that do not change what a network is trained on.
OF_STUDIES = ("unlabeled", "class_weight", "standardize", "memory", "progress")


def training_commands(
    data: str, result: xarray.Dataset, recipes: Sequence[Recipe], reading: Mapping[str, Any]
) -> list[str]:
    """What trains the first choice, and networks behind masks that gain.

    A vision transformer reconstructs pixels behind the mask of whole patches of it that explains
    most; with fewer samples than features, most of the held-out samples.

    Args:
      data: the name of the data set.
      result: of `reconjax.studies.advise` or `objectives`.
      recipes: of that result, at one K.
      reading: the options by which the study read its data; training reads the same examples.

    Returns:
      Lines for a shell.

    Example:
      >>> from reconjax.studies import Recipe
      >>> plain = Recipe("reconstruction", "pixels", "", 16, 0.6, 0.5, 0.0, 0.0, 1.0)
      >>> reconjax.report.training_commands("digits", None, [plain], {"max_samples": 500})
      ['reconjax train digits --latent-dim 16 --out run --max-samples 500']
    """
    name, same = shlex.quote(data), reading_options(reading)
    first, latent_dim = recipes[0], recipes[0].latent_dim
    start = f"reconjax train {name}"
    if not first.certain:
        return [" ".join([f"{start} --latent-dim {latent_dim} --out run", *same])]
    lines = []
    if first.objective == "joint-embedding":
        options = f"--noise {first.noise} --objective joint-embedding --latent-dim {latent_dim}"
        lines.append(f"{start} {options} --out embedding")
    gaining = [r for r in recipes if r.objective == "reconstruction" and r.certain and r.noise]
    if gaining:
        mask = _mask_of_tokens(result, latent_dim)
        if mask is not None:
            lines.append(f"{start} --net vit --noise {mask} --out vit")
        # Trained networks had nothing of a whitened target: pixels, where they gain too.
        best = next((r for r in gaining if r.target == "pixels"), gaining[0])
        target = "" if best.target == "pixels" else f" --target {best.target}"
        options = f"--noise {best.noise}{target} --latent-dim {latent_dim}"
        lines.append(f"{start} {options} --out mlp")
    return [" ".join([line, *same]) for line in lines]


def reading_options(reading: Mapping[str, Any]) -> list[str]:
    """The options by which `train` reads the same examples, as words of a command."""
    words: list[str] = []
    for name, value in reading.items():
        if name in OF_STUDIES or value is None or (name == "seed" and value == 0):
            continue
        option = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{option}" if value else f"--no-{option}")
        else:
            several = (
                [value] if isinstance(value, str) or not isinstance(value, Sequence) else value
            )
            words += [f"--{option}", *(shlex.quote(str(one)) for one in several)]
    return words


def _mask_of_tokens(result: xarray.Dataset, latent_dim: int) -> str | None:
    """The mask of whole patches of a ViT that explains most; None where there is none."""
    # NetCDF keeps a list of one number as a number.
    shape = np.atleast_1d(result.attrs["example_shape"]).tolist()
    if len(shape) != 3:
        return None
    height, width = usual_patch(tuple(shape))
    overfits = result.attrs["samples"] <= result.attrs["features"]
    found = None
    at = result.sel(latent_dim=latent_dim)
    for index in np.flatnonzero(result.family.values == NOISE).tolist():
        point = at.isel(point=index)
        _, ratio, patch, *_ = str(point.noise.item()).split(":")
        sides = [int(side) for side in patch.split("x")]
        whole = not (sides[0] % height or sides[1] % width) and float(ratio) > 0
        # Of an exact number of patches one at least is kept.
        count = math.prod(side // part for side, part in zip(shape[:2], sides, strict=True))
        kept = (1 - float(ratio)) * count + 1e-9
        r2 = float(point.held_out if overfits else point.r2)
        if whole and kept >= 1 and (found is None or r2 > found[0]):
            found = r2, f"exact:{ratio}:{patch}"
    return None if found is None else found[1]
