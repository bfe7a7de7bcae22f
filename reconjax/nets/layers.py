"""What the nets are made of: layers that share their dtypes, pooling, and checks of sizes.

Parameters are kept in `param_dtype` (float32), and a net computes in `dtype` (by default the same;
bfloat16 on accelerators). Nothing is float64 unless `dtype` says so, whatever the default of JAX.
Kernels start from a normal distribution of variance 2 / inputs where a ReLU follows (He et al.,
2015), else of 1 / inputs; biases from 0.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array
from jax.typing import DTypeLike

from reconjax.nets import convolution

AXIS = "data"
"""The mapped axis, if any, over which batch statistics are averaged in training mode."""

Shape = Sequence[int]


class Net(nnx.Module):
    """A net for centered examples of one shape."""

    def __init__(
        self, example_shape: Shape, dtype: DTypeLike | None, param_dtype: DTypeLike
    ) -> None:
        """Keeps the shape of an example and the dtypes; `dtype` None means `param_dtype`."""
        self.example_shape = tuple(positive("example_shape", size) for size in example_shape)
        self.dtype = param_dtype if dtype is None else dtype
        self.param_dtype = param_dtype

    def _taken(self, x: Array) -> Array:
        """The examples in the dtype of the computation."""
        if x.shape[1:] != self.example_shape:
            wanted = ", ".join(map(str, ("N", *self.example_shape)))
            raise ValueError(f"x: shape {x.shape}; this net takes ({wanted})")
        if not jnp.issubdtype(x.dtype, jnp.floating):
            raise ValueError(f"x: {x.dtype}; nets take centered floats")
        return jnp.asarray(x, self.dtype)


def mean_over_devices(tree: Any) -> Any:
    """The mean over the mapped axis `AXIS`; outside of one, where there is one part, as it is."""
    try:
        return jax.lax.pmean(tree, AXIS)
    except NameError:
        return tree


def sum_over_devices(tree: Any) -> Any:
    """The sum over the mapped axis `AXIS`; outside of one, where there is one part, as it is."""
    try:
        return jax.lax.psum(tree, AXIS)
    except NameError:
        return tree


class BatchNorm(nnx.BatchNorm):
    """Batch normalization over the whole batch of all devices (Ioffe and Szegedy, 2015).

    In training mode the moments are those of the batch, means over the mapped axis `AXIS` where
    there is one; in evaluation mode the running moments are used. Computed in `param_dtype`
    whatever the dtype of the net, and returned in the dtype of the input.
    """

    def __init__(self, features: int, *, param_dtype: DTypeLike, rngs: nnx.Rngs) -> None:
        """Running moments have momentum 0.9, and are kept in `param_dtype` as everything else."""
        super().__init__(
            features, momentum=0.9, dtype=param_dtype, param_dtype=param_dtype, rngs=rngs
        )
        self.mean = nnx.BatchStat(jnp.zeros(features, param_dtype))
        self.var = nnx.BatchStat(jnp.ones(features, param_dtype))

    def __call__(self, x: Array) -> Array:  # type: ignore[override]
        """(..., C) to (..., C)."""
        wide = x.astype(self.param_dtype)
        if self.use_running_average:
            mean, var = self.mean[...], self.var[...]
        else:
            axes = tuple(range(x.ndim - 1))
            moments = jnp.mean(wide, axes), jnp.mean(jnp.square(wide), axes)
            mean, square = mean_over_devices(moments)
            var = jnp.maximum(square - jnp.square(mean), 0)
            for kept, new in ((self.mean, mean), (self.var, var)):
                kept[...] = self.momentum * kept[...] + (1 - self.momentum) * new
        # Without a centered copy: memory is what this layer waits for.
        scale, bias = (part[...] for part in (self.scale, self.bias) if part is not None)
        scale *= jax.lax.rsqrt(var + self.epsilon)
        return (wide * scale + (bias - mean * scale)).astype(x.dtype)


class LayerNorm(nnx.LayerNorm):
    """Layer normalization (Ba et al., 2016).

    Computed in `param_dtype` whatever the dtype of the net, and returned in the dtype of the input.
    """

    def __init__(self, features: int, *, param_dtype: DTypeLike, rngs: nnx.Rngs) -> None:
        """With a scale and a bias."""
        super().__init__(features, dtype=param_dtype, param_dtype=param_dtype, rngs=rngs)

    def __call__(self, x: Array) -> Array:  # type: ignore[override]
        """(..., C) to (..., C)."""
        return super().__call__(x.astype(self.param_dtype)).astype(x.dtype)


class Conv(nnx.Conv):
    """A convolution of odd size with zeros around the image."""

    def __init__(
        self, inputs: int, outputs: int, size: int, *, stride: int, bias: bool, **how: Any
    ) -> None:
        """A kernel (size, size, inputs, outputs)."""
        self.stride = stride
        self.small_images = convolution.SMALL_IMAGES
        super().__init__(
            inputs, outputs, (size, size), stride, padding=size // 2, use_bias=bias, **how
        )

    def __call__(self, inputs: Array, out_sharding: Any = None) -> Array:
        """(N, h, w, inputs) to (N, ceil(h / stride), ceil(w / stride), outputs)."""
        bias = None if self.bias is None else self.bias[...]
        x, kernel, bias = self.promote_dtype((inputs, self.kernel[...], bias), dtype=self.dtype)
        y = convolution.convolution(x, kernel, self.stride, self.small_images)
        return y if bias is None else y + bias


class Deconv(nnx.ConvTranspose):
    """A transposed 3 x 3 convolution of stride 2 with a bias, cut to `size`."""

    def __init__(self, inputs: int, outputs: int, size: tuple[int, int], **how: Any) -> None:
        """The size (height, width) is 2 h or 2 h - 1 of an input's (h, w)."""
        self.size = size
        super().__init__(inputs, outputs, (3, 3), (2, 2), **how)

    def __call__(self, inputs: Array) -> Array:
        """(N, h, w, inputs) to (N, *size, outputs)."""
        return cut(super().__call__(inputs), self.size)


class Upsample(nnx.Module):
    """Each pixel twice in both directions, cut to `size`: (N, h, w, C) to (N, *size, C)."""

    def __init__(self, size: tuple[int, int]) -> None:
        """The size (height, width) is 2 h or 2 h - 1 of an input's (h, w)."""
        self.size = size

    def __call__(self, x: Array) -> Array:
        """Nearest neighbor."""
        n, h, w, c = x.shape
        twice = jnp.broadcast_to(x[:, :, None, :, None, :], (n, h, 2, w, 2, c))
        return cut(twice.reshape(n, 2 * h, 2 * w, c), self.size)


class Residual(nnx.Module):
    """body(x) + shortcut(x)."""

    def __init__(self, body: nnx.Sequential, shortcut: nnx.Sequential) -> None:
        """Both give the same shape; an empty shortcut is the identity."""
        self.body = body
        self.shortcut = shortcut

    def __call__(self, x: Array) -> Array:
        """(N, h, w, C) to the shape that both give."""
        return self.body(x) + self.shortcut(x)


class Reshape(nnx.Module):
    """(N, D) to (N, *shape)."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        """The shape has D numbers."""
        self.shape = shape

    def __call__(self, x: Array) -> Array:
        """The same numbers."""
        return x.reshape(len(x), *self.shape)


@dataclass(frozen=True)
class Layers:
    """Makes layers in these dtypes, with keys from `rngs`."""

    rngs: nnx.Rngs
    dtype: DTypeLike | None
    param_dtype: DTypeLike

    def linear(
        self,
        inputs: int,
        outputs: int,
        *,
        relu: bool = False,
        bias: bool = True,
        zero: bool = False,
    ) -> Any:
        """(N, inputs) to (N, outputs); with `zero` it starts as 0."""
        how = self._how(relu)
        if zero:
            how["kernel_init"] = nnx.initializers.zeros_init()
        return nnx.Linear(inputs, outputs, use_bias=bias, **how)

    def conv(
        self,
        inputs: int,
        outputs: int,
        size: int = 3,
        *,
        stride: int = 1,
        relu: bool = True,
        bias: bool = False,
    ) -> Any:
        """(N, h, w, inputs) to (N, ceil(h / stride), ceil(w / stride), outputs); `size` is odd."""
        return Conv(inputs, outputs, size, stride=stride, bias=bias, **self._how(relu))

    def deconv(self, inputs: int, outputs: int, size: tuple[int, int], *, relu: bool) -> Deconv:
        """(N, h, w, inputs) to (N, *size, outputs), with a bias."""
        return Deconv(inputs, outputs, size, **self._how(relu, share=1 / 4))

    def norm(self, features: int) -> BatchNorm:
        """Batch normalization."""
        return BatchNorm(features, param_dtype=self.param_dtype, rngs=self.rngs)

    def layer_norm(self, features: int) -> Any:
        """Normalization of the features of each token by itself."""
        return LayerNorm(features, param_dtype=self.param_dtype, rngs=self.rngs)

    def attention(self, width: int, heads: int) -> Any:
        """Self-attention of (N, T, width)."""
        return nnx.MultiHeadAttention(
            heads,
            width,
            decode=False,
            keep_rngs=False,
            attention_fn=dot_product_attention,
            **self._how(relu=False),
        )

    def conv_norm(self, inputs: int, outputs: int, size: int = 3, *, stride: int = 1) -> Any:
        """A convolution without bias, normalized."""
        conv = self.conv(inputs, outputs, size, stride=stride)
        return nnx.Sequential(conv, self.norm(outputs))

    def hidden(self, sizes: Shape) -> Iterator[Any]:
        """Linear, normalization, ReLU from each size to the next."""
        for inputs, outputs in pairwise(sizes):
            yield self.linear(inputs, outputs, relu=True, bias=False)
            yield self.norm(outputs)
            yield jax.nn.relu

    def _how(self, relu: bool, share: float = 1.0) -> dict[str, Any]:
        """For a layer in which an output sees that share of the kernel."""
        return {
            "dtype": self.param_dtype if self.dtype is None else self.dtype,
            "param_dtype": self.param_dtype,
            "kernel_init": partial(kernel, (2.0 if relu else 1.0) / share),
            "rngs": self.rngs,
        }


def dot_product_attention(*arguments: Any, **how: Any) -> Array:
    """That of Flax, whose weights are float32 inside: JAX mixes dtypes there, on purpose."""
    with jax.numpy_dtype_promotion("standard"):
        return nnx.dot_product_attention(*arguments, **how)


def kernel(gain: float, key: Array, shape: Shape, dtype: DTypeLike) -> Array:
    """Normal numbers of variance gain / inputs; `shape` is (..., inputs, outputs).

    They are drawn by NumPy, from a seed that the key gives: JAX would compile a program for each
    shape, which takes far longer than drawing. A traced key, as inside of `jax.jit`, gives the same
    numbers, by a call back to the host.
    """
    scale = math.sqrt(gain / math.prod(shape[:-1]))

    def draw(data: Any) -> np.ndarray:
        generator = np.random.default_rng(np.asarray(data))
        return scale * generator.standard_normal(tuple(shape), np.float32)

    data = jax.random.key_data(key)
    if isinstance(data, jax.core.Tracer):
        result = jax.ShapeDtypeStruct(tuple(shape), np.float32)
        return jax.pure_callback(draw, result, data, vmap_method="sequential").astype(dtype)
    return jnp.asarray(draw(data), dtype)


def flat(x: Array) -> Array:
    """(N, ...) to (N, D)."""
    return x.reshape(len(x), -1)


def max_pool(x: Array) -> Array:
    """Maxima of 2 x 2 pixels; an odd last row or column is left out.

    As maxima of slices, whose gradient is elementwise: that of a window reduction is a scatter, on
    the CPU 20 times slower.
    """
    n, h, w, c = x.shape
    x = cut(x, (h // 2 * 2, w // 2 * 2)).reshape(n, h // 2, 2, w // 2, 2, c)
    upper, lower = x[:, :, 0], x[:, :, 1]
    rows = jnp.maximum(upper, lower)
    return jnp.maximum(rows[:, :, :, 0], rows[:, :, :, 1])


def cut(x: Array, size: tuple[int, int]) -> Array:
    """The upper left part (N, *size, C) of images (N, H, W, C)."""
    return x[:, : size[0], : size[1]]


def halved(size: tuple[int, int]) -> tuple[int, int]:
    """The size after a layer of stride 2."""
    return math.ceil(size[0] / 2), math.ceil(size[1] / 2)


def positive(name: str, value: int) -> int:
    """The value. Raises ValueError unless it is a whole number from 1 on."""
    if isinstance(value, bool) or value != int(value) or value < 1:
        raise ValueError(f"{name}: {value}; it must be a whole number >= 1")
    return int(value)


def sized(image_shape: Shape, strides: int) -> tuple[int, int, int]:
    """(H, W, C) of images that are at least as large as all strides of a net together.

    Raises:
      ValueError: the shape is not (height, width, channels), or the image is smaller.
    """
    if len(image_shape) != 3:
        raise ValueError(
            f"image_shape: {tuple(image_shape)}; this net needs images of (height, width, channels)"
        )
    height, width, channels = (positive("image_shape", size) for size in image_shape)
    if min(height, width) < strides:
        raise ValueError(
            f"image_shape: {height}x{width} is smaller than this net's strides, "
            f"{strides}x{strides} in all"
        )
    return height, width, channels


def parameter_count(model: nnx.Module) -> int:
    """The number of trained parameters, of a net or any part of one.

    Args:
      model: a Flax NNX module.

    Example:
      >>> from flax import nnx
      >>> net = reconjax.nets.make("linear", (4,), latent_dim=2, rngs=nnx.Rngs(0))
      >>> reconjax.nets.parameter_count(net)  # (4 + 1) 2 + (2 + 1) 4
      22
    """
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))
