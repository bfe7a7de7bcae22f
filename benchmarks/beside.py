"""The table of speed, measured on this machine beside the committed figures: `make bench`.

    python -m benchmarks.beside --out out/bench

What is timed does not depend on the pixels, only on their number: generated images of the size and
number of mnist's stand for mnist, which need not be there. The grids are those of the committed
runs, 3 patch shapes x 10 ratios. A run that was killed goes on with what it had not measured.
"""

import json
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import sample_side, sweep
from experiments import report

RESULTS = Path(__file__).parent / "results"
# What is measured here -> what was committed.
SWEEPS = {
    "smoke": {"digits": "digits"},
    "quick": {
        "digits": "digits",
        "scenes:size=28,channels=1,samples=60000": "mnist",
    },
}
SWEEPS["full"] = SWEEPS["quick"] | {"scenes:size=32,samples=50000": "cifar10"}
SIDES = {"smoke": (), "quick": ("base", "both sides"), "full": tuple(sample_side.CASES["quick"])}
ROWS = (
    "float64, 10 ratios",
    "mixed, 10 ratios",
    "float64, 10 ratios, K <= {most}",
    "mixed, 10 ratios, K <= {least}",
)


def main(argv: list[str] | None = None) -> None:
    options = report.arguments(__doc__, argv)
    preset, options.preset = options.preset, "full"  # the grids and samples of the committed runs
    cases: dict[str, Any] = {
        data: partial(sweep.measure, data, options, many_below=0) for data in SWEEPS[preset]
    }
    sides = sample_side.CASES["quick"]
    cases |= {name: partial(sample_side.measure, *sides[name]) for name in SIDES[preset]}
    settings = {"preset": preset, "seed": options.seed}
    measured = report.measured(options.out, "bench", settings, cases)["parts"]
    here = json.loads((options.out / "bench.json").read_text())
    swept, sided = committed("sweep"), committed("sample_side")
    print(f"{'seconds':<46}{'committed':>11}{'here':>11}{'here / committed':>18}")
    for data, name in SWEEPS[preset].items():
        then, now = swept["parts"][name], measured[data]
        print(f"{name}: {then['samples']} samples of {then['features']} values")
        for what, before, after in rows(then, now):
            line(what, before, after)
    for name in SIDES[preset]:
        then, now = sided["parts"][name], measured[name]
        print(f"{then['samples']} samples of {then['features']} values, by samples")
        for what, key in (("moments and spectrum", "samples"), ("sweep of 4 ratios", "sweep")):
            line(what, then["each"][key], now["each"][key])
    for what, run in (("committed", swept), ("here", here)):
        cores = next(iter(run["parts"].values()))["cores"]
        versions = ", ".join(f"{package} {number}" for package, number in run["versions"].items())
        print(f"{what}: {run['device']}, {cores} cores; {versions}")
    print("direct: Gram matrices, eigenproblem and QR anew at every point; see benchmarks.sweep")


def committed(name: str) -> dict[str, Any]:
    return json.loads((RESULTS / name / f"{name}.json").read_text())


def rows(then: dict[str, Any], now: dict[str, Any]) -> list[tuple[str, float, float]]:
    """(what, committed seconds, seconds here) of one data set."""
    most = max(4, min(sweep.LATENT_DIMS, then["features"] // 6))
    ways = [way.format(most=most, least=most // 4) for way in ROWS]
    eigh = (f"eigendecomposition in {dtype}" for dtype in then["eigh"])
    return [
        ("moments", then["moments"], now["moments"]),
        *zip(eigh, then["eigh"].values(), now["eigh"].values(), strict=True),
        ("direct, a point", then["direct"], now["direct"]),
        *(
            (f"{way}, a point", *(part["ways"][way]["a_point"] for part in (then, now)))
            for way in ways
        ),
    ]


def line(what: str, before: float, after: float) -> None:
    print(f"  {what:<44}{before:>11.4f}{after:>11.4f}{after / before:>17.2f}x")


if __name__ == "__main__":
    main()
