"""Images of any number of channels and any units as rows of pictures."""

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from reconjax.plots.style import STYLE

# Of images that are neither gray nor of three colors, so many channels are shown.
CHANNELS = 3


def shown_channels(channels: int) -> list[int] | None:
    """Which channels get a row of their own; None where all make one picture (1, or 3 colors)."""
    if channels in (1, 3):
        return None
    return sorted({round(i * (channels - 1) / (CHANNELS - 1)) for i in range(CHANNELS)})


def channels_note(channels: int) -> str:
    """Words for what is shown of images of so many channels; "" where it is all."""
    some = shown_channels(channels)
    if some is None or len(some) == channels:
        return ""
    return f"channels {', '.join(map(str, some))} of {channels}, from 0"


def display_range(images: np.ndarray) -> tuple[float, float]:
    """The values that are shown black and white: 0 and 1, or the extremes of data beyond them."""
    low, high = float(images.min()), float(images.max())
    if low >= 0 and high <= 1:
        return 0.0, 1.0
    return low, (high if high > low else low + 1.0)


def picture_rows(
    images: ArrayLike,
    rows: Mapping[str, ArrayLike],
    *,
    about_gray: Sequence[str] = (),
    names: Sequence[str] | None = None,
    title: str,
) -> Figure:
    """A row of pictures for each entry; for 2 or more than 3 channels one for some channels each.

    Args:
      images: (n, H, W, C), whose range is that of the pictures: [0, 1], or their extremes where
        they go beyond it, for each channel that is shown by itself.
      rows: name -> (n, H, W, C) in the units of the images.
      about_gray: names of rows whose 0 is gray, stretched so that 99 % of their values fit.
      names: (n,) titles of the columns.
      title: above the figure.
    """
    images = np.asarray(images)
    count, *_, channels = images.shape
    some = shown_channels(channels)
    views = [slice(None)] if some is None else [slice(channel, channel + 1) for channel in some]
    height = 1.45 * len(rows) * len(views) + 0.5 + 0.25 * (names is not None)
    with matplotlib.rc_context({**STYLE, "axes.grid": False}):
        figure = Figure(figsize=(1.35 * count + 1.5, height), layout="constrained")
        panels = figure.subplots(len(rows) * len(views), count, squeeze=False)
        lines = [(name, view) for name in rows for view in views]
        for panel, (name, view) in zip(panels, lines, strict=True):
            part = np.asarray(rows[name])[..., view]
            if name in about_gray:
                reach = max(float(np.quantile(np.abs(part), 0.99)), 1e-12)
                part = 0.5 + 0.5 * part / reach
            else:
                low, high = display_range(images[..., view])
                part = (part - low) / (high - low)
            for axes, picture in zip(panel, np.clip(part, 0, 1), strict=True):
                _picture(axes, picture)
            label = name if some is None else f"{name}\nchannel {view.start}"
            panel[0].set_ylabel(label, fontsize=10 if some is None else 8)
        for axes, text in zip(panels[0], names or [""] * count, strict=True):
            axes.set_title(text.replace(", ", ",\n"), fontsize=9)
        note = channels_note(channels)
        figure.suptitle(f"{title}; {note}" if note else title)
    return figure


def _picture(axes: Axes, picture: np.ndarray) -> None:
    gray = picture.shape[-1] == 1
    shown = picture[..., 0] if gray else picture
    # Low and wide "images", as of series, are drawn as high as they are wide.
    flat = max(shown.shape[:2]) > 4 * min(shown.shape[:2])
    axes.imshow(
        shown,
        cmap="gray" if gray else None,
        vmin=0,
        vmax=1,
        aspect="auto" if flat else "equal",
    )
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
