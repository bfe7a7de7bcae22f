"""A ray in a subspace: for latent dimensions far below D, the encoders of a whole ray nearly lie in
the span of a few times K directions, and restricting them to it is the same problem, only smaller.

The subspace is spanned by the principal directions P of the data, which solve the point without
noise for λ = inf, the label directions M⁻¹ C, and by what one or more steps of the power iteration

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

from reconjax.grid.ray import Ray, factorize
from reconjax.linalg.precision import highest
from reconjax.linalg.products import symmetric_product
from reconjax.linalg.whitening import Whitening, ridged, whiten_regular
from reconjax.summary.moments import Moments
from reconjax.theory.solver import Problem, Solution, solve

# Where, beside no noise, the basis is made, from what the one before has found: shares of the
# strongest noise of the ray. One step is taken at the first, several at the last.
NODES = (1 / 3, 1.0)
# Steps of the power iteration for a problem that lies on no ray, all of which span its subspace.
STEPS = 3


def oversampled(latent_dim: int) -> int:
    """Number of directions that are iterated for the leading `latent_dim`."""
    return latent_dim + max(min(latent_dim, 64), latent_dim // 8)


def read_out(largest: int, size: int) -> int | None:
    """How many of `size` features to read out for all K up to the largest; None: all of them.

    A few more than K, so that what rounding mixes at the last K shows.
    """
    directions = oversampled(-(-largest // 16) * 16)
    return directions if 2 * directions <= size else None


def subspace_size(latent_dim: int, targets: int) -> int:
    """m, the size of the reduced problem."""
    return (1 + len(NODES)) * (oversampled(latent_dim) + targets)


def last_steps(features: int, directions: int) -> int:
    """Steps at the strongest noise: 2 to 5, while they cost no more than a product of D x D.

    Where two directions at about K are nearly as good as each other, curves need them precisely.
    """
    return min(max(features // (3 * directions), 2), 5)


def ray_basis(
    moments: Moments, direction: Array, principal: Array, labels: Array, strongest: Array
) -> Array:
    """(D, m) basis of nearly all that the encoders of a ray up to a share `strongest` need.

    Args:
      moments: centered moments of the data.
      direction: (D, D) B.
      principal: (D, b) leading eigenvectors of M.
      labels: (D, C) M⁻¹ C.
      strongest: the largest ρ of the ray's points.
    """
    # Principal directions are orthonormal as they are.
    parts, orthonormal = [principal, _unit(labels)], principal
    for node, steps in zip(NODES, (1, last_steps(*principal.shape)), strict=True):
        whitening = noisy_whitening(moments, direction, node * strongest)
        for _ in range(steps):
            further = step(whitening, moments.second_moment, orthonormal)
            orthonormal = jnp.linalg.qr(further)[0]
        parts += [further, label_directions(whitening, moments.cross_moment)]
    rest = jnp.concatenate(parts[1:], axis=1)
    for _ in range(2):
        rest = rest - principal @ (principal.T @ rest)
    return jnp.concatenate([principal, jnp.linalg.qr(rest)[0]], axis=1)


def noisy_whitening(moments: Moments, direction: Array, share: Array) -> Whitening:
    """The whitening of G = (1 − ρ) M + ρ B; its ridge bends the basis, not the solution."""
    return whiten_regular(ridged((1 - share) * moments.second_moment + share * direction))


def step(
    whitening: Whitening,
    inputs: Array,
    vectors: Array,
    labels: Array | None = None,
    alpha: Array | float = 0.0,
    weight: Array | float = 1.0,
) -> Array:
    """G⁻¹ F Fᵀ X for X (D, b), with columns of unit length; F Fᵀ = λ A Aᵀ + α C Cᵀ.

    Args:
      whitening: of G.
      inputs: (D, D) A, the noisy inputs' moment with x.
      vectors: (D, b) X.
      labels: (D, C) C, that with y; None where α = 0.
      alpha: α.
      weight: λ.
    """
    raised = weight * (inputs @ (inputs.T @ vectors))
    if labels is not None:
        raised = raised + alpha * (labels @ (labels.T @ vectors))
    return _unit(whitening.solve(raised))


def label_directions(whitening: Whitening, labels: Array) -> Array:
    """G⁻¹ C (D, C), with columns of unit length: the encoder of the labels alone."""
    return _unit(whitening.solve(labels))


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
    ray = factorize(small, symmetric_product(basis, direction @ basis), root)
    return ray._replace(variance=jnp.trace(moments.second_moment))


def pays(latent_dim: int, features: int) -> bool:
    """Whether `solve_leading` is faster than `solve`."""
    return 2.5 * (STEPS + 1) * oversampled(latent_dim) <= features


def solve_leading(problem: Problem, principal: Array, latent_dim: int) -> tuple[Solution, float]:
    """A problem that lies on no ray (λ = inf), in a subspace that serves the leading K.

    There are no other strengths for which a basis should do: the subspace is a block Krylov space,
    principal directions and all steps from them. What the last step has added is an
    estimate of what is missing, rather too large.

    Args:
      problem: from `reconjax.problem`.
      principal: (D, b) leading eigenvectors of M.
      latent_dim: K.

    Returns:
      The solution, with an encoder (D, m), and what r2 is estimated to miss up to K.
    """
    blocks = _krylov(problem, principal)
    sizes = blocks.shape[1] - principal.shape[1], blocks.shape[1]
    shorter, longer = (jnp.linalg.qr(blocks[:, :size])[0] for size in sizes)
    before = solve(_restricted_problem(problem, shorter)).r2
    solution = solve(_restricted_problem(problem, longer))
    change = (solution.r2[: before.shape[0]] - before)[:latent_dim]
    solution = solution._replace(encoder=longer @ solution.encoder)
    return solution, float(jnp.max(jnp.abs(change)))


@jax.jit
@highest
def _krylov(problem: Problem, principal: Array) -> Array:
    whitening = whiten_regular(ridged(problem.noisy_second_moment))
    blocks = [principal]
    for _ in range(STEPS):
        further = step(whitening, problem.noisy_input_moment, blocks[-1])
        blocks.append(jnp.linalg.qr(further)[0])
    return jnp.concatenate(blocks, axis=1)


@jax.jit
@highest
def _restricted_problem(problem: Problem, basis: Array) -> Problem:
    """The problem for the encoder input basisᵀ x' (m,)."""
    noisy = problem.noisy_label_moment
    return problem._replace(
        noisy_second_moment=basis.T @ problem.noisy_second_moment @ basis,
        noisy_label_moment=None if noisy is None else basis.T @ noisy,
        noisy_input_moment=basis.T @ problem.noisy_input_moment,
        second_moment=basis.T @ problem.second_moment @ basis,
        cross_moment=basis.T @ problem.cross_moment,
    )


def _unit(columns: Array) -> Array:
    length = jnp.linalg.norm(columns, axis=0)
    return columns / jnp.where(length > 0, length, 1.0)
