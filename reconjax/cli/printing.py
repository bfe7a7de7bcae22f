"""What the commands print and write; of several processes, the first alone does."""

import contextlib
import json
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from reconjax.data import ManyClassesWarning
from reconjax.data.layout import shape_text
from reconjax.storage.files import output_folder, replacing
from reconjax.summary import hosts


def folder(path: str | None) -> Path | None:
    """The folder to write to, if any."""
    return output_folder(path) if path and hosts.first() else None


def some_dims(features: int, rank: int) -> list[int]:
    """1, 2, 4, ... and the rank."""
    powers = [2**i for i in range(features.bit_length()) if 2**i < rank]
    return [*powers, rank]


def facts(dataset: Any, found: Any, rank: Any = None) -> dict[str, Any]:
    """What every result says of the data; `found` are moments or their spectrum."""
    return {
        "data": dataset.name,
        "samples": int(found.samples),
        "features": found.features,
        "rank": int(found.rank if rank is None else rank),
        "classes": dataset.num_classes,
        **understood(dataset),
    }


def understood(dataset: Any) -> dict[str, Any]:
    """What the arrays were taken for: the shape of an example, and the targets in words."""
    return {"example_shape": list(dataset.example_shape), "targets": dataset.targets_text}


def headline(result: dict[str, Any]) -> str:
    """The same in a line."""
    text = "{data}: {samples} samples, {features} features of rank {rank}, {targets}; {shape}"
    return text.format(**result, shape=shape_text(result["example_shape"]))


@contextlib.contextmanager
def warnings_in_lines(command: str) -> Iterator[None]:
    """Prints what the package warns of in one line on stderr, each kind of it once."""
    seen: set[str] = set()
    with warnings.catch_warnings():
        warnings.filterwarnings("always", category=ManyClassesWarning)
        shown = warnings.showwarning

        def show(message: Any, category: type[Warning], *where: Any, **how: Any) -> None:
            if not issubclass(category, ManyClassesWarning):
                shown(message, category, *where, **how)
            elif category.__name__ not in seen and hosts.first():
                seen.add(category.__name__)
                text = str(message).replace("targets='real'", "--targets real")
                print(f"reconjax {command}: warning: {text}", file=sys.stderr)

        warnings.showwarning = show
        yield


class progress:
    """A bar on stderr for work that takes more than a second; calling it counts."""

    def __init__(self, what: str, total: int) -> None:
        """`total` things of a kind."""
        self.what, self.total = what, total

    def __enter__(self) -> Callable[..., None]:
        """What is to be called."""
        from tqdm import tqdm

        self.bar = tqdm(
            total=self.total,
            desc=self.what,
            delay=1,
            leave=False,
            file=sys.stderr,
            disable=not hosts.first(),
        )
        return lambda count=1: (self.bar.update(count), None)[1]

    def __exit__(self, *_: object) -> None:
        """Takes the bar away."""
        self.bar.close()


def write_json(result: dict[str, Any], path: Path) -> None:
    """Writes a result, whole or not at all."""
    with replacing(path) as part:
        part.write_text(json.dumps(result) + "\n")


def say_files(folder: Path | None, *names: str) -> None:
    """Says what was written."""
    if folder is not None:
        print("wrote " + ", ".join(str(folder / name) for name in names))
