"""A sweep of the lift: the grid of noises through fixed features, noise by noise."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray

from reconjax.data.split import ArraySplit
from reconjax.evidence.p_values import by_folds, search_p_values
from reconjax.lift import (
    FeatureMap,
    Lift,
    LiftedSolution,
    lift,
    lift_memory,
    linear_lift,
    parse_features,
    solve_noise,
)
from reconjax.lift.features import check_features
from reconjax.lift.solver import check_ridges
from reconjax.noise import Noise
from reconjax.storage.files import replacing
from reconjax.storage.parts import Parts, fingerprint
from reconjax.studies.labeled import labeled, save
from reconjax.studies.limits import check_whole
from reconjax.studies.progress import say
from reconjax.studies.rays import NO_NOISE, Arrays, Done, Grid
from reconjax.studies.source import Source
from reconjax.summary.moments import Moments, balanced_class_weight
from reconjax.theory.checks import check_latent_dims
from reconjax.theory.targets import Target

RIDGES = (0.1,)
# Curves of every solution, over K.
CURVES = ("r2", "supervised_loss", "reconstruction_loss", "target_loss")


class LiftProblem(NamedTuple):
    """What is to be solved.

    Attributes:
      lift: the data through the features.
      noises: (P, R).
      ridges: relative.
      weights: λ.
      dims: K.
      target: what is predicted, or None.
      options: keywords of `solve_noise`.
    """

    lift: Lift
    noises: Grid
    ridges: Sequence[float]
    weights: Sequence[float]
    dims: np.ndarray
    target: Target | None
    options: Mapping[str, Any]


def posed(
    source: Source,
    features: str | FeatureMap,
    ridges: Sequence[float] | None,
    noises: Grid,
    weights: Sequence[float],
    dims: Sequence[int] | None,
    target: Target | None,
    *,
    readout: str,
    precision: str,
    tolerance: float,
    draws: int | None,
) -> LiftProblem:
    """The problem of a sweep with features: the data read and seen through them.

    The identity features, whose moments are known, are not sampled.

    Raises:
      ValueError: features that are unknown, of other inputs or larger than the memory, a ridge out
        of range, moments alone with other features than the identity, a K past what there is.
    """
    least = 2 if target is not None and target.embedding else 1
    check_whole("draws", draws, least)
    dtype = jnp.dtype(jnp.result_type(float) if precision == "float64" else jnp.float32)
    size, exact = features_size(source, features), features == "identity"
    if source.given is not None and not exact:
        raise ValueError(f"features: {features!r}; of moments alone 'identity' is allowed")
    kept = [float(r) for r in np.atleast_1d(np.asarray(RIDGES if ridges is None else ridges))]
    check_ridges(kept, float(jnp.finfo(jnp.result_type(float) if exact else dtype).eps))
    embedding = target is not None and target.embedding
    told = source.features + (0 if all(map(math.isinf, weights)) else source.num_targets)
    most = size if embedding else min(size, told)
    latent_dims = (
        np.arange(1, most + 1) if dims is None else check_latent_dims(np.asarray(dims), most)
    )
    needed = lift_memory(size, source.features, source.num_targets, pairs=embedding)
    stored = 0 if source.dataset is None else _stored(source)
    source.check_memory(needed + stored, f"{size} lifted features, {features},")
    source.leave_out_unlabeled()
    moments = source.moments()
    if exact:
        seen = linear_lift(moments, source.held_out(moments))
    else:
        # Inputs of deviation 1, by all of their values together.
        unit = float(np.sqrt(np.mean(np.diagonal(np.asarray(moments.second_moment)))))
        seen = _seen(source, _parsed(source, features, unit), moments, dtype)
    local = jax.local_devices()
    options = {
        "readout": readout,
        "precision": "mixed" if precision == "mixed" else "float64",
        "tolerance": tolerance,
        "draws": draws or least,
        "seed": source.seed,
        "latent_dim": int(latent_dims.max()),
        "devices": local if len(local) > 1 else None,
    }
    return LiftProblem(seen, noises, kept, weights, latent_dims, target, options)


def features_size(source: Source, features: str | FeatureMap) -> int:
    """M of features for these data.

    Raises:
      ValueError: features that are unknown or of other inputs.
    """
    return check_features(_parsed(source, features), source.features)


def _parsed(source: Source, features: str | FeatureMap, unit: float = 1.0) -> FeatureMap:
    if not isinstance(features, str):
        return features
    shape = (source.features,) if source.dataset is None else source.dataset.example_shape
    return parse_features(features, shape, unit=unit, seed=source.seed)


def sweep_of(
    source: Source,
    problem: LiftProblem,
    axes: Arrays,
    settings: Mapping[str, Any],
    folder: Path | None,
) -> xarray.Dataset:
    """The whole study: every noise solved and kept, then labeled and written."""
    parts = None if folder is None else Parts(folder, {**settings, **fingerprints(problem)})
    result = _labeled(source, problem, axes, *_solved(source, problem, parts), settings)
    if folder is not None and parts is not None:
        arrays = {str(name): np.asarray(values) for name, values in result.variables.items()}
        with replacing(folder / "sweep.npz") as part:
            np.savez(part, allow_pickle=False, **arrays)
        save(result, folder / "sweep.nc")
        parts.clear()
    return result


def _solved(
    source: Source, problem: LiftProblem, parts: Parts | None
) -> tuple[dict[tuple[int, int], Arrays], Arrays]:
    """What every noise of the grid gives, and what there is without noise; each kept at once."""
    grid = {
        f"noise-{p}-{r}": noise
        for p, row in enumerate(problem.noises)
        for r, noise in enumerate(row)
    }
    wanted: dict[str, Noise | None] = {NO_NOISE: None, **grid}
    done = Done(parts, list(wanted))
    if kept := sum(name in done.arrays for name in grid):
        say(f"going on: {kept} of {len(grid)} noises are finished")
    with source.progress("noises", len(wanted)) as count:
        for name, noise in wanted.items():
            if not done.has([name]):
                if is_none(noise) and NO_NOISE in done.arrays:
                    done.keep(name, done.arrays[NO_NOISE])
                else:
                    done.keep(name, solve_one(problem, None if is_none(noise) else noise))
            count(1)
    rows = {
        (p, r): done.arrays[f"noise-{p}-{r}"]
        for p, row in enumerate(problem.noises)
        for r in range(len(row))
    }
    return rows, done.arrays[NO_NOISE]


def _labeled(
    source: Source,
    problem: LiftProblem,
    axes: Arrays,
    rows: Mapping[tuple[int, int], Arrays],
    without: Arrays,
    settings: Mapping[str, Any],
) -> xarray.Dataset:
    """The whole grid with its axes in words."""
    shape = len(problem.noises), len(problem.noises[0])
    names = ["ridge", "weight", "latent_dim", "fold"]
    variables: dict[str, tuple[Sequence[str], Any]] = {}
    curves: Arrays = {}
    for name in without:
        every = [rows[p, r][name] for p in range(shape[0]) for r in range(shape[1])]
        curves[name] = np.stack(every).reshape(*shape, *every[0].shape)
    curves["gain"] = curves["r2"] - without["r2"]
    if "agreement" in curves:
        curves["p_value"] = _p_values(curves, without)
    for name, array in curves.items():
        values = array if "patch" in axes else array[0]
        variables[name] = ([*axes, *names][: values.ndim], values)
    for name, array in without.items():
        if name not in ("draws", "rank"):
            variables[f"{name}_without"] = (names[: array.ndim], array)
    moments = problem.lift.moments
    samples = float(moments.samples)
    variables["r2_chance"] = (["latent_dim"], chance(problem))
    rank = int(max(curves["rank"].max(), without["rank"].max()))
    folds = curves["agreement"].shape[-1] if "agreement" in curves else 0
    facts = {
        "samples": int(samples),
        "features": moments.features,
        "lifted": problem.lift.size,
        "rank": rank,
        **{name: settings[name] for name in ("noise", "readout", "precision", "side", "lift")},
        **{name: settings[name] for name in ("target", "objective") if name in settings},
        "error": float(np.max(curves["monte_carlo_error"])),
        "folds": 0,
        "test_samples": len(source.test) if folds and source.test is not None else 0,
        "test_folds": folds,
    }
    coordinates = {
        **axes,
        "ridge": np.asarray(problem.ridges),
        "weight": np.asarray(problem.weights),
        "latent_dim": problem.dims,
    }
    return labeled("sweep", source, variables, coordinates, facts, settings)


def fingerprints(problem: LiftProblem) -> dict[str, Any]:
    """The data, for those who go on with finished noises."""
    seen = problem.lift
    test = None if seen.held_out is None else fingerprint(seen.held_out)
    return {"data": fingerprint((seen.moments, seen.clean)), "test split": test}


def is_none(noise: Noise | None) -> bool:
    """Whether it is none, or of no strength."""
    point = None if noise is None else noise.ray()
    return noise is None or (point is not None and float(point.share) == 0)


def chance(problem: LiftProblem) -> np.ndarray:
    """(Kn,) r2 of permuted labels."""
    return np.minimum(problem.dims / (float(problem.lift.moments.samples) - 1), 1.0)


def solve_one(problem: LiftProblem, noise: Noise | None) -> Arrays:
    """One noise: (ridge, weight, K, ...) of every curve."""
    moments, solutions = solve_noise(
        problem.lift,
        noise,
        problem.ridges,
        reconstruction_weights=problem.weights,
        target=problem.target,
        **problem.options,
    )
    return {**curves_of(problem, solutions), "draws": np.asarray(moments.draws)}


def curves_of(problem: LiftProblem, solutions: Sequence[Sequence[LiftedSolution]]) -> Arrays:
    """(ridge, weight, K, ...) of every curve, of the solutions of each λ and ridge."""
    at = problem.dims - 1
    by_ridge = list(zip(*solutions, strict=True))

    def stacked(part: Any) -> np.ndarray:
        return np.stack([[np.asarray(part(s))[at] for s in path] for path in by_ridge])

    one: LiftedSolution = solutions[0][0]
    arrays = {
        name: stacked(lambda s, name=name: getattr(s.solution, name))
        for name in CURVES
        if getattr(one.solution, name) is not None
    }
    arrays["monte_carlo_error"] = stacked(lambda s: s.monte_carlo_error)
    if one.held_out is not None:
        for name in ("held_out", "held_out_error", "agreement"):
            arrays[name] = stacked(lambda s, name=name: getattr(s, name))
    arrays["rank"] = np.asarray(max(int(s.solution.rank) for path in solutions for s in path))
    return arrays


def _p_values(curves: Arrays, without: Arrays) -> np.ndarray:
    """(P, R, ridge, weight, Kn) of a gain on new data, for the masks that were searched."""
    error = curves["held_out_error"] + without["held_out_error"]
    p_values = np.empty(error.shape)
    for index in np.ndindex(error.shape[2:4]):
        at = (slice(None), slice(None), *index)
        points, none = (
            by_folds(part["held_out"][where], part["agreement"][where])
            for part, where in ((curves, at), (without, index))
        )
        p_values[at] = search_p_values(points, none, error[at])
    return p_values


def _seen(source: Source, features: Any, moments: Moments, dtype: Any) -> Lift:
    data = source.sampled()
    if jax.process_count() == 1:
        # Each noise goes through all of the data: they are read once.
        train = ArraySplit(*source.in_memory(data.train, "samples"))
        data = dataclasses.replace(data, train=train)
    weight = None
    if source.class_weight and data.num_classes:
        weight = balanced_class_weight(data.train.labels, data.num_classes)
    local = jax.local_devices()
    return lift(
        data,
        features,
        moments=moments,
        class_weight=weight,
        dtype=dtype,
        devices=local if len(local) > 1 else None,
        seed=source.seed,
    )


def _stored(source: Source) -> int:
    """Bytes of the training examples."""
    item = source.train.examples(np.arange(1))[0].dtype.itemsize
    return len(source.train) * source.features * item


def settings_of(problem: LiftProblem, features: str | FeatureMap) -> dict[str, Any]:
    """What tells this sweep from others."""
    named = features
    if not isinstance(features, str):
        named = f"{features.text} {fingerprint(features)}"
    return {
        "lift": named,
        "ridges": list(problem.ridges),
        "draws": problem.options["draws"],
        "tolerance": problem.options["tolerance"],
        "side": "features",
        "bootstrap": 0,
    }
