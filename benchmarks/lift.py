"""Seconds of the lift: masks through random features, set against the products that it needs, and
against NumPy and SciPy.

    python -m benchmarks.lift --preset quick --data-dir DIR --out benchmarks/results/lift

Twelve masks (3 patches x 4 ratios) on cifar10 through `relu:2048`, one draw of each image, with the
Monte Carlo error stated, three ridges and K up to 128, in float32 products that are summed in
float64. The floor: the floating-point operations of one draw (features, half of their Gram matrix,
their product with x) at the rate of a bare float32 product in the same run, and no eigenvector.

The peer, for the first mask: float32 products in NumPy, summed in float64, and SciPy's generalized
eigenvectors, as many as are needed, for each ridge; it has no Monte Carlo error and no test split.
Both are given in seconds on the clock and in processor seconds, which say more where a machine does
other work too.
"""

import os
import time
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg

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
        print(
            f"  a mask: {part['seconds'] / part['noises']:.1f} s, {part['a_mask']:.1f} processor"
            f" seconds; NumPy {part['numpy']['seconds']:.1f} s,"
            f" {part['numpy']['processor_seconds']:.1f}: ratio {part['to_numpy']:.2f} in processor"
            f" seconds; r2 differs by up to {part['numpy']['difference']:.1e}"
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
    """One sweep, compiling and reading included, its floor, and its peer."""
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
    peer = by_numpy(name, samples, features, patches[0], ratios[0], latent_dim, data_dir)
    ours = result.r2.isel(patch=0, ratio=0, weight=0).values  # (ridge, K)
    difference = float(np.abs(peer.pop("r2") - ours).max())
    size, inputs = result.attrs["lifted"], result.attrs["features"]
    noises = len(patches) * len(ratios)
    flops = noises * result.attrs["samples"] * size * (2 * inputs + size + 2 * inputs)
    return {
        "samples": result.attrs["samples"],
        "features": features,
        "noises": noises,
        "seconds": seconds,
        "processor_seconds": processor,
        "a_mask": processor / noises,
        "numpy": {**peer, "difference": difference},
        "to_numpy": processor / noises / peer["processor_seconds"],
        "flops": flops,
        "gflops": gflops,
        "floor": flops / gflops / 1e9,
        "to_floor": seconds * gflops * 1e9 / flops,
        "error": result.attrs["error"],
        "best_held_out": float(result.held_out.max()) if "held_out" in result else None,
        "load": list(os.getloadavg())[:2],
    }


def by_numpy(
    name: str,
    samples: int | None,
    features: str,
    patch: int,
    ratio: float,
    latent_dim: int,
    data_dir: Path | None,
) -> dict[str, Any]:
    """One mask, as a user may write it; clean features and reading are not counted."""
    data = reconjax.data.load(name, data_dir=None if data_dir is None else str(data_dir))
    train = data.train if samples is None else data.train.sample(samples, 0)
    images, labels = train.examples(np.arange(len(train)))
    height, width, channels = data.image_shape
    unit = np.float32(255 if images.dtype == np.uint8 else 1)
    x = np.asarray(images, np.float32).reshape(len(images), -1) / unit
    x, y = x - x.mean(axis=0), np.eye(data.num_classes, dtype=np.float32)[labels]
    y = y - y.mean(axis=0)
    weight = np.asarray(reconjax.lift.parse_features(features, data.image_shape).weights[0])
    weight = weight.astype(np.float32)
    rng = np.random.default_rng(0)

    def moments(share: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Cov φ, E[φ xᵀ], E[φ yᵀ] with this share of all patches dropped."""
        size, mean = weight.shape[1], np.zeros(weight.shape[1])
        second, inputs, told = (np.zeros((size, n)) for n in (size, x.shape[1], y.shape[1]))
        for start in range(0, len(x), 2048):
            part = slice(start, start + 2048)
            grid = (len(x[part]), height // patch, width // patch)
            kept = np.float32(rng.random(grid) >= share)
            kept = np.repeat(np.repeat(kept, patch, axis=1), patch, axis=2)
            masked = x[part].reshape(-1, height, width, channels) * kept[..., None]
            made = np.maximum(masked.reshape(len(kept), -1) @ weight, 0)
            mean += made.sum(axis=0)
            second += made.T @ made
            inputs += made.T @ x[part]
            told += made.T @ y[part]
        mean /= len(x)
        return second / len(x) - np.outer(mean, mean), inputs / len(x), told / len(x)

    clean, _, clean_labels = moments(0)
    total = np.mean(np.sum(y**2, axis=1))
    start, processor = time.perf_counter(), time.process_time()
    second, inputs, _ = moments(ratio)
    curves = []
    for ridge in RIDGES:
        noisy = second + ridge * np.mean(np.diag(second)) * np.eye(len(second))
        first = (len(second) - latent_dim, len(second) - 1)
        encoder = scipy.linalg.eigh(inputs @ inputs.T, noisy, subset_by_index=first)[1][:, ::-1]
        factor = np.linalg.cholesky(encoder.T @ clean @ encoder)
        told = scipy.linalg.solve_triangular(factor, encoder.T @ clean_labels, lower=True)
        curves.append(np.cumsum(np.sum(told**2, axis=1)) / total)
    return {
        "seconds": time.perf_counter() - start,
        "processor_seconds": time.process_time() - processor,
        "r2": np.array(curves),
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
