"""How likely chance alone gives the best of a searched grid, by the folds of a test split.

Noises are compared fold by fold with none, by r2

    1 − E‖f(x) − y‖² / E‖y‖² = (2 E[y · f(x)] − E‖f(x)‖²) / E‖y‖²

of the predictions f(x). Of its two parts the agreement E[y · f(x)] is known for each fold; the
length E‖f(x)‖² is that of the whole test split, so that the mean over the folds is exact, and their
spread that of twice the agreement. (As E[y | x] and f(x) vary together, the length would reduce
that spread: errors are rather too large.)
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from reconjax.linalg.precision import highest

# In standard errors: points of a grid that no chance makes the best.
WORSE = -3.0


def by_folds(held_out: ArrayLike, agreement: ArrayLike) -> np.ndarray:
    """(..., Fn) r2 on each fold of a test split; see the module's text.

    Args:
      held_out: (...) r2 on the whole test split.
      agreement: (..., Fn) E[y · f(x)] of each fold, as a share of the label variance.

    Example:
      >>> from reconjax.evidence.p_values import by_folds
      >>> by_folds(0.25, np.array([0.125, 0.375])).tolist()
      [0.0, 0.5]
    """
    agreement = np.asarray(agreement)
    apart = agreement - agreement.mean(axis=-1, keepdims=True)
    return np.asarray(held_out)[..., None] + 2 * apart


def search_p_values(
    r2: ArrayLike,
    baseline: ArrayLike,
    error: ArrayLike = 0.0,
    *,
    flips: int = 1999,
    seed: int = 0,
) -> np.ndarray:
    """For every point of a grid, the p-value of "it beats no noise", given that all were tried.

    The hypothesis is that of the predictors which the training split gave, none of the grid
    explains more of the labels of new data than the one without noise does. Then the difference of
    a fold of the test split is as likely to be -d as d (with the labels of a task, and with random
    ones alike), so all 2^Fn signs of the folds are equally likely, for all points of the grid
    together. The statistic is the largest of the grid's studentized mean differences, and a point's
    p-value the share of signs for which it is at least that point's (max-T, Westfall and Young
    1993): it holds for all points at once. Not among those that could have won by chance are points
    that are clearly worse than no noise, by 3 standard errors (Hansen 2005), and those that differ
    from it by the numerical error alone. A mean difference within that error counts as none: its p
    is 1.

    Args:
      r2: (J..., Kn, Fn) of the J... points of a grid on each fold, from `by_folds`.
      baseline: (Kn, Fn) without noise.
      error: (J...) numerical error of a difference, for all K, or (J..., Kn).
      flips: how many signs are drawn; all 2^Fn where that is no more. The smallest p-value is
        1 / (flips + 1).
      seed: of the signs.

    Returns:
      (J..., Kn) p-values.

    Raises:
      ValueError: fewer than 2 folds or flips < 1, shapes that do not fit.

    Example:
      >>> r2 = np.array([[[0.1, 0.2, 0.3, 0.2, 0.1]]])  # a point, a K, five folds
      >>> reconjax.search_p_values(r2, np.zeros((1, 5))).tolist()
      [[0.03125]]
    """
    values, base = np.asarray(r2, float), np.asarray(baseline, float)
    if values.shape[-2:] != base.shape:
        raise ValueError(f"baseline: shape {base.shape}; {values.shape[-2:]} is needed")
    *points, dims, folds = values.shape
    if folds < 2:
        raise ValueError(f"r2: {folds} folds; at least 2 are needed")
    if flips < 1:
        raise ValueError(f"flips: {flips}; at least 1 is needed")
    difference = np.moveaxis((values - base).reshape(-1, dims, folds), 1, 0)
    floor = np.asarray(error, float)
    if floor.ndim <= len(points):  # the same for all K
        floor = floor[..., None]
    floor = np.broadcast_to(floor, (*points, dims)).reshape(-1, dims).T
    values = _p_values(jnp.asarray(difference), jnp.asarray(floor), _signs(folds, flips, seed))
    return np.moveaxis(np.asarray(values), 0, 1).reshape(*points, dims)


def _signs(folds: int, flips: int, seed: int) -> np.ndarray:
    """(F, Fn) signs, those of what was observed first."""
    if 2**folds <= flips + 1:
        bits = np.arange(2**folds)[:, None] >> np.arange(folds) & 1
    else:
        bits = np.random.default_rng(seed).integers(0, 2, (flips + 1, folds))
        bits[0] = 0
    return 1.0 - 2.0 * bits


@jax.jit
@highest
def _p_values(difference: Array, floor: Array, signs: Array) -> Array:
    """(Kn, J) of differences (Kn, J, Fn), numerical errors (Kn, J) and signs (F, Fn)."""
    folds = difference.shape[-1]

    def at_one_dim(at: tuple[Array, Array]) -> Array:
        points, floor = at
        squares = jnp.mean(points**2, axis=1)
        means = points @ (signs.T / folds)
        variance = (squares[:, None] - means**2) / (folds - 1)
        # Signs that make all folds alike leave a variance of rounding.
        least = jnp.finfo(points.dtype).eps * squares[:, None]
        variance = jnp.maximum(variance, least)
        scores = jnp.where(means == 0, 0.0, means * jax.lax.rsqrt(variance))
        able = (scores[:, :1] > WORSE) & (jnp.sqrt(squares) > floor)[:, None]
        rivals = jnp.where(able, scores, -jnp.inf)
        largest = jnp.max(rivals, axis=0)
        # As large up to rounding is as large.
        own = scores[:, :1]
        reached = jnp.maximum(largest, scores) >= own - 1e-9 * jnp.abs(own)
        share = jnp.mean(reached, axis=1, dtype=points.dtype)
        return jnp.where(jnp.abs(means[:, 0]) <= floor, 1.0, share)

    return jax.lax.map(at_one_dim, (difference, floor))
