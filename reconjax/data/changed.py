"""Data sets made of others: images at another size, a test split where there is none."""

import dataclasses

import numpy as np

from reconjax.data.dataset import Dataset
from reconjax.data.encoded import in_threads
from reconjax.data.geometry import Geometry, Size, geometry
from reconjax.data.split import ArraySplit, Split
from reconjax.data.targets import strata

# Images that a thread changes at a time.
_CHUNK = 64


class ChangedSplit(Split):
    """A split whose images are resized, cropped or made gray whenever they are asked for."""

    def __init__(self, split: Split, geometry: Geometry, name: str) -> None:
        """Nothing is read. Raises ValueError where the geometry does not apply."""
        self._split, self._geometry, self._name = split, geometry, name
        self._shape = geometry.shape(split.example_shape, name)

    def __len__(self) -> int:
        """The number of examples."""
        return len(self._split)

    @property
    def example_shape(self) -> tuple[int, ...]:
        """(H, W, C)."""
        return self._shape

    @property
    def labels(self) -> np.ndarray:
        """(N,) int64 or (N, C) float64."""
        return self._split.labels

    def examples(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The examples at `indices`, changed; floats become float32."""
        images, labels = self._split.examples(indices)
        made: np.ndarray = np.empty((len(images), *self._shape), _dtype(images))

        def change(places: np.ndarray) -> None:
            for place in places:
                made[place] = self._geometry.of_array(images[place])

        starts = range(0, len(images), _CHUNK)
        in_threads(change, [np.arange(s, min(s + _CHUNK, len(images))) for s in starts])
        return made, labels

    def subset(self, indices: np.ndarray) -> "ChangedSplit":
        """The split of the examples at `indices`."""
        return ChangedSplit(self._split.subset(indices), self._geometry, self._name)


def changed(
    data: Dataset,
    *,
    resize: Size | None = None,
    crop: Size | None = None,
    gray: bool | None = False,
    test_share: float | None = None,
    seed: int = 0,
) -> Dataset:
    """A data set with images at another size, or with a test split; see `reconjax.data.load`."""
    made = with_geometry(data, geometry(resize, crop, gray))
    return made if test_share is None else with_test_split(made, test_share, seed)


def with_geometry(data: Dataset, geometry: Geometry) -> Dataset:
    """The data set with every image changed. Raises ValueError where that does not apply."""
    if not geometry:
        return data
    if data.masks:
        height, width = data.example_shape[:2]
        wanted = geometry.resize or (height, width)
        if geometry.crop or wanted[0] * width != wanted[1] * height:
            raise ValueError(
                f"{'crop' if geometry.crop else 'resize'}: it would move the images of {data.name}"
                f" against their masks; a --resize with the proportions of {height} x {width} is"
                " allowed"
            )

    def of(split: Split) -> Split:
        made = ChangedSplit(split, geometry, data.name)
        if isinstance(split, ArraySplit):  # in memory, and smaller so as a rule
            return ArraySplit(*made.examples(np.arange(len(made))))
        return made

    test = None if data.test is None else of(data.test)
    unlabeled = tuple(map(of, data.unlabeled))
    return dataclasses.replace(data, train=of(data.train), test=test, unlabeled=unlabeled)


def with_test_split(data: Dataset, share: float, seed: int = 0) -> Dataset:
    """The data set with a part of its training split as its test split.

    Of each class (of real targets: each half, see `strata`), a random part of that share is taken,
    rounded, and at least one example stays.

    Raises:
      ValueError: `share` is not between 0 and 1, there is a test split already, or nothing is left
        on one side.
    """
    if not (isinstance(share, int | float) and 0 < share < 1):
        raise ValueError(f"test_share: {share!r}; a number between 0 and 1 is needed")
    if data.test is not None:
        raise ValueError(
            f"test_share: {share}; {data.name} has a test split of {len(data.test)} examples"
        )
    random = np.random.default_rng(seed)
    groups = strata(data.train.labels)
    drawn = []
    for group in np.unique(groups):
        members = np.flatnonzero(groups == group)
        count = min(round(share * len(members)), len(members) - 1)
        drawn.append(random.choice(members, count, replace=False))
    test = np.sort(np.concatenate(drawn))
    train = np.setdiff1d(np.arange(len(data.train)), test)
    if not len(test):
        raise ValueError(f"test_share: {share}; that is no example of any class of {data.name}")
    return dataclasses.replace(data, train=data.train.subset(train), test=data.train.subset(test))


def _dtype(images: np.ndarray) -> type:
    return np.uint8 if images.dtype == np.uint8 else np.float32
