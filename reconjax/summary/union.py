"""The moments of several disjoint sets of samples together (Chan, Golub and LeVeque, 1979).

With w the share of a set in the whole and d the distance of its mean from the common one, the
second moment of the union is Σ w (M + d dᵀ).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from reconjax.linalg.precision import highest
from reconjax.summary.class_moment import ClassMoment, symmetric
from reconjax.summary.moments import Moments
from reconjax.summary.unweighted import unweighted_step, unweighted_union


def merge(first: Moments, second: Moments) -> Moments:
    """Moments of the union of two disjoint sets of samples (Chan, Golub and LeVeque, 1979).

    Merge first, standardize afterwards: both sets must be in the same units.

    Raises:
      ValueError: one is centered or has class weights and the other not, their shapes differ, or so
        do their units (which are not looked at under `jax.jit`).

    Example:
      >>> x, y = np.random.default_rng(0).normal(size=(50, 6)), np.arange(50) % 2
      >>> whole = reconjax.merge(reconjax.moments(x[:20], y[:20]), reconjax.moments(x[20:], y[20:]))
      >>> bool(np.allclose(whole.second_moment, reconjax.moments(x, y).second_moment))
      True
    """
    if first.centered != second.centered:
        raise ValueError(f"centered: {first.centered} and {second.centered} cannot be merged")
    if (first.unweighted is None) != (second.unweighted is None):
        raise ValueError("moments with class weights and without them cannot be merged")
    if (first.features, first.targets) != (second.features, second.targets):
        raise ValueError(
            f"moments of {first.features} features and {first.targets} targets cannot be merged"
            f" with {second.features} and {second.targets}"
        )
    check_units(first.scale, second.scale)
    return _merged(first, second)


@jax.jit
def _merged(first: Moments, second: Moments) -> Moments:
    return jax.tree.map(jnp.add, first, merging_step(first, second))


def check_units(*scales: Array) -> None:
    """Raises ValueError unless all (D,) scales are equal (skipped while JAX traces)."""
    if any(isinstance(scale, jax.core.Tracer) for scale in scales):
        return
    first, *others = map(np.asarray, scales)
    for other in others:
        if not np.array_equal(first, other):
            index = int(np.argmax(first != other))
            raise ValueError(
                f"scale: {first[index]:.6g} and {other[index]:.6g} of feature {index}; moments in"
                " different units cannot be merged: merge first, standardize afterwards"
            )


def merging_step(first: Moments, second: Moments) -> Moments:
    """What `second` adds to each field of `first` when the two are merged.

    The same formula as `union`, as an increment: running sums over many batches are compensated
    (Kahan), which a difference of two unions, rounded as the whole is, would not allow.
    """
    weight = first.weight + second.weight
    whole = jnp.where(weight > 0, weight, 1.0)  # both may be of classes that have no weight
    share = second.weight / whole
    spread = share * (first.weight / whole)
    dx = second.mean_x - first.mean_x
    dy = second.mean_y - first.mean_y

    def mix(a: Array, b: Array, u: Array, v: Array) -> Array:
        # The means are in raw units, the second moments in units of `scale`.
        return share * (b - a) + spread * jnp.outer(u, v)

    ux = dx / first.scale
    plain = None
    if first.unweighted is not None and second.unweighted is not None:
        plain = unweighted_step(first.unweighted, second.unweighted, first.scale)
    label: Array | ClassMoment
    if isinstance(first.label_moment, ClassMoment) or isinstance(second.label_moment, ClassMoment):
        label = jax.tree.map(lambda a, b: share * (b - a), first.label_moment, second.label_moment)
    else:
        label = mix(first.label_moment, second.label_moment, dy, dy)
    return Moments(
        samples=second.samples,
        weight=second.weight,
        mean_x=share * dx,
        mean_y=share * dy,
        second_moment=mix(first.second_moment, second.second_moment, ux, ux),
        cross_moment=mix(first.cross_moment, second.cross_moment, ux, dy),
        label_moment=label,
        scale=jnp.zeros_like(first.scale),
        centered=first.centered,
        unweighted=plain,
    )


@highest
def union(
    parts: Moments,
    counts: ArrayLike | None = None,
    across: Callable[[Array], Array] = lambda part: part,
) -> Moments:
    """Moments of any number of sets together, about their common mean; to be compiled.

    Args:
      parts: moments with a leading axis of length n on every array, all in the same units.
      counts: (n,) how often each set counts; once by default.
      across: adds up an array over processes that hold other sets, by default none.

    Returns:
      `Moments` without the leading axis, both triangles of their matrices the same.
    """
    times = jnp.ones_like(parts.samples) if counts is None else counts
    times = jnp.asarray(times, parts.samples.dtype)
    weight = across(times @ parts.weight)
    # All may be of classes that have no weight.
    share = times * parts.weight / jnp.where(weight > 0, weight, 1.0)

    def common(means: Array) -> Array:
        # The rounding of the first sum would be an error in the second moments: sum what is left.
        first = across(share @ means)
        return first + across(share @ (means - first))

    mean_x, mean_y = common(parts.mean_x), common(parts.mean_y)
    # The means are in raw units, the second moments in units of `scale`.
    dx, dy = (parts.mean_x - mean_x) / parts.scale, parts.mean_y - mean_y

    def mix(within: Array, u: Array, v: Array) -> Array:
        return across(jnp.tensordot(share, within, 1) + (share[:, None] * u).T @ v)

    second = mix(parts.second_moment, dx, dx)
    label: Array | ClassMoment
    if isinstance(parts.label_moment, ClassMoment):
        label = jax.tree.map(lambda shares: across(share @ shares), parts.label_moment)
    else:
        label = mix(parts.label_moment, dy, dy)
    plain = parts.unweighted
    if plain is not None:
        plain = unweighted_union(plain, parts.scale, times, across)
    return Moments(
        samples=across(times @ parts.samples),
        weight=weight,
        mean_x=mean_x,
        mean_y=mean_y,
        second_moment=(second + second.T) / 2,
        cross_moment=mix(parts.cross_moment, dx, dy),
        label_moment=symmetric(label),
        scale=parts.scale[0],
        centered=parts.centered,
        unweighted=plain,
    )
