"""Theorem 1 without moments of size D x D: in principal coordinates, or on the samples' side."""

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from reconjax.linalg.eigen import at_no_tie, inverse_root, ties
from reconjax.linalg.precision import highest
from reconjax.summary.class_moment import ClassMoment
from reconjax.theory.checks import check_latent_dim, check_weight
from reconjax.theory.optimum import Optimum, Whitened, optimum
from reconjax.theory.solver import Solution, solution_of
from reconjax.theory.spectrum import SampleSide, Spectrum


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

    Example:
      >>> x, y = np.random.default_rng(0).normal(size=(50, 6)), np.arange(50) % 2
      >>> moments = reconjax.moments(x, y)
      >>> spectrum = reconjax.spectrum(moments)
      >>> solution = reconjax.theorem1(spectrum)  # PCA
      >>> left = float(solution.reconstruction_loss[1])
      >>> bool(np.isclose(left, spectrum.eigenvalues[2:].sum()))
      True
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
    best = _theorem1(values, labels, principal.rank, principal.label_moment, weight)
    rotation = best.rotation[:, :latent_dim]
    inward, outward = rotation * inverse_root(values)[:, None], rotation * jnp.sqrt(values)[:, None]
    if side is None:
        encoder, decoder = _on_directions(principal, inward, outward)
    else:
        encoder, decoder = side.combined(inward), side.combined(outward).T
    means = principal.mean, principal.mean_y, principal.scale
    return solution_of(best, encoder, decoder, principal.label_moment, *means)


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
    best = optimum(whitened, reconstruction_weight, clean=False)
    # What a change of M mixes within equal eigenvalues, they alone do not say. PCA is free of it.
    unknown = jnp.any(ties(eigenvalues, rank)) & ~jnp.isinf(reconstruction_weight)
    return best._replace(
        supervised_loss=at_no_tie(best.supervised_loss, unknown),
        reconstruction_loss=at_no_tie(best.reconstruction_loss, unknown),
    )


@jax.jit
@highest
def _on_directions(spectrum: Spectrum, inward: Array, outward: Array) -> tuple[Array, Array]:
    """Encoder (D, K) and decoder (K, D) of weights (R, K) on the directions; past the rank, 0."""
    vectors, kept = spectrum.eigenvectors, spectrum.kept
    encoder, decoder = vectors @ inward[:kept], outward[:kept].T @ vectors.T
    enough = spectrum.rank <= kept  # which `check_kept` cannot tell where the rank is traced
    return jnp.where(enough, encoder, jnp.nan), jnp.where(enough, decoder, jnp.nan)
