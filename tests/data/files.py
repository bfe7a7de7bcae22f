"""Images and folders as other programs write them, for the tests of the doors."""

import io

import numpy as np
import pytest
from PIL import Image

CLASSES = ("ant", "bee", "cat")


def pictures(count=12, size=(6, 5), seed=0):
    """(N, H, W, 3) uint8."""
    return np.random.default_rng(seed).integers(0, 256, (count, *size, 3), dtype=np.uint8)


def encoded(image, kind="PNG", **options):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, kind, **options)
    return buffer.getvalue()


def write_folder(root, images, labels, split="", suffix="png", names=CLASSES):
    """A folder for each class, files numbered; the examples in the order in which they are read."""
    order = []
    for k, name in enumerate(names):
        folder = root / split / name
        folder.mkdir(parents=True, exist_ok=True)
        for i in np.flatnonzero(np.asarray(labels) == k):
            Image.fromarray(images[i]).save(folder / f"{i:04}.{suffix}")
            order.append(i)
    return np.array(order)


def whole(split):
    return split.examples(np.arange(len(split)))


def refused(call, *parts, error=ValueError):
    with pytest.raises(error) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 400
    for part in parts:
        assert part in message
