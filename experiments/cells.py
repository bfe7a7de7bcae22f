"""What experiments that are tables of trained networks share: their options, and who trains what.

A cell is a set, a network and what is asked of it, with all its seeds. It is kept as soon as it is
there: killed and started again, a run goes on. The same command may run several times at once; a
cell that one process works at is left alone by the others.
"""

import argparse
import contextlib
import fcntl
import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from experiments import report
from reconjax.studies.progress import say


def parser(
    prog: str,
    description: str | None,
    *,
    data: Sequence[str],
    nets: Sequence[str],
    seeds: int,
    images: int,
) -> argparse.ArgumentParser:
    """The options of all of them, with the defaults of one."""
    made = argparse.ArgumentParser(
        prog=prog,
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--out", type=Path, required=True, help="folder for tables and pictures")
    made.add_argument("--data", nargs="+", default=list(data), help="sets of classes")
    made.add_argument("--data-dir", type=Path, help="prepared TFDS sets, where they are used")
    made.add_argument("--nets", nargs="+", choices=nets, default=list(nets))
    made.add_argument("--seeds", type=int, default=seeds, help="networks of each cell")
    made.add_argument("--images", type=int, default=images, help="that a training sees")
    made.add_argument("--samples", type=int, default=16_000, help="of a training split")
    made.add_argument("--minutes", type=float, help="begin no cell after so long")
    return made


def parsed(
    parser: argparse.ArgumentParser, argv: Sequence[str] | None, *, images: int, samples: int
) -> Any:
    """The options; ends the program where there are fewer seeds than two, or of these than this."""
    options = parser.parse_args(argv)
    if options.seeds < 2:
        parser.error(f"--seeds: {options.seeds}; at least 2 are needed, for how much they differ")
    for name, least in (("images", images), ("samples", samples)):
        if getattr(options, name) < least:
            parser.error(f"--{name}: {getattr(options, name)}; at least {least} are needed")
    options.out.mkdir(parents=True, exist_ok=True)
    return options


def train_missing(
    cells: Sequence[Any], options: Any, missing: Callable[[Any], bool], train: Callable[[Any], None]
) -> None:
    """Trains the cells that are missing and that no other process works at, until time is over."""
    started = time.monotonic()
    for place, cell in enumerate(cells):
        if options.minutes is not None and time.monotonic() - started > 60 * options.minutes:
            say(f"the time is over; {place} of {len(cells)} cells are done with")
            return
        begun = time.monotonic()
        with claimed(options.out, cell) as mine:
            if not (mine and missing(cell)):
                continue
            try:
                train(cell)
            except (OSError, ValueError, ImportError) as error:
                report.fail(str(error))
        say(f"{cell}: {place + 1} of {len(cells)}, {time.monotonic() - begun:.0f} s")


@contextlib.contextmanager
def claimed(folder: Path, work: Any, wait: bool = False) -> Iterator[bool]:
    """Whether no other process of this machine works at the same, until the context is left.

    It may have been done in the meantime. With `wait`, waits until no other works at it. A process
    that was killed claims nothing.
    """
    claims = folder / ".claims"
    claims.mkdir(exist_ok=True)
    path = claims / hashlib.sha256(repr(work).encode()).hexdigest()[:16]
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        try:
            yield True
        finally:
            path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                claims.rmdir()  # the last one
