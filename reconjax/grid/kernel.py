"""The compiled part of a sweep: every point of a grid of noises, on one device or on many."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.sharding import Mesh, PartitionSpec
from jax.typing import DTypeLike

from reconjax.grid.new_data import TestSplit
from reconjax.grid.ray import (
    Principal,
    Ray,
    aimed,
    factorize,
    inverse_deviation,
    principal,
    read_out_by,
)
from reconjax.grid.subspace import (
    label_directions,
    noisy_whitening,
    oversampled,
    ray_basis,
    restricted,
    step,
)
from reconjax.grid.task import Curves, Options, Task, cast
from reconjax.linalg.eigen import inverse_root
from reconjax.linalg.precision import highest
from reconjax.linalg.rounding import nearby
from reconjax.noise import RayPoint
from reconjax.summary.moments import Moments
from reconjax.theory.held_out import HeldOut
from reconjax.theory.optimum import Optimum, weights
from reconjax.theory.targets import Target
from reconjax.theory.uncertainty import Uncertain

Targets = tuple[Target | None, ...]

# Random combinations of directions whose residual stands for that of all of them.
PROBES = 8


class Factorized(NamedTuple):
    """A ray, and what is known of its errors.

    Attributes:
      ray: the ray.
      again: the same with another cut-off and other rounding; all 0 where neither matters.
      doubtful: whether they matter.
      uncertain: what the moments leave open.
      test: the test split in the coordinates of the ray, where whoever factorized it knows it; else
        it is made of `held_out`, if that is there.
    """

    ray: Ray
    again: Ray
    doubtful: Array
    uncertain: Uncertain
    test: TestSplit | None = None

    def read_out_by(self, labeled: Principal) -> "Factorized":
        """With heads on other samples; arguments as `reconjax.grid.ray.read_out_by`."""
        ray, again = (read_out_by(ray, labeled) for ray in (self.ray, self.again))
        unknown = jax.tree.map(jnp.maximum, self.uncertain, labeled.uncertain)
        return self._replace(ray=ray, again=again, uncertain=unknown)

    def aimed(
        self, data: Principal, target: Target | None, predicted: Array | None = None
    ) -> "Factorized":
        """With a target in place of x; arguments as `reconjax.grid.ray.aimed`."""
        ray, again = (aimed(ray, data, target, predicted) for ray in (self.ray, self.again))
        return self._replace(ray=ray, again=again)


# From which relative error of the whitened data on a ray is factorized again to see what it does.
DOUBTFUL = {"float64": 1e-7, "float32": 1e-3}


@jax.jit(static_argnames=("options", "mesh"))
@highest
def solve_grid(
    moments: Moments,
    points: RayPoint,
    levels: Array,
    latent_dims: Array,
    tolerance: Array,
    rays: tuple[Factorized, ...] | None,
    held_out: HeldOut | None = None,
    targets: Targets = (None,),
    labeled: Moments | None = None,
    *,
    options: Options,
    mesh: Mesh | None = None,
) -> tuple[Curves, ...]:
    """All curves, on one device or with the grid dealt to those of a mesh ("ray", "strength").

    Args:
      moments: of the data.
      points: (P, R) points, the direction's leaves (P, ...).
      levels: (L,) λ.
      latent_dims: (Kn,) K.
      tolerance: of r2, for rays in a subspace.
      rays: (P, ...) rays that are factorized already, for each target, or None.
      held_out: what the test split says, or None.
      targets: what is predicted; None for x. One factorization of a ray serves them all.
      labeled: of those samples that heads are fitted on; None: of those of `moments`.
      options: static.
      mesh: every device, and every process, gets the whole result.

    Returns:
      The curves of each target.
    """

    arguments = (moments, points, levels, latent_dims, tolerance, rays, held_out, targets, labeled)
    if mesh is None:
        return _solve_rays(options, *arguments)

    def part(*arguments: Any) -> tuple[Curves, ...]:
        def whole(curve: Array) -> Array:
            if curve.ndim > 1:
                curve = jax.lax.all_gather(curve, "strength", axis=1, tiled=True)
            return jax.lax.all_gather(curve, "ray", tiled=True)

        def everywhere(curves: Curves) -> Curves:
            reduced = jax.lax.pmin(curves.reduced.astype(jnp.int32), "strength") > 0
            return jax.tree.map(whole, curves._replace(reduced=reduced))

        return tuple(map(everywhere, _solve_rays(options, *arguments)))

    everywhere, rows = PartitionSpec(), PartitionSpec("ray")
    along = PartitionSpec("ray", "strength")
    grid: Any = RayPoint(rows, *(along,) * 3)  # type: ignore[arg-type]
    specs = (everywhere, grid, *(everywhere,) * 3, rows, *(everywhere,) * 3)
    sharded = jax.shard_map(part, mesh=mesh, in_specs=specs, out_specs=everywhere, check_vma=False)
    return sharded(*arguments)


def _solve_rays(
    options: Options,
    moments: Moments,
    points: RayPoint,
    levels: Array,
    latent_dims: Array,
    tolerance: Array,
    rays: tuple[Factorized, ...] | None,
    held_out: HeldOut | None,
    targets: Targets,
    labeled: Moments | None,
) -> tuple[Curves, ...]:
    """The rays that one device has, one after the other."""
    data = principal(moments) if rays is None else None
    read = None if labeled is None else principal(labeled)

    def along_ray(both: tuple[RayPoint, tuple[Factorized, ...] | None]) -> tuple[Curves, ...]:
        row, ready = both
        task = Task(moments, row, levels, latent_dims, held_out, options)
        if ready is not None:
            return tuple(_in_full(task, ray) for ray in ready)
        assert data is not None
        if options.leading and targets == (None,):
            return (_in_subspace(task, data, tolerance),)
        ray = _factorized(moments, task.direction(), data, _ties(targets), read)
        ray = ray._replace(test=task.test_split(ray.ray))

        def predicting(target: Target | None) -> Curves:
            if options.leading and target is None:
                return _in_subspace(task, data, tolerance, ray)
            return _in_full(task, ray.aimed(data, target))

        return tuple(map(predicting, targets))

    return jax.lax.map(along_ray, (points, rays))


def _ties(targets: Targets) -> bool:
    """Whether some rays are for joint embedding."""
    return any(target is not None and target.embedding for target in targets)


def _factorized(
    moments: Moments,
    direction: Array,
    data: Principal,
    ties: bool = False,
    read: Principal | None = None,
) -> Factorized:
    ray = factorize(moments, direction, data=data, ties=ties)
    doubtful = ray.magnified > DOUBTFUL[ray.clean.dtype.name]
    doubtful |= (data.clear < data.rank) | (jnp.max(data.uncertain.missing) > 0)
    again = jax.lax.cond(
        doubtful,
        lambda: factorize(moments, direction, data=data, again=True, ties=ties),
        lambda: jax.tree.map(jnp.zeros_like, ray),
    )
    whole = Factorized(ray, again, doubtful, data.uncertain)
    return whole if read is None else whole.read_out_by(read)


@jax.jit(static_argnames="dtype")
@highest
def factorized(
    moments: Moments,
    points: RayPoint,
    targets: Targets,
    labeled: Moments | None,
    *,
    dtype: DTypeLike,
) -> tuple[Factorized, ...]:
    """(P, ...) the rays of a grid, factorized one after the other and kept in another dtype."""
    data, read = principal(moments), None if labeled is None else principal(labeled)

    def factorize_ray(row: RayPoint) -> tuple[Factorized, ...]:
        direction = row.direction.covariance(moments.second_moment)
        ray = _factorized(moments, direction, data, _ties(targets), read)
        return tuple(cast(ray.aimed(data, target), dtype) for target in targets)

    return jax.lax.map(factorize_ray, points)


def _in_full(task: Task, whole: Factorized) -> Curves:
    """A ray with every direction of the data."""
    test = task.test_split(whole.ray) if whole.test is None else whole.test
    whole = cast(whole, task.options.dtype)
    ray, total = whole.ray, task.moments.label_moment.trace().astype(task.options.dtype)

    def at_point(index: Array) -> dict[str, Array]:
        best = task.solve(ray, index, task.options.read_out)
        curves = task.curves(ray, best, ray.attainable)

        def changed() -> Array:
            again = task.solve(whole.again, index, task.options.read_out)
            return 3 * nearby(jnp.abs(again.supervised_loss - best.supervised_loss)) / total

        # Without noise nothing is whitened. Where that magnifies rounding by little, the estimate
        # of it need not be sharp.
        noisy = task.point(index)[0].share > 0
        magnified = jnp.full(best.supervised_loss.shape, 4 * ray.magnified)
        error = task.error(ray, best, whole.uncertain, index)
        change = jax.lax.cond(whole.doubtful & noisy, changed, lambda: magnified)
        error = error + jnp.where(noisy, change, 0.0)
        error = jnp.minimum(error, 1.0)[task.latent_dims - 1]
        curves |= {"error": error, **task.on_test_split(test, ray, best, index)}
        task.finished(index)
        return curves

    batch_size = task.options.batch_size
    batches = None if batch_size == 1 else batch_size
    curves = jax.lax.map(at_point, task.grid(), batch_size=batches)
    return task.shaped(curves, jnp.asarray(False), ray.rank)


def _in_subspace(
    task: Task, data: Principal, tolerance: Array, ray_in_full: Factorized | None = None
) -> Curves:
    """A ray in a subspace where that is good enough, else in full."""
    moments, direction, options = task.moments, task.direction(), task.options
    strongest = jnp.max(task.row.share)
    leading = data.directions[:, : oversampled(options.leading)]
    unmasked = data.directions @ (inverse_root(data.eigenvalues)[:, None] * data.labels.T)
    basis = ray_basis(moments, direction, leading, unmasked, strongest)
    # Where rounding hides directions of the data, basis and check would both be without them.
    whole = (data.clear == data.rank) & (jnp.max(data.uncertain.missing) == 0)
    # Rounding leaves directions without data in a basis. They do no harm to the data that it was
    # made of, but a test split may vary along them: features that were constant are left out, and
    # where others are linearly dependent, a test split is evaluated in full.
    varies = jnp.diagonal(moments.second_moment) > 0
    basis = jnp.where(varies[:, None], basis, 0.0)
    if task.held_out is not None:
        whole &= data.rank == jnp.sum(varies, dtype=jnp.int32)
    exact = restricted(moments, direction, basis)
    ray = cast(exact, options.dtype)
    attainable = data.attainable.astype(options.dtype)
    count = leading.shape[1]
    transform = basis @ exact.transform
    # Accepted only where the principal directions give the same coordinates.
    test = task.test_split(exact._replace(transform=transform, noiseless=transform))

    levels = task.levels.shape[0]

    def at_point(worst: tuple[Array, ...], index: Array) -> tuple[Any, Any]:
        best = task.solve(ray, index, count)
        size = _residual(task, direction, ray, transform, best, index)
        level = index % levels
        worse = size > worst[0][level]
        worst = tuple(
            old.at[level].set(jnp.where(worse, new, old[level]))
            for new, old in zip((size, index), worst, strict=True)
        )
        curves = task.curves(ray, best, attainable)
        error = task.error(ray, best, data.uncertain, index)[task.latent_dims - 1]
        return worst, curves | {"error": error, **task.on_test_split(test, ray, best, index)}

    dtype = moments.second_moment.dtype
    start = jnp.full(levels, -1.0, dtype), jnp.zeros(levels, jnp.int32)
    (_, worst), curves = jax.lax.scan(at_point, start, task.grid())

    def missing_at(index: Array) -> Array:
        """What one step further changes at a point, in the precision of the whitening."""
        point, level = task.point(index)
        here = task.solve(exact, index, count)
        vectors = transform @ (inverse_deviation(exact, point)[:, None] * here.rotation)
        vectors = vectors / jnp.maximum(jnp.linalg.norm(vectors, axis=0), jnp.finfo(dtype).tiny)
        whitening = noisy_whitening(moments, direction, point.share)
        second, cross = moments.second_moment, moments.cross_moment
        further = step(whitening, second, vectors, cross, *weights(level, dtype))
        further = jnp.concatenate([vectors, further, label_directions(whitening, cross)], axis=1)
        wider = restricted(moments, direction, jnp.linalg.qr(further)[0])
        change = task.solve(wider, index, count).supervised_loss - here.supervised_loss
        return nearby(jnp.abs(change))[task.latent_dims - 1]

    # A step that finds half of what is missing would show half of it.
    total = moments.label_moment.trace()
    missing = 2 * jnp.max(jax.lax.map(missing_at, worst), axis=0) / total

    # Where labels count for most, the encoder changes most with the weakest noise, along directions
    # of so little variance that no residual shows it.
    most = jnp.argmin(task.levels).astype(jnp.int32)
    noises = jnp.where(task.row.share > 0, task.row.share, jnp.inf)
    weakest = jnp.argmin(noises).astype(jnp.int32) * levels + most
    missing_there = jax.lax.cond(
        jnp.isfinite(task.levels[most]),
        lambda: 2 * missing_at(weakest) / total,
        lambda: jnp.zeros_like(missing),
    )
    missing = jnp.maximum(missing, missing_there)

    def accepted() -> Curves:
        if options.progress is not None:
            jax.lax.map(task.finished, task.grid())
        error = jnp.maximum(curves["error"], missing.astype(options.dtype))
        return task.shaped(curves | {"error": error}, jnp.asarray(True), data.rank)

    def in_full() -> Curves:
        there = ray_in_full
        return _in_full(task, _factorized(moments, direction, data) if there is None else there)

    good_enough = whole & (jnp.max(missing) <= tolerance.astype(dtype))
    return jax.lax.cond(good_enough, accepted, in_full)


def _residual(
    task: Task,
    direction: Array,
    ray: Ray,
    transform: Array,
    best: Optimum,
    index: Array,
) -> Array:
    """‖F Fᵀ V Θ⁻¹ − G V‖ / ‖G V‖ of the leading directions, from a few random combinations."""
    moments, leading, dtype = task.moments, task.options.leading, transform.dtype
    point, level = task.point(index)
    share, scale, keep = (value.astype(dtype) for value in point[1:])
    theta = best.eigenvalues[:leading].astype(dtype)
    inverse = jnp.where(theta > 0, 1 / jnp.where(theta > 0, theta, 1.0), 0.0)
    probes = jax.random.normal(jax.random.key(0), (leading, PROBES), dtype)
    probes = jnp.concatenate([inverse[:, None] * probes, probes], axis=1)
    deviations = inverse_deviation(ray, point).astype(dtype) * jax.lax.rsqrt(scale)
    mixed = best.rotation[:, :leading].astype(dtype) @ probes
    mixed = transform @ (deviations[:, None] * mixed)
    by_inverse, plain = mixed[:, :PROBES], mixed[:, PROBES:]
    second, cross = moments.second_moment, moments.cross_moment
    alpha, weight = weights(level, dtype)
    left = weight * (second @ (second @ by_inverse)) + alpha * (cross @ (cross.T @ by_inverse))
    right = scale * ((1 - share) * (second @ plain) + share * (direction @ plain))
    return jnp.linalg.norm(keep**2 * left - right) / jnp.linalg.norm(right)
