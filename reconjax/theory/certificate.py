"""What a noise can change for any task: certificates without labels (Corollary 3.1).

The encoder of pure denoising (λ = inf, Theorem 3) depends on G = E[x' x'ᵀ] and F = E[x' xᵀ] alone.
With M = P diag(d) Pᵀ, a whitening W of G (W G Wᵀ = I) and the singular value decomposition

    A = W F P = Q diag(σ) Zᵀ,    H = W P diag(d)^½,

the encoder is V = Wᵀ Q, best first, and its features on clean data have the coordinates Hᵀ Q along
the standardized principal components, of which the encoder without noise takes the first K. Let Π₀
and Π₁ be the projections on both K-dimensional spaces of features. A label with coordinates Ŷ has
r2 tr(Ŷ Π Ŷᵀ) / tr S, and tr(Ŷ Ŷᵀ) <= tr S. So for every task

    |explained with − explained without| <= ‖Π₁ − Π₀‖ = sin θ,

θ the largest principal angle, and some label reaches it. AᵀA is the covariance, along the principal
directions, of x̂, the best linear reconstruction of x from x'. Where E[x'|x] = q x, V is its PCA.
The noise changes nothing at any K, if and only if principal components of x̂ are uncorrelated and
in the order of d: G commutes with M on the range of M (the Schur complement of G on the null space,
where noise acts there too) and d² / g keeps the order of d.

These are statements about linear encoders, decoders and heads, the head being fitted on clean data.
"""

from typing import NamedTuple

import numpy as np
from jax.typing import ArrayLike

from reconjax.noise import Noise
from reconjax.summary.moments import Moments
from reconjax.theory.checks import check_latent_dims
from reconjax.theory.commuting import NEVER, REASONS, CertificateArrays, certificate_arrays
from reconjax.theory.spectrum import Spectrum, spectrum


class Certificate(NamedTuple):
    """What a noise can change, for Kn latent dimensions; r is the rank of the data.

    Attributes:
      verdict: "never": provably without effect on any task at any K; or "may".
      reason: why, in words.
      latent_dim: (Kn,) K.
      largest_change: (Kn,) of r2 of any label, up or down: sin θ. Where the noise
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

    Example:
      >>> x, y = np.random.default_rng(0).normal(size=(50, 6)), np.arange(50) % 2
      >>> moments = reconjax.moments(x, y)
      >>> noises = reconjax.noise.gaussian(0.5), reconjax.noise.patch_mask(0.5, 1, (2, 3, 1))
      >>> [reconjax.certificate(moments, noise).verdict for noise in noises]
      ['never', 'may']
    """
    if principal is None:
        principal = spectrum(moments)
    rank = int(principal.rank)
    dims = check_latent_dims(latent_dims, rank, moments.features)
    arrays = certificate_arrays(moments, noise, dims, principal=principal)
    return in_words(arrays, dims)


def in_words(arrays: CertificateArrays, latent_dims: np.ndarray) -> Certificate:
    """The certificate of arrays that are not traced, at (Kn,) K up to the rank."""
    rank = int(arrays.rank)
    reason = int(arrays.reason)
    return Certificate(
        verdict="never" if reason < NEVER else "may",
        reason=REASONS[reason],
        latent_dim=latent_dims,
        largest_change=np.asarray(arrays.largest_change),
        mean_squared_cosine=np.asarray(arrays.mean_squared_cosine),
        overlap=np.asarray(arrays.overlap)[:rank],
        worst_label=np.asarray(arrays.worst_label),
        gap=np.asarray(arrays.gap),
        ambiguous=np.asarray(arrays.ambiguous),
        ties=_places(arrays.ties),
        commutator=float(arrays.commutator),
        mixing=float(arrays.mixing),
        tolerance=float(np.finfo(arrays.overlap.dtype).eps) ** 0.5,
        order_margin=float(arrays.order_margin),
        order_broken=_places(arrays.order_broken),
        sampling=float(arrays.sampling),
        rank=rank,
    )


def _places(at: ArrayLike) -> tuple[int, ...]:
    """The K of (D,) flags."""
    return tuple((np.flatnonzero(at) + 1).tolist())
