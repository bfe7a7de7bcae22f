"""k-nearest neighbors on frozen features, for several k at once, in bounded memory."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from reconjax.linalg.precision import highest
from reconjax.training.probes.task import Probe, Scores, task

METRICS = ("cosine", "euclidean")
NEIGHBORS = (1, 5, 20)


def usual_neighbors(samples: int) -> tuple[int, ...]:
    """The k by default: those of 1, 5 and 20 that are below the number of samples."""
    return tuple(k for k in NEIGHBORS if k < samples)


class _Known(NamedTuple):
    """The training samples, so that 2 aᵀx − offset grows as the distance of x from a query a falls.

    Attributes:
      x: (N, F).
      offset: (N,).
      y: (N,) int32.
    """

    x: Array
    offset: Array
    y: Array


def knn_probe(
    x_train: ArrayLike,
    y_train: ArrayLike,
    x_test: ArrayLike | None = None,
    y_test: ArrayLike | None = None,
    *,
    neighbors: int | Sequence[int] | None = None,
    metric: str = "cosine",
    num_classes: int | None = None,
    validation: int = 5000,
    seed: int = 0,
    memory: int = 2**28,
) -> Probe:
    """Classification by the majority of the k nearest training samples.

    Features are taken as they are: "cosine" compares their directions (that of a zero vector is at
    distance 1 from all), "euclidean" their positions. Samples at equal distance come in the order
    of the training split. Among classes with equally many of the k neighbors, that with the
    nearest one wins; scores are the shares of the classes among the k.

    Args:
      x_train: (N, F) features.
      y_train: (N,) labels, two classes at least.
      x_test: (n, F) or None.
      y_test: (n,) or None.
      neighbors: (L,) k, each in 1 .. N − 1; by default `usual_neighbors`.
      metric: "cosine" or "euclidean".
      num_classes: C; by default the largest label plus one.
      validation: k is chosen on so many training samples, each classified by all the others
        (leave-one-out); they are drawn at random where N is larger.
      seed: of that draw.
      memory: bytes for the distances and votes of one step; the training features come on top.

    Returns:
      `Probe` without scores on the training samples, of which each is its own neighbor.

    Raises:
      ValueError: as `task`, k out of range, an unknown metric, or validation or memory < 1.

    Example:
      >>> x = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
      >>> y = (x[:, 0] > 0).astype(int)
      >>> probe = reconjax.training.knn_probe(x[:40], y[:40], x[40:], y[40:], neighbors=[1, 5])
      >>> probe.values.tolist(), probe.test.samples
      ([1, 5], 20)
    """
    if metric not in METRICS:
        raise ValueError(f"metric: {metric!r}; one of {', '.join(METRICS)}")
    given = task(x_train, y_train, x_test, y_test, num_classes)
    if neighbors is None:
        neighbors = usual_neighbors(len(given.x))
    ks = np.atleast_1d(np.asarray(neighbors))
    if ks.ndim != 1 or ks.dtype.kind not in "iu" or not np.all((ks >= 1) & (ks < len(given.x))):
        raise ValueError(f"neighbors: {neighbors}; whole numbers in 1 .. {len(given.x) - 1}")
    for name, value in (("validation", validation), ("memory", memory)):
        if value < 1:
            raise ValueError(f"{name}: {value}; it must be at least 1")
    dtype = jnp.result_type(float) if given.x.dtype == np.float64 else jnp.float32
    # Distances do not depend on the origin; near the samples they are rounded least.
    origin = given.x.mean(axis=0, dtype=np.float64) if metric == "euclidean" else 0.0

    def positions(x: np.ndarray) -> np.ndarray:
        z = x - origin if metric == "euclidean" else x / _norms(x)
        return z.astype(dtype)

    z = jnp.asarray(positions(given.x))
    known = _Known(
        x=z,
        offset=jnp.sum(z**2, axis=1) if metric == "euclidean" else jnp.zeros(len(z), dtype),
        y=jnp.asarray(given.y),
    )
    largest = int(ks.max())
    width = 4 * len(z) + 4 * largest * given.classes
    rows = max(1, int(memory // (width * jnp.dtype(dtype).itemsize)))

    def scores(x: np.ndarray, y: np.ndarray, own: np.ndarray) -> Scores:
        """Of the training samples `own` (n,), which are no neighbors of their own, or −1."""
        x, k, sums = positions(x), jnp.asarray(ks, jnp.int32), np.zeros((2, len(ks)))
        step = min(rows, len(x))
        for begin in range(0, len(x), step):
            part = slice(begin, begin + step)
            missing = step - len(x[part])
            batch = np.pad(x[part], ((0, missing), (0, 0)))
            labels = np.pad(y[part], (0, missing), constant_values=-1)  # counts nowhere
            itself = np.pad(own[part], (0, missing), constant_values=-1).astype(np.int32)
            parts = _sums(known, batch, labels, itself, k, largest, given.classes)
            sums += np.asarray(parts, np.float64)
        return Scores.of(sums[0], sums[1], given.spread(y), len(y))

    drawn = np.arange(len(z))
    if validation < len(z):
        drawn = np.sort(np.random.default_rng(seed).choice(len(z), validation, replace=False))
    held_out = scores(given.x[drawn], given.y[drawn], drawn)
    test = None
    if given.x_test is not None and given.y_test is not None:
        test = scores(given.x_test, given.y_test, np.full(len(given.y_test), -1))
    return Probe("neighbors", ks, held_out.best(), held_out, None, test)


@functools.partial(jax.jit, static_argnums=(5, 6))
@highest
def _sums(
    known: _Known, x: Array, y: Array, own: Array, ks: Array, largest: int, classes: int
) -> Array:
    """(2, L): correct and squared error of queries x (B, F) that are sample `own` (B,), or -1."""
    nearness = 2 * x @ known.x.T - known.offset
    index = jnp.arange(known.x.shape[0], dtype=own.dtype)
    nearness = jnp.where(index == own[:, None], -jnp.inf, nearness)
    _, nearest = jax.lax.top_k(nearness, largest)  # of equals, the first come first
    neighbors = jax.nn.one_hot(known.y[nearest], classes, dtype=jnp.int32)
    votes = jnp.cumsum(neighbors, axis=1, dtype=jnp.int32)  # (B, largest, C)
    first = jnp.argmax(neighbors, axis=1).astype(jnp.int32)  # of those that have a vote
    votes = votes[:, ks - 1]
    winner = jnp.argmax(votes * (largest + 1) - first[:, None], axis=2).astype(y.dtype)
    counted = (y >= 0)[:, None]
    share = votes.astype(x.dtype) / ks[:, None].astype(x.dtype)
    one_hot = jax.nn.one_hot(y, classes, dtype=x.dtype)
    squared = jnp.sum((one_hot[:, None] - share) ** 2, axis=2)
    right = (winner == y[:, None]) & counted
    return jnp.stack(
        [jnp.sum(right, axis=0, dtype=x.dtype), jnp.sum(jnp.where(counted, squared, 0.0), axis=0)]
    )


def _norms(x: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(x.astype(np.float64), axis=1, keepdims=True)
    return np.where(norms > 0, norms, 1.0)
