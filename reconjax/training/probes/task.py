"""What all probes share: the task that they are given, and how well they do on it."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from reconjax.data import Dataset, Split

ROWS = 4096  # samples in one step


class Scores(NamedTuple):
    """How well a probe does on one split, at each of its L settings.

    Attributes:
      accuracy: (L,) share of the samples whose largest score is that of their class.
      standard_error: (L,) of the accuracy, √(a (1 − a) / n).
      r2: (L,) 1 − E‖y − ŷ‖² / E‖y − ȳ‖² of one-hot labels y, ȳ being the mean of the
        training labels; for probabilities ŷ the Brier skill score.
      samples: n.
    """

    accuracy: np.ndarray
    standard_error: np.ndarray
    r2: np.ndarray
    samples: int

    @classmethod
    def of(
        cls, correct: ArrayLike, squared_error: ArrayLike, total: float, samples: int
    ) -> "Scores":
        """From sums over the samples: correct (L,), ‖y − ŷ‖² (L,) and ‖y − ȳ‖²."""
        accuracy = np.asarray(correct, np.float64) / samples
        error = np.sqrt(accuracy * (1 - accuracy) / samples)
        return cls(accuracy, error, 1 - np.asarray(squared_error, np.float64) / total, samples)

    @classmethod
    def joined(cls, each: Sequence["Scores"]) -> "Scores":
        """Of single settings on the same samples."""
        return cls(
            accuracy=np.concatenate([scores.accuracy for scores in each]),
            standard_error=np.concatenate([scores.standard_error for scores in each]),
            r2=np.concatenate([scores.r2 for scores in each]),
            samples=each[0].samples,
        )

    def best(self) -> int:
        """Index of the highest accuracy; among equals, of the highest r2."""
        return int(np.lexsort((self.r2, self.accuracy))[-1])


class Linear(NamedTuple):
    """A linear head in units of the raw features: scores = x @ kernel + bias.

    Attributes:
      kernel: (F, C).
      bias: (C,).
    """

    kernel: np.ndarray
    bias: np.ndarray


@dataclasses.dataclass(frozen=True)
class Probe:
    """Scores of a probe at each of its L settings, and which it chose without the test split.

    Attributes:
      setting: what is varied, e.g. "ridge weight".
      values: (L,) its values.
      chosen: index of the one chosen by `validation`.
      validation: on samples that were not fitted: see the function that made the probe.
      train: on the training samples; None where that says nothing.
      test: None where there is no test split.
      linear: the head of the chosen setting, where it is linear.
    """

    setting: str
    values: np.ndarray
    chosen: int
    validation: Scores | None
    train: Scores | None
    test: Scores | None
    linear: Linear | None = None

    @property
    def chosen_by_r2(self) -> int:
        """Index of the setting whose `validation` has the largest r2.

        Raises:
          ValueError: there is no `validation`.
        """
        if self.validation is None:
            raise ValueError("validation: None; nothing tells the settings apart")
        return int(np.argmax(self.validation.r2))


class Task(NamedTuple):
    """Features and labels that have passed the door.

    Attributes:
      x: (N, F) floats.
      y: (N,) int32.
      x_test: (n, F) or None.
      y_test: (n,) or None.
      classes: C.
    """

    x: np.ndarray
    y: np.ndarray
    x_test: np.ndarray | None
    y_test: np.ndarray | None
    classes: int

    def one_hot_mean(self) -> np.ndarray:
        """(C,) ȳ, the shares of the classes in the training split."""
        return np.bincount(self.y, minlength=self.classes) / len(self.y)

    def spread(self, labels: np.ndarray) -> float:
        """Sum of ‖y − ȳ‖² over samples with these labels (n,)."""
        mean = self.one_hot_mean()
        return float(np.sum(1 - 2 * mean[labels] + mean @ mean))


def task(
    x_train: ArrayLike,
    y_train: ArrayLike,
    x_test: ArrayLike | None = None,
    y_test: ArrayLike | None = None,
    num_classes: int | None = None,
) -> Task:
    """Checks what a probe is given.

    Raises:
      ValueError: as `Dataset.from_arrays`, features that do not vary, or labels out of range.
    """
    data = Dataset.from_arrays(
        x_train, y_train, x_test, y_test, channels_first=False, targets="classes"
    )
    if num_classes is not None and num_classes < data.num_classes:
        raise ValueError(f"num_classes: {num_classes}; the labels need {data.num_classes}")
    x, y = _arrays(data.train)
    if (x == x[:1]).all():
        raise ValueError("x_train: constant; the features do not vary")
    test, y_of_test = (None, None) if data.test is None else _arrays(data.test)
    return Task(x, y, test, y_of_test, num_classes or data.num_classes)


class Standard(NamedTuple):
    """Standardized features: (x − mean) / scale, and 0 for those that are constant.

    Attributes:
      mean: (F,) float64.
      scale: (F,) float64, the standard deviation; infinite for constant features.
    """

    mean: np.ndarray
    scale: np.ndarray

    @classmethod
    def of(cls, x: np.ndarray) -> "Standard":
        """From training features (N, F)."""
        mean = x.mean(axis=0, dtype=np.float64)
        std = np.sqrt(
            sum(np.sum((x[part] - mean) ** 2, axis=0) for part in blocks(len(x))) / len(x)
        )
        # A constant feature has the deviation 0 up to rounding of its mean.
        varies = std > 8 * np.finfo(np.float64).eps * np.abs(mean)
        return cls(mean, np.where(varies, std, np.inf))

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """(n, F) of features (n, F), in JAX's default float."""
        return ((x - self.mean) / self.scale).astype(jnp.result_type(float))


def held_out_part(y: np.ndarray, share: float, seed: int = 0) -> np.ndarray:
    """Indices, ascending, of a random part of labels y (N,) with the same share of every class.

    Each class gives `share` of its samples, rounded, at least one if it has two, and never all.

    Raises:
      ValueError: a share outside (0, 1), or no class with two samples.
    """
    if not 0 < share < 1:
        raise ValueError(f"held_out: {share}; it must be in (0, 1)")
    random = np.random.default_rng(seed)
    part = []
    for label in np.unique(y):
        members = np.flatnonzero(y == label)
        count = min(max(1, round(share * len(members))), len(members) - 1)
        part.append(random.permutation(members)[:count])
    held_out = np.sort(np.concatenate(part))
    if not len(held_out):
        raise ValueError("y_train: no class has two samples; nothing can be held out")
    return held_out


def positive(name: str, values: ArrayLike | Sequence[float]) -> np.ndarray:
    """(L,) float64 values that are finite and > 0.

    Raises:
      ValueError: others, or none.
    """
    checked = np.atleast_1d(np.asarray(values, np.float64))
    if checked.ndim != 1 or checked.size == 0 or not np.all((checked > 0) & np.isfinite(checked)):
        raise ValueError(f"{name}: {values}; finite numbers > 0 are needed")
    return checked


def _arrays(split: Split) -> tuple[np.ndarray, np.ndarray]:
    x, y = split.examples(np.arange(len(split)))
    x = x.reshape(len(x), -1)
    return (x if x.dtype.kind == "f" else x.astype(np.float32)), y.astype(np.int32)


def blocks(samples: int) -> list[slice]:
    """Of at most `ROWS` samples each."""
    return [slice(begin, begin + ROWS) for begin in range(0, samples, ROWS)]
