"""`reconjax train`."""

import dataclasses
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cyclopts import Parameter

from reconjax.cli.options import (
    TRAINING,
    Hosts,
    Name,
    Output,
    ReadOptions,
    Whole,
    first_process,
)
from reconjax.cli.options import command as new_command
from reconjax.cli.tables import print_table, say_files
from reconjax.storage.files import write_json

if TYPE_CHECKING:
    from reconjax.data import Dataset
    from reconjax.noise import Noise
    from reconjax.training import Objective, Trained

Net = Literal[
    "linear", "mlp", "conv", "resnet18", "resnet34", "resnet50",
    "vit", "vit-ti", "vit-s", "resnet9", "mlp-classifier",
]  # fmt: skip
LATENT_DIM = 32
MASK_RATIO = 0.75
GUIDANCE_WEIGHT = 0.01
# Terms in the order of the table.
TERMS = (
    "loss", "reconstruction", "supervised", "accuracy", "invariance", "variance", "covariance",
)  # fmt: skip

command = new_command(
    "train",
    """
reconjax train digits --noise mask:0.5:2x2 --latent-dim 16 --out out
reconjax train cifar10 --net vit --noise exact:0.75:8x8 --out out
started again with the same --out, it goes on where it stopped
""",
)


@Parameter(name="*", group=TRAINING)
@dataclasses.dataclass(frozen=True)
class TrainOptions:
    """What is trained, and how."""

    net: Net = "mlp"
    """The network."""
    latent_dim: Whole | None = None
    """K of an autoencoder (32)."""
    patch: str | None = None
    """Of a ViT, like 4 or 4x8 (by the image's size)."""
    objective: (
        Literal[
            "reconstruction", "denoising", "masked", "guided", "joint-embedding", "classification"
        ]
        | None
    ) = None
    """By default what the other options imply."""
    noise: str | None = None
    """On the input, like mask:0.5:2x2; what a ViT masks."""
    loss_on: Literal["masked", "all"] | None = None
    """Patches of a ViT (masked)."""
    target: str | None = None
    """Predict whitened:S, patch-centered:HxW, highpass:STD."""
    guidance_weight: float | None = None
    """Weight of the labels beside reconstruction."""
    loss: Literal["cross_entropy", "mse", "whitening", "vicreg"] | None = None
    """Of the labels, or of two views."""
    vicreg_weights: list[float] | None = None
    """Invariance, variance, covariance (25 25 1)."""
    epochs: Whole = 20
    """Passes over the data."""
    batch_size: Whole | None = None
    """Over all devices (128, or all samples)."""
    learning_rate: float = 3e-3
    """Its peak; it rises, then falls."""
    weight_decay: float = 1e-4
    """Of AdamW."""
    augment: list[Literal["crop", "flip", "grayscale"]] | None = None
    """Random changes of images."""
    bfloat16: bool = False
    """Compute in bfloat16."""
    checkpoint_every: Whole | None = None
    """Steps; with --out (a tenth of the run)."""


@command.default
def train(
    data: Name = "digits",
    /,
    *,
    options: TrainOptions = TrainOptions(),
    reading: ReadOptions = ReadOptions(),  # noqa: B008
    output: Output = Output(),  # noqa: B008
    hosts: Hosts = Hosts(),  # noqa: B008
) -> None:
    """Train a network; end with its losses, and with --out keep it for `reconjax probe`."""
    import jax
    import numpy as np
    from flax import nnx

    from reconjax import nets, training
    from reconjax.studies.source import CHANGES, FILES
    from reconjax.training.fitting import usual_batch_size

    dataset = _dataset(data, reading)
    net = _net(options, dataset)
    noise = _noise(options, net)
    objective = _objective(options, net, noise, dataset)
    model = nets.make(
        **net,
        example_shape=dataset.example_shape,
        num_classes=dataset.num_classes,
        rngs=nnx.Rngs(reading.seed),
    )
    batch_size = options.batch_size
    if batch_size is None:
        batch_size = usual_batch_size(len(dataset.train), jax.device_count())
    understood = {name: getattr(reading, name) for name in (*FILES, *CHANGES)}
    if reading.test_share is not None:  # which draws the test split
        understood["seed"] = reading.seed
    with _bar(options.epochs * (len(dataset.train) // max(batch_size, 1))) as bar:
        trained = training.fit(
            model,
            dataset,
            objective,
            epochs=options.epochs,
            batch_size=batch_size,
            learning_rate=options.learning_rate,
            weight_decay=options.weight_decay,
            seed=reading.seed,
            augment=tuple(options.augment or ()),
            out=output.out,
            record={
                "net": net,
                "noise": noise,
                "source": data,
                **{name: value for name, value in understood.items() if value is not None},
            },
            checkpoint_every=options.checkpoint_every,
            progress=bar,
        )
    means = {"train": training.evaluate(trained, dataset.train, objective)}
    if not first_process():
        return
    if dataset.test is not None:  # the loop has ended with it
        last = [row for row in trained.history if row["split"] == "test"][-1]
        means["test"] = {name: last[name] for name in means["train"]}
    rates = [row["images_per_second"] for row in trained.history if row["split"] == "train"]
    result = {
        "data": dataset.name,
        "samples": len(dataset.train),
        "classes": dataset.num_classes,
        "targets": dataset.targets_text,
        "example_shape": list(dataset.example_shape),
        "net": net,
        "parameters": nets.parameter_count(model),
        "objective": objective.name,
        "noise": noise,
        **({} if options.target is None else {"target": options.target}),
        "steps": trained.step,
        "batch_size": batch_size,
        "devices": jax.device_count(),
        "images_per_second": float(np.median(rates)),
        **means,
    }
    files = [] if output.out is None else _write(output.out, trained, dataset, objective, result)
    if output.json:
        print(json.dumps(result))
        return
    _print(result, means, dataset.features)
    if pictures := {"reconstructions.png", "views.png"} & {*files}:
        from reconjax.plots.pictures import channels_note

        if note := channels_note(dataset.image_shape[2]):
            print(f"{pictures.pop()}: {note}")
    say_files(output.out, *files)


def _dataset(data: str, reading: ReadOptions) -> "Dataset":
    """The data set, with the parts of its splits that --max-samples leaves."""
    from reconjax.studies.source import Source

    source = Source(data, labels=False, **reading.keywords())
    dataset, size = source.sampled(), reading.max_samples
    if dataset.test is None or size is None:
        return dataset
    return dataclasses.replace(dataset, test=dataset.test.sample(size, reading.seed))


def _net(options: TrainOptions, data: "Dataset") -> dict[str, Any]:
    """The keyword arguments of `reconjax.nets.make`, as settings keep them."""
    from reconjax.nets import AUTOENCODERS, MASKED_AUTOENCODERS, check_patch, usual_patch

    net: dict[str, Any] = {"name": options.net}
    if options.net in AUTOENCODERS:
        net["latent_dim"] = LATENT_DIM if options.latent_dim is None else options.latent_dim
    elif options.latent_dim is not None:
        raise ValueError(f"--latent-dim: does not apply to --net {options.net}, which has none")
    if options.net in MASKED_AUTOENCODERS:
        net["patch_shape"] = list(usual_patch(data.example_shape))
        if options.patch is not None:
            sides = options.patch.split("x")
            if len(sides) > 2 or not all(side.isdecimal() for side in sides):
                raise ValueError(f"--patch: {options.patch!r}; HEIGHTxWIDTH or one number")
            patch = int(sides[0]), int(sides[-1])
            net["patch_shape"] = list(check_patch(patch, data.example_shape))
    else:
        for name in ("patch", "loss_on"):
            _refuse(options, name, f"--net {options.net}", needs="a vit")
    if options.bfloat16:
        net["dtype"] = "bfloat16"
    return net


def _noise(options: TrainOptions, net: dict[str, Any]) -> str | None:
    """The text of the noise; by default a masked autoencoder masks three of four of its patches."""
    if options.noise is not None or "patch_shape" not in net:
        return options.noise
    if options.objective not in (None, "masked") or options.guidance_weight is not None:
        return None
    return "exact:{}:{}x{}".format(MASK_RATIO, *net["patch_shape"])


def _objective(
    options: TrainOptions, net: dict[str, Any], noise_text: str | None, data: "Dataset"
) -> "Objective":
    """By --objective, or by what else is given."""
    from reconjax import training
    from reconjax.nets import CLASSIFIERS
    from reconjax.noise import ExactMask, parse_noise

    embeds = options.loss in training.EMBEDDING_LOSSES or options.vicreg_weights is not None
    noise = parse_noise(noise_text, data.example_shape) if noise_text else None
    vit, classifier = "patch_shape" in net, options.net in CLASSIFIERS
    name: str | None = options.objective
    if name is None:
        name = "classification"
        if not classifier:
            name = "denoising" if noise is not None else "reconstruction"
            name = "masked" if vit and isinstance(noise, ExactMask) else name
            name = "guided" if options.guidance_weight is not None else name
            name = "joint-embedding" if embeds else name
    for option, takes in (
        ("noise", ("denoising", "guided", "masked", "joint-embedding")),
        ("guidance_weight", ("guided",)),
        ("loss", ("guided", "classification", "joint-embedding")),
        ("vicreg_weights", ("joint-embedding",)),
        ("loss_on", ("masked",)),
        ("target", ("reconstruction", "denoising", "guided", "masked")),
    ):
        if name not in takes:
            _refuse(options, option, name)
    if (name == "classification") != classifier:
        kind = "a classifier" if classifier else "an autoencoder"
        raise ValueError(f"--objective {name}: --net {options.net} is {kind}")
    if (name == "masked" and not vit) or (name == "guided" and vit):
        raise ValueError(f"--objective {name}: does not apply to --net {options.net}")
    if name in ("guided", "classification") and options.loss in training.EMBEDDING_LOSSES:
        raise ValueError(f"--loss {options.loss}: is of two views; it does not apply to {name}")
    if name == "classification" and not data.num_classes:
        raise ValueError(f"--net {options.net}: {data.name} has {data.targets_text}, not classes")
    if name == "joint-embedding":
        return _joint_embedding(options, noise)
    loss = options.loss or "cross_entropy"
    if name == "classification":
        return training.classification(loss)
    if name == "denoising" and noise is None:
        raise ValueError("--objective denoising: --noise says which, as in mask:0.5:2x2")
    target = training.parse_target(options.target or "pixels", data.example_shape, data)
    if name == "guided":
        weight = GUIDANCE_WEIGHT if options.guidance_weight is None else options.guidance_weight
        return training.guided(weight, noise, loss, target=target)
    if name == "masked" and noise is not None:
        return training.masked(noise, loss_on=options.loss_on or "masked", target=target)
    if noise is None:
        return training.reconstruction(target=target)
    return training.denoising(noise, target=target)


def _joint_embedding(options: TrainOptions, noise: "Noise | None") -> "Objective":
    """Of two views, whitened or by VICReg."""
    from reconjax import training

    if noise is None:
        raise ValueError(
            "--objective joint-embedding: --noise says what makes two views, as in mask:0.5:2x2"
        )
    weights = options.vicreg_weights
    loss = options.loss or ("whitening" if weights is None else "vicreg")
    if loss not in training.EMBEDDING_LOSSES:
        known = " or ".join(training.EMBEDDING_LOSSES)
        raise ValueError(f"--loss {loss}: does not apply to joint-embedding; {known}")
    if weights is not None and loss != "vicreg":
        raise ValueError(f"--vicreg-weights: does not apply to --loss {loss}")
    return training.joint_embedding(noise, loss, weights=weights)


def _refuse(options: TrainOptions, name: str, what: str, needs: str | None = None) -> None:
    """Raises ValueError where this option is given."""
    if getattr(options, name) is not None:
        needed = f"; it needs {needs}" if needs else ""
        raise ValueError(f"--{name.replace('_', '-')}: does not apply to {what}{needed}")


@contextmanager
def _bar(steps: int) -> Iterator[Callable[[int, dict[str, float]], None]]:
    """Counts steps on a terminal, with the newest means beside them."""
    from reconjax.studies.progress import progress_bar

    with progress_bar("steps", steps) as advance:

        def count(made: int, means: dict[str, float]) -> None:
            if means:
                shown = {name: means[name] for name in ("loss", "accuracy") if name in means}
                text = ", ".join(f"{name} {value:.4g}" for name, value in shown.items())
                advance(made, f"steps: {text}, {means['images_per_second']:.0f} images/s")
                return
            if first_process():  # made before this run went on
                print(f"going on: {made} of {steps} steps are made", file=sys.stderr)
            advance(made)

        yield count


def _write(
    folder: Path,
    trained: "Trained",
    data: "Dataset",
    objective: "Objective",
    result: dict[str, Any],
) -> list[str]:
    """train.json and pictures; their names."""
    import jax
    import numpy as np
    from flax import nnx

    from reconjax.plots import history_figure, reconstruction_figure, save

    write_json(result, folder / "train.json")
    title = f"{data.name}: {result['net']['name']}, {objective.name}"
    save(history_figure(trained.history, title=title), folder / "history.png")
    files = ["train.json", "history.png"]
    if hasattr(objective, "shown") and len(data.example_shape) == 3:
        some = (data.test or data.train).sample(8, 0)
        x = trained.inputs.centered(some.examples(np.arange(len(some)))[0])
        mean = trained.inputs.mean
        show = nnx.jit(lambda model, x: objective.shown(model, jax.random.key(0), x))
        rows = show(trained.model, x)
        rows = {name: part + mean for name, part in rows.items()}
        if rows:
            name = "views.png" if "view" in rows else "reconstructions.png"
            save(reconstruction_figure(x + mean, rows, title=title), folder / name)
            files.append(name)
    return files


def _print(result: dict[str, Any], means: dict[str, dict[str, float]], features: int) -> None:
    import jax

    from reconjax.data.layout import shape_text

    print(
        f"{result['data']}: {result['samples']} samples, {features} features, {result['targets']};"
        f" {shape_text(result['example_shape'])}"
    )
    of = f" of {result['target']}, in its units" if "target" in result else ""
    print(
        f"{result['net']['name']}, {result['parameters']} parameters; {result['objective']}{of},"
        f" {result['steps']} steps of {result['batch_size']},"
        f" {result['images_per_second']:.0f} images/s on {result['devices']}"
        f" {jax.devices()[0].platform} device(s)"
    )
    terms = [name for name in TERMS if name in means["train"]]
    if "supervised" not in terms and "reconstruction" in terms:
        terms.remove("reconstruction")  # it is the loss
    rows = [[split, *(f"{values[name]:.5g}" for name in terms)] for split, values in means.items()]
    print_table(["", *terms], rows)
