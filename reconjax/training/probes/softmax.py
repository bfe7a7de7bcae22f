"""Linear probe by softmax regression, its penalty chosen on a part that is held out of the fit."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.typing import ArrayLike

from reconjax.linalg.precision import highest
from reconjax.training.probes.task import (
    Linear,
    Probe,
    Scores,
    Standard,
    Task,
    held_out_part,
    positive,
    task,
)

PENALTIES = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)
STEPS = 500  # of L-BFGS at most

Head = tuple[Array, Array]  # (C, F) kernel on standardized features, (C, 1) bias


def logistic_probe(
    x_train: ArrayLike,
    y_train: ArrayLike,
    x_test: ArrayLike | None = None,
    y_test: ArrayLike | None = None,
    *,
    num_classes: int | None = None,
    penalties: ArrayLike | Sequence[float] = PENALTIES,
    held_out: float = 0.2,
    seed: int = 0,
    tolerance: float = 1e-3,
) -> Probe:
    """Linear probe by gradient descent: the minimum of E CE(Wᵀz + b, y) + penalty/2 ‖W‖².

    z are the standardized features. L-BFGS comes to each minimum from that of the next stronger
    penalty, in the precision of the features; a convex problem needs no training loop.

    Args:
      x_train: (N, F) features.
      y_train: (N,) labels, two classes at least.
      x_test: (n, F) or None.
      y_test: (n,) or None.
      num_classes: C; by default the largest label plus one.
      penalties: (L,) > 0.
      held_out: share of the training split on which the penalty is chosen. The scores on the
        training and test splits are of heads that were then fitted on all of it.
      seed: of the part that is held out.
      tolerance: the norm of the gradient at which a fit ends.

    Returns:
      `Probe`.

    Raises:
      ValueError: as `task` and `held_out_part`, or a penalty that is not finite and > 0.

    Example:
      >>> x = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
      >>> y = (x[:, 0] > 0).astype(int)
      >>> probe = reconjax.training.logistic_probe(x[:40], y[:40], x[40:], y[40:], penalties=[0.01])
      >>> bool(probe.test.accuracy[probe.chosen] > 0.8)
      True
    """
    given = task(x_train, y_train, x_test, y_test, num_classes)
    values = positive("penalties", penalties)
    part = held_out_part(given.y, held_out, seed)
    standard = Standard.of(given.x)
    dtype = jnp.result_type(float) if given.x.dtype == np.float64 else jnp.float32
    # Features are rows: the sum over samples in the gradient is then 4 times as fast on a CPU.
    x, y = jnp.asarray(standard(given.x).T, dtype), jnp.asarray(given.y)
    everyone = np.ones(len(given.y))
    fitted = everyone.copy()
    fitted[part] = 0
    head = (jnp.zeros((given.classes, len(x)), dtype), jnp.zeros((given.classes, 1), dtype))
    held: dict[int, Scores] = {}
    heads: dict[int, Head] = {}
    for index in np.argsort(-values):
        penalty = jnp.asarray(values[index], dtype)
        head = _fit(x, y, jnp.asarray(fitted / fitted.sum(), dtype), penalty, head, tolerance)
        held[index] = _scored(head, x[:, part], given.y[part], given)
        whole = jnp.asarray(everyone / everyone.sum(), dtype)
        heads[index] = _fit(x, y, whole, penalty, head, tolerance)

    def path(x: Array, y: np.ndarray) -> Scores:
        return Scores.joined([_scored(heads[index], x, y, given) for index in range(len(values))])

    validation = Scores.joined([held[index] for index in range(len(values))])
    test = None
    if given.x_test is not None and given.y_test is not None:
        test = path(jnp.asarray(standard(given.x_test).T, dtype), given.y_test)
    chosen = validation.best()
    kernel, bias = (np.asarray(array, np.float64) for array in heads[chosen])
    kernel = kernel.T / standard.scale[:, None]
    linear = Linear(kernel, bias[:, 0] - standard.mean @ kernel)
    return Probe("penalty", values, chosen, validation, path(x, given.y), test, linear)


@jax.jit
@highest
def _fit(x: Array, y: Array, weight: Array, penalty: Array, head: Head, tolerance: Array) -> Head:
    """The minimum for features x (F, N), labels y (N,) and weights (N,), reached from `head`."""
    one_hot = jax.nn.one_hot(y, head[0].shape[0], axis=0, dtype=x.dtype)

    def loss(head: Head) -> Array:
        losses = optax.softmax_cross_entropy(head[0] @ x + head[1], one_hot, axis=0)
        return weight @ losses + penalty / 2 * jnp.sum(head[0] ** 2)

    solver = optax.lbfgs()
    value_and_gradient = optax.value_and_grad_from_state(loss)

    def step(carry: tuple[Head, Any, Array, Array]) -> tuple[Head, Any, Array, Array]:
        head, state, count, _ = carry
        value, gradient = value_and_gradient(head, state=state)
        with jax.numpy_dtype_promotion("standard"):  # optax mixes integers of 32 and 64 bits
            updates, state = solver.update(
                gradient, state, head, value=value, grad=gradient, value_fn=loss
            )
        head = optax.apply_updates(head, updates)
        return head, state, count + 1, optax.tree.norm(optax.tree.get(state, "grad"))

    def going(carry: tuple[Head, Any, Array, Array]) -> Array:
        return (carry[2] < STEPS) & (carry[3] > tolerance)

    far = jnp.asarray(jnp.inf, x.dtype)
    head, *_ = jax.lax.while_loop(going, step, (head, solver.init(head), jnp.int32(0), far))
    return head


def _scored(head: Head, x: Array, y: np.ndarray, given: Task) -> Scores:
    sums = np.asarray(_sums(head, x, jnp.asarray(y)), np.float64)
    return Scores.of(sums[:1], sums[1:], given.spread(y), len(y))


@jax.jit
@highest
def _sums(head: Head, x: Array, y: Array) -> Array:
    """(2,): correct, and ‖y − softmax‖², of features x (F, N) and labels y (N,)."""
    logits = head[0] @ x + head[1]
    one_hot = jax.nn.one_hot(y, len(logits), axis=0, dtype=logits.dtype)
    right = jnp.argmax(logits, axis=0).astype(y.dtype) == y
    squared = jnp.sum((one_hot - jax.nn.softmax(logits, axis=0)) ** 2)
    return jnp.stack([jnp.sum(right, dtype=logits.dtype), squared])
