"""The commands that train what the closed form advises."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray

from reconjax.nets import usual_patch
from reconjax.studies.advice import Recipe
from reconjax.studies.objective_choice import TARGET

# Options of a study that do not change what a network is trained on.
OF_STUDIES = ("unlabeled", "class_weight", "standardize", "memory", "progress")


def training_commands(
    data: str, result: xarray.Dataset, recipes: Sequence[Recipe], reading: Mapping[str, Any]
) -> list[str]:
    """What trains the first reconstruction that a network here can take.

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
    reconstruction = [recipe for recipe in recipes if recipe.objective == "reconstruction"]
    best = reconstruction[0]
    if not best.certain:
        best = recipes[-1]  # PCA is as good
    if not best.noise:
        lines = [f"reconjax train {name} --latent-dim {best.latent_dim} --out run"]
        return [" ".join([line, *same]) for line in lines]
    lines = []
    masks = _masks_of_tokens(result, best.latent_dim)
    if masks is not None:
        lines.append(
            f"reconjax train {name} --net vit --noise {masks[0]} --target {masks[1]} --out vit"
        )
    mlp = next((r for r in reconstruction if r.noise and r.target == "pixels"), None)
    if mlp is not None:
        lines.append(
            f"reconjax train {name} --noise {mlp.noise} --latent-dim {mlp.latent_dim} --out mlp"
        )
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


def _masks_of_tokens(result: xarray.Dataset, latent_dim: int) -> tuple[str, str] | None:
    """The mask of whole patches of a ViT, and the target, that explain most; or None."""
    # NetCDF keeps a list of one number as a number.
    shape = np.atleast_1d(result.attrs["example_shape"]).tolist()
    if len(shape) != 3:
        return None
    height, width = usual_patch(tuple(shape))
    found = None
    at = result.sel(latent_dim=latent_dim)
    for index in range(at.sizes["point"]):
        point = at.isel(point=index)
        noise, _, target = str(point.noise.item()).partition(" ")
        _, ratio, patch, *_ = noise.split(":")
        sides = [int(side) for side in patch.split("x")]
        fits = not (sides[0] % height or sides[1] % width) and float(ratio) > 0
        r2 = float(point.r2)
        if point.family.item() == TARGET and fits and (found is None or r2 > found[0]):
            found = r2, f"exact:{ratio}:{patch}", target or "pixels"
    return None if found is None else found[1:]
