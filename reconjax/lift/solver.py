"""The one closed-form problem on fixed features, for a path of ridges.

The encoder is f(x') = Vᵀ (φ(x') - E φ(x')). With G = Cov φ(x') + ρ I and F = [√α E[φ(x') yᵀ],
√λ E[φ(x') tᵀ]] the optimum of

    α E‖Wᵀ f(x') - y‖² + λ E‖Zᵀ f(x') - t‖² + ρ (α ‖V W‖² + λ ‖V Z‖²)

has the generalized eigenvectors of (F Fᵀ, G): weight decay on the maps from features to y and t
stands for what keeps a trained encoder from using every feature. The ridge is relative: ρ is its
share of the mean of diag Cov φ(x'). Losses are reported without the decay's share.

All that a path of ridges needs is found once: the moments, the target's among them, and the factor
of the clean features. Of each ridge there is one Cholesky factor: an eigendecomposition of G would
serve all ridges, but costs several of them. Then there are the leading eigenvectors, where K is far
below m; else all, of (D + C) x (D + C) where that is less than m x m.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from reconjax.lift.moments import LiftedMoments, exact_moments
from reconjax.lift.reduced import Clean, Form, Posed, aimed, changed, solved
from reconjax.lift.seen import Lift, linear_lift, of_clean
from reconjax.linalg.eigen import inverse_root
from reconjax.linalg.leading import leading_pays
from reconjax.noise import Noise
from reconjax.summary.moments import Moments
from reconjax.theory.checks import check_latent_dim, check_readout, check_weight
from reconjax.theory.held_out import HeldOut
from reconjax.theory.solver import Solution
from reconjax.theory.targets import Pixels, Target, check_target, target_variance

# So many directions beside those wanted are iterated under a changed problem.
BESIDE = 32
# Ridges from here on need no more than float32.
FLOAT32_RIDGE = 1e-5
PRECISIONS = ("float64", "mixed")


class LiftedSolution(NamedTuple):
    """The optimum on fixed features for one ridge.

    Attributes:
      solution: `reconjax.theory.Solution`, whose inputs are the features φ (m,): K = 1 .. R, where
        R is at most D + C for reconstruction.
      ridge: relative to the mean of diag Cov φ(x').
      held_out: (R,) 1 - loss / variance of the labels on the test split; None without one, and for
        the noisy read-out.
      agreement: (R, Fn) the same by folds, see `reconjax.theory.held_out`; None without one.
      monte_carlo_error: (R,) of r2, by the noise's own randomness: its standard error and its bias
        together, by root mean square. 0 where nothing was drawn.
      held_out_error: (R,) that of `held_out`.
      lift: what was seen through the features.
    """

    solution: Solution
    ridge: float
    held_out: Array | None
    agreement: Array | None
    monte_carlo_error: Array
    held_out_error: Array | None
    lift: Lift

    def encode(self, x: ArrayLike, latent_dim: int | None = None) -> Array:
        """The codes of new examples.

        Args:
          x: (n, D) or (n, H, W, C), as the data were stored: uint8 is scaled to [0, 1].
          latent_dim: K; all by default.

        Returns:
          (n, K) codes Vᵀ (φ(x) - E φ(x)).

        Raises:
          ValueError: x of another size, K out of range.

        Example:
          >>> data = reconjax.data.load("digits")
          >>> features = reconjax.lift.parse_features("relu:32", data.example_shape)
          >>> lift = reconjax.lift.lift(data, features)
          >>> (solution,) = reconjax.lift.solve_lifted(lift, reconjax.lift.lifted_moments(lift))
          >>> images, _ = data.test.examples(range(3))
          >>> solution.encode(images, 8).shape
          (3, 8)
        """
        return self.solution.transform(self._features(x), latent_dim)

    def predict(self, x: ArrayLike, latent_dim: int) -> Array:
        """The labels (n, C) that the best head on K codes predicts of new examples.

        Args:
          x: as in `encode`.
          latent_dim: K.

        Raises:
          ValueError: as `encode`.

        Example:
          >>> data = reconjax.data.load("digits")
          >>> features = reconjax.lift.parse_features("relu:32", data.example_shape)
          >>> lift = reconjax.lift.lift(data, features)
          >>> (solution,) = reconjax.lift.solve_lifted(lift, reconjax.lift.lifted_moments(lift))
          >>> images, labels = data.test.examples(range(100))
          >>> bool((solution.predict(images, 24).argmax(axis=1) == labels).mean() > 0.8)
          True
        """
        return self.solution.predict(self._features(x), latent_dim)

    def _features(self, x: ArrayLike) -> Array:
        moments = self.lift.moments
        images = jnp.asarray(x)
        if images.ndim < 2 or math.prod(images.shape[1:]) != moments.features:
            raise ValueError(f"x: shape {images.shape}; (n, D) of D = {moments.features} is needed")
        dtype = self.lift.dtype or moments.second_moment.dtype
        made = of_clean(self.lift.features, images, moments.mean_x, moments.scale, dtype=dtype)
        return made.astype(self.solution.encoder.dtype)


def ridge_path(
    moments: Moments,
    noise: Noise | None = None,
    ridges: Sequence[float] = (0.1,),
    *,
    reconstruction_weight: ArrayLike = jnp.inf,
    target: Target | None = None,
    readout: str = "clean",
    latent_dim: int | None = None,
    held_out: HeldOut | None = None,
) -> list[LiftedSolution]:
    """Theorem 3 with a ridge, on exact moments: the linear encoder with weight decay.

    Within the patches of a mask nothing tells values apart from each other, so that the inverse of
    G may magnify what the data hardly have: the ridge bounds that. It acts on the solution as
    Gaussian noise of the variance ρ would.

    Args:
      moments: as in `reconjax.problem`.
      noise: with moments; on a ray or not.
      ridges: relative to the mean of diag E[x' x'ᵀ], each >= 0.
      reconstruction_weight: as in `reconjax.solve`, as target and readout.
      target: see reconstruction_weight.
      readout: see reconstruction_weight.
      latent_dim: the largest K; all by default.
      held_out: the test split, from `reconjax.held_out`.

    Returns:
      One solution for each ridge, with nothing that was drawn at random.

    Raises:
      ValueError: a ridge below 0, and as `reconjax.problem` and `reconjax.solve`.

    Example:
      >>> x, y = np.random.default_rng(0).normal(size=(50, 6)), np.arange(50) % 2
      >>> path = reconjax.lift.ridge_path(reconjax.moments(x, y), ridges=[0, 0.1])
      >>> [solution.solution.r2.shape for solution in path]
      [(6,), (6,)]
    """
    lift = linear_lift(moments, held_out)
    return solve_lifted(
        lift,
        exact_moments(moments, noise),
        ridges,
        reconstruction_weight=reconstruction_weight,
        target=target,
        readout=readout,
        latent_dim=latent_dim,
    )


def solve_lifted(
    lift: Lift,
    moments: LiftedMoments,
    ridges: Sequence[float] = (0.1,),
    *,
    reconstruction_weight: ArrayLike = jnp.inf,
    target: Target | None = None,
    readout: str = "clean",
    latent_dim: int | None = None,
    precision: str = "float64",
) -> list[LiftedSolution]:
    """The optimum on fixed features, for every K and each of a path of ridges.

    Args:
      lift: from `lift`.
      moments: from `lifted_moments`, for one noise.
      ridges: relative to the mean of diag Cov φ(x'), each >= 0.
      reconstruction_weight: λ in [0, inf], as in `reconjax.solve`.
      target: what is predicted in place of x, or joint embedding; from `reconjax.theory.targets`.
      readout: "clean" fits the head on φ(x), "noisy" on φ(x').
      latent_dim: the largest K; all by default.
      precision: "float64": in the dtype of the moments; "mixed": the eigendecomposition in float32.

    Returns:
      One solution for each ridge.

    Raises:
      ValueError: a ridge that is negative, or less than the rounding of the moments allows; λ, K or
        a read-out out of range, a target for other inputs, joint embedding without pairs of draws.

    Example:
      >>> data = reconjax.data.load("digits")
      >>> features = reconjax.lift.parse_features("relu:32", data.example_shape)
      >>> lift = reconjax.lift.lift(data, features)
      >>> lifted = reconjax.lift.lifted_moments(lift)  # without noise
      >>> path = reconjax.lift.solve_lifted(lift, lifted, [0.01, 0.1])
      >>> [solution.held_out.shape for solution in path]
      [(32,), (32,)]
    """
    check_weight(reconstruction_weight)
    check_readout(readout)
    check_ridges(ridges, moments.rounding)
    if precision not in PRECISIONS:
        raise ValueError(f"precision: {precision!r}; one of {', '.join(PRECISIONS)}")
    if target is not None:
        check_target(target, lift.moments.features)
    embedding = target is not None and target.embedding
    if embedding and moments.covariances.pairs is None:
        raise ValueError(
            "target: joint embedding needs pairs of draws; `lifted_moments(pairs=True)`"
        )
    supervised = not bool(jnp.isinf(jnp.asarray(reconstruction_weight)))
    most = _directions(lift, supervised, embedding)
    if latent_dim is not None:
        check_latent_dim(latent_dim, most)
    leading = most if latent_dim is None else int(latent_dim)
    clean = _clean(lift, target)
    size = lift.size if embedding else most
    form = Form(
        embedding=embedding,
        supervised=supervised,
        clean=readout == "clean",
        low=precision == "mixed",
        # The limit λ → 0 orders what no single matrix does.
        few=leading_pays(leading, size) and bool(jnp.asarray(reconstruction_weight) > 0),
    )
    posed = Posed(
        covariances=moments.covariances,
        aimed=None if clean.aim is None else aimed(moments.covariances, clean.aim),
        mean=lift.clean.mean_x if form.clean else moments.mean,
        clean=clean,
        data=lift.moments,
        test=lift.held_out if form.clean else None,
        ridge=jnp.zeros(()),
        weight=jnp.asarray(reconstruction_weight, float),
    )
    # Always: one compilation serves with noise and without.
    beside = min(BESIDE, most - leading)
    path = []
    for ridge in ridges:
        posed = posed._replace(ridge=jnp.asarray(ridge, float))
        curves = solved(posed, form, leading, beside)
        error = jnp.zeros(leading)
        test_error = None if posed.test is None else jnp.zeros(leading)
        if moments.apart is not None:
            encoder = curves.solution.encoder
            others = [
                changed(posed, moments.apart, jnp.asarray(sign), encoder, form, leading)
                for sign in (1.0, -1.0)
            ]
            error = _spread(curves.solution.r2[:leading], *(each.solution.r2 for each in others))
            if curves.held_out is not None:
                test_error = _spread(curves.held_out[:leading], *(o.held_out for o in others))
        path.append(
            LiftedSolution(
                solution=_first(curves.solution, leading),
                ridge=float(ridge),
                held_out=None if curves.held_out is None else curves.held_out[:leading],
                agreement=None if curves.agreement is None else curves.agreement[:leading],
                monte_carlo_error=error,
                held_out_error=test_error,
                lift=lift,
            )
        )
    return path


def check_ridges(ridges: Sequence[float], rounding: float) -> None:
    """Raises ValueError for none, or one that is not finite, negative or below the rounding."""
    if len(ridges) == 0:
        raise ValueError("ridges: none; at least one is needed")
    for ridge in ridges:
        if not (np.isfinite(ridge) and ridge >= 0):
            raise ValueError(f"ridge: {ridge}; it must be finite and >= 0")
        if rounding > 1e-10 and ridge < FLOAT32_RIDGE:
            raise ValueError(
                f"ridge: {ridge:g}; with features in float32 at least {FLOAT32_RIDGE:g} is needed"
            )


def _directions(lift: Lift, supervised: bool, embedding: bool) -> int:
    """How many there may be: the rank of F at most."""
    if embedding:
        return lift.size
    told = lift.moments.features + (lift.moments.targets if supervised else 0)
    return min(lift.size, told)


def _clean(lift: Lift, target: Target | None) -> Clean:
    """What is shared by all noises and ridges."""
    aim, variance = None, None
    if target is not None and not isinstance(target, Pixels):
        second, whole = lift.moments.second_moment, lift.principal
        variance = target_variance(target, second, whole.eigenvalues)
        diagonal = target.spectral(whole.eigenvalues)
        if diagonal is None:
            aim = target.apply(jnp.eye(lift.moments.features, dtype=second.dtype))
        elif not target.embedding:  # t = M^(-S/2) x, up to a rotation of t
            aim = whole.eigenvectors * (jnp.sqrt(diagonal) * inverse_root(whole.eigenvalues))
    return Clean(*lift.factor, aim, variance)


def _first(solution: Solution, leading: int) -> Solution:
    """The first K of a solution that has more."""
    factor = solution.readout_factor
    target = solution.target_loss
    return solution._replace(
        encoder=solution.encoder[:, :leading],
        decoder=solution.decoder[:leading],
        supervised_loss=solution.supervised_loss[:leading],
        reconstruction_loss=solution.reconstruction_loss[:leading],
        r2=solution.r2[:leading],
        rank=jnp.minimum(solution.rank, leading),
        coordinates=solution.coordinates[:leading],
        readout_factor=None if factor is None else factor[:leading, :leading],
        target_loss=None if target is None else target[:leading],
    )


def _spread(curve: Array, above: Array, below: Array) -> Array:
    """The standard error and the bias of a curve, given those of changed problems."""
    error, bias = (above - below) / 2, (above + below) / 2 - curve
    return jnp.sqrt(error**2 + bias**2)
