"""The precision of numbers, and of their products."""

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import jax

P = ParamSpec("P")
R = TypeVar("R")

# float32 products in full float32, on accelerators too.
highest = jax.default_matmul_precision("highest")


def in_float64(function: Callable[P, R]) -> Callable[P, R]:
    """The function with float64 enabled while it runs, whatever the caller's setting of JAX is.

    What labels need of a spectrum is where there is little variance, and float32 loses it.
    """

    @functools.wraps(function)
    def run(*args: P.args, **options: P.kwargs) -> R:
        with jax.enable_x64(True):
            return function(*args, **options)

    return run
