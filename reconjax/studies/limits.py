"""What the numbers that users give must be, and what a device has room for."""

import os

import jax
import numpy as np


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


def device_memory() -> float:
    """Bytes of the first device, or of the machine where that is not known."""
    statistics = jax.local_devices()[0].memory_stats() or {}
    if limit := statistics.get("bytes_limit"):
        return float(limit)
    return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
