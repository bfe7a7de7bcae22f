"""Augmentation on the device: crop, flip and grayscale, drawn anew for every example and step."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import Array

AUGMENTATIONS = ("crop", "flip", "grayscale")

# Images are padded by this share of a side before they are cropped: 4 pixels of 32.
PADDING = 1 / 8

GRAYSCALE_PROBABILITY = 0.2

# ITU-R BT.601, the luma of JPEG.
LUMA = (0.299, 0.587, 0.114)


def check_augmentation(names: Sequence[str], example_shape: Sequence[int]) -> tuple[str, ...]:
    """The names in the order in which they are applied.

    Raises:
      ValueError: an unknown name, vectors instead of (H, W, C) images, or grayscale of images that
        have not 3 channels.
    """
    for name in names:
        if name not in AUGMENTATIONS:
            raise ValueError(f"augment: {name!r}; {', '.join(AUGMENTATIONS)} are there")
        if len(example_shape) != 3:
            raise ValueError(f"augment: {name} needs images, not examples of {example_shape}")
        if name == "grayscale" and example_shape[-1] != 3:
            raise ValueError(f"augment: grayscale needs 3 channels, not {example_shape[-1]}")
    return tuple(name for name in AUGMENTATIONS if name in names)


def augmented(names: Sequence[str], key: Array, image: Array) -> Array:
    """One (H, W, C) image in [0, 1], before it is centered, with the augmentations applied.

    `crop` pads with 0 (black) by an eighth of a side and cuts the size out again; `flip` mirrors
    left and right with probability 1/2; `grayscale` replaces the channels by their luma with
    probability 0.2.
    """
    keys = dict(zip(AUGMENTATIONS, jax.random.split(key, len(AUGMENTATIONS)), strict=True))
    if "crop" in names:
        image = _crop(keys["crop"], image)
    if "flip" in names:
        image = jnp.where(jax.random.bernoulli(keys["flip"]), image[:, ::-1], image)
    if "grayscale" in names:
        luma = (image * jnp.asarray(LUMA, image.dtype)).sum(-1, keepdims=True)
        gray = jax.random.bernoulli(keys["grayscale"], GRAYSCALE_PROBABILITY)
        image = jnp.where(gray, jnp.broadcast_to(luma, image.shape), image)
    return image


def _crop(key: Array, image: Array) -> Array:
    rows, columns = (max(1, round(PADDING * side)) for side in image.shape[:2])
    padded = jnp.pad(image, ((rows, rows), (columns, columns), (0, 0)))
    most = jnp.asarray([2 * rows + 1, 2 * columns + 1], jnp.int32)
    top, left = jax.random.randint(key, (2,), 0, most, jnp.int32)
    return jax.lax.dynamic_slice(padded, (top, left, jnp.int32(0)), image.shape)
