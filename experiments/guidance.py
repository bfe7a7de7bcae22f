"""Figs 5 and 7: the same reconstruction, other features, by a little supervision of the latent.

    python -m experiments.guidance --preset quick --data-dir DIR --out out

Pairs of autoencoders that are equal in everything - data, initial parameters, order of the
batches - but the weight of a linear head's cross-entropy on the latent (Eq. 8), 0 or 0.01. Linear
(ridge, in closed form) and nonlinear probes read the frozen latents of the same training split.

After equally many steps the losses are not quite equal. For a comparison at matched loss, the test
loss and the linear probe are taken several times during training, and both accuracies are read off
at the larger of the two final losses.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from typing import Any

import matplotlib
import numpy as np
from flax import nnx
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from experiments import networks, report, sets
from reconjax.data import Dataset
from reconjax.nets import make
from reconjax.plots import STYLE, reconstruction_figure
from reconjax.plots.style import COLORS
from reconjax.training import Trained, fit_runs, guided
from reconjax.training.probes import features, mlp_probe, pca_features, ridge_probe

NAME = "guidance"
WEIGHTS = (0.0, 0.01)
PRESETS: dict[str, dict[str, Any]] = {
    "smoke": {
        "data": ["digits"],
        "samples": 360,
        "tested": 360,
        "seeds": 2,
        "latent_dims": [8],
        "net": {"name": "mlp", "widths": [32]},
        "points": 2,
        "augment": [],
        "probe": {"width": 32, "epochs": 4, "batch_size": 40, "learning_rate": 1e-2},
        "training": {"epochs": 10, "batch_size": 40, "learning_rate": 1e-2},
    },
    "quick": {
        "data": ["fashion_mnist", "cifar10"],
        "samples": 3000,
        "tested": 2000,
        "seeds": 3,
        "latent_dims": [16, 128],
        "net": {"name": "conv", "widths": [16, 32, 64]},
        "points": 3,
        "augment": [],
        "probe": {"width": 256, "epochs": 15, "batch_size": 250},
        "training": {"epochs": 6, "batch_size": 60, "learning_rate": 3e-3},
    },
    "full": {
        "data": ["cifar10"],
        "samples": None,
        "tested": None,
        "seeds": 3,
        "latent_dims": [32, 128, 512, 2048],
        "net": {"name": "resnet34", "dtype": "bfloat16"},
        "points": 8,
        "augment": ["crop", "flip"],
        "probe": {"width": 1024, "epochs": 30, "batch_size": 512},
        "training": {"epochs": 50, "batch_size": 256, "learning_rate": 1e-3},
    },
}
WEIGHT_DECAY = 1e-3
SHOWN = 8


def main(argv: Sequence[str] | None = None) -> None:
    experiment = networks.Experiment(NAME, __doc__, PRESETS, cases, summary, picture, show)
    networks.run(experiment, argv)


def key(data: str, latent_dim: int, seed: int) -> str:
    return f"{data}: K = {latent_dim}: seed {seed}"


def cases(options: Any, preset: dict[str, Any]) -> Iterator[tuple[str, Callable[[], Any]]]:
    """One pair each; seed by seed, so that what is there early is balanced."""
    dataset = cache(lambda data: sets.opened(data, options))

    def measured_part(data: str, latent_dim: int, seed: int) -> dict[str, Any]:
        drawn = networks.sample(dataset(data), preset["samples"], preset["tested"], seed)
        pair, part = measure(preset, drawn, latent_dim, seed)
        if (latent_dim, seed) == (max(preset["latent_dims"]), options.seed):
            draw_samples(options, drawn, pair, latent_dim)
        return part

    for seed in networks.seeds(options, preset):
        for data in options.data:
            for latent_dim in preset["latent_dims"]:
                yield key(data, latent_dim, seed), partial(measured_part, data, latent_dim, seed)


def measure(
    preset: dict[str, Any], dataset: Dataset, latent_dim: int, seed: int
) -> tuple[list[Trained], dict[str, Any]]:
    """A pair of autoencoders, their losses and what probes read off them, through training."""
    net, how = dict(preset["net"]), dict(preset["training"])
    name, rate = net.pop("name"), how.pop("learning_rate")
    steps = how["epochs"] * (len(dataset.train) // how["batch_size"])
    at = sorted(
        {round(steps * (index + 1) / preset["points"]) for index in range(preset["points"])}
    )
    kept: list[dict[str, Any]] = []

    def probe(trained: Trained) -> dict[str, Any]:
        codes = features(trained.model, dataset.train, trained.inputs)
        tested = features(trained.model, dataset.test, trained.inputs)
        kept.append({"linear": accuracy(ridge_probe(*codes, *tested)), "codes": (codes, tested)})
        return {"linear": kept[-1]["linear"]}

    with networks.bar(steps) as progress:
        pair = fit_runs(
            lambda seed: make(
                name, dataset.example_shape, latent_dim=latent_dim, rngs=nnx.Rngs(seed), **net
            ),
            dataset,
            guided(0.0),
            weights=WEIGHTS,
            seeds=seed,
            learning_rates=rate,
            weight_decay=WEIGHT_DECAY,
            augment=preset["augment"],
            evaluate_at=at,
            measure=probe,
            progress=progress,
            **how,
        )
    by_weight = {}
    for index, (weight, trained) in enumerate(zip(WEIGHTS, pair, strict=True)):
        codes, tested = kept[len(kept) - len(WEIGHTS) + index]["codes"]
        last, tests = (
            [row for row in trained.history if row["split"] == split] for split in ("train", "test")
        )
        by_weight[f"{weight:g}"] = {
            "train_loss": last[-1]["reconstruction"],
            "test_loss": tests[-1]["reconstruction"],
            "linear": tests[-1]["linear"],
            "nonlinear": accuracy(mlp_probe(*codes, *tested, seed=seed, **preset["probe"])),
            "head": tests[-1]["accuracy"],
            "curve": {
                "steps": at,
                "test_loss": [row["reconstruction"] for row in tests],
                "linear": [row["linear"] for row in tests],
            },
        }
    both = [by_weight[f"{weight:g}"]["curve"] for weight in WEIGHTS]
    loss = max(curve["test_loss"][-1] for curve in both)
    matched = [read_off(curve, loss) for curve in both]
    pca = pca_features(dataset, latent_dim)
    arrays = [split.examples(np.arange(len(split))) for split in (pca.train, pca.test)]
    return pair, {
        "weights": by_weight,
        "matched": {"test_loss": loss, "linear": matched},
        "pca": accuracy(ridge_probe(*arrays[0], *arrays[1])),
    }


def accuracy(probe: Any) -> float:
    return float(probe.test.accuracy[probe.chosen])


def read_off(curve: dict[str, Any], loss: float) -> float:
    """The accuracy at the last time that the test loss was this one, linear in its logarithm."""
    losses, accuracies = np.log(curve["test_loss"]), np.asarray(curve["linear"])
    above = np.flatnonzero(losses >= np.log(loss))
    last = int(above[-1]) if len(above) else 0
    if last == len(losses) - 1 or not len(above):
        return float(accuracies[last])
    share = (losses[last] - np.log(loss)) / (losses[last] - losses[last + 1])
    return float(accuracies[last] + share * (accuracies[last + 1] - accuracies[last]))


def draw_samples(options: Any, dataset: Dataset, pair: list[Trained], latent_dim: int) -> None:
    """Test images and what both networks make of them."""
    if len(dataset.example_shape) != 3:
        return
    images, _ = dataset.test.sample(SHOWN, options.seed).examples(np.arange(SHOWN))
    inputs = pair[0].inputs
    x = inputs.centered(images)
    rows = {
        f"weight {weight:g}": np.asarray(trained.model(x) + inputs.mean)
        for weight, trained in zip(WEIGHTS, pair, strict=True)
    }
    title = f"{dataset.name}, K = {latent_dim}: reconstructed test images"
    figure = reconstruction_figure(np.asarray(x + inputs.mean), rows, title=title)
    report.picture(options.out, dataset.name.partition(":")[0], figure)


def summary(options: Any, preset: dict[str, Any], parts: dict[str, Any]) -> dict[str, Any]:
    """Means over the seeds, and paired differences, guided less unguided."""
    without, with_ = (f"{weight:g}" for weight in WEIGHTS)
    results: dict[str, Any] = {}
    for data in options.data:
        rows = results[data] = {}
        for latent_dim in preset["latent_dims"]:
            each = [parts[key(data, latent_dim, seed)] for seed in networks.seeds(options, preset)]

            def values(weight: str, name: str, each: Any = each) -> list[float]:
                return [part["weights"][weight][name] for part in each]

            row: dict[str, Any] = {"pca": networks.mean(part["pca"] for part in each)}
            for name in ("linear", "nonlinear", "head", "train_loss", "test_loss"):
                row[name] = {w: networks.mean(values(w, name)) for w in (without, with_)}
                pairs = values(with_, name), values(without, name)
                if name.endswith("loss"):  # relative
                    pairs = np.log(pairs[0]), np.log(pairs[1])  # type: ignore[assignment]
                row[name]["difference"] = networks.difference(*pairs)
            matched = list(zip(*(part["matched"]["linear"] for part in each), strict=True))
            row["matched"] = networks.difference(matched[1], matched[0])
            rows[str(latent_dim)] = row
    return results


def show(results: dict[str, Any]) -> None:
    print(
        "unguided -> guided in percent, mean ± standard error over the seeds; test loss: relative"
    )
    print("difference; matched: linear probe, guided less unguided at the same test loss")
    head = ("PCA", "linear probe", "nonlinear probe", "test loss", "matched")
    print(f"{'':<26}" + "".join(f"{name:>28}" for name in head))
    for data, rows in results.items():
        for latent_dim, row in rows.items():
            cells = [networks.percent(row["pca"])]
            for name in ("linear", "nonlinear"):
                cells.append(" -> ".join(networks.percent(row[name][f"{w:g}"]) for w in WEIGHTS))
            cells += [
                networks.percent(row["test_loss"]["difference"]),
                networks.percent(row["matched"]),
            ]
            print(f"{f'{data}, K = {latent_dim}':<26}" + "".join(f"{cell:>28}" for cell in cells))


def picture(options: Any, preset: dict[str, Any], results: dict[str, Any]) -> Figure:
    """Fig. 5: probe accuracy against test loss through training, and by K at the end."""
    dims = preset["latent_dims"]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(13, 3.3 * len(options.data) + 0.4), layout="constrained")
        panels = figure.subplots(len(options.data), 3, squeeze=False)
        for (curve, linear, losses), data in zip(panels, options.data, strict=True):
            for shade, latent_dim in zip(np.linspace(0.4, 0.9, len(dims)), dims, strict=True):
                for seed in networks.seeds(options, preset):
                    part = results["parts"][key(data, latent_dim, seed)]
                    first = seed == options.seed
                    draw_pair(curve, part, float(shade), latent_dim if first else None)
            curve.set(xlabel="test reconstruction loss", title=f"{data}, through training")
            curve.set_ylabel("test accuracy, linear probe")
            curve.set_xscale("log")
            rows = results["summary"][data]
            draw_accuracies(linear, dims, rows)
            linear.set_title(f"{data}, probes at the end")
            draw_losses(losses, dims, rows)
            losses.set_title(f"{data}, loss of guided / unguided")
            for axes in (curve, linear):
                axes.yaxis.set_major_formatter(PercentFormatter(1))
        panels[0, 0].legend(fontsize=8)
        panels[0, 1].legend(fontsize=8)
        panels[0, 2].legend(fontsize=8)
    return figure


def draw_pair(axes: Axes, part: Any, shade: float, latent_dim: int | None) -> None:
    for weight, colors in zip(WEIGHTS, ("Blues", "Greens"), strict=True):
        curve = part["weights"][f"{weight:g}"]["curve"]
        label = None if latent_dim is None else f"K = {latent_dim}, weight {weight:g}"
        color = matplotlib.colormaps[colors](shade)
        axes.plot(
            curve["test_loss"], curve["linear"], "o-", ms=3.5, lw=1.2, color=color, label=label
        )


def draw_accuracies(axes: Axes, dims: Sequence[int], rows: dict[str, Any]) -> None:
    for weight, color in zip(WEIGHTS, (COLORS[0], COLORS[2]), strict=True):
        for probe, style in (("linear", "-"), ("nonlinear", "--")):
            values = [rows[str(k)][probe][f"{weight:g}"] for k in dims]
            axes.errorbar(
                dims,
                [value["mean"] for value in values],
                [value["error"] for value in values],
                color=color,
                ls=style,
                marker="o",
                ms=4,
                capsize=3,
                label=f"weight {weight:g}, {probe} probe{' (dashed)' if style == '--' else ''}",
            )
    axes.plot(
        dims, [rows[str(k)]["pca"]["mean"] for k in dims], color="0.4", ls=":", label="PCA, linear"
    )
    _latent_axis(axes, dims)


def draw_losses(axes: Axes, dims: Sequence[int], rows: dict[str, Any]) -> None:
    for split, style in (("train_loss", "-"), ("test_loss", "--")):
        values = [rows[str(k)][split]["difference"] for k in dims]
        axes.errorbar(
            dims,
            [np.exp(value["mean"]) - 1 for value in values],
            [value["error"] for value in values],
            color=COLORS[3],
            ls=style,
            marker="o",
            ms=4,
            capsize=3,
            label=f"{split.removesuffix('_loss')} loss{' (dashed)' if style == '--' else ''}",
        )
    axes.axhline(0, color="black", lw=1)
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    _latent_axis(axes, dims)


def _latent_axis(axes: Axes, dims: Sequence[int]) -> None:
    axes.set_xscale("log", base=2)
    axes.set_xticks(list(dims), [str(k) for k in dims])
    axes.set_xlabel("latent dimension K")


if __name__ == "__main__":
    main()
