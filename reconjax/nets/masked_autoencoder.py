"""The masked autoencoder with vision transformers: He et al. (2022), "Masked autoencoders are
scalable vision learners".

The encoder gets the patches that are seen, and no others: with three of four masked it costs a
fourth. The light decoder gets what the encoder made of them, and one trained token in the place of
each patch that is masked. Which patches are seen, training says (`training.masked`); without a mask
all are.
"""

from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike

from reconjax.nets.layers import Layers, Net, Shape, kernel, positive, sized
from reconjax.nets.transformer import Transformer, positions

READOUTS = ("mean", "class", "blocks")
"""What the features are: the mean over the patches' tokens, the class token, or the means over the
tokens after each block, side by side."""

# Sides of patches, and how many of them must fit in the height and the width of an image.
_USUAL = ((16, 7), (8, 7), (4, 7), (2, 4))
_TOKEN_STD = 0.02


def usual_patch(image_shape: Shape) -> tuple[int, int]:
    """The patch by default: 16 x 16 for images of 224 x 224, 4 x 4 for 32 x 32, 2 x 2 for 8 x 8.

    The largest power of two that divides the image and leaves about 7 x 7 patches or more.

    Args:
      image_shape: (H, W, C).

    Returns:
      (height, width).

    Raises:
      ValueError: a shape that is not (H, W, C).

    Example:
      >>> reconjax.nets.usual_patch((28, 28, 1))
      (4, 4)
    """
    height, width, _ = sized(image_shape, 1)
    for side, least in _USUAL:
        if not (height % side or width % side) and min(height, width) >= least * side:
            return side, side
    return 1, 1


def check_patch(patch_shape: int | Shape, image_shape: Shape) -> tuple[int, int]:
    """The patch (height, width), which divides the image.

    Args:
      patch_shape: (height, width), or one int for squares.
      image_shape: (H, W, C).

    Raises:
      ValueError: sizes that are not whole numbers >= 1, or that do not divide the image.

    Example:
      >>> reconjax.nets.check_patch(4, (32, 32, 3))
      (4, 4)
    """
    sides = [patch_shape] * 2 if isinstance(patch_shape, int) else list(patch_shape)
    if len(sides) != 2:
        raise ValueError(f"patch_shape: {patch_shape}; (height, width) or one number is needed")
    height, width = (positive("patch_shape", side) for side in sides)
    if image_shape[0] % height or image_shape[1] % width:
        raise ValueError(
            f"patch_shape: {height}x{width} does not divide the {image_shape[0]}x{image_shape[1]}"
            " image; choose a divisor"
        )
    return height, width


class MaskedAutoencoder(Net):
    """A vision transformer that sees some patches of an image, and one that predicts all.

    Where patches are given by their numbers, they count row by row. In front of the patches' tokens
    the encoder has one more, the class token, which stands for no patch.

    Attributes:
      example_shape: (H, W, C).
      patch_shape: (height, width) of a patch.
      grid: (rows, columns) of patches.
      width: features of the encoder's tokens.
      readout: one of `READOUTS`, what `features` gives; it may be changed after training.
    """

    def __init__(
        self,
        image_shape: Shape,
        *,
        patch_shape: int | Shape | None = None,
        width: int = 96,
        depth: int = 3,
        heads: int = 3,
        decoder_width: int = 64,
        decoder_depth: int = 1,
        decoder_heads: int = 2,
        readout: str = "mean",
        rngs: nnx.Rngs,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
    ) -> None:
        """A masked autoencoder; the default sizes are for small images.

        Args:
          image_shape: (H, W, C).
          patch_shape: (height, width), which divide the image, or one int for squares; by default
            that of `usual_patch`.
          width: features of a token of the encoder, a multiple of 4.
          depth: blocks of the encoder.
          heads: of its attention; they divide `width`.
          decoder_width: as `width`, of the decoder.
          decoder_depth: as `depth`.
          decoder_heads: as `heads`.
          readout: "mean", "class" or "blocks".
          rngs: where the initial parameters come from.
          dtype: in which to compute; by default `param_dtype`. Normalizations and the weights of
            attention have float32 inside.
          param_dtype: of parameters and outputs.

        Raises:
          ValueError: a patch that does not divide the image, a size that is not a whole number
            >= 1, heads that do not divide a width, or another read-out.
        """
        super().__init__(sized(image_shape, 1), dtype, param_dtype)
        if patch_shape is None:
            patch_shape = usual_patch(image_shape)
        self.patch_shape = check_patch(patch_shape, self.example_shape)
        self.grid = _grid(self.patch_shape, self.example_shape)
        self.width = _width("width", width, "heads", heads)
        self.decoder_width = _width("decoder_width", decoder_width, "decoder_heads", decoder_heads)
        self.readout = _readout(readout)
        make = Layers(rngs, dtype, param_dtype)
        values = self.patch_shape[0] * self.patch_shape[1] * self.example_shape[2]

        def token(size: int) -> Any:
            return nnx.Param(kernel(_TOKEN_STD**2, rngs.params(), (1, size), param_dtype)[0])

        self.embedding = make.linear(values, self.width)
        self.class_token = token(self.width)
        self.encoder = Transformer(self.width, positive("depth", depth), heads, make)
        self.decoder_embedding = make.linear(self.width, self.decoder_width)
        self.mask_token = token(self.decoder_width)
        self.decoder = Transformer(
            self.decoder_width, positive("decoder_depth", decoder_depth), decoder_heads, make
        )
        # It starts from the mean image. From random predictions, the network first learns to stop
        # them, and what it would need of the other patches with them: digits took 3 times as long.
        self.prediction = make.linear(self.decoder_width, values, zero=True)

    @property
    def tokens(self) -> int:
        """T, the number of patches of an image."""
        return self.grid[0] * self.grid[1]

    def patches(self, x: Array) -> Array:
        """(N, T, P), the values of each patch, of images (N, H, W, C)."""
        (rows, columns), (height, width) = self.grid, self.patch_shape
        parts = x.reshape(len(x), rows, height, columns, width, -1)
        return parts.transpose(0, 1, 3, 2, 4, 5).reshape(len(x), rows * columns, -1)

    def images(self, patches: Array) -> Array:
        """(N, H, W, C) of the values of each patch (N, T, P)."""
        (rows, columns), (height, width) = self.grid, self.patch_shape
        parts = patches.reshape(len(patches), rows, columns, height, width, -1)
        return parts.transpose(0, 1, 3, 2, 4, 5).reshape(len(patches), *self.example_shape)

    def encode(self, x: Array, seen: Array | None = None) -> Array:
        """Tokens of the patches that are seen.

        Args:
          x: (N, H, W, C) centered images.
          seen: (N, V) int32, the numbers of patches; by default all, in order.

        Returns:
          (N, 1 + V, width): the class token, and one for each patch in the order of `seen`.
        """
        return self.encoder(self._tokens(x, seen)).astype(self.param_dtype)

    def predict(self, codes: Array, order: Array | None = None) -> Array:
        """What the decoder makes of each patch.

        Args:
          codes: (N, 1 + V, width) of `encode`.
          order: (N, T) int32, a permutation of all patches whose first V are those that were seen;
            by default all were, in order.

        Returns:
          (N, T, P) values of patches, in this order.
        """
        codes = jnp.asarray(codes, self.dtype)
        masked = self.tokens - (codes.shape[1] - 1)
        blank = jnp.broadcast_to(
            self._param(self.mask_token), (len(codes), masked, self.decoder_width)
        )
        known = self.decoder_embedding(codes)
        places = self._places(self.decoder_width, order)
        places = jnp.broadcast_to(places, (len(codes), *places.shape[-2:]))
        # Attention does not care for the order of tokens: nothing has to be put back in place.
        patches = jnp.concatenate([known[:, 1:], blank], axis=1) + places
        tokens = self.decoder(jnp.concatenate([known[:, :1], patches], axis=1))
        return self.prediction(tokens[:, 1:]).astype(self.param_dtype)

    def decode(self, codes: Array) -> Array:
        """(N, H, W, C) from the tokens of all patches, (N, 1 + T, width)."""
        return self.images(self.predict(codes))

    def __call__(self, x: Array) -> Array:
        """The reconstruction decode(encode(x)) of images that are seen as a whole."""
        return self.decode(self.encode(x))

    def features(self, x: Array) -> Array:
        """Features of centered images (N, H, W, C), no patch masked; see `readout`.

        Returns:
          (N, width), or (N, depth * width) of "blocks".
        """
        if _readout(self.readout) == "class":
            return self.encode(x)[:, 0]
        blocks = self.encoder.each(self._tokens(x))
        read = blocks if self.readout == "blocks" else blocks[-1:]
        means = [tokens.astype(self.param_dtype)[:, 1:].mean(axis=1) for tokens in read]
        return jnp.concatenate(means, axis=1)

    def _tokens(self, x: Array, seen: Array | None = None) -> Array:
        """What the encoder is given, (N, 1 + V, width); arguments as `encode`."""
        patches = self.patches(self._taken(x))
        if seen is not None:
            # Before anything is computed of them: what is masked plays no part.
            patches = jnp.take_along_axis(patches, seen[..., None], axis=1)
        tokens = self.embedding(patches) + self._places(self.width, seen)
        first = jnp.broadcast_to(self._param(self.class_token), (len(x), 1, self.width))
        return jnp.concatenate([first, tokens], axis=1)

    def _places(self, width: int, numbers: Array | None) -> Array:
        """The position of each token (T, width), or (N, V, width) of these."""
        places = jnp.asarray(positions(*self.grid, width), self.dtype)
        return places if numbers is None else places[numbers]

    def _param(self, param: Any) -> Array:
        return jnp.asarray(param[...], self.dtype)


def _grid(patch_shape: tuple[int, int], image_shape: Shape) -> tuple[int, int]:
    return image_shape[0] // patch_shape[0], image_shape[1] // patch_shape[1]


def _width(name: str, width: int, heads_name: str, heads: int) -> int:
    width, heads = positive(name, width), positive(heads_name, heads)
    if width % 4:
        raise ValueError(f"{name}: {width}; it must be a multiple of 4, for the positions")
    if width % heads:
        raise ValueError(f"{heads_name}: {heads}; it must divide {name}, {width}")
    return width


def _readout(readout: str) -> str:
    if readout not in READOUTS:
        raise ValueError(f"readout: {readout!r}; it must be one of {', '.join(READOUTS)}")
    return readout
