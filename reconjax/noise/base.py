"""What every noise offers, and the checks that they share."""

import dataclasses
import operator
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar, dataclass_transform

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from reconjax.noise.rays import RayPoint

Shape = Sequence[int]
# A patch: one number, or one for each axis, None for all of an axis.
Window = int | Sequence[int | None]
_Class = TypeVar("_Class", bound=type)


def static() -> Any:
    """A field that is part of the structure of a noise, not a parameter: a shape, a choice."""
    return dataclasses.field(metadata={"static": True})


@dataclass_transform(frozen_default=True, eq_default=False, kw_only_default=True)
def pytree(cls: _Class) -> _Class:
    """A frozen dataclass with keyword arguments whose fields, but the static ones, are leaves."""
    noise: Any = dataclasses.dataclass(frozen=True, eq=False, kw_only=True)(cls)
    jax.tree_util.register_dataclass(noise)
    return noise


class Noise(Protocol):
    """A random x' of x (D,), with a conditional mean E[x'|x] = T x + b; see the package's text."""

    def sample(self, key: Array, x: Array) -> Array:
        """Draws x' for centered x (..., D), or (N, H, W, C) images; of the same shape and dtype."""
        ...

    def mean(self, moment: Array) -> Array:
        """E[x' fᵀ] = T E[x fᵀ] (D, m) from E[x fᵀ] (D, m), for any centered f of the clean sample.

        The constant part b of the conditional mean is `offset`.
        """
        ...

    def second_moment(self, moment: Array, mean: Array | None = None) -> Array:
        """The covariance of x' (D, D).

        Args:
          moment: (D, D) the covariance of x; where x is centered, its second moment.
          mean: (D,) E[x], for an x that an earlier noise of a chain has moved; None is 0.
        """
        ...

    def offset(self) -> Array | None:
        """(D,) b, or None where it is 0, that is where E[x'] = 0 for every centered x."""
        return None

    def ray(self) -> RayPoint | None:
        """The ray on which this noise lies, or None."""
        return None

    @property
    def features(self) -> int | None:
        """D, or None for a noise that takes inputs of any size."""
        return None


def mean_after(noise: Noise, mean: Array | None) -> Array | None:
    """E[x'] (D,) = T E[x] + b, None for 0."""
    offset = noise.offset()
    if mean is None:
        return offset
    through = noise.mean(mean[:, None])[:, 0]
    return through if offset is None else through + offset.astype(through.dtype)


def flat(x: Array, features: int) -> Array:
    """(..., D), whether x is that or (N, H, W, C).

    Raises:
      ValueError: x of another size.
    """
    flat = x if x.shape[-1:] == (features,) else x.reshape(x.shape[0], -1)
    if flat.shape[-1] != features:
        raise ValueError(f"x: shape {x.shape}; this noise was made for {features} features")
    return flat


def per_example(values: Array, x: Array) -> Array:
    """One value for each example of x, shaped so as to act on x; see `examples`."""
    return values.reshape(values.shape + (1,) * (x.ndim - values.ndim))


def examples(x: Array) -> tuple[int, ...]:
    """The shape of the examples: (N,) of images (N, H, W, C) or volumes, else (...)."""
    return x.shape[:1] if x.ndim >= 4 else x.shape[:-1]


def random_index(key: Array, probabilities: Array, shape: tuple[int, ...]) -> Array:
    """Indices (shape) int32 drawn with `probabilities` (n,)."""
    edges = jnp.cumsum(probabilities.astype(jnp.float32))
    drawn = jax.random.uniform(key, (*shape, 1), jnp.float32)
    # The last edge is 1 up to rounding, and plays no part.
    return jnp.sum(drawn >= edges[:-1], axis=-1, dtype=jnp.int32)


def as_features(name: str, value: ArrayLike, features: int) -> Array:
    """(D,) from a scalar, (D,), or an image of D values.

    Raises:
      ValueError: another size, or NaN.
    """
    array = jnp.asarray(value, float)
    if array.ndim and array.size != features:
        raise ValueError(f"{name}: shape {array.shape}; a scalar or {features} values are needed")
    check(name, array, np.isfinite, "finite")
    return jnp.broadcast_to(array.reshape(-1), (features,))


def image_size(image_shape: Shape) -> tuple[int, ...]:
    """(H, W, C) of an image shape (H, W) or (H, W, C); (D, H, W, C) of a volume or a clip.

    A sequence is an image that is one pixel wide, (T, 1, C).

    Raises:
      ValueError: another number of dimensions.
    """
    if len(image_shape) not in (2, 3, 4):
        raise ValueError(
            f"image_shape: {tuple(image_shape)}; patches need images (H, W, C), sequences (T, 1, C)"
            " or volumes (D, H, W, C) (--axes)"
        )
    sizes = tuple(int(size) for size in image_shape)
    return sizes if len(sizes) > 2 else (*sizes, 1)


def window_size(
    name: str, window: Window, image_shape: Shape, smallest: int = 1
) -> tuple[int, ...]:
    """The sides of a patch that fits in the image: (height, width), or one for each axis.

    One number is a square or a cube, cut to 1 along an axis of one pixel. None is a whole axis.

    Raises:
      ValueError: it does not fit, or has another number of axes.
    """
    *axes, _ = image_size(image_shape)
    words = {1: "length", 2: "(height, width)", 3: "(depth, height, width)"}[len(axes)]
    if isinstance(window, Sequence):
        sides = list(window)
        if len(sides) == len(axes):
            sides = [axis if s is None else s for s, axis in zip(sides, axes, strict=True)]
    else:
        sides = [min(window, axis) if axis == 1 else window for axis in axes]
    try:
        size = tuple(operator.index(side) for side in sides)  # type: ignore[arg-type]
    except TypeError:
        raise ValueError(
            f"{name}: {window}; {words} in whole pixels, or one whole number"
        ) from None
    if len(size) != len(axes) or not all(
        min(smallest, s) <= p <= s for p, s in zip(size, axes, strict=True)
    ):
        low = ", ".join(str(min(smallest, axis)) for axis in axes)
        raise ValueError(f"{name}: {size}; {words} from ({low}) to ({', '.join(map(str, axes))})")
    return size


def parse_window(text: str) -> int | list[int | None]:
    """The sides of a patch that a text names: "4", "4x2", "2x4x4", with * for a whole axis.

    Raises:
      ValueError: it names none.
    """
    sides = [None if side == "*" else int(side) for side in text.strip().lower().split("x")]
    return sides[0] if len(sides) == 1 and sides[0] is not None else sides


def check_ratio(mask_ratio: ArrayLike) -> None:
    """Raises ValueError unless 0 <= p < 1."""
    check("mask_ratio", mask_ratio, lambda p: (p >= 0) & (p < 1), "in [0, 1)")


def check(
    name: str, value: ArrayLike, allowed: Callable[[np.ndarray], ArrayLike], text: str
) -> None:
    """Raises ValueError unless all of the value is allowed (skipped while traced)."""
    if isinstance(value, jax.core.Tracer):
        return
    if not np.all(allowed(np.asarray(value, np.float64))):
        raise ValueError(f"{name}: {value}; it must be {text}")


def check_probabilities(probabilities: ArrayLike, count: int) -> Array:
    """(n,) probabilities.

    Raises:
      ValueError: another number of them, one that is negative, or a sum other than 1.
    """
    if np.shape(probabilities) != (count,):
        raise ValueError(f"probabilities: shape {np.shape(probabilities)}; ({count},) is needed")
    if not isinstance(probabilities, jax.core.Tracer):
        values = np.asarray(probabilities, np.float64)
        if not (np.all(values >= 0) and abs(values.sum() - 1) <= 1e-5):
            raise ValueError(f"probabilities: {values.tolist()}; they must be >= 0 and add up to 1")
        probabilities = values / values.sum()
    return jnp.asarray(probabilities, float)
