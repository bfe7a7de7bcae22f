"""Reconstruct or embed, pixels or another target: each at its best noise, on held-out samples."""

import math
import os
from collections.abc import Sequence
from typing import Any, Unpack

import numpy as np
import xarray

from reconjax.data import Dataset
from reconjax.evidence.comparison import Comparison
from reconjax.grid.sweep import PRECISIONS
from reconjax.lift import FeatureMap
from reconjax.linalg.precision import in_float64
from reconjax.noise.groups import cut_at_edges
from reconjax.storage.files import output_folder
from reconjax.storage.parts import Parts
from reconjax.studies import lifted_points
from reconjax.studies.axes import Patch, check_unused, latent_dims_axis, noise_grid, predicted
from reconjax.studies.families import comparison_variables, with_test_split
from reconjax.studies.labeled import labeled, save
from reconjax.studies.lifted import features_size, fingerprints, settings_of
from reconjax.studies.lifted import posed as posed_lift
from reconjax.studies.rays import Arrays, GridSolution, posed, solve
from reconjax.studies.reading import Reading
from reconjax.studies.sample_side import Side, solved_by_samples
from reconjax.studies.source import Source
from reconjax.summary.moments import Moments
from reconjax.theory.chance import chance_curves
from reconjax.theory.held_out import fitted_by_task
from reconjax.theory.spectrum import Spectrum, spectrum

# What is compared, beside reconstruction without noise.
NOISE = "reconstruction, best noise"
TARGET = "reconstruction, best noise and target"
EMBEDDING = "joint embedding, best noise"
TARGETS = ("whitened:0.5", "whitened:0.75")
# Of every point; the last ones where there are several tasks.
CURVES = (
    *("r2", "held_out", "error", "agreement"),
    *("r2_by_task", "held_out_by_task", "agreement_by_task"),
)
# By default, K up to this.
LARGEST = 256


@in_float64
def objectives(
    data: str | Dataset = "digits",
    *,
    noise: str = "mask",
    patches: Sequence[Patch] | None = None,
    ratios: Sequence[float] | None = None,
    stds: Sequence[float] | None = None,
    target: Sequence[str] = TARGETS,
    latent_dims: Sequence[int] | None = None,
    features: str | FeatureMap | None = None,
    ridge: float | None = None,
    draws: int | None = None,
    precision: str = "mixed",
    side: Side = "auto",
    out: str | os.PathLike[str] | None = None,
    file: str = "objectives.nc",
    **reading: Unpack[Reading],
) -> xarray.Dataset:
    """Reconstruction without noise, at its best noise, at its best noise and target, or embedding.

    For every K, noise and target are chosen on the training split, as in `compare`, and what they
    gain over reconstruction without noise (PCA) is measured on the test split, or on a part of the
    samples that is kept apart where there is none.

    Args:
      data: a name, as for `reconjax.data.load`, or a data set.
      noise: as in `sweep`, like `patches`, `ratios` and `stds`.
      patches: see `noise`.
      ratios: see `noise`.
      stds: see `noise`.
      target: what is tried in place of pixels, as in `sweep`.
      latent_dims: K; 1, 2, 4, ... 256 by default, as far as the rank goes.
      features: fixed features on which the encoder is linear, as in `sweep`; no noise is then
        reconstruction through them.
      ridge: with features, the weight decay, as one of `sweep`.
      draws: with features, noisy copies of every example, which serve all targets and joint
        embedding: two by default.
      precision: as in `sweep`, like `side`.
      side: see `precision`.
      out: a folder, in which the result is written. Every finished patch shape is kept there: a
        run that was killed goes on where it stopped.
      file: the name of the result there.
      **reading: see `reconjax.studies.Reading`.

    Returns:
      A dataset over `point` (every noise of every target and objective; coordinate `family` is what
      it counts among, `noise` what it is called) and `latent_dim`, with the variables of `compare`.
      The attribute `r2_all` is the r2 of all directions together.

    Raises:
      ValueError: as `sweep`; no target, or no noise but none.

    Example:
      >>> grid = dict(patches=[2], ratios=[0.5], latent_dims=[8], precision="float32")
      >>> result = reconjax.studies.objectives("digits", target=["whitened:0.5"], **grid)
      >>> [place.family for place in reconjax.studies.ranking(result)][0]
      'reconstruction, best noise'
    """
    if not target or "pixels" in target:
        raise ValueError(f"target: {list(target)}; at least one is needed, pixels apart")
    source = Source(data, **reading)
    split = with_test_split(source)
    dataset = source.dataset
    assert dataset is not None
    assert dataset.test is not None
    noises, axes = noise_grid(source, noise, patches, ratios, stds, False, None)
    wanted = (None, *(predicted(source, text, "reconstruction", None) for text in target))
    views = predicted(source, "pixels", "joint-embedding", None)
    strengths = _strengths(axes)
    if not np.any(strengths > 0):
        name = "stds" if noise == "gaussian" else "ratios"
        raise ValueError(f"{name}: only 0; two views are the same without noise")
    if precision not in PRECISIONS:
        raise ValueError(f"precision: {precision!r}; one of {', '.join(PRECISIONS)}")
    most = min(LARGEST, source.features)
    if features is None:
        check_unused("inputs as they are", ridge=ridge, draws=draws)
    else:
        check_unused("features", side=side if side == "samples" else None)
        lifted_points.check_one_task(source)
        most = min(most, features_size(source, features))
    dims = latent_dims_axis(latent_dims, None, source.features)
    dims = [2**i for i in range(most.bit_length()) if 2**i <= most] if dims is None else dims
    folder = None if out is None else output_folder(out)
    settings: dict[str, Any] = {
        "noise": noise,
        **{name: values.tolist() for name, values in axes.items()},
        "target": list(target),
        "latent_dims": dims,
        "precision": precision,
    }
    targets = (*wanted, views)
    if features is None:
        by_samples = solved_by_samples(source, side, "clean", None)
        settings["side"] = "samples" if by_samples else "features"
        options: dict[str, Any] = {
            "tasks": source.tasks,
            "reconstruction_weights": [math.inf],
            "latent_dims": dims,
            "readout": "clean",
            "precision": precision,
            "tolerance": 0.0,
            "batch_size": 1,
        }
        problem = posed(source, noises, options, targets, by_samples)
        known = problem.fingerprints()
    else:
        ridges = None if ridge is None else [ridge]
        posing: dict[str, Any] = {
            "readout": "clean",
            "precision": precision,
            "tolerance": 0.0,
            "draws": draws,
        }
        lifted = posed_lift(source, features, ridges, noises, [math.inf], dims, views, **posing)
        settings |= settings_of(lifted, features)
        known = fingerprints(lifted)
    parts = None if folder is None else Parts(folder, {"study": "objectives", **settings, **known})
    if features is None:
        facts = problem.facts
        pixels, *others, embedded = solve(problem, parts)
        reached = pixels.curves["latent_dim"], int(pixels.curves["rank"])
        chance = chance_curves(facts, reached[1], reached[0], source.rows(facts))[1]
        everything, by_task = _of_all(facts, source.tasks)
        about = {}
    else:
        facts = lifted.lift.moments
        pixels, *others, embedded = lifted_points.solved(source, lifted, targets, parts)
        chance = lifted_points.chance(lifted)
        everything, by_task = lifted_points.all_features(lifted), None
        about = lifted_points.about(lifted, settings)
    names = _names(noise, axes, dataset.example_shape)
    tried = [_points(pixels, NOISE, names), _points(pixels, TARGET, names)]
    for text, solution in zip(target, others, strict=True):
        tried.append(_points(solution, TARGET, [f"{name} {text}" for name in names]))
    noisy = np.tile(strengths > 0, len(noises))
    tried.append(_points(embedded, EMBEDDING, names, noisy))
    comparison = _together(pixels, tried, chance)
    variables = comparison_variables(comparison)
    if by_task is not None:
        variables["r2_all_by_task"] = (["task"], by_task)
    result = labeled(
        "objectives",
        source,
        variables,
        {"latent_dim": comparison.latent_dim},
        {
            "samples": int(facts.samples),
            "features": source.features,
            "side": settings["side"],
            "rank": comparison.rank,
            "r2_all": everything,
            "held_out_samples": len(dataset.test),
            "held_out_split": split,
            "folds": comparison.agreement.shape[-1],
            "noises": len(set(comparison.noise)),
            **about,
        },
        settings,
    )
    result = result.assign_coords(
        family=("point", np.asarray(comparison.family)),
        noise=("point", np.asarray(comparison.noise)),
    )
    result["chance"].attrs["long_name"] = "r2 of permuted labels"
    if folder is not None and parts is not None:
        save(result, folder / file)
        parts.clear()
    return result


def _of_all(
    facts: Moments | Spectrum, tasks: tuple[int, ...] | None
) -> tuple[float, np.ndarray | None]:
    """r2 of all directions together, and (T,) of each of several tasks."""
    known = facts if isinstance(facts, Spectrum) else spectrum(facts)
    whole = float((known.labels**2).sum() / known.label_moment.trace())
    if tasks is None:
        return whole, None
    variances = known.label_moment.diagonal()
    return whole, np.asarray(fitted_by_task(known.labels.T, variances, tasks)[-1])


def _strengths(axes: Arrays) -> np.ndarray:
    """(R,) stds or ratios."""
    return axes["std" if "std" in axes else "ratio"]


def _names(noise: str, axes: Arrays, example_shape: Sequence[int]) -> list[str]:
    """What the points of a grid are called, as texts of noises."""
    patches = [""]
    if "patch" in axes:
        patches = []
        for patch in axes["patch"]:
            cut = cut_at_edges([int(side) for side in str(patch).split("x")], example_shape)
            patches.append(f":{patch}:partial" if cut else f":{patch}")
    return [f"{noise}:{strength:g}{patch}" for patch in patches for strength in _strengths(axes)]


def _points(
    solution: GridSolution, family: str, names: Sequence[str], some: np.ndarray | None = None
) -> dict[str, Any]:
    """All points of a grid, or some, as a comparison has them."""
    which = np.arange(len(names)) if some is None else np.flatnonzero(some)

    def flat(name: str) -> np.ndarray:
        curves = solution.curves[name][:, :, 0]
        return curves.reshape(-1, *curves.shape[2:])[which]

    return {
        "family": (family,) * len(which),
        "noise": tuple(names[point] for point in which.tolist()),
        **{name: flat(name) for name in CURVES if name in solution.curves},
    }


def _together(
    pixels: GridSolution,
    parts: Sequence[dict[str, Any]],
    chance: np.ndarray,
) -> Comparison:
    """All points, for K up to the rank of the data."""
    dims, rank = pixels.curves["latent_dim"], int(pixels.curves["rank"])
    known = np.flatnonzero(dims <= rank)
    without = pixels.without

    def joined(name: str) -> np.ndarray:
        return np.concatenate([part[name] for part in parts])[:, known]

    there = [name for name in CURVES if name in parts[0]]
    curves: dict[str, Any] = {name: joined(name) for name in there}
    curves |= {f"{name}_without": without[name][0][known] for name in there if name != "error"}
    return Comparison(
        latent_dim=dims[known],
        family=sum((part["family"] for part in parts), ()),
        noise=sum((part["noise"] for part in parts), ()),
        **curves,
        chance=chance[known],
        rank=rank,
    )
