"""The convolutional autoencoder."""

import math
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from reconjax.nets.autoencoder import Autoencoder
from reconjax.nets.layers import Layers, Reshape, Shape, flat, halved, positive, sized


class ConvAutoencoder(Autoencoder):
    """A convolutional encoder and a deconvolutional decoder, with a linear layer to the code."""

    def __init__(
        self,
        image_shape: Shape,
        latent_dim: int,
        *,
        widths: Shape = (32, 64, 128),
        rngs: nnx.Rngs,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
    ) -> None:
        """A convolutional autoencoder: 3 x 3 convolutions of stride 2 with biases and ReLU.

        Args:
          image_shape: (H, W, C), with H and W at least 2 ** len(widths); the output has the same
            shape whether or not the strides divide it.
          latent_dim: K >= 1.
          widths: channels after each convolution of the encoder; the decoder's are the same, last
            first.
          rngs: where the initial parameters come from.
          dtype: in which to compute; by default `param_dtype`.
          param_dtype: of parameters and outputs.

        Raises:
          ValueError: an image smaller than the strides, or a size that is not a whole number >= 1.
        """
        positive("latent_dim", latent_dim)
        widths = tuple(positive("widths", width) for width in widths)
        height, width, channels = sized(image_shape, 2 ** len(widths))
        make = Layers(rngs, dtype, param_dtype)
        sizes = [(height, width)]
        for _ in widths:
            sizes.append(halved(sizes[-1]))
        ends = (channels, *widths)
        map_shape = (*sizes[-1], ends[-1])

        convs: list[Any] = []
        for inputs, outputs in pairwise(ends):
            convs += [make.conv(inputs, outputs, stride=2, bias=True), jax.nn.relu]
        encoder = nnx.Sequential(*convs, flat, make.linear(math.prod(map_shape), latent_dim))

        deconvs: list[Any] = []
        for inputs, outputs, size in zip(widths[::-1], ends[-2::-1], sizes[-2::-1], strict=True):
            deconv = make.deconv(inputs, outputs, size, relu=size != sizes[0])
            deconvs += [jax.nn.relu, deconv]
        first = make.linear(latent_dim, math.prod(map_shape), relu=True)
        decoder = nnx.Sequential(first, Reshape(map_shape), *deconvs)
        super().__init__(image_shape, latent_dim, encoder, decoder, dtype, param_dtype)
