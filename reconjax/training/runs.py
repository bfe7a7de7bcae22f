"""A run's folder: its settings, its metrics as they come, its checkpoints.

settings.json   what the run is; a run with other settings is refused
inputs.npz      the mean image
metrics.jsonl   one object a line; after a resume no step is missing and none is there twice
checkpoints/    the last few states
"""

import json
import math
import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from reconjax.nets import make
from reconjax.storage.files import replacing
from reconjax.training.checkpoints import Checkpoints
from reconjax.training.examples import Centered

Row = dict[str, Any]


class RunFolder:
    """The files of one run."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        """Opens a folder that exists."""
        self.folder = Path(folder)
        self.checkpoints = Checkpoints(self.folder / "checkpoints")
        self._metrics = self.folder / "metrics.jsonl"

    def settings(self) -> dict[str, Any]:
        """What the run is.

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

    def claim(self, settings: Mapping[str, Any]) -> None:
        """Takes the folder for a run with these settings (plain values that JSON can hold).

        Raises:
          ValueError: one line, where it holds a run with others.
        """
        wanted = plain(settings)
        if not (self.folder / "settings.json").exists():
            with replacing(self.folder / "settings.json") as part:
                part.write_text(json.dumps(wanted, indent=1) + "\n")
            return
        made = self.settings()
        if made != wanted:
            one, two = _flat(made), _flat(wanted)
            other = sorted(k for k in {*one, *two} if one.get(k) != two.get(k))
            raise ValueError(
                f"--out {self.folder}: holds a run with another {', '.join(other)}; go on with that"
                " one, or choose another --out"
            )

    def keep_inputs(self, mean: Any) -> None:
        """Keeps the mean image."""
        with replacing(self.folder / "inputs.npz") as part:
            np.savez(part, allow_pickle=False, mean=np.asarray(mean))

    def inputs(self) -> np.ndarray:
        """The mean image."""
        with np.load(self.folder / "inputs.npz") as arrays:
            return arrays["mean"]

    def rows(self) -> list[Row]:
        """The metrics; a line that a kill left unfinished is not among them."""
        if not self._metrics.exists():
            return []
        return list(_rows(self._metrics.read_text()))

    def rewind(self, step: int) -> list[Row]:
        """Takes back the metrics of later steps, which will come again; gives the others."""
        kept = [row for row in self.rows() if row["step"] <= step]
        with replacing(self._metrics) as part:
            part.write_text("".join(map(_line, kept)))
        return kept

    def append(self, rows: Iterable[Row]) -> None:
        """Writes rows of metrics, and sees to it that they are written.

        Raises:
          OSError: one line that names the file and the reason.
        """
        try:
            with self._metrics.open("a") as file:
                file.write("".join(map(_line, rows)))
        except OSError as error:
            raise OSError(f"{self._metrics}: cannot be written ({error.strerror})") from error


def _flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What differs between runs beside what they share."""
    runs = settings.get("runs", [])
    names = {name for run in runs for name in run}
    own = {name: [run.get(name) for run in runs] for name in names}
    return {**{name: value for name, value in settings.items() if name != "runs"}, **own}


def _rows(text: str) -> Iterable[Row]:
    for line in text.splitlines():
        try:
            yield json.loads(line)
        except ValueError:
            return


def plain(value: Any) -> Any:
    """The value as JSON gives it back: lists for arrays, null for what is not finite."""
    if isinstance(value, Mapping):
        return {str(name): plain(part) for name, part in value.items()}
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        value = np.asarray(value).tolist()
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _line(row: Row) -> str:
    return json.dumps(plain(row), allow_nan=False) + "\n"


class Trained(NamedTuple):
    """What training gives.

    Attributes:
      model: the network, in evaluation mode; it takes `inputs.centered(images)`.
      head: the supervised head on the latent, or None.
      inputs: the centering.
      history: rows of metrics, {"step", "epoch", "split": "train" or "test", "loss", ...}.
      step: how many steps were made.
    """

    model: Any
    head: Any
    inputs: Centered
    history: list[Row]
    step: int


def load(out: str | os.PathLike[str], *, model: Any = None, run: int | None = None) -> Trained:
    """The network of a run's newest checkpoint that is whole.

    Args:
      out: the folder that `fit` was given.
      model: one of the same shapes; not needed where the settings say how it is made.
      run: which of several, 0 .. R - 1.

    Raises:
      FileNotFoundError: the folder holds no run, or no checkpoint yet.
      ValueError: there are several runs and none is named, or the network has other shapes.
    """
    folder = RunFolder(out)
    settings = folder.settings()
    last = len(settings["runs"]) - 1
    if run is None and last:
        raise ValueError(f"{out}: holds {last + 1} runs; run=0 .. {last} names one")
    index = run or 0
    if not 0 <= index <= last:
        raise ValueError(f"run: {run}; 0 .. {last} are there")
    classes, shape = settings["data"]["classes"], settings["data"]["shape"]
    if model is None:
        if "net" not in settings:
            raise ValueError(f"{out}: does not say how the network is made; give it as model=")
        how = dict(settings["net"])
        model = make(how.pop("name"), shape, num_classes=classes, rngs=nnx.Rngs(0), **how)
    head = None
    if settings["objective"]["name"] == "guided":
        head = nnx.Linear(model.latent_dim, classes, rngs=nnx.Rngs(0))
    found = folder.checkpoints.restore(lambda text: print(text, file=sys.stderr))
    if found is None:
        raise FileNotFoundError(f"{out}: holds no checkpoint yet")
    step, arrays = found
    _, *state = nnx.split((model, head), nnx.Param, ...)
    like = dict(zip(("params", "rest"), map(nnx.as_pure, state), strict=True))
    if settings["several"]:
        arrays = {name: array[index] for name, array in arrays.items()}
    model, head = merged((model, head), **fill(like, arrays, folder.folder))
    rows = [row for row in folder.rows() if row.get("run", index) == index]
    return Trained(model, head, Centered(jnp.asarray(folder.inputs())), rows, step)


def merged(pair: Any, params: Any, rest: Any) -> Any:
    """(model, head) like `pair`, with other numbers, in evaluation mode."""
    params, rest = jax.tree.map(jnp.asarray, (params, rest))
    found = nnx.merge(nnx.split(pair)[0], params, rest)
    for net in found:
        if net is not None:
            net.eval()
    return found


def named(tree: Any) -> dict[str, np.ndarray]:
    """The arrays of a tuple of trees by their path."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def fill(like: Any, arrays: Mapping[str, np.ndarray], where: Any) -> Any:
    """A tree like `like` with these arrays, of which there may be more.

    Raises:
      ValueError: one line, where a shape is another or an array is missing.
    """

    def one(path: Any, leaf: Any) -> np.ndarray:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        found = arrays.get(name)
        if found is None or found.shape != np.shape(leaf) or found.dtype != leaf.dtype:
            there = "nothing" if found is None else f"{found.dtype}{found.shape}"
            raise ValueError(
                f"{where}: its checkpoint has {there} for {name}, the network {leaf.dtype}"
                f"{np.shape(leaf)}; it is that of another network"
            )
        return found

    return jax.tree_util.tree_map_with_path(one, like)
