"""Seconds and peak memory of wide images: in the N x N problem, and dense in D x D.

    python -m benchmarks.wide --preset full --out benchmarks/results/wide

Generated 8-bit images (smooth patterns with noise), each case in a process of its own, whose peak
resident memory is read at the end and set against that of the images alone.
"""

import json
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from experiments import report

# name: (side, samples N, features D, directions that are kept)
CASES: dict[str, dict[str, tuple[str, int, int, int]]] = {
    "smoke": {
        "align": ("samples", 60, 3000, 0),
        "project": ("samples", 60, 3000, 8),
        "dense": ("features", 400, 192, 0),
    },
    "quick": {
        "align": ("samples", 1000, 150_528, 0),
        "project": ("samples", 1000, 150_528, 64),
        "dense": ("features", 10_000, 3072, 0),
    },
    "full": {
        "align, 224 x 224 x 3": ("samples", 10_000, 150_528, 0),
        "project, 224 x 224 x 3": ("samples", 4_000, 150_528, 64),
        "align, 64 x 64 x 3, dense": ("features", 100_000, 12_288, 0),
    },
}
CLASSES = 10


def main(argv: list[str] | None = None) -> None:
    options = report.arguments(__doc__, argv)
    settings = {"preset": options.preset, "seed": options.seed}
    cases = {name: partial(apart, case) for name, case in CASES[options.preset].items()}
    results = report.measured(options.out, "wide", settings, cases)
    print(f"{'':<28}{'N':>8}{'D':>9}{'seconds':>9}{'GiB peak':>10}{'images':>8}{'D x D':>8}")
    for name, part in results["parts"].items():
        print(
            f"{name:<28}{part['samples']:>8}{part['features']:>9}{part['seconds']:>9.1f}"
            f"{part['peak_gib']:>10.2f}{part['images_gib']:>8.2f}{part['square_gib']:>8.1f}"
        )
    print("GiB peak: of the whole process; D x D: one such matrix in float64")


def apart(case: Sequence[Any]) -> dict[str, Any]:
    """`measure` in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.wide", "--case", json.dumps(case)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return measured


def measure(side: str, samples: int, features: int, directions: int) -> dict[str, Any]:
    """One case, in this process: made for a fresh one."""
    import jax

    import reconjax

    jax.config.update("jax_enable_x64", True)
    images, labels = generated(samples, features)
    start = time.perf_counter()
    if side == "samples":
        principal = reconjax.spectrum_from_samples(
            images, labels, num_classes=CLASSES, directions=directions
        )
    else:
        batches = (
            (images[i : i + 4096], labels[i : i + 4096]) for i in range(0, len(images), 4096)
        )
        moments = reconjax.moments_from_batches(batches, num_classes=CLASSES)
        principal = reconjax.spectrum(moments)
    curve = jax.block_until_ready(reconjax.alignment(principal))
    return {
        "samples": samples,
        "features": features,
        "directions": directions,
        "seconds": time.perf_counter() - start,
        "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "images_gib": images.nbytes / 2**30,
        "square_gib": 8 * features**2 / 2**30,
        "rank": int(principal.rank),
        "alignment_half": float(curve.alignment[int(principal.rank) // 2]),
    }


def generated(samples: int, features: int) -> tuple[np.ndarray, np.ndarray]:
    """(N, D) uint8 images, made in chunks, and labels (N,) that depend on them."""
    rng = np.random.default_rng(0)
    patterns = np.cumsum(rng.normal(size=(32, features)).astype(np.float32), axis=1)
    patterns /= np.std(patterns, axis=1, keepdims=True)
    images = np.empty((samples, features), np.uint8)
    labels = np.empty(samples, np.int64)
    for start in range(0, samples, 250):
        part = slice(start, min(start + 250, samples))
        codes = rng.normal(size=(part.stop - start, 32)).astype(np.float32)
        noise = rng.standard_normal((len(codes), features), dtype=np.float32)
        drawn = 128 + (codes / np.arange(1, 33, dtype=np.float32)) @ patterns * 30 + 8 * noise
        images[part] = np.clip(drawn, 0, 255).astype(np.uint8)
        labels[part] = np.argmax(codes[:, :CLASSES], axis=1)
    return images, labels


if __name__ == "__main__":
    if sys.argv[1:2] == ["--case"]:
        print(json.dumps(measure(*json.loads(sys.argv[2]))))
    else:
        main()
