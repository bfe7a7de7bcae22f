"""Noise: what happens to the input that the encoder sees.

A noise is a small pytree whose parameters are its leaves. Each one knows

- how to draw x' given the centered x: `sample(key, x)`;
- its two moments given those of x: `mean(F)`, which maps E[x fᵀ] to E[x' fᵀ], and
  `second_moment(G)`, which maps E[x xᵀ] to E[x' x'ᵀ];
- its ray, if it has one. Every noise with E[x'|x] = q x is additive coloured noise: for a family
  of strengths, E[x' x'ᵀ] = g ((1 - ρ) M + ρ B) with one direction B and a share ρ in [0, 1] that
  grows with the strength. One factorisation of (M, B) then serves the whole family.

In all of them x is centered: a masked value becomes 0, which is the mean image's value.
Noises compose: `chain(a, b)` applies a, then b.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

Shape = Sequence[int]


class Direction(Protocol):
    """The direction B of a ray, which may depend on M."""

    def covariance(self, second_moment: Array) -> Array:
        """B (D, D), given M (D, D)."""
        ...


class SameGroup(NamedTuple):
    """B = M where two features share a group and 0 elsewhere: the direction of every mask.

    Attributes:
      groups: (D,) int32, the group of each feature, 0 .. n - 1.
    """

    groups: Array

    def covariance(self, second_moment: Array) -> Array:
        """M restricted to pairs of features of one group."""
        same = self.groups[:, None] == self.groups[None, :]
        return jnp.where(same, second_moment, 0.0)


class Isotropic(NamedTuple):
    """B = I."""

    def covariance(self, second_moment: Array) -> Array:
        """The identity."""
        return jnp.eye(second_moment.shape[0], dtype=second_moment.dtype)


class RayPoint(NamedTuple):
    """A noise as a point on a ray: E[x'|x] = q x, E[x' x'ᵀ] = g ((1 - ρ) M + ρ B).

    Attributes:
      direction: what gives B.
      share: ρ in [0, 1].
      scale: g > 0.
      keep: q > 0.
    """

    direction: Any
    share: Array
    scale: Array
    keep: Array


class Noise(Protocol):
    """What every noise offers; see the module's text."""

    def sample(self, key: Array, x: Array) -> Array:
        """Draws x' of the shape of the centered x (..., D), or (N, H, W, C) images."""
        ...

    def mean(self, moment: Array) -> Array:
        """E[x' fᵀ] (D, m) from E[x fᵀ] (D, m), for any f that depends on the clean sample."""
        ...

    def second_moment(self, moment: Array) -> Array:
        """E[x' x'ᵀ] (D, D) from E[x xᵀ] (D, D)."""
        ...

    def ray(self) -> RayPoint | None:
        """The ray on which this noise lies, or None."""
        ...


class Identity(NamedTuple):
    """No noise: x' = x."""

    def sample(self, key: Array, x: Array) -> Array:
        """X itself."""
        return x

    def mean(self, moment: Array) -> Array:
        """Unchanged."""
        return moment

    def second_moment(self, moment: Array) -> Array:
        """Unchanged."""
        return moment

    def ray(self) -> RayPoint:
        """The start of any ray; here of the isotropic one."""
        return _point(Isotropic(), 0.0, 1.0, 1.0)


class Gaussian(NamedTuple):
    """x' = x + std ε with ε ~ N(0, I); std in units of x."""

    std: Array

    def sample(self, key: Array, x: Array) -> Array:
        """X plus white noise."""
        return x + jnp.asarray(self.std, x.dtype) * jax.random.normal(key, x.shape, x.dtype)

    def mean(self, moment: Array) -> Array:
        """Unchanged: the noise has mean 0."""
        return moment

    def second_moment(self, moment: Array) -> Array:
        """G + std² I."""
        size = moment.shape[0]
        return moment + jnp.asarray(self.std, moment.dtype) ** 2 * jnp.eye(size, dtype=moment.dtype)

    def ray(self) -> RayPoint:
        """τ = std², B = I."""
        variance = jnp.asarray(self.std) ** 2
        return _point(Isotropic(), variance / (1 + variance), 1 + variance, 1.0)


class Mask(NamedTuple):
    """Each group of features is set to 0 with probability `ratio`, independently (Bernoulli)."""

    ratio: Array
    groups: Array

    def sample(self, key: Array, x: Array) -> Array:
        """X with the dropped groups at 0."""
        size = self.groups.shape[0]
        flat = _flat(x, size)
        # One draw a group; there are at most D groups.
        kept = jax.random.uniform(key, flat.shape) >= self.ratio
        return jnp.where(kept[..., self.groups], flat, 0.0).reshape(x.shape)

    def mean(self, moment: Array) -> Array:
        """(1 - p) E[x fᵀ]."""
        return (1 - jnp.asarray(self.ratio, moment.dtype)) * moment

    def second_moment(self, moment: Array) -> Array:
        """(1 - p) G within a group, (1 - p)² G between groups."""
        keep = 1 - jnp.asarray(self.ratio, moment.dtype)
        same = self.groups[:, None] == self.groups[None, :]
        return keep * jnp.where(same, 1.0, keep) * moment

    def ray(self) -> RayPoint:
        """ρ = p and B = M within groups: τ = p / (1 - p)."""
        keep = 1 - jnp.asarray(self.ratio)
        return _point(SameGroup(self.groups), self.ratio, keep, keep)


class ExactMask(NamedTuple):
    """Exactly `kept` of the `total` groups stay, the others are set to 0 (as in MAE)."""

    kept: Array
    total: Array
    groups: Array

    def sample(self, key: Array, x: Array) -> Array:
        """X with the dropped groups at 0."""
        size = self.groups.shape[0]
        flat = _flat(x, size)
        score = jax.random.uniform(key, flat.shape)
        score = jnp.where(jnp.arange(size, dtype=jnp.int32) < self.total, score, 2.0)
        order = jnp.argsort(jnp.argsort(score, axis=-1), axis=-1).astype(jnp.int32)
        return jnp.where((order < self.kept)[..., self.groups], flat, 0.0).reshape(x.shape)

    def mean(self, moment: Array) -> Array:
        """(m / n) E[x fᵀ]."""
        return self._probabilities(moment.dtype)[0] * moment

    def second_moment(self, moment: Array) -> Array:
        """(m / n) G within a group, m (m - 1) / (n (n - 1)) G between groups."""
        within, between = self._probabilities(moment.dtype)
        same = self.groups[:, None] == self.groups[None, :]
        return jnp.where(same, within, between) * moment

    def ray(self) -> RayPoint:
        """The Bernoulli mask's ray at ρ = (n - m) / (n - 1)."""
        within, between = self._probabilities(jnp.result_type(float))
        return _point(SameGroup(self.groups), 1 - between / within, within, within)

    def _probabilities(self, dtype: Any) -> tuple[Array, Array]:
        """That one group stays, and that two different ones both stay."""
        m, n = jnp.asarray(self.kept, dtype), jnp.asarray(self.total, dtype)
        # With a single group there is no pair; it is always kept, and both are 1.
        pair = m * (m - 1) / (n * jnp.maximum(n - 1, 1.0))
        return m / n, jnp.where(n > 1, pair, 1.0)


class Chain(NamedTuple):
    """Several noises, one after the other, each with its own randomness."""

    noises: tuple[Any, ...]

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

    def second_moment(self, moment: Array) -> Array:
        """The composition of the second moments."""
        for noise in self.noises:
            moment = noise.second_moment(moment)
        return moment

    def ray(self) -> RayPoint | None:
        """The ray of the only noise that does something; None where there are several."""
        acting = [noise for noise in self.noises if not isinstance(noise, Identity)]
        if not acting:
            return Identity().ray()
        return acting[0].ray() if len(acting) == 1 else None


def identity() -> Identity:
    """No noise."""
    return Identity()


def gaussian(std: ArrayLike) -> Gaussian:
    """Isotropic Gaussian noise of standard deviation `std` >= 0, in units of x.

    Raises:
      ValueError: std is negative or not finite.
    """
    _check("std", std, lambda s: np.isfinite(s) & (s >= 0), "finite and >= 0")
    return Gaussian(jnp.asarray(std, float))


def patch_mask(
    mask_ratio: ArrayLike,
    patch_shape: int | Shape,
    image_shape: Shape,
    *,
    share_channels: bool = True,
    partial: bool = False,
) -> Mask:
    """Drops each patch with probability `mask_ratio`, independently (Bernoulli).

    Args:
      mask_ratio: p in [0, 1), the share that is dropped.
      patch_shape: (height, width), or one int for square patches.
      image_shape: (H, W, C) or (H, W).
      share_channels: the channels of a pixel are dropped together.
      partial: allow smaller patches at the lower and right edges.

    Raises:
      ValueError: p outside [0, 1), or a patch that does not divide the image.
    """
    _check_ratio(mask_ratio)
    groups = patch_groups(patch_shape, image_shape, share_channels=share_channels, partial=partial)
    return Mask(jnp.asarray(mask_ratio, float), jnp.asarray(groups))


def exact_patch_mask(
    mask_ratio: float,
    patch_shape: int | Shape,
    image_shape: Shape,
    *,
    share_channels: bool = True,
    partial: bool = False,
) -> ExactMask:
    """Keeps exactly m = floor((1 - p) n) of the n patches, as masked autoencoders (MAE) do.

    Its closed form is that of `patch_mask` at (n - m) / (n - 1) instead of p.

    Args:
      mask_ratio: p in [0, 1).
      patch_shape: (height, width), or one int for square patches.
      image_shape: (H, W, C) or (H, W).
      share_channels: the channels of a pixel are dropped together.
      partial: allow smaller patches at the lower and right edges.

    Raises:
      ValueError: as `patch_mask`, or no patch would be kept.
    """
    _check_ratio(mask_ratio)
    groups = patch_groups(patch_shape, image_shape, share_channels=share_channels, partial=partial)
    count = int(groups.max()) + 1
    kept = int(np.floor((1 - float(mask_ratio)) * count + 1e-9))
    if kept < 1:
        raise ValueError(
            f"mask_ratio: {mask_ratio} keeps none of the {count} patches;"
            f" at most {1 - 1 / count:.6g} is allowed for them"
        )
    return ExactMask(jnp.int32(kept), jnp.int32(count), jnp.asarray(groups))


def pixel_dropout(
    mask_ratio: ArrayLike, example_shape: Shape, *, share_channels: bool = False
) -> Mask:
    """Drops each value with probability `mask_ratio`, independently (multiplicative dropout).

    Args:
      mask_ratio: p in [0, 1).
      example_shape: (D,) or (H, W, C).
      share_channels: drop the channels of a pixel together; then it is `patch_mask` with (1, 1).

    Raises:
      ValueError: p outside [0, 1).
    """
    _check_ratio(mask_ratio)
    channels = example_shape[-1] if share_channels and len(example_shape) > 1 else 1
    groups = np.arange(int(np.prod(example_shape)), dtype=np.int32) // channels
    return Mask(jnp.asarray(mask_ratio, float), jnp.asarray(groups))


def chain(*noises: Any) -> Any:
    """The noises one after the other; the first is applied to the clean input."""
    return noises[0] if len(noises) == 1 else Chain(tuple(noises))


def patch_groups(
    patch_shape: int | Shape,
    image_shape: Shape,
    *,
    share_channels: bool = True,
    partial: bool = False,
) -> np.ndarray:
    """(D,) int32: the patch to which each value of a flattened (H, W, C) image belongs.

    Raises:
      ValueError: a patch that does not divide the image (unless `partial`), or an image shape that
        is not (H, W) or (H, W, C).
    """
    if len(image_shape) not in (2, 3):
        raise ValueError(f"image_shape: {tuple(image_shape)}; patches need (H, W, C) images")
    height, width = image_shape[:2]
    channels = image_shape[2] if len(image_shape) == 3 else 1
    patch = (patch_shape, patch_shape) if isinstance(patch_shape, int) else tuple(patch_shape)
    if len(patch) != 2 or not all(1 <= p <= s for p, s in zip(patch, (height, width), strict=True)):
        raise ValueError(
            f"patch_shape: {patch}; (height, width) from (1, 1) to ({height}, {width})"
        )
    if not partial and (height % patch[0] or width % patch[1]):
        raise ValueError(
            f"patch_shape: {patch[0]}x{patch[1]} does not divide the {height}x{width} image;"
            " choose a divisor, or allow partial edge patches with partial=True"
        )
    rows, columns = np.arange(height) // patch[0], np.arange(width) // patch[1]
    groups = rows[:, None] * (columns[-1] + 1) + columns
    groups = np.repeat(groups[..., None], channels, axis=2)
    if not share_channels:
        groups = groups * channels + np.arange(channels)
    return groups.reshape(-1).astype(np.int32)


def _point(direction: Any, share: ArrayLike, scale: ArrayLike, keep: ArrayLike) -> RayPoint:
    return RayPoint(direction, *(jnp.asarray(value, float) for value in (share, scale, keep)))


def _flat(x: Array, features: int) -> Array:
    """(..., D), whether x is that or (N, H, W, C)."""
    flat = x if x.shape[-1:] == (features,) else x.reshape(x.shape[0], -1)
    if flat.shape[-1] != features:
        raise ValueError(f"x: shape {x.shape}; this noise was made for {features} features")
    return flat


def _check_ratio(mask_ratio: ArrayLike) -> None:
    _check("mask_ratio", mask_ratio, lambda p: (p >= 0) & (p < 1), "in [0, 1)")


def _check(name: str, value: ArrayLike, allowed: Any, text: str) -> None:
    if isinstance(value, jax.core.Tracer):
        return
    if not np.all(allowed(np.asarray(value, np.float64))):
        raise ValueError(f"{name}: {value}; it must be {text}")
