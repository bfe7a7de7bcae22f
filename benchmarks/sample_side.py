"""Seconds of a sweep on the sample side, as samples, features and patches grow, and by (D, D).

    python -m benchmarks.sample_side --preset quick --out benchmarks/results/sample_side

One ray of masks on generated 8-bit images (smooth patterns with noise). Set against the bare
eigendecompositions of size N that it needs, one for the ray in float64 and one a point in the
precision of the points, and in the last case against the same sweep by (D, D) moments. Compiling
is left out: of up to three runs after the first the fastest counts, one where it is long.
"""

import os
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import reconjax
from benchmarks.wide import CLASSES, generated
from experiments import report

RATIOS = (0.25, 0.5, 0.75, 0.9)
PRECISION = "mixed"
LONG = 3.0  # seconds
# name: (samples N, side of the images of 3 channels, side of a patch, by (D, D) moments too)
CASES: dict[str, dict[str, tuple[int, int, int, bool]]] = {
    "smoke": {"base": (40, 8, 4, True), "samples": (80, 8, 4, False)},
    "quick": {
        "base": (500, 64, 8, False),
        "samples": (1000, 64, 8, False),
        "features": (500, 128, 8, False),
        "patches of 4": (500, 64, 4, False),
        "patches of 16": (500, 64, 16, False),
        "both sides": (500, 32, 8, True),
    },
    "full": {
        "base": (1000, 64, 8, False),
        "samples": (2000, 64, 8, False),
        "more samples": (4000, 64, 8, False),
        "features": (1000, 128, 8, False),
        "more features": (1000, 224, 8, False),
        "patches of 4": (1000, 64, 4, False),
        "patches of 16": (1000, 64, 16, False),
        "patches of 32": (1000, 64, 32, False),
        "both sides": (1000, 32, 8, True),
    },
}


def main(argv: list[str] | None = None) -> None:
    options = report.arguments(__doc__, argv)
    settings = {
        "preset": options.preset,
        "seed": options.seed,
        "ratios": list(RATIOS),
        "precision": PRECISION,
    }
    cases = {name: partial(measure, *case) for name, case in CASES[options.preset].items()}
    results = report.measured(options.out, "sample_side", settings, cases)
    print(f"{'':<16}{'N':>6}{'D':>8}{'patch':>6}{'gram':>8}{'ray':>8}{'floor':>8}{'ratio':>7}")
    for name, part in results["parts"].items():
        seconds = part["each"]
        print(
            f"{name:<16}{part['samples']:>6}{part['features']:>8}{part['patch']:>6}"
            f"{seconds['samples']:>8.2f}{seconds['sweep']:>8.2f}{seconds['eigh']:>8.2f}"
            f"{part['to_floor']:>7.2f}"
        )
        if part["by_features"] is not None:
            print(f"  by (D, D) moments: {part['by_features']:.2f} s")
    print("seconds; gram: A Aᵀ and its spectrum; ray: E and its points; floor: eigendecompositions")


def measure(samples: int, side: int, patch: int, both: bool) -> dict[str, Any]:
    """One case: seconds without compiling."""
    features = 3 * side**2
    images, labels = generated(samples, features)
    images = images.reshape(samples, side, side, 3)
    grid = reconjax.mask_grid(images.shape[1:], [patch], RATIOS)
    data, of_samples = fastest(lambda: reconjax.grid.samples(images, labels, num_classes=CLASSES))
    dims = np.arange(1, samples)
    result, of_sweep = fastest(
        lambda: reconjax.grid.sweep_samples(data, grid, np.inf, dims, precision=PRECISION)
    )
    floor = sum(
        count * fastest(lambda dtype=dtype: jnp.linalg.eigh(symmetric(samples, dtype)))[1]
        for count, dtype in ((1, "float64"), (len(RATIOS), "float32"))
    )
    by_features, difference = None, None
    if both:
        moments, of_moments = fastest(lambda: reconjax.moments(images, labels, num_classes=CLASSES))
        dense, of_dense = fastest(
            lambda: reconjax.sweep(moments, grid, np.inf, dims, precision=PRECISION)
        )
        by_features = of_moments + of_dense
        difference = float(jnp.max(jnp.abs(dense.r2 - result.r2)))
    return {
        "samples": samples,
        "features": features,
        "patch": patch,
        "each": {"samples": of_samples, "sweep": of_sweep, "eigh": floor},
        "to_floor": of_sweep / floor,
        "by_features": by_features,
        "difference": difference,
        "load": list(os.getloadavg())[:2],
    }


def fastest(call: Callable[[], Any]) -> tuple[Any, float]:
    """The result of a call, and the seconds of the fastest of some runs after the first."""
    jax.block_until_ready(call())
    spent: list[float] = []
    while len(spent) < 3 and sum(spent) < LONG:
        start = time.perf_counter()
        result = jax.block_until_ready(call())
        spent.append(time.perf_counter() - start)
    return result, min(spent)


def symmetric(size: int, dtype: str) -> jax.Array:
    """(N, N) with a falling spectrum."""
    x = np.random.default_rng(0).normal(size=(size, size)) * np.geomspace(1, 1e-3, size)
    return jnp.asarray(x @ x.T, dtype)


if __name__ == "__main__":
    main()
