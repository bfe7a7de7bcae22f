"""The door for arrays from outside: what passes has a known shape, dtype and finite values."""

from typing import Any

import numpy as np

# Far above any real task; it catches labels that are identifiers instead of class numbers.
_MAX_CLASSES = 100_000


def as_images(value: Any, name: str) -> np.ndarray:
    """Check images and bring them to (N, H, W, C) or (N, D), uint8 or float.

    (N, H, W) gets a channel. Whole numbers become uint8 if all lie in 0..255, else float32, and
    so do truth values. Raises a ValueError of one line that calls the argument `name`.
    """
    images = _as_array(value, name)
    if images.ndim not in (2, 3, 4):
        raise ValueError(
            f"{name} has shape {images.shape}: it must be (N, H, W, C), (N, H, W) or (N, D)"
        )
    if images.size == 0:
        raise ValueError(f"{name} is empty (shape {images.shape}): it must hold some examples")
    images = _as_uint8_or_float(images, name)
    if images.dtype.kind == "f":
        _check_finite(images, name)
    return images[..., None] if images.ndim == 3 else images


def as_labels(value: Any, name: str, count: int) -> np.ndarray:
    """Check labels for `count` examples and bring them to (count,) int64.

    Floats are taken if they are whole. Raises a ValueError of one line that calls the argument
    `name`.
    """
    labels = _as_array(value, name)
    if labels.ndim != 1:
        raise ValueError(f"{name} has shape {labels.shape}: labels must be 1-D, one per example")
    if len(labels) != count:
        raise ValueError(f"{name} has {len(labels)} labels for {count} examples: one each is due")
    if labels.dtype.kind not in "biuf":
        raise ValueError(f"{name} is of dtype {labels.dtype}: labels must be whole numbers")
    wrong = np.flatnonzero(~np.isfinite(labels) | (labels != np.floor(labels)))
    if wrong.size:
        raise ValueError(f"{name} holds {labels[wrong[0]]}: labels must be whole numbers")
    if labels.min() < 0:
        raise ValueError(f"{name} holds {labels.min()}: labels must be 0 or more")
    if labels.max() >= _MAX_CLASSES:
        raise ValueError(f"{name} holds {labels.max()}: labels must be below {_MAX_CLASSES}")
    return labels.astype(np.int64)


def one_scale(train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Check that test images match the training images (both from `as_images`) and return them.

    Raises ValueError if the shapes of an example differ, or if one array is uint8 and the other
    float: a uint8 step is 1/255 of the range, so the two would not be on one scale.
    """
    if train.shape[1:] != test.shape[1:]:
        raise ValueError(
            f"x_test holds examples of shape {test.shape[1:]}: x_train's are {train.shape[1:]}"
        )
    if (train.dtype.kind == "f") != (test.dtype.kind == "f"):
        raise ValueError(
            f"x_test becomes {test.dtype}, x_train {train.dtype}: both must be uint8 or both float"
        )
    return test


def _as_array(value: Any, name: str) -> np.ndarray:
    try:
        return np.asarray(value)
    except ValueError:  # rows of unequal length
        raise ValueError(f"{name} is no regular array: all its rows must share one shape") from None


def _as_uint8_or_float(images: np.ndarray, name: str) -> np.ndarray:
    match images.dtype.kind:
        case "f":
            return images
        case "b":
            return images.astype(np.float32)
        case "i" | "u":
            fits = images.min() >= 0 and images.max() <= 255
            return images.astype(np.uint8 if fits else np.float32, copy=False)
    raise ValueError(f"{name} is of dtype {images.dtype}: it must be uint8, another integer, float")


def _check_finite(images: np.ndarray, name: str) -> None:
    bad = ~np.isfinite(images)
    if bad.any():
        first = tuple(int(i) for i in np.unravel_index(bad.argmax(), bad.shape))
        raise ValueError(
            f"{name} holds {bad.sum()} values that are NaN or infinite, the first at {first}: "
            "all must be finite"
        )
