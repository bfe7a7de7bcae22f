"""`reconjax detect`, as a user runs it."""

import functools
import json

import numpy as np
import pytest

import reconjax
from reconjax import studies
from reconjax.data import digits
from reconjax.theory.certificate import certificate


@pytest.fixture
def run(run):
    """Runs the command; gives (status, stdout, stderr)."""
    return functools.partial(run, "detect")


@pytest.fixture
def npz(tmp_path):
    """Writes the images of digits, or what is made of them, with labels in a random order."""
    images, labels = digits().train.examples(range(1437))

    def write(name="set.npz", seed=0, shape=(8, 8, 1)):
        shuffled = np.random.default_rng(seed).permutation(labels)
        np.savez(tmp_path / name, x_train=images.reshape(-1, *shape), y_train=shuffled)
        return tmp_path / name

    return write


def test_json_is_a_list_with_a_certificate_for_every_noise(run, npz):
    path, texts = npz(), ["gaussian:0.5", "mask:0.75:2x2", "mask:0.5:1x1+gaussian:0.1"]
    argv = [part for text in texts for part in ("--noise", text)]
    status, out, _ = run(path, *argv, "--latent-dim", 2, 5, "--json")
    assert status == 0
    results = json.loads(out)
    assert [one["noise"] for one in results] == texts
    assert [one["verdict"] for one in results] == ["never", "may", "may"]
    images = np.load(path)["x_train"]
    moments = reconjax.moments(images, np.arange(1437) % 2)
    mask = reconjax.noise.patch_mask(0.75, (2, 2), (8, 8, 1))
    expected = certificate(moments, mask, [2, 5])
    for one in results:
        assert one["latent_dim"] == [2, 5]
        assert len(one["largest_change"]) == len(one["mean_squared_cosine"]) == 2
    assert results[0]["largest_change"] == [0, 0]
    for name in ("largest_change", "mean_squared_cosine", "gap"):
        np.testing.assert_allclose(results[1][name], getattr(expected, name), atol=1e-9)
    assert results[1]["commutator"] > results[1]["tolerance"]
    assert results[1]["rank"] == 61


def test_labels_play_no_part(run, npz):
    argv = ["--noise", "mask:0.75:2x2", "--json"]
    first = run(npz(seed=0), *argv)[1]
    assert run(npz(seed=1), *argv)[1] == first
    status, out, err = run(npz(), "--class-weight", "balanced")
    assert (status, out) == (2, "")
    assert "class_weight" in err


def test_the_table_and_the_files(run, tmp_path):
    status, out, _ = run("digits", "--out", tmp_path)
    assert status == 0
    assert "1437 samples, 64 features of rank 61, no label was used; 8 x 8, 1 channel\n" in out
    assert "linear encoders" in out
    verdicts = [line.split() for line in out.split("verdict\n")[1].splitlines()[:8]]
    assert verdicts[0][:3] == ["gaussian:0.5", "never", "helps:"]
    for size, line in zip((1, 2, 4), verdicts[2::2], strict=True):
        assert line[:4] == [f"mask:0.75:{size}x{size}", "may", "help:", "does"]
    assert all("commutator" in line for line in verdicts[1::2])
    assert (tmp_path / "detect.png").stat().st_size > 10_000
    opened = studies.open(tmp_path / "detect.nc")
    for name in ("largest_change", "mean_squared_cosine"):
        values = opened[name].sel(noise="mask:0.75:2x2").values
        row = ["mask:0.75:2x2", *(f"{value:.4f}" for value in values)]
        assert row in [line.replace("~", "").split() for line in out.splitlines()]
    written = json.loads((tmp_path / "detect.json").read_text())
    assert [one["verdict"] for one in written] == ["never", "may", "may", "may"]
    assert written[0]["latent_dim"] == [1, 2, 4, 8, 16, 32, 61]


def test_vectors_have_noises_of_their_own(run, npz):
    results = json.loads(run(npz(shape=(64,)), "--json")[1])
    assert [one["noise"] for one in results] == ["gaussian:0.5", "pixel:0.75"]


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--latent-dim", "62"], ["latent_dim: 62", "rank 61 of 64"]),
        (["--latent-dim", "65"], ["latent_dim: 65"]),
        (["--latent-dim", "0"], ["latent_dim: 0"]),
        (["--latent-dims", "2.5"], ["--latent-dim", "2.5", "whole number"]),
        (["--noise", "mask:0.75:3x3"], ["3x3", "8x8"]),
        (["--noise", "wool:0.5"], ["wool:0.5", "gaussian"]),
        (["--noise", "mask:1.5:2x2"], ["1.5", "[0, 1)"]),
        (["--memory", "0.0001"], ["D = 64", "--memory"]),
    ],
)
def test_bad_values_are_refused_in_one_line(run, argv, words):
    status, out, err = run("digits", *argv)
    assert (status, out) == (2, "")
    assert all(word in err for word in words), err
    assert err.startswith("reconjax detect: ")
    assert err.count("\n") == 1


def test_noises_may_be_given_together(run, npz):
    argv = [npz(), "--latent-dims", 2, "--json", "--noise", "gaussian:0.5"]
    together = run(*argv, "pixel:0.5")[1]
    assert run(*argv, "--noise", "pixel:0.5")[1] == together
    assert [noise["noise"] for noise in json.loads(together)] == ["gaussian:0.5", "pixel:0.5"]


def test_help_shows_examples(run):
    status, out, _ = run("--help")
    assert status == 0
    assert "reconjax detect" in out.split("Examples:")[1]
    assert len(out.splitlines()) <= 50
