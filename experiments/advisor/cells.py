"""Which networks are trained, on what, and what probes read off them.

A cell is a set, a network and a mask, with all its seeds, which are trained together.
"""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import nnx

from experiments import networks
from experiments.advisor.trained import Row
from reconjax.data import Dataset, load
from reconjax.nets import make
from reconjax.noise import ExactMask, exact_patch_mask
from reconjax.training import Trained, denoising, fit_runs, knn_probe, masked, ridge_probe
from reconjax.training.probes import features

SIDE = 32  # of all images, in pixels
PATCH = 4  # of the network, in pixels
GRID = SIDE // PATCH
BATCH_SIZE = 250
# Shares of the training after which a network is measured: the rungs of successive halving.
RUNGS = (1 / 16, 1 / 8, 1 / 4, 1 / 2)
# A rung is measured on fewer samples than the end.
RUNG_SAMPLES, RUNG_TESTED = 4000, 2000
NEIGHBORS = 20
LATENT_DIM = 64

WIDTH = 96
_NETS: dict[str, dict[str, Any]] = {
    "vit": {"patch_shape": PATCH, "width": WIDTH, "readout": "blocks"},
    "mlp": {"latent_dim": LATENT_DIM},
    "conv": {"latent_dim": LATENT_DIM},
}
NETS = tuple(_NETS)
_WEIGHT_DECAY = {"vit": 0.05, "mlp": 1e-4, "conv": 1e-4}
LEARNING_RATE = 1e-3


class Mask(NamedTuple):
    """Blocks of patches of the network, an exact number of which is seen.

    Attributes:
      block: side of a block in patches.
      kept: number of blocks that are seen; 0: all, nothing is masked.
    """

    block: int
    kept: int

    @property
    def blocks(self) -> int:
        """Of an image."""
        return (GRID // self.block) ** 2

    @property
    def ratio(self) -> float:
        """The share that is masked."""
        return 1 - self.kept / self.blocks if self.kept else 0.0

    @property
    def side(self) -> int:
        """Of a block, in pixels."""
        return PATCH * self.block

    def noise(self, image_shape: Sequence[int]) -> ExactMask:
        """The noise of the library."""
        return exact_patch_mask(self.ratio, self.side, tuple(image_shape))


NONE = Mask(1, 0)
# Diverse ones first: a table that is not whole yet can be looked at.
MASKS = (
    NONE,
    *(Mask(1, kept) for kept in (16, 48, 6)),
    *(Mask(2, kept) for kept in (4, 12, 2)),
    *(Mask(4, kept) for kept in (1, 3)),
    *(Mask(1, kept) for kept in (32, 10, 56, 24, 3, 40)),
    *(Mask(2, kept) for kept in (8, 3, 14, 6, 1, 10)),
    Mask(4, 2),
)


class Cell(NamedTuple):
    """What is trained together.

    Attributes:
      data: the text that `reconjax.data.load` takes.
      net: one of `NETS`.
      mask: of its input.
      length: images that a training sees.
    """

    data: str
    net: str
    mask: Mask
    length: int

    @property
    def key(self) -> tuple[Any, ...]:
        """As `Row.cell`."""
        return set_name(self.data), self.net, *self.mask, self.length


def set_name(data: str) -> str:
    """A short name of what `reconjax.data.load` takes: a file stands for the set of its name."""
    return Path(data).stem if data.endswith(".npz") else data


def cells(options: Any) -> list[Cell]:
    """All of them, one set after the other."""
    return [
        Cell(data, net, mask, options.images)
        for net in options.nets
        for data in options.data
        for mask in MASKS[: options.masks]
    ]


@functools.lru_cache(maxsize=8)
def split_in_three(data: str, data_dir: Path | None, samples: int) -> tuple[Dataset, Dataset]:
    """What networks are trained on and probed with, and the same with other test samples.

    Of the first, the test split is that of the set; of the second, a part of its training split
    that the first has not: predictors are judged on it. Where none is left, both are the same.
    """
    whole = load(data, data_dir=data_dir, resize=SIDE)
    if whole.test is None:
        raise ValueError(f"{data}: has no test split, which this experiment needs")
    tested = samples // 4
    drawn = networks.sample(whole, min(samples + tested, len(whole.train)), tested, 0)
    x, y = drawn.train.examples(np.arange(len(drawn.train)))
    test = drawn.test.examples(np.arange(len(drawn.test)))  # type: ignore[union-attr]

    def part(*others: np.ndarray) -> Dataset:
        return Dataset.from_arrays(x[:samples], y[:samples], *others, name=set_name(data))

    return part(*test), part(*(array[samples:] for array in (x, y))) if len(x) > samples else part(
        *test
    )


def train(cell: Cell, dataset: Dataset, seeds: Sequence[int], dtype: str) -> list[Row]:
    """The rows of a cell: all seeds, at each rung and at the end."""
    per_epoch = len(dataset.train) // BATCH_SIZE
    epochs = max(round(cell.length / BATCH_SIZE / per_epoch), 1)
    steps = epochs * per_epoch
    rungs = [round(rung * steps) for rung in RUNGS]
    shape = dataset.example_shape
    options = _NETS[cell.net]
    noise = cell.mask.noise(shape)
    if cell.net == "vit":
        objective: Any = masked(noise, loss_on="masked" if cell.mask.kept else "all")
    else:
        objective = denoising(noise)
    few = networks.sample(dataset, RUNG_SAMPLES, RUNG_TESTED, 0)

    def measure(trained: Trained) -> dict[str, Any]:
        last = trained.step == steps
        return probed(trained, dataset if last else few, last)

    def network(seed: int) -> Any:
        with jax.default_device(_host()):
            return make(cell.net, shape, rngs=nnx.Rngs(seed), dtype=dtype, **options)

    with networks.bar(steps) as progress:
        runs = fit_runs(
            network,
            dataset,
            objective,
            seeds=seeds,
            learning_rates=LEARNING_RATE,
            weight_decay=_WEIGHT_DECAY[cell.net],
            epochs=epochs,
            batch_size=BATCH_SIZE,
            evaluate_at=rungs,
            measure=measure,
            progress=progress,
            devices=jax.local_devices()[:1],  # the networks are small: processes share the work
        )
    device = f"{jax.devices()[0].device_kind}, jax {jax.__version__}, {dtype}"
    rows = []
    for seed, run in zip(seeds, runs, strict=True):
        for row in run.history:
            if row["split"] == "test":
                share = row["step"] / steps
                rows.append(
                    Row(
                        *cell.key[:-1],
                        round(cell.mask.ratio, 6),
                        seed,
                        cell.length,
                        round(share * cell.length),
                        _short(row["loss"]),
                        *(_short(row[name]) for name in ("r2", "accuracy")),
                        row["neighbors"],
                        row["class_r2"],
                        device,
                    )
                )
    return rows


def probed(trained: Trained, dataset: Dataset, last: bool) -> dict[str, Any]:
    """What is read off a network: the columns of its row."""
    assert dataset.test is not None
    known = features(trained.model, dataset.train, trained.inputs, batch_size=2000)
    new = features(trained.model, dataset.test, trained.inputs, batch_size=2000)
    with jax.default_device(_host()):
        return read_off(known, new, dataset.num_classes, last)


def read_off(known: Any, new: Any, classes: int, last: bool) -> dict[str, Any]:
    """The columns of a row from features and labels of the training and the test split."""
    linear = ridge_probe(*known, *new)
    assert linear.test is not None
    # Each by the ridge weight that is best for it, without the test split.
    weight = linear.chosen_by_r2
    row = {
        "r2": float(linear.test.r2[weight]),
        "accuracy": float(linear.test.accuracy[linear.chosen]),
        "neighbors": "",
        "class_r2": "",
    }
    if not last:
        return row
    nearest = knn_probe(*known, *new, neighbors=NEIGHBORS)
    assert nearest.test is not None
    head = ridge_probe(*known, ridge_weights=linear.values[[weight]]).linear
    assert head is not None
    one_hot = np.eye(classes)
    missed = np.square(one_hot[new[1]] - new[0] @ head.kernel - head.bias).sum(0)
    total = np.square(one_hot[new[1]] - one_hot[known[1]].mean(0)).sum(0)
    return row | {
        "neighbors": f"{_short(nearest.test.accuracy[nearest.chosen])}",
        "class_r2": " ".join(f"{share:.4f}" for share in 1 - missed / total),
    }


def _host() -> jax.Device:
    """Where many small programs are compiled in a tenth of the time."""
    return jax.local_devices(backend="cpu")[0]


def _short(value: Any) -> float:
    """To five significant digits: more is noise, and a table of thousands of rows."""
    return float(f"{float(value):.5g}")
