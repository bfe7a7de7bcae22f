"""Masks of an exact number of groups, as in MAE, and masks whose ratio is random."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike, DTypeLike

from reconjax.noise.base import Shape, Window, check, check_ratio, pytree, static
from reconjax.noise.groups import group_fields, patch_groups
from reconjax.noise.masks import GroupMask
from reconjax.noise.rays import RayPoint, SameGroup, point

# (1 - p) n this far below a whole number counts as that number.
_ROUNDING = 1e-5


class Uniform(NamedTuple):
    """P is uniform on [low, high] within [0, 1); make it with `Uniform.of`, which checks."""

    low: Array
    high: Array

    @classmethod
    def of(cls, low: ArrayLike, high: ArrayLike) -> "Uniform":
        """The distribution.

        Raises:
          ValueError: a bound outside [0, 1), or high < low.
        """
        check_ratio(low)
        check_ratio(high)
        if not isinstance(low, jax.core.Tracer):
            check("high", high, lambda h: h >= np.asarray(low), f"at least low = {low}")
        return cls(jnp.asarray(low, float), jnp.asarray(high, float))

    def sample(self, key: Array, shape: tuple[int, ...]) -> Array:
        """float32 ratios of this shape."""
        low, high = (bound.astype(jnp.float32) for bound in (self.low, self.high))
        return low + (high - low) * jax.random.uniform(key, shape, jnp.float32)

    def keep_moments(self, dtype: DTypeLike) -> tuple[Array, Array]:
        """E[1 - p] and E[(1 - p)²]."""
        a, b = 1 - jnp.asarray(self.low, dtype), 1 - jnp.asarray(self.high, dtype)
        return (a + b) / 2, (a * a + a * b + b * b) / 3

    def cumulative(self, ratio: Array) -> Array:
        """P(p <= ratio)."""
        low, high = jnp.asarray(self.low, ratio.dtype), jnp.asarray(self.high, ratio.dtype)
        wide = high > low
        inside = (ratio - low) / jnp.where(wide, high - low, 1.0)
        return jnp.where(wide, jnp.clip(inside, 0.0, 1.0), jnp.where(ratio >= low, 1.0, 0.0))


class Beta(NamedTuple):
    """P has the density of Beta(a, b), of mean a / (a + b); make it with `Beta.of`."""

    a: Array
    b: Array

    @classmethod
    def of(cls, a: ArrayLike, b: ArrayLike) -> "Beta":
        """The distribution.

        Raises:
          ValueError: a or b not positive.
        """
        for name, value in (("a", a), ("b", b)):
            check(name, value, lambda v: np.isfinite(v) & (v > 0), "finite and > 0")
        return cls(jnp.asarray(a, float), jnp.asarray(b, float))

    def sample(self, key: Array, shape: tuple[int, ...]) -> Array:
        """float32 ratios of this shape."""
        a, b = self.a.astype(jnp.float32), self.b.astype(jnp.float32)
        return jax.random.beta(key, a, b, shape, jnp.float32)

    def keep_moments(self, dtype: DTypeLike) -> tuple[Array, Array]:
        """E[1 - p] and E[(1 - p)²]."""
        a, b = jnp.asarray(self.a, dtype), jnp.asarray(self.b, dtype)
        first = b / (a + b)
        return first, first * (b + 1) / (a + b + 1)

    def cumulative(self, ratio: Array) -> Array:
        """P(p <= ratio)."""
        a, b = jnp.asarray(self.a, ratio.dtype), jnp.asarray(self.b, ratio.dtype)
        return jax.scipy.special.betainc(a, b, jnp.clip(ratio, 0.0, 1.0))


class _ExchangeableMask(GroupMask):
    """A mask that treats all groups alike: two probabilities say all of it."""

    def visibility(self, dtype: DTypeLike) -> tuple[Array, Array]:
        """Q and V: that one group stays, and that two different ones both stay."""
        within, between = self._probabilities(dtype)
        return self.grouped(within, within, between)

    def ray(self) -> RayPoint | None:
        """The Bernoulli mask's ray at ρ = 1 - V between / V within; None where it fills."""
        if self.fill is not None:
            return None
        within, between = self._probabilities(jnp.result_type(float))
        return point(SameGroup(self.groups), 1 - between / within, within, within)

    def _probabilities(self, dtype: DTypeLike) -> tuple[Array, Array]:
        """That one group stays, and that two different ones both stay."""
        raise NotImplementedError


@pytree
class ExactMask(_ExchangeableMask):
    """Exactly m of the n groups stay, the others are dropped (as in MAE).

    Attributes:
      kept: int32 m.
    """

    kept: Array

    @property
    def total(self) -> int:
        """The number of groups n."""
        return self.count

    def draw(self, key: Array, shape: tuple[int, ...]) -> Array:
        """The m groups of lowest score."""
        return ranks(key, (*shape, self.count)) < self.kept

    def _probabilities(self, dtype: DTypeLike) -> tuple[Array, Array]:
        """That one group stays, and that two different ones both stay."""
        m, n = jnp.asarray(self.kept, dtype), self.count
        # With a single group there is no pair; it is always kept, and both are 1.
        pair = m * (m - 1) / (n * (n - 1)) if n > 1 else jnp.ones_like(m)
        return m / n, pair


@pytree
class RandomMask(_ExchangeableMask):
    """A mask whose ratio is drawn anew for every example.

    Attributes:
      ratio: the distribution of p, a `Uniform` or `Beta`.
      exact: drop an exact number of groups, floor((1 - p) n) stay, instead of each by itself.
    """

    ratio: Uniform | Beta
    exact: bool = static()

    def draw(self, key: Array, shape: tuple[int, ...]) -> Array:
        """A ratio for each example, then its mask."""
        first, second = jax.random.split(key)
        keep = 1 - self.ratio.sample(first, (*shape, 1))
        if self.exact:
            stay = jnp.floor(keep * self.count + _ROUNDING)
            return ranks(second, (*shape, self.count)).astype(stay.dtype) < stay
        return jax.random.uniform(second, (*shape, self.count), jnp.float32) < keep

    def _probabilities(self, dtype: DTypeLike) -> tuple[Array, Array]:
        if not self.exact:
            return self.ratio.keep_moments(dtype)
        # E[m] and E[m (m - 1)] as sums over j of P(m >= j) and 2 (j - 1) P(m >= j).
        n = self.count
        j = jnp.arange(1, n + 1, dtype=dtype)
        reached = self.ratio.cumulative(1 - (j - _ROUNDING) / n)
        within = jnp.sum(reached) / n
        pair = jnp.sum(2 * (j - 1) * reached) / (n * (n - 1)) if n > 1 else within
        return within, pair


def ranks(key: Array, shape: tuple[int, ...]) -> Array:
    """(..., n) int32: a random permutation of 0 .. n - 1 for each example."""
    score = jax.random.uniform(key, shape, jnp.float32)
    return jnp.argsort(jnp.argsort(score, axis=-1), axis=-1).astype(jnp.int32)


def exact_patch_mask(
    mask_ratio: float,
    patch_shape: Window,
    image_shape: Shape,
    *,
    share_channels: bool = True,
    partial: bool = False,
    fill: ArrayLike | None = None,
) -> ExactMask:
    """Keeps exactly m = floor((1 - p) n) of the n patches, as masked autoencoders (MAE) do.

    Its closed form is that of `patch_mask` at (n - m) / (n - 1) instead of p.

    Args:
      mask_ratio: p in [0, 1).
      patch_shape: (height, width), or one int for square patches.
      image_shape: (H, W, C) or (H, W).
      share_channels: the channels of a pixel are dropped together.
      partial: allow smaller patches at the lower and right edges.
      fill: as in `patch_mask`.

    Raises:
      ValueError: as `patch_mask`, or no patch would be kept.

    Example:
      >>> noise = reconjax.noise.exact_patch_mask(0.5, 1, (1, 4))  # two of four
      >>> covariance = noise.second_moment(np.ones((4, 4)))
      >>> round(float(covariance[0, 0]), 4), round(float(covariance[0, 1]), 4)
      (0.5, 0.1667)
    """
    check_ratio(mask_ratio)
    groups = patch_groups(patch_shape, image_shape, share_channels=share_channels, partial=partial)
    count = int(groups.max()) + 1
    kept = int(np.floor((1 - float(mask_ratio)) * count + 1e-9))
    if kept < 1:
        raise ValueError(
            f"mask_ratio: {mask_ratio} keeps none of the {count} patches;"
            f" at most {1 - 1 / count:.6g} is allowed for them"
        )
    return ExactMask(kept=jnp.int32(kept), **group_fields(groups, fill))


def random_patch_mask(
    mask_ratio: Uniform | Beta | Sequence[float],
    patch_shape: Window,
    image_shape: Shape,
    *,
    exact: bool = False,
    share_channels: bool = True,
    partial: bool = False,
    fill: ArrayLike | None = None,
) -> RandomMask:
    """A patch mask whose ratio is drawn for every example.

    Its closed form is that of `patch_mask` at one effective ratio, by exact integration.

    Args:
      mask_ratio: a `Uniform` or `Beta` distribution, or (low, high) of a uniform one.
      patch_shape: (height, width), or one int for square patches.
      image_shape: (H, W, C) or (H, W).
      exact: keep exactly floor((1 - p) n) of the n patches (which may be none) as MAE does.
      share_channels: the channels of a pixel are dropped together.
      partial: allow smaller patches at the lower and right edges.
      fill: as in `patch_mask`.

    Raises:
      ValueError: as `patch_mask`.

    Example:
      >>> noise = reconjax.noise.random_patch_mask((0.0, 0.5), 1, (1, 2))
      >>> covariance = noise.second_moment(np.ones((2, 2)))  # E q and E q², q in [1/2, 1]
      >>> round(float(covariance[0, 0]), 4), round(float(covariance[0, 1]), 4)
      (0.75, 0.5833)
    """
    if not isinstance(mask_ratio, Uniform | Beta):
        if len(mask_ratio) != 2:
            raise ValueError(f"mask_ratio: {mask_ratio}; (low, high) is needed")
        mask_ratio = Uniform.of(*mask_ratio)
    groups = patch_groups(patch_shape, image_shape, share_channels=share_channels, partial=partial)
    return RandomMask(ratio=mask_ratio, exact=exact, **group_fields(groups, fill))
