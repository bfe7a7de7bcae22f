"""The compiled core of the lift: one noise, one ridge, every K.

G + ρ I is whitened once; in the whitened coordinates the problem is that of every other solver, and
is handed to the same core, `reconjax.theory.optimum`.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from reconjax.lift.moments import Covariances
from reconjax.linalg.precision import highest
from reconjax.linalg.products import gram
from reconjax.linalg.whitening import Whitening, whiten
from reconjax.summary.moments import Moments
from reconjax.theory.held_out import HeldOut, held_out_curves, nested_loss
from reconjax.theory.optimum import Optimum, Whitened, optimum, weights
from reconjax.theory.solver import Solution, factored, solution_of

# Steps that directions are iterated under a changed problem.
STEPS = 3


class Clean(NamedTuple):
    """What the read-out and the targets need, whatever the noise.

    Attributes:
      root: (m, m) whose Gram matrix is Cov φ(x).
      labels: (C, m) the labels along its rows.
      values: (m,) eigenvalues of Cov φ(x).
      aim: (D, T) A of the target t = Aᵀ x; None for x itself and for joint embedding.
      aim_variance: tr E[t tᵀ].
    """

    root: Array
    labels: Array
    values: Array
    aim: Array | None
    aim_variance: Array | None


class Curves(NamedTuple):
    """What is solved for: the optimum, its encoder and decoder, and the curves of the losses."""

    solution: Solution
    held_out: Array | None
    agreement: Array | None


@functools.partial(jax.jit, static_argnames=("embedding", "supervised", "clean", "low", "leading"))
@highest
def solved(
    covariances: Covariances,
    mean: Array,
    facts: Clean,
    data: Moments,
    test: HeldOut | None,
    ridge: Array,
    weight: Array,
    *,
    embedding: bool,
    supervised: bool,
    clean: bool,
    low: bool,
    leading: int,
) -> Curves:
    """The full problem, by one whitening and one eigendecomposition."""
    whitening, decay = _whitening(covariances, ridge)
    told = _told(covariances, facts, supervised)
    along = [whitening.apply(part) for part in told]
    size, columns = whitening.factor.shape[0], sum(part.shape[1] for part in told)
    inside = jnp.eye(size, dtype=decay.dtype)
    if not embedding and columns < size:
        # Nothing but the span of F matters: a basis of it, and F there.
        inside, upper = jnp.linalg.qr(jnp.concatenate(along, axis=1))
        along, start = [], 0
        for part in told:
            along.append(upper[:, start : start + part.shape[1]])
            start += part.shape[1]
    basis = whitening.transposed(inside)
    pairs = None
    if embedding:
        assert covariances.pairs is not None
        pairs = whitening.apply(whitening.apply(covariances.pairs).T)
    return _curves(
        basis, along, pairs, decay, covariances, mean, facts, data, test, weight,
        supervised=supervised, clean=clean, low=low, leading=leading,
    )  # fmt: skip


@functools.partial(jax.jit, static_argnames=("embedding", "supervised", "clean", "low", "leading"))
@highest
def changed(
    covariances: Covariances,
    change: Covariances,
    encoder: Array,
    mean: Array,
    facts: Clean,
    data: Moments,
    test: HeldOut | None,
    ridge: Array,
    weight: Array,
    *,
    embedding: bool,
    supervised: bool,
    clean: bool,
    low: bool,
    leading: int,
) -> Curves:
    """The problem of covariances that are off by their error, in a subspace.

    It is that of the encoder's directions after a few steps of the power iteration with the changed
    covariances: the encoder is nearly right, so they soon are.
    """
    moved = jax.tree.map(jnp.add, covariances, change)
    whitening, decay = _whitening(moved, ridge)
    told = _told(moved, facts, supervised)
    alpha, share = weights(weight, decay.dtype)
    directions = encoder.astype(decay.dtype)
    for _ in range(STEPS):
        if embedding:
            assert moved.pairs is not None
            objective = moved.pairs @ directions
        else:
            predicted = told[0] if facts.aim is None else told[1]
            objective = predicted @ (predicted.T @ directions)
        # For λ = 0, the limit's directions: all that the solution has.
        image = jnp.where(share > 0, share, 1.0) * objective
        if supervised:
            image = image + alpha * (told[-1] @ (told[-1].T @ directions))
        directions = whitening.solve(image)
        length = jnp.linalg.norm(directions, axis=0)
        directions = directions / jnp.where(length > 0, length, 1.0)
    ridged = moved.second @ directions + decay * directions
    small = whiten(_symmetric(directions, ridged))
    basis = small.apply(directions.T).T
    along = [basis.T @ part for part in told]
    pairs = None
    if embedding:
        assert moved.pairs is not None
        pairs = basis.T @ moved.pairs @ basis
    return _curves(
        basis, along, pairs, decay, moved, mean, facts, data, test, weight,
        supervised=supervised, clean=clean, low=low, leading=leading,
    )  # fmt: skip


def _symmetric(left: Array, right: Array) -> Array:
    """Leftᵀ right, which is known to be symmetric up to rounding."""
    product = left.T @ right
    return (product + product.T) / 2


def _whitening(covariances: Covariances, ridge: Array) -> tuple[Whitening, Array]:
    """That of G, and ρ."""
    second = covariances.second
    decay = ridge.astype(second.dtype) * jnp.mean(jnp.diagonal(second))
    return whiten(second + decay * jnp.eye(second.shape[0], dtype=second.dtype)), decay


def _told(covariances: Covariances, facts: Clean, supervised: bool) -> list[Array]:
    """What F is made of: x, the target where it is another, the labels where they count."""
    told = [covariances.inputs]
    if facts.aim is not None:
        told.append(covariances.inputs @ facts.aim)
    return [*told, covariances.labels] if supervised else told


def _curves(
    basis: Array,
    along: list[Array],
    pairs: Array | None,
    decay: Array,
    covariances: Covariances,
    mean: Array,
    facts: Clean,
    data: Moments,
    test: HeldOut | None,
    weight: Array,
    *,
    supervised: bool,
    clean: bool,
    low: bool,
    leading: int,
) -> Curves:
    """The optimum in whitened coordinates z = Tᵀ φ, T = basis (m, R).

    Args:
      basis: T, with Tᵀ G T = I on the range.
      along: Tᵀ F of what F is made of, as in `_told`.
      pairs: (R, R) Tᵀ E[φ φᵀ] T of two draws, for joint embedding.
      decay: ρ.
    """
    dtype = jnp.dtype(jnp.float32) if low else basis.dtype
    epsilon = float(jnp.finfo(dtype).eps)
    exists = jnp.sum(basis**2, axis=0) > 0
    if clean:
        root = facts.root.astype(dtype) @ basis.astype(dtype)
        labels, values = facts.labels, facts.values
        floor = (8 * epsilon) ** 2 * values[0] * jnp.sum(basis**2, axis=0)
        count = jnp.sum(values > 0, dtype=jnp.int32)
    else:
        # Of what is not the ridge's: Tᵀ Cov φ(x') T = I - ρ Tᵀ T.
        within = jnp.diag(exists.astype(basis.dtype)) - decay * gram(basis)
        root, labels, values = factored(within, basis.T @ covariances.labels)
        floor, count = None, jnp.sum(values > 0, dtype=jnp.int32)
    inputs = along[0]
    aimed = along[1] if facts.aim is not None else None
    predicted = pairs if aimed is None else gram(aimed.T.astype(dtype))
    moved_labels = along[-1].T if supervised else jnp.zeros((data.targets, basis.shape[1]), dtype)
    size = math.sqrt(basis.shape[1])
    whitened = Whitened(
        inputs=gram(inputs.T.astype(dtype)),
        labels=moved_labels,
        clean_root=root,
        targets=labels,
        rank=jnp.sum(exists, dtype=jnp.int32),
        label_moment=data.label_moment,
        input_variance=jnp.trace(data.second_moment),
        rounding=floor,
        exists=exists,
        data=count,
        predicted=predicted,
        predicted_variance=None if predicted is None else facts.aim_variance,
        preserved=None if predicted is None else jnp.asarray(pairs is not None),
        least=jnp.asarray(4 * size * epsilon) if pairs is None else None,
    )
    if low:
        whitened = jax.tree.map(
            lambda a: a.astype(dtype) if jnp.issubdtype(a.dtype, jnp.floating) else a, whitened
        )
    best = optimum(whitened, weight, True, leading)
    best = jax.tree.map(
        lambda a: a.astype(basis.dtype) if jnp.issubdtype(a.dtype, jnp.floating) else a, best
    )
    encoder = basis @ best.rotation
    solution = _without_decay(
        best, encoder, decay, inputs, aimed, pairs, facts.aim_variance, data, mean
    )
    if test is None:
        return Curves(solution, None, None)
    assert solution.readout_factor is not None
    unit = jax.scipy.linalg.solve_triangular(solution.readout_factor, encoder.T, lower=True).T
    return Curves(
        solution,
        *held_out_curves(
            solution.coordinates,
            unit.T @ test.cross_moment,
            _symmetric(unit, test.second_moment @ unit),
            jnp.einsum("mk,fmc->kfc", unit, test.folds),
            test.label_variance,
        ),
    )


def _without_decay(
    best: Optimum,
    encoder: Array,
    decay: Array,
    inputs: Array,
    aimed: Array | None,
    pairs: Array | None,
    variance: Array | None,
    data: Moments,
    mean: Array,
) -> Solution:
    """The solution, its losses without what the weight decay adds."""
    decoder = best.rotation.T @ inputs
    # Of features whose second moment with the ridge is the identity.
    there = jnp.sum(encoder**2, axis=0) > 0
    own = jnp.diag(there.astype(encoder.dtype)) - decay * gram(encoder)
    total = jnp.trace(data.second_moment)
    target_loss = None
    if pairs is not None:
        distance = jnp.diagonal(own) - jnp.sum(best.rotation * (pairs @ best.rotation), axis=0)
        target_loss = 2 * jnp.cumsum(distance)
    elif aimed is not None:
        assert variance is not None
        other = best.rotation.T @ aimed
        target_loss = nested_loss(other, other, own, variance)
    best = best._replace(
        reconstruction_loss=nested_loss(decoder, decoder, own, total), target_loss=target_loss
    )
    scale = jnp.ones_like(mean)
    return solution_of(best, encoder, decoder, data.label_moment, mean, data.mean_y, scale)
