"""The compiled part of a sweep: every point of a grid of noises, on one device or on many."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.sharding import Mesh, PartitionSpec

from reconjax.grid.ray import (
    Judge,
    Principal,
    Ray,
    at,
    deviation,
    factorize,
    judge,
    judged,
    principal,
)
from reconjax.grid.subspace import (
    label_directions,
    noisy_whitening,
    oversampled,
    ray_basis,
    restricted,
    step,
)
from reconjax.linalg.precision import highest
from reconjax.linalg.rounding import mixing, nearby
from reconjax.noise import RayPoint
from reconjax.summary.moments import Moments
from reconjax.theory.alignment import direction_weights
from reconjax.theory.held_out import HeldOut
from reconjax.theory.optimum import Optimum, optimum, weights
from reconjax.theory.uncertainty import Uncertain

# Random combinations of directions whose residual stands for that of all of them.
PROBES = 8


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
      agreement: (P, R, L, Kn, B) by folds of the test split, or None; see `Sweep`.
    """

    supervised_loss: Array
    reconstruction_loss: Array
    alignment: Array
    error: Array
    reduced: Array
    rank: Array
    held_out: Array | None = None
    agreement: Array | None = None


class Factorized(NamedTuple):
    """A ray, and what is known of its errors.

    Attributes:
      ray: the ray.
      again: the same with another cut-off and other rounding; all 0 where neither matters.
      doubtful: whether they matter.
      uncertain: what the moments leave open.
    """

    ray: Ray
    again: Ray
    doubtful: Array
    uncertain: Uncertain


# From which relative error of the whitened data on a ray is factorized again to see what it does.
DOUBTFUL = {"float64": 1e-7, "float32": 1e-3}


class Options(NamedTuple):
    """What is part of the compiled program.

    Attributes:
      clean: read out on clean inputs.
      batch_size: points solved side by side.
      dtype: of the points.
      progress: called for every finished point.
      leading: the latent dimensions that a subspace must serve; 0: none, solve in full.
    """

    clean: bool
    batch_size: int
    dtype: Any
    progress: Callable[[], None] | None
    leading: int


@jax.jit(static_argnames=("options", "mesh"))
@highest
def solve_grid(
    moments: Moments,
    points: RayPoint,
    levels: Array,
    latent_dims: Array,
    tolerance: Array,
    rays: Factorized | None,
    held_out: HeldOut | None = None,
    *,
    options: Options,
    mesh: Mesh | None = None,
) -> Curves:
    """All curves, on one device or with the grid dealt to those of a mesh ("ray", "strength").

    Args:
      moments: of the data.
      points: (P, R) points, the direction's leaves (P, ...).
      levels: (L,) λ.
      latent_dims: (Kn,) K.
      tolerance: of r2, for rays in a subspace.
      rays: (P, ...) rays that are factorized already, or None.
      held_out: what the test split says, or None.
      options: static.
      mesh: every device, and every process, gets the whole result.
    """

    arguments = (moments, points, levels, latent_dims, tolerance, rays, held_out)
    if mesh is None:
        return _solve_rays(options, *arguments)

    def part(*arguments: Any) -> Curves:
        found = _solve_rays(options, *arguments)

        def whole(curve: Array) -> Array:
            if curve.ndim > 1:
                curve = jax.lax.all_gather(curve, "strength", axis=1, tiled=True)
            return jax.lax.all_gather(curve, "ray", tiled=True)

        reduced = jax.lax.pmin(found.reduced.astype(jnp.int32), "strength") > 0
        return jax.tree.map(whole, found._replace(reduced=reduced))

    everywhere, rows = PartitionSpec(), PartitionSpec("ray")
    along = PartitionSpec("ray", "strength")
    grid: Any = RayPoint(rows, *(along,) * 3)  # type: ignore[arg-type]
    specs = (everywhere, grid, *(everywhere,) * 3, rows, everywhere)
    sharded = jax.shard_map(part, mesh=mesh, in_specs=specs, out_specs=everywhere, check_vma=False)
    return sharded(*arguments)


def _solve_rays(
    options: Options,
    moments: Moments,
    points: RayPoint,
    levels: Array,
    latent_dims: Array,
    tolerance: Array,
    rays: Factorized | None,
    held_out: HeldOut | None,
) -> Curves:
    """The rays that one device has, one after the other."""
    data = principal(moments) if rays is None else None

    def one_ray(both: tuple[RayPoint, Any]) -> Curves:
        row, ray = both
        task = _Task(moments, row, levels, latent_dims, held_out, options)
        if ray is not None or data is None:
            return _in_full(task, ray)
        if options.leading:
            return _in_subspace(task, data, tolerance)
        return _in_full(task, _factorized(moments, task.direction(), data))

    return jax.lax.map(one_ray, (points, rays))


def _factorized(moments: Moments, direction: Array, data: Principal) -> Factorized:
    ray = factorize(moments, direction, data=data)
    doubtful = ray.magnified > DOUBTFUL[ray.clean.dtype.name]
    doubtful |= (data.clear < data.rank) | (jnp.max(data.uncertain.missing) > 0)
    again = jax.lax.cond(
        doubtful,
        lambda: factorize(moments, direction, data=data, again=True),
        lambda: jax.tree.map(jnp.zeros_like, ray),
    )
    return Factorized(ray, again, doubtful, data.uncertain)


@jax.jit(static_argnames="dtype")
@highest
def factorized(moments: Moments, points: RayPoint, *, dtype: Any) -> Factorized:
    """(P, ...) the rays of a grid, factorized one after the other and kept in another dtype."""
    data = principal(moments)

    def one_ray(row: RayPoint) -> Factorized:
        direction = row.direction.covariance(moments.second_moment)
        return _cast(_factorized(moments, direction, data), dtype)

    return jax.lax.map(one_ray, points)


class _Task(NamedTuple):
    """One ray and what is asked of it."""

    moments: Moments
    row: RayPoint
    levels: Array
    latent_dims: Array
    held_out: HeldOut | None
    options: Options

    def direction(self) -> Array:
        return self.row.direction.covariance(self.moments.second_moment)

    def grid(self) -> Array:
        return jnp.arange(self.row.share.shape[0] * self.levels.shape[0], dtype=jnp.int32)

    def point(self, index: Array) -> tuple[RayPoint, Array]:
        """The noise and λ of one point."""
        strength, level = jnp.divmod(index, jnp.int32(self.levels.shape[0]))
        row = self.row
        here = (values[strength] for values in (row.share, row.scale, row.keep))
        return RayPoint(None, *here), self.levels[level]

    def solve(self, ray: Ray, index: Array, leading: int | None = None) -> Optimum:
        point, level = self.point(index)
        label_moment = self.moments.label_moment.astype(ray.clean.dtype)
        return optimum(at(ray, point, label_moment), level, self.options.clean, leading)

    def curves(self, ray: Ray, found: Optimum, attainable: Array) -> tuple[Array, ...]:
        """Supervised and reconstruction loss, and alignment of a point."""
        label_moment = self.moments.label_moment.astype(ray.clean.dtype)
        alignment = jnp.cumsum(direction_weights(found.coordinates.T, label_moment)[0])
        curves = found.supervised_loss, found.reconstruction_loss, alignment / attainable
        return tuple(curve[self.latent_dims - 1] for curve in curves)

    def error(self, ray: Ray, found: Optimum, uncertain: Uncertain, index: Array) -> Array:
        """(R,) estimated error of r2 of a point, for every K."""
        total = self.moments.label_moment.trace().astype(ray.clean.dtype)
        epsilon = float(jnp.finfo(total.dtype).eps)
        size = found.eigenvalues.shape[0]
        error = mixing(found.eigenvalues, found.coordinates)
        if self.options.clean and size == found.rotation.shape[0]:
            # On all directions the clean read-out explains all that can be explained. What is
            # short of it was lost among the directions that rounding hardly tells from none.
            short = jnp.abs(jnp.sum(found.coordinates**2) - ray.explainable)
            weak = found.eigenvalues < 100 * size * epsilon * found.eigenvalues[0]
            error = error + jnp.where(weak, short, 0.0)
        # Labels are predicted from all directions at once.
        supervised = ~jnp.isinf(self.point(index)[1])
        within, missing = (
            jnp.where(supervised, jnp.max(curve), curve[:size]).astype(error.dtype)
            for curve in uncertain
        )
        # The factor is what the estimate was off by at most, but for a few points, on real data.
        error = 3 * (error + within) + missing
        return error / total + 8 * epsilon

    def judge(self, transform: Array) -> Judge | None:
        """The test split in the coordinates of the ray."""
        if self.held_out is None:
            return None
        noise = None
        if not self.options.clean:
            noise = self.row.direction.covariance(self.held_out.second_moment)
        return _cast(judge(self.held_out, transform, noise), self.options.dtype)

    def judged(self, by: Judge | None, ray: Ray, found: Optimum, index: Array) -> tuple[Array, ...]:
        """Explained share and agreement on the test split, where there is one."""
        if by is None:
            return ()
        curves = judged(by, ray, self.point(index)[0], found)
        return tuple(curve[self.latent_dims - 1] for curve in curves)

    def finished(self, index: Array) -> None:
        progress = self.options.progress
        if progress is not None:
            # With an argument, points that are solved side by side are told one by one.
            jax.debug.callback(lambda _: progress(), index)

    def shaped(self, curves: Any, reduced: Array, rank: Array) -> Curves:
        shape = self.row.share.shape[0], self.levels.shape[0]
        found = [curve.reshape(*shape, *curve.shape[1:]) for curve in curves]
        return Curves(*found[:4], reduced, rank, *found[4:])  # type: ignore[call-arg]


def _in_full(task: _Task, whole: Factorized) -> Curves:
    """A ray with every direction of the data."""
    by = task.judge(whole.ray.transform)
    whole = _cast(whole, task.options.dtype)
    ray, total = whole.ray, task.moments.label_moment.trace().astype(task.options.dtype)

    def one_point(index: Array) -> tuple[Array, ...]:
        found = task.solve(ray, index)
        curves = task.curves(ray, found, ray.attainable)

        def changed() -> Array:
            again = task.solve(whole.again, index)
            return 3 * nearby(jnp.abs(again.supervised_loss - found.supervised_loss)) / total

        # Without noise nothing is whitened. Where that magnifies rounding by little, the estimate
        # of it need not be sharp.
        noisy = task.point(index)[0].share > 0
        magnified = jnp.full(found.supervised_loss.shape, 4 * ray.magnified)
        error = task.error(ray, found, whole.uncertain, index)
        change = jax.lax.cond(whole.doubtful & noisy, changed, lambda: magnified)
        error = error + jnp.where(noisy, change, 0.0)
        error = jnp.minimum(error, 1.0)[task.latent_dims - 1]
        curves = *curves, error, *task.judged(by, ray, found, index)
        task.finished(index)
        return curves

    batch_size = task.options.batch_size
    batches = None if batch_size == 1 else batch_size
    curves = jax.lax.map(one_point, task.grid(), batch_size=batches)
    return task.shaped(curves, jnp.asarray(False), ray.rank)


def _in_subspace(task: _Task, data: Principal, tolerance: Array) -> Curves:
    """A ray in a subspace where that is good enough, else in full."""
    moments, direction, options = task.moments, task.direction(), task.options
    strongest = jnp.max(task.row.share)
    leading = data.directions[:, : oversampled(options.leading)]
    basis = ray_basis(moments, direction, leading, strongest)
    # Rounding leaves directions without data in a basis. They do no harm to the data that it was
    # made of, but a test split may vary along them: features that were constant are left out, and
    # where others are linearly dependent, a test split is judged in full.
    varies = jnp.diagonal(moments.second_moment) > 0
    basis = jnp.where(varies[:, None], basis, 0.0)
    judged = task.held_out is not None
    whole = data.rank == jnp.sum(varies, dtype=jnp.int32) if judged else jnp.asarray(True)
    exact = restricted(moments, direction, basis)
    ray = _cast(exact, options.dtype)
    attainable = data.attainable.astype(options.dtype)
    count = leading.shape[1]
    transform = basis @ exact.transform
    by = task.judge(transform)

    levels = task.levels.shape[0]

    def one_point(worst: tuple[Array, ...], index: Array) -> tuple[Any, Any]:
        found = task.solve(ray, index, count)
        size = _residual(task, direction, ray, transform, found, index)
        level = index % levels
        worse = size > worst[0][level]
        worst = tuple(
            old.at[level].set(jnp.where(worse, new, old[level]))
            for new, old in zip((size, index), worst, strict=True)
        )
        curves = task.curves(ray, found, attainable)
        error = task.error(ray, found, data.uncertain, index)[task.latent_dims - 1]
        return worst, (*curves, error, *task.judged(by, ray, found, index))

    dtype = moments.second_moment.dtype
    start = jnp.full(levels, -1.0, dtype), jnp.zeros(levels, jnp.int32)
    (_, worst), curves = jax.lax.scan(one_point, start, task.grid())

    def missing_at(index: Array) -> Array:
        """What one step further changes at a point, in the precision of the whitening."""
        point, level = task.point(index)
        here = task.solve(exact, index, count)
        vectors = transform @ (deviation(exact, point)[:, None] * here.rotation)
        vectors = vectors / jnp.maximum(jnp.linalg.norm(vectors, axis=0), jnp.finfo(dtype).tiny)
        whitening = noisy_whitening(moments, direction, point.share)
        second, cross = moments.second_moment, moments.cross_moment
        further = step(whitening, second, vectors, cross, *weights(level, dtype))
        further = jnp.concatenate([vectors, further, label_directions(whitening, cross)], axis=1)
        wider = restricted(moments, direction, jnp.linalg.qr(further)[0])
        change = task.solve(wider, index, count).supervised_loss - here.supervised_loss
        return jnp.abs(change[task.latent_dims - 1])

    # A step that finds half of what is missing would show half of it.
    total = moments.label_moment.trace()
    missing = 2 * jnp.max(jax.lax.map(missing_at, worst), axis=0) / total

    def accepted() -> Curves:
        if options.progress is not None:
            jax.lax.map(task.finished, task.grid())
        error = jnp.maximum(curves[3], missing.astype(options.dtype))
        return task.shaped((*curves[:3], error, *curves[4:]), jnp.asarray(True), data.rank)

    return jax.lax.cond(
        whole & (jnp.max(missing) <= tolerance.astype(dtype)),
        accepted,
        lambda: _in_full(task, _factorized(moments, direction, data)),
    )


def _residual(
    task: _Task,
    direction: Array,
    ray: Ray,
    transform: Array,
    found: Optimum,
    index: Array,
) -> Array:
    """‖F Fᵀ V Θ⁻¹ − G V‖ / ‖G V‖ of the leading directions, from a few random combinations."""
    moments, leading, dtype = task.moments, task.options.leading, transform.dtype
    point, level = task.point(index)
    share, scale, keep = (value.astype(dtype) for value in point[1:])
    theta = found.eigenvalues[:leading].astype(dtype)
    inverse = jnp.where(theta > 0, 1 / jnp.where(theta > 0, theta, 1.0), 0.0)
    probes = jax.random.normal(jax.random.key(0), (leading, PROBES), dtype)
    probes = jnp.concatenate([inverse[:, None] * probes, probes], axis=1)
    deviations = deviation(ray, point).astype(dtype) * jax.lax.rsqrt(scale)
    mixed = found.rotation[:, :leading].astype(dtype) @ probes
    mixed = transform @ (deviations[:, None] * mixed)
    by_inverse, plain = mixed[:, :PROBES], mixed[:, PROBES:]
    second, cross = moments.second_moment, moments.cross_moment
    alpha, weight = weights(level, dtype)
    left = weight * (second @ (second @ by_inverse)) + alpha * (cross @ (cross.T @ by_inverse))
    right = scale * ((1 - share) * (second @ plain) + share * (direction @ plain))
    return jnp.linalg.norm(keep**2 * left - right) / jnp.linalg.norm(right)


def _cast(tree: Any, dtype: Any) -> Any:
    return jax.tree.map(
        lambda leaf: leaf.astype(dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf, tree
    )
