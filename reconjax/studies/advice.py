"""What to train: the choices of `objectives`, read as a person would who has to act on them."""

import json
import os
from collections.abc import Sequence
from typing import Any, NamedTuple, Unpack

import xarray

from reconjax.data import Dataset
from reconjax.evidence.places import Place
from reconjax.linalg.precision import in_float64
from reconjax.studies.axes import Patch
from reconjax.studies.families import ranking
from reconjax.studies.objective_choice import EMBEDDING, TARGETS, objectives
from reconjax.studies.reading import Reading
from reconjax.studies.sample_side import Side
from reconjax.studies.source import Source
from reconjax.theory.chance import beyond_chance

# Ratios by default: what masked autoencoders use, and what is far from it on both sides.
RATIOS = (0.0, 0.25, 0.5, 0.75, 0.9)
# K by default: the two largest of these that are at most half of the features.
LATENT_DIMS = (1, 4, 16, 64)
# The p-value from which on a gain is not told from none.
DOUBTFUL = 0.05
# From this share of what all directions explain, reconstruction is called aligned.
ALIGNED = 0.9
# How far to trust it.
EVIDENCE = """\
Exact for linear encoders and heads. Trained networks follow it in part: over the
masks of a set, the rank correlation of their probes with the closed form was +0.43
to +0.86 for vision transformers, +0.30 to +0.75 for MLPs (experiments/results/advisor).
What to predict it does not tell of nonlinear networks: of six sets, joint embedding
read better than pixels behind the same mask on six (MLPs) and five (convolutional),
and a whitened target on none, whatever it said (experiments/results/objectives)."""


class Recipe(NamedTuple):
    """What could be trained, and what the closed form says of it.

    Attributes:
      objective: "reconstruction" or "joint-embedding".
      target: what is reconstructed, as in `reconjax.theory.targets.parse_target`; "" for embedding.
      noise: a text as in `reconjax.noise.parse_noise`; "" for none.
      latent_dim: K.
      r2: of a linear head, on the training split, where noise and target were chosen.
      held_out: on the test split.
      gain: of that over reconstruction without noise.
      standard_error: of the gain.
      p_value: of a gain, for all that was tried.
    """

    objective: str
    target: str
    noise: str
    latent_dim: int
    r2: float
    held_out: float
    gain: float
    standard_error: float
    p_value: float

    @property
    def certain(self) -> bool:
        """Whether new data tell its gain from none."""
        return self.gain > 0 and self.p_value < DOUBTFUL


@in_float64
def advise(
    data: str | Dataset = "digits",
    *,
    patches: Sequence[Patch] | None = None,
    ratios: Sequence[float] = RATIOS,
    target: Sequence[str] = TARGETS,
    latent_dims: Sequence[int] | None = None,
    precision: str = "mixed",
    side: Side = "auto",
    out: str | os.PathLike[str] | None = None,
    **reading: Unpack[Reading],
) -> xarray.Dataset:
    """`objectives` with masks, at the K of usual encoders, for `recipes` to read.

    Args:
      data: a name, as for `reconjax.data.load`, or a data set.
      patches: as in `objectives`, like all others.
      ratios: see `patches`; 0, 0.25, 0.5, 0.75, 0.9.
      target: see `patches`.
      latent_dims: see `patches`; by default the two largest of 1, 4, 16 and 64 that are at most
        half of the number of features. Take what your head reads: K, or the encoder's width.
      precision: see `patches`.
      side: see `patches`.
      out: a folder, in which `advise.nc` is written.
      **reading: see `reconjax.studies.Reading`.

    Returns:
      The result of `objectives`.

    Raises:
      ValueError: as `objectives`.

    Example:
      >>> grid = dict(patches=[2], ratios=[0.5], latent_dims=[8], precision="float32")
      >>> result = reconjax.studies.advise("digits", target=["whitened:0.5"], **grid)
      >>> reconjax.studies.recipes(result)[0].objective
      'reconstruction'
    """
    source = Source(data, **reading)
    assert source.dataset is not None
    if latent_dims is None:
        latent_dims = [k for k in LATENT_DIMS if 2 * k <= source.features][-2:] or [1]
    kept = ("seed", "class_weight", "standardize", "memory", "progress", "max_samples")
    options: dict[str, Any] = {name: reading[name] for name in kept if name in reading}  # type: ignore[literal-required]
    return objectives(
        source.dataset,
        patches=patches,
        ratios=ratios,
        target=target,
        latent_dims=latent_dims,
        precision=precision,
        side=side,
        out=out,
        file="advise.nc",
        **options,
    )


def recipes(result: xarray.Dataset, latent_dim: int | None = None) -> list[Recipe]:
    """What could be trained, the largest gain on new data first, reconstruction without noise last.

    Args:
      result: of `advise` or `objectives`.
      latent_dim: K, one of those of the result; the largest by default.

    Returns:
      A recipe for each choice that differs from the others.

    Raises:
      ValueError: the result of another study, or a K that is not there.

    Example:
      >>> grid = dict(patches=[2], ratios=[0.5], latent_dims=[8], precision="float32")
      >>> result = reconjax.studies.objectives("digits", target=["whitened:0.5"], **grid)
      >>> reconjax.studies.recipes(result)[-1].noise
      ''
    """
    dims = result.latent_dim.values.tolist()
    latent_dim = dims[-1] if latent_dim is None else latent_dim
    if latent_dim not in dims:
        raise ValueError(f"latent_dim: {latent_dim}; {', '.join(map(str, dims))} are there")
    here = result.sel(latent_dim=latent_dim)
    plain = Recipe(
        "reconstruction", "pixels", "", latent_dim,
        float(here.r2_without), float(here.held_out_without), 0.0, 0.0, 1.0,
    )  # fmt: skip
    found = [_recipe(place) for place in ranking(result) if place.latent_dim == latent_dim]
    # The best target may be pixels, and the best noise none: both are there already.
    found = [recipe for recipe in dict.fromkeys(found) if recipe[:3] != plain[:3]]
    return [*found, plain]


def told_from_chance(result: xarray.Dataset, r2: str) -> bool:
    """Whether the labels can be told from permuted ones at any K.

    If not, whether reconstruction is aligned with them has no answer.

    Args:
      result: of a study.
      r2: the variable over `latent_dim` that labels explain, such as "r2" or "r2_without".
    """
    about = result.attrs
    if json.loads(about["settings"]).get("class_weight") is not None:
        return True  # chance is another then
    told = beyond_chance(
        result[r2].values,
        result.latent_dim.values,
        about["rank"],
        about["samples"],
        about["columns"],
    )
    return bool(told.any())


def _recipe(place: Place) -> Recipe:
    noise, _, target = place.noise.partition(" ")
    if noise.split(":")[1] == "0":
        noise = ""
    embedding = place.family == EMBEDDING
    return Recipe(
        "joint-embedding" if embedding else "reconstruction",
        "" if embedding else target or "pixels",
        noise,
        place.latent_dim,
        *place[3:],
    )
