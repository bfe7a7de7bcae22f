"""The order of things: dispatches of steps, and after each the callbacks, which do all the rest.

A callback is called as `callback(states, start, stop, terms, seconds)` after the steps
start + 1 .. stop, which took so many seconds: the states are those after them, terms those of each
step, (R, stop - start).
"""

import dataclasses
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from reconjax.training.runs import Row, RunFolder, plain
from reconjax.training.step import State

States = Sequence[State]
Terms = Mapping[str, np.ndarray]
Callback = Callable[[States, int, int, Terms, float], None]

# A row of metrics is a mean over so many steps.
LOG_EVERY = 50

# A dispatch should take so long, for the sake of the progress bar; small networks make many steps.
DISPATCH_SECONDS = 0.5


class Diverged(RuntimeError):
    """The loss is no longer finite."""


def loop(
    advance: Callable[[States, int, int], tuple[States, Terms]],
    states: States,
    step: int,
    stops: Collection[int],
    longest: int,
    callbacks: Iterable[Callback],
) -> States:
    """From one state to the last.

    Args:
      advance: (states, start, stop) -> those after the steps start + 1 .. stop, and their terms.
      states: those after `step` steps.
      step: of the state.
      stops: steps at which a dispatch must end, the last one among them.
      longest: steps that a dispatch can make.
      callbacks: called after each dispatch, in this order.
    """
    length = 1
    while step < max(stops):
        stop = min(step + min(length, longest), *(end for end in stops if end > step))
        begin = time.perf_counter()
        states, terms = advance(states, step, stop)
        seconds = time.perf_counter() - begin
        if seconds < DISPATCH_SECONDS:
            length *= 2
        for callback in callbacks:
            callback(states, step, stop, terms, seconds)
        step = stop
    return states


@dataclasses.dataclass
class Metrics:
    """Rows of metrics: all that there are, and where they go.

    Attributes:
      history: those before.
      steps_per_epoch: of the training.
      folder: where they are written, if anywhere.
      on_log: gets each of them.
    """

    history: list[Row]
    steps_per_epoch: int
    folder: RunFolder | None
    on_log: Callable[[Row], None] | None

    def add(self, step: int, split: str, values: Iterable[Mapping[str, Any]]) -> None:
        """A row for each run of what there is to say of a split at a step, if anything."""
        rows = [
            plain({"step": step, "epoch": step / self.steps_per_epoch, "run": run, "split": split}
                  | dict(row))
            for run, row in enumerate(values)
            if row
        ]  # fmt: skip
        self.history += rows
        if self.folder is not None:
            self.folder.append(rows)
        if self.on_log:
            for row in rows:
                self.on_log(row)


@dataclasses.dataclass
class Log:
    """Rows of the training split, means over the steps since the last row; ends what diverges.

    Attributes:
      metrics: where rows go.
      stops: steps that have a row, besides every `LOG_EVERY`-th.
      learning_rates: (R,) the peaks.
      cycle: (steps,) share of the peak in each step.
      images: in a step of all runs.
      progress: gets the number of steps and the newest means.
    """

    metrics: Metrics
    stops: Collection[int]
    learning_rates: np.ndarray
    cycle: np.ndarray
    images: int
    progress: Callable[[int, Row], None] | None
    # Of the steps since the last row.
    window: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    seconds: float = 0.0
    steps: int = 0

    def __call__(self, states: States, start: int, stop: int, terms: Terms, seconds: float) -> None:
        """Makes the rows of a dispatch.

        Raises:
          Diverged: the loss of every run is no longer finite.
        """
        finite: Any = np.isfinite(terms["loss"]).any(axis=0)
        last = stop if finite.all() else start + 1 + int(np.argmin(finite))
        ends = [
            end
            for end in range(start + 1, last + 1)
            if end % LOG_EVERY == 0 or end in self.stops or not finite[end - start - 1]
        ]
        self.seconds += seconds
        self.steps += stop - start
        rate = self.steps * self.images / self.seconds
        window = {
            name: np.hstack([self.window[name], values]) if self.window else values
            for name, values in terms.items()
        }
        first = stop - window["loss"].shape[1]
        for end in ends:
            means = {
                n: values[:, : end - first].mean(1, dtype=float) for n, values in window.items()
            }
            means["learning_rate"] = self.learning_rates * self.cycle[end - 1]
            means["images_per_second"] = np.full(len(self.learning_rates), rate)
            rows = zip(*means.values(), strict=True)
            self.metrics.add(end, "train", [dict(zip(means, row, strict=True)) for row in rows])
            window = {name: values[:, end - first :] for name, values in window.items()}
            first = end
        self.window = window
        if ends:
            self.seconds, self.steps = 0.0, 0
        if last < stop or not finite[-1]:
            raise Diverged(self.advice("the loss is not finite", last))
        if self.progress:
            newest = {name: float(values[:, -1].mean()) for name, values in terms.items()}
            self.progress(stop - start, newest | {"images_per_second": rate})

    def advice(self, what: str, step: int) -> str:
        """A line for a training that ends early."""
        folder, steps = self.metrics.folder, len(self.cycle)
        kept = [] if folder is None else folder.steps()
        where = f"; the checkpoint of step {kept[-1]} is kept" if kept else ""
        peak = self.learning_rates.max()
        return f"{what} at step {step} of {steps}{where}; try a learning rate below {peak:g}"


def gathered(states: States) -> State:
    """The state of all runs on the host, as a checkpoint has it."""
    return jax.tree.map(lambda *leaves: np.concatenate([*map(np.asarray, leaves)]), *states)


def all_diverged(arrays: Mapping[str, np.ndarray]) -> bool:
    """Whether every run has a number that is not finite, in arrays with an axis of runs first."""
    sound = [
        np.isfinite(array).reshape(len(array), -1).all(axis=1)
        for array in arrays.values()
        if jnp.issubdtype(array.dtype, jnp.floating)
    ]
    return not np.all(sound, axis=0).any()
