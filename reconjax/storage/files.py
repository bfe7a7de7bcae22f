"""Results in files: a folder that is known to be writable, and files that are whole or absent."""

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

# Files that are being written, under the names that they have until they are whole.
_UNFINISHED: set[Path] = set()


def output_folder(path: str | os.PathLike[str]) -> Path:
    """Creates the folder where it is missing, and proves that files can be written into it.

    Raises:
      OSError: one line that names the folder and the reason.
    """
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OSError(f"--out {folder}: cannot be written ({error.strerror})") from None
    return folder


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields a path beside `path` that becomes `path` once all has been written to it.

    Raises:
      OSError: one line that names the file and the reason; the file is as it was before.
    """
    path = Path(path)
    part = path.with_name(f".{path.name}.{os.getpid()}.part{path.suffix}")
    _UNFINISHED.add(part)
    try:
        yield part
        os.replace(part, path)
    except OSError as error:
        raise OSError(f"{path}: cannot be written ({error.strerror or error})") from error
    finally:
        part.unlink(missing_ok=True)
        _UNFINISHED.discard(part)


def remove_unfinished() -> None:
    """Removes the files that are half written, where the process is about to be ended."""
    for part in tuple(_UNFINISHED):
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def write_json(result: object, path: str | os.PathLike[str]) -> None:
    """Writes a value as JSON, whole or not at all."""
    with replacing(path) as part:
        part.write_text(json.dumps(result) + "\n")
