"""A test split in the coordinates of a ray: what encoders and heads explain of new data."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from reconjax.grid.ray import Ray, inverse_deviation
from reconjax.noise import RayPoint
from reconjax.theory.held_out import (
    HeldOut,
    agreement_by_task,
    explained_by_task,
    held_out_curves,
)
from reconjax.theory.optimum import Optimum


class TestMoments(NamedTuple):
    """A test split in the coordinates Tᵀ x of a ray, m of them; see `HeldOut`.

    Attributes:
      clean: (m, m) second moment of the clean inputs.
      noise: (m, m) that of B on the test split; None where the read-out is clean.
      cross: (m, C) with the labels.
      folds: (m, Fn, C) the same of each fold.
      label_variance: as in `HeldOut`, like `target_variances`.
      target_variances: see label_variance.
    """

    clean: Array
    noise: Array | None
    cross: Array
    folds: Array
    label_variance: Array
    target_variances: Array | None = None


def test_moments(held_out: HeldOut, transform: Array, noise: Array | None) -> TestMoments:
    """The test split, given T (D, m), and B (D, D) there where the read-out is noisy."""
    return TestMoments(
        clean=transform.T @ held_out.second_moment @ transform,
        noise=None if noise is None else transform.T @ noise @ transform,
        cross=transform.T @ held_out.cross_moment,
        folds=jnp.einsum("dm,bdc->mbc", transform, held_out.folds),
        label_variance=held_out.label_variance,
        target_variances=held_out.target_variances,
    )


class TestSplit(NamedTuple):
    """A test split on a ray: with noise, and without, where there are the principal directions."""

    noisy: TestMoments
    noiseless: TestMoments


def test_split(held_out: HeldOut, ray: Ray, noise: Array | None) -> TestSplit:
    """The test split in the coordinates of a ray; arguments as `test_moments`."""
    noisy = test_moments(held_out, ray.transform, noise)
    regular = ray.rank == held_out.second_moment.shape[0]
    noiseless = jax.lax.cond(
        regular, lambda: noisy, lambda: test_moments(held_out, ray.noiseless, noise)
    )
    return TestSplit(noisy, noiseless)


def held_out_at(
    split: TestSplit, ray: Ray, point: RayPoint, best: Optimum, tasks: tuple[int, ...] = ()
) -> tuple[Array, ...]:
    """What the test split says of the optimum at a point of a ray, for every K.

    Returns:
      (K,) the share of the label variance that encoder and head explain there, and (K, Fn) the
      agreement of their prediction with the labels of each fold, as a share of it; with `tasks`,
      the same of each task, (K, T) and (K, T, Fn).
    """
    share, scale, keep = (value.astype(ray.clean.dtype) for value in point[1:])
    test: TestMoments = jax.tree.map(lambda a, b: jnp.where(share > 0, a, b), *split)
    unit = jax.lax.rsqrt(scale)
    vectors = inverse_deviation(ray, point)[:, None] * best.rotation
    gram = vectors.T @ test.clean @ vectors
    cross = unit * (vectors.T @ test.cross)
    folds = unit * jnp.einsum("mk,mbc->kbc", vectors, test.folds)
    if test.noise is not None:
        gram = (1 - share) * gram + share * (vectors.T @ test.noise @ vectors)
        cross, folds = keep * cross, keep * folds
    elif best.readout_factor is not None:
        # The features of which `coordinates` are the head have unit second moment on clean data.
        factor = best.readout_factor

        def whiten(right: Array) -> Array:
            return jax.scipy.linalg.solve_triangular(factor, right, lower=True)

        gram = whiten(whiten(unit**2 * gram).T)
        cross = whiten(cross)
        folds = whiten(folds.reshape(len(folds), -1)).reshape(folds.shape)
    curves = held_out_curves(best.coordinates, cross, gram, folds, test.label_variance)
    if not tasks or test.target_variances is None:
        return curves
    heads, variances = best.coordinates, test.target_variances
    explained = explained_by_task(heads, cross, gram, variances, tasks)
    return *curves, explained, agreement_by_task(heads, folds, variances, tasks)
