"""The three regimes of Sec. 3.1 under control: background, finer classes, higher resolution.

The paper compares data sets that differ in many things at once. Here one thing changes at a time,
on made-up scenes: does alignment fall with each of them, as Sec. 3.1 concludes from Fig. 2?

With N samples a spectrum of D directions explains (D / N) of any labels by chance, evenly spread.
That alone pulls a curve towards the diagonal where the labels are hard. The `corrected` numbers
take that share out; the held-out ones do not know it.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, PercentFormatter
from scipy.stats import spearmanr

import reconjax as rj
from experiments import report
from reconjax.data.rendering import scenes
from reconjax.plots import STYLE
from reconjax.plots.style import COLORS

NAME = "regimes"
FACTORS = {
    "background": "contrast of the background",
    "classes": "number of classes",
    "size": "height and width in pixels",
}
PRESETS: dict[str, dict[str, Any]] = {
    "smoke": {
        "samples": 600,
        "seeds": 2,
        "fixed": {"background": 1.0, "classes": 10, "size": 12},
        "background": [0.0, 1.0],
        "classes": [2, 10],
        "size": [8, 12],
    },
    "quick": {
        "samples": 10_000,
        "seeds": 3,
        "fixed": {"background": 1.0, "classes": 10, "size": 32},
        "background": [0.0, 0.25, 0.5, 1.0, 1.5, 2.0],
        "classes": [2, 5, 10, 20, 50, 100],
        "size": [8, 16, 24, 32, 48],
    },
    "full": {
        "samples": 50_000,
        "seeds": 5,
        "fixed": {"background": 1.0, "classes": 10, "size": 32},
        "background": [0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0],
        "classes": [2, 5, 10, 20, 50, 100],
        "size": [8, 16, 24, 32, 48, 64],
    },
}
CHANNELS = 1
POINTS = 40  # kept of each curve
# What the paper claims of each number when a factor grows: it rises (+1) or falls (−1).
CLAIMS = {
    "k90_share": +1,
    "area_over_diagonal": -1,
    "corrected_k90_share": +1,
    "corrected_area_over_diagonal": -1,
    "r2_test": -1,
}
# A claim holds where both of them move as it says: as measured, and less what chance explains.
DECISIVE = {
    "held": ("k90_share", "area_over_diagonal"),
    "held_corrected": ("corrected_k90_share", "corrected_area_over_diagonal"),
}


class Level(NamedTuple):
    """One setting of the factors; levels of different factors may be the same setting."""

    background: float
    classes: int
    size: int

    @property
    def key(self) -> str:
        return f"background={self.background:g} classes={self.classes} size={self.size}"


def first_share(curve: np.ndarray, level: float) -> float:
    """The smallest K at which the curve reaches the level, as a share of D."""
    return float(np.argmax(curve >= level) + 1) / curve.size


def corrected_curve(curve: rj.Alignment) -> np.ndarray:
    """Alignment without what chance adds: every direction explains residual / (N − r − 1) of it.

    This is Eq. 7 of the population, for balanced classes, up to the sampling error.
    """
    rank, samples = int(curve.rank), float(curve.samples)
    r2 = np.asarray(curve.r2)
    noise = (1 - r2[-1]) / (samples - rank - 1)
    left = r2 - noise * np.minimum(np.asarray(curve.latent_dim), rank)
    return left / left[-1]


def measure(level: Level, samples: int, seed: int) -> dict[str, Any]:
    """All numbers and curves of one setting and seed."""
    data = scenes(**level._asdict(), channels=CHANNELS, samples=samples, seed=seed)
    train, test = (
        rj.moments_from_batches(split.batches(), num_classes=level.classes)
        for split in (data.train, data.test)
    )
    spectrum = rj.spectrum(train)
    curve = rj.alignment(spectrum)
    # Of the best heads on the K leading principal components.
    held_out = np.asarray(rj.theory.held_out_r2(spectrum, rj.held_out([test], train)))
    itself = rj.theory.held_out_r2(spectrum, rj.held_out([train], train))
    aligned, corrected = np.asarray(curve.alignment), corrected_curve(curve)
    share = np.asarray(curve.latent_dim) / spectrum.features
    return {
        "features": spectrum.features,
        "rank": curve.rank,
        "samples_per_feature": samples / spectrum.features,
        "k90_share": first_share(aligned, 0.9),
        "chance_k90_share": first_share(np.asarray(curve.chance), 0.9),
        "area": np.mean(aligned - np.asarray(curve.chance)),
        "area_over_diagonal": np.mean(aligned - share),
        "corrected_k90_share": first_share(corrected, 0.9),
        "corrected_area_over_diagonal": np.mean(corrected - share),
        "r2_train": curve.r2[-1],
        "r2_chance": curve.r2_chance[-1],
        "r2_test": held_out[-1],
        "r2_test_best": held_out.max(),
        "r2_test_best_share": share[held_out.argmax()],
        # Twice the same thing by two ways; it must be rounding.
        "self_check": np.abs(itself - curve.r2).max(),
        "curves": {
            name: report.rounded(np.interp(points(share.size), share, np.asarray(values)), 4)
            for name, values in (
                ("alignment", aligned),
                ("corrected", corrected),
                ("chance", curve.chance),
                ("r2", curve.r2),
                ("held_out", held_out),
            )
        },
    }


def points(features: int) -> np.ndarray:
    """The K / D that are kept of each curve: K = 1 to D, evenly spaced in the root of K / D."""
    return np.linspace(features**-0.5, 1, POINTS) ** 2


def levels(preset: dict[str, Any]) -> dict[str, list[Level]]:
    fixed = Level(**preset["fixed"])
    return {f: [fixed._replace(**{f: value}) for value in preset[f]] for f in FACTORS}


def verdict_of(factor: str, settings: list[Level], parts: dict[str, Any]) -> dict[str, Any]:
    """Each number against the factor, and whether it moved as the paper claims.

    It did where the rank correlation over all settings and seeds is at least 0.8 with the claimed
    sign, and the first and the last level differ by more than two standard errors.
    """
    runs = [parts[level.key]["runs"] for level in settings]
    factors = [getattr(level, factor) for level in settings for _ in runs[0]]
    verdict: dict[str, Any] = {"values": [getattr(level, factor) for level in settings]}
    for name, sign in CLAIMS.items():
        table = np.array([[run[name] for run in row] for row in runs])
        error = np.sqrt((table[[0, -1]].var(1, ddof=1) / table.shape[1]).sum())
        change = table[-1].mean() - table[0].mean()
        correlation = float(spearmanr(factors, table.ravel()).statistic)
        verdict[name] = {
            "mean": report.rounded(table.mean(1), 4),
            "std": report.rounded(table.std(1, ddof=1), 3),
            "rank_correlation": correlation,
            "change": change,
            "standard_error": error,
            "claim": "rises" if sign > 0 else "falls",
            "held": bool(sign * correlation >= 0.8 and sign * change > 2 * error),
        }
    held = {way: all(verdict[name]["held"] for name in both) for way, both in DECISIVE.items()}
    return {**verdict, **held}


def shades(count: int) -> Any:
    return matplotlib.colormaps["viridis"](np.linspace(0.0, 0.88, count))


def curves_figure(preset: dict[str, Any], parts: dict[str, Any]) -> Figure:
    """Eq. 7 by K / D and by K, and how much of D is needed, one column a factor."""
    with matplotlib.rc_context(STYLE):
        made = Figure(figsize=(12.5, 13), layout="constrained")
        axes = made.subplots(4, 3, sharey="row", height_ratios=(3, 3, 2.2, 2.2))
        for column, (factor, settings) in zip(axes.T, levels(preset).items(), strict=True):
            by_share, corrected, by_dim, scalar = column
            for color, level in zip(shades(len(settings)), settings, strict=True):
                part = parts[level.key]
                features = part["runs"][0]["features"]
                share = points(features)
                style = {"color": color, "label": f"{getattr(level, factor):g}"}
                band(by_share, share, part, "alignment", **style)
                band(corrected, share, part, "corrected", **style)
                band(by_dim, share * features, part, "alignment", **style)
            for panel in (by_share, corrected):
                panel.plot([0, 1], [0, 1], color="0.35", ls="--", lw=1.2, label="chance")
                panel.set(xlabel="K / D", xlim=(0, 1), ylim=(0, 1.03))
                panel.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
            by_share.set_title(FACTORS[factor])
            by_share.legend(title=factor, fontsize=8.5, title_fontsize=9, loc="lower right")
            by_dim.set(xscale="log", xlabel="latent dimension K", ylim=(0, 1.01))
            for name, label, style in (
                ("k90_share", "as measured (Eq. 7)", {"color": COLORS[1]}),
                ("corrected_k90_share", "less what chance explains", {"color": COLORS[0]}),
                ("chance_k90_share", "labels at random", {"color": "0.35", "ls": "--"}),
            ):
                scalar_line(scalar, factor, settings, parts, name, label=label, **style)
            scalar.set(xlabel=FACTORS[factor], ylim=(0, 1))
            for panel in column:
                panel.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        titles = (
            "alignment (Eq. 7)",
            "less what chance explains",
            "alignment (Eq. 7)",
            "K / D for 90 % alignment",
        )
        for panel, title in zip(axes[:, 0], titles, strict=True):
            panel.set_ylabel(title)
        handles, labels = axes[3, 0].get_legend_handles_labels()
        made.legend(handles, labels, loc="outside lower center", ncols=3)
        made.suptitle("Does alignment fall with background, finer classes and resolution?")
    return made


def r2_figure(preset: dict[str, Any], parts: dict[str, Any]) -> Figure:
    """What a linear head explains of the labels: on held-out data by K / D, and in all."""
    with matplotlib.rc_context(STYLE):
        made = Figure(figsize=(12.5, 7), layout="constrained")
        axes = made.subplots(2, 3, sharey="row")
        for column, (factor, settings) in zip(axes.T, levels(preset).items(), strict=True):
            curve, scalar = column
            for color, level in zip(shades(len(settings)), settings, strict=True):
                part = parts[level.key]
                share = points(part["runs"][0]["features"])
                label = f"{getattr(level, factor):g}"
                band(curve, share, part, "held_out", color=color, label=label)
            curve.set(xlabel="K / D", xlim=(0, 1), title=FACTORS[factor])
            curve.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
            for name, label, style in (
                ("r2_train", "training data, K = D", {"color": COLORS[1]}),
                ("r2_test", "held-out data, K = D", {"color": COLORS[0]}),
                ("r2_test_best", "held-out data, best K", {"color": COLORS[2]}),
                ("r2_chance", "labels at random, training", {"color": "0.35", "ls": "--"}),
            ):
                scalar_line(scalar, factor, settings, parts, name, label=label, **style)
            scalar.set(xlabel=FACTORS[factor])
            for panel in column:
                panel.axhline(0, color="0.35", lw=0.8)
                panel.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        low, high = axes[0, 0].get_ylim()
        axes[0, 0].set_ylim(low, high + 0.35 * (high - low))  # room for the legends
        for panel, factor in zip(axes[0], FACTORS, strict=True):
            panel.legend(title=factor, fontsize=8.5, title_fontsize=9, ncols=3, loc="upper right")
        axes[0, 0].set_ylabel("r2, held-out data")
        axes[1, 0].set_ylabel("r2")
        handles, labels = axes[1, 0].get_legend_handles_labels()
        made.legend(handles, labels, loc="outside lower center", ncols=4)
        made.suptitle("r2 of a linear head on K principal components")
    return made


def band(axes: Axes, at: np.ndarray, part: Any, name: str, *, color: Any, label: str) -> None:
    """Mean and range over the seeds of a curve."""
    table = np.array([run["curves"][name] for run in part["runs"]])
    axes.fill_between(at, table.min(0), table.max(0), color=color, alpha=0.25, lw=0)
    axes.plot(at, table.mean(0), color=color, label=label)


def scalar_line(
    axes: Axes, factor: str, settings: list[Level], parts: Any, name: str, **style: Any
) -> None:
    """Mean and standard deviation over the seeds of a number, against the factor."""
    at = [getattr(level, factor) for level in settings]
    table = np.array([[run[name] for run in parts[level.key]["runs"]] for level in settings])
    if style.get("ls") == "--":  # known beforehand: no error bars
        axes.plot(at, table.mean(1), lw=1.4, **style)
    else:
        error = table.std(1, ddof=1)
        axes.errorbar(at, table.mean(1), error, marker="o", ms=4.5, lw=1.4, capsize=3, **style)
    if factor == "classes":
        axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(at))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter("{x:g}")


def summary(preset: dict[str, Any], parts: dict[str, Any]) -> dict[str, Any]:
    verdicts: dict[str, Any] = {
        factor: verdict_of(factor, settings, parts) for factor, settings in levels(preset).items()
    }
    runs = [run for part in parts.values() for run in part["runs"]]
    verdicts["self_check"] = max(run["self_check"] for run in runs)
    return verdicts


def main(argv: Sequence[str] | None = None) -> None:
    options = report.arguments(__doc__, argv)
    preset = PRESETS[options.preset]
    settings = {"preset": options.preset, "seed": options.seed, "channels": CHANNELS, **preset}

    def runs(level: Level) -> dict[str, Any]:
        seeds = range(options.seed, options.seed + preset["seeds"])
        return {"runs": [measure(level, preset["samples"], seed) for seed in seeds]}

    unique = {level.key: level for row in levels(preset).values() for level in row}
    cases = {key: partial(runs, level) for key, level in unique.items()}
    results = report.measured(options.out, NAME, settings, cases)
    parts = results["parts"]
    results["summary"] = report.plain(summary(preset, parts))
    report.write(options.out, NAME, results)
    report.picture(options.out, "regimes", curves_figure(preset, parts))
    report.picture(options.out, "r2", r2_figure(preset, parts))
    for factor in FACTORS:
        verdict = results["summary"][factor]
        print(f"{factor}: held={verdict['held']}, less chance={verdict['held_corrected']}")


if __name__ == "__main__":
    main()
