"""A grid of noises solved ray by ray; each ray is kept as soon as it is finished."""

import io
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from reconjax.evidence.bootstrap import Bootstrap
from reconjax.grid.sample_side import Samples, sweep_samples
from reconjax.grid.sweep import Sweep, device_counts, divided, sweep
from reconjax.noise import identity
from reconjax.noise.base import Noise
from reconjax.storage.parts import Parts
from reconjax.studies.progress import say
from reconjax.studies.source import Source
from reconjax.summary.moments import Moments
from reconjax.theory.held_out import HeldOut

# From so many features on, a grid point takes long enough to be counted one by one. A program that
# counts cannot be kept in the compilation cache.
COUNTED = 1024
# Fields of `Sweep` that are the same for all rays; the others have a row for each.
SHARED = ("latent_dim", "reconstruction_weight", "rank")
# Fields of `Sweep` that are called otherwise in results.
NAMES = {"r2": "r2"}
NO_NOISE = "no noise"

Arrays = dict[str, np.ndarray]
Grid = Sequence[Sequence[Noise]]


class GridProblem(NamedTuple):
    """What is to be solved.

    Attributes:
      source: the data.
      data: moments of the training split, or its samples, which know the test split.
      folds: (B, ...) of its folds, or None.
      held_out: the test split, where there are moments of it, or None.
      noises: (P, R).
      options: keywords of `reconjax.sweep`.
      mesh: devices that share the grid, or None.
    """

    source: Source
    data: Moments | Samples
    folds: Moments | None
    held_out: HeldOut | None
    noises: Grid
    options: dict[str, Any]
    mesh: Mesh | None

    @property
    def size(self) -> int:
        """Of the matrices, D or N."""
        data = self.data
        return data.features if isinstance(data, Moments) else len(data.rows.train)

    def solve(self, noises: Grid, mesh: Mesh | None, progress: Callable[..., None] | None) -> Sweep:
        """Some rays."""
        if isinstance(self.data, Moments):
            options = {"held_out": self.held_out, "mesh": mesh, **self.options}
            return sweep(self.data, noises, progress=progress, **options)
        options = {name: value for name, value in self.options.items() if name != "tolerance"}
        with self.source.progress("features", len(noises) * self.source.features) as count:
            return sweep_samples(self.data, noises, progress=progress, columns=count, **options)


class GridSolution(NamedTuple):
    """The whole grid.

    Attributes:
      curves: the fields of `Sweep`, (P, R, L, Kn, ...).
      without: those of the point without noise, (L, Kn, ...).
      r2: by folds, (P, R, L, Kn), or None.
      r2_without: by folds, without noise, (L, Kn), or None.
    """

    curves: Arrays
    without: Arrays
    r2: Bootstrap | None = None
    r2_without: Bootstrap | None = None


def sharing(devices: int | None, rays: int, strengths: int) -> Mesh | None:
    """The devices that share a grid, or None for one alone.

    Args:
      devices: how many; None for as many as there are that divide the grid.
      rays: P.
      strengths: R.

    Raises:
      ValueError: more than there are, or a number that does not divide the grid.
    """
    there = np.array(jax.devices())
    fits = device_counts(rays, strengths)
    several = jax.process_count() > 1
    count = devices
    if count is None:
        count = len(there) if several else max(n for n in fits if n <= len(there))
    elif not 1 <= count <= len(there):
        raise ValueError(f"devices: {count}; {len(there)} are there")
    if count not in fits:
        raise ValueError(
            f"devices: {count} cannot share a grid of {rays} patch shapes x {strengths}"
            f" strengths alike; {', '.join(map(str, sorted(fits)))} can"
        )
    if count < len(there) and several:
        raise ValueError(f"devices: {count}; with several processes all {len(there)} take part")
    return None if count == 1 else Mesh(there[:count], ("grid",))


def solve(problem: GridProblem, parts: Parts | None) -> GridSolution:
    """The whole grid, some rays at a time; the same on every process.

    Args:
      problem: what is to be solved.
      parts: where finished rays are kept, on the first process; None to keep nothing.
    """
    noises, mesh = problem.noises, problem.mesh
    names = [f"ray-{index}" for index in range(len(noises))]
    together = 1 if mesh is None else divided(mesh, len(noises), len(noises[0])).shape["ray"]
    starts = range(0, len(names), together)
    units = [_Unit(names[i : i + together], noises[i : i + together], mesh) for i in starts]
    clean = next((i for i, noise in enumerate(noises[0]) if _share(noise) == 0), None)
    if clean is None:
        units.append(_Unit([NO_NOISE], [[identity()]], None))
    done = _Done(parts, [name for unit in units for name in unit.names])
    if kept := sum(name in done.arrays for name in names):
        say(f"going on: {kept} of {len(names)} rays are finished")
    _solve_units(problem, units, done)
    rays = [done.arrays[name] for name in names]
    curves = {
        name: rays[0][name] if name in SHARED else np.concatenate([ray[name] for ray in rays])
        for name in rays[0]
    }
    curves["rank"] = np.max([ray["rank"] for ray in rays])
    at = 0 if clean is None else clean
    ray = done.arrays[NO_NOISE] if clean is None else rays[0]
    without = {name: ray[name][0, at] for name in ray if name not in (*SHARED, "reduced")}
    if problem.folds is None:
        return GridSolution(curves, without)
    again = _Done(parts, [f"folds of {name}" for name in done.wanted])
    _solve_folds(problem, units, again)
    folds = [again.arrays[name] for name in again.wanted]
    part = folds[-1] if clean is None else folds[0]
    return GridSolution(
        curves,
        without,
        Bootstrap(
            jnp.concatenate([of_ray["value"] for of_ray in folds[: len(names)]]),
            jnp.concatenate([of_ray["halves"] for of_ray in folds[: len(names)]], axis=1),
        ),
        Bootstrap(jnp.asarray(part["value"][0, at]), jnp.asarray(part["halves"][:, 0, at])),
    )


class _Unit(NamedTuple):
    """Rays that are solved together."""

    names: list[str]
    noises: Grid
    mesh: Mesh | None

    def points(self, problem: GridProblem) -> int:
        weights = problem.options["reconstruction_weights"]
        return len(self.noises) * len(self.noises[0]) * len(weights)


class _Done:
    """Finished parts, in memory and in a folder, which the first process alone reads and writes."""

    def __init__(self, parts: Parts | None, wanted: list[str]) -> None:
        self.wanted, self._parts = wanted, parts
        self.arrays: dict[str, Arrays] = {}
        for name in wanted:
            part = _everywhere(None if parts is None else parts.load(name))
            if part is not None:
                self.arrays[name] = part

    def has(self, names: Iterable[str]) -> bool:
        return all(name in self.arrays for name in names)

    def keep(self, name: str, part: Arrays) -> None:
        self.arrays[name] = part
        if self._parts is not None:
            self._parts.save(name, part)


def _solve_units(problem: GridProblem, units: list[_Unit], done: _Done) -> None:
    total = sum(unit.points(problem) for unit in units)
    with problem.source.progress("grid points", total) as count:
        counted = count if problem.size >= COUNTED else None
        for unit in units:
            missing = not done.has(unit.names)
            if missing:
                result = problem.solve(unit.noises, unit.mesh, counted)._asdict()
                arrays = {
                    NAMES.get(n, n): np.asarray(v) for n, v in result.items() if v is not None
                }
                for row, name in enumerate(unit.names):
                    of_row = {n: v if n in SHARED else v[row : row + 1] for n, v in arrays.items()}
                    done.keep(name, of_row)
            if counted is None or not missing:
                count(unit.points(problem))


def _solve_folds(problem: GridProblem, units: list[_Unit], done: _Done) -> None:
    """r2 from all folds and from halves of them."""
    assert problem.folds is not None
    folds = len(problem.folds.samples)
    total = (folds + 1) * sum(unit.points(problem) for unit in units)
    # With it, small grids need no program of their own.
    held_out = problem.held_out if problem.size < COUNTED else None
    with problem.source.progress(f"grid points of {folds} folds", total) as count:
        for unit in units:
            names = [f"folds of {name}" for name in unit.names]
            if done.has(names):
                count((folds + 1) * unit.points(problem))
                continue

            def r2(moments: Moments, unit: _Unit = unit) -> np.ndarray:
                result = sweep(
                    moments, unit.noises, held_out=held_out, mesh=unit.mesh, **problem.options
                )
                count(unit.points(problem))
                return np.asarray(result.r2)

            estimate = problem.source.bootstrap(problem.folds, r2)
            for row, name in enumerate(names):
                part = slice(row, row + 1)
                value, halves = estimate.value[part], np.asarray(estimate.halves)[:, part]
                done.keep(name, {"value": value, "halves": halves})


def _share(noise: Noise) -> float:
    """The strength of a noise on its ray; NaN without one, which `sweep` refuses."""
    point = noise.ray()
    return float("nan") if point is None else float(point.share)


def _everywhere(part: Arrays | None) -> Arrays | None:
    """A part of the first process on all; None where it has none."""
    if jax.process_count() == 1:
        return part
    from jax.experimental.multihost_utils import broadcast_one_to_all

    stored = io.BytesIO()
    if part is not None:
        np.savez(stored, allow_pickle=False, **part)
    own = np.frombuffer(stored.getvalue(), np.uint8)
    size = int(broadcast_one_to_all(np.array(own.size)))
    if size == 0:
        return None
    sent = broadcast_one_to_all(own if jax.process_index() == 0 else np.zeros(size, np.uint8))
    with np.load(io.BytesIO(np.asarray(sent).tobytes())) as arrays:
        return dict(arrays)
