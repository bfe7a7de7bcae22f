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

from reconjax.linalg.eigen import eigh_descending, inverse_root, significant
from reconjax.linalg.precision import highest
from reconjax.linalg.products import gram
from reconjax.linalg.whitening import whitening_vectors
from reconjax.noise import Noise
from reconjax.summary.class_moment import ClassMoment
from reconjax.summary.few_labels import with_labels_of
from reconjax.summary.moments import Moments
from reconjax.theory.checks import (
    check_few_labels,
    check_latent_dim,
    check_mean,
    check_noise_size,
    check_readout,
    check_weight,
)
from reconjax.theory.optimum import Optimum, Whitened, optimum
from reconjax.theory.projection import as_vectors
from reconjax.theory.spectrum import decomposed
from reconjax.theory.targets import Pixels, Target, check_target, target_moment, target_variance


class Problem(NamedTuple):
    """What the solver needs to know. m is the size of the encoder's input, D for x' itself.

    Attributes:
      noisy_second_moment: (m, m) G = E[x' x'ᵀ].
      noisy_label_moment: (m, C) E[x' yᵀ]; None where the encoder has samples without labels.
      noisy_input_moment: (m, D) E[x' xᵀ].
      second_moment: (m, m) of the clean encoder input, for the clean read-out.
      cross_moment: (m, C) of the clean encoder input with y.
      label_moment: (C, C) S = E[y yᵀ].
      input_variance: tr E[x xᵀ].
      mean_x: (D,) mean input, and scale (D,): x stands for (input - mean_x) / scale. None where the
        encoder's input is not that; so is mean_y (C,), the mean target.
      mean_y: see `mean_x`.
      scale: see `mean_x`.
      noisy_target_moment: (m, T) E[x' tᵀ] of a target t; None where it is x.
      target_variance: tr E[t tᵀ].
      embedding: whether the target stands for joint embedding.
    """

    noisy_second_moment: Array
    noisy_label_moment: Array | None
    noisy_input_moment: Array
    second_moment: Array
    cross_moment: Array
    label_moment: Array | ClassMoment
    input_variance: Array
    mean_x: Array | None = None
    mean_y: Array | None = None
    scale: Array | None = None
    noisy_target_moment: Array | None = None
    target_variance: Array | None = None
    embedding: ArrayLike = False


class Solution(NamedTuple):
    """Encoder, heads and decoders of the optimum, with both losses for every K.

    Attributes:
      encoder: (m, R) V; its first K columns are the encoder with K latent dimensions. Vᵀ G V = I.
      decoder: (R, D) Z; its first K rows are the decoder to x with K latent dimensions, the best
        one also where another target was predicted.
      supervised_loss: (R,) at K = 1 .. R, in squared units of y.
      reconstruction_loss: (R,) at K = 1 .. R, in squared units of x.
      r2: (R,) 1 − supervised loss / tr S.
      rank: the curves are flat from this K on.
      coordinates: see `Optimum`.
      readout_factor: see `Optimum`.
      mean_x: see `Problem`, as for mean_y and scale.
      mean_y: see `mean_x`.
      scale: see `mean_x`.
      target_loss: (R,) see `Optimum`; None where x is predicted.
    """

    encoder: Array
    decoder: Array
    supervised_loss: Array
    reconstruction_loss: Array
    r2: Array
    rank: Array
    coordinates: Array
    readout_factor: Array | None
    mean_x: Array | None = None
    mean_y: Array | None = None
    scale: Array | None = None
    target_loss: Array | None = None

    def transform(self, x: ArrayLike, latent_dim: int | None = None) -> Array:
        """The codes of inputs, centered and scaled as the moments were.

        Args:
          x: (..., D) vectors or (N, H, W, C) images with H W C = D, in the units of the samples of
            which the moments are; uint8 is scaled to [0, 1].
          latent_dim: K; all by default.

        Returns:
          (..., K) codes Vᵀ x, (N, K) of images.

        Raises:
          ValueError: x of another size, K < 1 or more than the encoder has, or a solution of a
            problem that does not know the means.

        Example:
          >>> x = np.random.default_rng(0).normal(size=(50, 3, 2, 1))
          >>> moments = reconjax.moments(x, np.arange(50) % 2)
          >>> solution = reconjax.solve(reconjax.problem(moments))
          >>> solution.transform(x, 2).shape
          (50, 2)
        """
        mean, _, scale = self._units()
        columns = self.encoder.shape[-1]
        check_latent_dim(columns if latent_dim is None else latent_dim, columns)
        vectors = as_vectors(x, mean.shape[0]).astype(self.encoder.dtype)
        with highest:
            return ((vectors - mean) / scale) @ self.encoder[:, :latent_dim]

    def predict(self, x: ArrayLike, latent_dim: int) -> Array:
        """The targets that the best head on K latent dimensions predicts.

        Args:
          x: as in `transform`; for the "noisy" read-out, drawn with the noise.
          latent_dim: K.

        Returns:
          (..., C) predictions Wᵀ Vᵀ x + the mean target; for classes, the largest is the guess.

        Raises:
          ValueError: as `transform`.

        Example:
          >>> x = np.random.default_rng(0).normal(size=(50, 6))
          >>> moments = reconjax.moments(x, x[:, :2])
          >>> solution = reconjax.solve(reconjax.problem(moments), 0.0)
          >>> bool(np.allclose(solution.predict(x, 2), x[:, :2]))
          True
        """
        codes = self.transform(x, latent_dim)
        with highest:
            return codes @ self.head(latent_dim) + self._units()[1]

    def reconstruct(self, x: ArrayLike, latent_dim: int) -> Array:
        """What the decoder makes of K latent dimensions, in the units of x.

        Args:
          x: as in `transform`, clean or drawn with the noise: the decoder is that for noisy inputs.
          latent_dim: K.

        Returns:
          Floats of the shape of x.

        Raises:
          ValueError: as `transform`.

        Example:
          >>> x = np.random.default_rng(0).normal(size=(50, 6))
          >>> solution = reconjax.solve(reconjax.problem(reconjax.moments(x, x[:, :1])))
          >>> bool(np.allclose(solution.reconstruct(x, 6), x))
          True
        """
        codes = self.transform(x, latent_dim)
        mean, _, scale = self._units()
        with highest:
            inputs = codes @ self.decoder[:latent_dim] * scale + mean
        return inputs.reshape(np.shape(x))

    def _units(self) -> tuple[Array, Array, Array]:
        if self.mean_x is None or self.mean_y is None or self.scale is None:
            raise ValueError("solution: of a problem without means; `reconjax.problem` gives them")
        return self.mean_x, self.mean_y, self.scale

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


def problem(
    moments: Moments,
    noise: Noise | None = None,
    target: Target | None = None,
    *,
    encoder: Moments | None = None,
) -> Problem:
    """The problem for inputs with these moments under a noise (None: Theorem 1).

    Args:
      moments: from `reconjax.moments`.
      noise: any noise of `reconjax.noise`, made for inputs of this size.
      target: what is predicted in place of x, from `reconjax.theory.targets`.
      encoder: of all samples, labeled or not, where `moments` are of the labeled ones alone: the
        encoder learns from all, the head is fitted on the labeled ones. For λ = inf and the clean
        read-out, which need no more.

    Raises:
      ValueError: an encoder of other features; the noise was made for another number of features,
        or moves the mean of inputs whose moments are not centered; a function without moments
        (see `noise.estimated`).

    Example:
      >>> x, y = np.random.default_rng(0).normal(size=(50, 6)), np.arange(50) % 2
      >>> moments = reconjax.moments(x, y)
      >>> problem = reconjax.problem(moments, reconjax.noise.gaussian(0.5))
      >>> added = problem.noisy_second_moment - moments.second_moment
      >>> bool(np.allclose(added, 0.25 * np.eye(6)))
      True
    """
    labeled, moments = moments, with_labels_of(encoder, moments) if encoder else moments
    m, c = moments.second_moment, moments.cross_moment
    if noise is None:
        noisy, noisy_labels, noisy_inputs = m, c, m
    else:
        check_noise_size(noise, moments.features)
        check_mean(moments, noise)
        noisy, noisy_labels, noisy_inputs = noise.second_moment(m), noise.mean(c), noise.mean(m)
    predicted, variance = None, None
    if target is not None:
        check_target(target, moments.features)
    if target is not None and not isinstance(target, Pixels):
        whole = decomposed(moments, None)[0]
        predicted = target_moment(target, m, whole.eigenvalues, whole.eigenvectors)
        variance = target_variance(target, m, whole.eigenvalues)
        predicted = predicted if noise is None else noise.mean(predicted)
    return Problem(
        noisy_second_moment=noisy,
        noisy_label_moment=None if encoder else noisy_labels,
        noisy_input_moment=noisy_inputs,
        second_moment=labeled.second_moment,
        cross_moment=c,
        label_moment=moments.label_moment,
        input_variance=jnp.trace(m),
        # A head on the labeled samples is fitted about their mean.
        mean_x=labeled.mean_x,
        mean_y=moments.mean_y,
        scale=moments.scale,
        noisy_target_moment=predicted,
        target_variance=variance,
        embedding=target is not None and target.embedding,
    )


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
      ValueError: no `Problem`, λ negative or NaN, an unknown read-out; with an encoder of its own,
        a finite or traced λ or the noisy read-out.

    Example:
      >>> x, y = np.random.default_rng(0).normal(size=(50, 6)), np.arange(50) % 2
      >>> moments = reconjax.moments(x, y)
      >>> solution = reconjax.solve(reconjax.problem(moments, reconjax.noise.gaussian(0.5)), 1.0)
      >>> solution.encoder.shape, solution.head(2).shape, solution.decoder[:2].shape
      ((6, 6), (2, 2), (2, 6))
    """
    if not isinstance(problem, Problem):
        given = type(problem).__name__
        raise ValueError(f"problem: {given}; make one with `reconjax.problem(moments, noise)`")
    check_weight(reconstruction_weight)
    check_readout(readout)
    if problem.noisy_label_moment is None:
        check_few_labels("reconstruction_weight", reconstruction_weight, readout)
    return _solve(problem, jnp.asarray(reconstruction_weight, float), readout == "clean")


@jax.custom_jvp
def factored(second_moment: Array, cross_moment: Array) -> tuple[Array, Array, Array]:
    """X̃ (D, D) and Ŷ (C, D) with X̃ᵀ X̃ = M and X̃ᵀ Ŷᵀ = C, and the eigenvalues of M.

    X̃ = d^½ Pᵀ with M = P diag(d) Pᵀ. Any rotation of the rows of both will do: the derivative is
    that of the one which turns least, and eigenvalues have none.
    """
    eigenvalues, vectors = eigh_descending(second_moment)
    eigenvalues = jnp.where(eigenvalues > significant(eigenvalues), eigenvalues, 0.0)
    labels = cross_moment.T @ (vectors * inverse_root(eigenvalues))
    return jnp.sqrt(eigenvalues)[:, None] * vectors.T, labels, eigenvalues


@factored.defjvp
def _factored_jvp(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Any, Any]:
    root, labels, eigenvalues = factored(*primals)
    inverse = root * inverse_root(eigenvalues)[:, None] ** 2
    root_change = inverse @ (tangents[0] + tangents[0].T) / 4
    labels_change = (tangents[1] - root_change.T @ labels.T).T @ inverse.T
    changes = root_change, labels_change, jnp.zeros_like(eigenvalues)
    return (root, labels, eigenvalues), changes


@jax.jit(static_argnames="clean")
@highest
def _solve(problem: Problem, reconstruction_weight: Array, clean: bool) -> Solution:
    # Nothing that is returned depends on how the whitened coordinates are rotated.
    second = problem.noisy_second_moment
    epsilon = float(jnp.finfo(second.dtype).eps)
    whitener, kept = whitening_vectors(second)
    inputs = problem.noisy_input_moment.T @ whitener
    # The clean read-out by a factor X̃ of M: what whitening magnifies is the rounding of M's root.
    root, labels, values = factored(problem.second_moment, problem.cross_moment)
    noisy = problem.noisy_label_moment  # for λ = inf and the clean read-out none is needed
    # Without this floor, directions without data would be read out where the noise is small.
    rounding = 8 * epsilon * jnp.sqrt(values[0])
    whitened = Whitened(
        inputs=gram(inputs),
        labels=jnp.zeros_like(labels) if noisy is None else noisy.T @ whitener,
        clean_root=root @ whitener,
        targets=labels,
        rank=jnp.sum(kept, dtype=jnp.int32),
        label_moment=problem.label_moment,
        input_variance=problem.input_variance,
        rounding=rounding**2 * jnp.sum(whitener**2, axis=0),
        exists=kept,
        data=jnp.sum(values > 0, dtype=jnp.int32),
    )
    if problem.noisy_target_moment is not None:
        predicted = gram(problem.noisy_target_moment.T @ whitener)
        whitened = whitened._replace(
            predicted=predicted,
            predicted_variance=problem.target_variance,
            preserved=jnp.asarray(problem.embedding),
            magnified=epsilon * jnp.linalg.norm(second, ord="fro") * jnp.sum(whitener**2, axis=0),
        )
    best = optimum(whitened, reconstruction_weight, clean)
    encoder = whitener @ best.rotation
    decoder = encoder.T @ problem.noisy_input_moment
    means = problem.mean_x, problem.mean_y, problem.scale
    return solution_of(best, encoder, decoder, problem.label_moment, *means)


def solution_of(
    best: Optimum,
    encoder: Array,
    decoder: Array,
    label_moment: Array | ClassMoment,
    mean_x: Array | None,
    mean_y: Array | None,
    scale: Array | None,
) -> Solution:
    """The optimum with its encoder (m, K) and decoder (K, D) in the encoder's input."""
    return Solution(
        encoder=encoder,
        decoder=decoder,
        supervised_loss=best.supervised_loss,
        reconstruction_loss=best.reconstruction_loss,
        r2=1 - best.supervised_loss / label_moment.trace(),
        rank=best.rank,
        coordinates=best.coordinates,
        readout_factor=best.readout_factor,
        mean_x=mean_x,
        mean_y=mean_y,
        scale=scale,
        target_loss=best.target_loss,
    )
