"""Training: `fit` for one run, `fit_runs` for several in one program.

    trained = fit(model, dataset, reconstruction(), epochs=20, out="run")
    codes = trained.model.encode(trained.inputs.centered(images))

The result does not depend on how many devices share the work (up to rounding), nor on whether the
run was interrupted (to the last bit, on the same devices).
"""

import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx

from reconjax.data.dataset import Dataset
from reconjax.nets import parameter_count
from reconjax.storage.files import output_folder
from reconjax.storage.parts import fingerprint
from reconjax.summary import hosts
from reconjax.training import parallel
from reconjax.training.augmentation import check_augmentation
from reconjax.training.examples import Centered, Examples, check_labels
from reconjax.training.loop import Loop
from reconjax.training.objectives import Objective
from reconjax.training.parallel import Run, State, Static
from reconjax.training.plan import check_decay, check_model, plan, several
from reconjax.training.runs import Row, RunFolder, Trained, fill


def fit(
    model: nnx.Module,
    dataset: Dataset,
    objective: Objective,
    *,
    epochs: int = 10,
    batch_size: int | None = None,
    learning_rate: float = 1e-3,
    weight_decay: float = 1e-4,
    seed: int = 0,
    augment: Sequence[str] = (),
    out: str | os.PathLike[str] | None = None,
    record: Mapping[str, Any] | None = None,
    checkpoint_every: int | None = None,
    evaluate_at: Iterable[int] | None = None,
    measure: Callable[[Trained], Mapping[str, Any]] | None = None,
    on_log: Callable[[Row], None] | None = None,
    progress: Callable[[int, Row], None] | None = None,
    devices: Sequence[jax.Device] | None = None,
) -> Trained:
    """Trains a network on the training split, on all devices of all hosts.

    Args:
      model: of `reconjax.nets` or alike: `encode`, `decode` and `latent_dim` for reconstruction,
        logits (N, num_classes) for classification. It stays as it is. It brings the dtype of the
        computation with it.
      dataset: images are centered by the mean of the training split.
      objective: of `reconjax.training.objectives`.
      epochs: times that the training split is gone through; what is left over when `batch_size`
        does not divide it takes part in another epoch.
      batch_size: of the whole batch; the number of devices must divide it. By default 128, or as
        many as there are.
      learning_rate: the peak of one cycle, > 0.
      weight_decay: of AdamW, >= 0.
      seed: of the order of the examples, the noise, the augmentation and the head.
      augment: of "crop", "flip", "greyscale".
      out: a folder for settings, metrics and checkpoints. A run that is there already goes on.
      record: plain values to keep in the settings and to compare with; with "net": the keyword
        arguments of `reconjax.nets.make`, `load` can make the network again.
      checkpoint_every: steps from one checkpoint to the next; by default a tenth of the run.
      evaluate_at: steps at which the test split is evaluated and `measure` is called; by default
        ten times, at ends of epochs. The last step is always among them.
      measure: gets the network as it is, in evaluation mode; what it gives is added to the row.
      on_log: gets every row of metrics as it is made.
      progress: gets the number of steps that were made, and the newest means; first, where a run
        goes on, the steps that it had made, and no means.
      devices: of all processes; all there are by default.

    Returns:
      `Trained`; its history holds the rows of metrics.

    Raises:
      ValueError: an argument that is out of range, labels that are not classes, a network that does
        not fit the data or the objective, or a folder of another run.
      Diverged: the loss is no longer finite; the last checkpoint before it is kept.
      OSError: a file cannot be written; the last checkpoint is kept.
    """
    runs = several(seed, learning_rate, _weight(objective))
    return _train(
        [model],
        runs,
        dataset,
        objective,
        None,
        epochs=epochs,
        batch_size=batch_size,
        weight_decay=weight_decay,
        augment=augment,
        out=out,
        record=record,
        checkpoint_every=checkpoint_every,
        evaluate_at=evaluate_at,
        measure=measure,
        on_log=on_log,
        progress=progress,
        devices=devices,
    )[0]


def fit_runs(
    make: Callable[[int], nnx.Module],
    dataset: Dataset,
    objective: Objective,
    *,
    seeds: int | Sequence[int] = 0,
    learning_rates: float | Sequence[float] = 1e-3,
    weights: float | Sequence[float] | None = None,
    together: str | None = None,
    **options: Any,
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
      **options: all others of `fit`, for all runs. `batch_size` is that of each run; with `out`
        they share a folder, and rows of metrics say of which run they are; `measure` is called for
        each.

    Returns:
      (R,) `Trained`. A run whose loss is no longer finite stays so while the others go on; its rows
      say so with null.

    Raises:
      ValueError: as `fit`, or sequences of different lengths.
      Diverged: all runs have.
      OSError: as `fit`.
    """
    if weights is not None and getattr(objective, "weight", None) is None:
        raise ValueError("weights: given for an objective that has none")
    if together not in (None, "vmap", "map"):
        raise ValueError(f"together: {together!r}; it must be 'vmap' or 'map'")
    shared = {**(fit.__kwdefaults__ or {}), **options}
    for name in ("seed", "learning_rate"):
        if name in options:
            raise ValueError(f"{name}: given to fit_runs, which takes {name}s")
        del shared[name]
    runs = several(seeds, learning_rates, _weight(objective) if weights is None else weights)
    models = [make(int(seed)) for seed in runs.seed]
    if together is None:
        slow = jax.default_backend() == "cpu" or _convolves(models[0])
        together = "map" if slow else "vmap"
    return _train(models, runs, dataset, objective, together, **shared)


def _convolves(model: nnx.Module) -> bool:
    """Whether a parameter has the axes of an image kernel."""
    return any(leaf.ndim > 2 for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))


def _weight(objective: Any) -> Any:
    """The weight of guidance of an objective, 0 where there is none."""
    weight = getattr(objective, "weight", None)
    return 0.0 if weight is None else weight


def _train(
    models: Sequence[nnx.Module],
    runs: Run,
    dataset: Dataset,
    objective: Any,
    together: str | None,
    *,
    epochs: int,
    batch_size: int | None,
    weight_decay: float,
    augment: Sequence[str],
    out: str | os.PathLike[str] | None,
    record: Mapping[str, Any] | None,
    checkpoint_every: int | None,
    evaluate_at: Iterable[int] | None,
    measure: Callable[[Trained], Mapping[str, Any]] | None,
    on_log: Callable[[Row], None] | None,
    progress: Callable[[int, Row], None] | None,
    devices: Sequence[jax.Device] | None,
) -> list[Trained]:
    chunk = 1 if jax.default_backend() == "cpu" and _convolves(models[0]) else parallel.CHUNK
    planned = plan(
        len(dataset.train), batch_size, epochs, devices, evaluate_at, checkpoint_every, chunk
    )
    check_decay(weight_decay)
    augment = check_augmentation(augment, dataset.example_shape)
    if dataset.test is not None:
        check_labels(dataset.test.labels, dataset.num_classes)
    nets, starts = [], []
    for model, seed in zip(models, runs.seed, strict=True):
        copied = nnx.merge(*nnx.split(model))
        copied.eval()
        check_model(copied, objective, dataset)
        pair = (copied, objective.head(copied, dataset.num_classes, nnx.Rngs(int(seed))))
        copied.train()
        starts.append(parallel.start(pair, weight_decay, planned.steps))
        copied.eval()
        nets.append(pair)
    static = Static(
        starts[0][0], augment, planned.steps, weight_decay, planned.chunk, together == "vmap"
    )
    state = starts[0][1]
    if together is not None:
        state = jax.tree.map(lambda *leaves: np.stack(leaves), *(found for _, found in starts))
    examples = Examples.of(dataset.train, dataset.num_classes)
    inputs = Centered.of(dataset.train)

    folder = None
    history: list[Row] = []
    if out is not None:
        if hosts.first():
            folder = RunFolder(output_folder(out))
            folder.claim(
                {
                    **(record or {}),
                    "objective": _described(objective),
                    "data": {
                        "name": dataset.name,
                        "classes": dataset.num_classes,
                        "shape": dataset.example_shape,
                        "fingerprint": fingerprint(examples),
                    },
                    "epochs": epochs,
                    "batch_size": planned.batch_size,
                    "weight_decay": weight_decay,
                    "augment": augment,
                    "parameters": parameter_count(nets[0][0]),
                    "runs": _listed(runs),
                    "several": together is not None,
                }
            )
            folder.keep_inputs(inputs.mean)
        state = _resumed(state, folder)
        if folder is not None:
            history = folder.rewind(int(np.max(state.step)))
    several = together is not None
    loop = Loop(
        planned, static, several, runs, dataset, objective, inputs, nets, folder, history,
        measure, on_log, progress,
    )  # fmt: skip
    return loop.run(state, examples)


def _listed(runs: Run) -> list[dict[str, Any]]:
    names = ("seed", "learning_rate", "guidance_weight")
    return [dict(zip(names, row, strict=True)) for row in zip(*runs, strict=True)]


def _described(objective: Any) -> dict[str, Any]:
    noise = getattr(objective, "noise", None)
    text = None if noise is None else f"{type(noise).__name__} {fingerprint(noise)}"
    supervised = getattr(objective, "weight", 0.0) is not None
    return {"name": objective.name, "loss": objective.loss if supervised else None, "noise": text}


def _resumed(state: State, folder: RunFolder | None) -> State:
    """The state of the newest checkpoint that is whole; the first of several processes reads."""
    found = None
    if folder is not None:
        found = folder.checkpoints.restore(lambda text: print(text, file=sys.stderr))
        folder.checkpoints.drop_after(-1 if found is None else found[0])
        if found is not None:
            state = fill(state, found[1], folder.folder)
    if jax.process_count() == 1:
        return state
    from jax.experimental.multihost_utils import broadcast_one_to_all

    return jax.tree.map(np.asarray, broadcast_one_to_all(jax.tree.map(np.asarray, state)))
