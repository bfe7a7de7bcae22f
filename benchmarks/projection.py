"""Projects measured rates to ImageNet-1k and to 10^9 images; the tables of docs/scale.md.

    python -m benchmarks.projection

Rates and memory are those of benchmarks/results, on 2 CPU cores. What is assumed of other machines
stands in `MACHINES`; nothing here was measured on them.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

from reconjax.grid import sweep_memory
from reconjax.grid.stored_samples import samples_memory

RESULTS = Path(__file__).parent / "results"
IMAGENET, BILLION = 1_281_167, 10**9
POINTS, RAYS = 18, 3  # of the default grid: 3 patch shapes x 6 ratios
FULL = 3 * 224**2


class Machine(NamedTuple):
    """What is assumed of a machine, against the 2 cores that were measured.

    Attributes:
      name: of the column.
      cores: that decode.
      product: times the rate of the matrix products of moments.
      points: grid points at a time.
      eigen: times the rate of one eigendecomposition.
      memory: bytes where matrices lie.
    """

    name: str
    cores: int
    product: float
    points: int
    eigen: float
    memory: float


MACHINES = (
    Machine("2 cores (measured rates)", 2, 1, 1, 1, 23 * 2**30),
    Machine("one machine, 64 cores, 512 GiB", 64, 32, 1, 8, 512 * 2**30),
    Machine("8 GPUs of 80 GiB, 128 cores", 128, 8 * 150, 8, 10, 80 * 2**30),
    Machine("a pod: 64 hosts of 112 cores, 256 chips", 7168, 64 * 56, 18, 8, 256 * 2**30),
)


class Rates(NamedTuple):
    """What was measured on 2 cores.

    Attributes:
      decode: processor seconds of an image, for each size of what it becomes.
      product: moments, in 2 N D² operations a second.
      spectrum: seconds of an eigendecomposition in float64 at D = 6144.
      point: seconds of a grid point in `mixed` at D = 3072, its share of the ray included.
      ray: seconds of a ray of 4 points on the sample side beyond its eigendecompositions, by N² D.
      solve: seconds of an eigendecomposition of the sample side by N³.
    """

    decode: dict[int, float]
    product: float
    spectrum: float
    point: float
    ray: float
    solve: float


def measured() -> Rates:
    """The rates in benchmarks/results."""

    def parts(name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((RESULTS / name / f"{name}.json").read_text())["parts"]
        return found

    decoding, sweep = parts("decoding"), parts("sweep")["cifar10"]["ways"]
    sides = parts("sample_side")
    wide, tall = sides["features"], sides["samples"]
    beyond = wide["each"]["sweep"] - wide["each"]["eigh"]
    photograph = decoding["JPEG 375 x 500 to 224 x 224"]["each"]
    return Rates(
        decode={size: photograph for size in (32, 64, 224)},
        product=1e9 * parts("moments")["cifar10"]["gflops"]["moments"],
        spectrum=parts("scaling")["features 6144"]["seconds"]["eigh, float64"],
        point=sweep["mixed, 10 ratios"]["a_point"],
        ray=beyond / (wide["samples"] ** 2 * wide["features"]),
        solve=tall["each"]["eigh"] / 5 / tall["samples"] ** 3,
    )


def moments(rates: Rates, machine: Machine, samples: int, size: int) -> tuple[float, str]:
    """Seconds of the moments of photographs resized to a size, and what binds them."""
    features = 3 * size**2
    if sweep_memory(features, 1000) > machine.memory:
        return float("inf"), "memory"
    reading = samples * rates.decode[size] / machine.cores
    adding = 2 * samples * features**2 / rates.product / machine.product
    return max(reading, adding), "reading" if reading > adding else "products"


def sweep(rates: Rates, machine: Machine, size: int) -> tuple[float, str]:
    """Seconds of the default grid by (D, D) moments."""
    features = 3 * size**2
    if sweep_memory(features, 1000) > machine.memory:
        return float("inf"), "memory"
    turns = -(-POINTS // machine.points)
    point = rates.point * (features / 3072) ** 3
    return turns * point / machine.eigen, "eigensolver"


def by_samples(rates: Rates, machine: Machine, samples: int) -> tuple[float, str]:
    """Seconds of the default grid at 224 x 224 on the sample side, by one process."""
    if samples_memory(samples, FULL) > machine.memory:
        return float("inf"), "memory"
    columns = RAYS * rates.ray * samples**2 * FULL / (machine.product / max(machine.points, 1))
    solving = (RAYS + POINTS) * rates.solve * samples**3 / machine.eigen
    reading = samples * rates.decode[224] / machine.cores
    parts = {"columns": columns, "eigensolver": solving, "reading": reading}
    return sum(parts.values()), max(parts, key=parts.__getitem__)


def span(seconds: float, bound: str) -> str:
    """A time in words, and what binds it."""
    if seconds == float("inf"):
        return f"does not fit ({bound})"
    for unit, size in (("days", 86400.0), ("h", 3600.0), ("min", 60.0), ("s", 1.0)):
        if seconds >= size:
            return f"{seconds / size:.2g} {unit} ({bound})"
    return f"under 1 s ({bound})"


def table() -> str:
    """Projected times, as Markdown."""
    rates = measured()
    lines = [
        "| projected | " + " | ".join(machine.name for machine in MACHINES) + " |",
        "|---" * (len(MACHINES) + 1) + "|",
    ]

    def row(name: str, cells: list[str]) -> None:
        lines.append(f"| {name} | " + " | ".join(cells) + " |")

    for name, samples in (("ImageNet-1k", IMAGENET), ("10⁹ images", BILLION)):
        for size in (32, 64, 224):
            cells = [span(*moments(rates, machine, samples, size)) for machine in MACHINES]
            row(f"moments, {name} at {size} x {size}", cells)
    for size in (32, 64, 224):
        row(
            f"sweep at {size} x {size}, by moments",
            [span(*sweep(rates, machine, size)) for machine in MACHINES],
        )
    for samples in (4_000, 10_000, 40_000):
        row(
            f"sweep at 224 x 224, {samples:,} images by samples",
            [span(*by_samples(rates, machine, samples)) for machine in MACHINES],
        )
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
