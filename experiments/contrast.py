"""Reconstruct or embed, as what is irrelevant grows: the closed forms on scenes and on real sets.

    python -m experiments.contrast --data-dir DIR --out experiments/results/contrast

Images of 16 x 16 gray pixels. Reconstruction without noise, at its best mask, at its best mask and
target, and joint embedding at its best mask: chosen on the training split, judged on the test
split; once for linear encoders, once for encoders that are linear on random ReLU features (the
lift). What is irrelevant is measured by the share of the pixels' variance within classes.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import xarray
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import reconjax
from experiments import report
from reconjax.evidence.places import by_folds, mean_and_error
from reconjax.plots.style import COLORS, QUIET, STYLE
from reconjax.studies.objective_choice import EMBEDDING, NOISE, TARGET

CONTRASTS = (0.5, 1, 2, 4)
SCENES = tuple(f"scenes:background={contrast:g}" for contrast in CONTRASTS)
SETS = (*SCENES, "mnist", "fashion_mnist", "arabic_digits", "cifar10")
DIMS = (4, 16, 64)
AT = 16
# name of the encoder: what `studies.objectives` is asked.
ENCODERS: dict[str, dict[str, Any]] = {
    "linear": {
        "patches": [1, 2, 4],
        "ratios": [0, 0.5, 0.75, 0.9],
        "target": ["whitened:0.5", "whitened:0.75"],
    },
    "relu:512": {
        "patches": [1, 4],
        "ratios": [0, 0.75],
        "target": ["whitened:0.75"],
        "features": "relu:512",
        "ridge": 0.1,
    },
}
SAMPLES = {"smoke": 300, "quick": 10_000, "full": 20_000}


def main(argv: list[str] | None = None) -> None:
    options = report.arguments(__doc__, argv, data=SETS)
    names = [label(data) for data in options.data]
    settings = {"preset": options.preset, "seed": options.seed, "data": names}
    cases = {
        f"{label(data)}, {encoder}": partial(measure, data, encoder, options)
        for data in options.data
        for encoder in ENCODERS
    }
    parts = report.measured(options.out, "contrast", settings, cases)["parts"]
    report.picture(options.out, "contrast", picture(parts, names))
    for encoder in ENCODERS:
        print(f"\n{encoder}, K = {AT}\n" + "\n".join(table(parts, names, encoder)))


def label(data: str) -> str:
    """A set's name; of a folder, that of the folder alone."""
    return Path(data).name if Path(data).is_dir() else data


def measure(data: str, encoder: str, options: Any) -> dict[str, Any]:
    """One set under one encoder: every choice at every K."""
    reading: dict[str, Any] = {
        "data_dir": None if options.data_dir is None else str(options.data_dir),
        "max_samples": SAMPLES[options.preset],
        "seed": options.seed,
        "resize": "16",
        "gray": True,
        "progress": False,
    }
    if Path(data).is_dir():
        reading["test_share"] = 0.2
    result = reconjax.studies.objectives(data, latent_dims=DIMS, **ENCODERS[encoder], **reading)
    source = reconjax.studies.source.Source(data, **reading)
    return {
        "samples": result.attrs["samples"],
        "held_out_samples": result.attrs["held_out_samples"],
        "within_classes": within_classes(source.moments()),
        "error": float(result.error.max()),
        "K": {str(k): curves(result.sel(latent_dim=k)) for k in result.latent_dim.values.tolist()},
    }


def within_classes(moments: reconjax.Moments) -> float:
    """The share of the pixels' variance that no function of the class explains."""
    cross, labels = np.asarray(moments.cross_moment), np.asarray(moments.label_moment)
    between = np.trace(cross @ np.linalg.pinv(labels, hermitian=True) @ cross.T)
    return float(1 - between / np.trace(np.asarray(moments.second_moment)))


def curves(at: xarray.Dataset) -> dict[str, Any]:
    """Held-out r2 of each choice at one K, and what joint embedding gains over reconstruction."""
    folds = {}
    found: dict[str, Any] = {
        "no noise": float(at.held_out_without),
        "chance": float(at.chance),
        "choices": {},
    }
    for family in dict.fromkeys(at.family.values.tolist()):
        chosen = at.isel(point=(at.family.values == family) & (at.position.values > 0)).squeeze()
        folds[family] = by_folds(chosen.held_out.values, chosen.agreement.values)
        found["choices"][family] = {
            "noise": str(chosen.noise.item()),
            "held_out": float(chosen.held_out),
            "gain": float(chosen.gain),
            "standard_error": float(chosen.gain_standard_error),
            "p_value": float(chosen.p_value),
        }
    for name, other in (("over mask", NOISE), ("over mask and target", TARGET)):
        gain, error = mean_and_error(folds[EMBEDDING] - folds[other])
        found[name] = {"gain": float(gain), "standard_error": float(error)}
    return found


def table(parts: dict[str, Any], names: Sequence[str], encoder: str) -> list[str]:
    """Rows of Markdown, in percent of the label variance."""
    lines = [
        "| set | variance within classes | no noise | best mask | and target | joint embedding |"
        " embedding - mask |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in names:
        part = parts[f"{name}, {encoder}"]
        at = part["K"][str(AT)]
        of = [at["choices"][family] for family in (NOISE, TARGET, EMBEDDING)]
        gain = at["over mask"]
        cells = [
            name,
            f"{100 * part['within_classes']:.0f} %",
            f"{100 * at['no noise']:.1f}",
            *(f"{100 * one['held_out']:.1f} ({one['noise']})" for one in of),
            f"{100 * gain['gain']:+.1f} ± {100 * gain['standard_error']:.1f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def picture(parts: dict[str, Any], names: Sequence[str]) -> Figure:
    """Left and middle: the choices as the background grows. Right: all sets."""
    with matplotlib.rc_context(STYLE | {"font.size": 11, "axes.titlesize": 12}):
        figure = Figure(figsize=(14, 4.4), layout="constrained")
        left, middle, right = figure.subplots(1, 3, width_ratios=(1, 1, 1.3))
        middle.sharey(left)
        scenes = [name for name in SCENES if name in names]
        for axes, encoder in zip((left, middle), ENCODERS, strict=True):
            draw_scenes(axes, [parts[f"{name}, {encoder}"] for name in scenes], scenes)
            title = "linear encoder" if encoder == "linear" else "lifted: random ReLU features"
            axes.set_title(f"scenes, {title}, K = {AT}")
        left.set_ylabel("r2 on new images")
        left.set_ylim(bottom=0)
        draw_sets(right, parts, names)
    return figure


def draw_scenes(axes: Axes, parts: Sequence[dict[str, Any]], names: Sequence[str]) -> None:
    at = [float(name.partition("=")[2]) for name in names]
    rows = [part["K"][str(AT)] for part in parts]
    looks = (
        ("pixels, no mask", QUIET, [row["no noise"] for row in rows]),
        *(
            (text, color, [row["choices"][family]["held_out"] for row in rows])
            for text, color, family in (
                ("pixels, best mask", COLORS[0], NOISE),
                ("best mask and target", COLORS[1], TARGET),
                ("joint embedding, best mask", COLORS[2], EMBEDDING),
            )
        ),
    )
    for text, color, values in looks:
        axes.plot(at, values, "o-", color=color, label=text)
    axes.set_xscale("log", base=2)
    axes.set_xticks(at, [f"{contrast:g}" for contrast in at])
    axes.minorticks_off()
    axes.set_xlabel("contrast of the background")
    axes.legend(frameon=False, fontsize=10, loc="lower left")


def draw_sets(axes: Axes, parts: dict[str, Any], names: Sequence[str]) -> None:
    """What joint embedding gains over reconstruction at its best mask, for every set."""
    axes.axvline(0, color=QUIET, linewidth=1.3)
    order = sorted(names, key=lambda name: parts[f"{name}, linear"]["within_classes"])
    for shift, color, encoder in zip((-0.12, 0.12), (COLORS[3], COLORS[2]), ENCODERS, strict=True):
        rows = [parts[f"{name}, {encoder}"]["K"][str(AT)]["over mask"] for name in order]
        axes.errorbar(
            [100 * row["gain"] for row in rows],
            np.arange(len(order)) + shift,
            xerr=[164 * row["standard_error"] for row in rows],
            fmt="o",
            color=color,
            label="linear" if encoder == "linear" else "lifted",
        )
    shares = [parts[f"{name}, linear"]["within_classes"] for name in order]
    texts = [
        f"{name.replace('scenes:background=', 'scenes ')}  {100 * share:.0f} %"
        for name, share in zip(order, shares, strict=True)
    ]
    axes.set_yticks(range(len(order)), texts)
    axes.set_ylim(len(order) - 0.5, -0.5)
    axes.grid(False, axis="y")
    axes.set_xlabel(f"points of r2 over pixels at their best mask, K = {AT}")
    axes.set_title("joint embedding against pixels")
    axes.legend(frameon=False, loc="lower left")


if __name__ == "__main__":
    main()
