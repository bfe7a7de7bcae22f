"""Examples without a label: encoders learn from them, heads do not.

In arrays they are marked by -1 beside other class numbers (-1 and 1 alone are two classes), by NaN,
or by None; of several real targets, by a row of NaN.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from reconjax.data.dataset import Dataset
from reconjax.data.layout import shape_text
from reconjax.data.split import Split


def with_unlabeled(data: Dataset, other: Dataset) -> Dataset:
    """The data set, and all examples of another one, whose labels nobody looks at.

    Raises:
      ValueError: examples of another shape, or in other units.
    """
    splits = [split for split in (other.train, other.test) if split is not None]
    if other.example_shape != data.example_shape:
        raise ValueError(
            f"unlabeled: {other.name} has {shape_text(other.example_shape)};"
            f" {data.name} has {shape_text(data.example_shape)}"
        )
    kinds = [part.examples(np.arange(1))[0].dtype == np.uint8 for part in (data.train, splits[0])]
    if kinds[0] != kinds[1]:
        raise ValueError(
            f"unlabeled: of {other.name} and {data.name} one has 8-bit images, the other has not;"
            " both must be 8-bit or neither"
        )
    return dataclasses.replace(data, unlabeled=(*data.unlabeled, *splits))


def count(splits: Sequence[Split]) -> int:
    """How many examples there are in all."""
    return sum(map(len, splits))
