"""Moments of samples without labels, batch by batch, in float64 whatever JAX is set to."""

import contextlib
from collections.abc import Iterator

import jax
import numpy as np

from reconjax.summary.moments import Moments, batch_moments
from reconjax.summary.union import merge

ROWS = 4096
FEWEST = 16


@contextlib.contextmanager
def in_float64() -> Iterator[None]:
    """Within it, JAX computes in float64; on the host where the accelerator has none."""
    host = jax.local_devices(backend="cpu")[0] if jax.default_backend() == "tpu" else None
    there = contextlib.nullcontext() if host is None else jax.default_device(host)
    with jax.enable_x64(True), there:
        yield


def with_batch(before: Moments | None, x: np.ndarray) -> Moments:
    """The moments of all samples so far: those before, if any, and x (N, D), N >= 1.

    Returns:
      `Moments` in NumPy's arrays, which stay float64 outside `in_float64`, also when unpickled.
      Their one target is 0 throughout.
    """
    total = before
    with in_float64():
        for start in range(0, len(x), ROWS):
            part = x[start : start + ROWS]
            # Filled up with samples of weight 0: few sizes are compiled, whatever the batches.
            size = max(FEWEST, 1 << (len(part) - 1).bit_length())
            filled = np.zeros((size, x.shape[1]), x.dtype)
            filled[: len(part)] = part
            present = (np.arange(size) < len(part)).astype(np.float64)
            batch = batch_moments(
                filled, np.zeros((size, 1)), present, dtype=np.float64, num_classes=None
            )
            total = batch if total is None else merge(total, batch)
        return jax.tree.map(np.asarray, total)
