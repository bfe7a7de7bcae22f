"""Reading ahead and working behind: the next batches are read while a device computes the last."""

import contextlib
import queue
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import jax
from jax import Array

Item = TypeVar("Item")

# How long the end of a `with` waits for the reader to finish the item that it is at. It cannot be
# interrupted there; a reader that hangs is left behind, as a daemon, which ends with the program.
PATIENCE = 10.0

# Batches that a device has been given and has not finished: one that it works on, one that waits.
IN_FLIGHT = 2

_END = object()


class _Failure:
    """An error of the reader, on its way to the consumer."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


@contextlib.contextmanager
def prefetch(items: Iterable[Item], depth: int = 2) -> Iterator[Iterator[Item]]:
    """Goes through `items` in a thread of its own, at most `depth` items ahead.

        with prefetch(batches) as ahead:
            for batch in ahead:
                ...

    An error in `items` is raised in the consumer, as it is, after the items that came before it.
    The thread ends with the `with` block, however that ends, and closes `items` if it is a
    generator. JAX's precision and default device, which are settings of a thread, are the caller's.

    Raises:
      ValueError: `depth` is below 1.
    """
    if depth < 1:
        raise ValueError(f"depth: {depth}; it must be at least 1")
    found: queue.Queue[Any] = queue.Queue(maxsize=depth)
    stop = threading.Event()
    x64 = jax.config.jax_enable_x64  # type: ignore[attr-defined]
    device = jax.config.jax_default_device  # type: ignore[attr-defined]

    def read() -> None:
        last: Any = _END
        try:
            with jax.enable_x64(x64), jax.default_device(device):
                source = iter(items)
                try:
                    for item in source:
                        found.put(item)
                        del item  # an item that is handed over is not kept alive here
                        if stop.is_set():
                            break
                finally:
                    if stop.is_set() and hasattr(source, "close"):
                        source.close()
        except BaseException as error:  # raised again in the consumer
            last = _Failure(error)
        if not stop.is_set():
            found.put(last)

    reader = threading.Thread(target=read, name="reconjax-prefetch", daemon=True)
    reader.start()
    try:
        yield _taken(found)
    finally:
        stop.set()
        # One `put` at most is still to come; in an empty queue it does not block.
        with contextlib.suppress(queue.Empty):
            while True:
                found.get_nowait()
        reader.join(PATIENCE)


def _taken(found: "queue.Queue[Any]") -> Iterator[Any]:
    while (item := found.get()) is not _END:
        if isinstance(item, _Failure):
            raise item.error
        yield item
        del item


class Pace:
    """Keeps a device busy without giving it more work, and thereby memory, than a few batches."""

    def __init__(self) -> None:
        """Nothing is under way."""
        self._tokens: deque[Array] = deque()

    def wait(self) -> None:
        """Waits until less than `IN_FLIGHT` batches are under way."""
        while len(self._tokens) >= IN_FLIGHT:
            self._tokens.popleft().block_until_ready()

    def started(self, token: Array) -> None:
        """Counts a batch; `token` is an output of its computation that nobody donates."""
        self._tokens.append(token)
