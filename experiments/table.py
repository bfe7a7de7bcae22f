"""Tables in CSV files that several processes add rows to, each row a named tuple."""

import csv
import fcntl
import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from reconjax.storage.files import replacing


def lines(path: Path, kind: Any) -> Iterator[Any]:
    """The lines of a file as named tuples of this kind, by the types of its fields.

    None where there is no file.
    """
    if not path.exists():
        return
    # The annotations of a NamedTuple are its types.
    types = kind.__annotations__
    with path.open(newline="") as file:
        for line in csv.DictReader(file):
            # The last line of a run that was killed may be cut short.
            if list(line) == list(types) and line[kind._fields[-1]]:
                yield kind(*(types[name](value) for name, value in line.items()))


def append(path: Path, rows: Sequence[Any]) -> None:
    """Adds rows of one kind at the end of a file, which is made where there is none."""
    with path.open("a+", newline="") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # until it is closed
        file.seek(0)
        known = file.read()
        # A run that was killed did not end its line.
        text = io.StringIO("" if known.endswith("\n") or not known else "\n")
        writer = csv.writer(text, lineterminator="\n")
        text.seek(0, io.SEEK_END)
        if not known:
            writer.writerow(rows[0]._fields)
        writer.writerows(rows)
        file.write(text.getvalue())


def write(path: Path, fields: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Writes a table, whole or not at all."""
    with replacing(path) as part, part.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(fields)
        writer.writerows(rows)
