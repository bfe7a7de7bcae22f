"""Data parallelism: the only pmap.

A state is replicated: every device of every host holds a copy, sees its own part of each batch and
applies the mean of all gradients, so that the copies stay equal to the last bit. The batches and
the random draws depend on the position in the whole batch alone, not on the devices that share it.
Many steps run in one dispatch, so that small networks do not wait for the host.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array, lax

from reconjax.nets import AXIS
from reconjax.training.examples import Examples
from reconjax.training.objectives import statistics
from reconjax.training.step import State, Step

Devices = tuple[jax.Device, ...]

# Steps that one dispatch can hold. On CPUs XLA has no fast convolutions inside of a loop (7 times
# slower than outside): there, a dispatch makes a single step, which takes long enough.
CHUNK = 256


def mapped(function: Callable[..., Any], in_axes: Any, devices: Devices, **how: Any) -> Any:
    """The function on all devices, whose outputs are equal on all of them."""
    return jax.pmap(
        function, axis_name=AXIS, in_axes=in_axes, out_axes=None, devices=devices, **how
    )


@functools.lru_cache(maxsize=16)
def training(step: Step, devices: Devices, chunk: int) -> Any:
    """The program (state, objective, examples, rows, count) -> (state, terms) for these devices.

    state: of R runs, donated. rows: those of the batches of up to `chunk` steps, of which `count`
    are made, for the devices of this process: (devices, R, chunk, B / all devices) int32. terms:
    (R, chunk) means over the batch in each step.
    """

    def advance(state: State, objective: Any, examples: Examples, rows: Array, count: Array) -> Any:
        def once(state: State, rows: Array) -> Any:
            position = lax.axis_index(AXIS) * len(rows) + jnp.arange(len(rows), dtype=jnp.int32)
            key = jax.random.fold_in(jax.random.key(state.seed), state.step)
            batch = examples.rows(rows).batch(key, position, step.augment)
            return step(state, objective, batch)

        def run(state: State, rows: Array) -> Any:
            if chunk == 1:
                state, terms = once(state, rows[0])
                return state, jax.tree.map(lambda leaf: leaf[None], terms)
            _, shapes = jax.eval_shape(once, state, rows[0])
            history = jax.tree.map(lambda leaf: jnp.zeros((chunk,), leaf.dtype), shapes)

            def body(index: Array, carry: Any) -> Any:
                state, history = carry
                state, terms = once(state, rows[index])
                return state, jax.tree.map(lambda all, new: all.at[index].set(new), history, terms)

            # The number of steps is an argument: a shorter dispatch is the same program.
            return lax.fori_loop(jnp.int32(0), count, body, (state, history))

        if len(state.step) > 1:
            return jax.vmap(run)(state, rows)
        # Without vmap, which makes of a convolution a slow grouped one.
        state, rows = jax.tree.map(lambda leaf: leaf[0], (state, rows))
        return jax.tree.map(lambda leaf: leaf[None], run(state, rows))

    return mapped(advance, (None, None, None, 0, None), devices, donate_argnums=0)


def dispatch(
    program: Any, states: Sequence[State], objective: Any, examples: Examples, rows: np.ndarray,
    count: int, devices: Devices,
) -> tuple[list[State], dict[str, np.ndarray]]:  # fmt: skip
    """The states after `count` steps of `training`, and (R, count) of each term.

    Args:
      program: of `training`.
      states: all runs in one, side by side, or one each, in turn; they are donated.
      objective: replicated.
      examples: replicated.
      rows: (R, chunk, B) int32, of the batches.
      count: of steps, chunk at most.
      devices: those of the program.
    """
    results = [
        program(state, objective, examples, mine(part, devices), np.int32(count))
        for state, part in zip(states, np.split(rows, len(states)), strict=True)
    ]
    terms = {
        name: np.concatenate([terms[name] for _, terms in results])[:, :count]
        for name in results[0][1]
    }
    return [state for state, _ in results], terms


@functools.lru_cache(maxsize=16)
def evaluation(graphdef: Any, devices: Devices) -> Any:
    """The program (params, rest, objective, inputs, images, labels, position, counts) -> sums.

    The sums are those of which `objectives.terms_of` makes the terms. The arrays of a batch have an
    axis of this process's devices in front; `counts` is 1 for an example and 0 for padding.
    `graphdef` is in evaluation mode; the noise of an example depends on its position alone.
    """

    def sums(
        params: Any, rest: Any, objective: Any, inputs: Any, images: Any, labels: Any,
        position: Any, counts: Any,
    ) -> Any:  # fmt: skip
        model, head = nnx.merge(graphdef, params, rest)
        batch = Examples(inputs, images, labels).batch(jax.random.key(0), position)
        return lax.psum(statistics(objective, model, head, batch, counts), AXIS)

    return mapped(sums, (None, None, None, None, 0, 0, 0, 0), devices)


def replicated(tree: Any, devices: Devices) -> Any:
    """The arrays with a copy on each device, of this process or all."""
    return _replication(devices)(tree, np.zeros(len(_local(devices)), np.int8))


@functools.lru_cache(maxsize=16)
def _replication(devices: Devices) -> Any:
    return mapped(lambda tree, _: tree, (None, 0), devices)


def unequal(tree: Any, devices: Devices) -> list[str]:
    """The names of the arrays of a replicated tree whose copies differ, on any host, in any bit."""
    if len(devices) == 1:
        return []
    differences = _comparison(devices)(tree, np.zeros(len(_local(devices)), np.int8))
    return [
        jax.tree_util.keystr(path)
        for path, differs in jax.tree_util.tree_leaves_with_path(differences)
        if bool(differs)
    ]


@functools.lru_cache(maxsize=16)
def _comparison(devices: Devices) -> Any:
    def differs(leaf: Array) -> Array:
        bits = lax.bitcast_convert_type(leaf, f"uint{8 * leaf.dtype.itemsize}")
        return (lax.pmax(bits, AXIS) != lax.pmin(bits, AXIS)).any()

    return mapped(lambda tree, _: jax.tree.map(differs, tree), (None, 0), devices)


def mine(rows: np.ndarray, devices: Devices) -> np.ndarray:
    """(..., B) rows of a batch -> (devices of this process, ..., B / devices), each its part."""
    parts = np.split(rows, len(devices), axis=-1)
    return np.stack([parts[index] for index in _local(devices)])


def _local(devices: Devices) -> list[int]:
    """The places of the devices of this process among all."""
    return [i for i, d in enumerate(devices) if d.process_index == jax.process_index()]
