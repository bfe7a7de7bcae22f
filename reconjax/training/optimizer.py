"""AdamW under a one-cycle schedule."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array


def one_cycle(steps: int) -> optax.Schedule:
    """The shape of the cycle: step -> share of the peak learning rate.

    A cosine up from 1/25 in the first 30 % of the steps and down to 1/250000 in the others (Smith
    and Topin 2017, as PyTorch and optax have it).
    """
    cycle = optax.cosine_onecycle_schedule(steps, 1.0)
    return lambda step: _lenient(cycle)(step).astype(jnp.float32)


def adamw(
    learning_rate: Array | float, weight_decay: float, steps: int
) -> optax.GradientTransformation:
    """AdamW with one cycle over `steps` steps; biases and scales are not decayed.

    Args:
      learning_rate: () its peak; may be traced, so that runs with several can be vmapped.
      weight_decay: of parameters with two axes or more, relative to the learning rate.
      steps: in all.
    """
    cycle = one_cycle(steps)

    def rate(count: Any) -> Array:
        return jnp.asarray(learning_rate, jnp.float32) * cycle(count)

    rule = optax.adamw(rate, weight_decay=weight_decay, mask=_kernels)
    return optax.GradientTransformation(rule.init, _lenient(rule.update))


def _lenient(function: Callable[..., Any]) -> Callable[..., Any]:
    """Optax mixes dtypes; its results have those of the parameters all the same."""

    def call(*arguments: Any) -> Any:
        with jax.numpy_dtype_promotion("standard"):
            return function(*arguments)

    return call


def _kernels(params: Any) -> Any:
    def decayed(path: Any, leaf: Array) -> bool:
        # The biases of attention have an axis of heads too.
        name = jax.tree_util.keystr(path[-1:], simple=True)
        return leaf.ndim > 1 and name != "bias"

    return jax.tree_util.tree_map_with_path(decayed, params)
