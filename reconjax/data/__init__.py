"""Data sets: in memory, made up, from a file, or streamed from TFDS."""

from reconjax.data.dataset import Dataset
from reconjax.data.embedded import digits
from reconjax.data.npz import load_npz
from reconjax.data.rendering import scenes
from reconjax.data.source import SOURCES, load
from reconjax.data.split import Split
from reconjax.data.targets import ManyClassesWarning
from reconjax.data.tfds import load_tfds
from reconjax.data.tfds_folders import Prepared, default_data_dir, prepared

__all__ = [
    "SOURCES",
    "Dataset",
    "ManyClassesWarning",
    "Prepared",
    "Split",
    "default_data_dir",
    "digits",
    "load",
    "load_npz",
    "load_tfds",
    "prepared",
    "scenes",
]
