"""How a study reads its data."""

from collections.abc import Sequence
from typing import Literal, TypedDict

from reconjax.data import Dataset


class Reading(TypedDict, total=False):
    """How a study reads its data; the keywords that every study takes.

    Attributes:
      data_dir: where TFDS sets are prepared, for data that are given by name.
      max_samples: a random part of the training split of this size; all by default.
      seed: of the random numbers (0).
      class_weight: "balanced" gives every class the same total weight.
      standardize: scale every feature to variance 1.
      memory: GiB; what needs more is refused before any work. By default what the device has.
      channels_first: whether images in arrays are (N, C, H, W); see `Dataset.from_arrays`.
      axes: what the axes of arrays are, as in "TC" for sequences; see `reconjax.data.layout`.
      targets: what the labels of arrays are, "classes" or "real"; see `Dataset.from_arrays`.
      resize: the size of images, 32 or "48x64"; see `reconjax.data.load`.
      crop: the size of their centered part that is kept.
      gray: make colors gray.
      test_share: the share of each class that becomes the test split, where there is none.
      skip_corrupt: leave out images that cannot be decoded.
      image_key: the column of a table, the ending in a tar file, or the feature of a TFDS set that
        holds images.
      target_key: the same for targets, the name of targets among arrays, or a folder of masks; a
        list of several is several tasks, see `reconjax.data.tasks`.
      target_patch: of masks, the size of the patches that they are averaged over.
      unlabeled: more data, whose examples the encoder learns from too: a name, or a data set.
      progress: show bars on a terminal (True).
    """

    data_dir: str | None
    max_samples: int | None
    seed: int
    class_weight: Literal["balanced"] | None
    standardize: bool
    memory: float | None
    channels_first: bool | None
    axes: str | None
    targets: Literal["classes", "real"] | None
    resize: int | str | None
    crop: int | str | None
    gray: bool | None
    test_share: float | None
    skip_corrupt: bool | None
    image_key: str | None
    target_key: str | Sequence[str] | None
    target_patch: int | str | None
    unlabeled: str | Dataset | None
    progress: bool
