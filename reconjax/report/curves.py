"""The numbers of the figures, as tables: columns of equal length, in the words of a reader."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import xarray

from reconjax.evidence.bootstrap import interval_reach
from reconjax.report.gathering import Results
from reconjax.report.words import NO_NOISE, noise_words
from reconjax.studies.families import ranking

# Classes of which the page shows bars at most: the best and the worst read ones.
BARS = 20
DIGITS = 6  # of a number in a table

Table = dict[str, list[Any]]


class Sweep(NamedTuple):
    """The grid of masks at λ = inf, over (patch, ratio, latent_dim).

    Attributes:
      kind: "mask", "exact" or "pixel".
      patches: texts; one, "single values", where there are no patches.
      ratios: the shares that are dropped.
      training: gain of r2 over no mask on the training split.
      held_out: the same on the test split, or None.
      p_value: of that gain, for having searched the grid, or None.
      r2_without: (latent_dim), on the training split.
      held_out_without: on the test split, or None.
      overfits: whether r2 on the training split tells little, so that the test split chooses.
    """

    kind: str
    patches: list[str]
    ratios: list[float]
    training: np.ndarray
    held_out: np.ndarray | None
    p_value: np.ndarray | None
    r2_without: np.ndarray
    held_out_without: np.ndarray | None
    overfits: bool

    def best(self, place: int) -> tuple[int, int]:
        """(patch, ratio) of the mask that was chosen at a K."""
        by = self.held_out if self.overfits and self.held_out is not None else self.training
        patch, ratio = np.unravel_index(np.argmax(by[:, :, place]), by.shape[:2])
        return int(patch), int(ratio)

    def sound(self, dims: Sequence[int]) -> set[int]:
        """The K at which a head without a mask does not fail on new samples; all, if none."""
        if self.held_out_without is None:
            return set(dims)
        return {k for k, r2 in zip(dims, self.held_out_without, strict=True) if r2 > 0} or set(dims)

    def text(self, patch: int, ratio: int, shape: Sequence[int]) -> str:
        """A mask of the grid as `reconjax.noise.parse_noise` reads it, for (H, W, C) images."""
        if self.kind == "pixel":
            return f"pixel:{self.ratios[ratio]:g}"
        height, width = map(int, self.patches[patch].split("x"))
        cut = ":partial" if shape[0] % height or shape[1] % width else ""
        return f"{self.kind}:{self.ratios[ratio]:g}:{height}x{width}{cut}"

    def noise(self, patch: int, ratio: int) -> str:
        """A mask of the grid in words."""
        if not self.ratios[ratio]:
            return NO_NOISE
        size = "" if self.kind == "pixel" else f":{self.patches[patch]}"
        return noise_words(f"{self.kind}:{self.ratios[ratio]:g}{size}")


def of_sweep(results: Results, dims: Sequence[int]) -> Sweep:
    """The grid at some K."""
    result = results.studies["sweep"]
    at = result.sel(weight=np.inf, latent_dim=list(dims))
    masks = "patch" in result.dims

    def grid(name: str) -> np.ndarray:
        values = at[name].transpose(*["patch"] * masks, "ratio", "latent_dim").values
        return np.asarray(values if masks else values[None], np.float64)

    tested = "held_out" in result
    without = at.held_out_without.values if tested else None
    return Sweep(
        str(result.attrs["noise"]),
        at.patch.values.tolist() if masks else ["single values"],
        at.ratio.values.tolist(),
        grid("gain"),
        grid("held_out") - without if tested else None,
        grid("p_value") if tested else None,
        at.r2_without.values,
        without,
        tested and result.attrs["samples"] <= result.attrs["features"],
    )


def alignment_table(results: Results, dims: Sequence[int]) -> Table:
    """Alignment and chance."""
    result = results.studies["align"].sel(latent_dim=list(dims))
    table = _line(dims, "alignment", result.alignment, _band(result, "alignment"))
    return joined(table, _line(dims, "random labels", result.chance))


def explained_table(results: Results, dims: Sequence[int]) -> Table:
    """The share of label variance that a linear head explains, for reconstruction without noise."""
    result = results.studies["align"].sel(latent_dim=list(dims))
    table = _line(dims, "training samples", result.r2, _band(result, "r2"))
    if (tested := held_out(results, dims)) is not None:
        table = joined(table, _line(dims, "test samples", tested))
    return joined(table, _line(dims, "random labels", result.r2_chance))


def held_out(results: Results, dims: Sequence[int]) -> np.ndarray | None:
    """Held-out r2 without noise; on the sample side, the sweep alone knows it."""
    result = results.studies["align"]
    if "held_out" in result:
        return np.asarray(result.held_out.sel(latent_dim=list(dims)).values)
    return of_sweep(results, dims).held_out_without


def classes_table(results: Results, dims: Sequence[int]) -> Table:
    """What is read of each class at each K, and at most; the best and the worst of many."""
    curves = results.studies["align"].r2_by_target
    order = curves.sum("latent_dim").argsort().values[::-1]
    if len(order) > BARS:
        order = np.concatenate([order[: BARS // 2], order[-(BARS // 2) :]])
    tables: list[Table] = []
    for index in order.tolist():
        curve = curves.isel(target=index)
        at = curve.sel(latent_dim=list(dims)).values
        tables.append(
            {
                "K": list(dims),
                "class": [str(curve.target.item())] * len(dims),
                "share": rounded(at),
                "all directions": rounded(np.full(len(dims), curve.values[-1])),
            }
        )
    return joined(*tables)


def map_table(sweep: Sweep, dims: Sequence[int]) -> Table:
    """Every mask of the grid at every K; no mask is what they are compared with."""
    tables = []
    for patch, size in enumerate(sweep.patches):
        for ratio, share in enumerate(sweep.ratios):
            if share == 0:
                continue
            table: Table = {
                "K": list(dims),
                "patch": [size] * len(dims),
                "ratio": [share] * len(dims),
                "training gain": rounded(sweep.training[patch, ratio]),
            }
            if sweep.held_out is not None and sweep.p_value is not None:
                table["test gain"] = rounded(sweep.held_out[patch, ratio])
                table["p"] = rounded(sweep.p_value[patch, ratio])
            best = [sweep.best(place) == (patch, ratio) for place in range(len(dims))]
            tables.append({**table, "chosen": [int(chosen) for chosen in best]})
    return joined(*tables)


def objectives_table(results: Results) -> Table:
    """Held-out r2 of every objective at its chosen noise, and of none."""
    result = results.studies["objectives"]
    dims = result.latent_dim.values.tolist()
    reach = interval_reach(int(result.attrs["folds"]))
    without = result.held_out_without.values
    nothing: Table = {"choice": [NO_NOISE] * len(dims), "p": [None] * len(dims)}
    tables: list[Table] = [{**_line(dims, "reconstruction, no noise", without), **nothing}]
    places = ranking(result)
    for family in dict.fromkeys(result.family.values.tolist()):
        mine = sorted((p for p in places if p.family == family), key=lambda p: p.latent_dim)
        center = without + [place.gain for place in mine]
        error = reach * np.array([place.standard_error for place in mine])
        line = _line(dims, family, center, (center - error, center + error))
        choice = [noise_words(place.noise) for place in mine]
        tables.append({**line, "choice": choice, "p": rounded([p.p_value for p in mine])})
    return joined(*tables)


def certificates_table(result: xarray.Dataset) -> Table:
    """The largest change of r2, for any label, by noise and K."""
    dims = result.latent_dim.values.tolist()
    lines = [
        _line(dims, noise_words(str(row.noise.item())), row.largest_change)
        for row in (result.isel(noise=index) for index in range(result.sizes["noise"]))
    ]
    return joined(*lines)


def finalists_table(result: xarray.Dataset) -> Table:
    """What the closed form said of the masks that were trained, and what was measured, by round."""
    rows = []
    for number, epochs in enumerate(result.epochs.values.tolist()):
        for noise in result.noise.values.tolist():
            at = result.sel(noise=noise, round=number)
            if bool(at.r2.notnull()):
                numbers = float(at.predicted), float(at.r2), float(at.accuracy)
                rows.append([noise_words(noise), int(epochs), *rounded(numbers)])
    names = ("mask", "epochs", "closed form", "trained", "accuracy")
    return {name: [row[place] for row in rows] for place, name in enumerate(names)}


def joined(*tables: Table) -> Table:
    """Tables below each other."""
    return {name: [value for table in tables for value in table[name]] for name in tables[0]}


def rounded(values: Any) -> list[float | None]:
    """Numbers as a page has room for them; None for none."""
    return [
        round(value, DIGITS) if np.isfinite(value) else None
        for value in np.asarray(values, np.float64).tolist()
    ]


def _line(
    dims: Sequence[int], name: str, values: Any, band: tuple[Any, Any] | None = None
) -> Table:
    """One line of a figure over K, with the ends of its 90 % intervals where they are known."""
    nothing: list[float | None] = [None] * len(dims)
    low, high = (nothing, nothing) if band is None else map(rounded, band)
    return {
        "K": list(dims),
        "line": [name] * len(dims),
        "share": rounded(values),
        "low": low,
        "high": high,
    }


def _band(result: xarray.Dataset, name: str) -> tuple[Any, Any] | None:
    if f"{name}_standard_error" not in result:
        return None
    reach = interval_reach(int(result.attrs["folds"]))
    center, error = result[f"{name}_corrected"], result[f"{name}_standard_error"]
    return center - reach * error, center + reach * error
