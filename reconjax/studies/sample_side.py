"""Which side a study is solved on: (D, D) moments, or (N, N) matrices of fewer samples."""

from typing import Literal, get_args

import jax.numpy as jnp
import numpy as np

from reconjax.data.targets import strata
from reconjax.grid.stored_samples import Samples, samples, samples_memory
from reconjax.linalg.eigen import inverse_root
from reconjax.linalg.precision import highest
from reconjax.studies.source import Source
from reconjax.summary.folds import stratified
from reconjax.theory.held_out import explained_by_task, nested_loss

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


def principal_side(source: Source) -> Samples:
    """The samples of both splits, for curves without noise alone; see `held_out_of`."""
    images, labels = source.in_memory(source.train, "samples")
    test = None
    if source.test_folds and source.test is not None:
        test = source.in_memory(source.test, "test samples")
    return samples(images, labels, test=test, num_classes=source.num_classes)


def held_out_of(data: Samples, tasks: tuple[int, ...] | None) -> dict[str, np.ndarray]:
    """`held_out` (D,) of heads on K principal directions, and (T, D) by task; as `held_out_r2`.

    The features of a new sample x are d^-½ Pᵀ x = d⁻¹ Uᵀ A x: nothing of size D is made.
    """
    if data.test is None:
        return {}
    principal, labels = data.spectrum, data.test.labels
    count, features = len(labels), principal.features
    rank = principal.eigenvalues.shape[0]
    with highest:
        codes = (inverse_root(principal.eigenvalues) ** 2)[:, None] * data.test.cross[:rank]
        gram, cross = codes @ codes.T / count, codes @ labels / count
        variances = jnp.sum(labels**2, axis=0) / count
        heads, total = principal.labels.T, jnp.sum(variances)
        curves = {"held_out": 1 - nested_loss(heads, cross, gram, total) / total}
        if tasks:
            by_task = explained_by_task(heads, cross, gram, variances, tasks)
            curves["held_out_by_task"] = by_task.T
    padding = features - rank
    return {
        name: np.pad(curve, [(0, 0)] * (curve.ndim - 1) + [(0, padding)], mode="edge")
        for name, curve in curves.items()
    }


def inputs_side(source: Source) -> Samples:
    """The samples that the encoder learns from, for studies that look at no labels.

    Raises:
      ValueError: they do not fit into memory.
    """
    size = sum(map(len, source.encoded))
    stored = source.train.examples(np.arange(1))[0].dtype.itemsize
    needed = samples_memory(size, source.features, itemsize=stored)
    source.check_memory(needed, f"{size} samples on the sample side", by_samples=True)
    parts = [source.in_memory(split, "samples")[0] for split in source.encoded]
    images = parts[0] if len(parts) == 1 else np.concatenate(parts)
    # Any labels will do.
    return samples(images, np.arange(size) % 2, num_classes=2)


def sample_side(source: Source, batch_size: int, clean: bool) -> Samples:
    """The samples of the training split, and those of the test split where there is one."""
    size, folds = len(source.train), source.test_folds if clean else 0
    stored = source.train.examples(np.arange(1))[0].dtype.itemsize
    needed = samples_memory(size, source.features, batch_size, stored)
    source.check_memory(needed, f"{size} samples on the sample side", by_samples=True)
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
