"""What the linear closed form says of each choice, on the sets of the networks."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

import reconjax
from experiments import table
from experiments.advisor.predictors import moments_of
from experiments.objectives import cells
from experiments.objectives.cells import CHOICES, LATENT_DIM, LOSSES, Choice
from reconjax.data import Dataset
from reconjax.grid import sweep_targets
from reconjax.noise import parse_noise
from reconjax.studies.progress import say
from reconjax.theory.targets import joint_embedding, parse_target

EMBEDDING = "joint embedding"


class Value(NamedTuple):
    """The closed form of a choice.

    Attributes:
      data: the text that `reconjax.data.load` takes.
      learned: "pixels", a target, or "joint embedding".
      noise: as in `Choice`.
      samples: of the training split.
      latent_dim: K.
      r2: on the training split.
      held_out: on the test split.
    """

    data: str
    learned: str
    noise: str
    samples: int
    latent_dim: int
    r2: float
    held_out: float


def closed(choice: Choice) -> Choice:
    """The choice whose closed form stands for one: both losses of joint embedding have the same."""
    return Choice(EMBEDDING, choice.noise) if choice.embedding else choice


def predicted(options: Any) -> dict[tuple[str, Choice], Value]:
    """Of all sets and choices; `closed_forms.csv` keeps those that are there."""
    path = options.out / "closed_forms.csv"
    values = list(table.lines(path, Value))
    for data in options.data:
        own = {Choice(value.learned, value.noise) for value in values if value.data == data}
        if not own.issuperset(map(closed, CHOICES)):
            known = cells.dataset(data, options.data_dir, options.samples)
            values = [value for value in values if value.data != data]
            values += closed_forms(data, known)
            table.write(path, Value._fields, values)
            say(f"{data}: closed forms")
    return {(value.data, Choice(value.learned, value.noise)): value for value in values}


def closed_forms(name: str, data: Dataset) -> Iterator[Value]:
    """R² of the linear closed forms."""
    assert data.test is not None
    moments = moments_of(data.train, data.num_classes)
    held_out = reconjax.held_out([moments_of(data.test, data.num_classes)], moments)
    choices = list(dict.fromkeys(map(closed, CHOICES)))
    for noise in dict.fromkeys(choice.noise for choice in choices):
        learned = [choice.learned for choice in choices if choice.noise == noise]
        text = "mask:0:1x1" if noise == "none" else noise
        found = sweep_targets(
            moments,
            [[parse_noise(text, data.example_shape)]],
            [target(text, data.example_shape) for text in learned],
            latent_dims=[LATENT_DIM],
            held_out=held_out,
            precision="float64",
        )
        for text, sweep in zip(learned, found, strict=True):
            numbers = (np.ravel(curve)[0] for curve in (sweep.r2, sweep.held_out))
            r2, test = (round(float(number), 6) for number in numbers)
            yield Value(name, text, noise, len(data.train), LATENT_DIM, r2, test)


def target(text: str, example_shape: Sequence[int]) -> Any:
    """Of the theory."""
    assert text not in LOSSES
    return joint_embedding() if text == EMBEDDING else parse_target(text, example_shape)
