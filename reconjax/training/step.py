"""One step of training, pure: a state and a batch give the next state and the metrics.

    step, state = start(nets, seeds=..., ...)
    state, metrics = step(state, objective, batch)

`reconjax.training.parallel` repeats it over devices, runs and steps; `reconjax.training.loop` puts
the repetitions in order.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from flax import nnx

from reconjax.nets.layers import mean_over_devices, sum_over_devices
from reconjax.training.examples import Batch
from reconjax.training.objectives import Objective, Terms, statistics, terms_of
from reconjax.training.optimizer import adamw


class State(NamedTuple):
    """A run: what training changes, and what may differ between runs that are trained together.

    Everywhere but inside of a step all leaves have one more axis in front, that of the runs.

    Attributes:
      params: parameters of the model and the head.
      rest: everything else that they hold: batch statistics.
      optimizer: the state of the optimizer.
      step: () int32, steps that were made.
      seed: () uint32, of noise and augmentation.
      learning_rate: () float32, the peak.
      weight: () float32, of guidance; unused by objectives that have none.
    """

    params: Any
    rest: Any
    optimizer: Any
    step: Any
    seed: Any
    learning_rate: Any
    weight: Any


@dataclasses.dataclass(frozen=True)
class Step:
    """The step. Equal ones are equal as keys, so that they share one compiled program.

    Attributes:
      graphdef: of (model, head), in training mode.
      augment: names of augmentations of the batch.
      steps: of the whole training, for the schedule.
      weight_decay: of AdamW.
    """

    graphdef: Any
    augment: tuple[str, ...]
    steps: int
    weight_decay: float

    def __call__(self, state: State, objective: Any, batch: Batch) -> tuple[State, Terms]:
        """The state after a step on this device's part of the batch, and () terms of the batch.

        Loss, gradients and batch statistics are those of the whole batch, which devices share;
        outside of `jax.pmap` it is whole.
        """
        objective = weighted(objective, state.weight)

        def loss(params: Any) -> Any:
            model, head = nnx.merge(self.graphdef, params, state.rest)
            sums = statistics(objective, model, head, batch)
            _, *state_after = nnx.split((model, head), nnx.Param, ...)
            terms = terms_of(objective, sum_over_devices(sums))
            return terms["loss"], (terms, nnx.as_pure(state_after[1]))

        gradients, (terms, rest) = jax.grad(loss, has_aux=True)(state.params)
        # Without this mean the copies of a state would drift apart.
        gradients = mean_over_devices(gradients)
        rule = adamw(state.learning_rate, self.weight_decay, self.steps)
        updates, memory = rule.update(gradients, state.optimizer, state.params)
        params = optax.apply_updates(state.params, updates)
        after = state._replace(params=params, rest=rest, optimizer=memory, step=state.step + 1)
        return after, terms


def start(
    nets: Sequence[Any],
    seeds: np.ndarray,
    learning_rates: np.ndarray,
    weights: np.ndarray,
    *,
    augment: Sequence[str] = (),
    steps: int,
    weight_decay: float,
) -> tuple[Step, State]:
    """The step for R pairs (model, head), in training mode, and the state before the first one.

    Args:
      nets: (R,) pairs, equal but for their numbers.
      seeds: (R,) uint32.
      learning_rates: (R,) float32.
      weights: (R,) float32.
      augment: names of augmentations.
      steps: of the whole training.
      weight_decay: of AdamW.
    """
    splits = [nnx.split(pair, nnx.Param, ...) for pair in nets]
    params, rest = (
        jax.tree.map(lambda *leaves: np.stack(leaves), *(nnx.as_pure(part[i]) for part in splits))
        for i in (1, 2)
    )
    optimizer = jax.vmap(adamw(0.0, weight_decay, steps).init)(params)
    begin = np.zeros(len(nets), np.int32)
    step = Step(splits[0][0], tuple(augment), steps, weight_decay)
    return step, State(params, rest, optimizer, begin, seeds, learning_rates, weights)


def weighted(objective: Objective, weight: Any) -> Objective:
    """The objective with the weight of guidance of a run, if it has one."""
    if getattr(objective, "weight", None) is None:
        return objective
    return dataclasses.replace(objective, weight=weight)  # type: ignore[type-var]
