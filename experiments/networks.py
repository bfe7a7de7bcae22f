"""What the experiments with trained networks share: how they run, their data, means over seeds.

An experiment is a list of cases. A case is trained and measured on its own and becomes one part of
the results, so that a run that was ended goes on with the next one.
"""

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

import reconjax
from experiments import report
from reconjax.data import Dataset, Split
from reconjax.studies.progress import progress_bar
from reconjax.training import Objective, Trained, fit

# Samples that are in memory as floats at a time.
ROWS = 2000


class Experiment(NamedTuple):
    """What differs between these experiments.

    Attributes:
      name: of its files.
      description: what it says of itself.
      presets: by name, each with the "data" that it takes.
      cases: of (options, preset): the parts, and how each is measured.
      summary: of (options, preset, parts): means over the seeds.
      picture: of (options, preset, results).
      show: prints the summary.
    """

    name: str
    description: str | None
    presets: Mapping[str, dict[str, Any]]
    cases: Callable[[Any, Any], Iterable[tuple[str, Callable[[], Any]]]]
    summary: Callable[[Any, Any, Any], dict[str, Any]]
    picture: Callable[[Any, Any, Any], Figure]
    show: Callable[[dict[str, Any]], None]


def run(experiment: Experiment, argv: Sequence[str] | None) -> None:
    """Measures what is not measured yet, writes and draws the results and prints their summary."""
    options = report.arguments(experiment.description, argv, data=())
    preset = experiment.presets[options.preset]
    options.data = options.data or preset["data"]
    chosen = {name: getattr(options, name) for name in ("preset", "seed", "data")}
    cases = dict(experiment.cases(options, preset))
    results = report.measured(options.out, experiment.name, {**preset, **chosen}, cases)
    results["summary"] = report.plain(experiment.summary(options, preset, results["parts"]))
    report.write(options.out, experiment.name, results)
    report.picture(options.out, experiment.name, experiment.picture(options, preset, results))
    experiment.show(results["summary"])


def seeds(options: Any, preset: dict[str, Any]) -> list[int]:
    """The seeds of an experiment, from --seed on."""
    return [options.seed + index for index in range(preset["seeds"])]


def sample(dataset: Dataset, samples: int | None, tested: int | None, seed: int) -> Dataset:
    """A random part of both splits, in memory; None is all of a split."""
    if dataset.test is None:
        report.fail(f"{dataset.name}: has no test split, which this experiment needs")

    def part(split: Split, count: int | None) -> tuple[np.ndarray, np.ndarray]:
        drawn = split if count is None else split.sample(count, seed)
        return drawn.examples(np.arange(len(drawn)))

    return Dataset.from_arrays(
        *part(dataset.train, samples),
        *part(dataset.test, tested),
        class_names=dataset.class_names,
        name=dataset.name,
    )


def principal(
    batches: Iterable[tuple[np.ndarray, np.ndarray]], dataset: Dataset, variance: float | None
) -> reconjax.Spectrum:
    """The spectrum of these batches of a training split, rounded to float32.

    Where there are fewer samples than features, with the directions of this share of the variance.
    """
    if len(dataset.train) >= dataset.features:
        spectrum = reconjax.spectrum(
            reconjax.moments_from_batches(batches, num_classes=dataset.num_classes)
        )
    else:
        images, labels = (np.concatenate(arrays) for arrays in zip(*batches, strict=True))
        spectrum = reconjax.spectrum_from_samples(
            images, labels, num_classes=dataset.num_classes, variance=variance
        )
    return jax.tree.map(_float32, spectrum)


def _float32(leaf: jax.Array) -> jax.Array:
    return leaf.astype(jnp.float32) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf


def train(model: Any, dataset: Dataset, objective: Objective, **how: Any) -> Trained:
    """`reconjax.training.fit` with a bar."""
    with bar(how["epochs"] * (len(dataset.train) // how["batch_size"])) as progress:
        return fit(model, dataset, objective, progress=progress, **how)


@contextlib.contextmanager
def bar(steps: int) -> Iterator[Callable[[int, Mapping[str, float]], None]]:
    """The `progress` of `fit`: a bar on stderr, with the newest loss."""
    with progress_bar("steps", steps) as count:
        yield lambda done, means: count(done, f"steps, loss {means['loss']:.3g}")


def log_steps(steps: int, count: int) -> list[int]:
    """0 and about `count` steps from 1 to the last one, evenly spaced in their logarithm."""
    return [0, *np.unique(np.rint(np.geomspace(1, steps, count)).astype(int)).tolist()]


def mean(values: Iterable[float]) -> dict[str, Any]:
    """Mean and its standard error, and what they are of; no error where one value is not finite."""
    numbers = np.asarray(list(values), float)
    whole = len(numbers) > 1 and np.isfinite(numbers).all()
    error = numbers.std(ddof=1) / np.sqrt(len(numbers)) if whole else float("nan")
    return {"mean": numbers.mean(), "error": error, "values": report.rounded(numbers)}


def difference(values: Iterable[float], others: Iterable[float]) -> dict[str, Any]:
    """`mean` of the paired differences, and its sign where it is more than two errors from 0."""
    with np.errstate(invalid="ignore"):  # inf, a step that neither reached
        statistics = mean(np.subtract(list(values), list(others)))
    clear = abs(statistics["mean"]) > 2 * statistics["error"]
    return {**statistics, "sign": int(np.sign(statistics["mean"])) if clear else 0}


def percent(statistics: Mapping[str, Any], scale: float = 100) -> str:
    """Mean ± standard error as text, by default in percent."""
    return f"{scale * statistics['mean']:.1f} ± {scale * statistics['error']:.1f}"


def product(**axes: Iterable[Any]) -> Iterable[dict[str, Any]]:
    """All combinations, the last axis fastest."""
    for values in itertools.product(*axes.values()):
        yield dict(zip(axes, values, strict=True))
