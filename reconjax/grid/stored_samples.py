"""Samples in memory, as grids on the sample side need them."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from reconjax.data.targets import as_targets
from reconjax.grid.columns import Rows
from reconjax.grid.ray import Principal, of_spectrum
from reconjax.linalg.precision import highest
from reconjax.theory.spectrum import SampleSide, Spectrum


class NewSamples(NamedTuple):
    """A test split of Nt samples.

    Attributes:
      labels: (Nt, C) y, less the mean of the training split's.
      folds: (Nt,) int32, the fold of each sample.
      cross: (N, Nt) Uᵀ A x, with the training samples in principal coordinates.
    """

    labels: Array
    folds: Array
    cross: Array


class Samples(NamedTuple):
    """Training samples, and a test split, as grids on the sample side need them.

    Attributes:
      rows: the samples as they are stored.
      spectrum: of the training samples, without principal directions.
      principal: the same as rays need it, with arrays of size N for D.
      vectors: (N, N) U; 0 past the rank.
      test: the test split, or None.
    """

    rows: Rows
    spectrum: Spectrum
    principal: Principal
    vectors: Array
    test: NewSamples | None


def samples(
    x: ArrayLike,
    y: ArrayLike,
    *,
    test: tuple[ArrayLike, ArrayLike] | None = None,
    folds: ArrayLike | None = None,
    num_classes: int | None = None,
    targets: str | None = None,
) -> Samples:
    """What `sweep_samples` needs of samples in memory: one (N, N) eigendecomposition.

    Memory: the samples as they are stored, and about five (N, N) arrays.

    Args:
      x: (N, D) vectors or (N, H, W, C) images as in `moments`; N may be more than D too.
      y: class numbers or real targets, as in `moments`.
      test: (x, y) of a test split of the same kind, or None.
      folds: (Nt,) the fold of each of its samples, 0 .. Fn - 1, for `Sweep.agreement`; one for all
        by default.
      num_classes: C for class numbers.
      targets: "classes" or "real", as in `moments`.

    Raises:
      ValueError: as `moments`; a test split of another size or type.

    Example:
      >>> x, y = np.random.default_rng(0).normal(size=(8, 4, 6, 1)), np.arange(8) % 2
      >>> data = reconjax.grid.samples(x, y)
      >>> int(data.spectrum.rank)
      7
    """
    side = SampleSide(x, y, num_classes=num_classes, targets=targets)
    spectrum = side.spectrum(directions=0)
    size, features = side.x.shape
    filling = size - spectrum.eigenvalues.shape[0]  # where N > D
    eigenvalues = jnp.pad(spectrum.eigenvalues, (0, filling))
    labels = jnp.pad(spectrum.labels, ((0, 0), (0, filling)))
    vectors = jnp.pad(side.left_vectors(), ((0, 0), (0, filling)))
    principal = of_spectrum(
        spectrum._replace(eigenvalues=eigenvalues, labels=labels),
        side.every,
        (jnp.arange(size) < min(size, features)).astype(eigenvalues.dtype),
        root=jnp.zeros((size, 0), vectors.dtype),
        inputs=eigenvalues,
    )
    mean = np.asarray(spectrum.mean)
    if test is None:
        empty = np.zeros((0, features), side.x.dtype)
        return Samples(Rows(side.x, empty, mean), spectrum, principal, vectors, None)
    new = np.asarray(test[0])
    new = new.reshape(len(new), -1)
    if new.shape[1] != features or new.dtype != side.x.dtype:
        raise ValueError(
            f"test: {new.shape[1]} features of {new.dtype};"
            f" the training samples have {features} of {side.x.dtype}"
        )
    classes = spectrum.mean_y.shape[0]
    given = as_targets(jnp.asarray(test[1]), num_classes=num_classes, targets=targets)
    if given.ndim == 1:
        given = jax.nn.one_hot(given.astype(jnp.int32), classes, dtype=mean.dtype)
    if given.shape != (len(new), classes):
        raise ValueError(f"test: targets {given.shape}; {(len(new), classes)} is needed")
    fold = np.zeros(len(new), np.int32) if folds is None else np.asarray(folds, np.int32)
    rows = Rows(side.x, new, mean)
    with highest:
        cross = vectors.T @ rows.products()
    split = NewSamples(given.astype(mean.dtype) - spectrum.mean_y, jnp.asarray(fold), cross)
    return Samples(rows, spectrum, principal, vectors, split)


def samples_memory(size: int, features: int, batch_size: int = 1, itemsize: int = 1) -> int:
    """Bytes that `samples` and `sweep_samples` hold at their peak, the stored samples included.

    Args:
      size: N.
      features: D.
      batch_size: as in `sweep_samples`.
      itemsize: bytes of a stored value.

    Example:
      >>> from reconjax.grid.stored_samples import samples_memory
      >>> samples_memory(4000, 150528) / 2**30 < 3
      True
    """
    return 8 * size**2 * (8 + 11 * batch_size) + size * features * itemsize


def samples_that_fit(there: int, features: int, batch_size: int = 1, itemsize: int = 4) -> int:
    """The largest N whose `samples_memory` is at most `there` bytes.

    Args:
      there: bytes.
      features: D.
      batch_size: as in `samples_memory`.
      itemsize: as in `samples_memory`.

    Example:
      >>> from reconjax.grid.stored_samples import samples_memory, samples_that_fit
      >>> most = samples_that_fit(2**30, 3072)
      >>> [samples_memory(n, 3072, itemsize=4) <= 2**30 for n in (most, most + 1)]
      [True, False]
    """
    matrices, row = 8 * (8 + 11 * batch_size), features * itemsize
    most = int(((row**2 + 4 * matrices * there) ** 0.5 - row) / (2 * matrices))
    while samples_memory(most + 1, features, batch_size, itemsize) <= there:
        most += 1
    while most and samples_memory(most, features, batch_size, itemsize) > there:
        most -= 1
    return most
