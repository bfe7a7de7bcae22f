"""Linear probe in closed form: what a linear head reads off frozen features.

With standardized features z (constant ones are 0), one-hot labels y and (1/N) Zᵀ Z = P diag(d) Pᵀ,
the head that minimises E‖Wᵀ z − (y − ȳ)‖² + ρ ‖W‖² is

    W(ρ) = P diag(√d / (d + ρ)) Ŷᵀ,    Ŷ = E[(y − ȳ) zᵀ] P diag(d)^-½,

so one eigendecomposition, of the smaller of (F, F) and (N, N), serves every ρ by rescaling. ρ is
chosen by leave-one-out, which has a closed form too (PRESS; Allen, 1974): with
u_i = diag(Nd)^-½ Pᵀ z_i and the leverage h_i(ρ) = 1/N + Σ_k u_ik² d_k / (d_k + ρ),

    y_i − ŷ_i without sample i = (y_i − ŷ_i(ρ)) / (1 − h_i(ρ)).

It is preferred to a held-out part because no sample is lost to the fit, nothing is random, and it
costs no more than the accuracy on the training samples. Only mean and scale of the features are
those of all N samples.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from reconjax.linalg.eigen import inverse_root
from reconjax.linalg.precision import highest
from reconjax.summary.streaming import moments_from_batches
from reconjax.theory.spectrum import Spectrum, spectrum, spectrum_from_samples
from reconjax.training.probes.task import (
    ROWS,
    Linear,
    Probe,
    Scores,
    Standard,
    Task,
    blocks,
    positive,
    task,
)

# Relative to the variance of a feature, which is 1.
RIDGE_WEIGHTS = tuple(float(weight) for weight in np.logspace(-6, 3, 28))


def ridge_probe(
    x_train: ArrayLike,
    y_train: ArrayLike,
    x_test: ArrayLike | None = None,
    y_test: ArrayLike | None = None,
    *,
    num_classes: int | None = None,
    ridge_weights: ArrayLike | Sequence[float] = RIDGE_WEIGHTS,
) -> Probe:
    """Linear probe by ridge regression on one-hot labels, for every ridge weight (module's text).

    Args:
      x_train: (N, F) features; they are standardized, and constant or dependent ones do no harm.
      y_train: (N,) labels, two classes at least.
      x_test: (n, F) or None.
      y_test: (n,) or None.
      num_classes: C; by default the largest label plus one.
      ridge_weights: (L,) ρ > 0, in units of a feature's variance.

    Returns:
      `Probe`; validation is by leave-one-out.

    Raises:
      ValueError: as `task`, or a ridge weight that is not finite and > 0.

    Example:
      >>> x = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
      >>> y = (x[:, 0] > 0).astype(int)
      >>> probe = reconjax.training.ridge_probe(x[:40], y[:40], x[40:], y[40:])
      >>> bool(probe.test.accuracy[probe.chosen] > 0.8)
      True
    """
    given = task(x_train, y_train, x_test, y_test, num_classes)
    weights = positive("ridge_weights", ridge_weights)
    standard = Standard.of(given.x)
    z = standard(given.x)
    axes = principal(z, given.y, given.classes)
    rho = jnp.asarray(weights, axes.eigenvalues.dtype)
    train, validation = _scores(axes, rho, z, given.y, given)
    chosen = validation.best()
    test = None
    if given.x_test is not None and given.y_test is not None:
        test, _ = _scores(axes, rho, standard(given.x_test), given.y_test, given)
    d = np.asarray(axes.eigenvalues, np.float64)
    shrunk = np.asarray(axes.labels, np.float64) * np.sqrt(d) / (d + weights[chosen])
    kernel = np.asarray(axes.eigenvectors, np.float64) @ shrunk.T / standard.scale[:, None]
    bias = given.one_hot_mean() - standard.mean @ kernel
    return Probe(
        "ridge weight", weights, chosen, validation, train, test, linear=Linear(kernel, bias)
    )


def principal(z: np.ndarray, y: np.ndarray, classes: int) -> Spectrum:
    """Spectrum of standardized features z (N, F) with labels (N,), by the smaller problem."""
    if len(z) < z.shape[1]:
        return spectrum_from_samples(z, y, num_classes=classes)
    batches = ((z[part], y[part]) for part in blocks(len(z)))
    return spectrum(moments_from_batches(batches, num_classes=classes))


def _scores(
    axes: Spectrum, rho: Array, z: np.ndarray, y: np.ndarray, given: Task
) -> tuple[Scores, Scores]:
    """On samples z (n, F), and by leave-one-out, which is meant for the training samples alone."""
    sums = np.zeros((4, len(rho)))
    rows = min(ROWS, len(z))
    for part in blocks(len(z)):
        missing = rows - len(z[part])
        batch = np.pad(z[part], ((0, missing), (0, 0)))
        # A label that is no class: such a row counts nowhere.
        labels = np.pad(y[part], (0, missing), constant_values=-1)
        sums += np.asarray(_sums(axes, rho, batch, labels), np.float64)
    total = given.spread(y)
    return (
        Scores.of(sums[0], sums[1], total, len(y)),
        Scores.of(sums[2], sums[3], total, len(y)),
    )


@jax.jit
@highest
def _sums(axes: Spectrum, rho: Array, z: Array, y: Array) -> Array:
    """(4, L): correct, squared error, and both by leave-one-out, of a batch z (B, F), y (B,)."""
    d, samples = axes.eigenvalues, axes.samples
    u = (z - axes.mean) @ (axes.eigenvectors * inverse_root(d)) / jnp.sqrt(samples)
    one_hot = jax.nn.one_hot(y, axes.labels.shape[0], dtype=z.dtype)
    # What no ridge weight can fit. Written as residuals, nothing below cancels where h is near 1.
    outside = one_hot - axes.mean_y - jnp.sqrt(samples) * u @ axes.labels.T
    free = jnp.maximum(1 - 1 / samples - jnp.sum(u**2, axis=1), 0.0)
    counted = y >= 0

    def at(weight: Array) -> Array:
        shrunk = u * (weight / (d + weight))
        residual = outside + jnp.sqrt(samples) * shrunk @ axes.labels.T
        rest = free + jnp.sum(shrunk * u, axis=1)  # 1 − h
        without = residual / jnp.maximum(rest, jnp.finfo(z.dtype).tiny)[:, None]

        def sums(residual: Array) -> tuple[Array, Array]:
            right = (jnp.argmax(one_hot - residual, axis=1).astype(y.dtype) == y) & counted
            squared = jnp.where(counted, jnp.sum(residual**2, axis=1), 0.0)
            return jnp.sum(right, dtype=z.dtype), jnp.sum(squared)

        return jnp.stack([*sums(residual), *sums(without)])

    return jax.lax.map(at, rho).T
