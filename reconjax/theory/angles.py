"""Principal angles between the features with and without noise, for every K.

Coordinates are along the standardized principal components: the first K axes are the features
without noise (Π₀), the first K columns of an orthonormal U those with it (Π₁ = U_K U_Kᵀ).
"""

import functools
from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from reconjax.linalg.eigen import eigh_descending, inverse_root
from reconjax.linalg.precision import highest
from reconjax.linalg.products import gram

Tree = TypeVar("Tree")

# Smaller blocks are filled up to this size.
SMALLEST = 64


def either(condition: bool | Array, first: Callable[[], Tree], second: Callable[[], Tree]) -> Tree:
    """`first()` where the condition holds, else `second()`; one alone runs unless it is traced."""
    if isinstance(condition, jax.core.Tracer):
        return jax.lax.cond(condition, first, second)
    return first() if condition else second()


def represented(components: Array, reconstructed: Array) -> tuple[Array, Array, Array]:
    """Orthonormal coordinates of the features with noise, nested in K: Π₁ = U_K U_Kᵀ.

    Args:
      components: (D, D) H = W P d^½ of `reconjax.certificate`, 0 past the rank.
      reconstructed: (D, D) A = W F P, likewise.

    Returns:
      U (D, D), 0 in columns that add nothing to those before; σ (D,); and how many of the first K
      columns are not 0, (D,).
    """
    features, singular, orthonormal, new = _decomposed_features(components, reconstructed)
    carries = singular > 0
    orthonormal, new = either(
        jnp.all(new | ~carries), lambda: (orthonormal, new), lambda: _one_by_one(features)
    )
    kept = carries & new
    return jnp.where(kept, orthonormal, 0.0), singular, jnp.cumsum(kept, dtype=jnp.int32)


@jax.jit
@highest
def _decomposed_features(
    components: Array, reconstructed: Array
) -> tuple[Array, Array, Array, Array]:
    """Unit vectors along the features with noise (D, D) and σ (D,), 0 past the rank of F.

    With them, their orthonormal factor, and which of them add something to those before.
    """
    # Of the factor, not of its Gram matrix: σ² spans too many decades for the last directions.
    left, singular, _ = jnp.linalg.svd(reconstructed, full_matrices=False)
    cutoff = reconstructed.shape[0] * float(jnp.finfo(singular.dtype).eps) * singular[0]
    singular = jnp.where(singular > cutoff, singular, 0.0)
    features = components.T @ left
    length = jnp.linalg.norm(features, axis=0)
    carries = (singular > 0) & (length > 0)
    features = jnp.where(carries, features / jnp.where(carries, length, 1.0), 0.0)
    orthonormal, upper = jnp.linalg.qr(features)
    return features, singular, orthonormal, jnp.abs(jnp.diagonal(upper)) > _dependent(features)


@jax.jit
@highest
def _one_by_one(features: Array) -> tuple[Array, Array]:
    """Gram-Schmidt, each column twice; one that adds nothing leaves no direction behind."""

    def add(index: Array, state: tuple[Array, Array]) -> tuple[Array, Array]:
        basis, new = state
        column = features[:, index]
        for _ in range(2):
            column = column - basis @ (basis.T @ column)
        length = jnp.linalg.norm(column)
        adds = length > _dependent(features)
        column = jnp.where(adds, column / jnp.where(adds, length, 1.0), 0.0)
        return basis.at[:, index].set(column), new.at[index].set(adds)

    size = features.shape[1]
    state = jnp.zeros_like(features), jnp.zeros(size, bool)
    return jax.lax.fori_loop(0, size, add, state)


def _dependent(features: Array) -> float:
    """Up to which length the rest of a unit vector counts as 0."""
    return 64 * features.shape[0] * float(jnp.finfo(features.dtype).eps)


@jax.jit
def overlaps(features: Array) -> Array:
    """(D,) mean squared cosine for every K: sums over the leading blocks of U², in one pass."""
    squared = features**2
    # What row K and column K add to the block of K - 1; the corner is in both.
    rows, columns = jnp.cumsum(squared, axis=1), jnp.cumsum(squared, axis=0)
    added = jnp.diagonal(rows) + jnp.diagonal(columns) - jnp.diagonal(squared)
    every = jnp.arange(1, len(squared) + 1, dtype=squared.dtype)
    return jnp.minimum(jnp.cumsum(added) / every, 1.0)


def largest_changes(
    features: Array, latent_dims: Array | np.ndarray, count: Array
) -> tuple[Array, Array]:
    """`largest_change` at (Kn,) K: (Kn,) changes and (Kn, D) labels."""
    if isinstance(latent_dims, jax.core.Tracer):
        by_dim = lambda k: largest_change(features, k, count[k - 1])  # noqa: E731
        return jax.lax.map(by_dim, latent_dims)
    changes = [largest_change(features, int(k), count[int(k) - 1]) for k in latent_dims]
    change, labels = zip(*changes, strict=True)
    return jnp.stack(change), jnp.stack(labels)


def largest_change(features: Array, latent_dim: int | Array, count: Array) -> tuple[Array, Array]:
    """‖Π₁ − Π₀‖ at one K, and the coordinates (D,) of a label that it changes so much."""
    size = features.shape[0]
    block = size
    if not isinstance(latent_dim, jax.core.Tracer):
        # Sizes are rounded up: few of them are ever compiled.
        fewest = max(min(int(latent_dim), size - int(latent_dim)), SMALLEST)
        block = min(1 << (fewest - 1).bit_length(), size)
    by_columns = block == size or latent_dim <= size - latent_dim
    return either(
        count < latent_dim,
        lambda: _lost_direction(features, latent_dim),
        lambda: _largest_angle(features, jnp.int32(latent_dim), block, by_columns),
    )


@jax.jit
@highest
def _lost_direction(features: Array, latent_dim: Array) -> tuple[Array, Array]:
    """1, and a direction of Π₀ that is orthogonal to Π₁."""
    inside = jnp.arange(features.shape[0], dtype=jnp.int32) < latent_dim
    leading = jnp.where(inside[:, None] & inside, features, 0.0)
    # Past K, singular values that are not the smallest.
    filled = leading + jnp.diag(jnp.where(inside, 0.0, 2.0).astype(features.dtype))
    label = jnp.linalg.svd(filled)[0][:, -1]
    return jnp.ones((), features.dtype), label


@functools.partial(jax.jit, static_argnames=("block", "by_columns"))
@highest
def _largest_angle(
    features: Array, latent_dim: Array, block: int, by_columns: bool
) -> tuple[Array, Array]:
    """Sine of the largest angle between the first K columns of U and the first K axes.

    It is the norm of the block of U below K, found on its smaller side. With s the sine, b the
    direction in Π₁ that is the furthest from Π₀, and U b = c + s a (c along Π₀, a orthogonal to
    it), the eigenvector of Π₁ − Π₀ to the eigenvalue s halves the angle between U b and a.
    """
    size = features.shape[0]
    index = jnp.arange(size, dtype=jnp.int32)
    inside = index < latent_dim
    used = jnp.where(inside, features, 0.0)
    below = jnp.where(inside[:, None], 0.0, used)
    if by_columns:
        values, vectors = eigh_descending(gram(below[:, :block]))
        direction = used[:, :block] @ vectors[:, 0]
    else:
        last = below[size - block :]
        values, vectors = eigh_descending(gram(last.T))
        direction = used @ (last.T @ vectors[:, 0])
        direction = direction * inverse_root(values)[0]
    sine = jnp.sqrt(jnp.clip(values[0], 0.0, 1.0))
    some = jnp.where(sine > 0, sine, 1.0)
    label = jnp.where(
        inside, direction / jnp.sqrt(2 * (1 + sine)), direction / some * jnp.sqrt((1 + sine) / 2)
    )
    length = jnp.linalg.norm(label)
    any_label = (index == 0).astype(features.dtype)  # at K = r nothing can change
    return sine, jnp.where(length > 0, label / jnp.where(length > 0, length, 1.0), any_label)


def relative_margins(values: Array) -> Array:
    """(D,) relative gap between the least of the first K values and the largest of the rest."""
    before = jax.lax.cummin(values)
    after = jnp.append(jax.lax.cummax(values, reverse=True)[1:], jnp.zeros_like(values[:1]))
    largest = jnp.maximum(before, after)
    return (before - after) / jnp.where(largest > 0, largest, 1.0)


def relative_gaps(variances: Array, singular: Array, rank: Array) -> tuple[Array, Array]:
    """(D,) relative gaps after the K-th eigenvalue, and whether rounding turns what lies before.

    Eigenvectors are turned by about rounding over gap, both relative to the largest value: of d for
    those of M, of σ for those with noise. From the rank on, gaps are 1 and nothing is turned.
    """
    epsilon = float(jnp.finfo(variances.dtype).eps)
    gaps, turned = jnp.ones_like(variances), jnp.zeros(variances.shape, bool)
    for values, power in ((variances, 1), (singular, 2)):
        gaps = jnp.minimum(gaps, relative_margins(values**power))
        following = jnp.append(values[1:], jnp.zeros_like(values[:1]))
        turned |= 8 * epsilon * values[0] > 0.01 * (values - following)
    inside = jnp.arange(1, variances.size + 1, dtype=jnp.int32) < rank
    return jnp.where(inside, gaps, 1.0), inside & turned
