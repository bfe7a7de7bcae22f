"""Whether advice before training holds for networks that are trained.

    python -m experiments.advisor --data cifar10 fashion_mnist --data-dir DIR --out out

Networks are trained behind 22 masks, four seeds each, and probed; what was known of the masks
before is compared with that. A cell - a set, a network and a mask - is kept as soon as it is there:
killed and started again, it goes on. Several processes share the work with --shard 0/8
.. 7/8; one without --shard finishes what they left, and reports.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments import report
from experiments.advisor import cells, picture, predictors, table, verdict
from reconjax.studies.progress import say

DATA = (
    "cifar10",
    "fashion_mnist",
    "mnist",
    "scenes:channels=1,samples=20000,background=0.5",
    "scenes:channels=1,samples=20000,background=2",
)


def main(argv: Sequence[str] | None = None) -> None:
    options = arguments(argv)
    name = "cells.csv" if options.shard is None else "cells-{}-of-{}.csv".format(*options.shard)
    train_missing(options, options.out / name)
    if options.shard is not None:
        return
    rows, values = table.merge(options.out), predictors.predicted(options)
    results = verdict.verdict(rows, values, predictors.of_classes(options))
    report.write(options.out, "advisor", results)
    for net, result in results.items():
        report.picture(options.out, net, picture.picture(net, result))
        show(net, result)


def show(net: str, result: Any) -> None:
    """What each predictor is worth, set by set."""
    sets = result["sets"]
    for data, part in sets.items():
        print(
            f"{net}, {data}: {len(part['masks'])} masks, {part['seeds']} seeds, F {part['f']:.1f}"
            f" (accuracy {part['f_accuracy']:.1f}), halves of the seeds agree at"
            f" {part['reliability']:+.2f}, R² from worst to best mask {part['spread']:.4f}"
        )
        if part["interaction"] is not None:
            print(
                "  which mask for which classes: correlation"
                f" {part['interaction']['correlation']:+.2f}, p {part['interaction']['p']:.3f}"
            )
    print(
        f"{'rank correlation with R²; R² lost':<34}" + "".join(f"{data[:17]:>18}" for data in sets)
    )
    names = [name for name in result["means"] if "training split" not in name]
    for name in sorted(names, key=lambda name: -result["means"][name]["rank_correlation"]):
        each = [part["predictors"][name] for part in sets.values()]
        cells_of_row = "".join(
            f"{part['rank_correlation']:>+10.2f} {part['regret']:>7.4f}" for part in each
        )
        mean = result["means"][name]
        print(
            f"{name:<34}{cells_of_row}   mean {mean['rank_correlation']:+.2f}"
            f" {mean['regret']:.4f}, with no mask among them {mean['with_no_mask']:+.2f}"
        )


def arguments(argv: Sequence[str] | None) -> Any:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.advisor",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for tables and the picture")
    parser.add_argument("--data", nargs="+", default=list(DATA), help="sets of classes")
    parser.add_argument("--data-dir", type=Path, help="prepared TFDS sets, where they are used")
    parser.add_argument("--nets", nargs="+", choices=cells.NETS, default=["vit"])
    parser.add_argument("--masks", type=int, default=len(cells.MASKS), help="the first so many")
    parser.add_argument("--seeds", type=int, default=4, help="networks for each mask")
    parser.add_argument("--images", type=int, default=300_000, help="that a training sees")
    parser.add_argument("--samples", type=int, default=16_000, help="of a training split")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--shard", type=shard, help="part of the work, like 0/8")
    parser.add_argument("--minutes", type=float, help="begin no cell after so long")
    options = parser.parse_args(argv)
    if not 1 <= options.masks <= len(cells.MASKS):
        parser.error(f"--masks: {options.masks}; 1 .. {len(cells.MASKS)} is allowed")
    if options.seeds < 2:
        parser.error(f"--seeds: {options.seeds}; at least 2 are needed, for how much they differ")
    least = round(cells.BATCH_SIZE / cells.RUNGS[0])
    if options.images < least:
        parser.error(f"--images: {options.images}; at least {least}, for a step before each rung")
    if options.samples < cells.BATCH_SIZE:
        parser.error(f"--samples: {options.samples}; at least {cells.BATCH_SIZE}, a batch")
    options.out.mkdir(parents=True, exist_ok=True)
    return options


def shard(text: str) -> tuple[int, int]:
    index, _, count = text.partition("/")
    if not (index.isdecimal() and count.isdecimal() and int(index) < int(count)):
        raise argparse.ArgumentTypeError(f"{text}; like 0/8 .. 7/8")
    return int(index), int(count)


def train_missing(options: Any, path: Path) -> None:
    """Trains the cells that the table has not, until the time is over."""
    started = time.monotonic()
    index, count = options.shard or (0, 1)
    done = table.finished(table.read(options.out), options.seeds)
    left = [cell for cell in cells.cells(options)[index::count] if cell.key not in done]
    for place, cell in enumerate(left):
        if options.minutes is not None and time.monotonic() - started > 60 * options.minutes:
            say(f"{len(left) - place} cells are left; the time is over")
            return
        begun = time.monotonic()
        try:
            dataset, _ = cells.split_in_three(cell.data, options.data_dir, options.samples)
        except (OSError, ValueError, ImportError) as error:
            report.fail(str(error))
        table.append(path, cells.train(cell, dataset, range(options.seeds), options.dtype))
        say(f"{cell.key}: {place + 1} of {len(left)}, {time.monotonic() - begun:.0f} s")


if __name__ == "__main__":
    main(sys.argv[1:])
