"""A bar for long work, and lines about it; of several processes, the first alone shows them."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import numpy as np

from reconjax.summary import hosts

# Work that takes less is over before a bar could be read.
PATIENCE = 1.0
# What was said already, where it is not to be repeated.
_said: set[str] | None = None


def unseen(count: int = 1, label: str | None = None) -> None:
    """What counts where no bar is shown: compiled programs need not call it."""


@contextmanager
def progress_bar(label: str, total: int, shown: bool = True) -> Iterator[Callable[..., None]]:
    """Yields a function that counts, `count(1)` or `count(1, label)`, with a bar after a second.

    In a file nothing is written, and of several processes the first alone shows a bar; the others
    get `unseen`.
    """
    if not (shown and hosts.first() and sys.stderr.isatty()):
        yield unseen
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    bar = Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True)
    task, start = bar.add_task(label, total=total), time.monotonic()

    def advance(count: int = 1, label: str | None = None) -> None:
        bar.update(task, advance=count, description=label)
        if not bar.live.is_started and time.monotonic() - start > PATIENCE:
            bar.start()

    try:
        yield advance
    finally:
        if bar.live.is_started:
            bar.stop()


def counted(
    batches: Iterable[tuple[np.ndarray, np.ndarray]], count: Callable[[int], None], labeled: bool
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Batches whose examples are counted; without labels, with any that there are."""
    for images, labels in batches:
        # 8-bit images with labels are summed without rounding: any two classes will do.
        yield images, labels if labeled else np.arange(len(images)) % 2
        count(len(labels))


@contextmanager
def each_line_once() -> Iterator[None]:
    """Within it no line is said twice: several studies of the same data have the same to say."""
    global _said
    before, _said = _said, set()
    try:
        yield
    finally:
        _said = before


def say(line: str) -> None:
    """Writes a line to stderr, on the first process alone."""
    if _said is not None:
        if line in _said:
            return
        _said.add(line)
    if hosts.first():
        print(line, file=sys.stderr)
