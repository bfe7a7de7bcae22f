"""The folder of a training: its settings, its metrics as they come, its checkpoints.

settings.json           what is trained; a training with other settings is refused
inputs.npz              the mean image
metrics.jsonl           an object a line; after a resume no step is missing and none there twice
checkpoints/STEP.npz    the last few states, each whole or absent; zip has a checksum of every array
"""

import json
import math
import os
import sys
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from reconjax.nets import make
from reconjax.storage.files import replacing
from reconjax.training.examples import Centered
from reconjax.training.objectives import Objective, guided

Row = dict[str, Any]
Arrays = dict[str, np.ndarray]

# Checkpoints that are kept: where one is damaged, there are others before it.
KEPT = 3


class RunFolder:
    """The files of one training, of one run or several; one process writes them."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        """Opens a folder that exists."""
        self.folder = Path(folder)
        self._metrics = self.folder / "metrics.jsonl"
        self._checkpoints = self.folder / "checkpoints"

    def settings(self) -> dict[str, Any]:
        """What is trained here.

        Raises:
          FileNotFoundError: the folder holds no run.
          ValueError: its settings cannot be read.
        """
        path = self.folder / "settings.json"
        try:
            return json.loads(path.read_text())
        except FileNotFoundError:
            raise FileNotFoundError(
                f"{self.folder}: holds no run (settings.json); `reconjax train --out` writes one"
            ) from None
        except ValueError:
            raise ValueError(f"{path}: cannot be read; it is damaged") from None

    def claim(self, settings: Mapping[str, Any], mean: Any) -> None:
        """Takes the folder for a training with these settings, and keeps the mean image.

        Args:
          settings: plain values that JSON can hold.
          mean: (*example_shape) float32.

        Raises:
          ValueError: one line, where it holds a run with others.
        """
        wanted = plain(settings)
        if (self.folder / "settings.json").exists():
            there = self.settings()
            if there != wanted:
                flat, flat_wanted = _flat(there), _flat(wanted)
                names = sorted({*flat, *flat_wanted})
                other = [name for name in names if flat.get(name) != flat_wanted.get(name)]
                raise ValueError(
                    f"--out {self.folder}: holds a run with another {', '.join(other)}; go on with"
                    " that one, or choose another --out"
                )
        else:
            with replacing(self.folder / "settings.json") as part:
                part.write_text(json.dumps(wanted, indent=1) + "\n")
        with replacing(self.folder / "inputs.npz") as part:
            np.savez(part, allow_pickle=False, mean=np.asarray(mean))

    def inputs(self) -> Centered:
        """The centering."""
        with np.load(self.folder / "inputs.npz") as arrays:
            return Centered(jnp.asarray(arrays["mean"]))

    def rows(self) -> list[Row]:
        """The metrics; a line that a kill left unfinished is not among them."""
        if not self._metrics.exists():
            return []
        return list(_rows(self._metrics.read_text()))

    def rewind(self, step: int) -> list[Row]:
        """Takes back what is of later steps, which will come again; gives the other metrics."""
        for later in self.steps():
            if later > step:
                self._checkpoint(later).unlink()
        for unfinished in self._checkpoints.glob(".*.part.npz"):
            unfinished.unlink()
        kept = [row for row in self.rows() if row["step"] <= step]
        with replacing(self._metrics) as part:
            part.write_text("".join(map(_line, kept)))
        return kept

    def append(self, rows: Iterable[Row]) -> None:
        """Writes rows of metrics.

        Raises:
          OSError: one line that names the file and the reason.
        """
        try:
            with self._metrics.open("a") as file:
                file.write("".join(map(_line, rows)))
        except OSError as error:
            raise OSError(f"{self._metrics}: cannot be written ({error.strerror})") from error

    def steps(self) -> list[int]:
        """The steps that have a checkpoint, in order."""
        names = (path.stem for path in self._checkpoints.glob("*.npz"))
        return sorted(int(name) for name in names if name.isdecimal())

    def save(self, step: int, arrays: Arrays) -> None:
        """Keeps the arrays of a step, and removes all but the last `KEPT`.

        Raises:
          OSError: it cannot be written, for which there is one line; those before it are kept.
        """
        self._checkpoints.mkdir(exist_ok=True)
        with replacing(self._checkpoint(step)) as part:
            np.savez(part, allow_pickle=False, **arrays)
        for earlier in self.steps()[:-KEPT]:
            self._checkpoint(earlier).unlink()

    def restore(self) -> tuple[int, Arrays] | None:
        """The newest checkpoint that is whole, or None; a line on stderr for each that is not."""
        for step in reversed(self.steps()):
            path = self._checkpoint(step)
            try:
                with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                    return step, dict(arrays)
            except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile, zlib.error,
                    NotImplementedError, RuntimeError) as error:  # fmt: skip
                # What zip and NumPy raise depends on where the damage is.
                reason = " ".join(str(error).split())[:200] or type(error).__name__
                print(f"{path}: damaged ({reason}); the one before is taken", file=sys.stderr)
        return None

    def _checkpoint(self, step: int) -> Path:
        return self._checkpoints / f"{step}.npz"


class Trained(NamedTuple):
    """What training gives.

    Attributes:
      model: the network, in evaluation mode; it takes `inputs.centered(images)`.
      head: the supervised head on the latent, or None.
      inputs: the centering.
      history: rows of metrics, {"step", "epoch", "run", "split": "train" or "test", "loss", ...}.
      step: how many steps were made.
    """

    model: Any
    head: Any
    inputs: Centered
    history: list[Row]
    step: int


def load(
    out: str | os.PathLike[str],
    *,
    model: Any = None,
    objective: Objective | None = None,
    run: int | None = None,
) -> Trained:
    """The network of a run's newest checkpoint that is whole.

    Args:
      out: the folder that `fit` was given.
      model: one of the same shapes; not needed where the settings say how it is made.
      objective: which makes the head; not needed for those of `reconjax.training.objectives`.
      run: which of several, 0 .. R - 1.

    Raises:
      FileNotFoundError: the folder holds no run, or no checkpoint yet.
      ValueError: there are several runs and none is named, or the network has other shapes.

    Example:
      >>> import tempfile
      >>> from flax import nnx
      >>> digits = reconjax.data.load("digits")
      >>> net = reconjax.nets.make("linear", (8, 8, 1), latent_dim=4, rngs=nnx.Rngs(0))
      >>> record = {"net": {"name": "linear", "latent_dim": 4}}
      >>> how = {"epochs": 1, "record": record}
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     objective = reconjax.training.reconstruction()
      ...     trained = reconjax.training.fit(net, digits, objective, out=folder, **how)
      ...     stored = reconjax.training.load(folder)
      >>> stored.step == trained.step
      True
    """
    folder = RunFolder(out)
    settings = folder.settings()
    last = len(settings["runs"]) - 1
    if run is None and last:
        raise ValueError(f"{out}: holds {last + 1} runs; run=0 .. {last} names one")
    index = run or 0
    if not 0 <= index <= last:
        raise ValueError(f"run: {run}; 0 .. {last} are there")
    classes = settings["data"]["classes"]
    if model is None:
        if "net" not in settings:
            raise ValueError(f"{out}: does not say how the network is made; give it as model=")
        net = {**settings["net"], "example_shape": settings["data"]["shape"]}
        model = make(**net, num_classes=classes, rngs=nnx.Rngs(0))
    if objective is None and settings["objective"]["name"] == "guided":
        objective = guided(0.0)
    head = None if objective is None else objective.head(model, classes, nnx.Rngs(0))
    checkpoint = folder.restore()
    if checkpoint is None:
        raise FileNotFoundError(f"{out}: holds no checkpoint yet")
    step, arrays = checkpoint
    _, *state = nnx.split((model, head), nnx.Param, ...)
    like = dict(zip(("params", "rest"), map(nnx.as_pure, state), strict=True))
    state = fill(like, {name: array[index] for name, array in arrays.items()}, folder.folder)
    model, head = merged((model, head), **state)
    rows = [row for row in folder.rows() if row["run"] == index]
    return Trained(model, head, folder.inputs(), rows, step)


def merged(pair: Any, params: Any, rest: Any) -> Any:
    """(model, head) like `pair`, with other numbers, in evaluation mode."""
    params, rest = jax.tree.map(jnp.asarray, (params, rest))
    nets = nnx.merge(nnx.split(pair)[0], params, rest)
    for net in nets:
        if net is not None:
            net.eval()
    return nets


def named(tree: Any) -> Arrays:
    """The arrays of a tree by their path."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def fill(like: Any, arrays: Mapping[str, np.ndarray], where: Any) -> Any:
    """A tree like `like` with these arrays, of which there may be more.

    Raises:
      ValueError: one line, where a shape is another or an array is missing.
    """

    def array_of(path: Any, leaf: Any) -> np.ndarray:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        array = arrays.get(name)
        if array is not None and array.dtype == np.dtype((np.void, leaf.dtype.itemsize)):
            array = array.view(leaf.dtype)  # NumPy's files do not know bfloat16
        if array is None or array.shape != np.shape(leaf) or array.dtype != leaf.dtype:
            there = "nothing" if array is None else f"{array.dtype}{array.shape}"
            raise ValueError(
                f"{where}: its checkpoint has {there} for {name}, the network {leaf.dtype}"
                f"{np.shape(leaf)}; it is that of another network"
            )
        return array

    return jax.tree_util.tree_map_with_path(array_of, like)


def plain(value: Any) -> Any:
    """The value as JSON gives it back: lists for arrays, null for what is not finite."""
    if isinstance(value, Mapping):
        return {str(name): plain(part) for name, part in value.items()}
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        value = np.asarray(value).tolist()
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What differs between runs beside what they share."""
    runs = settings.get("runs", [])
    names = {name for run in runs for name in run}
    own = {name: [run.get(name) for run in runs] for name in names}
    return {**{name: value for name, value in settings.items() if name != "runs"}, **own}


def _rows(text: str) -> Iterator[Row]:
    for line in text.splitlines():
        try:
            yield json.loads(line)
        except ValueError:
            return


def _line(row: Row) -> str:
    return json.dumps(plain(row), allow_nan=False) + "\n"
