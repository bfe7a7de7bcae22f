"""Moments of data that come in batches, which are read ahead while the last ones are summed up."""

import dataclasses
import functools
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike, DTypeLike

from reconjax.data.prefetch import Pace, prefetch
from reconjax.data.units import as_floats
from reconjax.summary.class_moment import MANY, ClassMoment
from reconjax.summary.exact_sums import ExactSums
from reconjax.summary.moments import (
    Moments,
    as_arrays,
    batch_moments,
    check_labels,
    checked,
    is_exact,
    rounded,
    sample_weights,
    uncentered,
)
from reconjax.summary.union import merge, merging_step
from reconjax.summary.unweighted import nothing


def moments_from_batches(
    batches: Iterable[tuple[Any, Any]],
    *,
    num_classes: int | None = None,
    class_weight: ArrayLike | None = None,
    center: bool = True,
    dtype: DTypeLike | None = None,
    devices: Sequence[jax.Device] | None = None,
    targets: str | None = None,
) -> Moments:
    """Moments of data that come in batches; memory is O(D²) and a few batches on each device.

    The next two batches are read in a thread of their own while the last ones are summed up.
    Rounding errors do not grow with the number of batches.

    Args:
      batches: an iterable of (x, y) pairs, each as in `moments`; their sizes may differ.
      num_classes: C; needed where y are class numbers, and with it (n,) and (n, 1) are such.
      class_weight: None or (C,) weights; see `balanced_class_weight`.
      center: remove the means.
      dtype: floating dtype in which the moments are accumulated, as in `moments`.
      devices: devices of this process to which the batches are dealt in turn, for instance
        `jax.local_devices()`; the result is on the first. By default JAX chooses one.
      targets: "classes" or "real", as in `moments`; None: what the first batch is taken for.

    Returns:
      `Moments`, equal up to rounding to `moments` of the concatenated batches. Those of 8-bit
      images without class weights are the same to the last bit, whatever the batches and devices.

    Raises:
      ValueError: no sample at all, no device or one of another process, and whatever `moments`
        raises. An error in `batches` is raised as it is.

    Example:
      >>> x, y = np.random.default_rng(0).normal(size=(50, 6)), np.arange(50) % 2
      >>> moments = reconjax.moments(x, y)
      >>> batches = ((x[i : i + 10], y[i : i + 10]) for i in range(0, 50, 10))
      >>> streamed = reconjax.moments_from_batches(batches, num_classes=2)
      >>> bool(np.allclose(streamed.cross_moment, moments.cross_moment))
      True
    """
    if isinstance(class_weight, str):
        raise ValueError(
            f"class_weight: {class_weight!r} needs all labels beforehand; pass"
            " balanced_class_weight(labels, num_classes)"
        )
    floats = jnp.dtype(dtype or jnp.result_type(float))
    weighted = class_weight is not None
    parts = [_Part(device, num_classes, floats, weighted) for device in _places(devices)]
    with prefetch(_ready(batches, num_classes, class_weight, targets)) as ahead:
        for batch, part in zip(ahead, itertools.cycle(parts), strict=False):
            part.add(*batch)
    total = _union(parts)
    if total is None or total.samples < 2:
        samples = 0 if total is None else int(total.samples)
        raise ValueError(f"batches: {samples} samples in all; at least 2 are needed")
    return checked(total if center else uncentered(total))


class _Part:
    """Running moments of the batches that one device is given."""

    def __init__(
        self, device: jax.Device | None, num_classes: int | None, dtype: DTypeLike, weighted: bool
    ) -> None:
        self.device, self.num_classes, self.dtype = device, num_classes, dtype
        self.weighted = weighted
        self.exact: ExactSums | None = None
        self._running: tuple[Moments, Moments] | None = None
        self._pace = Pace()

    def add(self, x: Array, y: Array, weights: Array, exact: bool) -> None:
        """Adds a batch as `_ready` makes it, and returns before the device is done."""
        if exact:
            if self.exact is None:
                features = math.prod(x.shape[1:])
                self.exact = ExactSums(features, int(self.num_classes or 0), self.device)
            self.exact.add(x, y, weights)
            return
        options: dict[str, Any] = {
            "num_classes": self.num_classes,
            "dtype": self.dtype,
            "weighted": self.weighted,
        }
        self._pace.wait()
        if self.device is not None:
            x, y, weights = jax.device_put((x, y, weights), self.device)
        if self._running is None:
            self._shift, self._running = _start(x, y, **options)
        *running, token = _add(*self._running, self._shift, x, y, weights, **options)
        self._running = running[0], running[1]
        self._pace.started(token)

    def floats(self) -> Moments | None:
        """The moments of the batches that are not summed exactly."""
        return None if self._running is None else _finished(*self._running, self._shift)


@functools.partial(jax.jit, static_argnames=("dtype", "num_classes", "weighted"))
def _start(
    x: Array, y: Array, *, dtype: DTypeLike, num_classes: int | None, weighted: bool
) -> tuple[Array, tuple[Moments, Moments]]:
    """A point (D,) amid the data, moments of no samples, and their rounding errors."""
    shift = jnp.mean(as_floats(x.reshape(x.shape[0], -1), dtype), axis=0)
    d, c = shift.shape[0], y.shape[1] if y.ndim == 2 else num_classes or 0
    none = jnp.zeros((), dtype)
    second, cross = jnp.zeros((d, d), dtype), jnp.zeros((d, c), dtype)
    mean_y = jnp.zeros(c, dtype)
    many = y.ndim == 1 and c > MANY
    label = ClassMoment(jnp.zeros_like(mean_y)) if many else jnp.zeros((c, c), dtype)
    empty = Moments(
        none,
        none,
        jnp.zeros_like(shift),
        mean_y,
        second,
        cross,
        label,
        jnp.ones_like(shift),
        unweighted=nothing(shift, c) if weighted else None,
    )
    return shift, (empty, jax.tree.map(jnp.zeros_like, empty))


@functools.partial(
    jax.jit,
    static_argnames=("dtype", "num_classes", "weighted"),
    donate_argnames=("running", "error"),
)
def _add(
    running: Moments,
    error: Moments,
    shift: Array,
    x: Array,
    y: Array,
    weights: Array,
    *,
    dtype: DTypeLike,
    num_classes: int | None,
    weighted: bool,
) -> tuple[Moments, Moments, Array]:
    """The moments of x - shift (D,) with a batch more, merged by compensated sums (Kahan).

    Plain merging errs by some rounding errors more with every batch, and where the mean is large
    against the deviations, by some of those of the mean: hence the shift.
    """
    x = as_floats(x.reshape(x.shape[0], -1), dtype) - shift
    batch = batch_moments(x, y, weights, dtype=dtype, num_classes=num_classes, weighted=weighted)
    step = jax.tree.map(jnp.subtract, merging_step(running, batch), error)
    total = jax.tree.map(jnp.add, running, step)
    error = jax.tree.map(lambda new, old, s: (new - old) - s, total, running, step)
    return total, error, batch.samples


@jax.jit
def _finished(running: Moments, error: Moments, shift: Array) -> Moments:
    total = jax.tree.map(jnp.subtract, running, error)
    plain = total.unweighted
    if plain is not None:
        plain = dataclasses.replace(plain, mean_x=plain.mean_x + shift)
    return dataclasses.replace(total, mean_x=total.mean_x + shift, unweighted=plain)


def _ready(
    batches: Iterable[tuple[Any, Any]],
    num_classes: int | None,
    class_weight: ArrayLike | None,
    targets: str | None,
) -> Iterator[tuple[Any, Any, Any, bool]]:
    """Batches that are checked, copied and of one size: x, y, weights (n,), whether to sum exactly.

    A batch may be a buffer that the next one is written to, hence the copies.
    """
    largest, shape = 0, None
    for batch in batches:
        if not isinstance(batch, tuple | list) or len(batch) != 2:
            raise ValueError("batches: pairs (x, y) of a batch each are needed")
        if np.shape(batch[0])[:1] == (0,):
            continue
        x, y = as_arrays(*batch, num_classes, targets)
        if y.ndim == 1:
            if num_classes is None:
                raise ValueError(
                    "num_classes: None; batches of integer labels need the number (real values:"
                    " targets='real', or floats of shape (n, 1))"
                )
            check_labels(y, num_classes, one_class_allowed=True)
            y = y.astype(np.int32)
        elif targets is None and not num_classes:
            targets = "real"  # also where a later batch happens to hold whole numbers alone
        size = math.prod(x.shape[1:]), num_classes if y.ndim == 1 else y.shape[1]
        shape = shape or size
        for name, now, before in zip(("features", "targets"), size, shape, strict=True):
            if now != before:
                raise ValueError(f"batches: one of {now} {name} after {before}")
        exact = is_exact(x, y, class_weight)
        weights = sample_weights(y, num_classes, class_weight)
        # A shorter last batch is filled up with samples of weight 0: one compilation serves all.
        largest = max(largest, x.shape[0])
        x, y, weights = (_padded(array, largest) for array in (x, y, weights))
        yield x, y, weights, exact


def _union(parts: Sequence[_Part]) -> Moments | None:
    """The moments of all parts, on the device of the first; None where there are no samples."""
    exact = [part.exact for part in parts if part.exact is not None]
    for other in exact[1:]:
        exact[0].merge(other)
    each = [part.floats() for part in parts] + [rounded(sums, parts[0].dtype) for sums in exact[:1]]
    present = [
        part if parts[0].device is None else jax.device_put(part, parts[0].device)
        for part in each
        if part is not None
    ]
    return functools.reduce(merge, present) if present else None


def _places(devices: Sequence[jax.Device] | None) -> Sequence[jax.Device | None]:
    if devices is None:
        return [None]
    if not devices:
        raise ValueError("devices: none; at least 1 is needed, or None for JAX's choice")
    for device in devices:
        if device not in jax.local_devices(backend=getattr(device, "platform", None)):
            raise ValueError(f"devices: {device!r}; those of this process, jax.local_devices()")
    return list(devices)


def _padded(array: Any, length: int) -> Any:
    """A copy that is filled up with zeros; JAX's arrays do not change and need none."""
    missing = length - array.shape[0]
    if missing == 0:
        return array if isinstance(array, jax.Array) else np.array(array)
    widths = [(0, missing)] + [(0, 0)] * (array.ndim - 1)
    return np.pad(np.asarray(array), widths)
