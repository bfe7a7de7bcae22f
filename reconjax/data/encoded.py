"""A split of images that are stored as files, decoded by all cores whenever they are asked for."""

import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np

from reconjax.data.dataset import Dataset
from reconjax.data.geometry import Geometry
from reconjax.data.images import CorruptImage, Encoded, Layout, common, decode, header
from reconjax.data.regions import is_mask
from reconjax.data.split import Split
from reconjax.data.tasks import known

# Decoded images of so many bytes in all stay in memory once they are read.
KEPT_BYTES = 2**28
# So many images, spread evenly, are looked at before a set is opened.
SURVEYED = 20_000
# Images that a thread decodes at a time, and corrupt files that a message names.
CHUNK, _SHOWN = 32, 3

Result = TypeVar("Result")


class Files(Protocol):
    """Encoded images by number; several threads may ask at once."""

    name: str

    def __len__(self) -> int:
        """The number of images, M."""

    def read(self, numbers: Sequence[int]) -> Sequence[Encoded]:
        """The encoded images, or their paths, at `numbers`."""

    def title(self, number: int) -> str:
        """What messages call an image."""


class Images:
    """The images of a set, of all its splits, brought to one layout."""

    def __init__(self, files: Files, layout: Layout, *, keep: bool = True) -> None:
        """Nothing is decoded yet; small sets are kept in memory once they are, if `keep`."""
        self.files = files
        self.layout = layout
        size = len(files) * int(np.prod(layout.shape)) * layout.dtype.itemsize
        self._kept: np.ndarray | None = None
        if keep and size <= KEPT_BYTES:
            self._kept = np.empty((len(files), *layout.shape), layout.dtype)
            self._there = np.zeros(len(files), bool)

    def read(self, numbers: np.ndarray) -> np.ndarray:
        """(B, H, W, C): the images at `numbers`.

        Raises a ValueError of one line that names what is corrupt, or does not fit the layout.
        """
        numbers = np.asarray(numbers)
        if self._kept is None:
            return self._decoded(numbers)
        missing = np.unique(numbers[~self._there[numbers]])
        if len(missing):
            self._kept[missing] = self._decoded(missing)
            self._there[missing] = True
        return self._kept[numbers]

    def _decoded(self, numbers: np.ndarray) -> np.ndarray:
        images = np.empty((len(numbers), *self.layout.shape), self.layout.dtype)

        def fill(places: np.ndarray) -> None:
            wanted = [int(number) for number in numbers[places]]
            for place, number, encoded in zip(places, wanted, self.files.read(wanted), strict=True):
                try:
                    images[place] = decode(encoded, self.layout)
                except CorruptImage:
                    raise
                except ValueError as error:
                    title = self.files.title(number)
                    raise ValueError(f"{self.files.name}: {title} {error}") from None

        try:
            in_threads(fill, _chunks(len(numbers)))
        except CorruptImage:
            raise ValueError(corrupt_text(self.files, corrupt(self.files, self.layout))) from None
        return images


@dataclass(frozen=True, eq=False)
class EncodedSplit(Split):
    """The images at `numbers` (N,), with their labels (N,) or (N, C) in memory."""

    images: Images
    numbers: np.ndarray
    targets: np.ndarray

    def __len__(self) -> int:
        """The number of examples."""
        return len(self.numbers)

    @property
    def example_shape(self) -> tuple[int, ...]:
        """(H, W, C)."""
        return self.images.layout.shape

    @property
    def labels(self) -> np.ndarray:
        """(N,) int64 or (N, C) float64."""
        return self.targets

    def examples(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The examples at `indices`, decoded. Raises ValueError for what is corrupt."""
        return self.images.read(self.numbers[indices]), self.targets[indices]

    def subset(self, indices: np.ndarray) -> "EncodedSplit":
        """The split of the examples at `indices`; nothing is read."""
        return EncodedSplit(self.images, self.numbers[indices], self.targets[indices])


def surveyed(files: Files, geometry: Geometry, skip_corrupt: bool) -> tuple[Layout, np.ndarray]:
    """The common layout of the images, and the numbers (M',) of those that are to be used.

    With `skip_corrupt` every image is decoded once; otherwise headers alone are read, those of
    `SURVEYED` images at most.

    Raises a ValueError of one line that names and counts corrupt files, see also `common`.
    """
    count = len(files)
    step = max(1, count // SURVEYED)
    numbers = np.arange(0, count, 1 if skip_corrupt else step)

    def look(places: np.ndarray) -> list[Any]:
        encoded = files.read([int(number) for number in numbers[places]])
        return [_tried(header, one) for one in encoded]

    looked = [one for part in in_threads(look, _chunks(len(numbers))) for one in part]
    bad = {int(n): str(one) for n, one in zip(numbers, looked, strict=True) if _failed(one)}
    if bad and not skip_corrupt:
        raise ValueError(corrupt_text(files, bad, of=len(numbers)))
    headers = [one for one in looked if not _failed(one)]
    if not headers:
        raise ValueError(corrupt_text(files, bad))
    layout = common(headers, geometry, files.name)
    if not skip_corrupt:
        return layout, np.arange(count)
    bad |= corrupt(files, layout)
    return layout, np.array([n for n in range(count) if n not in bad], np.int64)


def corrupt(files: Files, layout: Layout) -> dict[int, str]:
    """The corrupt images among all, by number, with the reason; each is decoded."""

    def check(numbers: np.ndarray) -> dict[int, str]:
        wanted = [int(number) for number in numbers]
        outcomes = [_tried(decode, encoded, layout) for encoded in files.read(wanted)]
        return {n: str(one) for n, one in zip(wanted, outcomes, strict=True) if _failed(one)}

    parts = in_threads(check, _chunks(len(files)))
    return {number: reason for part in parts for number, reason in part.items()}


def corrupt_text(files: Files, bad: dict[int, str], of: int | None = None) -> str:
    """One line that counts and names corrupt files."""
    shown = ", ".join(f"{files.title(n)} ({bad[n]})" for n in sorted(bad)[:_SHOWN])
    more = f" and {len(bad) - _SHOWN} more" if len(bad) > _SHOWN else ""
    total = of or len(files)
    what = "all are" if len(bad) == total else "1 is" if len(bad) == 1 else f"{len(bad)} are"
    way = "" if len(bad) == total else ": --skip-corrupt (skip_corrupt=True) leaves them out"
    return f"{files.name}: of {total} images {what} corrupt, {shown}{more}{way}"


def in_threads(
    function: Callable[[np.ndarray], Result], parts: Iterable[np.ndarray]
) -> list[Result]:
    """The results of `function` for each part, in order, on all cores.

    Pillow and the system let other threads run while they decode and read. The first error ends
    it.
    """
    parts = list(parts)
    cores = _cores()
    if cores == 1 or len(parts) < 2:
        return [function(part) for part in parts]
    failed = threading.Event()

    def guarded(part: np.ndarray) -> Any:
        if failed.is_set():
            return None
        try:
            return function(part)
        except BaseException:
            failed.set()
            raise

    with ThreadPoolExecutor(cores, "reconjax-decode") as pool:
        futures = [pool.submit(guarded, part) for part in parts]
    errors = [error for future in futures if (error := future.exception()) is not None]
    if errors:
        raise errors[0]
    return [future.result() for future in futures]


def _chunks(count: int) -> list[np.ndarray]:
    return [np.arange(start, min(start + CHUNK, count)) for start in range(0, count, CHUNK)]


def _tried(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function returns, or the CorruptImage that it raises."""
    try:
        return function(*arguments)
    except CorruptImage as error:
        return error
    except ValueError:  # fits no layout: whoever reads it says so
        return None


def _failed(outcome: Any) -> bool:
    return isinstance(outcome, CorruptImage)


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def encoded_dataset(
    name: str,
    images: Images,
    parts: Sequence[np.ndarray],
    values: Any,
    *,
    titles: tuple[str, str],
    targets: str | None = None,
    target_patch: str | int | Sequence[int] | None = None,
    notes: Sequence[str] = (),
) -> Dataset:
    """A data set of stored images, with labels as in `Dataset.from_arrays`.

    Args:
      name: what to call it.
      images: of all splits.
      parts: the numbers of the images of the training split and, if there is one, the test split.
      values: (M,) or (M, C) the labels of all images, NaN or None where there is none, masks
        (M, H, W), or task -> such labels; None: no image has one.
      titles: what messages call the labels of both splits.
      targets: "classes" or "real"; None: as `reconjax.data.targets` decides.
      target_patch: as in `Dataset.from_arrays`.
      notes: lines about how it was read.

    Raises:
      ValueError: as `reconjax.data.tasks.known`.
    """
    if values is None:
        made = [EncodedSplit(images, part, np.zeros(len(part), np.int64)) for part in parts]
        return Dataset(name, (), made[0], made[1] if len(made) > 1 else None, notes=tuple(notes))
    for own in values.values() if isinstance(values, Mapping) else (values,):
        _check_proportions(own, images.layout.shape, titles[0])
    given = [_of_part(values, part) for part in parts]
    labels = known(given, titles, targets=targets, target_patch=target_patch)
    made = [
        EncodedSplit(images, part[there], own)
        for part, there, own in zip(parts, labels.there, labels.labels, strict=True)
    ]
    absent = parts[0][~labels.there[0]]
    none = EncodedSplit(images, absent, np.zeros(len(absent), np.int64))
    return Dataset(
        name=name,
        train=made[0],
        test=made[1] if len(made) > 1 else None,
        notes=(*notes, *labels.notes),
        unlabeled=(none,) if len(absent) else (),
        **labels.described,
    )


def _check_proportions(masks: Any, shape: Sequence[int], title: str) -> None:
    """Raises ValueError for masks (M, H, W) that have not the proportions of images (H, W, C)."""
    if is_mask(masks) and masks.shape[1] * shape[1] != masks.shape[2] * shape[0]:
        raise ValueError(
            f"{title}: masks of {masks.shape[1]} x {masks.shape[2]} for images of {shape[0]} x"
            f" {shape[1]}: they must have the same proportions"
        )


def _of_part(values: Any, part: np.ndarray) -> Any:
    """The labels of some images, of one task or of each."""
    if isinstance(values, Mapping):
        return {name: own[part] for name, own in values.items()}
    return values[part]
