"""What is known of a mask before training: numbers that grow with what is expected of it.

Closed forms see the training split of the networks; what is held out is a part that neither the
networks nor their probes have seen.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

import reconjax
from experiments import table
from experiments.advisor import cells
from reconjax.data import Dataset, Split
from reconjax.grid import sweep_targets
from reconjax.lift import (
    exact_moments,
    lift,
    linear_lift,
    parse_features,
    solve_lifted,
    solve_noise,
)
from reconjax.noise import Noise
from reconjax.studies.progress import say
from reconjax.theory.targets import joint_embedding, whitened

# The width of the tokens, the size of the code, and others.
LATENT_DIMS = (16, 64, 96, 288)
TARGETS: dict[str, Any] = {
    "reconstruction": None,
    "whitened target": whitened(1.0),
    "joint embedding": joint_embedding(),
}
# Features on which an encoder is linear, and the weight decay of it: what bounds the inverse of
# variances that are hardly there stands for the length of a training.
FEATURES = ("identity", "relu:2048")
RIDGES = (0.01, 0.1, 1.0)


class Value(NamedTuple):
    """What a predictor says of a mask.

    Attributes:
      data: the name of the set.
      block: see `Mask`.
      kept: see `Mask`.
      predictor: its name.
      value: larger where more is expected.
    """

    data: str
    block: int
    kept: int
    predictor: str
    value: float


def name_of(target: str, latent_dim: int, held_out: bool = True) -> str:
    """Of a closed form."""
    return f"{target}, K = {latent_dim}{'' if held_out else ', training split'}"


def predicted(options: Any) -> list[Value]:
    """Of all sets; `predictors.csv` keeps those that are there."""
    path = options.out / "predictors.csv"
    values = read(path)
    masks = cells.MASKS[: options.masks]
    for heads, make in ((tuple(TARGETS), closed_forms), *((f, lifted_forms) for f in FEATURES)):
        for data in options.data:
            name = cells.set_name(data)
            own = [v for v in values if v.data == name and v.predictor.startswith(heads)]
            if not {(value.block, value.kept) for value in own}.issuperset(masks):
                _, other = cells.split_in_three(data, options.data_dir, options.samples)
                values = [value for value in values if value not in own]
                values += make(name, other, masks, heads)
                table.write(path, Value._fields, values)
                say(f"{name}: closed forms of {len(masks)} masks, {heads}")
    return values


class ClassValue(NamedTuple):
    """What the closed form of reconstruction explains of one class.

    Attributes:
      data: the name of the set.
      block: see `Mask`.
      kept: see `Mask`.
      latent_dim: K.
      class_r2: for each class, separated by spaces; on the training split.
    """

    data: str
    block: int
    kept: int
    latent_dim: int
    class_r2: str


def of_classes(options: Any) -> list[ClassValue]:
    """Of all sets; `classes.csv` keeps those that are there."""
    path = options.out / "classes.csv"
    values = list(table.lines(path, ClassValue))
    masks = cells.MASKS[: options.masks]
    for data in options.data:
        name = cells.set_name(data)
        known = {(value.block, value.kept) for value in values if value.data == name}
        missing = [mask for mask in masks if mask not in known]
        if missing:
            _, dataset = cells.split_in_three(data, options.data_dir, options.samples)
            moments = moments_of(dataset.train, dataset.num_classes)
            for mask in missing:
                noise = mask.noise(dataset.example_shape)
                values += class_forms(name, moments, mask, noise)
                table.write(path, ClassValue._fields, values)
            say(f"{name}: closed forms of classes for {len(missing)} masks")
    return values


def class_forms(
    name: str, moments: reconjax.Moments, mask: cells.Mask, noise: Noise
) -> Iterator[ClassValue]:
    """R² of each class against all others, at the K that are looked at first."""
    solution = reconjax.solve(reconjax.problem(moments, noise))
    variance = np.diagonal(np.asarray(moments.label_moment))
    explained = np.cumsum(np.asarray(solution.coordinates) ** 2, axis=0) / variance
    for latent_dim in (cells.LATENT_DIM, cells.WIDTH):
        if latent_dim <= moments.features:
            shares = " ".join(f"{share:.5f}" for share in explained[latent_dim - 1])
            yield ClassValue(name, *mask, latent_dim, shares)


def read(path: Path) -> list[Value]:
    """The values in a file, none where there is no file."""
    return list(table.lines(path, Value))


def moments_of(split: Split, classes: int) -> reconjax.Moments:
    """In float64."""
    jax.config.update("jax_enable_x64", True)
    return reconjax.moments_from_batches(split.batches(), num_classes=classes)


def _both(dataset: Dataset) -> tuple[reconjax.Moments, reconjax.theory.HeldOut]:
    """What both splits say."""
    assert dataset.test is not None
    moments = moments_of(dataset.train, dataset.num_classes)
    return moments, reconjax.held_out([moments_of(dataset.test, dataset.num_classes)], moments)


def closed_forms(
    name: str, dataset: Dataset, masks: Sequence[cells.Mask], targets: Sequence[str]
) -> Iterator[Value]:
    """R² of the linear closed forms of these targets for these masks."""
    moments, held_out = _both(dataset)
    dims = [k for k in LATENT_DIMS if k <= moments.features]
    for block in sorted({mask.block for mask in masks}):
        own = [mask for mask in masks if mask.block == block]
        noises = [mask.noise(dataset.example_shape) for mask in own]
        found = sweep_targets(
            moments,
            [noises],
            [TARGETS[target] for target in targets],
            latent_dims=dims,
            held_out=held_out,
            precision="mixed",
        )
        for target, sweep in zip(targets, found, strict=True):
            yield from _values(name, target, own, dims, sweep)


def lifted_forms(
    name: str, dataset: Dataset, masks: Sequence[cells.Mask], features: str
) -> Iterator[Value]:
    """R² on new samples of reconstruction that is linear on fixed features, for some ridges.

    Random features see the mask sampled once; that of the inputs themselves has exact moments.
    """
    moments, held_out = _both(dataset)
    seen = linear_lift(moments, held_out)
    if features != "identity":
        unit = float(np.sqrt(np.mean(np.diagonal(np.asarray(moments.second_moment)))))
        made = parse_features(features, dataset.example_shape, unit=unit)
        seen = lift(dataset, made, moments=moments, dtype=np.float32)
    dims = [k for k in LATENT_DIMS if k <= moments.features]
    for mask in masks:
        noise = mask.noise(dataset.example_shape) if mask.kept else None
        kept = {"latent_dim": dims[-1], "precision": "mixed"}
        if features == "identity":
            path = solve_lifted(seen, exact_moments(moments, noise), RIDGES, **kept)
        else:
            _, (path,) = solve_noise(seen, noise, RIDGES, **kept)
        for solution in path:
            for latent_dim in dims:
                r2 = float(solution.held_out[latent_dim - 1])
                predictor = name_of(f"{features}, ridge {solution.ridge:g}", latent_dim)
                yield Value(name, *mask, predictor, round(r2, 6))


def _values(
    name: str, target: str, masks: Sequence[cells.Mask], dims: Sequence[int], sweep: Any
) -> Iterator[Value]:
    curves = {False: np.asarray(sweep.r2)[0, :, 0], True: np.asarray(sweep.held_out)[0, :, 0]}
    for held_out, r2 in curves.items():
        for mask, row in zip(masks, r2, strict=True):
            for latent_dim, value in zip(dims, row, strict=True):
                predictor = name_of(target, latent_dim, held_out)
                yield Value(name, *mask, predictor, round(float(value), 6))
