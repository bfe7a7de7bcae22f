"""Joint embedding: two draws of the noise are embedded alike, and no two directions the same.

The loss is one of the whole batch, not a mean over examples: what every device adds to it are sums
(`Views`), of which `terms_of` makes the loss, in a step as over a whole split.
"""

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array

from reconjax.data.dataset import Dataset
from reconjax.linalg.precision import highest
from reconjax.noise import Noise
from reconjax.storage.parts import fingerprint
from reconjax.training.objectives import Terms

EMBEDDING_LOSSES = ("whitening", "vicreg")
WEIGHTS = (25.0, 25.0, 1.0)

# Of the mean variance of a direction, added to each: directions without any are no division by 0.
_RIDGE = 1e-5
# Of VICReg: the standard deviation that is enough, and what is added to a variance.
_ENOUGH, _ADDED = 1.0, 1e-4


class Views(NamedTuple):
    """Sums over examples, of the embeddings z₁ and z₂ (K,) of two views of each.

    Attributes:
      number: () of examples.
      sums: (2, K) Σ z₁ and Σ z₂.
      products: (2, K, K) Σ z₁ z₁ᵀ and Σ z₂ z₂ᵀ.
      differences: (K, K) Σ (z₁ − z₂)(z₁ − z₂)ᵀ.
    """

    number: Array
    sums: Array
    products: Array
    differences: Array


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=["noise", "weights"], meta_fields=["loss"]
)
@dataclasses.dataclass(frozen=True)
class JointEmbedding:
    """What a network makes of two draws of the noise is compared.

    Attributes:
      noise: what makes both views of x.
      loss: one of `EMBEDDING_LOSSES`.
      weights: (3,) of VICReg's invariance, variance and covariance; None for whitening.
    """

    noise: Noise
    loss: str = "whitening"
    weights: Array | None = None

    name = "joint-embedding"

    def check(self, model: Any, dataset: Dataset) -> None:
        """The network has an embedding (K,) of an example, and the two views differ."""
        if not any(hasattr(model, method) for method in ("features", "encode")):
            raise ValueError(
                f"model: {type(model).__name__} has no encode; {self.name} needs an encoder"
            )
        features = math.prod(dataset.example_shape)
        if self.noise.features not in (None, features):
            raise ValueError(f"noise: made for {self.noise.features} values, not for {features}")
        shape = embedding_shape(model, dataset)
        if len(shape) != 1:
            raise ValueError(f"model: embeds an example as {shape}; (K,) is needed")
        x = jax.random.normal(jax.random.key(0), (8, *dataset.example_shape), jnp.float32)
        if np.array_equal(*self.views(jax.random.split(jax.random.key(1), 8), x)):
            raise ValueError("noise: its two draws are the same; two views that differ are needed")

    def check_batch(self, model: Any, dataset: Dataset, batch_size: int) -> None:
        """Raises ValueError where a batch is too small for a covariance of the embeddings."""
        (size,) = embedding_shape(model, dataset)
        least = 2 if self.loss == "vicreg" else size
        if batch_size < least:
            raise ValueError(
                f"batch_size: {batch_size}; {self.name} ({self.loss}) of {size} values needs at"
                f" least {least}"
            )

    def head(self, model: Any, num_classes: int, rngs: nnx.Rngs) -> None:
        """None."""

    def views(self, keys: Array, x: Array) -> tuple[Array, Array]:
        """Two draws x', (N, *example_shape) each; keys (N,), one for each example."""

        def draw(number: int) -> Array:
            # Not 1: that is the key of augmentations.
            own = jax.vmap(lambda key: jax.random.fold_in(key, number))(keys)
            return jax.vmap(lambda key, x: self.noise.sample(key, x[None])[0])(own, x)

        return draw(2), draw(3)

    @highest
    def statistics(
        self, model: Any, head: Any, keys: Array, x: Array, labels: Array, counts: Array
    ) -> Views:
        """Sums over the examples; those with a count of 0 play no part.

        Args:
          model: the network.
          head: None.
          keys: (N,) random keys, one for each example.
          x: (N, *example_shape) float32, centered.
          labels: unused.
          counts: (N,) float32, 1 or 0.
        """
        # At once: statistics of batch normalization are those of both views.
        z = embedding(model, jnp.concatenate(self.views(keys, x)))
        z = z.reshape(2, len(x), -1)
        counts = counts.astype(z.dtype)
        weighted = counts[:, None] * z
        apart = z[0] - z[1]
        return Views(
            counts.sum(),
            weighted.sum(axis=1),
            jnp.einsum("vni,vnj->vij", weighted, z),
            jnp.einsum("n,ni,nj->ij", counts, apart, apart),
        )

    def terms_of(self, views: Views) -> Terms:
        """() of each term, "loss" among them."""
        if self.loss == "whitening":
            return whitening_terms(views)
        return vicreg_terms(views, self.weights)

    def shown(self, model: Any, key: Array, x: Array) -> dict[str, Array]:
        """Two views of images, for a picture."""
        first, second = self.views(jax.random.split(key, len(x)), x)
        return {"view": first, "another": second}

    def settings(self) -> dict[str, Any]:
        """Name, loss and its weights, and a name and a hash of the noise."""
        weights = None if self.weights is None else [float(weight) for weight in self.weights]
        noise = f"{type(self.noise).__name__} {fingerprint(self.noise)}"
        return {"name": self.name, "loss": self.loss, "weights": weights, "noise": noise}


def joint_embedding(
    noise: Noise, loss: str = "whitening", *, weights: Sequence[float] | None = None
) -> JointEmbedding:
    """Embeddings of two views of an example are made alike.

    "whitening" is min E‖f(x'₁) − f(x'₂)‖² / K where the covariance of f over both views is the
    identity. The batch whitens what the network gives (Ermolov et al., 2021, "Whitening for
    self-supervised representation learning"), so that the constraint holds exactly, and the loss
    2 − 2 tr(C⁻¹ A) / K does not depend on how: C is the covariance of f(x'), A that of f(x'₁) with
    f(x'₂). A linear network has the closed form `theory.targets.joint_embedding`. "vicreg" is the
    sum of three terms in place of the constraint (Bardes et al., 2022, "VICReg"): the mean squared
    difference of both views, what standard deviations lack of 1 (the mean over directions and
    views), and the squared covariances of other directions over K (the sum over both views); there
    is no expander.

    Args:
      noise: any of `reconjax.noise` that draws.
      loss: "whitening" or "vicreg".
      weights: of VICReg's invariance, variance and covariance, >= 0; by default 25, 25, 1.

    Returns:
      The objective, for an autoencoder, whose code is the embedding, or another network with
      `features` or `encode`. A decoder gets no gradient.

    Raises:
      ValueError: no noise, another loss, or weights that are not three numbers >= 0 or that belong
        to no loss.

    Example:
      >>> noise = reconjax.noise.patch_mask(0.75, 2, (8, 8, 1))
      >>> reconjax.training.joint_embedding(noise).name
      'joint-embedding'
    """
    if not hasattr(noise, "sample"):
        raise ValueError(f"noise: {noise!r}; joint embedding needs one, for two views that differ")
    if loss not in EMBEDDING_LOSSES:
        raise ValueError(f"loss: {loss!r}; it must be one of {', '.join(EMBEDDING_LOSSES)}")
    if loss == "whitening":
        if weights is not None:
            raise ValueError(f"weights: {weights}; whitening has none")
        return JointEmbedding(noise)
    numbers = np.asarray(WEIGHTS if weights is None else weights, np.float32)
    if numbers.shape != (3,) or not (np.isfinite(numbers).all() and (numbers >= 0).all()):
        raise ValueError(
            f"weights: {weights}; three finite numbers >= 0 are needed, of invariance, variance"
            " and covariance"
        )
    return JointEmbedding(noise, loss, jnp.asarray(numbers))


def embedding(model: Any, x: Array) -> Array:
    """(N, K) of inputs (N, ...): what probes read, `features` or else `encode`."""
    return model.features(x) if hasattr(model, "features") else model.encode(x)


def embedding_shape(model: Any, dataset: Dataset) -> tuple[int, ...]:
    """The shape of the embedding of one example."""
    x = jnp.zeros((1, *dataset.example_shape), jnp.float32)
    return nnx.eval_shape(embedding, model, x).shape[1:]


@highest
def whitening_terms(views: Views) -> Terms:
    """2 − 2 tr(C⁻¹ A) / K: 0 where both views are embedded alike, 2 where they have nothing in
    common.

    Directions without variance count as that. A = C − E[(z₁ − z₂)(z₁ − z₂)ᵀ] / 2.
    """
    size = views.sums.shape[1]
    mean = views.sums.sum(0) / (2 * views.number)
    covariance = views.products.sum(0) / (2 * views.number) - jnp.outer(mean, mean)
    shared = covariance - views.differences / (2 * views.number)
    ridge = _RIDGE * jnp.trace(covariance) / size
    factor = jax.scipy.linalg.cho_factor(covariance + ridge * jnp.eye(size, dtype=mean.dtype))
    agreement = jnp.trace(jax.scipy.linalg.cho_solve(factor, shared)) / size
    return {"loss": 2 - 2 * agreement}


def vicreg_terms(views: Views, weights: Any) -> Terms:
    """The loss and its three terms, without their weights (3,)."""
    size = views.sums.shape[1]
    means = views.sums / views.number
    outer = jnp.einsum("vi,vj->vij", means, means)
    covariances = (views.products - views.number * outer) / (views.number - 1)
    variances = jnp.diagonal(covariances, axis1=1, axis2=2)
    lacking = _ENOUGH - jnp.sqrt(jnp.maximum(variances, 0) + _ADDED)
    others = covariances * (1 - jnp.eye(size, dtype=means.dtype))
    terms = {
        "invariance": jnp.trace(views.differences) / (size * views.number),
        "variance": jax.nn.relu(lacking).mean(),
        "covariance": jnp.square(others).sum() / size,
    }
    weighted = zip(jnp.asarray(weights, means.dtype), terms.values(), strict=True)
    return {
        "loss": sum((weight * term for weight, term in weighted), jnp.zeros_like(views.number))
    } | terms
