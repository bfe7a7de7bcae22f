"""Rays: families of noises E[x'|x] = q x that differ in strength alone.

E[x' x'ᵀ] = g ((1 - ρ) M + ρ B) with one direction B and a share ρ in [0, 1] that grows with the
strength. Divided by q, x' is x with additive noise of covariance τ B (up to a multiple of M), and
one factorization of (M, B) serves the whole family (`reconjax.grid.ray`). The leaves of a direction
have D as their first size.
"""

from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from reconjax.linalg.precision import highest


class Direction(Protocol):
    """The direction B of a ray, which may depend on M."""

    def covariance(self, second_moment: Array) -> Array:
        """B (D, D), given M (D, D)."""
        ...


class SameGroup(NamedTuple):
    """B = M where two features share a group and 0 elsewhere: the direction of every mask.

    Attributes:
      groups: (D,) int32, the group of each feature, 0 .. n - 1.
    """

    groups: Array

    def covariance(self, second_moment: Array) -> Array:
        """M restricted to pairs of features of one group."""
        return jnp.where(same_group(self.groups), second_moment, 0.0)


class FilledGroup(NamedTuple):
    """B = M + Σ f fᵀ where two features share a group and 0 elsewhere: masks that fill.

    Attributes:
      groups: (D,) int32, the group of each feature.
      fills: (D, n) the n vectors f, in units of x.
    """

    groups: Array
    fills: Array

    def covariance(self, second_moment: Array) -> Array:
        """M + f fᵀ restricted to pairs of features of one group."""
        fills = self.fills.astype(second_moment.dtype)
        with highest:
            filled = second_moment + fills @ fills.T
        return jnp.where(same_group(self.groups), filled, 0.0)


class Isotropic(NamedTuple):
    """B = I."""

    def covariance(self, second_moment: Array) -> Array:
        """The identity."""
        return jnp.eye(second_moment.shape[0], dtype=second_moment.dtype)


class Colored(NamedTuple):
    """B = L Lᵀ, whatever M is.

    Attributes:
      factor: (D, m) L, in units of x.
    """

    factor: Array

    def covariance(self, second_moment: Array) -> Array:
        """The noise's own covariance."""
        factor = self.factor.astype(second_moment.dtype)
        with highest:
            return factor @ factor.T


class FeatureVariance(NamedTuple):
    """B = diag(M): noise in proportion to each feature."""

    def covariance(self, second_moment: Array) -> Array:
        """The diagonal of M."""
        return jnp.diag(jnp.diagonal(second_moment))


class Independent(NamedTuple):
    """B = diag(v): noise of a fixed variance for each feature.

    Attributes:
      variance: (D,) v, in squared units of x.
    """

    variance: Array

    def covariance(self, second_moment: Array) -> Array:
        """The diagonal matrix of the variances."""
        return jnp.diag(self.variance.astype(second_moment.dtype))


class Rotated(NamedTuple):
    """B = P B'(Pᵀ M P) Pᵀ: a direction in the coordinates Pᵀ x.

    Attributes:
      basis: (D, D) orthonormal P.
      direction: what gives B'.
    """

    basis: Array
    direction: Direction

    def covariance(self, second_moment: Array) -> Array:
        """B in the features' own coordinates."""
        basis = self.basis.astype(second_moment.dtype)
        with highest:
            inner = self.direction.covariance(basis.T @ second_moment @ basis)
            return basis @ inner @ basis.T


class RayPoint(NamedTuple):
    """A noise as a point on a ray: E[x'|x] = q x, E[x' x'ᵀ] = g ((1 - ρ) M + ρ B).

    Attributes:
      direction: what gives B.
      share: ρ in [0, 1].
      scale: g > 0.
      keep: q > 0.
    """

    direction: Any  # a `Direction`; none where the strengths alone are traced
    share: Array
    scale: Array
    keep: Array


def point(direction: Direction, share: ArrayLike, scale: ArrayLike, keep: ArrayLike) -> RayPoint:
    """A point on a ray, of scalars or arrays."""
    return RayPoint(direction, *(jnp.asarray(value, float) for value in (share, scale, keep)))


def additive_point(direction: Direction, strength: ArrayLike, keep: ArrayLike = 1.0) -> RayPoint:
    """The point of x' = q (x + e), e of covariance τ B with the strength τ."""
    strength, keep = jnp.asarray(strength, float), jnp.asarray(keep, float)
    return point(direction, strength / (1 + strength), keep**2 * (1 + strength), keep)


def same_direction(one: Direction, other: Direction) -> bool:
    """Whether two directions are of one kind and have the same numbers."""
    kind: Any = jax.tree.structure(one)
    leaves = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=False)
    return kind == jax.tree.structure(other) and all(np.array_equal(a, b) for a, b in leaves)


def same_group(groups: Array) -> Array:
    """(D, D) bool: which features share a group."""
    return groups[:, None] == groups[None, :]
