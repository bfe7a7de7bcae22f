"""What is minimized: classification, or reconstruction with or without noise and guidance (Eq. 8).

An objective is a small pytree; its weight and the parameters of its noise are leaves. `terms` gives
values for each example, of which the mean over the batch counts: "loss" is minimized, the others
are logged. A loss that is no mean over examples has `statistics`, sums over examples, and makes its
terms of those with `terms_of`, as that of `reconjax.training.embedding`.
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

from reconjax.data.dataset import Dataset
from reconjax.noise import Noise
from reconjax.storage.parts import fingerprint
from reconjax.training.examples import Batch
from reconjax.training.targets import Target, as_target, check_target

LOSSES = ("cross_entropy", "mse")

Terms = dict[str, Array]


class Objective(Protocol):
    """What training needs of an objective, beside what it minimizes: that of `OfExamples`, or of
    `OfBatches`. Another one is a file of its own, and nothing else.
    """

    @property
    def name(self) -> str:
        """Its name in settings."""
        ...

    def check(self, model: Any, dataset: Dataset) -> None:
        """Raises ValueError where a network, in evaluation mode, does not fit it or the data."""
        ...

    def head(self, model: Any, num_classes: int, rngs: nnx.Rngs) -> nnx.Module | None:
        """The head that is trained along with the model, if any."""
        ...

    def settings(self) -> dict[str, Any]:
        """What it is, in plain values: a folder belongs to one objective."""
        ...


class OfExamples(Objective, Protocol):
    """A loss that is a mean over examples."""

    def terms(self, model: Any, head: Any, keys: Array, x: Array, labels: Array) -> Terms:
        """(N,) values of each term, "loss" among them.

        Args:
          model: the network.
          head: what `head` gave.
          keys: (N,) random keys, one for each example.
          x: (N, *example_shape) float32, centered.
          labels: (N,) int32.
        """
        ...


class OfBatches(Objective, Protocol):
    """A loss of a batch as a whole, made of sums over its examples."""

    def check_batch(self, model: Any, dataset: Dataset, batch_size: int) -> None:
        """Raises ValueError where a batch of this size, over all devices, does not do."""
        ...

    def statistics(
        self, model: Any, head: Any, keys: Array, x: Array, labels: Array, counts: Array
    ) -> Any:
        """A tree of sums over examples; arguments as `OfExamples.terms`, and

        Args:
          counts: (N,) float32, 1 for an example and 0 for padding, which plays no part.
        """
        ...

    def terms_of(self, sums: Any) -> Terms:
        """() of each term, "loss" among them, of sums over all examples that there are."""
        ...


@functools.partial(jax.tree_util.register_dataclass, data_fields=[], meta_fields=["loss"])
@dataclasses.dataclass(frozen=True)
class Classification:
    """The network's outputs are compared with the labels."""

    loss: str

    name = "classification"

    def check(self, model: Any, dataset: Dataset) -> None:
        """The network gives a logit for each class."""
        check_classes(self.name, dataset)
        check_output(self.name, model, dataset, (dataset.num_classes,))

    def head(self, model: Any, num_classes: int, rngs: nnx.Rngs) -> None:
        """None: the network has its own."""

    def terms(self, model: Any, head: Any, keys: Array, x: Array, labels: Array) -> Terms:
        """Loss and accuracy."""
        loss, accuracy = _supervised(model(x), labels, self.loss)
        return {"loss": loss, "accuracy": accuracy}

    def settings(self) -> dict[str, Any]:
        """Name and loss."""
        return {"name": self.name, "loss": self.loss, "noise": None}


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["noise", "weight", "target"],
    meta_fields=["loss"],
)
@dataclasses.dataclass(frozen=True)
class Reconstruction:
    """The clean x, or a target of it, is predicted from x', which may be noisy; a head may read the
    latent too.

    Attributes:
      noise: what makes x' of x; None: nothing.
      weight: () of the supervised loss; None: there is no head.
      loss: of the head, one of `LOSSES`.
      target: what is predicted; None: x.
    """

    noise: Noise | None = None
    weight: Array | None = None
    loss: str = "cross_entropy"
    target: Target | None = None

    @property
    def name(self) -> str:
        """By what there is besides reconstruction."""
        if self.weight is not None:
            return "guided"
        return "reconstruction" if self.noise is None else "denoising"

    def check(self, model: Any, dataset: Dataset) -> None:
        """The network is an autoencoder, and where there is a head, there are labels."""
        if self.weight is not None:
            check_classes(self.name, dataset)
        for method in ("encode", "decode"):
            if not hasattr(model, method):
                raise ValueError(
                    f"model: {type(model).__name__} has no {method}; {self.name} needs an"
                    " autoencoder"
                )
        if self.weight is not None and not hasattr(model, "latent_dim"):
            raise ValueError(
                f"model: {type(model).__name__} has no latent_dim; {self.name} needs a latent"
            )
        check_output(self.name, model, dataset, dataset.example_shape)
        check_target(self.target, dataset.example_shape)

    def head(self, model: Any, num_classes: int, rngs: nnx.Rngs) -> nnx.Module | None:
        """A linear head on the latent, if there is a weight."""
        return None if self.weight is None else nnx.Linear(model.latent_dim, num_classes, rngs=rngs)

    def terms(self, model: Any, head: Any, keys: Array, x: Array, labels: Array) -> Terms:
        """The squared error, a mean over the values of an example, and what the head loses.

        Where there is a target, the error is in its units.
        """
        noise = self.noise
        seen = x
        if noise is not None:
            # A key for each example: the draws do not depend on how a batch is shared out.
            seen = jax.vmap(lambda key, x: noise.sample(key, x[None])[0])(keys, x)
        latent = model.encode(seen)
        wanted = x if self.target is None else self.target(x)
        error = _mean_square(model.decode(latent), wanted)
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

    def shown(self, model: Any, key: Array, x: Array) -> dict[str, Array]:
        """Noisy inputs if there are any, and what the network makes of them, for a picture.

        A target that is not in pixels is left out.
        """
        seen = x if self.noise is None else self.noise.sample(key, x)
        rows = {} if self.noise is None else {"input": seen}
        if self.target is None:
            rows["output"] = jnp.asarray(model(seen), x.dtype)
        return rows

    def settings(self) -> dict[str, Any]:
        """Name, loss of the head, a name and a hash of the noise, and what is predicted."""
        noise = self.noise
        text = None if noise is None else f"{type(noise).__name__} {fingerprint(noise)}"
        loss = None if self.weight is None else self.loss
        settings = {"name": self.name, "loss": loss, "noise": text}
        return settings if self.target is None else {**settings, "target": self.target.name}


def statistics(
    objective: Any, model: Any, head: Any, batch: Batch, counts: Array | None = None
) -> Any:
    """Sums over the examples of a batch: those that the objective has, or those of its terms.

    Args:
      objective: with `statistics`, or else `terms`.
      model: the network.
      head: what `head` of the objective gave.
      batch: N examples.
      counts: (N,) float32, 1 for an example and 0 for padding; None: all count.
    """
    if counts is None:
        counts = jnp.ones(len(batch.x), jnp.float32)
    if hasattr(objective, "statistics"):
        return objective.statistics(model, head, *_given(batch), counts)
    terms = objective.terms(model, head, *_given(batch))
    sums = {name: (values * counts.astype(values.dtype)).sum() for name, values in terms.items()}
    return sums, counts.sum()


def terms_of(objective: Any, sums: Any) -> Terms:
    """() of each term, of `statistics` that are added up over all parts of a batch or a split."""
    if hasattr(objective, "statistics"):
        return objective.terms_of(jax.tree.map(jnp.asarray, sums))
    totals, count = sums
    return {name: total / count.astype(total.dtype) for name, total in totals.items()}


def _given(batch: Batch) -> tuple[Array, Array, Array]:
    return batch.keys, batch.x, batch.labels


def classification(loss: str = "cross_entropy") -> Classification:
    """Cross-entropy, or the squared error to one-hot labels, a mean over the classes.

    Args:
      loss: "cross_entropy" or "mse".

    Returns:
      The objective, for a network that gives logits (N, C).

    Raises:
      ValueError: another loss.

    Example:
      >>> reconjax.training.classification().name
      'classification'
    """
    return Classification(_check_loss(loss))


def reconstruction(*, target: Any = None) -> Reconstruction:
    """The mean squared error of decode(encode(x)) against x (Eq. 1), or a target of it.

    Args:
      target: what is predicted: None, x itself; a matrix A (D, D), for t = Aᵀ x of the flattened
        centered x; a target of `training.parse_target`, `training.whitened` or `theory.targets`; or
        a function of examples (N, *example_shape) that gives the same shape.

    Returns:
      The objective, for an autoencoder.

    Raises:
      ValueError: a target that is none of these.

    Example:
      >>> reconjax.training.reconstruction().name
      'reconstruction'
    """
    return Reconstruction(target=as_target(target))


def denoising(noise: Noise, *, target: Any = None) -> Reconstruction:
    """The mean squared error of decode(encode(x')) against the clean x (Eq. 2), or a target of it.

    Args:
      noise: any of `reconjax.noise`, the same object that has the closed form.
      target: as in `reconstruction`.

    Returns:
      The objective, for an autoencoder.

    Raises:
      ValueError: as `reconstruction`.

    Example:
      >>> reconjax.training.denoising(reconjax.noise.gaussian(0.5)).name
      'denoising'
    """
    return Reconstruction(noise, target=as_target(target))


def guided(
    weight: float,
    noise: Noise | None = None,
    loss: str = "cross_entropy",
    *,
    target: Any = None,
) -> Reconstruction:
    """Reconstruction + weight x supervised loss of a linear head on the latent (Eq. 8).

    Both losses are means, over the D values and the C classes: with `loss="mse"` the optimum is
    that of Theorem 1 at λ = C / (weight D).

    Args:
      weight: >= 0. At 0 the head is there and gets no gradient.
      noise: of the input, if any.
      loss: "cross_entropy" or "mse" to one-hot labels.
      target: as in `reconstruction`.

    Returns:
      The objective, for an autoencoder.

    Raises:
      ValueError: a negative or infinite weight, another loss, or as `reconstruction`.

    Example:
      >>> reconjax.training.guided(0.01, reconjax.noise.gaussian(0.5)).name
      'guided'
    """
    leaf = jnp.float32(check_weight(weight))
    return Reconstruction(noise, leaf, _check_loss(loss), as_target(target))


def check_weight(weight: Any) -> float:
    """The guidance weight. Raises ValueError if it is negative or not finite."""
    if not (np.isfinite(weight) and weight >= 0):
        raise ValueError(f"guidance_weight: {weight}; it must be finite and >= 0")
    return float(weight)


def check_classes(name: str, dataset: Dataset) -> None:
    """Raises ValueError where the objective of this name needs labels and there are none."""
    if not dataset.num_classes:
        raise ValueError(
            f"dataset: {dataset.name} has {dataset.targets_text}; {name} needs classes"
        )


def check_output(name: str, model: Any, dataset: Dataset, shape: tuple[int, ...]) -> None:
    """Raises ValueError unless the network, in evaluation mode, gives this shape for an example."""
    x = jnp.zeros((1, *dataset.example_shape), jnp.float32)
    output = nnx.eval_shape(lambda model: model(x), model).shape
    if output != (1, *shape):
        raise ValueError(f"model: gives {output} for one example; {name} needs {(1, *shape)}")


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
