"""Pixels, whitened pixels or joint embedding: trained networks beside the closed form.

    python -m experiments.objectives --data-dir DIR --out out

MLP, linear and convolutional encoders are trained on each set with each objective, three seeds
each, and probed; the closed form of each stands beside it. A cell - a set, a network and an
objective - is kept as soon as it is there: killed and started again, it goes on. Started several
times at once, the processes share the work. With --minutes 0 it reports on what is there.
"""

import sys
from collections.abc import Sequence
from typing import Any

from experiments import report, table
from experiments.cells import parsed, parser, train_missing
from experiments.objectives import cells, page, picture, predictors, settings, verdict

SCENES = tuple(f"scenes:channels=1,samples=16000,background={b}" for b in ("0.5", "1", "2"))
DATA = ("fashion_mnist", "arabic_digits", *SCENES, "cifar10")
TUNED_ON = ("fashion_mnist", SCENES[1])


def main(argv: Sequence[str] | None = None) -> None:
    options = arguments(argv)
    train(options)
    values = predictors.predicted(options)
    results = verdict.verdict(cells.read(options.out / "cells.csv"), values, options)
    report.write(options.out, "networks", results)
    report.picture(options.out, "networks", picture.picture(results))
    text = page.page(results)
    (options.out / "networks.md").write_text(text)
    print(text)


def train(options: Any) -> None:
    """Trains what the table has not: cells, and what their settings are chosen by."""
    path = options.out / "cells.csv"

    def seeds(cell: cells.Cell) -> list[int]:
        own = settings.known(cell.net, settings.kind_of(cell.choice), options)
        rows = cells.read(path) if own else []
        known = {row.seed for row in rows if settings.settled(row, cell, own)}
        return [seed for seed in range(options.seeds) if seed not in known]

    def train_cell(cell: cells.Cell) -> None:
        own = settings.chosen(cell.net, settings.kind_of(cell.choice), options)
        if missing := seeds(cell):
            data = cells.dataset(cell.data, options.data_dir, options.samples)
            table.append(path, cells.train(cell, data, own, missing))

    train_missing(cells.cells(options), options, seeds, train_cell)


def arguments(argv: Sequence[str] | None) -> Any:
    options = parser(
        "python -m experiments.objectives",
        __doc__,
        data=DATA,
        nets=tuple(cells.NETS),
        seeds=3,
        images=160_000,
    )
    options.add_argument("--tuned-on", nargs="+", default=list(TUNED_ON), help="for settings")
    options.add_argument("--choices", type=int, help="train only the first so many")
    return parsed(options, argv, images=cells.BATCH_SIZE, samples=cells.BATCH_SIZE)


if __name__ == "__main__":
    main(sys.argv[1:])
