"""Convolutions of odd size with zeros around the image.

Where the kernel reaches every pixel from every other, as on the last maps of a ResNet, there is
another form, without the products with zeros around the image. With it, a training step of ResNet9
at a quarter of its width makes 1.5 times the images per second on a CPU (benchmarks/results).
"""

import jax.numpy as jnp
from jax import Array, lax

SMALL_IMAGES = True
"""Whether nets made from now on have it; where it is False, XLA computes all convolutions."""


def convolution(x: Array, kernel: Array, stride: int = 1, small_images: bool = True) -> Array:
    """Of (N, h, w, I) with a kernel (size, size, I, O) of the same dtype.

    Returns (N, ceil(h / stride), ceil(w / stride), O).
    """
    reach = len(kernel) // 2
    if small_images and max(x.shape[1:3]) - 1 <= reach:
        return _linear(x, kernel, stride)
    layout = ("NHWC", "HWIO", "NHWC")
    around = [(reach, reach)] * 2
    return lax.conv_general_dilated(x, kernel, [stride] * 2, around, dimension_numbers=layout)


def _linear(x: Array, kernel: Array, stride: int) -> Array:
    """As one linear function of the image."""
    n, h, w, _ = x.shape
    reach, outputs = len(kernel) // 2, kernel.shape[-1]
    rows, columns = range(0, h, stride), range(0, w, stride)
    parts = [kernel[reach - i :, reach - j :][:h, :w] for i in rows for j in columns]
    values = [x.reshape(n, -1) @ part.reshape(-1, outputs) for part in parts]
    return jnp.stack(values, axis=1).reshape(n, len(rows), len(columns), outputs)
