"""A ray in a subspace: for latent dimensions far below D, the encoders of a whole ray nearly lie in
the span of a few times K directions, and restricting them to it is the same problem, only smaller.

The subspace is spanned by the principal directions P of the data, which solve the point without
noise, and by what one or more steps of the power iteration

    X ← G⁻¹ (λ M² + α C Cᵀ) X,   G = (1 − ρ) M + ρ B,

make of them at two strengths of the ray, with the label directions G⁻¹ C. In the subspace every
encoder is optimal, so that errors of its basis enter as a missing part, never as a wrong solution:
the basis may be crude. How much is missing is measured, not assumed: at the point with the largest
residual, a further step is taken and the curves are compared.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jax import Array

from reconjax.grid.ray import Ray, factorise
from reconjax.linalg.products import symmetric_product
from reconjax.summary.moments import Moments

# Where, beside no noise, the basis is made, from what the one before has found: shares of the
# strongest noise of the ray. One step is taken at the first, several at the last.
NODES = (1 / 3, 1.0)


def oversampled(latent_dim: int) -> int:
    """Number of directions that are iterated for the leading `latent_dim`."""
    return latent_dim + max(min(latent_dim, 64), latent_dim // 8)


def subspace_size(latent_dim: int, targets: int) -> int:
    """m, the size of the reduced problem."""
    return (1 + len(NODES)) * oversampled(latent_dim) + len(NODES) * targets


def last_steps(features: int, directions: int) -> int:
    """Steps at the strongest noise: 2 to 5, while they cost no more than a product of D x D.

    Where two directions at about K are nearly as good as each other, curves need them precisely.
    """
    return min(max(features // (3 * directions), 2), 5)


def ray_basis(moments: Moments, direction: Array, principal: Array, strongest: Array) -> Array:
    """(D, m) basis of nearly all that the encoders of a ray up to a share `strongest` need.

    Args:
      moments: centered moments of the data.
      direction: (D, D) B.
      principal: (D, b) leading eigenvectors of M.
      strongest: the largest ρ of the ray's points.
    """
    # Principal directions are orthonormal as they are.
    parts, orthonormal = [principal], principal
    for node, steps in zip(NODES, (1, last_steps(*principal.shape)), strict=True):
        factor = noisy_factor(moments, direction, node * strongest)
        for _ in range(steps):
            found = step(moments, factor, orthonormal)
            orthonormal = jnp.linalg.qr(found)[0]
        parts += [found, label_directions(moments, factor)]
    rest = jnp.concatenate(parts[1:], axis=1)
    for _ in range(2):
        rest = rest - principal @ (principal.T @ rest)
    return jnp.concatenate([principal, jnp.linalg.qr(rest)[0]], axis=1)


def noisy_factor(moments: Moments, direction: Array, share: Array) -> tuple[Array, bool]:
    """The `ridged_factor` of G = (1 − ρ) M + ρ B."""
    return ridged_factor((1 - share) * moments.second_moment + share * direction)


def ridged_factor(noisy: Array) -> tuple[Array, bool]:
    """Cholesky factor of G (D, D), for `cho_solve`.

    A ridge that float64 needs where G is singular: it bends the basis, not the solution.
    """
    diagonal = jnp.diagonal(noisy)
    epsilon = 64 * noisy.shape[0] * float(jnp.finfo(noisy.dtype).eps)
    ridge = epsilon * (diagonal + jnp.mean(diagonal))
    return jnp.linalg.cholesky(noisy + jnp.diag(ridge), symmetrize_input=False), True


def step(
    moments: Moments,
    factor: tuple[Array, bool],
    vectors: Array,
    alpha: Array | float = 0.0,
    weight: Array | float = 1.0,
) -> Array:
    """G⁻¹ (λ M² + α C Cᵀ) X for X (D, b), with columns of unit length."""
    second, cross = moments.second_moment, moments.cross_moment
    found = weight * (second @ (second @ vectors)) + alpha * (cross @ (cross.T @ vectors))
    return _unit(jax.scipy.linalg.cho_solve(factor, found))


def label_directions(moments: Moments, factor: tuple[Array, bool]) -> Array:
    """G⁻¹ C (D, C), with columns of unit length: the encoder of the labels alone."""
    return _unit(jax.scipy.linalg.cho_solve(factor, moments.cross_moment))


def restricted(moments: Moments, direction: Array, basis: Array) -> Ray:
    """The ray of the features basisᵀ x (m,) from which all of x is still reconstructed."""
    root = moments.second_moment @ basis
    small = dataclasses.replace(
        moments,
        mean_x=moments.mean_x @ basis,
        second_moment=symmetric_product(basis, root),
        cross_moment=basis.T @ moments.cross_moment,
        scale=jnp.ones_like(basis[0]),
    )
    ray = factorise(small, symmetric_product(basis, direction @ basis), root)
    return ray._replace(variance=jnp.trace(moments.second_moment))


def _unit(columns: Array) -> Array:
    length = jnp.linalg.norm(columns, axis=0)
    return columns / jnp.where(length > 0, length, 1.0)
