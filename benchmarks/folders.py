"""A folder of images, streamed: decoding and computing overlap, or one waits for the other.

    python -m benchmarks.folders --preset quick --data cifar10.npz --out benchmarks/results/folders

Each set is written as a folder of PNGs, a file an image, and its moments are taken from there.
`decode` reads and decodes all files, `product` takes the moments of the same images in memory,
`together` does both; `ratio` is what that takes against the longer of the two. Nothing that was
decoded is kept. Data that are a folder of images are read as they lie.
"""

import os
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from PIL import Image

import reconjax
from benchmarks.moments import REPEATS, cores, records
from experiments import report, sets
from reconjax.data import Dataset, Split, encoded, load

SAMPLES = {"smoke": 60, "quick": 5_000, "full": 50_000}
BATCH = 512  # small against the samples: the first batch is decoded while nothing is computed


def main(argv: list[str] | None = None) -> None:
    options = report.arguments(__doc__, argv, data=["digits"])
    jax.config.update("jax_enable_x64", True)
    results = sets.measured(options, "folders", measure)
    for name, part in results["parts"].items():
        print(
            f"\n{name}: {part['samples']} files of {part['shape']}, {part['cores']} cores, load"
            f" {part['load'][0]:.1f} before and {part['load'][1]:.1f} after"
        )
        for way in ("open", "decode", "product", "together"):
            print(f"{way:<12} {part[way]:>9.3f} s {part['samples'] / part[way]:>9.0f} images / s")
        print(
            f"together: {part['ratio']:.2f} of the longer; {part['ratio to possible']:.2f} of what"
        )
        print("the processor time of both allows")


def measure(name: str, options: Any) -> dict[str, Any]:
    load_before = os.getloadavg()[0]
    if Path(name).is_dir():
        return {**_measured(name, options), "load": [load_before, os.getloadavg()[0]]}
    dataset = load(name, data_dir=options.data_dir)
    with tempfile.TemporaryDirectory() as folder:
        write(dataset.train.sample(SAMPLES[options.preset], options.seed), Path(folder))
        return {**_measured(folder, options), "load": [load_before, os.getloadavg()[0]]}


def write(split: Split, folder: Path) -> None:
    """A folder a class, a PNG an image."""
    for label in np.unique(split.labels):
        (folder / f"{label:03}").mkdir()
    for start in range(0, len(split), BATCH):
        numbers = np.arange(start, min(start + BATCH, len(split)))
        for number, image, label in zip(numbers, *split.examples(numbers), strict=True):
            pixels = image if image.dtype == np.uint8 else np.clip(255 * image, 0, 255)
            pixels = np.squeeze(pixels.astype(np.uint8))
            Image.fromarray(pixels).save(folder / f"{label:03}" / f"{number:06}.png")


def _measured(folder: str, options: Any) -> dict[str, Any]:
    start = time.perf_counter()
    dataset = load(folder)
    opened = time.perf_counter() - start
    train = dataset.train
    assert isinstance(train, encoded.EncodedSplit)
    images = encoded.Images(train.images.files, train.images.layout, keep=False)
    split = encoded.EncodedSplit(images, train.numbers, train.targets)
    memory = Dataset.from_arrays(*split.examples(np.arange(len(split)))).train

    def stream(source: Split) -> reconjax.Moments:
        batches = source.batches(BATCH)
        return reconjax.moments_from_batches(batches, num_classes=dataset.num_classes)

    return {
        "samples": len(split),
        "shape": list(dataset.example_shape),
        "cores": cores(),
        "open": opened,
        **records(
            lambda: [None for _ in split.batches(BATCH)],
            lambda: stream(memory),
            lambda: stream(split),
            REPEATS[options.preset],
        ),
    }


if __name__ == "__main__":
    main()
