"""Made-up scenes: one textured shape over a 1/f background, rendered in JAX.

The class is the object, a shape with a texture. Its place, size and shades and the background are
random and say nothing about the class, but they make most of the variance of the pixels.
"""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from reconjax.data.dataset import Dataset
from reconjax.data.objects import MAX_CLASSES, SHAPES, TEXTURES, Field, class_name, class_parts
from reconjax.data.split import ArraySplit

_CHUNK, _CHUNK_PIXELS = 256, 2**18  # most images and pixels made at a time, to bound memory
_FINE = 2  # every pixel is the mean of _FINE x _FINE points, which softens the edges
_CONTRAST = 0.2  # standard deviation of the background at background=1, of a range of 1
_SHARED = 0.9  # part of the background's variance that is the same in all channels


def scenes(
    size: int = 32,
    classes: int = 10,
    channels: int = 3,
    background: float = 1.0,
    samples: int = 10_000,
    seed: int = 0,
) -> Dataset:
    """Make scenes whose classes are objects, (shape, texture) pairs such as "disc, solid".

    Images are uint8 (N, size, size, channels), in random order with as many of each class as of
    any other, give or take one. The same arguments give the same images on the same kind of
    device.

    Args:
        size: height and width in pixels, at least 8; textures need about 32 to be seen.
        classes: 2 to 100; the first ten differ in both shape and texture.
        channels: 1 or 3.
        background: contrast of the background; 0 leaves it flat, at 1 it is like the object's.
        samples: training images, at least `classes`; there are `max(samples // 5, classes)` test
            images.
        seed: a whole number that all randomness comes from.

    Raises:
        ValueError: an argument is out of its range.

    Example:
      >>> dataset = reconjax.data.scenes(size=16, classes=3, samples=30)
      >>> len(dataset.train), dataset.image_shape
      (30, (16, 16, 3))
    """
    if size < 8:
        raise ValueError(f"size is {size}: it must be at least 8")
    if not 2 <= classes <= MAX_CLASSES:
        raise ValueError(f"classes is {classes}: it must be 2 to {MAX_CLASSES}")
    if channels not in (1, 3):
        raise ValueError(f"channels is {channels}: it must be 1 or 3")
    if not (math.isfinite(background) and background >= 0):
        raise ValueError(f"background is {background}: it must be finite and 0 or more")
    if samples < classes:
        raise ValueError(f"samples is {samples}: it must be at least the {classes} classes")

    # Keys of their own keep the first test images when the number of samples changes.
    train_key, test_key = jax.random.split(jax.random.key(seed))
    make = partial(_split, classes=classes, size=size, channels=channels, background=background)
    return Dataset(
        name="scenes",
        class_names=tuple(map(class_name, range(classes))),
        train=make(train_key, samples),
        test=make(test_key, max(samples // 5, classes)),
    )


def _split(
    key: jax.Array, count: int, *, classes: int, size: int, channels: int, background: float
) -> ArraySplit:
    order_key, image_key = jax.random.split(key)
    order = np.asarray(jax.random.permutation(order_key, count))
    labels = (np.arange(count) % classes)[order]
    shapes, textures = np.array([class_parts(k) for k in range(classes)], np.int32)[labels].T

    images = np.empty((count, size, size, channels), np.uint8)
    chunk = min(_CHUNK, max(1, _CHUNK_PIXELS // size**2))
    for start in range(0, count, chunk):
        # The last chunk is as long as the others, so that one compilation serves all.
        numbers = np.arange(start, start + chunk, dtype=np.uint32)
        rows = numbers % count
        made = _render(
            image_key,
            numbers,
            shapes[rows],
            textures[rows],
            np.float32(background),
            size,
            channels,
        )
        images[start : start + chunk] = made[: count - start]
    return ArraySplit(images, labels.astype(np.int64))


@partial(jax.jit, static_argnums=(5, 6))
def _render(
    key: jax.Array,
    numbers: jax.Array,
    shapes: jax.Array,
    textures: jax.Array,
    background: jax.Array,
    size: int,
    channels: int,
) -> jax.Array:
    """Images (B, size, size, channels) uint8; each depends on its own number (B,) alone."""

    keys = jax.vmap(lambda number: jax.random.split(jax.random.fold_in(key, number), 3))(numbers)
    # One after the other, since under vmap every shape and texture would be drawn for each image.
    masks, mixes = jax.lax.map(
        lambda one: _object(one[0], one[1], one[2], size), (keys[:, 0], shapes, textures)
    )
    compose = partial(_compose, background=background, size=size, channels=channels)
    return jax.vmap(compose)(keys[:, 1], keys[:, 2], masks, mixes)


def _compose(
    colour_key: jax.Array,
    field_key: jax.Array,
    mask: jax.Array,
    mix: jax.Array,
    *,
    background: jax.Array,
    size: int,
    channels: int,
) -> jax.Array:
    """The image (size, size, channels) uint8 of an object, see `_object`, over a background."""
    first, second = _colours(colour_key, channels)
    behind = 0.5 + background * _CONTRAST * _one_over_f(field_key, size, channels)
    behind = jnp.repeat(jnp.repeat(behind, _FINE, axis=0), _FINE, axis=1)
    fine = jnp.where(mask, second + mix * (first - second), behind)
    image = fine.reshape(size, _FINE, size, _FINE, channels).mean((1, 3))
    return jnp.round(255 * jnp.clip(image, 0, 1)).astype(jnp.uint8)


def _object(
    key: jax.Array, shape: jax.Array, texture: jax.Array, size: int
) -> tuple[jax.Array, jax.Array]:
    """Where a random object is and how its colours mix there, both (fine, fine, 1).

    The object keeps a margin of 1/16 of the image on every side.
    """
    size_key, place_key = jax.random.split(key)
    half = jax.random.uniform(size_key, (), jnp.float32, 0.27, 0.4)
    room = 0.5 - 1 / 16 - half
    centre = 0.5 + room * jax.random.uniform(place_key, (2,), jnp.float32, -1, 1)
    fine = size * _FINE
    points = (jnp.arange(fine, dtype=jnp.float32) + 0.5) / fine
    u, v = jnp.meshgrid((points - centre[0]) / half, (points - centre[1]) / half)
    mask, mix = _choose(SHAPES, shape, u, v), _choose(TEXTURES, texture, u, v)
    return mask[..., None] > 0.5, mix[..., None]


def _choose(fields: dict[str, Field], number: jax.Array, u: jax.Array, v: jax.Array) -> jax.Array:
    branches = [lambda u, v, f=f: f(u, v).astype(jnp.float32) for f in fields.values()]
    return jax.lax.switch(number, branches, u, v)


def _colours(key: jax.Array, channels: int) -> tuple[jax.Array, jax.Array]:
    """Two colours (channels,) in [0, 1]: the first lighter than the background's mean, the second
    darker.

    Were either of them the lighter one by chance, all classes would have the same mean image, and
    no linear read-out could tell them apart.
    """
    light_key, tint_key = jax.random.split(key)
    # Every dtype is given, as the defaults depend on jax_enable_x64.
    shade = jax.random.uniform(light_key, (2, 1), jnp.float32)
    lightness = np.float32(0.5) + np.array([[1], [-1]], np.float32) * (
        np.float32(0.2) * shade + np.array([[0.3], [0.2]], np.float32)
    )
    tint = 0.12 * jax.random.normal(tint_key, (2, channels), jnp.float32)
    tint = tint - tint.mean(axis=1, keepdims=True)  # leaves the lightness as it is
    first, second = jnp.clip(lightness + tint, 0, 1)
    return first, second


def _one_over_f(key: jax.Array, size: int, channels: int) -> jax.Array:
    """A random field (size, size, channels) of expected variance 1, its amplitude like 1/f."""
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(size), np.fft.fftfreq(size)))
    amplitude = 1 / np.maximum(frequency, 1 / size)  # the mean is as strong as one period
    amplitude = amplitude / np.sqrt(np.mean(amplitude**2))
    half = amplitude[:, : size // 2 + 1].astype(np.float32)  # what rfft2 keeps

    noise = jax.random.normal(key, (1 + channels, size, size), jnp.float32)
    noise = math.sqrt(_SHARED) * noise[:1] + math.sqrt(1 - _SHARED) * noise[1:]
    spectrum = half.astype(np.complex64) * jnp.fft.rfft2(noise)
    return jnp.moveaxis(jnp.fft.irfft2(spectrum, (size, size)), 0, -1)
