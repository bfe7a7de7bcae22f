"""Noise that is added, in proportion or not, and noise of counting: E[x'|x] = q x, all of them."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from reconjax.noise.base import (
    Noise,
    Shape,
    as_features,
    check,
    check_ratio,
    flat,
    image_size,
    pytree,
    static,
)
from reconjax.noise.rays import (
    Colored,
    FeatureVariance,
    Independent,
    Isotropic,
    RayPoint,
    additive_point,
)


@pytree
class Gaussian(Noise):
    """x' = x + std ε with ε ~ N(0, I).

    Attributes:
      std: in units of x.
    """

    std: Array

    @jax.jit
    def sample(self, key: Array, x: Array) -> Array:
        """X plus white noise."""
        return x + jnp.asarray(self.std, x.dtype) * jax.random.normal(key, x.shape, x.dtype)

    def mean(self, moment: Array) -> Array:
        """Unchanged: the noise has mean 0."""
        return moment

    @jax.jit
    def second_moment(self, moment: Array, mean: Array | None = None) -> Array:
        """G + std² I."""
        size = moment.shape[0]
        return moment + jnp.asarray(self.std, moment.dtype) ** 2 * jnp.eye(size, dtype=moment.dtype)

    def ray(self) -> RayPoint:
        """τ = std², B = I."""
        return additive_point(Isotropic(), jnp.asarray(self.std) ** 2)


@pytree
class ColoredGaussian(Noise):
    """x' = x + std L ε with ε ~ N(0, I).

    Attributes:
      std: a factor, without unit.
      factor: (D, m) L, in units of x.
    """

    std: Array
    factor: Array

    @property
    def features(self) -> int:
        """D."""
        return self.factor.shape[0]

    @jax.jit
    def sample(self, key: Array, x: Array) -> Array:
        """X plus colored noise."""
        values = flat(x, self.features)
        factor = (self.std * self.factor).astype(x.dtype)
        drawn = jax.random.normal(key, (*values.shape[:-1], factor.shape[1]), x.dtype)
        noise = jnp.matmul(drawn, factor.T, precision=jax.lax.Precision.HIGHEST)
        return (values + noise).reshape(x.shape)

    def mean(self, moment: Array) -> Array:
        """Unchanged: the noise has mean 0."""
        return moment

    @jax.jit
    def second_moment(self, moment: Array, mean: Array | None = None) -> Array:
        """G + std² L Lᵀ."""
        return moment + self.std.astype(moment.dtype) ** 2 * Colored(self.factor).covariance(moment)

    def ray(self) -> RayPoint:
        """τ = std², B = L Lᵀ."""
        return additive_point(Colored(self.factor), self.std**2)


@pytree
class Speckle(Noise):
    """x' = x (1 + std ε) with ε ~ N(0, I).

    Attributes:
      std: without unit.
    """

    std: Array

    @jax.jit
    def sample(self, key: Array, x: Array) -> Array:
        """X times a random factor for each value."""
        drawn = jax.random.normal(key, x.shape, x.dtype)
        return x * (1 + jnp.asarray(self.std, x.dtype) * drawn)

    def mean(self, moment: Array) -> Array:
        """Unchanged: the factor has mean 1."""
        return moment

    @jax.jit
    def second_moment(self, moment: Array, mean: Array | None = None) -> Array:
        """G + std² diag(E[x²])."""
        power = jnp.diagonal(moment)
        if mean is not None:
            power = power + mean**2
        return moment + jnp.diag(jnp.asarray(self.std, moment.dtype) ** 2 * power)

    def ray(self) -> RayPoint:
        """τ = std², B = diag(M)."""
        return additive_point(FeatureVariance(), self.std**2)


@pytree
class Thinning(Noise):
    """Each of the photons that made the image is kept with probability 1 - p.

    The raw intensities r = x + `intensity` >= 0 are read as counts of `photons` at intensity 1.
    r' is the count that is left, in the same units, and x' = r' - (1 - p) intensity, so that
    E[x'|x] = (1 - p) x. What counting adds depends on the intensity, not on the centered x: of r,
    only its mean, the mean image, enters the closed form.

    Attributes:
      ratio: p.
      photons: at intensity 1.
      intensity: (D,) the mean image, in raw units.
      poisson: the photons are not those of the image but drawn anew, r' ~ Poisson (also for p = 0,
        shot noise), for any intensities; else binomial, for intensities that are whole counts.
    """

    ratio: Array
    photons: Array
    intensity: Array
    poisson: bool = static()

    @property
    def features(self) -> int:
        """D."""
        return self.intensity.shape[-1]

    @jax.jit
    def sample(self, key: Array, x: Array) -> Array:
        """The counts that are left, centered; intensities below 0 count as 0."""
        # Counts are whole numbers, so float32 serves them up to 2^24.
        values = flat(x, self.features).astype(jnp.float32)
        mean, keep, photons = (
            value.astype(jnp.float32) for value in (self.intensity, 1 - self.ratio, self.photons)
        )
        counts = jnp.maximum(values + mean, 0.0) * photons
        if self.poisson:
            left = jax.random.poisson(key, keep * counts, dtype=jnp.int32).astype(jnp.float32)
        else:
            left = jax.random.binomial(key, jnp.round(counts), keep, dtype=jnp.float32)
        return (left / photons - keep * mean).astype(x.dtype).reshape(x.shape)

    @jax.jit
    def mean(self, moment: Array) -> Array:
        """(1 - p) E[x fᵀ]."""
        return (1 - self.ratio).astype(moment.dtype) * moment

    @jax.jit
    def second_moment(self, moment: Array, mean: Array | None = None) -> Array:
        """(1 - p)² G + v diag(E r), v = (1 - p) / photons, times p where binomial."""
        keep = (1 - self.ratio).astype(moment.dtype)
        variance = self._variance().astype(moment.dtype) * keep**2
        expected = self.intensity.astype(moment.dtype)
        if mean is not None:
            expected = expected + mean
        return keep**2 * moment + jnp.diag(variance * expected)

    def offset(self) -> None:
        """None: the mean image is thinned and taken away."""
        return None

    def ray(self) -> RayPoint:
        """B = diag(mean image); τ = 1 / (photons (1 - p)), times p where binomial."""
        return additive_point(Independent(self.intensity), self._variance(), 1 - self.ratio)

    def _variance(self) -> Array:
        """Of x' / (1 - p) by counting, at intensity 1."""
        share = jnp.ones_like(self.ratio) if self.poisson else self.ratio
        return share / (self.photons * (1 - self.ratio))


def gaussian(std: ArrayLike) -> Gaussian:
    """Isotropic Gaussian noise of standard deviation `std` >= 0, in units of x.

    Args:
      std: a scalar.

    Returns:
      The noise; Cov x' = M + std² I.

    Raises:
      ValueError: std is negative or not finite.

    Example:
      >>> reconjax.noise.gaussian(0.5).second_moment(np.eye(2)).tolist()
      [[1.25, 0.0], [0.0, 1.25]]
    """
    return Gaussian(std=_std(std))


def colored_gaussian(std: ArrayLike, covariance: ArrayLike) -> ColoredGaussian:
    """Gaussian noise of covariance std² Σ.

    Args:
      std: >= 0, a factor without unit: the strength on the ray of Σ.
      covariance: (D, D) Σ, symmetric and positive semi-definite, in squared units of x.

    Raises:
      ValueError: std negative, Σ not a covariance.

    Example:
      >>> noise = reconjax.noise.colored_gaussian(2.0, [[2.0, 1.0], [1.0, 2.0]])
      >>> noise.second_moment(np.zeros((2, 2))).round(4).tolist()
      [[8.0, 4.0], [4.0, 8.0]]
    """
    sigma = np.asarray(covariance, np.float64)
    if sigma.ndim != 2 or sigma.shape[0] != sigma.shape[1] or not np.allclose(sigma, sigma.T):
        raise ValueError(f"covariance: shape {sigma.shape}; a symmetric (D, D) matrix is needed")
    values, vectors = np.linalg.eigh(sigma)
    if not values[0] >= -1e-6 * max(values[-1], 0):
        raise ValueError(
            f"covariance: its smallest eigenvalue is {values[0]:.3g}; it must not be negative"
        )
    factor = vectors * np.sqrt(np.maximum(values, 0))
    return ColoredGaussian(std=_std(std), factor=jnp.asarray(factor, float))


def smooth_gaussian(std: ArrayLike, length: float, image_shape: Shape) -> ColoredGaussian:
    """Gaussian noise that is smooth in space, alike in distribution at every pixel.

    Its correlation at distance d is exp(-d² / 2 length²); channels are independent.

    Args:
      std: >= 0 of each value, in units of x.
      length: correlation length > 0, in pixels.
      image_shape: (H, W, C) or (H, W).

    Raises:
      ValueError: std or length out of range, not an image shape.

    Example:
      >>> noise = reconjax.noise.smooth_gaussian(1.0, 2.0, (4, 4))
      >>> covariance = noise.second_moment(np.zeros((16, 16)))
      >>> round(float(covariance[0, 1]), 3)  # of neighbors: exp(-1/8)
      0.882
    """
    check("length", length, lambda v: np.isfinite(v) & (v > 0), "finite and > 0")
    *axes, channels = image_size(image_shape)
    factor: np.ndarray = np.eye(1)
    for size in axes:
        place = np.arange(size)
        values, vectors = np.linalg.eigh(
            np.exp(-((place[:, None] - place) ** 2) / (2 * float(length) ** 2))
        )
        factor = np.kron(factor, vectors * np.sqrt(np.maximum(values, 0)))
    factor = np.kron(factor, np.eye(channels))
    return ColoredGaussian(std=_std(std), factor=jnp.asarray(factor, float))


def speckle(std: ArrayLike) -> Speckle:
    """Multiplicative Gaussian noise x' = x (1 + std ε), about the mean image.

    Args:
      std: a scalar >= 0, without unit.

    Returns:
      The noise; Cov x' = M + std² diag(M).

    Raises:
      ValueError: std is negative or not finite.

    Example:
      >>> reconjax.noise.speckle(2.0).second_moment(np.diag([1.0, 3.0])).tolist()
      [[5.0, 0.0], [0.0, 15.0]]
    """
    return Speckle(std=_std(std))


def thinning(
    mask_ratio: ArrayLike,
    photons: ArrayLike,
    mean: ArrayLike,
    *,
    counts: str = "poisson",
) -> Thinning:
    """Photons of a non-negative image are lost with probability `mask_ratio` (low dose, dim light).

    It acts on raw intensities, r = x + mean, and so must come first in a chain.

    Args:
      mask_ratio: p in [0, 1); 0 with Poisson counts is shot noise alone.
      photons: the count, > 0, that intensity 1 stands for: the fewer, the noisier.
      mean: (D,) or (H, W, C) the mean image in raw units, e.g. `Moments.mean_x`.
      counts: "poisson" for any intensities; "binomial" loses photons of intensities that are
        whole counts, e.g. 8-bit levels with photons = 255.

    Raises:
      ValueError: p outside [0, 1), photons not positive, a negative mean, unknown counts.

    Example:
      >>> noise = reconjax.noise.thinning(0.5, 10.0, [0.2, 0.4])
      >>> covariance = noise.second_moment(np.eye(2))  # M / 4 + diag(mean) / 20
      >>> round(float(covariance[0, 0]), 4), round(float(covariance[1, 1]), 4)
      (0.26, 0.27)
    """
    check_ratio(mask_ratio)
    check("photons", photons, lambda n: np.isfinite(n) & (n > 0), "finite and > 0")
    if counts not in ("poisson", "binomial"):
        raise ValueError(f"counts: {counts!r}; 'poisson' or 'binomial'")
    intensity = as_features("mean", mean, np.size(mean))
    if not isinstance(intensity, jax.core.Tracer) and float(jnp.min(intensity)) < 0:
        raise ValueError(
            f"mean: {float(jnp.min(intensity)):.6g} at the least; thinning counts photons, raw"
            " intensities >= 0 are needed"
        )
    return Thinning(
        ratio=jnp.asarray(mask_ratio, float),
        photons=jnp.asarray(photons, float),
        intensity=intensity,
        poisson=counts == "poisson",
    )


def _std(std: ArrayLike) -> Array:
    check("std", std, lambda s: np.isfinite(s) & (s >= 0), "finite and >= 0")
    return jnp.asarray(std, float)
