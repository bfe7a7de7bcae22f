"""Experimental: noise that is learned, by gradients of what a representation explains.

The r2 at K depends on the noise through the leading K eigenvectors V of the pencil
(F Fᵀ, G), and on them through their span alone: on the projector. Let θ be the eigenvalues. To
first order the span moves by

    dV_k = Σ_{j > K} v_j (v_jᵀ (d(F Fᵀ) − θ_k dG) v_k) / (θ_k − θ_j),    k <= K,

whose differences are between kept and dropped directions alone: equal eigenvalues on one side do no
harm, where the derivative of an eigenvector (`jnp.linalg.eigh`) is infinite. At K with
θ_K = θ_{K+1} there is no derivative; such pairs are left out.

`learned_mask` climbs that gradient in the drop probabilities of the patches. Whether it has found
more than a uniform ratio does shows on other samples alone (`reconjax.compare`).
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from reconjax.linalg.eigen import eigh_descending
from reconjax.linalg.precision import highest
from reconjax.linalg.whitening import ridged, whiten_regular
from reconjax.noise import Mask, Noise, patch_mask
from reconjax.summary.moments import Moments
from reconjax.theory.checks import check_latent_dim
from reconjax.theory.solver import problem

# Ratios are LARGEST times the logistic function of what is learned.
LARGEST = 0.999


class LearnedMask(NamedTuple):
    """A mask with a drop probability for each patch.

    Attributes:
      noise: the mask; `noise.ratio` (n,) are the probabilities, patches row by row.
      latent_dim: K for which it was learned.
      r2: (steps + 1,) share on the training data, from the start on.
    """

    noise: Mask
    latent_dim: int
    r2: np.ndarray


def r2_at(moments: Moments, noise: Noise, latent_dim: int) -> Array:
    """Share of the label variance that K latent dimensions explain (Theorem 3, clean read-out).

    The same as `solve(problem(moments, noise)).r2[K - 1]`, up to a ridge of rounding on G,
    and with a gradient with respect to the noise that equal eigenvalues do not harm. Without
    derivatives, `solve` gives all K at once.

    Args:
      moments: centered moments of the data.
      noise: of `reconjax.noise`; its floating leaves may be differentiated.
      latent_dim: K. Those that round up to the same multiple of 16 run the same program.

    Returns:
      A scalar in [0, 1].

    Raises:
      ValueError: K out of range, as `problem`.

    Example:
      >>> x, y = np.random.default_rng(0).normal(size=(50, 6)), np.arange(50) % 2
      >>> moments = reconjax.moments(x, y)
      >>> noise = reconjax.noise.patch_mask(0.5, 1, (2, 3, 1))
      >>> solution = reconjax.solve(reconjax.problem(moments, noise))
      >>> bool(np.isclose(reconjax.theory.r2_at(moments, noise, 2), solution.r2[1]))
      True
    """
    check_latent_dim(latent_dim, moments.features)
    columns = min(-(-latent_dim // 16) * 16, moments.features)
    return _explained_share(moments, noise, jnp.int32(latent_dim), columns)


def learned_mask(
    moments: Moments,
    patch_shape: int | Sequence[int],
    image_shape: Sequence[int],
    latent_dim: int,
    *,
    start: float = 0.5,
    steps: int = 60,
    learning_rate: float = 0.2,
    progress: Callable[[], None] | None = None,
) -> LearnedMask:
    """Learns a drop probability for each patch, with which K latent dimensions explain the most.

    By Adam (optax) on the logits of the probabilities; the best of all steps is returned. It is a
    local optimum of the training data.

    Args:
      moments: centered moments of the training split.
      patch_shape: as in `patch_mask`.
      image_shape: as in `patch_mask`.
      latent_dim: K.
      start: the ratio of all patches at first, in (0, 1): the best uniform one is a good choice.
      steps: of Adam, at the cost of an eigendecomposition each.
      learning_rate: of the logits.
      progress: called after each step.

    Raises:
      ValueError: K, start, steps or learning rate out of range; as `patch_mask`.

    Example:
      >>> x, y = np.random.default_rng(0).normal(size=(50, 6)), np.arange(50) % 2
      >>> moments = reconjax.moments(x, y)
      >>> mask = reconjax.theory.learned_mask(moments, 1, (2, 3, 1), 2, steps=2)
      >>> mask.noise.ratio.shape, bool(mask.r2.max() >= mask.r2[0])
      ((6,), True)
    """
    import optax

    check_latent_dim(latent_dim, moments.features)
    if not 0 < start < 1:
        raise ValueError(f"start: {start}; it must be in (0, 1)")
    if steps < 1:
        raise ValueError(f"steps: {steps}; at least 1 is needed")
    if not 0 < learning_rate < np.inf:
        raise ValueError(f"learning_rate: {learning_rate}; it must be finite and > 0")
    mask = patch_mask(start, patch_shape, image_shape)
    if mask.features != moments.features:
        raise ValueError(
            f"image_shape: {tuple(image_shape)}, {mask.features} features;"
            f" the moments have {moments.features}"
        )
    dtype = moments.second_moment.dtype
    columns = min(-(-latent_dim // 16) * 16, moments.features)
    share = min(start / LARGEST, 1 - 1e-3)
    logits = jnp.full(mask.count, np.log(share / (1 - share)), dtype)
    optimizer = optax.adam(learning_rate)
    state = optimizer.init(logits)

    def loss(logits: Array, moments: Moments, latent_dim: Array) -> Array:
        noise = patch_mask(_ratio(logits), patch_shape, image_shape)
        return -_explained_share(moments, noise, latent_dim, columns)

    @jax.jit
    def step(logits: Array, state: Any, moments: Moments, latent_dim: Array) -> Any:
        value, gradient = jax.value_and_grad(loss)(logits, moments, latent_dim)
        with jax.numpy_dtype_promotion("standard"):  # optax mixes integers and floats
            change, state = optimizer.update(gradient, state)
        return -value, optax.apply_updates(logits, change), state

    curve, reached, best = [], -np.inf, logits
    # The last step is not taken, only the share where it would start is kept.
    for _ in range(steps + 1):
        value, further, state = step(logits, state, moments, jnp.int32(latent_dim))
        curve.append(float(value))
        if curve[-1] > reached:
            reached, best = curve[-1], logits
        logits = further
        if progress is not None:
            progress()
    noise = patch_mask(np.asarray(_ratio(best)), patch_shape, image_shape)
    return LearnedMask(noise, latent_dim, np.asarray(curve))


def _ratio(logits: Array) -> Array:
    return LARGEST * jax.nn.sigmoid(logits)


@functools.partial(jax.jit, static_argnames="columns")
@highest
def _explained_share(moments: Moments, noise: Noise, latent_dim: Array, columns: int) -> Array:
    posed = problem(moments, noise)
    noisy = ridged(posed.noisy_second_moment)
    encoder = leading(noisy, posed.noisy_input_moment, latent_dim, columns)
    dropped = jnp.arange(columns, dtype=jnp.int32) >= latent_dim
    gram = encoder.T @ posed.second_moment @ encoder
    gram = gram + jnp.diag(dropped.astype(gram.dtype))
    labels = encoder.T @ posed.cross_moment
    fitted = jax.scipy.linalg.solve(gram, labels, assume_a="pos")
    return jnp.sum(labels * fitted) / posed.label_moment.trace()


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def leading(noisy: Array, inputs: Array, latent_dim: Array, columns: int) -> Array:
    """(D, columns) leading K eigenvectors V of the pencil (A Aᵀ, G), Vᵀ G V = I; 0 past K.

    Its gradient is that of the span: right for functions that other bases of it would not change.

    Args:
      noisy: (D, D) G, positive definite.
      inputs: (D, m) A.
      latent_dim: K, an int32 scalar.
      columns: at least K.
    """
    return _leading(noisy, inputs, latent_dim, columns)[0]


def _leading(noisy: Array, inputs: Array, latent_dim: Array, columns: int) -> tuple[Array, Any]:
    whitening = whiten_regular(noisy)
    whitened = whitening.apply(inputs)
    theta, rotation = eigh_descending(whitened @ whitened.T)
    vectors = whitening.transposed(rotation)
    kept = jnp.arange(columns, dtype=jnp.int32) < latent_dim
    encoder = jnp.where(kept, vectors[:, :columns], 0.0)
    return encoder, (theta, vectors, encoder, inputs, latent_dim)


def _leading_backward(columns: int, saved: Any, gradient: Array) -> tuple[Any, ...]:
    """The formula of the module's text, transposed."""
    theta, vectors, encoder, inputs, latent_dim = saved
    order = jnp.arange(theta.shape[0], dtype=jnp.int32)
    between = (order[:, None] >= latent_dim) & (order[:columns] < latent_dim)
    gap = theta[:columns] - theta[:, None]
    rounding = theta.shape[0] * float(jnp.finfo(theta.dtype).eps) * theta[0]
    between = between & (gap > rounding)
    with highest:
        along = vectors.T @ gradient
        change = vectors @ jnp.where(between, along / jnp.where(between, gap, 1.0), 0.0)
        by_noisy = -(change * theta[:columns]) @ encoder.T
        by_inputs = change @ (encoder.T @ inputs) + encoder @ (change.T @ inputs)
    return (by_noisy + by_noisy.T) / 2, by_inputs, np.zeros((), jax.dtypes.float0)


leading.defvjp(_leading, _leading_backward)
