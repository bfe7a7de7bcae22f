"""Pictures of a page: rows of small images in one SVG, which holds them as data."""

import base64
import html
import io
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from reconjax.data.split import Split
from reconjax.data.units import as_floats
from reconjax.nets import usual_patch
from reconjax.noise import parse_noise
from reconjax.plots.pictures import display_range, shown_channels
from reconjax.report.curves import Table
from reconjax.report.gathering import Results
from reconjax.report.words import noise_words, percent

# In units of the drawing, which is as wide as a phone shows without scrolling.
WIDTH, GAP, LINE, LETTERS = 480, 5, 20, 14
# Images of a row, rows of a contact sheet, and classes that have a row each.
ACROSS, DOWN, CLASSES = 12, 5, 12
MASKED = 6
# Pixels of a picture at most; up to so many it is stored without loss.
LARGEST, LOSSLESS = 96, 32
# Images whose mean stands in for what is dropped.
MEAN_OF = 2000
USUAL_RATIO = 0.75


class Row(NamedTuple):
    """A line of images (n, H, W, C) in [0, 1] with a text above."""

    text: str
    images: np.ndarray


class Picture(NamedTuple):
    """A picture of a page.

    Attributes:
      title: above it.
      alt: what is to be seen.
      svg: the drawing.
      table: what is known of its images.
    """

    title: str
    alt: str
    svg: str
    table: Table


def contact_sheet(results: Results) -> Picture:
    """Some training images, a row a class where there are few."""
    source = results.source
    rng = np.random.default_rng(source.seed)
    labels, names = source.train.labels, source.dataset.class_names if source.dataset else ()
    rows, table = [], Table()
    if 0 < len(names) <= CLASSES:
        table = {"class": list(names), "training samples": []}
        for label, name in enumerate(names):
            members = np.flatnonzero(labels == label)
            table["training samples"].append(len(members))
            drawn = np.sort(rng.permutation(members)[:ACROSS])
            rows.append(Row(f"{name} ({len(members):,})", _images(source.train, drawn)))
        alt = f"Images of each class of {source.name}: {', '.join(names)}."
    else:
        drawn = np.sort(rng.permutation(len(labels))[: ACROSS * DOWN])
        images = _images(source.train, drawn)
        starts = range(0, len(drawn), ACROSS)
        rows = [Row("", images[start : start + ACROSS]) for start in starts]
        told = [names[i] if names else str(np.round(labels[i], 4).tolist()) for i in drawn]
        table = {"sample": drawn.tolist(), "label": told}
        alt = f"{len(drawn)} training images of {source.name}, drawn at random."
    shown = np.concatenate([row.images for row in rows])
    rows = [Row(row.text, _displayed(row.images, shown)) for row in rows]
    title = "Some training images" + (
        " of each class (and how many there are)" if rows[0].text else ""
    )
    return Picture(title, alt, drawing(rows), table)


def subspaces(results: Results) -> Picture:
    """Images, and what the top and the bottom subspace have of them."""
    result = results.studies["project"]
    about = result.attrs
    images = result["images"].values
    share = percent(float(about["variance"]), 0)
    top, bottom = result.top.values, result.bottom.values
    reach = max(float(np.quantile(np.abs(bottom), 0.99)), 1e-12)
    rows = [
        Row("The images", _displayed(images, images)),
        Row(
            f"What the first {about['top_directions']} directions keep ({share} of the variance)",
            _displayed(top, images),
        ),
        Row(
            f"What the other {about['bottom_directions']:,} hold, contrast stretched, 0 is gray",
            _channels(np.clip(0.5 + 0.5 * bottom / reach, 0, 1)),
        ),
    ]
    lost = np.square(bottom).sum(axis=(1, 2, 3))
    table: Table = {
        "image": list(range(1, len(images) + 1)),
        "class": result.class_name.values.tolist(),
        "squared norm in the bottom subspace": np.round(lost, 6).tolist(),
    }
    alt = (
        f"{len(images)} images, their blurred likeness on the first {about['top_directions']}"
        f" principal directions, and the details on the other {about['bottom_directions']:,}."
    )
    return Picture("Top and bottom subspace", alt, drawing(rows), table)


def masked(results: Results, masks: Mapping[str, str]) -> Picture:
    """The same images without a mask, and under some: what each is here -> its text."""
    source = results.source
    shape = source.train.example_shape
    split = source.test or source.train
    drawn = np.random.default_rng(source.seed).permutation(len(split))[:MASKED]
    images = _images(split, np.sort(drawn))
    mean = _mean(source.train.sample(MEAN_OF, source.seed))
    rows = [Row("Without a mask", _displayed(images, images))]
    table: Table = {"image": [], "mask": [], "share of values dropped": []}
    for name, text in masks.items():
        kept, dropped = _masked(text, images - mean, shape)
        rows.append(Row(f"{name}: {noise_words(text)}", _displayed(mean + kept, images)))
        table["image"] += list(range(1, len(images) + 1))
        table["mask"] += [text] * len(images)
        table["share of values dropped"] += np.round(dropped, 4).tolist()
    alt = "The same images " + " and ".join(
        ["as they are", *(f"under {noise_words(text)}" for text in masks.values())]
    )
    return Picture("Masked images", f"{alt}.", drawing(rows), table)


def usual_mask(shape: Sequence[int]) -> str:
    """What masked autoencoders use, three quarters of the patches of a vision transformer."""
    height, width = usual_patch(tuple(shape))
    return f"exact:{USUAL_RATIO}:{height}x{width}"


def drawing(rows: Sequence[Row]) -> str:
    """An SVG of rows of images, each below its text."""
    across = max(len(row.images) for row in rows)
    side = (WIDTH - GAP * (across - 1)) / across
    parts, y = [], 0.0
    for row in rows:
        if row.text:
            y += LINE
            parts.append(
                f'<text x="0" y="{y - 5:g}" font-size="{LETTERS}" fill="currentColor"'
                f' font-family="system-ui, sans-serif">{html.escape(row.text)}</text>'
            )
        height, width = row.images.shape[1:3]
        tall = side * min(height / width, 4.0)
        smooth = "auto" if max(height, width) > LOSSLESS else "pixelated"
        for place, image in enumerate(row.images):
            parts.append(
                f'<image x="{place * (side + GAP):.2f}" y="{y:.2f}" width="{side:.2f}"'
                f' height="{tall:.2f}" preserveAspectRatio="none" style="image-rendering:{smooth}"'
                f' href="{_data(image)}"/>'
            )
        y += tall + GAP
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y:.0f}"'
        f' width="{WIDTH}" height="{y:.0f}">{"".join(parts)}</svg>'
    )


def _images(split: Split, places: np.ndarray) -> np.ndarray:
    """(n, H, W, C) as floats."""
    return np.asarray(as_floats(jnp.asarray(split.examples(places)[0])), np.float64)


def _mean(split: Split) -> np.ndarray:
    """(H, W, C) the mean image; few images of a large size are in memory at a time."""
    total = np.zeros(split.example_shape)
    for images, _ in split.batches(64):
        total += np.asarray(as_floats(jnp.asarray(images)), np.float64).sum(axis=0)
    return total / len(split)


def _masked(text: str, x: np.ndarray, shape: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Centered images under a noise, and the share of values that each has lost."""
    noise = parse_noise(text, shape)
    flat = jnp.asarray(x.reshape(len(x), -1))
    key = jax.random.key(0)
    ones = np.asarray(noise.sample(key, jnp.ones_like(flat)))
    kept = np.asarray(noise.sample(key, flat)).reshape(x.shape)
    return kept, (ones == 0).mean(axis=1)


def _displayed(images: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """In [0, 1], by the range of other images, in colors or gray."""
    low, high = display_range(_channels(reference))
    return np.clip((_channels(images) - low) / (high - low), 0, 1)


def _channels(images: np.ndarray) -> np.ndarray:
    """All of 1 or 3 channels; of others, the first."""
    return images if shown_channels(images.shape[-1]) is None else images[..., :1]


def _data(image: np.ndarray) -> str:
    """A picture (H, W, 1 or 3) in [0, 1] as a data address."""
    pixels = np.round(255 * image).astype(np.uint8)
    picture = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    if max(picture.size) > LARGEST:
        picture.thumbnail((LARGEST, LARGEST))
    stored = io.BytesIO()
    if max(picture.size) <= LOSSLESS:
        picture.save(stored, "PNG", optimize=True)
        kind = "png"
    else:
        picture.save(stored, "JPEG", quality=88)
        kind = "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(stored.getvalue()).decode()}"
