"""What a noise changes for any task, in arrays: the numbers of a certificate, as JAX traces them.

The equations are those of `reconjax.theory.certificate`, which puts these numbers into words. Only
what is needed is computed, as far as that is known when the program is made.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from reconjax.linalg.eigen import inverse_root
from reconjax.linalg.precision import highest
from reconjax.linalg.products import gram
from reconjax.linalg.whitening import whiten
from reconjax.noise import InBasis, Noise
from reconjax.summary.moments import Moments
from reconjax.theory.angles import (
    either,
    largest_changes,
    overlaps,
    relative_gaps,
    relative_margins,
    represented,
)
from reconjax.theory.solver import Problem, problem
from reconjax.theory.spectrum import Spectrum, spectrum

CLOSED = "E[x' x'ᵀ] is a M + b I: principal directions and their order stay (Corollary 3.1)"
KEPT = "commutes with the second moment of the data, and keeps the order of its directions"
TURNED = "E[x'|x] turns principal directions"
MIXED = "does not commute with the second moment of the data: it mixes principal directions"
REORDERED = "commutes with the second moment of the data, but reorders its directions"
TIES = "commutes with the second moment of the data, but decides between equal eigenvalues"
# With one of the first two, a noise never helps.
REASONS = (CLOSED, KEPT, TURNED, MIXED, REORDERED, TIES)
NEVER = 2


class CertificateArrays(NamedTuple):
    """The numbers of a `Certificate`, which says what they mean; D features, r their rank.

    Attributes:
      reason: int32, which of `REASONS`; with one below `NEVER` the noise changes nothing.
      latent_dim: (Kn,) int32.
      largest_change: (Kn,), NaN where K > r.
      mean_squared_cosine: (Kn,), NaN where K > r.
      overlap: (D,), NaN past r.
      worst_label: (Kn, D).
      gap: (Kn,), 1 where K >= r.
      ambiguous: (Kn,) bool.
      ties: (D,) bool, at K = 1 .. D.
      order_broken: (D,) bool, at K = 1 .. D.
      commutator: scalar, as are mixing, order_margin, sampling and rank.
    """

    reason: Array
    latent_dim: Array
    largest_change: Array
    mean_squared_cosine: Array
    overlap: Array
    worst_label: Array
    gap: Array
    ambiguous: Array
    ties: Array
    commutator: Array
    mixing: Array
    order_margin: Array
    order_broken: Array
    sampling: Array
    rank: Array


class Facts(NamedTuple):
    """Of a noise: whether E[x'|x] = q x and q; whether G = a M + b I, a and b; the commutator."""

    additive: Array
    keep: Array
    closed: Array
    scale: Array
    white: Array
    commutator: Array


class Whitened(NamedTuple):
    """H = W P d^½ and A = W F P (D, D), 0 past the rank, and what AᵀA says; see `whitened`."""

    components: Array
    reconstructed: Array
    mixing: Array
    turned: Array
    variance: Array


class _Order(NamedTuple):
    """Which reason holds, and where and by how much the order of the directions is kept."""

    reason: Array
    margin: Array
    broken: Array


class _Change(NamedTuple):
    """The mean squared cosines, σ (D,); the largest change (Kn,) and its labels (Kn, D)."""

    overlap: Array
    singular: Array
    largest: Array
    labels: Array


def certificate_arrays(
    moments: Moments,
    noise: Noise,
    latent_dims: ArrayLike,
    *,
    principal: Spectrum | None = None,
) -> CertificateArrays:
    """What a noise can change for any label, in arrays: `certificate` for `jax.jit` and `vmap`.

    Under `jax.jit` all arguments may be traced, also the strength of the noise. Latent dimensions
    that are traced cost an eigendecomposition of (D, D) each; of those that are not, one of
    min(K, D − K).

    Args:
      moments: of the data; what is there of labels is not used.
      noise: any noise of `reconjax.noise`.
      latent_dims: (Kn,) K in 1 .. D; what is said of K past the rank is NaN.
      principal: `reconjax.spectrum(moments)`, to share one decomposition among several noises.

    Raises:
      ValueError: a noise for another number of features.

    Example:
      >>> import jax
      >>> x = np.random.default_rng(0).normal(size=(50, 4)) * np.arange(1, 5)
      >>> moments = reconjax.moments(x, np.arange(50) % 2)
      >>> noise = reconjax.noise.gaussian(0.5)
      >>> numbers = jax.jit(reconjax.theory.certificate_arrays)(moments, noise, [1, 2])
      >>> bool(numbers.reason < 2), numbers.largest_change.tolist()
      (True, [0.0, 0.0])
    """
    if principal is None:
        principal = spectrum(moments)
    noisy, basis = _in_coordinates(moments, noise, principal)
    point = noise.ray()
    facts = _facts(noisy, None if point is None else point.keep)
    values, rank = principal.eigenvalues, principal.rank

    def by_directions() -> Whitened:
        def by_whitening(additive: bool) -> Whitened:
            return _by_whitening(noisy, basis, values, facts.keep, additive=additive)

        if point is not None:
            return by_whitening(True)
        return either(facts.additive, lambda: by_whitening(True), lambda: by_whitening(False))

    numbers = judged(values, rank, moments.samples, facts, by_directions, latent_dims)
    with highest:
        return numbers._replace(worst_label=numbers.worst_label @ principal.eigenvectors.T)


def judged(
    eigenvalues: Array,
    rank: Array,
    samples: Array,
    facts: Facts,
    by_directions: Callable[[], Whitened],
    latent_dims: ArrayLike,
) -> CertificateArrays:
    """All numbers but labels in units of x, in the principal coordinates.

    Args:
      eigenvalues: (m,) d; 0 past the rank. m is D, or the number of samples.
      rank: r.
      samples: N.
      facts: of the noise.
      by_directions: gives H and A (m, m) where they are needed.
      latent_dims: as in `certificate_arrays`.

    Returns:
      `CertificateArrays` with m for D; `worst_label` has the principal coordinates (Kn, m) of t.
    """
    dims = jnp.atleast_1d(jnp.asarray(latent_dims, jnp.int32))
    directions = either(facts.closed, lambda: _closed(facts, eigenvalues), by_directions)
    order = _order(eigenvalues, rank, facts, directions)

    def nothing() -> _Change:
        zeros = jnp.zeros((dims.size, eigenvalues.size), eigenvalues.dtype)
        singular = jnp.sqrt(jnp.sort(directions.variance)[::-1])
        return _Change(jnp.ones_like(eigenvalues), singular, zeros[:, 0], zeros)

    def something() -> _Change:
        features, singular, count = represented(directions.components, directions.reconstructed)
        traced = any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(latent_dims))
        sizes = dims if traced else np.atleast_1d(np.asarray(latent_dims))
        return _Change(overlaps(features), singular, *largest_changes(features, sizes, count))

    change = either(order.reason < NEVER, nothing, something)
    return _completed(eigenvalues, rank, samples, facts, directions, order, change, dims)


@jax.jit
@highest
def _completed(
    eigenvalues: Array,
    rank: Array,
    samples: Array,
    facts: Facts,
    directions: Whitened,
    order: _Order,
    change: _Change,
    dims: Array,
) -> CertificateArrays:
    """Labels of variance 1, gaps, and NaN past the rank."""
    inside = jnp.arange(1, eigenvalues.size + 1, dtype=jnp.int32) <= rank
    gap, ambiguous = relative_gaps(eigenvalues, jnp.where(inside, change.singular, 0.0), rank)
    overlap = jnp.where(inside, change.overlap, jnp.nan)
    return CertificateArrays(
        reason=order.reason,
        latent_dim=dims,
        largest_change=jnp.where(dims <= rank, change.largest, jnp.nan),
        mean_squared_cosine=overlap[dims - 1],
        overlap=overlap,
        worst_label=change.labels * inverse_root(eigenvalues),
        gap=gap[dims - 1],
        ambiguous=ambiguous[dims - 1],
        ties=ambiguous,
        commutator=facts.commutator,
        mixing=jnp.maximum(directions.mixing, directions.turned),
        order_margin=jnp.min(order.margin, initial=1.0),
        order_broken=order.broken,
        sampling=jnp.sqrt(2 / samples),
        rank=rank,
    )


@jax.jit
def _closed(facts: Facts, eigenvalues: Array) -> Whitened:
    """What is known of x̂ where G = a M + b I: its variances d² / (a d + b)."""
    noisy = facts.scale * eigenvalues + facts.white
    variance = jnp.where(eigenvalues > 0, eigenvalues**2 / jnp.where(noisy > 0, noisy, 1.0), 0.0)
    none, zero = jnp.zeros((eigenvalues.size,) * 2, eigenvalues.dtype), jnp.zeros_like(variance[0])
    return Whitened(none, none, zero, zero, variance)


@jax.jit
def _order(eigenvalues: Array, rank: Array, facts: Facts, directions: Whitened) -> _Order:
    """Equal eigenvalues must stay equal, all others in order.

    The margin is (D,), infinite where eigenvalues K and K + 1 are equal and from K = r on.
    """
    epsilon = float(jnp.finfo(eigenvalues.dtype).eps)
    tolerance = epsilon**0.5
    index = jnp.arange(eigenvalues.size, dtype=jnp.int32)
    before_last = index + 1 < rank
    margin = relative_margins(jnp.where(index < rank, directions.variance, 0.0))
    equal = relative_margins(eigenvalues) <= tolerance
    ordered = jnp.where(
        equal,
        jnp.abs(margin) <= tolerance,
        margin > 8 * epsilon * rank.astype(eigenvalues.dtype),
    )
    broken = before_last & ~ordered & ~equal & ~facts.closed
    mixed, commutes = directions.mixing > tolerance, facts.commutator <= tolerance
    kept = jnp.all(ordered | ~before_last)
    cases = (
        (facts.closed, CLOSED),
        (directions.turned > tolerance, TURNED),
        (mixed & commutes, TIES),
        (mixed, MIXED),
        (kept, KEPT),
        (jnp.any(broken), REORDERED),
    )
    reason = jnp.select(
        [case for case, _ in cases],
        [jnp.int32(REASONS.index(text)) for _, text in cases],
        jnp.int32(REASONS.index(TIES)),
    )
    return _Order(reason, jnp.where(before_last & ~equal, margin, jnp.inf), broken)


def _in_coordinates(moments: Moments, noise: Noise, principal: Spectrum) -> tuple[Problem, Array]:
    """The problem, and the principal directions (D, D) in the coordinates that it is in.

    A noise on principal components is taken in them: there M is diagonal to the last digit.
    """
    vectors = principal.eigenvectors
    moments = dataclasses.replace(moments, cross_moment=moments.cross_moment[:, :0])
    if not isinstance(noise, InBasis) or noise.basis.shape != vectors.shape:
        return problem(moments, noise), vectors

    def turned() -> tuple[Problem, Array]:
        diagonal = dataclasses.replace(
            moments,
            mean_x=jnp.zeros_like(moments.mean_x),
            second_moment=jnp.diag(principal.eigenvalues),
            scale=jnp.ones_like(moments.mean_x),
        )
        return problem(diagonal, noise.noise), jnp.eye(len(vectors), dtype=vectors.dtype)

    same = jnp.array_equal(noise.basis, vectors)
    return either(same, turned, lambda: (problem(moments, noise), vectors))


@jax.jit
@highest
def _facts(problem: Problem, keep: Array | None) -> Facts:
    """What can be distinguished from the entries of the moments alone; q where it is known."""
    second, noisy = problem.second_moment, problem.noisy_second_moment
    epsilon = float(jnp.finfo(second.dtype).eps)
    variance = jnp.diagonal(second)
    most, least = jnp.argmax(variance), jnp.argmin(variance)
    if keep is None:
        keep = problem.noisy_input_moment[most, most] / variance[most]
        additive = (keep > 0) & _equal(problem.noisy_input_moment, keep * second, keep, second)
        keep = jnp.where(additive, keep, 0.0)
    else:
        keep, additive = keep.astype(second.dtype), jnp.array(True)

    # a from the largest entry beside the diagonal, b from the smallest on it: single entries hold
    # however badly M is conditioned.
    across = jnp.abs(second - jnp.diag(variance))
    i, j = jnp.unravel_index(jnp.argmax(across), across.shape)
    spread = variance[most] - variance[least]
    first, other, alone = noisy[most, most], noisy[least, least], spread <= 0
    scale = jnp.where(alone, first / variance[most], (first - other) / jnp.where(alone, 1, spread))
    mixed = across[i, j] > 0
    scale = jnp.where(mixed, noisy[i, j] / jnp.where(mixed, second[i, j], 1.0), scale)
    white = other - scale * variance[least]
    expected = scale * second + white * jnp.eye(second.shape[0], dtype=second.dtype)
    closed = additive & (scale >= 0) & (white >= -64 * epsilon * other)
    white = jnp.maximum(white, 0.0)
    closed = closed & _equal(noisy, expected, scale, second, white)

    added = noisy - keep**2 * second
    product = added @ second
    size = jnp.linalg.norm(added) * jnp.linalg.norm(second)
    # Where nothing is added but rounding, nothing can fail to commute.
    acts = jnp.linalg.norm(added) > 64 * epsilon * keep**2 * jnp.linalg.norm(second)
    commutator = jnp.linalg.norm(product - product.T) / jnp.where(acts, size, 1.0)
    return Facts(additive, keep, closed, scale, white, jnp.where(acts, commutator, 0.0))


def _equal(
    values: Array, expected: Array, scale: Array, second: Array, white: ArrayLike = 0.0
) -> Array:
    """Whether entries agree to the last digits of those of scale M + white I."""
    deviation = jnp.sqrt(jnp.maximum(scale, 0.0) * jnp.diagonal(second) + white)
    tolerance = max(64, 4 * second.shape[0]) * float(jnp.finfo(second.dtype).eps)
    return jnp.all(jnp.abs(values - expected) <= tolerance * deviation[:, None] * deviation)


@functools.partial(jax.jit, static_argnames="additive")
@highest
def _by_whitening(
    problem: Problem, vectors: Array, eigenvalues: Array, keep: Array, *, additive: bool
) -> Whitened:
    """H and A by a whitening of G."""
    noisy = problem.noisy_second_moment
    variance = jnp.diagonal(noisy)
    # Features that are constant, or rounding, are left out.
    negligible = variance.size * float(jnp.finfo(noisy.dtype).eps) * jnp.max(variance)
    whitening = whiten(noisy, negligible=negligible)
    deviation = jnp.sqrt(eigenvalues)
    components = whitening.apply(vectors * deviation)
    if additive:
        return whitened(components, keep * components * deviation)
    across = problem.noisy_input_moment @ vectors
    return whitened(components, whitening.apply(jnp.where(deviation > 0, across, 0.0)))


@jax.jit
@highest
def whitened(components: Array, reconstructed: Array) -> Whitened:
    """What the covariance AᵀA of x̂ says, given H and A (m, m).

    The largest correlation of two of its principal components, their variances, and the share of a
    column of A across that of H.
    """
    second = gram(reconstructed)
    estimated = jnp.diagonal(second)
    over = inverse_root(estimated)
    correlation = jnp.abs(second - jnp.diag(estimated)) * over[:, None] * over
    squares = jnp.sum(components**2, axis=0)
    along = jnp.sum(components * reconstructed, axis=0) / jnp.where(squares > 0, squares, 1.0)
    turned = jnp.linalg.norm(reconstructed - along * components, axis=0) * over
    return Whitened(
        components=components,
        reconstructed=reconstructed,
        mixing=jnp.max(correlation),
        turned=jnp.max(turned),
        variance=estimated,
    )
