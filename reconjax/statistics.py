"""How sure a curve is: standard errors, the held-out curve, and whether a mask really helps.

Standard errors come from a balanced half-sample bootstrap over class-stratified folds: B curves,
each of half of the folds, in place of B draws with replacement. Their moments are sums of those
that the folds keep: nothing is read again, and directions and heads are found anew each time. Why
halves:

- They are balanced (McCarthy 1969): every fold is in as many halves as any other, and so is every
  pair of folds. For a curve that is linear in the moments the standard error is exactly the
  textbook one, with no randomness of draws.
- A draw with replacement repeats samples, and what a curve gains by overfitting - about K / N -
  doubles in it, so that its percentiles lie above the curve. Halves have twice as much of it too,
  but that shift is the bias itself: `corrected` takes it off.
- Leaving out one fold at a time (jackknife) magnifies every change by B - 1. Where the K-th and the
  next eigenvalue nearly tie, a curve jumps, and bias and error come out far too large.

What is estimated is the population's curve: that which infinitely many samples with these
proportions of classes would give. The training data's own curve lies above it. Intervals are least
sure where K cuts eigenvalues that nearly tie, and for alignment within a few percent of 1.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from reconjax.folds import combined
from reconjax.moments import Moments, highest, merge
from reconjax.spectrum import Spectrum, inverse_root

# In standard errors: points of a grid that no chance makes the best.
WORSE = -3.0
# The numbers of folds for which there are balanced halves by the squares modulo B (Paley 1933).
BALANCED = (7, 11, 19, 23, 31, 43, 47, 59, 67, 71, 79, 83)


class Bootstrap(NamedTuple):
    """An array that was computed from all folds, and from B halves of them.

    Differences are of the same kind: `Bootstrap(a.value - b.value, a.halves - b.halves)` knows that
    a and b were computed from the same samples.

    Attributes:
      value: (...) from all folds.
      halves: (B, ...) from (B - 1) / 2 of the B folds.
    """

    value: Array
    halves: Array

    @property
    def folds(self) -> int:
        """B."""
        return self.halves.shape[0]

    @property
    def corrected(self) -> Array:
        """(...) the value without its bias of first order in 1 / N, such as overfitting."""
        shift = jnp.mean(self.halves, axis=0) - self.value
        # A bias of c / N is c (B + 1) / (B - 1) / N more in a half.
        return self.value - shift * ((self.folds - 1) / (self.folds + 1))

    @property
    def standard_error(self) -> Array:
        """(...) of `value` and of `corrected`."""
        spread = jnp.var(self.halves, axis=0)
        # Of a mean, this is Σ (fold - mean)² / (B (B - 1)).
        return jnp.sqrt(spread * ((self.folds - 1) / (self.folds + 1)))

    def interval(self, level: float = 0.9) -> tuple[Array, Array]:
        """(...), (...) ends of the confidence interval, by Student's t with B - 1 degrees.

        Raises:
          ValueError: a level that is not in (0, 1).
        """
        reach = interval_reach(self.folds, level) * self.standard_error
        return self.corrected - reach, self.corrected + reach


def interval_reach(folds: int, level: float = 0.9) -> float:
    """How many standard errors over B folds an interval reaches: Student's t, B - 1 degrees.

    Raises:
      ValueError: a level that is not in (0, 1).
    """
    from scipy.special import stdtrit

    if not 0 < level < 1:
        raise ValueError(f"level: {level}; it must be in (0, 1)")
    return float(stdtrit(folds - 1, (1 + level) / 2))


def bootstrap(folds: Moments, curve: Callable[[Moments], Any]) -> Any:
    """What `curve` gives from all folds, and from halves of them.

    A half should have more samples than features, else it can fit any labels.

    Args:
      folds: from `fold_moments`; their number B is one of `BALANCED`.
      curve: makes an array, or a tree of arrays, of moments; called B + 1 times. For instance
        `lambda moments: reconjax.sweep(moments, grid).explained`.

    Returns:
      A tree like that of `curve`, with a `Bootstrap` in place of each array.

    Raises:
      ValueError: B is none of `BALANCED`.
    """
    weights = balanced_halves(folds.samples.shape[0])
    value = curve(combined(folds))
    halves = [curve(combined(folds, row)) for row in weights]
    return jax.tree.map(lambda whole, *parts: Bootstrap(whole, jnp.stack(parts)), value, *halves)


def balanced_halves(folds: int) -> np.ndarray:
    """(B, B) a row a half: 1 where it has the fold, else 0. See the module's text.

    Raises:
      ValueError: B is none of `BALANCED`.
    """
    if folds not in BALANCED:
        raise ValueError(f"folds: {folds}; one of {', '.join(map(str, BALANCED))} is needed")
    squares = np.arange(1, folds) ** 2 % folds
    index = np.arange(folds)
    rest = (index - index[:, None]) % folds
    return 1.0 - np.isin(rest, [0, *squares])


class HeldOut(NamedTuple):
    """What a test split says of encoders and heads that were found on a training split.

    Attributes:
      second_moment: (D, D) E[x xᵀ] on the test split, about the mean of the training split and in
        its units.
      cross_moment: (D, C) E[x yᵀ], about the means of the training split.
      label_variance: tr E[y yᵀ] about the mean of the training split: the loss without inputs.
      folds: (B, D, C) E[x yᵀ] of each fold of the test split, about the means of the test split.
    """

    second_moment: Array
    cross_moment: Array
    label_variance: Array
    folds: Array


def held_out(folds: Iterable[Moments], training: Moments) -> HeldOut:
    """The test split's moments as the training split's solutions meet them.

    Args:
      folds: of the test split, from `each_fold`; one is in memory at a time.
      training: centered moments of the training split, `standardized` or not.

    Raises:
      ValueError: no folds, other numbers of features or targets, or uncentered moments.
    """
    whole, parts = None, []
    for fold in folds:
        whole = fold if whole is None else merge(whole, fold)
        parts.append((fold.cross_moment, fold.mean_x, fold.mean_y))
    if whole is None:
        raise ValueError("folds: none; at least 1 is needed")
    if not (whole.centered and training.centered):
        raise ValueError("held_out: uncentered moments; both splits must be centered")
    for name, found, wanted in (
        ("features", whole.features, training.features),
        ("targets", whole.targets, training.targets),
    ):
        if found != wanted:
            raise ValueError(f"folds: {found} {name}; the training split has {wanted}")
    cross, mean_x, mean_y = (jnp.stack(part) for part in zip(*parts, strict=True))
    return _held_out(whole, training, cross, mean_x, mean_y)


@jax.jit
def _held_out(
    whole: Moments, training: Moments, cross: Array, mean_x: Array, mean_y: Array
) -> HeldOut:
    unit = whole.scale / training.scale
    dx = (whole.mean_x - training.mean_x) / training.scale
    dy = whole.mean_y - training.mean_y
    apart = (mean_x - whole.mean_x) / training.scale, mean_y - whole.mean_y
    return HeldOut(
        second_moment=whole.second_moment * unit[:, None] * unit + jnp.outer(dx, dx),
        cross_moment=whole.cross_moment * unit[:, None] + jnp.outer(dx, dy),
        label_variance=jnp.trace(whole.label_moment) + dy @ dy,
        folds=cross * unit[:, None] + apart[0][:, :, None] * apart[1][:, None],
    )


def nested_loss(coordinates: Array, cross: Array, gram: Array, total: Array) -> Array:
    """(R,) E‖Wᵀ z − y‖² of heads W on the first K features z, for every K = 1 .. R.

    Args:
      coordinates: (R, C) whose first K rows are the head on the first K features.
      cross: (R, C) E[z yᵀ] where the loss is taken.
      gram: (R, R) E[z zᵀ] there.
      total: E‖y‖² there.
    """
    # tr(Wᵀ E[z zᵀ] W) over the leading K x K block.
    joint = (coordinates @ coordinates.T) * gram
    squares = 2 * jnp.sum(jnp.tril(joint), axis=1) - jnp.diagonal(joint)
    return total + jnp.cumsum(squares - 2 * jnp.sum(coordinates * cross, axis=1))


def held_out_curves(
    coordinates: Array, cross: Array, gram: Array, folds: Array, total: Array
) -> tuple[Array, Array]:
    """What a test split says of heads on the first K features, for every K = 1 .. R.

    Args:
      coordinates: as in `nested_loss`, like `cross` and `gram`, both of the test split.
      cross: see coordinates.
      gram: see coordinates.
      folds: (R, B, C) E[z yᵀ] of each fold; see `HeldOut`.
      total: as in `nested_loss`, the label variance of the test split.

    Returns:
      (R,) the share of it that is explained, and (R, B) the agreement of prediction and labels on
      each fold, as a share of it.
    """
    agreement = jnp.cumsum(jnp.einsum("kc,kbc->kb", coordinates, folds), axis=0)
    return 1 - nested_loss(coordinates, cross, gram, total) / total, agreement / total


@jax.jit
@highest
def held_out_explained(spectrum: Spectrum, held_out: HeldOut) -> Array:
    """(D,) 1 − loss / variance on the test split, of heads on K principal directions for every K.

    Directions and heads are the training split's, so this falls where K overfits, and may be
    negative.

    Args:
      spectrum: of the training split, with all of its directions (by the D-side).
      held_out: from `held_out`.

    Raises:
      ValueError: the spectrum keeps too few directions.
    """
    spectrum.check_kept(spectrum.eigenvalues.shape[0], "the held-out curve")
    features = spectrum.eigenvectors * inverse_root(spectrum.eigenvalues)
    gram = features.T @ held_out.second_moment @ features
    cross, total = features.T @ held_out.cross_moment, held_out.label_variance
    return 1 - nested_loss(spectrum.labels.T, cross, gram, total) / total


def search_p_values(
    agreement: ArrayLike,
    baseline: ArrayLike,
    error: ArrayLike = 0.0,
    *,
    flips: int = 1999,
    seed: int = 0,
) -> np.ndarray:
    """For every point of a grid, the p-value of "it beats no noise", given that all were tried.

    A predictor's agreement with labels, E[y · f(x)], is the explained variance of its encoder if
    the labels that fitted it are not those that judge it. The hypothesis is that of the predictors
    which the training split gave, none of the grid agrees more with the labels of new data than
    the one without noise does. Then the difference of a fold of the test split is as likely to be
    -d as d (with the labels of a task, and with random ones alike), so all 2^B signs of the folds
    are equally likely, for all points of the grid together. The statistic is the largest of the
    grid's studentized mean differences, and a point's p-value the share of signs for which it is
    at least that point's (max-T, Westfall and Young 1993): it holds for all points at once. Not
    among those that could have won by chance are points that are clearly worse than no noise, by 3
    standard errors (Hansen 2005), and those that differ from it by the numerical error alone. A
    mean difference within that error counts as none: its p is 1.

    Args:
      agreement: (J..., Kn, B) of the J... points of a grid (`Sweep.agreement` for one weight).
      baseline: (Kn, B) without noise.
      error: (J...) numerical error of a difference.
      flips: how many signs are drawn; all 2^B where that is no more. The smallest p-value is
        1 / (flips + 1).
      seed: of the signs.

    Returns:
      (J..., Kn) p-values.

    Raises:
      ValueError: fewer than 2 folds or flips < 1, shapes that do not fit.
    """
    values, base = np.asarray(agreement, float), np.asarray(baseline, float)
    if values.shape[-2:] != base.shape:
        raise ValueError(f"baseline: shape {base.shape}; {values.shape[-2:]} is needed")
    *points, dims, folds = values.shape
    if folds < 2:
        raise ValueError(f"agreement: {folds} folds; at least 2 are needed")
    if flips < 1:
        raise ValueError(f"flips: {flips}; at least 1 is needed")
    difference = np.moveaxis((values - base).reshape(-1, dims, folds), 1, 0)
    floor = np.broadcast_to(np.asarray(error, float), points).reshape(-1)
    found = _p_values(jnp.asarray(difference), jnp.asarray(floor), _signs(folds, flips, seed))
    return np.moveaxis(np.asarray(found), 0, 1).reshape(*points, dims)


def _signs(folds: int, flips: int, seed: int) -> np.ndarray:
    """(F, B) signs, those of what was observed first."""
    if 2**folds <= flips + 1:
        bits = np.arange(2**folds)[:, None] >> np.arange(folds) & 1
    else:
        bits = np.random.default_rng(seed).integers(0, 2, (flips + 1, folds))
        bits[0] = 0
    return 1.0 - 2.0 * bits


@jax.jit
@highest
def _p_values(difference: Array, floor: Array, signs: Array) -> Array:
    """(Kn, J) of differences (Kn, J, B), numerical errors (J,) and signs (F, B)."""
    folds = difference.shape[-1]

    def at_one_dim(points: Array) -> Array:
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

    return jax.lax.map(at_one_dim, difference)
