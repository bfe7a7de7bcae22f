"""The door for arrays from outside: what passes has a known shape, dtype and finite values."""

from typing import Any

import numpy as np

from reconjax.data.layout import layout

# float32 holds whole numbers up to here.
_EXACT = 2**24


def as_images(
    value: Any, name: str, channels_first: bool | None = None, axes: str | None = None
) -> np.ndarray:
    """Check images and bring them to (N, H, W, C), (N, D, H, W, C) or (N, D), uint8 or float.

    (N, H, W) gets a channel. uint8 stays, for it alone is an image of 255 steps; other integers and
    truth values become floats of the same value: float32 where it holds them exactly, else float64.
    Which axis is which is decided by `reconjax.data.layout`. Raises a ValueError of one
    line that calls the argument `name`.
    """
    images = _as_array(value, name)
    if images.size == 0 and images.ndim > 1:
        raise ValueError(f"{name} is empty (shape {images.shape}): it must hold some examples")
    how = layout(images.shape, name, channels_first, axes, images.dtype)
    images = how.apply(images)
    images = _as_uint8_or_float(images, name)
    if images.dtype.kind == "f":
        _check_finite(images, name)
    return images


def one_scale(train: Any, test: Any, x_train: np.ndarray, x_test: np.ndarray) -> np.ndarray:
    """Check that test images match the training images and return them.

    Args:
        train: the training images as they were given.
        test: the test images as they were given.
        x_train: the former from `as_images`.
        x_test: the latter from `as_images`.

    Raises ValueError if the shapes of an example differ, or if one array is uint8 and the other
    not: a uint8 step is 1/255 of the range, so the two would not be on one scale.
    """
    if x_train.shape[1:] != x_test.shape[1:]:
        raise ValueError(
            f"x_test holds examples of shape {x_test.shape[1:]}: x_train's are {x_train.shape[1:]}"
        )
    if (x_train.dtype == np.uint8) != (x_test.dtype == np.uint8):
        raise ValueError(
            f"x_test is {_dtype(test)}, x_train {_dtype(train)}: uint8 alone is"
            " divided by 255, so both must be uint8 or neither"
        )
    return x_test


def _dtype(value: Any) -> Any:
    return value.dtype if hasattr(value, "dtype") else np.asarray(value).dtype


def _as_array(value: Any, name: str) -> np.ndarray:
    if hasattr(value, "toarray"):  # of SciPy, sparse
        value = value.toarray()
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
            if images.dtype == np.uint8:
                return images
            exact = images.min() >= -_EXACT and images.max() <= _EXACT
            return images.astype(np.float32 if exact else np.float64)
    raise ValueError(f"{name} is of dtype {images.dtype}: it must be uint8, another integer, float")


def _check_finite(images: np.ndarray, name: str) -> None:
    bad = ~np.isfinite(images)
    if bad.any():
        first = tuple(int(i) for i in np.unravel_index(bad.argmax(), bad.shape))
        raise ValueError(
            f"{name} holds {bad.sum()} values that are NaN or infinite, the first at {first}: "
            "all must be finite"
        )
