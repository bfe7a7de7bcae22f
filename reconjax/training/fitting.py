"""Training: `fit` for one run, `fit_runs` for several in one program.

    trained = fit(model, dataset, reconstruction(), epochs=20, out="run")
    codes = trained.model.encode(trained.inputs.centered(images))

The result does not depend on how many devices share the work (up to rounding), nor on whether the
run was interrupted (to the last bit, on the same devices).
"""

import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from reconjax.data.dataset import Dataset
from reconjax.nets import parameter_count
from reconjax.storage.files import output_folder
from reconjax.storage.parts import fingerprint
from reconjax.summary import hosts
from reconjax.training import parallel
from reconjax.training.augmentation import check_augmentation
from reconjax.training.evaluation import evaluate
from reconjax.training.examples import Examples, check_labels, rows_of_steps
from reconjax.training.loop import Diverged, Log, Metrics, States, all_diverged, gathered, loop
from reconjax.training.objectives import Objective, check_weight
from reconjax.training.optimizer import one_cycle
from reconjax.training.runs import Row, RunFolder, Trained, fill, merged, named
from reconjax.training.step import State, start, weighted

# Of a batch by default.
BATCH_SIZE = 128


def fit(
    model: nnx.Module,
    dataset: Dataset,
    objective: Objective,
    *,
    learning_rate: float = 1e-3,
    seed: int = 0,
    **options: Any,
) -> Trained:
    """Trains a network on the training split, on all devices of all hosts.

    Args:
      model: of `reconjax.nets` or alike: `encode`, `decode` and `latent_dim` for reconstruction,
        logits (N, num_classes) for classification. It stays as it is. It brings the dtype of the
        computation with it.
      dataset: images are centered by the mean of the training split.
      objective: of `reconjax.training.objectives`.
      learning_rate: the peak of one cycle, > 0.
      seed: of the order of the examples, the noise, the augmentation and the head.
      **options: `epochs`, `batch_size`, `weight_decay`, `augment`, `out`, `record`,
        `checkpoint_every`, `evaluate_at`, `measure`, `on_log`, `progress` and `devices`, as
        `fit_runs` has them.

    Returns:
      `Trained`; its history holds the rows of metrics.

    Raises:
      ValueError: an argument that is out of range, labels that are not classes, a network that does
        not fit the data or the objective, or a folder of another run.
      Diverged: the loss is no longer finite; the last checkpoint before it is kept.
      OSError: a file cannot be written; the last checkpoint is kept.

    Example:
      >>> from flax import nnx
      >>> digits = reconjax.data.load("digits")
      >>> net = reconjax.nets.make("linear", (8, 8, 1), latent_dim=4, rngs=nnx.Rngs(0))
      >>> objective = reconjax.training.denoising(reconjax.noise.patch_mask(0.5, 2, (8, 8, 1)))
      >>> trained = reconjax.training.fit(net, digits, objective, epochs=1, batch_size=128)
      >>> trained.step
      11
    """
    given = {"seeds": seed, "learning_rates": learning_rate, **options}
    return fit_runs(lambda _: model, dataset, objective, **given)[0]


def fit_runs(
    make: Callable[[int], nnx.Module],
    dataset: Dataset,
    objective: Objective,
    *,
    seeds: int | Sequence[int] = 0,
    learning_rates: float | Sequence[float] = 1e-3,
    weights: float | Sequence[float] | None = None,
    together: str | None = None,
    epochs: int = 10,
    batch_size: int | None = None,
    weight_decay: float = 1e-4,
    augment: Sequence[str] = (),
    out: str | os.PathLike[str] | None = None,
    record: Mapping[str, Any] | None = None,
    checkpoint_every: int | None = None,
    evaluate_at: Iterable[int] | None = None,
    measure: Callable[[Trained], Mapping[str, Any]] | None = None,
    on_log: Callable[[Row], None] | None = None,
    progress: Callable[[int, Row], None] | None = None,
    devices: Sequence[jax.Device] | None = None,
) -> list[Trained]:
    """Trains several runs in one compiled program; otherwise as `fit`.

    Args:
      make: seed -> the network of a run. Runs of one seed start alike.
      dataset: as in `fit`.
      objective: as in `fit`.
      seeds: one for each run, or one for all.
      learning_rates: one for each run, or one for all.
      weights: of guidance, one for each run, or one for all; by default that of the objective.
      together: "vmap" computes the runs side by side, which fills an accelerator with small dense
        networks; "map" calls one program for each in turn. By default "map" on CPUs, where vmap was
        never faster, and for convolutions, whose vmapped kernels are slow grouped ones; "vmap" for
        others.
      epochs: times that the training split is gone through; what is left over when `batch_size`
        does not divide it takes part in another epoch.
      batch_size: of the whole batch of a run; the number of devices must divide it. By default 128,
        or as many as there are.
      weight_decay: of AdamW, >= 0.
      augment: of "crop", "flip", "grayscale".
      out: a folder for settings, metrics and checkpoints of all runs. A training that is there
        already goes on.
      record: plain values to keep in the settings and to compare with; with "net": the keyword
        arguments of `reconjax.nets.make`, `load` can make the network again.
      checkpoint_every: steps from one checkpoint to the next; by default a tenth of the training.
      evaluate_at: steps at which the test split is evaluated and `measure` is called; by default
        ten times, at ends of epochs. The last step is always among them.
      measure: gets the network as it is, in evaluation mode; what it gives is added to the row. It
        is called for each run.
      on_log: gets every row of metrics as it is made.
      progress: gets the number of steps that were made, and the newest means; first, where a
        training goes on, the steps that it had made, and no means.
      devices: of all processes; all there are by default.

    Returns:
      (R,) `Trained`. A run whose loss is no longer finite stays so while the others go on; its rows
      say so with null.

    Raises:
      ValueError: as `fit`, or sequences of different lengths.
      Diverged: all runs have.
      OSError: as `fit`.

    Example:
      >>> from flax import nnx
      >>> from reconjax import nets, training
      >>> digits = reconjax.data.load("digits")
      >>> net = lambda seed: nets.make("linear", (8, 8, 1), latent_dim=4, rngs=nnx.Rngs(seed))
      >>> runs = training.fit_runs(net, digits, training.reconstruction(), seeds=[0, 1], epochs=1)
      >>> [run.step for run in runs]
      [11, 11]
    """
    if weights is not None and getattr(objective, "weight", None) is None:
        raise ValueError("weights: given for an objective that has none")
    if together not in (None, "vmap", "map"):
        raise ValueError(f"together: {together!r}; it must be 'vmap' or 'map'")
    if not (math.isfinite(weight_decay) and weight_decay >= 0):
        raise ValueError(f"weight_decay: {weight_decay}; it must be finite and >= 0")
    weights = getattr(objective, "weight", None) if weights is None else weights
    runs = _runs(seeds, learning_rates, 0.0 if weights is None else weights)
    devices = tuple(devices or jax.devices())
    if batch_size is None:
        batch_size = usual_batch_size(len(dataset.train), len(devices))
    per_epoch, steps = _steps(len(dataset.train), batch_size, epochs, len(devices))
    tenths = frozenset(per_epoch * math.ceil(epochs * i / 10) for i in range(1, 11))
    evaluations = tenths if evaluate_at is None else _evaluations(evaluate_at, steps)
    checkpoints = tenths if checkpoint_every is None else _checkpoints(checkpoint_every, steps)
    augment = check_augmentation(augment, dataset.example_shape)
    if dataset.test is not None:
        check_labels(dataset.test.labels, dataset.num_classes)

    own_seeds = runs["seeds"].tolist()
    nets = [_pair(make(seed), objective, dataset, seed) for seed in own_seeds]
    if hasattr(objective, "check_batch"):
        objective.check_batch(nets[0][0], dataset, batch_size)
    step, state = start(nets, **runs, augment=augment, steps=steps, weight_decay=weight_decay)
    examples = Examples.of(dataset.train, dataset.num_classes)
    inputs = examples.inputs
    folder = None
    if out is not None:
        if hosts.first():
            folder = RunFolder(output_folder(out))
            settings = {
                **(record or {}),
                "objective": objective.settings(),
                "data": {
                    "name": dataset.name,
                    "classes": dataset.num_classes,
                    "shape": dataset.example_shape,
                    "fingerprint": fingerprint((examples.images, examples.labels)),
                },
                "epochs": epochs,
                "batch_size": batch_size,
                "weight_decay": weight_decay,
                "augment": augment,
                "parameters": parameter_count(nets[0][0]),
                "runs": _listed(runs),
            }
            folder.claim(settings, inputs.mean)
        state = _resumed(state, folder)
    done = int(state.step[0])
    metrics = Metrics(folder.rewind(done) if folder else [], per_epoch, folder, on_log)

    def trained(states: States) -> list[Trained]:
        """The networks of a state, in evaluation mode, on the default device."""
        whole = gathered(states)
        results = []
        for run, pair in enumerate(nets):
            model, head = merged(pair, _part(whole.params, run), _part(whole.rest, run))
            rows = [row for row in metrics.history if row["run"] == run]
            results.append(Trained(model, head, inputs, rows, int(whole.step[run])))
        return results

    def evaluation(states: States, start: int, stop: int, *_: Any) -> None:
        """Rows of the test split, and of what the caller measures."""
        if stop not in evaluations:
            return
        rows = []
        for run, weight in zip(trained(states), runs["weights"], strict=True):
            row: Row = {}
            if dataset.test is not None:
                row |= evaluate(run, dataset.test, weighted(objective, weight), devices=devices)
            rows.append(row | dict(measure(run) if measure else {}))
        metrics.add(stop, "test", rows)

    def checkpoint(states: States, start: int, stop: int, *_: Any) -> None:
        """Keeps a state that is sound."""
        if stop not in checkpoints:
            return
        if differing := parallel.unequal(states, devices):
            raise RuntimeError(
                f"step {stop}: {differing[0]} differs between devices, and {len(differing) - 1}"
                " others do; a network must take its statistics over all of them"
            )
        if folder is not None:
            arrays = named(gathered(states))
            if all_diverged(arrays):
                raise Diverged(log.advice("a parameter is not finite", stop))
            folder.save(stop, arrays)

    slow_in_loops = jax.default_backend() == "cpu" and _convolves(nets[0][0])
    longest = 1 if slow_in_loops else parallel.CHUNK
    if together is None:
        apart = jax.default_backend() == "cpu" or _convolves(nets[0][0])
        together = "map" if apart else "vmap"
    states = [state]
    if together == "map":
        states = [_part(state, slice(run, run + 1)) for run in range(len(nets))]
    states, target, examples = parallel.replicated((states, objective, examples), devices)
    program = parallel.training(step, devices, longest)

    def advance(states: States, start: int, stop: int) -> Any:
        """The states after the steps start + 1 .. stop, and (R, stop - start) of each term."""
        rows = rows_of_steps(own_seeds, start, stop, longest, len(dataset.train), batch_size)
        return parallel.dispatch(program, states, target, examples, rows, stop - start, devices)

    if done < steps:
        # A step for nothing: it compiles, and the clock does not see it.
        advance(jax.tree.map(jnp.copy, states), done, done + 1)
    if done > 0 and progress:
        progress(done, {})
    if done == 0:
        evaluation(states, 0, 0)
    cycle = np.asarray(jax.jit(jax.vmap(one_cycle(steps)))(np.arange(steps, dtype=np.int32)))
    stops = evaluations | checkpoints
    log = Log(
        metrics,
        stops,
        runs["learning_rates"].astype(float),
        cycle,
        batch_size * len(nets),
        progress,
    )
    return trained(loop(advance, states, done, stops, longest, [log, evaluation, checkpoint]))


def usual_batch_size(samples: int, devices: int) -> int:
    """The batch size by default: 128, or the largest that few samples fill.

    A multiple of the number of devices, which may be more than the samples where those are fewer.
    """
    return max(min(BATCH_SIZE, samples) // devices, 1) * devices


def _steps(samples: int, batch_size: int, epochs: int, devices: int) -> tuple[int, int]:
    """Those of an epoch, whole batches, and all.

    Raises:
      ValueError: a size that is out of range, or a batch that the devices do not divide.
    """
    if epochs < 1:
        raise ValueError(f"epochs: {epochs}; it must be at least 1")
    if not 1 <= batch_size <= samples:
        raise ValueError(f"batch_size: {batch_size}; 1 .. {samples} with {samples} examples")
    if batch_size % devices:
        raise ValueError(
            f"batch_size: {batch_size} cannot be shared by {devices} devices alike; a multiple of"
            f" {devices} can"
        )
    return samples // batch_size, epochs * (samples // batch_size)


def _evaluations(evaluate_at: Iterable[int], steps: int) -> frozenset[int]:
    wanted = frozenset({*map(int, evaluate_at), steps})
    if wrong := [step for step in sorted(wanted) if not 0 <= step <= steps]:
        raise ValueError(f"evaluate_at: {wrong[0]}; 0 .. {steps} in a run of {steps} steps")
    return wanted


def _checkpoints(every: int, steps: int) -> frozenset[int]:
    if every < 1:
        raise ValueError(f"checkpoint_every: {every}; it must be at least 1 step")
    return frozenset({*range(every, steps, every), steps})


def _runs(seeds: Any, learning_rates: Any, weights: Any) -> dict[str, np.ndarray]:
    """(R,) of each, from numbers or sequences.

    Raises:
      ValueError: one that is out of range, or different lengths.
    """
    given = {"seeds": seeds, "learning_rates": learning_rates, "weights": weights}
    arrays = {name: np.atleast_1d(np.asarray(values)) for name, values in given.items()}
    try:
        seed, rate, weight = np.broadcast_arrays(*arrays.values())
    except ValueError:
        sizes = ", ".join(f"{len(values)} {name}" for name, values in arrays.items())
        raise ValueError(f"runs: {sizes}; one of each for every run, or one for all") from None
    for value in seed.tolist():
        if not isinstance(value, int) or not 0 <= value < 2**32:
            raise ValueError(f"seed: {value}; a whole number from 0 to 4294967295 is needed")
    for value in rate.tolist():
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"learning_rate: {value}; it must be finite and > 0")
    for value in weight.tolist():
        check_weight(value)
    dtypes = dict(zip(given, (np.uint32, np.float32, np.float32), strict=True))
    columns = zip(dtypes.items(), (seed, rate, weight), strict=True)
    return {name: values.astype(dtype) for (name, dtype), values in columns}


def _listed(runs: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    names = ("seed", "learning_rate", "guidance_weight")
    return [dict(zip(names, row, strict=True)) for row in zip(*runs.values(), strict=True)]


def _pair(model: Any, objective: Objective, dataset: Dataset, seed: int) -> tuple[Any, Any]:
    """A copy of the model, checked, and its head, in training mode."""
    shape = tuple(getattr(model, "example_shape", dataset.example_shape))
    if shape != dataset.example_shape:
        raise ValueError(f"model: made for examples of {shape}, not of {dataset.example_shape}")
    model = nnx.merge(*nnx.split(model))
    model.eval()
    objective.check(model, dataset)
    head = objective.head(model, dataset.num_classes, nnx.Rngs(seed))
    model.train()
    return model, head


def _convolves(model: nnx.Module) -> bool:
    """Whether a parameter has the axes of an image kernel; those of attention have three."""
    return any(leaf.ndim > 3 for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))


def _part(tree: Any, runs: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf[runs], tree)


def _resumed(state: State, folder: RunFolder | None) -> State:
    """The state of the newest checkpoint that is whole; the first of several processes reads."""
    checkpoint = None if folder is None else folder.restore()
    if folder is not None and checkpoint is not None:
        state = fill(state, checkpoint[1], folder.folder)
    if jax.process_count() == 1:
        return state
    from jax.experimental.multihost_utils import broadcast_one_to_all

    return jax.tree.map(np.asarray, broadcast_one_to_all(jax.tree.map(np.asarray, state)))
