"""Families of noises compared by samples, where no (D, D) matrix fits."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from reconjax.evidence import comparison
from reconjax.evidence.comparison import Comparison
from reconjax.grid.columns import alone
from reconjax.grid.points import grid_points
from reconjax.grid.sample_side import sweep_samples_targets
from reconjax.grid.stored_samples import Samples
from reconjax.grid.sweep import Sweep
from reconjax.noise import Noise, identity
from reconjax.noise.families import Family
from reconjax.storage.parts import Parts
from reconjax.studies.progress import say
from reconjax.studies.source import Source
from reconjax.theory.targets import Target

FIELDS = ("r2", "held_out", "agreement", "error")
BY_TASK = ("r2_by_task", "held_out_by_task", "agreement_by_task")


def with_a_form(
    source: Source, tried: Sequence[Family], named: bool
) -> list[tuple[Family, list[list[Noise]]]]:
    """The families that have a form by samples, and the rays of each.

    Args:
      source: the data.
      tried: all families.
      named: whether the user has named them: then none is left out.

    Raises:
      ValueError: one line: a named family without such a form, or none has one.
    """
    found, without = [], []
    for family in tried:
        rays = _rays(family.noises, source.features)
        if rays is None:
            without.append(family.name)
        else:
            found.append((family, rays))
    forms = "only masks, pixels, speckle and Gaussian noise have a form"
    what = f"{', '.join(without)} by samples: {forms}"
    if without and (named or not found):
        raise ValueError(f"families: no {what}; --resize makes images that moments fit")
    if without:
        say(f"{source.name}: left out, no {what} (--resize makes images that moments fit)")
    return found


def _rays(noises: Sequence[Noise], features: int) -> list[list[Noise]] | None:
    """The noises by rays: one for all, or one for each; None where there is no form."""
    for rows in ([list(noises)], [[noise] for noise in noises]):
        try:
            for row in rows:
                direction = grid_points([row], features).direction
                alone(type(direction)(*(leaf[0] for leaf in direction)), features)
        except ValueError:
            continue
        return rows
    return None


def compared(
    source: Source,
    data: Samples,
    tried: Sequence[tuple[Family, list[list[Noise]]]],
    dims: Sequence[int],
    target: Target | None,
    parts: Parts | None,
    name: Callable[[int], str],
) -> Comparison:
    """All families, each kept as soon as it is finished; see `evidence.comparison.compare`."""

    def solved(rows: Sequence[Sequence[Noise]], aim: Target | None) -> dict[str, Any]:
        sweeps = [_swept(source, data, row, dims, aim) for row in rows]
        return {
            field: np.concatenate([np.asarray(getattr(one, field))[0, :, 0] for one in sweeps])
            for field in (*FIELDS, *(BY_TASK if source.tasks else ()))
        }

    clean = solved([[identity()]], None)
    shared = {f"{field}_without": clean[field][0] for field in clean if field != "error"}
    found = []
    for index, (family, rows) in enumerate(tried):
        arrays = None if parts is None else parts.load(name(index))
        if arrays is None:
            arrays = solved(rows, target)
            if parts is not None:
                parts.save(name(index), arrays)
        found.append(
            Comparison(
                latent_dim=np.asarray(dims, np.int32),
                family=(family.name,) * len(family.noises),
                noise=family.texts,
                **arrays,
                **shared,
                chance=np.zeros(len(dims)),
                rank=int(data.spectrum.rank),
            )
        )
    return comparison.concatenated(found)


def _swept(
    source: Source, data: Samples, row: Sequence[Noise], dims: Sequence[int], target: Target | None
) -> Sweep:
    with source.progress("features", source.features) as count:
        return sweep_samples_targets(
            data, [row], [target], np.inf, np.asarray(dims), tasks=source.tasks, columns=count
        )[0]
