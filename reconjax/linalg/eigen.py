"""Eigendecompositions, and derivatives of what equal eigenvalues leave unchanged.

Of equal eigenvalues the eigenvectors may be rotated at will, so that each of them has no derivative
(that of `jnp.linalg.eigh` is infinite). What depends on the span of the first K alone has one
wherever eigenvalue K and K + 1 differ: a change dA moves the span by

    dv_j = Σ_i v_i (v_iᵀ dA v_j) / (θ_j − θ_i)

over the pairs i, j of which K parts one from the other, and rotates the first K among each other
without an effect. The rules here leave out the pairs of equal eigenvalues, and `at_no_tie` makes
the derivative NaN at each K that parts such a pair. They are first derivatives: second ones are
right only where no two eigenvalues are equal.
"""

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


@jax.custom_jvp
def nested_eigh(matrix: Array) -> tuple[Array, Array]:
    """`eigh_descending` for functions of the leading eigenvectors' spans; see the module's text.

    Sums of eigenvalues have the right derivative at the same K. That of single eigenvectors is
    arbitrary where others have the same eigenvalue.

    Args:
      matrix: (R, R), symmetric.

    Returns:
      (R,) eigenvalues θ, largest first, and (R, R) eigenvectors in columns.
    """
    return eigh_descending(matrix)


@nested_eigh.defjvp
def _nested_eigh_jvp(
    primals: tuple[Array], tangents: tuple[Array]
) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    eigenvalues, vectors = nested_eigh(*primals)
    change = _in_basis(vectors, tangents[0])
    turn, _ = _turns(eigenvalues, change)
    return (eigenvalues, vectors), (jnp.diagonal(change), _product(vectors, turn))


def labels_turned(
    eigenvalues: Array, vectors: Array, moment_change: Array, cross: Array, cross_change: Array
) -> tuple[Array, Array, Array]:
    """The first-order change of d, P and Ŷ = Cᵀ P d^-½ of a second moment P diag(d) Pᵀ.

    Within equal eigenvalues, Ŷ changes as by the symmetric whitening: right for all functions of
    the leading Ŷ that no rotation among these changes.

    Args:
      eigenvalues: (R,) d, 0 past the rank.
      vectors: (D, R) P, a basis of the whole space.
      moment_change: (D, D) dM.
      cross: (D, C) C.
      cross_change: (D, C) dC.

    Returns:
      (R,) dd, (D, R) dP and (C, R) dŶ.
    """
    change = _in_basis(vectors, moment_change)
    turn, tied = _turns(eigenvalues, change)
    inverse = inverse_root(eigenvalues)
    # d(P d^-½) in the basis P: turned, and shortened by its own change; both for equal ones.
    size = jnp.arange(eigenvalues.shape[0], dtype=jnp.int32)
    shorter = -change * inverse[:, None] * inverse * inverse / 2
    factor_change = jnp.where(tied | (size[:, None] == size), shorter, turn * inverse)
    labels = _product(cross_change.T, vectors * inverse)
    labels = labels + _product(_product(cross.T, vectors), factor_change)
    return jnp.diagonal(change), _product(vectors, turn), labels


def ties(eigenvalues: Array, rank: Array) -> Array:
    """(R,) whether a cut after direction K = 1 .. R parts equal ones; past the rank not."""
    below = jnp.append(eigenvalues[1:], -jnp.inf)
    order = jnp.arange(1, eigenvalues.shape[0] + 1, dtype=jnp.int32)
    return (eigenvalues - below <= _rounding(eigenvalues)) & (order < rank)


@jax.custom_jvp
def at_no_tie(curve: Array, cut: Array) -> Array:
    """The curve (R,) as it is; where `cut` (R,) says so, its derivative is NaN."""
    return curve


@at_no_tie.defjvp
def _at_no_tie_jvp(
    primals: tuple[Array, Array], tangents: tuple[Array, Array]
) -> tuple[Array, Array]:
    # inf x 0, unless there is nothing to multiply: a derivative of one K alone leaves those of the
    # others at 0. Backward, the factors come in the opposite order. The compiler is kept from
    # multiplying them by each other first.
    curve, cut = primals
    change = tangents[0]
    largest = float(jnp.finfo(curve.dtype).max)
    for factor in (largest, largest, 0.0, largest, largest):
        factors = jnp.where(cut, factor, 1.0).astype(curve.dtype)
        change = jax.lax.optimization_barrier(change * factors)
    return curve, change


def _turns(eigenvalues: Array, change: Array) -> tuple[Array, Array]:
    """(R, R) by which eigenvectors turn into each other, and which pairs do not for being equal."""
    gap = eigenvalues - eigenvalues[:, None]
    tied = jnp.abs(gap) <= _rounding(eigenvalues)
    return jnp.where(tied, 0.0, change / jnp.where(tied, 1.0, gap)), tied


def _rounding(eigenvalues: Array) -> Array:
    """The difference up to which eigenvalues count as equal."""
    epsilon = float(jnp.finfo(eigenvalues.dtype).eps)
    return eigenvalues.shape[0] * epsilon * jnp.max(jnp.abs(eigenvalues))


def _in_basis(vectors: Array, change: Array) -> Array:
    return _product(vectors.T, _product((change + change.T) / 2, vectors))


def _product(a: Array, b: Array) -> Array:
    return jnp.matmul(a, b, precision="highest")
