"""What the lifted problem needs to know of noisy features, and of clean ones."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from reconjax.linalg.precision import highest
from reconjax.noise import Noise, identity
from reconjax.summary.moments import Moments
from reconjax.theory.checks import check_mean, check_noise_size


class Covariances(NamedTuple):
    """Covariances of noisy features φ(x') with themselves and with what they are to tell.

    Attributes:
      second: (m, m) Cov φ(x').
      labels: (m, C) E[φ(x') yᵀ].
      inputs: (m, D) E[φ(x') xᵀ].
      pairs: (m, m) E[φ(x'₁) φ(x'₂)ᵀ] of two draws for one x, for joint embedding; or None.
    """

    second: Array
    labels: Array
    inputs: Array
    pairs: Array | None = None


class LiftedMoments(NamedTuple):
    """The covariances of noisy features, and how far other draws of the noise may be from them.

    Attributes:
      covariances: `Covariances`.
      mean: (m,) E φ(x').
      draws: noisy copies of every example; 0 where the moments are exact.
      apart: a random change of the covariances that is as large as their Monte Carlo error, entry
        by entry in the mean square; None where nothing was drawn at random.
      rounding: the relative error of the products that were summed.
    """

    covariances: Covariances
    mean: Array
    draws: int
    apart: Covariances | None
    rounding: float


def exact_moments(moments: Moments, noise: Noise | None = None) -> LiftedMoments:
    """The moments of the identity features, in closed form: nothing is drawn.

    Args:
      moments: centered moments of the data, with labels.
      noise: any noise with moments.

    Raises:
      ValueError: a noise for other inputs, a function without moments, uncentered moments.

    Example:
      >>> x, y = np.random.default_rng(0).normal(size=(50, 6)), np.arange(50) % 2
      >>> lifted = reconjax.lift.exact_moments(
      ...     reconjax.moments(x, y), reconjax.noise.gaussian(0.5)
      ... )
      >>> lifted.covariances.inputs.shape, lifted.draws
      ((6, 6), 0)
    """
    if not moments.centered:
        raise ValueError("moments: uncentered; the lift needs centered ones")
    noise = identity() if noise is None else noise
    check_noise_size(noise, moments.features)
    check_mean(moments, noise)
    offset = noise.offset()
    inputs = noise.mean(moments.second_moment)
    return LiftedMoments(
        covariances=Covariances(
            second=noise.second_moment(moments.second_moment),
            labels=noise.mean(moments.cross_moment),
            inputs=inputs,
            pairs=noise.mean(inputs.T).T,
        ),
        mean=jnp.zeros_like(moments.mean_x) if offset is None else offset,
        draws=0,
        apart=None,
        rounding=float(jnp.finfo(moments.second_moment.dtype).eps),
    )


def more_draws(first: LiftedMoments, second: LiftedMoments) -> LiftedMoments:
    """The moments of the draws of both, of the same examples through the same features.

    Raises:
      ValueError: exact moments, other features, or one without pairs of draws.

    Example:
      >>> data = reconjax.data.load("digits")
      >>> features = reconjax.lift.parse_features("relu:32", data.example_shape)
      >>> lift = reconjax.lift.lift(data, features)
      >>> mask = reconjax.noise.parse_noise("mask:0.5:2x2", data.example_shape)
      >>> some = [reconjax.lift.lifted_moments(lift, mask, seed=seed) for seed in (0, 1)]
      >>> reconjax.lift.more_draws(*some).draws
      2
    """
    if not (first.draws and second.draws):
        raise ValueError("draws: 0; exact moments need no more")
    if jax.tree.map(jnp.shape, first.covariances) != jax.tree.map(jnp.shape, second.covariances):
        raise ValueError("covariances: of other features, targets or pairs of draws")
    draws = first.draws + second.draws
    share = second.draws / draws
    apart = None
    if first.apart is not None and second.apart is not None:
        apart = jax.tree.map(lambda a, b: a + share * (b - a), first.apart, second.apart)
    covariances, mean = _mixed(
        first.covariances, first.mean, second.covariances, second.mean, share
    )
    rounding = max(first.rounding, second.rounding)
    return LiftedMoments(covariances, mean, draws, apart, rounding)


@jax.jit
@highest
def _mixed(
    first: Covariances, mean: Array, second: Covariances, other: Array, share: Array
) -> tuple[Covariances, Array]:
    share = jnp.asarray(share, mean.dtype)
    mixed = jax.tree.map(lambda a, b: a + share * (b - a), first, second)
    between = share * (1 - share) * jnp.outer(other - mean, other - mean)
    mixed = mixed._replace(second=mixed.second + between)
    if mixed.pairs is not None:
        # Both draws of a pair are of one run: they share its mean.
        mixed = mixed._replace(pairs=mixed.pairs + between)
    return mixed, mean + share * (other - mean)


def lift_memory(size: int, features: int, targets: int, *, pairs: bool = False) -> int:
    """Bytes that lifted moments and their solution hold at their peak, in float64.

    Args:
      size: m.
      features: D.
      targets: C.
      pairs: whether two draws are needed, for joint embedding.

    Example:
      >>> round(reconjax.lift.lift_memory(2048, 3072, 10) / 2**30, 2)
      0.74
    """
    square, across = size * size, size * (features + targets)
    # The sums, how far apart they are, the moments of both, and those of one batch; of the solver
    # the whitened problem, its eigenvectors and the clean features' factor.
    sums = 5 * ((2 if pairs else 1) * square + across)
    return 8 * (sums + 8 * square + 2 * across)


def check_lift_memory(needed: float, memory: float | None, what: str) -> None:
    """Raises ValueError, with both sizes, for more than `memory` GiB; None: no limit."""
    if memory is None:
        return
    if not memory > 0:
        raise ValueError(f"memory: {memory}; GiB > 0 are needed")
    if needed > memory * 2**30:
        raise ValueError(
            f"features: {what} needs about {needed / 2**30:.3g} GiB; {memory:.3g} GiB are there"
            " (memory); fewer features need less"
        )


def finite(moments: LiftedMoments, text: str) -> LiftedMoments:
    """The same; raises ValueError where features were NaN or inf."""
    bad = np.count_nonzero(~np.isfinite(np.diagonal(np.asarray(moments.covariances.second))))
    if bad:
        raise ValueError(
            f"features: {text} makes NaN or inf in {bad} of {len(moments.mean)} features"
        )
    return moments
