"""A mask for each image, averaged over patches: the targets of segmentation, as real values.

| masks                                        | targets, for each patch                        |
|----------------------------------------------|------------------------------------------------|
| truth values, 0 and 1, or 0 and 255, (N, H, W) | the share of it that is in the mask            |
| other whole numbers, (N, H, W)               | a task for each class: the share that it has   |
| floats, (N, H, W)                            | the mean, such as a depth                      |
| (N, H, W, C)                                 | a task for each of C channels: its mean        |

-1, and 255 beside other classes, stand for no class. An image whose mask is that all over, or NaN
all over, has no label. Masks are gone through in blocks, and may lie on disk.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

# Patches of which a mask has so many in each direction, by default.
USUAL = 4
# More values than classes ever are: masks of single objects.
MOST = 256
VOID = 255
_BLOCK = 2**24  # values of a block


def is_mask(labels: Any) -> bool:
    """Whether labels are a mask for each image."""
    shape = getattr(labels, "shape", ())
    return len(shape) in (3, 4) and max(shape[1:3]) > 1


def averaged(
    given: Sequence[Any], titles: Sequence[str], patch: tuple[int, int] | None
) -> tuple[list[Any], str, set[str]]:
    """Masks of all splits as tasks; labels that are none stay as they are.

    Args:
      given: labels of each split, or task -> labels.
      titles: what messages call them.
      patch: (height, width) of a patch in pixels; None: 4 x 4 patches.

    Returns:
      The same with (N, patches) real targets for each mask or each of its classes; a line about it,
      "" where there are no masks; and the names of the tasks that were masks.

    Raises:
      ValueError: one line: patches that do not divide the masks, too many classes, splits that
        differ; a patch where there are no masks.
    """
    if not any(is_mask(v) for one in given for v in _each(one)):
        if patch is not None:
            raise ValueError(
                f"target_patch: {patch[0]}x{patch[1]}; {titles[0]} holds no masks (N, H, W)"
            )
        return list(given), "", set()
    if not isinstance(given[0], Mapping):
        made, line = _of_one(given, titles, patch)
        alone = list(made[0]) == [""]
        return [of_split[""] if alone else of_split for of_split in made], line, set(made[0])
    parts: list[dict[str, Any]] = [{} for _ in given]
    line, names = "", set()
    for name in given[0]:
        labels = [split[name] for split in given if name in split]
        if len(labels) < len(given) or not is_mask(labels[0]):
            for part, split in zip(parts, given, strict=True):
                part |= {name: split[name]} if name in split else {}
            continue
        made, line = _of_one(labels, [f"{title} ({name})" for title in titles], patch)
        for part, of_split in zip(parts, made, strict=True):
            part |= {f"{name} {kind}".strip(): own for kind, own in of_split.items()}
        names |= {f"{name} {kind}".strip() for kind in made[0]}
    return parts, line, names


def _each(split: Any) -> Iterator[Any]:
    yield from split.values() if isinstance(split, Mapping) else (split,)


def _of_one(
    masks: Sequence[Any], titles: Sequence[str], patch: tuple[int, int] | None
) -> tuple[list[dict[str, np.ndarray]], str]:
    """Class -> (N, patches) of every split, "" for a mask of one class; and a line about it."""
    shape = tuple(masks[0].shape[1:])
    for one, title in zip(masks, titles, strict=False):
        if tuple(one.shape[1:]) != shape or not is_mask(one):
            raise ValueError(
                f"{title} has shape {tuple(one.shape)}: {titles[0]}'s masks are {shape}"
            )
        if np.dtype(one.dtype).kind not in "biuf":
            raise ValueError(f"{title} is of dtype {one.dtype}: masks are numbers or truth values")
    height, width = shape[:2]
    sides = patch or (max(-(-height // USUAL), 1), max(-(-width // USUAL), 1))
    if patch is not None and (height % sides[0] or width % sides[1]):
        raise ValueError(
            f"target_patch: {sides[0]}x{sides[1]} does not divide the masks of {height} x {width}"
        )
    channels = shape[2] if len(shape) == 3 else 1
    if channels > 1 or np.dtype(masks[0].dtype).kind == "f":
        classes: list[int] | None = None
        kinds = list(map(str, range(channels))) if channels > 1 else [""]
    else:
        classes = _classes(masks, titles)
        kinds = list(map(str, classes)) if len(classes) > 1 else [""]
    made = []
    for one in masks:
        blocks = [_patches(block, classes, sides) for block in _blocks(one)]
        values = np.concatenate(blocks)  # (N, classes, patches)
        made.append({kind: values[:, place] for place, kind in enumerate(kinds)})
    down, across = -(-height // sides[0]), -(-width // sides[1])
    what = "means" if classes is None else "shares"
    line = (
        f"masks of {height} x {width}: targets are {what} in {down} x {across} patches of"
        f" {sides[0]} x {sides[1]}"
    )
    return made, line


def _classes(masks: Sequence[Any], titles: Sequence[str]) -> list[int]:
    """The values that are classes; of 0 and another, the latter alone."""
    found: set[int] = set()
    for one, title in zip(masks, titles, strict=False):
        for block in _blocks(one):
            found |= set(np.unique(block).astype(np.int64).tolist())
            if len(found) > MOST + 2:
                raise ValueError(
                    f"{title} holds more than {MOST} values: masks have a whole number for a class"
                )
    found -= {-1}
    if len(found) > 2:
        found -= {VOID}
    classes = sorted(found)
    if len(classes) < 2:
        raise ValueError(
            f"{titles[0]} holds the class {classes} alone: masks must hold two or more"
        )
    return classes[1:] if len(classes) == 2 and classes[0] == 0 else classes


def _patches(block: np.ndarray, classes: list[int] | None, sides: tuple[int, int]) -> np.ndarray:
    """(B, classes or channels, patches) means of a block (B, H, W) or (B, H, W, C)."""
    if classes is None:
        planes = block.astype(np.float64)
        planes = planes[:, None] if planes.ndim == 3 else np.moveaxis(planes, -1, 1)
        absent = np.isnan(planes).all(axis=(1, 2, 3))
    else:
        numbers = block.reshape(block.shape[:3]).astype(np.int64)
        planes = (numbers[:, None] == np.asarray(classes)[:, None, None]).astype(np.float64)
        void = numbers == -1
        if VOID not in classes:
            void |= numbers == VOID
        absent = void.all(axis=(1, 2))
    rows, columns = (
        range(0, size, side) for size, side in zip(planes.shape[2:], sides, strict=True)
    )
    summed = np.add.reduceat(np.add.reduceat(planes, rows, axis=2), columns, axis=3)
    height, width = (
        np.diff([*starts, size])
        for starts, size in zip((rows, columns), planes.shape[2:], strict=True)
    )
    means = summed / (height[:, None] * width)
    means[absent] = np.nan
    return means.reshape(*means.shape[:2], -1)


def _blocks(masks: Any) -> Iterator[np.ndarray]:
    """(B, H, W) or (B, H, W, C), so many at a time as are small; a last axis of 1 is left out."""
    step = max(_BLOCK // max(int(np.prod(masks.shape[1:])), 1), 1)
    for start in range(0, masks.shape[0], step):
        block = np.asarray(masks[start : start + step])
        yield block[..., 0] if block.ndim == 4 and block.shape[-1] == 1 else block
