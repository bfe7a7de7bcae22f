"""The training split in folds, for standard errors, and what the test split says of it."""

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax

import reconjax
from reconjax.cli.inputs import DENSE_MATRICES, check_memory, dataset, moments, split
from reconjax.cli.printing import progress
from reconjax.data.targets import strata
from reconjax.evidence.bootstrap import BALANCED, bootstrap
from reconjax.summary.folds import combined, each_fold, fold_memory, fold_moments, most_folds
from reconjax.theory.held_out import HeldOut, held_out

FOLDS = 19
TEST_FOLDS = 20


def training(options: argparse.Namespace, cheap: int) -> tuple[Any, Any]:
    """Moments of the training split, and those of its folds, or None without --bootstrap.

    By default there are folds for up to `cheap` features.
    """
    data, part = dataset(options), split(options)
    count = _count(options, part, data.features <= cheap)
    if count == 0:
        return moments(options), None
    needed = fold_memory(data.features, count) + DENSE_MATRICES * 8 * data.features**2
    check_memory(options, needed, f"the moments of --bootstrap {count} folds")
    with _reading(options, part, "samples") as reading:
        folds = fold_moments(part, count, **reading)
    return _as_asked(options, combined(folds)), folds


def resampled(options: argparse.Namespace, folds: Any, curve: Callable[[Any], Any]) -> Any:
    """`bootstrap` of a function of the moments as the command uses them."""
    return bootstrap(folds, lambda found: curve(_as_asked(options, found)))


def judge(options: argparse.Namespace, found: Any) -> HeldOut | None:
    """The test split for solutions on moments of the training split; None where there is none."""
    test, count = dataset(options).test, test_folds(options)
    if not count:
        return None
    with _reading(options, test, "test samples") as reading:
        return held_out(each_fold(test, count, **reading), found)


def test_folds(options: argparse.Namespace) -> int:
    """How many folds the test split has; 0 where it cannot be used."""
    test = dataset(options).test
    if test is None or jax.process_count() > 1:
        return 0
    count = min(TEST_FOLDS, most_folds(strata(test.labels)))
    return count if count > 1 else 0


def nothing_because() -> str | None:
    """A line where there can be no standard errors and nothing held out."""
    if jax.process_count() == 1:
        return None
    return "several processes: no standard errors, nothing held out and no p"


def _count(options: argparse.Namespace, part: Any, cheap: bool) -> int:
    """How many folds; 0 for none."""
    wanted, several = options.bootstrap, jax.process_count() > 1
    fits = [
        count
        for count in BALANCED
        if count <= most_folds(strata(part.labels))
        and (count - 1) / (2 * count) * len(part) > dataset(options).features
    ]
    if wanted is None:
        on = cheap and not several
        return max([0, *(count for count in fits if count <= FOLDS)]) if on else 0
    if wanted and several:
        raise ValueError(f"--bootstrap: {wanted}; with several processes 0 alone is allowed")
    if wanted and wanted not in fits:
        raise ValueError(
            f"--bootstrap: {wanted}; {', '.join(map(str, [0, *fits]))} is allowed: half of"
            " the samples must be more than the features, and two classes in every fold"
        )
    return wanted


def _as_asked(options: argparse.Namespace, found: Any) -> Any:
    return reconjax.standardized(found) if options.standardize else found


@contextmanager
def _reading(options: argparse.Namespace, part: Any, what: str) -> Iterator[dict[str, Any]]:
    """How a split is read: the keywords of `each_fold`, with a bar of progress."""
    classes, local = dataset(options).num_classes, jax.local_devices()
    weight = None
    if options.class_weight == "balanced":
        weight = reconjax.balanced_class_weight(part.labels, classes)
    with progress(what, len(part)) as bar:
        yield {
            "num_classes": classes or None,
            "class_weight": weight,
            "seed": options.seed,
            "devices": local if len(local) > 1 else None,
            "progress": bar,
        }
