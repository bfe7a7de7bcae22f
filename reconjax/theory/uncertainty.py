"""What rounding in the moments leaves open of the curves that are read off them."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from reconjax.linalg.eigen import inverse_root
from reconjax.theory.spectrum import Spectrum


class Uncertain(NamedTuple):
    """What rounding in the moments leaves open of the label variance explained, for every K.

    Attributes:
      within: (R,) error of what the K leading principal directions explain.
      missing: (R,) what directions that rounding hides may explain past the rank.
    """

    within: Array
    missing: Array


def within(eigenvalues: Array, labels: Array) -> Array:
    """(R,) error of the label variance on the K leading directions, given labels (C, R).

    With M off by E the sum over i <= K of ‖ŷ_i‖² is off by that of ŷ_i·ŷ_j E_ij / √(d_i d_j) over
    i, j <= K.
    """
    epsilon = float(jnp.finfo(eigenvalues.dtype).eps)
    inverse = inverse_root(eigenvalues)
    inside = ((labels.T @ labels) * inverse[:, None] * inverse) ** 2
    inside = jnp.cumsum(2 * jnp.sum(jnp.tril(inside), axis=1) - jnp.diagonal(inside))
    return epsilon * eigenvalues[0] * jnp.sqrt(2 * inside)


def uncertain(spectrum: Spectrum, every: Array, variances: Array) -> Uncertain:
    """What the moments leave open.

    Directions below the cut-off may be none, or may be there and be lost in rounding, as those of
    smooth images are. Rounding alone makes eigenvalues of either sign: where there are more that
    are positive than that accounts for, they may explain their part of what is left.

    Args:
      spectrum: of moments.
      every: (D,) all eigenvalues as they are.
      variances: (D,) of the features.
    """
    values, labels = spectrum.eigenvalues, spectrum.labels
    index = jnp.arange(1, values.shape[0] + 1, dtype=jnp.int32).astype(values.dtype)
    rank, samples = spectrum.rank.astype(values.dtype), spectrum.samples
    epsilon = float(jnp.finfo(values.dtype).eps)
    # Of a constant, rounding may leave the square of itself.
    varying = jnp.sum(variances > epsilon**1.75 * jnp.max(variances), dtype=jnp.int32)
    hidden = (values <= 0) & (jnp.arange(values.shape[0], dtype=jnp.int32) < varying)
    if epsilon < 1e-10:
        # In float32, rounding hides so many that all of them may be there.
        hidden &= every > jnp.maximum(-4 * jnp.min(every), epsilon / 16 * every[0])
    hidden = jnp.sum(hidden, dtype=jnp.int32).astype(values.dtype)
    hidden = jnp.minimum(hidden, jnp.maximum(samples - 1 - rank, 0.0))
    left = jnp.maximum(spectrum.label_moment.trace() - jnp.sum(labels**2), 0.0)
    past = jnp.clip(index - rank, 0.0, hidden)
    share = jnp.minimum(past / jnp.maximum(hidden, 1.0), 10 * past / jnp.maximum(samples - 1, 1.0))
    return Uncertain(within(values, labels), left * share)
