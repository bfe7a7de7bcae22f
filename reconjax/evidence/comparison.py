"""A fair comparison of noises: every family at its best strength, judged where nothing was chosen.

For every latent dimension K, the strength of a family is chosen on the training split, where
encoder and head are found too. Family and strength are then judged on the test split, fold by fold
and against no noise on the same fold, by the explained share

    1 − E‖f(x) − y‖² / E‖y‖² = (2 E[y · f(x)] − E‖f(x)‖²) / E‖y‖²

of the predictions f(x). Of its two parts the agreement E[y · f(x)] is known for each fold; the
length E‖f(x)‖² is that of the whole test split, so that the mean over the folds is exact, and their
spread that of twice the agreement. (As E[y | x] and f(x) vary together, the length would reduce
that spread: errors are rather too large.) The p-value of a family accounts for every strength of
every family that was tried.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from reconjax.evidence.p_values import search_p_values
from reconjax.grid.subspace import oversampled, ridged_factor
from reconjax.grid.sweep import sweep
from reconjax.linalg.eigen import inverse_root
from reconjax.linalg.precision import highest
from reconjax.noise import RayPoint
from reconjax.noise.families import Family
from reconjax.summary.moments import Moments
from reconjax.theory.held_out import HeldOut, held_out_curves
from reconjax.theory.solver import Problem, Solution, check_latent_dim, problem, solve
from reconjax.theory.spectrum import Spectrum, spectrum

# Steps of the block power iteration, all of which span the subspace of `_in_subspace`.
STEPS = 3


class Comparison(NamedTuple):
    """J points, each a family at one strength, and no noise, at Kn latent dimensions.

    Attributes:
      latent_dim: (Kn,) K.
      family: (J,) names.
      noise: (J,) texts, as `reconjax.noise.parse_noise` takes them.
      explained: (J, Kn) 1 − loss / label variance on the training split.
      held_out: (J, Kn) the same on the test split, for encoder and head of the training split.
      agreement: (J, Kn, B) E[y · f(x)] / label variance on each fold of the test split.
      error: (J,) estimated numerical error of `explained`.
      explained_without: (Kn,) without noise, as the following two.
      held_out_without: (Kn,) see `held_out`.
      agreement_without: (Kn, B) see `agreement`.
      chance: (Kn,) `explained` for labels at random.
      rank: number of directions of the training data.
    """

    latent_dim: np.ndarray
    family: tuple[str, ...]
    noise: tuple[str, ...]
    explained: np.ndarray
    held_out: np.ndarray
    agreement: np.ndarray
    error: np.ndarray
    explained_without: np.ndarray
    held_out_without: np.ndarray
    agreement_without: np.ndarray
    chance: np.ndarray
    rank: int


class Place(NamedTuple):
    """A family's place in the ranking at one K.

    Attributes:
      latent_dim: K.
      family: its name.
      noise: the strength that explains most on the training split.
      explained: there, on the training split.
      held_out: 1 − loss / label variance on the test split.
      gain: of `held_out` over that without noise.
      standard_error: of the gain, over the folds of the test split and for this training split.
      p_value: of a gain, for all points that were tried; see `search_p_values`.
    """

    latent_dim: int
    family: str
    noise: str
    explained: float
    held_out: float
    gain: float
    standard_error: float
    p_value: float


def compare(
    moments: Moments,
    held_out: HeldOut,
    families: Sequence[Family],
    latent_dims: ArrayLike,
    *,
    tolerance: float = 0.0,
    principal: Spectrum | None = None,
    progress: Callable[[int], None] | None = None,
) -> Comparison:
    """Solves Theorem 3 (λ = inf, clean read-out) for every strength of every family.

    Families on a ray cost one factorisation each (`sweep`), the others a solution a strength.

    Args:
      moments: of the training split, centered.
      held_out: the test split, from `reconjax.statistics.held_out`.
      families: from `reconjax.families`.
      latent_dims: (Kn,) K in 1 .. the rank of the data.
      tolerance: where K is far below D, the error of the explained share that is accepted for
        solving in a subspace, as in `sweep`; 0: never. Data of rank below D are swept in full.
      principal: the spectrum of the moments, if it is there already.
      progress: called with the number of points after each family.

    Raises:
      ValueError: no family, K out of range, as `sweep` and `problem`.
    """
    if not families:
        raise ValueError("families: none; at least one is needed")
    dims = np.atleast_1d(np.asarray(latent_dims))
    principal = spectrum(moments) if principal is None else principal
    for latent_dim in dims.tolist():
        check_latent_dim(latent_dim, int(principal.rank))
    judge = _Judge(moments, held_out, principal, dims.astype(np.int32), tolerance)
    found = []
    for family in families:
        found.append(judge.family(family))
        if progress is not None:
            progress(len(family.noises))
    explained, held, agreement, error = (np.concatenate(part) for part in zip(*found, strict=True))
    without = judge.without()
    return Comparison(
        latent_dim=dims,
        family=tuple(one.name for one in families for _ in one.noises),
        noise=tuple(text for one in families for text in one.texts),
        explained=explained,
        held_out=held,
        agreement=agreement,
        error=error,
        explained_without=without[0],
        held_out_without=without[1],
        agreement_without=without[2],
        chance=dims / (float(moments.samples) - 1),
        rank=int(principal.rank),
    )


def ranking(found: Comparison, *, flips: int = 1999, seed: int = 0) -> list[Place]:
    """Every family at every K, for each K the one with the largest held-out gain first.

    Args:
      found: from `compare`.
      flips: as in `search_p_values`.
      seed: as in `search_p_values`.
    """
    folds = by_folds(found.held_out, found.agreement)
    without = by_folds(found.held_out_without, found.agreement_without)
    p_values = search_p_values(folds, without, found.error, flips=flips, seed=seed)
    gain, error = mean_and_error(folds - without)
    names = np.asarray(found.family)
    places = []
    for column, latent_dim in enumerate(found.latent_dim.tolist()):
        row = []
        for family in dict.fromkeys(found.family):
            members = np.flatnonzero(names == family)
            best = _best(found, members, column)
            row.append(
                Place(
                    latent_dim,
                    family,
                    found.noise[best],
                    float(found.explained[best, column]),
                    float(found.held_out[best, column]),
                    float(gain[best, column]),
                    float(error[best, column]),
                    float(p_values[best, column]),
                )
            )
        places += sorted(row, key=lambda place: -place.gain)
    return places


def by_folds(held_out: np.ndarray, agreement: np.ndarray) -> np.ndarray:
    """(..., B) explained share on each fold of the test split; see the module's text.

    Args:
      held_out: (...) on the whole test split.
      agreement: (..., B) of each fold.
    """
    return held_out[..., None] + 2 * (agreement - agreement.mean(axis=-1, keepdims=True))


def mean_and_error(folds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(...) mean over the last axis and its standard error."""
    return folds.mean(axis=-1), folds.std(axis=-1, ddof=1) / np.sqrt(folds.shape[-1])


def _best(found: Comparison, members: np.ndarray, column: int) -> int:
    """The point that explains most on the training split; of numerical ties, the weakest."""
    explained = found.explained[members, column]
    tied = explained >= explained.max() - 2 * found.error[members].max()
    return int(members[np.argmax(tied)])


class _Judge(NamedTuple):
    """What every family is solved and judged with."""

    moments: Moments
    held_out: HeldOut
    principal: Spectrum
    dims: np.ndarray
    tolerance: float

    def family(self, family: Family) -> list[np.ndarray]:
        """Explained (R, Kn), held out (R, Kn), agreement (R, Kn, B), error (R,)."""
        points = _one_ray(family.noises)
        if points is not None:
            return self.ray(points)
        found = zip(*(self.point(noise) for noise in family.noises), strict=True)
        return [np.stack(part) for part in found]

    def ray(self, points: list[RayPoint]) -> list[np.ndarray]:
        """By one factorisation."""
        # Directions of all kinds, given as matrices, run the same program.
        direction = _Given(points[0].direction.covariance(self.moments.second_moment))
        row = [_OnRay(point._replace(direction=direction)) for point in points]
        found = sweep(
            self.moments,
            [row],
            latent_dims=self.dims,
            held_out=self.held_out,
            # A subspace picks up directions in which the training data do not vary and new data do.
            tolerance=self.tolerance if int(self.principal.rank) == self.moments.features else 0.0,
        )
        curves = (found.explained, found.held_out, found.agreement, found.error)
        return [np.asarray(curve, float)[0, :, 0] for curve in curves]

    def point(self, noise: Any) -> tuple[np.ndarray, ...]:
        """By the general solver."""
        posed = problem(self.moments, noise)
        width = oversampled(int(self.dims.max()))
        if self.tolerance and 2.5 * (STEPS + 1) * width <= self.moments.features:
            principal = self.principal.eigenvectors[:, :width]
            encoder, found, error = _in_subspace(posed, principal, int(self.dims.max()))
            if error <= self.tolerance:
                return *self.judged(encoder, found), np.asarray(error)
        found = solve(posed)
        # What rounding may do to it, as in `sweep`: far below any difference that matters here.
        error = np.sqrt(float(jnp.finfo(found.explained.dtype).eps))
        return *self.judged(found.encoder, found), np.asarray(error)

    def judged(self, encoder: Array, found: Solution) -> tuple[np.ndarray, ...]:
        """What a solution explains on both splits."""
        largest = int(self.dims.max())
        factor = found.readout_factor
        features = encoder[:, :largest]
        if factor is not None:
            features = jax.scipy.linalg.solve_triangular(
                factor[:largest, :largest], features.T, lower=True
            ).T
        explained = np.asarray(found.explained)[self.dims - 1]
        return explained, *self._judged(features, found.coordinates[:largest])

    def without(self) -> tuple[np.ndarray, ...]:
        """The same without noise: principal components (Theorem 1)."""
        largest = int(self.dims.max())
        roots = inverse_root(self.principal.eigenvalues[:largest])
        coordinates = self.principal.labels[:, :largest].T
        total = jnp.trace(self.moments.label_moment)
        explained = np.asarray(jnp.cumsum(jnp.sum(coordinates**2, axis=1)) / total)[self.dims - 1]
        features = self.principal.eigenvectors[:, :largest] * roots
        return explained, *self._judged(features, coordinates)

    def _judged(self, features: Array, coordinates: Array) -> tuple[np.ndarray, np.ndarray]:
        curves = _on_test_split(features, coordinates, self.held_out)
        held, agreement = (np.asarray(curve)[self.dims - 1] for curve in curves)
        return held, agreement


@jax.jit
@highest
def _on_test_split(features: Array, coordinates: Array, held_out: HeldOut) -> tuple[Array, Array]:
    """(R,) explained and (R, B) agreement of orthonormal features (D, R) and heads (R, C)."""
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


def _one_ray(noises: Sequence[Any]) -> list[RayPoint] | None:
    """The points of noises that lie on one ray, else None."""
    points = [noise.ray() for noise in noises]
    if any(point is None for point in points):
        return None
    leaves, structure = _leaves(points[0])
    for point in points[1:]:
        others, other = _leaves(point)
        if other != structure or not all(map(np.array_equal, leaves, others)):
            return None
    return points


def _leaves(point: RayPoint) -> tuple[list[Array], Any]:
    return jax.tree.flatten(point.direction)


def _in_subspace(posed: Problem, principal: Array, largest: int) -> tuple[Array, Solution, float]:
    """The encoder (D, m), the solution in a subspace and what it is estimated to miss up to K.

    The subspace is a block Krylov space: the principal directions (D, b), which solve the problem
    without noise, and what steps of the power iteration X ← G⁻¹ F Fᵀ X make of them. One step less
    tells what the last one has added; what is missing is less.
    """
    blocks = _krylov(posed, principal)
    sizes = blocks.shape[1] - principal.shape[1], blocks.shape[1]
    shorter, longer = (jnp.linalg.qr(blocks[:, :size])[0] for size in sizes)
    before = solve(_restricted(posed, shorter)).explained
    found = solve(_restricted(posed, longer))
    change = (found.explained[: before.shape[0]] - before)[:largest]
    return longer @ found.encoder, found, float(jnp.max(jnp.abs(change)))


@jax.jit
@highest
def _krylov(posed: Problem, principal: Array) -> Array:
    noisy, inputs = posed.noisy_second_moment, posed.noisy_input_moment
    factor = ridged_factor(noisy)
    blocks = [principal]
    for _ in range(STEPS):
        found = jax.scipy.linalg.cho_solve(factor, inputs @ (inputs.T @ blocks[-1]))
        blocks.append(jnp.linalg.qr(found)[0])
    return jnp.concatenate(blocks, axis=1)


@jax.jit
@highest
def _restricted(posed: Problem, basis: Array) -> Problem:
    """The problem for the encoder input basisᵀ x' (m,)."""
    return posed._replace(
        noisy_second_moment=basis.T @ posed.noisy_second_moment @ basis,
        noisy_label_moment=basis.T @ posed.noisy_label_moment,
        noisy_input_moment=basis.T @ posed.noisy_input_moment,
        second_moment=basis.T @ posed.second_moment @ basis,
        cross_moment=basis.T @ posed.cross_moment,
    )
