"""Images at another size: resized, cropped, gray, with Pillow's filters.

In this order: gray, resize, crop. Resizing keeps proportions: the largest centered part of the
image that has those of the new size is scaled to it. The filter averages over what it leaves out
(Pillow's `Image.resize`), bicubic unless the size names another, as in "32:box".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

FILTERS = ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos")
# Shares of red, green and blue in a gray value (ITU-R 601-2), as in Pillow.
_LUMA = np.array([0.299, 0.587, 0.114])

Size = int | str | Sequence[int]


@dataclass(frozen=True)
class Geometry:
    """What is done to every image.

    Attributes:
      resize: (height, width), or None.
      crop: (height, width) of the centered part that is kept, or None.
      gray: whether colors become gray.
      resampling: a name of `FILTERS`.
    """

    resize: tuple[int, int] | None = None
    crop: tuple[int, int] | None = None
    gray: bool = False
    resampling: str = "bicubic"

    def __bool__(self) -> bool:
        """Whether anything is done at all."""
        return bool(self.resize or self.crop or self.gray)

    def shape(self, example_shape: Sequence[int], name: str) -> tuple[int, int, int]:
        """(H, W, C) of what becomes of images (H, W, C) of the set `name`.

        Raises ValueError for vectors, for a crop that is larger than the images, and for channels
        that are not colors where they are to be gray.
        """
        if len(example_shape) != 3:
            option = "resize" if self.resize else "crop" if self.crop else "gray"
            raise ValueError(f"{option}: does not apply to {name}, which holds vectors")
        height, width, channels = example_shape
        if self.gray and channels not in (1, 3):
            raise ValueError(f"gray: does not apply to {name}, of {channels} channels; 3 can be")
        if self.resize:
            height, width = self.resize
        if self.crop:
            if self.crop[0] > height or self.crop[1] > width:
                raise ValueError(
                    f"crop: {self.crop[0]} x {self.crop[1]}; {name} has images of {height} x"
                    f" {width}: at most that can be kept"
                )
            height, width = self.crop
        return height, width, 1 if self.gray else channels

    def of_picture(self, picture: Any) -> Any:
        """A Pillow image of mode L, RGB or F, changed."""
        from PIL import Image

        if self.gray and picture.mode == "RGB":
            picture = picture.convert("L")
        if self.resize:
            height, width = self.resize
            scale = min(picture.height / height, picture.width / width)
            if (picture.height, picture.width) != self.resize:
                top = (picture.height - scale * height) / 2
                left = (picture.width - scale * width) / 2
                box = left, top, left + scale * width, top + scale * height
                how = Image.Resampling[self.resampling.upper()]
                picture = picture.resize((width, height), how, box)
        if self.crop:
            top = (picture.height - self.crop[0]) // 2
            left = (picture.width - self.crop[1]) // 2
            picture = picture.crop((left, top, left + self.crop[1], top + self.crop[0]))
        return picture

    def of_array(self, image: np.ndarray) -> np.ndarray:
        """An image (H, W, C), uint8 or float, changed; uint8 stays uint8, floats become float32."""
        from PIL import Image

        if image.dtype == np.uint8 and image.shape[2] in (1, 3):
            changed = np.asarray(
                self.of_picture(
                    Image.fromarray(np.squeeze(image, 2) if image.shape[2] == 1 else image)
                )
            )
            return changed[..., None] if changed.ndim == 2 else changed
        dtype = np.uint8 if image.dtype == np.uint8 else np.float32
        if self.gray and image.shape[2] == 3:
            image = (image @ _LUMA)[..., None]
        planes = np.moveaxis(image.astype(dtype), -1, 0)
        return np.stack(
            [np.asarray(self.of_picture(Image.fromarray(plane))) for plane in planes], axis=-1
        )


def geometry(resize: Size | None, crop: Size | None, gray: bool | None) -> Geometry:
    """A `Geometry` from options: 32, (48, 64), "48x64" or, to name the filter, "48x64:lanczos".

    Raises ValueError for what is no size, or no filter of Pillow.
    """
    resampling = "bicubic"
    if isinstance(resize, str) and ":" in resize:
        resize, _, resampling = resize.partition(":")
        if resampling not in FILTERS:
            raise ValueError(f"resize: filter {resampling!r}; {', '.join(FILTERS)} are allowed")
    return Geometry(size(resize, "resize"), size(crop, "crop"), bool(gray), resampling)


def size(value: Size | None, name: str) -> tuple[int, int] | None:
    """(height, width) of 32, (48, 64) or "48x64"; None of None.

    Raises ValueError for what is no size.
    """
    if value is None:
        return None
    parts: list[Any] = list(value.split("x")) if isinstance(value, str) else [value]
    if isinstance(value, Sequence) and not isinstance(value, str):
        parts = list(value)
    try:
        numbers = [int(part) for part in parts]
        if any(number != float(part) for number, part in zip(numbers, parts, strict=True)):
            raise ValueError
    except (TypeError, ValueError):
        numbers = []
    if len(numbers) not in (1, 2) or min(numbers) < 1:
        raise ValueError(
            f"{name}: {value!r}; a size in pixels is needed, as in 32 or 48x64 (height x width)"
        )
    return numbers[0], numbers[-1]
