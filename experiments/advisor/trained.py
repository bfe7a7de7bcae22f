"""Rows of trained networks: one for each time at which a network was measured."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from experiments import table


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


def read(folder: Path) -> list[Row]:
    """Those of `cells.csv`, sorted; each once."""
    return sorted(set(table.lines(folder / "cells.csv", Row)))


def finished(rows: Iterable[Row], seeds: int) -> set[tuple[Any, ...]]:
    """The cells of which so many seeds are trained to the end."""
    ends = {(row.cell, row.seed) for row in rows if row.last}
    counts = Counter(cell for cell, _ in ends)
    return {cell for cell, count in counts.items() if count >= seeds}
