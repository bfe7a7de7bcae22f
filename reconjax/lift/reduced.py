"""The compiled core of the lift: one noise, one ridge, every K.

G + ρ I is whitened once; in the whitened coordinates the problem is that of every other solver, and
is handed to the same core, `reconjax.theory.optimum`.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from reconjax.lift.moments import Covariances
from reconjax.linalg.leading import leading_eigh
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


class Form(NamedTuple):
    """What of a problem is known as it is compiled.

    Attributes:
      embedding: whether joint embedding is learned.
      supervised: whether the labels count, λ < inf.
      clean: whether the head is fitted on φ(x), not on φ(x').
      low: whether all eigenvectors are found in float32.
      few: whether only so many leading ones are found as are needed.
    """

    embedding: bool
    supervised: bool
    clean: bool
    low: bool
    few: bool


class Posed(NamedTuple):
    """One problem.

    Attributes:
      covariances: of noisy features.
      aimed: (m, T) E[φ(x') tᵀ] of a target t; None for x itself and for joint embedding.
      mean: (m,) of the features that are read out.
      clean: what is known of clean features.
      data: moments of the data themselves.
      test: the test split, or None.
      ridge: relative.
      weight: λ.
    """

    covariances: Covariances
    aimed: Array | None
    mean: Array
    clean: Clean
    data: Moments
    test: HeldOut | None
    ridge: Array
    weight: Array


class Curves(NamedTuple):
    """What is solved for: the optimum, its encoder and decoder, and the curves of the losses."""

    solution: Solution
    held_out: Array | None
    agreement: Array | None


@jax.jit
@highest
def aimed(covariances: Covariances, aim: Array) -> Array:
    """(m, T) E[φ(x') tᵀ] of the target t = Aᵀ x."""
    return covariances.inputs @ aim


@functools.partial(jax.jit, static_argnames=("form", "leading", "beside"))
@highest
def solved(posed: Posed, form: Form, leading: int, beside: int) -> Curves:
    """The full problem, by one whitening and one eigendecomposition.

    Its first `leading` directions are wanted; `beside` more need not be as exact.
    """
    covariances = posed.covariances
    whitening, decay = _whitening(covariances, posed.ridge)
    told = [covariances.inputs]
    if posed.aimed is not None:
        told.append(posed.aimed)
    if form.supervised:
        told.append(covariances.labels)
    along = [whitening.apply(part) for part in told]
    size, columns = whitening.factor.shape[0], sum(part.shape[1] for part in told)
    pairs = None
    if form.embedding:
        assert covariances.pairs is not None
        pairs = whitening.apply(whitening.apply(covariances.pairs).T)
    inside = None
    if form.few:
        alpha, weight = weights(posed.weight, decay.dtype)
        objective = along[0 if posed.aimed is None else 1]
        matrix = weight * (gram(objective.T) if pairs is None else (pairs + pairs.T) / 2)
        if form.supervised:
            matrix = matrix + alpha * gram(along[-1].T)
        inside = leading_eigh(matrix, leading)[1][:, : leading + beside]
        along = [inside.T @ part for part in along]
        pairs = None if pairs is None else inside.T @ pairs @ inside
    elif not form.embedding and columns < size:
        # Nothing but the span of F matters: a basis of it, and F there.
        inside, upper = jnp.linalg.qr(jnp.concatenate(along, axis=1))
        along = jnp.split(upper, np.cumsum([part.shape[1] for part in told])[:-1], axis=1)
    basis = whitening.transposed(jnp.eye(size, dtype=decay.dtype) if inside is None else inside)
    return _curves(basis, along, pairs, decay, posed, form, leading + beside)


@functools.partial(jax.jit, static_argnames=("form", "leading"))
@highest
def changed(
    posed: Posed, change: Covariances, sign: Array, encoder: Array, form: Form, leading: int
) -> Curves:
    """The problem of covariances that are off by their error, in a subspace.

    It is that of the encoder's directions after a few steps of the power iteration with the changed
    covariances: the encoder is nearly right, so they soon are.
    """
    moved = jax.tree.map(lambda part, off: part + sign * off, posed.covariances, change)
    whitening, decay = _whitening(moved, posed.ridge)
    alpha, weight = weights(posed.weight, decay.dtype)
    aim, directions = posed.clean.aim, encoder.astype(decay.dtype)
    for _ in range(STEPS):
        if form.embedding:
            objective = moved.pairs @ directions
        else:
            told = moved.inputs.T @ directions
            objective = moved.inputs @ (told if aim is None else aim @ (aim.T @ told))
        # For λ = 0, the limit's directions: all that the solution has.
        image = jnp.where(weight > 0, weight, 1.0) * objective
        if form.supervised:
            image = image + alpha * (moved.labels @ (moved.labels.T @ directions))
        directions = whitening.solve(image)
        length = jnp.linalg.norm(directions, axis=0)
        directions = directions / jnp.where(length > 0, length, 1.0)
    ridged = moved.second @ directions + decay * directions
    basis = whiten(_symmetric(directions, ridged)).apply(directions.T).T
    along = [basis.T @ moved.inputs]
    if aim is not None:
        along.append(along[0] @ aim)
    if form.supervised:
        along.append(basis.T @ moved.labels)
    pairs = basis.T @ moved.pairs @ basis if form.embedding else None
    # In the precision of the moments, which costs nothing here.
    there, form = posed._replace(covariances=moved), form._replace(low=False)
    return _curves(basis, along, pairs, decay, there, form, leading)


def _symmetric(left: Array, right: Array) -> Array:
    """Leftᵀ right, which is known to be symmetric up to rounding."""
    product = left.T @ right
    return (product + product.T) / 2


def _whitening(covariances: Covariances, ridge: Array) -> tuple[Whitening, Array]:
    """That of G, and ρ."""
    second = covariances.second
    decay = ridge.astype(second.dtype) * jnp.mean(jnp.diagonal(second))
    return whiten(second + decay * jnp.eye(second.shape[0], dtype=second.dtype)), decay


def _curves(
    basis: Array,
    along: list[Array],
    pairs: Array | None,
    decay: Array,
    posed: Posed,
    form: Form,
    leading: int,
) -> Curves:
    """The optimum in whitened coordinates z = Tᵀ φ, T = basis (m, R).

    Args:
      basis: T, with Tᵀ G T = I on the range.
      along: Tᵀ F of what F is made of: x, the target where it is another, the labels where they
        count.
      pairs: (R, R) Tᵀ E[φ φᵀ] T of two draws, for joint embedding.
      decay: ρ.
      posed: the problem, like `form` and `leading`.
      form: see `posed`.
      leading: see `posed`.
    """
    facts, data, test = posed.clean, posed.data, posed.test
    low = form.low and not form.few
    dtype = jnp.dtype(jnp.float32) if low else basis.dtype
    epsilon = float(jnp.finfo(dtype).eps)
    exists = jnp.sum(basis**2, axis=0) > 0
    if form.clean:
        root = facts.root.astype(dtype) @ basis.astype(dtype)
        labels, values = facts.labels, facts.values
        floor = (8 * epsilon) ** 2 * values[0] * jnp.sum(basis**2, axis=0)
        count = jnp.sum(values > 0, dtype=jnp.int32)
    else:
        # Of what is not the ridge's: Tᵀ Cov φ(x') T = I - ρ Tᵀ T.
        within = jnp.diag(exists.astype(basis.dtype)) - decay * gram(basis)
        root, labels, values = factored(within, basis.T @ posed.covariances.labels)
        floor, count = None, jnp.sum(values > 0, dtype=jnp.int32)
    inputs = along[0]
    target = along[1] if facts.aim is not None else None
    predicted = pairs if target is None else gram(target.T.astype(dtype))
    moved_labels = (
        along[-1].T if form.supervised else jnp.zeros((data.targets, basis.shape[1]), dtype)
    )
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
    best = optimum(whitened, posed.weight, True, leading)
    best = jax.tree.map(
        lambda a: a.astype(basis.dtype) if jnp.issubdtype(a.dtype, jnp.floating) else a, best
    )
    encoder = basis @ best.rotation
    solution = _without_decay(
        best, encoder, decay, inputs, target, pairs, facts.aim_variance, data, posed.mean
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
    target: Array | None,
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
    elif target is not None:
        assert variance is not None
        other = best.rotation.T @ target
        target_loss = nested_loss(other, other, own, variance)
    best = best._replace(
        reconstruction_loss=nested_loss(decoder, decoder, own, total), target_loss=target_loss
    )
    scale = jnp.ones_like(mean)
    return solution_of(best, encoder, decoder, data.label_moment, mean, data.mean_y, scale)
