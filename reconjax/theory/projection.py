"""Inputs on the top and the bottom subspace of a data set (Figs 1, 4 and 10)."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from reconjax.data.units import as_floats
from reconjax.linalg.precision import highest
from reconjax.theory.spectrum import Spectrum, top_directions


def project(
    spectrum: Spectrum,
    x: ArrayLike,
    *,
    variance: ArrayLike | None = None,
    directions: ArrayLike | None = None,
    subspace: str = "top",
    keep_mean: bool = True,
) -> Array:
    """Projects inputs on the top or the bottom subspace (Figs 1, 4 and 10).

    The statistics are those stored in the spectrum, so the inputs may be ones that it never saw.
    The two subspaces with `variance` v and 1 - v are complements: top + bottom - mean = x.

    Args:
      spectrum: of the training data.
      x: (..., D) vectors or (N, H, W, C) images with H W C = D; floats in the units of the moments,
        or uint8, which is scaled to [0, 1].
      variance: share in [0, 1] of the variance that the subspace explains: the fewest top
        directions that explain at least that share, or for "bottom" their complement.
      directions: instead of `variance`, the number of directions: the first ones for "top", the
        last ones up to the rank (and all that lies outside the span of the data) for "bottom".
      subspace: "top" or "bottom".
      keep_mean: add the mean image back.

    Returns:
      Array of the shape of x.

    Raises:
      ValueError: x of another size, an unknown subspace, both or none of variance and directions,
        one out of range, or a spectrum that keeps fewer directions than are needed. (Where their
        number is traced, the result is NaN instead.)

    Example:
      >>> x, y = np.random.default_rng(0).normal(size=(50, 6)), np.arange(50) % 2
      >>> moments = reconjax.moments(x, y)
      >>> spectrum = reconjax.spectrum(moments)
      >>> top = reconjax.project(spectrum, x, variance=0.75)
      >>> bottom = reconjax.project(spectrum, x, variance=0.25, subspace="bottom")
      >>> bool(np.allclose(top + bottom - x.mean(axis=0), x))
      True
    """
    if subspace not in ("top", "bottom"):
        raise ValueError(f"subspace: {subspace!r}; 'top' or 'bottom'")
    if (variance is None) == (directions is None):
        raise ValueError("variance, directions: exactly one of the two must be given")
    flat = as_vectors(x, spectrum.features)
    top = top_directions(spectrum, variance, directions, subspace)
    spectrum.check_kept(top, "this projection")
    return _projected(spectrum, flat, top, subspace, keep_mean).reshape(np.shape(x))


@functools.partial(jax.jit, static_argnames=("subspace", "keep_mean"))
@highest
def _projected(spectrum: Spectrum, x: Array, top: Array, subspace: str, keep_mean: bool) -> Array:
    centered = (x.astype(spectrum.mean.dtype) - spectrum.mean) / spectrum.scale
    used = jnp.arange(spectrum.kept, dtype=jnp.int32) < top
    # The coordinates are masked rather than the directions, of which that would make a copy.
    coordinates = jnp.where(used, centered @ spectrum.eigenvectors, 0.0)
    part = coordinates @ spectrum.eigenvectors.T
    part = jnp.where(top <= spectrum.kept, part, jnp.nan)
    if subspace == "bottom":
        part = centered - part
    return part * spectrum.scale + (spectrum.mean if keep_mean else 0.0)


def as_vectors(x: ArrayLike, features: int) -> Array:
    """Floats (..., D) of vectors (..., D) or images (N, H, W, C); uint8 is scaled to [0, 1].

    Raises:
      ValueError: x of another size.
    """
    vectors = as_floats(jnp.asarray(x))
    if vectors.shape[-1:] != (features,):
        vectors = vectors.reshape(*vectors.shape[:1], -1)
    if vectors.shape[-1] != features:
        raise ValueError(f"x: {vectors.shape[-1]} features; {features} are needed")
    return vectors
