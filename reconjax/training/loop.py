"""From one state to the last: dispatches, metrics, evaluations, checkpoints."""

import dataclasses
import time
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np

from reconjax.data.dataset import Dataset
from reconjax.training import parallel
from reconjax.training.evaluation import evaluate
from reconjax.training.examples import Centered, Examples
from reconjax.training.optimizer import one_cycle
from reconjax.training.parallel import Data, Run, State, Static
from reconjax.training.plan import Plan
from reconjax.training.runs import Row, RunFolder, Trained, merged, named, plain

# A row of metrics is a mean over so many steps.
LOG_EVERY = 50

# A dispatch should take so long, for the sake of the progress bar; small networks make many steps.
DISPATCH_SECONDS = 0.5


class Diverged(RuntimeError):
    """The loss is no longer finite."""


@dataclasses.dataclass
class Loop:
    """The loop over dispatches, and what is kept between them."""

    plan: Plan
    static: Static
    several: bool
    runs: Run
    dataset: Dataset
    objective: Any
    inputs: Centered
    nets: list[Any]
    folder: RunFolder | None
    history: list[Row]
    measure: Callable[[Trained], Mapping[str, Any]] | None
    on_log: Callable[[Row], None] | None
    progress: Callable[[int, Row], None] | None
    # The share of the peak learning rate in each step.
    cycle: np.ndarray = dataclasses.field(init=False)
    # Of the steps since the last row: (R,) terms, seconds and number of steps.
    window: list[dict[str, np.ndarray]] = dataclasses.field(default_factory=list)
    seconds: float = 0.0
    made: int = 0

    def __post_init__(self) -> None:
        """The cycle in one call, since rows of metrics are many."""
        steps = np.arange(self.plan.steps, dtype=np.int32)
        self.cycle = np.asarray(jax.jit(jax.vmap(one_cycle(self.plan.steps)))(steps))

    def run(self, state: State, examples: Examples) -> list[Trained]:
        """From a state to the end."""
        devices = self.plan.devices
        program = parallel.training(self.static, devices)
        step = int(np.max(state.step))
        data = Data(self.objective, self.inputs.mean, *examples)
        states, runs, data = parallel.replicated((*self._split(state), data), devices)
        if step < self.plan.steps:
            # A step for nothing: it compiles, and the clock does not see it.
            rows = self._rows(step, step + 1)[0]
            spare = jax.tree.map(jnp.copy, states[0])
            jax.block_until_ready(program(spare, runs[0], data, rows, np.int32(1)))
        if step > 0 and self.progress:
            self.progress(step, {})
        if step == 0 and 0 in self.plan.evaluations:
            self._tell(self._evaluated(states, 0))
        length = 1
        while step < self.plan.steps:
            stop = self.plan.stop(step, length)
            begin = time.perf_counter()
            calls = list(zip(states, runs, self._rows(step, stop), strict=True))
            made = [program(*call[:2], data, call[2], np.int32(stop - step)) for call in calls]
            states = [state for state, _ in made]
            found = {
                name: np.vstack([terms[name] for _, terms in made])[:, : stop - step]
                for name in made[0][1]
            }
            took = time.perf_counter() - begin
            if took < DISPATCH_SECONDS:
                length *= 2
            self._count(step, found, took)
            step = stop
            if step in self.plan.evaluations:
                self._tell(self._evaluated(states, step))
            if step in self.plan.checkpoints:
                self._keep(states, step)
        return self._trained(states)

    def _split(self, state: State) -> tuple[list[State], list[Run]]:
        """What is computed in a call each: all runs where they are vmapped, else one."""
        if self.static.vmapped:
            return [state], [self.runs]
        runs = [Run(*row) for row in zip(*self.runs, strict=True)]
        if not self.several:
            return [state], runs
        return [jax.tree.map(lambda leaf, i=i: leaf[i], state) for i in range(len(runs))], runs

    def _whole(self, states: list[State]) -> State:
        """The state of all runs on the host, as a checkpoint has it."""
        copied = jax.tree.map(np.asarray, states)
        if not self.several or self.static.vmapped:
            return copied[0]
        return jax.tree.map(lambda *leaves: np.stack(leaves), *copied)

    def _rows(self, start: int, stop: int) -> list[np.ndarray]:
        """The rows of the batches for the devices of this process, for each call."""
        rows = {seed: self.plan.rows(seed, start, stop) for seed in set(self.runs.seed.tolist())}
        each = [rows[seed] for seed in self.runs.seed.tolist()]
        calls = [np.stack(each)] if self.static.vmapped else each
        return [parallel.mine(one, self.plan.devices) for one in calls]

    def _count(self, start: int, terms: dict[str, np.ndarray], took: float) -> None:
        """Makes rows of metrics of the terms (R, steps) that were found in some seconds."""
        count = terms["loss"].shape[1]
        self.seconds += took
        self.made += count
        rate = self.made * self.plan.batch_size * len(self.nets) / self.seconds
        for index in range(count):
            step = start + index + 1
            self.window.append({name: values[:, index] for name, values in terms.items()})
            diverged = not np.isfinite(terms["loss"][:, index]).any()
            if step % LOG_EVERY == 0 or step in self.plan.ends or diverged:
                self._tell(self._means(step, rate))
                self.seconds, self.made = 0.0, 0
            if diverged:
                self._stop("the loss is not finite", step)
        if self.progress:
            newest = {name: float(values[:, -1].mean()) for name, values in terms.items()}
            self.progress(count, {**newest, "images_per_second": rate})

    def _means(self, step: int, rate: float) -> list[Row]:
        """The rows of the steps since the last ones, one for each run."""
        means = {
            name: np.mean([terms[name] for terms in self.window], axis=0, dtype=float)
            for name in self.window[0]
        }
        self.window = []
        share = float(self.cycle[step - 1])
        return [
            {
                **self._where(step, index, "train"),
                **{name: values[index] for name, values in means.items()},
                "learning_rate": float(self.runs.learning_rate[index]) * share,
                "images_per_second": rate,
            }
            for index in range(len(self.nets))
        ]

    def _evaluated(self, states: list[State], step: int) -> list[Row]:
        """The rows of the test split, and of what the caller measures."""
        rows = []
        for index, trained in enumerate(self._trained(states)):
            row: Row = {}
            if self.dataset.test is not None:
                objective = parallel.weighted(self.objective, self.runs.weight[index])
                devices = self.plan.devices
                row = {**evaluate(trained, self.dataset.test, objective, devices=devices)}
            if self.measure:
                row |= self.measure(trained)
            if row:
                rows.append({**self._where(step, index, "test"), **row})
        return rows

    def _where(self, step: int, index: int, split: str) -> Row:
        run = {"run": index} if self.several else {}
        return {"step": step, "epoch": step / self.plan.steps_per_epoch, **run, "split": split}

    def _tell(self, rows: list[Row]) -> None:
        rows = [plain(row) for row in rows]
        self.history += rows
        if self.folder is not None:
            self.folder.append(rows)
        if self.on_log:
            for row in rows:
                self.on_log(row)

    def _keep(self, states: list[State], step: int) -> None:
        """A checkpoint, where the state is sound and there is a folder."""
        if differing := parallel.unequal(states, self.plan.devices):
            raise RuntimeError(
                f"step {step}: {differing[0]} differs between devices, and {len(differing) - 1}"
                " others do; a network must take its statistics over all of them"
            )
        if self.folder is None:
            return
        arrays = named(self._whole(states))
        if not self.several and not all(map(_finite, arrays.values())):
            self._stop("a parameter is not finite", step)
        self.folder.checkpoints.save(step, arrays)

    def _stop(self, what: str, step: int) -> NoReturn:
        kept = [] if self.folder is None else self.folder.checkpoints.steps()
        where = f"; the checkpoint of step {kept[-1]} is kept" if kept else ""
        raise Diverged(
            f"{what} at step {step} of {self.plan.steps}{where}; try a learning rate below"
            f" {self.runs.learning_rate.max():g}"
        )

    def _trained(self, states: list[State]) -> list[Trained]:
        """The networks of a state, in evaluation mode, on the default device."""
        whole = self._whole(states)
        step = int(np.max(whole.step))
        found = []
        for index, pair in enumerate(self.nets):
            one = whole.params, whole.rest
            if self.several:
                one = jax.tree.map(lambda leaf, index=index: leaf[index], one)
            rows = [row for row in self.history if row.get("run", index) == index]
            model, head = merged(pair, *one)
            found.append(Trained(model, head, self.inputs, rows, step))
        return found


def _finite(array: np.ndarray) -> bool:
    return not jnp.issubdtype(array.dtype, jnp.floating) or bool(np.isfinite(array).all())
