"""The benchmark of image folders runs, and its folder holds the images of the set."""

import json

import numpy as np

from benchmarks import folders
from reconjax.data import load


def test_decoding_computing_and_both_are_measured(tmp_path, capsys):
    folders.main(["--preset", "smoke", "--data", "digits", "--out", str(tmp_path)])
    (part,) = json.loads((tmp_path / "folders.json").read_text())["parts"].values()
    assert part["samples"] == 60
    assert part["ratio"] == part["together"] / max(part["decode"], part["product"])
    assert "60 files of [8, 8, 1]" in capsys.readouterr().out


def test_what_is_written_is_the_set(tmp_path):
    split = load("digits").train.sample(60)
    folders.write(split, tmp_path)
    images, labels = split.examples(np.arange(60))
    read = load(str(tmp_path)).train
    order = np.argsort(labels, kind="stable")
    pixels, classes = read.examples(np.arange(60))
    np.testing.assert_array_equal(pixels, (255 * images[order]).astype(np.uint8))
    np.testing.assert_array_equal(classes, labels[order])
