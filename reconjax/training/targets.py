"""What a masked autoencoder predicts instead of x: the targets of the theory, on images.

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
from reconjax.theory import targets
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


@functools.partial(jax.tree_util.register_dataclass, data_fields=["target"], meta_fields=["label"])
@dataclasses.dataclass(frozen=True)
class ImageTarget:
    """A target of the theory, t = Aᵀ x with as many values as x has.

    Attributes:
      target: from `reconjax.theory.targets`.
      label: what it is; a matrix of the caller has none.
    """

    target: targets.Target
    label: str | None = None

    def __call__(self, x: Array) -> Array:
        """T."""
        return self.target.apply(x.reshape(len(x), -1)).reshape(x.shape)

    @property
    def name(self) -> str:
        """The label, or a hash of what the target is made of."""
        return self.label or f"{type(self.target).__name__} {fingerprint(self.target)}"


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


def whitened(principal: Spectrum, power: float = 1.0) -> ImageTarget:
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
    matrix = vectors * (scale * roots) @ vectors.T
    return ImageTarget(targets.linear_target(matrix), f"whitened:{power:g}")


def parse_target(text: str, example_shape: Sequence[int], dataset: Dataset) -> Target | None:
    """The target that a text names, None for the pixels.

    Args:
      text: as in `reconjax.theory.targets.parse_target`.
      example_shape: (H, W, C).
      dataset: whose training split says what whitens it.

    Raises:
      ValueError: as there.

    Example:
      >>> digits = reconjax.data.load("digits")
      >>> reconjax.training.parse_target("whitened:0.5", (8, 8, 1), digits).name
      'whitened:0.5'
    """
    target = targets.parse_target(text, example_shape)
    if isinstance(target, targets.Pixels):
        return None
    if isinstance(target, targets.WhitenedInput):
        classes = dataset.num_classes or None
        moments = moments_from_batches(dataset.train.batches(), num_classes=classes)
        return whitened(spectrum(moments), float(target.power))
    return ImageTarget(target, text)


def as_target(target: Any) -> Target | None:
    """The target of a matrix (D, D), a function, a target of the theory, or None for the pixels.

    Raises:
      ValueError: something else, or one that depends on the data, as `theory.targets.whitened`.
    """
    if target is None or isinstance(target, ImageTarget | FunctionTarget):
        return target
    if isinstance(target, targets.WhitenedInput | targets.JointEmbedding):
        raise ValueError(
            f"target: {type(target).__name__} depends on the data; `training.whitened` takes them"
        )
    if hasattr(target, "spectral"):
        return ImageTarget(target)
    if callable(target):
        return target if hasattr(target, "name") else FunctionTarget(target)
    return ImageTarget(targets.linear_target(_square(target)))


def check_target(target: Target | None, example_shape: Sequence[int]) -> None:
    """Raises ValueError where a target does not give what it gets of examples of this shape."""
    if target is None:
        return
    x = jax.ShapeDtypeStruct((1, *example_shape), jnp.float32)
    try:
        found = jax.eval_shape(target, x).shape
    except TypeError as error:
        raise ValueError(
            f"target: does not take images of {tuple(example_shape)}:"
            f" {' '.join(str(error).split())[:120]}"
        ) from None
    if found != x.shape:
        raise ValueError(f"target: gives {found} for one image; {x.shape} is needed")


def _square(matrix: ArrayLike) -> Array:
    array = jnp.asarray(matrix)
    if array.ndim != 2 or array.shape[0] != array.shape[1]:
        raise ValueError(
            f"target: shape {array.shape}; a matrix (D, D), a function of images or None is needed"
        )
    if not np.isfinite(array).all():
        raise ValueError("target: the matrix has values that are NaN or infinite")
    return array
