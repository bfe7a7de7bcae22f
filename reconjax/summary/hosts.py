"""Many hosts as one job: each reads its part of the data, and all have the moments of the whole.

    hosts.start()                                # before anything else of JAX
    mine = hosts.part(data.train)
    moments = hosts.merged(moments_from_batches(mine.batches(), num_classes=data.num_classes))

Every process runs the same program. In a single process all of this does nothing.
"""

import contextlib
import dataclasses
import functools
import os
import socket
import sys
import time
import zlib
from collections.abc import Callable
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from reconjax.data.split import Split
from reconjax.summary.moments import Moments
from reconjax.summary.union import union

_AXIS = "process"
LINGER = 3.0  # seconds, far longer than equal processes come to the same mistake after one another


def start(
    coordinator: str | None = None,
    processes: int | None = None,
    process: int | None = None,
    *,
    timeout: float = 300,
) -> None:
    """Joins this process to the others of its job; to be called before any JAX computation.

    Without arguments JAX finds the cluster: a TPU pod, SLURM, Open MPI or Kubernetes. Where a
    process stays away, JAX ends the others after `timeout`, and prints which it missed.

    Args:
      coordinator: HOST:PORT of process 0, the same in all processes; the port must be free there.
      processes: how many there are.
      process: which of them this is, 0 .. processes - 1.
      timeout: seconds to wait for the others.

    Raises:
      ValueError: some arguments but not all three, one out of range, or no cluster is found.
      OSError: the port of process 0 cannot be used.
      RuntimeError: JAX has computed already, or the job was joined before.
    """
    _check_start(coordinator, processes, process, timeout)
    if jax.distributed.is_initialized():
        raise RuntimeError("hosts.start: called twice; once is enough")
    if coordinator is not None and process == 0:
        _check_port(int(coordinator.rpartition(":")[2]))
    try:
        jax.distributed.initialize(
            coordinator, processes, process, initialization_timeout=max(1, round(timeout))
        )
    except ValueError as error:
        if coordinator is not None:
            raise
        raise ValueError(
            "hosts.start: no cluster was found (TPU pod, SLURM, Open MPI); give coordinator,"
            f" processes and process ({_line(error)})"
        ) from None
    except jax.errors.JaxRuntimeError as error:
        raise OSError(f"hosts.start: the job cannot be joined ({_line(error)})") from None
    except RuntimeError as error:
        raise RuntimeError(f"hosts.start: {_line(error)}") from None
    if jax.process_count() > 1:
        # CPU processes must connect within 30 s of each other (Gloo), but then may be hours apart:
        # do it now, not after each has read its part.
        multihost_utils.sync_global_devices("reconjax")


def leave(status: int) -> NoReturn:
    """Ends this process at once with an exit status, lest others wait for it.

    Nor is the interpreter taken down while computations that were interrupted still reach into it.
    Of several processes, process 0 waits a moment. It runs the service that joins them all, and JAX
    aborts the others when they lose it: where all make the same mistake, each can still say so.
    """
    with contextlib.suppress(RuntimeError):  # in a signal, while something is being written
        sys.stdout.flush()
        sys.stderr.flush()
    if jax.distributed.is_initialized() and jax.process_index() == 0:
        time.sleep(LINGER)
    os._exit(status)


def first() -> bool:
    """Whether this process is the one that prints and writes files; call it after `start`."""
    return jax.process_index() == 0


def part(split: Split) -> Split:
    """The part of a split that this process reads; the split itself in a single process.

    The parts are contiguous, in the order of the processes, and their sizes differ by 1 at most.
    Data that are sorted by class are to be shuffled first: a part of one class has no moments.

    Raises:
      ValueError: on every process, if there are fewer than 2 samples for each of them.
    """
    processes, process = jax.process_count(), jax.process_index()
    if processes == 1:
        return split
    if len(split) < 2 * processes:
        raise ValueError(
            f"split: {len(split)} samples for {processes} processes; at least 2 each are needed"
        )
    start, stop = (len(split) * i // processes for i in (process, process + 1))
    return split.subset(np.arange(start, stop))


def merged(moments: Moments) -> Moments:
    """Moments of the union of the parts of all processes, the same bits on every one of them.

    All processes must call it. Memory is O(D²) on each, whatever their number. As with `merge`,
    standardize afterwards.

    Args:
      moments: those of the part that this process has read.

    Returns:
      `Moments`, equal up to rounding to those of all parts together; as they are in a single
      process.

    Raises:
      ValueError: on every process, if features, targets, dtypes, units or centering differ.
      OSError: another process has failed, or cannot be reached.
    """
    if jax.process_count() == 1:
        return moments
    moments = jax.tree.map(jnp.asarray, moments)
    _check_alike(moments)
    return _across(_merged, moments)


def summed(tree: Any) -> Any:
    """The sums of arrays over all processes, the same bits on every one of them.

    All processes must call it, with arrays of the same shapes.

    Args:
      tree: arrays; they are given back as they are in a single process.

    Raises:
      OSError: another process has failed, or cannot be reached.
    """
    if jax.process_count() == 1:
        return tree
    return _across(_added, jax.tree.map(jnp.asarray, tree))


def _added(own: Any) -> Any:
    """What each process computes of its arrays, which have a leading axis of length 1."""
    return jax.tree.map(lambda leaf: jax.lax.psum(leaf[0], _AXIS), own)


def _merged(own: Moments) -> Moments:
    """What each process computes of its part, which has a leading axis of length 1."""
    whole = union(own, across=lambda part: jax.lax.psum(part, _AXIS))
    return dataclasses.replace(whole, scale=jax.lax.pmax(whole.scale, _AXIS))  # all are equal


def _check_alike(moments: Moments) -> None:
    """Compares a few numbers first: with unequal arrays, the sums below would wait forever."""
    shapes = repr([(leaf.shape, str(leaf.dtype)) for leaf in jax.tree.leaves(moments)])
    own = {
        "features": moments.features,
        "targets": moments.targets,
        "centered": int(moments.centered),
        "bits": moments.second_moment.dtype.itemsize * 8,
        "checksum of shapes": _checksum(shapes.encode()),
        "checksum of scale": _checksum(np.asarray(moments.scale).tobytes()),
    }
    try:
        every = multihost_utils.process_allgather(np.asarray(list(own.values()), np.int32))
    except (jax.errors.JaxRuntimeError, ValueError) as error:  # JAX raises either
        raise _lost(error) from None
    for name, values in zip(own, np.asarray(every).T, strict=True):
        low, high = values.min(), values.max()
        if low != high:
            raise ValueError(f"moments: {name} between {low} and {high}; all parts must be alike")


def _across(function: Callable[[Any], Any], tree: Any) -> Any:
    """Calls `function` on this process's arrays (1, ...), with the others as the axis `process`.

    Raises:
      OSError: another process failed or cannot be reached.
    """
    devices = {device.process_index: device for device in reversed(jax.devices())}
    own = devices[jax.process_index()]
    mesh = Mesh(np.array([devices[i] for i in sorted(devices)]), (_AXIS,))
    sharding = NamedSharding(mesh, PartitionSpec(_AXIS))

    def stacked(leaf: Array) -> Array:
        shape = (len(devices), *leaf.shape)
        return jax.make_array_from_single_device_arrays(
            shape, sharding, [jax.device_put(leaf[None], own)]
        )

    inputs = jax.tree.map(stacked, tree)
    try:
        result = _compiled(function, mesh)(inputs)
        # Through the host: arrays that are tied to no device, like those of `moments`.
        local = jax.tree.map(lambda leaf: np.asarray(leaf.addressable_data(0)), result)
    except (jax.errors.JaxRuntimeError, ValueError) as error:  # JAX raises either
        raise _lost(error) from None
    return jax.tree.map(jnp.asarray, local)


@functools.cache
def _compiled(function: Callable[[Any], Any], mesh: Mesh) -> Callable[[Any], Any]:
    inner, outer = PartitionSpec(_AXIS), PartitionSpec()
    return jax.jit(jax.shard_map(function, mesh=mesh, in_specs=inner, out_specs=outer))


def _checksum(data: bytes) -> int:
    return zlib.crc32(data) & 0x7FFFFFFF


def _lost(error: Exception) -> OSError:
    return OSError(f"hosts: another process failed or cannot be reached ({_line(error)})")


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def _check_port(port: int) -> None:
    """Raises OSError where process 0 cannot listen; JAX may crash over that."""
    dual = socket.has_dualstack_ipv6()  # JAX listens on all addresses
    family = socket.AF_INET6 if dual else socket.AF_INET
    try:
        socket.create_server(("", port), family=family, dualstack_ipv6=dual).close()
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise OSError(f"hosts.start: port {port} cannot be used ({reason})") from None


def _check_start(
    coordinator: str | None, processes: int | None, process: int | None, timeout: float
) -> None:
    given = {"coordinator": coordinator, "processes": processes, "process": process}
    missing = [name for name, value in given.items() if value is None]
    if not timeout > 0:
        raise ValueError(f"timeout: {timeout}; seconds > 0 are needed")
    if len(missing) == 3:
        return
    if missing:
        raise ValueError(f"{missing[0]}: not given; coordinator, processes, process go together")
    for name in ("processes", "process"):
        if not isinstance(given[name], int) or isinstance(given[name], bool):
            raise ValueError(f"{name}: {given[name]!r}; a whole number is needed")
    assert coordinator is not None
    assert processes is not None
    assert process is not None
    if processes < 1:
        raise ValueError(f"processes: {processes}; at least 1 is needed")
    if not 0 <= process < processes:
        raise ValueError(f"process: {process}; 0 .. {processes - 1} with {processes} processes")
    host, _, port = coordinator.rpartition(":")
    if not host or not (port.isascii() and port.isdigit()) or not 0 < int(port) < 65536:
        raise ValueError(f"coordinator: {coordinator!r}; HOST:PORT is needed, as in 10.0.0.1:1234")
