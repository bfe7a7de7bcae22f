"""What rounding in the moments leaves open of the curves that are read off them."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from reconjax.linalg.eigen import inverse_root, significant
from reconjax.linalg.whitening import GAP, constant, other_cut
from reconjax.theory.spectrum import Spectrum


class Uncertain(NamedTuple):
    """What rounding in the moments leaves open of the label variance explained, for every K.

    Attributes:
      within: (R,) error of what the K leading principal directions explain.
      missing: (R,) what directions that rounding hides may explain past the rank.
      hidden: how many of them there may be.
    """

    within: Array
    missing: Array
    hidden: Array


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


def uncertain(spectrum: Spectrum, every: Array, second: Array) -> Uncertain:
    """What the moments leave open.

    Directions below the cut-off may be none, or may be there and be lost in rounding, as those of
    smooth images are. Two things tell: rounding alone makes eigenvalues of either sign, so that
    there may be more that are positive than it accounts for; and a spectrum that comes down to
    the cut-off without a gap goes on below it. They may then explain their part of what is left.

    Args:
      spectrum: of moments.
      every: (D,) all eigenvalues as they are.
      second: (D, D) the second moment; or (D,) variances where there is no more, of which those
        of 0 are none.
    """
    values, labels = spectrum.eigenvalues, spectrum.labels
    order = jnp.arange(values.shape[0], dtype=jnp.int32)
    rank, samples = spectrum.rank.astype(values.dtype), spectrum.samples
    epsilon = float(jnp.finfo(values.dtype).eps)
    variances = second if second.ndim == 1 else jnp.diagonal(second)
    varies = variances > constant(variances)
    varying = jnp.sum(varies, dtype=jnp.int32)
    hidden = (values <= 0) & (order < varying)
    if epsilon < 1e-10:
        # In float32, rounding hides so many that all of them may be there.
        seen = hidden & (every > jnp.maximum(-8 * jnp.min(every), epsilon / 4 * every[0]))
        least = jnp.min(jnp.where(values > 0, values, every[0]))
        near = (least < GAP * epsilon * every[0]) & (spectrum.rank < varying)
        no_end = near
        if second.ndim == 2:
            no_end = jax.lax.cond(near, lambda: _comes_down(second, varies), lambda: near)
        hidden = jnp.where(no_end, hidden, seen)
    count = jnp.sum(hidden, dtype=jnp.int32).astype(values.dtype)
    count = jnp.minimum(count, jnp.maximum(samples - 1 - rank, 0.0))
    left = jnp.maximum(spectrum.label_moment.trace() - jnp.sum(labels**2), 0.0)
    past = jnp.clip((order + 1).astype(values.dtype) - rank, 0.0, count)
    share = jnp.minimum(past / jnp.maximum(count, 1.0), 10 * past / jnp.maximum(samples - 1, 1.0))
    return Uncertain(within(values, labels), left * share, count)


def clear(eigenvalues: Array, every: Array, uncertain: Uncertain) -> Array:
    """How many eigenvalues (R,) of a moment are clear of the cut-off, and hide no others."""
    hidden = jnp.where(jnp.max(uncertain.missing) > 0, uncertain.hidden, 0.0)
    cut = other_cut(eigenvalues, significant(every), hidden)
    return jnp.sum(eigenvalues > cut, dtype=jnp.int32)


def _comes_down(second: Array, varies: Array) -> Array:
    """Whether the eigenvalues of M (D, D) in units of the features have no gap above rounding.

    That of features with little variance, such as pixels at the edge of an image, do have one:
    what is below it then depends on the other features, exactly.
    """
    unit = inverse_root(jnp.where(varies, jnp.diagonal(second), 0.0))
    every = jnp.linalg.eigvalsh(second * (unit[:, None] * unit), symmetrize_input=False)
    epsilon = float(jnp.finfo(every.dtype).eps)
    rounding = every.shape[0] * epsilon * every[-1]
    return jnp.any((every > rounding) & (every < GAP * epsilon * every[-1]))
