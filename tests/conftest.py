"""Every test sees several devices, float64, strict dtype promotion and warnings as errors."""

import gc
import os
import tempfile

# Each of several processes has cores of its own, before a library counts them: waiting for a core
# that another process has costs a third on top of all else.
if "PYTEST_XDIST_WORKER" in os.environ and hasattr(os, "sched_setaffinity"):
    INDEX = int(os.environ["PYTEST_XDIST_WORKER"].removeprefix("gw"))
    CORES, COUNT = sorted(os.sched_getaffinity(0)), int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    os.sched_setaffinity(0, CORES[INDEX::COUNT] or CORES)

import compiling
import jax
import pytest

jax.config.update("jax_num_cpu_devices", 4)
jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_dtype_promotion", "strict")
os.environ.setdefault("MPLBACKEND", "Agg")
# Processes that a test starts find what the tests share.
os.environ["PYTHONPATH"] = os.pathsep.join(
    [os.path.dirname(__file__), *filter(None, [os.environ.get("PYTHONPATH")])]
)
# Tracing makes many objects that stay: looking through them for garbage at every turn costs more.
gc.set_threshold(50_000, 20, 50)
# Compiled programs are kept for this run of the tests alone, and shared by its processes.
if "PYTEST_XDIST_WORKER" not in os.environ:
    CACHE = tempfile.TemporaryDirectory()
    os.environ["XDG_CACHE_HOME"] = CACHE.name
jax.config.update("jax_compilation_cache_dir", f"{os.environ['XDG_CACHE_HOME']}/reconjax")

# Compiled as for users: rounding is at stake. Elsewhere compiling is what tests cost: the programs
# are small and run once or twice.
AS_FOR_USERS = {"test_rounding_of_moments", "test_the_error_is_about_that_against_float64"}


def pytest_collection_modifyitems(items):
    """The longest test comes first: at the end, other processes would wait for it."""
    items.sort(key=lambda item: getattr(item, "originalname", "") != "test_its_code_runs_in_order")


@pytest.fixture(autouse=True, scope="module")
def programs_of_one_module(request):
    """Compiles the programs of a module, and forgets them: each takes some of a process's memory
    maps, whose number the system limits.
    """
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    whole = request.module.__name__ in AS_FOR_USERS
    with compiling.as_for_users() if whole else compiling.quickly():
        yield
    jax.clear_caches()


@pytest.fixture(autouse=True)
def programs_of_one_test(request):
    """Those of a test that is compiled as for users in a module that is not."""
    if request.node.originalname not in AS_FOR_USERS:
        yield
        return
    jax.clear_caches()
    with compiling.as_for_users():
        yield
    jax.clear_caches()


@pytest.fixture
def float32():
    """The default of JAX: no float64 at all."""
    with jax.enable_x64(False):
        yield
