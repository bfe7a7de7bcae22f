"""Moments: all that the closed forms need to know of a data set, whatever its size.

With E the (weighted) mean over the N samples, the closed forms depend on the data through

    M = E[x xᵀ] (D, D)    C = E[x yᵀ] (D, C)    S = E[y yᵀ] (C, C)    N, E[x], E[y]

alone. They add up: two sets of moments of disjoint samples merge into those of the union (Chan,
Golub and LeVeque, 1979), so the samples never have to be in memory together.
"""

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

from reconjax.exact_sums import LARGEST_BATCH, ExactSums, panels
from reconjax.prefetch import Pace, prefetch

# float32 products in full float32, on accelerators too.
highest = jax.default_matmul_precision("highest")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Moments:
    """First and second moments of N inputs x (D,) and targets y (C,), about their means.

    Attributes:
      samples: number of samples N, a float scalar.
      weight: sum of the sample weights; equal to `samples` without class weights.
      mean_x: (D,) mean input, the point about which the second moments are taken; 0 where the
        moments are uncentered.
      mean_y: (C,) mean target, likewise.
      second_moment: (D, D) M = E[x xᵀ] of the centered inputs.
      cross_moment: (D, C) C = E[x yᵀ].
      label_moment: (C, C) S = E[y yᵀ].
      scale: (D,) the unit of each feature: x stands for (input - mean_x) / scale.
      centered: whether the means were removed.
    """

    samples: Array
    weight: Array
    mean_x: Array
    mean_y: Array
    second_moment: Array
    cross_moment: Array
    label_moment: Array
    scale: Array
    centered: bool = dataclasses.field(default=True, metadata={"static": True})

    @property
    def features(self) -> int:
        """Number of input features D."""
        return self.second_moment.shape[-1]

    @property
    def targets(self) -> int:
        """Number of targets C (classes, for one-hot labels)."""
        return self.label_moment.shape[-1]


def moments(
    x: ArrayLike,
    y: ArrayLike,
    *,
    num_classes: int | None = None,
    class_weight: str | ArrayLike | None = None,
    center: bool = True,
    dtype: DTypeLike | None = None,
) -> Moments:
    """Moments of arrays that fit in memory.

    Args:
      x: (N, D) vectors or (N, H, W, C) images, which are flattened. Integer images (uint8) are
        scaled from [0, 255] to [0, 1]; floats are taken as they are.
      y: (N,) integer labels, made one-hot, or (N, C) real targets.
      num_classes: C for integer labels; their largest value plus one by default (it must be given
        under `jax.jit`).
      class_weight: None counts every sample once; "balanced" gives every class the same total
        weight; (C,) non-negative weights, one a class. Labels only.
      center: remove the means of x and y (the convention of every theorem here).
      dtype: floating dtype of the result; by default JAX's default float, which is float64 where
        x64 is enabled, also for float32 images: the bottom of a spectrum needs it.

    Returns:
      `Moments`.

    Raises:
      ValueError: fewer than 2 samples, lengths that differ, labels that are negative, not whole or
        all of one class, constant targets, NaN or inf.
    """
    x, y = _as_arrays(x, y)
    if y.ndim == 1:
        _check_labels(y, num_classes)
        if num_classes is None:
            num_classes = int(np.max(np.asarray(y))) + 1
        y = y.astype(jnp.int32)
    if x.shape[0] < 2:
        raise ValueError(f"x: {x.shape[0]} samples; at least 2 are needed")
    floats = jnp.dtype(dtype or jnp.result_type(float))
    weights = _class_weights(y, num_classes, class_weight)
    if _is_exact(x, y, class_weight):
        exact = ExactSums(math.prod(x.shape[1:]), int(num_classes or 0))
        for start in range(0, x.shape[0], LARGEST_BATCH):
            part = slice(start, start + LARGEST_BATCH)
            exact.add(x[part], y[part], weights[part])
        found = _rounded(exact, floats)
    else:
        found = _batch_moments(x, y, weights, dtype=floats, num_classes=num_classes)
    return _checked(found if center else uncentered(found))


def moments_from_batches(
    batches: Iterable[tuple[Any, Any]],
    *,
    num_classes: int | None = None,
    class_weight: ArrayLike | None = None,
    center: bool = True,
    dtype: DTypeLike | None = None,
    devices: Sequence[jax.Device] | None = None,
) -> Moments:
    """Moments of data that come in batches; memory is O(D²) and a few batches on each device.

    The next two batches are read in a thread of their own while the last ones are summed up.
    Rounding errors do not grow with the number of batches.

    Args:
      batches: an iterable of (x, y) pairs, each as in `moments`; their sizes may differ.
      num_classes: C; needed where y are integer labels.
      class_weight: None or (C,) weights; see `balanced_class_weight`.
      center: remove the means.
      dtype: floating dtype in which the moments are accumulated, as in `moments`.
      devices: devices of this process to which the batches are dealt in turn, for instance
        `jax.local_devices()`; the result is on the first. By default JAX chooses one.

    Returns:
      `Moments`, equal up to rounding to `moments` of the concatenated batches. Those of 8-bit
      images without class weights are the same to the last bit, whatever the batches and devices.

    Raises:
      ValueError: no sample at all, no device or one of another process, and whatever `moments`
        raises. An error in `batches` is raised as it is.
    """
    if isinstance(class_weight, str):
        raise ValueError(
            f"class_weight: {class_weight!r} needs all labels beforehand; pass"
            " balanced_class_weight(labels, num_classes)"
        )
    floats = jnp.dtype(dtype or jnp.result_type(float))
    parts = [_Part(device, num_classes, floats) for device in _places(devices)]
    with prefetch(_ready(batches, num_classes, class_weight)) as ahead:
        for batch, part in zip(ahead, itertools.cycle(parts), strict=False):
            part.add(*batch)
    total = _union(parts)
    if total is None or total.samples < 2:
        samples = 0 if total is None else int(total.samples)
        raise ValueError(f"batches: {samples} samples in all; at least 2 are needed")
    return _checked(total if center else uncentered(total))


@jax.jit
def merge(first: Moments, second: Moments) -> Moments:
    """Moments of the union of two disjoint sets of samples (Chan, Golub and LeVeque, 1979).

    Merge first, standardize afterwards: both sets must be in the same units.

    Raises:
      ValueError: one is centered and the other is not, or their shapes differ.
    """
    if first.centered != second.centered:
        raise ValueError(f"centered: {first.centered} and {second.centered} cannot be merged")
    if (first.features, first.targets) != (second.features, second.targets):
        raise ValueError(
            f"moments of {first.features} features and {first.targets} targets cannot be merged"
            f" with {second.features} and {second.targets}"
        )
    return jax.tree.map(jnp.add, first, _step(first, second))


def _step(first: Moments, second: Moments) -> Moments:
    """What `second` adds to each field of `first` when the two are merged."""
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
    return Moments(
        samples=second.samples,
        weight=second.weight,
        mean_x=share * dx,
        mean_y=share * dy,
        second_moment=mix(first.second_moment, second.second_moment, ux, ux),
        cross_moment=mix(first.cross_moment, second.cross_moment, ux, dy),
        label_moment=mix(first.label_moment, second.label_moment, dy, dy),
        scale=jnp.zeros_like(first.scale),
        centered=first.centered,
    )


def uncentered(moments: Moments) -> Moments:
    """The same moments about zero instead of about the means; `mean_x` and `mean_y` become 0."""
    mx, my = moments.mean_x / moments.scale, moments.mean_y
    return dataclasses.replace(
        moments,
        mean_x=jnp.zeros_like(moments.mean_x),
        mean_y=jnp.zeros_like(my),
        second_moment=moments.second_moment + jnp.outer(mx, mx),
        cross_moment=moments.cross_moment + jnp.outer(mx, my),
        label_moment=moments.label_moment + jnp.outer(my, my),
        centered=False,
    )


def standardized(moments: Moments) -> Moments:
    """Moments of x with every feature scaled to unit second moment; constant features stay 0.

    Opt-in: it changes what reconstruction means (the loss weighs features equally). The scale is
    kept in `Moments.scale`, so that new data are treated alike.
    """
    std = jnp.sqrt(jnp.diagonal(moments.second_moment))
    # A constant feature has a variance of 0 up to rounding of its mean.
    tiny = jnp.finfo(std.dtype).eps * (jnp.abs(moments.mean_x / moments.scale) + jnp.max(std))
    std = jnp.where(std > tiny, std, 1.0)
    return dataclasses.replace(
        moments,
        second_moment=moments.second_moment / jnp.outer(std, std),
        cross_moment=moments.cross_moment / std[:, None],
        scale=moments.scale * std,
    )


def balanced_class_weight(labels: ArrayLike, num_classes: int) -> np.ndarray:
    """(C,) weights N / (C' N_c) that give each of the C' classes present the same total weight."""
    counts = np.bincount(np.asarray(labels), minlength=num_classes)
    present = counts > 0
    return np.where(present, counts.sum() / (present.sum() * np.maximum(counts, 1)), 0.0)


@functools.partial(jax.jit, static_argnames=("dtype", "num_classes"))
@highest
def _batch_moments(
    x: Array, y: Array, weights: Array, *, dtype: DTypeLike, num_classes: int | None
) -> Moments:
    """Moments of one batch: x (n, ...), y (n,) int or (n, C), weights (n,); 0 leaves one out."""
    samples = jnp.sum(weights > 0, dtype=dtype)
    weights = weights.astype(dtype)
    weight = jnp.sum(weights)
    unit = jnp.where(weight > 0, weights / weight, 0.0)
    x = as_floats(x.reshape(x.shape[0], -1), dtype)
    y = jax.nn.one_hot(y, num_classes or 0, dtype=dtype) if y.ndim == 1 else y.astype(dtype)
    # The mean of a float32 batch is itself rounded: a second pass over the residuals mends it.
    mean_x = unit @ x
    mean_x = mean_x + unit @ (x - mean_x)
    mean_y = unit @ y
    x, y = x - mean_x, y - mean_y
    wx, wy = x * unit[:, None], y * unit[:, None]
    x, wx = jax.lax.optimization_barrier((x, wx))  # else made anew for each panel of the product
    return Moments(
        samples=samples,
        weight=weight,
        mean_x=mean_x,
        mean_y=mean_y,
        second_moment=_symmetric_product(wx, x),
        cross_moment=wx.T @ y,
        label_moment=wy.T @ y,
        scale=jnp.ones_like(mean_x),
    )


def _symmetric_product(a: Array, b: Array) -> Array:
    """aᵀ b (D, D) of a, b (n, D), where it is known to be symmetric: one half is computed."""
    cuts = panels(a.shape[1])
    rows = [jnp.pad(a[:, i:j].T @ b[:, i:], ((0, 0), (i, 0))) for i, j in cuts]
    upper = jax.lax.optimization_barrier(jnp.triu(jnp.concatenate(rows)))
    return jax.lax.optimization_barrier(upper + jnp.triu(upper, 1).T)


class _Part:
    """Running moments of the batches that one device is given."""

    def __init__(self, device: jax.Device | None, num_classes: int | None, dtype: Any) -> None:
        self.device, self.num_classes, self.dtype = device, num_classes, dtype
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
        options = {"num_classes": self.num_classes, "dtype": self.dtype}
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


@functools.partial(jax.jit, static_argnames=("dtype", "num_classes"))
def _start(
    x: Array, y: Array, *, dtype: DTypeLike, num_classes: int | None
) -> tuple[Array, tuple[Moments, Moments]]:
    """A point (D,) amid the data, moments of no samples, and their rounding errors."""
    shift = jnp.mean(as_floats(x.reshape(x.shape[0], -1), dtype), axis=0)
    d, c = shift.shape[0], y.shape[1] if y.ndim == 2 else num_classes or 0
    none = jnp.zeros((), dtype)
    second, cross = jnp.zeros((d, d), dtype), jnp.zeros((d, c), dtype)
    mean_y, label = jnp.zeros(c, dtype), jnp.zeros((c, c), dtype)
    empty = Moments(
        none, none, jnp.zeros_like(shift), mean_y, second, cross, label, jnp.ones_like(shift)
    )
    return shift, (empty, jax.tree.map(jnp.zeros_like, empty))


@functools.partial(
    jax.jit, static_argnames=("dtype", "num_classes"), donate_argnames=("running", "error")
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
) -> tuple[Moments, Moments, Array]:
    """The moments of x - shift (D,) with a batch more, merged by compensated sums (Kahan).

    Plain merging errs by some rounding errors more with every batch, and where the mean is large
    against the deviations, by some of those of the mean: hence the shift.
    """
    x = as_floats(x.reshape(x.shape[0], -1), dtype) - shift
    found = _batch_moments(x, y, weights, dtype=dtype, num_classes=num_classes)
    step = jax.tree.map(jnp.subtract, _step(running, found), error)
    total = jax.tree.map(jnp.add, running, step)
    error = jax.tree.map(lambda new, old, s: (new - old) - s, total, running, step)
    return total, error, found.samples


@jax.jit
def _finished(running: Moments, error: Moments, shift: Array) -> Moments:
    found = jax.tree.map(jnp.subtract, running, error)
    return dataclasses.replace(found, mean_x=found.mean_x + shift)


def _ready(
    batches: Iterable[tuple[Any, Any]], num_classes: int | None, class_weight: Any
) -> Iterator[tuple[Any, Any, Any, bool]]:
    """Batches that are checked, copied and of one size: x, y, weights (n,), whether to sum exactly.

    A batch may be a buffer that the next one is written to, hence the copies.
    """
    largest, shape = 0, None
    for batch_x, batch_y in batches:
        x, y = _as_arrays(batch_x, batch_y)
        if x.shape[0] == 0:
            continue
        if y.ndim == 1:
            if num_classes is None:
                raise ValueError("num_classes: None; batches of integer labels need the number")
            _check_labels(y, num_classes, one_class_allowed=True)
            y = y.astype(np.int32)
        features, targets = math.prod(x.shape[1:]), num_classes if y.ndim == 1 else y.shape[1]
        shape = shape or (features, targets)
        for name, now, before in zip(
            ("features", "targets"), (features, targets), shape, strict=True
        ):
            if now != before:
                raise ValueError(f"batches: one of {now} {name} after {before}")
        exact = _is_exact(x, y, class_weight)
        weights = _class_weights(y, num_classes, class_weight)
        # A shorter last batch is filled up with samples of weight 0: one compilation serves all.
        largest = max(largest, x.shape[0])
        x, y, weights = (_padded(array, largest) for array in (x, y, weights))
        yield x, y, weights, exact


def _union(parts: Sequence[_Part]) -> Moments | None:
    """The moments of all parts, on the device of the first; None where there are no samples."""
    exact = [part.exact for part in parts if part.exact is not None]
    for other in exact[1:]:
        exact[0].merge(other)
    found = [part.floats() for part in parts] + [
        _rounded(sums, parts[0].dtype) for sums in exact[:1]
    ]
    found = [
        one if parts[0].device is None else jax.device_put(one, parts[0].device)
        for one in found
        if one is not None
    ]
    return functools.reduce(merge, found) if found else None


def _places(devices: Sequence[jax.Device] | None) -> Sequence[jax.Device | None]:
    if devices is None:
        return [None]
    if not devices:
        raise ValueError("devices: none; at least 1 is needed, or None for JAX's choice")
    for device in devices:
        if device not in jax.local_devices(backend=getattr(device, "platform", None)):
            raise ValueError(f"devices: {device!r}; those of this process, jax.local_devices()")
    return list(devices)


def _rounded(exact: ExactSums, dtype: Any) -> Moments:
    return Moments(**{name: jnp.asarray(part, dtype) for name, part in exact.moments().items()})  # type: ignore[arg-type]


def _is_exact(x: Array, y: Array, class_weight: Any) -> bool:
    concrete = not isinstance(x, jax.core.Tracer) and not isinstance(y, jax.core.Tracer)
    return concrete and x.dtype == jnp.uint8 and y.ndim == 1 and class_weight is None


def as_floats(x: Array, dtype: DTypeLike | None = None) -> Array:
    """Inputs as floats; integers (8-bit images) are scaled from [0, 255] to [0, 1]."""
    if jnp.issubdtype(x.dtype, jnp.integer):
        return x.astype(dtype or jnp.result_type(float)) / 255
    return x if dtype is None else x.astype(dtype)


def _as_arrays(x: Any, y: Any) -> tuple[Array, Array]:
    x, y = (a if isinstance(a, jax.Array) else np.asarray(a) for a in (x, y))
    if x.ndim < 2:
        raise ValueError(f"x: shape {x.shape}; (N, D) or (N, H, W, C) is needed")
    if y.ndim not in (1, 2):
        raise ValueError(f"y: shape {y.shape}; (N,) labels or (N, C) targets are needed")
    if x.shape[0] != y.shape[0]:
        raise ValueError(f"y: {y.shape[0]} labels for {x.shape[0]} samples of x")
    return x, y


def _check_labels(y: Array, num_classes: int | None, one_class_allowed: bool = False) -> None:
    if isinstance(y, jax.core.Tracer):
        if num_classes is None:
            raise ValueError("num_classes: None; it must be given under jax.jit")
        return
    labels = np.asarray(y)
    if labels.size == 0:
        return
    if not np.all(np.isfinite(labels)) or np.any(labels != np.floor(labels)):
        raise ValueError("y: labels that are not whole numbers; (N, C) holds real targets")
    if labels.min() < 0:
        raise ValueError(f"y: label {labels.min()}; labels are 0 .. C-1")
    if num_classes is not None and labels.max() >= num_classes:
        raise ValueError(f"y: label {labels.max()}; num_classes={num_classes} allows 0 .. C-1")
    if not one_class_allowed and labels.min() == labels.max():
        raise ValueError(f"y: only class {int(labels.min())} occurs; at least 2 are needed")


def _class_weights(y: Array, num_classes: int | None, class_weight: Any) -> Any:
    if class_weight is None:
        return np.ones(y.shape[0], np.float32)
    if y.ndim != 1 or num_classes is None:
        raise ValueError("class_weight: given, but y are real targets; it needs integer labels")
    if isinstance(class_weight, str):
        if class_weight != "balanced":
            raise ValueError(f"class_weight: {class_weight!r}; None, 'balanced' or (C,) weights")
        counts = jnp.bincount(y, length=num_classes)
        present = jnp.sum(counts > 0)
        class_weight = y.shape[0] / (present * jnp.maximum(counts, 1))
    if not isinstance(class_weight, jax.Array):
        class_weight = np.asarray(class_weight, np.float64)
    if class_weight.shape != (num_classes,):
        raise ValueError(f"class_weight: shape {class_weight.shape}; ({num_classes},) is needed")
    if not isinstance(class_weight, jax.core.Tracer):
        values = np.asarray(class_weight)
        if not np.all((values >= 0) & np.isfinite(values)):
            raise ValueError("class_weight: negative or not finite; weights are >= 0")
    # Labels on the host are looked up there: no device is waited for.
    return (jnp.asarray(class_weight) if isinstance(y, jax.Array) else class_weight)[y]


def _padded(array: Any, length: int) -> Any:
    """A copy that is filled up with zeros; JAX's arrays do not change and need none."""
    missing = length - array.shape[0]
    if missing == 0:
        return array if isinstance(array, jax.Array) else np.array(array)
    widths = [(0, missing)] + [(0, 0)] * (array.ndim - 1)
    return np.pad(np.asarray(array), widths)


def _checked(found: Moments) -> Moments:
    """Raises for moments that no theorem can use; does nothing while JAX traces."""
    if isinstance(found.second_moment, jax.core.Tracer):
        return found
    bad = int(jnp.sum(~jnp.isfinite(jnp.diagonal(found.second_moment))))
    if bad:
        raise ValueError(f"x: NaN or inf in {bad} of {found.features} features")
    if not bool(jnp.all(jnp.isfinite(found.label_moment))):
        raise ValueError("y: NaN or inf")
    if float(jnp.trace(found.second_moment)) <= 0:
        raise ValueError("x: constant; the inputs do not vary")
    spread = float(jnp.trace(found.label_moment))
    rounding = 100 * float(jnp.finfo(found.label_moment.dtype).eps)
    if found.targets and spread <= rounding**2 * (spread + float(jnp.sum(found.mean_y**2))):
        raise ValueError("y: constant (one class only); at least 2 classes are needed")
    return found
