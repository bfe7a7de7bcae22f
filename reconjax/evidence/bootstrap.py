"""How sure a curve is: standard errors, the held-out curve, and whether a mask really helps.

Standard errors come from a balanced half-sample bootstrap over Fn class-stratified folds: as many
curves, each of half of the folds, in place of draws with replacement. Their moments are sums of
those that the folds keep: nothing is read again, and directions and heads are computed anew each
time. Why halves:

- They are balanced (McCarthy 1969): every fold is in as many halves as any other, and so is every
  pair of folds. For a curve that is linear in the moments the standard error is exactly the
  textbook one, with no randomness of draws.
- A draw with replacement repeats samples, and what a curve gains by overfitting - about K / N -
  doubles in it, so that its percentiles lie above the curve. Halves have twice as much of it too,
  but that shift is the bias itself: `corrected` takes it off.
- Leaving out one fold at a time (jackknife) magnifies every change by Fn - 1. Where the K-th and
  the next eigenvalue nearly tie, a curve jumps, and bias and error come out far too large.

What is estimated is the population's curve: that which infinitely many samples with these
proportions of classes would give. The training data's own curve lies above it. Intervals are least
sure where K cuts eigenvalues that nearly tie, and for alignment within a few percent of 1.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from reconjax.summary.folds import combined
from reconjax.summary.moments import Moments

# The numbers of folds for which there are balanced halves by the squares modulo Fn (Paley 1933).
BALANCED = (7, 11, 19, 23, 31, 43, 47, 59, 67, 71, 79, 83)


class Bootstrap(NamedTuple):
    """An array that was computed from all folds, and from Fn halves of them.

    Differences are of the same kind: `Bootstrap(a.value - b.value, a.halves - b.halves)` knows that
    a and b were computed from the same samples.

    Attributes:
      value: (...) from all folds.
      halves: (Fn, ...) from (Fn - 1) / 2 of the Fn folds.
    """

    value: Array
    halves: Array

    @property
    def folds(self) -> int:
        """Fn."""
        return self.halves.shape[0]

    @property
    def corrected(self) -> Array:
        """(...) the value without its bias of first order in 1 / N, such as overfitting."""
        shift = jnp.mean(self.halves, axis=0) - self.value
        # A bias of c / N is c (Fn + 1) / (Fn - 1) / N more in a half.
        return self.value - shift * ((self.folds - 1) / (self.folds + 1))

    @property
    def standard_error(self) -> Array:
        """(...) of `value` and of `corrected`."""
        spread = jnp.var(self.halves, axis=0)
        # Of a mean, this is Σ (fold - mean)² / (Fn (Fn - 1)).
        return jnp.sqrt(spread * ((self.folds - 1) / (self.folds + 1)))

    def interval(self, level: float = 0.9) -> tuple[Array, Array]:
        """(...), (...) ends of the confidence interval, by Student's t with Fn - 1 degrees.

        Raises:
          ValueError: a level that is not in (0, 1).
        """
        reach = interval_reach(self.folds, level) * self.standard_error
        return self.corrected - reach, self.corrected + reach


def interval_reach(folds: int, level: float = 0.9) -> float:
    """How many standard errors over Fn folds an interval reaches: Student's t, Fn - 1 degrees.

    Raises:
      ValueError: a level that is not in (0, 1).

    Example:
      >>> round(reconjax.evidence.interval_reach(19), 3)
      1.734
    """
    from scipy.special import stdtrit

    if not 0 < level < 1:
        raise ValueError(f"level: {level}; it must be in (0, 1)")
    return float(stdtrit(folds - 1, (1 + level) / 2))


def bootstrap(folds: Moments, curve: Callable[[Moments], Any]) -> Any:
    """What `curve` gives from all folds, and from halves of them.

    A half should have more samples than features, else it can fit any labels.

    Args:
      folds: from `fold_moments`; their number Fn is one of `BALANCED`.
      curve: makes an array, or a tree of arrays, of moments; called Fn + 1 times. For instance
        `lambda moments: reconjax.sweep(moments, grid).r2`.

    Returns:
      A tree like that of `curve`, with a `Bootstrap` in place of each array.

    Raises:
      ValueError: Fn is none of `BALANCED`.

    Example:
      >>> x, y = np.random.default_rng(0).normal(size=(50, 6)), np.arange(50) % 2
      >>> split = reconjax.data.Dataset.from_arrays(x, y).train
      >>> folds = reconjax.fold_moments(split, 7, num_classes=2)
      >>> curve = lambda moments: reconjax.alignment(reconjax.spectrum(moments)).r2
      >>> r2 = reconjax.bootstrap(folds, curve)
      >>> r2.corrected.shape, r2.standard_error.shape, r2.halves.shape
      ((6,), (6,), (7, 6))
    """
    weights = balanced_halves(folds.samples.shape[0])
    value = curve(combined(folds))
    halves = [curve(combined(folds, row)) for row in weights]
    return jax.tree.map(lambda whole, *parts: Bootstrap(whole, jnp.stack(parts)), value, *halves)


def balanced_halves(folds: int) -> np.ndarray:
    """(Fn, Fn) a row a half: 1 where it has the fold, else 0. See the module's text.

    Raises:
      ValueError: Fn is none of `BALANCED`.
    """
    if folds not in BALANCED:
        raise ValueError(f"folds: {folds}; one of {', '.join(map(str, BALANCED))} is needed")
    squares = np.arange(1, folds) ** 2 % folds
    index = np.arange(folds)
    rest = (index - index[:, None]) % folds
    return 1.0 - np.isin(rest, [0, *squares])
