"""What networks see: centered images, kept on the devices as they are stored.

Every device holds all examples, 8-bit images as uint8: 0.15 GB for cifar10, 1.2 GB for
tiny-imagenet, a few percent of an accelerator. A shuffled batch then is a gather on the device, and
nothing but row numbers, 4 bytes an example, crosses from the host. Shards would have to send images
between devices in every step, since a shuffle of the whole set takes examples from everywhere.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from reconjax.data.split import Split
from reconjax.data.units import as_floats
from reconjax.training.augmentation import augmented


class Centered(NamedTuple):
    """Centering by the mean image of a training split.

    Attributes:
      mean: (*example_shape) float32, 8-bit images being scaled to [0, 1].
    """

    mean: Array

    @classmethod
    def of(cls, split: Split, batch_size: int = 4096) -> "Centered":
        """The mean of a split, in one pass, summed in float64 on the host."""
        total = np.zeros(split.example_shape)
        for images, _ in split.batches(batch_size):
            total += images.sum(0, dtype=np.float64)
        scale = 255 if _stored(split) == np.uint8 else 1
        return cls(jnp.asarray(total / len(split) / scale, jnp.float32))

    def centered(self, images: Array | np.ndarray) -> Array:
        """(N, *example_shape) float32: images as floats in [0, 1] without the mean image.

        What every network and every noise gets: 0 is the mean image's value.
        """
        return as_floats(jnp.asarray(images), jnp.float32) - self.mean


class Batch(NamedTuple):
    """What one step, or one evaluation, sees.

    Attributes:
      x: (b, *example_shape) float32, centered.
      labels: (b,) int32.
      keys: (b,) random keys, for the noise of each example.
    """

    x: Array
    labels: Array
    keys: Array


class Examples(NamedTuple):
    """Examples as they are stored, and how they are centered.

    Attributes:
      inputs: the centering.
      images: (N, *example_shape) uint8 or float32.
      labels: (N,) int32.
    """

    inputs: Centered
    images: Array | np.ndarray
    labels: Array | np.ndarray

    @classmethod
    def of(cls, split: Split, num_classes: int, batch_size: int = 4096) -> "Examples":
        """Reads a split in batches, so that it is in memory once.

        Raises:
          ValueError: a label outside 0 .. num_classes - 1, or data that do not fit on a device.
        """
        labels = check_labels(split.labels, num_classes)
        dtype = np.uint8 if _stored(split) == np.uint8 else np.float32
        images = np.empty((len(split), *split.example_shape), dtype)
        _check_memory(images)
        start = 0
        for batch, _ in split.batches(batch_size):
            images[start : start + len(batch)] = batch
            start += len(batch)
        return cls(Centered.of(split), images, labels)

    def rows(self, index: Array) -> "Examples":
        """Those of these rows (b,)."""
        images, labels = (jnp.asarray(array)[index] for array in self[1:])
        return self._replace(images=images, labels=labels)

    def batch(self, key: Array, position: Array, augment: Sequence[str] = ()) -> Batch:
        """All of them as a batch.

        Args:
          key: () of the step.
          position: (N,) int32, in the batch of all devices: the draws for an example depend on it
            and the key alone, not on how many devices share the batch.
          augment: names of augmentations.
        """
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, position)
        x = as_floats(jnp.asarray(self.images), jnp.float32)
        if augment:
            own = jax.vmap(lambda key: jax.random.fold_in(key, 1))(keys)
            x = jax.vmap(functools.partial(augmented, augment))(own, x)
        return Batch(x - self.inputs.mean, jnp.asarray(self.labels), keys)


def check_labels(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """The labels (N,) as int32; those of a set without classes are not looked at.

    Raises:
      ValueError: a label outside 0 .. num_classes - 1.
    """
    if not num_classes:
        return np.zeros(len(labels), np.int32)
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= num_classes:
        wrong = low if low < 0 else high
        raise ValueError(f"labels: {wrong}; 0 .. {num_classes - 1} with {num_classes} classes")
    return labels.astype(np.int32)


@functools.lru_cache(maxsize=16)
def order(seed: int, epoch: int, samples: int, batch_size: int) -> np.ndarray:
    """(S, B) int32: the rows of the S whole batches of an epoch, in shuffled order.

    It depends on nothing but its arguments: any number of devices and a resumed run see the same
    batches. What is left over when B does not divide N takes part in another epoch.
    """
    rows = np.random.default_rng([seed, epoch]).permutation(samples)
    steps = samples // batch_size
    batches = rows[: steps * batch_size].reshape(steps, batch_size).astype(np.int32)
    batches.setflags(write=False)
    return batches


def rows_of_steps(
    seeds: Sequence[int], start: int, stop: int, longest: int, samples: int, batch_size: int
) -> np.ndarray:
    """(R, longest, B) int32: the rows of the steps start + 1 .. stop; those after them are unused.

    Args:
      seeds: (R,) of the runs.
      start: steps that were made.
      stop: at most start + longest.
      longest: steps that there is room for.
      samples: N.
      batch_size: B.
    """
    rows = np.zeros((len(seeds), longest, batch_size), np.int32)
    for run, seed in enumerate(seeds):
        for step in range(start, stop):
            epoch, index = divmod(step, samples // batch_size)
            rows[run, step - start] = order(seed, epoch, samples, batch_size)[index]
    return rows


def _stored(split: Split) -> np.dtype:
    return split.examples(np.arange(1))[0].dtype


def _check_memory(images: np.ndarray) -> None:
    statistics = jax.local_devices()[0].memory_stats() or {}
    limit = statistics.get("bytes_limit")
    if limit is not None and images.nbytes > 0.8 * limit:
        raise ValueError(
            f"dataset: its images need {images.nbytes / 2**30:.3g} GiB on every device, which has"
            f" {limit / 2**30:.3g} GiB; train on a part of them"
        )
