"""Folds: a data set in parts of which each keeps its own moments.

Moments add up, so those of any resampling of the folds - all but one, or each as often as a draw
says - are a weighted sum of what is kept: no resampling reads the data a second time.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike

from reconjax.data.split import Split
from reconjax.data.targets import strata
from reconjax.summary.moments import Moments
from reconjax.summary.streaming import moments_from_batches
from reconjax.summary.union import check_units, union


def stratified(labels: ArrayLike, folds: int, *, seed: int = 0) -> np.ndarray:
    """(N,) int32: the fold of every sample, drawn at random within each class.

    Folds differ by at most one sample, in all and of every class.

    Args:
      labels: (N,) whole numbers from 0 on.
      folds: Fn in 2 .. the size of the second largest class: then each fold has two classes.
      seed: of the draw.

    Raises:
      ValueError: Fn is out of that range.

    Example:
      >>> np.bincount(reconjax.summary.stratified([0] * 6 + [1] * 6, 3)).tolist()
      [4, 4, 4]
    """
    classes = np.asarray(labels)
    largest = most_folds(classes)
    if not 2 <= folds <= largest:
        raise ValueError(
            f"folds: {folds}; 2 .. {largest} is allowed, the size of the second largest class"
        )
    order = np.lexsort((np.random.default_rng(seed).random(len(classes)), classes))
    fold = np.empty(len(classes), np.int32)
    fold[order] = np.arange(len(classes), dtype=np.int32) % folds
    return fold


def most_folds(labels: ArrayLike) -> int:
    """The most folds that (N,) labels can be dealt to, each with two classes; 0 for one class."""
    counts = np.sort(np.bincount(np.asarray(labels)))
    return int(counts[-2]) if len(counts) > 1 else 0


def each_fold(
    split: Split,
    folds: int = 20,
    *,
    num_classes: int,
    class_weight: ArrayLike | None = None,
    seed: int = 0,
    dtype: DTypeLike | None = None,
    devices: Sequence[jax.Device] | None = None,
    progress: Callable[[int], None] | None = None,
) -> Iterator[Moments]:
    """Moments of one fold after the other; each sample is read once.

    Args:
      split: a split of `reconjax.data`.
      folds: Fn, see `stratified`.
      num_classes: C.
      class_weight: as in `moments_from_batches`.
      seed: of the folds.
      dtype: as in `moments_from_batches`.
      devices: as in `moments_from_batches`.
      progress: called with the size of every batch that is read.

    Raises:
      ValueError: as `stratified` and `moments_from_batches`.

    Example:
      >>> x, y = np.random.default_rng(0).normal(size=(50, 6)), np.arange(50) % 2
      >>> split = reconjax.data.Dataset.from_arrays(x, y).train
      >>> folds = reconjax.summary.each_fold(split, 5, num_classes=2)
      >>> [int(fold.samples) for fold in folds]
      [10, 10, 10, 10, 10]
    """
    fold = stratified(strata(split.labels), folds, seed=seed)
    # Folds of N // Fn samples and of one more: with batches of N // Fn, both run the same program.
    size = min(4096, len(fold) // folds)

    def batches(part: Split) -> Iterator[tuple[Any, Any]]:
        for images, labels in part.batches(size):
            yield images, labels
            if progress is not None:
                progress(len(labels))

    return (
        moments_from_batches(
            batches(split.subset(np.flatnonzero(fold == index))),
            num_classes=num_classes,
            class_weight=class_weight,
            dtype=dtype,
            devices=devices,
        )
        for index in range(folds)
    )


def fold_moments(split: Split, folds: int = 19, **options: Any) -> Moments:
    """Moments of all folds, for `combined` and `bootstrap`; arguments and errors as `each_fold`.

    By default 19 folds: of 20, there are no balanced halves.

    Memory: (Fn, D, D) floats, and as much again while they are put together; see `fold_memory`.

    Returns:
      `Moments` with a leading axis of length Fn on every array.

    Example:
      >>> x, y = np.random.default_rng(0).normal(size=(50, 6)), np.arange(50) % 2
      >>> split = reconjax.data.Dataset.from_arrays(x, y).train
      >>> reconjax.fold_moments(split, 5, num_classes=2).second_moment.shape
      (5, 6, 6)
    """
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *each_fold(split, folds, **options))


def combined(folds: Moments, weights: ArrayLike | None = None) -> Moments:
    """Moments of all folds together, each counted `weights` (Fn,) times; once by default.

    Args:
      folds: (Fn, ...) from `fold_moments`, in units of their own: standardize afterwards.
      weights: (Fn,) >= 0, not all 0.

    Raises:
      ValueError: folds in different units, as they are when each was standardized by itself.

    Example:
      >>> x, y = np.random.default_rng(0).normal(size=(50, 6)), np.arange(50) % 2
      >>> split = reconjax.data.Dataset.from_arrays(x, y).train
      >>> folds = reconjax.fold_moments(split, 5, num_classes=2)
      >>> whole = reconjax.summary.combined(folds)
      >>> bool(np.allclose(whole.second_moment, np.cov(x.T, bias=True)))
      True
    """
    if not isinstance(folds.scale, jax.core.Tracer):
        check_units(*np.asarray(folds.scale))
    return _combined(folds, weights)


_combined = jax.jit(union)


def fold_memory(
    features: int, folds: int, itemsize: int = 8, *, targets: int = 0, weighted: bool = False
) -> int:
    """Bytes that `fold_moments` holds at its peak: (Fn, D, D + C) moments, twice.

    With class weights, the (Fn, D, D) ones are held without them too.

    Example:
      >>> reconjax.summary.fold_memory(784, 19)
      186855424
    """
    return 2 * folds * itemsize * features * ((2 if weighted else 1) * features + targets)
