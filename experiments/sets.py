"""Experiments that measure one data set after the other, on its training split."""

from collections.abc import Callable
from typing import Any

from tqdm import tqdm

import reconjax
from experiments import report
from reconjax.data import Dataset
from reconjax.studies.source import Source

SAMPLES = {"smoke": 500, "quick": 10_000, "full": None}


def measured(options: Any, name: str, measure: Callable[[str, Any], dict[str, Any]]) -> Any:
    """The results of an experiment: measure(set, options) of every set in --data.

    Sets that are in the file already are not measured again; the file grows as it goes.
    """
    settings = {"preset": options.preset, "seed": options.seed, "data": options.data}
    results = report.resume(options.out, name, settings)
    for data in tqdm(options.data, desc="data sets"):
        if data not in results["parts"]:
            results["parts"][data] = measure(data, options)
            report.write(options.out, name, results)
    return results


def training_moments(data: str, options: Any) -> tuple[Dataset, reconjax.Moments]:
    """The data set and the moments of as much of its training split as the preset allows."""
    limit = SAMPLES[options.preset]
    source = Source(data, data_dir=options.data_dir, max_samples=limit, seed=options.seed)
    assert source.dataset is not None
    return source.dataset, source.moments()
