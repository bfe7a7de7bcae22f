"""Image files: what one holds, what a whole set has in common, and pixels of that form.

A set is as rich as its richest image:

- gray alone: one channel. Any color: three; gray ones get three equal channels.
- 8 bits alone: uint8. Any 16 bits: float32 in [0, 1], 8-bit values by 255, 16-bit ones by 65535.
- Files of floats or of 32-bit integers: float32, values as they are; no other files beside them.
- Transparent images are shown on white. Cameras' notes of orientation are followed.

Pillow reads 16 bits of gray images, but 8 of color.
"""

import io
import struct
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from reconjax.data.geometry import Geometry

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
_ORIENTATION = 0x0112  # of the Exif standard
# What Pillow raises for files that are not whole.
_DAMAGE = (OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, EOFError)
_DAMAGE += (struct.error, zlib.error, OverflowError, MemoryError)  # type: ignore[assignment]

Encoded = Path | bytes | str


class CorruptImage(ValueError):
    """A file that cannot be decoded; the message is the reason."""


class Header(NamedTuple):
    """What a file says of its image, known without decoding it.

    Attributes:
      height: in pixels, once the image is upright.
      width: the same.
      color: whether it has three channels.
      values: "8", "16", or "floats".
      transparent: whether it can show what is behind it.
      narrowed: whether Pillow leaves out bits of it.
    """

    height: int
    width: int
    color: bool
    values: str
    transparent: bool
    narrowed: bool


@dataclass(frozen=True)
class Layout:
    """The form that all images of a set are brought to.

    Attributes:
      shape: (H, W, C) of an example.
      size: (height, width) of every stored image, or None where they differ.
      values: "8", "16", or "floats", see `Header`.
      color: whether images have three channels before the geometry.
      geometry: what is done to every image.
      notes: lines about what was not alike.
    """

    shape: tuple[int, int, int]
    size: tuple[int, int] | None
    values: str
    color: bool
    geometry: Geometry
    notes: tuple[str, ...] = ()

    @property
    def dtype(self) -> Any:
        """uint8 or float32."""
        return np.dtype(np.uint8 if self.values == "8" else np.float32)


def header(encoded: Encoded) -> Header:
    """Reads the header of an image. Raises CorruptImage."""
    with _opened(encoded) as picture:
        return _header(picture)


def decode(encoded: Encoded, layout: Layout) -> np.ndarray:
    """The image (H, W, C) of the layout's shape and dtype.

    Raises CorruptImage, or a ValueError of one line for an image that does not fit the layout.
    """
    with _opened(encoded) as picture:
        found = _header(picture)
        if found.color and not layout.color:
            raise ValueError("is in color, and those looked at first are gray")
        if found.values != layout.values and not (found.values, layout.values) == ("8", "16"):
            raise ValueError(
                f"has values of another kind ({found.values}) than those looked at first"
                f" ({layout.values})"
            )
        if layout.size is not None and layout.size != (found.height, found.width):
            raise ValueError(
                f"is {found.height} x {found.width}, and those looked at first are"
                f" {layout.size[0]} x {layout.size[1]}: --resize makes them alike"
            )
        try:
            picture = _upright(picture)
            picture.load()
        except _DAMAGE as error:
            raise CorruptImage(_reason(error)) from None
        if found.transparent:
            picture = _on_white(picture)
        mode = "RGB" if layout.color else "L"
        if layout.values == "8":
            if picture.mode != mode:
                picture = picture.convert(mode)
            pixels = np.asarray(layout.geometry.of_picture(picture))
            return pixels[..., None] if pixels.ndim == 2 else pixels
        if found.values == "8":
            pixels = np.asarray(picture.convert(mode))
            pixels = pixels.astype(np.float32) / 255
        else:
            pixels = np.asarray(picture).astype(np.float32)
            pixels /= 65535 if found.values == "16" else 1
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[..., None], 3 if layout.color else 1, axis=2)
    if not np.isfinite(pixels).all():
        raise ValueError("holds NaN or infinity")
    return layout.geometry.of_array(pixels) if layout.geometry else pixels


def common(headers: Sequence[Header], geometry: Geometry, name: str) -> Layout:
    """The layout of a set of images.

    Raises a ValueError of one line where sizes differ and are not made alike, and where floats are
    mixed with images of 8 or 16 bits.
    """
    sizes = Counter((found.height, found.width) for found in headers)
    kinds = Counter(found.values for found in headers)
    if "floats" in kinds and len(kinds) > 1:
        raise ValueError(
            f"{name}: {kinds['floats']} of {len(headers)} images hold floats or 32-bit integers,"
            " the others 8 or 16 bits, which have no common scale"
        )
    height, width = min(h for h, _ in sizes), min(w for _, w in sizes)
    if len(sizes) > 1 and geometry.resize is None and geometry.crop is None:
        shown = ", ".join(f"{h} x {w} ({count})" for (h, w), count in sizes.most_common(3))
        raise ValueError(
            f"{name}: images of {len(sizes)} sizes, {shown}{', ...' if len(sizes) > 3 else ''}:"
            f" --resize {min(height, width)} (resize=) makes them alike"
        )
    color = any(found.color for found in headers)
    notes = []
    gray = sum(not found.color for found in headers)
    if color and gray and not geometry.gray:
        notes.append(f"{gray} of {len(headers)} images are gray: they get three equal channels")
    if len(kinds) > 1:
        notes.append(f"{kinds['16']} of {len(headers)} images have 16 bits: all become 0 to 1")
    if transparent := sum(found.transparent for found in headers):
        notes.append(f"{transparent} of {len(headers)} images are transparent: shown on white")
    if narrowed := sum(found.narrowed for found in headers):
        notes.append(f"{narrowed} of {len(headers)} images have 16-bit colors: 8 bits are read")
    channels = 3 if color else 1
    return Layout(
        shape=geometry.shape((height, width, channels), name),
        size=(height, width) if len(sizes) == 1 else None,
        values="floats" if "floats" in kinds else "16" if "16" in kinds else "8",
        color=color,
        geometry=geometry,
        notes=tuple(notes),
    )


def _opened(encoded: Encoded) -> Any:
    from PIL import Image

    try:
        return Image.open(io.BytesIO(encoded) if isinstance(encoded, bytes) else encoded)
    except (*_DAMAGE, Image.DecompressionBombError) as error:
        raise CorruptImage(_reason(error)) from None


def _header(picture: Any) -> Header:
    try:
        frames = getattr(picture, "n_frames", 1)
        turned = _orientation(picture) >= 5
    except _DAMAGE as error:
        raise CorruptImage(_reason(error)) from None
    if frames > 1 and picture.format != "MPO":  # some cameras add a preview to a photograph
        raise CorruptImage(f"it holds {frames} images")
    mode, width, height = picture.mode, picture.width, picture.height
    if turned:
        width, height = height, width
    values = "8"
    if mode.startswith("I;16") or (mode == "I" and picture.format == "PNG"):
        values = "16"
    elif mode in ("I", "F"):
        values = "floats"
    transparent = "transparency" in picture.info or mode in ("LA", "La", "PA", "RGBA", "RGBa")
    narrowed = any("16" in str(tile[-1]) for tile in picture.tile) and values == "8"
    gray = mode in ("1", "L", "LA", "La") or values != "8"
    return Header(height, width, not gray, values, transparent and values == "8", narrowed)


def _upright(picture: Any) -> Any:
    from PIL import ImageOps

    if _orientation(picture) in range(2, 9):
        return ImageOps.exif_transpose(picture)
    return picture


def _orientation(picture: Any) -> int:
    """1 for upright; 5 and more where height and width are exchanged."""
    if picture.format == "PNG" and "exif" not in picture.info:
        return 1  # Pillow would decode it to look for a note behind the pixels
    return int(picture.getexif().get(_ORIENTATION, 1))


def _on_white(picture: Any) -> Any:
    from PIL import Image

    gray = picture.mode in ("L", "LA", "La", "1")
    picture = picture.convert("RGBA")
    white = Image.new("RGBA", picture.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, picture).convert("L" if gray else "RGB")


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    if "cannot identify" in text:
        return "no image that Pillow can read"
    return text if len(text) <= 80 else f"{text[:80]}..."
