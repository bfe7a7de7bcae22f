"""Eigenspace tracking: how much of each principal direction of the data a network reconstructs.

With p_k the eigenvectors of the centered data, x the centered input and x̂ its reconstruction,

    energy_k   = E[(p_kᵀ x̂)²] / E[(p_kᵀ x)²],
    residual_k = E[(p_kᵀ (x − x̂))²] / E[(p_kᵀ x)²],

means over the same samples (Figs 1 and 3). PCA with K directions has energy 1 and residual 0 along
the first K and 0 and 1 along the others; so does every optimal linear autoencoder.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from reconjax.theory.spectrum import Spectrum, spectrum_from_samples
from reconjax.training.features import Frozen, frozen

# Directions with less of the samples' variance than this are lost in the rounding of float32.
_NEGLIGIBLE = 1e-12


class Eigenspace(NamedTuple):
    """A fixed set of samples, and the directions along which their reconstructions are watched.

    Attributes:
      x: (n, *example_shape) float32 centered inputs.
      eigenvectors: (D, R) float32, by falling variance of the data.
      coordinates: (n, R) float32, p_kᵀ x.
      eigenvalue: (R,) float32, the mean of the squared coordinates over these samples, in squared
        units of x.
    """

    x: Array
    eigenvectors: Array
    coordinates: Array
    eigenvalue: Array


class Tracked(NamedTuple):
    """What is reconstructed along each direction, at one step of training.

    Attributes:
      eigenvalue: (R,) variance of the samples, in squared units of x.
      energy: (R,) share of it that the reconstructions have; more than 1 is possible.
      residual: (R,) share of it that is in the errors.
      samples: int32 scalar, n.
    """

    eigenvalue: Array
    energy: Array
    residual: Array
    samples: Array


class LearningOrder(NamedTuple):
    """When the directions were learned.

    Attributes:
      step: (R,) first step at which the residual is below the threshold, inf if at none.
      rank_correlation: Spearman's, of eigenvalue and step over the R directions; −1: from the top
        down. NaN where all are learned at one step.
      top: the step at which the top half of the variance is, taken as a whole.
      bottom: the same for the bottom half.
      delay: bottom / top, how many times later the bottom is learned.
      never: number of directions that are not learned at all.
    """

    step: np.ndarray
    rank_correlation: float
    top: float
    bottom: float
    delay: float
    never: int


def eigenspace(
    x: ArrayLike, spectrum: Spectrum | None = None, *, directions: int | None = None
) -> Eigenspace:
    """Prepares tracking on a fixed set of samples.

    Args:
      x: (n, D) or (n, H, W, C) floats as the network takes them, the mean image removed.
      spectrum: of the training data, in the same units (images in [0, 1]); by default that of the
        samples themselves, which has n directions at most.
      directions: R at most; by default all up to the rank. Those in which the samples do not vary
        are left out.

    Returns:
      `Eigenspace`.

    Raises:
      ValueError: x of another shape or dtype, NaN or inf; directions out of range.
    """
    samples = np.asarray(x)
    if samples.ndim < 2 or len(samples) == 0 or samples.dtype.kind != "f":
        raise ValueError(
            f"x: {samples.dtype} of shape {samples.shape}; centered floats (n, D) or (n, H, W, C)"
        )
    if not np.isfinite(samples).all():
        raise ValueError("x: NaN or inf")
    flat = samples.reshape(len(samples), -1)
    if spectrum is None:
        spectrum = spectrum_from_samples(flat, np.zeros((len(flat), 0), flat.dtype))
    if spectrum.features != flat.shape[1]:
        raise ValueError(f"x: {flat.shape[1]} features; the spectrum has {spectrum.features}")
    count = min(int(spectrum.rank), spectrum.kept)
    if directions is not None:
        if not 1 <= directions <= spectrum.features:
            raise ValueError(f"directions: {directions}; 1 .. {spectrum.features} is allowed")
        count = min(count, directions)
    inputs = jnp.asarray(flat, jnp.float32)
    vectors = jnp.asarray(spectrum.eigenvectors[:, :count], jnp.float32)
    coordinates = jnp.matmul(inputs, vectors, precision="highest")
    eigenvalue = jnp.mean(coordinates**2, axis=0)
    varies = np.asarray(eigenvalue > _NEGLIGIBLE * jnp.mean(jnp.sum(inputs**2, axis=1)))
    return Eigenspace(
        x=inputs.reshape(samples.shape),
        eigenvectors=vectors[:, varies],
        coordinates=coordinates[:, varies],
        eigenvalue=eigenvalue[varies],
    )


def track(model: Any, space: Eigenspace, *, batch_size: int = 256) -> Tracked:
    """Energy and residual of the reconstructions, in one pass over the samples.

    The first call for a kind of network compiles; later ones cost a forward pass of n samples and
    2 n D R operations.

    Args:
      model: an autoencoder, used in evaluation mode, or a function x (B, ...) -> x̂ (B, ...).
      space: the samples and directions.
      batch_size: samples that are in the network together.

    Returns:
      `Tracked`.

    Raises:
      ValueError: batch_size < 1, or reconstructions of another shape.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size: {batch_size}; it must be at least 1")
    network, parameters = frozen(model, "__call__")
    return _tracked(network, parameters, space, min(batch_size, len(space.x)))


def pca_reference(space: Eigenspace, latent_dim: int) -> Tracked:
    """What PCA with `latent_dim` directions, the best linear autoencoder, reconstructs.

    Raises:
      ValueError: latent_dim < 1.
    """
    if latent_dim < 1:
        raise ValueError(f"latent_dim: {latent_dim}; it must be at least 1")
    within = jnp.arange(space.eigenvalue.shape[0], dtype=jnp.int32) < latent_dim
    energy = within.astype(space.eigenvalue.dtype)
    return Tracked(space.eigenvalue, energy, 1 - energy, jnp.int32(len(space.x)))


def grouped(tracked: Tracked, groups: ArrayLike) -> Tracked:
    """The same of groups of directions: the variance in each, and the shares of it.

    Args:
      tracked: R directions; leading axes, such as steps, are allowed in all but the groups.
      groups: (R,) whole numbers 0 .. G − 1, see `halves` and `octaves`.

    Returns:
      `Tracked` of G groups.

    Raises:
      ValueError: groups of another length.
    """
    index = np.asarray(groups)
    variance = np.asarray(tracked.eigenvalue, np.float64)
    if index.shape != variance.shape[-1:]:
        raise ValueError(f"groups: shape {index.shape}; there are {variance.shape[-1]} directions")
    member = (index[:, None] == np.arange(index.max() + 1)).astype(np.float64)
    total = variance @ member
    energy, residual = (
        (np.asarray(share, np.float64) * variance) @ member / total
        for share in (tracked.energy, tracked.residual)
    )
    return Tracked(total, energy, residual, tracked.samples)


def halves(eigenvalue: ArrayLike) -> np.ndarray:
    """(R,) groups: 0 for the fewest top directions with half of the variance, 1 for the others."""
    variance = np.asarray(eigenvalue, np.float64)
    before = np.cumsum(variance) - variance
    return (before >= variance.sum() / 2).astype(np.int64)


def octaves(directions: int) -> np.ndarray:
    """(R,) groups of directions 1, 2 - 3, 4 - 7, 8 - 15, ..."""
    return np.floor(np.log2(np.arange(1, directions + 1))).astype(np.int64)


def learned(
    residual: ArrayLike | Sequence[ArrayLike],
    steps: Sequence[float] | np.ndarray,
    threshold: float = 0.5,
) -> np.ndarray:
    """First step at which the residual along each direction is below the threshold.

    Args:
      residual: (T, R) at each logged step.
      steps: (T,) ascending.
      threshold: in (0, 1].

    Returns:
      (R,) float64 steps, inf where there is none.

    Raises:
      ValueError: shapes that do not fit, steps that do not ascend, or a threshold out of range.
    """
    shares, at = np.asarray(residual), np.asarray(steps, np.float64)
    if shares.ndim != 2 or at.shape != shares.shape[:1] or len(at) == 0:
        raise ValueError(f"residual: shape {shares.shape} for {at.shape} steps; (T, R) and (T,)")
    if np.any(np.diff(at) <= 0):
        raise ValueError("steps: they must ascend")
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold: {threshold}; it must be in (0, 1]")
    below = shares < threshold
    return np.where(below.any(axis=0), at[np.argmax(below, axis=0)], np.inf)


def learning_order(
    history: Sequence[Tracked], steps: Sequence[float] | np.ndarray, threshold: float = 0.5
) -> LearningOrder:
    """In which order, and how much later, the directions were learned.

    Args:
      history: (T,) what `track` gave at each step, on one `Eigenspace`.
      steps: (T,) ascending.
      threshold: residual below which a direction, or half of the variance, counts as learned.

    Returns:
      `LearningOrder`.

    Raises:
      ValueError: as `learned`, or a single direction.
    """
    if not history:
        raise ValueError("history: empty")
    variance = np.asarray(history[0].eigenvalue)
    group = halves(variance)
    if not group.any():
        raise ValueError("history: one direction has half of the variance and there is no other")
    step = learned([np.asarray(tracked.residual) for tracked in history], steps, threshold)
    parts = [np.asarray(grouped(tracked, group).residual) for tracked in history]
    top, bottom = (float(value) for value in learned(parts, steps, threshold))
    return LearningOrder(
        step=step,
        rank_correlation=rank_correlation(variance, step),
        top=top,
        bottom=bottom,
        delay=bottom / top if top > 0 and math.isfinite(top) else math.nan,
        never=int(np.sum(np.isinf(step))),
    )


def rank_correlation(a: ArrayLike, b: ArrayLike) -> float:
    """Spearman's rank correlation of two lists (n,); equal values share their mean rank.

    inf is a value like others. NaN where a list is constant.

    Raises:
      ValueError: lists of other shapes, less than two values, or NaN.
    """
    first, second = (np.asarray(values, np.float64) for values in (a, b))
    if first.ndim != 1 or first.shape != second.shape or len(first) < 2:
        raise ValueError(f"a, b: shapes {first.shape}, {second.shape}; (n,) twice with n >= 2")
    if np.isnan(first).any() or np.isnan(second).any():
        raise ValueError("a, b: NaN has no rank")
    if (first == first[0]).all() or (second == second[0]).all():
        return math.nan
    from scipy.stats import spearmanr  # slow to import

    return float(spearmanr(first, second).statistic)


@functools.partial(jax.jit, static_argnums=(0, 3))
def _tracked(network: Frozen, parameters: Any, space: Eigenspace, rows: int) -> Tracked:
    samples, size = len(space.x), space.eigenvalue.shape[0]
    steps = -(-samples // rows)

    def batches(array: Array) -> Array:
        padded = jnp.pad(array, [(0, steps * rows - samples)] + [(0, 0)] * (array.ndim - 1))
        return padded.reshape(steps, rows, *array.shape[1:])

    def add(sums: Array, batch: tuple[Array, Array, Array]) -> tuple[Array, None]:
        x, coordinates, weight = batch
        output = network(parameters, x)
        if output.shape != x.shape:
            raise ValueError(f"model: makes {output.shape} of {x.shape}; an autoencoder is needed")
        with jax.default_matmul_precision("highest"):
            reached = output.reshape(rows, -1).astype(jnp.float32) @ space.eigenvectors
        # What fills up the last batch counts 0, even where the network makes NaN of it.
        each = jnp.stack([reached**2, (coordinates - reached) ** 2])
        return sums + jnp.sum(jnp.where(weight[:, None] > 0, each, 0.0), axis=1), None

    weight = jnp.ones(samples, jnp.float32)
    given = (batches(space.x), batches(space.coordinates), batches(weight))
    sums, _ = jax.lax.scan(add, jnp.zeros((2, size), jnp.float32), given)
    energy, residual = sums / (samples * space.eigenvalue)
    return Tracked(space.eigenvalue, energy, residual, jnp.int32(samples))
