"""`reconjax project`."""

import json
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

import reconjax
from reconjax.cli.options import (
    GRID,
    OUTPUT,
    DataOptions,
    Hosts,
    Name,
    Output,
    Whole,
    first_process,
)
from reconjax.cli.options import command as new_command
from reconjax.cli.tables import facts, headline, say_files
from reconjax.storage.files import output_folder

command = new_command(
    "project",
    """
reconjax project digits
reconjax project cifar10 --variance 0.75 --images 8 --out out
reconjax project bands.npz --channel 4
""",
)


@command.default
def project(
    data: Name = "digits",
    /,
    *,
    variance: Annotated[float, Parameter(group=GRID)] = 0.75,
    images: Annotated[Whole, Parameter(group=GRID)] = 8,
    channel: Annotated[Whole | None, Parameter(group=OUTPUT)] = None,
    reading: DataOptions = DataOptions(),  # noqa: B008 - frozen
    output: Output = Output(),  # noqa: B008
    hosts: Hosts = Hosts(),  # noqa: B008
) -> None:
    """Write project.png: images, their top and their bottom subspace side by side.

    Parameters
    ----------
    variance
        Share of the pixel variance that the top part explains.
    images
        The number of images.
    channel
        Show this one alone, from 0 on (all of 1 or 3, else some).
    """
    folder = output.out or Path()
    if first_process():
        output_folder(folder)
    result = reconjax.studies.project(
        data, variance=variance, images=images, out=output.out, **reading.keywords()
    )
    if not first_process():
        return
    from reconjax.plots import save, subspace_figure
    from reconjax.plots.pictures import channels_note

    save(subspace_figure(result, channel=channel), folder / "project.png", dpi=130)
    top, bottom = result.attrs["top_directions"], result.attrs["bottom_directions"]
    record = {
        **facts(result),
        "variance": variance,
        "top_directions": top,
        "bottom_directions": bottom,
        "picture": str(folder / "project.png"),
        "channels_shown": _channels(result.sizes["channel"], channel),
    }
    if output.json:
        print(json.dumps(record))
        return
    print(headline(result))
    print(
        f"{top} directions explain {variance:.0%} of the pixel variance;"
        f" the other {bottom} the rest"
    )
    channels = result.sizes["channel"]
    if channel is None and (note := channels_note(channels)):
        print(f"the picture shows {note} (--channel shows one)")
    say_files(folder, "project.png", *(["project.nc"] if output.out is not None else []))


def _channels(channels: int, only: int | None) -> list[int]:
    """Those that the picture shows."""
    from reconjax.plots.pictures import shown_channels

    return [only] if only is not None else shown_channels(channels) or list(range(channels))
