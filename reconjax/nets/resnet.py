"""ResNet autoencoders: He et al. (2016), "Deep residual learning for image recognition"."""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike

from reconjax.nets.autoencoder import Autoencoder
from reconjax.nets.layers import (
    Layers,
    Reshape,
    Residual,
    Shape,
    Upsample,
    flat,
    halved,
    positive,
    sized,
)

BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}
BOTTLENECK = 4  # outputs for each hidden channel, at depth 50
LARGE = 64  # pixels: images from here on get the large stem
STRIDES = {"small": 8, "large": 32}  # of the whole encoder


class Block(NamedTuple):
    """One residual block of the encoder; the decoder has its mirror image.

    Attributes:
      inputs: channels.
      hidden: channels of the 3 x 3 convolutions.
      outputs: channels.
      stride: 1 or 2.
      size: (height, width) of its input.
    """

    inputs: int
    hidden: int
    outputs: int
    stride: int
    size: tuple[int, int]


class ResNetAutoencoder(Autoencoder):
    """A ResNet whose last map is flattened to a code, and the mirror image of it as a decoder.

    The decoder repeats pixels (nearest neighbor) where the encoder has a stride. The code sees the
    whole last map, not its mean over the positions, which a reconstruction needs; where that map is
    one pixel, the encoder is the usual ResNet with its linear head, parameter by parameter.
    """

    def __init__(
        self,
        image_shape: Shape,
        latent_dim: int,
        *,
        depth: int = 18,
        width: int = 64,
        stem: str | None = None,
        rngs: nnx.Rngs,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
    ) -> None:
        """A ResNet autoencoder.

        Args:
          image_shape: (H, W, C), at least as large as the strides: 8 with the small stem, 32 with
            the large one; the output has the same shape whether or not they divide it.
          latent_dim: K >= 1.
          depth: 18 or 34 (basic blocks), 50 (bottleneck blocks).
          width: channels of the first stage; each of the three others has twice those before.
          stem: "large": 7 x 7 of stride 2, then 3 x 3 max pooling of stride 2; "small": 3 x 3 of
            stride 1, as is usual for CIFAR; by default small for images below 64 pixels.
          rngs: where the initial parameters come from.
          dtype: in which to compute; by default `param_dtype`.
          param_dtype: of parameters and outputs.

        Raises:
          ValueError: another depth or stem, an image smaller than the strides, or a size that is
            not a whole number >= 1.
        """
        positive("latent_dim", latent_dim)
        positive("width", width)
        if depth not in BLOCKS:
            raise ValueError(f"depth: {depth}; it must be 18, 34 or 50")
        stem = stem or ("small" if min(image_shape[:2]) < LARGE else "large")
        if stem not in STRIDES:
            raise ValueError(f"stem: {stem}; it must be small or large")
        *size, channels = sized(image_shape, STRIDES[stem])
        make = Layers(rngs, dtype, param_dtype)

        sizes = [(size[0], size[1])]
        if stem == "large":
            sizes += [halved(sizes[0]), halved(halved(sizes[0]))]
            first = [make.conv_norm(channels, width, 7, stride=2), jax.nn.relu, stem_pool]
            last = [*map(Upsample, sizes[-2::-1]), _to_image(make, width, channels, 7)]
        else:
            first = [make.conv_norm(channels, width), jax.nn.relu]
            last = [_to_image(make, width, channels, 3)]

        blocks = list(_blocks(depth, width, sizes[-1]))
        map_shape = (*_output_size(blocks[-1]), blocks[-1].outputs)
        encoder = nnx.Sequential(
            *first,
            *(layer for block in blocks for layer in (_down(block, make), jax.nn.relu)),
            flat,
            make.linear(math.prod(map_shape), latent_dim),
        )
        decoder = nnx.Sequential(
            make.linear(latent_dim, math.prod(map_shape), relu=True),
            Reshape(map_shape),
            jax.nn.relu,
            *(layer for block in reversed(blocks) for layer in (_up(block, make), jax.nn.relu)),
            *last,
        )
        super().__init__(image_shape, latent_dim, encoder, decoder, dtype, param_dtype)


def stem_pool(x: Array) -> Array:
    """3 x 3 max pooling of stride 2."""
    return nnx.max_pool(x, (3, 3), (2, 2), padding=((1, 1), (1, 1)))


def _blocks(depth: int, width: int, size: tuple[int, int]) -> Iterator[Block]:
    inputs = width
    for stage, count in enumerate(BLOCKS[depth]):
        hidden = width * 2**stage
        outputs = hidden * (BOTTLENECK if depth == 50 else 1)
        for index in range(count):
            block = Block(inputs, hidden, outputs, 2 if stage and not index else 1, size)
            yield block
            inputs, size = outputs, _output_size(block)


def _output_size(block: Block) -> tuple[int, int]:
    return block.size if block.stride == 1 else halved(block.size)


def _down(block: Block, make: Layers) -> Residual:
    """The stride is in the first 3 x 3 convolution."""
    inputs, hidden, outputs, stride, _ = block
    relu = jax.nn.relu
    if hidden == outputs:
        body = [
            make.conv_norm(inputs, outputs, stride=stride),
            relu,
            make.conv_norm(outputs, outputs),
        ]
    else:
        body = [
            make.conv_norm(inputs, hidden, 1),
            relu,
            make.conv_norm(hidden, hidden, stride=stride),
            relu,
            make.conv_norm(hidden, outputs, 1),
        ]
    shortcut = []
    if stride > 1 or inputs != outputs:
        shortcut = [make.conv_norm(inputs, outputs, 1, stride=stride)]
    return Residual(nnx.Sequential(*body), nnx.Sequential(*shortcut))


def _up(block: Block, make: Layers) -> Residual:
    """From the block's output back to its input."""
    inputs, hidden, outputs, stride, size = block
    relu = jax.nn.relu
    up = [Upsample(size)] if stride > 1 else []
    if hidden == outputs:
        body = [make.conv_norm(outputs, outputs), relu, *up, make.conv_norm(outputs, inputs)]
    else:
        body = [
            make.conv_norm(outputs, hidden, 1),
            relu,
            *up,
            make.conv_norm(hidden, hidden),
            relu,
            make.conv_norm(hidden, inputs, 1),
        ]
    shortcut = []
    if up or inputs != outputs:
        shortcut = [make.conv_norm(outputs, inputs, 1), *up]
    return Residual(nnx.Sequential(*body), nnx.Sequential(*shortcut))


def _to_image(make: Layers, width: int, channels: int, size: int) -> Any:
    return make.conv(width, channels, size, relu=False, bias=True)
