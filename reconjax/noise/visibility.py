"""Masks whose groups are not alike: blocks (cut-out), a set of masks, any pairwise visibility."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike, DTypeLike

from reconjax.noise.base import (
    Shape,
    Window,
    check_probabilities,
    image_size,
    pytree,
    random_index,
    static,
    window_size,
)
from reconjax.noise.groups import group_fields, patch_groups
from reconjax.noise.masks import GroupMask
from reconjax.noise.rays import RayPoint, SameGroup, point


@pytree
class BlockMask(GroupMask):
    """One block at a random place is dropped, all channels (cut-out). The groups are the pixels.

    Attributes:
      image: (H, W), or the sizes of more axes.
      window: (height, width) of the block, or a side for each axis.
      partial: the block may stick out: its center is uniform on the pixels.
    """

    image: tuple[int, ...] = static()
    window: tuple[int, ...] = static()
    partial: bool = static()

    def draw(self, key: Array, shape: tuple[int, ...]) -> Array:
        """All pixels but those of a block."""
        hidden = jnp.ones((*shape, 1), bool)
        for axis, subkey in enumerate(jax.random.split(key, len(self.image))):
            covers = jnp.asarray(self._covers(axis))
            place = jax.random.randint(subkey, shape, 0, covers.shape[0], jnp.int32)
            both = hidden[..., :, None] & covers[place][..., None, :]
            hidden = both.reshape(*shape, -1)
        return ~hidden

    def visibility(self, dtype: DTypeLike) -> tuple[Array, Array]:
        """1 - P(i hidden), and 1 - P(i hidden) - P(j hidden) + P(both hidden)."""
        hidden: Any = 1.0
        twice: Any = 1.0
        for axis, place in enumerate(jnp.unravel_index(self.groups, self.image)):
            covers = self._covers(axis).astype(np.float64)
            both = jnp.asarray(covers.T @ covers / len(covers), dtype)
            twice = twice * both[place[:, None], place]
            hidden = hidden * jnp.diagonal(both)[place]
        return 1 - hidden, 1 - hidden[:, None] - hidden + twice

    def _covers(self, axis: int) -> np.ndarray:
        """(places, size) bool: the rows, or columns, of the block at each place."""
        size, window = self.image[axis], self.window[axis]
        places = np.arange(size) - window // 2 if self.partial else np.arange(size - window + 1)
        at = np.arange(size)
        return (at >= places[:, None]) & (at < places[:, None] + window)


@pytree
class MaskSet(GroupMask):
    """One mask of a finite set.

    Attributes:
      masks: (A, n) bool, which groups each mask keeps.
      probabilities: (A,) of the masks.
    """

    masks: Array
    probabilities: Array

    def draw(self, key: Array, shape: tuple[int, ...]) -> Array:
        """One of the masks."""
        return self.masks[random_index(key, self.probabilities, shape)]

    def visibility(self, dtype: DTypeLike) -> tuple[Array, Array]:
        """The averages over the masks."""
        pairs = self._pairs(dtype)
        return jnp.diagonal(pairs)[self.groups], pairs[self.groups[:, None], self.groups]

    def _pairs(self, dtype: DTypeLike | None = None) -> Array:
        """(n, n) V of the groups."""
        dtype = jnp.result_type(float) if dtype is None else dtype
        masks = self.masks.astype(dtype)
        weighted = masks * jnp.asarray(self.probabilities, dtype)[:, None]
        return jnp.matmul(weighted.T, masks, precision=jax.lax.Precision.HIGHEST)

    def ray(self) -> RayPoint | None:
        """That of patch masks, where all groups, and all pairs of them, are kept equally often."""
        return None if self.fill is not None else _common_ray(self.groups, self._pairs())


@pytree
class PairMask(GroupMask):
    """A mask known by how often each group, and each pair of groups, is kept.

    It draws where a Gaussian vector, cut at thresholds, has this visibility (Emrich and Piedmonte,
    1991).

    Attributes:
      pairs: (n, n) V, with q on the diagonal.
      factor: (n, n) of the Gaussian vector's correlation, or None where there is no such vector.
    """

    pairs: Array
    factor: Array | None

    def draw(self, key: Array, shape: tuple[int, ...]) -> Array:
        """The groups at which the Gaussian vector lies below its thresholds."""
        if self.factor is None:
            raise ValueError(
                "visibility: no Gaussian vector has it, so that it cannot be drawn (its closed form"
                " holds); give the masks themselves to mask_set"
            )
        normal = jax.random.normal(key, (*shape, self.count), jnp.float32)
        factor = self.factor.astype(jnp.float32)
        latent = jnp.matmul(normal, factor.T, precision=jax.lax.Precision.HIGHEST)
        thresholds = jax.scipy.special.ndtri(jnp.diagonal(self.pairs)).astype(jnp.float32)
        return latent <= thresholds

    def visibility(self, dtype: DTypeLike) -> tuple[Array, Array]:
        """Q and V, by feature."""
        pairs = jnp.asarray(self.pairs, dtype)
        return jnp.diagonal(pairs)[self.groups], pairs[self.groups[:, None], self.groups]

    def ray(self) -> RayPoint | None:
        """That of patch masks, where all groups, and all pairs of them, are kept equally often."""
        return None if self.fill is not None else _common_ray(self.groups, self.pairs)


def block_mask(
    window: Window,
    image_shape: Shape,
    *,
    partial: bool = False,
    fill: ArrayLike | None = None,
) -> BlockMask:
    """Drops one block of `window` (height, width) at a random place, all channels (cut-out).

    Args:
      window: (height, width), or one int for a square.
      image_shape: (H, W, C) or (H, W).
      partial: let the block stick out, its center uniform on the pixels, as cut-out does; else it
        lies in the image, every place being equally likely.
      fill: what dropped values become, in units of centered x; 0 by default.

    Raises:
      ValueError: a block that does not fit or leaves nothing, a fill of another size.

    Example:
      >>> round(float(reconjax.noise.block_mask((1, 1), (1, 4)).mean(np.eye(4))[0, 0]), 3)
      0.75
    """
    size = window_size("window", window, image_shape)
    *axes, _ = image_size(image_shape)
    if size == tuple(axes) and not partial:
        raise ValueError(f"window: {size} always drops the whole image; a smaller one is needed")
    return BlockMask(
        **group_fields(patch_groups(1, image_shape), fill),
        image=tuple(axes),
        window=size,
        partial=partial,
    )


def mask_set(
    masks: ArrayLike,
    probabilities: ArrayLike | None = None,
    *,
    groups: ArrayLike | None = None,
    fill: ArrayLike | None = None,
) -> MaskSet:
    """One of A given masks for each example.

    Args:
      masks: (A, n) bool or 0 and 1: which of the n groups each mask keeps.
      probabilities: (A,) of the masks; equal by default.
      groups: (D,) the group of each feature, e.g. from `patch_groups`; one each by default.
      fill: what dropped values become, in units of centered x; 0 by default.

    Raises:
      ValueError: masks that are not 0 and 1, probabilities that do not add up to 1, groups that the
        masks do not have, a fill of another size.

    Example:
      >>> noise = reconjax.noise.mask_set([[1, 0], [0, 1]])  # the one or the other
      >>> noise.second_moment(np.ones((2, 2))).tolist()
      [[0.5, 0.0], [0.0, 0.5]]
    """
    kept = np.asarray(masks)
    if kept.ndim != 2 or not np.all((kept == 0) | (kept == 1)):
        raise ValueError(f"masks: shape {kept.shape}; (A, n) of 0 (dropped) and 1 (kept) is needed")
    count = len(kept)
    probabilities = np.full(count, 1 / count) if probabilities is None else probabilities
    return MaskSet(
        masks=jnp.asarray(kept, bool),
        probabilities=check_probabilities(probabilities, count),
        **_fields(kept.shape[1], groups, fill),
    )


def visibility_mask(
    visibility: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    fill: ArrayLike | None = None,
) -> PairMask:
    """A mask given by V_ij = P(groups i and j are both kept), V_ii = P(i is kept).

    Its closed form is exact for every such mask. It draws one of them, where there is a Gaussian
    vector that gives it; `sample` raises ValueError where not (as for exact counts: `mask_set`).

    Args:
      visibility: (n, n) V, symmetric.
      groups: (D,) the group of each feature, e.g. from `patch_groups`; one each by default.
      fill: what dropped values become, in units of centered x; 0 by default.

    Raises:
      ValueError: V that no mask has: not symmetric, outside [max(0, q_i + q_j - 1), min(q_i, q_j)],
        or V - q qᵀ not positive semi-definite; groups that V does not have.

    Example:
      >>> noise = reconjax.noise.visibility_mask([[0.5, 0.375], [0.375, 0.5]])
      >>> noise.second_moment(np.ones((2, 2))).tolist()
      [[0.5, 0.375], [0.375, 0.5]]
    """
    pairs = np.asarray(visibility, np.float64)
    if pairs.ndim != 2 or pairs.shape[0] != pairs.shape[1] or not np.allclose(pairs, pairs.T):
        raise ValueError(f"visibility: shape {pairs.shape}; a symmetric (n, n) matrix is needed")
    single = np.diagonal(pairs)
    low = np.maximum(0, single[:, None] + single - 1)
    bad = ~((pairs >= low - 1e-9) & (pairs <= np.minimum(single[:, None], single) + 1e-9))
    bad |= ~((single > 0) & (single <= 1))[:, None]
    if bad.any():
        i, j = np.argwhere(bad)[0]
        raise ValueError(
            f"visibility: {pairs[i, j]:.6g} of groups {i} and {j}, each kept with probability"
            f" {single[i]:.6g} and {single[j]:.6g}; no mask has it"
        )
    if np.linalg.eigvalsh(pairs - np.outer(single, single))[0] < -1e-9 * len(pairs):
        raise ValueError("visibility: V - q qᵀ is not positive semi-definite; no mask has it")
    factor = _latent_factor(pairs)
    return PairMask(
        pairs=jnp.asarray(pairs, float),
        factor=None if factor is None else jnp.asarray(factor, float),
        **_fields(len(pairs), groups, fill),
    )


def _latent_factor(pairs: np.ndarray) -> np.ndarray | None:
    """The factor of the correlation whose Gaussian vector, cut at q's quantiles, has this V."""
    from scipy.special import ndtri

    single = np.diagonal(pairs)
    # A group that is always kept is independent of the others.
    threshold = ndtri(np.clip(single, 1e-300, 1 - 1e-16))
    first, second = np.triu_indices(len(pairs), 1)
    h, k, wanted = threshold[first], threshold[second], pairs[first, second]
    # P(both below) = q q' + 1/2π ∫₀^θ exp(-(h² + k² - 2 h k sin t) / 2 cos² t) dt grows with θ,
    # the arcsine of the correlation.
    nodes, weights = np.polynomial.legendre.leggauss(48)

    def both(theta: np.ndarray) -> np.ndarray:
        angle = theta[:, None] * (nodes + 1) / 2
        inside = h[:, None] ** 2 + k[:, None] ** 2 - 2 * (h * k)[:, None] * np.sin(angle)
        density = np.exp(-inside / (2 * np.maximum(np.cos(angle) ** 2, 1e-300)))
        return single[first] * single[second] + theta / (4 * np.pi) * (density @ weights)

    low, high = np.full(len(h), -np.pi / 2), np.full(len(h), np.pi / 2)
    for _ in range(44):
        middle = (low + high) / 2
        below = both(middle) < wanted
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    correlation = np.eye(len(pairs))
    independent = np.abs(wanted - single[first] * single[second]) < 1e-12
    entries = np.where(independent, 0.0, np.sin((low + high) / 2))
    correlation[first, second] = correlation[second, first] = entries
    values, vectors = np.linalg.eigh(correlation)
    if values[0] < -1e-6:
        return None
    return vectors * np.sqrt(np.maximum(values, 0))


def _common_ray(groups: Array, pairs: Array) -> RayPoint | None:
    """The ray of masks with visibility V (n, n) of the groups, where they treat all groups alike.

    With V_ii = q and V_ij = v for all i != j, E[x' x'ᵀ] = q ((1 - ρ) M + ρ B) with ρ = 1 - v / q
    and B = M within groups. None for other V, and while JAX traces.
    """
    if isinstance(pairs, jax.core.Tracer):
        return None
    values = np.asarray(pairs, np.float64)
    within = np.diagonal(values)
    between = values[~np.eye(len(values), dtype=bool)]
    rounding = 100 * float(jnp.finfo(pairs.dtype).eps)
    if max(np.ptp(within), np.ptp(between) if between.size else 0.0) > rounding:
        return None
    keep = within.mean()
    both = between.mean() if between.size else keep
    return point(SameGroup(groups), 1 - both / keep, keep, keep)


def _fields(count: int, groups: ArrayLike | None, fill: ArrayLike | None) -> dict[str, Any]:
    of = np.arange(count) if groups is None else np.asarray(groups)
    if of.ndim != 1 or not np.array_equal(np.unique(of), np.arange(count)):
        raise ValueError(f"groups: (D,) of 0 .. {count - 1} is needed, each at least once")
    return group_fields(of, fill)
