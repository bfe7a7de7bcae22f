"""What a training is asked to do, checked before any work."""

import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from reconjax.data.dataset import Dataset
from reconjax.training.examples import order
from reconjax.training.objectives import check_weight
from reconjax.training.parallel import Devices, Run

BATCH_SIZE = 128


@dataclasses.dataclass(frozen=True)
class Plan:
    """The steps of a training.

    Attributes:
      samples: N, of the training split.
      batch_size: B, over all devices.
      epochs: times N // B steps.
      devices: of all processes.
      evaluations: after which steps the test split is evaluated.
      checkpoints: after which steps the state is kept.
      chunk: steps that one dispatch can hold.
    """

    samples: int
    batch_size: int
    epochs: int
    devices: Devices
    evaluations: frozenset[int]
    checkpoints: frozenset[int]
    chunk: int

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches."""
        return self.samples // self.batch_size

    @property
    def steps(self) -> int:
        """In all."""
        return self.epochs * self.steps_per_epoch

    @property
    def ends(self) -> frozenset[int]:
        """The steps at which a dispatch must end."""
        return self.evaluations | self.checkpoints

    def stop(self, step: int, length: int) -> int:
        """Where a dispatch ends that starts after `step` and makes `length` steps at most."""
        return min(step + min(length, self.chunk), *(end for end in self.ends if end > step))

    def rows(self, seed: int, start: int, stop: int) -> np.ndarray:
        """(chunk, B) int32: the examples of the steps start + 1 .. stop; the rest is unused."""
        found = np.zeros((self.chunk, self.batch_size), np.int32)
        for step in range(start, stop):
            epoch, index = divmod(step, self.steps_per_epoch)
            found[step - start] = order(seed, epoch, self.samples, self.batch_size)[index]
        return found


def usual_batch_size(samples: int, devices: int) -> int:
    """The batch size when none is asked for: 128, or the largest that few samples fill.

    A multiple of the number of devices, which may be more than the samples where those are fewer.
    """
    return max(min(BATCH_SIZE, samples) // devices, 1) * devices


def plan(
    samples: int,
    batch_size: int | None,
    epochs: int,
    devices: Sequence[jax.Device] | None,
    evaluate_at: Iterable[int] | None,
    checkpoint_every: int | None,
    chunk: int,
) -> Plan:
    """The plan that the arguments of `fit` ask for.

    Raises:
      ValueError: one that is out of range, or a batch that the devices do not divide.
    """
    used = tuple(devices or jax.devices())
    if batch_size is None:
        batch_size = usual_batch_size(samples, len(used))
    if epochs < 1:
        raise ValueError(f"epochs: {epochs}; it must be at least 1")
    if not 1 <= batch_size <= samples:
        raise ValueError(f"batch_size: {batch_size}; 1 .. {samples} with {samples} examples")
    if batch_size % len(used):
        raise ValueError(
            f"batch_size: {batch_size} cannot be shared by {len(used)} devices alike; a multiple of"
            f" {len(used)} can"
        )
    if checkpoint_every is not None and checkpoint_every < 1:
        raise ValueError(f"checkpoint_every: {checkpoint_every}; it must be at least 1 step")
    per_epoch = samples // batch_size
    steps = epochs * per_epoch
    tenths = {per_epoch * math.ceil(epochs * i / 10) for i in range(1, 11)}
    told = tenths if evaluate_at is None else {*map(int, evaluate_at), steps}
    if wrong := [step for step in told if not 0 <= step <= steps]:
        raise ValueError(f"evaluate_at: {wrong[0]}; 0 .. {steps} in a run of {steps} steps")
    kept = tenths
    if checkpoint_every is not None:
        kept = {*range(checkpoint_every, steps, checkpoint_every), steps}
    return Plan(samples, batch_size, epochs, used, frozenset(told), frozenset(kept), chunk)


def several(seeds: Any, learning_rates: Any, weights: Any) -> Run:
    """(R,) of each, from numbers or sequences.

    Raises:
      ValueError: one that is out of range, or different lengths.
    """
    given = {"seeds": seeds, "learning_rates": learning_rates, "weights": weights}
    arrays = {name: np.atleast_1d(np.asarray(values)) for name, values in given.items()}
    try:
        seed, rate, weight = np.broadcast_arrays(*arrays.values())
    except ValueError:
        sizes = ", ".join(f"{len(values)} {name}" for name, values in arrays.items())
        raise ValueError(f"runs: {sizes}; one of each for every run, or one for all") from None
    for value in seed.tolist():
        if not isinstance(value, int) or not 0 <= value < 2**32:
            raise ValueError(f"seed: {value}; a whole number from 0 to 4294967295 is needed")
    for value in rate.tolist():
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"learning_rate: {value}; it must be finite and > 0")
    for value in weight.tolist():
        check_weight(value)
    return Run(seed.astype(np.uint32), rate.astype(np.float32), weight.astype(np.float32))


def check_decay(weight_decay: float) -> None:
    """Raises ValueError if it is negative or not finite."""
    if not (math.isfinite(weight_decay) and weight_decay >= 0):
        raise ValueError(f"weight_decay: {weight_decay}; it must be finite and >= 0")


def check_model(model: Any, objective: Any, dataset: Dataset) -> None:
    """Raises ValueError where a network, in evaluation mode, does not fit data or objective."""
    made = tuple(getattr(model, "example_shape", dataset.example_shape))
    if made != dataset.example_shape:
        raise ValueError(f"model: made for examples of {made}, not of {dataset.example_shape}")
    autoencoder = hasattr(objective, "noise")
    if not dataset.num_classes and (not autoencoder or objective.weight is not None):
        raise ValueError(
            f"dataset: {dataset.name} has {dataset.targets_text}; {objective.name} needs classes"
        )
    for name in ("encode", "decode") if autoencoder else ():
        if not hasattr(model, name):
            raise ValueError(
                f"model: {type(model).__name__} has no {name}; {objective.name} needs an"
                " autoencoder"
            )
    x = jnp.zeros((1, *dataset.example_shape), jnp.float32)
    found = nnx.eval_shape(lambda model: model(x), model).shape
    wanted = x.shape if autoencoder else (1, dataset.num_classes)
    if found != wanted:
        raise ValueError(f"model: gives {found} for one example; {objective.name} needs {wanted}")
