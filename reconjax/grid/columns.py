"""The sample side of a direction of noise: E = A B⁺ Aᵀ (N, N), added up over groups of columns.

With X centered (N, D) and A = X / √N, a mask's B is AᵀA inside each of its groups of features and 0
between them. So E is the sum over groups of the orthogonal projectors onto the span of that group's
(N, P) columns, and a new sample x meets the N samples as g(x) = A B⁺ x, summed up likewise. Nothing
of size D but the samples themselves is there, and of these only a chunk of columns is a float.

The columns of a group are orthonormalized by their Gram matrix and its Cholesky factor, twice: the
second time makes up for the squaring of the first. Where they are nearly dependent it is done by
their singular vectors instead, without squaring, up to a cut-off. What depends on that, or on
rounding, shows when it is done again with another cut-off and other rounding.
"""

import functools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from reconjax.data.units import as_floats
from reconjax.linalg.eigen import inverse_root
from reconjax.linalg.precision import highest
from reconjax.linalg.products import gram
from reconjax.linalg.whitening import OTHER_CUT
from reconjax.noise import Noise
from reconjax.noise.rays import (
    Direction,
    FeatureVariance,
    FilledGroup,
    Independent,
    Isotropic,
    SameGroup,
)
from reconjax.theory.targets import Target

CHUNK_BYTES = 2**26  # of the floats of a chunk of columns
TARGET_BYTES = 2**28  # of those of a block of targets
NO_FORM = (
    "has no form by samples; masks of patches and pixels, speckle, salt and pepper of values, and"
    " Gaussian noise have (or a smaller --resize)"
)


class Sums(NamedTuple):
    """What the columns add up to.

    Attributes:
      inner: (N, N) E.
      change: (N, N) what E changes by when it is made again; None where no group is doubtful.
      cross: (N, Nt) g(x) of the new samples.
      magnified: how much orthonormalizing may have magnified rounding, at most.
    """

    inner: Array
    change: Array | None
    cross: Array
    magnified: float


class Alone(NamedTuple):
    """A direction with a diagonal B: every feature has noise of its own.

    Attributes:
      variance: (D,) of the noise.
      with_data: whether that of the data comes on top.
    """

    variance: np.ndarray
    with_data: bool

    def trace(self, variance: Array) -> Array:
        """tr B, given tr M."""
        noise = jnp.asarray(np.sum(self.variance), variance.dtype)
        return variance + noise if self.with_data else noise


def alone(direction: Direction, features: int) -> Alone | None:
    """A direction with a diagonal B; None for one that is made of groups of features.

    Raises:
      ValueError: a direction that is neither.
    """
    if isinstance(direction, SameGroup):
        return None
    if isinstance(direction, Isotropic):
        return Alone(np.ones(features), with_data=False)
    if isinstance(direction, Independent):
        return Alone(np.asarray(direction.variance), with_data=False)
    if isinstance(direction, FeatureVariance):
        return Alone(np.zeros(features), with_data=True)
    if isinstance(direction, FilledGroup):
        if len(np.unique(np.asarray(direction.groups))) < features:
            raise ValueError(
                "noises: masks that fill patches, as salt and pepper, have no form by samples;"
                " those of single values have (or a smaller --resize)"
            )
        return Alone(np.sum(np.asarray(direction.fills) ** 2, axis=1), with_data=True)
    raise ValueError(f"noises: {type(direction).__name__} {NO_FORM}")


def check_form(noise: Noise, features: int) -> None:
    """Raises ValueError unless a noise of so many features has a form by samples."""
    point = noise.ray()
    if point is None:
        raise ValueError(f"noises: {type(noise).__name__} {NO_FORM}")
    for leaf in jax.tree.leaves(point.direction):
        if leaf.shape[0] != features:
            raise ValueError(f"noises: made for {leaf.shape[0]} features; {features} are there")
    alone(point.direction, features)


class Rows(NamedTuple):
    """Samples (N, D) and new ones (Nt, D) as they are stored, and their common mean (D,)."""

    train: np.ndarray
    test: np.ndarray
    mean: np.ndarray

    def columns(self, index: np.ndarray) -> tuple[Array, Array]:
        """Centered floats (G, P, N) / √N and (G, P, Nt) of columns (G, P); 0 for index -1."""
        picked = [np.take(part, np.maximum(index, 0).reshape(-1), 1) for part in self[:2]]
        mean = np.where(index >= 0, self.mean[index], 0.0)
        there = jnp.asarray(index >= 0)
        return _centered(*map(jnp.asarray, picked), jnp.asarray(mean), there)

    def products(self) -> Array:
        """(N, Nt) A x of the new samples."""
        samples, features = self.train.shape
        dtype = self.mean.dtype
        total = jnp.zeros((samples, len(self.test)), dtype)
        step = max(CHUNK_BYTES // (dtype.itemsize * (samples + len(self.test))), 1)
        for start in range(0, features, step):
            index = np.arange(start, min(start + step, features))[:, None]
            total = _add_products(total, *self.columns(index))
        return total

    def examples(self, start: int, stop: int) -> Array:
        """(stop - start, D) centered floats of training samples."""
        return as_floats(jnp.asarray(self.train[start:stop]), self.mean.dtype) - self.mean


def column_chunks(rows: Rows, groups: np.ndarray) -> Iterator[tuple[np.ndarray, Array, Array]]:
    """The columns group by group, as many groups at a time as a chunk holds.

    Args:
      rows: the samples.
      groups: (D,) the group of each column.

    Yields:
      Indices (G, P), -1 where a chunk is filled up, and what `Rows.columns` gives for them.
    """
    count, itemsize = len(rows.train) + len(rows.test), rows.mean.dtype.itemsize
    for index in column_groups(groups):
        step = max(CHUNK_BYTES // (itemsize * count * index.shape[1]), 1)
        for start in range(0, len(index), step):
            part = index[start : start + step]
            # Filled up, so that all chunks are of one size: one compilation serves them.
            filling = ((0, min(step, len(index)) - len(part)), (0, 0))
            padded = np.pad(part, filling, constant_values=-1)
            yield padded, *rows.columns(padded)


def column_groups(groups: np.ndarray) -> Iterator[np.ndarray]:
    """(G, P) columns of the groups (D,) of a size, for one size after the other."""
    order = np.argsort(groups, kind="stable")
    counts = np.bincount(groups)
    starts = np.cumsum(counts) - counts
    for size in np.unique(counts[counts > 0]):
        same = starts[counts == size]
        yield order[same[:, None] + np.arange(size)]


@highest
def target_products(rows: Rows, target: Target) -> Array:
    """(N, N) T Tᵀ / N of the targets T of the training samples, block by block."""
    size, features = rows.train.shape
    step = max(TARGET_BYTES // (rows.mean.dtype.itemsize * features), 1)
    starts = range(0, size, step)
    result = np.zeros((size, size), rows.mean.dtype)
    for start in starts:
        here = target.apply(rows.examples(start, start + step)) / size
        for other in starts[: start // step + 1]:
            there = here * size
            if other < start:
                there = target.apply(rows.examples(other, other + step))
            block = np.asarray(here @ there.T)
            result[start : start + step, other : other + step] = block
            result[other : other + step, start : start + step] = block.T
    return jnp.asarray(result)


def column_sums(
    rows: Rows, direction: Direction, progress: Callable[[int], None] | None = None
) -> Sums:
    """E, and g(x) of the new samples, chunk by chunk.

    Memory: (N, N + Nt) floats three times, and a few chunks.

    Args:
      rows: the samples; constant columns are left out.
      direction: B.
      progress: called with the number of columns that are done.

    Raises:
      ValueError: as `alone`.
    """
    samples, new, features = len(rows.train), len(rows.test), rows.train.shape[1]
    dtype = jnp.result_type(float)
    inner, cross = jnp.zeros((samples, samples), dtype), jnp.zeros((samples, new), dtype)
    change: Array | None = None
    magnified = 0.0
    single = alone(direction, features)
    groups = np.arange(features)
    if isinstance(direction, SameGroup):
        groups = np.asarray(direction.groups)
    for index, train, test in column_chunks(rows, groups):
        if single is not None:
            noise = jnp.asarray(single.variance[index], dtype)[..., None]
            inner, cross = _add_alone(inner, cross, train, test, noise, single.with_data)
        else:
            inner, cross, doubtful, size = _add_groups(inner, cross, train, test)
            magnified = max(magnified, float(size))
            for group in np.flatnonzero(np.asarray(doubtful)):
                mean = jnp.asarray(rows.mean[index[group]])
                inner, cross, group_change, size = _add_group(
                    inner, cross, train[group], test[group], mean
                )
                change = group_change if change is None else change + group_change
                magnified = max(magnified, float(size))
        if progress is not None:
            progress(int(np.sum(index >= 0)))
    return Sums(inner, change, cross, magnified)


@jax.jit
def _centered(train: Array, test: Array, mean: Array, there: Array) -> tuple[Array, Array]:
    dtype = mean.dtype

    def columns(part: Array) -> Array:
        floats = as_floats(part, dtype).T.reshape(*mean.shape, len(part)) - mean[..., None]
        return jnp.where(there[..., None], floats, 0.0)

    train = columns(train)
    # The mean is itself rounded: what is left of it is taken from both.
    rest = jnp.mean(train, axis=-1, keepdims=True)
    train, test = train - rest, columns(test) - rest
    # What varies by rounding alone is constant.
    deviation = jnp.sqrt(jnp.mean(train**2, axis=-1, keepdims=True))
    varies = deviation > 4 * jnp.finfo(dtype).eps * jnp.abs(mean[..., None])
    return jnp.where(varies, train, 0.0) / train.shape[-1] ** 0.5, jnp.where(varies, test, 0.0)


@functools.partial(jax.jit, donate_argnums=0)
@highest
def _add_products(cross: Array, train: Array, test: Array) -> Array:
    """g + Z Z'ᵀ (N, Nt) of columns (G, P, N) and (G, P, Nt)."""
    z = train.reshape(-1, train.shape[-1])
    return cross + z.T @ test.reshape(len(z), test.shape[-1])


@functools.partial(jax.jit, donate_argnums=(0, 1), static_argnames="with_data")
@highest
def _add_alone(
    inner: Array, cross: Array, train: Array, test: Array, variance: Array, with_data: bool
) -> tuple[Array, Array]:
    """Adds single columns whose noise has a variance (G, 1, 1), or that and their own."""
    if with_data:
        variance = variance + jnp.sum(train**2, axis=-1, keepdims=True)
    # Without noise, what is left is a constant.
    inverse = inverse_root(variance)
    return _add(inner, cross, train * inverse, test * inverse)


def _add(inner: Array, cross: Array, train: Array, test: Array) -> tuple[Array, Array]:
    """E + Z Zᵀ and g + Z Z'ᵀ of columns (G, P, N) and (G, P, Nt)."""
    return inner + gram(train.reshape(-1, train.shape[-1])), _add_products(cross, train, test)


@functools.partial(jax.jit, donate_argnums=(0, 1))
@highest
def _add_groups(
    inner: Array, cross: Array, train: Array, test: Array
) -> tuple[Array, Array, Array, Array]:
    """Adds groups (G, P, N); (G,) which are nearly dependent and were left out; `magnified`."""
    _, width, samples = train.shape
    if width >= samples:
        return _add_wide_groups(inner, cross, train, test)
    epsilon = float(jnp.finfo(train.dtype).eps)
    unit = _unit(train)
    # What is constant carries nothing; 1 keeps the Gram matrix regular there.
    constant = jnp.where(unit > 0, 0.0, 1.0) * jnp.eye(width, dtype=train.dtype)
    z, z_test = train * unit, test * unit

    def orthonormal(both: tuple[Array, Array]) -> tuple[tuple[Array, Array], Array]:
        z, z_test = both
        factor = jnp.linalg.cholesky(z @ z.mT + constant, symmetrize_input=False)
        pivots = jnp.min(jnp.diagonal(factor, axis1=-2, axis2=-1), axis=-1)
        # A NaN of one group must not reach the others.
        sound = jnp.isfinite(pivots)[:, None, None]
        factor = jnp.where(sound, factor, jnp.eye(width, dtype=train.dtype))
        solve = functools.partial(jax.scipy.linalg.solve_triangular, factor, lower=True)
        return (solve(z), solve(z_test)), pivots

    both, pivots = orthonormal((z, z_test))
    regular = jnp.isfinite(pivots) & (pivots**2 > 64 * width * epsilon)
    (z, z_test), _ = orthonormal(both)
    z, z_test = (jnp.where(regular[:, None, None], part, 0.0) for part in (z, z_test))
    magnified = epsilon * width / jnp.min(jnp.where(regular, pivots, 1.0))
    return *_add(inner, cross, z, z_test), ~regular, magnified


def _add_wide_groups(
    inner: Array, cross: Array, train: Array, test: Array
) -> tuple[Array, Array, Array, Array]:
    """Groups of at least as many columns as samples: any centered samples lie in their span."""
    samples, epsilon = train.shape[-1], float(jnp.finfo(train.dtype).eps)
    constant = jnp.full((samples, samples), 1 / samples, train.dtype)

    def add(
        sums: tuple[Array, Array], columns: tuple[Array, Array]
    ) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
        unit = _unit(columns[0])
        a, new = columns[0] * unit, columns[1] * unit
        products = gram(a)
        mean = jnp.maximum(jnp.mean(jnp.diagonal(products)), epsilon)
        factor = jnp.linalg.cholesky(products / mean + constant, symmetrize_input=False)
        pivots = jnp.min(jnp.diagonal(factor))
        regular = jnp.isfinite(pivots) & (pivots**2 > 64 * samples * epsilon)
        solved = jax.scipy.linalg.cho_solve((factor, True), a.T @ new) / mean
        eye = jnp.eye(samples, dtype=train.dtype)
        inner = sums[0] + jnp.where(regular, eye - constant, 0.0)
        cross = sums[1] + jnp.where(regular, solved, 0.0)
        return (inner, cross), (regular, jnp.where(regular, epsilon / pivots**2, 0.0))

    (inner, cross), (regular, magnified) = jax.lax.scan(add, (inner, cross), (train, test))
    return inner, cross, ~regular, jnp.max(magnified)


@functools.partial(jax.jit, donate_argnums=(0, 1))
@highest
def _add_group(
    inner: Array, cross: Array, train: Array, test: Array, mean: Array
) -> tuple[Array, Array, Array, Array]:
    """Adds one group (P, N) by its singular vectors; how E changes when that is done again."""
    epsilon = float(jnp.finfo(train.dtype).eps)
    unit = _unit(train)

    def decomposed(columns: Array, times: float) -> tuple[Array, Array, Array]:
        left, values, right = jnp.linalg.svd(columns, full_matrices=False)
        kept = values > times * max(columns.shape) * epsilon * values[0]
        inverse = jnp.where(kept, 1 / jnp.where(kept, values, 1.0), 0.0)
        return left * inverse, jnp.where(kept[:, None], right, 0.0), jnp.max(inverse) * values[0]

    inverse, z, condition = decomposed(train * unit, 1.0)
    # Centered values are off by the rounding of what they were.
    off = epsilon * jnp.hypot(mean[:, None] * unit / train.shape[-1] ** 0.5, jnp.sign(unit))
    noise = jax.random.normal(jax.random.key(0), train.shape, train.dtype) * off
    again = decomposed(train * unit + noise, OTHER_CUT)[1]
    projector = gram(z)
    return (
        inner + projector,
        cross + z.T @ (inverse.T @ (test * unit)),
        gram(again) - projector,
        epsilon * condition,
    )


def _unit(columns: Array) -> Array:
    """(..., P, 1) factors that give columns (..., P, N) length 1; 0 for constant ones."""
    return inverse_root(jnp.sum(columns**2, axis=-1, keepdims=True))
