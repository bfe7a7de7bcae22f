"""Eigendecompositions of positive semi-definite matrices, largest eigenvalue first."""

import jax
import jax.numpy as jnp
from jax import Array


def eigh_descending(matrix: Array) -> tuple[Array, Array]:
    """Eigenvalues, largest first, and eigenvectors with deterministic signs."""
    eigenvalues, vectors = jnp.linalg.eigh(matrix, symmetrize_input=False)
    vectors = vectors[:, ::-1]
    return eigenvalues[::-1], vectors * signs(vectors)


def significant(eigenvalues: Array) -> Array:
    """The value up to which eigenvalues of a positive semi-definite matrix count as 0.

    In float64 the customary size x epsilon x largest. In float32 that would cut off directions
    that carry labels (cifar10: all but 354 of 3072), so the rounding is read off the matrix: where
    there is a null space, it shows as negative eigenvalues of the same magnitude.
    """
    epsilon = float(jnp.finfo(eigenvalues.dtype).eps)
    largest = jnp.max(eigenvalues)
    if epsilon < 1e-10:
        return eigenvalues.shape[0] * epsilon * largest
    return jnp.maximum(-4 * jnp.min(eigenvalues), epsilon / 16 * largest)


def inverse_root(eigenvalues: Array) -> Array:
    """d^-½, and 0 where d = 0; safe to differentiate."""
    positive = eigenvalues > 0
    return jnp.where(positive, jax.lax.rsqrt(jnp.where(positive, eigenvalues, 1.0)), 0.0)


def signs(vectors: Array) -> Array:
    """(R,) signs that make the entry of largest magnitude of each column positive."""
    # By the two extremes: the magnitudes would be a matrix of their own.
    negative = -jnp.min(vectors, axis=0) > jnp.max(vectors, axis=0)
    return jnp.where(negative, -1.0, 1.0).astype(vectors.dtype)
