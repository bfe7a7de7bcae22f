"""The whole grid - ray (patch shape), strength (mask ratio), λ, K - in one compiled call."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh
from jax.typing import ArrayLike

from reconjax.grid.kernel import Targets, factorized, solve_grid
from reconjax.grid.points import divided, grid_points
from reconjax.grid.subspace import read_out, subspace_size
from reconjax.grid.task import Curves, Options
from reconjax.noise import Noise
from reconjax.summary.class_moment import ClassMoment
from reconjax.summary.few_labels import with_labels_of
from reconjax.summary.moments import Moments
from reconjax.theory.checks import (
    check_few_labels,
    check_latent_dims,
    check_mean,
    check_readout,
    check_weight,
)
from reconjax.theory.held_out import HeldOut
from reconjax.theory.targets import Pixels, Target, check_target

PRECISIONS = ("float64", "mixed", "float32")


class Sweep(NamedTuple):
    """Curves of a grid of P rays, R strengths, L weights and Kn latent dimensions.

    Attributes:
      latent_dim: (Kn,) int32.
      reconstruction_weight: (L,) λ.
      r2: (P, R, L, Kn) 1 − supervised loss / tr S.
      supervised_loss: (P, R, L, Kn) of the read-out.
      reconstruction_loss: (P, R, L, Kn) of denoising, E‖Zᵀ Vᵀ x' − x‖².
      alignment: (P, R, L, Kn) Eq. 7 for the encoder of that point: it grows when the loss falls,
        and is 1 where all that a linear head can explain on clean data is explained.
      error: (P, R, L, Kn) estimated error of `r2`: of rounding in the moments and in what
        follows, of directions that rounding hides, and, for a ray in a subspace, of what that
        leaves out. An estimate, not a bound: it is seldom more than a few times too small.
      reduced: (P,) bool, whether the ray was solved in a subspace; see `tolerance` of `sweep`.
      rank: number of directions of the data; the curves are flat from there on.
      held_out: (P, R, L, Kn) 1 − loss / label variance on the test split, of the encoders and heads
        of the training split: it falls where they overfit. None without `held_out`.
      agreement: (P, R, L, Kn, Fn) E[y · f(x)] / label variance on each fold of the test split, f(x)
        being the prediction of encoder and head (of x' for "noisy"); see `search_p_values`.
      target_loss: (P, R, L, Kn) E‖t̂ − t‖² of a target t, in its own units; for joint embedding
        E‖Vᵀ x'₁ − Vᵀ x'₂‖², of features of variance 1. None where x is predicted.
      r2_by_task: (P, R, L, Kn, T) what is explained of each task's own variance, with `tasks`.
      held_out_by_task: (P, R, L, Kn, T) the same on the test split, with `tasks` and `held_out`.
      agreement_by_task: (P, R, L, Kn, T, Fn) `agreement` of each task, relative to its variance.
    """

    latent_dim: Array
    reconstruction_weight: Array
    r2: Array
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


def sweep(
    moments: Moments,
    noises: Sequence[Sequence[Noise]],
    reconstruction_weights: ArrayLike = np.inf,
    latent_dims: ArrayLike | None = None,
    *,
    readout: str = "clean",
    target: Target | None = None,
    encoder: Moments | None = None,
    held_out: HeldOut | None = None,
    precision: str | None = None,
    tolerance: float = 0.0,
    batch_size: int = 1,
    mesh: Mesh | None = None,
    tasks: Sequence[int] | None = None,
    progress: Callable[[], None] | None = None,
) -> Sweep:
    """Theorem 3 (and Theorem 1's λ) on a grid, in one compiled call with one trace per grid shape.

    Other ratios, weights, latent dimensions or patches of the same number do not compile again
    (far below D: latent dimensions whose largest rounds up to the same multiple of 16).

    Memory: about `sweep_memory(D, C, batch_size)` bytes whatever the size of the grid, plus the
    result. Points are solved one after the other unless `batch_size` says otherwise, which pays
    only where the device is not filled by one (D, D) eigendecomposition.

    Args:
      moments: centered moments of the data.
      noises: (P, R) noises; those of one row must lie on one ray, e.g. from `mask_grid`.
      reconstruction_weights: (L,) λ in [0, inf].
      latent_dims: (Kn,) K in 1 .. D; all of them by default.
      readout: "clean" fits the head on clean inputs (Eq. 9), "noisy" on x' (Sec. 5.4).
      target: what is predicted in place of x, from `reconjax.theory.targets`; λ weighs its loss.
      encoder: of all samples, labeled or not, where `moments` are of the labeled ones alone: the
        encoder learns from all, for which λ = inf needs no labels, and the head is fitted on the
        labeled ones. Its own labels do not matter.
      held_out: the test split, from `reconjax.held_out`.
      precision: "float64"; "mixed": spectrum and whitening, where float32 would lose the
        directions that carry labels, in float64 (on the host's CPU where the accelerator has none)
        and the points in float32; or "float32" throughout. By default that of the moments; the
        first two need float64 moments.
      tolerance: where the largest K is far below D, an error of `r2` up to this is
        accepted, for several times the speed: a ray is solved in a subspace of about 3 K
        directions if its error there, which is measured at the point with the largest residual,
        is not larger, and in full otherwise; `Sweep.reduced` tells. 3e-4 is a good choice.
        With a target or an encoder of its own, every ray is solved in full.
      batch_size: points solved side by side (in full).
      mesh: devices that share the grid, for one call over all of them, also of several hosts. Their
        number must be a x b with a a divisor of P and b one of R. Every process passes the same
        arguments and gets the whole result.
      tasks: (C,) the task of each target, 0 .. T - 1, for what is explained of each.
      progress: called once for every finished point (in any order); use one function for all
        calls, since it is part of what is compiled.

    Returns:
      `Sweep`.

    Raises:
      ValueError: a noise without a ray, noises of one row on different rays, rows of different
        lengths, an empty grid; a noise that moves the mean of inputs whose moments are uncentered;
        λ, K, batch_size, tolerance or precision out of range; a mesh that does not divide the
        grid; a test split of other sizes; an encoder of other features, with a finite λ or with
        a noisy read-out; tasks that are not 0 .. T - 1, one for each target.

    Example:
      >>> x, y = np.random.default_rng(0).normal(size=(50, 6)), np.arange(50) % 2
      >>> moments = reconjax.moments(x, y)
      >>> grid = reconjax.mask_grid((2, 3, 1), [1, (1, 3)], [0, 0.5, 0.9])
      >>> result = reconjax.sweep(moments, grid, [1.0, np.inf], latent_dims=[2, 4])
      >>> result.r2.shape
      (2, 3, 2, 2)
    """
    return sweep_targets(
        moments,
        noises,
        [target],
        reconstruction_weights,
        latent_dims,
        readout=readout,
        encoder=encoder,
        held_out=held_out,
        precision=precision,
        tolerance=tolerance,
        batch_size=batch_size,
        mesh=mesh,
        tasks=tasks,
        progress=progress,
    )[0]


def sweep_targets(
    moments: Moments,
    noises: Sequence[Sequence[Noise]],
    targets: Sequence[Target | None],
    reconstruction_weights: ArrayLike = np.inf,
    latent_dims: ArrayLike | None = None,
    *,
    readout: str = "clean",
    encoder: Moments | None = None,
    held_out: HeldOut | None = None,
    precision: str | None = None,
    tolerance: float = 0.0,
    batch_size: int = 1,
    mesh: Mesh | None = None,
    tasks: Sequence[int] | None = None,
    progress: Callable[[], None] | None = None,
) -> list[Sweep]:
    """`sweep` for several targets, by one factorization of each ray.

    Args:
      moments: as in `sweep`, like all but `targets`.
      noises: see `moments`.
      targets: what is predicted; None for x itself.
      reconstruction_weights: see `moments`.
      latent_dims: see `moments`.
      readout: see `moments`.
      encoder: see `moments`.
      held_out: see `moments`.
      precision: see `moments`.
      tolerance: see `moments`.
      batch_size: see `moments`.
      mesh: see `moments`.
      tasks: see `moments`.
      progress: called once for every finished point of every target.

    Raises:
      ValueError: as `sweep`; no target.

    Example:
      >>> x, y = np.random.default_rng(0).normal(size=(50, 6)), np.arange(50) % 2
      >>> grid = reconjax.mask_grid((2, 3, 1), [1], [0.5])
      >>> views = reconjax.theory.targets.joint_embedding()
      >>> both = reconjax.grid.sweep_targets(reconjax.moments(x, y), grid, [None, views])
      >>> both[0].target_loss is None, both[1].target_loss.shape
      (True, (1, 1, 1, 6))
    """
    features = moments.features
    if latent_dims is None:
        latent_dims = np.arange(1, features + 1)
    weights, dims = checked(
        features, reconstruction_weights, latent_dims, readout, batch_size, tolerance
    )
    if held_out is not None and not isinstance(held_out, HeldOut):
        raise ValueError(
            f"held_out: {type(held_out).__name__}; make it with"
            " `reconjax.held_out(reconjax.summary.each_fold(test, num_classes=...), moments)`"
        )
    if held_out is not None and held_out.cross_moment.shape != moments.cross_moment.shape:
        raise ValueError(
            f"held_out: features and targets {held_out.cross_moment.shape};"
            f" the moments have {moments.cross_moment.shape}"
        )
    wanted = checked_targets(targets, features)
    labeled = None
    if encoder is not None:
        check_few_labels("reconstruction_weights", weights, readout)
        moments, labeled = with_labels_of(encoder, moments), moments
        labeled = _in_precision(labeled, precision)[0]
    moments, dtype = _in_precision(moments, precision)
    points = grid_points(noises, features)
    for noise in (noise for row in noises for noise in row):
        check_mean(moments, noise)
    rays_and_strengths = points.share.shape
    grid_mesh = None if mesh is None else divided(mesh, *rays_and_strengths)
    host = _host_for(moments.second_moment.dtype)
    shared = rays_and_strengths[1] * weights.size  # points of a ray
    in_full = host is not None or None not in wanted or labeled is not None
    leading = 0 if in_full else _leading(int(dims.max()), moments, shared, tolerance)
    own = checked_tasks(tasks, moments.targets)
    read = read_out(int(dims.max()), features)
    options = Options(readout == "clean", batch_size, dtype, progress, leading, own, read)
    rays = None
    if host is not None:
        with jax.default_device(host):
            rays = factorized(
                *jax.device_put((moments, points, wanted, labeled), host), dtype=dtype
            )
        # Past the whitening, nothing is left that needs float64.
        moments = jax.tree.map(lambda leaf: leaf.astype(dtype), moments)
        labeled = None
    if held_out is not None:
        floats = moments.second_moment.dtype
        held_out = jax.tree.map(lambda leaf: leaf.astype(floats), held_out)
    given = (moments, points, weights, dims, np.asarray(tolerance), rays, held_out, wanted)
    arguments = (*given, labeled)
    if grid_mesh is not None or host is not None:
        # Free of any device: the mesh, or the default device, places them.
        arguments = jax.tree.map(np.asarray, arguments)
    curves = solve_grid(*arguments, options=options, mesh=grid_mesh)
    if grid_mesh is not None:
        curves = jax.tree.map(np.asarray, curves)
    return [result_of(of_target, dims, weights, moments.label_moment) for of_target in curves]


def checked_targets(targets: Sequence[Target | None], features: int) -> Targets:
    """The targets; None for x itself."""
    if not targets:
        raise ValueError("targets: none; at least one is needed")
    for target in targets:
        if target is not None:
            check_target(target, features)
    return tuple(None if isinstance(target, Pixels) else target for target in targets)


def checked_tasks(tasks: Sequence[int] | None, targets: int) -> tuple[int, ...]:
    """(C,) the task of each target; () for none."""
    if tasks is None:
        return ()
    own = tuple(int(task) for task in tasks)
    if len(own) != targets or set(own) != set(range(max(own, default=0) + 1)):
        raise ValueError(f"tasks: {list(tasks)}; 0 .. T - 1, one for each of {targets} targets")
    return own


def checked(
    features: int,
    reconstruction_weights: ArrayLike,
    latent_dims: ArrayLike,
    readout: str,
    batch_size: int,
    tolerance: float,
) -> tuple[Array, np.ndarray]:
    """(L,) λ and (Kn,) K; raises ValueError where an option of `sweep` is out of range."""
    check_readout(readout)
    check_weight(reconstruction_weights)
    weights = jnp.atleast_1d(jnp.asarray(reconstruction_weights, float))
    dims = check_latent_dims(latent_dims, features).astype(np.int32)
    if weights.ndim != 1 or weights.size == 0:
        raise ValueError(
            f"reconstruction_weights: shape {weights.shape}; a list of at least one is needed"
        )
    if batch_size < 1:
        raise ValueError(f"batch_size: {batch_size}; it must be at least 1")
    if not 0 <= tolerance < 1:
        raise ValueError(f"tolerance: {tolerance}; it must be in [0, 1)")
    return weights, dims


def result_of(
    curves: Curves, dims: np.ndarray, weights: Array, label_moment: Array | ClassMoment
) -> Sweep:
    """The curves of the kernel, with their axes."""
    total = label_moment.trace().astype(curves.supervised_loss.dtype)
    return Sweep(
        latent_dim=jnp.asarray(dims),
        reconstruction_weight=weights,
        r2=1 - curves.supervised_loss / total,
        **{name: value for name, value in curves._asdict().items() if name != "rank"},
        rank=jnp.max(curves.rank),
    )


def sweep_memory(
    features: int,
    targets: int,
    batch_size: int = 1,
    itemsize: int = 8,
    *,
    held_out_folds: int = 0,
) -> int:
    """Bytes that `sweep` holds at its peak, its arguments included and its result not.

    An upper estimate: 8 (D, D) arrays for moments, spectrum and ray, 11 more for every point that
    is solved at the same time, and the labels' coordinates; with a test split, 2 and 2 more, and
    the labels' coordinates of its folds.

    Example:
      >>> reconjax.grid.sweep_memory(3072, 10)
      1436418048
    """
    squares, labels = 8 + 11 * batch_size, 8
    if held_out_folds:
        squares, labels = squares + 2 + 2 * batch_size, labels + 3 * held_out_folds
    return itemsize * (features**2 * squares + labels * targets * features)


def _in_precision(moments: Moments, precision: str | None) -> tuple[Moments, np.dtype]:
    """The moments in the dtype of the factorization, and the dtype of the points."""
    dtype = points_dtype(moments.second_moment.dtype, precision)
    if precision == "float32":
        moments = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), moments)
    return moments, dtype


def points_dtype(have: np.dtype, precision: str | None) -> np.dtype:
    """The dtype of the points, given that of the moments.

    Raises:
      ValueError: a precision that is none, or that needs float64 moments.
    """
    if precision is None:
        return have
    if precision not in PRECISIONS:
        raise ValueError(f"precision: {precision!r}; one of {', '.join(PRECISIONS)}")
    if precision != "float32" and have != jnp.float64:
        raise ValueError(
            f"precision: {precision!r} needs float64 moments, these are {have};"
            " enable jax_enable_x64 before they are made"
        )
    return jnp.dtype("float64" if precision == "float64" else "float32")


def _host_for(dtype: np.dtype) -> jax.Device | None:
    """The CPU, where float64 is needed and the default device has none; else None."""
    if dtype == jnp.float64 and jax.default_backend() == "tpu":
        return jax.local_devices(backend="cpu")[0]
    return None


def _leading(largest: int, moments: Moments, points: int, tolerance: float) -> int:
    """The latent dimensions that a subspace must serve; 0 where it would not pay."""
    leading = -(-largest // 16) * 16
    size = subspace_size(leading, moments.targets)
    # In units of a point in full, one in the subspace costs the cube of its share of directions;
    # its basis and the checks of it cost up to eight times that share; see benchmarks/sweep.py.
    share = size / moments.features
    pays = tolerance > 0 and points >= 4 and points * (1 - share**3) > 8 * share
    return leading if pays else 0
