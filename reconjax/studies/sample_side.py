"""Which side a study is solved on: (D, D) moments, or (N, N) matrices of fewer samples."""

from typing import Literal, get_args

import numpy as np

from reconjax.data.targets import strata
from reconjax.grid.stored_samples import Samples, samples, samples_memory
from reconjax.studies.source import Source
from reconjax.summary.folds import stratified

Side = Literal["auto", "features", "samples"]


def solved_by_samples(source: Source, side: str, readout: str, devices: int | None) -> bool:
    """Whether a grid is solved on the sample side.

    By itself that is so for fewer samples than features, where every matrix is smaller and smooth
    images lose less in rounding. Not for a noisy read-out with a test split, of which the sample
    side has no held-out curve, as long as (D, D) moments fit.

    Args:
      source: the data.
      side: "auto", "features" or "samples".
      readout: "clean" or "noisy".
      devices: how many are to share the grid; the sample side uses one.

    Raises:
      ValueError: another side, or the sample side of data or options that it does not know.
    """
    if side not in get_args(Side):
        raise ValueError(f"side: {side!r}; one of {', '.join(get_args(Side))}")
    if side == "features":
        return False
    if side == "auto":
        held_out = readout == "noisy" and source.test_folds > 0 and source.moments_fit()
        return source.by_samples and not held_out and devices in (None, 1)
    if (why := source.needs_moments) is not None:
        raise ValueError(f"side: 'samples' does not apply to {why}")
    if devices not in (None, 1):
        raise ValueError(f"devices: {devices}; on the sample side 1 alone is allowed")
    return True


def sample_side(source: Source, batch_size: int, clean: bool) -> Samples:
    """The samples of the training split, and those of the test split where there is one."""
    size, folds = len(source.train), source.test_folds if clean else 0
    stored = source.train.examples(np.arange(1))[0].dtype.itemsize
    needed = samples_memory(size, source.features, batch_size, stored)
    source.check_memory(needed, f"{size} samples on the sample side")
    images, labels = source.in_memory(source.train, "samples")
    if not folds or source.test is None:
        return samples(images, labels, num_classes=source.num_classes)
    return samples(
        images,
        labels,
        test=source.in_memory(source.test, "test samples"),
        folds=stratified(strata(source.test.labels), folds, seed=source.seed),
        num_classes=source.num_classes,
    )
