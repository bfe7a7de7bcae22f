"""Moments against their floor, the bare matrix product Xᵀ X, and against scikit-learn's PCA.

    python -m benchmarks.moments --data cifar10.npz --out benchmarks/results/moments

`moments_from_batches` reads all batches anew in each run and ends with the finished moments; the
product is jitted and its numbers lie ready in memory, as one array or in the same chunks. A rate is
2 N D² / seconds throughout, also where half of the products are saved, so 100 % is the rate of the
product. All ways take turns, and medians are given. Sets that are stored as records are also read
alone, to compare reading, the product and both together.
"""

import os
import time
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import sklearn
from sklearn.decomposition import PCA, IncrementalPCA

import reconjax
from benchmarks.sweep import cores
from experiments import report, sets
from reconjax.data import Dataset, Split

CHUNK = 4096  # as `Split.batches` has it
REPEATS = {"smoke": 1, "quick": 3, "full": 5}
PATIENCE = 40.0  # seconds after which a comparison begins no further round
COMPONENTS, PEER_BATCH = 64, 1024  # of IncrementalPCA
PEER_SAMPLES = {"smoke": 200, "quick": 1024, "full": 4096}  # what it is timed on


def main(argv: list[str] | None = None) -> None:
    options = report.arguments(__doc__, argv, data=["digits"])
    results = sets.measured(options, "moments", measure)
    for name, part in results["parts"].items():
        print(
            f"\n{name}: {part['samples']} x {part['features']} {part['dtype']}, {part['cores']}"
            f" cores, load {part['load'][0]:.1f} before and {part['load'][1]:.1f} after"
        )
        for way, seconds in part["seconds"].items():
            print(f"{way:<44} {seconds:>9.3f} s {part['gflops'][way]:>8.1f} GFLOP/s")
        print(f"moments at {part['share_of_float32_product']:.0%} of the float32 product's rate")
        if "records" in part:
            print(", ".join(f"{way} {value:.2f}" for way, value in part["records"].items()))
        for way, seconds in part["spectrum"]["seconds"].items():
            print(f"{way:<44} {seconds:>9.3f} s")


def measure(name: str, options: Any) -> dict[str, Any]:
    load = [os.getloadavg()[0]]
    dataset, split = sets.training(name, options)
    images, labels = split.examples(np.arange(len(split)))
    samples, features = len(images), int(np.prod(images.shape[1:]))

    def stream(source: Split, **more: Any) -> reconjax.Moments:
        batches = source.batches(CHUNK)
        return reconjax.moments_from_batches(batches, num_classes=dataset.num_classes, **more)

    def held(x: np.ndarray) -> Split:
        return Dataset.from_arrays(x, labels, class_names=dataset.class_names).train

    memory = held(images)
    seconds: dict[str, float] = {}
    for dtype in ("float32", "float64"):
        x = images.reshape(samples, features).astype(dtype)
        if images.dtype == np.uint8:
            x /= 255
        whole = jnp.asarray(x)
        chunks = [jnp.asarray(x[i : i + CHUNK]) for i in range(0, samples, CHUNK)]
        floats = held(x)
        ways = {
            f"moments of {dtype} images in {dtype}": lambda s=floats, d=dtype: stream(s, dtype=d),
            f"{dtype} product, one call": lambda x=whole: product(x),
            f"{dtype} product, chunks": lambda x=chunks: product_of(x),
        }
        if dtype == "float32":  # beside its floor: they take turns
            ways = {"moments": lambda: stream(memory), **ways}
        seconds |= median_seconds(ways, REPEATS[options.preset])
    floor = min(seconds[f"float32 product, {way}"] for way in ("one call", "chunks"))
    measured = {
        "samples": samples,
        "features": features,
        "dtype": str(images.dtype),
        "cores": cores(),
        "load": load,
        "seconds": seconds,
        "gflops": {way: 2 * samples * features**2 / s / 1e9 for way, s in seconds.items()},
        "share_of_float32_product": floor / seconds["moments"],
    }
    if hasattr(split, "file"):
        measured["records"] = records(
            lambda: [None for _ in split.batches(CHUNK)],
            lambda: stream(memory),
            lambda: stream(split),
            REPEATS[options.preset],
        )
    measured["spectrum"] = peers(x, lambda: stream(memory), PEER_SAMPLES[options.preset])
    load.append(os.getloadavg()[0])
    return measured


def records(
    decode: Callable[[], Any],
    product: Callable[[], Any],
    together: Callable[[], Any],
    repeats: int,
) -> dict[str, float]:
    """Seconds of reading alone, of the moments of what was read, and of both at once.

    `possible`: the larger of the two, or the processor time of both shared by all cores where that
    is more: no overlap can be quicker.
    """
    ways = {"decode": decode, "product": product, "together": together}
    busy: dict[str, float] = {}
    seconds = median_seconds(ways, repeats, busy)
    larger = max(seconds["decode"], seconds["product"])
    possible = max(larger, (busy["decode"] + busy["product"]) / cores())
    return {
        **seconds,
        "ratio": seconds["together"] / larger,
        "processor time, decode": busy["decode"],
        "processor time, product": busy["product"],
        "possible": possible,
        "ratio to possible": seconds["together"] / possible,
    }


def peers(x: np.ndarray, stream: Callable[[], reconjax.Moments], part: int) -> dict[str, Any]:
    """Seconds to the spectrum of x (N, D) float64, here and with scikit-learn."""
    samples, features = x.shape
    part = min(part, samples)
    batch = min(PEER_BATCH, part)
    components = min(COMPONENTS, features, batch)
    incremental = IncrementalPCA(components, batch_size=batch)
    direct = PCA(svd_solver="covariance_eigh")
    ours = reconjax.spectrum(stream())  # compiles
    jax.block_until_ready(ours)
    name = f"IncrementalPCA({components}), batches of {batch}, scaled from {part} samples"
    seconds = median_seconds(
        {
            "moments and spectrum": lambda: reconjax.spectrum(stream()),
            "PCA(covariance_eigh)": lambda: direct.fit(x).explained_variance_,
            name: lambda: incremental.fit(x[:part]).explained_variance_,
        },
        1,
        warm=False,
    )
    seconds[name] *= samples / part
    theirs = direct.explained_variance_ * (samples - 1) / samples
    count = min(len(theirs), len(ours.eigenvalues))
    difference = np.max(np.abs(np.asarray(ours.eigenvalues)[:count] - theirs[:count])) / theirs[0]
    return {
        "seconds": seconds,
        "difference": float(difference),
        "scikit-learn": sklearn.__version__,
    }


@jax.jit
@jax.default_matmul_precision("highest")
def product(x: jax.Array) -> jax.Array:
    return x.T @ x


@jax.jit
@jax.default_matmul_precision("highest")
def added(total: jax.Array, x: jax.Array) -> jax.Array:
    return total + x.T @ x


def product_of(chunks: Iterable[jax.Array]) -> jax.Array:
    first, *rest = chunks
    total = product(first)
    for chunk in rest:
        total = added(total, chunk)
    return total


def median_seconds(
    ways: dict[str, Callable[[], Any]],
    repeats: int,
    busy: dict[str, float] | None = None,
    warm: bool = True,
) -> dict[str, float]:
    """Median seconds of each way; they take turns, after a run of each that compiles.

    `busy` is given the median processor time, of all threads.
    """
    if warm:
        for work in ways.values():
            jax.block_until_ready(work())
    taken: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
    begun = time.perf_counter()
    for _ in range(repeats):
        if time.perf_counter() - begun > PATIENCE:
            break
        for way, work in ways.items():
            start = time.perf_counter(), time.process_time()
            jax.block_until_ready(work())
            taken[way].append((time.perf_counter() - start[0], time.process_time() - start[1]))
    if busy is not None:
        busy |= {way: float(np.median([b for _, b in runs])) for way, runs in taken.items()}
    return {way: float(np.median([s for s, _ in runs])) for way, runs in taken.items()}


if __name__ == "__main__":
    main()
