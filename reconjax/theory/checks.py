"""Whether arguments are what the closed forms allow; a ValueError names argument and value."""

import jax
import numpy as np
from jax.typing import ArrayLike

from reconjax.noise import Noise
from reconjax.summary.moments import Moments


def check_weight(reconstruction_weight: ArrayLike) -> None:
    """Raises ValueError unless λ is in [0, inf] (skipped for traced values)."""
    if isinstance(reconstruction_weight, jax.core.Tracer):
        return
    if not np.all(np.asarray(reconstruction_weight, np.float64) >= 0):
        raise ValueError(f"reconstruction_weight: {reconstruction_weight}; it must be in [0, inf]")


def check_readout(readout: str) -> None:
    """Raises ValueError unless it is "clean" or "noisy"."""
    if readout not in ("clean", "noisy"):
        raise ValueError(f"readout: {readout!r}; 'clean' or 'noisy'")


def check_few_labels(name: str, weights: ArrayLike, readout: str) -> None:
    """Raises ValueError unless an encoder of its own needs no labels: λ = inf, clean read-out.

    Args:
      name: what the weights are called there.
      weights: λ, one or several.
      readout: "clean" or "noisy".
    """
    if readout != "clean":
        raise ValueError(f"readout: {readout!r}; with an encoder of its own 'clean' is needed")
    why = "with an encoder of its own inf alone is allowed"
    if isinstance(weights, jax.core.Tracer):
        raise ValueError(f"{name}: traced; {why}")
    values = np.asarray(weights, np.float64)
    if not np.isinf(values).all():
        raise ValueError(f"{name}: {values.min():g}; {why}")


def check_latent_dims(
    latent_dims: ArrayLike | None, largest: int, features: int | None = None
) -> np.ndarray:
    """(Kn,) K as integers, by default 1, 2, 4, ... and the largest.

    Args:
      latent_dims: (Kn,) or a scalar.
      largest: the largest K that is allowed.
      features: D, where the largest K is the rank of the data, for the message.

    Raises:
      ValueError: none, another shape, or one that is no whole number in 1 .. largest.
    """
    if latent_dims is None:
        powers = 2 ** np.arange(largest.bit_length())
        return np.append(powers[powers < largest], largest)
    dims = np.atleast_1d(np.asarray(latent_dims))
    if dims.ndim != 1 or dims.size == 0:
        raise ValueError(f"latent_dims: shape {dims.shape}; a list of at least one is needed")
    for latent_dim in dims.tolist():
        if not 1 <= latent_dim <= largest or latent_dim % 1:
            rank = "" if features is None else f": the data have rank {largest} of {features}"
            raise ValueError(
                f"latent_dim: {latent_dim}; 1 .. {largest} is allowed, in whole numbers{rank}"
            )
    return dims.astype(int)


def check_latent_dim(latent_dim: ArrayLike, largest: int) -> None:
    """Raises ValueError unless K is a whole number in 1 .. largest."""
    check_latent_dims(latent_dim, largest)


def check_mean(moments: Moments, noise: Noise) -> None:
    """Raises ValueError if the noise moves the mean of inputs whose moments are not centered."""
    if not moments.centered and getattr(noise, "offset", lambda: None)() is not None:
        raise ValueError("noise: it moves the mean of the inputs; centered moments are needed")


def check_noise_size(noise: Noise, features: int) -> None:
    """Raises ValueError if a part of the noise was made for another number of features."""
    size = getattr(noise, "features", None)
    if size not in (None, features):
        raise ValueError(f"noise: made for {size} features; the moments have {features}")
    for part in getattr(noise, "noises", ()):
        check_noise_size(part, features)
