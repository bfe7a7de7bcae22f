"""`reconjax train`."""

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from reconjax.cli.inputs import dataset, how_understood, split
from reconjax.cli.printing import progress, say_files, understood, write_json
from reconjax.data.layout import shape_text
from reconjax.summary import hosts

# Named here too, for the help must not wait for Flax; a test compares.
NETS = ("linear", "mlp", "conv", "resnet18", "resnet34", "resnet50", "resnet9", "mlp-classifier")
OBJECTIVES = ("reconstruction", "denoising", "guided", "classification")
LOSSES = ("cross_entropy", "mse")
AUGMENTATIONS = ("crop", "flip", "greyscale")
LATENT_DIM = 32
# Terms in the order of the table.
TERMS = ("loss", "reconstruction", "supervised", "accuracy")


def run(options: argparse.Namespace) -> None:
    """Trains a network; ends with its losses, and with --out keeps it for `reconjax probe`."""
    from flax import nnx

    from reconjax.nets import make, parameter_count
    from reconjax.training import evaluate, fit
    from reconjax.training.plan import usual_batch_size

    for name in ("class_weight", "standardize", "memory"):
        if getattr(options, name):
            raise ValueError(f"--{name.replace('_', '-')}: does not apply to training")
    data = _part(options)
    objective = _objective(options, data)
    net = _net(options)
    model = make(
        **net,
        example_shape=data.example_shape,
        num_classes=data.num_classes,
        rngs=nnx.Rngs(options.seed),
    )
    batch_size = options.batch_size
    if batch_size is None:
        batch_size = usual_batch_size(len(data.train), jax.device_count())
    steps = options.epochs * (len(data.train) // max(batch_size, 1))
    with _Bar(steps) as bar:
        trained = fit(
            model,
            data,
            objective,
            epochs=options.epochs,
            batch_size=batch_size,
            learning_rate=options.learning_rate,
            weight_decay=options.weight_decay,
            seed=options.seed,
            augment=options.augment,
            out=options.out,
            record={
                "net": net,
                "noise": options.noise,
                "source": options.data,
                **how_understood(options),
            },
            checkpoint_every=options.checkpoint_every,
            progress=bar,
        )
    means = {"train": evaluate(trained, data.train, objective)}
    if not hosts.first():
        return
    if data.test is not None:  # the loop has ended with it
        last = [row for row in trained.history if row["split"] == "test"][-1]
        means["test"] = {name: last[name] for name in means["train"]}
    rates = [row["images_per_second"] for row in trained.history if row["split"] == "train"]
    result = {
        "data": data.name,
        "samples": len(data.train),
        "classes": data.num_classes,
        **understood(data),
        "net": net,
        "parameters": parameter_count(model),
        "objective": objective.name,
        "noise": options.noise,
        "steps": trained.step,
        "devices": jax.device_count(),
        "images_per_second": float(np.median(rates)),
        **means,
    }
    files = _write(options, trained, data, objective, result)
    if options.json:
        print(json.dumps(result))
        return
    print(
        f"{data.name}: {len(data.train)} samples, {data.features} features, {data.targets_text};"
        f" {shape_text(data.example_shape)}"
    )
    print(
        f"{net['name']}, {result['parameters']} parameters; {objective.name}, {trained.step} steps"
        f" of {batch_size}, {result['images_per_second']:.0f} images/s"
        f" on {jax.device_count()} {jax.devices()[0].platform} device(s)"
    )
    terms = [name for name in TERMS if name in means["train"]]
    if "supervised" not in terms and "reconstruction" in terms:
        terms.remove("reconstruction")  # it is the loss
    print(f"{'':>7}" + "".join(f"{name:>16}" for name in terms))
    for part, found in means.items():
        print(f"{part:>7}" + "".join(f"{found[name]:>16.5g}" for name in terms))
    if "reconstructions.png" in files:
        from reconjax.plots.pictures import channels_note

        if note := channels_note(data.image_shape[2]):
            print(f"reconstructions.png: {note}")
    say_files(Path(options.out) if options.out else None, *files)


def _part(options: argparse.Namespace) -> Any:
    """The data set, with the parts of its splits that --max-samples leaves."""
    data = dataset(options)
    test = data.test
    if test is not None and options.max_samples is not None:
        test = test.sample(options.max_samples, options.seed)
    return dataclasses.replace(data, train=split(options), test=test)


def _net(options: argparse.Namespace) -> dict[str, Any]:
    """The keyword arguments of `reconjax.nets.make`, as settings keep them."""
    from reconjax.nets import AUTOENCODERS

    net: dict[str, Any] = {"name": options.net}
    if options.net in AUTOENCODERS:
        net["latent_dim"] = LATENT_DIM if options.latent_dim is None else options.latent_dim
    elif options.latent_dim is not None:
        raise ValueError(f"--latent-dim: does not apply to --net {options.net}, a classifier")
    if options.bfloat16:
        net["dtype"] = "bfloat16"
    return net


def _objective(options: argparse.Namespace, data: Any) -> Any:
    """By --objective, or by what else is given."""
    from reconjax.nets import AUTOENCODERS
    from reconjax.noise import parse_noise
    from reconjax.training import classification, denoising, guided, reconstruction

    name = options.objective
    if name is None:
        name = "classification"
        if options.net in AUTOENCODERS:
            name = "denoising" if options.noise else "reconstruction"
            name = "guided" if options.guidance_weight is not None else name
    for option, takes in (
        ("noise", ("denoising", "guided")),
        ("guidance_weight", ("guided",)),
        ("loss", ("guided", "classification")),
    ):
        if getattr(options, option) is not None and name not in takes:
            raise ValueError(f"--{option.replace('_', '-')}: does not apply to {name}")
    if (name == "classification") == (options.net in AUTOENCODERS):
        kind = "an autoencoder" if options.net in AUTOENCODERS else "a classifier"
        raise ValueError(f"--objective {name}: --net {options.net} is {kind}")
    if name == "classification" and not data.num_classes:
        raise ValueError(f"--net {options.net}: {data.name} has {data.targets_text}, not classes")
    noise = parse_noise(options.noise, data.example_shape) if options.noise else None
    loss = options.loss or "cross_entropy"
    if name == "classification":
        return classification(loss)
    if name == "guided":
        weight = 0.01 if options.guidance_weight is None else options.guidance_weight
        return guided(weight, noise, loss)
    if name == "denoising" and noise is None:
        raise ValueError("--objective denoising: --noise says which, as in mask:0.5:2x2")
    return reconstruction() if noise is None else denoising(noise)


class _Bar(progress):
    """The bar of `progress`, with the newest means beside it."""

    def __init__(self, steps: int) -> None:
        """A run of so many steps."""
        super().__init__("steps", steps)

    def __call__(self, count: int, means: dict[str, float]) -> None:
        """So many steps were made; without means, before this run went on."""
        if not means:
            if hosts.first():
                print(f"going on: {count} of {self.total} steps are made", file=sys.stderr)
            self.bar.update(count)
            return
        shown = {name: means[name] for name in ("loss", "accuracy") if name in means}
        text = ", ".join(f"{name} {value:.4g}" for name, value in shown.items())
        self.bar.set_postfix_str(f"{text}, {means['images_per_second']:.0f} images/s", False)
        self.bar.update(count)

    def __enter__(self) -> Any:
        """Itself."""
        super().__enter__()
        return self


def _write(
    options: argparse.Namespace, trained: Any, data: Any, objective: Any, result: dict[str, Any]
) -> list[str]:
    """train.json and pictures into --out; their names."""
    if not options.out:
        return []
    from reconjax.plots import history_figure, reconstruction_figure, save

    out = Path(options.out)
    write_json(result, out / "train.json")
    title = f"{data.name}: {options.net}, {objective.name}"
    save(history_figure(trained.history, title=title), out / "history.png")
    files = ["train.json", "history.png"]
    if hasattr(objective, "noise") and len(data.example_shape) == 3:
        some = (data.test or data.train).sample(8, options.seed)
        images, _ = some.examples(np.arange(len(some)))
        rows = _reconstructions(trained, images, objective.noise)
        mean = trained.inputs.mean
        originals, *others = (part + mean for part in rows.values())
        names = [name for name in rows if name != "original"]
        figure = reconstruction_figure(
            originals, dict(zip(names, others, strict=True)), title=title
        )
        save(figure, out / "reconstructions.png")
        files.append("reconstructions.png")
    return files


def _reconstructions(trained: Any, images: Any, noise: Any) -> dict[str, Any]:
    """Centered originals, noisy inputs if there are any, and what the network makes of them."""
    x = trained.inputs.centered(images)
    rows = {"original": x}
    seen = x
    if noise is not None:
        seen = rows["input"] = noise.sample(jax.random.key(0), x)
    rows["output"] = jnp.asarray(trained.model(seen), x.dtype)
    return rows
