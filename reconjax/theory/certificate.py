"""What a noise can change for any task: certificates without labels (Corollary 3.1).

The encoder of pure denoising (λ = inf, Theorem 3) depends on G = E[x' x'ᵀ] and F = E[x' xᵀ] alone.
With M = P diag(d) Pᵀ, a whitening W of G (W G Wᵀ = I) and the singular value decomposition

    A = W F P = Q diag(σ) Zᵀ,    B = W P diag(d)^½,

the encoder is V = Wᵀ Q, best first, and its features on clean data have the coordinates Bᵀ Q along
the standardized principal components, of which the encoder without noise takes the first K. Let Π₀
and Π₁ be the projections on both K-dimensional spaces of features. A label with coordinates Ŷ has
explained share tr(Ŷ Π Ŷᵀ) / tr S, and tr(Ŷ Ŷᵀ) <= tr S. So for every task

    |explained with − explained without| <= ‖Π₁ − Π₀‖ = sin θ,

θ the largest principal angle, and some label reaches it. AᵀA is the covariance, along the principal
directions, of x̂, the best linear reconstruction of x from x'. Where E[x'|x] = q x, V is its PCA.
The noise changes nothing at any K, if and only if principal components of x̂ are uncorrelated and
in the order of d: G commutes with M on the range of M (the Schur complement of G on the null space,
where noise acts there too) and d² / g keeps the order of d.

These are statements about linear encoders, decoders and heads, the head being fitted on clean data.
"""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from reconjax.linalg.eigen import eigh_descending, inverse_root, significant
from reconjax.linalg.precision import highest
from reconjax.linalg.products import gram
from reconjax.noise import InBasis, Noise
from reconjax.summary.moments import Moments
from reconjax.theory.angles import (
    largest_change,
    overlaps,
    relative_gaps,
    relative_margins,
    represented,
)
from reconjax.theory.solver import Problem
from reconjax.theory.solver import problem as noisy_problem
from reconjax.theory.spectrum import Spectrum
from reconjax.theory.spectrum import spectrum as decomposed

CLOSED = "E[x' x'ᵀ] is a M + b I: principal directions and their order stay (Corollary 3.1)"
KEPT = "commutes with the second moment of the data, and keeps the order of its directions"
TURNED = "E[x'|x] turns principal directions"
MIXED = "does not commute with the second moment of the data: it mixes principal directions"
REORDERED = "commutes with the second moment of the data, but reorders its directions"
TIES = "commutes with the second moment of the data, but decides between equal eigenvalues"


class Certificate(NamedTuple):
    """What a noise can change, for Kn latent dimensions; r is the rank of the data.

    Attributes:
      verdict: "never": provably without effect on any task at any K; or "may".
      reason: why, in words.
      latent_dim: (Kn,) K.
      largest_change: (Kn,) of the explained share of any label, up or down: sin θ. Where the noise
        leaves fewer than K features, 1: it may cost some label everything.
      mean_squared_cosine: (Kn,) of the K principal angles; 1 where nothing changes, K / r for
        spaces at random.
      overlap: (r,) the mean squared cosine at every K = 1 .. r.
      worst_label: (Kn, D) t: the label y = tᵀx, of variance 1, is changed by `largest_change`. It
        gains (and another one loses as much), unless there are fewer than K features. 0 for
        "never".
      gap: (Kn,) relative gap between the K-th and the next eigenvalue, the smaller one of those
        without and with noise. Where it is small, the K-dimensional space is ill determined.
      ambiguous: (Kn,) whether rounding may have turned one of the two spaces by more than 1 %. The
        bound is then one for the eigenvectors that were chosen.
      ties: the K in 1 .. r at which that is so.
      commutator: ‖N M − M N‖ / (‖N‖ ‖M‖) of the covariance N that the noise adds to x' / q; of G
        instead of N where E[x'|x] is not q x.
      mixing: the largest |correlation| between two principal components of x̂, and the share of
        one that F has turned away; 0 if and only if the directions stay (also where that is known
        without it).
      tolerance: up to which `mixing`, and relative gaps of equal eigenvalues, count as 0.
      order_margin: the smallest relative gap between the variances of x̂ along the first K
        principal directions and along the others, over all K; negative where the order is broken.
      order_broken: the K at which the first K principal directions are not the K along which x̂
        varies most.
      sampling: √(2 / N), the relative sampling error of an eigenvalue: where `gap` is below it, N
        samples do not tell the K-dimensional space (North's rule of thumb).
      rank: r.
    """

    verdict: str
    reason: str
    latent_dim: np.ndarray
    largest_change: np.ndarray
    mean_squared_cosine: np.ndarray
    overlap: np.ndarray
    worst_label: np.ndarray
    gap: np.ndarray
    ambiguous: np.ndarray
    ties: tuple[int, ...]
    commutator: float
    mixing: float
    tolerance: float
    order_margin: float
    order_broken: tuple[int, ...]
    sampling: float
    rank: int


class _Facts(NamedTuple):
    """Of a noise: whether E[x'|x] = q x and q; whether G = a M + b I, a and b; the commutator."""

    additive: Array
    keep: Array
    closed: Array
    scale: Array
    white: Array
    commutator: Array


class _Whitened(NamedTuple):
    """W P d^½ and W F P (D, D), 0 past the rank, and what AᵀA says; `regular`: W is accurate."""

    components: Array
    reconstructed: Array
    mixing: Array
    turned: Array
    variance: Array
    regular: Array


def certificate(
    moments: Moments,
    noise: Noise,
    latent_dims: ArrayLike | None = None,
    *,
    principal: Spectrum | None = None,
) -> Certificate:
    """What a noise can change for any label, from the moments of the inputs alone.

    One Cholesky factor and, unless the verdict is "never", one singular value decomposition of
    (D, r); for each K the largest eigenvalue of a matrix of size min(K, r − K).

    Args:
      moments: of the data; what is there of labels is not used.
      noise: any noise of `reconjax.noise`.
      latent_dims: (Kn,) K in 1 .. r; by default 1, 2, 4, ... and r.
      principal: `reconjax.spectrum(moments)`, to share one decomposition among several noises.

    Returns:
      `Certificate`.

    Raises:
      ValueError: K out of range, or a noise for another number of features.
    """
    if principal is None:
        principal = decomposed(moments)
    rank = int(principal.rank)
    dims = check_latent_dims(latent_dims, rank, moments.features)
    found, basis = _in_coordinates(moments, noise, principal)
    point = noise.ray()
    facts = _facts(found, None if point is None else point.keep)
    variances = np.asarray(principal.eigenvalues[:rank])
    epsilon = float(np.finfo(variances.dtype).eps)
    tolerance, commutator = epsilon**0.5, float(facts.commutator)
    if facts.closed:
        estimated = variances**2 / (float(facts.scale) * variances + float(facts.white))
        mixing = turned = 0.0
    else:
        options = {"additive": bool(facts.additive)}
        whitened = _whitened(found, basis, principal.eigenvalues, facts.keep, **options)
        if not whitened.regular:
            options["singular"] = True
            whitened = _whitened(found, basis, principal.eigenvalues, facts.keep, **options)
        estimated, turned = np.asarray(whitened.variance)[:rank], float(whitened.turned)
        mixing = max(float(whitened.mixing), turned)

    # Equal eigenvalues must stay equal, all others in order.
    margin = relative_margins(estimated)
    equal = relative_margins(variances) <= tolerance
    ordered = np.where(equal, np.abs(margin) <= tolerance, margin > 8 * rank * epsilon)
    broken = np.flatnonzero(~ordered & ~equal) + 1
    if facts.closed:
        verdict, reason, broken = "never", CLOSED, broken[:0]
    elif turned > tolerance:
        verdict, reason = "may", TURNED
    elif mixing > tolerance:
        verdict, reason = "may", TIES if commutator <= tolerance else MIXED
    elif not np.all(ordered):
        verdict, reason = "may", REORDERED if broken.size else TIES
    else:
        verdict, reason = "never", KEPT

    if verdict == "never":
        changes, labels = np.zeros(len(dims)), np.zeros((len(dims), moments.features))
        overlap, singular = np.ones(rank), np.sort(estimated)[::-1] ** 0.5
    else:
        features, singular, count = represented(whitened.components, whitened.reconstructed)
        overlap, singular = overlaps(np.asarray(features))[:rank], singular[:rank]
        worst = [largest_change(features, int(k), int(count[k - 1])) for k in dims]
        changes = np.array([change for change, _ in worst])
        coordinates = np.stack([label[:rank] for _, label in worst]) / np.sqrt(variances)
        labels = coordinates @ np.asarray(principal.eigenvectors)[:, :rank].T
    gap, ambiguous = relative_gaps(variances, singular, epsilon)
    return Certificate(
        verdict=verdict,
        reason=reason,
        latent_dim=dims,
        largest_change=changes,
        mean_squared_cosine=overlap[dims - 1],
        overlap=overlap,
        worst_label=labels,
        gap=gap[dims - 1],
        ambiguous=ambiguous[dims - 1],
        ties=tuple((np.flatnonzero(ambiguous) + 1).tolist()),
        commutator=commutator,
        mixing=mixing,
        tolerance=tolerance,
        order_margin=float(np.min(margin[~equal], initial=1.0)),
        order_broken=tuple(broken.tolist()),
        sampling=float((2 / moments.samples) ** 0.5),
        rank=rank,
    )


def check_latent_dims(latent_dims: ArrayLike | None, rank: int, features: int) -> np.ndarray:
    """(Kn,) K as whole numbers, by default 1, 2, 4, ... and the rank; ValueError past the rank."""
    if latent_dims is None:
        powers = 2 ** np.arange(rank.bit_length())
        return np.append(powers[powers < rank], rank)
    dims = np.atleast_1d(np.asarray(latent_dims))
    if dims.ndim != 1 or dims.size == 0:
        raise ValueError(f"latent_dim: shape {dims.shape}; a list of at least one is needed")
    for value in dims.tolist():
        if not 1 <= value <= rank or value % 1:
            raise ValueError(
                f"latent_dim: {value}; 1 .. {rank} is allowed, the data have rank {rank}"
                f" of {features}"
            )
    return dims.astype(int)


def _in_coordinates(moments: Moments, noise: Noise, principal: Spectrum) -> tuple[Problem, Array]:
    """The problem, and the principal directions (D, D) in the coordinates that it is in.

    A noise on principal components is judged in them: there M is diagonal to the last digit.
    """
    vectors = principal.eigenvectors
    if not (isinstance(noise, InBasis) and np.array_equal(noise.basis, vectors)):
        return noisy_problem(moments, noise), vectors
    zeros = jnp.zeros_like(moments.mean_x)
    turned = dataclasses.replace(
        moments,
        mean_x=zeros,
        second_moment=jnp.diag(principal.eigenvalues),
        cross_moment=zeros[:, None][:, :0],
        scale=jnp.ones_like(zeros),
    )
    return noisy_problem(turned, noise.noise), jnp.eye(zeros.size, dtype=vectors.dtype)


@jax.jit
@highest
def _facts(problem: Problem, keep: Array | None) -> _Facts:
    """What can be told from the entries of the moments alone; q where it is known."""
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
    return _Facts(additive, keep, closed, scale, white, jnp.where(acts, commutator, 0.0))


def _equal(
    found: Array, expected: Array, scale: Array, second: Array, white: ArrayLike = 0.0
) -> Array:
    """Whether entries agree to the last digits of those of scale M + white I."""
    deviation = jnp.sqrt(jnp.maximum(scale, 0.0) * jnp.diagonal(second) + white)
    tolerance = max(64, 4 * second.shape[0]) * float(jnp.finfo(second.dtype).eps)
    return jnp.all(jnp.abs(found - expected) <= tolerance * deviation[:, None] * deviation)


@functools.partial(jax.jit, static_argnames=("additive", "singular"))
@highest
def _whitened(
    problem: Problem,
    vectors: Array,
    eigenvalues: Array,
    keep: Array,
    *,
    additive: bool,
    singular: bool = False,
) -> _Whitened:
    """W P d^½ and W F P, by the Cholesky factor of G; by its eigenvectors where it is `singular`.

    The covariance AᵀA of x̂ is judged: the largest correlation of two of its principal components,
    their variances, and the share of a column of W F P across that of W P d^½.
    """
    noisy = problem.noisy_second_moment
    epsilon = float(jnp.finfo(noisy.dtype).eps)
    variance = jnp.diagonal(noisy)
    # Units in which G has diagonal 1. Features that are constant, or rounding, are left out.
    varies = variance > variance.size * epsilon * jnp.max(variance)
    unit = jnp.where(varies, jax.lax.rsqrt(jnp.where(varies, variance, 1.0)), 0.0)
    scaled = noisy * unit[:, None] * unit
    if singular:
        values, basis = eigh_descending(scaled)
        kept = values > jnp.maximum(significant(values), 8 * epsilon * values[0])
        whitening, regular = (basis * inverse_root(jnp.where(kept, values, 0.0))).T, jnp.array(True)
    else:
        scaled = scaled + jnp.diag(jnp.where(varies, 0.0, 1.0).astype(scaled.dtype))
        factor = jnp.linalg.cholesky(scaled, symmetrize_input=False)
        pivot = jnp.min(jnp.diagonal(factor))  # NaN where it fails
        regular = pivot**2 > 64 * variance.size * epsilon

    def reduce(matrix: Array) -> Array:
        matrix = unit[:, None] * matrix
        if singular:
            return whitening @ matrix
        return jax.scipy.linalg.solve_triangular(factor, matrix, lower=True)

    deviation = jnp.sqrt(eigenvalues)
    components = reduce(vectors * deviation)
    if additive:
        reconstructed = keep * components * deviation
    else:
        across = problem.noisy_input_moment @ vectors
        reconstructed = reduce(jnp.where(deviation > 0, across, 0.0))
    second = gram(reconstructed)
    estimated = jnp.diagonal(second)
    over = inverse_root(estimated)
    correlation = jnp.abs(second - jnp.diag(estimated)) * over[:, None] * over
    length = jnp.sum(components**2, axis=0)
    along = jnp.sum(components * reconstructed, axis=0) / jnp.where(length > 0, length, 1.0)
    turned = jnp.linalg.norm(reconstructed - along * components, axis=0) * over
    return _Whitened(
        components=components,
        reconstructed=reconstructed,
        mixing=jnp.max(correlation),
        turned=jnp.max(turned),
        variance=estimated,
        regular=regular,
    )
