"""Reconstruct or embed, pixels or another target: each at its best noise, on held-out samples."""

import math
import os
from collections.abc import Sequence
from typing import Any, Unpack

import numpy as np
import xarray

from reconjax.data import Dataset
from reconjax.evidence.comparison import Comparison
from reconjax.storage.files import output_folder
from reconjax.studies.axes import Patch
from reconjax.studies.families import comparison_variables, with_test_split
from reconjax.studies.labeled import labeled, save
from reconjax.studies.sample_side import Side
from reconjax.studies.source import Reading, Source
from reconjax.studies.sweeps import sweep
from reconjax.theory.checks import check_latent_dim

# What is compared, beside reconstruction without noise.
NOISE = "reconstruction, best noise"
TARGET = "reconstruction, best noise and target"
EMBEDDING = "joint embedding, best noise"
TARGETS = ("whitened:0.5", "whitened:0.75")
# By default, K up to this.
LARGEST = 256
# Options of `Reading` that still apply once a data set is open.
OPENED = ("seed", "class_weight", "standardize", "memory", "progress")


def objectives(
    data: str | Dataset = "digits",
    *,
    noise: str = "mask",
    patches: Sequence[Patch] | None = None,
    ratios: Sequence[float] | None = None,
    stds: Sequence[float] | None = None,
    target: Sequence[str] = TARGETS,
    latent_dims: Sequence[int] | None = None,
    precision: str = "mixed",
    side: Side = "auto",
    out: str | os.PathLike[str] | None = None,
    **reading: Unpack[Reading],
) -> xarray.Dataset:
    """Reconstruction without noise, at its best noise, at its best noise and target, or embedding.

    For every K, noise and target are chosen on the training split, as in `compare`, and what they
    gain over reconstruction without noise (PCA) is measured on the test split, or on a part of the
    samples that is kept apart where there is none.

    Args:
      data: a name, as for `reconjax.data.load`, or a data set.
      noise: as in `sweep`, like `patches`, `ratios` and `stds`.
      patches: see `noise`.
      ratios: see `noise`.
      stds: see `noise`.
      target: what is tried in place of pixels, as in `sweep`.
      latent_dims: K; 1, 2, 4, ... 256 by default, as far as the rank goes.
      precision: as in `sweep`, like `side`.
      side: see `precision`.
      out: a folder, in which `objectives.nc` is written, and each sweep in a folder of its own, so
        that a run that was killed goes on where it stopped.
      **reading: see `reconjax.studies.Reading`.

    Returns:
      A dataset over `point` (every noise of every target and objective; coordinate `family` is what
      it counts among, `noise` what it is called) and `latent_dim`, with the variables of `compare`.

    Raises:
      ValueError: as `sweep`; no target, or no noise but none.

    Example:
      >>> grid = dict(patches=[2], ratios=[0.5], latent_dims=[8], precision="float32")
      >>> result = reconjax.studies.objectives("digits", target=["whitened:0.5"], **grid)
      >>> [place.family for place in reconjax.studies.ranking(result)][0]
      'reconstruction, best noise'
    """
    if not target or "pixels" in target:
        raise ValueError(f"target: {list(target)}; at least one is needed, pixels apart")
    source = Source(data, **reading)
    split = with_test_split(source)
    dataset = source.dataset
    assert dataset is not None
    assert dataset.test is not None
    for latent_dim in latent_dims or ():
        check_latent_dim(latent_dim, source.features)
    folder = None if out is None else output_folder(out)
    most = min(LARGEST, source.features)
    dims = [2**i for i in range(most.bit_length()) if 2**i <= most]
    dims = dims if latent_dims is None else list(latent_dims)
    grid = {"noise": noise, "patches": patches, "ratios": ratios, "stds": stds}
    options: dict[str, Any] = {
        **{name: value for name, value in grid.items() if value is not None},
        **{name: source.reading[name] for name in OPENED if name in source.reading},
        "latent_dims": dims,
        "precision": precision,
        "side": side,
        "bootstrap": 0,
    }

    def swept(name: str, **what: Any) -> xarray.Dataset:
        return sweep(dataset, out=None if folder is None else folder / name, **what, **options)

    plain = swept("pixels")
    others = {text: swept(text.replace(":", "-"), target=text) for text in target}
    embedded = swept("joint-embedding", objective="joint-embedding")
    pixels = _points(plain, NOISE, "")
    anything = [_points(plain, TARGET, "")]
    anything += [_points(result, TARGET, f" {text}") for text, result in others.items()]
    views = _points(embedded, EMBEDDING, "", embedding=True)
    tried = _together(plain, [pixels, *anything, views])
    rank = int(plain.attrs["rank"])
    result = labeled(
        "objectives",
        source,
        comparison_variables(tried),
        {"latent_dim": tried.latent_dim},
        {
            **{name: plain.attrs[name] for name in ("samples", "features", "side")},
            "rank": rank,
            "held_out_samples": len(dataset.test),
            "held_out_split": split,
            "folds": plain.sizes["fold"],
            "noises": len(set(tried.noise)),
        },
        {**grid, "target": list(target), "latent_dims": latent_dims, "precision": precision},
    )
    result = result.assign_coords(
        family=("point", np.asarray(tried.family)), noise=("point", np.asarray(tried.noise))
    )
    result["chance"].attrs["long_name"] = "r2 of permuted labels"
    if folder is not None:
        save(result, folder / "objectives.nc")
    return result


def _points(
    result: xarray.Dataset, family: str, suffix: str, *, embedding: bool = False
) -> dict[str, Any]:
    """The points of a sweep, as a comparison has them; views are of noise, not of none."""
    strength = "std" if "std" in result.dims else "ratio"
    order = [name for name in ("patch", strength) if name in result.dims]
    flat = result.sel(weight=math.inf).stack(point=order, create_index=False)
    if embedding:
        flat = flat.isel(point=np.flatnonzero(flat[strength].values > 0))
        if not flat.sizes["point"]:
            raise ValueError(f"{strength}s: only 0; two views are the same without noise")
    kind = result.attrs["noise"]
    patches = flat["patch"].values if "patch" in order else [""] * flat.sizes["point"]
    strengths = flat[strength].values
    names = [
        f"{kind}:{s:g}{f':{p}' if p else ''}{suffix}"
        for p, s in zip(patches, strengths, strict=True)
    ]
    axes = "point", "latent_dim"
    return {
        "family": (family,) * len(names),
        "noise": names,
        **{name: flat[name].transpose(*axes).values for name in ("r2", "held_out", "error")},
        "agreement": flat["agreement"].transpose(*axes, "fold").values,
    }


def _together(plain: xarray.Dataset, parts: Sequence[dict[str, Any]]) -> Comparison:
    """All points, up to the rank of the data."""
    dims = plain.latent_dim.values
    known = np.flatnonzero(dims <= int(plain.attrs["rank"]))
    without = plain.sel(weight=math.inf)

    def joined(name: str) -> np.ndarray:
        return np.concatenate([part[name] for part in parts])[:, known]

    return Comparison(
        latent_dim=dims[known],
        family=sum((part["family"] for part in parts), ()),
        noise=tuple(name for part in parts for name in part["noise"]),
        r2=joined("r2"),
        held_out=joined("held_out"),
        agreement=joined("agreement"),
        error=joined("error"),
        r2_without=without["r2_without"].values[known],
        held_out_without=without["held_out_without"].values[known],
        agreement_without=without["agreement_without"].values[known],
        chance=without["r2_chance"].values[known],
        rank=int(plain.attrs["rank"]),
    )
