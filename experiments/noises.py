"""Families of noise at their best strength, and a mask that is learned, on several data sets.

    python -m experiments.noises --data digits mnist --data-dir DIR --out out

Strengths and masks are chosen on the training split; every number that is compared is of the test
split. The learned mask (experimental) is compared with the best uniform ratio of its patch shape.
"""

import dataclasses
from typing import Any

import jax.numpy as jnp
import matplotlib
import numpy as np
from matplotlib.figure import Figure

import reconjax
from experiments import report, sets
from reconjax import studies
from reconjax.data import Dataset, Split
from reconjax.evidence.comparison import Comparison, compare
from reconjax.evidence.p_values import by_folds
from reconjax.evidence.places import mean_and_error
from reconjax.noise.families import RATIOS, Family
from reconjax.plots import STYLE, learned_mask_figure
from reconjax.plots.style import CHANGES
from reconjax.studies.progress import progress_bar
from reconjax.summary.moments import Moments
from reconjax.theory.held_out import HeldOut
from reconjax.theory.mask_learning import learned_mask

FOLDS = 20
# What is reported without noise, by what it is called in the result of `compare`.
WITHOUT = {
    "latent_dim": "latent_dim",
    "r2": "r2_without",
    "held_out": "held_out_without",
    "chance": "chance",
}
# Uniform ratios with which a learned mask is compared.
UNIFORM = (*np.arange(0.05, 1, 0.05).round(2).tolist(), 0.97, 0.99, 0.995, 0.999)
PRESETS: dict[str, dict[str, Any]] = {
    # The mask is learned for images of at most so many features: larger ones are averaged first.
    "smoke": {
        "samples": 600,
        "families": ("flip", "block:4x4"),
        "latent_dims": (4, 16),
        "learned": (4, 16),
        "steps": 5,
        "features": 64,
        "ratios": RATIOS,
    },
    "quick": {
        "samples": None,
        "families": None,
        "latent_dims": (4, 16, 64),
        "learned": (4, 16),
        "steps": 40,
        "features": 1000,
        "ratios": UNIFORM,
    },
    "full": {
        "samples": None,
        "families": None,
        "latent_dims": (2, 4, 8, 16, 32, 64, 128),
        "learned": (4, 16, 64),
        "steps": 100,
        "features": 4000,
        "ratios": UNIFORM,
    },
}


def main(argv: list[str] | None = None) -> None:
    options = report.arguments(__doc__, argv, data=["digits"])
    parts = sets.measured(options, "noises", measure)["parts"]
    report.picture(options.out, "families", families_picture(parts))
    report.picture(options.out, "masks", masks_picture(parts))
    print("change of the held-out r2 against no noise; best families, p given all tried")
    for name, part in parts.items():
        for row in part["without"]:
            places = [p for p in part["ranking"] if p["latent_dim"] == row["latent_dim"]]
            print(
                f"{name:<18} K {row['latent_dim']:>3}: "
                + ", ".join(
                    f"{p['noise']} {p['gain'] / row['held_out']:+.1%}"
                    f" ± {p['standard_error'] / row['held_out']:.1%} (p {p['p_value']:.4f})"
                    for p in places[:3]
                )
            )
    print("learned mask against the best uniform ratio of the same patches, held out")
    for name, part in parts.items():
        for mask in part["masks"]:
            before, after = (mask[side]["held_out"] for side in ("uniform", "learned"))
            print(
                f"{name:<18} K {mask['latent_dim']:>3}: explains {before:.4f}"
                f" (ratio {mask['uniform']['mask_ratio']:g}) -> {after:.4f},"
                f" {mask['gain']:+.4f} ± {mask['standard_error']:.4f} (p {mask['p_value']:.4f})"
            )


def measure(name: str, options: Any) -> dict[str, Any]:
    preset = PRESETS[options.preset]
    dataset = _limited(sets.opened(name, options), preset, options)
    dims = [k for k in preset["latent_dims"] if k < dataset.features]
    result = studies.compare(
        dataset, families=preset["families"], latent_dims=dims, seed=options.seed
    )
    classes = dataset.num_classes
    moments = reconjax.moments_from_batches(dataset.train.batches(), num_classes=classes)
    folds = reconjax.summary.each_fold(dataset.test, FOLDS, num_classes=classes, seed=options.seed)
    held_out = reconjax.held_out(folds, moments)
    columns = (result[name].values.tolist() for name in WITHOUT.values())
    return {
        "samples": result.attrs["samples"],
        "test_samples": result.attrs["held_out_samples"],
        "features": result.attrs["features"],
        "noises": result.attrs["noises"],
        "error": float(result.error.max()),
        "without": [dict(zip(WITHOUT, row, strict=True)) for row in zip(*columns, strict=True)],
        "ranking": studies.ranking(result),
        "masks": masks(moments, held_out, dataset.image_shape, preset),
        "mean_image": report.rounded(np.asarray(moments.mean_x).reshape(dataset.image_shape), 3),
    }


def _limited(dataset: Dataset, preset: dict[str, Any], options: Any) -> Dataset:
    if dataset.test is None:
        report.fail(f"{dataset.name}: has no test split, which this experiment needs")

    def part(split: Split) -> Split:
        return sets.limited(split, preset["samples"], options)

    return dataclasses.replace(dataset, train=part(dataset.train), test=part(dataset.test))


def masks(
    moments: Moments, held_out: HeldOut, shape: tuple[int, ...], preset: dict[str, Any]
) -> list[dict[str, Any]]:
    """Masks that are learned for some K, and what the test split says of them."""
    moments, held_out, shape = averaged(moments, held_out, shape, preset["features"])
    patch = next(side for side in (4, 2, 1) if shape[0] % side == 0 and shape[0] // side >= 7)
    ratios, dims = preset["ratios"], preset["learned"]
    noises = tuple(reconjax.noise.patch_mask(ratio, patch, shape) for ratio in ratios)
    family = Family("uniform", tuple(f"{ratio:g}" for ratio in ratios), noises)
    uniform = compare(moments, held_out, [family], dims)
    rows = []
    for column, latent_dim in enumerate(dims):
        best = int(np.argmax(uniform.r2[:, column]))
        with progress_bar(f"mask for K = {latent_dim}", preset["steps"] + 1) as progress:
            mask = learned_mask(
                moments,
                patch,
                shape,
                latent_dim,
                start=ratios[best],
                steps=preset["steps"],
                progress=progress,
            )
        family = Family("learned", ("learned",), (mask.noise,))
        learned = compare(moments, held_out, [family], [latent_dim])
        folds = by_folds(learned.held_out, learned.agreement)[0]
        base = by_folds(uniform.held_out, uniform.agreement)[best, column : column + 1]
        gain, error = mean_and_error(folds - base)
        floor = learned.error + uniform.error[best, column]
        ratio = np.asarray(mask.noise.ratio).reshape(shape[0] // patch, shape[1] // patch)
        rows.append(
            {
                "latent_dim": latent_dim,
                "image_shape": list(shape),
                "patch": patch,
                "uniform": {"mask_ratio": ratios[best], **_side(uniform, best, column)},
                "learned": {"mask_ratio": report.rounded(ratio, 4), **_side(learned, 0, 0)},
                "r2_by_step": report.rounded(mask.r2),
                "held_out_without": float(learned.held_out_without[0]),
                "gain": float(gain[0]),
                "standard_error": float(error[0]),
                "p_value": float(reconjax.search_p_values(folds[None], base, floor)[0, 0]),
            }
        )
    return rows


def _side(comparison: Comparison, point: int, column: int) -> dict[str, float]:
    return {
        "r2": float(comparison.r2[point, column]),
        "held_out": float(comparison.held_out[point, column]),
    }


def averaged(
    moments: Moments, held_out: HeldOut, shape: tuple[int, ...], most: int
) -> tuple[Moments, HeldOut, tuple[int, ...]]:
    """Both splits with images averaged over squares, until they have at most so many features.

    Means over pixels are linear, so the moments tell those of the smaller images.
    """
    height, width, channels = shape
    side = next(
        side
        for side in range(1, height + 1)
        if height % side == width % side == 0 and height * width * channels <= most * side**2
    )
    rows, columns = (
        np.kron(np.eye(size // side), np.full((1, side), 1 / side)) for size in (height, width)
    )
    operator = jnp.asarray(np.kron(np.kron(rows, columns), np.eye(channels)))
    small = Moments(
        samples=moments.samples,
        weight=moments.weight,
        mean_x=operator @ moments.mean_x,
        mean_y=moments.mean_y,
        second_moment=operator @ moments.second_moment @ operator.T,
        cross_moment=operator @ moments.cross_moment,
        label_moment=moments.label_moment,
        scale=jnp.ones(len(operator)),
    )
    seen = HeldOut(
        second_moment=operator @ held_out.second_moment @ operator.T,
        cross_moment=operator @ held_out.cross_moment,
        label_variance=held_out.label_variance,
        folds=jnp.einsum("md,bdc->bmc", operator, held_out.folds),
        target_variances=held_out.target_variances,
    )
    return small, seen, (height // side, width // side, channels)


def families_picture(parts: dict[str, Any]) -> Figure:
    """Relative change of the held-out share by family (rows), data set and K (columns)."""
    names = list(dict.fromkeys(p["family"] for part in parts.values() for p in part["ranking"]))
    sides = {name: int(name.rpartition("x")[2]) for name in names if name.startswith("mask")}
    names.sort(key=lambda name: sides.get(name, np.inf))
    columns = [(name, row) for name, part in parts.items() for row in part["without"]]
    change = np.full((len(names), len(columns)), np.nan)
    sure = np.zeros(change.shape, bool)
    for index, (data, row) in enumerate(columns):
        for place in parts[data]["ranking"]:
            if place["latent_dim"] == row["latent_dim"]:
                change[names.index(place["family"]), index] = place["gain"] / row["held_out"]
                sure[names.index(place["family"]), index] = place["p_value"] <= 0.05
    with matplotlib.rc_context({**STYLE, "axes.grid": False}):
        size = (1.8 + 0.78 * len(columns), 1.8 + 0.3 * len(names))
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots()
        shown = axes.imshow(change, cmap=CHANGES, vmin=-0.3, vmax=0.3, aspect="auto")
        for (y, x), value in np.ndenumerate(change):
            if np.isfinite(value):
                weight = "bold" if sure[y, x] else "normal"
                color = "white" if abs(value) > 0.22 else "black"
                text = f"{value:+.1%}" if abs(value) < 0.0995 else f"{value:+.0%}"
                text = "< 0" if value <= -1 else text
                text = "0" if abs(value) < 5e-4 else text
                axes.text(x, y, text, ha="center", va="center", color=color, weight=weight, size=8)
        axes.set_yticks(range(len(names)), names)
        axes.set_xticks(range(len(columns)), [f"K={row['latent_dim']}" for _, row in columns])
        axes.xaxis.tick_top()
        per = len(columns) / len(parts)
        for index, data in enumerate(parts):
            axes.text((index + 0.5) * per - 0.5, -1.6, data, ha="center", weight="bold", size=9)
            axes.axvline((index + 1) * per - 0.5, color="black", linewidth=1)
        figure.colorbar(shown, extend="both", label="change against no noise", format="{x:+.0%}")
        axes.set_xlabel(
            "held-out r2 of a linear head, each family at its best strength (chosen in"
            " training); bold: p ≤ 0.05 given all that were tried; < 0: explains less than nothing"
        )
    return figure


def masks_picture(parts: dict[str, Any]) -> Figure:
    rows = {
        name: [
            (
                f"K = {mask['latent_dim']}: {mask['gain'] / mask['uniform']['held_out']:+.1%}"
                f" ± {mask['standard_error'] / mask['uniform']['held_out']:.1%}\nover uniform"
                f" {mask['uniform']['mask_ratio']:g}",
                mask["learned"]["mask_ratio"],
            )
            for mask in part["masks"]
        ]
        for name, part in parts.items()
    }
    means = {name: part["mean_image"] for name, part in parts.items()}
    return learned_mask_figure(rows, means, title="learned drop probabilities; change held out")


if __name__ == "__main__":
    main()
