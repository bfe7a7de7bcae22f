"""What samples are without their class weights, kept beside the weighted moments for chance."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from reconjax.linalg.products import symmetric_product
from reconjax.summary.class_moment import class_sums


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Unweighted:
    """Counts and weights of the classes, and the inputs' second moment without weights.

    They tell what labels explain that are permuted at random with their weights; see
    `reconjax.theory.chance`. Samples of classes of weight 0 count nowhere.

    Attributes:
      counts: (C,) number of samples of each class.
      weights: (C,) sum of the weights of each class.
      mean_x: (D,) mean input.
      second_moment: (D, D) E[x xᵀ] about it, in the units of the weighted moments.
    """

    counts: Array
    weights: Array
    mean_x: Array
    second_moment: Array


def without_weights(x: Array, labels: Array, weights: Array, classes: int) -> Unweighted:
    """That of a batch x (n, D) with labels (n,) and weights (n,); 0 leaves a sample out."""
    present = (weights > 0).astype(x.dtype)
    samples = jnp.sum(present)
    unit = present / jnp.where(samples > 0, samples, 1.0)
    mean = unit @ x
    mean = mean + unit @ (x - mean)
    x = x - mean
    return Unweighted(
        counts=class_sums(present, labels, classes),
        weights=class_sums(weights.astype(x.dtype), labels, classes),
        mean_x=mean,
        second_moment=symmetric_product(x * unit[:, None], x),
    )


def nothing(mean_x: Array, classes: int) -> Unweighted:
    """That of no samples."""
    none = jnp.zeros(classes, mean_x.dtype)
    size = mean_x.shape[0]
    return Unweighted(none, none, jnp.zeros_like(mean_x), jnp.zeros((size, size), mean_x.dtype))


def unweighted_step(first: Unweighted, second: Unweighted, scale: Array) -> Unweighted:
    """What `second` adds to each field of `first` when the two are merged (Chan's formula)."""
    added, before = jnp.sum(second.counts), jnp.sum(first.counts)
    whole = jnp.where(added + before > 0, added + before, 1.0)
    share = added / whole
    dx = second.mean_x - first.mean_x
    apart = share * (before / whole) * jnp.outer(dx / scale, dx / scale)
    return Unweighted(
        counts=second.counts,
        weights=second.weights,
        mean_x=share * dx,
        second_moment=share * (second.second_moment - first.second_moment) + apart,
    )


def unweighted_union(
    parts: Unweighted, scale: Array, times: Array, across: Callable[[Array], Array]
) -> Unweighted:
    """That of any number of parts together; see `reconjax.summary.union`.

    Args:
      parts: with a leading axis of length n on every array.
      scale: (n, D) the units of the second moments.
      times: (n,) how often each part counts.
      across: adds up an array over processes that hold other parts.
    """
    counts = jnp.sum(parts.counts, axis=1) * times
    whole = across(jnp.sum(counts))
    share = counts / jnp.where(whole > 0, whole, 1.0)
    mean = across(share @ parts.mean_x)
    mean = mean + across(share @ (parts.mean_x - mean))
    dx = (parts.mean_x - mean) / scale
    second = across(jnp.tensordot(share, parts.second_moment, 1) + (share[:, None] * dx).T @ dx)
    return Unweighted(
        counts=across(times @ parts.counts),
        weights=across(times @ parts.weights),
        mean_x=mean,
        second_moment=(second + second.T) / 2,
    )
