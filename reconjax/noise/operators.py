"""Linear operators: blur, shifts, flips, crops, any matrix.

A random operator is one of several, x' = T_a x, so that

    E[x'|x] = T x,  T = E T_a,    Cov x' = E[T_a (Cov x + E x E xᵀ) T_aᵀ] - (T E x)(T E x)ᵀ.

Those on images act on rows and columns, T_a = R ⊗ C ⊗ I, drawn independently: nothing of size
D x D is ever made for T, and the moments cost H + W of a matrix product each.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike, DTypeLike

from reconjax.linalg.precision import highest
from reconjax.noise.base import (
    Noise,
    Shape,
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
    """What operators on the rows and the columns of an image share.

    Attributes:
      image: (H, W, C).
    """

    image: tuple[int, int, int] = static()

    def operators(self, dtype: DTypeLike) -> list[tuple[Array, Array]]:
        """For rows, then columns: (A, size, size) operators and their (A,) probabilities."""
        raise NotImplementedError

    @property
    def features(self) -> int:
        """D."""
        height, width, channels = self.image
        return height * width * channels

    @jax.jit
    @highest
    def sample(self, key: Array, x: Array) -> Array:
        """One of the operators on each example."""
        values = flat(x, self.features)
        images = values.reshape(-1, *self.image)
        keys = jax.random.split(key)
        for (each, chances), subkey, sums in zip(
            self.operators(x.dtype), keys, ("nij,njwc->niwc", "nij,nhjc->nhic"), strict=True
        ):
            if len(each) == 1:
                images = jnp.einsum(sums.replace("nij", "ij"), each[0], images)
            else:
                which = random_index(subkey, chances, images.shape[:1])
                images = jnp.einsum(sums, each[which], images)
        return images.reshape(x.shape)

    @jax.jit
    @highest
    def mean(self, moment: Array) -> Array:
        """T E[x fᵀ]."""
        return self._expected(moment, *(self._averages(moment.dtype)))

    @jax.jit
    @highest
    def second_moment(self, moment: Array, mean: Array | None = None) -> Array:
        """E[T_a G T_aᵀ], and what moving E x about adds."""
        through = None
        if mean is not None:
            moment = moment + mean[:, None] * mean
            through = self.mean(mean[:, None])[:, 0]
        height, width, channels = self.image
        size = self.features
        views = [
            (1, height, width * channels, 1, height, width * channels),
            (height, width, channels, height, width, channels),
        ]
        whole = moment
        for (each, chances), view in zip(self.operators(moment.dtype), views, strict=True):
            whole = _both_sides(whole.reshape(view), each, chances).reshape(size, size)
        return whole if through is None else whole - through[:, None] * through

    def _averages(self, dtype: DTypeLike) -> list[Array]:
        return [jnp.einsum("aij,a->ij", *axis) for axis in self.operators(dtype)]

    def _expected(self, moment: Array, rows: Array, columns: Array) -> Array:
        images = moment.reshape(*self.image, -1)
        return jnp.einsum("ih,jw,hwcm->ijcm", rows, columns, images).reshape(moment.shape)


@pytree
class Blur(ImageOperator):
    """Gaussian blur; at the edges the weights of what lies in the image add up to 1.

    Attributes:
      std: in pixels.
    """

    std: Array

    def operators(self, dtype: DTypeLike) -> list[tuple[Array, Array]]:
        """One for the rows, one for the columns."""
        std = self.std.astype(dtype)
        wide = std > 0
        axes = []
        for size in self.image[:2]:
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
        """2 largest + 1 for the rows, and for the columns."""
        steps = range(-self.largest, self.largest + 1)
        chances = jnp.full(len(steps), 1 / len(steps), dtype)
        axes = []
        for size in self.image[:2]:
            eye = np.eye(size)
            shifted = [
                np.roll(eye, step, axis=0) if self.wrap else np.eye(size, k=-step) for step in steps
            ]
            axes.append((jnp.asarray(np.stack(shifted), dtype), chances))
        return axes


@pytree
class Flip(ImageOperator):
    """Left and right (or top and bottom) change places with a probability.

    Attributes:
      probability: of a flip.
      vertical: top and bottom.
    """

    probability: Array
    vertical: bool = static()

    def operators(self, dtype: DTypeLike) -> list[tuple[Array, Array]]:
        """The identity and the flip of one axis."""
        axes = []
        for size, flips in zip(self.image[:2], (self.vertical, not self.vertical), strict=True):
            eye = jnp.eye(size, dtype=dtype)
            if flips:
                chance = self.probability.astype(dtype)
                axes.append((jnp.stack([eye, eye[::-1]]), jnp.stack([1 - chance, chance])))
            else:
                axes.append((eye[None], jnp.ones(1, dtype)))
        return axes


@pytree
class Crop(ImageOperator):
    """A window at a random place, every place equally likely, enlarged to the image (bilinear).

    Attributes:
      window: (height, width).
    """

    window: tuple[int, int] = static()

    def operators(self, dtype: DTypeLike) -> list[tuple[Array, Array]]:
        """One for each first row, and each first column, of the window."""
        axes = []
        for size, window in zip(self.image[:2], self.window, strict=True):
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
    if int(largest) != largest or not 0 <= largest < min(image[:2]):
        raise ValueError(f"largest: {largest}; 0 .. {min(image[:2]) - 1} is allowed")
    return Shift(largest=int(largest), wrap=wrap, image=image)


def flip(probability: ArrayLike, image_shape: Shape, *, vertical: bool = False) -> Flip:
    """Left and right change places with a probability; or top and bottom.

    Args:
      probability: in [0, 1].
      image_shape: (H, W, C) or (H, W).
      vertical: top and bottom.

    Raises:
      ValueError: probability out of range, not an image shape.

    Example:
      >>> reconjax.noise.flip(0.5, (1, 2)).mean(np.eye(2)).tolist()
      [[0.5, 0.5], [0.5, 0.5]]
    """
    check("probability", probability, lambda p: (p >= 0) & (p <= 1), "in [0, 1]")
    return Flip(
        probability=jnp.asarray(probability, float),
        vertical=vertical,
        image=image_size(image_shape),
    )


def crop(window: int | Shape, image_shape: Shape) -> Crop:
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
