"""Seconds of the lift: masks through random features, set against the products that it needs.

    python -m benchmarks.lift --preset quick --data-dir DIR --out benchmarks/results/lift

Twelve masks (3 patches x 4 ratios) on cifar10 through `relu:2048`, one draw of each image, with the
Monte Carlo error stated, three ridges and K up to 128, in float32 products that are summed in
float64. The floor: the floating-point operations of one draw (features, half of their Gram matrix,
their product with x) at the rate of a bare float32 product in the same run, and no eigenvector.
"""

import os
import time
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import reconjax
from experiments import report

# name: (data, samples or None for all, features, patches, ratios, largest K)
CASES: dict[str, dict[str, tuple[str, int | None, str, list[int], list[float], int]]] = {
    "smoke": {"digits": ("digits", 300, "relu:64", [2], [0.5], 8)},
    "quick": {"cifar10": ("cifar10", None, "relu:2048", [2, 4, 8], [0.25, 0.5, 0.75, 0.9], 128)},
}
RIDGES = (0.01, 0.1, 1.0)


def main(argv: list[str] | None = None) -> None:
    options = report.arguments(__doc__, argv)
    settings = {"preset": options.preset, "seed": options.seed, "ridges": list(RIDGES)}
    cases = {
        name: partial(measure, *case, options.data_dir)
        for name, case in CASES[options.preset].items()
    }
    results = report.measured(options.out, "lift", settings, cases)
    for name, part in results["parts"].items():
        print(
            f"{name}: {part['noises']} masks, {part['features']}, {part['samples']} samples:"
            f" {part['seconds']:.1f} s; floor {part['floor']:.1f} s"
            f" ({part['flops'] / 1e12:.1f} Tflop at {part['gflops']:.0f} Gflop/s),"
            f" ratio {part['to_floor']:.2f}; Monte Carlo error up to {part['error']:.1e}"
        )


def measure(
    name: str,
    samples: int | None,
    features: str,
    patches: list[int],
    ratios: list[float],
    latent_dim: int,
    data_dir: Path | None,
) -> dict[str, Any]:
    """One sweep, compiling and reading included, and its floor."""
    before = rate()
    start, processor = time.perf_counter(), time.process_time()
    result = reconjax.studies.sweep(
        name,
        patches=patches,
        ratios=ratios,
        features=features,
        ridges=RIDGES,
        max_latent_dim=latent_dim,
        data_dir=None if data_dir is None else str(data_dir),
        max_samples=samples,
        progress=False,
    )
    seconds, processor = time.perf_counter() - start, time.process_time() - processor
    gflops = max(before, rate())
    size, inputs = result.attrs["lifted"], result.attrs["features"]
    noises = len(patches) * len(ratios)
    flops = noises * result.attrs["samples"] * size * (2 * inputs + size + 2 * inputs)
    return {
        "samples": result.attrs["samples"],
        "features": features,
        "noises": noises,
        "seconds": seconds,
        "processor_seconds": processor,
        "flops": flops,
        "gflops": gflops,
        "floor": flops / gflops / 1e9,
        "to_floor": seconds * gflops * 1e9 / flops,
        "error": result.attrs["error"],
        "best_held_out": float(result.held_out.max()) if "held_out" in result else None,
        "load": list(os.getloadavg())[:2],
    }


def rate(size: int = 2048) -> float:
    """Gflop/s of a bare float32 product, the fastest of three."""
    a = jnp.asarray(np.random.default_rng(0).normal(size=(size, size)), jnp.float32)
    product = jax.jit(jnp.matmul)
    product(a, a).block_until_ready()
    spent = []
    for _ in range(3):
        start = time.perf_counter()
        product(a, a).block_until_ready()
        spent.append(time.perf_counter() - start)
    return 2 * size**3 / min(spent) / 1e9


if __name__ == "__main__":
    main()
