"""Noises through fixed features, as `compare` and `objectives` have them: one ridge, λ = inf."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from reconjax.evidence import comparison
from reconjax.evidence.comparison import Comparison
from reconjax.lift import lifted_moments, solve_lifted
from reconjax.noise import Noise
from reconjax.noise.families import Family
from reconjax.storage.parts import Parts
from reconjax.studies.lifted import LiftProblem, chance, curves_of, is_none, solve_one
from reconjax.studies.progress import say
from reconjax.studies.rays import NO_NOISE, Arrays, Done, GridSolution, of_target
from reconjax.studies.source import Source
from reconjax.theory.targets import Target


def compared(
    source: Source,
    problem: LiftProblem,
    tried: Sequence[Family],
    parts: Parts | None,
    name: Callable[[int], str],
) -> Comparison:
    """All families, each kept as soon as it is finished; see `evidence.comparison.compare`."""
    done = Done(parts, [NO_NOISE, *map(name, range(len(tried)))])
    if kept := sum(name(index) in done.arrays for index in range(len(tried))):
        say(f"going on: {kept} of {len(tried)} families are finished")
    if not done.has([NO_NOISE]):
        # Whatever is predicted under noise.
        done.keep(NO_NOISE, _point(solve_one(problem._replace(target=None), None)))
    without, found = done.arrays[NO_NOISE], []
    with source.progress("noises", sum(len(family.noises) for family in tried)) as count:
        for index, family in enumerate(tried):
            if not done.has([name(index)]):
                points = [_point(solve_one(problem, noise)) for noise in family.noises]
                done.keep(name(index), {key: np.stack([p[key] for p in points]) for key in without})
            count(len(family.noises))
            found.append(
                Comparison(
                    latent_dim=problem.dims,
                    family=(family.name,) * len(family.noises),
                    noise=family.texts,
                    **{key: done.arrays[name(index)][key] for key in without if key != "rank"},
                    r2_without=without["r2"],
                    held_out_without=without["held_out"],
                    agreement_without=without["agreement"],
                    chance=chance(problem),
                    rank=int(without["rank"]),
                )
            )
    return comparison.concatenated(found)


def solved(
    source: Source,
    problem: LiftProblem,
    targets: Sequence[Target | None],
    parts: Parts | None,
) -> list[GridSolution]:
    """The grid of each target; the moments of a noise serve all of them, and each noise is kept.

    Joint embedding without noise is none: what stands there is reconstruction.
    """
    texts = [f"noise-{p}-{r}" for p, row in enumerate(problem.noises) for r in range(len(row))]
    noises: list[Noise | None] = [None, *(noise for row in problem.noises for noise in row)]
    done = Done(parts, [NO_NOISE, *texts])
    if kept := sum(text in done.arrays for text in texts):
        say(f"going on: {kept} of {len(texts)} noises are finished")
    with source.progress("noises", len(noises)) as count:
        for text, noise in zip(done.wanted, noises, strict=True):
            if not done.has([text]):
                still = is_none(noise) and NO_NOISE in done.arrays
                done.keep(
                    text, done.arrays[NO_NOISE] if still else _of_all(problem, noise, targets)
                )
            count(1)
    shape = len(problem.noises), len(problem.noises[0]), 1
    solutions = []
    for index in range(len(targets)):
        points = [of_target(done.arrays[text], index) for text in texts]
        curves = {
            key: np.stack([point[key] for point in points]).reshape(*shape, *points[0][key].shape)
            for key in points[0]
        }
        without = {key: v[None] for key, v in of_target(done.arrays[NO_NOISE], index).items()}
        curves |= {"latent_dim": problem.dims, "rank": np.max(curves["rank"])}
        solutions.append(GridSolution(curves, without))
    return solutions


def check_one_task(source: Source) -> None:
    """Raises ValueError for several tasks, which are not told apart through features."""
    if source.tasks is not None:
        raise ValueError("features: of one task alone; choose one of several (--target-key)")


def about(problem: LiftProblem, settings: Mapping[str, Any]) -> dict[str, Any]:
    """What the attributes of a result say of it."""
    (ridge,) = problem.ridges
    return {"lift": settings["lift"], "lifted": problem.lift.size, "ridge": ridge}


def all_features(problem: LiftProblem) -> float:
    """The r2 of a linear head on all features."""
    labels = problem.lift.factor[1]
    return float(jnp.sum(labels**2) / problem.lift.moments.label_moment.trace())


def _of_all(problem: LiftProblem, noise: Noise | None, targets: Sequence[Target | None]) -> Arrays:
    """One noise, or none: the curves of each target, which its number begins."""
    options = problem.options
    moments = lifted_moments(
        problem.lift,
        noise,
        draws=options["draws"],
        seed=options["seed"],
        pairs=noise is not None and any(target and target.embedding for target in targets),
        devices=options["devices"],
    )
    arrays: Arrays = {}
    for index, target in enumerate(targets):
        if noise is None and target is not None and target.embedding:
            target = None
        path = solve_lifted(
            problem.lift,
            moments,
            problem.ridges,
            target=target,
            latent_dim=options["latent_dim"],
            precision=options["precision"],
        )
        point = _point(curves_of(problem, [path]))
        arrays |= {f"{index}-{key}": value for key, value in point.items()}
    return arrays


def _point(curves: Arrays) -> Arrays:
    """What a comparison knows of the only ridge and weight; its error is that of both splits."""
    error = np.maximum(curves["monte_carlo_error"], curves["held_out_error"])[0, 0]
    point = {key: curves[key][0, 0] for key in ("r2", "held_out", "agreement")}
    return {**point, "error": error, "rank": curves["rank"]}
