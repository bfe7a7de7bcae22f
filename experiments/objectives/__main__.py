"""Pixels, whitened pixels or joint embedding: trained networks beside the closed form.

    python -m experiments.objectives --data-dir DIR --out out

MLP, linear and convolutional encoders are trained on each set with each objective, three seeds
each, and probed; the closed form of each stands beside it. A cell - a set, a network and an
objective - is kept as soon as it is there: killed and started again, it goes on. With --minutes 0
it reports on what is there.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments import report
from experiments.advisor import table
from experiments.objectives import cells, page, picture, predictors, settings, verdict
from reconjax.studies.progress import say

SCENES = tuple(f"scenes:channels=1,samples=16000,background={b}" for b in ("0.5", "1", "2"))
DATA = ("fashion_mnist", "arabic_digits", *SCENES, "cifar10")
TUNED_ON = ("fashion_mnist", SCENES[1])


def main(argv: Sequence[str] | None = None) -> None:
    options = arguments(argv)
    train_missing(options)
    rows = cells.read(options.out / "cells.csv")
    values = predictors.predicted(options)
    results = verdict.verdict(rows, values, options)
    report.write(options.out, "networks", results)
    report.picture(options.out, "networks", picture.picture(results))
    text = page.page(results)
    (options.out / "networks.md").write_text(text)
    print(text)


def train_missing(options: Any) -> None:
    """Trains the cells that the table has not, until the time is over."""
    started = time.monotonic()
    path, wanted = options.out / "cells.csv", cells.cells(options)
    for place, cell in enumerate(wanted):
        if options.minutes is not None and time.monotonic() - started > 60 * options.minutes:
            say(f"the time is over; {place} of {len(wanted)} cells are done with")
            return
        begun = time.monotonic()
        kind = settings.kind_of(cell.choice)
        try:
            own = settings.chosen(cell.net, kind, options)
            rows = cells.read(path)
            known = {row.seed for row in rows if settings.settled(row, cell, own)}
            if seeds := [seed for seed in range(options.seeds) if seed not in known]:
                data = cells.dataset(cell.data, options.data_dir, options.samples)
                table.append(path, cells.train(cell, data, own, seeds))
                say(f"{cell}: {place + 1} of {len(wanted)}, {time.monotonic() - begun:.0f} s")
        except (OSError, ValueError, ImportError) as error:
            report.fail(str(error))


def arguments(argv: Sequence[str] | None) -> Any:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.objectives",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for tables and the picture")
    parser.add_argument("--data", nargs="+", default=list(DATA), help="sets of classes")
    parser.add_argument("--tuned-on", nargs="+", default=list(TUNED_ON), help="for settings")
    parser.add_argument("--data-dir", type=Path, help="prepared TFDS sets, where they are used")
    parser.add_argument("--nets", nargs="+", choices=cells.NETS, default=list(cells.NETS))
    parser.add_argument("--choices", type=int, help="train only the first so many")
    parser.add_argument("--seeds", type=int, default=3, help="networks of each cell")
    parser.add_argument("--images", type=int, default=160_000, help="that a training sees")
    parser.add_argument("--samples", type=int, default=16_000, help="of a training split")
    parser.add_argument("--minutes", type=float, help="begin no cell after so long")
    options = parser.parse_args(argv)
    if options.seeds < 2:
        parser.error(f"--seeds: {options.seeds}; at least 2 are needed, for how much they differ")
    for name in ("images", "samples"):
        if getattr(options, name) < cells.BATCH_SIZE:
            parser.error(
                f"--{name}: {getattr(options, name)}; at least {cells.BATCH_SIZE}, a batch"
            )
    options.out.mkdir(parents=True, exist_ok=True)
    return options


if __name__ == "__main__":
    main(sys.argv[1:])
