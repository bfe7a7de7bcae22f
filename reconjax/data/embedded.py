"""The 8x8 handwritten digits that come with scikit-learn: real data without a download."""

import numpy as np

from reconjax.data.dataset import Dataset

# The set is ordered by writer, so its end is written mostly by hands not seen before.
_TRAIN = 1437


def digits() -> Dataset:
    """The 1797 digits of scikit-learn: 1437 to train on, the last 360 to test on.

    Images are float32 (N, 8, 8, 1) with values k/16 in [0, 1], in 10 classes. Raises ImportError
    if scikit-learn is missing.

    Example:
      >>> dataset = reconjax.data.digits()
      >>> len(dataset.train), len(dataset.test), dataset.image_shape
      (1437, 360, (8, 8, 1))
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise ImportError("digits needs scikit-learn: pip install scikit-learn") from None
    raw = load_digits()
    images = (raw.images / 16).astype(np.float32)
    return Dataset.from_arrays(
        images[:_TRAIN],
        raw.target[:_TRAIN],
        images[_TRAIN:],
        raw.target[_TRAIN:],
        name="digits",
    )
