"""`write`: studies, and the page about them."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Unpack

from reconjax.data import Dataset
from reconjax.linalg.precision import in_float64
from reconjax.report.gathering import gather
from reconjax.report.page import page
from reconjax.storage.files import output_folder, replacing
from reconjax.studies.axes import Patch
from reconjax.studies.progress import each_line_once
from reconjax.studies.reading import Reading

FILE = "report.html"


@in_float64
def write(
    data: str | Dataset = "digits",
    *,
    out: str | os.PathLike[str],
    patches: Sequence[Patch] | None = None,
    ratios: Sequence[float] | None = None,
    latent_dim: int | None = None,
    **reading: Unpack[Reading],
) -> Path:
    """Makes the studies of a data set that are not finished yet, and a page about all of them.

    The page is one HTML file that needs no network: what the data are, how far reconstruction is
    aligned with the labels, which mask and which objective help, what can never help, and what to
    train. What `reconjax align`, `sweep`, `objectives`, `detect`, `project` and `advise --train`
    have written into the folder is taken up; a run that was killed goes on.

    Args:
      data: a name, as for `reconjax.data.load`, or a data set, with labels.
      out: the folder of the page, `report.html`, and of the studies' files.
      patches: of masks, as in `reconjax.studies.sweep`.
      ratios: see `patches`.
      latent_dim: K at which the page opens, what your head reads or the width of your encoder; by
        default the largest of 1, 4, 16 and 64 that is at most half of the number of features.
      **reading: see `reconjax.studies.Reading`. Where there is no test split, `test_share` is 0.2,
        for what is chosen on some samples is to be judged on others.

    Returns:
      The path of the page.

    Raises:
      ValueError: an option out of range, data without labels, or a folder with a study of other
        data, of other settings than those asked for, or of another version.
      FileNotFoundError: no data has that name.

    Example:
      >>> import tempfile
      >>> x, y = np.random.default_rng(0).integers(0, 256, (280, 12, 12, 1)), np.arange(280) % 3
      >>> split = x[:200].astype(np.uint8), y[:200], x[200:].astype(np.uint8), y[200:]
      >>> data = reconjax.data.Dataset.from_arrays(*split, name="random")
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     grid = dict(patches=[2, 4], ratios=[0, 0.5, 0.9], progress=False)
      ...     path = reconjax.report.write(data, out=folder, **grid)
      ...     path.name, "</html>" in path.read_text()
      ('report.html', True)
    """
    folder = output_folder(out)
    name = data if isinstance(data, str) else data.name
    with each_line_once():
        results = gather(data, folder, patches, ratios, latent_dim, reading)
    with replacing(folder / FILE) as part:
        part.write_text(page(results, name, latent_dim), encoding="utf-8")
    return folder / FILE
