"""Data parallelism: the only pmap.

A state is replicated: every device of every host holds a copy, sees its own part of each batch and
applies the mean of all gradients, so that the copies stay equal to the last bit. The batches and
the random draws depend on the position in the whole batch alone, not on the devices that share it.
Many steps run in one dispatch, so that small networks do not wait for the host.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax import Array, lax

from reconjax.data.units import as_floats
from reconjax.nets import AXIS
from reconjax.training.augmentation import augmented
from reconjax.training.optimizer import adamw

Devices = tuple[jax.Device, ...]

# Steps that one dispatch can hold. On CPUs XLA has no fast convolutions inside of a loop (7 times
# slower than outside): there, a dispatch makes a single step, which takes long enough.
CHUNK = 256


class State(NamedTuple):
    """What training changes; with several runs, every leaf has one more axis in front.

    Attributes:
      params: parameters of the model and the head.
      rest: everything else that they hold: batch statistics.
      optimizer: the state of the optimizer.
      step: () int32, steps that were made.
    """

    params: Any
    rest: Any
    optimizer: Any
    step: Any


class Run(NamedTuple):
    """What may differ between runs that are trained together; () each, or (R,).

    Attributes:
      seed: uint32, of noise and augmentation.
      learning_rate: float32, the peak.
      weight: float32, of guidance; unused by objectives that have none.
    """

    seed: Any
    learning_rate: Any
    weight: Any


class Data(NamedTuple):
    """What all runs share.

    Attributes:
      objective: `reconjax.training.objectives`.
      mean: (*example_shape) float32, the mean image.
      images: (N, *example_shape) uint8 or float32.
      labels: (N,) int32.
    """

    objective: Any
    mean: Any
    images: Any
    labels: Any


@dataclasses.dataclass(frozen=True)
class Static:
    """What a compiled program is made for.

    Attributes:
      graphdef: of (model, head), in training mode.
      augment: names of augmentations.
      steps: of the whole run, for the schedule.
      weight_decay: of the optimizer.
      chunk: steps that one dispatch can hold.
      vmapped: there are several runs, side by side, in an additional axis in front.
    """

    graphdef: Any
    augment: tuple[str, ...]
    steps: int
    weight_decay: float
    chunk: int = CHUNK
    vmapped: bool = False


def start(nets: Any, weight_decay: float, steps: int) -> tuple[Any, State]:
    """The graph definition of (model, head), and the state before the first step."""
    graphdef, *state = nnx.split(nets, nnx.Param, ...)
    params, rest = map(nnx.as_pure, state)
    optimizer = adamw(0.0, weight_decay, steps).init(params)
    return graphdef, State(params, rest, optimizer, np.int32(0))


@functools.lru_cache(maxsize=16)
def training(static: Static, devices: Devices) -> Any:
    """The program (state, run, data, rows, count) -> (state, terms) for these devices.

    rows: those of the batches of up to `chunk` steps, of which `count` are made, for the devices of
    this process: (devices, chunk, B / all devices) int32; vmapped (devices, R, chunk, ...). terms:
    means over the batch in each step, (chunk,) or (R, chunk). The state is donated.
    """

    def chunk(state: State, run: Run, data: Data, rows: Array, count: Array) -> Any:
        def one(state: State, run: Run, rows: Array) -> Any:
            step = functools.partial(_step, static, run=run, data=data)
            if static.chunk == 1:
                state, terms = step(state, rows=rows[0])
                return state, jax.tree.map(lambda leaf: leaf[None], terms)
            _, shapes = jax.eval_shape(step, state, rows=rows[0])
            told = jax.tree.map(lambda leaf: jnp.zeros((len(rows),), leaf.dtype), shapes)

            def body(index: Array, carry: Any) -> Any:
                state, told = carry
                state, terms = step(state, rows=rows[index])
                return state, jax.tree.map(lambda all, new: all.at[index].set(new), told, terms)

            # The number of steps is an argument: a shorter dispatch is the same program.
            return lax.fori_loop(jnp.int32(0), count, body, (state, told))

        return (jax.vmap(one) if static.vmapped else one)(state, run, rows)

    return jax.pmap(
        chunk,
        axis_name=AXIS,
        in_axes=(None, None, None, 0, None),
        out_axes=None,
        donate_argnums=0,
        devices=devices,
    )


def _step(static: Static, state: State, run: Run, data: Data, rows: Array) -> Any:
    """One step on this device's rows (b,) of the batch: the new state, and the terms' means."""
    position = lax.axis_index(AXIS) * len(rows) + jnp.arange(len(rows), dtype=jnp.int32)
    key = jax.random.fold_in(jax.random.key(run.seed), state.step)
    x, keys = _inputs(static.augment, data, key, data.images[rows], position)
    labels = data.labels[rows]
    objective = weighted(data.objective, run.weight)

    def loss(params: Any) -> Any:
        model, head = nnx.merge(static.graphdef, params, state.rest)
        terms = objective.terms(model, head, keys, x, labels)
        _, *found = nnx.split((model, head), nnx.Param, ...)
        rest = nnx.as_pure(found[1])
        means = {name: values.mean() for name, values in terms.items()}
        return means["loss"], (means, rest)

    gradients, (terms, rest) = jax.grad(loss, has_aux=True)(state.params)
    gradients, terms = mean(gradients), mean(terms)
    optimizer = adamw(run.learning_rate, static.weight_decay, static.steps)
    updates, memory = optimizer.update(gradients, state.optimizer, state.params)
    params = optax.apply_updates(state.params, updates)
    return State(params, rest, memory, state.step + 1), terms


def mean(tree: Any) -> Any:
    """The mean over all devices: without it, the copies of a state would drift apart."""
    return lax.pmean(tree, AXIS)


def _inputs(
    augment: tuple[str, ...], data: Data, key: Array, images: Array, position: Array
) -> tuple[Array, Array]:
    """Centered inputs (b, *example_shape) float32, and a key (b,) for the noise of each."""
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, position)
    x = as_floats(images, jnp.float32)
    if augment:
        own = jax.vmap(lambda key: jax.random.fold_in(key, 1))(keys)
        x = jax.vmap(functools.partial(augmented, augment))(own, x)
    return x - data.mean, keys


def weighted(objective: Any, weight: Array) -> Any:
    """The objective with the weight of a run."""
    if getattr(objective, "weight", None) is None:
        return objective
    return dataclasses.replace(objective, weight=weight)


@functools.lru_cache(maxsize=16)
def evaluation(graphdef: Any, devices: Devices) -> Any:
    """The program (params, rest, data, images, labels, position, counts) -> sums of the terms.

    The arrays of a batch have an axis of this process's devices in front; `counts` is 1 for an
    example and 0 for padding. `graphdef` is in evaluation mode; the noise of an example depends
    on its position alone.
    """

    def sums(
        params: Any, rest: Any, data: Data, images: Any, labels: Any, position: Any, counts: Any
    ) -> Any:
        model, head = nnx.merge(graphdef, params, rest)
        x, keys = _inputs((), data, jax.random.key(0), images, position)
        terms = data.objective.terms(model, head, keys, x, labels)
        return lax.psum({name: (values * counts).sum() for name, values in terms.items()}, AXIS)

    return jax.pmap(
        sums,
        axis_name=AXIS,
        in_axes=(None, None, None, 0, 0, 0, 0),
        out_axes=None,
        devices=devices,
    )


def replicated(tree: Any, devices: Devices) -> Any:
    """The arrays with a copy on each device, of this process or all."""
    return _replication(devices)(tree, np.zeros(len(local(devices)), np.int8))


@functools.lru_cache(maxsize=16)
def _replication(devices: Devices) -> Any:
    return jax.pmap(
        lambda tree, _: tree, axis_name=AXIS, in_axes=(None, 0), out_axes=None, devices=devices
    )


def unequal(tree: Any, devices: Devices) -> list[str]:
    """The names of the arrays of a replicated tree whose copies differ, on any host, in any bit."""
    if len(devices) == 1:
        return []
    found = _comparison(devices)(tree, np.zeros(len(local(devices)), np.int8))
    return [
        jax.tree_util.keystr(path)
        for path, differs in jax.tree_util.tree_leaves_with_path(found)
        if bool(differs)
    ]


@functools.lru_cache(maxsize=16)
def _comparison(devices: Devices) -> Any:
    def differs(leaf: Array) -> Array:
        bits = lax.bitcast_convert_type(leaf, f"uint{8 * leaf.dtype.itemsize}")
        return (lax.pmax(bits, AXIS) != lax.pmin(bits, AXIS)).any()

    return jax.pmap(
        lambda tree, _: jax.tree.map(differs, tree),
        axis_name=AXIS,
        in_axes=(None, 0),
        out_axes=None,
        devices=devices,
    )


def local(devices: Devices) -> Sequence[jax.Device]:
    """Those of this process."""
    return [device for device in devices if device.process_index == jax.process_index()]


def mine(rows: np.ndarray, devices: Devices) -> np.ndarray:
    """(..., B) rows of a batch -> (devices of this process, ..., B / devices), each its part."""
    parts = np.stack(np.split(rows, len(devices), axis=-1))
    own = [i for i, d in enumerate(devices) if d.process_index == jax.process_index()]
    return np.ascontiguousarray(parts[own])
