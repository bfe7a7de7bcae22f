"""Compiling quickly, for programs that are small and run once or twice."""

import contextlib
import functools
import inspect

import jax
import pytest

QUICK = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
    "xla_cpu_parallel_codegen_split_count": 1,  # a small program gains nothing by its parts
}
# What takes longest of all is to leave out as well, where XLA still can.
QUICKER = {**QUICK, "xla_cpu_use_fusion_emitters": False}


@contextlib.contextmanager
def compiled_with(options):
    """Within it, everything is compiled with these options of XLA and no others."""
    from jax._src import compiler  # JAX has no public way

    usual = inspect.unwrap(compiler.get_compile_options)

    @functools.wraps(usual)
    def with_options(*arguments, env_options_overrides=None, **others):
        overrides = {**options, **(env_options_overrides or {})}
        return usual(*arguments, env_options_overrides=overrides, **others)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiler, "get_compile_options", with_options)
        yield


@functools.cache
def quick_options():
    """Those that this version of JAX takes; none is slow, and nothing else."""
    for options in (QUICKER, QUICK):
        try:
            with compiled_with(options):
                jax.jit(lambda x: x)(0)
        except (ImportError, AttributeError, TypeError, jax.errors.JaxRuntimeError):
            continue
        return options
    return {}


def quick_environment():
    """The same for a process that is to be started."""
    flags = (f"--{name}={str(value).lower()}" for name, value in quick_options().items())
    return {"XLA_FLAGS": " ".join(flags), "JAX_PLATFORMS": "cpu"}


def quickly():
    """Within it, everything is compiled quickly."""
    return compiled_with(quick_options()) if quick_options() else contextlib.nullcontext()


def as_for_users():
    """Within it, everything is compiled as ever, though it be within `quickly()`."""
    return compiled_with({}) if quick_options() else contextlib.nullcontext()
