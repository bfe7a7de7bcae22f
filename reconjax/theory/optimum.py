"""The core of every solver: the optimum of a whitened problem for every K at once."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from reconjax.linalg.eigen import at_no_tie, nested_eigh, ties
from reconjax.linalg.precision import highest
from reconjax.linalg.products import gram
from reconjax.summary.class_moment import MANY, ClassMoment
from reconjax.theory.tied import by_variance


class Whitened(NamedTuple):
    """The problem in coordinates z = Tᵀ x' (R,) with E[z zᵀ] = I on their range.

    Attributes:
      inputs: (R, R) E[z xᵀ] E[x zᵀ].
      labels: (C, R) E[y zᵀ].
      clean_root: (n, R) whose Gram matrix is the second moment of Tᵀ x for the clean x; or its
        square root (R,), where that is diagonal.
      targets: (C, n) the labels along its rows: E[y xᵀ] T is their product.
      rank: number of coordinates that carry the data.
      label_moment: (C, C) S.
      input_variance: tr E[x xᵀ].
      rounding: (R,) the variance of each coordinate on clean data that counts as 0.
      exists: (R,) bool, which coordinates there are; all of them if None.
      data: number of directions of the data, where there may be fewer than coordinates.
      predicted: (R, R) E[z tᵀ] E[t zᵀ] of a target t; None where it is x.
      predicted_variance: tr E[t tᵀ].
      preserved: whether `predicted` is that of joint embedding, whose θ is at most 1.
      magnified: (R,) what whitening makes of the rounding in θ, for each coordinate.
      embedding: in place of `predicted`, joint embedding where its directions are known.
      least: a direction that says less of the inputs than this share of the largest, and of the
        labels too where they count, carries nothing; None where all coordinates carry something.
    """

    inputs: Array
    labels: Array
    clean_root: Array
    targets: Array
    rank: Array
    label_moment: Array | ClassMoment
    input_variance: Array
    rounding: Array | None = None
    exists: Array | None = None
    data: Array | None = None
    predicted: Array | None = None
    predicted_variance: Array | None = None
    preserved: Array | None = None
    magnified: Array | None = None
    embedding: "Embedding | None" = None
    least: Array | None = None


class Embedding(NamedTuple):
    """Joint embedding in coordinates in which its directions are known.

    Attributes:
      theta: (R,) θ of the coordinates, 1 for what the noise leaves untouched.
      rotation: (R, R) the directions, largest θ first.
      values: (R,) by which these are told apart: their θ; where all are tied, their variance.
      tied: whether all have the same θ; then variance decides.
    """

    theta: Array
    rotation: Array
    values: Array
    tied: Array


class Optimum(NamedTuple):
    """The optimum of a whitened problem, for every K at once (K = 1 .. R along the last axis).

    Attributes:
      eigenvalues: (R,) θ of the whitened F Fᵀ, largest first (for λ = 0 of its limit's stand-in).
      supervised_loss: (R,) E‖Wᵀ Vᵀ x − y‖² of the read-out's best head (x' for "noisy").
      reconstruction_loss: (R,) E‖Zᵀ Vᵀ x' − x‖², the denoising loss.
      coordinates: (R, C) of the labels along the orthonormalized features: the supervised loss
        falls by the squared norm of row K.
      rotation: (R, R) the encoder in whitened coordinates, V = T rotation; columns past the rank
        are 0.
      readout_factor: (R, R) lower Cholesky factor of the second moment of the features that are
        read out, nested in K; None for "noisy", where it is the identity.
      rank: number of features that carry anything; every curve is flat from there on.
      target_loss: (R,) that of a target, E‖Z_tᵀ Vᵀ x' − t‖², or of joint embedding,
        E‖Vᵀ x'₁ − Vᵀ x'₂‖² = 2 Σ (1 − θ); None where x is predicted.
    """

    eigenvalues: Array
    supervised_loss: Array
    reconstruction_loss: Array
    coordinates: Array
    rotation: Array
    readout_factor: Array | None
    rank: Array
    target_loss: Array | None = None


@highest
def optimum(
    whitened: Whitened, reconstruction_weight: Array, clean: bool, leading: int | None = None
) -> Optimum:
    """The core of every solver: eigenvectors of the whitened F Fᵀ, then the nested read-out.

    With `leading`, only so many features are read out and returned: R stands for their number.
    """
    alpha, weight = weights(reconstruction_weight, whitened.inputs.dtype)
    labels = whitened.labels
    eigenvalues, rotation = _directions(whitened, alpha, weight, leading)
    everything = eigenvalues
    eigenvalues, rotation = eigenvalues[:leading], rotation[:, :leading]
    size = eigenvalues.shape[0]

    supervised = labels @ rotation
    by_labels = jnp.sum(supervised**2, axis=0)
    # ‖E[x zᵀ] u‖² from the eigenvalue where that loses nothing to cancellation, else directly.
    by_predicted = jax.lax.cond(
        weight > 0.5,
        lambda: (eigenvalues - alpha * by_labels) / weight,
        lambda: jnp.sum(rotation * (_objective(whitened) @ rotation), axis=0),
    )
    by_inputs = by_predicted
    if whitened.predicted is not None or whitened.embedding is not None:
        by_inputs = jnp.sum(rotation * (whitened.inputs @ rotation), axis=0)
    valid = jnp.arange(size, dtype=jnp.int32) < whitened.rank
    if whitened.least is not None:
        told = by_inputs > whitened.least * jnp.max(by_inputs)
        labeled = (by_labels > whitened.least * jnp.max(by_labels)) & (alpha > 0)
        valid = valid & (told | labeled)
    factor = None
    coordinates = supervised.T
    if clean:
        factor, coordinates, valid = _clean_readout(whitened, rotation, valid)
    coordinates = jnp.where(valid[:, None], coordinates, 0.0)
    by_inputs = jnp.where(valid, jnp.maximum(by_inputs, 0.0), 0.0)
    by_predicted = jnp.where(valid, jnp.maximum(by_predicted, 0.0), 0.0)
    total = whitened.label_moment.trace()
    rank = jnp.sum(valid, dtype=jnp.int32)
    cut = ties(everything, rank)[:size]
    supervised_loss = total - jnp.cumsum(jnp.sum(coordinates**2, axis=1))
    reconstruction_loss = whitened.input_variance - jnp.cumsum(by_inputs)
    target_loss = None
    if whitened.embedding is not None:
        theta = jnp.sum(rotation**2 * whitened.embedding.theta[:, None], axis=0)
        target_loss = at_no_tie(2 * jnp.cumsum(jnp.where(valid, 1 - theta, 0.0)), cut)
    elif whitened.predicted is not None:
        assert whitened.predicted_variance is not None
        target_loss = whitened.predicted_variance - jnp.cumsum(by_predicted)
        if whitened.preserved is not None:
            distance = 2 * jnp.cumsum(jnp.where(valid, 1 - by_predicted, 0.0))
            target_loss = jnp.where(whitened.preserved, distance, target_loss)
        target_loss = at_no_tie(target_loss, cut)
    return Optimum(
        eigenvalues=eigenvalues,
        supervised_loss=at_no_tie(supervised_loss, cut),
        reconstruction_loss=at_no_tie(reconstruction_loss, cut),
        coordinates=coordinates,
        rotation=jnp.where(valid, rotation, 0.0),
        readout_factor=factor,
        rank=rank,
        target_loss=target_loss,
    )


def _objective(whitened: Whitened) -> Array:
    """(R, R) E[z tᵀ] E[t zᵀ] of what is predicted."""
    if whitened.embedding is not None:
        return jnp.diag(whitened.embedding.theta)
    return whitened.inputs if whitened.predicted is None else whitened.predicted


def _directions(
    whitened: Whitened, alpha: Array, weight: Array, leading: int | None
) -> tuple[Array, Array]:
    """Eigenvalues, largest first, and eigenvectors of the whitened F Fᵀ; the leading are right."""
    labels, objective = whitened.labels, _objective(whitened)

    def searched() -> tuple[Array, Array]:
        tied = jnp.asarray(False) if whitened.embedding is None else whitened.embedding.tied
        # Where all are tied, labels come first, and variance decides between the others: that is
        # the supervised limit of reconstruction.
        others = jax.lax.cond(tied, lambda: whitened.inputs, lambda: objective)
        matrix = jax.lax.cond(
            (weight > 0) & ~tied,
            lambda: weight * objective + alpha * (labels.T @ labels),
            lambda: _supervised_limit(others, labels),
        )
        if whitened.exists is not None:
            # What is no coordinate is kept apart from the weakest of them.
            largest = jax.lax.stop_gradient(jnp.max(jnp.abs(matrix)))
            matrix = matrix - jnp.diag(jnp.where(whitened.exists, 0.0, largest))
        return nested_eigh(matrix)

    if whitened.embedding is None:
        eigenvalues, rotation = searched()
        if whitened.predicted is not None:
            top = jnp.asarray(False) if whitened.preserved is None else whitened.preserved
            largest = jnp.where((eigenvalues[0] > 0) & ~top, eigenvalues[0], 1.0)
            exists = jnp.arange(eigenvalues.shape[0], dtype=jnp.int32) < whitened.rank
            values = jax.lax.stop_gradient(eigenvalues / largest)
            off = jnp.zeros_like(values)
            if whitened.magnified is not None:
                off = jax.lax.stop_gradient(whitened.magnified @ rotation**2)
            top &= alpha == 0

            def variance() -> Array:
                return rotation.T @ whitened.inputs @ rotation

            order = by_variance(values, variance, exists, top, off, leading)
            return eigenvalues, rotation @ order
        return eigenvalues, rotation
    known = whitened.embedding.values, whitened.embedding.rotation
    return jax.lax.cond(alpha > 0, searched, lambda: known)


def weights(reconstruction_weight: Array, dtype: DTypeLike) -> tuple[Array, Array]:
    """(α, λ) up to a common factor, with λ = inf as (0, 1)."""
    value = reconstruction_weight.astype(dtype)
    alpha = 1 / (1 + value)
    return alpha, jnp.where(jnp.isinf(value), 1.0, value * alpha)


def _supervised_limit(inputs: Array, labels: Array) -> Array:
    """A matrix with the eigenvectors of λ inputs + labelsᵀ labels in the limit λ → 0⁺.

    First come the label directions, in the order of what they explain; all others, between which
    the supervised loss is indifferent, come in the order of what they reconstruct. So do label
    directions that explain equally much.
    """
    many = labels.shape[0] > max(MANY, labels.shape[1])
    values, side = nested_eigh(labels.T @ labels if many else labels @ labels.T)
    kept = values > values.shape[0] * float(jnp.finfo(values.dtype).eps) * values[0]
    safe = jnp.where(kept, values, 1.0)
    basis = jnp.where(kept, side if many else labels.T @ side / jnp.sqrt(safe), 0.0)
    # inputs on the complement of the label directions, with a largest eigenvalue of at most 1 ...
    across = inputs @ basis
    inner = basis.T @ across
    rest = inputs - across @ basis.T - basis @ across.T + basis @ inner @ basis.T
    bound = jnp.trace(inputs)
    rest = rest / jnp.where(bound > 0, bound, 1.0)
    # ... and the label directions above it, with what they reconstruct to break ties between them:
    # far above rounding, far below any gap that matters.
    above = jnp.where(kept, 2 + values / jnp.where(values[0] > 0, values[0], 1.0), 0.0)
    tie = float(jnp.finfo(values.dtype).eps) ** (2 / 3) / jnp.where(bound > 0, bound, 1.0)
    above = jnp.diag(above) + tie * inner
    return (rest + rest.T) / 2 + basis @ ((above + above.T) / 2) @ basis.T


def _clean_readout(whitened: Whitened, rotation: Array, valid: Array) -> tuple[Array, Array, Array]:
    """Cholesky factor of the clean features' second moment, and the labels' coordinates.

    The factor of the leading K x K block is the leading block of the factor: one serves every K.
    """
    # Sums of squares are accurate however small, and so is a factor of the second moment.
    root = whitened.clean_root
    half = root[:, None] * rotation if root.ndim == 1 else root @ rotation
    variance = jnp.sum(half**2, axis=0)
    floor = jnp.zeros_like(variance)
    if whitened.rounding is not None:
        floor = jnp.maximum(floor, whitened.rounding @ rotation**2)
    valid = valid & (variance > floor)
    if whitened.data is not None:
        valid = valid & (jnp.cumsum(valid, dtype=jnp.int32) <= whitened.data)
    # Unit variances keep the factorization accurate where the noise dwarfs the data.
    scale = jnp.where(valid, jax.lax.rsqrt(jnp.where(valid, variance, 1.0)), 0.0)
    correlation = gram(half * scale)
    diagonal = jnp.arange(scale.shape[0], dtype=jnp.int32)
    correlation = correlation.at[diagonal, diagonal].set(1.0)
    factor = jnp.linalg.cholesky(correlation, symmetrize_input=False)
    # Where rounding mixed directions with and without data, there are more features than the rank.
    # They depend on each other up to rounding: then, and only then, the features themselves are
    # factorized, by QR, which needs no square of them.
    # The second factor waits for the first: mapped over a batch both are made, and XLA for the CPU
    # hangs where factorizations of whole batches fill its threads at the same time.

    def independent() -> tuple[Array, Array]:
        target = (half * scale).T @ whitened.targets.T
        return factor, jax.scipy.linalg.solve_triangular(factor, target, lower=True)

    def dependent() -> tuple[Array, Array]:
        none = jnp.diag(jnp.where(valid, 0.0, 1.0).astype(scale.dtype))
        basis, upper = jnp.linalg.qr(jnp.concatenate([half * scale, none]))
        sign = jnp.where(jnp.diagonal(upper) < 0, -1.0, 1.0)
        coordinates = basis[: half.shape[0]].T @ whitened.targets.T
        return (sign[:, None] * upper).T, sign[:, None] * coordinates

    factor, coordinates = jax.lax.cond(jnp.isfinite(factor[-1, -1]), independent, dependent)
    deviation = jnp.where(valid, 1 / jnp.where(valid, scale, 1.0), 1.0)
    return factor * deviation[:, None], coordinates, valid
