"""Random features: networks as they are initialized, whose last layer alone would be trained.

Weights are normal with variance 2 / fan-in (He et al., 2015) and there are no biases. Inputs are
divided by a unit, the root mean square deviation of the data, so that the curved part of GELU is
where the data are; ReLU does not depend on it.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from reconjax.lift.features import FeatureMap
from reconjax.linalg.precision import highest
from reconjax.noise.base import Shape, check, image_size, pytree, static, window_size

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {"relu": jax.nn.relu, "gelu": jax.nn.gelu}


@pytree
class LayerMap(FeatureMap):
    """One or several random layers.

    Attributes:
      weights: (fan-in, width) of each.
      unit: by which inputs are divided.
      activation: "relu" or "gelu".
    """

    weights: tuple[Array, ...]
    unit: Array
    activation: str = static()

    @property
    def text(self) -> str:
        """Its text form."""
        return f"{self.activation}:{'x'.join(str(w.shape[1]) for w in self.weights)}"

    @property
    def features(self) -> int:
        """D."""
        return self.weights[0].shape[0]

    def size(self, features: int) -> int:
        """The width of the last layer."""
        return self.weights[-1].shape[1]

    def workspace(self, features: int) -> int:
        """Every layer."""
        return features + sum(weight.shape[1] for weight in self.weights)

    @highest
    def apply(self, x: Array) -> Array:
        """The activations of the last layer."""
        x = x / self.unit.astype(x.dtype)
        for weight in self.weights:
            x = ACTIVATIONS[self.activation](x @ weight.astype(x.dtype))
        return x


@pytree
class ConvolutionMap(FeatureMap):
    """Random filters with ReLU, averaged over the cells of a grid.

    Attributes:
      filters: (height, width, C, F).
      image_shape: (H, W, C).
      grid: cells on a side.
    """

    filters: Array
    image_shape: tuple[int, int, int] = static()
    grid: int = static()

    @property
    def text(self) -> str:
        """Its text form."""
        side, _, _, count = self.filters.shape
        return f"conv:{count}:{side}:{self.grid}"

    @property
    def features(self) -> int:
        """D."""
        return math.prod(self.image_shape)

    def size(self, features: int) -> int:
        """F for every cell."""
        return self.filters.shape[-1] * self.grid**2

    def workspace(self, features: int) -> int:
        """F for every pixel, and the patches that a CPU may make of the image."""
        height, width, channels = self.image_shape
        side, _, _, count = self.filters.shape
        return height * width * (2 * count + side * side * channels)

    @highest
    def apply(self, x: Array) -> Array:
        """The means of the cells."""
        height, width, channels = self.image_shape
        images = x.reshape(-1, height, width, channels)
        made = jax.lax.conv_general_dilated(
            images,
            self.filters.astype(x.dtype),
            window_strides=(1, 1),
            padding="SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        g = self.grid
        cells = jax.nn.relu(made).reshape(x.shape[0], g, height // g, g, width // g, -1)
        return jnp.mean(cells, axis=(2, 4)).reshape(x.shape[0], -1)


@pytree
class PatchMap(FeatureMap):
    """Random features of each patch with its position, averaged over the patches that are visible.

    A stand-in for a masked autoencoder's transformer whose visible tokens are averaged. A patch
    whose values are all 0, the mean image's, counts as masked.

    Attributes:
      weights: (P, F) for the P values of a patch.
      positions: (n, F), one for each patch.
      unit: by which inputs are divided.
      image_shape: (H, W, C).
      patch_shape: (height, width).
    """

    weights: Array
    positions: Array
    unit: Array
    image_shape: tuple[int, int, int] = static()
    patch_shape: tuple[int, int] = static()

    @property
    def text(self) -> str:
        """Its text form."""
        return f"patches:{self.weights.shape[1]}:{self.patch_shape[0]}x{self.patch_shape[1]}"

    @property
    def features(self) -> int:
        """D."""
        return math.prod(self.image_shape)

    def size(self, features: int) -> int:
        """F."""
        return self.weights.shape[1]

    def workspace(self, features: int) -> int:
        """F for every patch."""
        return 2 * features + self.positions.size

    @highest
    def apply(self, x: Array) -> Array:
        """The mean over visible patches; 0 where there is none."""
        height, width, channels = self.image_shape
        h, w = self.patch_shape
        patches = x.reshape(-1, height // h, h, width // w, w, channels)
        patches = patches.swapaxes(2, 3).reshape(x.shape[0], -1, h * w * channels)
        visible = jnp.any(patches != 0, axis=2).astype(x.dtype)
        made = (patches / self.unit.astype(x.dtype)) @ self.weights.astype(x.dtype)
        made = jax.nn.relu(made + self.positions.astype(x.dtype)) * visible[..., None]
        return jnp.sum(made, axis=1) / jnp.maximum(jnp.sum(visible, axis=1), 1)[:, None]


def random_layers(
    widths: Sequence[int],
    features: int,
    *,
    activation: str = "relu",
    unit: ArrayLike = 1.0,
    seed: int = 0,
) -> FeatureMap:
    """Random features of one or several layers; one wide layer of ReLU by default.

    Args:
      widths: of each layer, the last of which is m.
      features: D.
      activation: "relu" or "gelu".
      unit: what inputs are divided by: their root mean square deviation.
      seed: of the weights.

    Raises:
      ValueError: no width or one below 1, an unknown activation, a unit that is not > 0.

    Example:
      >>> reconjax.lift.random_layers([32, 16], 6).apply(np.ones((2, 6))).shape
      (2, 16)
    """
    if not widths or any(width < 1 for width in widths):
        raise ValueError(f"widths: {list(widths)}; at least one whole number >= 1 is needed")
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation: {activation!r}; one of {', '.join(ACTIVATIONS)}")
    keys = jax.random.split(jax.random.key(seed), len(widths))
    sizes = pairwise([features, *(int(width) for width in widths)])
    weights = tuple(_normal(key, size, size[0]) for key, size in zip(keys, sizes, strict=True))
    return LayerMap(weights=weights, unit=_unit(unit), activation=activation)


def random_convolution(
    filters: int, filter_size: int, grid: int, image_shape: Shape, *, seed: int = 0
) -> FeatureMap:
    """Random convolutional features, pooled to a grid: m = filters x grid x grid.

    Args:
      filters: number of filters.
      filter_size: their height and width, in pixels.
      grid: cells on a side, which divide the image's height and width.
      image_shape: (H, W, C).
      seed: of the filters.

    Raises:
      ValueError: no filters, filters larger than the image, a grid that does not divide it.

    Example:
      >>> features = reconjax.lift.random_convolution(8, 3, 2, (4, 4, 1))
      >>> features.apply(np.ones((5, 16))).shape
      (5, 32)
    """
    height, width, channels = image_size(image_shape)
    side, _ = window_size("filter_size", filter_size, image_shape)
    if filters < 1:
        raise ValueError(f"filters: {filters}; at least 1 is needed")
    if grid < 1 or height % grid or width % grid:
        raise ValueError(f"grid: {grid}; it must divide the {height}x{width} image")
    shape = side, side, channels, int(filters)
    made = _normal(jax.random.key(seed), shape, side * side * channels)
    return ConvolutionMap(filters=made, image_shape=(height, width, channels), grid=int(grid))


def random_patches(
    count: int,
    patch_shape: int | Shape,
    image_shape: Shape,
    *,
    unit: ArrayLike = 1.0,
    seed: int = 0,
) -> FeatureMap:
    """Random features of patches, averaged over those that are visible.

    Args:
      count: m.
      patch_shape: (height, width), or one int for squares; it divides the image.
      image_shape: (H, W, C).
      unit: as in `random_layers`.
      seed: of the weights.

    Raises:
      ValueError: no features, a patch that does not divide the image, a unit that is not > 0.

    Example:
      >>> features = reconjax.lift.random_patches(8, 2, (4, 4, 1))
      >>> features.apply(np.ones((5, 16))).shape
      (5, 8)
    """
    height, width, channels = image_size(image_shape)
    h, w = window_size("patch_shape", patch_shape, image_shape)
    if count < 1:
        raise ValueError(f"count: {count}; at least 1 is needed")
    if height % h or width % w:
        raise ValueError(f"patch_shape: {h}x{w} does not divide the {height}x{width} image")
    values, patches = h * w * channels, (height // h) * (width // w)
    first, second = jax.random.split(jax.random.key(seed))
    return PatchMap(
        weights=_normal(first, (values, int(count)), values),
        positions=_normal(second, (patches, int(count)), 1),
        unit=_unit(unit),
        image_shape=(height, width, channels),
        patch_shape=(h, w),
    )


def _unit(unit: ArrayLike) -> Array:
    check("unit", unit, lambda u: (u > 0) & (u < math.inf), "finite and > 0")
    return jnp.asarray(unit, jnp.float32)


def _normal(key: Array, shape: tuple[int, ...], fan_in: int) -> Array:
    return jax.random.normal(key, shape, jnp.float32) * jnp.float32(math.sqrt(2 / fan_in))
