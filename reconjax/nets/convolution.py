"""Convolutions of odd size with zeros around the image, in the form that is fast on a platform.

Accelerators have fast convolutions. On the CPU those that XLA makes are slow in three cases, each
of which has another form here: images smaller than the kernel, convolutions that leave all but one
core idle, and gradients of the kernel that read large slopes many times.
"""

import math

import jax
import jax.numpy as jnp
from jax import Array, lax

LAYOUT = ("NHWC", "HWIO", "NHWC")

# XLA for the CPU divides the columns and the output channels of a convolution among the cores, not
# its images and rows. A part has 64 of both, or all, and more while there is less work in it.
PART, WORK = 64, 2**16

# So many numbers of a slope no longer stay in the cache; so many of patches do.
LARGE, PATCHES = 2**21, 2**19

# With fewer input channels, or on narrower images, the other forms do not pay.
CHANNELS, COLUMNS = 16, 8


def convolution(x: Array, kernel: Array, stride: int = 1) -> Array:
    """Of (N, h, w, I) with a kernel (size, size, I, O) of the same dtype.

    Returns (N, ceil(h / stride), ceil(w / stride), O).
    """
    size, (h, w) = len(kernel), x.shape[1:3]
    if max(h, w) - 1 <= size // 2:
        return _whole(x, kernel, stride)
    if stride == 1 and size > 1 and jax.default_backend() == "cpu":
        return _on_cpu(x, kernel)
    return _plain(x, kernel, stride)


def _plain(x: Array, kernel: Array, stride: int = 1) -> Array:
    reach = len(kernel) // 2
    around = [(reach, reach)] * 2
    return lax.conv_general_dilated(x, kernel, [stride] * 2, around, dimension_numbers=LAYOUT)


def _whole(x: Array, kernel: Array, stride: int) -> Array:
    """Where the kernel reaches every pixel from every other: one linear function of the image.

    It leaves out the products with zeros around the image.
    """
    n, h, w, _ = x.shape
    reach, outputs = len(kernel) // 2, kernel.shape[-1]
    rows, columns = range(0, h, stride), range(0, w, stride)
    seen = [kernel[reach - i :, reach - j :][:h, :w] for i in rows for j in columns]
    made = [x.reshape(n, -1) @ part.reshape(-1, outputs) for part in seen]
    return jnp.stack(made, axis=1).reshape(n, len(rows), len(columns), outputs)


@jax.custom_vjp
def _on_cpu(x: Array, kernel: Array) -> Array:
    """Of stride 1."""
    w, (size, _, inputs, outputs) = x.shape[2], kernel.shape
    one_part = outputs <= PART or (w + PART) * size**2 * inputs < WORK
    pays = inputs >= CHANNELS and w >= COLUMNS
    return (_side_by_side if one_part and pays else _plain)(x, kernel)


def _forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return _on_cpu(x, kernel), (x, kernel)


def _backward(given: tuple[Array, Array], slope: Array) -> tuple[Array, Array]:
    x, kernel = given
    turned = jnp.flip(kernel, (0, 1)).swapaxes(2, 3)
    if x.shape[-1] >= CHANNELS and slope.size >= LARGE:
        return _on_cpu(slope, turned), _kernel_slope(x, slope, len(kernel))
    _, back = jax.vjp(lambda kernel: _plain(x, kernel), kernel)
    return _on_cpu(slope, turned), *back(slope)


_on_cpu.defvjp(_forward, _backward)


def _side_by_side(x: Array, kernel: Array) -> Array:
    """All images as one wide image, with columns of zeros between them: there are many parts."""
    n, h, w, _ = x.shape
    reach = len(kernel) // 2
    apart = jnp.pad(x, ((0, 0), (0, 0), (0, reach), (0, 0))).swapaxes(0, 1)
    y = _plain(apart.reshape(1, h, n * (w + reach), -1), kernel)
    y = y.reshape(h, n, w + reach, -1)[:, :, :w].swapaxes(0, 1)
    # What follows, statistics of a batch say, reads it often: it should not do this every time.
    return lax.optimization_barrier(y)


def _kernel_slope(x: Array, slope: Array, size: int) -> Array:
    """The gradient of the kernel: products of the slope with the patches of some images."""
    n, h, w, inputs = x.shape
    reach, outputs = size // 2, slope.shape[-1]
    images = min(n, math.ceil(PATCHES / (h * w * size**2 * inputs)))
    parts = math.ceil(n / images)
    more = [(0, parts * images - n), (0, 0), (0, 0), (0, 0)]
    around = [(0, 0), (reach, reach), (reach, reach), (0, 0)]
    x = jnp.pad(x, more).reshape(parts, images, h, w, inputs)
    slope = jnp.pad(slope, more).reshape(parts, -1, outputs)
    exact = x.dtype if x.dtype.itemsize >= 4 else jnp.float32

    def added(part: Array, found: Array) -> Array:
        padded = jnp.pad(x[part], around)
        shifted = [padded[:, i : i + h, j : j + w] for i in range(size) for j in range(size)]
        patches = jnp.concatenate(shifted, axis=-1).reshape(-1, size**2 * inputs)
        return found + jnp.matmul(slope[part].T, patches, preferred_element_type=exact)

    found = lax.fori_loop(0, parts, added, jnp.zeros((outputs, size**2 * inputs), exact))
    return found.T.reshape(size, size, inputs, outputs).astype(x.dtype)
