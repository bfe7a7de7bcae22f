"""`reconjax project`."""

import argparse
import json
from typing import Any

import numpy as np

from reconjax.cli.inputs import dataset, spectrum
from reconjax.cli.printing import facts, headline, say_files
from reconjax.data.units import as_floats
from reconjax.storage.files import output_folder
from reconjax.summary import hosts


def run(options: argparse.Namespace) -> None:
    """Writes project.png: images, their top and their bottom subspace side by side."""
    folder = output_folder(options.out or ".")
    if not 1 <= options.images <= 64:
        raise ValueError(f"--images: {options.images}; 1 .. 64")
    channels = dataset(options).image_shape[2]  # vectors make no pictures
    data, principal = dataset(options), spectrum(options)
    if not hosts.first():
        return
    from reconjax.plots import save, subspace_figure
    from reconjax.plots.pictures import channels_note, shown_channels

    shown = (data.test or data.train).sample(options.images, options.seed)
    raw, labels = shown.examples(np.arange(len(shown)))
    images = np.asarray(as_floats(raw))
    figure, count = subspace_figure(
        principal,
        images,
        options.variance,
        names=_names(data, labels),
        title=f"{data.name}: what explains the pixels, and what is left",
    )
    rank = int(principal.rank)
    save(figure, folder / "project.png", dpi=130)
    result = {
        **facts(data, principal),
        "variance": options.variance,
        "top_directions": count,
        "bottom_directions": rank - count,
        "picture": str(folder / "project.png"),
        "channels_shown": shown_channels(channels) or list(range(channels)),
    }
    if options.json:
        print(json.dumps(result))
        return
    print(headline(result))
    print(
        f"{count} directions explain {options.variance:.0%} of the pixel variance;"
        f" the other {rank - count} the rest"
    )
    if note := channels_note(channels):
        print(f"shown are {note}")
    say_files(folder, "project.png")


def _names(data: Any, labels: np.ndarray) -> list[str]:
    """The classes of examples, or their first real target."""
    if data.num_classes:
        return [data.class_names[label] for label in labels]
    return [f"{row[0]:.3g}" for row in labels]
