"""What is minimized: classification, or reconstruction with or without noise and guidance (Eq. 8).

An objective is a small pytree; its weight and the parameters of its noise are leaves. `terms` gives
values for each example: the one named "loss" is minimized, the others are told.
"""

import dataclasses
import functools
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax import Array

from reconjax.noise import Noise

LOSSES = ("cross_entropy", "mse")

Terms = dict[str, Array]


class Objective(Protocol):
    """What the loop asks of an objective."""

    @property
    def name(self) -> str:
        """Its name in settings."""
        ...

    def head(self, model: Any, num_classes: int, rngs: nnx.Rngs) -> nnx.Module | None:
        """The head that is trained along with the model, if any."""
        ...

    def terms(self, model: Any, head: Any, keys: Array, x: Array, labels: Array) -> Terms:
        """(N,) values of each term, "loss" among them.

        Args:
          model: the network.
          head: what `head` gave.
          keys: (N,) random keys, one an example.
          x: (N, *example_shape) float32, centered.
          labels: (N,) int32.
        """
        ...


@functools.partial(jax.tree_util.register_dataclass, data_fields=[], meta_fields=["loss"])
@dataclasses.dataclass(frozen=True)
class Classification:
    """The network's outputs are compared with the labels."""

    loss: str

    name = "classification"

    def head(self, model: Any, num_classes: int, rngs: nnx.Rngs) -> None:
        """None: the network has its own."""

    def terms(self, model: Any, head: Any, keys: Array, x: Array, labels: Array) -> Terms:
        """Loss and accuracy."""
        loss, accuracy = _supervised(model(x), labels, self.loss)
        return {"loss": loss, "accuracy": accuracy}


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=["noise", "weight"], meta_fields=["loss"]
)
@dataclasses.dataclass(frozen=True)
class Reconstruction:
    """The clean x is reconstructed from x', which may be noisy; a head may read the latent too.

    Attributes:
      noise: what makes x' of x; None: nothing.
      weight: () of the supervised loss; None: there is no head.
      loss: of the head, one of `LOSSES`.
    """

    noise: Noise | None = None
    weight: Array | None = None
    loss: str = "cross_entropy"

    @property
    def name(self) -> str:
        """By what there is besides reconstruction."""
        if self.weight is not None:
            return "guided"
        return "reconstruction" if self.noise is None else "denoising"

    def head(self, model: Any, num_classes: int, rngs: nnx.Rngs) -> nnx.Module | None:
        """A linear head on the latent, if there is a weight."""
        return None if self.weight is None else nnx.Linear(model.latent_dim, num_classes, rngs=rngs)

    def terms(self, model: Any, head: Any, keys: Array, x: Array, labels: Array) -> Terms:
        """The squared error, a mean over the values of an example, and what the head loses."""
        noise = self.noise
        seen = x
        if noise is not None:
            # One key an example: the draws do not depend on how a batch is shared out.
            seen = jax.vmap(lambda key, one: noise.sample(key, one[None])[0])(keys, x)
        latent = model.encode(seen)
        error = _mean_square(model.decode(latent), x)
        if head is None:
            return {"loss": error, "reconstruction": error}
        supervised, accuracy = _supervised(head(latent), labels, self.loss)
        loss = error + jnp.asarray(self.weight, error.dtype) * supervised.astype(error.dtype)
        return {
            "loss": loss,
            "reconstruction": error,
            "supervised": supervised,
            "accuracy": accuracy,
        }


def classification(loss: str = "cross_entropy") -> Classification:
    """Cross-entropy, or the squared error to one-hot labels, a mean over the classes.

    Raises:
      ValueError: another loss.
    """
    return Classification(_check_loss(loss))


def reconstruction() -> Reconstruction:
    """The mean squared error of decode(encode(x)) against x (Eq. 1)."""
    return Reconstruction()


def denoising(noise: Noise) -> Reconstruction:
    """The mean squared error of decode(encode(x')) against the clean x (Eq. 2).

    Args:
      noise: any of `reconjax.noise`, the same object that has the closed form.
    """
    return Reconstruction(noise)


def guided(
    weight: float, noise: Noise | None = None, loss: str = "cross_entropy"
) -> Reconstruction:
    """Reconstruction + weight x supervised loss of a linear head on the latent (Eq. 8).

    Both losses are means, over the D values and the C classes: with `loss="mse"` the optimum is
    that of Theorem 1 at λ = C / (weight D).

    Args:
      weight: >= 0. At 0 the head is there and gets no gradient.
      noise: of the input, if any.
      loss: "cross_entropy" or "mse" to one-hot labels.

    Raises:
      ValueError: a negative or infinite weight, or another loss.
    """
    return Reconstruction(noise, jnp.float32(check_weight(weight)), _check_loss(loss))


def check_weight(weight: Any) -> float:
    """The guidance weight. Raises ValueError if it is negative or not finite."""
    if not (np.isfinite(weight) and weight >= 0):
        raise ValueError(f"guidance_weight: {weight}; it must be finite and >= 0")
    return float(weight)


def _check_loss(loss: str) -> str:
    if loss not in LOSSES:
        raise ValueError(f"loss: {loss!r}; it must be one of {', '.join(LOSSES)}")
    return loss


def _supervised(logits: Array, labels: Array, loss: str) -> tuple[Array, Array]:
    """(N,) loss and (N,) 1 where the largest output is that of the label."""
    correct = (logits.argmax(-1).astype(labels.dtype) == labels).astype(jnp.float32)
    if loss == "mse":
        onehot = jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
        return _mean_square(logits, onehot), correct
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels), correct


def _mean_square(a: Array, b: Array) -> Array:
    """(N,) mean over all other axes."""
    error = jnp.square(a - b.astype(a.dtype))
    return error.mean(tuple(range(1, error.ndim)))
