"""A masking sweep against the direct algorithm, and against its floor, on the same moments.

    python -m benchmarks.sweep --data mnist --data-dir DIR --out benchmarks/results/sweep

Direct, as the authors' published script does it: at every grid point the Gram matrix anew, a
generalized eigenproblem (SciPy, float64), the N x D features of all K and their QR; timed on one
point, after a small one has warmed it up. The floor of a sweep is as many bare (D, D)
eigendecompositions as it has points and rays, in float64 and in float32. All of it in one run.

The sweeps: of all K in float64 and with the points in float32 ("mixed"), and, with a tolerance, of
K up to 512, or a sixth of D where that is less, and up to a quarter of that. Errors are the largest
differences of `r2` from the float64 sweep of all K.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg

import reconjax
from experiments import report, sets
from reconjax.studies.progress import progress_bar

PATCHES = (1, 2, 4)
RATIOS = {"smoke": (0.25, 0.75), "quick": (0.0, 0.25, 0.5, 0.75, 0.9), "full": 10}
MANY_RATIOS = 100  # in the full preset, where D is below
MANY_FEATURES = 1000
LATENT_DIMS = 512  # of the sweeps with a tolerance, or a sixth of D
TOLERANCE = 3e-4
LONG = 20.0  # seconds: what takes longer runs once


def main(argv: list[str] | None = None) -> None:
    options = report.arguments(__doc__, argv, data=["digits"])
    results = sets.measured(options, "sweep", measure)
    for name, part in results["parts"].items():
        print(
            f"\n{name}: {part['samples']} samples, {part['features']} features, {part['cores']}"
            f" cores, load {part['load'][0]:.1f} before and {part['load'][1]:.1f} after\n"
            f"moments {part['moments']:.3f} s; direct algorithm {part['direct']:.4f} s a point;"
            f" eigendecomposition {part['eigh']['float64']:.4f} s,"
            f" in float32 {part['eigh']['float32']:.4f} s\n"
            f"`r2` differs from the direct algorithm's by {part['difference']:.1e}\n\n"
            f"{'sweep':<28} {'points':>6} {'seconds':>9} {'a point':>9} {'rate':>7}"
            f" {'/ floor':>8} {'float32':>8} {'reduced':>8} {'error':>8} {'measured':>8}"
        )
        for way, row in part["ways"].items():
            to_floor = row["to_floor"]
            print(
                f"{way:<28} {row['points']:>6} {row['seconds']:>9.3f} {row['a_point']:>9.5f}"
                f" {row['rate']:>6.1f}x {to_floor['float64']:>8.2f} {to_floor['float32']:>8.2f}"
                f" {row['reduced']:>8} {row['error']:>8.1e} {row['difference']:>8.1e}"
            )
    print(
        "\nrate: times that of the direct algorithm; / floor, float32: seconds against as many bare"
        "\neigendecompositions as there are points and rays, in float64 and in float32; reduced:"
        "\nrays that were solved in a subspace; error: as the sweep estimates it; measured: against"
        "\nthe float64 sweep of all K"
    )


def measure(name: str, options: Any, many_below: int = MANY_FEATURES) -> dict[str, Any]:
    """One data set; grids of many ratios too where there are fewer features than `many_below`."""
    load = [os.getloadavg()[0]]
    dataset, split = sets.training(name, options)
    images, labels = split.examples(np.arange(len(split)))
    features, classes = dataset.features, dataset.num_classes
    ratios = _ratios(RATIOS[options.preset])
    many = _ratios(MANY_RATIOS if options.preset == "full" and features < many_below else ())
    most = max(4, min(LATENT_DIMS, features // 6))
    few, fewer = np.arange(1, most + 1), np.arange(1, most // 4 + 1)
    every = np.arange(1, features + 1)
    ways = {
        f"{precision}, {text}": (precision, dims, tolerance, strengths)
        for strengths in (ratios, many)
        if len(strengths)
        for dims, tolerance, text in (
            (every, 0.0, f"{len(strengths)} ratios"),
            (few, TOLERANCE, f"{len(strengths)} ratios, K <= {few[-1]}"),
            (fewer, TOLERANCE, f"{len(strengths)} ratios, K <= {fewer[-1]}"),
        )
        for precision in ("float64", "mixed")
    }
    with progress_bar(name, 4 + len(ways)) as count:

        def shown(way: str, work: Callable[..., Any], *args: Any, **options: Any) -> Any:
            count(0, f"{name}: {way}")
            done = work(*args, **options)
            count(1)
            return done

        make = partial(reconjax.moments, images, labels, num_classes=classes)
        moments, moments_seconds = shown("moments", timed, make)
        eigh = {}
        for dtype in ("float64", "float32"):
            matrix = moments.second_moment.astype(dtype)
            _, eigh[dtype] = shown(f"eigh in {dtype}", timed, partial(bare, matrix), repeats=7)
        r2, direct_seconds = shown(
            "direct algorithm",
            timed_direct,
            *(images, labels, classes, dataset.image_shape, ratios[-1]),
        )
        rows: dict[str, Any] = {}
        exact: dict[int, np.ndarray] = {}
        for way, (precision, dims, tolerance, strengths) in ways.items():
            grid = reconjax.mask_grid(dataset.image_shape, PATCHES, strengths)
            how = {"latent_dims": dims, "precision": precision, "tolerance": tolerance}
            work = partial(reconjax.sweep, moments, grid, **how)
            swept, seconds = shown(way, timed, work)
            curves = np.asarray(swept.r2, np.float64)
            exact.setdefault(len(strengths), curves)  # the first is float64, all K
            points = len(PATCHES) * len(strengths)
            rows[way] = {
                "points": points,
                "rays": len(PATCHES),
                "latent_dims": len(dims),
                "tolerance": tolerance,
                "seconds": seconds,
                "a_point": seconds / points,
                "rate": direct_seconds * points / seconds,
                "to_floor": {t: seconds / ((points + len(PATCHES)) * e) for t, e in eigh.items()},
                "reduced": f"{int(np.sum(swept.reduced))} of {len(PATCHES)}",
                "error": float(np.max(swept.error)),
                "difference": largest(curves - exact[len(strengths)][..., : len(dims)]),
            }
            if way == f"float64, {len(ratios)} ratios":
                rank = int(swept.rank)
                difference = largest(r2[:rank] - curves[1, -1, 0, :rank])
    load.append(os.getloadavg()[0])
    return {
        "samples": len(images),
        "features": features,
        "patches": PATCHES,
        "cores": cores(),
        "load": load,
        "moments": moments_seconds,
        "direct": direct_seconds,
        "eigh": eigh,
        "difference": difference,
        "ways": rows,
    }


def _ratios(of: Any) -> np.ndarray:
    return np.linspace(0, 0.9, of) if isinstance(of, int) else np.asarray(of, float)


def timed_direct(
    images: np.ndarray, labels: np.ndarray, classes: int, shape: tuple[int, int, int], ratio: float
) -> tuple[np.ndarray, float]:
    """`direct` with the second patch shape, and its seconds: a median of two, or one if long."""
    x = images.reshape(len(images), -1) / (255 if images.dtype == np.uint8 else 1.0)
    x -= x.mean(axis=0)
    y = np.eye(classes)[labels]
    y -= y.mean(axis=0)
    groups = reconjax.noise.patch_groups(PATCHES[1], shape)
    direct(x[:300], y[:300], groups, 0.5)
    seconds = []
    while not seconds or (len(seconds) < 2 and seconds[0] < 60):
        start = time.perf_counter()
        r2 = direct(x, y, groups, ratio)
        seconds.append(time.perf_counter() - start)
    return r2, float(np.median(seconds))


def direct(x: np.ndarray, y: np.ndarray, groups: np.ndarray, ratio: float) -> np.ndarray:
    """(D,) r2 for every K at one masking point; x (N, D), y (N, C) centered."""
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


@jax.jit
def bare(matrix: jax.Array) -> Any:
    return jnp.linalg.eigh(matrix, symmetrize_input=False)


def timed(work: Callable[[], Any], repeats: int = 3, long: float = LONG) -> tuple[Any, float]:
    """The result and the median seconds of some runs, after one that compiles.

    Where the first run takes more than `long` seconds, compilation aside, it is the only one, and
    what compilation took is left out.
    """
    with compilation() as spent:
        start = time.perf_counter()
        result = jax.block_until_ready(work())
        first = time.perf_counter() - start
    if first - sum(spent) > long:
        return result, first - sum(spent)
    seconds: list[float] = []
    while len(seconds) < repeats and sum(seconds) <= long:
        start = time.perf_counter()
        result = jax.block_until_ready(work())
        seconds.append(time.perf_counter() - start)
    return result, float(np.median(seconds))


@contextmanager
def compilation() -> Iterator[list[float]]:
    """A list of the seconds that JAX spends on tracing, lowering and compiling, as it grows."""
    spent: list[float] = []

    def listen(event: str, seconds: float, **_: Any) -> None:
        if event.startswith("/jax/core/compile/"):
            spent.append(seconds)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield spent
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def largest(differences: np.ndarray) -> float:
    return float(np.max(np.abs(differences)))


def cores() -> int:
    """The number of cores that this process may use."""
    every = os.cpu_count() or 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else every


if __name__ == "__main__":
    main()
