"""Whitening: W with W G Wᵀ = I on the range of a positive semi-definite G, found once, used often.

`whiten` makes it of any G, `whiten_regular` of one that is known to be positive definite, as
`ridged` makes it. What is kept, up to which cut-off, is decided here and nowhere else.

`whitening_vectors` stays apart from them: it is the one with a derivative, which needs G's own
eigenvectors and a null space that is distinguished in G's own units.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from reconjax.linalg.eigen import eigh_descending, inverse_root, significant

# Another cut-off, times the usual one, for a second whitening that shows what depends on it.
OTHER_CUT = 30.0
# Eigenvalues that come down to so many roundings of the largest may go on below.
GAP = 1e6
# In float32 that is nearly every spectrum: there, only where so large a share of those that are
# kept is hidden.
MANY_HIDDEN = 1 / 4


def other_cut(eigenvalues: Array, cut: ArrayLike, hidden: Array) -> Array:
    """Another cut-off than `cut`, to see what depends on it.

    Args:
      eigenvalues: (R,), largest first.
      cut: those up to it count as 0.
      hidden: how many that count so may be more than rounding. Then, where others are near, a gap
        may lie about every higher cut-off, and what those above the gap do is all that shows
        what those below it may do: the least of them are cut off.
    """
    epsilon = float(jnp.finfo(eigenvalues.dtype).eps)
    least = jnp.min(jnp.where(eigenvalues > cut, eigenvalues, eigenvalues[0]))
    near = (hidden > 0) & (least < GAP * epsilon * eigenvalues[0])
    if epsilon > 1e-10:
        kept = jnp.sum(eigenvalues > cut, dtype=jnp.int32).astype(eigenvalues.dtype)
        near &= hidden.astype(eigenvalues.dtype) >= MANY_HIDDEN * kept
    return OTHER_CUT * jnp.where(near, least, cut)


class Whitening(NamedTuple):
    """A factorization of G (m, m), to be applied to any number of matrices.

    Attributes:
      factor: (m, m) lower Cholesky factor of U G U where that is regular; else V, Vᵀ U G U V = I
        on the range.
      unit: (m,) the diagonal of U, in whose units G has diagonal 1; 0 for features that are left
        out. None: the units of G itself.
      regular: which of the two; None: the Cholesky factor, for certain.
      magnified: how much whitening may have magnified the rounding of G, at most; 1 where it has
        left out what may be more than rounding. NaN: not known.
    """

    factor: Array
    unit: Array | None = None
    regular: Array | None = None
    magnified: ArrayLike = math.nan

    def apply(self, matrix: Array) -> Array:
        """W A (m, n) of A (m, n)."""
        scaled = matrix if self.unit is None else self.unit[:, None] * matrix

        def triangular() -> Array:
            return jax.scipy.linalg.solve_triangular(self.factor, scaled, lower=True)

        if self.regular is None:
            return triangular()
        return jax.lax.cond(self.regular, triangular, lambda: self.factor.T @ scaled)

    def transposed(self, matrix: Array) -> Array:
        """Wᵀ A (m, n) of A (m, n)."""
        result = self.in_units(matrix)
        return result if self.unit is None else self.unit[:, None] * result

    def in_units(self, matrix: Array) -> Array:
        """Wᵀ A (m, n), of features in units in which G has diagonal 1."""

        def triangular() -> Array:
            return jax.scipy.linalg.solve_triangular(self.factor, matrix, trans="T", lower=True)

        if self.regular is None:
            return triangular()
        return jax.lax.cond(self.regular, triangular, lambda: self.factor @ matrix)

    def solve(self, matrix: Array) -> Array:
        """G⁺ A = Wᵀ W A (m, n) of A (m, n)."""
        return self.transposed(self.apply(matrix))


def constant(variances: Array) -> Array:
    """The variance up to which a feature is a constant, of which rounding left its own square.

    Where the mean of a constant is rounded, centering leaves it of the size of its rounding. In
    units of variance 1 that would be a feature like any other, and new data may vary along it.
    """
    return float(jnp.finfo(variances.dtype).eps) ** 1.75 * jnp.max(variances)


def whiten(
    moment: Array, *, negligible: ArrayLike | None = None, other_rounding: bool = False
) -> Whitening:
    """The whitening of G by its Cholesky factor; where that is nearly singular, by eigenvectors.

    Args:
      moment: (m, m) G, symmetric, positive semi-definite.
      negligible: features of up to this variance are left out; by default that of `constant`. In
        units in which G has diagonal 1, no other one is too small to be seen.
      other_rounding: with a higher cut-off and a G that is off by rounding, to see what depends on
        them.

    Example:
      >>> import jax.numpy as jnp
      >>> from reconjax.linalg.whitening import whiten
      >>> x = np.random.default_rng(0).normal(size=(9, 3))
      >>> moment = x.T @ x
      >>> whitening = whiten(jnp.asarray(moment))
      >>> bool(np.allclose(whitening.apply(whitening.apply(moment).T), np.eye(3)))
      True
    """
    variance = jnp.diagonal(moment)
    varies = variance > (constant(variance) if negligible is None else negligible)
    unit = jnp.where(varies, jax.lax.rsqrt(jnp.where(varies, variance, 1.0)), 0.0)
    scaled = moment * (unit[:, None] * unit)
    size, epsilon = scaled.shape[0], float(jnp.finfo(scaled.dtype).eps)
    if other_rounding:
        off = jax.random.normal(jax.random.key(0), scaled.shape, scaled.dtype)
        scaled = scaled + jnp.where(varies[:, None] & varies, epsilon * (off + off.T), 0.0)

    # What is left out carries nothing; 1 keeps G regular there.
    outside = jnp.diag(jnp.where(varies, 0.0, 1.0).astype(scaled.dtype))
    factor = jnp.linalg.cholesky(scaled + outside, symmetrize_input=False)
    pivots = jnp.min(jnp.diagonal(factor))  # NaN where it fails
    regular = jnp.isfinite(pivots) & (pivots**2 > 64 * size * epsilon)

    def by_cholesky() -> tuple[Array, Array]:
        norm = jnp.max(jnp.sum(jnp.abs(scaled), axis=0))
        return factor, epsilon * norm / pivots**2

    def by_eigenvectors() -> tuple[Array, Array]:
        eigenvalues, vectors = eigh_descending(scaled)
        cut = jnp.maximum(significant(eigenvalues), 8 * epsilon * eigenvalues[0])
        varying = jnp.sum(varies, dtype=jnp.int32)
        hidden = varying - jnp.sum(eigenvalues > cut, dtype=jnp.int32)
        lost = hidden > 0
        above = other_cut(eigenvalues, cut, hidden) if other_rounding else cut
        kept = jnp.where(eigenvalues > above, eigenvalues, 0.0)
        if epsilon < 1e-10:
            # Rounding alone makes eigenvalues of either sign.
            floor = jnp.maximum(-4 * jnp.min(eigenvalues), epsilon / 16 * eigenvalues[0])
            lost = jnp.any((eigenvalues > floor) & (eigenvalues <= cut))
        elif other_rounding:
            # In float32, rounding hides so many that all of them may be there. What is none has
            # nothing of the data either, so that it adds no more than rounding.
            there = (eigenvalues <= cut) & (jnp.arange(size, dtype=jnp.int32) < varying)
            smallest = epsilon / 4 * eigenvalues[0]
            kept = jnp.where(there, jnp.maximum(eigenvalues, smallest), kept)
        least = jnp.min(jnp.where(kept > 0, kept, eigenvalues[0]))
        magnified = epsilon * eigenvalues[0] / least
        return vectors * inverse_root(kept), jnp.where(lost, jnp.maximum(magnified, 1.0), magnified)

    factor, magnified = jax.lax.cond(regular, by_cholesky, by_eigenvectors)
    return Whitening(factor, unit, regular, magnified)


def whiten_regular(moment: Array) -> Whitening:
    """The whitening of a positive definite G (m, m) by its Cholesky factor; else it is NaN."""
    return Whitening(jnp.linalg.cholesky(moment, symmetrize_input=False))


def ridged(moment: Array) -> Array:
    """G (m, m) with a ridge of rounding, so that it is positive definite; a constant for gradients.

    For what may be bent by it a little: the basis of a subspace, the start of a gradient.
    """
    diagonal = jnp.diagonal(moment)
    epsilon = 64 * moment.shape[0] * float(jnp.finfo(moment.dtype).eps)
    ridge = jax.lax.stop_gradient(epsilon * (diagonal + jnp.mean(diagonal)))
    return moment + jnp.diag(ridge)


def whitening_vectors(moment: Array) -> tuple[Array, Array]:
    """W (m, m) with Wᵀ G W = I on the range of G, 0 in the columns past its rank; differentiable.

    For functions that no rotation W Q of the whitened coordinates changes: among these derivatives
    the one taken is dW = −½ W (Wᵀ dG W), which no eigenvalues divide, and into the null space of G
    that which keeps its dimension.

    It is that of least length, by the eigenvectors of G. Where these lose directions of features
    with little variance, it is by those of G in units in which it has diagonal 1.

    Args:
      moment: (m, m) G, symmetric, positive semi-definite.

    Returns:
      W, and (m,) which of its columns there are, the first ones.
    """
    direct, eigenvalues = _whitening_vectors(moment)
    rank = jnp.sum(eigenvalues > 0, dtype=jnp.int32)
    variance = jax.lax.stop_gradient(jnp.diagonal(moment))
    unit = inverse_root(jnp.where(variance > constant(variance), variance, 0.0))

    def in_units() -> tuple[Array, Array]:
        scaled, values = _whitening_vectors(moment * (unit[:, None] * unit))
        more = jnp.sum(values > 0, dtype=jnp.int32) > rank
        whitener = jnp.where(more, unit[:, None] * scaled, direct)
        return whitener, jnp.where(more, values, eigenvalues) > 0

    singular = rank < jnp.sum(unit > 0, dtype=jnp.int32)
    return jax.lax.cond(singular, in_units, lambda: (direct, eigenvalues > 0))


@jax.custom_jvp
def _whitening_vectors(moment: Array) -> tuple[Array, Array]:
    """W by the eigenvectors of G as it is, and its eigenvalues (m,), 0 up to `significant`."""
    eigenvalues, vectors = eigh_descending(moment)
    kept = eigenvalues > significant(eigenvalues)
    whitener = jnp.where(kept, vectors / jnp.sqrt(jnp.where(kept, eigenvalues, 1.0)), 0.0)
    return whitener, jnp.where(kept, eigenvalues, 0.0)


@_whitening_vectors.defjvp
def _whitening_vectors_jvp(
    primals: tuple[Array], tangents: tuple[Array]
) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    (moment,) = primals
    whitener, eigenvalues = _whitening_vectors(moment)
    change = _product((tangents[0] + tangents[0].T) / 2, whitener)
    inside = _product(whitener.T, change)
    # The part of dG W / d outside the range, whose projector is W Wᵀ G = W D Wᵀ.
    outward = change * inverse_root(eigenvalues) ** 2
    outward = outward - _product(whitener * eigenvalues, _product(whitener.T, outward))
    outward = jnp.where(jnp.all(eigenvalues > 0), 0.0, outward)
    whitener_change = outward - _product(whitener, inside) / 2
    return (whitener, eigenvalues), (whitener_change, jnp.zeros_like(eigenvalues))


def _product(a: Array, b: Array) -> Array:
    return jnp.matmul(a, b, precision="highest")
