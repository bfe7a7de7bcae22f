"""What a command works on: devices and precision, the data, their moments or spectrum."""

import argparse
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

import reconjax
from reconjax.cli.printing import progress
from reconjax.data import load
from reconjax.summary import hosts

# (D, D) float64 matrices that moments and their spectrum hold at their peak.
DENSE_MATRICES = 6


def start(options: argparse.Namespace) -> None:
    """Joins the processes of the job, and sets up JAX: x64, and compiled programs kept on disk."""
    jax.config.update("jax_enable_x64", True)
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "reconjax"
        jax.config.update("jax_compilation_cache_dir", str(cache))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    if joins(options):
        hosts.start(options.coordinator, options.processes, options.process)


def joins(options: argparse.Namespace) -> bool:
    """Whether this is to be one of several processes."""
    address = (getattr(options, name, None) for name in ("coordinator", "processes", "process"))
    return getattr(options, "distributed", False) or any(value is not None for value in address)


def how_understood(options: argparse.Namespace) -> dict[str, Any]:
    """How the arrays of an .npz are to be understood: what the options say, where they do."""
    given = {name: getattr(options, name) for name in ("channels_first", "targets")}
    return {name: value for name, value in given.items() if value is not None}


def opened(options: argparse.Namespace, name: str, **defaults: Any) -> Any:
    """The data set of this name, its arrays understood as the options say, else as `defaults`."""
    return load(name, data_dir=options.data_dir, **{**defaults, **how_understood(options)})


def dataset(options: argparse.Namespace) -> Any:
    """The data set, opened once.

    Raises:
      ValueError: it has no labels, and the command needs them.
    """
    if not hasattr(options, "dataset"):
        options.dataset = opened(options, options.data)
        if not options.dataset.num_targets and not getattr(options, "unlabeled", False):
            raise ValueError(f"{options.data}: has no labels (y_train); only detect needs none")
        if options.class_weight and not options.dataset.num_classes:
            raise ValueError(f"--class-weight: {options.data} has {options.dataset.targets_text}")
    return options.dataset


def split(options: argparse.Namespace) -> Any:
    """The part of the training split that --max-samples leaves."""
    found = dataset(options).train
    if options.max_samples is not None:
        found = found.sample(options.max_samples, options.seed)
    return found


def by_samples(options: argparse.Namespace) -> bool:
    """Whether there are fewer samples than features, so that the N x N problem is solved."""
    several = jax.process_count() > 1
    fewer = len(split(options)) < dataset(options).features
    return fewer and not (options.class_weight or options.standardize or several)


def spectrum(options: argparse.Namespace) -> Any:
    """The float64 spectrum of the training split, by the smaller of N and D.

    The N-side keeps the directions that explain --variance, and none where there is no such option.
    """
    data, part = dataset(options), split(options)
    if not by_samples(options):
        return reconjax.spectrum(moments(options))
    # Small batches into one array of the stored dtype: what is read is in memory once.
    first, of_first = part.examples(np.arange(1))
    images = np.empty((len(part), *first.shape[1:]), first.dtype)
    labels = np.empty((len(part), *of_first.shape[1:]), of_first.dtype)
    starts = range(0, len(part), 256)
    with progress("samples", len(part)) as bar:
        for begin, (batch, classes) in zip(starts, part.batches(256), strict=True):
            images[begin : begin + len(batch)] = batch
            labels[begin : begin + len(batch)] = classes
            bar(len(batch))
    classes = data.num_classes or None
    wanted = {"variance": options.variance} if "variance" in options else {"directions": 0}
    return reconjax.spectrum_from_samples(images, labels, num_classes=classes, **wanted)


def moments(options: argparse.Namespace) -> Any:
    """The float64 moments of the training split, each process reading its part of it."""
    data, part = dataset(options), split(options)
    check_memory(options, DENSE_MATRICES * 8 * data.features**2, "the moments")
    weight = None
    if options.class_weight == "balanced":
        weight = reconjax.balanced_class_weight(part.labels, data.num_classes)
    mine = hosts.part(part)
    with progress("samples", len(mine)) as bar:

        def counted() -> Iterator[tuple[Any, Any]]:
            for images, labels in mine.batches():
                yield images, labels
                bar(len(labels))

        local = jax.local_devices()
        found = reconjax.moments_from_batches(
            counted(),
            num_classes=data.num_classes or None,
            class_weight=weight,
            devices=local if len(local) > 1 else None,
        )
    found = hosts.merged(found)
    return reconjax.standardized(found) if options.standardize else found


def check_memory(options: argparse.Namespace, needed: int, what: str) -> None:
    """Refuses, before any work, what does not fit into --memory or else into the device's memory.

    Raises:
      ValueError: one line with both sizes.
    """
    there = options.memory * 2**30 if options.memory else _device_memory()
    if needed > there:
        raise ValueError(
            f"{options.data}: {what} of D = {dataset(options).features} features need about"
            f" {needed / 2**30:.3g} GiB; {there / 2**30:.3g} GiB are there (--memory)"
        )


def _device_memory() -> float:
    statistics = jax.local_devices()[0].memory_stats() or {}
    if limit := statistics.get("bytes_limit"):
        return float(limit)
    return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
