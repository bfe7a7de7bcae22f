"""Masks that a closed form ranks first, trained within a budget: successive halving.

The closed form of every mask comes first (Theorem 3, on the test split, at K = the width of the
tokens). Of the best ones all are trained for a few epochs; the better half, by a probe that leaves
one out, for twice as many; and so on. Each training starts from the beginning and ends its own
learning-rate cycle: what a network is halfway hardly tells which will be the better one.
"""

import json
import math
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Unpack

import jax
import numpy as np
import xarray
from flax import nnx

from reconjax.data import Dataset
from reconjax.nets import make, usual_patch
from reconjax.noise import parse_noise
from reconjax.storage.files import output_folder, write_json
from reconjax.studies.labeled import labeled, save
from reconjax.studies.progress import progress_bar, say
from reconjax.studies.reading import Reading
from reconjax.studies.source import Source
from reconjax.studies.sweeps import sweep
from reconjax.training.features import features
from reconjax.training.fitting import fit, usual_batch_size
from reconjax.training.masking import masked
from reconjax.training.probes.ridge import ridge_probe
from reconjax.training.runs import Trained

NET = "vit"
WIDTH = 96  # of its tokens
# Sides of blocks, in patches of the network, and the shares that are masked.
BLOCKS = (1, 2, 4)
RATIOS = (0.25, 0.5, 0.75, 0.9)
# How many masks are trained at first; fewer where this leaves less than so many epochs.
STARTS = (4, 2, 1)
LEAST_EPOCHS = 5
LEARNING_RATE = 1e-3
WEIGHT_DECAY = 0.05
# Of the budget, for compilation, probes and files.
RESERVE = 0.15


class Trial(NamedTuple):
    """One trained network.

    Attributes:
      noise: a text as in `reconjax.noise.parse_noise`.
      round: from 0 on.
      epochs: of its training.
      validation_r2: of a linear probe, leave-one-out on the training split: it decides.
      r2: of the same probe on the test split.
      accuracy: on the test split.
      seconds: of training and probing.
    """

    noise: str
    round: int
    epochs: int
    validation_r2: float
    r2: float
    accuracy: float
    seconds: float


def train_finalists(
    data: str | Dataset,
    budget: float,
    *,
    out: str | os.PathLike[str] | None = None,
    **reading: Unpack[Reading],
) -> xarray.Dataset:
    """Trains masked autoencoders behind the masks that the closed form ranks first.

    With `out`, every training is kept there, and what was interrupted goes on.

    Args:
      data: a name, as for `reconjax.data.load`, or a data set, of images with classes and a test
        split.
      budget: seconds of training, > 0. How many masks are trained, and for how long, follows from
        the speed of one epoch; at the least it is one mask for one epoch.
      out: a folder for `finalists.nc` and the trainings, which `reconjax probe` reads.
      **reading: see `reconjax.studies.Reading`.

    Returns:
      A dataset over `noise` (all masks, those first that the closed form ranks first) and `round`:
      `predicted`, r2 of the closed form on the test split; `validation_r2`, `r2` and `accuracy` of
      the trained networks, NaN where there is none; and `epochs` of each round. Of its attributes,
      `chosen` is the mask of the last training, `latent_dim` the K of the closed forms, and
      `without` their r2 without a mask, that of PCA.

    Raises:
      ValueError: a budget that is not above 0, `class_weight` or `standardize`, data that are no
        images with classes and a test split, or a folder of other data or another budget.
      FileNotFoundError: no data has that name.

    Example:
      >>> result = reconjax.training.train_finalists("digits", 1.0, max_samples=300)
      >>> result.attrs["chosen"] == result.noise[0].item()  # one mask: that of the closed form
      True
    """
    if not (math.isfinite(budget) and budget > 0):
        raise ValueError(f"budget: {budget}; seconds > 0 are needed")
    check_reading(reading)
    source = Source(data, **reading)
    dataset = _checked(source)
    folder = None if out is None else output_folder(out)
    # Where K nears D, all masks keep the same directions, and none is told from another.
    latent_dim = min(WIDTH, dataset.features // 2)
    predicted, without = _closed_forms(dataset, latent_dim, reading)
    run = _Runs(dataset, folder, source.seed, reading.get("progress", True))
    plan = run.plan(list(predicted), budget)
    alive = list(predicted)[: plan["start"]]
    trials: list[Trial] = []
    for number in range(int(math.log2(plan["start"])) + 1):
        made = [run.trial(noise, number, plan["epochs"] << number) for noise in alive]
        trials += made
        made.sort(key=lambda trial: -trial.validation_r2)
        alive = [trial.noise for trial in made[: len(made) // 2]]
    facts = {"latent_dim": latent_dim, "without": without, "budget": budget}
    result = _labeled(source, predicted, trials, facts)
    if folder is not None:
        save(result, folder / "finalists.nc")
    return result


def masks(image_shape: Sequence[int]) -> list[str]:
    """The masks that are compared: of blocks of a network's patches, an exact number of them.

    Args:
      image_shape: (H, W, C).

    Returns:
      Texts as in `reconjax.noise.parse_noise`.

    Example:
      >>> reconjax.training.finalists.masks((8, 8, 1))[:2]
      ['exact:0.25:2x2', 'exact:0.5:2x2']
    """
    height, width = usual_patch(tuple(image_shape))
    rows, columns = image_shape[0] // height, image_shape[1] // width
    found = []
    for block in BLOCKS:
        count = (rows // block) * (columns // block)
        if rows % block or columns % block or count < 2:
            continue
        kept = {max(math.floor((1 - ratio) * count), 1) for ratio in RATIOS}
        for number in sorted(kept, reverse=True):
            # Rounded down: as many are kept as were counted.
            ratio = math.floor(1e6 * (count - number) / count) / 1e6
            found.append(f"exact:{ratio:g}:{height * block}x{width * block}")
    return found


def check_reading(reading: Mapping[str, Any]) -> None:
    """Raises ValueError for what changes moments and not what networks are trained on."""
    for name in ("class_weight", "standardize"):
        if reading.get(name):
            raise ValueError(f"{name}: {reading[name]}; networks are trained without it")


def _checked(source: Source) -> Dataset:
    """The data set in memory's reach, of images with classes and a test split."""
    assert source.dataset is not None
    source.leave_out_unlabeled()
    dataset = source.sampled()
    if len(dataset.example_shape) != 3:
        raise ValueError(f"{dataset.name}: {dataset.example_shape}; images (H, W, C) are needed")
    if not dataset.num_classes:
        raise ValueError(f"{dataset.name}: has {dataset.targets_text}; classes are needed")
    if dataset.test is None:
        raise ValueError(f"{dataset.name}: has no test split; --test-share 0.2 draws one")
    return dataset


def _closed_forms(
    dataset: Dataset, latent_dim: int, reading: Reading
) -> tuple[dict[str, float], float]:
    """r2 on the test split of every mask, the largest first, and of none."""
    kept = ("seed", "memory", "progress")
    options: dict[str, Any] = {name: reading[name] for name in kept if name in reading}  # type: ignore[literal-required]
    found, without = {}, math.nan
    by_patch: dict[str, list[float]] = {}
    for text in masks(dataset.example_shape):
        _, masked_share, patch = text.split(":")
        by_patch.setdefault(patch, []).append(float(masked_share))
    for patch, ratios in by_patch.items():
        result = sweep(
            dataset, noise="exact", patches=[patch], ratios=ratios, latent_dims=[latent_dim],
            bootstrap=0, **options,
        )  # fmt: skip
        without = float(result.held_out_without.squeeze())
        r2 = result.held_out.isel(patch=0, weight=0, latent_dim=0).values
        for ratio, explained in zip(ratios, r2, strict=True):
            found[f"exact:{ratio:g}:{patch}"] = float(explained)
    return dict(sorted(found.items(), key=lambda item: -item[1])), without


class _Runs:
    """Trainings of one data set, each in a folder of its own."""

    def __init__(self, dataset: Dataset, folder: Path | None, seed: int, progress: bool) -> None:
        self.dataset, self.folder, self.seed, self.progress = dataset, folder, seed, progress

    def plan(self, order: Sequence[str], budget: float) -> dict[str, Any]:
        """How many masks are trained at first, and for how many epochs.

        Kept in the folder: a run that goes on has the same, however fast it is by then.
        """
        path = None if self.folder is None else self.folder / "plan.json"
        if path is not None and path.exists():
            plan: dict[str, Any] = json.loads(path.read_text())
            if plan["budget"] != budget or plan["order"] != list(order):
                what = "budget" if plan["budget"] != budget else "data"
                raise ValueError(f"{path}: of another {what}; choose another folder")
            return plan
        started = time.perf_counter()
        trained = self._fit(order[0], 1, "speed")
        rates = [row["images_per_second"] for row in trained.history if row["split"] == "train"]
        epoch = len(self.dataset.train) / float(np.median(rates))
        # What is not training is paid for by every run.
        beside = max(time.perf_counter() - started - epoch, 0.0)
        plan = {"budget": budget, "order": list(order), **_schedule(budget, epoch, beside)}
        if path is not None:
            write_json(plan, path)
        if plan["start"] < min(STARTS[0], len(order)):
            say(f"{budget:g} s are enough for {plan['start']} of {len(order)} masks")
        return plan

    def trial(self, noise: str, number: int, epochs: int) -> Trial:
        """Trains and probes, or reads what is there."""
        name = f"{number}-{noise.replace(':', '-')}"
        path = None if self.folder is None else self.folder / f"{name}.json"
        if path is not None and path.exists():
            return Trial(**json.loads(path.read_text()))
        started = time.perf_counter()
        trained = self._fit(noise, epochs, name)
        trained.model.readout = "blocks"
        known, new = (
            features(trained.model, split, trained.inputs)
            for split in (self.dataset.train, self.dataset.test)
            if split is not None
        )
        probe = ridge_probe(*known, *new, num_classes=self.dataset.num_classes)
        assert probe.validation is not None
        assert probe.test is not None
        best = probe.chosen_by_r2
        trial = Trial(
            noise, number, epochs, float(probe.validation.r2[best]), float(probe.test.r2[best]),
            float(probe.test.accuracy[probe.chosen]), round(time.perf_counter() - started, 1),
        )  # fmt: skip
        if path is not None:
            write_json(trial._asdict(), path)
        say(f"{noise}: {epochs} epochs, r2 {trial.r2:.4f}, {trial.seconds:.0f} s")
        return trial

    def _fit(self, noise: str, epochs: int, name: str) -> Trained:
        shape = self.dataset.example_shape
        net = {"name": NET, "width": WIDTH, "patch_shape": list(usual_patch(shape))}
        size = usual_batch_size(len(self.dataset.train), jax.device_count())
        steps = epochs * (len(self.dataset.train) // size)
        with progress_bar(f"{noise}, {epochs} epochs", steps, self.progress) as count:
            return fit(
                make(**net, example_shape=shape, rngs=nnx.Rngs(self.seed)),  # type: ignore[arg-type]
                self.dataset,
                masked(parse_noise(noise, shape)),
                learning_rate=LEARNING_RATE,
                weight_decay=WEIGHT_DECAY,
                seed=self.seed,
                epochs=epochs,
                batch_size=size,
                evaluate_at=(),
                out=None if self.folder is None else self.folder / name,
                record={"net": net, "noise": noise, "source": self.dataset.name},
                progress=lambda made, _: count(made),
            )


def _schedule(budget: float, epoch: float, beside: float) -> dict[str, int]:
    """As many finalists as leave them `LEAST_EPOCHS`, and the epochs of the first round.

    n of them in log2(n) + 1 rounds: each round makes n times the epochs of the first.
    """
    for start in STARTS:
        rounds = int(math.log2(start)) + 1
        left = (1 - RESERVE) * budget - (2 * start - 1) * beside
        epochs = int(left / (rounds * start * epoch))
        if epochs >= LEAST_EPOCHS:
            break
    return {"start": start, "epochs": max(epochs, 1)}


def _labeled(
    source: Source,
    predicted: dict[str, float],
    trials: Sequence[Trial],
    facts: dict[str, Any],
) -> xarray.Dataset:
    """All masks, and what was trained of them."""
    noises, rounds = list(predicted), trials[-1].round + 1
    fields = ("validation_r2", "r2", "accuracy", "seconds")
    arrays = {name: np.full((len(noises), rounds), np.nan) for name in fields}
    epochs = np.zeros(rounds, np.int64)
    for trial in trials:
        epochs[trial.round] = trial.epochs
        for name in fields:
            arrays[name][noises.index(trial.noise), trial.round] = getattr(trial, name)
    return labeled(
        "finalists",
        source,
        {
            "predicted": (["noise"], np.array(list(predicted.values()))),
            **{name: (["noise", "round"], values) for name, values in arrays.items()},
            "epochs": (["round"], epochs),
        },
        {"noise": noises, "round": np.arange(rounds)},
        {"chosen": trials[-1].noise, "net": NET, **facts},
        {"budget": facts["budget"]},
    )
