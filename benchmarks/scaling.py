"""How time grows: with the features D, the samples N, the points of a ray and the devices.

    python -m benchmarks.scaling --out benchmarks/results/scaling

On generated 8-bit images with a spectrum that falls like that of photographs, and labels that
depend on them. Points and rays are told apart by sweeps of 2 and 5 strengths; the largest D in the
full preset has that of 2 alone. Devices of a CPU are simulated and share its cores: their number
shows that the result stays the same, and says nothing about the speed of real ones.
"""

import math
import os
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from typing import Any

import jax
import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator

import reconjax
from benchmarks.sweep import bare, cores, largest, timed
from experiments import report
from reconjax.plots import STYLE

NAME = "scaling"
SHAPES = {
    64: (8, 8, 1),
    192: (8, 8, 3),
    256: (16, 16, 1),
    784: (28, 28, 1),
    1536: (16, 32, 3),
    3072: (32, 32, 3),
    6144: (32, 64, 3),
}
FEATURES = {"smoke": (64, 192), "quick": (256, 784, 1536), "full": (784, 1536, 3072, 6144)}
LARGE = 6000  # features, from where on nothing is measured twice
LONG = 5.0  # seconds: what takes longer runs once
SAMPLES = {
    "smoke": (1000, 4000),
    "quick": (10_000, 100_000),
    "full": (10_000, 100_000, 1_000_000),
}
STRENGTHS = {"smoke": (4,), "quick": (1, 3, 10, 30), "full": (1, 3, 10, 30, 100)}
DEVICES = (1, 2, 4)
OTHERS = {"smoke": 64, "quick": 784, "full": 784}  # D where something else grows
CLASSES, CHUNK, CHUNKS = 10, 4096, 8
TOLERANCE = 3e-4


def main(argv: list[str] | None = None) -> None:
    jax.config.update("jax_num_cpu_devices", max(DEVICES))
    options = report.arguments(__doc__, argv)
    preset = options.preset
    kinds: list[tuple[str, Callable[[Any], dict[str, Any]]]] = [
        *((f"features {size}", partial(by_features, size)) for size in FEATURES[preset]),
        *((f"samples {size}", partial(by_samples, size)) for size in SAMPLES[preset]),
        *((f"strengths {size}", partial(by_strengths, size)) for size in STRENGTHS[preset]),
        *(
            (f"devices {size}", partial(by_devices, size))
            for size in DEVICES
            if size <= len(jax.devices())
        ),
    ]
    cases = {key: partial(with_load, measure, options) for key, measure in kinds}
    settings = {"preset": preset, "seed": options.seed}
    results = report.measured(options.out, NAME, settings, cases)
    results["cores"] = cores()
    results["exponents"] = exponents(rows(results, "features"))
    report.write(options.out, NAME, results)
    report.picture(options.out, NAME, drawn(results))
    show(results)


def with_load(measure: Callable[[Any], dict[str, Any]], options: Any) -> dict[str, Any]:
    """What is measured, and the load of the machine before and after."""
    before = os.getloadavg()[0]
    return {**measure(options), "load": [before, os.getloadavg()[0]]}


def images(count: int, features: int, rng: np.random.Generator) -> np.ndarray:
    """(count, H, W, C) uint8: sums of noise over rows and columns, so power falls like 1 / f."""
    shape = SHAPES[features]
    noise = rng.standard_normal((count, *shape[:2], 1), np.float32)
    noise = noise + 0.3 * rng.standard_normal((count, *shape), np.float32)
    walk = np.cumsum(np.cumsum(noise, axis=1, out=noise), axis=2, out=noise)
    walk *= 64 / math.sqrt(shape[0] * shape[1])
    return np.clip(walk + 127.5, 0, 255).astype(np.uint8)


def batches(count: int, features: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Chunks of so many images; a label is the strongest of some random contrasts of the image."""
    rng = np.random.default_rng([seed, features])
    contrasts = rng.standard_normal((features, CLASSES), np.float32)
    contrasts -= contrasts.mean(axis=0)
    for start in range(0, count, CHUNK):
        x = images(min(CHUNK, count - start), features, rng)
        scores = x.reshape(len(x), -1).astype(np.float32) @ contrasts
        yield x, np.argmax(scores - scores.mean(axis=0), axis=1)


def moments_of(features: int, options: Any) -> reconjax.Moments:
    made = batches(2 * features, features, options.seed)
    return reconjax.moments_from_batches(made, num_classes=CLASSES)


def grid_of(features: int, strengths: int, patches: Any = (2,)) -> list[list[Any]]:
    return reconjax.mask_grid(SHAPES[features], patches, np.linspace(0.5, 0.9, strengths))


def by_features(features: int, options: Any) -> dict[str, Any]:
    """Seconds of spectrum, ray and point, and of the bare eigendecomposition."""
    moments = moments_of(features, options)
    clock = partial(timed, long=0.0 if features >= LARGE else LONG)
    seconds = {"spectrum": clock(partial(reconjax.spectrum, moments))[1]}
    for dtype in ("float64", "float32"):
        matrix = moments.second_moment.astype(dtype)
        seconds[f"eigh, {dtype}"] = clock(partial(bare, matrix))[1]
    for precision in ("float64", "mixed"):
        for strengths in (2,) if features >= LARGE else (2, 5):
            work = partial(
                reconjax.sweep, moments, grid_of(features, strengths), precision=precision
            )
            seconds[f"ray and {strengths} points, {precision}"] = clock(work)[1]
        if features < LARGE:
            two, five = (seconds[f"ray and {n} points, {precision}"] for n in (2, 5))
            seconds[f"point, {precision}"] = (five - two) / 3
            seconds[f"ray, {precision}"] = two - 2 * (five - two) / 3
    return {"size": features, "seconds": seconds}


def by_samples(samples: int, options: Any) -> dict[str, Any]:
    """Seconds of the moments of so many images; the same chunks come again and again."""
    features = OTHERS[options.preset]
    made = list(batches(CHUNK * CHUNKS, features, options.seed))

    def streamed() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for index, start in enumerate(range(0, samples, CHUNK)):
            x, y = made[index % CHUNKS]
            yield x[: samples - start], y[: samples - start]

    reconjax.moments_from_batches(made[:1], num_classes=CLASSES)
    seconds = timed(lambda: reconjax.moments_from_batches(streamed(), num_classes=CLASSES))[1]
    return {
        "size": samples,
        "features": features,
        "seconds": {"moments": seconds},
        "samples_a_second": samples / seconds,
        "gflops": 2 * samples * features**2 / seconds / 1e9,
    }


def by_strengths(strengths: int, options: Any) -> dict[str, Any]:
    """Seconds a point of a ray of so many strengths."""
    features = OTHERS[options.preset]
    moments, grid = moments_of(features, options), grid_of(features, strengths)
    few = np.arange(1, features // 6 + 1)
    ways: dict[str, dict[str, Any]] = {
        "float64": {},
        "mixed": {"precision": "mixed"},
        f"mixed, K <= {few[-1]}, tolerance {TOLERANCE:g}": {
            "precision": "mixed",
            "latent_dims": few,
            "tolerance": TOLERANCE,
        },
    }
    seconds, reduced = {}, {}
    for way, how in ways.items():
        swept, took = timed(partial(reconjax.sweep, moments, grid, **how), long=LONG)
        seconds[way] = took / strengths
        reduced[way] = bool(np.all(swept.reduced))
    return {"size": strengths, "features": features, "seconds": seconds, "reduced": reduced}


def by_devices(devices: int, options: Any) -> dict[str, Any]:
    """Seconds of a grid of 2 rays x 4 strengths, and how far its result is from one device's."""
    features = OTHERS[options.preset]
    moments, grid = moments_of(features, options), grid_of(features, 4, (2, 4))
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:devices]), ("grid",))
    swept, seconds = timed(partial(reconjax.sweep, moments, grid, mesh=mesh))
    alone = reconjax.sweep(moments, grid)
    fields = ("r2", "supervised_loss", "reconstruction_loss", "alignment")
    return {
        "size": devices,
        "features": features,
        "simulated": jax.devices()[0].platform == "cpu",
        "seconds": {"sweep": seconds},
        "difference": max(
            largest(np.asarray(getattr(swept, f)) - np.asarray(getattr(alone, f))) for f in fields
        ),
    }


def rows(results: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    """The finished parts of one kind, by size."""
    parts = [part for key, part in results["parts"].items() if key.startswith(f"{kind} ")]
    return sorted(parts, key=lambda part: part["size"])


def exponents(parts: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """For each way the b in seconds ~ size^b, between one size and the next."""
    growth: dict[str, dict[str, float]] = {}
    for small, large in pairwise(parts):
        ratio = math.log(large["size"] / small["size"])
        for way, seconds in large["seconds"].items():
            before = small["seconds"].get(way, 0.0)
            if seconds > 0 and before > 0:
                between = f"{small['size']} to {large['size']}"
                growth.setdefault(way, {})[between] = math.log(seconds / before) / ratio
    return growth


def show(results: dict[str, Any]) -> None:
    """Prints the tables."""
    print(f"\n{results['cores']} cores; seconds")
    parts = rows(results, "features")
    print(f"{'D':<28}" + "".join(f"{part['size']:>11}" for part in parts) + "   exponents")
    for way in parts[0]["seconds"]:
        values = [part["seconds"].get(way) for part in parts]
        text = "".join(f"{'-':>11}" if v is None else f"{v:>11.4f}" for v in values)
        growth = results["exponents"].get(way, {}).values()
        print(f"{way:<28}{text}   " + " ".join(f"{b:.2f}" for b in growth))
    print("\nsamples       seconds   samples/s   GFLOP/s")
    for part in rows(results, "samples"):
        seconds, rate = part["seconds"]["moments"], part["samples_a_second"]
        print(f"{part['size']:<10} {seconds:>10.3f} {rate:>11.0f} {part['gflops']:>9.1f}")
    print("\nstrengths of a ray: seconds a point")
    for part in rows(results, "strengths"):
        cells = (
            f"{way}: {took:.5f}" + (" (in a subspace)" if part["reduced"][way] else "")
            for way, took in part["seconds"].items()
        )
        print(f"{part['size']:<4} " + "; ".join(cells))
    print()
    for part in rows(results, "devices"):
        print(
            f"{part['size']} devices{' (simulated)' if part['simulated'] else ''}:"
            f" {part['seconds']['sweep']:.3f} s,"
            f" largest difference from one {part['difference']:.1e}"
        )
    if parts := [part for part in rows(results, "devices") if part["simulated"]]:
        print("simulated devices share the cores: their seconds say nothing about real ones")


def drawn(results: dict[str, Any]) -> Figure:
    """Four panels: seconds against each size."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(13, 8), layout="constrained")
        features, samples, strengths, devices = figure.subplots(2, 2).flat
        lines(features, rows(results, "features"), without=("ray,", "ray and 5"))
        features.set(title="features", xlabel="D", ylabel="seconds")
        lines(samples, rows(results, "samples"))
        samples.set(title="moments", xlabel="samples N", ylabel="seconds")
        lines(strengths, rows(results, "strengths"))
        strengths.set(title="grid size", xlabel="strengths of a ray", ylabel="seconds a point")
        parts = rows(results, "devices")
        lines(devices, parts)
        simulated = any(part["simulated"] for part in parts)
        devices.set(
            title="devices" + (" (simulated: they share the cores)" if simulated else ""),
            xlabel="devices",
            ylabel="seconds",
        )
        devices.set_ylim(bottom=0.5 * devices.get_ylim()[0], top=2 * devices.get_ylim()[1])
    return figure


def lines(axes: Axes, parts: list[dict[str, Any]], without: tuple[str, ...] = ()) -> None:
    """A line for each way, on logarithmic axes with a tick at every size."""
    ways = [way for way in parts[0]["seconds"] if not way.startswith(without)] if parts else []
    for way in ways:
        points = [(p["size"], p["seconds"][way]) for p in parts if way in p["seconds"]]
        axes.plot(*zip(*points, strict=True), marker="o", markersize=4, label=way)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks([part["size"] for part in parts], [f"{part['size']:,}" for part in parts])
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.minorticks_off()
    if len(ways) > 1:
        axes.legend(fontsize=8)


if __name__ == "__main__":
    main()
