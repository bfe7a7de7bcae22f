"""The states of a run, as orbax checkpoints: whole or absent, checked when read, a few kept."""

import contextlib
import errno
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from reconjax.storage.parts import fingerprint

Arrays = dict[str, np.ndarray]

# How many are kept: one that is found to be damaged has others before it.
KEPT = 3

_DIGEST = "fingerprint"


class Checkpoints:
    """Checkpoints by their step, in a folder of their own; for one process."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        """Opens the folder, which is created with the first checkpoint."""
        self.folder = Path(folder).absolute()

    def steps(self) -> list[int]:
        """The steps that have a checkpoint, in order."""
        found = self.folder.glob("[0-9]*") if self.folder.is_dir() else ()
        return sorted(int(path.name) for path in found if path.name.isdecimal())

    def save(self, step: int, arrays: Arrays) -> None:
        """Keeps the arrays of a step, and removes all but the last `KEPT`.

        Raises:
          OSError: it cannot be written, for which there is one line; those before it are kept.
        """
        whole = {**arrays, _DIGEST: _digest(arrays)}
        try:
            self._check_space(sum(array.nbytes for array in whole.values()))
            with self._manager() as (manager, ocp):
                manager.save(step, args=ocp.args.StandardSave(whole), force=True)
        except Exception as error:  # orbax and what it writes with raise errors of all kinds
            if step not in self.steps():
                self._sweep()
            raise OSError(
                f"{self.folder}: the checkpoint of step {step} cannot be written ({_line(error)})"
            ) from error

    def restore(self, say: Callable[[str], None]) -> tuple[int, Arrays] | None:
        """The newest checkpoint that is whole, or None.

        Args:
          say: gets a line for each one that is damaged and passed over.
        """
        for step in reversed(self.steps()):
            try:
                arrays = self._read(step)
            except Exception as error:  # whatever a damaged file leads to
                say(f"{self.folder / str(step)}: damaged ({_line(error)}); the one before is taken")
            else:
                return step, arrays
        return None

    def drop_after(self, step: int) -> None:
        """Removes the checkpoints of later steps, which are damaged."""
        for later in self.steps():
            if later > step:
                shutil.rmtree(self.folder / str(later), ignore_errors=True)

    def _read(self, step: int) -> Arrays:
        with self._manager() as (manager, ocp):
            like = {
                name: jax.ShapeDtypeStruct(one.shape, one.dtype)
                for name, one in manager.item_metadata(step).items()
            }
            arrays = manager.restore(step, args=ocp.args.StandardRestore(like))
        found = {name: np.asarray(array) for name, array in arrays.items()}
        if not np.array_equal(found.pop(_DIGEST), _digest(found)):
            raise ValueError("its numbers are not those that were saved")
        return found

    @contextlib.contextmanager
    def _manager(self) -> Iterator[tuple[Any, Any]]:
        with _quiet():
            import orbax.checkpoint as ocp

            options = ocp.CheckpointManagerOptions(
                max_to_keep=KEPT,
                enable_async_checkpointing=False,
                cleanup_tmp_directories=True,
                save_root_metadata=False,
                multiprocessing_options=ocp.options.MultiprocessingOptions(
                    primary_host=jax.process_index(),
                    active_processes={jax.process_index()},
                    barrier_sync_key_prefix="reconjax",
                ),
                create=False,
            )
            handler = ocp.StandardCheckpointHandler()
            with ocp.CheckpointManager(
                self.folder, options=options, item_handlers=handler
            ) as manager:
                yield manager, ocp

    def _check_space(self, needed: int) -> None:
        """Raises where the disk is too small: Orbax's threads would each tell of it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(self.folder).free < needed:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _sweep(self) -> None:
        """Removes what a save that failed has left, lest it fill the disk."""
        for path in self.folder.glob("*tmp*"):
            shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Orbax logs every file that it writes, and with a traceback every error that it raises."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def _digest(arrays: Arrays) -> np.ndarray:
    return np.frombuffer(fingerprint(arrays).encode(), np.uint8)


def _line(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split())[:200] or type(error).__name__
