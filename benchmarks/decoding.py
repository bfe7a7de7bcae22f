"""Processor time of reading, decoding and resizing an image of a folder, on one core.

    python -m benchmarks.decoding --preset quick --out benchmarks/results/decoding

Photographs stand in for those of ImageNet: smooth generated images with grain, 500 x 375 pixels in
color, as JPEGs of quality 90. The processor time hardly depends on what else the machine does.
"""

import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from experiments import report
from reconjax.data import load

COUNT = {"smoke": 8, "quick": 200, "full": 2_000}
# name: (height and width of the files, their kind, what they are resized to)
CASES = {
    "JPEG 375 x 500 to 224 x 224": ((375, 500), "jpg", 224),
    "JPEG 128 x 128": ((128, 128), "jpg", None),
    "PNG 32 x 32": ((32, 32), "png", None),
}


def main(argv: list[str] | None = None) -> None:
    options = report.arguments(__doc__, argv)
    settings = {"preset": options.preset, "seed": options.seed}
    cases = {
        name: partial(measure, COUNT[options.preset], options.seed, *case)
        for name, case in CASES.items()
    }
    results = report.measured(options.out, "decoding", settings, cases)
    for name, part in results["parts"].items():
        print(f"{name:<28} {1e3 * part['each']:>7.2f} ms {part['bytes'] / 1e3:>7.1f} kB")
    print("processor time of an image, and bytes of its file")


def measure(
    count: int, seed: int, size: tuple[int, int], kind: str, resize: int | None
) -> dict[str, Any]:
    """Processor seconds of an image, without the first time that it is read."""
    random = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as folder:
        for number in range(count):
            small = random.integers(0, 256, (12, 16, 3), dtype=np.uint8)
            image = Image.fromarray(small).resize(size[::-1], Image.Resampling.BICUBIC)
            grain = random.normal(scale=4, size=(*size, 3))
            pixels = np.clip(np.asarray(image) + grain, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(Path(folder, f"{number:05}.{kind}"), quality=90)
        weight = sum(file.stat().st_size for file in Path(folder).iterdir()) / count
        seconds = []
        for _ in range(3):
            split = load(folder, resize=resize).train
            started = time.process_time()
            for _ in split.batches(64):
                pass
            seconds.append((time.process_time() - started) / count)
    return {"images": count, "each": min(seconds), "bytes": weight}


if __name__ == "__main__":
    main()
