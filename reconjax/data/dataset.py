"""A data set: a training split, perhaps a test split, and the names of the classes."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from reconjax.data.arrays import as_images, one_scale
from reconjax.data.sparse import SparseSplit, as_sparse, is_sparse
from reconjax.data.split import ArraySplit, Split
from reconjax.data.targets import targets_text, warn_of_many_classes
from reconjax.data.tasks import Task, known


@dataclass(frozen=True)
class Dataset:
    """A set of images or vectors; class k is called `class_names[k]`.

    Without labels there are no classes, and every label is 0. With `real_targets` there are none
    either: the labels of the splits are (N, real_targets) float64.

    Attributes:
        name: what to call the set.
        class_names: the names of the classes.
        train: the training split.
        test: the test split, or None.
        real_targets: the number of real targets, 0 for classes.
        targets_note: what was guessed about the targets, such as "one-hot"; "" for nothing.
        notes: lines about how the data were read, such as "3 corrupt files are left out".
        unlabeled: splits of examples without a label, beside those of the training split; their
            labels mean nothing.
        tasks: where there are several, whose targets are the columns of real targets, side by
            side, see `reconjax.data.tasks`; else ().
        masks: whether targets are averages of masks, which images must not be moved against.
    """

    name: str
    class_names: tuple[str, ...]
    train: Split
    test: Split | None
    real_targets: int = 0
    targets_note: str = ""
    notes: tuple[str, ...] = ()
    unlabeled: tuple[Split, ...] = ()
    tasks: tuple[Task, ...] = ()
    masks: bool = False

    def __repr__(self) -> str:
        """In a line, without the arrays."""
        test = "" if self.test is None else f" and {len(self.test)} to test"
        what = f"{len(self.train)} examples{test} of {self.example_shape}, {self.targets_text}"
        return f"Dataset({self.name!r}: {what})"

    @property
    def example_shape(self) -> tuple[int, ...]:
        """(H, W, C) for images, (D,) for vectors; see `reconjax.data.layout`."""
        return self.train.example_shape

    @property
    def image_shape(self) -> tuple[int, ...]:
        """(H, W, C), or (D, H, W, C) of volumes. Raises ValueError if the set holds vectors."""
        if len(self.example_shape) < 3:
            raise ValueError(
                f"{self.name} holds vectors of length {self.features}; "
                "this needs images (N, H, W, C), or sequences (--axes T)"
            )
        return self.example_shape

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
    def target_names(self) -> list[str]:
        """What targets and classes are called, or their numbers."""
        if self.tasks:
            return [name for task in self.tasks for name in task.target_names]
        return list(self.class_names or map(str, range(self.num_targets)))

    @property
    def task_of_target(self) -> tuple[int, ...]:
        """(C,) the task of each target, 0 .. T - 1, where there are several tasks; else ()."""
        return tuple(i for i, task in enumerate(self.tasks) for _ in range(task.size))

    @property
    def targets_text(self) -> str:
        """What the labels were taken for: "10 classes", "1 real target" or "no labels"."""
        if self.tasks:
            return f"{len(self.tasks)} tasks: {', '.join(task.text for task in self.tasks)}"
        text = targets_text(self.num_classes, self.real_targets)
        return f"{text} ({self.targets_note})" if self.targets_note else text

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
        axes: str | None = None,
        targets: str | None = None,
        target_patch: int | str | Sequence[int] | None = None,
    ) -> "Dataset":
        """Make a data set of arrays in memory.

        Warns (`ManyClassesWarning`) where integers were taken for class numbers and there are
        nearly as many classes as samples, unless `targets` or `class_names` say that they are.

        Args:
            x_train: (N, H, W, C), (N, H, W), which gets a channel, or (N, D), which may be a sparse
                matrix of SciPy and then stays one. uint8 and floats
                stay as they are; other integers and truth values become floats of the same value.
            y_train: (N,) or (N, 1) whole numbers, truth values or texts, at least two classes, or
                one-hot (N, C); or real values, (N,) or (N, C), see `reconjax.data.labels`. -1, NaN
                or None for an example without a label; None for no labels at all. Several tasks
                are a mapping of their names to such labels. A mask for each image, (N, H, W) or
                (N, H, W, C), is averaged over patches, see `reconjax.data.regions`.
            x_test: like `x_train`, with examples of the same shape; None for no test split.
            y_test: like `y_train`; given with `x_test` and `y_train` or not at all.
            class_names: of labels 0, 1, ..., one for each at least; by default classes are called
                by the labels of both splits, and those that do not occur do not count.
            name: what to call the set.
            channels_first: True where images are (N, C, H, W), False where they are (N, H, W, C);
                None: the latter, unless the shape looks like the former, see
                `reconjax.data.layout`.
            axes: in place of `channels_first`, what the axes of an example are: "TC" for sequences,
                "DHW" for volumes, "TCHW" for clips, see `reconjax.data.layout`.
            targets: "classes" or "real"; None: as `reconjax.data.targets` decides.
            target_patch: of masks, the size of a patch in pixels, 8 or "8x16"; 4 x 4 patches by
                default.

        Raises:
            ValueError: one line that names the argument, what is wrong with it and what is
                allowed, for input that is none of the above or holds NaN or infinity.
        """
        if y_train is None:
            return cls._without_labels(
                x_train, x_test, y_test, class_names, name, channels_first, axes
            )
        if (x_test is None) != (y_test is None):
            given, missing = ("y_test", "x_test") if x_test is None else ("x_test", "y_test")
            raise ValueError(f"{given} is given without {missing}: give both or neither")
        images = _rows(x_train, "x_train", channels_first, axes)
        inputs = [images]
        labels_of: list[Any] = [y_train]
        if x_test is not None:
            test_images = _rows(x_test, "x_test", channels_first, axes)
            inputs.append(one_scale(x_train, x_test, images, test_images))
            labels_of.append(y_test)
        labels = known(
            labels_of,
            ("y_train", "y_test"),
            counts=[rows.shape[0] for rows in inputs],
            class_names=class_names,
            targets=targets,
            target_patch=target_patch,
        )
        guessed = targets is None and class_names is None and not labels.note
        if guessed and labels.class_names and np.asarray(y_train).dtype.kind in "iuf":
            warn_of_many_classes(labels.labels[0], "y_train")
        absent = images[~labels.there[0]]
        splits = [
            _split(rows if there.all() else rows[there], own)
            for rows, there, own in zip(inputs, labels.there, labels.labels, strict=True)
        ]
        return cls(
            name=name,
            train=splits[0],
            test=splits[1] if len(splits) > 1 else None,
            notes=labels.notes,
            unlabeled=(_without(absent),) if absent.shape[0] else (),
            **labels.described,
        )

    @classmethod
    def from_batches(
        cls,
        train: Iterable[Any],
        test: Iterable[Any] | None = None,
        class_names: Sequence[str] | None = None,
        name: str = "batches",
        *,
        channels_first: bool | None = None,
        axes: str | None = None,
        targets: str | None = None,
    ) -> "Dataset":
        """Make a data set of a loader: PyTorch's, Grain's, tf.data's, or a list of batches.

        The loader is gone through once. Up to 1 GiB is kept in memory; what is larger is read anew
        whenever it is asked for, so it must give the same examples in the same order each time.

        Args:
            train: batches (x, y) of arrays or of what NumPy takes for one, x as `x_train` of
                `from_arrays`, or sparse matrices of SciPy, y as `y_train`.
            test: the same for the test split; None for none.
            class_names: as in `from_arrays`.
            name: what to call the set.
            channels_first: as in `from_arrays`; PyTorch's images are (N, C, H, W).
            axes: as in `from_arrays`.
            targets: as in `from_arrays`.

        Raises:
            ValueError: one line, for what is none of that, and for a loader whose order changes.

        Example:
            >>> x = np.random.default_rng(0).random((6, 4))
            >>> data = reconjax.data.Dataset.from_batches([(x[:4], [0, 1, 0, 1]), (x[4:], [0, 1])])
            >>> len(data.train), data.targets_text
            (6, '2 classes')
        """
        from reconjax.data.batched import dataset_of_batches

        return dataset_of_batches(train, test, class_names, name, channels_first, axes, targets)

    @classmethod
    def _without_labels(
        cls,
        x_train: Any,
        x_test: Any,
        y_test: Any,
        class_names: Any,
        name: str,
        channels_first: bool | None,
        axes: str | None,
    ) -> "Dataset":
        for argument, value in (("y_test", y_test), ("class_names", class_names)):
            if value is not None:
                raise ValueError(f"{argument} is given without y_train: give both or neither")
        images = _rows(x_train, "x_train", channels_first, axes)
        test = None
        if x_test is not None:
            held_out = _rows(x_test, "x_test", channels_first, axes)
            test = _without(one_scale(x_train, x_test, images, held_out))
        return cls(name=name, class_names=(), train=_without(images), test=test)


def _rows(value: Any, name: str, channels_first: bool | None, axes: str | None) -> Any:
    """Examples as arrays, or as a sparse matrix, checked."""
    if not is_sparse(value):
        return as_images(value, name, channels_first, axes)
    if channels_first or axes:
        raise ValueError(f"{name} is sparse: its rows are vectors, without other axes")
    return as_sparse(value, name)


def _split(rows: Any, labels: np.ndarray) -> Split:
    return SparseSplit(rows, labels) if is_sparse(rows) else ArraySplit(rows, labels)


def _without(rows: Any) -> Split:
    """A split without labels."""
    return _split(rows, np.zeros(rows.shape[0], np.int64))
