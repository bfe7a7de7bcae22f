"""Images on the subspace that explains most of the pixels, and on what is left (Fig. 10)."""

import os
from typing import Unpack

import jax.numpy as jnp
import numpy as np
import xarray

from reconjax.data import Dataset
from reconjax.data.layout import shape_text
from reconjax.data.units import as_floats
from reconjax.linalg.precision import in_float64
from reconjax.storage.files import output_folder
from reconjax.studies.labeled import labeled, save
from reconjax.studies.limits import check_whole
from reconjax.studies.reading import Reading
from reconjax.studies.source import Source
from reconjax.summary import hosts
from reconjax.theory import projection
from reconjax.theory.spectrum import top_directions

# Images in a picture at most.
MOST = 64


@in_float64
def project(
    data: str | Dataset = "digits",
    *,
    variance: float = 0.75,
    images: int = 8,
    out: str | os.PathLike[str] | None = None,
    **reading: Unpack[Reading],
) -> xarray.Dataset:
    """Some images, of the test split where there is one, on the top and on the bottom subspace.

    Args:
      data: a name, as for `reconjax.data.load`, or a data set of images.
      variance: share of the pixel variance that the top subspace explains, in [0, 1].
      images: how many, 1 .. 64; drawn at random.
      out: a folder, in which `project.nc` is written.
      **reading: see `reconjax.studies.Reading`.

    Returns:
      A dataset over `example`, `height`, `width` and `channel`: `images`, `top` (with the mean
      image) and `bottom` (without it); `labels`, and `class_name` beside them. Its attributes have
      `variance`, `top_directions`, `bottom_directions` and the rank.

    Raises:
      ValueError: an option out of range; vectors, or moments.
      FileNotFoundError: no data has that name.

    Example:
      >>> result = reconjax.studies.project("digits", variance=0.75, images=2)
      >>> result.top.shape, result.attrs["top_directions"]
      ((2, 8, 8, 1), 11)
    """
    check_whole("images", images)
    if not 1 <= images <= MOST:
        raise ValueError(f"images: {images}; 1 .. {MOST} is allowed, in whole numbers")
    if not 0 <= variance <= 1:
        raise ValueError(f"variance: {variance}; 0 .. 1 is allowed")
    source = Source(data, **reading)
    source.leave_out_unlabeled()
    if source.dataset is None:
        raise ValueError("data: moments; project needs a data set of images")
    names, shape = source.dataset.class_names, source.dataset.image_shape
    if len(shape) != 3:
        what = shape_text(shape)
        raise ValueError(f"data: {source.name} holds {what}; this needs images (N, H, W, C)")
    folder = output_folder(out) if out is not None and hosts.first() else None
    principal = source.spectrum(variance)
    shown = (source.test or source.train).sample(images, source.seed)
    raw, labels = shown.examples(np.arange(len(shown)))
    pixels = np.asarray(as_floats(jnp.asarray(raw))).reshape(len(shown), *shape)
    count = int(top_directions(principal, variance, None, "top"))
    bottom = projection.project(
        principal, pixels, variance=1 - variance, subspace="bottom", keep_mean=False
    )
    axes = ["example", "height", "width", "channel"]
    rank = int(principal.rank)
    result = labeled(
        "project",
        source,
        {
            "images": (axes, pixels),
            "top": (axes, projection.project(principal, pixels, variance=variance)),
            "bottom": (axes, bottom),
            "labels": (["example", "target"][: labels.ndim], labels),
        },
        {},
        {
            "samples": int(principal.samples),
            "features": principal.features,
            "rank": rank,
            "variance": float(variance),
            "top_directions": count,
            "bottom_directions": rank - count,
        },
        {"variance": variance, "images": images},
    )
    real = [f"{row[0]:.3g}" for row in labels] if labels.ndim == 2 else None
    class_names = np.asarray(real or [names[label] for label in labels])
    result = result.assign_coords(class_name=("example", class_names))
    if folder is not None:
        save(result, folder / "project.nc")
    return result
