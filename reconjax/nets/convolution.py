"""Convolutions with gradients that XLA computes quickly in loops on CPUs too.

The gradient with respect to the kernel is a convolution whose window is as large as the image.
Inside of a loop, where training runs, XLA's CPU backend has no quick way of computing it: a hundred
times slower than outside. There it is written as k² matrix products here, which are as quick inside
as outside, and the transpose of a convolution has its kernel reversed and transposed beforehand.
Only reverse-mode differentiation is defined.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import Array, lax

LAYOUT = ("NHWC", "HWIO", "NHWC")


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def convolution(x: Array, kernel: Array, stride: int) -> Array:
    """A convolution of odd size k with zeros around the image.

    Args:
      x: (N, h, w, I).
      kernel: (k, k, I, O), of the same dtype.
      stride: in both directions.

    Returns:
      (N, ceil(h / stride), ceil(w / stride), O).
    """
    around = (kernel.shape[0] // 2,) * 2
    return lax.conv_general_dilated(
        x, kernel, (stride, stride), (around, around), dimension_numbers=LAYOUT
    )


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def transposed(y: Array, kernel: Array, size: tuple[int, int], stride: int) -> Array:
    """The transpose of `convolution` as a linear map of x.

    Args:
      y: (N, ceil(h / stride), ceil(w / stride), O).
      kernel: (k, k, I, O), of the same dtype.
      size: (h, w).
      stride: in both directions.

    Returns:
      (N, h, w, I).
    """
    low = kernel.shape[0] // 2
    padding = [
        (low, whole + low - (part - 1) * stride - 1)
        for whole, part in zip(size, y.shape[1:3], strict=True)
    ]
    return lax.conv_general_dilated(
        y,
        kernel[::-1, ::-1].swapaxes(2, 3),
        (1, 1),
        padding,
        lhs_dilation=(stride, stride),
        dimension_numbers=LAYOUT,
    )


def _kernel_gradient(x: Array, slope: Array, k: int, stride: int) -> Array:
    """(k, k, I, O) of x (N, h, w, I) and the gradient (N, ., ., O) of what `convolution` gives."""

    def products(x: Array, slope: Array) -> Array:
        (n, _, _, inputs), (_, p, q, outputs) = x.shape, slope.shape
        around = (k // 2,) * 2
        x = jnp.pad(x, ((0, 0), around, around, (0, 0)))
        rows = slope.reshape(-1, outputs)
        found = []
        for i in range(k):
            for j in range(k):
                stop = (n, i + (p - 1) * stride + 1, j + (q - 1) * stride + 1, inputs)
                seen = lax.slice(x, (0, i, j, 0), stop, (1, stride, stride, 1))
                found.append(seen.reshape(-1, inputs).T @ rows)
        return jnp.stack(found).reshape(k, k, inputs, outputs)

    def window(x: Array, slope: Array) -> Array:
        around = (k // 2,) * 2

        def plain(kernel: Array) -> Array:
            return lax.conv_general_dilated(
                x, kernel, (stride, stride), (around, around), dimension_numbers=LAYOUT
            )

        kernel = jax.ShapeDtypeStruct((k, k, x.shape[-1], slope.shape[-1]), x.dtype)
        return jax.linear_transpose(plain, kernel)(slope)[0]

    return lax.platform_dependent(x, slope, cpu=products, default=window)


def _convolved(x: Array, kernel: Array, stride: int) -> tuple[Array, tuple[Array, Array]]:
    return convolution(x, kernel, stride), (x, kernel)


def _of_convolution(stride: int, kept: tuple[Array, Array], slope: Array) -> tuple[Array, Array]:
    x, kernel = kept
    back = transposed(slope, kernel, x.shape[1:3], stride)
    return back, _kernel_gradient(x, slope, kernel.shape[0], stride)


def _transposed(
    y: Array, kernel: Array, size: tuple[int, int], stride: int
) -> tuple[Array, tuple[Array, Array]]:
    return transposed(y, kernel, size, stride), (y, kernel)


def _of_transposed(
    size: tuple[int, int], stride: int, kept: tuple[Array, Array], slope: Array
) -> tuple[Array, Array]:
    y, kernel = kept
    back = convolution(slope, kernel, stride)
    return back, _kernel_gradient(slope, y, kernel.shape[0], stride)


convolution.defvjp(_convolved, _of_convolution)
transposed.defvjp(_transposed, _of_transposed)
