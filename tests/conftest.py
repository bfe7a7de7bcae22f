"""Every test sees several devices, float64, strict dtype promotion and warnings as errors."""

import os
import tempfile

import jax
import pytest

jax.config.update("jax_num_cpu_devices", 4)
jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_dtype_promotion", "strict")
os.environ.setdefault("MPLBACKEND", "Agg")
# Compiled programs are kept for this run of the tests alone.
CACHE = tempfile.TemporaryDirectory()
os.environ["XDG_CACHE_HOME"] = CACHE.name


@pytest.fixture(autouse=True, scope="module")
def programs_of_one_module():
    """Forgets the programs compiled for a module: each takes some of a process's memory maps, whose
    number the system limits.
    """
    yield
    jax.clear_caches()


@pytest.fixture
def float32():
    """The default of JAX: no float64 at all."""
    with jax.enable_x64(False):
        yield
