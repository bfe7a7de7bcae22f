"""A ray of noises, all that it is solved for, and the curves of its points."""

from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from reconjax.grid.new_data import TestSplit, held_out_at, test_split
from reconjax.grid.ray import Ray, at
from reconjax.linalg.rounding import mixing
from reconjax.noise import RayPoint
from reconjax.summary.moments import Moments
from reconjax.theory.alignment import direction_weights
from reconjax.theory.held_out import HeldOut, fitted_by_task
from reconjax.theory.optimum import Optimum, optimum
from reconjax.theory.uncertainty import Uncertain

Tree = TypeVar("Tree")


class Curves(NamedTuple):
    """What a grid of P rays, R strengths, L weights and Kn latent dimensions gives.

    Attributes:
      supervised_loss: (P, R, L, Kn), like the reconstruction loss and the alignment.
      reconstruction_loss: see `supervised_loss`.
      alignment: see `supervised_loss`.
      error: (P, R, L, Kn) estimated error of r2.
      reduced: (P,) whether the ray was solved in a subspace.
      rank: (P,) number of directions of the data.
      held_out: (P, R, L, Kn) r2 on the test split, or None.
      agreement: (P, R, L, Kn, Fn) by folds of the test split, or None; see `Sweep`.
      target_loss: (P, R, L, Kn), or None; see `Sweep`.
      r2_by_task: (P, R, L, Kn, T), or None; see `Sweep`.
      held_out_by_task: (P, R, L, Kn, T), or None; see `Sweep`.
      agreement_by_task: (P, R, L, Kn, T, Fn), or None; see `Sweep`.
    """

    supervised_loss: Array
    reconstruction_loss: Array
    alignment: Array
    error: Array
    reduced: Array
    rank: Array
    held_out: Array | None = None
    agreement: Array | None = None
    target_loss: Array | None = None
    r2_by_task: Array | None = None
    held_out_by_task: Array | None = None
    agreement_by_task: Array | None = None


class Options(NamedTuple):
    """What is part of the compiled program.

    Attributes:
      clean: read out on clean inputs.
      batch_size: points solved side by side.
      dtype: of the points.
      progress: called for every finished point.
      leading: the latent dimensions that a subspace must serve; 0: none, solve in full.
      tasks: the task of each target, 0 .. T - 1; () where nobody asks.
      read_out: features that are read out where a ray is solved in full; None: all.
    """

    clean: bool
    batch_size: int
    dtype: DTypeLike
    progress: Callable[[], None] | None
    leading: int
    tasks: tuple[int, ...] = ()
    read_out: int | None = None


class Task(NamedTuple):
    """One ray, and all that it is solved for."""

    moments: Moments
    row: RayPoint
    levels: Array
    latent_dims: Array
    held_out: HeldOut | None
    options: Options

    def direction(self) -> Array:
        """(D, D) B."""
        return self.row.direction.covariance(self.moments.second_moment)

    def grid(self) -> Array:
        """Indices of the points, strength by strength."""
        return jnp.arange(self.row.share.shape[0] * self.levels.shape[0], dtype=jnp.int32)

    def point(self, index: Array) -> tuple[RayPoint, Array]:
        """The noise and λ of one point."""
        strength, level = jnp.divmod(index, jnp.int32(self.levels.shape[0]))
        row = self.row
        here = (values[strength] for values in (row.share, row.scale, row.keep))
        return RayPoint(None, *here), self.levels[level]

    def solve(self, ray: Ray, index: Array, leading: int | None = None) -> Optimum:
        """The optimum at one point; of the `leading` directions alone, or all."""
        point, level = self.point(index)
        label_moment = self.moments.label_moment.astype(ray.clean.dtype)
        return optimum(at(ray, point, label_moment), level, self.options.clean, leading)

    def curves(self, ray: Ray, best: Optimum, attainable: Array) -> dict[str, Array]:
        """The losses and the alignment of a point."""
        label_moment = self.moments.label_moment.astype(ray.clean.dtype)
        alignment = jnp.cumsum(direction_weights(best.coordinates.T, label_moment)[0])
        curves = {
            "supervised_loss": best.supervised_loss,
            "reconstruction_loss": best.reconstruction_loss,
            "alignment": alignment / attainable,
        }
        if best.target_loss is not None:
            curves["target_loss"] = best.target_loss
        if tasks := self.options.tasks:
            variances = label_moment.diagonal()
            curves["r2_by_task"] = fitted_by_task(best.coordinates, variances, tasks)
        return {name: curve[self.latent_dims - 1] for name, curve in curves.items()}

    def error(self, ray: Ray, best: Optimum, uncertain: Uncertain, index: Array) -> Array:
        """(R,) estimated error of r2 of a point, for every K."""
        total = self.moments.label_moment.trace().astype(ray.clean.dtype)
        epsilon = float(jnp.finfo(total.dtype).eps)
        size = best.eigenvalues.shape[0]
        error = mixing(best.eigenvalues, best.coordinates)
        if self.options.clean and size == best.rotation.shape[0]:
            # On all directions the clean read-out explains all that can be explained. What is
            # short of it was lost among the directions that rounding hardly tells from none.
            short = jnp.abs(jnp.sum(best.coordinates**2) - ray.explainable)
            weak = best.eigenvalues < 100 * size * epsilon * best.eigenvalues[0]
            error = error + jnp.where(weak, short, 0.0)
        # Labels are predicted from all directions at once.
        supervised = ~jnp.isinf(self.point(index)[1])
        within, missing = (
            jnp.where(supervised, jnp.max(curve), curve[:size]).astype(error.dtype)
            for curve in (uncertain.within, uncertain.missing)
        )
        # The factor is what the estimate was off by at most, but for a few points, on real data.
        error = 3 * (error + within) + missing
        return error / total + 8 * epsilon

    def test_split(self, ray: Ray) -> TestSplit | None:
        """The test split in the coordinates of the ray."""
        if self.held_out is None:
            return None
        noise = None
        if not self.options.clean:
            noise = self.row.direction.covariance(self.held_out.second_moment)
        return cast(test_split(self.held_out, ray, noise), self.options.dtype)

    def on_test_split(
        self, test: TestSplit | None, ray: Ray, best: Optimum, index: Array
    ) -> dict[str, Array]:
        """Explained share and agreement on the test split, where there is one."""
        if test is None:
            return {}
        curves = held_out_at(test, ray, self.point(index)[0], best, self.options.tasks)
        names = "held_out", "agreement", "held_out_by_task", "agreement_by_task"
        return {n: c[self.latent_dims - 1] for n, c in zip(names, curves, strict=False)}

    def finished(self, index: Array) -> None:
        """Reports a point."""
        progress = self.options.progress
        if progress is not None:
            # With an argument, points that are solved side by side are reported one by one.
            jax.debug.callback(lambda _: progress(), index)

    def shaped(self, curves: Mapping[str, Array], reduced: Array, rank: Array) -> Curves:
        """Curves (R L, ...) as (R, L, ...)."""
        shape = self.row.share.shape[0], self.levels.shape[0]
        shaped = {name: c.reshape(*shape, *c.shape[1:]) for name, c in curves.items()}
        return Curves(**shaped, reduced=reduced, rank=rank)


def cast(tree: Tree, dtype: DTypeLike) -> Tree:
    """The tree with its floating leaves in another dtype."""
    return jax.tree.map(
        lambda leaf: leaf.astype(dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf, tree
    )
