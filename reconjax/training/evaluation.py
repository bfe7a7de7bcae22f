"""The terms of an objective over a whole split."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx

from reconjax.data.split import Split
from reconjax.training import parallel
from reconjax.training.objectives import Objective, terms_of
from reconjax.training.runs import Trained


def evaluate(
    trained: Trained,
    split: Split,
    objective: Objective,
    *,
    batch_size: int = 512,
    devices: Sequence[jax.Device] | None = None,
) -> dict[str, float]:
    """The means of an objective's terms over a split, in evaluation mode, without augmentation.

    The noise of the objective is drawn as in training, and alike at every call.

    Args:
      trained: network, head and centering.
      split: any number of examples; they are streamed.
      objective: of `reconjax.training.objectives`.
      batch_size: at a time, rounded up to a multiple of the number of devices.
      devices: of all processes; all there are by default.

    Returns:
      name -> mean: "loss", and "accuracy" and others where the objective has them.

    Raises:
      ValueError: `batch_size` below 1.

    Example:
      >>> from flax import nnx
      >>> digits = reconjax.data.load("digits")
      >>> net = reconjax.nets.make("linear", (8, 8, 1), latent_dim=4, rngs=nnx.Rngs(0))
      >>> objective = reconjax.training.reconstruction()
      >>> trained = reconjax.training.fit(net, digits, objective, epochs=1)
      >>> sorted(reconjax.training.evaluate(trained, digits.test, objective))
      ['loss', 'reconstruction']
    """
    if batch_size < 1:
        raise ValueError(f"batch_size: {batch_size}; it must be at least 1")
    used = tuple(devices or jax.devices())
    graphdef, *state = nnx.split((trained.model, trained.head), nnx.Param, ...)
    program = parallel.evaluation(graphdef, used)
    given = (*map(nnx.as_pure, state), objective, trained.inputs)
    replicated = parallel.replicated(given, used)
    # Also for a small split, which is padded: all splits share one program.
    size = math.ceil(batch_size / len(used)) * len(used)
    sums: Any = None
    for start in range(0, len(split), size):
        rows = parallel.mine(np.arange(start, start + size, dtype=np.int32), used)
        there = rows < len(split)
        images, labels = split.examples(np.where(there, rows, 0).reshape(-1))
        if images.dtype != np.uint8:
            images = images.astype(np.float32)
        images = images.reshape(*rows.shape, *images.shape[1:])
        # Real targets are not looked at: no objective that would takes them.
        labels = np.zeros(rows.shape) if labels.ndim > 1 else labels.reshape(rows.shape)
        labels = labels.astype(np.int32)
        counts = there.astype(np.float32)
        part = program(*replicated, images, labels, rows, counts)
        part = jax.tree.map(lambda sum: np.asarray(sum, float), part)
        sums = part if sums is None else jax.tree.map(np.add, sums, part)
    return {name: float(value) for name, value in terms_of(objective, sums).items()}
