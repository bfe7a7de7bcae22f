"""One noise solved, with more draws of it while its Monte Carlo error is too large."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.typing import ArrayLike

from reconjax.lift.moments import LiftedMoments, more_draws
from reconjax.lift.seen import Lift
from reconjax.lift.solver import LiftedSolution, solve_lifted
from reconjax.lift.streaming import lifted_moments
from reconjax.noise import Noise
from reconjax.noise.base import check
from reconjax.theory.targets import Target


def solve_noise(
    lift: Lift,
    noise: Noise | None,
    ridges: Sequence[float] = (0.1,),
    *,
    reconstruction_weights: Sequence[ArrayLike] = (np.inf,),
    target: Target | None = None,
    tolerance: float = 0.0,
    draws: int = 1,
    seed: int = 0,
    devices: Sequence[jax.Device] | None = None,
    progress: Callable[[int], None] | None = None,
    **options: Any,
) -> tuple[LiftedMoments, list[list[LiftedSolution]]]:
    """The solutions under one noise; its draws are doubled while they err by too much.

    Args:
      lift: from `lift`.
      noise: any noise that can be sampled; None for clean inputs.
      ridges: as in `solve_lifted`.
      reconstruction_weights: λ, one or several.
      target: as in `solve_lifted`.
      tolerance: of the Monte Carlo error of r2, at every K, ridge and λ.
      draws: how many noisy copies of every example there may be in the end. One is made at first,
        for joint embedding two.
      seed: of the noise.
      devices: as in `lifted_moments`.
      progress: as in `lifted_moments`.
      **options: `readout`, `latent_dim` and `precision` of `solve_lifted`.

    Returns:
      The moments, which tell how many draws there were, and for each λ the solution of each ridge.
      Their `monte_carlo_error` may still exceed the tolerance where `draws` did not suffice.

    Raises:
      ValueError: no weights, a tolerance below 0, and as `lifted_moments` and `solve_lifted`.

    Example:
      >>> data = reconjax.data.load("digits")
      >>> features = reconjax.lift.parse_features("relu:32", data.example_shape)
      >>> lift = reconjax.lift.lift(data, features)
      >>> mask = reconjax.noise.parse_noise("mask:0.5:2x2", data.example_shape)
      >>> moments, ((solution,),) = reconjax.lift.solve_noise(lift, mask, tolerance=1e-4, draws=2)
      >>> moments.draws, solution.monte_carlo_error.shape
      (2, (32,))
    """
    check("tolerance", tolerance, lambda t: t >= 0, ">= 0")
    if not len(reconstruction_weights):
        raise ValueError("reconstruction_weights: none; at least one is needed")
    pairs = target is not None and target.embedding
    least = 2 if pairs and noise is not None else 1
    if draws < least:
        raise ValueError(f"draws: {draws}; at least {least} are needed")

    def more(count: int, seed: int) -> LiftedMoments:
        return lifted_moments(
            lift, noise, draws=count, seed=seed, pairs=pairs, devices=devices, progress=progress
        )

    def solved(moments: LiftedMoments) -> list[list[LiftedSolution]]:
        return [
            solve_lifted(
                lift, moments, ridges, reconstruction_weight=weight, target=target, **options
            )
            for weight in reconstruction_weights
        ]

    moments = more(least, seed)
    solutions = solved(moments)
    while moments.apart is not None and 2 * moments.draws <= draws:
        worst = max(float(np.max(s.monte_carlo_error)) for path in solutions for s in path)
        if worst <= tolerance:
            break
        # A seed that none of the draws before has had.
        moments = more_draws(moments, more(moments.draws, seed + moments.draws))
        solutions = solved(moments)
    return moments, solutions
