"""How figures look, and how they are written."""

import os
from typing import Any

from matplotlib.figure import Figure

from reconjax.storage.files import replacing

STYLE: Any = {
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 11,
    "font.size": 10,
    "grid.alpha": 0.25,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "savefig.bbox": "tight",
}


def save(figure: Figure, path: str | os.PathLike[str], *, dpi: int = 110) -> None:
    """Writes the figure, whole or not at all; the suffix gives the format.

    Args:
      figure: from a function of this package.
      path: of the file.
      dpi: dots per inch of pixel formats.

    Raises:
      OSError: the file cannot be written; what was there stays.

    Example:
      >>> import os, tempfile
      >>> from matplotlib.figure import Figure
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     reconjax.plots.save(Figure(), folder + "/empty.png")
      ...     os.listdir(folder)
      ['empty.png']
    """
    with replacing(path) as part:
        figure.savefig(part, dpi=dpi)
