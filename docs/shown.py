"""What executed pages show beside the output of their code: pictures, and the API of a room."""

import base64
import importlib
import inspect
from pathlib import Path

import reconjax


def image(path: str) -> str:
    """The PNG as HTML that needs no file beside it."""
    data = base64.b64encode(Path(path).read_bytes()).decode()
    return f'<img alt="{Path(path).stem}" src="data:image/png;base64,{data}">'


def room(name: str) -> str:
    """A page on what a room offers: what its modules are, then every name that the root has not."""
    module = importlib.import_module(f"reconjax.{name}")
    first, *rest = (inspect.getdoc(module) or "").split("\n\n")
    about = [f"```text\n{part}\n```" for part in rest]
    known = {id(value) for value in root_values().values()}
    there = [one for one in module.__all__ if id(getattr(module, one)) in known]
    if there:
        about.append(f"[At the root](index.md): {', '.join(f'`{one}`' for one in there)}.")
    own = [f"{name}.{one}" for one in module.__all__ if one not in there]
    return "\n\n".join([first, *about, *map(entry, own)])


def root() -> str:
    """What is at the root itself."""
    return "\n\n".join(map(entry, root_values()))


def root_values() -> dict[str, object]:
    """The names at the root that are no rooms."""
    values = {name: getattr(reconjax, name) for name in reconjax.__all__}
    return {name: value for name, value in values.items() if not inspect.ismodule(value)}


def entry(name: str) -> str:
    """The line of mkdocstrings for a name; constants have no docstring, and no entry."""
    value = reconjax
    for part in name.split("."):
        value = getattr(value, part)
    if not callable(value):
        return ""
    # The module in which it is: names at the root are imported when they are first used.
    options = ("show_root_heading: true", "show_root_toc_entry: true", "show_root_full_path: false")
    return "\n      ".join([f"::: {value.__module__}.{value.__qualname__}\n    options:", *options])
