"""`reconjax sweep`."""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

import reconjax
from reconjax import hosts
from reconjax.commands.inputs import check_memory, dataset, moments
from reconjax.commands.printing import facts, folder, headline, progress, say_files, some_dims
from reconjax.files import replacing
from reconjax.parts import Parts, fingerprint
from reconjax.solver import check_latent_dim
from reconjax.sweep import device_counts, divided

PATCHES = ((1, 1), (2, 2), (4, 4))
RATIOS = (0.0, 0.25, 0.5, 0.75, 0.9, 0.99)
STDS = (0.0, 0.1, 0.25, 0.5, 1.0)
# From so many features on, a grid point takes long enough to be told of one by one. A program that
# tells cannot be kept in the compilation cache.
TOLD = 1024
CURVES = ("explained", "supervised_loss", "reconstruction_loss", "alignment")

Arrays = dict[str, np.ndarray]


def run(options: argparse.Namespace) -> None:
    """Prints the best noise for some K; writes sweep.png and sweep.npz to --out."""
    data = dataset(options)
    grid, axes = _grid(options, data)
    dims = _latent_dims(options, data.features)
    needed = reconjax.sweep_memory(data.features, data.num_classes, options.batch_size)
    check_memory(options, needed, f"a sweep with --batch-size {options.batch_size}")
    mesh = _mesh(options, len(grid), len(grid[0]))
    out = folder(options.out)
    found = moments(options)
    parts = None if out is None else Parts(out, _settings(options, found, axes, dims))
    curves, baseline = _solved(options, parts, found, grid, dims, mesh)
    if not hosts.first():
        return
    arrays = {
        **axes,
        "reconstruction_weight": curves["reconstruction_weight"],
        "latent_dim": curves["latent_dim"],
        **{name: curves[name] for name in CURVES},
        "error": curves["error"],
        "reduced": curves["reduced"],
    }
    rank = int(curves["rank"])
    best = list(_best(arrays, baseline, found.features, rank))
    result = {
        **facts(data, found, rank),
        "noise": options.noise,
        "readout": options.readout,
        "precision": options.precision,
        "error": float(np.max(curves["error"])),
        "reduced": curves["reduced"].tolist(),
        **{name: np.asarray(values).tolist() for name, values in axes.items()},
        "reconstruction_weight": [str(w) if np.isinf(w) else w for w in options.weights],
        "best": best,
    }
    if out is not None and parts is not None:
        _write(options, out, arrays, baseline, data.name)
        parts.clear()
    if options.json:
        print(json.dumps(result))
        return
    print(headline(result))
    error = f"errors of the explained share about {result['error']:.0e}"
    print(f"{options.noise} noise, {options.readout} read-out, {options.precision}: {error}")
    if options.max_latent_dim and options.tolerance:
        count = int(np.sum(curves["reduced"]))
        print(f"solved in a subspace: {count} of {len(grid)} rays; the others in full")
    print(f"{'weight':>7} {'K':>7} {'no noise':>9} {'best':>9} {'gain':>8}  at")
    for row in best:
        print(
            f"{row['reconstruction_weight']!s:>7} {row['latent_dim']:>7}"
            f" {row['explained_without']:>9.4f} {row['explained']:>9.4f}"
            f" {row['gain']:>+8.2%}  {row['at']}"
        )
    print(
        "explained share of the label variance on the training data; gain: relative change."
        "\nThe best of a grid is chosen after the fact: small gains may be chance."
    )
    say_files(out, "sweep.png", "sweep.npz")


def _latent_dims(options: argparse.Namespace, features: int) -> list[int] | None:
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


def _mesh(options: argparse.Namespace, rays: int, strengths: int) -> Mesh | None:
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


def _settings(
    options: argparse.Namespace, found: Any, axes: Arrays, dims: list[int] | None
) -> dict[str, Any]:
    """What a run must have in common with the one that it goes on with."""
    return {
        "data": fingerprint(found),
        "noise": options.noise,
        **{name: np.asarray(values).tolist() for name, values in axes.items()},
        "weights": [str(weight) for weight in options.weights],
        "latent dims": dims,
        "readout": options.readout,
        "precision": options.precision,
        "tolerance": _tolerance(options),
    }


def _tolerance(options: argparse.Namespace) -> float:
    return 0.0 if options.max_latent_dim is None else options.tolerance


def _solved(
    options: argparse.Namespace,
    parts: Parts | None,
    found: Any,
    grid: Any,
    dims: Any,
    mesh: Mesh | None,
) -> tuple[Arrays, np.ndarray]:
    """The fields of `Sweep`, some rays at a time: each is kept as soon as it is finished.

    With them, the (L, Kn) explained share without noise.
    """
    names = [f"ray-{index}" for index in range(len(grid))]
    strengths = [noise.ray().share for noise in grid[0]]
    clean = next((index for index, share in enumerate(strengths) if share == 0), None)
    done: dict[str, Arrays] = {}
    for name in [*names, "no noise"]:
        if parts is not None and (part := parts.load(name)) is not None:
            done[name] = part
    if kept := sum(name in done for name in names):
        print(f"going on: {kept} of {len(grid)} rays are finished", file=sys.stderr)
    finished = _everywhere([name in done for name in [*names, "no noise"]])
    levels = len(options.weights)
    together = 1 if mesh is None else divided(mesh, len(grid), len(grid[0])).shape["ray"]
    with progress("grid points", len(grid) * len(grid[0]) * levels) as bar:

        def solve(rows: Any, mesh: Mesh | None, told: Any) -> Arrays:
            result = reconjax.sweep(
                found,
                rows,
                options.weights,
                dims,
                readout=options.readout,
                precision=options.precision,
                tolerance=_tolerance(options),
                batch_size=options.batch_size,
                mesh=mesh,
                progress=told,
            )
            return {name: np.asarray(values) for name, values in result._asdict().items()}

        for begin in range(0, len(grid), together):
            chunk = range(begin, begin + together)
            if all(finished[index] for index in chunk):
                bar(together * len(grid[0]) * levels)
                continue
            told = bar if found.features >= TOLD else None
            result = solve([grid[index] for index in chunk], mesh, told)
            if told is None:
                bar(together * len(grid[0]) * levels)
            for row, index in enumerate(chunk):
                done[names[index]] = _ray(result, row)
                if parts:
                    parts.save(names[index], done[names[index]])
        if clean is None and not finished[-1]:
            done["no noise"] = solve([[reconjax.identity()]], None, None)
            if parts:
                parts.save("no noise", done["no noise"])
    if not hosts.first():
        return {}, np.zeros(())
    curves = {
        name: np.concatenate([done[ray][name] for ray in names]) if values.ndim > 1 else values
        for name, values in done[names[0]].items()
    }
    curves["reduced"] = np.concatenate([done[ray]["reduced"] for ray in names])
    curves["rank"] = np.max([done[ray]["rank"] for ray in names])
    without = curves["explained"][0, clean] if clean is not None else None
    return curves, done["no noise"]["explained"][0, 0] if without is None else without


def _ray(result: Arrays, row: int) -> Arrays:
    """The fields of `Sweep` of one row of its grid."""
    per_ray = (*CURVES, "error", "reduced")
    return {
        name: values[row : row + 1] if name in per_ray else values
        for name, values in result.items()
    }


def _everywhere(flags: list[bool]) -> list[bool]:
    """The flags of the first process, which alone has read its folder, on all."""
    if jax.process_count() == 1:
        return flags
    from jax.experimental.multihost_utils import broadcast_one_to_all

    return [bool(flag) for flag in broadcast_one_to_all(np.array(flags))]


def _write(
    options: argparse.Namespace, out: Path, arrays: Arrays, baseline: np.ndarray, name: str
) -> None:
    from reconjax.plots import save, sweep_figure

    with replacing(out / "sweep.npz") as part:
        np.savez(part, allow_pickle=False, **arrays)
    weights = arrays["reconstruction_weight"]
    figure = sweep_figure(
        arrays["latent_dim"],
        arrays["explained"],
        baseline,
        quantity="explained share",
        rows=_row_names(options, arrays),
        lines=[f"{value:g}" for value in arrays[_strength(options)]],
        columns=[f"λ = {weight:g}" for weight in weights] if len(weights) > 1 else [""],
        title=f"{name}: {options.noise} noise against none",
        strength=_strength(options).replace("_", " "),
    )
    save(figure, out / "sweep.png")


def _grid(options: argparse.Namespace, data: Any) -> tuple[Any, Arrays]:
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
    sizes = options.patches or PATCHES
    grid = reconjax.mask_grid(
        data.image_shape,
        sizes,
        ratios,
        exact=options.noise == "exact",
        partial=options.partial,
    )
    return grid, {"patch_shape": np.asarray(sizes), **axes}


def _strength(options: argparse.Namespace) -> str:
    return "noise_std" if options.noise == "gaussian" else "mask_ratio"


def _row_names(options: argparse.Namespace, axes: Arrays) -> list[str]:
    if "patch_shape" not in axes:
        return [f"{options.noise} noise"]
    return [f"patch {height}x{width}" for height, width in axes["patch_shape"]]


def _best(
    arrays: Arrays, baseline: np.ndarray, features: int, rank: int
) -> Iterator[dict[str, Any]]:
    """For each λ and some K, the noise with the largest explained share, and its gain over none."""
    dims = arrays["latent_dim"]
    wanted = some_dims(features, rank) if len(dims) > 12 else list(dims)
    strength = "noise_std" if "noise_std" in arrays else "mask_ratio"
    for w, weight in enumerate(arrays["reconstruction_weight"].tolist()):
        for k in wanted:
            column = int(np.flatnonzero(dims == k)[0])
            explained = arrays["explained"][:, :, w, column]
            p, r = np.unravel_index(int(np.argmax(explained)), explained.shape)
            value, without = float(explained[p, r]), float(baseline[w, column])
            where: dict[str, Any] = {strength: float(arrays[strength][r])}
            text = f"{strength.split('_')[1]} {where[strength]:g}"
            if "patch_shape" in arrays:
                where["patch_shape"] = arrays["patch_shape"][p].tolist()
                text = "patch {}x{}, ".format(*where["patch_shape"]) + text
            if abs(value / without - 1) < 1e-6:
                text = "no noise is as good"
            yield {
                "reconstruction_weight": str(weight) if np.isinf(weight) else weight,
                "latent_dim": int(k),
                **where,
                "explained": value,
                "explained_without": without,
                "gain": value / without - 1,
                "at": text,
            }
