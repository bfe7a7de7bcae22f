"""The package `datasets`: imported where it is needed, quiet, its errors in a line."""

import contextlib
from collections.abc import Iterator
from typing import Any


def datasets_package(what: str) -> Any:
    """The package `datasets`. Raises ImportError that says that `what` needs it."""
    try:
        import datasets
    except ImportError:
        raise ImportError(f"{what} needs datasets: pip install 'reconjax[hf]'") from None
    return datasets


@contextlib.contextmanager
def quiet(package: Any) -> Iterator[None]:
    """Without bars and advice of the package."""
    shown = not package.are_progress_bars_disabled()
    level = package.logging.get_verbosity()
    package.disable_progress_bars()
    package.logging.set_verbosity_error()
    try:
        yield
    finally:
        package.logging.set_verbosity(level)
        if shown:
            package.enable_progress_bars()


def cause(error: Exception) -> str:
    """The first line of the error that another was raised for."""
    while isinstance(error.__cause__, Exception):
        error = error.__cause__
    first, *_ = str(error).strip().splitlines() or [type(error).__name__]
    return first if len(first) <= 200 else f"{first[:200]}..."
