"""Frozen features: the examples of a split as a network sees them, in arrays for the probes."""

import dataclasses
import functools
import math
import zipfile
import zlib
from collections import deque
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from reconjax.data import Dataset, Split, load_npz
from reconjax.data.prefetch import IN_FLIGHT, prefetch
from reconjax.data.units import as_floats
from reconjax.training.examples import Centered

# Under which names other programs save features, and what they are called here.
_KEYS = {
    "features_train": "x_train",
    "labels_train": "y_train",
    "features_test": "x_test",
    "labels_test": "y_test",
}


@dataclasses.dataclass(frozen=True)
class Frozen:
    """What a network does to inputs while it is not trained, apart from its parameters.

    Networks that differ in their parameters alone are equal and hash alike: as a static argument of
    `jax.jit`, one compilation serves them all.
    """

    network: Any
    method: str | None

    def __call__(self, parameters: Any, x: Array) -> Array:
        """The outputs for the inputs x (N, ...)."""
        if self.method is None:
            return self.network(x)
        model = nnx.merge(self.network, parameters)  # a copy: the caller's keeps its mode
        model.eval()
        return getattr(model, self.method)(x)


def frozen(model: Any, *methods: str) -> tuple[Frozen, Any]:
    """A network and its parameters: `network(parameters, x)` is `model.method(x)`.

    Args:
      model: an `nnx.Module`, or a plain function of x, which has no parameters.
      methods: the first one that the module has is taken.

    Raises:
      ValueError: the model is no function, and no module with one of the methods.
    """
    if not isinstance(model, nnx.Module):
        if not callable(model):
            raise ValueError(f"model: {type(model).__name__}; an nnx.Module or a function of x")
        return Frozen(model, None), None
    for method in methods:
        if hasattr(model, method):
            network, parameters = nnx.split(model)
            return Frozen(network, method), parameters
    raise ValueError(f"model: {type(model).__name__} has no {' and no '.join(methods)}")


def features(
    model: Any,
    split: Split,
    inputs: Centered | None = None,
    *,
    batch_size: int = 512,
    devices: Sequence[jax.Device] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The features of every example of a split, with one batch of examples in memory at a time.

    Args:
      model: a network with `features(x)` or else `encode(x)`, used in evaluation mode, or a
        function x (B, ...) -> (B, ...) of jax arrays.
      split: N examples.
      inputs: what makes the network's inputs of images, the `Centered` of its training; by default
        8-bit images are scaled to [0, 1] and no mean is removed.
      batch_size: B, rounded up to a multiple of the devices; the last batch is filled up, so that
        all have one shape.
      devices: of this process, which share each batch; by default all accelerators, or one CPU.

    Returns:
      (N, F) float32, flattened where the network gives more axes, and the labels of the split.

    Raises:
      ValueError: batch_size < 1, a model without features, or features that are NaN or infinite.

    Example:
      >>> x, y = np.ones((4, 3), np.float32), np.arange(4) % 2
      >>> split = reconjax.data.Dataset.from_arrays(x, y).train
      >>> reconjax.training.probes.features(lambda x: 2 * x, split)[0][0].tolist()
      [2.0, 2.0, 2.0]
    """
    if batch_size < 1:
        raise ValueError(f"batch_size: {batch_size}; it must be at least 1")
    network, parameters = frozen(model, "features", "encode")
    mesh = Mesh(np.array(devices or _devices()), ("data",))
    rows = math.ceil(min(batch_size, len(split)) / mesh.size) * mesh.size
    everywhere = NamedSharding(mesh, PartitionSpec())
    shared = NamedSharding(mesh, PartitionSpec("data"))
    parameters, inputs = jax.device_put((parameters, inputs), everywhere)

    labels: list[np.ndarray] = []
    finished: list[np.ndarray] = []
    under_way: deque[tuple[Array, int]] = deque()

    def finish() -> None:
        batch_features, count = under_way.popleft()
        finished.append(np.asarray(batch_features)[:count])

    with prefetch(split.batches(rows)) as ahead:
        for images, batch_labels in ahead:
            labels.append(batch_labels)
            batch = jax.device_put(_filled_up(images, rows), shared)
            if len(under_way) == IN_FLIGHT:
                finish()
            under_way.append((_features(network, parameters, inputs, batch), len(images)))
    while under_way:
        finish()
    everything = np.concatenate(finished)
    if bad := int(np.sum(~np.isfinite(everything).all(axis=1))):
        raise ValueError(
            f"model: its features of {bad} of {len(everything)} examples are NaN or infinite"
        )
    return everything, np.concatenate(labels)


def feature_set(
    model: Any, dataset: Dataset, inputs: Centered | None = None, **options: Any
) -> Dataset:
    """The features of both splits as a data set of vectors; arguments as `features`.

    Args:
      model: see `features`.
      dataset: both splits of it are used.
      inputs: see `features`.
      **options: see `features`.

    Raises:
      ValueError: as `features`.

    Example:
      >>> digits = reconjax.data.load("digits")
      >>> reconjax.training.feature_set(lambda x: x[:, ::2], digits).features
      32
    """
    train = features(model, dataset.train, inputs, **options)
    test: tuple[Any, Any] = (None, None)
    if dataset.test is not None:
        test = features(model, dataset.test, inputs, **options)
    names = dataset.class_names or None
    return Dataset.from_arrays(*train, *test, names, dataset.name)


def load_features(path: str | PathLike[str]) -> Dataset:
    """Features from elsewhere: an .npz with features_train, labels_train and, if there, the tests'.

    The keys may also be those of `reconjax.data.load_npz`: x_train, y_train, x_test, y_test and
    class_names. Features are (N, F) floats; anything else is taken as images are.

    Args:
      path: of the file.

    Returns:
      A data set of vectors.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: as `load_npz`.

    Example:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     x, y = np.eye(4), np.arange(4) % 2
      ...     np.savez(folder + "/a.npz", features_train=x, labels_train=y)
      ...     reconjax.training.probes.load_features(folder + "/a.npz").features
      4
    """
    path = Path(path).expanduser()
    if not (zipfile.is_zipfile(path) and "features_train.npy" in zipfile.ZipFile(path).namelist()):
        dataset = load_npz(path, channels_first=False)  # a probe flattens what it is given
        if not dataset.num_classes:
            raise ValueError(f"{path}: has {dataset.targets_text}; a probe needs classes (y_train)")
        return dataset
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {ours: file[theirs] for theirs, ours in _KEYS.items() if theirs in file}
            names = file.get("class_names")
        if "y_train" not in arrays:
            raise ValueError("features_train is there without labels_train")
        dataset = Dataset.from_arrays(
            **arrays, class_names=names, name=path.stem, channels_first=False
        )
        if not dataset.num_classes:
            raise ValueError(f"labels_train are {dataset.targets_text}; a probe needs classes")
        return dataset
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        reason = " ".join(str(error).split())
        for theirs, ours in _KEYS.items():
            reason = reason.replace(ours, theirs)
        raise ValueError(f"{path} cannot be read as features: {reason}") from None


@functools.partial(jax.jit, static_argnums=0)
def _features(network: Frozen, parameters: Any, inputs: Centered | None, images: Array) -> Array:
    x = as_floats(images, jnp.float32) if inputs is None else inputs.centered(images)
    output = network(parameters, x)
    return output.reshape(output.shape[0], -1).astype(jnp.float32)


def _devices() -> Sequence[jax.Device]:
    """Accelerators are all used; the CPU's devices share its cores and would gain nothing."""
    local = jax.local_devices()
    return local[:1] if local[0].platform == "cpu" else local


def _filled_up(images: np.ndarray, rows: int) -> np.ndarray:
    return np.pad(images, [(0, rows - len(images))] + [(0, 0)] * (images.ndim - 1))
