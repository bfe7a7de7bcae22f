"""The labels of a whole data set: class numbers without gaps, or real targets.

| given                                   | taken for                                       |
|-----------------------------------------|-------------------------------------------------|
| texts, (N,) or (N, 1)                   | classes of that name                            |
| truth values, (N,) or (N, 1)            | the classes False and True                      |
| integers, or whole floats (N,)          | classes, called by their numbers                |
| 0 and 1, (N, C), one 1 in every row     | C classes; the head line says "one-hot"         |
| other 0 and 1, (N, C)                   | C real targets; the head line says "of 0 and 1" |
| other floats, and all with targets="real" | real targets, see `reconjax.data.targets`     |

Classes are numbered in the order of their names or numbers; those that never occur do not count.
Labels may begin anywhere and have gaps: 3, 700, 90000 are three classes. -1 beside other numbers
stands for no label, unless -1 and 1 are all there is; so do NaN and None. `present` finds them,
for those doors that keep examples without a label apart; the others refuse them.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from reconjax.data.targets import as_targets

# Far above any real task; it catches labels that are identifiers instead of classes.
MAX_CLASSES = 100_000


class Labels(NamedTuple):
    """Labels of both splits, as a `Dataset` keeps them.

    Attributes:
      train: (N,) int64 class numbers, or (N, C) float64 real targets.
      test: the same for the test split, or None.
      class_names: class k is called `class_names[k]`; empty for real targets.
      real_targets: C of real targets, else 0.
      note: what was guessed, in a word or two: "one-hot"; "" for nothing.
    """

    train: np.ndarray
    test: np.ndarray | None
    class_names: tuple[str, ...]
    real_targets: int
    note: str


def as_labels(
    train: Any,
    test: Any = None,
    *,
    counts: Sequence[int] | None = None,
    class_names: Sequence[str] | None = None,
    targets: str | None = None,
    names: tuple[str, str] = ("y_train", "y_test"),
) -> Labels:
    """Check labels and bring them to the form of a `Dataset`; see the module's table.

    Args:
      train: labels of the training split.
      test: labels of the test split, taken for what the training split's were; or None.
      counts: how many examples the two splits have.
      class_names: of class numbers 0, 1, ...: then no class is left out. Or the texts that occur.
      targets: None, "classes" or "real".
      names: what messages call the two.

    Raises:
      ValueError: one line that names the argument, what is wrong with it and what is allowed.
    """
    arrays = [_array(train, names[0])]
    if test is not None:
        arrays.append(_array(test, names[1]))
    for labels, count, name in zip(arrays, counts or (None, None), names, strict=False):
        _check_shape(labels, count, name)
    if targets is None and class_names is not None:
        targets = "classes"
    if targets != "real" and _one_hot(arrays[0]):
        return _from_one_hot(arrays, class_names, names)
    if arrays[0].dtype.kind not in "biuf":
        if targets == "real":
            raise ValueError(f"{names[0]} holds texts: targets='real' needs numbers")
        values = [_texts(labels, name) for labels, name in zip(arrays, names, strict=False)]
        return _from_classes(values, class_names, names)
    first = as_targets(arrays[0], names[0], targets=targets)
    if first.ndim == 2:
        return _from_real(first, arrays, names, guessed=targets is None)
    if arrays[0].dtype.kind == "b" and class_names is None:
        values = [_truth(labels, name) for labels, name in zip(arrays, names, strict=False)]
        return _from_classes(values, None, names)
    values = [_whole(labels, name) for labels, name in zip(arrays, names, strict=False)]
    if class_names is None:
        # -1 and 1 are the two classes of many sets; -1 among others marks what has no label.
        if set(np.unique(np.concatenate(values)).tolist()) != {-1, 1}:
            for labels, name in zip(values, names, strict=False):
                _check_not_negative(labels, name)
        return _from_classes(values, None, names)
    for labels, name in zip(values, names, strict=False):
        _check_not_negative(labels, name)
    given = _names(class_names, max(int(labels.max()) + 1 for labels in values))
    _check_several(values[0], names[0], given)
    return Labels(values[0], values[1] if test is not None else None, given, 0, "")


def present(
    given: Any, name: str, *, count: int | None = None, targets: str | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The labels that are there, and (N,) bool which these are.

    Args:
      given: labels of a split, as in `as_labels`; -1, NaN, None or a row of NaN for none.
      name: what messages call them.
      count: of examples; of another number of labels all are given back, for others to refuse.
      targets: as in `as_labels`; -1 is a value like others where they are real.

    Raises:
      ValueError: none has a label.
    """
    labels = _array(given, name)
    there = np.ones(len(labels) if labels.ndim else 0, bool)
    if count is not None and len(there) != count:
        return labels, there
    if labels.ndim in (1, 2) and labels.size and labels.dtype.kind == "f":
        there = ~np.isnan(labels.reshape(len(labels), -1)).all(axis=1)
    elif labels.dtype.kind == "O" and labels.size == len(there):
        column = labels.reshape(-1).tolist()
        there = np.array([value is not None and value == value for value in column], bool)
    whole = labels.dtype.kind in "if" and labels.size == len(there)
    if whole and targets != "real" and there.any():
        values = np.unique(labels.reshape(-1)[there])
        marked = values[0] == -1 and not np.array_equal(values, [-1, 1])
        if marked and np.array_equal(values, np.floor(values)):
            there &= labels.reshape(-1) != -1
    if len(there) and not there.any():
        raise ValueError(f"{name}: no example has a label; leave it out, or give labels to some")
    rest = labels if there.all() else labels[there]
    if rest.dtype.kind == "O" and rest.size == len(rest):
        # Beside None, numbers are objects too.
        column = rest.reshape(-1).tolist()
        if all(isinstance(value, int | float) for value in column):
            rest = np.array(column)
    return rest, there


def absent_note(count: int) -> str:
    """A line about examples without a label."""
    subject = "1 example has" if count == 1 else f"{count} examples have"
    return f"{subject} no label: encoders learn from them, heads do not"


def _array(value: Any, name: str) -> np.ndarray:
    try:
        return np.asarray(value)
    except ValueError:  # rows of unequal length
        raise ValueError(f"{name} is no regular array: all its rows must share one shape") from None


def _check_shape(labels: np.ndarray, count: int | None, name: str) -> None:
    if labels.ndim not in (1, 2):
        raise ValueError(
            f"{name} has shape {labels.shape}: it must be (N,) class numbers or (N, C) real values"
        )
    if count is not None and len(labels) != count:
        raise ValueError(f"{name} has {len(labels)} labels for {count} examples: one each is due")
    if labels.shape[1:] == (0,):
        raise ValueError(f"{name} has shape {labels.shape}: it must hold a target at least")
    if labels.dtype.kind not in "biufUSO":
        raise ValueError(
            f"{name} is of dtype {labels.dtype}: labels must be whole numbers, texts or real values"
        )
    if len(labels) == 0:
        raise ValueError(f"{name} is empty: there must be a label for each example")


def _one_hot(labels: np.ndarray) -> bool:
    """Whether every row (C > 1) holds one 1 and else 0."""
    if labels.ndim != 2 or labels.shape[1] < 2 or labels.dtype.kind not in "biuf":
        return False
    zero_one = (labels == 0) | (labels == 1)
    return bool(zero_one.all() and (labels.sum(axis=1) == 1).all())


def _from_one_hot(
    arrays: list[np.ndarray], class_names: Sequence[str] | None, names: tuple[str, str]
) -> Labels:
    columns = arrays[0].shape[1]
    for labels in arrays[1:]:
        if labels.shape[1:] != (columns,):
            raise ValueError(
                f"{names[1]} has shape {labels.shape}: {names[0]}'s is {arrays[0].shape}"
            )
        if not _one_hot(labels):
            raise ValueError(
                f"{names[1]} is not one-hot as {names[0]} is: real values are targets='real'"
            )
    numbers = [labels.argmax(axis=1) for labels in arrays]
    given = tuple(map(str, range(columns))) if class_names is None else _names(class_names, columns)
    return _from_classes(numbers, None, names, called=given)._replace(note="one-hot")


def _from_real(
    first: np.ndarray, arrays: list[np.ndarray], names: tuple[str, str], guessed: bool
) -> Labels:
    values = [first]
    if len(arrays) > 1:
        # What the training split was taken for holds for the test split too.
        if arrays[1].dtype.kind not in "biuf":
            raise ValueError(f"{names[1]} holds texts: {names[0]} holds real values")
        values.append(as_targets(arrays[1], names[1], targets="real"))
        if values[1].shape[1:] != first.shape[1:]:
            raise ValueError(
                f"{names[1]} has shape {values[1].shape}: {names[0]}'s is {first.shape}"
            )
    for labels, name in zip(values, names, strict=False):
        bad = ~np.isfinite(labels)
        if bad.any():
            many = f"{int(bad.any(axis=1).sum())} of {len(labels)} rows"
            raise ValueError(f"{name} holds NaN or infinity in {many}: real targets must be finite")
    if (first == first[:1]).all():
        value = first[0].tolist()
        raise ValueError(f"{names[0]} holds the value {value} alone: it must hold two or more")
    binary = guessed and first.shape[1] > 1 and bool(((first == 0) | (first == 1)).all())
    real = [labels.astype(np.float64) for labels in values]
    test = real[1] if len(real) > 1 else None
    return Labels(real[0], test, (), first.shape[1], "of 0 and 1" if binary else "")


def _from_classes(
    values: list[np.ndarray],
    class_names: Sequence[str] | None,
    names: tuple[str, str],
    called: Sequence[str] | None = None,
) -> Labels:
    """Classes of all the values that occur; `called` are names of whole numbers."""
    present, numbers = np.unique(np.concatenate(values), return_inverse=True)
    texts = [str(value) for value in present]
    if called is not None:
        texts = [called[value] for value in present]
    if class_names is not None:
        order = list(map(str, class_names))
        if unknown := sorted(set(texts) - set(order)):
            raise ValueError(f"class_names has no {unknown[0]!r}, which {names[0]} holds")
        numbers = np.array([order.index(text) for text in texts])[numbers]
        texts = order
    if len(texts) >= MAX_CLASSES:
        raise ValueError(
            f"{names[0]} holds {len(texts)} different values: at most {MAX_CLASSES} classes are"
            " allowed (real values: targets='real')"
        )
    numbers = numbers.reshape(-1).astype(np.int64)
    train, test = numbers[: len(values[0])], numbers[len(values[0]) :]
    _check_several(train, names[0], texts)
    return Labels(train, test if len(values) > 1 else None, tuple(texts), 0, "")


def _check_several(labels: np.ndarray, name: str, class_names: Sequence[str]) -> None:
    if (labels == labels[0]).all():
        raise ValueError(
            f"{name} holds class {class_names[labels[0]]} alone: it must hold two or more"
        )


def _texts(labels: np.ndarray, name: str) -> np.ndarray:
    """(N,) texts."""
    labels = _column(labels, name)
    if labels.dtype.kind == "S":
        return np.char.decode(labels, "utf-8", "replace")
    if labels.dtype.kind == "U":
        return labels
    if labels.dtype.kind != "O":
        raise ValueError(f"{name} is of dtype {labels.dtype}: the training split's are texts")
    listed = [value.decode() if isinstance(value, bytes) else value for value in labels.tolist()]
    missing = sum(value is None or value != value for value in listed)
    if missing:
        raise ValueError(_missing(missing, len(listed), name, "None"))
    kinds = {type(value).__name__ for value in listed}
    if kinds != {"str"}:
        raise ValueError(
            f"{name} holds objects ({', '.join(sorted(kinds))}): labels must be whole numbers,"
            " texts or real values"
        )
    return np.array(listed, np.str_)


def _truth(labels: np.ndarray, name: str) -> np.ndarray:
    if labels.dtype.kind == "b":
        return _column(labels, name)
    numbers = _whole(labels, name)
    if not np.isin(numbers, (0, 1)).all():
        raise ValueError(f"{name} holds other values than 0 and 1, which alone are truth values")
    return numbers.astype(bool)


def _whole(labels: np.ndarray, name: str) -> np.ndarray:
    """(N,) int64 of whole numbers."""
    if labels.dtype.kind not in "biuf":
        raise ValueError(f"{name} holds texts: the training split's labels are numbers")
    labels = _column(as_targets(labels, name, targets="classes"), name)
    absent = np.isnan(labels) if labels.dtype.kind == "f" else np.zeros(len(labels), bool)
    if absent.any():
        raise ValueError(_missing(int(absent.sum()), len(labels), name, "nan"))
    wrong = np.flatnonzero(~np.isfinite(labels) | (labels != np.floor(labels)))
    if wrong.size:
        raise ValueError(f"{name} holds {labels[wrong[0]]}: labels must be whole numbers")
    return labels.astype(np.int64)


def _check_not_negative(labels: np.ndarray, name: str) -> None:
    if labels.min() >= 0:
        return
    if labels.min() == -1:
        raise ValueError(_missing(int((labels == -1).sum()), len(labels), name, "-1"))
    raise ValueError(
        f"{name} holds {labels.min()}: labels must be 0 or more (real values: targets='real')"
    )


def _missing(count: int, size: int, name: str, value: str) -> str:
    """A line about labels that are not there."""
    many = "all" if count == size else f"{count} of"
    return (
        f"{name} holds {value} for {many} {size} labels: here, examples without a label cannot be"
        " used, and labels must be whole numbers, 0 or more (real values: targets='real')"
    )


def _column(labels: np.ndarray, name: str) -> np.ndarray:
    if labels.ndim == 2 and labels.shape[1] != 1:
        raise ValueError(f"{name} has shape {labels.shape}: classes are (N,), (N, 1) or one-hot")
    return labels.reshape(-1)


def _names(given: Sequence[str], classes: int) -> tuple[str, ...]:
    names = tuple(map(str, np.asarray(given).reshape(-1).tolist()))
    if len(names) < classes:
        raise ValueError(
            f"class_names has {len(names)} names: the labels need one for each of {classes} classes"
        )
    return names
