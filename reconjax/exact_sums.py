"""Sums over 8-bit images and their labels without any rounding, at float32's speed.

Products of (pixel − 128) are integers of at most 2^14: float32 adds 2^10 of them exactly, int32
2^16, and int64 on the host the rest. Only the moments made of them are rounded, to their dtype.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

LARGEST_BATCH = 2**16
BLOCK = 2**10
LARGEST_EXACT = 2**24  # N² 2^14 fits into int64


class ExactSums:
    """The sums over all rows [x − 128, one-hot y] that were added."""

    def __init__(self, features: int, num_classes: int) -> None:
        """No samples yet; `features` D, `num_classes` C."""
        width = features + num_classes
        self.features, self.num_classes, self.samples = features, num_classes, 0
        self._gram = np.zeros((width, width), np.int64)
        self._sums = np.zeros(width, np.int64)

    def add(self, x: ArrayLike, y: ArrayLike, present: ArrayLike) -> None:
        """Adds x (n, ...) uint8 with labels y (n,); `present` (n,) is 1, or 0 for padding.

        Raises:
          ValueError: more than `LARGEST_BATCH` samples, images of another size.
        """
        samples, features = np.shape(x)[0], math.prod(np.shape(x)[1:])
        if samples > LARGEST_BATCH:
            raise ValueError(f"batches: one of {samples}; at most {LARGEST_BATCH} are allowed")
        if features != self.features:
            raise ValueError(f"batches: one of {features} features after {self.features}")
        gram, sums = _batch_sums(x, y, present, self.num_classes)
        self._gram += np.asarray(gram)
        self._sums += np.asarray(sums)
        self.samples += int(np.sum(np.asarray(present) > 0))

    def moments(self) -> dict[str, Any]:
        """The fields of `Moments`, in float64, of x / 255 and one-hot y."""
        mean = self._sums / self.samples
        if self.samples <= LARGEST_EXACT:
            # Centered before anything is rounded: pixels that hardly ever vary stay accurate.
            whole = self.samples * self._gram - np.outer(self._sums, self._sums)
            second = whole / self.samples**2
        else:
            second = self._gram / self.samples - np.outer(mean, mean)
        d = self.features
        return {
            "samples": self.samples,
            "weight": self.samples,
            "mean_x": (mean[:d] + 128) / 255,
            "mean_y": mean[d:],
            "second_moment": second[:d, :d] / 255**2,
            "cross_moment": second[:d, d:] / 255,
            "label_moment": second[d:, d:],
            "scale": np.ones(d),
        }


@functools.partial(jax.jit, static_argnames="num_classes")
@jax.default_matmul_precision("highest")
def _batch_sums(x: Array, y: Array, present: Array, num_classes: int) -> tuple[Array, Array]:
    """Sums (D + C, D + C) and (D + C,), int32, of one batch."""
    x = x.reshape(x.shape[0], -1).astype(jnp.float32) - 128
    rows = jnp.concatenate([x, jax.nn.one_hot(y, num_classes, dtype=jnp.float32)], axis=1)
    rows = rows * present.astype(jnp.float32)[:, None]
    rows = jnp.pad(rows, ((0, -rows.shape[0] % BLOCK), (0, 0)))

    def add(total: Array, block: Array) -> tuple[Array, None]:
        return total + (block.T @ block).astype(jnp.int32), None

    width = rows.shape[1]
    start = jnp.zeros((width, width), jnp.int32)
    gram, _ = jax.lax.scan(add, start, rows.reshape(-1, BLOCK, width))
    return gram, jnp.sum(rows.astype(jnp.int32), axis=0, dtype=jnp.int32)
