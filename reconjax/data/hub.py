"""Sets of the Hugging Face Hub, from there or from its cache on this machine."""

import contextlib
import socket
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import Any

from reconjax.data.dataset import Dataset
from reconjax.data.hf import cause, datasets_package, quiet
from reconjax.data.tables import from_tables

# Seconds in which the Hub is to answer.
_PATIENCE = 3.0


def load_hub(name: str, **options: Any) -> Dataset:
    """Opens a set of the Hub, NAME[/CONFIG] or USER/NAME[/CONFIG], or its copy in the cache.

    Args:
      name: of the set.
      **options: as for `load_table`.

    Raises:
      ImportError: `datasets` is missing.
      OSError: one line: it is neither in the cache nor to be reached.
      ValueError: one line: no columns that can be used.
    """
    package = datasets_package(f"hf:{name}")
    parts = name.split("/")
    if not all(parts) or len(parts) > 3:
        raise ValueError(
            f"hf:{name}: a set of the Hub is hf:NAME, hf:USER/NAME, either with /CONFIG"
        )
    # USER/NAME and NAME/CONFIG look alike: the former are most.
    ways: list[tuple[str, str | None]]
    ways = [(name, None)] if len(parts) < 3 else [("/".join(parts[:2]), parts[2])]
    if len(parts) == 2:
        ways.append((parts[0], parts[1]))
    first: Exception | None = None
    offline = package.config.HF_HUB_OFFLINE or not _reachable(package.config.HF_ENDPOINT)
    for repository, config in ways:
        try:
            with quiet(package), _offline(package, offline):
                opened = package.load_dataset(repository, config)
        except Exception as error:  # datasets, Arrow and the network each have errors of their own
            first = first or error
        else:
            return from_tables(opened, parts[-1] if len(parts) == 1 else name, **options)
    assert first is not None
    if offline:
        raise OSError(
            f"hf:{name} is not in the cache, {package.config.HF_DATASETS_CACHE}, and"
            f" {package.config.HF_ENDPOINT} cannot be reached"
        )
    raise OSError(f"hf:{name} cannot be opened: {cause(first)}")


def _reachable(endpoint: str) -> bool:
    """Whether the Hub answers. The package tries a dead network for half a minute."""
    if urllib.request.getproxies():
        return True
    address = urllib.parse.urlsplit(endpoint)
    try:
        port = address.port or (80 if address.scheme == "http" else 443)
        socket.create_connection((address.hostname or "", port), _PATIENCE).close()
    except OSError:
        return False
    return True


@contextlib.contextmanager
def _offline(package: Any, offline: bool) -> Iterator[None]:
    """The package looks into its cache alone, if `offline`."""
    before = package.config.HF_HUB_OFFLINE
    package.config.HF_HUB_OFFLINE = offline
    try:
        yield
    finally:
        package.config.HF_HUB_OFFLINE = before
