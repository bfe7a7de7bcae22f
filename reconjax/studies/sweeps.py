"""Which noise moves the representation towards a task, and by how much: Theorem 3 on a grid."""

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import xarray

from reconjax.data import Dataset
from reconjax.evidence.bootstrap import Bootstrap
from reconjax.evidence.p_values import by_folds, search_p_values
from reconjax.grid.sweep import PRECISIONS
from reconjax.lift import FeatureMap
from reconjax.linalg.precision import in_float64
from reconjax.noise.base import check
from reconjax.storage.files import output_folder, replacing
from reconjax.storage.parts import Parts
from reconjax.studies.axes import (
    STRENGTHS,
    Patch,
    check_unused,
    latent_dims_axis,
    names_of_target,
    noise_grid,
    numbers,
    predicted,
)
from reconjax.studies.labeled import labeled, open_result, save, settings_text
from reconjax.studies.lifted import posed as posed_lift
from reconjax.studies.lifted import settings_of, sweep_of
from reconjax.studies.limits import check_whole
from reconjax.studies.progress import say
from reconjax.studies.rays import Arrays, GridSolution, posed, solve
from reconjax.studies.reading import Reading
from reconjax.studies.sample_side import Side, solved_by_samples
from reconjax.studies.source import Source
from reconjax.summary import hosts
from reconjax.summary.moments import Moments
from reconjax.theory.chance import chance_curves
from reconjax.theory.checks import check_readout
from reconjax.theory.spectrum import Spectrum
from reconjax.theory.targets import Target

CURVES = ("r2", "supervised_loss", "reconstruction_loss", "alignment")


@in_float64
def sweep(
    data: str | Dataset | Moments = "digits",
    *,
    noise: str = "mask",
    patches: Sequence[Patch] | None = None,
    ratios: Sequence[float] | None = None,
    stds: Sequence[float] | None = None,
    weights: Sequence[float] = (math.inf,),
    latent_dims: Sequence[int] | None = None,
    max_latent_dim: int | None = None,
    tolerance: float = 3e-4,
    readout: str = "clean",
    target: str | Target = "pixels",
    objective: str = "reconstruction",
    features: str | FeatureMap | None = None,
    ridges: Sequence[float] | None = None,
    draws: int | None = None,
    precision: str = "mixed",
    partial: bool = False,
    image_shape: Sequence[int] | None = None,
    devices: int | None = None,
    side: Side = "auto",
    batch_size: int = 1,
    bootstrap: int | None = None,
    out: str | os.PathLike[str] | None = None,
    **reading: Unpack[Reading],
) -> xarray.Dataset:
    """Theorem 3, and Theorem 1's λ, for every noise of a grid and every latent size K.

    With `out`, every finished patch shape is kept there at once: killed and started again with the
    same settings, it goes on, and comes to the same bytes of `sweep.npz`.

    Args:
      data: a name, as for `reconjax.data.load`; a data set; or moments in float64, of which there
        are no folds and no test split.
      noise: "mask": Bernoulli masks of patches; "exact": of an exact number of patches, as MAE's;
        "pixel": of single values; "gaussian": additive and isotropic.
      patches: of "mask" and "exact", each 4, (4, 2), "4x2", or "1x*" for whole rows, height x width
        in pixels; (2, 4, 4) of volumes; by default 1, 2, 4, of 56 pixels and more 4, 8, 16, of 112
        and more 8, 16, 32.
      ratios: the shares that are dropped, in [0, 1); 0, 0.25, 0.5, 0.75, 0.9, 0.99.
      stds: of "gaussian", in units of x, where images lie in [0, 1]; 0, 0.1, 0.25, 0.5, 1.
      weights: λ in [0, inf] of reconstruction against supervision; inf: reconstruction alone.
      latent_dims: K in 1 .. D; all by default.
      max_latent_dim: in place of `latent_dims`: 1 .. this, several times faster where it is far
        below D; see tolerance.
      tolerance: with `max_latent_dim`, the error of r2 that may be estimated for that speed, else a
        patch shape is solved in full; 0: always.
      readout: "clean" fits the head on clean inputs (Eq. 9), "noisy" on noisy ones (Sec. 5.4).
      target: what is reconstructed: "pixels"; "whitened:S", x whitened by a power S in [0, 1];
        "patch-centered:4x4", patches less their mean, as in MAE; "highpass:1.5", x less its blur,
        in pixels; or one of `reconjax.theory.targets`. λ weighs its loss.
      objective: "reconstruction", or "joint-embedding", of two views that the noise makes: its
        directions are the same at every strength, and those of PCA without noise.
      features: fixed features on which the encoder is linear, in place of x: a text such as
        "relu:2048" or "conv:256:5:4", or a map of `reconjax.lift`; see `reconjax.lift.text`. The
        noise is sampled, but that of "identity", and each noise of the grid is kept.
      ridges: with features, weight decays relative to the mean variance of these: 0.1.
      draws: with features, how many noisy copies of every example there may be; they are doubled
        while the Monte Carlo error of r2 exceeds `tolerance`. One by default.
      precision: "float64"; "mixed": spectrum and whitening in float64, grid points in float32; or
        "float32" throughout.
      partial: allow partial patches at the edges.
      image_shape: (H, W, C) for masks of moments or of vectors; that of the data by default.
      devices: how many share the grid; as many as can by default.
      side: "features": by (D, D) moments; "samples": by (N, N) matrices, with nothing of size D x D
        and no standard errors; "auto": by samples where they are fewer than the features.
      batch_size: grid points that are solved side by side; it bounds the memory.
      bootstrap: number of class-stratified folds for standard errors (7, 11, 19, 23, 31, ...), at
        as many times the work, 0 for none; by default 19 for up to 128 features.
      out: a folder, in which `sweep.nc` and `sweep.npz` are written.
      **reading: see `reconjax.studies.Reading`.

    Returns:
      A dataset over `patch` ("4x4"; for masks of patches), `ratio` or `std`, `weight` and
      `latent_dim`: `r2`, `gain` over no noise, `supervised_loss`, `reconstruction_loss`,
      `alignment`, and the numerical `error` of r2; with features also over `ridge`, and in place of
      the last two `monte_carlo_error`, `held_out_error` and `draws`; with a target,
      `target_loss`, its loss in its own units, and for joint embedding the squared distance of the
      two embeddings. The curves without noise, over `weight` and `latent_dim`, end in `_without`;
      `chance` and `r2_chance` are what alignment and r2 are for permuted labels at λ = inf and a
      clean read-out. `reduced` says which patch shapes were solved in a subspace. Where there are
      folds: `r2_standard_error`, `r2_corrected`, `gain_standard_error`, `gain_corrected`. Where
      there is a test split: `held_out`, `agreement` (over `fold` too) and `p_value`, that of a gain
      on new data for having searched the whole grid. For several tasks, over `task` too:
      `r2_by_task`, `gain_by_task`, `held_out_by_task`, `p_value_by_task`, see `of_task`. Its
      attributes name the data, noise, read-out, precision and rank.

    Raises:
      ValueError: an option out of range or that does not apply, data without labels or that are no
        images, or a folder with the unfinished sweep of other settings.
      FileNotFoundError: no data has that name.

    Example:
      >>> grid = dict(patches=[2, "4x4"], ratios=[0, 0.75], precision="float32", bootstrap=0)
      >>> result = reconjax.studies.sweep("digits", **grid)
      >>> round(float(result.r2.sel(patch="4x4", ratio=0.75, latent_dim=16, weight=np.inf)), 2)
      0.57
    """
    source = Source(data, **reading)
    noises, axes = noise_grid(source, noise, patches, ratios, stds, partial, image_shape)
    levels = numbers("weights", weights, lambda w: w >= 0, "in [0, inf]")
    check_readout(readout)
    if precision not in PRECISIONS:
        raise ValueError(f"precision: {precision!r}; one of {', '.join(PRECISIONS)}")
    check("tolerance", tolerance, lambda t: (t >= 0) & (t < 1), "in [0, 1)")
    check_whole("batch_size", batch_size, 1)
    check_whole("devices", devices, 1)
    check_whole("bootstrap", bootstrap)
    wanted = (predicted(source, target, objective, image_shape),)
    common: dict[str, Any] = {
        "noise": noise,
        **{name: values.tolist() for name, values in axes.items()},
        "weights": [str(weight) for weight in levels],
    }
    named = names_of_target(target, objective)
    if features is not None:
        other_side = side if side == "samples" else None
        check_unused("features", side=other_side, devices=devices, bootstrap=bootstrap)
        dims = latent_dims_axis(latent_dims, max_latent_dim, None)
        lifted = posed_lift(
            source,
            features,
            ridges,
            noises,
            levels,
            dims,
            wanted[0],
            readout=readout,
            precision=precision,
            tolerance=tolerance,
            draws=draws,
        )
        settings = {**common, "latent_dims": dims, "readout": readout, "precision": precision}
        settings |= {**named, **settings_of(lifted, features)}
        folder = output_folder(out) if out is not None and hosts.first() else None
        if folder is not None:
            _say_replaced(folder / "sweep.nc", source, settings)
        return sweep_of(source, lifted, axes, settings, folder)
    check_unused("inputs as they are", ridges=ridges, draws=draws)
    dims = latent_dims_axis(latent_dims, max_latent_dim, source.features)
    options = {
        "tasks": source.tasks,
        "reconstruction_weights": levels,
        "latent_dims": dims,
        "readout": readout,
        "precision": precision,
        "tolerance": 0.0 if max_latent_dim is None else tolerance,
        "batch_size": batch_size,
    }
    by_samples = solved_by_samples(source, side, readout, devices)
    if by_samples and bootstrap:
        raise ValueError(f"bootstrap: {bootstrap}; on the sample side 0 alone is allowed")
    folder = output_folder(out) if out is not None and hosts.first() else None
    problem = posed(source, noises, options, wanted, by_samples, devices, bootstrap)
    facts = problem.facts
    settings = {
        **common,
        "latent_dims": dims,
        **{name: options[name] for name in ("readout", "precision", "tolerance")},
        **named,
        "side": "samples" if by_samples else "features",
        "bootstrap": 0 if problem.folds is None else len(problem.folds.samples),
    }
    parts = None
    if folder is not None:
        _say_replaced(folder / "sweep.nc", source, settings)
        parts = Parts(folder, {**settings, **problem.fingerprints()})
    solution = solve(problem, parts)[0]
    statistics = _statistics(solution)
    result = _labeled(source, facts, axes, levels, solution, statistics, settings)
    if folder is not None and parts is not None:
        with replacing(folder / "sweep.npz") as part:
            np.savez(part, allow_pickle=False, **_plain(axes, levels, solution, statistics))
        save(result, folder / "sweep.nc")
        parts.clear()
    return result


def _say_replaced(path: Path, source: Source, settings: Mapping[str, Any]) -> None:
    """Says in a line that the result of another sweep is there, which this one will replace."""
    if not path.exists():
        return
    wanted = {"data": source.name, **json.loads(settings_text(source, settings))}
    try:
        attributes = open_result(path).attrs
        made = {"data": attributes["data"], **json.loads(attributes["settings"])}
    except (OSError, ValueError, KeyError):
        made = {"study": "unknown"}
    other = sorted(k for k in {*made, *wanted} if made.get(k) != wanted.get(k))
    if other:
        say(f"{path}: of another {', '.join(other)}; it is replaced once this sweep is finished")


def _statistics(solution: GridSolution) -> Arrays:
    """How certain r2 and its gain are, for every point."""
    arrays: Arrays = {}
    curves, without = solution.curves, solution.without
    if solution.r2 is not None and solution.r2_without is not None:
        # From the same samples: what both have in common is no uncertainty of the gain.
        gain = Bootstrap(
            solution.r2.value - solution.r2_without.value,
            solution.r2.halves - solution.r2_without.halves[:, None, None],
        )
        for name, estimate in (("r2", solution.r2), ("gain", gain)):
            arrays[f"{name}_standard_error"] = np.asarray(estimate.standard_error)
            arrays[f"{name}_corrected"] = np.asarray(estimate.corrected)
    if "held_out" in curves:
        arrays["held_out"] = curves["held_out"]
        arrays["held_out_without"] = without["held_out"]
        arrays["p_value"] = _p_values(curves, without)
    if "agreement_by_task" in curves:
        tasks = curves["held_out_by_task"].shape[-1]
        of_tasks = [
            _p_values(_of_task(curves, task), _of_task(without, task)) for task in range(tasks)
        ]
        arrays["p_value_by_task"] = np.stack(of_tasks, axis=-1)
    return arrays


def _p_values(curves: Mapping[str, np.ndarray], without: Mapping[str, np.ndarray]) -> np.ndarray:
    """(P, R, L, Kn) of a gain on new data, one grid of noises for each λ."""
    error = curves["error"] + without["error"]
    of_levels = [
        search_p_values(
            by_folds(curves["held_out"][:, :, level], curves["agreement"][:, :, level]),
            by_folds(without["held_out"][level], without["agreement"][level]),
            error[:, :, level],
        )
        for level in range(error.shape[2])
    ]
    return np.stack(of_levels, axis=2)


def _of_task(curves: Arrays, task: int) -> Arrays:
    """What a p-value asks for, of one task of T; its error is about T times that of all at most."""
    tested = curves["held_out_by_task"]
    return {
        "held_out": tested[..., task],
        "agreement": curves["agreement_by_task"][..., task, :],
        "error": curves["error"] * tested.shape[-1],
    }


def _labeled(
    source: Source,
    moments: Moments | Spectrum,
    axes: Arrays,
    weights: Sequence[float],
    solution: GridSolution,
    statistics: Arrays,
    settings: Mapping[str, Any],
) -> xarray.Dataset:
    """The whole grid with its axes in words."""
    curves, without = solution.curves, solution.without
    rank, dims = int(curves["rank"]), curves["latent_dim"]
    of_grid = {name: curves[name] for name in (*CURVES, "error", "reduced")}
    if "target_loss" in curves:
        of_grid["target_loss"] = curves["target_loss"]
    of_grid["gain"] = curves["r2"] - without["r2"]
    of_none = {f"{name}_without": without[name] for name in (*CURVES, "error")}
    for name in ("r2_by_task", "held_out_by_task"):
        if name in curves:
            of_grid[name], of_none[f"{name}_without"] = curves[name], without[name]
    if "r2_by_task" in curves:
        of_grid["gain_by_task"] = curves["r2_by_task"] - without["r2_by_task"]
    if "agreement" in curves:
        of_grid["agreement"] = curves["agreement"]
        of_none["agreement_without"] = without["agreement"]
    for name, array in statistics.items():
        (of_none if name.endswith("_without") else of_grid)[name] = array
    variables: dict[str, tuple[Sequence[str], Any]] = {}
    for name, array in of_grid.items():
        values = array if "patch" in axes else array[0]
        variables[name] = ([*axes, *_names(name)][: values.ndim], values)
    for name, array in of_none.items():
        variables[name] = (_names(name)[: array.ndim], array)
    chance, r2_chance = chance_curves(moments, rank, dims, source.rows(moments))
    variables["chance"] = (["latent_dim"], chance)
    variables["r2_chance"] = (["latent_dim"], r2_chance)
    test = without.get("agreement")
    return labeled(
        "sweep",
        source,
        variables,
        {**axes, "weight": np.asarray(weights), "latent_dim": dims},
        {
            "samples": int(moments.samples),
            "features": moments.features,
            "rank": rank,
            "noise": settings["noise"],
            "readout": settings["readout"],
            "precision": settings["precision"],
            "side": settings["side"],
            **{name: settings[name] for name in ("target", "objective") if name in settings},
            "error": float(np.max(curves["error"])),
            "folds": settings["bootstrap"],
            "test_samples": 0 if source.test is None or test is None else len(source.test),
            "test_folds": 0 if test is None else test.shape[-1],
        },
        settings,
    )


def _names(variable: str) -> list[str]:
    """The axes of a variable past those of the noises."""
    return ["weight", "latent_dim", "task" if "_by_task" in variable else "fold"]


def _plain(
    axes: Arrays, weights: Sequence[float], solution: GridSolution, statistics: Arrays
) -> Arrays:
    """The arrays of sweep.npz, (P, R, L, Kn)."""
    arrays: Arrays = {}
    if "patch" in axes:
        sides = [[int(side) for side in str(patch).split("x")] for patch in axes["patch"]]
        arrays["patch_shape"] = np.asarray(sides)
    for name, plain in STRENGTHS.items():
        if name in axes:
            arrays[plain] = axes[name]
    arrays["reconstruction_weight"] = np.asarray(weights)
    by_task = [name for name in ("r2_by_task", "held_out_by_task") if name in solution.curves]
    names = ("latent_dim", *CURVES, "error", "reduced", *by_task)
    return {**arrays, **{name: solution.curves[name] for name in names}, **statistics}
