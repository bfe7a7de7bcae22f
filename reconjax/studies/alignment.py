"""How misaligned reconstruction is with a task (Theorem 1, Eq. 7), for every K."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import xarray

from reconjax.data import Dataset
from reconjax.grid.sweep import sweep
from reconjax.linalg.precision import in_float64
from reconjax.noise import identity
from reconjax.storage.files import output_folder
from reconjax.studies.labeled import labeled, save
from reconjax.studies.limits import check_whole
from reconjax.studies.reading import Reading
from reconjax.studies.sample_side import held_out_of, principal_side
from reconjax.studies.source import Source
from reconjax.summary import hosts
from reconjax.summary.moments import Moments
from reconjax.theory.alignment import alignment, of_targets, r2_by_target
from reconjax.theory.chance import chance_curves
from reconjax.theory.held_out import held_out_r2
from reconjax.theory.spectrum import Spectrum, spectrum

# Up to so many features, the spectra of all folds take a few seconds.
CHEAP = 1024
# The fields of `Alignment`, by what they are called in a result.
CURVES = (
    "alignment",
    "chance",
    "r2",
    "r2_chance",
    "supervised_loss",
    "reconstruction_loss",
    "eigenvalues",
    "error",
)
# Those of them that a sweep has too.
OF_SWEEP = ("alignment", "r2", "supervised_loss", "reconstruction_loss", "error")
# Of more targets than this, nobody reads the curve of each.
TARGETS = 100
BOOTSTRAPPED = ("alignment", "r2")


@in_float64
def align(
    data: str | Dataset | Moments = "digits",
    *,
    convention: str = "eq7",
    bootstrap: int | None = None,
    out: str | os.PathLike[str] | None = None,
    **reading: Unpack[Reading],
) -> xarray.Dataset:
    """How far reconstruction without noise is aligned with the labels, at every latent size K.

    Args:
      data: a name, as for `reconjax.data.load`; a data set; or moments.
      convention: Eq. 7's ("eq7"), its loss form ("loss"), Sec. 5.8's normalizer ("sec58"), or that
        of the authors' plots ("reference").
      bootstrap: number of class-stratified folds for standard errors (7, 11, 19, 23, 31, ...), 0
        for none; by default 19 for up to 1024 features.
      out: a folder, in which `align.nc` is written.
      **reading: see `reconjax.studies.Reading`.

    Returns:
      A dataset over `latent_dim` (1 .. D): `alignment`, `chance`, `r2`, `r2_chance`,
      `supervised_loss`, `reconstruction_loss`, `eigenvalues`, `error`; where there are folds,
      `alignment_standard_error`, `alignment_corrected`, `r2_standard_error`, `r2_corrected`; where
      there is a test split, `held_out`. For 2 to 100 targets or classes, over `target` too,
      `r2_by_target`: which of them reconstruction is misaligned with. For several tasks, over
      `task`: `alignment_by_task`, `r2_by_task`, `held_out_by_task` and standard errors; chance is
      the same for all, and r2 the mean over tasks. Its attributes say how many
      samples, features and classes there are, and the rank.

    Raises:
      ValueError: an option out of range, or data without labels.
      FileNotFoundError: no data has that name.

    Example:
      >>> curves = reconjax.studies.align("digits", bootstrap=0)
      >>> round(float(curves.r2.sel(latent_dim=16)), 3)
      0.58
    """
    folder = output_folder(out) if out is not None and hosts.first() else None
    source = Source(data, **reading)
    errors: dict[str, Any] = {}
    folds = 0
    check_whole("bootstrap", bootstrap)
    if source.unlabeled:
        return _of_few_labels(source, convention, bootstrap, folder)
    if source.by_samples:
        if bootstrap:
            raise ValueError(
                f"bootstrap: {bootstrap}; with fewer samples than features 0 alone is allowed"
            )
        samples = principal_side(source)
        principal = samples.spectrum
        errors |= held_out_of(samples, source.tasks)
    else:
        moments, parts = source.folded_moments(bootstrap, CHEAP)
        principal = spectrum(moments)
        if parts is not None:
            tasks = source.tasks
            estimates = source.bootstrap(parts, lambda part: _bootstrapped(part, convention, tasks))
            for name, estimate in estimates.items():
                folds = estimate.folds
                errors[f"{name}_standard_error"] = estimate.standard_error
                errors[f"{name}_corrected"] = estimate.corrected
        test = source.held_out(moments)
        if test is not None:
            errors["held_out"] = held_out_r2(principal, test)
            if source.tasks:
                errors["held_out_by_task"] = held_out_r2(principal, test, source.tasks).T
    curve = alignment(principal, convention=convention, rows=source.rows(principal))
    curves = {name: getattr(curve, name) for name in CURVES}
    if source.tasks:
        curves |= _by_task(principal, convention, source.tasks)
    variables = _with_axes({**curves, **errors})
    if 1 < source.num_targets <= TARGETS:
        variables["r2_by_target"] = (["target", "latent_dim"], r2_by_target(principal))
    result = labeled(
        "align",
        source,
        variables,
        {"latent_dim": np.asarray(curve.latent_dim)},
        {
            "samples": int(principal.samples),
            "features": principal.features,
            "rank": int(principal.rank),
            "test_samples": len(source.test) if source.test is not None else 0,
            "convention": convention,
            "precision": str(principal.eigenvalues.dtype),
            "error": float(np.max(curve.error)),
            "folds": folds,
        },
        {"convention": convention, "bootstrap": bootstrap},
    )
    if folder is not None:
        save(result, folder / "align.nc")
    return result


def _by_task(principal: Spectrum, convention: str, tasks: Sequence[int]) -> dict[str, np.ndarray]:
    """(T, D) alignment and r2 of each task alone."""
    each = [
        alignment(
            of_targets(principal, np.flatnonzero(np.asarray(tasks) == task)), convention=convention
        )
        for task in range(max(tasks) + 1)
    ]
    return {
        f"{name}_by_task": np.stack([np.asarray(getattr(curve, name)) for curve in each])
        for name in BOOTSTRAPPED
    }


def _with_axes(curves: Mapping[str, Any]) -> dict[str, Any]:
    """Curves with the names of their axes: `latent_dim`, or `task` too."""
    return {
        name: (["task", "latent_dim"] if np.ndim(values) == 2 else ["latent_dim"], values)
        for name, values in curves.items()
    }


def _of_few_labels(
    source: Source, convention: str, bootstrap: int | None, folder: Path | None
) -> xarray.Dataset:
    """Principal directions of all examples, read out by those with a label."""
    for name, value, allowed in (
        ("convention", convention, "eq7"),
        ("bootstrap", bootstrap or 0, 0),
    ):
        if value != allowed:
            why = "is needed where examples have no label"
            raise ValueError(f"{name}: {value!r}; {allowed!r} {why}")
    labeled_ones = source.moments()
    encoder, test = source.encoder(labeled_ones), source.held_out(labeled_ones)
    assert encoder is not None
    found = sweep(labeled_ones, [[identity()]], encoder=encoder, held_out=test, tasks=source.tasks)
    rank = int(found.rank)
    dims = np.asarray(found.latent_dim)
    chance, r2_chance = chance_curves(labeled_ones, rank, dims)
    curves = {name: np.asarray(getattr(found, name))[0, 0, 0] for name in OF_SWEEP}
    if test is not None:
        assert found.held_out is not None
        curves["held_out"] = np.asarray(found.held_out)[0, 0, 0]
    for name in ("r2_by_task", "held_out_by_task"):
        if (of_tasks := getattr(found, name)) is not None:
            curves[name] = np.asarray(of_tasks)[0, 0, 0].T
    curves |= {"chance": chance, "r2_chance": r2_chance}
    curves["eigenvalues"] = np.asarray(spectrum(encoder).eigenvalues)
    result = labeled(
        "align",
        source,
        _with_axes(curves),
        {"latent_dim": dims},
        {
            "samples": int(labeled_ones.samples),
            "features": labeled_ones.features,
            "rank": rank,
            "test_samples": len(source.test) if source.test is not None else 0,
            "convention": convention,
            "precision": str(curves["r2"].dtype),
            "error": float(np.max(found.error)),
            "folds": 0,
        },
        {"convention": convention, "bootstrap": 0},
    )
    if folder is not None:
        save(result, folder / "align.nc")
    return result


def _bootstrapped(moments: Moments, convention: str, tasks: Sequence[int] | None) -> dict[str, Any]:
    principal = spectrum(moments)
    curve = alignment(principal, convention=convention, with_chance=False)
    curves = {name: getattr(curve, name) for name in BOOTSTRAPPED}
    return curves if tasks is None else curves | _by_task(principal, convention, tasks)
