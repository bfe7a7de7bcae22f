"""No noise, noises one after the other, and one of several noises."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from reconjax.noise.additive import Thinning
from reconjax.noise.base import (
    Noise,
    check_probabilities,
    examples,
    mean_after,
    per_example,
    pytree,
    random_index,
)
from reconjax.noise.rays import Direction, Isotropic, RayPoint, point


@pytree
class Identity(Noise):
    """No noise: x' = x."""

    def sample(self, key: Array, x: Array) -> Array:
        """X itself."""
        return x

    def mean(self, moment: Array) -> Array:
        """Unchanged."""
        return moment

    def second_moment(self, moment: Array, mean: Array | None = None) -> Array:
        """Unchanged."""
        return moment

    def ray(self) -> RayPoint:
        """The start of any ray; here of the isotropic one."""
        return point(Isotropic(), 0.0, 1.0, 1.0)


@pytree
class Chain(Noise):
    """Several noises, one after the other, each with its own randomness."""

    noises: tuple[Noise, ...]

    @property
    def features(self) -> int | None:
        """D of the first noise that has one."""
        return _features(self.noises)

    def sample(self, key: Array, x: Array) -> Array:
        """The last noise of ... of the first of x."""
        for noise, subkey in zip(self.noises, jax.random.split(key, len(self.noises)), strict=True):
            x = noise.sample(subkey, x)
        return x

    def mean(self, moment: Array) -> Array:
        """The composition of the means."""
        for noise in self.noises:
            moment = noise.mean(moment)
        return moment

    def second_moment(self, moment: Array, mean: Array | None = None) -> Array:
        """The composition of the second moments, each given the E x after those before it."""
        for noise in self.noises:
            moment = noise.second_moment(moment, mean)
            mean = mean_after(noise, mean)
            mean = None if mean is None else mean.astype(moment.dtype)
        return moment

    def offset(self) -> Array | None:
        """The composition of the conditional means, at x = 0."""
        mean = None
        for noise in self.noises:
            mean = mean_after(noise, mean)
        return mean

    def ray(self) -> RayPoint | None:
        """The ray of the only noise that does something; None where there are several."""
        acting = [noise for noise in self.noises if not isinstance(noise, Identity)]
        if not acting:
            return Identity().ray()
        return acting[0].ray() if len(acting) == 1 else None


@pytree
class Mixture(Noise):
    """One of several noises for each example.

    Attributes:
      noises: n noises.
      probabilities: (n,) of each.
    """

    noises: tuple[Noise, ...]
    probabilities: Array

    @property
    def features(self) -> int | None:
        """D of the first noise that has one."""
        return _features(self.noises)

    def sample(self, key: Array, x: Array) -> Array:
        """Every noise is drawn, and one is taken for each example."""
        first, *keys = jax.random.split(key, len(self.noises) + 1)
        shape = examples(x)
        if x.ndim < 4 and self.features not in (None, x.shape[-1]):
            shape = x.shape[:1]
        which = per_example(random_index(first, self.probabilities, shape), x)
        drawn = x
        for index, (noise, subkey) in enumerate(zip(self.noises, keys, strict=True)):
            drawn = jnp.where(which == index, noise.sample(subkey, x), drawn)
        return drawn

    @jax.jit
    def mean(self, moment: Array) -> Array:
        """The average of the means."""
        return self._average([noise.mean(moment) for noise in self.noises])

    @jax.jit
    def second_moment(self, moment: Array, mean: Array | None = None) -> Array:
        """The average of the covariances, and the covariance of the means E[x'] where not 0."""
        within = self._average([noise.second_moment(moment, mean) for noise in self.noises])
        centers = [mean_after(noise, mean) for noise in self.noises]
        if all(center is None for center in centers):
            return within
        zero = jnp.zeros_like(moment[0])
        each = jnp.stack([zero if c is None else c.astype(zero.dtype) for c in centers])
        weights = self.probabilities.astype(moment.dtype)
        apart = each - jnp.sum(weights[:, None] * each, axis=0)
        highest = jax.lax.Precision.HIGHEST
        return within + jnp.matmul((weights[:, None] * apart).T, apart, precision=highest)

    @jax.jit
    def offset(self) -> Array | None:
        """The average of the offsets."""
        offsets = [noise.offset() for noise in self.noises]
        given = [offset for offset in offsets if offset is not None]
        if not given:
            return None
        zero = jnp.zeros_like(given[0])
        return self._average([zero if offset is None else offset for offset in offsets])

    def ray(self) -> RayPoint | None:
        """A point between those of the noises, where all lie on one ray and none has an offset."""
        rays = [(noise.ray(), _idle(noise)) for noise in self.noises]
        points = [at for at, _ in rays if at is not None]
        if len(points) < len(rays) or self.offset() is not None:
            return None
        directions = [at.direction for at, idle in rays if at is not None and not idle]
        if not directions:
            return Identity().ray()
        direction = directions[0]
        if not all(_same(other, direction) for other in directions):
            return None
        scale = self._average([at.scale for at in points])
        noisy = self._average([at.scale * at.share for at in points])
        keep = self._average([at.keep for at in points])
        return point(direction, noisy / scale, scale, keep)

    def _average(self, values: list[Array]) -> Array:
        weights = self.probabilities
        return sum(
            (weights[i].astype(value.dtype) * value for i, value in enumerate(values)),
            start=jnp.zeros_like(values[0]),
        )


def identity() -> Identity:
    """No noise.

    Returns:
      The noise x' = x.

    Example:
      >>> reconjax.noise.identity().second_moment(np.eye(2)).tolist()
      [[1.0, 0.0], [0.0, 1.0]]
    """
    return Identity()


def chain(*noises: Noise) -> Noise:
    """The noises one after the other; the first is applied to the clean input.

    Args:
      *noises: the first is applied first.

    Returns:
      The noise; of one noise, that one itself.

    Raises:
      ValueError: no noise; noises for different numbers of features; thinning anywhere but first:
        it counts the photons of clean images.

    Example:
      >>> mask = reconjax.noise.patch_mask(0.5, 1, (1, 2))
      >>> noise = reconjax.noise.chain(mask, reconjax.noise.gaussian(1.0))
      >>> noise.second_moment(np.ones((2, 2))).tolist()
      [[1.5, 0.25], [0.25, 1.5]]
    """
    if not noises:
        raise ValueError("noises: none; a chain needs at least one")
    _check_sizes(noises)
    if any(_thins(noise) for noise in noises[1:]):
        raise ValueError("noises: thinning acts on the clean intensities; it must come first")
    return noises[0] if len(noises) == 1 else Chain(noises=tuple(noises))


def mixture(*noises: Noise, probabilities: ArrayLike | None = None) -> Noise:
    """One of the noises for each example, drawn with `probabilities` (equal by default).

    Args:
      *noises: n noises.
      probabilities: (n,), adding up to 1.

    Returns:
      The noise; of one noise, that one itself.

    Raises:
      ValueError: no noise; noises for different numbers of features; probabilities that are
        negative, too few, or do not add up to 1.

    Example:
      >>> noise = reconjax.noise.mixture(reconjax.noise.identity(), reconjax.noise.gaussian(1.0))
      >>> noise.second_moment(np.eye(2)).tolist()
      [[1.5, 0.0], [0.0, 1.5]]
    """
    if not noises:
        raise ValueError("noises: none; a mixture needs at least one")
    _check_sizes(noises)
    count = len(noises)
    probabilities = np.full(count, 1 / count) if probabilities is None else probabilities
    checked = check_probabilities(probabilities, count)
    return noises[0] if count == 1 else Mixture(noises=tuple(noises), probabilities=checked)


def _features(noises: tuple[Noise, ...]) -> int | None:
    sizes = (getattr(noise, "features", None) for noise in noises)
    return next((size for size in sizes if size is not None), None)


def _check_sizes(noises: tuple[Noise, ...]) -> None:
    """Raises ValueError for noises that were made for different numbers of features."""
    sizes = [getattr(noise, "features", None) for noise in noises]
    given = list(dict.fromkeys(size for size in sizes if size is not None))
    if len(given) > 1:
        raise ValueError(
            f"noises: made for {' and '.join(map(str, given))} features; one number is needed"
        )


def _thins(noise: Noise) -> bool:
    return isinstance(noise, Thinning) or any(map(_thins, getattr(noise, "noises", ())))


def _idle(noise: Noise) -> bool:
    """Whether a noise does nothing, whatever its parameters."""
    parts = getattr(noise, "noises", ())
    return isinstance(noise, Identity) or (bool(parts) and all(map(_idle, parts)))


def _same(first: Direction, second: Direction) -> bool:
    """Whether two directions are equal; traced ones, only if they are one and the same."""
    structures = [jax.tree.structure(direction) for direction in (first, second)]
    if structures.count(structures[0]) < 2:
        return False
    return all(
        a is b
        or (
            not isinstance(a, jax.core.Tracer)
            and not isinstance(b, jax.core.Tracer)
            and bool(jnp.array_equal(a, b))
        )
        for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True)
    )
