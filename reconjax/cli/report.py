"""`reconjax report`."""

import json
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

import reconjax
from reconjax.cli.options import GRID, OUTPUT, DataOptions, Name, Output, Whole
from reconjax.cli.options import command as new_command

command = new_command(
    "report",
    """
reconjax report digits --out out
reconjax report cifar10 --latent-dim 96 --out out
reconjax report photos/ --resize 64 --patches 8 16 --out out
""",
)


@command.default
def report(
    data: Name = "digits",
    /,
    *,
    patches: Annotated[list[str] | None, Parameter(group=GRID)] = None,
    ratios: Annotated[list[float] | None, Parameter(group=GRID)] = None,
    latent_dim: Annotated[Whole | None, Parameter(group=GRID)] = None,
    show: Annotated[bool, Parameter(group=OUTPUT)] = False,
    reading: DataOptions = DataOptions(),  # noqa: B008 - frozen
    output: Output = Output(out=Path("report")),  # noqa: B008
) -> None:
    """Write report.html, one page that says all: alignment, masks, objectives, what to train.

    Studies that the other commands have finished in --out are taken up; what was killed goes on.

    Parameters
    ----------
    patches
        Of masks: 4, or height x width 4x2 (by image size).
    ratios
        Shares dropped, in [0, 1) (0 0.25 0.5 0.75 0.9 0.99).
    latent_dim
        K at which the page opens: what your head reads, or the encoder's width (16 or 64).
    show
        Open the page in a browser.
    """
    path = reconjax.report.write(
        data,
        out=output.out or Path("report"),
        patches=patches,
        ratios=ratios,
        latent_dim=latent_dim,
        **reading.keywords(),
    )
    if show:
        import webbrowser

        webbrowser.open(path.resolve().as_uri())
    if output.json:
        print(json.dumps({"page": str(path), "bytes": path.stat().st_size}))
        return
    print(f"wrote {path}")
