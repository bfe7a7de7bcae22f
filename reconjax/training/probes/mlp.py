"""Nonlinear probe: a network of three layers on frozen features, trained as any other network."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array
from jax.typing import ArrayLike

from reconjax.data import Dataset
from reconjax.data.split import ArraySplit
from reconjax.nets import MLPProbe
from reconjax.training.evaluation import evaluate
from reconjax.training.fitting import fit
from reconjax.training.objectives import Classification, Terms
from reconjax.training.probes.task import (
    ROWS,
    Probe,
    Scores,
    Standard,
    held_out_part,
    positive,
    task,
)
from reconjax.training.runs import Trained


@functools.partial(jax.tree_util.register_dataclass, data_fields=[], meta_fields=["loss"])
@dataclasses.dataclass(frozen=True)
class _Scored(Classification):
    """Classification, with what the scores of a probe need."""

    def terms(self, model: Any, head: Any, keys: Array, x: Array, labels: Array) -> Terms:
        """Loss, accuracy and the squared error of the probabilities."""
        logits = model(x)
        one_hot = jax.nn.one_hot(labels, logits.shape[1], dtype=logits.dtype)
        squared = jnp.sum((one_hot - jax.nn.softmax(logits)) ** 2, axis=1)
        terms = super().terms(lambda _: logits, head, keys, x, labels)
        return terms | {"squared_error": squared}


def mlp_probe(
    x_train: ArrayLike,
    y_train: ArrayLike,
    x_test: ArrayLike | None = None,
    y_test: ArrayLike | None = None,
    *,
    num_classes: int | None = None,
    width: int = 512,
    epochs: int = 30,
    batch_size: int = 256,
    learning_rate: float = 1e-3,
    weight_decay: float = 1e-2,
    held_out: float = 0.1,
    seed: int = 0,
) -> Probe:
    """Nonlinear probe: `reconjax.nets.MLPProbe` on standardized features, by cross-entropy.

    It is trained by `reconjax.training.fit`, in float32 and on one device, since features are few
    and small, and chosen among its epochs by the accuracy on the held-out part.

    Args:
      x_train: (N, F) features.
      y_train: (N,) labels, two classes at least.
      x_test: (n, F) or None.
      y_test: (n,) or None.
      num_classes: C; by default the largest label plus one.
      width: of the two hidden layers.
      epochs: L.
      batch_size: samples in a step; an incomplete last batch of an epoch is left out.
      learning_rate: the highest of the schedule.
      weight_decay: of AdamW.
      held_out: share of the training split on which the epoch is chosen.
      seed: of the part that is held out, the initial parameters and the order of the samples.

    Returns:
      `Probe`; the scores on the training samples are of those that were fitted.

    Raises:
      ValueError: as `task` and `held_out_part`, a size < 1, or a rate that is not finite and > 0.
      Diverged: the loss is no longer finite.

    Example:
      >>> x = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
      >>> y = (x[:, 0] > 0).astype(int)
      >>> probe = reconjax.training.mlp_probe(x[:40], y[:40], x[40:], y[40:], epochs=2)
      >>> probe.test.samples
      20
    """
    given = task(x_train, y_train, x_test, y_test, num_classes)
    for name, size in (("width", width), ("epochs", epochs), ("batch_size", batch_size)):
        if size < 1:
            raise ValueError(f"{name}: {size}; it must be at least 1")
    positive("learning_rate", learning_rate)
    standard = Standard.of(given.x)

    def split(x: np.ndarray, y: np.ndarray) -> ArraySplit:
        return ArraySplit(standard(x).astype(np.float32), y)

    part = held_out_part(given.y, held_out, seed)
    rest = np.setdiff1d(np.arange(len(given.y)), part)
    everything = split(given.x, given.y)
    splits = {"train": everything.subset(rest)}
    if given.x_test is not None and given.y_test is not None:
        splits["test"] = split(given.x_test, given.y_test)
    names = tuple(map(str, range(given.classes)))
    data = Dataset("features", names, splits["train"], everything.subset(part))
    objective, devices = _Scored("cross_entropy"), jax.local_devices()[:1]
    rows = min(batch_size, len(rest))

    def measure(trained: Trained) -> dict[str, Any]:
        how = {"batch_size": ROWS, "devices": devices}
        return {name: evaluate(trained, split, objective, **how) for name, split in splits.items()}

    trained = fit(
        MLPProbe(given.x.shape[1], given.classes, width=width, rngs=nnx.Rngs(seed)),
        data,
        objective,
        epochs=epochs,
        batch_size=rows,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        seed=seed,
        evaluate_at=range(len(rest) // rows, epochs * (len(rest) // rows), len(rest) // rows),
        measure=measure,
        devices=devices,
    )
    history = [row for row in trained.history if row["split"] == "test"]

    def scores(means: Sequence[Mapping[str, float]], y: np.ndarray) -> Scores:
        correct, squared = (
            len(y) * np.array([row[name] for row in means])
            for name in ("accuracy", "squared_error")
        )
        return Scores.of(correct, squared, given.spread(y), len(y))

    validation = scores(history, given.y[part])
    each = {
        name: scores([row[name] for row in history], split.labels) for name, split in splits.items()
    }
    epoch = np.arange(1, epochs + 1)
    return Probe("epoch", epoch, validation.best(), validation, each["train"], each.get("test"))
