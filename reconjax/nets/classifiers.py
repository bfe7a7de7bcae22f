"""Classifiers: ResNet9 and an MLP, with the features before their linear head."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike

from reconjax.nets.layers import Layers, Net, Residual, Shape, flat, max_pool, positive, sized

WIDTHS = (64, 128, 256, 512, 1028)


class Classifier(Net):
    """A body that gives features, and a linear head.

    Attributes:
      example_shape: (H, W, C) or (D,).
      num_features: F.
      num_classes: C.
    """

    def __init__(
        self,
        example_shape: Shape,
        num_classes: int,
        num_features: int,
        body: Callable[[Array], Array],
        make: Layers,
    ) -> None:
        """Of a body from (N, *example_shape) to (N, F)."""
        super().__init__(example_shape, make.dtype, make.param_dtype)
        self.num_features = num_features
        self.num_classes = positive("num_classes", num_classes)
        self.body = body
        self.head = make.linear(num_features, num_classes)

    def features(self, x: Array) -> Array:
        """(N, F) features of centered examples (N, *example_shape), before the head."""
        return self.body(self._taken(x)).astype(self.param_dtype)

    def __call__(self, x: Array) -> Array:
        """(N, num_classes) logits of centered examples (N, *example_shape)."""
        return self.head(self.features(x)).astype(self.param_dtype)


class ResNet9(Classifier):
    """The paper's classifier (Figs 1, 4 and 8): five convolutions, and three residuals of two more.

    All are 3 x 3 with batch normalization and ReLU; four of the five halve the image by 2 x 2 max
    pooling, which leaves out an odd last row or column. The features are the maxima over the last
    map.
    """

    def __init__(
        self,
        image_shape: Shape,
        num_classes: int,
        *,
        width: float = 1.0,
        rngs: nnx.Rngs,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
    ) -> None:
        """A ResNet9.

        Args:
          image_shape: (H, W, C), at least 16 x 16.
          num_classes: of the head.
          width: factor of the widths 64, 128, 256, 512 and 1028, which are rounded.
          rngs: where the initial parameters come from.
          dtype: in which to compute; by default `param_dtype`.
          param_dtype: of parameters and outputs.

        Raises:
          ValueError: an image smaller than the strides, or a width that leaves less than 1 channel.
        """
        channels = sized(image_shape, 16)[-1]
        if not (math.isfinite(width) and width * WIDTHS[0] >= 1):
            raise ValueError(f"width: {width}; it must be a factor >= 1/{WIDTHS[0]}")
        w1, w2, w3, w4, w5 = (round(width * full) for full in WIDTHS)
        make = Layers(rngs, dtype, param_dtype)

        def block(inputs: int, outputs: int) -> list[Any]:
            return [make.conv_norm(inputs, outputs), jax.nn.relu]

        def residual(features: int) -> Residual:
            body = nnx.Sequential(*block(features, features), *block(features, features))
            return Residual(body, nnx.Sequential())

        body = nnx.Sequential(
            *block(channels, w1),
            *block(w1, w2),
            max_pool,
            residual(w2),
            *block(w2, w3),
            max_pool,
            *block(w3, w4),
            max_pool,
            residual(w4),
            *block(w4, w5),
            max_pool,
            residual(w5),
            largest,
        )
        super().__init__(image_shape, num_classes, w5, body, make)


class MLPClassifier(Classifier):
    """Linear layers with batch normalization and ReLU; without widths a linear classifier."""

    def __init__(
        self,
        example_shape: Shape,
        num_classes: int,
        *,
        widths: Shape = (512, 512),
        rngs: nnx.Rngs,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
    ) -> None:
        """An MLP classifier; its features are those of the last hidden layer.

        Args:
          example_shape: (H, W, C) or (D,).
          num_classes: of the head.
          widths: of the hidden layers.
          rngs: where the initial parameters come from.
          dtype: in which to compute; by default `param_dtype`.
          param_dtype: of parameters and outputs.

        Raises:
          ValueError: a size that is not a whole number >= 1.
        """
        sizes = (math.prod(example_shape), *(positive("widths", width) for width in widths))
        make = Layers(rngs, dtype, param_dtype)
        body = nnx.Sequential(flat, *make.hidden(sizes))
        super().__init__(example_shape, num_classes, sizes[-1], body, make)


def largest(x: Array) -> Array:
    """(N, C), the maxima over the positions of (N, h, w, C)."""
    return x.max(axis=(1, 2))
