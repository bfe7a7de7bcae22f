"""Families of noises, each at its best strength, ranked on samples that chose nothing."""

import dataclasses
import os
import sys
from collections.abc import Sequence
from typing import Any, Unpack

import jax
import numpy as np
import xarray

from reconjax.data import Dataset
from reconjax.data.targets import strata
from reconjax.evidence import comparison
from reconjax.evidence.comparison import Comparison
from reconjax.evidence.places import Place, best_strengths, gains
from reconjax.lift import FeatureMap
from reconjax.linalg.precision import in_float64
from reconjax.noise.families import Family, check_names
from reconjax.noise.families import families as suitable_families
from reconjax.storage.files import output_folder
from reconjax.storage.parts import Parts, fingerprint
from reconjax.studies import lifted_points
from reconjax.studies.axes import check_unused, names_of_target, predicted
from reconjax.studies.labeled import labeled, save
from reconjax.studies.lifted import features_size, fingerprints, posed, settings_of
from reconjax.studies.reading import Reading
from reconjax.studies.sample_side import sample_side
from reconjax.studies.source import Source
from reconjax.studies.wide_families import compared, with_a_form
from reconjax.summary.folds import most_folds, stratified
from reconjax.summary.moments import Moments
from reconjax.theory.chance import chance_curves
from reconjax.theory.checks import check_latent_dim
from reconjax.theory.held_out import HeldOut
from reconjax.theory.spectrum import Spectrum, spectrum
from reconjax.theory.targets import Target

# (D, D) float64 matrices that a comparison holds at its peak.
DENSE_MATRICES = 24
# Powers of it are the K by default.
STEP = 4
LARGEST = 64
# Without a test split, one of so many parts of the samples is kept apart for one.
PARTS = {5: "a fifth", 4: "a quarter", 3: "a third", 2: "a half"}


@in_float64
def compare(
    data: str | Dataset = "digits",
    *,
    families: Sequence[str] | None = None,
    latent_dims: Sequence[int] | None = None,
    max_latent_dim: int | None = None,
    target: str | Target = "pixels",
    objective: str = "reconstruction",
    features: str | FeatureMap | None = None,
    ridge: float | None = None,
    draws: int | None = None,
    tolerance: float = 3e-4,
    out: str | os.PathLike[str] | None = None,
    **reading: Unpack[Reading],
) -> xarray.Dataset:
    """Families of noises (λ = inf, clean read-out), each at several strengths, against no noise.

    The strength of a family is chosen on the training split, at every K anew; what it gains is
    measured on the test split, or on a fifth of the samples that is kept apart where there is none.
    Where (D, D) moments do not fit and there are fewer samples than features, it is solved by
    samples; families without such a form (blur, shifts, blocks, ...) are then left out, in a line.

    Args:
      data: a name, as for `reconjax.data.load`, or a data set with labels.
      families: names of `reconjax.noise.families.NAMES`, or texts like "mask:0.5:2x2", each a
        family of one strength; by default all that suit the data.
      latent_dims: K in 1 .. the rank.
      max_latent_dim: instead of them, 4, 16, 64, ... up to this K; 64 by default.
      target: what is predicted under noise, as in `sweep`; no noise is PCA whatever it is.
      objective: as in `sweep`.
      features: fixed features on which the encoder is linear, as in `sweep`; no noise is then
        reconstruction through them.
      ridge: with features, the weight decay, as one of `sweep`.
      draws: with features, as in `sweep`.
      tolerance: the error of `r2` that may be estimated for solving in a subspace where K is far
        below D, for several times the speed; 0: never. With features, as in `sweep`.
      out: a folder, in which `compare.nc` is written. Finished families are kept in it until then:
        a comparison that was interrupted goes on after them.
      **reading: see `reconjax.studies.Reading`.

    Returns:
      A dataset over `point` (a family at a strength: its coordinates `family` and `noise` say
      which), `latent_dim` and `fold` (of the test split): `r2`, `held_out`, `agreement`, `error`;
      `gain` in `held_out` over no noise with `gain_standard_error` and `p_value`; `position` in the
      ranking at that K, from 1 on, and 0 for strengths that were not chosen; and of no noise
      `r2_without`, `held_out_without`, `agreement_without` and `chance`. `ranking` lists it.

    Raises:
      ValueError: an option out of range; data without labels, or with too few samples to hold some
        out; several processes.
      FileNotFoundError: no data has that name.

    Example:
      >>> result = reconjax.studies.compare("digits", families=["mask"], latent_dims=[4])
      >>> best = reconjax.studies.ranking(result)[0]
      >>> best.family, best.gain > 0
      ('mask 1x1', False)
    """
    if jax.process_count() > 1:
        raise ValueError(f"processes: {jax.process_count()}; compare runs in one process")
    if not 0 <= tolerance < 1:
        raise ValueError(f"tolerance: {tolerance}; it must be in [0, 1)")
    if latent_dims is not None and max_latent_dim is not None:
        raise ValueError("max_latent_dim: given with latent_dims; choose one")
    source = Source(data, **reading)
    source.leave_out_unlabeled()
    split = with_test_split(source)
    shape = source.train.example_shape
    check_names(families or (), shape)
    for latent_dim in (*(latent_dims or ()), 1 if max_latent_dim is None else max_latent_dim):
        check_latent_dim(latent_dim, source.features)  # the rank is known later
    wanted = predicted(source, target, objective, None)
    if features is None:
        check_unused("inputs as they are", ridge=ridge, draws=draws)
    needed = DENSE_MATRICES * 8 * source.features**2
    by_samples = features is None and source.by_samples and needed > source.memory()
    if features is None and not by_samples:
        source.check_memory(needed, "a comparison")
    folder = None if out is None else output_folder(out)
    facts: Moments | Spectrum
    held_out, samples, lifted = None, None, None
    if features is not None:
        lifted_points.check_one_task(source)
        size = features_size(source, features)
        dims = _latent_dims(latent_dims, max_latent_dim, min(source.features, size))
        ridges = None if ridge is None else [ridge]
        posing: dict[str, Any] = {
            "readout": "clean",
            "precision": "mixed",
            "tolerance": tolerance,
            "draws": draws,
        }
        lifted = posed(source, features, ridges, [[]], [np.inf], dims, wanted, **posing)
        facts = lifted.lift.moments
    elif by_samples:
        samples = sample_side(source, 1, clean=True)
        facts = principal = samples.spectrum
    else:
        facts = source.moments()
        held_out, principal = source.held_out(facts), spectrum(facts)
    if source.test is None or not source.test_folds:
        raise ValueError(f"{source.name}: the test split needs two samples of two classes at least")
    tried = suitable_families(shape, facts, families)
    if not tried:
        raise ValueError("families: none; at least one is needed")
    if lifted is None:
        rank = int(principal.rank)
        dims = _latent_dims(latent_dims, max_latent_dim, rank)
        for latent_dim in dims:
            check_latent_dim(latent_dim, rank)
    learned = names_of_target(target, objective)
    settings = {"families": families, "latent_dims": dims, "tolerance": tolerance, **learned}
    if lifted is not None and features is not None:
        settings |= settings_of(lifted, features)
    rays = with_a_form(source, tried, families is not None) if by_samples else []
    parts = None
    if folder is not None:
        texts = [family.texts for family in tried]
        known: dict[str, Any] = {"data": fingerprint(facts if samples is None else samples)}
        if held_out is not None:
            known["test split"] = fingerprint(held_out)
        if lifted is not None:
            known = fingerprints(lifted)
        parts = Parts(folder, {**settings, **known, "families": texts})
    if lifted is not None:
        solved = lifted_points.compared(source, lifted, tried, parts, _name)
        rank = solved.rank
    elif samples is not None:
        solved = compared(source, samples, rays, dims, wanted, parts, _name)
    else:
        assert isinstance(facts, Moments)
        assert held_out is not None
        given = source, facts, held_out, principal, tried, dims, tolerance, wanted, parts
        solved = _solved(*given)
    if lifted is None:
        chance = chance_curves(facts, rank, solved.latent_dim, source.rows(facts))[1]
        solved = solved._replace(chance=chance)
    result = labeled(
        "compare",
        source,
        comparison_variables(solved),
        {"latent_dim": solved.latent_dim},
        {
            "samples": int(facts.samples),
            "features": facts.features,
            "side": "samples" if by_samples else "features",
            "rank": rank,
            "held_out_samples": len(source.test),
            "held_out_split": split,
            "folds": solved.agreement.shape[-1],
            "noises": len(solved.noise),
            **learned,
            **({} if lifted is None else lifted_points.about(lifted, settings)),
        },
        settings,
    )
    result = result.assign_coords(
        family=("point", np.asarray(solved.family)), noise=("point", np.asarray(solved.noise))
    )
    result["chance"].attrs["long_name"] = "r2 of permuted labels"
    if folder is not None and parts is not None:
        save(result, folder / "compare.nc")
        parts.clear()
    return result


def ranking(result: xarray.Dataset) -> list[Place]:
    """The families at their chosen strengths, for each K the one that gains most first.

    Args:
      result: of `compare`, or of `objectives`.

    Returns:
      Rows with `latent_dim`, `family`, `noise`, `r2`, `held_out`, `gain`, `standard_error` and
      `p_value`.

    Raises:
      ValueError: the result of another study.

    Example:
      >>> result = reconjax.studies.compare("digits", families=["flip:0.5"], latent_dims=[4])
      >>> [(place.family, place.latent_dim) for place in reconjax.studies.ranking(result)]
      [('flip:0.5', 4)]
    """
    if result.attrs.get("study") not in ("compare", "objectives"):
        raise ValueError(f"result: of {result.attrs.get('study')}; one of compare is needed")
    places = []
    for latent_dim in result.latent_dim.values.tolist():
        at = result.sel(latent_dim=latent_dim)
        chosen = at.isel(point=at.position.values > 0).sortby("position")
        for index in range(chosen.sizes["point"]):
            row = chosen.isel(point=index)
            places.append(
                Place(
                    latent_dim,
                    str(row.family.item()),
                    str(row.noise.item()),
                    float(row.r2),
                    float(row.held_out),
                    float(row.gain),
                    float(row.gain_standard_error),
                    float(row.p_value),
                )
            )
    return places


def with_test_split(source: Source) -> str:
    """The held-out samples: "the test split", or "a fifth, held out" (up to half)."""
    data = source.dataset
    if data is None:
        raise ValueError("data: moments; a data set is needed, some samples of it held out")
    if data.test is not None:
        return "the test split"
    groups = strata(data.train.labels)
    # The part that is held out needs two folds, each with two classes.
    parts = next((count for count in PARTS if most_folds(groups) >= 2 * count), None)
    if parts is None:
        raise ValueError(
            f"{data.name}: no test split, and too few samples to hold some out: two classes of"
            f" at least {2 * min(PARTS)} are needed"
        )
    part = stratified(groups, parts, seed=source.seed)
    source.dataset = dataclasses.replace(
        data,
        train=data.train.subset(np.flatnonzero(part != 0)),
        test=data.train.subset(np.flatnonzero(part == 0)),
    )
    return f"{PARTS[parts]}, held out"


def _latent_dims(
    latent_dims: Sequence[int] | None, max_latent_dim: int | None, rank: int
) -> list[int]:
    """Those that are given, or powers of 4 up to the largest and below the rank."""
    if latent_dims is not None:
        return sorted({int(latent_dim) for latent_dim in latent_dims})
    largest = int(max_latent_dim or LARGEST)
    powers = [STEP**i for i in range(1, 12) if STEP**i <= min(largest, rank - 1)]
    return powers or [min(largest, rank)]


def _solved(
    source: Source,
    training: Moments,
    held_out: HeldOut,
    principal: Spectrum,
    families: Sequence[Family],
    dims: list[int],
    tolerance: float,
    target: Target | None,
    parts: Parts | None,
) -> Comparison:
    """All families, each kept as soon as it is finished."""
    kept = [None if parts is None else parts.load(_name(i)) for i in range(len(families))]
    count = sum(part is not None for part in kept)
    if count and source.reading.get("progress", True):
        print(f"going on: {count} of {len(families)} families are finished", file=sys.stderr)
    comparisons = []
    with source.progress("noises", sum(len(family.noises) for family in families)) as advance:
        for index, (family, arrays) in enumerate(zip(families, kept, strict=True)):
            if arrays is None:
                solved = comparison.compare(
                    training,
                    held_out,
                    [family],
                    np.asarray(dims),
                    target=target,
                    tolerance=tolerance,
                    principal=principal,
                    tasks=source.tasks,
                )
                if parts is not None:
                    parts.save(_name(index), _arrays(solved))
            else:
                names = (family.name,) * len(family.texts)
                solved = Comparison(family=names, noise=family.texts, **arrays)  # type: ignore[arg-type]
            comparisons.append(solved)
            advance(len(family.noises))
    return comparison.concatenated(comparisons)


def _name(index: int) -> str:
    return f"family-{index}"


def _arrays(solved: Comparison) -> dict[str, Any]:
    """The arrays of a comparison of one family; its names are known without them."""
    fields = solved._asdict()
    kept = [n for n, value in fields.items() if value is not None and n not in ("family", "noise")]
    return {name: np.asarray(fields[name]) for name in kept}


def comparison_variables(solved: Comparison) -> dict[str, tuple[list[str], Any]]:
    """What is known of every point, as variables of a result; by task where there are several."""
    grid, curve, fold = ["point", "latent_dim"], ["latent_dim"], ["fold"]
    variables = {
        **_judged(solved),
        "agreement": (grid + fold, solved.agreement),
        "error": (grid, solved.error),
        "agreement_without": (curve + fold, solved.agreement_without),
        "chance": (curve, solved.chance),
    }
    each = [_judged(solved.of_task(task)) for task in range(solved.tasks)]
    for name, (dims, _) in each[0].items() if each else ():
        values = np.stack([of_task[name][1] for of_task in each], axis=-1)
        variables[_by_task(name)] = ([*dims, "task"], values)
    return variables


def _by_task(name: str) -> str:
    """What a variable of a result is called for each of several tasks."""
    for known in ("r2", "held_out", "gain", "p_value", "position"):
        if name.startswith(known):
            return f"{known}_by_task{name.removeprefix(known)}"
    raise ValueError(f"{name}: not known by task")


def _judged(solved: Comparison) -> dict[str, tuple[list[str], Any]]:
    """What every point explains, what it gains, how sure that is, and its place."""
    grid, curve = ["point", "latent_dim"], ["latent_dim"]
    gained, best = gains(solved), best_strengths(solved)
    position = np.zeros(solved.r2.shape, np.int32)
    for column, points in enumerate(best.T):
        order = np.argsort(-gained.gain[points, column], kind="stable")
        position[points[order], column] = np.arange(1, len(points) + 1)
    return {
        "r2": (grid, solved.r2),
        "held_out": (grid, solved.held_out),
        "gain": (grid, gained.gain),
        "gain_standard_error": (grid, gained.standard_error),
        "p_value": (grid, gained.p_value),
        "position": (grid, position),
        "r2_without": (curve, solved.r2_without),
        "held_out_without": (curve, solved.held_out_without),
    }
