"""Rows of trained networks in CSV files: one row for each time at which a network was measured."""

import csv
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from reconjax.storage.files import replacing


class Row(NamedTuple):
    """A network at one time of its training.

    Attributes:
      data: the name of the set.
      net: of the network.
      block: side of the blocks that are masked, in patches of the network.
      kept: how many of them are seen, 0 where nothing is masked.
      ratio: the share of the image that is masked.
      seed: of the network.
      length: images that the whole training sees.
      images: images that were seen so far.
      loss: of the training's objective, on the test split.
      r2: of the linear probe, on the test split.
      accuracy: of the same probe.
      neighbors: accuracy of the 20 nearest neighbors; at the end alone.
      class_r2: of the linear probe for each class, separated by spaces; at the end alone.
      device: what it was trained on, and by which version of JAX.
    """

    data: str
    net: str
    block: int
    kept: int
    ratio: float
    seed: int
    length: int
    images: int
    loss: float
    r2: float
    accuracy: float
    neighbors: str
    class_r2: str
    device: str

    @property
    def cell(self) -> tuple[Any, ...]:
        """What is trained together: all seeds."""
        return self.data, self.net, self.block, self.kept, self.length

    @property
    def last(self) -> bool:
        """Whether the training was over."""
        return self.images == self.length


def lines(path: Path, kind: Any) -> Iterator[Any]:
    """The lines of a file as named tuples of this kind, by the types of its fields."""
    # The annotations of a NamedTuple are its types.
    types = kind.__annotations__
    with path.open(newline="") as file:
        for line in csv.DictReader(file):
            # The last line of a run that was killed may be cut short.
            if list(line) == list(types) and line[kind._fields[-1]]:
                yield kind(*(types[name](value) for name, value in line.items()))


def read(folder: Path) -> list[Row]:
    """The rows of all files `cells*.csv` of a folder, sorted; each once."""
    return sorted({row for path in folder.glob("cells*.csv") for row in lines(path, Row)})


def finished(rows: Iterable[Row], seeds: int) -> set[tuple[Any, ...]]:
    """The cells of which so many seeds are trained to the end."""
    ends = {(row.cell, row.seed) for row in rows if row.last}
    counts = Counter(cell for cell, _ in ends)
    return {cell for cell, count in counts.items() if count >= seeds}


def append(path: Path, rows: Sequence[Any]) -> None:
    """Adds rows of one kind at the end of a file, which is made where there is none."""
    cells = [list(row) for row in rows]
    if path.exists() and not path.read_text().endswith("\n"):
        cells.insert(0, [])  # ends the line that a run which was killed did not
    with path.open("a", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        if file.tell() == 0:
            writer.writerow(rows[0]._fields)
        writer.writerows(cells)


def write(path: Path, fields: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Writes a table, whole or not at all."""
    with replacing(path) as part, part.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(fields)
        writer.writerows(rows)


def merge(folder: Path) -> list[Row]:
    """The rows of `read`, which `cells.csv` alone then holds."""
    rows = read(folder)
    write(folder / "cells.csv", Row._fields, rows)
    for path in folder.glob("cells-*.csv"):
        path.unlink()
    return rows
