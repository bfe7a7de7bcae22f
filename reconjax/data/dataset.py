"""A data set: a training split, perhaps a test split, and the names of the classes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from reconjax.data.arrays import as_images, as_labels, one_scale
from reconjax.data.split import ArraySplit, Split
from reconjax.data.targets import targets_text, warn_of_many_classes


@dataclass(frozen=True)
class Dataset:
    """A set of images or vectors; class k is called `class_names[k]`.

    Without labels there are no classes, and every label is 0. With `real_targets` there are none
    either: the labels of the splits are (N, real_targets) float64.
    """

    name: str
    class_names: tuple[str, ...]
    train: Split
    test: Split | None
    real_targets: int = 0

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
        return height, width, channels

    @property
    def features(self) -> int:
        """D, the numbers in one example: H * W * C for images."""
        return math.prod(self.example_shape)

    @property
    def num_classes(self) -> int:
        """The number of classes, whether or not each has examples."""
        return len(self.class_names)

    @property
    def num_targets(self) -> int:
        """C, the columns of what the closed forms predict: classes, or real targets."""
        return self.num_classes or self.real_targets

    @property
    def targets_text(self) -> str:
        """What the labels were taken for: "10 classes", "1 real target" or "no labels"."""
        return targets_text(self.num_classes, self.real_targets)

    @classmethod
    def from_arrays(
        cls,
        x_train: Any,
        y_train: Any = None,
        x_test: Any = None,
        y_test: Any = None,
        class_names: Sequence[str] | None = None,
        name: str = "arrays",
        *,
        channels_first: bool | None = None,
        targets: str | None = None,
    ) -> "Dataset":
        """Make a data set of arrays in memory.

        Warns (`ManyClassesWarning`) where integers were taken for class numbers and there are
        nearly as many classes as samples, unless `targets` or `class_names` say that they are.

        Args:
            x_train: (N, H, W, C), (N, H, W), which gets a channel, or (N, D). uint8 and floats
                stay as they are; other integers and truth values become floats of the same value.
            y_train: (N,) or (N, 1) whole numbers from 0 on, at least two classes; or real values,
                (N,) or (N, C), see `reconjax.data.targets`. None for no labels.
            x_test: like `x_train`, with examples of the same shape; None for no test split.
            y_test: like `y_train`; given with `x_test` and `y_train` or not at all.
            class_names: one for each class at least; by default "0", "1", ... up to the largest
                label of both splits.
            name: what to call the set.
            channels_first: True where images are (N, C, H, W), False where they are (N, H, W, C);
                None: the latter, unless the shape looks like the former, see
                `reconjax.data.layout`.
            targets: "classes" or "real"; None: as `reconjax.data.targets` decides.

        Raises:
            ValueError: one line that names the argument, what is wrong with it and what is
                allowed, for input that is none of the above or holds NaN or infinity.
        """
        if y_train is None:
            return cls._without_labels(x_train, x_test, y_test, class_names, name, channels_first)
        if (x_test is None) != (y_test is None):
            given, missing = ("y_test", "x_test") if x_test is None else ("x_test", "y_test")
            raise ValueError(f"{given} is given without {missing}: give both or neither")
        if targets is None and class_names is not None:
            targets = "classes"

        images = as_images(x_train, "x_train", channels_first)
        labels = as_labels(y_train, "y_train", len(images), targets)
        real = labels.shape[1] if labels.ndim == 2 else 0
        if (labels == labels[:1]).all():
            what = f"the value {labels[0].tolist()}" if real else f"class {labels[0]}"
            raise ValueError(f"y_train holds {what} alone: it must hold two or more")
        if not real and targets is None:
            warn_of_many_classes(labels, "y_train")
        train, test = ArraySplit(images, labels), None
        if x_test is not None:
            test_images = as_images(x_test, "x_test", channels_first)
            test_images = one_scale(x_train, x_test, images, test_images)
            # What the training split was taken for holds for the test split too.
            kind = "real" if real else "classes"
            test_labels = as_labels(y_test, "y_test", len(test_images), kind)
            if test_labels.shape[1:] != labels.shape[1:]:
                raise ValueError(
                    f"y_test has shape {test_labels.shape}: y_train's is {labels.shape}"
                )
            test = ArraySplit(test_images, test_labels)
        if real:
            return cls(name=name, class_names=(), train=train, test=test, real_targets=real)
        classes = max(int(part.labels.max()) + 1 for part in (train, test) if part is not None)
        names = _class_names(class_names, classes)
        return cls(name=name, class_names=names, train=train, test=test)

    @classmethod
    def _without_labels(
        cls,
        x_train: Any,
        x_test: Any,
        y_test: Any,
        class_names: Any,
        name: str,
        channels_first: bool | None,
    ) -> "Dataset":
        for argument, value in (("y_test", y_test), ("class_names", class_names)):
            if value is not None:
                raise ValueError(f"{argument} is given without y_train: give both or neither")
        images = as_images(x_train, "x_train", channels_first)
        train, test = ArraySplit(images, np.zeros(len(images), np.int64)), None
        if x_test is not None:
            held_out = as_images(x_test, "x_test", channels_first)
            held_out = one_scale(x_train, x_test, images, held_out)
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
