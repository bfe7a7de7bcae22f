"""Masks that are stored as images: a whole number for each pixel."""

import dataclasses
import io

import numpy as np

from reconjax.data.geometry import Geometry
from reconjax.data.images import Encoded


def decoded_mask(encoded: Encoded, geometry: Geometry, title: str) -> np.ndarray:
    """(H, W) the values of a mask of mode 1, L, P (the numbers of its palette) or I, resized.

    Args:
      encoded: the bytes of a file, or its path.
      geometry: what is done to the image that it belongs to; no values are mixed.
      title: what messages call it.

    Raises:
      ValueError: one line, for damage and for a mask in color.
    """
    from PIL import Image

    opened = io.BytesIO(encoded) if isinstance(encoded, bytes) else encoded
    try:
        with Image.open(opened) as picture:
            mode = picture.mode
            values = np.asarray(picture)
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        raise ValueError(f"{title} cannot be read: {' '.join(str(error).split())}") from None
    if values.ndim != 2:
        raise ValueError(f"{title} is a mask of mode {mode}: one number for each pixel is needed")
    plain = dataclasses.replace(geometry, gray=False, resampling="nearest")
    changed = plain.of_picture(Image.fromarray(values.astype(np.int32)))
    return np.asarray(changed).astype(np.int64)
