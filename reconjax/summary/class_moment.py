"""The second moment of one-hot labels of many classes, from the classes' shares alone."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import DTypeLike

# From more classes on, nothing of size C x C is made of integer labels.
MANY = 512


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ClassMoment:
    """S = E[y yᵀ] = diag(p) − p pᵀ of one-hot labels y about their mean p, diag(p) about zero.

    It stands for a (C, C) array where that is not made: it has `shape`, `dtype`, `astype`, `trace`
    and products with matrices on its right.

    Attributes:
      shares: (..., C) p, the (weighted) share of each class.
      centered: whether S is about the mean.
    """

    shares: Array
    centered: bool = dataclasses.field(default=True, metadata={"static": True})

    @property
    def shape(self) -> tuple[int, ...]:
        """(..., C, C)."""
        return (*self.shares.shape, self.shares.shape[-1])

    @property
    def dtype(self) -> np.dtype:
        """That of the shares."""
        return self.shares.dtype

    def astype(self, dtype: DTypeLike) -> "ClassMoment":
        """The same in another dtype."""
        return dataclasses.replace(self, shares=self.shares.astype(dtype))

    def trace(self) -> Array:
        """The variance of the labels."""
        return jnp.sum(self.diagonal())

    def diagonal(self) -> Array:
        """(..., C) the variance of each label."""
        return self.shares * (1 - self.shares) if self.centered else self.shares

    def squares(self) -> Array:
        """‖S‖², the sum of the squares of all entries."""
        p = self.shares
        if not self.centered:
            return jnp.sum(p**2)
        own = p * (1 - p)
        return jnp.sum(own**2) + jnp.sum(p**2) ** 2 - jnp.sum(p**4)

    def __matmul__(self, right: Array) -> Array:
        """S (C, C) times a matrix (C, R)."""
        p = self.shares[:, None]
        if not self.centered:
            return p * right
        return p * (right - jnp.sum(p * right, axis=0))

    def uncentered(self) -> "ClassMoment":
        """About zero instead of about the mean."""
        return dataclasses.replace(self, centered=False)

    def dense(self) -> Array:
        """The (C, C) array itself."""
        return self @ jnp.eye(self.shares.shape[-1], dtype=self.dtype)


def squared_norm(label_moment: Array | ClassMoment) -> Array:
    """‖S‖² of either form."""
    if isinstance(label_moment, ClassMoment):
        return label_moment.squares()
    return jnp.sum(label_moment**2)


def about_zero(label_moment: Array | ClassMoment, mean_y: Array) -> Array | ClassMoment:
    """S about zero instead of about the mean of the targets."""
    if isinstance(label_moment, ClassMoment):
        return label_moment.uncentered()
    return label_moment + jnp.outer(mean_y, mean_y)


def symmetric(label_moment: Array | ClassMoment) -> Array | ClassMoment:
    """S with both triangles the same to the last bit."""
    if isinstance(label_moment, ClassMoment):
        return label_moment
    return (label_moment + label_moment.T) / 2


def dense(label_moment: Array | ClassMoment) -> Array:
    """S as a (C, C) array."""
    return label_moment.dense() if isinstance(label_moment, ClassMoment) else label_moment


def class_sums(rows: Array, labels: Array, classes: int) -> Array:
    """(C, ...) sums of rows (n, ...) over those of each class; labels (n,)."""
    return jax.ops.segment_sum(rows, labels, num_segments=classes)
