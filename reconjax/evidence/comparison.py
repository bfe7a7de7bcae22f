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
from reconjax.theory.held_out import HeldOut, held_out_curves
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


def compare(
    moments: Moments,
    held_out: HeldOut,
    families: Sequence[Family],
    latent_dims: ArrayLike,
    *,
    target: Target | None = None,
    tolerance: float = 0.0,
    principal: Spectrum | None = None,
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
    task = _Task(moments, held_out, principal, dims, tolerance, target)
    parts = []
    for family in families:
        parts.append(_family_curves(task, family))
        if progress is not None:
            progress(len(family.noises))
    curves = _Curves(*(np.concatenate(part) for part in zip(*parts, strict=True)))
    without = _clean_curves(task)
    return Comparison(
        latent_dim=dims,
        family=tuple(family.name for family in families for _ in family.noises),
        noise=tuple(text for family in families for text in family.texts),
        **curves._asdict(),
        r2_without=without.r2,
        held_out_without=without.held_out,
        agreement_without=without.agreement,
        chance=chance_curves(moments, int(principal.rank), dims)[1],
        rank=int(principal.rank),
    )


def concatenated(comparisons: Sequence[Comparison]) -> Comparison:
    """One comparison of all families of several that differ in nothing else."""
    first = comparisons[0]
    points = {
        name: np.concatenate([getattr(part, name) for part in comparisons])
        for name in _Curves._fields
    }
    joined: Any = {
        **points,
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


class _Curves(NamedTuple):
    """Fields of `Comparison`, of points of one family (R, ...) or of one point (...)."""

    r2: np.ndarray
    held_out: np.ndarray
    agreement: np.ndarray
    error: np.ndarray


def _family_curves(task: _Task, family: Family) -> _Curves:
    points = _common_ray(family.noises)
    if points is not None:
        return _ray_curves(task, points)
    parts = [_point_curves(task, noise) for noise in family.noises]
    return _Curves(*(np.stack(part) for part in zip(*parts, strict=True)))


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
    )
    curves = (result.r2, result.held_out, result.agreement, result.error)
    return _Curves(*(np.asarray(curve, float)[0, :, 0] for curve in curves))


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
    held_out = _held_out_curves(task, features, solution.coordinates[:largest])
    return _Curves(r2, *held_out, error)


def _clean_curves(task: _Task) -> _Curves:
    """Those without noise: principal components (Theorem 1)."""
    largest, principal = int(task.dims.max()), task.principal
    roots = inverse_root(principal.eigenvalues[:largest])
    coordinates = principal.labels[:, :largest].T
    total = task.moments.label_moment.trace()
    r2 = np.asarray(jnp.cumsum(jnp.sum(coordinates**2, axis=1)) / total)[task.dims - 1]
    features = principal.eigenvectors[:, :largest] * roots
    return _Curves(r2, *_held_out_curves(task, features, coordinates), np.zeros(task.dims.shape))


def _held_out_curves(
    task: _Task, features: Array, coordinates: Array
) -> tuple[np.ndarray, np.ndarray]:
    curves = _on_test_split(features, coordinates, task.held_out)
    held_out, agreement = (np.asarray(curve)[task.dims - 1] for curve in curves)
    return held_out, agreement


@jax.jit
@highest
def _on_test_split(features: Array, coordinates: Array, held_out: HeldOut) -> tuple[Array, Array]:
    """(R,) explained and (R, Fn) agreement of orthonormal features (D, R) and heads (R, C)."""
    return held_out_curves(
        coordinates,
        features.T @ held_out.cross_moment,
        features.T @ held_out.second_moment @ features,
        jnp.einsum("dk,bdc->kbc", features, held_out.folds),
        held_out.label_variance,
    )


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
