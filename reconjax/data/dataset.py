"""A data set: a training split, perhaps a test split, and the names of the classes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from reconjax.data.arrays import as_images, as_labels, one_scale
from reconjax.data.split import ArraySplit, Split


@dataclass(frozen=True)
class Dataset:
    """A set of images or vectors; class k is called `class_names[k]`.

    Without labels there are no classes, and every label is 0.
    """

    name: str
    class_names: tuple[str, ...]
    train: Split
    test: Split | None

    @property
    def example_shape(self) -> tuple[int, ...]:
        """(H, W, C) for images, (D,) for vectors."""
        return self.train.example_shape

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, C). Raises ValueError if the set holds vectors."""
        if len(self.example_shape) != 3:
            raise ValueError(
                f"{self.name} holds vectors of length {self.features}; "
                "this needs images (N, H, W, C)"
            )
        height, width, channels = self.example_shape
        if height in (1, 3) and width == channels > 4:
            raise ValueError(
                f"{self.name} holds images of shape {self.example_shape}, as if with channels "
                "first; this needs (N, H, W, C): x.transpose(0, 2, 3, 1)"
            )
        return height, width, channels

    @property
    def features(self) -> int:
        """D, the numbers in one example: H * W * C for images."""
        return math.prod(self.example_shape)

    @property
    def num_classes(self) -> int:
        """The number of classes, whether or not each has examples."""
        return len(self.class_names)

    @classmethod
    def from_arrays(
        cls,
        x_train: Any,
        y_train: Any = None,
        x_test: Any = None,
        y_test: Any = None,
        class_names: Sequence[str] | None = None,
        name: str = "arrays",
    ) -> "Dataset":
        """Make a data set of arrays in memory.

        Args:
            x_train: (N, H, W, C), (N, H, W), which gets a channel, or (N, D). uint8 and floats
                stay as they are; other integers become uint8 if all lie in 0..255, else float32;
                truth values become float32.
            y_train: (N,) whole numbers from 0 on; at least two classes. None for no labels.
            x_test: like `x_train`, with examples of the same shape; None for no test split.
            y_test: like `y_train`; given with `x_test` and `y_train` or not at all.
            class_names: one for each class at least; by default "0", "1", ... up to the largest
                label of both splits.
            name: what to call the set.

        Raises:
            ValueError: one line that names the argument, what is wrong with it and what is
                allowed, for input that is none of the above or holds NaN or infinity.
        """
        if y_train is None:
            return cls._without_labels(x_train, x_test, y_test, class_names, name)
        if (x_test is None) != (y_test is None):
            given, missing = ("y_test", "x_test") if x_test is None else ("x_test", "y_test")
            raise ValueError(f"{given} is given without {missing}: give both or neither")

        images = as_images(x_train, "x_train")
        labels = as_labels(y_train, "y_train", len(images))
        if labels.min() == labels.max():
            raise ValueError(f"y_train holds class {labels[0]} alone: it must hold two or more")
        train = ArraySplit(images, labels)
        classes = int(labels.max()) + 1

        test = None
        if x_test is not None:
            test_images = one_scale(images, as_images(x_test, "x_test"))
            test_labels = as_labels(y_test, "y_test", len(test_images))
            test = ArraySplit(test_images, test_labels)
            classes = max(classes, int(test_labels.max()) + 1)

        names = _class_names(class_names, classes)
        return cls(name=name, class_names=names, train=train, test=test)

    @classmethod
    def _without_labels(
        cls, x_train: Any, x_test: Any, y_test: Any, class_names: Any, name: str
    ) -> "Dataset":
        for argument, value in (("y_test", y_test), ("class_names", class_names)):
            if value is not None:
                raise ValueError(f"{argument} is given without y_train: give both or neither")
        images = as_images(x_train, "x_train")
        train, test = ArraySplit(images, np.zeros(len(images), np.int64)), None
        if x_test is not None:
            held_out = one_scale(images, as_images(x_test, "x_test"))
            test = ArraySplit(held_out, np.zeros(len(held_out), np.int64))
        return cls(name=name, class_names=(), train=train, test=test)


def _class_names(given: Sequence[str] | None, classes: int) -> tuple[str, ...]:
    if given is None:
        return tuple(map(str, range(classes)))
    names = tuple(map(str, np.asarray(given, dtype=np.str_).reshape(-1)))
    if len(names) < classes:
        raise ValueError(
            f"class_names has {len(names)} names: the labels need one for each of {classes} classes"
        )
    return names
