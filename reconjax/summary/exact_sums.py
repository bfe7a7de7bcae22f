"""Sums over 8-bit images and their labels without any rounding, at float32's speed and above.

Products of (pixel − 128) are integers of at most 2^14: float32 adds 2^10 of them exactly, int32 on
the device 2^16, and int64 on the host the rest. Only the moments made of them are rounded, to their
dtype. The matrix of sums is symmetric: only the blocks on and right of its diagonal are computed.
"""

import functools
import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from reconjax.data.prefetch import Pace
from reconjax.summary.class_moment import MANY, class_sums

LARGEST_BATCH = 2**16
BLOCK = 2**10
LARGEST_EXACT = 2**24  # N² 2^14 fits into int64


class ExactSums:
    """The sums over all rows [x − 128, one-hot y] that were added, kept on one device.

    Of more than 512 classes, the products with y are summed class by class, as (C, D).
    """

    def __init__(self, features: int, num_classes: int, device: jax.Device | None = None) -> None:
        """No samples yet; `features` D, `num_classes` C; by default JAX chooses the device."""
        self.features, self.num_classes, self.samples = features, num_classes, 0
        self._device = device
        many = num_classes > MANY
        width = features if many else features + num_classes
        self._panels = panels(width)
        self._grams = [
            np.zeros((stop - start, width - start), np.int64) for start, stop in self._panels
        ]
        self._sums = np.zeros(features + num_classes, np.int64)
        self._by_class = np.zeros((num_classes if many else 0, features), np.int64)
        self._running: tuple[list[Array], Array, Array] | None = None  # int32, on the device
        self._held = 0  # samples in _running
        self._pace = Pace()

    def add(self, x: ArrayLike, y: ArrayLike, present: ArrayLike) -> None:
        """Adds x (n, ...) uint8 with labels y (n,); `present` (n,) is 1, or 0 for padding.

        Returns before the device is done; NumPy arrays must not be written to until then.

        Raises:
          ValueError: more than `LARGEST_BATCH` samples, images of another size.
        """
        rows, features = np.shape(x)[0], math.prod(np.shape(x)[1:])
        if rows > LARGEST_BATCH:
            raise ValueError(f"batches: one of {rows}; at most {LARGEST_BATCH} are allowed")
        if features != self.features:
            raise ValueError(f"batches: one of {features} features after {self.features}")
        samples = int(np.sum(np.asarray(present) > 0))
        if self._held + samples > LARGEST_BATCH:
            self._flush()
        self._pace.wait()
        arrays = (x, y, present)
        if self._device is not None:
            arrays = jax.device_put(arrays, self._device)
        *running, token = _add(*(self._running or self._zeros()), *arrays)
        self._running = running[0], running[1], running[2]
        self._pace.started(token)
        self._held += samples
        self.samples += samples

    def merge(self, other: "ExactSums") -> None:
        """Adds the sums of other samples, of as many features and classes."""
        self._flush()
        other._flush()
        for gram, more in zip(self._grams, other._grams, strict=True):
            gram += more
        self._sums += other._sums
        self._by_class += other._by_class
        self.samples += other.samples

    def totals(self) -> tuple[np.ndarray, np.ndarray]:
        """The sums of products (D + C, D + C) and of rows (D + C,), int64; of few classes."""
        self._flush()
        if len(self._by_class):
            raise ValueError(f"num_classes: {self.num_classes}; at most {MANY} are allowed")
        return self._mirrored(self._grams), self._sums.copy()

    def moments(self) -> dict[str, Any]:
        """The fields of `Moments`, in float64, of x / 255 and one-hot y; of many classes not S."""
        self._flush()
        mean = self._sums / self.samples
        second = self._mirrored(
            [
                self._about_means(gram, self._sums[start:stop], self._sums[start:][: gram.shape[1]])
                for gram, (start, stop) in zip(self._grams, self._panels, strict=True)
            ]
        )
        d = self.features
        if len(self._by_class):
            cross = self._about_means(self._by_class, self._sums[d:], self._sums[:d]).T
        else:
            cross = second[:d, d:]
        labels = {} if len(self._by_class) else {"label_moment": second[d:, d:]}
        return {
            **labels,
            "samples": self.samples,
            "weight": self.samples,
            "mean_x": (mean[:d] + 128) / 255,
            "mean_y": mean[d:],
            "second_moment": second[:d, :d] / 255**2,
            "cross_moment": cross / 255,
            "scale": np.ones(d),
        }

    def _about_means(self, products: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """Second moments about the means, float64, of sums of products and of both factors."""
        if self.samples > LARGEST_EXACT:
            return products / self.samples - np.outer(left / self.samples, right / self.samples)
        # Centered before anything is rounded: pixels that hardly ever vary stay accurate.
        whole = self.samples * products
        whole -= np.outer(left, right)
        return whole / self.samples**2

    def _mirrored(self, parts: list[np.ndarray]) -> np.ndarray:
        """The symmetric matrix (D + C, D + C) of which the panels hold one half."""
        width = self._panels[-1][1]
        matrix = np.empty((width, width), parts[0].dtype)
        for part, (start, stop) in zip(parts, self._panels, strict=True):
            matrix[start:stop, start:] = part
            matrix[stop:, start:stop] = part[:, stop - start :].T
        return matrix

    def _zeros(self) -> tuple[list[Array], Array, Array]:
        with jax.default_device(self._device):
            grams = [jnp.zeros(gram.shape, jnp.int32) for gram in self._grams]
            sums, by_class = (
                jnp.zeros(held.shape, jnp.int32) for held in (self._sums, self._by_class)
            )
            return grams, sums, by_class

    def _flush(self) -> None:
        """Brings what the device holds to the host, before it could overflow."""
        if self._running is None:
            return
        grams, sums, by_class = self._running
        self._running, self._held = None, 0
        for gram, more in zip(self._grams, grams, strict=True):
            gram += np.asarray(more)
        self._sums += np.asarray(sums)
        self._by_class += np.asarray(by_class)


def panels(width: int) -> list[tuple[int, int]]:
    """Cuts a symmetric matrix into panels [start:stop, start:], which hold all of its entries.

    At most 8, which saves 7/16 of the products, and none narrow enough to slow them down.
    """
    count = max(1, min(8, width // 192))
    cuts = [width * k // count for k in range(count + 1)]
    return list(itertools.pairwise(cuts))


@functools.partial(jax.jit, donate_argnames=("grams", "sums", "by_class"))
@jax.default_matmul_precision("highest")
def _add(
    grams: list[Array], sums: Array, by_class: Array, x: Array, y: Array, present: Array
) -> tuple[list[Array], Array, Array, Array]:
    """All that is held, int32, with one batch more; a token.

    That is the panels (b, W - start) of the products, the sums (D + C,) and, of many classes, those
    of each class (C, D), else (0, D). W is D + C, of many classes D.
    """
    samples, many = x.shape[0], by_class.shape[0] > 0
    num_classes = sums.shape[0] - by_class.shape[1]
    width = by_class.shape[1] if many else sums.shape[0]
    blocks = -(-samples // BLOCK)
    size = -(-samples // blocks)

    def cut(array: Array) -> Array:
        padding = [(0, blocks * size - samples)] + [(0, 0)] * (array.ndim - 1)
        return jnp.pad(array, padding).reshape(blocks, size, *array.shape[1:])

    x, y, present = cut(x.reshape(samples, -1)), cut(y), cut(present.astype(jnp.float32))

    def add(k: Array, total: tuple[list[Array], Array, Array]) -> tuple[list[Array], Array, Array]:
        grams, sums, by_class = total
        # One block at a time becomes float32: it stays in the cache.
        rows = x[k].astype(jnp.float32) - 128
        if not many:
            labels = jax.nn.one_hot(y[k], num_classes, dtype=jnp.float32)
            rows = jnp.concatenate([rows, labels], axis=1)
        rows = rows * present[k][:, None]
        added = jnp.sum(rows, axis=0).astype(jnp.int32)
        if many:
            by_class = by_class + class_sums(rows.astype(jnp.int32), y[k], num_classes)
            counts = class_sums(present[k].astype(jnp.int32), y[k], num_classes)
            added = jnp.concatenate([added, counts])
        grams = [
            gram + (rows[:, start:stop].T @ rows[:, start:]).astype(jnp.int32)
            for gram, (start, stop) in zip(grams, panels(width), strict=True)
        ]
        return grams, sums + added, by_class

    # Blocks of padding alone, at the end, cost nothing.
    used = jnp.max(jnp.where(jnp.any(present > 0, axis=1), jnp.arange(1, blocks + 1), 0))
    grams, sums, by_class = jax.lax.fori_loop(0, used, add, (grams, sums, by_class))
    return grams, sums, by_class, sums[0]
