"""Figs 1 (top), 4 and 8: what a network can learn from the top and from the bottom subspace.

    python -m experiments.perception --preset quick --data-dir DIR --out out

Classifiers are trained and tested on images projected on the fewest top directions with a share of
the pixel variance, or on their complement. The projection belongs to the training split alone (all
of it, while a network may be trained on a part); projected images are float32 without the mean
image, and augmentation comes after projection. `rescaled` divides every image by its standard
deviation before the decomposition and again after the projection, as the authors' code does.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from flax import nnx
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from experiments import networks, sets
from reconjax import Spectrum, project
from reconjax.data import Dataset, Split
from reconjax.data.units import as_floats
from reconjax.nets import make
from reconjax.plots import STYLE
from reconjax.plots.style import COLORS
from reconjax.theory.spectrum import top_directions
from reconjax.training import classification

NAME = "perception"
SIDES = {"top": COLORS[1], "bottom": COLORS[0]}


class Variant(NamedTuple):
    """How a classifier is trained, and on which shares of variance."""

    net: str
    shares: tuple[float, ...]
    loss: str = "cross_entropy"
    augmented: bool = False
    rescaled: bool = False

    @property
    def name(self) -> str:
        extra = [name for name in ("augmented", "rescaled") if getattr(self, name)]
        return ", ".join([self.net, self.loss.replace("_", "-"), *extra])


def _all_variants(shares: tuple[float, ...]) -> list[Variant]:
    axes = {"rescaled": (False, True), "augmented": (False, True)}
    axes |= {"loss": ("cross_entropy", "mse"), "net": ("resnet9", "mlp-classifier")}
    return [Variant(shares=shares, **each) for each in networks.product(**axes)]


# The settings of `full` are the authors'.
PRESETS: dict[str, dict[str, Any]] = {
    "smoke": {
        "data": ["digits"],
        "samples": 300,
        "tested": 300,
        "seeds": 2,
        "nets": {"mlp-classifier": {"widths": [16]}},
        "variants": [
            Variant("mlp-classifier", (0.5, 0.9)),
            Variant("mlp-classifier", (0.9,), rescaled=True),
        ],
        "epochs": {"mlp-classifier": 4},
        "training": {"batch_size": 60, "learning_rate": 1e-2},
    },
    "quick": {
        "data": ["fashion_mnist", "cifar10"],
        "samples": 4000,
        "tested": 2000,
        "seeds": 3,
        "nets": {"resnet9": {"width": 1 / 16}, "mlp-classifier": {"widths": [256, 256]}},
        "variants": [
            Variant("resnet9", (0.5, 0.75, 0.9)),
            Variant("mlp-classifier", (0.5, 0.75, 0.9)),
            Variant("resnet9", (0.9,), "mse"),
            Variant("resnet9", (0.9,), augmented=True),
            Variant("resnet9", (0.9,), rescaled=True),
        ],
        "epochs": {"resnet9": 3, "mlp-classifier": 10},
        "training": {"batch_size": 64, "learning_rate": 3e-3},
    },
    "full": {
        "data": ["cifar10"],
        "samples": None,
        "tested": None,
        "seeds": 1,
        "nets": {
            "resnet9": {"dtype": "bfloat16"},
            "mlp-classifier": {"widths": [2048, 1024], "dtype": "bfloat16"},
        },
        "variants": _all_variants((0.5, 0.75, 0.9, 0.95, 0.99)),
        "epochs": {"resnet9": 50, "mlp-classifier": 50},
        "training": {"batch_size": 512, "learning_rate": 1e-3},
    },
}
WEIGHT_DECAY = 1e-3
DECOMPOSED = {"smoke": None, "quick": 20_000, "full": None}


class Arm(NamedTuple):
    """The images that a network gets: one side of a share of variance, or, at share 1, all."""

    share: float
    side: str

    @property
    def name(self) -> str:
        return "all" if self.share == 1 else f"{self.side} {self.share:g}"


def arms(variant: Variant) -> list[Arm]:
    sides = [Arm(share, side) for share in variant.shares for side in SIDES]
    return [*sides, Arm(1.0, "top")] if len(variant.shares) > 1 else sides


def main(argv: Sequence[str] | None = None) -> None:
    experiment = networks.Experiment(NAME, __doc__, PRESETS, cases, summary, picture, show)
    networks.run(experiment, argv)


def key(data: str, variant: Variant, arm: Arm, seed: int) -> str:
    return f"{data}: {variant.name}: {arm.name}: seed {seed}"


def cases(options: Any, preset: dict[str, Any]) -> Iterator[tuple[str, Callable[[], Any]]]:
    """One training each; seed by seed, so that what is there early is balanced."""
    images = Images(options, preset)
    for seed in networks.seeds(options, preset):
        for data in options.data:
            for variant in preset["variants"]:
                for arm in arms(variant):
                    case = partial(measure, preset, images, data, variant, arm, seed)
                    yield key(data, variant, arm, seed), case


def measure(
    preset: dict[str, Any], images: "Images", data: str, variant: Variant, arm: Arm, seed: int
) -> dict[str, Any]:
    """Accuracy of a network that was trained and tested on these images."""
    projected, facts = images.projected(data, variant.rescaled, arm, seed)
    shape = projected.example_shape
    net = make(
        variant.net,
        shape,
        num_classes=projected.num_classes,
        rngs=nnx.Rngs(seed),
        **preset["nets"][variant.net],
    )
    trained = networks.train(
        net,
        projected,
        classification(variant.loss),
        seed=seed,
        weight_decay=WEIGHT_DECAY,
        augment=("crop", "flip") if variant.augmented else (),
        evaluate_at=(),
        epochs=preset["epochs"][variant.net],
        **preset["training"],
    )
    last = {row["split"]: row for row in trained.history}
    return {**facts, **{f"{split}_accuracy": row["accuracy"] for split, row in last.items()}}


class Images:
    """Data sets, their spectra and their projections, made when they are needed."""

    def __init__(self, options: Any, preset: dict[str, Any]) -> None:
        self.options, self.preset = options, preset
        self.dataset = cache(lambda data: sets.opened(data, options))
        self.spectrum = cache(self._spectrum)
        # Seeds, data sets and variants come one after the other: one part is needed at a time.
        self._part: tuple[Any, Dataset] | None = None

    def _spectrum(self, data: str, rescaled: bool) -> Spectrum:
        dataset = self.dataset(data)
        limit = DECOMPOSED[self.options.preset]
        split = dataset.train if limit is None else dataset.train.sample(limit, self.options.seed)
        batches = split.batches(networks.ROWS)
        if rescaled:
            batches = ((rescale(images), labels) for images, labels in batches)
        largest = max(max(variant.shares) for variant in self.preset["variants"])
        return networks.principal(batches, dataset, largest)

    def part(self, data: str, seed: int) -> Dataset:
        """The images of both splits that a seed takes, as they are stored."""
        if self._part is None or self._part[0] != (data, seed):
            drawn = networks.sample(
                self.dataset(data), self.preset["samples"], self.preset["tested"], seed
            )
            self._part = (data, seed), drawn
        return self._part[1]

    def projected(
        self, data: str, rescaled: bool, arm: Arm, seed: int
    ) -> tuple[Dataset, dict[str, Any]]:
        """Both splits of an arm, and how many directions and how much variance it keeps."""
        dataset, spectrum = self.part(data, seed), self.spectrum(data, rescaled)
        rank = int(spectrum.rank)
        count = rank if arm.share == 1 else int(top_directions(spectrum, arm.share, None, "top"))
        kept = float(spectrum.eigenvalues[:count].sum() / spectrum.eigenvalues.sum())
        lean = spectrum._replace(eigenvectors=spectrum.eigenvectors[:, :count])
        bottom = arm.side == "bottom"
        facts = {
            "directions": rank - count if bottom else count,
            "variance": 1 - kept if bottom else kept,
        }

        def onto(images: np.ndarray) -> np.ndarray:
            floats = rescale(images) if rescaled else np.asarray(as_floats(images), np.float32)
            if arm.share == 1:
                floats = floats - np.asarray(spectrum.mean).reshape(floats.shape[1:])
            else:
                where = {"subspace": arm.side, "directions": facts["directions"]}
                floats = np.asarray(project(lean, floats, keep_mean=False, **where))
            return rescale(floats) if rescaled else floats

        def both(split: Split) -> tuple[np.ndarray, np.ndarray]:
            batches = split.batches(networks.ROWS)
            return np.concatenate([onto(images) for images, _ in batches]), split.labels

        train, test = both(dataset.train), both(dataset.test)  # type: ignore[arg-type]
        projected = Dataset.from_arrays(
            *train, *test, class_names=dataset.class_names, name=dataset.name
        )
        return projected, facts


def rescale(images: np.ndarray) -> np.ndarray:
    """(n, H, W, C) float32, every image divided by its standard deviation."""
    floats = images.astype(np.float32)
    return floats / (1e-6 + floats.std((1, 2, 3), keepdims=True))


def summary(options: Any, preset: dict[str, Any], parts: dict[str, Any]) -> dict[str, Any]:
    """Accuracies over the seeds, and the bottom against the top at every share."""
    results: dict[str, Any] = {}
    for data in options.data:
        rows = results[data] = {}
        for variant in preset["variants"]:

            def accuracies(arm: Arm, data: str = data, variant: Variant = variant) -> list[float]:
                each = (
                    parts[key(data, variant, arm, seed)] for seed in networks.seeds(options, preset)
                )
                return [part["test_accuracy"] for part in each]

            shares = {}
            for share in variant.shares:
                sides = {side: accuracies(Arm(share, side)) for side in SIDES}
                first = parts[key(data, variant, Arm(share, "top"), options.seed)]
                shares[f"{share:g}"] = {
                    "directions": first["directions"],
                    "variance": first["variance"],
                    **{side: networks.mean(values) for side, values in sides.items()},
                    "difference": networks.difference(sides["bottom"], sides["top"]),
                }
            rows[variant.name] = {"shares": shares}
            if len(variant.shares) > 1:
                rows[variant.name]["all"] = networks.mean(accuracies(Arm(1.0, "top")))
    return results


def show(results: dict[str, Any]) -> None:
    print("test accuracy in percent, mean ± standard error over the seeds; bottom: without the top")
    print(f"{'':<60} {'top':>14} {'bottom':>14} {'difference':>14}")
    for data, variants in results.items():
        for name, rows in variants.items():
            for share, row in rows["shares"].items():
                cells = [networks.percent(row[part]) for part in (*SIDES, "difference")]
                head = f"{data}, {name}, {float(share):.0%}"
                print(f"{head:<60} " + " ".join(f"{cell:>14}" for cell in cells))
            if "all" in rows:
                print(f"{f'{data}, {name}, all':<60} {networks.percent(rows['all']):>14}")


def picture(options: Any, preset: dict[str, Any], results: dict[str, Any]) -> Figure:
    """Fig. 4: accuracy on both sides by share; and at the largest common share, by variant."""
    variants: Sequence[Variant] = preset["variants"]
    summarized = results["summary"]
    curves = [variant.name for variant in variants if len(variant.shares) > 1]
    common = max(set.intersection(*({*variant.shares} for variant in variants)))
    size = (3.6 * len(curves) + 1.3 + 0.55 * len(variants), 3.1 * len(summarized) + 0.4)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=size, layout="constrained")
        panels = figure.subplots(
            len(summarized),
            len(curves) + 1,
            squeeze=False,
            sharey="row",
            width_ratios=[1.0] * len(curves) + [0.35 + 0.22 * len(variants)],
        )
        for row, (data, rows) in zip(panels, summarized.items(), strict=True):
            for axes, name in zip(row, curves, strict=False):
                draw_shares(axes, rows[name])
                axes.set_title(f"{data}\n{name}")
            draw_variants(row[-1], rows, f"{common:g}")
            row[-1].set_title(f"{data}\ntop {common:.0%} against the rest")
            row[0].set_ylabel("test accuracy")
            row[0].yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        panels[0, 0].legend(fontsize=8.5)
    return figure


def draw_shares(axes: Axes, rows: dict[str, Any]) -> None:
    place = np.arange(len(rows["shares"]))
    for side, color in SIDES.items():
        values = [row[side] for row in rows["shares"].values()]
        means = [value["mean"] for value in values]
        errors = [value["error"] for value in values]
        axes.errorbar(
            place,
            means,
            errors,
            color=color,
            marker="o",
            ms=4.5,
            capsize=3,
            label=f"{side} subspace",
        )
    axes.axhline(rows["all"]["mean"], color="0.35", ls="--", lw=1.2, label="all of the images")
    shares = rows["shares"].items()
    labels = [f"{float(share):.0%}\n{row['directions']}" for share, row in shares]
    axes.set_xticks(place, labels)
    axes.set_xlabel("variance in the top, its directions")


def draw_variants(axes: Axes, rows: dict[str, Any], share: str) -> None:
    names = [name for name in rows if share in rows[name]["shares"]]
    for offset, (side, color) in zip((-0.2, 0.2), SIDES.items(), strict=True):
        values = [rows[name]["shares"][share][side] for name in names]
        axes.bar(
            np.arange(len(names)) + offset,
            [value["mean"] for value in values],
            0.4,
            yerr=[value["error"] for value in values],
            color=color,
            alpha=0.85,
            capsize=2,
        )
    labels = [name.replace("-classifier", "").replace(", ", "\n") for name in names]
    axes.set_xticks(np.arange(len(names)), labels, fontsize=8)
    axes.grid(axis="x", visible=False)


if __name__ == "__main__":
    main()
