"""The grid of `reconjax sweep`: its noises, the devices that share it, its solution in parts."""

import argparse
import sys
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

import reconjax
from reconjax.cli.printing import progress
from reconjax.cli.resampling import resampled
from reconjax.evidence.bootstrap import Bootstrap
from reconjax.grid.sweep import device_counts, divided
from reconjax.grid.sweep import sweep as solve_again
from reconjax.noise.groups import usual_patches
from reconjax.storage.parts import Parts, fingerprint
from reconjax.summary import hosts
from reconjax.theory.held_out import HeldOut
from reconjax.theory.solver import check_latent_dim

RATIOS = (0.0, 0.25, 0.5, 0.75, 0.9, 0.99)
STDS = (0.0, 0.1, 0.25, 0.5, 1.0)
# From so many features on, a grid point takes long enough to be told of one by one. A program that
# tells cannot be kept in the compilation cache.
TOLD = 1024
# Fields of `Sweep` that are the same for all rays; the others have a row for each.
SHARED = ("latent_dim", "reconstruction_weight", "rank")
NO_NOISE = "no noise"

Arrays = dict[str, np.ndarray]


class Job(NamedTuple):
    """What is to be solved.

    Attributes:
      moments: of the training split.
      folds: (B, ...) of its folds, or None.
      held_out: what the test split says, or None.
      grid: (P, R) noises.
      latent_dims: K, or None for all.
      mesh: devices that share the grid.
    """

    moments: Any
    folds: Any
    held_out: HeldOut | None
    grid: Any
    latent_dims: list[int] | None
    mesh: Mesh | None


class Solved(NamedTuple):
    """The whole grid.

    Attributes:
      curves: the fields of `Sweep`.
      baseline: those of the point without noise, (L, Kn, ...).
      estimate: the explained share by folds, (P, R, L, Kn), or None.
      baseline_estimate: the same without noise, (L, Kn).
    """

    curves: Arrays
    baseline: Arrays
    estimate: Bootstrap | None = None
    baseline_estimate: Bootstrap | None = None


def noises(options: argparse.Namespace, data: Any) -> tuple[Any, Arrays]:
    """(P, R) noises and their axes."""
    gaussian, patches = options.noise == "gaussian", options.noise in ("mask", "exact")
    for name, applies in (("stds", gaussian), ("ratios", not gaussian), ("patches", patches)):
        if getattr(options, name) is not None and not applies:
            raise ValueError(f"--{name}: does not apply to --noise {options.noise}")
    if gaussian:
        stds = options.stds or STDS
        return reconjax.gaussian_grid(stds), {"noise_std": np.asarray(stds)}
    ratios = options.ratios or RATIOS
    axes = {"mask_ratio": np.asarray(ratios)}
    if options.noise == "pixel":
        return reconjax.pixel_grid(data.example_shape, ratios), axes
    sizes, partial = options.patches, options.partial
    if sizes is None:
        sizes, needed = usual_patches(data.image_shape)
        partial = partial or needed
    grid = reconjax.mask_grid(
        data.image_shape,
        sizes,
        ratios,
        exact=options.noise == "exact",
        partial=partial,
    )
    return grid, {"patch_shape": np.asarray(sizes), **axes}


def latent_dims(options: argparse.Namespace, features: int) -> list[int] | None:
    """K; None for all. Raises before the moments are made what `reconjax.sweep` would after."""
    largest = options.max_latent_dim
    for latent_dim in (*(options.latent_dims or ()), *([] if largest is None else [largest])):
        check_latent_dim(latent_dim, features)
    if options.batch_size < 1:
        raise ValueError(f"batch_size: {options.batch_size}; it must be at least 1")
    if largest is None:
        return options.latent_dims
    if options.latent_dims:
        raise ValueError("--max-latent-dim: given with --latent-dims; choose one")
    return list(range(1, largest + 1))


def sharing(options: argparse.Namespace, rays: int, strengths: int) -> Mesh | None:
    """The devices that share the grid: --devices, or as many as there are that divide it."""
    devices = np.array(jax.devices())
    fits = device_counts(rays, strengths)
    count = options.devices
    if count is None:
        several = jax.process_count() > 1
        count = len(devices) if several else max(n for n in fits if n <= len(devices))
    elif not 1 <= count <= len(devices):
        raise ValueError(f"--devices: {count}; {len(devices)} are there")
    if count not in fits:
        raise ValueError(
            f"--devices: {count} cannot share a grid of {rays} patch shapes x {strengths}"
            f" strengths alike; {', '.join(map(str, sorted(fits)))} can"
        )
    if count < len(devices) and jax.process_count() > 1:
        raise ValueError(f"--devices: {count}; with several processes all {len(devices)} take part")
    return None if count == 1 else Mesh(devices[:count], ("grid",))


def settings(options: argparse.Namespace, job: Job, axes: Arrays) -> dict[str, Any]:
    """What a run must have in common with the one that it goes on with."""
    return {
        "data": fingerprint(job.moments),
        "test split": None if job.held_out is None else fingerprint(job.held_out),
        "bootstrap": 0 if job.folds is None else len(job.folds.samples),
        "noise": options.noise,
        **{name: np.asarray(values).tolist() for name, values in axes.items()},
        "weights": [str(weight) for weight in options.weights],
        "latent dims": job.latent_dims,
        "readout": options.readout,
        "precision": options.precision,
        "tolerance": _tolerance(options),
    }


def solved(options: argparse.Namespace, parts: Parts | None, job: Job) -> Solved | None:
    """The whole grid, some rays at a time: each is kept as soon as it is finished.

    None on all processes but the first.
    """
    names = [f"ray-{index}" for index in range(len(job.grid))]
    together = 1
    if job.mesh is not None:
        together = divided(job.mesh, len(job.grid), len(job.grid[0])).shape["ray"]
    starts = range(0, len(names), together)
    units = [_Unit(names[i : i + together], job.grid[i : i + together], job.mesh) for i in starts]
    clean = next((i for i, noise in enumerate(job.grid[0]) if noise.ray().share == 0), None)
    if clean is None:
        units.append(_Unit([NO_NOISE], [[reconjax.identity()]], None))
    done = _Done(parts, [name for unit in units for name in unit.names])
    if kept := sum(name in done.found for name in names):
        print(f"going on: {kept} of {len(names)} rays are finished", file=sys.stderr)
    _solve(options, job, units, done)
    again = None if job.folds is None else _Done(parts, [f"folds of {n}" for n in done.wanted])
    if again is not None:
        _solve_folds(options, job, units, again)
    if not hosts.first():
        return None
    rays = [done.found[name] for name in names]
    curves = {
        name: rays[0][name] if name in SHARED else np.concatenate([ray[name] for ray in rays])
        for name in rays[0]
    }
    curves["rank"] = np.max([ray["rank"] for ray in rays])
    here = rays[0] if clean is not None else done.found[NO_NOISE]
    baseline = {
        name: here[name][0, clean or 0] for name in here if name not in (*SHARED, "reduced")
    }
    if again is None:
        return Solved(curves, baseline)
    folds = [again.found[name] for name in again.wanted]
    estimate = Bootstrap(
        jnp.concatenate([part["value"] for part in folds[: len(names)]]),
        jnp.concatenate([part["halves"] for part in folds[: len(names)]], axis=1),
    )
    here = folds[0] if clean is not None else folds[-1]
    value, halves = here["value"][0, clean or 0], here["halves"][:, 0, clean or 0]
    without = Bootstrap(jnp.asarray(value), jnp.asarray(halves))
    return Solved(curves, baseline, estimate, without)


class _Unit(NamedTuple):
    """Rays that are solved together."""

    names: list[str]
    rows: Any
    mesh: Mesh | None

    def points(self, options: argparse.Namespace) -> int:
        return len(self.rows) * len(self.rows[0]) * len(options.weights)


class _Done:
    """Finished parts, in memory and in a folder."""

    def __init__(self, parts: Parts | None, wanted: list[str]) -> None:
        self.wanted, self._parts = wanted, parts
        self.found: dict[str, Arrays] = {}
        for name in wanted:
            if parts is not None and (part := parts.load(name)) is not None:
                self.found[name] = part
        self._finished = dict(
            zip(wanted, _everywhere([name in self.found for name in wanted]), strict=True)
        )

    def has(self, names: Iterable[str]) -> bool:
        return all(self._finished[name] for name in names)

    def keep(self, name: str, part: Arrays) -> None:
        self.found[name] = part
        if self._parts is not None:
            self._parts.save(name, part)


def _solve(options: argparse.Namespace, job: Job, units: list[_Unit], done: _Done) -> None:
    total = sum(unit.points(options) for unit in units)
    with progress("grid points", total) as bar:
        told = bar if job.moments.features >= TOLD else None
        for unit in units:
            missing = not done.has(unit.names)
            if missing:
                result = reconjax.sweep(
                    job.moments,
                    unit.rows,
                    held_out=job.held_out,
                    progress=told,
                    **_asked(options, job, unit),
                )._asdict()
                found = {name: np.asarray(v) for name, v in result.items() if v is not None}
                for row, name in enumerate(unit.names):
                    of_row = {n: v if n in SHARED else v[row : row + 1] for n, v in found.items()}
                    done.keep(name, of_row)
            if told is None or not missing:
                bar(unit.points(options))


def _solve_folds(options: argparse.Namespace, job: Job, units: list[_Unit], done: _Done) -> None:
    """The explained share from all folds and from halves of them."""
    folds = len(job.folds.samples)
    total = (folds + 1) * sum(unit.points(options) for unit in units)
    # With it, small grids need no program of their own.
    held_out = job.held_out if job.moments.features < TOLD else None
    with progress(f"grid points of {folds} folds", total) as bar:
        for unit in units:
            names = [f"folds of {name}" for name in unit.names]
            if done.has(names):
                bar((folds + 1) * unit.points(options))
                continue

            def explained(moments: Any, unit: _Unit = unit) -> np.ndarray:
                asked = {"held_out": held_out, **_asked(options, job, unit)}
                found = solve_again(moments, unit.rows, **asked)
                bar(unit.points(options))
                return np.asarray(found.explained)

            estimate = resampled(options, job.folds, explained)
            for row, name in enumerate(names):
                part = slice(row, row + 1)
                value, halves = estimate.value[part], np.asarray(estimate.halves)[:, part]
                done.keep(name, {"value": value, "halves": halves})


def _asked(options: argparse.Namespace, job: Job, unit: _Unit) -> dict[str, Any]:
    """Keywords of `reconjax.sweep`."""
    return {
        "reconstruction_weights": options.weights,
        "latent_dims": job.latent_dims,
        "readout": options.readout,
        "precision": options.precision,
        "tolerance": _tolerance(options),
        "batch_size": options.batch_size,
        "mesh": unit.mesh,
    }


def _tolerance(options: argparse.Namespace) -> float:
    return 0.0 if options.max_latent_dim is None else options.tolerance


def _everywhere(flags: list[bool]) -> list[bool]:
    """The flags of the first process, which alone has read its folder, on all."""
    if jax.process_count() == 1:
        return flags
    from jax.experimental.multihost_utils import broadcast_one_to_all

    return [bool(flag) for flag in broadcast_one_to_all(np.array(flags))]
