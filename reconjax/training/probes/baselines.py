"""What features are compared with: the largest class, principal components, closed forms."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from reconjax.data import Dataset, Split
from reconjax.data.units import as_floats
from reconjax.linalg.precision import highest
from reconjax.noise import Noise
from reconjax.summary.streaming import moments_from_batches
from reconjax.theory import targets
from reconjax.theory.solver import check_latent_dim, problem, solve
from reconjax.theory.spectrum import spectrum, spectrum_from_samples
from reconjax.training.probes.task import Probe, Scores, task


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

    Example:
      >>> probe = reconjax.training.probes.majority([0, 1, 1, 1])
      >>> probe.train.accuracy.tolist()
      [0.75]
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

    Example:
      >>> digits = reconjax.data.load("digits")
      >>> reconjax.training.probes.pca_features(digits, 8).features
      8
    """
    limit = min(len(dataset.train), dataset.features)
    if not 1 <= latent_dim <= limit:
        raise ValueError(f"latent_dim: {latent_dim}; 1 .. {limit} is allowed")
    if len(dataset.train) < dataset.features:
        images, labels = dataset.train.examples(np.arange(len(dataset.train)))
        principal = spectrum_from_samples(
            images, labels, num_classes=dataset.num_classes, directions=latent_dim
        )
    else:
        batches = dataset.train.batches()
        principal = spectrum(moments_from_batches(batches, num_classes=dataset.num_classes))
    directions = principal.eigenvectors[:, : min(latent_dim, int(principal.rank))]
    return _on_directions(dataset, principal.mean, directions)


def closed_form_features(
    dataset: Dataset,
    latent_dim: int,
    noise: Noise | None = None,
    target: targets.Target | None = None,
) -> Dataset:
    """The baseline of linear networks: both splits by the encoder of Theorem 3 under a noise.

    Args:
      dataset: images or vectors.
      latent_dim: K, at most D; what is past the rank of the data is left out.
      noise: that the encoder removes; None: the encoder spans the principal directions.
      target: what is predicted, of `reconjax.theory.targets`; None: x itself.

    Returns:
      Data set of float32 vectors (N, min(K, rank)): Vᵀ x of the centered x without noise.

    Raises:
      ValueError: K out of range, or a noise that was made for another size.

    Example:
      >>> digits = reconjax.data.load("digits")
      >>> noise = reconjax.noise.gaussian(0.5)
      >>> reconjax.training.probes.closed_form_features(digits, 8, noise).features
      8
    """
    check_latent_dim(latent_dim, dataset.features)
    moments = moments_from_batches(dataset.train.batches(), num_classes=dataset.num_classes)
    solution = solve(problem(moments, noise, target))
    encoder = solution.encoder[:, : min(latent_dim, int(solution.rank))]
    return _on_directions(dataset, moments.mean_x, encoder)


def _on_directions(dataset: Dataset, mean: Array, directions: Array) -> Dataset:
    """Both splits, centered by the mean (D,), on directions (D, K)."""

    def on_them(split: Split) -> tuple[np.ndarray, np.ndarray]:
        parts = [np.asarray(_projected(mean, directions, x)) for x, _ in split.batches(1024)]
        return np.concatenate(parts), split.labels

    test: tuple[Any, Any] = (None, None) if dataset.test is None else on_them(dataset.test)
    names = dataset.class_names or None
    return Dataset.from_arrays(*on_them(dataset.train), *test, names, dataset.name)


@jax.jit
@highest
def _projected(mean: Array, directions: Array, x: Array) -> Array:
    flat = as_floats(x.reshape(x.shape[0], -1), mean.dtype)
    return ((flat - mean) @ directions).astype(jnp.float32)
