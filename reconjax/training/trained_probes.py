"""Probes that are trained: softmax regression (linear) and a network of three layers (nonlinear).

Both choose their setting, the penalty or the epoch, on a stratified part of the training split that
is held out of the fit.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax import Array
from jax.typing import ArrayLike

from reconjax.linalg.precision import highest
from reconjax.nets import MLPProbe
from reconjax.training.optimizer import adamw
from reconjax.training.probes import ROWS, Linear, Probe, Scores, Standard, Task, positive, task

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

    z are the standardized features. Each minimum is found by L-BFGS from that of the next stronger
    penalty, in the precision of the features.

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


def mlp_probe(
    x_train: ArrayLike,
    y_train: ArrayLike,
    x_test: ArrayLike | None = None,
    y_test: ArrayLike | None = None,
    *,
    num_classes: int | None = None,
    width: int = 512,
    epochs: int = 30,
    batch_size: int = 256,
    learning_rate: float = 1e-3,
    weight_decay: float = 1e-2,
    held_out: float = 0.1,
    seed: int = 0,
) -> Probe:
    """Nonlinear probe: `reconjax.nets.MLPProbe` on standardized features, by cross-entropy.

    AdamW with a one-cycle schedule, in float32. It has a loop of its own because it is chosen among
    its epochs, by the accuracy on the held-out part, and because features are few and small: they
    are all on one device, and an epoch is one dispatch.

    Args:
      x_train: (N, F) features.
      y_train: (N,) labels, two classes at least.
      x_test: (n, F) or None.
      y_test: (n,) or None.
      num_classes: C; by default the largest label plus one.
      width: of the two hidden layers.
      epochs: L.
      batch_size: samples in a step; an incomplete last batch of an epoch is left out.
      learning_rate: the highest of the schedule.
      weight_decay: of AdamW.
      held_out: share of the training split on which the epoch is chosen.
      seed: of the part that is held out, the initial parameters and the order of the samples.

    Returns:
      `Probe`; the scores on the training samples are of each batch just before its step.

    Raises:
      ValueError: as `task` and `held_out_part`, a size < 1, or a rate that is not finite and > 0.
    """
    given = task(x_train, y_train, x_test, y_test, num_classes)
    for name, size in (("width", width), ("epochs", epochs), ("batch_size", batch_size)):
        if size < 1:
            raise ValueError(f"{name}: {size}; it must be at least 1")
    positive("learning_rate", learning_rate)
    part = held_out_part(given.y, held_out, seed)
    rest = np.setdiff1d(np.arange(len(given.y)), part)
    standard = Standard.of(given.x)
    x, y = jnp.asarray(standard(given.x), jnp.float32), jnp.asarray(given.y)
    x_fit, y_fit, x_part, y_part = x[rest], y[rest], x[part], y[part]
    x_test = None if given.x_test is None else jnp.asarray(standard(given.x_test), jnp.float32)

    rows = min(batch_size, len(rest))
    net = MLPProbe(x.shape[1], given.classes, width=width, rngs=nnx.Rngs(seed))
    graph, parameters = nnx.split(net)
    recipe = _Recipe(graph, rows, epochs * (len(rest) // rows), learning_rate, weight_decay)
    state = recipe.optimizer().init(parameters)
    mean = jnp.asarray(given.one_hot_mean(), jnp.float32)
    train, validation, test = [], [], []
    for key in jax.random.split(jax.random.key(seed), epochs):
        parameters, state, sums = _epoch(recipe, parameters, state, key, x_fit, y_fit, mean)
        train.append(_of(sums, len(rest) // rows * rows))
        sums = _evaluated(recipe, parameters, x_part, y_part, mean)
        validation.append(_of(sums, len(part)))
        if x_test is not None and given.y_test is not None:
            sums = _evaluated(recipe, parameters, x_test, jnp.asarray(given.y_test), mean)
            test.append(_of(sums, len(given.y_test)))
    scores = Scores.joined(validation)
    return Probe(
        setting="epoch",
        values=np.arange(1, epochs + 1),
        chosen=scores.best(),
        validation=scores,
        train=Scores.joined(train),
        test=Scores.joined(test) if test else None,
    )


class _Recipe(NamedTuple):
    """How a network is trained; hashable, so that probes of one shape share a compilation."""

    graph: Any
    rows: int
    steps: int
    learning_rate: float
    weight_decay: float

    def optimizer(self) -> optax.GradientTransformation:
        return adamw(self.learning_rate, self.weight_decay, self.steps)


@functools.partial(jax.jit, static_argnums=0)
def _epoch(
    recipe: _Recipe, parameters: Any, state: Any, key: Array, x: Array, y: Array, mean: Array
) -> tuple[Any, Any, Array]:
    """Parameters and state after a step for each batch of the samples in random order, and sums."""
    optimizer = recipe.optimizer()

    def step(carry: tuple[Any, Any], index: Array) -> tuple[tuple[Any, Any], Array]:
        parameters, state = carry
        batch, labels = x[index], y[index]

        def loss(parameters: Any) -> tuple[Array, Array]:
            logits = nnx.merge(recipe.graph, parameters)(batch)
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
            return losses.mean(), logits

        gradient, logits = jax.grad(loss, has_aux=True)(parameters)
        with jax.numpy_dtype_promotion("standard"):  # optax mixes integers and floats
            updates, state = optimizer.update(gradient, state, parameters)
        return (optax.apply_updates(parameters, updates), state), _sums(logits, labels, mean)

    whole = len(x) // recipe.rows * recipe.rows
    order = jax.random.permutation(key, len(x))[:whole].reshape(-1, recipe.rows)
    (parameters, state), sums = jax.lax.scan(step, (parameters, state), order)
    return parameters, state, sums.sum(axis=0)


@functools.partial(jax.jit, static_argnums=0)
def _evaluated(recipe: _Recipe, parameters: Any, x: Array, y: Array, mean: Array) -> Array:
    net = nnx.merge(recipe.graph, parameters)
    return _sums(jax.lax.map(lambda one: net(one[None])[0], x, batch_size=ROWS), y, mean)


def held_out_part(y: np.ndarray, share: float, seed: int = 0) -> np.ndarray:
    """Indices, ascending, of a random part of labels y (N,) with the same share of every class.

    Each class gives `share` of its samples, rounded, at least one if it has two, and never all.

    Raises:
      ValueError: a share outside (0, 1), or no class with two samples.
    """
    if not 0 < share < 1:
        raise ValueError(f"held_out: {share}; it must be in (0, 1)")
    random = np.random.default_rng(seed)
    part = []
    for label in np.unique(y):
        members = np.flatnonzero(y == label)
        count = min(max(1, round(share * len(members))), len(members) - 1)
        part.append(random.permutation(members)[:count])
    found = np.sort(np.concatenate(part))
    if not len(found):
        raise ValueError("y_train: no class has two samples; nothing can be held out")
    return found


@jax.jit
@highest
def _fit(x: Array, y: Array, weight: Array, penalty: Array, head: Head, tolerance: Array) -> Head:
    """The minimum for features x (F, N), labels y (N,) and weights (N,), found from `head`."""
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
    mean = jnp.asarray(given.one_hot_mean(), x.dtype)
    return _of(_head_sums(head, x, jnp.asarray(y), mean), len(y))


@jax.jit
@highest
def _head_sums(head: Head, x: Array, y: Array, mean: Array) -> Array:
    return _sums((head[0] @ x + head[1]).T, y, mean)


@jax.jit
def _sums(logits: Array, y: Array, mean: Array) -> Array:
    """(3,): correct, ‖y − softmax‖² and ‖y − ȳ‖², over a batch of logits (B, C)."""
    one_hot = jax.nn.one_hot(y, logits.shape[1], dtype=logits.dtype)
    right = jnp.argmax(logits, axis=1).astype(y.dtype) == y
    squared = jnp.sum((one_hot - jax.nn.softmax(logits)) ** 2)
    return jnp.stack([jnp.sum(right, dtype=logits.dtype), squared, jnp.sum((one_hot - mean) ** 2)])


def _of(sums: Array, samples: int) -> Scores:
    found = np.asarray(sums, np.float64)
    return Scores.of(found[:1], found[1:2], float(found[2]), samples)
