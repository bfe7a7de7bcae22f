"""The one closed-form problem of which every theorem is a special case.

With encoder V (m, K), head W (K, C), decoder Z (K, D) and the noisy input x' (m,) - or any fixed
features of it -

    loss(V, W, Z) = α E‖Wᵀ Vᵀ x' − y‖² + λ E‖Zᵀ Vᵀ x' − x‖².

With G = E[x' x'ᵀ] and F = [√α E[x' yᵀ], √λ E[x' xᵀ]] the optimal V are the top-K generalized
eigenvectors of (F Fᵀ, G): whiten G, take the eigenvectors of the whitened F Fᵀ. They are nested,
so one eigendecomposition serves every K. No noise and α = 1 is Theorem 1; λ = 0 is least squares
(reduced-rank regression), λ = inf (α = 0, λ = 1) is PCA; α = 0 with noise is Theorem 3.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from reconjax.linalg.eigen import (
    at_no_tie,
    eigh_descending,
    inverse_root,
    significant,
    ties,
)
from reconjax.linalg.precision import highest
from reconjax.linalg.products import gram
from reconjax.linalg.whitening import whitening_vectors
from reconjax.summary.class_moment import ClassMoment
from reconjax.summary.moments import Moments
from reconjax.theory.optimum import Optimum, Whitened, optimum, weights
from reconjax.theory.spectrum import SampleSide, Spectrum


class Problem(NamedTuple):
    """What the solver needs to know. m is the size of the encoder's input, D for x' itself.

    Attributes:
      noisy_second_moment: (m, m) G = E[x' x'ᵀ].
      noisy_label_moment: (m, C) E[x' yᵀ].
      noisy_input_moment: (m, D) E[x' xᵀ].
      second_moment: (m, m) of the clean encoder input, for the clean read-out.
      cross_moment: (m, C) of the clean encoder input with y.
      label_moment: (C, C) S = E[y yᵀ].
      input_variance: tr E[x xᵀ].
    """

    noisy_second_moment: Array
    noisy_label_moment: Array
    noisy_input_moment: Array
    second_moment: Array
    cross_moment: Array
    label_moment: Array | ClassMoment
    input_variance: Array


class Solution(NamedTuple):
    """Encoder, heads and decoders of the optimum, with both losses for every K.

    Attributes:
      encoder: (m, R) V; its first K columns are the encoder with K latent dimensions. Vᵀ G V = I.
      decoder: (R, D) Z; its first K rows are the decoder with K latent dimensions.
      supervised_loss: (R,) at K = 1 .. R, in squared units of y.
      reconstruction_loss: (R,) at K = 1 .. R, in squared units of x.
      r2: (R,) 1 − supervised loss / tr S.
      rank: the curves are flat from this K on.
      coordinates: see `Optimum`.
      readout_factor: see `Optimum`.
    """

    encoder: Array
    decoder: Array
    supervised_loss: Array
    reconstruction_loss: Array
    r2: Array
    rank: Array
    coordinates: Array
    readout_factor: Array | None

    def head(self, latent_dim: int) -> Array:
        """The best head W (K, C) on the first K latent dimensions.

        Raises:
          ValueError: K < 1 or K > R.
        """
        check_latent_dim(latent_dim, self.coordinates.shape[0])
        target = self.coordinates[:latent_dim]
        if self.readout_factor is None:
            return target
        factor = self.readout_factor[:latent_dim, :latent_dim]
        return jax.scipy.linalg.solve_triangular(factor, target, lower=True, trans=1)


def problem(moments: Moments, noise: Any = None) -> Problem:
    """The problem for inputs with these moments under a noise (None: Theorem 1).

    Args:
      moments: from `reconjax.moments`.
      noise: any noise of `reconjax.noise`, made for inputs of this size.

    Raises:
      ValueError: the noise was made for another number of features, or moves the mean of inputs
        whose moments are not centered; a function without moments (see `noise.estimated`).
    """
    m, c = moments.second_moment, moments.cross_moment
    if noise is None:
        noisy, noisy_labels, noisy_inputs = m, c, m
    else:
        check_noise_size(noise, moments.features)
        check_mean(moments, noise)
        noisy, noisy_labels, noisy_inputs = noise.second_moment(m), noise.mean(c), noise.mean(m)
    return Problem(noisy, noisy_labels, noisy_inputs, m, c, moments.label_moment, jnp.trace(m))


def solve(
    problem: Problem,
    reconstruction_weight: ArrayLike = jnp.inf,
    *,
    readout: str = "clean",
) -> Solution:
    """The optimum for every K by one whitening and one eigendecomposition (Theorems 1 and 3).

    Args:
      problem: from `problem`, or made by hand.
      reconstruction_weight: λ in [0, inf]; inf means α = 0, λ = 1. At 0 the encoder is the limit
        λ → 0⁺: what the supervised loss leaves open, the reconstruction decides.
      readout: "clean" fits the head on the clean input (Eq. 9), "noisy" on x' (Sec. 5.4). The
        reconstruction loss is that of the training objective, with x', in both.

    Returns:
      `Solution` with R = m. Its losses have derivatives with respect to the problem wherever the
      first K and the following directions have different eigenvalues; where K parts equal ones,
      these are NaN. Those of encoder, decoder and coordinates are right for functions of the span
      of the first K; see `reconjax.linalg.eigen`.

    Raises:
      ValueError: no `Problem`, λ negative or NaN, an unknown read-out.
    """
    if not isinstance(problem, Problem):
        given = type(problem).__name__
        raise ValueError(f"problem: {given}; make one with `reconjax.problem(moments, noise)`")
    check_weight(reconstruction_weight)
    check_readout(readout)
    return _solve(problem, jnp.asarray(reconstruction_weight, float), readout == "clean")


def theorem1(
    spectrum: Spectrum | SampleSide,
    reconstruction_weight: ArrayLike = jnp.inf,
    *,
    latent_dim: int | None = None,
) -> Solution:
    """Theorem 1 in principal coordinates; D <= N and D > N, nothing of size D x D in the latter.

    Every direction has its part in the encoder: a spectrum that keeps fewer than its rank will not
    do. Wide data are given as their `SampleSide`, which makes the encoder without the directions:
    with a `latent_dim`, the samples themselves are all that is of size N x D.

    Args:
      spectrum: from `spectrum` or `spectrum_from_samples`, or a `reconjax.SampleSide`.
      reconstruction_weight: as in `solve`.
      latent_dim: the largest K for which encoder and decoder are wanted: (D, K) and (K, D) of them
        are made. The losses are those of every K all the same.

    Returns:
      `Solution` with R = min(N, D) where the spectrum is of the N-side, else R = D.

    Raises:
      ValueError: λ negative or NaN, K out of range, or a spectrum that keeps too few directions.
    """
    check_weight(reconstruction_weight)
    side = spectrum if isinstance(spectrum, SampleSide) else None
    principal = spectrum.spectrum(directions=0) if isinstance(spectrum, SampleSide) else spectrum
    if latent_dim is not None:
        check_latent_dim(latent_dim, principal.eigenvalues.shape[0])
    if side is None:
        principal.check_kept(principal.rank, "Theorem 1's encoder")
    values, labels = principal.eigenvalues, principal.labels
    weight = jnp.asarray(reconstruction_weight, float)
    found = _theorem1(values, labels, principal.rank, principal.label_moment, weight)
    rotation = found.rotation[:, :latent_dim]
    inward, outward = rotation * inverse_root(values)[:, None], rotation * jnp.sqrt(values)[:, None]
    if side is None:
        encoder, decoder = _on_directions(principal, inward, outward)
    else:
        encoder, decoder = side.combined(inward), side.combined(outward).T
    return _solution(found, encoder, decoder, principal.label_moment)


def optimal_codes(
    x: ArrayLike, y: ArrayLike, reconstruction_weight: ArrayLike, latent_dim: int
) -> tuple[Array, Array]:
    """Theorem 2: the optimal codes of an encoder that can reach any representation.

    They are the top-K eigenvectors of α Y Yᵀ + λ X Xᵀ (N, N), found through the smaller of that
    and the (D + C, D + C) side.

    Args:
      x: (N, D) inputs and y: (N, C) targets, both with the means that they are to have (center
        them first).
      y: see x.
      reconstruction_weight: λ in [0, inf].
      latent_dim: K in 1 .. N.

    Returns:
      Codes (N, K), orthonormal up to the rank and 0 past it, and the eigenvalues (K,): the loss at
      K is α‖Y‖² + λ‖X‖² minus the sum of the first K.

    Raises:
      ValueError: K or λ out of range, or lengths that differ.
    """
    x, y = jnp.asarray(x), jnp.asarray(y)
    if x.ndim != 2 or y.ndim != 2 or x.shape[0] != y.shape[0]:
        raise ValueError(f"x, y: shapes {x.shape} and {y.shape}; (N, D) and (N, C) are needed")
    check_weight(reconstruction_weight)
    check_latent_dim(latent_dim, x.shape[0])
    return _optimal_codes(x, y, jnp.asarray(reconstruction_weight, float), latent_dim)


def check_weight(reconstruction_weight: ArrayLike) -> None:
    """Raises ValueError unless λ is in [0, inf] (skipped for traced values)."""
    if isinstance(reconstruction_weight, jax.core.Tracer):
        return
    if not np.all(np.asarray(reconstruction_weight, np.float64) >= 0):
        raise ValueError(f"reconstruction_weight: {reconstruction_weight}; it must be in [0, inf]")


def check_readout(readout: str) -> None:
    """Raises ValueError unless it is "clean" or "noisy"."""
    if readout not in ("clean", "noisy"):
        raise ValueError(f"readout: {readout!r}; 'clean' or 'noisy'")


def check_latent_dim(latent_dim: int, largest: int) -> None:
    """Raises ValueError unless K is a whole number in 1 .. largest."""
    if not 1 <= latent_dim <= largest or latent_dim % 1:
        raise ValueError(f"latent_dim: {latent_dim}; 1 .. {largest} is allowed, in whole numbers")


def check_mean(moments: Moments, noise: Any) -> None:
    """Raises ValueError if the noise moves the mean of inputs whose moments are not centered."""
    if not moments.centered and getattr(noise, "offset", lambda: None)() is not None:
        raise ValueError("noise: it moves the mean of the inputs; centered moments are needed")


def check_noise_size(noise: Any, features: int) -> None:
    """Raises ValueError if a part of the noise was made for another number of features."""
    size = getattr(noise, "features", None)
    if size not in (None, features):
        raise ValueError(f"noise: made for {size} features; the moments have {features}")
    for part in getattr(noise, "noises", ()):
        check_noise_size(part, features)


@jax.custom_jvp
def _factored(second_moment: Array, cross_moment: Array) -> tuple[Array, Array, Array]:
    """X̃ (D, D) and Ŷ (C, D) with X̃ᵀ X̃ = M and X̃ᵀ Ŷᵀ = C, and the eigenvalues of M.

    X̃ = d^½ Pᵀ with M = P diag(d) Pᵀ. Any rotation of the rows of both will do: the derivative is
    that of the one which turns least, and eigenvalues have none.
    """
    eigenvalues, vectors = eigh_descending(second_moment)
    eigenvalues = jnp.where(eigenvalues > significant(eigenvalues), eigenvalues, 0.0)
    labels = cross_moment.T @ (vectors * inverse_root(eigenvalues))
    return jnp.sqrt(eigenvalues)[:, None] * vectors.T, labels, eigenvalues


@_factored.defjvp
def _factored_jvp(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Any, Any]:
    root, labels, eigenvalues = _factored(*primals)
    inverse = root * inverse_root(eigenvalues)[:, None] ** 2
    root_change = inverse @ (tangents[0] + tangents[0].T) / 4
    labels_change = (tangents[1] - root_change.T @ labels.T).T @ inverse.T
    changes = root_change, labels_change, jnp.zeros_like(eigenvalues)
    return (root, labels, eigenvalues), changes


@jax.jit(static_argnames="clean")
@highest
def _solve(problem: Problem, reconstruction_weight: Array, clean: bool) -> Solution:
    # Nothing that is returned depends on how the whitened coordinates are rotated.
    whitener, eigenvalues = whitening_vectors(problem.noisy_second_moment)
    kept = eigenvalues > 0
    inputs = problem.noisy_input_moment.T @ whitener
    # The clean read-out by a factor X̃ of M: what whitening magnifies is the rounding of M's root.
    root, labels, values = _factored(problem.second_moment, problem.cross_moment)
    # Without this floor, directions without data would be read out where the noise is small.
    rounding = 8 * float(jnp.finfo(eigenvalues.dtype).eps) * jnp.sqrt(values[0])
    whitened = Whitened(
        inputs=gram(inputs),
        labels=problem.noisy_label_moment.T @ whitener,
        clean_root=root @ whitener,
        targets=labels,
        rank=jnp.sum(kept, dtype=jnp.int32),
        label_moment=problem.label_moment,
        input_variance=problem.input_variance,
        rounding=(rounding * inverse_root(eigenvalues)) ** 2,
        exists=kept,
        data=jnp.sum(values > 0, dtype=jnp.int32),
    )
    found = optimum(whitened, reconstruction_weight, clean)
    encoder = whitener @ found.rotation
    return _solution(found, encoder, encoder.T @ problem.noisy_input_moment, problem.label_moment)


@jax.jit
@highest
def _theorem1(
    eigenvalues: Array,
    labels: Array,
    rank: Array,
    label_moment: Array | ClassMoment,
    reconstruction_weight: Array,
) -> Optimum:
    whitened = Whitened(
        inputs=jnp.diag(eigenvalues),
        labels=labels,
        clean_root=jnp.where(eigenvalues > 0, 1.0, 0.0).astype(eigenvalues.dtype),
        targets=labels,
        rank=rank,
        label_moment=label_moment,
        input_variance=jnp.sum(eigenvalues),
    )
    found = optimum(whitened, reconstruction_weight, clean=False)
    # What a change of M mixes within equal eigenvalues, they alone do not say. PCA is free of it.
    unknown = jnp.any(ties(eigenvalues, rank)) & ~jnp.isinf(reconstruction_weight)
    return found._replace(
        supervised_loss=at_no_tie(found.supervised_loss, unknown),
        reconstruction_loss=at_no_tie(found.reconstruction_loss, unknown),
    )


@jax.jit
@highest
def _on_directions(spectrum: Spectrum, inward: Array, outward: Array) -> tuple[Array, Array]:
    """Encoder (D, K) and decoder (K, D) of weights (R, K) on the directions; past the rank, 0."""
    vectors, kept = spectrum.eigenvectors, spectrum.kept
    encoder, decoder = vectors @ inward[:kept], outward[:kept].T @ vectors.T
    enough = spectrum.rank <= kept  # which `check_kept` cannot tell where the rank is traced
    return jnp.where(enough, encoder, jnp.nan), jnp.where(enough, decoder, jnp.nan)


def _solution(
    found: Optimum, encoder: Array, decoder: Array, label_moment: Array | ClassMoment
) -> Solution:
    return Solution(
        encoder=encoder,
        decoder=decoder,
        supervised_loss=found.supervised_loss,
        reconstruction_loss=found.reconstruction_loss,
        r2=1 - found.supervised_loss / label_moment.trace(),
        rank=found.rank,
        coordinates=found.coordinates,
        readout_factor=found.readout_factor,
    )


@jax.jit(static_argnames="latent_dim")
@highest
def _optimal_codes(
    x: Array, y: Array, reconstruction_weight: Array, latent_dim: int
) -> tuple[Array, Array]:
    alpha, weight = weights(reconstruction_weight, x.dtype)
    samples = x.shape[0]
    width = x.shape[1] + y.shape[1]
    floor = max(samples, width) * float(jnp.finfo(x.dtype).eps)
    if width < samples:
        stacked = jnp.concatenate([jnp.sqrt(alpha) * y, jnp.sqrt(weight) * x], axis=1)
        values, right = eigh_descending(stacked.T @ stacked)
        kept = values > floor * values[0]
        codes = stacked @ jnp.where(kept, right / jnp.sqrt(jnp.where(kept, values, 1.0)), 0.0)
    else:
        # Of wide x there is no second copy.
        values, codes = eigh_descending(alpha * (y @ y.T) + weight * (x @ x.T))
        kept = values > floor * values[0]
    missing = max(latent_dim - values.shape[0], 0)
    codes = jnp.pad(jnp.where(kept, codes, 0.0), ((0, 0), (0, missing)))[:, :latent_dim]
    return codes, jnp.pad(jnp.where(kept, values, 0.0), (0, missing))[:latent_dim]
