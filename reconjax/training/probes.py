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

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from reconjax.data import Dataset, Split
from reconjax.data.units import as_floats
from reconjax.linalg.eigen import inverse_root
from reconjax.linalg.precision import highest
from reconjax.summary.streaming import moments_from_batches
from reconjax.theory.spectrum import Spectrum, spectrum, spectrum_from_samples

# Relative to the variance of a feature, which is 1.
RIDGE_WEIGHTS = tuple(float(weight) for weight in np.logspace(-6, 3, 28))

ROWS = 4096  # samples in one step


class Scores(NamedTuple):
    """How well a probe does on one split, at each of its L settings.

    Attributes:
      accuracy: (L,) share of the samples whose largest score is that of their class.
      standard_error: (L,) of the accuracy, √(a (1 − a) / n).
      explained: (L,) 1 − E‖y − ŷ‖² / E‖y − ȳ‖² of one-hot labels y, ȳ being the mean of the
        training labels; for probabilities ŷ the Brier skill score.
      samples: n.
    """

    accuracy: np.ndarray
    standard_error: np.ndarray
    explained: np.ndarray
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
            accuracy=np.concatenate([one.accuracy for one in each]),
            standard_error=np.concatenate([one.standard_error for one in each]),
            explained=np.concatenate([one.explained for one in each]),
            samples=each[0].samples,
        )

    def best(self) -> int:
        """Index of the highest accuracy; among equals, of the highest explained share."""
        return int(np.lexsort((self.explained, self.accuracy))[-1])


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
    """What a probe found at each of its L settings, and which one it chose without the test split.

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
            sum(np.sum((x[part] - mean) ** 2, axis=0) for part in _blocks(len(x))) / len(x)
        )
        # A constant feature has the deviation 0 up to rounding of its mean.
        varies = std > 8 * np.finfo(np.float64).eps * np.abs(mean)
        return cls(mean, np.where(varies, std, np.inf))

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """(n, F) of features (n, F), in JAX's default float."""
        return ((x - self.mean) / self.scale).astype(jnp.result_type(float))


def principal(z: np.ndarray, y: np.ndarray, classes: int) -> Spectrum:
    """Spectrum of standardized features z (N, F) with labels (N,), by the smaller problem."""
    if len(z) < z.shape[1]:
        return spectrum_from_samples(z, y, num_classes=classes)
    batches = ((z[part], y[part]) for part in _blocks(len(z)))
    return spectrum(moments_from_batches(batches, num_classes=classes))


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
    """
    given = task(x_train, y_train, x_test, y_test, num_classes)
    weights = positive("ridge_weights", ridge_weights)
    standard = Standard.of(given.x)
    z = standard(given.x)
    found = principal(z, given.y, given.classes)
    rho = jnp.asarray(weights, found.eigenvalues.dtype)
    train, validation = _scores(found, rho, z, given.y, given)
    chosen = validation.best()
    test = None
    if given.x_test is not None and given.y_test is not None:
        test, _ = _scores(found, rho, standard(given.x_test), given.y_test, given)
    d = np.asarray(found.eigenvalues, np.float64)
    shrunk = np.asarray(found.labels, np.float64) * np.sqrt(d) / (d + weights[chosen])
    kernel = np.asarray(found.eigenvectors, np.float64) @ shrunk.T / standard.scale[:, None]
    bias = given.one_hot_mean() - standard.mean @ kernel
    return Probe(
        "ridge weight", weights, chosen, validation, train, test, linear=Linear(kernel, bias)
    )


def majority(
    y_train: ArrayLike, y_test: ArrayLike | None = None, *, num_classes: int | None = None
) -> Probe:
    """The baseline without features: always the largest training class, its scores the shares ȳ.

    Args:
      y_train: (N,) labels, two classes at least.
      y_test: (n,) or None.
      num_classes: C; by default the largest label plus one.

    Returns:
      `Probe` with one setting: the class.

    Raises:
      ValueError: as `task`.
    """

    def stand_in(y: ArrayLike | None) -> np.ndarray | None:
        return None if y is None else np.arange(np.size(y), dtype=np.float64)[:, None]

    given = task(stand_in(y_train), y_train, stand_in(y_test), y_test, num_classes)  # type: ignore[arg-type]
    largest = np.argmax(given.one_hot_mean())

    def scores(y: np.ndarray) -> Scores:
        total = given.spread(y)
        return Scores.of(np.array([np.sum(y == largest)]), np.array([total]), total, len(y))

    test = None if given.y_test is None else scores(given.y_test)
    return Probe("class", np.array([largest]), 0, None, scores(given.y), test)


def pca_features(dataset: Dataset, latent_dim: int) -> Dataset:
    """The baseline of raw inputs: both splits on the top principal directions of the training one.

    Args:
      dataset: images or vectors.
      latent_dim: K, at most min(N, D); what is past the rank of the data is left out.

    Returns:
      Data set of float32 vectors (N, min(K, rank)).

    Raises:
      ValueError: K out of range.
    """
    limit = min(len(dataset.train), dataset.features)
    if not 1 <= latent_dim <= limit:
        raise ValueError(f"latent_dim: {latent_dim}; 1 .. {limit} is allowed")
    if len(dataset.train) < dataset.features:
        images, labels = dataset.train.examples(np.arange(len(dataset.train)))
        found = spectrum_from_samples(
            images, labels, num_classes=dataset.num_classes, directions=latent_dim
        )
    else:
        batches = dataset.train.batches()
        found = spectrum(moments_from_batches(batches, num_classes=dataset.num_classes))
    directions = found.eigenvectors[:, : min(latent_dim, int(found.rank))]

    def on_them(split: Split) -> tuple[np.ndarray, np.ndarray]:
        made = [np.asarray(_projected(found.mean, directions, x)) for x, _ in split.batches(1024)]
        return np.concatenate(made), split.labels

    test: tuple[Any, Any] = (None, None) if dataset.test is None else on_them(dataset.test)
    names = dataset.class_names or None
    return Dataset.from_arrays(*on_them(dataset.train), *test, names, dataset.name)


def positive(name: str, values: ArrayLike | Sequence[float]) -> np.ndarray:
    """(L,) float64 values that are finite and > 0.

    Raises:
      ValueError: others, or none.
    """
    found = np.atleast_1d(np.asarray(values, np.float64))
    if found.ndim != 1 or found.size == 0 or not np.all((found > 0) & np.isfinite(found)):
        raise ValueError(f"{name}: {values}; finite numbers > 0 are needed")
    return found


def _scores(
    found: Spectrum, rho: Array, z: np.ndarray, y: np.ndarray, given: Task
) -> tuple[Scores, Scores]:
    """On samples z (n, F), and by leave-one-out, which is meant for the training samples alone."""
    sums = np.zeros((4, len(rho)))
    rows = min(ROWS, len(z))
    for part in _blocks(len(z)):
        missing = rows - len(z[part])
        batch = np.pad(z[part], ((0, missing), (0, 0)))
        # A label that is no class: such a row counts nowhere.
        labels = np.pad(y[part], (0, missing), constant_values=-1)
        sums += np.asarray(_sums(found, rho, batch, labels), np.float64)
    total = given.spread(y)
    return (
        Scores.of(sums[0], sums[1], total, len(y)),
        Scores.of(sums[2], sums[3], total, len(y)),
    )


@jax.jit
@highest
def _sums(found: Spectrum, rho: Array, z: Array, y: Array) -> Array:
    """(4, L): correct, squared error, and both by leave-one-out, of a batch z (B, F), y (B,)."""
    d, samples = found.eigenvalues, found.samples
    u = (z - found.mean) @ (found.eigenvectors * inverse_root(d)) / jnp.sqrt(samples)
    one_hot = jax.nn.one_hot(y, found.labels.shape[0], dtype=z.dtype)
    # What no ridge weight can fit. Written as residuals, nothing below cancels where h is near 1.
    outside = one_hot - found.mean_y - jnp.sqrt(samples) * u @ found.labels.T
    free = jnp.maximum(1 - 1 / samples - jnp.sum(u**2, axis=1), 0.0)
    counted = y >= 0

    def at(weight: Array) -> Array:
        shrunk = u * (weight / (d + weight))
        residual = outside + jnp.sqrt(samples) * shrunk @ found.labels.T
        rest = free + jnp.sum(shrunk * u, axis=1)  # 1 − h
        without = residual / jnp.maximum(rest, jnp.finfo(z.dtype).tiny)[:, None]

        def sums(residual: Array) -> tuple[Array, Array]:
            right = (jnp.argmax(one_hot - residual, axis=1).astype(y.dtype) == y) & counted
            squared = jnp.where(counted, jnp.sum(residual**2, axis=1), 0.0)
            return jnp.sum(right, dtype=z.dtype), jnp.sum(squared)

        return jnp.stack([*sums(residual), *sums(without)])

    return jax.lax.map(at, rho).T


@jax.jit
@highest
def _projected(mean: Array, directions: Array, x: Array) -> Array:
    flat = as_floats(x.reshape(x.shape[0], -1), mean.dtype)
    return ((flat - mean) @ directions).astype(jnp.float32)


def _arrays(split: Split) -> tuple[np.ndarray, np.ndarray]:
    x, y = split.examples(np.arange(len(split)))
    x = x.reshape(len(x), -1)
    return (x if x.dtype.kind == "f" else x.astype(np.float32)), y.astype(np.int32)


def _blocks(samples: int) -> list[slice]:
    return [slice(begin, begin + ROWS) for begin in range(0, samples, ROWS)]
