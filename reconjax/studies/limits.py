"""What the numbers that users give must be, and what a device has room for."""

import os
from collections.abc import Sequence

import jax
import numpy as np

from reconjax.grid.stored_samples import samples_that_fit


def check_whole(name: str, value: object, least: int | None = None) -> None:
    """Raises ValueError unless the value is None, or a whole number that is large enough.

    2.5 is not rounded, and True is no number.
    """
    if value is None:
        return
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not whole or (least is not None and value < least):  # type: ignore[operator]
        wanted = "a whole number" if least is None else f"a whole number, at least {least},"
        raise ValueError(f"{name}: {value}; {wanted} is needed")


def check_fits(
    name: str,
    what: str,
    needed: float,
    there: float,
    features: int,
    shape: Sequence[int],
    samples: bool,
    by_samples: bool = False,
) -> None:
    """Refuses what does not fit, and says what would: smaller images, or fewer samples.

    Args:
      name: of the data.
      what: needs memory.
      needed: bytes, in proportion to D² unless `by_samples`.
      there: bytes.
      features: D.
      shape: of an example; () where it is not known.
      samples: whether the sample side is open.
      by_samples: whether it is the sample side that needs them.

    Raises:
      ValueError: one line.
    """
    if needed <= there:
        return
    ways = []
    fewer = int(features * (there / needed) ** 0.5)
    if len(shape) == 3 and shape[1] > 1 and not by_samples:
        height, width, channels = shape
        scale = (fewer / features) ** 0.5
        smaller = int(height * scale), int(width * scale)
        if min(smaller) > 0:
            size = "x".join(map(str, dict.fromkeys(smaller)))
            ways.append(f"--resize {size} (D = {smaller[0] * smaller[1] * channels})")
    elif fewer > 0 and not by_samples:
        ways.append(f"{fewer} features")
    most = samples_that_fit(int(there), features)
    if samples and 1 < most < features:
        ways.append(f"--max-samples {most}" + ("" if by_samples else ", by samples"))
    raise ValueError(
        f"{name}: {what} of D = {features} features need about {needed / 2**30:.3g} GiB;"
        f" {there / 2**30:.3g} GiB are there (--memory)"
        + (f"; what fits: {' or '.join(ways)}" if ways else "")
    )


def device_memory() -> float:
    """Bytes of the first device, or of the machine where that is not known."""
    statistics = jax.local_devices()[0].memory_stats() or {}
    if limit := statistics.get("bytes_limit"):
        return float(limit)
    return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
