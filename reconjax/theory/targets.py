"""What the decoder predicts: the pixels, something else of the image, or the embedding of a view.

A target is t = Aᵀ x. Of the one problem E[x' tᵀ] = E[x' xᵀ] A alone changes, and on a ray nothing
but the right-hand side: no factorization more. In whitened principal coordinates z = d^-½ Pᵀ x the
solver needs E[z tᵀ] E[t zᵀ] = X̃ A Aᵀ X̃ᵀ, X̃ = d^½ Pᵀ: for x itself that is diag(d), for x whitened
by the power S, A = M^(-S/2), it is diag(d^(1-S)).

Joint embedding, min E‖Vᵀ x'₁ − Vᵀ x'₂‖² over two draws of the noise with Vᵀ G V = I, has the top
generalized eigenvectors of (E[m mᵀ], G), m(x) = E[x'|x] (Balestriero and LeCun, 2022; Van Assel et
al., 2025). For every noise with m = T x that is the prediction of fully whitened x: E[x' tᵀ] = T
M^½, whose square is T M Tᵀ. On a ray the eigenvectors are those of the ray itself.
"""

from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from reconjax.linalg.precision import highest
from reconjax.linalg.products import gram
from reconjax.noise.base import Shape, Window, check, parse_window, pytree, static
from reconjax.noise.groups import patch_groups
from reconjax.noise.operators import Blur, blur

FORMS = "pixels, whitened:S, patch-centered:HxW, highpass:STD"


class Target(Protocol):
    """A linear t = Aᵀ x of the centered x."""

    def spectral(self, eigenvalues: Array) -> Array | None:
        """(R,) E[z tᵀ] E[t zᵀ] where it is diagonal for every data set, given d (R,); else None."""
        return None

    def apply(self, x: Array) -> Array:
        """t (..., T) of centered x (..., D)."""
        ...

    @property
    def features(self) -> int | None:
        """D, or None for a target of inputs of any size."""
        return None

    @property
    def embedding(self) -> bool:
        """Whether it stands for joint embedding."""
        return False


@pytree
class Pixels(Target):
    """t = x."""

    def spectral(self, eigenvalues: Array) -> Array | None:
        """d."""
        return eigenvalues

    def apply(self, x: Array) -> Array:
        """x."""
        return x


@pytree
class WhitenedInput(Target):
    """t = M^(-S/2) x.

    Attributes:
      power: S in [0, 1], a leaf: the curves have derivatives in it.
    """

    power: Array

    def spectral(self, eigenvalues: Array) -> Array | None:
        """d^(1-S); 0 past the rank."""
        there = eigenvalues > 0
        powers = jnp.where(there, eigenvalues, 1.0) ** (1 - self.power.astype(eigenvalues.dtype))
        return jnp.where(there, powers, 0.0)

    def apply(self, x: Array) -> Array:
        """Not without the eigenvectors of M."""
        raise NotImplementedError("whitened inputs depend on the data; see `spectral`")


@pytree
class JointEmbedding(Target):
    """The embedding of another view: t = M^-½ x, with ties broken by variance."""

    def spectral(self, eigenvalues: Array) -> Array | None:
        """1; 0 past the rank."""
        return jnp.where(eigenvalues > 0, jnp.ones_like(eigenvalues), 0.0)

    def apply(self, x: Array) -> Array:
        """Not without the eigenvectors of M."""
        raise NotImplementedError("embeddings depend on the data; see `spectral`")

    @property
    def embedding(self) -> bool:
        """True."""
        return True


@pytree
class PatchCentered(Target):
    """t = x less the mean of its patch, over all its pixels and channels.

    Attributes:
      groups: (D,) int32, the patch of each value.
      count: number of patches.
    """

    groups: Array
    count: int = static()

    @property
    def features(self) -> int:
        """D."""
        return self.groups.shape[0]

    @highest
    def apply(self, x: Array) -> Array:
        """x - its patch's mean."""
        one_hot = jax.nn.one_hot(self.groups, self.count, dtype=x.dtype)
        means = (x @ one_hot) / jnp.sum(one_hot, axis=0)
        return x - means[..., self.groups]


@pytree
class HighPass(Target):
    """t = x - its blur.

    Attributes:
      blur: the blur.
    """

    blur: Blur

    @property
    def features(self) -> int | None:
        """D."""
        return self.blur.features

    def apply(self, x: Array) -> Array:
        """x - T x."""
        return x - self.blur.mean(x.reshape(-1, x.shape[-1]).T).T.reshape(x.shape)


@pytree
class LinearTarget(Target):
    """t = Aᵀ x.

    Attributes:
      matrix: (D, T) A.
    """

    matrix: Array

    @property
    def features(self) -> int:
        """D."""
        return self.matrix.shape[0]

    @highest
    def apply(self, x: Array) -> Array:
        """Aᵀ x."""
        return x @ self.matrix.astype(x.dtype)


def pixels() -> Target:
    """The input itself: reconstruction."""
    return Pixels()


def joint_embedding() -> Target:
    """The embedding of another view, whatever the noise."""
    return JointEmbedding()


def whitened(power: ArrayLike) -> Target:
    """The input whitened by a power: its variances are d^(1-S).

    Args:
      power: S in [0, 1]; 0 is the input, 1 the fully whitened one.

    Raises:
      ValueError: S outside [0, 1].
    """
    check("power", power, lambda s: (s >= 0) & (s <= 1), "in [0, 1]")
    return WhitenedInput(power=jnp.asarray(power, float))


def patch_centered(patch_shape: Window, image_shape: Shape) -> Target:
    """Each patch less its mean: the linear part of the normalized patches of masked autoencoders.

    Args:
      patch_shape: (height, width), or one int for square patches.
      image_shape: (H, W, C) or (H, W).

    Raises:
      ValueError: a patch that does not divide the image.
    """
    groups = np.asarray(patch_groups(patch_shape, image_shape, share_channels=True, partial=False))
    return PatchCentered(groups=jnp.asarray(groups, jnp.int32), count=int(groups.max()) + 1)


def high_pass(std: ArrayLike, image_shape: Shape) -> Target:
    """The image less its Gaussian blur.

    Args:
      std: > 0, of the blur, in pixels.
      image_shape: (H, W, C) or (H, W).

    Raises:
      ValueError: std out of range, not an image shape.
    """
    check("std", std, lambda s: np.isfinite(s) & (s > 0), "finite and > 0")
    return HighPass(blur=blur(std, image_shape))


def linear_target(
    function: ArrayLike | Callable[[Array], ArrayLike], features: int | None = None
) -> Target:
    """Any linear function of the input.

    Args:
      function: A (D, T), for t = Aᵀ x; or a linear function from (n, D) to (n, T), evaluated at the
        unit vectors.
      features: D, for a function.

    Raises:
      ValueError: a matrix of another shape, a function without `features`, that returns another
        number of rows or values that are not finite, or that is not linear.
    """
    if not callable(function):
        matrix = jnp.asarray(function)
        if matrix.ndim != 2 or matrix.size == 0:
            raise ValueError(f"function: a matrix of shape {matrix.shape}; (D, T) is needed")
        return LinearTarget(matrix=matrix)
    if features is None:
        raise ValueError("features: None; the number D of features is needed for a function")
    unit = jnp.eye(features)
    matrix = jnp.asarray(function(unit))
    if matrix.ndim != 2 or matrix.shape[0] != features:
        raise ValueError(f"function: of {features} rows it makes {matrix.shape}; (n, T) is needed")
    some = jnp.asarray(np.random.default_rng(0).normal(size=(2, features)), unit.dtype)
    there, here = jnp.asarray(function(some)), some @ matrix
    if not bool(jnp.all(jnp.isfinite(matrix))) or not np.allclose(there, here, rtol=1e-3):
        raise ValueError("function: it is not linear, or not finite; t = Aᵀ x is needed")
    return LinearTarget(matrix=matrix)


def parse_target(text: str, example_shape: Shape) -> Target:
    """The target that a text names.

    Args:
      text: "pixels", "whitened:0.75", "patch-centered:4x4", "highpass:1.5".
      example_shape: (D,) or (H, W, C).

    Raises:
      ValueError: no such target, a value out of range, or one of images for other inputs.

    Example:
      >>> from reconjax.theory.targets import parse_target
      >>> float(parse_target("whitened:0.75", (4, 4, 1)).power)
      0.75
    """
    name, _, value = text.strip().partition(":")
    try:
        if name == "pixels" and not value:
            return pixels()
        if name == "whitened":
            return whitened(float(value))
        if name == "patch-centered":
            return patch_centered(parse_window(value), example_shape)
        if name == "highpass":
            return high_pass(float(value), example_shape)
    except ValueError as error:
        raise ValueError(f"target: {text!r}; {error}") from None
    raise ValueError(f"target: {text!r}; known are {FORMS}")


@highest
def along(target: Target, eigenvalues: Array, root: Array) -> Array:
    """E[z tᵀ] E[t zᵀ] (R, R), or its diagonal (R,) where that is all.

    Args:
      target: t.
      eigenvalues: (R,) d; 0 past the rank.
      root: (R, D) X̃ = d^½ Pᵀ.
    """
    diagonal = target.spectral(eigenvalues)
    if diagonal is not None:
        return diagonal
    return gram(target.apply(root).T)


def target_moment(
    target: Target, second_moment: Array, eigenvalues: Array, vectors: Array
) -> Array:
    """E[x tᵀ] (D, T), up to a rotation of t, given M (D, D) and its spectrum."""
    diagonal = target.spectral(eigenvalues)
    if diagonal is None:
        return target.apply(second_moment)
    with highest:
        return vectors * (jnp.sqrt(eigenvalues) * jnp.sqrt(diagonal))


@highest
def target_variance(target: Target, second_moment: Array, eigenvalues: Array) -> Array:
    """tr E[t tᵀ]."""
    diagonal = target.spectral(eigenvalues)
    if diagonal is not None:
        return jnp.sum(diagonal)
    return jnp.trace(target.apply(target.apply(second_moment).T))


def check_target(target: Any, features: int) -> None:
    """Raises ValueError where it is no target of inputs of D features."""
    if not hasattr(target, "spectral"):
        raise ValueError(f"target: {target!r}; make one with `reconjax.theory.targets`")
    if target.features not in (None, features):
        raise ValueError(f"target: made for {target.features} features, not {features}")
