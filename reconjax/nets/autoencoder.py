"""What every autoencoder offers, and the MLP autoencoder."""

import math
from collections.abc import Callable

import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike

from reconjax.nets.layers import Layers, Net, Shape, flat, positive


class Autoencoder(Net):
    """An encoder to a latent vector of any size, and a decoder back to the shape of the input.

    Attributes:
      example_shape: (H, W, C) or (D,).
      latent_dim: K.
    """

    def __init__(
        self,
        example_shape: Shape,
        latent_dim: int,
        encoder: Callable[[Array], Array],
        decoder: Callable[[Array], Array],
        dtype: DTypeLike | None,
        param_dtype: DTypeLike,
    ) -> None:
        """Of an encoder from (N, *example_shape) to (N, K), and a decoder back."""
        super().__init__(example_shape, dtype, param_dtype)
        self.latent_dim = latent_dim
        self.encoder = encoder
        self.decoder = decoder

    def encode(self, x: Array) -> Array:
        """(N, K) codes of centered examples (N, *example_shape)."""
        return self.encoder(self._taken(x)).astype(self.param_dtype)

    def decode(self, codes: Array) -> Array:
        """(N, *example_shape) from codes (N, K)."""
        decoded = self.decoder(jnp.asarray(codes, self.dtype)).astype(self.param_dtype)
        return decoded.reshape(len(codes), *self.example_shape)

    def __call__(self, x: Array) -> Array:
        """The reconstruction decode(encode(x)), (N, *example_shape)."""
        return self.decode(self.encode(x))


class MLPAutoencoder(Autoencoder):
    """D - widths - K - reversed widths - D, with batch normalization and ReLU between.

    Without widths it is linear: an encoder x -> xᵀV + b and a decoder z -> zᵀZ + c, those of
    Theorems 1 and 3.
    """

    def __init__(
        self,
        example_shape: Shape,
        latent_dim: int,
        *,
        widths: Shape = (512,),
        rngs: nnx.Rngs,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
    ) -> None:
        """An MLP autoencoder.

        Args:
          example_shape: (H, W, C) or (D,).
          latent_dim: K >= 1.
          widths: of the encoder's hidden layers; the decoder's are the same, last first.
          rngs: where the initial parameters come from.
          dtype: in which to compute; by default `param_dtype`.
          param_dtype: of parameters and outputs.

        Raises:
          ValueError: a size that is not a whole number >= 1.
        """
        positive("latent_dim", latent_dim)
        sizes = (math.prod(example_shape), *(positive("widths", width) for width in widths))
        make = Layers(rngs, dtype, param_dtype)
        # The decoder's first normalization would remove a bias of the code.
        code = make.linear(sizes[-1], latent_dim, bias=not widths)
        encoder = nnx.Sequential(flat, *make.hidden(sizes), code)
        back = (latent_dim, *reversed(sizes[1:]))
        decoder = nnx.Sequential(*make.hidden(back), make.linear(back[-1], sizes[0]))
        super().__init__(example_shape, latent_dim, encoder, decoder, dtype, param_dtype)
