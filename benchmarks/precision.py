"""What float32 costs in accuracy and saves in time, against float64 on the same data.

    python -m benchmarks.precision --data cifar10 --data-dir DIR --out benchmarks/results/precision

Three ways: float64; mixed, the float32 grid on a float64 spectrum; and float32 throughout, as JAX
does without x64. The error of a curve is its largest distance from the
float64 one up to some K.
"""

import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

import reconjax
from experiments import report, sets

RATIOS = (0.0, 0.5, 0.9)
LIMITS = (64, 256, 512, 1024, 2048, 4096)


def main(argv: list[str] | None = None) -> None:
    options = report.arguments(__doc__, argv, data=["digits"])
    results = sets.measured(options, "precision", measure)
    for name, part in results["parts"].items():
        print(f"\n{name}: {part['samples']} samples, {part['features']} features")
        print("largest error up to K =    " + " ".join(f"{k:>8}" for k in part["limits"]))
        for way, row in part["errors"].items():
            for curve, errors in row.items():
                print(f"{way + ', ' + curve:<27}" + " ".join(f"{e:>8.1e}" for e in errors))
        for way, error in part["estimated_error"].items():
            print(f"{way}, estimated error of `r2`: {error:.1e}")
        for way, row in part["seconds"].items():
            print(way + ": " + ", ".join(f"{what} {took:.2f} s" for what, took in row.items()))


def measure(name: str, options: Any) -> dict[str, Any]:
    dataset, split = sets.training(name, options)
    batches = list(split.batches())  # read and decoded once: this times arithmetic
    curves, seconds, estimates = {}, {}, {}
    for way, x64, precision in (
        ("float64", True, "float64"),
        ("mixed", True, "mixed"),
        ("float32", False, "float32"),
    ):
        with jax.enable_x64(x64):
            curves[way], seconds[way], estimates[way] = one_way(batches, dataset, precision)
    features = dataset.features
    limits = sorted({min(k, features) for k in LIMITS})
    exact = curves["float64"]
    return {
        "samples": len(split),
        "features": features,
        "limits": limits,
        "seconds": seconds,
        "estimated_error": estimates,
        "errors": {
            way: {
                curve: [float(np.max(np.abs(values - exact[curve])[..., :k])) for k in limits]
                for curve, values in curves[way].items()
            }
            for way in ("mixed", "float32")
        },
    }


def one_way(batches: list[Any], dataset: Any, precision: str) -> tuple[Any, Any, float]:
    grid = reconjax.mask_grid(dataset.image_shape, [1], RATIOS)
    moments, seconds = timed(
        lambda: reconjax.moments_from_batches(batches, num_classes=dataset.num_classes)
    )
    spectrum, spectrum_seconds = timed(lambda: reconjax.spectrum(moments))
    swept, sweep_seconds = timed(lambda: reconjax.sweep(moments, grid, precision=precision))
    curve = reconjax.alignment(spectrum)
    return (
        {
            "align: alignment": np.asarray(curve.alignment, np.float64),
            "align: r2": np.asarray(curve.r2, np.float64),
            "sweep: alignment": np.asarray(swept.alignment, np.float64),
            "sweep: r2": np.asarray(swept.r2, np.float64),
        },
        {"moments": seconds, "spectrum": spectrum_seconds, "sweep of 3": sweep_seconds},
        float(np.max(np.asarray(swept.error))),
    )


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """The result and the seconds of a second run, after the first has compiled."""
    jax.block_until_ready(work())
    start = time.perf_counter()
    result = jax.block_until_ready(work())
    return result, time.perf_counter() - start


if __name__ == "__main__":
    main()
