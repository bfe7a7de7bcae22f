"""Probes of frozen features: linear, and with three layers."""

from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import DTypeLike

from reconjax.nets.layers import Layers, Net, positive


class Probe(Net):
    """Logits from features; without batch normalization, so that no mapped axis is needed."""

    def __init__(
        self, in_features: int, num_classes: int, hidden: tuple[int, ...], make: Layers
    ) -> None:
        """Of hidden layers with biases and ReLU."""
        super().__init__((in_features,), make.dtype, make.param_dtype)
        self.num_classes = positive("num_classes", num_classes)
        sizes = (in_features, *hidden)
        layers: list[Any] = []
        for inputs, outputs in pairwise(sizes):
            layers += [make.linear(inputs, outputs, relu=True), jax.nn.relu]
        self.layers = nnx.Sequential(*layers, make.linear(sizes[-1], num_classes))

    def __call__(self, x: Array) -> Array:
        """(N, num_classes) logits of features (N, in_features)."""
        return self.layers(self._taken(x)).astype(self.param_dtype)


class LinearProbe(Probe):
    """One linear layer."""

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        rngs: nnx.Rngs,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
    ) -> None:
        """A linear probe of features (N, in_features)."""
        super().__init__(in_features, num_classes, (), Layers(rngs, dtype, param_dtype))


class MLPProbe(Probe):
    """Three linear layers with ReLU between."""

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        width: int = 512,
        rngs: nnx.Rngs,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
    ) -> None:
        """A nonlinear probe of features (N, in_features), with two hidden layers of `width`.

        Raises:
          ValueError: a size that is not a whole number >= 1.
        """
        hidden = (positive("width", width),) * 2
        super().__init__(in_features, num_classes, hidden, Layers(rngs, dtype, param_dtype))
