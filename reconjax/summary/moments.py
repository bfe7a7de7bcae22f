"""Moments: all that the closed forms need to know of a data set, whatever its size.

With E the (weighted) mean over the N samples, the closed forms depend on the data through

    M = E[x xᵀ] (D, D)    C = E[x yᵀ] (D, C)    S = E[y yᵀ] (C, C)    N, E[x], E[y]

alone. They add up: two sets of moments of disjoint samples merge into those of the union (Chan,
Golub and LeVeque, 1979), so the samples never have to be in memory together.
"""

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike, DTypeLike

from reconjax.data.targets import as_targets, warn_of_many_classes
from reconjax.data.units import as_floats
from reconjax.linalg.precision import highest
from reconjax.linalg.products import symmetric_product
from reconjax.summary.class_moment import MANY, ClassMoment, about_zero, class_sums
from reconjax.summary.exact_sums import LARGEST_BATCH, ExactSums
from reconjax.summary.unweighted import Unweighted, without_weights


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
      label_moment: (C, C) S = E[y yᵀ]; of more than 512 classes a `ClassMoment`, which needs (C,).
      scale: (D,) the unit of each feature: x stands for (input - mean_x) / scale.
      centered: whether the means were removed.
      unweighted: with class weights, and centered, what tells chance; else None.
    """

    samples: Array
    weight: Array
    mean_x: Array
    mean_y: Array
    second_moment: Array
    cross_moment: Array
    label_moment: Array | ClassMoment
    scale: Array
    centered: bool = dataclasses.field(default=True, metadata={"static": True})
    unweighted: Unweighted | None = None

    @property
    def features(self) -> int:
        """Number of input features D."""
        return self.second_moment.shape[-1]

    @property
    def targets(self) -> int:
        """Number of targets C (classes, for one-hot labels)."""
        return self.label_moment.shape[-1]

    def __repr__(self) -> str:
        """In a line: the arrays are long."""
        return f"Moments({self.features} features, {self.targets} targets, {self.mean_x.dtype})"


def moments(
    x: ArrayLike,
    y: ArrayLike | None = None,
    *,
    num_classes: int | None = None,
    class_weight: str | ArrayLike | None = None,
    center: bool = True,
    dtype: DTypeLike | None = None,
    targets: str | None = None,
) -> Moments:
    """Moments of arrays that fit in memory.

    Warns (`ManyClassesWarning`) where y were taken for class numbers without `num_classes` or
    `targets`, and there are nearly as many classes as samples.

    Args:
      x: (N, D) vectors or (N, H, W, C) images, which are flattened. uint8 images are scaled from
        [0, 255] to [0, 1]; all other numbers are taken as they are.
      y: (N,) or (N, 1) class numbers, made one-hot, or (N,) or (N, C) real targets; which of the
        two is decided by `reconjax.data.targets`: integers and whole (N,) floats are class numbers.
        None for no labels at all (C = 0).
      num_classes: C for class numbers; their largest value plus one by default (it must be given
        under `jax.jit`).
      class_weight: None counts every sample once; "balanced" gives every class the same total
        weight; (C,) non-negative weights, one a class. Labels only.
      center: remove the means of x and y (the convention of every theorem here).
      dtype: floating dtype of the result; by default JAX's default float, which is float64 where
        x64 is enabled, also for float32 images: the bottom of a spectrum needs it.
      targets: "classes" or "real" says what y are; None: as above.

    Returns:
      `Moments`.

    Raises:
      ValueError: fewer than 2 samples, lengths that differ, labels that are negative, not whole or
        all of one class, constant targets, NaN or inf; `num_classes` or `targets` that do not suit
        the shape of y.

    Example:
      >>> x, y = np.random.default_rng(0).normal(size=(50, 6)), np.arange(50) % 2
      >>> moments = reconjax.moments(x, y)
      >>> moments.second_moment.shape, moments.targets
      ((6, 6), 2)
      >>> bool(np.allclose(moments.second_moment, np.cov(x.T, bias=True)))
      True
    """
    if y is None:
        if class_weight is not None:
            raise ValueError(f"class_weight: {class_weight!r}; it needs labels")
        from reconjax.summary.few_labels import without_labels

        alternating = np.arange(len(np.asarray(x))) % 2
        return without_labels(moments(x, alternating, num_classes=2, center=center, dtype=dtype))
    x, y = as_arrays(x, y, num_classes, targets)
    if y.ndim == 1:
        check_labels(y, num_classes)
        if num_classes is None:
            if targets is None:
                warn_of_many_classes(y)
            num_classes = int(np.max(np.asarray(y))) + 1
        y = y.astype(jnp.int32)
    if x.shape[0] < 2:
        raise ValueError(f"x: {x.shape[0]} samples; at least 2 are needed")
    floats = jnp.dtype(dtype or jnp.result_type(float))
    weights = sample_weights(y, num_classes, class_weight)
    if is_exact(x, y, class_weight):
        exact = ExactSums(math.prod(x.shape[1:]), int(num_classes or 0))
        for start in range(0, x.shape[0], LARGEST_BATCH):
            part = slice(start, start + LARGEST_BATCH)
            exact.add(x[part], y[part], weights[part])
        result = rounded(exact, floats)
    else:
        result = batch_moments(
            x,
            y,
            weights,
            dtype=floats,
            num_classes=num_classes,
            weighted=class_weight is not None,
        )
    return checked(result if center else uncentered(result))


def uncentered(moments: Moments) -> Moments:
    """The same moments about zero instead of about the means; `mean_x` and `mean_y` become 0.

    Example:
      >>> x, y = np.random.default_rng(0).normal(size=(50, 6)), np.arange(50) % 2
      >>> moments = reconjax.moments(x, y)
      >>> raw = reconjax.summary.uncentered(moments)
      >>> bool(np.allclose(raw.second_moment, x.T @ x / 50))
      True
    """
    mx, my = moments.mean_x / moments.scale, moments.mean_y
    return dataclasses.replace(
        moments,
        mean_x=jnp.zeros_like(moments.mean_x),
        mean_y=jnp.zeros_like(my),
        second_moment=moments.second_moment + jnp.outer(mx, mx),
        cross_moment=moments.cross_moment + jnp.outer(mx, my),
        label_moment=about_zero(moments.label_moment, my),
        centered=False,
        unweighted=None,
    )


def standardized(moments: Moments) -> Moments:
    """Moments of x with every feature scaled to unit second moment; constant features stay 0.

    Opt-in: it changes what reconstruction means (the loss weighs features equally). The scale is
    kept in `Moments.scale`, so that new data are treated alike.

    Example:
      >>> x, y = np.random.default_rng(0).normal(size=(50, 6)), np.arange(50) % 2
      >>> moments = reconjax.standardized(reconjax.moments(x, y))
      >>> bool(np.allclose(moments.scale, x.std(axis=0)))
      True
    """
    std = jnp.sqrt(jnp.diagonal(moments.second_moment))
    # A constant feature has a variance of 0 up to rounding of its mean.
    tiny = jnp.finfo(std.dtype).eps * (jnp.abs(moments.mean_x / moments.scale) + jnp.max(std))
    std = jnp.where(std > tiny, std, 1.0)
    plain = moments.unweighted
    if plain is not None:
        # Permuted, the samples are scaled by their deviation with the weights of others: in the
        # mean, without weights.
        own = jnp.sqrt(jnp.diagonal(plain.second_moment))
        own = jnp.where(own > tiny, own, 1.0)
        plain = dataclasses.replace(plain, second_moment=plain.second_moment / jnp.outer(own, own))
    return dataclasses.replace(
        moments,
        unweighted=plain,
        second_moment=moments.second_moment / jnp.outer(std, std),
        cross_moment=moments.cross_moment / std[:, None],
        scale=moments.scale * std,
    )


def balanced_class_weight(labels: ArrayLike, num_classes: int) -> np.ndarray:
    """(C,) weights N / (C' N_c) that give each of the C' classes present the same total weight.

    Args:
      labels: (N,) whole numbers in 0 .. C - 1.
      num_classes: C.

    Raises:
      ValueError: a label out of that range, or no labels.

    Example:
      >>> reconjax.summary.balanced_class_weight([0, 0, 0, 1], 2).round(2).tolist()
      [0.67, 2.0]
    """
    classes = np.asarray(labels)
    if classes.ndim != 1 or classes.size == 0:
        raise ValueError(f"labels: shape {classes.shape}; (N,) whole numbers are needed")
    outside = (classes < 0) | (classes >= num_classes) | (classes % 1 != 0)
    if np.any(outside):
        wrong = classes[np.argmax(outside)]
        raise ValueError(f"labels: {wrong}; whole numbers 0 .. {num_classes - 1} are allowed")
    counts = np.bincount(classes.astype(np.int64), minlength=num_classes)
    present = counts > 0
    return np.where(present, counts.sum() / (present.sum() * np.maximum(counts, 1)), 0.0)


@functools.partial(jax.jit, static_argnames=("dtype", "num_classes", "weighted"))
@highest
def batch_moments(
    x: Array,
    y: Array,
    weights: Array,
    *,
    dtype: DTypeLike,
    num_classes: int | None,
    weighted: bool = False,
) -> Moments:
    """Moments of one batch: x (n, ...), y (n,) int or (n, C), weights (n,); 0 leaves one out.

    With `weighted`, those of classes, also `Moments.unweighted`.
    """
    samples = jnp.sum(weights > 0, dtype=dtype)
    weights = weights.astype(dtype)
    weight = jnp.sum(weights)
    unit = jnp.where(weight > 0, weights / weight, 0.0)
    x = as_floats(x.reshape(x.shape[0], -1), dtype)
    plain = without_weights(x, y, weights, num_classes or 0) if weighted else None
    many = y.ndim == 1 and (num_classes or 0) > MANY
    if not many:
        y = jax.nn.one_hot(y, num_classes or 0, dtype=dtype) if y.ndim == 1 else y.astype(dtype)
    # The mean of a float32 batch is itself rounded: a second pass over the residuals mends it.
    mean_x = unit @ x
    mean_x = mean_x + unit @ (x - mean_x)
    mean_y = class_sums(unit, y, num_classes or 0) if many else unit @ y
    x = x - mean_x
    wx = x * unit[:, None]
    x, wx = jax.lax.optimization_barrier((x, wx))  # else made anew for each panel of the product
    label: Array | ClassMoment
    if many:
        cross = class_sums(wx, y, num_classes or 0).T - jnp.outer(jnp.sum(wx, axis=0), mean_y)
        label = ClassMoment(mean_y)
    else:
        y = y - mean_y
        cross, label = wx.T @ y, (y * unit[:, None]).T @ y
    return Moments(
        samples=samples,
        weight=weight,
        mean_x=mean_x,
        mean_y=mean_y,
        second_moment=symmetric_product(wx, x),
        cross_moment=cross,
        label_moment=label,
        scale=jnp.ones_like(mean_x),
        unweighted=plain,
    )


def rounded(exact: ExactSums, dtype: DTypeLike) -> Moments:
    """Moments of exact sums, in a dtype."""
    parts: dict[str, Any] = {
        name: jnp.asarray(part, dtype) for name, part in exact.moments().items()
    }
    if exact.num_classes > MANY:
        return Moments(**parts, label_moment=ClassMoment(parts["mean_y"]))
    return Moments(**parts)


def is_exact(x: Array, y: Array, class_weight: str | ArrayLike | None) -> bool:
    """Whether samples can be summed without rounding: 8-bit images with labels that weigh alike."""
    concrete = not isinstance(x, jax.core.Tracer) and not isinstance(y, jax.core.Tracer)
    return concrete and x.dtype == jnp.uint8 and y.ndim == 1 and class_weight is None


def as_arrays(
    x: Any, y: Any, num_classes: int | None = None, targets: str | None = None
) -> tuple[Array, Array]:
    """Samples as arrays, y as (n,) class numbers or (n, C) real targets; see `as_targets`.

    Raises:
      ValueError: shapes that do not fit.
    """
    x, y = (a if isinstance(a, jax.Array) else np.asarray(a) for a in (x, y))
    if x.ndim < 2:
        raise ValueError(f"x: shape {x.shape}; (N, D) or (N, H, W, C) is needed")
    y = as_targets(y, num_classes=num_classes, targets=targets)
    if x.shape[0] != y.shape[0]:
        raise ValueError(f"y: {y.shape[0]} labels for {x.shape[0]} samples of x")
    if isinstance(x, np.ndarray) and x.dtype in (np.int64, np.uint64):
        # On the host: where JAX has no 64-bit integers, it would cut them to 32 bits.
        x = x.astype(jnp.result_type(float))
    return x, y


def check_labels(y: Array, num_classes: int | None, one_class_allowed: bool = False) -> None:
    """Raises for labels that are not 0 .. C - 1, or all of one class."""
    if isinstance(y, jax.core.Tracer):
        if num_classes is None:
            raise ValueError("num_classes: None; it must be given under jax.jit")
        return
    labels = np.asarray(y)
    if labels.size == 0:
        return
    if not np.all(np.isfinite(labels)) or np.any(labels != np.floor(labels)):
        raise ValueError("y: labels that are not whole numbers; (N, 1) floats are real targets")
    if labels.min() < 0:
        raise ValueError(
            f"y: label {labels.min()}; labels are 0 .. C-1, and (N, 1) floats are real targets"
        )
    if num_classes is not None and labels.max() >= num_classes:
        raise ValueError(f"y: label {labels.max()}; num_classes={num_classes} allows 0 .. C-1")
    if not one_class_allowed and labels.min() == labels.max():
        raise ValueError(f"y: only class {int(labels.min())} occurs; at least 2 are needed")


def sample_weights(y: Array, num_classes: int | None, class_weight: str | ArrayLike | None) -> Any:
    """(n,) the weight of each sample, that of its class."""
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


@jax.jit
def _seen(second: Array, labels: Array | ClassMoment, mean_y: Array) -> tuple[Array, ...]:
    """What `checked` looks at, in one program: NaN or inf, all finite, two traces and ‖ȳ‖²."""
    finite = jnp.array([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(labels)])
    return (
        jnp.sum(~jnp.isfinite(jnp.diagonal(second))),
        jnp.all(finite),
        jnp.trace(second),
        labels.trace(),
        jnp.sum(mean_y**2),
    )


def checked(result: Moments) -> Moments:
    """Raises for moments that no theorem can use; does nothing while JAX traces."""
    if isinstance(result.second_moment, jax.core.Tracer):
        return result
    seen = _seen(result.second_moment, result.label_moment, result.mean_y)
    bad, finite, variance, spread, mean = (part.item() for part in seen)
    if bad:
        raise ValueError(f"x: NaN or inf in {bad} of {result.features} features")
    if not finite:
        raise ValueError("y: NaN or inf")
    if variance <= 0:
        raise ValueError("x: constant; the inputs do not vary")
    rounding = 100 * float(jnp.finfo(result.label_moment.dtype).eps)
    if result.targets and spread <= rounding**2 * (spread + mean):
        raise ValueError("y: constant (one class only); at least 2 classes are needed")
    return result
