"""Noise on the coordinates in another basis, such as the principal directions."""

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from reconjax.linalg.precision import highest
from reconjax.noise.base import Noise, check_ratio, flat, pytree
from reconjax.noise.masks import pixel_dropout
from reconjax.noise.rays import RayPoint, Rotated


@pytree
class InBasis(Noise):
    """A noise on the coordinates z = Pᵀ x, x' = x + P (z' - z).

    Attributes:
      basis: (D, R) orthonormal P; what lies outside its span is left as it is.
      noise: made for R features.
    """

    basis: Array
    noise: Noise

    @property
    def features(self) -> int:
        """D."""
        return self.basis.shape[0]

    @jax.jit
    @highest
    def sample(self, key: Array, x: Array) -> Array:
        """X with noisy coordinates."""
        values, basis = flat(x, self.features), self.basis.astype(x.dtype)
        codes = values @ basis
        change = self.noise.sample(key, codes) - codes
        return (values + change @ basis.T).reshape(x.shape)

    @jax.jit
    @highest
    def mean(self, moment: Array) -> Array:
        """E[x fᵀ] with the coordinates' part replaced by its mean."""
        basis = self.basis.astype(moment.dtype)
        codes = basis.T @ moment
        return moment + basis @ (self.noise.mean(codes) - codes)

    @jax.jit
    @highest
    def second_moment(self, moment: Array, mean: Array | None = None) -> Array:
        """That of the coordinates, of the rest, and between them."""
        basis = self.basis.astype(moment.dtype)
        across = basis.T @ moment
        codes = across @ basis
        # Between the coordinates and what lies outside the span of the basis.
        outside = across - codes @ basis.T
        noisy = self.noise.second_moment(codes, None if mean is None else basis.T @ mean)
        change = basis @ (self.noise.mean(outside) - outside)
        return moment + change + change.T + basis @ (noisy - codes) @ basis.T

    @jax.jit
    @highest
    def offset(self) -> Array | None:
        """P b."""
        offset = self.noise.offset()
        return None if offset is None else self.basis.astype(offset.dtype) @ offset

    def ray(self) -> RayPoint | None:
        """The ray of the noise, rotated, where the basis is complete."""
        inner = self.noise.ray() if self.basis.shape[0] == self.basis.shape[1] else None
        if inner is None:
            return None
        return inner._replace(direction=Rotated(self.basis, inner.direction))


def in_basis(noise: Noise, basis: ArrayLike) -> InBasis:
    """A noise on the coordinates of x in an orthonormal basis, such as the principal directions.

    Args:
      noise: made for R features.
      basis: (D, R), orthonormal columns.

    Raises:
      ValueError: columns that are not orthonormal, a noise for another number of features.

    Example:
      >>> rotation = np.array([[0.6, -0.8], [0.8, 0.6]])
      >>> noise = reconjax.noise.in_basis(reconjax.noise.gaussian(1.0), rotation)
      >>> covariance = noise.second_moment(np.eye(2))  # white noise is white in any basis
      >>> bool(np.allclose(covariance, 2 * np.eye(2), atol=1e-6))
      True
    """
    array = jnp.asarray(basis)
    if array.ndim != 2:
        raise ValueError(f"basis: shape {array.shape}; (D, R) is needed")
    size = getattr(noise, "features", None)
    if size not in (None, array.shape[1]):
        raise ValueError(f"noise: made for {size} features; the basis has {array.shape[1]}")
    if not isinstance(array, jax.core.Tracer):
        with highest:
            off = float(jnp.max(jnp.abs(array.T @ array - jnp.eye(array.shape[1]))))
        if not off < 1e-3:
            raise ValueError(f"basis: columns are not orthonormal, off by {off:.3g}")
    return InBasis(basis=array, noise=noise)


def pca_mask(mask_ratio: ArrayLike, eigenvectors: ArrayLike) -> InBasis:
    """Drops principal components independently.

    With one ratio for all of them it changes no representation (Corollary 3.1).

    Args:
      mask_ratio: p in [0, 1), or (R,) one for each component, the leading one first.
      eigenvectors: (D, R) of the second moment, from `Spectrum`; components that are not given
        are kept.

    Raises:
      ValueError: p outside [0, 1), or of another shape.

    Example:
      >>> noise = reconjax.noise.pca_mask(0.5, np.eye(2))
      >>> noise.second_moment(np.ones((2, 2))).tolist()
      [[0.5, 0.25], [0.25, 0.5]]
    """
    check_ratio(mask_ratio)
    array = jnp.asarray(eigenvectors)
    return in_basis(pixel_dropout(mask_ratio, array.shape[1:]), array)
