"""Moments of inputs of which some, or none, have labels."""

import dataclasses

import jax.numpy as jnp

from reconjax.summary.moments import Moments


def without_labels(moments: Moments) -> Moments:
    """The same with no targets at all (C = 0)."""
    return dataclasses.replace(
        moments,
        cross_moment=moments.cross_moment[:, :0],
        label_moment=jnp.zeros((0, 0), moments.second_moment.dtype),
        mean_y=moments.mean_y[:0],
    )


def with_labels_of(encoder: Moments, labeled: Moments) -> Moments:
    """Moments of all inputs, with what is known of the labels of some.

    Args:
      encoder: centered moments of all inputs; their own labels are left out.
      labeled: centered moments of those with labels.

    Raises:
      ValueError: no moments, other features or units, or uncentered ones.
    """
    if not isinstance(encoder, Moments):
        raise ValueError(f"encoder: {type(encoder).__name__}; `Moments` are needed")
    if encoder.features != labeled.features:
        raise ValueError(f"encoder: {encoder.features} features; {labeled.features} are needed")
    if not (encoder.centered and labeled.centered):
        raise ValueError("encoder: uncentered moments; all must be centered")
    if not bool(jnp.all(encoder.scale == labeled.scale)):
        raise ValueError("encoder: its features are in other units than those of the labeled ones")
    return dataclasses.replace(
        encoder,
        mean_y=labeled.mean_y,
        cross_moment=labeled.cross_moment,
        label_moment=labeled.label_moment,
        unweighted=None,
    )
