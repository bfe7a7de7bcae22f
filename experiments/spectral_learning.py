"""Figs 1 (bottom) and 3: in which order an autoencoder learns the eigen-directions of its data.

    python -m experiments.spectral_learning --preset quick --data-dir DIR --out out

Energy and residual of reconstructed training images along the eigenvectors of the training split,
at steps that are evenly spaced in their logarithm. A direction counts as learned at the first
logged step at which its residual is below 1/2. PCA with as many directions as the latent has, the
best linear autoencoder, is the reference.

The paper concludes from this order that what perception needs is learned last. That is measured
here directly: every direction carries a share of what a linear head explains of the labels, less
what chance explains, so the residuals say how much of that share is reconstructed at each step.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from typing import Any

import jax
import matplotlib
import numpy as np
from flax import nnx
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from experiments import networks, report, sets
from reconjax.data import Dataset
from reconjax.nets import make
from reconjax.plots import STYLE
from reconjax.plots.style import COLORS, STRENGTHS
from reconjax.training import Centered, Trained, reconstruction
from reconjax.training.eigenspace import (
    Tracked,
    eigenspace,
    grouped,
    learned,
    learning_order,
    octaves,
    pca_reference,
    rank_correlation,
    track,
)

NAME = "spectral_learning"
# The settings of `full` are the authors'.
PRESETS: dict[str, dict[str, Any]] = {
    "smoke": {
        "data": ["digits"],
        "samples": 400,
        "watched": 100,
        "seeds": 2,
        "latent_dim": 16,
        "points": 6,
        "nets": {"mlp": {"widths": [64]}},
        "training": {"epochs": 20, "batch_size": 40, "learning_rate": {"mlp": 1e-2}},
    },
    "quick": {
        "data": ["fashion_mnist", "cifar10"],
        "samples": 3000,
        "watched": 400,
        "seeds": 3,
        "latent_dim": 256,
        "points": 12,
        "nets": {
            "mlp": {"widths": [512]},
            "conv": {"widths": [16, 32, 64]},
            "resnet18": {"width": 4},
        },
        "training": {
            "epochs": 4,
            "batch_size": 24,
            "learning_rate": {"mlp": 3e-3, "conv": 3e-3, "resnet18": 1e-2},
        },
    },
    "full": {
        "data": ["cifar10"],
        "samples": None,
        "watched": 4096,
        "seeds": 3,
        "latent_dim": 512,
        "points": 24,
        "nets": {
            "mlp": {"widths": [2048, 1024], "dtype": "bfloat16"},
            "conv": {"widths": [32, 128, 256], "dtype": "bfloat16"},
            "resnet18": {"dtype": "bfloat16"},
        },
        "training": {
            "epochs": 100,
            "batch_size": 256,
            "learning_rate": {"mlp": 1e-3, "conv": 1e-3, "resnet18": 1e-3},
        },
    },
}
WEIGHT_DECAY = 1e-3
# Directions are drawn in groups, so many to an octave: 1, 2, 3, 4, 5 - 6, 7 - 8, ...
PER_OCTAVE = 3


def main(argv: Sequence[str] | None = None) -> None:
    experiment = networks.Experiment(NAME, __doc__, PRESETS, cases, summary, picture, show)
    networks.run(experiment, argv)


def key(data: str, net: str, seed: int) -> str:
    return f"{data}: {net}: seed {seed}"


def cases(options: Any, preset: dict[str, Any]) -> Iterator[tuple[str, Callable[[], Any]]]:
    """One training each; seed by seed, so that what is there early is balanced."""
    dataset = cache(lambda data: sets.opened(data, options))

    @cache
    def spectrum(data: str) -> Any:
        batches = dataset(data).train.batches(networks.ROWS)
        return networks.principal(batches, dataset(data), None)

    def measured(data: str, net: str, seed: int) -> dict[str, Any]:
        drawn = networks.sample(dataset(data), preset["samples"], 1, seed)
        return measure(preset, drawn, spectrum(data), net, seed)

    for seed in networks.seeds(options, preset):
        for data in options.data:
            for net in preset["nets"]:
                yield key(data, net, seed), partial(measured, data, net, seed)


def measure(
    preset: dict[str, Any], dataset: Dataset, spectrum: Any, net: str, seed: int
) -> dict[str, Any]:
    """What was reconstructed along the eigenvectors at each logged step of a training."""
    how = {**preset["training"], "learning_rate": preset["training"]["learning_rate"][net]}
    steps = networks.log_steps(
        how["epochs"] * (len(dataset.train) // how["batch_size"]), preset["points"]
    )
    images, _ = dataset.train.examples(np.arange(preset["watched"]))
    space = eigenspace(Centered.of(dataset.train).centered(images), spectrum)
    history: list[Tracked] = []

    def watch(trained: Trained) -> dict[str, Any]:
        history.append(jax.tree.map(np.asarray, track(trained.model, space)))
        return {}

    model = make(
        net,
        dataset.example_shape,
        latent_dim=preset["latent_dim"],
        rngs=nnx.Rngs(seed),
        **preset["nets"][net],
    )
    trained = networks.train(
        model,
        dataset,
        reconstruction(),
        seed=seed,
        weight_decay=WEIGHT_DECAY,
        evaluate_at=steps,
        measure=watch,
        **how,
    )
    directions = space.eigenvalue.shape[0]
    labels = label_shares(spectrum)[:directions]
    train = [row["loss"] for row in trained.history if row["split"] == "train"]
    return {
        "steps": steps,
        "train_loss": train[-1],
        "directions": directions,
        **order(history, steps, preset["latent_dim"]),
        **curves(history, steps, labels),
        **drawn_groups(history),
        "pca": curves([pca_reference(space, preset["latent_dim"])], [0], labels),
    }


def label_shares(spectrum: Any) -> np.ndarray:
    """(R,) label variance that each direction explains beyond chance, which is the same for all.

    Chance explains residual / (N - r - 1) on each of r directions.
    """
    r2 = np.sum(np.asarray(spectrum.labels, float) ** 2, axis=0)
    rank, samples = int(spectrum.rank), float(spectrum.samples)
    left = float(np.trace(spectrum.label_moment)) - r2.sum()
    within = np.arange(len(r2)) < rank
    return np.where(within, r2 - left / (samples - rank - 1), 0)


def order(history: list[Tracked], steps: list[int], latent_dim: int) -> dict[str, Any]:
    """In which order the directions were learned: all, and those that the latent has room for."""
    learning = learning_order(history, steps)
    variance = history[0].eigenvalue
    room = min(latent_dim, len(variance))
    group = octaves(len(variance))
    residual = [grouped(tracked, group).residual for tracked in history]
    return {
        "rank_correlation": learning.rank_correlation,
        "rank_correlation_within_latent_dim": rank_correlation(
            variance[:room], learning.step[:room]
        ),
        "never": learning.never,
        "top": learning.top,
        "bottom": learning.bottom,
        "delay": learning.delay,
        "octaves": learned(residual, steps),
        "octave_residual": report.rounded(residual[-1], 4),
    }


def curves(history: list[Tracked], steps: list[int], labels: np.ndarray) -> dict[str, Any]:
    """Shares of pixel variance and of explained label variance that are reconstructed."""

    def share(weight: np.ndarray) -> np.ndarray:
        # A residual above 1 tells nothing of the direction; no more than nothing.
        parts = [1 - np.minimum(np.asarray(tracked.residual, float), 1) for tracked in history]
        return np.asarray([part @ weight / weight.sum() for part in parts])

    pixels, label_variance = share(np.asarray(history[0].eigenvalue, float)), share(labels)
    return {
        "pixels": report.rounded(pixels, 4),
        "labels": report.rounded(label_variance, 4),
        "half_of_pixels": crossing(pixels, steps),
        "half_of_labels": crossing(label_variance, steps),
    }


def crossing(share: np.ndarray, steps: list[int]) -> float:
    """The first logged step at which a share is above 1/2, or inf."""
    above = share > 0.5
    return float(steps[int(np.argmax(above))]) if above.any() else float("inf")


def drawn_groups(history: list[Tracked]) -> dict[str, Any]:
    """Energy and residual of groups of neighboring directions: eigenvalue (G,), others (T, G)."""
    directions = len(history[0].eigenvalue)
    octave = np.floor(PER_OCTAVE * np.log2(np.arange(1, directions + 1)))
    _, first, group = np.unique(octave, return_index=True, return_inverse=True)
    counts = np.bincount(group)
    parts = [grouped(tracked, group) for tracked in history]
    return {
        "first": first + 1,
        "eigenvalue": report.rounded(parts[0].eigenvalue / counts, 4),
        "energy": [report.rounded(part.energy, 4) for part in parts],
        "residual": [report.rounded(part.residual, 4) for part in parts],
    }


def by_group(part: dict[str, Any]) -> float:
    """Rank correlation of the groups' eigenvalue and mean residual over the steps.

    The steps at which directions are learned are the same for all that are never learned; this is
    not.
    """
    residual = np.minimum(np.asarray(part["residual"], float), 1).mean(axis=0)
    return rank_correlation(np.asarray(part["eigenvalue"], float), residual)


NUMBERS = (
    "rank_correlation",
    "rank_correlation_within_latent_dim",
    "top",
    "bottom",
    "delay",
    "never",
    "half_of_pixels",
    "half_of_labels",
    "train_loss",
)


def summary(options: Any, preset: dict[str, Any], parts: dict[str, Any]) -> dict[str, Any]:
    """Means over the seeds. A step that was never reached makes a mean infinite."""
    results: dict[str, Any] = {}
    for data in options.data:
        for net in preset["nets"]:
            each = [parts[key(data, net, seed)] for seed in networks.seeds(options, preset)]
            rows = {name: networks.mean(number(part[name]) for part in each) for name in NUMBERS}
            rows["rank_correlation_by_group"] = networks.mean(by_group(part) for part in each)
            late = [number(part["half_of_labels"]) for part in each]
            rows["label_delay"] = networks.difference(
                late, [number(part["half_of_pixels"]) for part in each]
            )
            table = np.array([[number(step) for step in part["octaves"]] for part in each])
            rows["octaves"] = np.median(table, axis=0)
            rows["directions"], rows["steps"] = each[0]["directions"], each[0]["steps"][-1]
            results[f"{data}: {net}"] = rows
    return results


def number(value: Any) -> float:
    """What JSON gave back: null for NaN, "inf"."""
    return float("nan") if value is None else float(value)


def show(results: dict[str, Any]) -> None:
    print(
        "rank correlation of eigenvalue and step learned, of all directions and of the first K; of"
    )
    print(
        "groups, with their mean residual; step at which the residual of the top and of the bottom"
    )
    print("half of the variance is below 1/2, and at which half of pixels and labels is there")
    head = ("rank corr.", "in K", "groups", "top", "bottom", "pixels", "labels", "steps")
    print(f"{'':<28}" + "".join(f"{name:>10}" for name in head))
    columns = (
        "rank_correlation",
        "rank_correlation_within_latent_dim",
        "rank_correlation_by_group",
        "top",
        "bottom",
        "half_of_pixels",
        "half_of_labels",
    )
    for name, rows in results.items():
        cells = [number(rows[column]["mean"]) for column in columns]
        print(f"{name:<28}" + "".join(f"{cell:>10.4g}" for cell in cells) + f"{rows['steps']:>10}")


def picture(options: Any, preset: dict[str, Any], results: dict[str, Any]) -> Figure:
    """Fig. 3: one row a data set; for each net the residuals through training, then the shares."""
    nets, parts = list(preset["nets"]), results["parts"]
    with matplotlib.rc_context(STYLE):
        size = (3.5 * (len(nets) + 1) + 0.8, 3.2 * len(options.data) + 0.4)
        figure = Figure(figsize=size, layout="constrained")
        panels = figure.subplots(len(options.data), len(nets) + 1, squeeze=False)
        for row, data in zip(panels, options.data, strict=True):
            for axes, net in zip(row, nets, strict=False):
                each = [parts[key(data, net, seed)] for seed in networks.seeds(options, preset)]
                draw_residuals(axes, each, preset["latent_dim"])
                axes.set_title(f"{data}, {net}")
            row[0].set_ylabel("residual share of each direction")
            for color, net in enumerate(nets):
                each = [parts[key(data, net, seed)] for seed in networks.seeds(options, preset)]
                draw_shares(row[-1], each, net, COLORS[color])
            row[-1].set_title(f"{data}, reconstructed")
        panels[0, -1].legend(fontsize=8)
        panels[0, 0].legend(fontsize=8, loc="lower right")
    return figure


def draw_residuals(axes: Axes, each: Sequence[Any], latent_dim: int) -> None:
    """Mean residuals by direction, from the first step (light) to the last one (dark)."""
    first, steps = np.asarray(each[0]["first"]), each[0]["steps"]
    residual = np.mean([part["residual"] for part in each], axis=0)
    colors = matplotlib.colormaps[STRENGTHS](np.linspace(0.08, 1, len(steps)))
    for index, (curve, color) in enumerate(zip(residual, colors, strict=True)):
        ends = index in (0, len(steps) - 1)
        axes.plot(first, curve, color=color, lw=1.4, label=f"step {steps[index]}" if ends else None)
    axes.step(
        [1, latent_dim + 1, first[-1]], [0, 1, 1], where="post", color="black", lw=1.1, label="PCA"
    )
    axes.axhline(0.5, color="0.4", ls=":", lw=1)
    axes.set(xscale="log", ylim=(-0.03, 1.25), xlabel="direction, by falling variance")


def draw_shares(axes: Axes, each: Sequence[Any], net: str, color: str) -> None:
    """Reconstructed shares of pixel and label variance against the step."""
    steps = np.asarray(each[0]["steps"])[1:]
    for name, style in (("pixels", "-"), ("labels", "--")):
        table = np.asarray([part[name] for part in each])[:, 1:]
        axes.fill_between(steps, table.min(0), table.max(0), color=color, alpha=0.2, lw=0)
        axes.plot(steps, table.mean(0), style, color=color, label=f"{net}, {name}")
    axes.set(xscale="log", xlabel="step", ylim=(0, 1))
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))


if __name__ == "__main__":
    main()
