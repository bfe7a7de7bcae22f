"""What the commands do; `reconjax.cli` reads their arguments."""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

import reconjax
from reconjax.data import SOURCES, default_data_dir, load, load_tfds, prepared
from reconjax.files import output_folder, replacing
from reconjax.moments import as_floats
from reconjax.parts import Parts, fingerprint
from reconjax.solver import check_latent_dim

PATCHES = ((1, 1), (2, 2), (4, 4))
RATIOS = (0.0, 0.25, 0.5, 0.75, 0.9, 0.99)
STDS = (0.0, 0.1, 0.25, 0.5, 1.0)


def align(options: argparse.Namespace) -> None:
    """Prints K against alignment, explained share and chance."""
    folder = output_folder(options.out) if options.out else None
    dataset, principal = _spectrum(options)
    curve = reconjax.alignment(principal, convention=options.convention)
    found = {name: np.asarray(values) for name, values in curve._asdict().items()}
    result = {
        **_facts(dataset, principal),
        "convention": options.convention,
        **{
            name: found[name].tolist()
            for name in (
                "latent_dim",
                "alignment",
                "explained",
                "chance",
                "explained_chance",
                "supervised_loss",
                "reconstruction_loss",
                "eigenvalues",
            )
        },
    }
    if folder is not None:
        from reconjax.plots import alignment_figure, save

        save(alignment_figure({dataset.name: curve}), folder / "align.png")
        _write_json(result, folder / "align.json")
    if options.json:
        print(json.dumps(result))
        return
    rank, features = result["rank"], result["features"]
    print(_headline(result))
    print(f"{'K':>7} {'alignment':>10} {'chance':>8} {'explained':>10} {'chance':>8}")
    for k in _some_dims(features, rank):
        row = [
            found[name][k - 1] for name in ("alignment", "chance", "explained", "explained_chance")
        ]
        print("{:>7} {:>10.4f} {:>8.4f} {:>10.4f} {:>8.4f}".format(k, *row))
    print(
        f"explained: share of the label variance that a linear head explains on the {rank}"
        " principal directions\nchance: the same for permuted labels"
    )
    _say_files(folder, "align.png", "align.json")


def sweep(options: argparse.Namespace) -> None:
    """Prints the best noise for some K; writes sweep.png and sweep.npz to --out."""
    folder = output_folder(options.out) if options.out else None
    grid, axes = _checked_grid(options, _load(options))
    dataset, moments = _moments(options)
    curves, parts = _sweep_rows(options, folder, moments, grid, axes)
    # The noise-free column was put in front for the comparison.
    baseline = curves["explained"][0, 0]
    names = ("explained", "supervised_loss", "reconstruction_loss", "alignment")
    arrays = {
        **axes,
        "reconstruction_weight": curves["reconstruction_weight"],
        "latent_dim": curves["latent_dim"],
        **{name: curves[name][:, 1:] for name in names},
    }
    rank = int(curves["rank"])
    best = list(_best(arrays, baseline, moments.features, rank))
    precision = _precision(options)
    result = {
        **_facts(dataset, moments, rank),
        "noise": options.noise,
        "readout": options.readout,
        "precision": precision,
        **{name: np.asarray(values).tolist() for name, values in axes.items()},
        "reconstruction_weight": [str(w) if np.isinf(w) else w for w in options.weights],
        "best": best,
    }
    if folder is not None and parts is not None:
        with replacing(folder / "sweep.npz") as part:
            np.savez(part, allow_pickle=False, **arrays)
        from reconjax.plots import save, sweep_figure

        figure = sweep_figure(
            arrays["latent_dim"],
            arrays["explained"],
            baseline,
            quantity="explained share",
            rows=_row_names(options, axes),
            lines=[f"{value:g}" for value in axes[_strength(options)]],
            columns=[f"λ = {w:g}" for w in options.weights] if len(options.weights) > 1 else [""],
            title=f"{dataset.name}: {options.noise} noise against none",
            strength=_strength(options).replace("_", " "),
        )
        save(figure, folder / "sweep.png")
        parts.clear()
    if options.json:
        print(json.dumps(result))
        return
    print(_headline(result))
    print(f"{options.noise} noise, {options.readout} read-out, {precision}")
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
    _say_files(folder, "sweep.png", "sweep.npz")


def project(options: argparse.Namespace) -> None:
    """Writes project.png: images, their top and their bottom subspace side by side."""
    folder = output_folder(options.out or ".")
    if not 1 <= options.images <= 64:
        raise ValueError(f"--images: {options.images}; 1 .. 64")
    if _load(options).image_shape[2] not in (1, 3):
        raise ValueError(f"{options.data}: images with 1 or 3 channels are needed for a picture")
    dataset, principal = _spectrum(options)
    from reconjax.plots import save, subspace_figure

    shown = (dataset.test or dataset.train).sample(options.images, options.seed)
    raw, labels = shown.examples(np.arange(len(shown)))
    images = np.asarray(as_floats(raw))
    figure, count = subspace_figure(
        principal,
        images,
        options.variance,
        names=[dataset.class_names[label] for label in labels],
        title=f"{dataset.name}: what explains the pixels, and what is left",
    )
    rank = int(principal.rank)
    save(figure, folder / "project.png", dpi=130)
    result = {
        **_facts(dataset, principal),
        "variance": options.variance,
        "top_directions": count,
        "bottom_directions": rank - count,
        "picture": str(folder / "project.png"),
    }
    if options.json:
        print(json.dumps(result))
        return
    print(_headline(result))
    print(
        f"{count} directions explain {options.variance:.0%} of the pixel variance;"
        f" the other {rank - count} the rest"
    )
    _say_files(folder, "project.png")


def datasets(options: argparse.Namespace) -> None:
    """Lists what can be named, and what is prepared under the data directory."""
    folder = options.data_dir or default_data_dir()
    for name in options.download or ():
        load_tfds(name, folder, download=True)
    found = prepared(folder)
    if options.json:
        rows = [{"name": s.name, "version": s.version, "folder": str(s.directory)} for s in found]
        print(json.dumps({"data_dir": str(folder), "prepared": rows}))
        return
    print("DATA can be")
    width = max(len(pattern) for pattern, _ in SOURCES)
    for pattern, text in SOURCES:
        print(f"  {pattern:<{width}}  {text}")
    print(f"prepared under {folder}" + ("" if found else ": nothing"))
    for one in found:
        print(f"  {one.name}:{one.version}")


def _load(options: argparse.Namespace) -> Any:
    """The data set, opened once."""
    if not hasattr(options, "dataset"):
        jax.config.update("jax_enable_x64", True)
        options.dataset = load(options.data, data_dir=options.data_dir)
    return options.dataset


def _split(options: argparse.Namespace) -> Any:
    split = _load(options).train
    if options.max_samples is not None:
        split = split.sample(options.max_samples, options.seed)
    return split


def _spectrum(options: argparse.Namespace) -> tuple[Any, Any]:
    """The data set and the float64 spectrum of its training split, by the smaller of N and D."""
    dataset, split = _load(options), _split(options)
    if len(split) >= dataset.features or options.class_weight or options.standardize:
        return dataset, reconjax.spectrum(_moments(options)[1])
    images, labels = split.examples(np.arange(len(split)))
    return dataset, reconjax.spectrum_from_samples(images, labels, num_classes=dataset.num_classes)


def _moments(options: argparse.Namespace) -> tuple[Any, Any]:
    """The data set and the float64 moments of its training split, in one streaming pass."""
    dataset, split = _load(options), _split(options)
    weight = None
    if options.class_weight == "balanced":
        weight = reconjax.balanced_class_weight(split.labels, dataset.num_classes)
    with _progress("samples", len(split)) as bar:

        def counted() -> Iterator[tuple[Any, Any]]:
            for images, labels in split.batches():
                yield images, labels
                bar(len(labels))

        found = reconjax.moments_from_batches(
            counted(), num_classes=dataset.num_classes, class_weight=weight
        )
    return dataset, reconjax.standardized(found) if options.standardize else found


def _checked_grid(options: argparse.Namespace, dataset: Any) -> tuple[Any, dict[str, np.ndarray]]:
    """`_grid`; raises before the moments are made what `reconjax.sweep` would raise after."""
    for latent_dim in options.latent_dims or ():
        check_latent_dim(latent_dim, dataset.features)
    if options.batch_size < 1:
        raise ValueError(f"batch_size: {options.batch_size}; it must be at least 1")
    return _grid(options, dataset)


def _sweep_rows(
    options: argparse.Namespace, folder: Any, moments: Any, grid: Any, axes: dict[str, np.ndarray]
) -> tuple[dict[str, np.ndarray], Any]:
    """The fields of `Sweep`, ray by ray: each is kept in the folder as soon as it is finished."""
    parts = None
    if folder is not None:
        settings = {
            "data": fingerprint(moments),
            "noise": options.noise,
            **{name: np.asarray(values).tolist() for name, values in axes.items()},
            "weights": [str(weight) for weight in options.weights],
            "latent dims": options.latent_dims,
            "readout": options.readout,
            "precision": _precision(options),
        }
        parts = Parts(folder, settings)
        if kept := sum(parts.load(f"ray-{index}") is not None for index in range(len(grid))):
            print(f"going on: {kept} of {len(grid)} rays are finished", file=sys.stderr)
    rows = []
    with _progress("grid points", len(grid) * len(grid[0]) * len(options.weights)) as bar:
        for index, row in enumerate(grid):
            found = parts.load(f"ray-{index}") if parts else None
            if found is not None:
                bar(len(row) * len(options.weights))
            else:
                result = reconjax.sweep(
                    moments,
                    [row],
                    options.weights,
                    options.latent_dims,
                    readout=options.readout,
                    batch_size=options.batch_size,
                    dtype="float32" if options.float32 else None,
                    progress=bar,
                )
                found = {name: np.asarray(values) for name, values in result._asdict().items()}
                if parts:
                    parts.save(f"ray-{index}", found)
            rows.append(found)
    stacked = {
        name: np.concatenate([row[name] for row in rows]) if rows[0][name].ndim >= 3 else values
        for name, values in rows[0].items()
    }
    return {**stacked, "rank": max(row["rank"] for row in rows)}, parts


def _precision(options: argparse.Namespace) -> str:
    return "float32 grid, float64 spectrum" if options.float32 else "float64"


def _grid(options: argparse.Namespace, dataset: Any) -> tuple[Any, dict[str, np.ndarray]]:
    """(P, 1 + R) noises, the first column without noise, and the axes of the other columns."""
    gaussian, patches = options.noise == "gaussian", options.noise in ("mask", "exact")
    for name, applies in (("stds", gaussian), ("ratios", not gaussian), ("patches", patches)):
        if getattr(options, name) is not None and not applies:
            raise ValueError(f"--{name}: does not apply to --noise {options.noise}")
    if gaussian:
        stds = options.stds or STDS
        return reconjax.gaussian_grid([0.0, *stds]), {"noise_std": np.asarray(stds)}
    ratios = options.ratios or RATIOS
    axes = {"mask_ratio": np.asarray(ratios)}
    if options.noise == "pixel":
        return reconjax.pixel_grid(dataset.example_shape, [0.0, *ratios]), axes
    sizes = options.patches or PATCHES
    grid = reconjax.mask_grid(
        dataset.image_shape,
        sizes,
        [0.0, *ratios],
        exact=options.noise == "exact",
        partial=options.partial,
    )
    return grid, {"patch_shape": np.asarray(sizes), **axes}


def _strength(options: argparse.Namespace) -> str:
    return "noise_std" if options.noise == "gaussian" else "mask_ratio"


def _row_names(options: argparse.Namespace, axes: dict[str, np.ndarray]) -> list[str]:
    if "patch_shape" not in axes:
        return [f"{options.noise} noise"]
    return [f"patch {height}x{width}" for height, width in axes["patch_shape"]]


def _best(
    arrays: dict[str, np.ndarray], baseline: np.ndarray, features: int, rank: int
) -> Iterator[dict[str, Any]]:
    """For each λ and some K, the noise with the largest explained share, and its gain over none."""
    dims = arrays["latent_dim"]
    wanted = _some_dims(features, rank) if len(dims) > 12 else list(dims)
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
            if abs(value / without - 1) < 1e-9:
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


def _some_dims(features: int, rank: int) -> list[int]:
    """1, 2, 4, ... and the rank."""
    powers = [2**i for i in range(features.bit_length()) if 2**i < rank]
    return [*powers, rank]


def _facts(dataset: Any, found: Any, rank: Any = None) -> dict[str, Any]:
    return {
        "data": dataset.name,
        "samples": int(found.samples),
        "features": found.features,
        "rank": int(found.rank if rank is None else rank),
        "classes": dataset.num_classes,
    }


def _headline(result: dict[str, Any]) -> str:
    text = "{data}: {samples} samples, {features} features of rank {rank}, {classes} classes"
    return text.format(**result)


class _progress:
    """A bar on stderr for work that takes more than a second; calling it counts."""

    def __init__(self, what: str, total: int) -> None:
        self.what, self.total = what, total

    def __enter__(self) -> Callable[..., None]:
        from tqdm import tqdm

        self.bar = tqdm(total=self.total, desc=self.what, delay=1, leave=False, file=sys.stderr)
        return lambda count=1: (self.bar.update(count), None)[1]

    def __exit__(self, *_: object) -> None:
        self.bar.close()


def _write_json(result: dict[str, Any], path: Any) -> None:
    with replacing(path) as part:
        part.write_text(json.dumps(result) + "\n")


def _say_files(folder: Any, *names: str) -> None:
    if folder is not None:
        print("wrote " + ", ".join(str(folder / name) for name in names))
