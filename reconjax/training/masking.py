"""Masked autoencoding: what is dropped never reaches the encoder, and is predicted."""

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array

from reconjax.data.dataset import Dataset
from reconjax.noise import ExactMask, Noise
from reconjax.storage.parts import fingerprint
from reconjax.training.objectives import Terms, check_output
from reconjax.training.targets import Target, as_target, check_target

LOSS_ON = ("masked", "all")


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["noise", "target"],
    meta_fields=["kept", "loss_on"],
)
@dataclasses.dataclass(frozen=True)
class MaskedReconstruction:
    """Some patches are encoded, the others or all are predicted.

    Attributes:
      noise: draws which patches are kept, as many in every image.
      kept: how many of its groups, a number that shapes depend on.
      loss_on: one of `LOSS_ON`.
      target: what is predicted; None: the pixels.
    """

    noise: ExactMask
    kept: int
    loss_on: str = "masked"
    target: Target | None = None

    name = "masked"

    def check(self, model: Any, dataset: Dataset) -> None:
        """The network is a masked autoencoder, and the mask is made of its patches."""
        for method in ("patches", "predict"):
            if not hasattr(model, method):
                raise ValueError(
                    f"model: {type(model).__name__} has no {method}; {self.name} needs a masked"
                    " autoencoder"
                )
        check_output(self.name, model, dataset, dataset.example_shape)
        shape = dataset.example_shape
        if self.noise.features != math.prod(shape):
            raise ValueError(
                f"noise: made for {self.noise.features} values, not for images of {shape}"
            )
        groups = np.asarray(model.patches(np.asarray(self.noise.groups).reshape(1, *shape)))[0]
        sizes = np.bincount(groups[:, 0], minlength=self.noise.count)
        if (groups != groups[:, :1]).any() or (sizes != sizes[0]).any():
            height, width = model.patch_shape
            raise ValueError(
                f"noise: its patches are not blocks of the network's, {height}x{width}; exact:0.75:"
                f"{height}x{width} masks them one by one, exact:0.75:{2 * height}x{2 * width} in"
                " blocks of 2x2"
            )
        check_target(self.target, shape)

    def head(self, model: Any, num_classes: int, rngs: nnx.Rngs) -> None:
        """None."""

    def terms(self, model: Any, head: Any, keys: Array, x: Array, labels: Array) -> Terms:
        """The squared error, a mean over the values of the patches that count."""
        order, seen = self.order(model, keys)
        predicted = model.predict(model.encode(x, order[:, :seen]), order)
        wanted = model.patches(x if self.target is None else self.target(x))
        wanted = jnp.take_along_axis(wanted, order[..., None], axis=1)
        error = jnp.square(predicted - wanted.astype(predicted.dtype)).mean(axis=2)
        loss = error[:, seen if self.loss_on == "masked" else 0 :].mean(axis=1)
        return {"loss": loss, "reconstruction": loss}

    def order(self, model: Any, keys: Array) -> tuple[Array, int]:
        """(N, T) int32, all patches of each image, first those that are seen, and how many are.

        They are those that `noise.sample` keeps with the same keys.
        """
        height, width = model.patch_shape
        corners = self.noise.groups.reshape(model.example_shape)[::height, ::width, 0].reshape(-1)
        kept = jax.vmap(lambda key: self.noise.draw(key, (1,))[0])(keys)[:, corners]
        order = jnp.argsort(~kept, axis=1, stable=True).astype(jnp.int32)
        return order, model.tokens // self.noise.count * self.kept

    def shown(self, model: Any, key: Array, x: Array) -> dict[str, Array]:
        """Images without what is masked, and with what is predicted in its place, for a picture.

        Where the loss is on all patches, those that are seen are predicted too. A target that is
        not in pixels is left out.
        """
        keys = jax.random.split(key, len(x))
        order, seen = self.order(model, keys)
        output = model.predict(model.encode(x, order[:, :seen]), order).astype(x.dtype)
        if self.loss_on == "masked":
            known = jnp.take_along_axis(model.patches(x), order[:, :seen, None], axis=1)
            output = output.at[:, :seen].set(known)
        places = jnp.argsort(order, axis=1)[..., None]
        rows = {"input": jax.vmap(lambda key, x: self.noise.sample(key, x[None])[0])(keys, x)}
        if self.target is None:
            rows["output"] = model.images(jnp.take_along_axis(output, places, axis=1))
        return rows

    def settings(self) -> dict[str, Any]:
        """Name, what counts, what is predicted, and a name and a hash of the noise."""
        return {
            "name": self.name,
            "loss": None,
            "noise": f"{type(self.noise).__name__} {fingerprint(self.noise)}",
            "loss_on": self.loss_on,
            "target": "pixels" if self.target is None else self.target.name,
        }


def masked(noise: Noise, *, loss_on: str = "masked", target: Any = None) -> MaskedReconstruction:
    """The mean squared error of what a masked autoencoder does not see (He et al., 2022).

    Args:
      noise: `exact_patch_mask`, the object that has the closed form: it draws which patches are
        kept, the same number in every image. Its patches are those of the network, or blocks of
        them: with a network of 4 x 4 patches, 8 x 8 masks blocks of 2 x 2.
      loss_on: "masked": the error of the patches that are masked; "all": of all.
      target: what is predicted: None, the pixels; a matrix A (D, D), for t = Aᵀ x of the flattened
        centered image; `patch_centered`, `whitened`; or a function of images (N, H, W, C) that
        gives the same shape.

    Returns:
      The objective, for a masked autoencoder.

    Raises:
      ValueError: a noise without an exact number of patches, or with a fill; another `loss_on`;
        nothing masked where the loss is on what is; a target that is none of these.

    Example:
      >>> noise = reconjax.noise.exact_patch_mask(0.75, 4, (32, 32, 3))
      >>> reconjax.training.masked(noise).kept
      16
    """
    if not isinstance(noise, ExactMask):
        raise ValueError(
            f"noise: {type(noise).__name__}; masked autoencoders need an exact number of patches,"
            " as in exact:0.75:4x4"
        )
    if noise.fill is not None:
        raise ValueError("noise: has a fill; what is masked is not seen at all")
    if loss_on not in LOSS_ON:
        raise ValueError(f"loss_on: {loss_on!r}; it must be one of {', '.join(LOSS_ON)}")
    kept = int(noise.kept)
    if loss_on == "masked" and kept == noise.count:
        raise ValueError(f"noise: masks none of {kept} patches; loss_on='all' takes it")
    return MaskedReconstruction(noise, kept, loss_on, as_target(target))
