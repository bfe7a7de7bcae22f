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
    """

    eigenvalues: Array
    supervised_loss: Array
    reconstruction_loss: Array
    coordinates: Array
    rotation: Array
    readout_factor: Array | None
    rank: Array


@highest
def optimum(
    whitened: Whitened, reconstruction_weight: Array, clean: bool, leading: int | None = None
) -> Optimum:
    """The core of every solver: eigenvectors of the whitened F Fᵀ, then the nested read-out.

    With `leading`, only so many features are read out and returned: R stands for their number.
    """
    alpha, weight = weights(reconstruction_weight, whitened.inputs.dtype)
    labels = whitened.labels
    objective = jax.lax.cond(
        weight > 0,
        lambda: weight * whitened.inputs + alpha * (labels.T @ labels),
        lambda: _supervised_limit(whitened),
    )
    if whitened.exists is not None:
        # What is no coordinate is kept apart from the weakest of them.
        largest = jax.lax.stop_gradient(jnp.max(jnp.abs(objective)))
        apart = jnp.where(whitened.exists, 0.0, largest)
        objective = objective - jnp.diag(apart)
    eigenvalues, rotation = nested_eigh(objective)
    everything = eigenvalues
    eigenvalues, rotation = eigenvalues[:leading], rotation[:, :leading]
    size = eigenvalues.shape[0]

    supervised = labels @ rotation
    by_labels = jnp.sum(supervised**2, axis=0)
    # ‖E[x zᵀ] u‖² from the eigenvalue where that loses nothing to cancellation, else directly.
    by_inputs = jax.lax.cond(
        weight > 0.5,
        lambda: (eigenvalues - alpha * by_labels) / weight,
        lambda: jnp.sum(rotation * (whitened.inputs @ rotation), axis=0),
    )
    valid = jnp.arange(size, dtype=jnp.int32) < whitened.rank
    factor = None
    coordinates = supervised.T
    if clean:
        factor, coordinates, valid = _clean_readout(whitened, rotation, valid)
    coordinates = jnp.where(valid[:, None], coordinates, 0.0)
    by_inputs = jnp.where(valid, jnp.maximum(by_inputs, 0.0), 0.0)
    total = whitened.label_moment.trace()
    rank = jnp.sum(valid, dtype=jnp.int32)
    cut = ties(everything, rank)[:size]
    supervised_loss = total - jnp.cumsum(jnp.sum(coordinates**2, axis=1))
    reconstruction_loss = whitened.input_variance - jnp.cumsum(by_inputs)
    return Optimum(
        eigenvalues=eigenvalues,
        supervised_loss=at_no_tie(supervised_loss, cut),
        reconstruction_loss=at_no_tie(reconstruction_loss, cut),
        coordinates=coordinates,
        rotation=jnp.where(valid, rotation, 0.0),
        readout_factor=factor,
        rank=rank,
    )


def weights(reconstruction_weight: Array, dtype: DTypeLike) -> tuple[Array, Array]:
    """(α, λ) up to a common factor, with λ = inf as (0, 1)."""
    value = reconstruction_weight.astype(dtype)
    alpha = 1 / (1 + value)
    return alpha, jnp.where(jnp.isinf(value), 1.0, value * alpha)


def _supervised_limit(whitened: Whitened) -> Array:
    """A matrix with the eigenvectors of λ inputs + labelsᵀ labels in the limit λ → 0⁺.

    First come the label directions, in the order of what they explain; all others, between which
    the supervised loss is indifferent, come in the order of what they reconstruct. So do label
    directions that explain equally much.
    """
    inputs, labels = whitened.inputs, whitened.labels
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
