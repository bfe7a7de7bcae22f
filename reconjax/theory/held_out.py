"""What a test split says of encoders and heads that were fitted on a training split."""

from collections.abc import Iterable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from reconjax.linalg.eigen import inverse_root
from reconjax.linalg.precision import highest
from reconjax.summary.moments import Moments
from reconjax.summary.union import merge
from reconjax.theory.spectrum import Spectrum


class HeldOut(NamedTuple):
    """What a test split says of encoders and heads that were found on a training split.

    Attributes:
      second_moment: (D, D) E[x xᵀ] on the test split, about the mean of the training split and in
        its units.
      cross_moment: (D, C) E[x yᵀ], about the means of the training split.
      label_variance: tr E[y yᵀ] about the mean of the training split: the loss without inputs.
      folds: (Fn, D, C) E[x yᵀ] of each fold of the test split, about the means of the test split.
      target_variances: (C,) the parts of `label_variance` that are of each target; None where
        nobody asks for them.
    """

    second_moment: Array
    cross_moment: Array
    label_variance: Array
    folds: Array
    target_variances: Array | None = None


def held_out(folds: Iterable[Moments], training: Moments) -> HeldOut:
    """The test split's moments as the training split's solutions meet them.

    Args:
      folds: of the test split, from `each_fold`; one is in memory at a time.
      training: centered moments of the training split, `standardized` or not.

    Raises:
      ValueError: no folds, other numbers of features or targets, or uncentered moments.

    Example:
      >>> x, y = np.random.default_rng(0).normal(size=(50, 6)), np.arange(50) % 2
      >>> training, test = reconjax.moments(x[:30], y[:30]), reconjax.moments(x[30:], y[30:])
      >>> reconjax.held_out([test], training).cross_moment.shape
      (6, 2)
    """
    whole, parts = None, []
    for fold in folds:
        whole = fold if whole is None else merge(whole, fold)
        parts.append((fold.cross_moment, fold.mean_x, fold.mean_y))
    if whole is None:
        raise ValueError("folds: none; at least 1 is needed")
    if not (whole.centered and training.centered):
        raise ValueError("held_out: uncentered moments; both splits must be centered")
    for name, given, wanted in (
        ("features", whole.features, training.features),
        ("targets", whole.targets, training.targets),
    ):
        if given != wanted:
            raise ValueError(f"folds: {given} {name}; the training split has {wanted}")
    cross, mean_x, mean_y = (jnp.stack(part) for part in zip(*parts, strict=True))
    return _held_out(whole, training, cross, mean_x, mean_y)


@jax.jit
def _held_out(
    whole: Moments, training: Moments, cross: Array, mean_x: Array, mean_y: Array
) -> HeldOut:
    unit = whole.scale / training.scale
    dx = (whole.mean_x - training.mean_x) / training.scale
    dy = whole.mean_y - training.mean_y
    apart = (mean_x - whole.mean_x) / training.scale, mean_y - whole.mean_y
    return HeldOut(
        second_moment=whole.second_moment * unit[:, None] * unit + jnp.outer(dx, dx),
        cross_moment=whole.cross_moment * unit[:, None] + jnp.outer(dx, dy),
        label_variance=whole.label_moment.trace() + dy @ dy,
        folds=cross * unit[:, None] + apart[0][:, :, None] * apart[1][:, None],
        target_variances=whole.label_moment.diagonal() + dy**2,
    )


def nested_loss(coordinates: Array, cross: Array, gram: Array, total: Array) -> Array:
    """(R,) E‖Wᵀ z − y‖² of heads W on the first K features z, for every K = 1 .. R.

    Args:
      coordinates: (R, C) whose first K rows are the head on the first K features.
      cross: (R, C) E[z yᵀ] where the loss is taken.
      gram: (R, R) E[z zᵀ] there.
      total: E‖y‖² there.
    """
    # tr(Wᵀ E[z zᵀ] W) over the leading K x K block.
    joint = (coordinates @ coordinates.T) * gram
    squares = 2 * jnp.sum(jnp.tril(joint), axis=1) - jnp.diagonal(joint)
    return total + jnp.cumsum(squares - 2 * jnp.sum(coordinates * cross, axis=1))


def held_out_curves(
    coordinates: Array, cross: Array, gram: Array, folds: Array, total: Array
) -> tuple[Array, Array]:
    """What a test split says of heads on the first K features, for every K = 1 .. R.

    Args:
      coordinates: as in `nested_loss`, like `cross` and `gram`, both of the test split.
      cross: see coordinates.
      gram: see coordinates.
      folds: (R, Fn, C) E[z yᵀ] of each fold; see `HeldOut`.
      total: as in `nested_loss`, the label variance of the test split.

    Returns:
      (R,) the share of it that is explained, and (R, Fn) the agreement of prediction and labels on
      each fold, as a share of it.
    """
    agreement = jnp.cumsum(jnp.einsum("kc,kbc->kb", coordinates, folds), axis=0)
    return 1 - nested_loss(coordinates, cross, gram, total) / total, agreement / total


def explained_by_task(
    coordinates: Array, cross: Array, gram: Array, variances: Array, tasks: tuple[int, ...]
) -> Array:
    """(R, T) the share of each task's variance that is explained, for every K = 1 .. R.

    Args:
      coordinates: as in `nested_loss`, like `cross` and `gram`.
      cross: see coordinates.
      gram: see coordinates.
      variances: (C,) of the targets where the loss is taken.
      tasks: (C,) the task of each target, 0 .. T - 1.
    """
    curves = []
    for task in range(max(tasks) + 1):
        own = np.flatnonzero(np.asarray(tasks) == task)
        total = jnp.sum(variances[own])
        loss = nested_loss(coordinates[:, own], cross[:, own], gram, total)
        curves.append(1 - loss / total)
    return jnp.stack(curves, axis=1)


def fitted_by_task(coordinates: Array, variances: Array, tasks: tuple[int, ...]) -> Array:
    """(R, T) the share of each task's variance that is explained where the heads were fitted.

    Args:
      coordinates: (R, C) heads on features of unit second moment.
      variances: (C,) of the targets there.
      tasks: as in `explained_by_task`.
    """
    member = np.asarray(tasks)[:, None] == np.arange(max(tasks) + 1)
    of_task = jnp.asarray(member, coordinates.dtype)
    return jnp.cumsum(coordinates**2 @ of_task, axis=0) / (variances @ of_task)


def agreement_by_task(
    coordinates: Array, folds: Array, variances: Array, tasks: tuple[int, ...]
) -> Array:
    """(R, T, Fn) agreement of each task's predictions and labels on each fold, for every K.

    Args:
      coordinates: as in `held_out_curves`, like `folds`.
      folds: see coordinates.
      variances: (C,) of the targets on the whole test split.
      tasks: as in `explained_by_task`.
    """
    curves = []
    for task in range(max(tasks) + 1):
        own = np.flatnonzero(np.asarray(tasks) == task)
        products = jnp.einsum("kc,kbc->kb", coordinates[:, own], folds[..., own])
        curves.append(jnp.cumsum(products, axis=0) / jnp.sum(variances[own]))
    return jnp.stack(curves, axis=1)


def held_out_r2(
    spectrum: Spectrum, held_out: HeldOut, tasks: tuple[int, ...] | None = None
) -> Array:
    """(D,) 1 − loss / variance on the test split, of heads on K principal directions for every K.

    Directions and heads are the training split's, so this falls where K overfits, and may be
    negative.

    Args:
      spectrum: of the training split, with all of its directions (by the D-side).
      held_out: from `held_out`.
      tasks: (C,) the task of each target, 0 .. T - 1: then (D, T), of each task's own variance.

    Raises:
      ValueError: the spectrum keeps too few directions.

    Example:
      >>> x, y = np.random.default_rng(0).normal(size=(50, 6)), np.arange(50) % 2
      >>> training, test = reconjax.moments(x[:30], y[:30]), reconjax.moments(x[30:], y[30:])
      >>> held_out = reconjax.held_out([test], training)
      >>> reconjax.theory.held_out_r2(reconjax.spectrum(training), held_out).shape
      (6,)
    """
    spectrum.check_kept(spectrum.eigenvalues.shape[0], "the held-out curve")
    return _held_out_r2(spectrum, held_out, tasks)


@jax.jit(static_argnames="tasks")
@highest
def _held_out_r2(spectrum: Spectrum, held_out: HeldOut, tasks: tuple[int, ...] | None) -> Array:
    features = spectrum.eigenvectors * inverse_root(spectrum.eigenvalues)
    gram = features.T @ held_out.second_moment @ features
    cross, total = features.T @ held_out.cross_moment, held_out.label_variance
    if tasks is not None:
        assert held_out.target_variances is not None
        variances = held_out.target_variances
        return explained_by_task(spectrum.labels.T, cross, gram, variances, tasks)
    return 1 - nested_loss(spectrum.labels.T, cross, gram, total) / total
