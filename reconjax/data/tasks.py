"""The labels of a data set's splits: of one task, or of several with one set of inputs.

Several tasks share their inputs, so that all that is summed up of these is summed up once. Their
targets stand side by side, as real ones: classes as 0 and 1, and every task scaled so that its
variance on the training split adds up to 1. So what is explained of all tasks together is the mean
of what is explained of each.
"""

from collections.abc import Container, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from reconjax.data.geometry import size
from reconjax.data.labels import Labels, absent_note, as_labels, present
from reconjax.data.regions import averaged
from reconjax.data.targets import targets_text


class Task(NamedTuple):
    """One of several tasks.

    Attributes:
      name: of the task.
      class_names: of its classes; empty for real targets.
      size: how many targets, or classes, it has.
    """

    name: str
    class_names: tuple[str, ...]
    size: int

    @property
    def text(self) -> str:
        """The task in words: "digit (10 classes)"."""
        real = 0 if self.class_names else self.size
        return f"{self.name} ({targets_text(len(self.class_names), real)})"

    @property
    def target_names(self) -> list[str]:
        """What its targets are called: "digit: 3", or "age" where there is one alone."""
        names = self.class_names or tuple(map(str, range(self.size)))
        return [self.name] if self.size == 1 else [f"{self.name}: {name}" for name in names]


class Known(NamedTuple):
    """The labels of all splits.

    Attributes:
      labels: of each split, of those examples that have one: (N,) int64 class numbers or (N, C)
        float64 real targets.
      there: of each split, (N,) bool which these are.
      class_names: as in `Dataset`, like `real_targets`, `note` and `tasks`.
      real_targets: see class_names.
      note: see class_names.
      tasks: see class_names.
      about_masks: a line about masks that were averaged.
    """

    labels: list[np.ndarray]
    there: list[np.ndarray]
    class_names: tuple[str, ...]
    real_targets: int
    note: str
    tasks: tuple[Task, ...] = ()
    about_masks: str = ""

    @property
    def notes(self) -> tuple[str, ...]:
        """Lines about examples without a label."""
        absent, *of_test = (int((~there).sum()) for there in self.there)
        notes: tuple[str, ...] = (self.about_masks,) if self.about_masks else ()
        notes += (absent_note(absent),) if absent else ()
        if left_out := sum(of_test):
            notes += (f"{left_out} test examples without a label are left out",)
        return notes

    @property
    def described(self) -> dict[str, Any]:
        """Keywords of `Dataset`."""
        return {
            "class_names": self.class_names,
            "real_targets": self.real_targets,
            "targets_note": self.note,
            "tasks": self.tasks,
            "masks": bool(self.about_masks),
        }


def known(
    given: Sequence[Any],
    titles: Sequence[str],
    *,
    counts: Sequence[int] | None = None,
    class_names: Sequence[str] | None = None,
    targets: str | None = None,
    target_patch: int | Sequence[int] | str | None = None,
) -> Known:
    """The labels of the training split and, if there is one, the test split.

    Args:
      given: of each split, labels as in `Dataset.from_arrays`, or task -> labels.
      titles: what messages call the labels of each split.
      counts: of each split's examples, to be checked.
      class_names: as in `Dataset.from_arrays`.
      targets: as in `Dataset.from_arrays`.
      target_patch: as in `Dataset.from_arrays`.

    Raises:
      ValueError: one line, as `averaged`, `present` and `as_labels`; splits with other tasks.
    """
    given, line, masks = averaged(given, titles, size(target_patch, "target_patch"))
    if line:
        if class_names is not None or targets == "classes":
            name = "targets: 'classes'" if class_names is None else "class_names"
            raise ValueError(f"{name}: it does not apply to masks, whose averages are real values")
        return _known(given, titles, counts, None, targets, masks)._replace(about_masks=line)
    return _known(given, titles, counts, class_names, targets, masks)


def _known(
    given: Sequence[Any],
    titles: Sequence[str],
    counts: Sequence[int] | None,
    class_names: Sequence[str] | None,
    targets: str | None,
    masks: Container[str],
) -> Known:
    """Labels that are no masks; `masks` are the names of tasks that were, "" of one alone."""
    sizes: list[int | None] = [None] * len(given) if counts is None else list(counts)
    if not any(isinstance(one, Mapping) for one in given):
        kind = "real" if "" in masks else targets
        labels, there = _one_task(given, titles, sizes, class_names, kind)
        own = [labels.train] if labels.test is None else [labels.train, labels.test]
        return Known(own, there, labels.class_names, labels.real_targets, labels.note)
    if class_names is not None:
        raise ValueError("class_names: it does not apply to several tasks, whose labels are names")
    names = _task_names(given, titles)
    every = [
        _one_task(
            [split[name] for split in given],
            [f"{title} ({name})" for title in titles],
            sizes,
            None,
            "real" if name in masks else targets,
        )
        for name in names
    ]
    for name, (_, there) in zip(names, every, strict=True):
        for mine, first, title in zip(there, every[0][1], titles, strict=False):
            if len(mine) != len(first):
                raise ValueError(
                    f"{title}: {names[0]} has {len(first)} labels, {name} has {len(mine)}"
                )
    whole = [np.all([there[i] for _, there in every], axis=0) for i in range(len(given))]
    for all_of_them, title in zip(whole, titles, strict=False):
        if not all_of_them.any():
            raise ValueError(f"{title}: no example has a label of every task")
    tasks, columns = [], []
    for name, (labels, present_in) in zip(names, every, strict=True):
        parts = [labels.train] if labels.test is None else [labels.train, labels.test]
        kept = [
            _as_columns(values, len(labels.class_names))[whole[i][present_in[i]]]
            for i, values in enumerate(parts)
        ]
        spread = float(np.sum(np.var(kept[0], axis=0)))
        if not spread > 0:
            raise ValueError(
                f"{titles[0]} ({name}): one value alone where every task has a label; it must have"
                " two or more"
            )
        columns.append([values / np.sqrt(spread) for values in kept])
        tasks.append(Task(name, labels.class_names, kept[0].shape[1]))
    beside = [np.concatenate([split[i] for split in columns], axis=1) for i in range(len(given))]
    return Known(beside, whole, (), beside[0].shape[1], "", tuple(tasks))


def _one_task(
    given: Sequence[Any],
    titles: Sequence[str],
    counts: Sequence[int | None],
    class_names: Sequence[str] | None,
    targets: str | None,
) -> tuple[Labels, list[np.ndarray]]:
    """Labels of one task, and which examples of each split have one."""
    found = [
        present(values, title, count=count, targets=targets)
        for values, title, count in zip(given, titles, counts, strict=False)
    ]
    here = [
        count if count is None or len(there) != count else int(there.sum())
        for count, (_, there) in zip(counts, found, strict=False)
    ]
    labels = as_labels(
        *[values for values, _ in found],
        counts=None if None in here else [int(size or 0) for size in here],
        class_names=class_names,
        targets=targets,
        names=(titles[0], titles[-1]),
    )
    return labels, [there for _, there in found]


def _task_names(given: Sequence[Any], titles: Sequence[str]) -> list[str]:
    """The names of the tasks, the same in all splits."""
    for split, title in zip(given, titles, strict=False):
        if not isinstance(split, Mapping):
            raise ValueError(f"{title}: {type(split).__name__}; task -> labels, as in {titles[0]}")
        if not split:
            raise ValueError(f"{title}: no task; task -> labels is needed")
        if other := set(map(str, split)) ^ set(map(str, given[0])):
            raise ValueError(f"{title}: the task {sorted(other)[0]!r} is not in both splits")
    return list(given[0])


def _as_columns(labels: np.ndarray, classes: int) -> np.ndarray:
    """(N, C) float64: classes as 0 and 1, real targets as they are."""
    return np.eye(classes)[labels] if classes else labels
