"""Moments of noisy features, summed up over batches, draws, devices and hosts."""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from reconjax.data.prefetch import Pace, prefetch
from reconjax.lift.features import FeatureMap
from reconjax.lift.moments import (
    Covariances,
    LiftedMoments,
    check_lift_memory,
    exact_moments,
    finite,
    lift_memory,
)
from reconjax.lift.seen import Lift, batch_rows, centered
from reconjax.linalg.precision import highest
from reconjax.linalg.products import gram
from reconjax.noise import Noise
from reconjax.summary import hosts
from reconjax.summary.moments import as_arrays, sample_weights
from reconjax.theory.checks import check_noise_size

# Of every so many batches one is drawn a second time, to see how far apart two draws are.
AGAIN = 4


class Sums(NamedTuple):
    """Weighted sums over examples, of features about a fixed point and of centered x and y.

    Attributes:
      weight: of the weights, ().
      features: (m,) of φ(x').
      x: (D,) of x.
      y: (C,) of y.
      products: of products.
    """

    weight: Array
    features: Array
    x: Array
    y: Array
    products: Covariances


class Center(NamedTuple):
    """What is taken off: mean (D,) and scale (D,) of x, mean (C,) of y, a point (m,) amid φ(x')."""

    x: Array
    scale: Array
    y: Array
    features: Array


def lifted_moments(
    lift: Lift,
    noise: Noise | None = None,
    *,
    draws: int = 1,
    seed: int = 0,
    pairs: bool = False,
    devices: Sequence[jax.Device] | None = None,
    memory: float | None = None,
    progress: Callable[[int], None] | None = None,
) -> LiftedMoments:
    """Moments of the noisy features of a data set, by Monte Carlo in one pass over the data.

    Of every fourth batch as many draws more are made, which do not count: by how much they differ
    from the others tells the Monte Carlo error.

    Args:
      lift: from `lift`.
      noise: any noise that can be sampled; None for clean inputs.
      draws: noisy copies of every example. Copy `r` of batch `i` has the key
        `split(fold_in(key(seed), i), 2 * draws)[r]`.
      seed: of the noise. The same for two noises makes their difference more certain.
      pairs: whether joint embedding is wanted, which needs 2 draws at least.
      devices: of this process, to which batches are dealt.
      memory: GiB; more features than fit are refused. No limit by default.
      progress: called with the size of every batch.

    Returns:
      `LiftedMoments`, the same for all processes, which must all call it.

    Raises:
      ValueError: a number of draws out of range, a noise for other inputs, features that are NaN
        or inf, or that need more than the memory given; moments without the data.

    Example:
      >>> data = reconjax.data.load("digits")
      >>> features = reconjax.lift.parse_features("relu:32", data.example_shape)
      >>> lift = reconjax.lift.lift(data, features)
      >>> mask = reconjax.noise.parse_noise("mask:0.5:2x2", data.example_shape)
      >>> lifted = reconjax.lift.lifted_moments(lift, mask, draws=2)
      >>> lifted.covariances.inputs.shape
      (32, 64)
    """
    least = 2 if pairs and noise is not None else 1
    if isinstance(draws, bool) or not isinstance(draws, int | np.integer) or draws < least:
        raise ValueError(f"draws: {draws}; a whole number, at least {least}, is needed")
    if lift.split is None:
        if noise is None or hasattr(noise, "second_moment"):
            return exact_moments(lift.moments, noise)
        raise ValueError("lift: of moments alone; `reconjax.lift.lift` keeps the data")
    if noise is not None:
        check_noise_size(noise, lift.moments.features)
    inputs, targets = lift.moments.features, lift.moments.targets
    needed = lift_memory(lift.size, inputs, targets, pairs=pairs)
    check_lift_memory(needed, memory, f"{lift.features.text} with noise")
    places: Sequence[Any] = [None] if devices is None else list(devices)
    if not places:
        raise ValueError("devices: none; at least 1 is needed, or None for JAX's choice")
    about: Center | None = None
    parts: list[_Part] = []
    with prefetch(_ready(lift, progress)) as ahead:
        for index, (x, y, weights) in enumerate(ahead):
            if about is None:
                about = _center(lift, noise, jax.random.key(seed), x, y.shape[1])
            if len(parts) < len(places):
                place = places[len(parts)]
                parts.append(_Part(lift.features, noise, about, int(draws), pairs, seed, place))
            parts[index % len(places)].add(index, x, y, weights)
    each = [part.sums() for part in parts]
    whole = functools.reduce(lambda a, b: jax.tree.map(jnp.add, a, b), each)
    assert about is not None
    covariances, mean, apart = _finished(*hosts.summed(whole), about)
    moments = LiftedMoments(
        covariances=covariances,
        mean=mean,
        draws=int(draws),
        apart=None if noise is None else apart,
        rounding=float(jnp.finfo(about.x.dtype).eps),
    )
    return finite(moments, lift.features.text)


class _Part:
    """Running sums of the batches that one device is given."""

    def __init__(
        self,
        features: FeatureMap,
        noise: Noise | None,
        about: Center,
        draws: int,
        pairs: bool,
        seed: int,
        device: jax.Device | None,
    ) -> None:
        given = features, noise, about, jax.random.key(seed)
        self._fixed = given if device is None else jax.device_put(given, device)
        self._device, self._options = device, {"draws": draws, "pairs": pairs}
        sizes = about.features.shape[0], about.x.shape[0], about.y.shape[0]
        nothing = [_nothing(*sizes, pairs=pairs) for _ in range(2)]
        self._total, self._apart = nothing if device is None else jax.device_put(nothing, device)
        self._pace = Pace()

    def add(self, index: int, x: Array, y: Array, weights: Array) -> None:
        """Adds a batch, and returns before the device is done."""
        self._pace.wait()
        if self._device is not None:
            x, y, weights = jax.device_put((x, y, weights), self._device)
        again = self._fixed[1] is not None and index % AGAIN == 0
        self._total, self._apart, token = _add(
            self._total,
            self._apart,
            *self._fixed,
            index,
            x,
            y,
            weights,
            again=again,
            **self._options,
        )
        self._pace.started(token)

    def sums(self) -> tuple[Sums, Sums]:
        """In all, and how much more the first draws are than the second ones."""
        return jax.tree.map(jnp.asarray, jax.device_get((self._total, self._apart)))


def _nothing(size: int, features: int, targets: int, *, pairs: bool) -> Sums:
    floats = jnp.result_type(float)
    square = jnp.zeros((size, size), floats)
    return Sums(
        weight=jnp.zeros((), floats),
        features=jnp.zeros(size, floats),
        x=jnp.zeros(features, floats),
        y=jnp.zeros(targets, floats),
        products=Covariances(
            second=square,
            labels=jnp.zeros((size, targets), floats),
            inputs=jnp.zeros((size, features), floats),
            pairs=jnp.zeros_like(square) if pairs else None,
        ),
    )


@functools.partial(
    jax.jit, static_argnames=("draws", "pairs", "again"), donate_argnames=("total", "apart")
)
@highest
def _add(
    total: Sums,
    apart: Sums,
    features: FeatureMap,
    noise: Noise | None,
    about: Center,
    key: Array,
    index: Array,
    images: Array,
    y: Array,
    weights: Array,
    *,
    draws: int,
    pairs: bool,
    again: bool,
) -> tuple[Sums, Sums, Array]:
    """The sums with a batch more; both sides of a second draw share everything but the noise."""
    dtype = about.x.dtype
    x = centered(images, about.x, about.scale, dtype)
    y = y.astype(dtype) - about.y
    root = jnp.sqrt(weights.astype(dtype))[:, None]
    keys = jax.random.split(jax.random.fold_in(key, index), 2 * draws)

    def drawn(key: Array) -> Array:
        return root * (_noisy(features, noise, key, x, images.shape) - about.features)

    def summed(keys: Array) -> Sums:
        if noise is None:
            made = drawn(keys[0])
            second = gram(made)
            return _sums(made, second, second if pairs else None)
        # One draw at a time is in memory.
        one = drawn(keys[0])
        made, second = jax.lax.fori_loop(
            1,
            draws,
            lambda r, sums: jax.tree.map(
                jnp.add, sums, (lambda more: (more, gram(more)))(drawn(keys[r]))
            ),
            (one, gram(one)),
        )
        between = None
        if pairs:
            between = (gram(made) - second) / (draws * (draws - 1))
        return _sums(made / draws, second / draws, between)

    def _sums(made: Array, second: Array, between: Array | None) -> Sums:
        return Sums(
            weight=jnp.sum(weights.astype(dtype)),
            features=root[:, 0] @ made,
            x=root[:, 0] @ (root * x),
            y=root[:, 0] @ (root * y),
            products=Covariances(second, made.T @ (root * y), made.T @ (root * x), between),
        )

    own = summed(keys[:draws])
    total = jax.tree.map(lambda whole, part: whole + part.astype(whole.dtype), total, own)
    if again:
        other = summed(keys[draws:])
        change = jax.tree.map(jnp.subtract, own, other)._replace(weight=own.weight)
        apart = jax.tree.map(lambda whole, part: whole + part.astype(whole.dtype), apart, change)
    return total, apart, own.weight


def _noisy(
    features: FeatureMap, noise: Noise | None, key: Array, x: Array, shape: tuple[int, ...]
) -> Array:
    """φ(x') (n, m) of centered x (n, D), which is given to the noise as images where it is some."""
    if noise is not None:
        x = noise.sample(key, x.reshape(shape)).reshape(x.shape)
    return features.apply(x)


@jax.jit
@highest
def _finished(total: Sums, apart: Sums, about: Center) -> tuple[Covariances, Array, Covariances]:
    """The covariances about the means, and a change of them as large as their error.

    With σ² the variance of one example's draw, the sums differ by 2 σ² for every example that was
    drawn again: times (n / 2)^½ / N they vary as the mean over all N does.
    """
    weight = total.weight
    features, x, y = total.features / weight, total.x / weight, total.y / weight
    products = jax.tree.map(lambda part: part / weight, total.products)
    covariances = _about(products, features, features, x, y)
    scale = 1 / jnp.sqrt(2 * jnp.where(apart.weight > 0, apart.weight, 1.0) * weight)
    moved = apart.features * scale
    change = jax.tree.map(lambda part: part * scale, apart.products)
    # To first order: d(f fᵀ) = df fᵀ + f dfᵀ.
    change = change._replace(
        second=change.second - jnp.outer(moved, features) - jnp.outer(features, moved),
        labels=change.labels - jnp.outer(moved, y),
        inputs=change.inputs - jnp.outer(moved, x),
    )
    if change.pairs is not None:
        crossed = jnp.outer(moved, features) + jnp.outer(features, moved)
        change = change._replace(pairs=change.pairs - crossed)
    return covariances, features + about.features.astype(features.dtype), change


def _about(products: Covariances, left: Array, right: Array, x: Array, y: Array) -> Covariances:
    return Covariances(
        second=products.second - jnp.outer(left, right),
        labels=products.labels - jnp.outer(left, y),
        inputs=products.inputs - jnp.outer(left, x),
        pairs=None if products.pairs is None else products.pairs - jnp.outer(left, right),
    )


def _center(lift: Lift, noise: Noise | None, key: Array, images: Array, targets: int) -> Center:
    """Its point amid the features is the first batch's mean, the same on every process."""
    moments, dtype = lift.moments, lift.dtype
    mean, scale = (jnp.asarray(part, dtype) for part in (moments.mean_x, moments.scale))
    amid = _mean_features(lift.features, noise, key, images, mean, scale)
    return Center(
        x=mean,
        scale=scale,
        y=jnp.asarray(moments.mean_y, dtype),
        features=hosts.summed(amid) / jax.process_count(),
    )


@jax.jit
def _mean_features(
    features: FeatureMap, noise: Noise | None, key: Array, images: Array, mean: Array, scale: Array
) -> Array:
    x = centered(images, mean, scale, mean.dtype)
    return jnp.mean(_noisy(features, noise, key, x, images.shape), axis=0)


def _ready(
    lift: Lift, progress: Callable[[int], None] | None
) -> Iterator[tuple[Array, Array, Array]]:
    """Batches of one size: x as stored, y (n, C), weights (n,); what fills one up has weight 0."""
    assert lift.split is not None
    rows = min(batch_rows(lift.features, lift.moments.features), len(lift.split))
    for images, labels in lift.split.batches(rows):
        x, y = as_arrays(images, labels, lift.num_classes)
        weights = np.asarray(sample_weights(y, lift.num_classes, lift.class_weight), np.float64)
        missing = rows - len(weights)
        values = np.eye(lift.moments.targets, dtype=np.float32)[y] if y.ndim == 1 else y
        if missing:
            x, values = (_padded(np.asarray(part), missing) for part in (x, values))
            weights = _padded(weights, missing)
        yield jnp.asarray(x), jnp.asarray(values), jnp.asarray(weights)
        if progress is not None:
            progress(len(labels))


def _padded(array: np.ndarray, missing: int) -> np.ndarray:
    return np.pad(array, [(0, missing)] + [(0, 0)] * (array.ndim - 1))
