"""The places of families in a comparison: their gains over no noise, and how sure these are."""

from typing import NamedTuple

import numpy as np

from reconjax.evidence.comparison import Comparison
from reconjax.evidence.p_values import by_folds, search_p_values


class Gains(NamedTuple):
    """The gain of J points over no noise at Kn latent dimensions, in `held_out`.

    Attributes:
      gain: (J, Kn).
      standard_error: (J, Kn) over the folds of the test split.
      p_value: (J, Kn), given that all J points were tried; see `search_p_values`.
    """

    gain: np.ndarray
    standard_error: np.ndarray
    p_value: np.ndarray


class Place(NamedTuple):
    """A family's place in the ranking at one K.

    Attributes:
      latent_dim: K.
      family: its name.
      noise: the strength that explains most on the training split.
      r2: 1 − loss / label variance there, on the training split.
      held_out: 1 − loss / label variance on the test split.
      gain: of `held_out` over that without noise.
      standard_error: of the gain, over the folds of the test split and for this training split.
      p_value: of a gain, for all points that were tried; see `search_p_values`.
    """

    latent_dim: int
    family: str
    noise: str
    r2: float
    held_out: float
    gain: float
    standard_error: float
    p_value: float


def gains(comparison: Comparison, *, flips: int = 1999, seed: int = 0) -> Gains:
    """What every point gains in `held_out` over no noise.

    Args:
      comparison: from `compare`.
      flips: as in `search_p_values`.
      seed: as in `search_p_values`.

    Example:
      >>> from reconjax.noise.families import families
      >>> random = np.random.default_rng(0)
      >>> x, y = random.normal(size=(60, 2, 2, 1)), np.arange(60) % 2
      >>> parts = [reconjax.moments(x[i::3], y[i::3]) for i in range(3)]
      >>> moments, test = parts[0], reconjax.held_out(parts[1:], parts[0])
      >>> tried = families((2, 2, 1), moments, ["gaussian"])
      >>> comparison = reconjax.compare(moments, test, tried, [1, 2])
      >>> gains = reconjax.evidence.gains(comparison)
      >>> gains.gain.shape == gains.p_value.shape == comparison.r2.shape
      True
    """
    folds = by_folds(comparison.held_out, comparison.agreement)
    without = by_folds(comparison.held_out_without, comparison.agreement_without)
    p_value = search_p_values(folds, without, comparison.error, flips=flips, seed=seed)
    return Gains(*mean_and_error(folds - without), p_value)


def best_strengths(comparison: Comparison) -> np.ndarray:
    """(F, Kn) the point of each of the F families that explains most on the training split.

    Families are in the order in which they come first. Of numerical ties, it is the weakest.

    Example:
      >>> from reconjax.noise.families import families
      >>> random = np.random.default_rng(0)
      >>> x, y = random.normal(size=(60, 2, 2, 1)), np.arange(60) % 2
      >>> parts = [reconjax.moments(x[i::3], y[i::3]) for i in range(3)]
      >>> moments, test = parts[0], reconjax.held_out(parts[1:], parts[0])
      >>> tried = families((2, 2, 1), moments, ["gaussian"])
      >>> comparison = reconjax.compare(moments, test, tried, [1, 2])
      >>> reconjax.evidence.best_strengths(comparison).shape
      (1, 2)
    """
    names = np.asarray(comparison.family)
    rows = []
    for family in dict.fromkeys(comparison.family):
        members = np.flatnonzero(names == family)
        r2 = comparison.r2[members]
        tied = r2 >= r2.max(axis=0) - 2 * comparison.error[members].max(axis=0)
        rows.append(members[np.argmax(tied, axis=0)])
    return np.stack(rows)


def ranking(comparison: Comparison, *, flips: int = 1999, seed: int = 0) -> list[Place]:
    """Every family at every K, for each K the one with the largest held-out gain first.

    Args:
      comparison: from `compare`.
      flips: as in `search_p_values`.
      seed: as in `search_p_values`.

    Example:
      >>> from reconjax.noise.families import families
      >>> random = np.random.default_rng(0)
      >>> x, y = random.normal(size=(60, 2, 2, 1)), np.arange(60) % 2
      >>> parts = [reconjax.moments(x[i::3], y[i::3]) for i in range(3)]
      >>> moments, test = parts[0], reconjax.held_out(parts[1:], parts[0])
      >>> tried = families((2, 2, 1), moments, ["gaussian"])
      >>> comparison = reconjax.compare(moments, test, tried, [1, 2])
      >>> [place.latent_dim for place in reconjax.evidence.ranking(comparison)]
      [1, 2]
    """
    gain, error, p_value = gains(comparison, flips=flips, seed=seed)
    best = best_strengths(comparison)
    places = []
    for column, latent_dim in enumerate(comparison.latent_dim.tolist()):
        row = [
            Place(
                latent_dim,
                comparison.family[point],
                comparison.noise[point],
                float(comparison.r2[point, column]),
                float(comparison.held_out[point, column]),
                float(gain[point, column]),
                float(error[point, column]),
                float(p_value[point, column]),
            )
            for point in best[:, column].tolist()
        ]
        places += sorted(row, key=lambda place: -place.gain)
    return places


def mean_and_error(folds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(...) mean over the last axis and its standard error."""
    return folds.mean(axis=-1), folds.std(axis=-1, ddof=1) / np.sqrt(folds.shape[-1])
