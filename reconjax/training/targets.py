"""What a masked autoencoder predicts: t = A x of the centered image x, instead of x itself.

A target is a small pytree that maps (N, H, W, C) to the same shape, so that every value of t has a
patch. A function of the caller does too.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from reconjax.data.dataset import Dataset
from reconjax.storage.parts import fingerprint
from reconjax.summary.streaming import moments_from_batches
from reconjax.theory.spectrum import Spectrum, spectrum


class Target(Protocol):
    """What is predicted."""

    def __call__(self, x: Array) -> Array:
        """T (N, H, W, C) of centered images x (N, H, W, C), of the same dtype."""
        ...

    @property
    def name(self) -> str:
        """Its name in settings."""
        ...


@functools.partial(jax.tree_util.register_dataclass, data_fields=["matrix"], meta_fields=["label"])
@dataclasses.dataclass(frozen=True)
class LinearTarget:
    """t = Aᵀ x of flattened images, x A row by row.

    Attributes:
      matrix: (D, D) A.
      label: what it is; a matrix of the caller has none.
    """

    matrix: Array
    label: str | None = None

    def __call__(self, x: Array) -> Array:
        """X A."""
        flat = x.reshape(len(x), -1)
        matrix = self.matrix.astype(x.dtype)
        return jnp.matmul(flat, matrix, precision=jax.lax.Precision.HIGHEST).reshape(x.shape)

    @property
    def name(self) -> str:
        """The label, or a hash of the matrix."""
        return self.label or f"matrix {fingerprint(self.matrix)}"


@functools.partial(jax.tree_util.register_dataclass, data_fields=[], meta_fields=["patch_shape"])
@dataclasses.dataclass(frozen=True)
class PatchCentered:
    """x without the mean of each patch, channel by channel.

    Attributes:
      patch_shape: (height, width), which divide the image.
    """

    patch_shape: tuple[int, int]

    def __call__(self, x: Array) -> Array:
        """X minus means."""
        n, rows, columns, channels = x.shape
        height, width = self.patch_shape
        parts = x.reshape(n, rows // height, height, columns // width, width, channels)
        return (parts - parts.mean(axis=(2, 4), keepdims=True)).reshape(x.shape)

    @property
    def name(self) -> str:
        """With the patch."""
        return "patch-centered {}x{}".format(*self.patch_shape)


@functools.partial(jax.tree_util.register_dataclass, data_fields=[], meta_fields=["function"])
@dataclasses.dataclass(frozen=True)
class FunctionTarget:
    """A function of the caller, which JAX can trace.

    Attributes:
      function: from (N, H, W, C) to the same.
    """

    function: Callable[[Array], Array]

    def __call__(self, x: Array) -> Array:
        """What the function gives."""
        return self.function(x)

    @property
    def name(self) -> str:
        """That of the function."""
        return f"function {getattr(self.function, '__qualname__', type(self.function).__name__)}"


def patch_centered(patch_shape: int | tuple[int, int]) -> PatchCentered:
    """Images without the mean of each patch: the linear part of MAE's per-patch normalization.

    Args:
      patch_shape: (height, width), or one int for squares; usually the network's.

    Example:
      >>> target = reconjax.training.patch_centered((1, 2))
      >>> target(np.float32([[[[1.0], [3.0]]]])).reshape(-1).tolist()
      [-1.0, 1.0]
    """
    sides = (patch_shape,) * 2 if isinstance(patch_shape, int) else tuple(patch_shape)
    if len(sides) != 2 or any(side < 1 for side in sides):
        raise ValueError(f"patch_shape: {patch_shape}; (height, width) or one number is needed")
    return PatchCentered((int(sides[0]), int(sides[1])))


def whitened(principal: Spectrum, power: float = 1.0) -> LinearTarget:
    """Whitened images: A = M^(-s/2) with s = `power`, times the factor that keeps tr M.

    On the null space of M, where images have nothing, it is 0.

    Args:
      principal: of the training split, D principal directions (`reconjax.spectrum`).
      power: s in [0, 1]; at 0 the target is x, at 1 all directions have one variance.

    Raises:
      ValueError: a power outside [0, 1].

    Example:
      >>> x = np.random.default_rng(0).normal(size=(50, 4)) * [4, 2, 1, 0.5]
      >>> target = reconjax.training.whitened(reconjax.spectrum(reconjax.moments(x, x)))
      >>> variances = np.linalg.eigvalsh(np.cov(np.asarray(target(x)).T))
      >>> round(float(variances.max() / variances.min()), 4)
      1.0
    """
    if not 0 <= power <= 1:
        raise ValueError(f"power: {power}; it must be from 0 to 1")
    values, vectors = np.asarray(principal.eigenvalues), np.asarray(principal.eigenvectors)
    kept = np.arange(len(values)) < int(principal.rank)
    roots = np.where(kept, np.where(kept, values, 1.0) ** (-power / 2), 0.0)
    after = np.sum(np.where(kept, values * roots**2, 0.0))
    scale = np.sqrt(np.sum(np.where(kept, values, 0.0)) / after)
    return LinearTarget(jnp.asarray(vectors * (scale * roots) @ vectors.T), f"whitened {power:g}")


def parse_target(text: str, patch_shape: Sequence[int], dataset: Dataset) -> Target | None:
    """The target that a text names, None for the pixels.

    Args:
      text: "pixels", "centered" (without the mean of each patch), "whitened" or "whitened:POWER".
      patch_shape: of the network.
      dataset: whose training split says what whitens it.

    Raises:
      ValueError: another text, or a power outside [0, 1].

    Example:
      >>> digits = reconjax.data.load("digits")
      >>> reconjax.training.parse_target("whitened:0.5", (2, 2), digits).name
      'whitened 0.5'
    """
    name, _, power = text.partition(":")
    if text == "pixels":
        return None
    if text == "centered":
        return patch_centered((int(patch_shape[0]), int(patch_shape[1])))
    if name == "whitened":
        try:
            exponent = float(power or 1)
        except ValueError:
            raise ValueError(f"target: {text!r}; POWER of whitened:POWER is a number") from None
        moments = moments_from_batches(
            dataset.train.batches(), num_classes=dataset.num_classes or None
        )
        return whitened(spectrum(moments), exponent)
    raise ValueError(f"target: {text!r}; it must be pixels, centered or whitened[:POWER]")


def as_target(target: Any) -> Target | None:
    """The target of a matrix (D, D), a function, or None for the pixels.

    Raises:
      ValueError: something else.
    """
    if target is None or isinstance(target, LinearTarget | PatchCentered | FunctionTarget):
        return target
    if callable(target):
        return target if hasattr(target, "name") else FunctionTarget(target)
    return LinearTarget(_square(target))


def _square(matrix: ArrayLike) -> Array:
    array = jnp.asarray(matrix)
    if array.ndim != 2 or array.shape[0] != array.shape[1]:
        raise ValueError(
            f"target: shape {array.shape}; a matrix (D, D), a function of images or None is needed"
        )
    if not np.isfinite(array).all():
        raise ValueError("target: the matrix has values that are NaN or infinite")
    return array
