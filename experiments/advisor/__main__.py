"""Whether advice before training holds for networks that are trained.

    python -m experiments.advisor --data cifar10 fashion_mnist --data-dir DIR --out out

Networks are trained behind 22 masks, four seeds each, and probed; what was known of the masks
before is compared with that. A cell - a set, a network and a mask - is kept as soon as it is there:
killed and started again, it goes on. Started several times at once, the processes share the work.
"""

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from experiments import report, table
from experiments.advisor import cells, picture, predictors, trained, verdict
from experiments.cells import parsed, parser, train_missing

DATA = (
    "cifar10",
    "fashion_mnist",
    "mnist",
    "scenes:channels=1,samples=20000,background=0.5",
    "scenes:channels=1,samples=20000,background=2",
)


def main(argv: Sequence[str] | None = None) -> None:
    options = arguments(argv)

    def missing(cell: cells.Cell) -> bool:
        return cell.key not in trained.finished(trained.read(options.out), options.seeds)

    def train(cell: cells.Cell) -> None:
        dataset, _ = cells.split_in_three(cell.data, options.data_dir, options.samples)
        rows = cells.train(cell, dataset, range(options.seeds), options.dtype)
        table.append(options.out / "cells.csv", rows)

    train_missing(cells.cells(options), options, missing, train)
    values = predictors.predicted(options)
    results = verdict.verdict(trained.read(options.out), values, predictors.of_classes(options))
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
    options = parser(
        "python -m experiments.advisor",
        __doc__,
        data=DATA,
        nets=cells.NETS,
        seeds=4,
        images=300_000,
    )
    options.set_defaults(nets=["vit"])
    options.add_argument("--masks", type=masks, default=len(cells.MASKS), help="the first so many")
    options.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    first_rung = round(cells.BATCH_SIZE / cells.RUNGS[0])  # there is a step before it
    return parsed(options, argv, images=first_rung, samples=cells.BATCH_SIZE)


def masks(text: str) -> int:
    if not (text.isdecimal() and 1 <= int(text) <= len(cells.MASKS)):
        raise argparse.ArgumentTypeError(f"{text}; 1 .. {len(cells.MASKS)} is allowed")
    return int(text)


if __name__ == "__main__":
    main(sys.argv[1:])
