"""`reconjax sweep`."""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import reconjax
from reconjax.cli.grid import Arrays, Job, Solved, latent_dims, noises, settings, sharing, solved
from reconjax.cli.inputs import check_memory, dataset
from reconjax.cli.printing import facts, folder, headline, say_files, some_dims
from reconjax.cli.resampling import judge, nothing_because, test_folds, training
from reconjax.evidence.bootstrap import Bootstrap
from reconjax.evidence.p_values import search_p_values
from reconjax.storage.files import replacing
from reconjax.storage.parts import Parts

# Up to so many features, the grids of all folds take a few seconds.
CHEAP = 128
CURVES = ("explained", "supervised_loss", "reconstruction_loss", "alignment")


def run(options: argparse.Namespace) -> None:
    """Prints the best noise for some K; writes sweep.png and sweep.npz to --out."""
    data = dataset(options)
    grid, axes = noises(options, data)
    dims = latent_dims(options, data.features)
    size = data.features, data.num_targets, options.batch_size
    needed = reconjax.sweep_memory(*size, held_out_folds=test_folds(options))
    check_memory(options, needed, f"a sweep with --batch-size {options.batch_size}")
    mesh = sharing(options, len(grid), len(grid[0]))
    out = folder(options.out)
    moments, folds = training(options, CHEAP)
    job = Job(moments, folds, judge(options, moments), grid, dims, mesh)
    parts = None if out is None else Parts(out, settings(options, job, axes))
    found = solved(options, parts, job)
    if found is None:
        return
    curves = found.curves
    arrays = {
        **axes,
        "reconstruction_weight": curves["reconstruction_weight"],
        "latent_dim": curves["latent_dim"],
        **{name: curves[name] for name in CURVES},
        "error": curves["error"],
        "reduced": curves["reduced"],
        **_statistics(found),
    }
    rank = int(curves["rank"])
    best = list(_best(arrays, found.baseline, some_dims(moments.features, rank)))
    result = {
        **facts(data, moments, rank),
        "noise": options.noise,
        "readout": options.readout,
        "precision": options.precision,
        "error": float(np.max(curves["error"])),
        "reduced": curves["reduced"].tolist(),
        "folds": 0 if found.estimate is None else found.estimate.folds,
        **{name: np.asarray(values).tolist() for name, values in axes.items()},
        "reconstruction_weight": [str(w) if np.isinf(w) else w for w in options.weights],
        "best": best,
    }
    if out is not None and parts is not None:
        _write(options, out, arrays, found, data.name)
        parts.clear()
    if options.json:
        print(json.dumps(result))
        return
    print(headline(result))
    error = f"errors of the explained share about {result['error']:.0e}"
    print(f"{options.noise} noise, {options.readout} read-out, {options.precision}: {error}")
    if (some := _partial(axes, data)) and not options.partial:
        print(f"patches of {some} do not divide the images: those at the edges are partial")
    if options.max_latent_dim and options.tolerance:
        count = int(np.sum(curves["reduced"]))
        print(f"solved in a subspace: {count} of {len(grid)} rays; the others in full")
    _print_table(best)
    print("explained share of the label variance on the training data; gain: its change")
    if found.estimate is not None:
        print(f"±: standard error, by halves of {result['folds']} folds of the samples")
    elif options.bootstrap is None and moments.features > CHEAP:
        print(f"more than {CHEAP} features: standard errors only with --bootstrap")
    if "p_value" in arrays:
        count = found.baseline["agreement"].shape[-1]
        print(
            f"held-out: explained on the {len(data.test)} samples of the test split, without noise"
            f" and with the best\np: of a gain on new data, for the best of {len(grid)} x"
            f" {len(grid[0])} (signs of {count} folds of the test split)"
        )
    else:
        print("The best of a grid is chosen after the fact: small gains may be chance.")
    if (why := nothing_because()) is not None:
        print(why)
    say_files(out, "sweep.png", "sweep.npz")


def _partial(axes: Arrays, data: Any) -> str:
    """The patch shapes that do not divide the images."""
    if "patch_shape" not in axes:
        return ""
    sizes = axes["patch_shape"].tolist()
    cut = [(h, w) for h, w in sizes if data.image_shape[0] % h or data.image_shape[1] % w]
    return ", ".join(f"{h}x{w}" for h, w in cut)


def _statistics(found: Solved) -> Arrays:
    """What is known of the certainty of the explained share, for every point."""
    arrays: Arrays = {}
    if (gain := _gain(found)) is not None and found.estimate is not None:
        for name, estimate in (("explained", found.estimate), ("gain", gain)):
            arrays[f"{name}_standard_error"] = np.asarray(estimate.standard_error)
            arrays[f"{name}_corrected"] = np.asarray(estimate.corrected)
    if "held_out" in found.curves:
        arrays["held_out"] = found.curves["held_out"]
        arrays["held_out_without"] = found.baseline["held_out"]
        arrays["p_value"] = np.stack(
            [
                search_p_values(
                    found.curves["agreement"][:, :, level],
                    found.baseline["agreement"][level],
                    found.curves["error"][:, :, level] + found.baseline["error"][level],
                )
                for level in range(found.curves["agreement"].shape[2])
            ],
            axis=2,
        )
    return arrays


def _gain(found: Solved) -> Bootstrap | None:
    """The change of the explained share against none, by folds."""
    if found.estimate is None or found.baseline_estimate is None:
        return None
    value = found.estimate.value - found.baseline_estimate.value
    halves = found.estimate.halves - found.baseline_estimate.halves[:, None, None]
    return Bootstrap(value, halves)


def _best(arrays: Arrays, baseline: Arrays, some: list[int]) -> Iterator[dict[str, Any]]:
    """For each λ and some K, the noise with the largest explained share, and its gain over none."""
    dims = arrays["latent_dim"]
    wanted = dims.tolist()
    if len(wanted) > 12:
        wanted = sorted({*(k for k in some if k in wanted), min(some[-1], wanted[-1])})
    strength = _strength(arrays)
    for w, weight in enumerate(arrays["reconstruction_weight"].tolist()):
        for k in wanted:
            column = int(np.flatnonzero(dims == k)[0])
            explained = arrays["explained"][:, :, w, column]
            p, r = np.unravel_index(int(np.argmax(explained)), explained.shape)
            value, without = float(explained[p, r]), float(baseline["explained"][w, column])
            where: dict[str, Any] = {strength: float(arrays[strength][r])}
            text = f"{strength.split('_')[1]} {where[strength]:g}"
            if "patch_shape" in arrays:
                where["patch_shape"] = arrays["patch_shape"][p].tolist()
                text = "patch {}x{}, ".format(*where["patch_shape"]) + text
            if abs(value - without) < 1e-6:
                text = "no noise is as good"
            row = {
                "reconstruction_weight": str(weight) if np.isinf(weight) else weight,
                "latent_dim": int(k),
                **where,
                "explained": value,
                "explained_without": without,
                "gain": value - without,
            }
            for name in ("explained_standard_error", "gain_standard_error", "held_out", "p_value"):
                if name in arrays:
                    row[name] = float(arrays[name][p, r, w, column])
            if "held_out" in arrays:
                row["held_out_without"] = float(arrays["held_out_without"][w, column])
            yield {**row, "at": text}


COLUMNS = (
    ("weight", "reconstruction_weight", "{!s:>7}"),
    ("K", "latent_dim", "{:>7}"),
    ("no noise", "explained_without", "{:>9.4f}"),
    ("best", "explained", "{:>9.4f}"),
    ("±", "explained_standard_error", "{:>7.4f}"),
    ("gain", "gain", "{:>+8.4f}"),
    ("±", "gain_standard_error", "{:>7.4f}"),
    ("held-out:", "held_out_without", "{:>9.4f}"),
    ("best", "held_out", "{:>8.4f}"),
    ("p", "p_value", "{:>7.4f}"),
    (" at", "at", " {}"),
)


def _print_table(rows: list[dict[str, Any]]) -> None:
    columns = [column for column in COLUMNS if column[1] in rows[0]]
    width = {name: len(form.format(rows[0][name])) for _, name, form in columns}
    heads = [title if name == "at" else title.rjust(width[name]) for title, name, _ in columns]
    print(" ".join(heads))
    for row in rows:
        print(" ".join(form.format(row[name]) for _, name, form in columns))


def _write(
    options: argparse.Namespace, out: Path, arrays: Arrays, found: Solved, name: str
) -> None:
    from reconjax.plots import save, sweep_figure

    with replacing(out / "sweep.npz") as part:
        np.savez(part, allow_pickle=False, **arrays)
    weights, strength, gain = arrays["reconstruction_weight"], _strength(arrays), _gain(found)
    rows = [f"{options.noise} noise"]
    if "patch_shape" in arrays:
        rows = [f"patch {height}x{width}" for height, width in arrays["patch_shape"]]
    figure = sweep_figure(
        arrays["latent_dim"],
        arrays["explained"],
        found.baseline["explained"],
        quantity="explained share",
        relative=False,
        rows=rows,
        lines=[f"{value:g}" for value in arrays[strength]],
        columns=[f"λ = {weight:g}" for weight in weights] if len(weights) > 1 else [""],
        title=f"{name}: {options.noise} noise against none",
        strength=strength.replace("_", " "),
        bands=None if gain is None else gain.interval(),
        held_out=arrays.get("held_out"),
        held_out_baseline=arrays.get("held_out_without"),
    )
    save(figure, out / "sweep.png")


def _strength(arrays: Arrays) -> str:
    return "noise_std" if "noise_std" in arrays else "mask_ratio"
