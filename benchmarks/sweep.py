"""A masking sweep against the direct algorithm, and against its floor, on the same moments.

    python -m benchmarks.sweep --data mnist --data-dir DIR --out benchmarks/results/sweep

Direct, as the authors' published script does it: at every grid point the Gram matrix anew, a
generalised eigenproblem (SciPy), the N x D features of all K and their QR. The floor is the bare
(D, D) eigendecompositions of the grid, one a point. All in float64 and in one run; the direct
algorithm is timed on one point, after a small one has warmed it up.
"""

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg

import reconjax
from experiments import report, sets

PATCHES = (1, 2, 4)
RATIOS = {"smoke": (0.25, 0.75), "quick": (0.25, 0.5, 0.75), "full": tuple(np.linspace(0, 0.9, 10))}


def main(argv: list[str] | None = None) -> None:
    options = report.arguments(__doc__, argv, data=["digits"])
    jax.config.update("jax_enable_x64", True)
    results = sets.measured(options, "sweep", measure)
    for name, part in results["parts"].items():
        print(
            f"\n{name}: {part['samples']} samples, {part['features']} features,"
            f" {part['points']} grid points; seconds a point"
        )
        for way, took in part["seconds_a_point"].items():
            times = part["seconds_a_point"]["direct"] / took
            print(f"{way:<28} {took:>9.3f}   {times:>7.1f} x the direct algorithm's rate")
        print(
            f"largest difference of `explained` from the direct algorithm: {part['difference']:.1e}"
        )


def measure(name: str, options: Any) -> dict[str, Any]:
    dataset, split = sets.training(name, options)
    images, labels = split.examples(np.arange(len(split)))
    x = images.reshape(len(images), -1) / (255 if images.dtype == np.uint8 else 1.0)
    x = x - x.mean(axis=0)
    y = np.eye(dataset.num_classes)[labels]
    y = y - y.mean(axis=0)

    ratios = RATIOS[options.preset]
    grid = reconjax.mask_grid(dataset.image_shape, PATCHES, ratios)
    points = len(PATCHES) * len(ratios)
    moments, moments_seconds = timed(
        lambda: reconjax.moments(images, labels, num_classes=dataset.num_classes)
    )
    found, sweep_seconds = timed(lambda: reconjax.sweep(moments, grid))
    _, single_seconds = timed(lambda: reconjax.sweep(moments, grid, dtype="float32"))
    _, floor = timed(lambda: jnp.linalg.eigh(moments.second_moment))

    row, column = 1, len(ratios) - 1
    groups = reconjax.patch_groups(PATCHES[row], dataset.image_shape)
    direct(x[:300], y[:300], groups, 0.5)
    start = time.perf_counter()
    explained = direct(x, y, groups, ratios[column])
    direct_seconds = time.perf_counter() - start
    rank = int(found.rank)
    ours = np.asarray(found.explained)[row, column, 0]
    return {
        "samples": len(x),
        "features": x.shape[1],
        "points": points,
        "difference": float(np.max(np.abs(explained - ours)[:rank])),
        "seconds_a_point": {
            "direct": direct_seconds,
            "sweep, with its moments": (moments_seconds + sweep_seconds) / points,
            "sweep": sweep_seconds / points,
            "sweep, float32 grid": single_seconds / points,
            "bare eigendecomposition": floor,
        },
    }


def direct(x: np.ndarray, y: np.ndarray, groups: np.ndarray, ratio: float) -> np.ndarray:
    """(D,) explained share for every K at one masking point; x (N, D), y (N, C) centered."""
    samples, features = x.shape
    keep = 1 - ratio
    gram = x.T @ x / samples
    noisy = gram * np.where(groups[:, None] == groups[None, :], keep, keep**2)
    cross = keep * gram
    # Constant pixels and rank deficiency: SciPy needs a positive definite right-hand side.
    noisy += 1e-12 * np.trace(noisy) / features * np.eye(features)
    _, vectors = scipy.linalg.eigh(cross @ cross.T, noisy)
    q, _ = np.linalg.qr(x @ vectors[:, ::-1])
    return np.cumsum(np.sum((q.T @ y) ** 2, axis=1)) / np.sum(y**2)


def timed(work: Callable[[], Any], repeats: int = 3) -> tuple[Any, float]:
    """The result and the median seconds of some runs, after one that compiles."""
    jax.block_until_ready(work())
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        result = jax.block_until_ready(work())
        seconds.append(time.perf_counter() - start)
        if sum(seconds) > 30:
            break
    return result, float(np.median(seconds))


if __name__ == "__main__":
    main()
