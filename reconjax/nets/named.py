"""Nets by their names."""

import inspect
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from reconjax.nets.autoencoder import Autoencoder, MLPAutoencoder
from reconjax.nets.classifiers import Classifier, MLPClassifier, ResNet9
from reconjax.nets.conv import ConvAutoencoder
from reconjax.nets.layers import Shape
from reconjax.nets.resnet import ResNetAutoencoder

_AUTOENCODERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "linear": (MLPAutoencoder, {"widths": ()}),
    "mlp": (MLPAutoencoder, {}),
    "conv": (ConvAutoencoder, {}),
    "resnet18": (ResNetAutoencoder, {"depth": 18}),
    "resnet34": (ResNetAutoencoder, {"depth": 34}),
    "resnet50": (ResNetAutoencoder, {"depth": 50}),
}
_CLASSIFIERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "resnet9": (ResNet9, {}),
    "mlp-classifier": (MLPClassifier, {}),
}

AUTOENCODERS = tuple(_AUTOENCODERS)
"""Names of nets with a latent size."""

CLASSIFIERS = tuple(_CLASSIFIERS)
"""Names of nets with a number of classes."""

NAMES = AUTOENCODERS + CLASSIFIERS
"""Names of all nets that `make` makes."""


def make(
    name: str,
    example_shape: Shape,
    *,
    latent_dim: int | None = None,
    num_classes: int | None = None,
    rngs: nnx.Rngs,
    dtype: DTypeLike | None = None,
    param_dtype: DTypeLike = jnp.float32,
    **options: Any,
) -> Autoencoder | Classifier:
    """The net of this name, one of `NAMES`.

    Args:
      name: of the net.
      example_shape: (H, W, C) or, for MLPs, (D,).
      latent_dim: of an autoencoder; classifiers have none and leave it aside.
      num_classes: of a classifier; autoencoders leave it aside.
      rngs: where the initial parameters come from.
      dtype: in which to compute; by default `param_dtype`.
      param_dtype: of parameters and outputs.
      **options: what else the net takes, such as `widths`, `width` or `stem`.

    Returns:
      The net, in training mode.

    Raises:
      ValueError: an unknown name or option, a size that is missing, or what the net does not take.

    Example:
      >>> from flax import nnx
      >>> net = reconjax.nets.make("mlp", (8, 8, 1), latent_dim=4, rngs=nnx.Rngs(0))
      >>> net.eval()
      >>> net.encode(np.zeros((2, 8, 8, 1), np.float32)).shape
      (2, 4)
    """
    if name not in NAMES:
        raise ValueError(f"net: {name}; it must be one of {', '.join(NAMES)}")
    net, fixed = _AUTOENCODERS.get(name) or _CLASSIFIERS[name]
    sizes = {"latent_dim": latent_dim} if name in _AUTOENCODERS else {"num_classes": num_classes}
    for size, value in sizes.items():
        if value is None:
            raise ValueError(f"{size}: None; the net {name} needs one")
    taken = set(inspect.signature(net.__init__).parameters) - {"self", *fixed}
    for option in options:
        if option not in taken:
            raise ValueError(f"{option}: not an option of the net {name}")
    how = {"rngs": rngs, "dtype": dtype, "param_dtype": param_dtype}
    return net(example_shape, **sizes, **fixed, **options, **how)
