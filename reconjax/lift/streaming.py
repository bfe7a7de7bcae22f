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
                about = _center(lift, noise, jax.random.key(seed), x)
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
        sizes = about.features.shape[0], about.x.shape[0], about.y.shape[0]
        nothing = [_nothing(*sizes, pairs=pairs) for _ in range(2)]
        placed: Any = features, noise, about, jax.random.key(seed), *nothing
        if device is not None:
            placed = jax.device_put(placed, device)
        self._features, self._noise, self._about, self._key, self._total, self._apart = placed
        self._device, self._pairs, self._draws = device, pairs, draws if noise is not None else 1
        self._pace = Pace()

    def add(self, index: int, images: Array, y: Array, weights: Array) -> None:
        """Adds a batch, and returns before the device is done."""
        self._pace.wait()
        if self._device is not None:
            images, y, weights = jax.device_put((images, y, weights), self._device)
        batch = _batch(images, y, weights, self._about)
        keys = jax.random.split(jax.random.fold_in(self._key, index), 2 * self._draws)
        own = self._sums(batch, images.shape, keys[: self._draws])
        self._total = _plus(self._total, own, jnp.asarray(1))
        if self._noise is not None and index % AGAIN == 0:
            other = self._sums(batch, images.shape, keys[self._draws :])
            # By as much as the first draws are more than the second; the examples count once.
            self._apart = _plus(_plus(self._apart, own, jnp.asarray(1)), other, jnp.asarray(-1))
            weight = self._apart.weight + own.weight.astype(self._apart.weight.dtype)
            self._apart = self._apart._replace(weight=weight)
        self._pace.started(own.weight)

    def sums(self) -> tuple[Sums, Sums]:
        """In all, and how much more the first draws are than the second ones."""
        return jax.tree.map(jnp.asarray, jax.device_get((self._total, self._apart)))

    def _sums(self, batch: "_Batch", shape: tuple[int, ...], keys: Array) -> Sums:
        """Those of one batch, by the mean over some draws; one at a time is in memory."""
        made = None
        for key in keys:
            noisy = _noisy(self._noise, key, batch.x, shape)
            drawn = _drawn(self._features, noisy, batch.root, self._about.features)
            made = drawn if made is None else jax.tree.map(jnp.add, made, drawn)
        assert made is not None
        draws = None if self._noise is None else jnp.asarray(self._draws)
        return _summed(*made, batch, draws, pairs=self._pairs)


class _Batch(NamedTuple):
    """Centered x (n, D) and y (n, C), and the square roots of the weights (n, 1)."""

    x: Array
    y: Array
    root: Array


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


@jax.jit
def _batch(images: Array, y: Array, weights: Array, about: Center) -> _Batch:
    dtype = about.x.dtype
    root = jnp.sqrt(weights.astype(dtype))[:, None]
    x = centered(images, about.x, about.scale, dtype)
    return _Batch(x, y.astype(dtype) - about.y, root)


def _noisy(noise: Noise | None, key: Array, x: Array, shape: tuple[int, ...]) -> Array:
    """x' (n, D) of centered x (n, D), which is given to the noise as images where it is some."""
    if noise is None:
        return x
    return _sampled(noise, key, x.reshape(shape)).reshape(x.shape)


# By itself: what follows is compiled once for all noises.
@jax.jit
def _sampled(noise: Noise, key: Array, x: Array) -> Array:
    return noise.sample(key, x)


@jax.jit
@highest
def _drawn(features: FeatureMap, noisy: Array, root: Array, amid: Array) -> tuple[Array, Array]:
    """Weighted features (n, m) about a point, and their Gram matrix."""
    made = root * (features.apply(noisy) - amid)
    return made, gram(made)


@functools.partial(jax.jit, static_argnames="pairs")
@highest
def _summed(made: Array, second: Array, batch: _Batch, draws: Array | None, *, pairs: bool) -> Sums:
    """The sums of a batch, given the sums over draws; None where these are all the same one."""
    between = second if pairs else None
    if draws is not None:
        count = draws.astype(made.dtype)
        if pairs:
            between = (gram(made) - second) / (count * (count - 1))
        made, second = made / count, second / count
    x, y, root = batch.root * batch.x, batch.root * batch.y, batch.root[:, 0]
    return Sums(
        weight=root @ root,
        features=root @ made,
        x=root @ x,
        y=root @ y,
        products=Covariances(second, made.T @ y, made.T @ x, between),
    )


@functools.partial(jax.jit, donate_argnames="total")
def _plus(total: Sums, part: Sums, sign: Array) -> Sums:
    """The sums and some more, in the dtype of the sums."""
    return jax.tree.map(
        lambda whole, more: whole + sign.astype(whole.dtype) * more.astype(whole.dtype), total, part
    )


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


def _center(lift: Lift, noise: Noise | None, key: Array, images: Array) -> Center:
    """Its point amid the features is the first batch's mean, the same on every process."""
    moments, dtype = lift.moments, lift.dtype
    mean, scale = (jnp.asarray(part, dtype) for part in (moments.mean_x, moments.scale))
    x = centered(images, mean, scale, dtype)
    amid = _mean(lift.features, _noisy(noise, key, x, images.shape))
    return Center(
        x=mean,
        scale=scale,
        y=jnp.asarray(moments.mean_y, dtype),
        features=hosts.summed(amid) / jax.process_count(),
    )


@jax.jit
def _mean(features: FeatureMap, noisy: Array) -> Array:
    return jnp.mean(features.apply(noisy), axis=0)


def _ready(
    lift: Lift, progress: Callable[[int], None] | None
) -> Iterator[tuple[Array, Array, Array]]:
    """Batches of one size: x as stored, y (n, C), weights (n,); what fills one up has weight 0."""
    assert lift.split is not None
    rows = min(batch_rows(lift.features, lift.moments.features), len(lift.split))
    for images, labels in lift.split.batches(rows):
        x: Any
        x, y = as_arrays(images, labels, lift.num_classes)
        weights = np.asarray(sample_weights(y, lift.num_classes, lift.class_weight), np.float64)
        missing = rows - len(weights)
        classes = np.eye(lift.moments.targets, dtype=np.float32)
        values: Any = classes[np.asarray(y)] if y.ndim == 1 else y
        if missing:
            x, values, weights = (_padded(np.asarray(p), missing) for p in (x, values, weights))
        yield jnp.asarray(x), jnp.asarray(values), jnp.asarray(weights)
        if progress is not None:
            progress(len(labels))


def _padded(array: np.ndarray, missing: int) -> np.ndarray:
    return np.pad(array, [(0, missing)] + [(0, 0)] * (array.ndim - 1))
