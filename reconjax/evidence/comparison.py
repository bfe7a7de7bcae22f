"""A fair comparison of noises: every family at its best strength, on data that chose nothing.

For every latent dimension K, the strength of a family is chosen on the training split, where
encoder and head are fitted too. Family and strength are then evaluated on the test split, fold by
fold and against no noise on the same fold, by r2; see `reconjax.evidence.p_values`. The p-value of
a family accounts for every strength of every family that was tried.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from reconjax.grid.subspace import oversampled, pays, solve_leading
from reconjax.grid.sweep import sweep
from reconjax.linalg.eigen import eigh_descending, inverse_root, significant
from reconjax.linalg.precision import highest
from reconjax.linalg.rounding import nearby
from reconjax.linalg.whitening import OTHER_CUT, whiten
from reconjax.noise import Noise, RayPoint
from reconjax.noise.families import Family
from reconjax.summary.moments import Moments
from reconjax.theory.chance import chance_curves
from reconjax.theory.checks import check_latent_dims
from reconjax.theory.held_out import (
    HeldOut,
    agreement_by_task,
    explained_by_task,
    fitted_by_task,
    held_out_curves,
)
from reconjax.theory.solver import Problem, Solution, problem, solve
from reconjax.theory.spectrum import Spectrum, spectrum
from reconjax.theory.targets import Target


class Comparison(NamedTuple):
    """J points, each a family at one strength, and no noise, at Kn latent dimensions.

    Attributes:
      latent_dim: (Kn,) K, int32.
      family: (J,) names.
      noise: (J,) texts, as `reconjax.noise.parse_noise` takes them.
      r2: (J, Kn) 1 − loss / label variance on the training split.
      held_out: (J, Kn) the same on the test split, for encoder and head of the training split.
      agreement: (J, Kn, Fn) E[y · f(x)] / label variance on each fold of the test split.
      error: (J, Kn) estimated numerical error of `r2`.
      r2_without: (Kn,) without noise, as the following two.
      held_out_without: (Kn,) see `held_out`.
      agreement_without: (Kn, Fn) see `agreement`.
      chance: (Kn,) `r2` for labels at random.
      rank: number of directions of the training data.
      r2_by_task: (J, Kn, T) of each of T tasks, where there are several; None where there are not,
        as the following.
      held_out_by_task: (J, Kn, T) see `held_out`.
      agreement_by_task: (J, Kn, T, Fn) see `agreement`.
      r2_by_task_without: (Kn, T) without noise, as the following two.
      held_out_by_task_without: (Kn, T) see `held_out`.
      agreement_by_task_without: (Kn, T, Fn) see `agreement`.
    """

    latent_dim: np.ndarray
    family: tuple[str, ...]
    noise: tuple[str, ...]
    r2: np.ndarray
    held_out: np.ndarray
    agreement: np.ndarray
    error: np.ndarray
    r2_without: np.ndarray
    held_out_without: np.ndarray
    agreement_without: np.ndarray
    chance: np.ndarray
    rank: int
    r2_by_task: np.ndarray | None = None
    held_out_by_task: np.ndarray | None = None
    agreement_by_task: np.ndarray | None = None
    r2_by_task_without: np.ndarray | None = None
    held_out_by_task_without: np.ndarray | None = None
    agreement_by_task_without: np.ndarray | None = None

    @property
    def tasks(self) -> int:
        """T; 0 where there is one task alone."""
        return 0 if self.r2_by_task is None else self.r2_by_task.shape[-1]

    def of_task(self, task: int) -> "Comparison":
        """The comparison for one of several tasks, 0 .. T - 1, alone.

        Its error is about T times that of all tasks at most, of which r2 is the mean.
        """
        own = {}
        for name in ("r2", "held_out", "agreement"):
            for end in ("", "_without"):
                curves = getattr(self, f"{name}_by_task{end}")
                own[f"{name}{end}"] = (
                    curves[..., task, :] if name == "agreement" else curves[..., task]
                )
                own[f"{name}_by_task{end}"] = None
        return self._replace(**own, error=self.error * self.tasks)


def compare(
    moments: Moments,
    held_out: HeldOut,
    families: Sequence[Family],
    latent_dims: ArrayLike,
    *,
    target: Target | None = None,
    tolerance: float = 0.0,
    principal: Spectrum | None = None,
    tasks: tuple[int, ...] | None = None,
    progress: Callable[[int], None] | None = None,
) -> Comparison:
    """Solves Theorem 3 (λ = inf, clean read-out) for every strength of every family.

    Families on a ray cost one factorization each (`sweep`), the others a solution a strength.

    Args:
      moments: of the training split, centered.
      held_out: the test split, from `reconjax.held_out`.
      families: from `reconjax.noise.families.families`.
      latent_dims: (Kn,) K in 1 .. the rank of the data.
      target: what is predicted in place of x, from `reconjax.theory.targets`; without noise, which
        all are compared with, it is x.
      tolerance: where K is far below D, the error of r2 that is accepted for
        solving in a subspace, as in `sweep`; 0: never. Data of rank below D are swept in full, and
        so are targets.
      principal: the spectrum of the moments, if it is there already.
      tasks: as in `sweep`.
      progress: called with the number of points after each family.

    Raises:
      ValueError: no family, uncentered moments, K out of range, as `sweep` and `problem`.

    Example:
      >>> from reconjax.noise.families import families
      >>> random = np.random.default_rng(0)
      >>> x, y = random.normal(size=(60, 2, 2, 1)), np.arange(60) % 2
      >>> parts = [reconjax.moments(x[i::3], y[i::3]) for i in range(3)]
      >>> moments, test = parts[0], reconjax.held_out(parts[1:], parts[0])
      >>> tried = families((2, 2, 1), moments, ["gaussian"])
      >>> comparison = reconjax.compare(moments, test, tried, [1, 2])
      >>> comparison.held_out.shape == (len(tried[0].noises), 2)
      True
    """
    if not families:
        raise ValueError("families: none; at least one is needed")
    if not moments.centered:
        raise ValueError("moments: they are not centered; centered moments are needed")
    principal = spectrum(moments) if principal is None else principal
    dims = check_latent_dims(latent_dims, int(principal.rank)).astype(np.int32)
    task = _Task(moments, held_out, principal, dims, tolerance, target, tasks or ())
    parts = []
    for family in families:
        parts.append(_family_curves(task, family))
        if progress is not None:
            progress(len(family.noises))
    curves = _joined(np.concatenate, parts)
    without = _clean_curves(task)._asdict()
    return Comparison(
        latent_dim=dims,
        family=tuple(family.name for family in families for _ in family.noises),
        noise=tuple(text for family in families for text in family.texts),
        **curves._asdict(),
        **{f"{name}_without": without[name] for name in without if name != "error"},
        chance=chance_curves(moments, int(principal.rank), dims)[1],
        rank=int(principal.rank),
    )


def concatenated(comparisons: Sequence[Comparison]) -> Comparison:
    """One comparison of all families of several that differ in nothing else."""
    first = comparisons[0]
    curves = [_Curves(*(getattr(part, name) for name in _Curves._fields)) for part in comparisons]
    joined: Any = {
        **_joined(np.concatenate, curves)._asdict(),
        "family": tuple(name for part in comparisons for name in part.family),
        "noise": tuple(text for part in comparisons for text in part.noise),
    }
    return first._replace(**joined)


class _Task(NamedTuple):
    """What every family is solved for and evaluated with."""

    moments: Moments
    held_out: HeldOut
    principal: Spectrum
    dims: np.ndarray
    tolerance: float
    target: Target | None
    tasks: tuple[int, ...]


class _Curves(NamedTuple):
    """Fields of `Comparison`, of points of one family (R, ...) or of one point (...)."""

    r2: np.ndarray
    held_out: np.ndarray
    agreement: np.ndarray
    error: np.ndarray
    r2_by_task: np.ndarray | None = None
    held_out_by_task: np.ndarray | None = None
    agreement_by_task: np.ndarray | None = None


def _joined(join: Callable[..., np.ndarray], parts: Sequence[_Curves]) -> _Curves:
    """The curves of several points or families; those that nobody asked for stay None."""
    fields: Any = zip(*parts, strict=True)
    curves: list[Any] = [None if part[0] is None else join(part) for part in fields]
    return _Curves(*curves)


def _family_curves(task: _Task, family: Family) -> _Curves:
    points = _common_ray(family.noises)
    if points is not None:
        return _ray_curves(task, points)
    parts = [_point_curves(task, noise) for noise in family.noises]
    return _joined(np.stack, parts)


def _ray_curves(task: _Task, points: list[RayPoint]) -> _Curves:
    """By one factorization."""
    # Directions of all kinds, given as matrices, run the same program.
    direction = _Given(points[0].direction.covariance(task.moments.second_moment))
    row: list[Any] = [_OnRay(point._replace(direction=direction)) for point in points]
    result = sweep(
        task.moments,
        [row],
        latent_dims=task.dims,
        held_out=task.held_out,
        target=task.target,
        # A subspace picks up directions in which the training data do not vary and new data do.
        tolerance=task.tolerance if int(task.principal.rank) == task.moments.features else 0.0,
        tasks=task.tasks or None,
    )
    found = (getattr(result, name) for name in _Curves._fields)
    curves: list[Any] = [None if c is None else np.asarray(c, float)[0, :, 0] for c in found]
    return _Curves(*curves)


def _point_curves(task: _Task, noise: Noise) -> _Curves:
    """By the general solver."""
    noisy, largest = problem(task.moments, noise, task.target), int(task.dims.max())
    magnified = 4 * np.asarray(whiten(noisy.noisy_second_moment).magnified)
    least = float(jnp.finfo(noisy.noisy_second_moment.dtype).eps) ** 0.5
    hides_nothing = bool(magnified <= least)
    leading = task.target is None and bool(task.tolerance) and pays(largest, task.moments.features)
    if hides_nothing and leading:
        principal = task.principal.eigenvectors[:, : oversampled(largest)]
        solution, missing = solve_leading(noisy, principal, largest)
        if missing <= task.tolerance:
            return _solution_curves(task, solution, np.full(task.dims.shape, missing))
    solution = solve(noisy)
    # What rounding may do to it, as in `sweep`: where it is magnified by little, far below any
    # difference that matters here.
    error = np.full(task.dims.shape, least)
    if not hides_nothing:
        error = np.minimum(error + _rounding_errors(noisy, solution)[task.dims - 1], 1.0)
    return _solution_curves(task, solution, error)


def _rounding_errors(noisy: Problem, solution: Solution) -> np.ndarray:
    """(D,) what rounding may change of r2, where whitening magnifies it.

    Seen from what changes where G (D, D) has other rounding and directions near the cut-off are
    lifted above it, or left out; past the rank, those left out may explain their part of the rest.
    """
    second = noisy.noisy_second_moment
    epsilon = float(jnp.finfo(second.dtype).eps)
    off = jax.random.normal(jax.random.key(0), second.shape, second.dtype)
    unit = inverse_root(jnp.maximum(jnp.diagonal(second), 0.0))
    root = jnp.sqrt(jnp.maximum(jnp.diagonal(second), 0.0))
    scaled = second * (unit[:, None] * unit) + epsilon * (off + off.T)
    eigenvalues, vectors = eigh_descending(scaled)
    near = OTHER_CUT * significant(eigenvalues)
    kept = jnp.where(eigenvalues > near, eigenvalues, 0.0)
    change = jnp.zeros_like(solution.r2)
    for values in (eigenvalues + near, kept):
        changed = (root[:, None] * vectors * values) @ (root[:, None] * vectors).T
        again = solve(noisy._replace(noisy_second_moment=(changed + changed.T) / 2))
        change = jnp.maximum(change, nearby(jnp.abs(again.r2 - solution.r2)))
    rank = int(solution.rank)
    past = np.clip(np.arange(1, len(change) + 1) - rank, 0, None)
    hidden = max(int(jnp.sum(unit > 0)) - rank, 1)
    left = 1 - float(solution.r2[-1])
    return 3 * np.asarray(change) + left * np.minimum(past / hidden, 1.0)


def _solution_curves(task: _Task, solution: Solution, error: np.ndarray) -> _Curves:
    """What encoder and heads of a solution explain on both splits."""
    largest = int(task.dims.max())
    factor = solution.readout_factor
    features = solution.encoder[:, :largest]
    if factor is not None:
        features = jax.scipy.linalg.solve_triangular(
            factor[:largest, :largest], features.T, lower=True
        ).T
    r2 = np.asarray(solution.r2)[task.dims - 1]
    return _on_both_splits(task, features, solution.coordinates[:largest], r2, error)


def _clean_curves(task: _Task) -> _Curves:
    """Those without noise: principal components (Theorem 1)."""
    largest, principal = int(task.dims.max()), task.principal
    roots = inverse_root(principal.eigenvalues[:largest])
    coordinates = principal.labels[:, :largest].T
    total = task.moments.label_moment.trace()
    r2 = np.asarray(jnp.cumsum(jnp.sum(coordinates**2, axis=1)) / total)[task.dims - 1]
    features = principal.eigenvectors[:, :largest] * roots
    return _on_both_splits(task, features, coordinates, r2, np.zeros(task.dims.shape))


def _on_both_splits(
    task: _Task, features: Array, coordinates: Array, r2: np.ndarray, error: np.ndarray
) -> _Curves:
    """All curves, given orthonormal features (D, R) and heads (R, C)."""
    variances = task.moments.label_moment.diagonal()
    found = _explained(features, coordinates, task.held_out, variances, tasks=task.tasks)
    curves = {name: np.asarray(curve)[task.dims - 1] for name, curve in found.items()}
    return _Curves(r2=r2, error=error, **curves)


@jax.jit(static_argnames="tasks")
@highest
def _explained(
    features: Array,
    coordinates: Array,
    held_out: HeldOut,
    variances: Array,
    tasks: tuple[int, ...],
) -> dict[str, Array]:
    """(R,) explained and (R, Fn) agreement on the test split, and what is explained by task."""
    cross = features.T @ held_out.cross_moment
    gram = features.T @ held_out.second_moment @ features
    folds = jnp.einsum("dk,bdc->kbc", features, held_out.folds)
    whole = held_out_curves(coordinates, cross, gram, folds, held_out.label_variance)
    curves = dict(zip(("held_out", "agreement"), whole, strict=True))
    if tasks and held_out.target_variances is not None:
        of_test = held_out.target_variances
        curves |= {
            "r2_by_task": fitted_by_task(coordinates, variances, tasks),
            "held_out_by_task": explained_by_task(coordinates, cross, gram, of_test, tasks),
            "agreement_by_task": agreement_by_task(coordinates, folds, of_test, tasks),
        }
    return curves


class _Given(NamedTuple):
    """A direction that is a matrix.

    Attributes:
      matrix: (D, D) B.
    """

    matrix: Array

    def covariance(self, second_moment: Array) -> Array:
        """The matrix."""
        return self.matrix.astype(second_moment.dtype)


class _OnRay(NamedTuple):
    """A noise of which nothing but its place on a ray is known."""

    point: RayPoint

    def ray(self) -> RayPoint:
        """That place."""
        return self.point


def _common_ray(noises: Sequence[Noise]) -> list[RayPoint] | None:
    """The points of noises that lie on one ray, else None."""
    points = [point for point in (noise.ray() for noise in noises) if point is not None]
    if len(points) < len(noises):
        return None
    leaves, structure = _leaves(points[0])
    for point in points[1:]:
        others, other = _leaves(point)
        if other != structure or not all(map(np.array_equal, leaves, others)):
            return None
    return points


def _leaves(point: RayPoint) -> tuple[list[Array], Any]:
    return jax.tree.flatten(point.direction)
