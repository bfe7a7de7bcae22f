"""Experiments that measure one data set after the other, on its training split."""

from collections.abc import Callable
from functools import partial
from typing import Any

import reconjax
from experiments import report
from reconjax.data import Dataset, Split, load

SAMPLES = {"smoke": 500, "quick": 10_000, "full": None}


def measured(options: Any, name: str, measure: Callable[[str, Any], dict[str, Any]]) -> Any:
    """The results of an experiment: measure(set, options) of every set in --data."""
    settings = {"preset": options.preset, "seed": options.seed, "data": options.data}
    cases = {data: partial(measure, data, options) for data in options.data}
    return report.measured(options.out, name, settings, cases)


def opened(data: str, options: Any) -> Dataset:
    """The data set of this name; ends the program with one line where there is none."""
    try:
        return load(data, data_dir=options.data_dir)
    except (OSError, ValueError, ImportError) as error:
        report.fail(str(error))


def limited(split: Split, count: int | None, options: Any) -> Split:
    """A random part of a split; None is all of it."""
    return split if count is None else split.sample(count, options.seed)


def training(data: str, options: Any) -> tuple[Dataset, Split]:
    """The data set, and as much of its training split as the preset allows."""
    dataset = opened(data, options)
    return dataset, limited(dataset.train, SAMPLES[options.preset], options)


def training_moments(data: str, options: Any) -> tuple[Dataset, reconjax.Moments]:
    """The data set and the moments of what `training` takes."""
    dataset, split = training(data, options)
    return dataset, reconjax.moments_from_batches(split.batches(), num_classes=dataset.num_classes)
