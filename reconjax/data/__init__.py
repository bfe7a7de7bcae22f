"""Data sets: in memory, made up, and whatever lies on the disk, streamed where it is large.

dataset        `Dataset`, of arrays or of batches
source         `load`: the one way to name data
paths          what lies at a path, and which door opens it
image_folder   class folders of images; encoded, images: how they are decoded
geometry       images resized, cropped, gray
keys, stored   arrays: the names under which others keep them; .npy, HDF5, Zarr
npz            arrays in one .npz
tables, hub    parquet, Arrow, CSV, the Hugging Face Hub; hf, table_files
tars           WebDataset shards
tfds           TensorFlow Datasets; records, tfds_folders
labels         classes and real targets; targets: the same for moments
tasks          one task or several; regions, masks: segmentation, averaged over patches
batched        loaders
changed        a data set made of another
"""

from reconjax.data.dataset import Dataset
from reconjax.data.embedded import digits
from reconjax.data.image_folder import load_images
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
    "load_images",
    "load_npz",
    "load_tfds",
    "prepared",
    "scenes",
]
