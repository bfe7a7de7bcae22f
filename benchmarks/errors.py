"""How far the stated error of a sweep may be trusted: a random search for data that it fails.

    python -m benchmarks.errors --preset full --out benchmarks/results/errors

Hundreds of small problems - smooth, white, 8-bit, low-rank data, few samples and many, constant and
duplicate features, spectra that fall to 1e-14, class weights, every noise, read-out and precision -
are swept and compared at every K with an oracle that works on the samples and forms no second
moment. Printed are the cases with the largest true error as a multiple of the stated one; the seed
alone makes a case again: `benchmarks.error_cases.random_case(seed)`.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import numpy as np

from benchmarks.error_cases import Case, error_and_estimate, random_case
from experiments import report

CASES = {"smoke": 4, "quick": 60, "full": 600}
# A true error of more than so many times the stated one is a miss.
MISS = 10.0
WORST = 10
# Cases between two savings.
PART = 20
# Compiled programs are kept for so many cases, most of which need one that is there already.
CLEARED = 200


def main(argv: list[str] | None = None) -> None:
    options = report.arguments(__doc__, argv)
    settings = {"preset": options.preset, "seed": options.seed, "miss": MISS}
    seeds = range(options.seed, options.seed + CASES[options.preset])
    cases = {
        f"seeds from {start}": partial(searched, range(start, min(start + PART, seeds.stop)))
        for start in seeds[::PART]
    }
    results = report.measured(options.out, "errors", settings, cases)
    rows = [row for part in results["parts"].values() for row in part["cases"]]
    rows.sort(key=lambda row: -row["ratio"])
    print(f"{'true / stated':>13} {'true':>8} {'stated':>8} {'largest':>8} {'stated':>8}  case")
    for row in rows[:WORST]:
        print(
            f"{row['ratio']:>13.2g} {row['error']:>8.1e} {row['stated']:>8.1e}"
            f" {row['largest_error']:>8.1e} {row['largest_stated']:>8.1e}  {row['case']}"
            f" at strength {row['strength']:g}, weight {row['weight']}, K = {row['latent_dim']}"
        )
    missed = sum(row["ratio"] > MISS for row in rows)
    print(
        f"{len(rows)} cases; {missed} with a true error of more than {MISS:g} times the stated one"
        "\ntrue / stated: where it is largest; largest: over all strengths, weights and K"
    )


def searched(seeds: Sequence[int]) -> dict[str, Any]:
    """The cases of some seeds."""
    rows = [measure(random_case(seed)) for seed in seeds]
    if seeds[0] % CLEARED == 0:
        jax.clear_caches()
    return {"cases": rows}


def measure(case: Case) -> dict[str, Any]:
    """The place of a case where the true error is the largest multiple of the stated one."""
    error, stated = error_and_estimate(case)
    ratio = np.where(np.isfinite(error) & np.isfinite(stated), error / stated, np.inf)
    strength, weight, k = np.unravel_index(int(np.argmax(ratio)), ratio.shape)
    return {
        "case": case.name,
        "ratio": float(np.max(ratio)),
        "error": float(error[strength, weight, k]),
        "stated": float(stated[strength, weight, k]),
        "strength": case.strengths[strength],
        "weight": str(case.weights[weight]),
        "latent_dim": int(k) + 1,
        "largest_error": float(np.max(error)),
        "largest_stated": float(np.max(stated)),
    }


if __name__ == "__main__":
    main()
