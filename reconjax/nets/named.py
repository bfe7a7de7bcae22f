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
from reconjax.nets.masked_autoencoder import MaskedAutoencoder
from reconjax.nets.resnet import ResNetAutoencoder

_AUTOENCODERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "linear": (MLPAutoencoder, {"widths": ()}),
    "mlp": (MLPAutoencoder, {}),
    "conv": (ConvAutoencoder, {}),
    "resnet18": (ResNetAutoencoder, {"depth": 18}),
    "resnet34": (ResNetAutoencoder, {"depth": 34}),
    "resnet50": (ResNetAutoencoder, {"depth": 50}),
}
# Named as usual: ViT-Ti and ViT-S, with decoders that are light beside them.
_MASKED_AUTOENCODERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "vit": (MaskedAutoencoder, {}),
    "vit-ti": (
        MaskedAutoencoder,
        {"width": 192, "depth": 12, "heads": 3}
        | {"decoder_width": 128, "decoder_depth": 2, "decoder_heads": 4},
    ),
    "vit-s": (
        MaskedAutoencoder,
        {"width": 384, "depth": 12, "heads": 6}
        | {"decoder_width": 256, "decoder_depth": 4, "decoder_heads": 8},
    ),
}
_CLASSIFIERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "resnet9": (ResNet9, {}),
    "mlp-classifier": (MLPClassifier, {}),
}

AUTOENCODERS = tuple(_AUTOENCODERS)
"""Names of nets with a latent size."""

MASKED_AUTOENCODERS = tuple(_MASKED_AUTOENCODERS)
"""Names of vision transformers that encode some patches of an image and predict all."""

CLASSIFIERS = tuple(_CLASSIFIERS)
"""Names of nets with a number of classes."""

NAMES = AUTOENCODERS + MASKED_AUTOENCODERS + CLASSIFIERS
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
) -> Autoencoder | MaskedAutoencoder | Classifier:
    """The net of this name, one of `NAMES`.

    Args:
      name: of the net.
      example_shape: (H, W, C) or, for MLPs, (D,).
      latent_dim: of an autoencoder; the others have none and leave it aside.
      num_classes: of a classifier; the others leave it aside.
      rngs: where the initial parameters come from.
      dtype: in which to compute; by default `param_dtype`.
      param_dtype: of parameters and outputs.
      **options: what else the net takes, such as `widths`, `width`, `stem` or `patch_shape`.

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
    net, fixed = (_AUTOENCODERS | _MASKED_AUTOENCODERS | _CLASSIFIERS)[name]
    sizes: dict[str, int | None] = {}
    if name in _AUTOENCODERS:
        sizes["latent_dim"] = latent_dim
    elif name in _CLASSIFIERS:
        sizes["num_classes"] = num_classes
    for size, value in sizes.items():
        if value is None:
            raise ValueError(f"{size}: None; the net {name} needs one")
    taken = set(inspect.signature(net.__init__).parameters) - {"self", *fixed}
    for option in options:
        if option not in taken:
            raise ValueError(f"{option}: not an option of the net {name}")
    how = {"rngs": rngs, "dtype": dtype, "param_dtype": param_dtype}
    return net(example_shape, **sizes, **fixed, **options, **how)
