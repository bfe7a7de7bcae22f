"""The names under which programs keep the arrays of a data set.

| training split                                  | test split                            |
|-------------------------------------------------|---------------------------------------|
| x_train, y_train (Keras)                        | x_test, y_test; or else x_val, y_val  |
| train_images, train_labels (MedMNIST)           | test_images, ...; or else val_images  |
| train/images, train/labels (groups of a file)   | the same                              |
| x, y; images, labels; data, target              | none                                  |

Upper and lower case are alike, inputs may be called x, images, image, data, features, and targets
y, labels, label, targets, target, or as `target_key` says, which may name several: `age` is the
array age_train, train/age, or age beside x. `class_names` are the names of classes 0, 1, ...
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any

INPUTS = ("x", "images", "image", "data", "features")
TARGETS = ("y", "labels", "label", "targets", "target")
_TRAIN = ("train", "training")
# In the order in which they become the test split.
_TEST = ("test", "testing", "val", "valid", "validation")

Roles = dict[str, Any]


def roles(names: Iterable[str], where: str, target_key: str | Sequence[str] | None = None) -> Roles:
    """Which name is x_train, y_train, x_test, y_test and class_names; see the module's table.

    Args:
      names: of arrays; groups are parted by "/".
      where: what messages call the file.
      target_key: what targets are called instead; several are several tasks, of which y_train and
        y_test are then task -> name.

    Raises:
      ValueError: one line: none is x_train, two names fit one role, or a target is missing.
    """
    present: dict[tuple[str, str], Any] = {}
    found: Roles = {}
    listed = sorted(names)
    for name in listed:
        if name.lower() == "class_names":
            found["class_names"] = name
            continue
        if (key := _role(name)) is None or (target_key is not None and key[1] == "y"):
            continue
        if key in present:
            raise ValueError(
                f"{where}: {present[key]} and {name} both fit as {' '.join(key).strip()}:"
                " keep one of them"
            )
        present[key] = name
    splits = {split for split, kind in present if kind == "x"}
    train = "train" if "train" in splits else "" if "" in splits else None
    if train is None:
        raise ValueError(
            f"{where}: no x_train (nor train_images, x or images); it holds {_some(listed)}"
        )
    if train == "train" and "" in splits:
        raise ValueError(
            f"{where}: {present['train', 'x']} and {present['', 'x']} both fit as x_train: keep one"
            " of them"
        )
    found["x_train"] = present[train, "x"]
    if target_key is not None:
        keys = [target_key] if isinstance(target_key, str) else list(dict.fromkeys(target_key))
        for split in splits:
            of_split = {key: _target(listed, key, split, where) for key in keys}
            present[split, "y"] = of_split if len(keys) > 1 else of_split[keys[0]]
    if (train, "y") in present:
        found["y_train"] = present[train, "y"]
    test = next((split for split in _TEST if split in splits), None)
    if test is not None:
        found["x_test"] = present[test, "x"]
        if (test, "y") in present:
            found["y_test"] = present[test, "y"]
    elif lone := [split for split in _TEST if (split, "y") in present]:
        raise ValueError(f"{where}: {present[lone[0], 'y']} is there without its inputs")
    if "y_train" not in found and "y_test" in found:
        raise ValueError(f"{where}: {found['y_test']} is there without labels to train on")
    return found


def _role(name: str) -> tuple[str, str] | None:
    """(split, "x" or "y") of an array's name; the split is "" where the name says none."""
    words, splits = _parted(name)
    kinds = [word for word in words if word in INPUTS + TARGETS]
    if len(kinds) != 1 or len(splits) > 1 or len(words) != len(kinds):
        return None
    split = splits[0] if splits else ""
    split = "train" if split in _TRAIN else split
    return split, "x" if kinds[0] in INPUTS else "y"


def _target(names: list[str], key: str, split: str, where: str) -> str:
    """The array of a split that a target's key names."""
    wanted, fit = _parted(key)[0], []
    for name in names:
        words, splits = _parted(name)
        here = "train" if splits and splits[0] in _TRAIN else "".join(splits)
        if words == wanted and here == split:
            fit.append(name)
    if len(fit) == 1:
        return fit[0]
    if not fit:
        of = f"of the {split} split " if split else ""
        raise ValueError(
            f"{where}: no target {key!r} {of}(--target-key, target_key); it holds {_some(names)}"
        )
    raise ValueError(f"{where}: {fit[0]} and {fit[1]} both fit as {key}: keep one of them")


def _parted(name: str) -> tuple[list[str], list[str]]:
    """The words of a name, and those of them that say a split."""
    words = [word for word in re.split(r"[/_\-. ]+", name.lower()) if word]
    splits = [word for word in words if word in _TRAIN + _TEST]
    return [word for word in words if word not in splits], splits


def _some(names: list[str], shown: int = 6) -> str:
    if not names:
        return "nothing"
    return ", ".join(names[:shown]) + (f" and {len(names) - shown} more" * (len(names) > shown))
