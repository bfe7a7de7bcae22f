"""Which networks are trained, on what, and what probes read off them.

A cell is a set, a network and a choice of what is learned, with all its seeds.
"""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
from flax import nnx

from experiments import networks, table
from reconjax.data import Dataset, load
from reconjax.nets import make
from reconjax.noise import parse_noise
from reconjax.training import (
    Objective,
    Trained,
    denoising,
    fit_runs,
    joint_embedding,
    parse_target,
    reconstruction,
    ridge_probe,
)
from reconjax.training.probes import features

SIDE = 16  # of all images, in pixels
LATENT_DIM = 32
BATCH_SIZE = 250
WEIGHT_DECAY = 1e-4
NETS: dict[str, dict[str, Any]] = {
    "mlp": {"latent_dim": LATENT_DIM, "widths": (256,)},
    # What the closed form is of: a control, whether training finds what it says.
    "linear": {"latent_dim": LATENT_DIM},
    "conv": {"latent_dim": LATENT_DIM, "widths": (16, 32)},
}
NOISES = ("mask:0.75:4x4", "mask:0.75:1x1")
TARGETS = ("whitened:0.5", "whitened:0.75")
LOSSES = ("whitening", "vicreg")


class Choice(NamedTuple):
    """What is learned.

    Attributes:
      learned: "pixels", a target of `reconjax.training.parse_target`, or a loss of joint embedding.
      noise: a text of `reconjax.noise.parse_noise`, or "none".
    """

    learned: str
    noise: str

    @property
    def embedding(self) -> bool:
        """Whether two views are embedded."""
        return self.learned in LOSSES


# What answers the questions on its own comes first: a table that is not whole yet can be looked at.
CHOICES = (
    Choice("pixels", "none"),
    *(Choice(learned, NOISES[0]) for learned in ("pixels", TARGETS[1], *LOSSES)),
    *(Choice(learned, NOISES[1]) for learned in ("pixels", LOSSES[0], TARGETS[1])),
    Choice(TARGETS[1], "none"),
    Choice(LOSSES[1], NOISES[1]),
    *(Choice(TARGETS[0], noise) for noise in (*NOISES, "none")),
)


class Settings(NamedTuple):
    """What is chosen by seeds that are not reported.

    Attributes:
      learning_rate: its peak.
      weights: of VICReg; None elsewhere.
    """

    learning_rate: float
    weights: tuple[float, float, float] | None = None


class Cell(NamedTuple):
    """What is trained together: all seeds.

    Attributes:
      data: the text that `reconjax.data.load` takes.
      net: one of `NETS`.
      choice: what is learned.
      images: that a training sees.
    """

    data: str
    net: str
    choice: Choice
    images: int


class Row(NamedTuple):
    """A trained network.

    Attributes:
      data: the text that `reconjax.data.load` takes.
      net: of the network.
      learned: see `Choice`.
      noise: see `Choice`.
      images: that the training saw.
      learning_rate: its peak.
      weights: of VICReg, separated by spaces, or nothing.
      seed: of the network.
      loss: of the objective, on the test split.
      validation_r2: of the linear probe, by leave-one-out on the training split.
      r2: of the same probe, on the test split.
      accuracy: of the probe that leave-one-out accuracy chooses, on the test split.
      device: what it was trained on, and by which version of JAX.
    """

    data: str
    net: str
    learned: str
    noise: str
    images: int
    learning_rate: float
    weights: str
    seed: int
    loss: float
    validation_r2: float
    r2: float
    accuracy: float
    device: str

    @property
    def cell(self) -> Cell:
        """What it belongs to."""
        return Cell(self.data, self.net, Choice(self.learned, self.noise), self.images)


def cells(options: Any) -> list[Cell]:
    """All of them, a choice on all sets after the other."""
    return [
        Cell(data, net, choice, options.images)
        for net in options.nets
        for choice in CHOICES[: options.choices]
        for data in options.data
    ]


@functools.lru_cache(maxsize=8)
def dataset(data: str, data_dir: Path | None, samples: int) -> Dataset:
    """Images of one size, at most so many for training and a quarter of that for the test."""
    whole = load(data, data_dir=data_dir, resize=SIDE)
    if whole.test is None:
        raise ValueError(f"{data}: has no test split, which this experiment needs")
    counts = (min(samples, len(whole.train)), min(samples // 4, len(whole.test)))
    return networks.sample(whole, *counts, 0)


def objective(choice: Choice, data: Dataset, weights: tuple[float, ...] | None) -> Objective:
    """Of the library."""
    shape = data.example_shape
    noise = None if choice.noise == "none" else parse_noise(choice.noise, shape)
    if choice.embedding:
        assert noise is not None
        return joint_embedding(noise, choice.learned, weights=weights)
    target = parse_target(choice.learned, shape, data)
    return reconstruction(target=target) if noise is None else denoising(noise, target=target)


def train(cell: Cell, data: Dataset, settings: Settings, seeds: Sequence[int]) -> list[Row]:
    """The rows of a cell, one for each seed."""
    per_epoch = len(data.train) // BATCH_SIZE
    epochs = max(round(cell.images / BATCH_SIZE / per_epoch), 1)

    def network(seed: int) -> Any:
        return make(cell.net, data.example_shape, rngs=nnx.Rngs(seed), **NETS[cell.net])

    with networks.bar(epochs * per_epoch * len(seeds)) as progress:
        runs = fit_runs(
            network,
            data,
            objective(cell.choice, data, settings.weights),
            seeds=seeds,
            learning_rates=settings.learning_rate,
            weight_decay=WEIGHT_DECAY,
            epochs=epochs,
            batch_size=BATCH_SIZE,
            evaluate_at=[epochs * per_epoch],
            measure=lambda trained: probed(trained, data),
            progress=progress,
            devices=jax.local_devices()[:1],
        )
    device = f"{jax.devices()[0].device_kind}, jax {jax.__version__}"
    weights = "" if settings.weights is None else " ".join(f"{w:g}" for w in settings.weights)
    return [
        Row(
            *(cell.data, cell.net, *cell.choice, cell.images),
            *(settings.learning_rate, weights, seed),
            *(short(run.history[-1][name]) for name in MEASURED),
            device,
        )
        for seed, run in zip(seeds, runs, strict=True)
    ]


MEASURED = ("loss", "validation_r2", "r2", "accuracy")


def probed(trained: Trained, data: Dataset) -> dict[str, float]:
    """What a linear probe reads off a network."""
    assert data.test is not None
    known = features(trained.model, data.train, trained.inputs, batch_size=2000)
    new = features(trained.model, data.test, trained.inputs, batch_size=2000)
    probe = ridge_probe(*known, *new)
    assert probe.validation is not None
    assert probe.test is not None
    weight = probe.chosen_by_r2
    return {
        "validation_r2": float(probe.validation.r2[weight]),
        "r2": float(probe.test.r2[weight]),
        "accuracy": float(probe.test.accuracy[probe.chosen]),
    }


def read(path: Path) -> list[Row]:
    """The rows of a file, none where there is no file."""
    return list(table.lines(path, Row))


def short(value: Any) -> float:
    """To five significant digits."""
    return float(f"{float(value):.5g}")
