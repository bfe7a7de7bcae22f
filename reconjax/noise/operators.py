"""Linear operators: blur, shifts, flips, crops, any matrix.

A random operator is one of several, x' = T_a x, so that

    E[x'|x] = T x,  T = E T_a,    Cov x' = E[T_a (Cov x + E x E xᵀ) T_aᵀ] - (T E x)(T E x)ᵀ.

Those on images act on rows and columns, T_a = R ⊗ C ⊗ I, drawn independently: nothing of size
D x D is ever made for T, and the moments cost H + W of a matrix product each. Those on volumes and
clips have one more axis, those on sequences one less.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike, DTypeLike

from reconjax.linalg.precision import highest
from reconjax.noise.base import (
    Noise,
    Shape,
    Window,
    check,
    flat,
    image_size,
    pytree,
    random_index,
    static,
    window_size,
)


@pytree
class Linear(Noise):
    """x' = A x, with no randomness.

    Attributes:
      matrix: (D, D) A.
    """

    matrix: Array

    @property
    def features(self) -> int:
        """D."""
        return self.matrix.shape[0]

    @jax.jit
    @highest
    def sample(self, key: Array, x: Array) -> Array:
        """A x."""
        return (flat(x, self.features) @ self.matrix.T.astype(x.dtype)).reshape(x.shape)

    @jax.jit
    @highest
    def mean(self, moment: Array) -> Array:
        """A E[x fᵀ]."""
        return self.matrix.astype(moment.dtype) @ moment

    @jax.jit
    @highest
    def second_moment(self, moment: Array, mean: Array | None = None) -> Array:
        """A G Aᵀ."""
        matrix = self.matrix.astype(moment.dtype)
        return matrix @ moment @ matrix.T


@pytree
class ImageOperator(Noise):
    """What operators on the axes of an image share.

    Attributes:
      image: (H, W, C), or (D, H, W, C).
    """

    image: tuple[int, ...] = static()

    def operators(self, dtype: DTypeLike) -> list[tuple[Array, Array]]:
        """For rows, then columns (or each axis): (A, size, size) operators, their (A,) chances."""
        raise NotImplementedError

    @property
    def features(self) -> int:
        """D."""
        return math.prod(self.image)

    @property
    def axes(self) -> tuple[int, ...]:
        """(H, W)."""
        return self.image[:-1]

    @jax.jit
    @highest
    def sample(self, key: Array, x: Array) -> Array:
        """One of the operators on each example."""
        values = flat(x, self.features)
        images = values.reshape(-1, self.features)
        keys = jax.random.split(key, len(self.axes))
        for axis, ((each, chances), subkey) in enumerate(
            zip(self.operators(x.dtype), keys, strict=True)
        ):
            along = images.reshape(-1, *self._view(axis))
            if len(each) == 1:
                images = jnp.einsum("ij,najb->naib", each[0], along)
            else:
                which = random_index(subkey, chances, along.shape[:1])
                images = jnp.einsum("nij,najb->naib", each[which], along)
        return images.reshape(x.shape)

    @jax.jit
    @highest
    def mean(self, moment: Array) -> Array:
        """T E[x fᵀ]."""
        through = moment
        for axis, (each, chances) in enumerate(self.operators(moment.dtype)):
            average = jnp.einsum("aij,a->ij", each, chances)
            along = through.reshape(*self._view(axis), -1)
            through = jnp.einsum("ij,ajbf->aibf", average, along).reshape(moment.shape)
        return through

    @jax.jit
    @highest
    def second_moment(self, moment: Array, mean: Array | None = None) -> Array:
        """E[T_a G T_aᵀ], and what moving E x about adds."""
        through = None
        if mean is not None:
            moment = moment + mean[:, None] * mean
            through = self.mean(mean[:, None])[:, 0]
        whole = moment
        for axis, (each, chances) in enumerate(self.operators(moment.dtype)):
            view = self._view(axis)
            whole = _both_sides(whole.reshape(*view, *view), each, chances).reshape(moment.shape)
        return whole if through is None else whole - through[:, None] * through

    def _view(self, axis: int) -> tuple[int, int, int]:
        """The features as those before an axis, along it, and after it."""
        before, after = self.image[:axis], self.image[axis + 1 :]
        return math.prod(before), self.image[axis], math.prod(after)


@pytree
class Blur(ImageOperator):
    """Gaussian blur; at the edges the weights of what lies in the image add up to 1.

    Attributes:
      std: in pixels.
    """

    std: Array

    def operators(self, dtype: DTypeLike) -> list[tuple[Array, Array]]:
        """One for each axis."""
        std = self.std.astype(dtype)
        wide = std > 0
        axes = []
        for size in self.axes:
            place = jnp.arange(size, dtype=dtype)
            distance = (place[:, None] - place) / jnp.where(wide, std, 1.0)
            weights = jnp.where(wide, jnp.exp(-(distance**2) / 2), jnp.eye(size, dtype=dtype))
            weights = weights / jnp.sum(weights, axis=1, keepdims=True)
            axes.append((weights[None], jnp.ones(1, dtype)))
        return axes


@pytree
class Shift(ImageOperator):
    """A shift by -largest .. largest pixels, each equally likely, down and right independently.

    Attributes:
      largest: in pixels.
      wrap: what leaves at one edge enters at the other; else 0, the mean image, enters.
    """

    largest: int = static()
    wrap: bool = static()

    def operators(self, dtype: DTypeLike) -> list[tuple[Array, Array]]:
        """2 largest + 1 for each axis; an axis of one pixel stays."""
        steps = range(-self.largest, self.largest + 1)
        chances = jnp.full(len(steps), 1 / len(steps), dtype)
        axes = []
        for size in self.axes:
            eye = np.eye(size)
            if size == 1:
                axes.append((jnp.asarray(eye[None], dtype), jnp.ones(1, dtype)))
                continue
            shifted = [
                np.roll(eye, step, axis=0) if self.wrap else np.eye(size, k=-step) for step in steps
            ]
            axes.append((jnp.asarray(np.stack(shifted), dtype), chances))
        return axes


@pytree
class Flip(ImageOperator):
    """Left and right (or the two ends of another axis) change places with a probability.

    Attributes:
      probability: of a flip.
      axis: of the image, 0 or 1 (of a volume up to 2).
    """

    probability: Array
    axis: int = static()

    def operators(self, dtype: DTypeLike) -> list[tuple[Array, Array]]:
        """The identity and the flip of one axis."""
        axes = []
        for axis, size in enumerate(self.axes):
            eye = jnp.eye(size, dtype=dtype)
            if axis == self.axis:
                chance = self.probability.astype(dtype)
                axes.append((jnp.stack([eye, eye[::-1]]), jnp.stack([1 - chance, chance])))
            else:
                axes.append((eye[None], jnp.ones(1, dtype)))
        return axes


@pytree
class Crop(ImageOperator):
    """A window at a random place, every place equally likely, enlarged to the image (bilinear).

    Attributes:
      window: (height, width), or a side for each axis.
    """

    window: tuple[int, ...] = static()

    def operators(self, dtype: DTypeLike) -> list[tuple[Array, Array]]:
        """One for each first row, and each first column, of the window, or along each axis."""
        axes = []
        for size, window in zip(self.axes, self.window, strict=True):
            # Pixel centers of the enlarged window, in pixels of the window.
            at = np.clip((np.arange(size) + 0.5) * window / size - 0.5, 0, window - 1)
            near = np.minimum(at.astype(int), max(window - 2, 0))
            each = np.zeros((size - window + 1, size, size))
            for start, matrix in enumerate(each):
                np.add.at(matrix, (np.arange(size), start + near), 1 - (at - near))
                far = start + np.minimum(near + 1, window - 1)
                np.add.at(matrix, (np.arange(size), far), at - near)
            chances = jnp.full(len(each), 1 / len(each), dtype)
            axes.append((jnp.asarray(each, dtype), chances))
        return axes


def linear(matrix: ArrayLike) -> Linear:
    """Any linear operator x' = A x.

    A random one is a `mixture` of several.

    Args:
      matrix: (D, D) A.

    Raises:
      ValueError: not square, or not finite.

    Example:
      >>> noise = reconjax.noise.linear([[1.0, 1.0], [0.0, 1.0]])
      >>> noise.second_moment(np.eye(2)).tolist()
      [[2.0, 1.0], [1.0, 1.0]]
    """
    array = jnp.asarray(matrix, float)
    if array.ndim != 2 or array.shape[0] != array.shape[1]:
        raise ValueError(f"matrix: shape {array.shape}; (D, D) is needed")
    if not isinstance(array, jax.core.Tracer) and not bool(jnp.all(jnp.isfinite(array))):
        raise ValueError("matrix: NaN or inf; it must be finite")
    return Linear(matrix=array)


def blur(std: ArrayLike, image_shape: Shape) -> Blur:
    """Gaussian blur of each channel.

    Args:
      std: >= 0, in pixels.
      image_shape: (H, W, C) or (H, W).

    Raises:
      ValueError: std negative or not finite, not an image shape.

    Example:
      >>> x = np.zeros((1, 3, 3, 1), np.float32)
      >>> x[0, 1, 1] = 1
      >>> import jax
      >>> blurred = reconjax.noise.blur(1.0, (3, 3)).sample(jax.random.key(0), x)
      >>> bool(x[0, 1, 1] > blurred[0, 1, 1] > blurred[0, 0, 1] > blurred[0, 0, 0] > 0)
      True
    """
    check("std", std, lambda s: np.isfinite(s) & (s >= 0), "finite and >= 0")
    return Blur(std=jnp.asarray(std, float), image=image_size(image_shape))


def shift(largest: int, image_shape: Shape, *, wrap: bool = False) -> Shift:
    """A random shift by up to `largest` pixels in each direction.

    Args:
      largest: 0 or more, less than the image's height and width.
      image_shape: (H, W, C) or (H, W).
      wrap: what leaves at one edge enters at the other; else the mean image's value, 0, enters.

    Raises:
      ValueError: largest out of range, not an image shape.

    Example:
      >>> noise = reconjax.noise.shift(1, (3, 3), wrap=True)  # by -1, 0 or 1 in both directions
      >>> round(float(noise.mean(np.eye(9))[0, 1]), 3)
      0.111
    """
    image = image_size(image_shape)
    most = min((size for size in image[:-1] if size > 1), default=1) - 1
    if int(largest) != largest or not 0 <= largest <= most:
        raise ValueError(f"largest: {largest}; 0 .. {most} is allowed")
    return Shift(largest=int(largest), wrap=wrap, image=image)


def flip(
    probability: ArrayLike,
    image_shape: Shape,
    *,
    vertical: bool = False,
    axis: int | None = None,
) -> Flip:
    """Left and right change places with a probability; or top and bottom, or the ends of an axis.

    Args:
      probability: in [0, 1].
      image_shape: (H, W, C) or (H, W); of sequences (T, 1, C), which are turned round in time.
      vertical: top and bottom.
      axis: in place of `vertical`, which axis: 0 for the first, which of clips is time.

    Raises:
      ValueError: probability out of range, not an image shape, no such axis.

    Example:
      >>> reconjax.noise.flip(0.5, (1, 2)).mean(np.eye(2)).tolist()
      [[0.5, 0.5], [0.5, 0.5]]
    """
    check("probability", probability, lambda p: (p >= 0) & (p <= 1), "in [0, 1]")
    image = image_size(image_shape)
    if axis is None:
        axis = len(image) - 3 if vertical or image[-2] == 1 else len(image) - 2
    elif vertical or not 0 <= axis < len(image) - 1:
        raise ValueError(f"axis: {axis}; 0 .. {len(image) - 2}, and not with vertical, is allowed")
    return Flip(probability=jnp.asarray(probability, float), axis=axis, image=image)


def crop(window: Window, image_shape: Shape) -> Crop:
    """A window at a random place, enlarged to the size of the image.

    Args:
      window: (height, width), or one int for a square.
      image_shape: (H, W, C) or (H, W).

    Raises:
      ValueError: a window that does not fit, not an image shape.

    Example:
      >>> noise = reconjax.noise.crop((2, 2), (2, 2))  # the whole image
      >>> noise.mean(np.eye(4))[0].round(3).tolist()
      [1.0, 0.0, 0.0, 0.0]
    """
    size = window_size("window", window, image_shape)
    return Crop(window=size, image=image_size(image_shape))


@jax.jit
@highest
def _both_sides(moment: Array, each: Array, chances: Array) -> Array:
    """Σ w_a T_a G T_aᵀ, T_a on axes 1 and 4 of G."""

    def add(total: Array, term: tuple[Array, Array]) -> tuple[Array, None]:
        operator, chance = term
        rows = jnp.einsum("ij,ajbckd->aibckd", operator, moment)
        return total + chance * jnp.einsum("kl,aibcld->aibckd", operator, rows), None

    return jax.lax.scan(add, jnp.zeros_like(moment), (each, chances))[0]
