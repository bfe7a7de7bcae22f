"""What each host of a job does, and that all of them together give what one gives.

    python -m benchmarks.hosts --preset quick --out benchmarks/results/hosts

Simulated hosts are processes with one CPU device each, which take the cores of this machine in
turns: what counts is the processor time and the memory of each, not the clock. Every host adds up
its part of generated 8-bit images, the moments are merged, and the grid is dealt to all devices.
"""

import argparse
import functools
import json
import os
import resource
import socket
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

import reconjax
from benchmarks.wide import generated
from experiments import report
from reconjax.data import Dataset
from reconjax.summary import hosts

# preset: (hosts, samples N, side of the images of 3 channels)
CASES = {
    "smoke": ((1, 2), 400, 4),
    "quick": ((1, 2, 4), 20_000, 16),
    "full": ((1, 2, 4), 50_000, 32),
}
PATCHES, RATIOS = (1, 2), (0.25, 0.5, 0.75, 0.9)
PATIENCE = 1800  # seconds


def main(argv: list[str] | None = None) -> None:
    options = report.arguments(__doc__, argv)
    counts, samples, side = CASES[options.preset]
    settings = {"preset": options.preset, "seed": options.seed}
    cases = {
        "1 host" if count == 1 else f"{count} hosts": partial(measure, count, samples, side)
        for count in counts
    }
    results = report.measured(options.out, "hosts", settings, cases)
    print(f"{'':<9}{'samples':>9}{'moments':>9}{'merge':>8}{'sweep':>8}{'GiB':>7}{'off':>9}")
    for name, part in results["parts"].items():
        each = part["each"]
        print(
            f"{name:<9}{each['samples'][0]:>9}"
            + "".join(f"{max(each[what]):>{width}.2f}" for what, width in WIDTHS)
            + f"{part['difference']:>9.0e}"
        )
    print(
        "samples of a host; processor seconds, and memory, of the busiest host; off: r2 from 1 host"
    )


WIDTHS = (("moments", 9), ("merge", 8), ("sweep", 8), ("peak_gib", 7))


def measure(count: int, samples: int, side: int) -> dict[str, Any]:
    """Runs a job of so many processes, and one of one process to compare it with."""
    alone, together = _job(1, samples, side), _job(count, samples, side)
    names = ("samples", "moments", "merge", "sweep", "peak_gib")
    curves = [np.asarray(one["r2"]) for one in together]
    return {
        "samples": samples,
        "features": 3 * side**2,
        "each": {name: [one[name] for one in together] for name in names},
        "bytes merged": together[0]["bytes"],
        "same bits": all(np.array_equal(curves[0], curve) for curve in curves),
        "difference": float(np.max(np.abs(curves[0] - np.asarray(alone[0]["r2"])))),
        "load": list(os.getloadavg())[:2],
    }


@functools.cache
def _job(count: int, samples: int, side: int) -> list[dict[str, Any]]:
    """What each process of a job writes."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    with tempfile.TemporaryDirectory() as folder:
        given = [address, str(count), str(samples), str(side), folder]
        command = [sys.executable, "-m", "benchmarks.hosts"]
        processes = [
            subprocess.Popen(
                [*command, "--host", str(number), *given],
                stdout=subprocess.DEVNULL,
            )
            for number in range(count)
        ]
        try:
            codes = [process.wait(PATIENCE) for process in processes]
        finally:
            for process in processes:
                process.kill()
        if any(codes):
            raise RuntimeError(f"a process of {count} ended with {max(codes)}")
        return [json.loads(Path(folder, f"{n}.json").read_text()) for n in range(count)]


def host(number: int, address: str, count: int, samples: int, side: int, folder: str) -> None:
    """One host of a job; it leaves what it found in a file."""
    jax.config.update("jax_num_cpu_devices", 1)
    jax.config.update("jax_enable_x64", True)
    if count > 1:
        hosts.start(address, count, number)
    images, labels = generated(samples, 3 * side**2)
    train = Dataset.from_arrays(images.reshape(samples, side, side, 3), labels).train
    mine = hosts.part(train)
    seconds = [time.process_time()]
    own = reconjax.moments_from_batches(mine.batches(), num_classes=int(labels.max()) + 1)
    jax.block_until_ready(own)
    seconds.append(time.process_time())
    whole = jax.block_until_ready(hosts.merged(own))
    seconds.append(time.process_time())
    grid = reconjax.mask_grid((side, side, 3), PATCHES, RATIOS)
    mesh = jax.sharding.Mesh(np.array(jax.devices()), ("grid",)) if count > 1 else None
    result = reconjax.sweep(whole, grid, mesh=mesh, precision="float64")
    r2 = np.asarray(result.r2)
    seconds.append(time.process_time())
    found = {
        "samples": len(mine),
        **dict(zip(("moments", "merge", "sweep"), np.diff(seconds).tolist(), strict=True)),
        "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "bytes": sum(leaf.nbytes for leaf in jax.tree.leaves(whole)),
        "r2": r2.tolist(),
    }
    Path(folder, f"{number}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--host", nargs=6)
    known, _ = parser.parse_known_args()
    if known.host is None:
        main()
    else:
        number, address, *sizes, folder = known.host
        host(int(number), address, *map(int, sizes), folder)
