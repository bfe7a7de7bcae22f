"""A grid of noises solved ray by ray; each ray is kept as soon as it is finished."""

import io
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from reconjax.evidence.bootstrap import Bootstrap
from reconjax.grid.kernel import Targets
from reconjax.grid.points import device_counts, divided
from reconjax.grid.sample_side import sweep_samples_targets
from reconjax.grid.stored_samples import Samples
from reconjax.grid.sweep import Sweep, sweep_memory, sweep_targets
from reconjax.noise import identity
from reconjax.noise.base import Noise
from reconjax.storage.parts import Parts, fingerprint
from reconjax.studies.progress import say, unseen
from reconjax.studies.sample_side import sample_side
from reconjax.studies.source import Source
from reconjax.summary.moments import Moments
from reconjax.theory.held_out import HeldOut
from reconjax.theory.spectrum import Spectrum

# From so many features on, a grid point takes long enough to be counted one by one. A program that
# counts cannot be kept in the compilation cache.
COUNTED = 1024
# Up to so many features, the grids of all folds take a few seconds.
CHEAP = 128
# Fields of `Sweep` that are the same for all rays; the others have a row for each.
SHARED = ("latent_dim", "reconstruction_weight", "rank")
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
      targets: what is predicted; None for x itself.
      encoder: moments of all examples, where some have no label.
    """

    source: Source
    data: Moments | Samples
    folds: Moments | None
    held_out: HeldOut | None
    noises: Grid
    options: dict[str, Any]
    mesh: Mesh | None
    targets: Targets = (None,)
    encoder: Moments | None = None

    @property
    def size(self) -> int:
        """Of the matrices, D or N."""
        data = self.data
        return data.features if isinstance(data, Moments) else len(data.rows.train)

    @property
    def facts(self) -> Moments | Spectrum:
        """What is known of the training split, on either side."""
        return self.data if isinstance(self.data, Moments) else self.data.spectrum

    def fingerprints(self) -> dict[str, Any]:
        """The data, for those who go on with finished rays."""
        test = self.held_out
        return {
            "data": fingerprint(self.data),
            "test split": None if test is None else fingerprint(test),
            **({} if self.encoder is None else {"encoder": fingerprint(self.encoder)}),
        }

    def solve(
        self, noises: Grid, mesh: Mesh | None, progress: Callable[..., None] | None
    ) -> list[Sweep]:
        """Some rays, for each target."""
        if isinstance(self.data, Moments):
            options = {"held_out": self.held_out, "mesh": mesh, **self.options}
            options["encoder"] = self.encoder
            return sweep_targets(self.data, noises, self.targets, progress=progress, **options)
        options = {name: value for name, value in self.options.items() if name != "tolerance"}
        with self.source.progress("features", len(noises) * self.source.features) as count:
            return sweep_samples_targets(
                self.data, noises, self.targets, progress=progress, columns=count, **options
            )


class GridSolution(NamedTuple):
    """The whole grid, for one target.

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


def posed(
    source: Source,
    noises: Grid,
    options: dict[str, Any],
    targets: Targets,
    by_samples: bool,
    devices: int | None = None,
    bootstrap: int | None = 0,
) -> GridProblem:
    """The problem of a study: its data read, on one side or the other.

    Args:
      source: the data.
      noises: (P, R).
      options: keywords of `reconjax.sweep`.
      targets: what is predicted.
      by_samples: whether it is solved on the sample side.
      devices: how many share the grid; as many as can by default.
      bootstrap: number of folds; None for the default of the size.

    Raises:
      ValueError: data that do not fit into memory, or devices that cannot share the grid.
    """
    batch_size = options["batch_size"]
    if by_samples:
        data = sample_side(source, batch_size, options["readout"] == "clean")
        return GridProblem(source, data, None, None, noises, options, None, targets)
    size = source.features, source.num_targets, batch_size
    needed = sweep_memory(*size, held_out_folds=source.test_folds)
    source.check_memory(needed, f"a sweep with batch size {batch_size}")
    mesh = sharing(devices, len(noises), len(noises[0]))
    moments, folds = source.folded_moments(bootstrap, CHEAP)
    test, encoder = source.held_out(moments), source.encoder(moments)
    return GridProblem(source, moments, folds, test, noises, options, mesh, targets, encoder)


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


def solve(problem: GridProblem, parts: Parts | None) -> list[GridSolution]:
    """The whole grid, some rays at a time; the same on every process.

    Args:
      problem: what is to be solved.
      parts: where finished rays are kept, on the first process; None to keep nothing.

    Returns:
      The grid of each target; folds are of the first alone.
    """
    noises, mesh = problem.noises, problem.mesh
    names = [f"ray-{index}" for index in range(len(noises))]
    together = 1 if mesh is None else divided(mesh, len(noises), len(noises[0])).shape["ray"]
    starts = range(0, len(names), together)
    units = [_Unit(names[i : i + together], noises[i : i + together], mesh) for i in starts]
    clean = next((i for i, noise in enumerate(noises[0]) if _share(noise) == 0), None)
    if clean is None:
        units.append(_Unit([NO_NOISE], [[identity()]], None))
    done = Done(parts, [name for unit in units for name in unit.names])
    if kept := sum(name in done.arrays for name in names):
        say(f"going on: {kept} of {len(names)} rays are finished")
    _solve_units(problem, units, done)
    at = 0 if clean is None else clean
    solutions = []
    for index in range(len(problem.targets)):
        rays = [of_target(done.arrays[name], index) for name in names]
        curves = {
            name: rays[0][name] if name in SHARED else np.concatenate([ray[name] for ray in rays])
            for name in rays[0]
        }
        curves["rank"] = np.max([ray["rank"] for ray in rays])
        ray = of_target(done.arrays[NO_NOISE], index) if clean is None else rays[0]
        without = {name: ray[name][0, at] for name in ray if name not in (*SHARED, "reduced")}
        solutions.append(GridSolution(curves, without))
    if problem.folds is None:
        return solutions
    again = Done(parts, [f"folds of {name}" for name in done.wanted])
    _solve_folds(problem, units, again)
    folds = [again.arrays[name] for name in again.wanted]
    part = folds[-1] if clean is None else folds[0]
    solutions[0] = solutions[0]._replace(
        r2=Bootstrap(
            jnp.concatenate([of_ray["value"] for of_ray in folds[: len(names)]]),
            jnp.concatenate([of_ray["halves"] for of_ray in folds[: len(names)]], axis=1),
        ),
        r2_without=Bootstrap(
            jnp.asarray(part["value"][0, at]), jnp.asarray(part["halves"][:, 0, at])
        ),
    )
    return solutions


def of_target(part: Arrays, index: int) -> Arrays:
    """What a finished ray has of one target."""
    start = f"{index}-"
    return {name.removeprefix(start): v for name, v in part.items() if name.startswith(start)}


class _Unit(NamedTuple):
    """Rays that are solved together."""

    names: list[str]
    noises: Grid
    mesh: Mesh | None

    def points(self, problem: GridProblem) -> int:
        weights = problem.options["reconstruction_weights"]
        return len(self.noises) * len(self.noises[0]) * len(weights) * len(problem.targets)


class Done:
    """Finished parts, in memory and in a folder, which the first process alone reads and writes."""

    def __init__(self, parts: Parts | None, wanted: list[str]) -> None:
        """Reads what is there of the parts that are wanted; None: nothing is kept."""
        self.wanted, self._parts = wanted, parts
        self.arrays: dict[str, Arrays] = {}
        for name in wanted:
            part = _everywhere(None if parts is None else parts.load(name))
            if part is not None:
                self.arrays[name] = part

    def has(self, names: Iterable[str]) -> bool:
        """Whether all of them are finished."""
        return all(name in self.arrays for name in names)

    def keep(self, name: str, part: Arrays) -> None:
        """Keeps one that is finished."""
        self.arrays[name] = part
        if self._parts is not None:
            self._parts.save(name, part)


def _solve_units(problem: GridProblem, units: list[_Unit], done: Done) -> None:
    total = sum(unit.points(problem) for unit in units)
    with problem.source.progress("grid points", total) as count:
        counted = count if problem.size >= COUNTED and count is not unseen else None
        for unit in units:
            missing = not done.has(unit.names)
            if missing:
                results = problem.solve(unit.noises, unit.mesh, counted)
                arrays = {
                    (index, n): np.asarray(v)
                    for index, result in enumerate(results)
                    for n, v in result._asdict().items()
                    if v is not None
                }
                for row, name in enumerate(unit.names):
                    of_row = {
                        f"{index}-{n}": v if n in SHARED else v[row : row + 1]
                        for (index, n), v in arrays.items()
                    }
                    done.keep(name, of_row)
            if counted is None or not missing:
                count(unit.points(problem))


def _solve_folds(problem: GridProblem, units: list[_Unit], done: Done) -> None:
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
                options = {"held_out": held_out, "mesh": unit.mesh, **problem.options}
                options["encoder"] = problem.encoder
                result = sweep_targets(moments, unit.noises, problem.targets[:1], **options)[0]
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
