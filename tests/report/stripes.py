"""A small data set, whose classes have names that must be escaped."""

import numpy as np

from reconjax.data import Dataset

GRID = {"patches": [2, 4], "ratios": [0, 0.5, 0.9], "progress": False}


# More than 128 features have no bootstrap of the sweep, which would cost more than all else.
def small(count=200, tested=80, shape=(12, 12, 1), name="stripes", seed=0):
    """8-bit images of three classes with </script> and quotes in their names."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count + tested) % 3
    images = rng.integers(0, 120, (count + tested, *shape))
    for label in range(3):
        images[labels == label, label * 2 : label * 2 + 2] += 90
    images = images.astype(np.uint8)
    names = ["plain", 'with "quotes", commas', "</script><b>bold"]
    arrays = images[:count], labels[:count], images[count:], labels[count:]
    return Dataset.from_arrays(*arrays, class_names=names, name=name)
