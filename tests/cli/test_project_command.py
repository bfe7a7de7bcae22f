"""`reconjax project` and `reconjax datasets`, as a user runs them."""

import json

import numpy as np
import pytest

from reconjax import studies


@pytest.fixture
def npz(tmp_path):
    """Writes 40 examples of a shape, of two classes."""

    def write(*shape):
        x = np.random.default_rng(0).uniform(size=(40, *shape))
        np.savez(tmp_path / "set.npz", x_train=x, y_train=np.arange(40) % 2)
        return tmp_path / "set.npz"

    return write


def test_project_writes_a_picture(run, tmp_path):
    status, out, _ = run("project", "digits", "--images", "3", "--out", tmp_path, "--json")
    result = json.loads(out)
    assert status == 0
    assert (tmp_path / "project.png").stat().st_size > 5_000
    assert result["picture"] == str(tmp_path / "project.png")
    assert result["top_directions"] + result["bottom_directions"] == result["rank"]
    assert studies.open(tmp_path / "project.nc").sizes["example"] == 3


def test_project_says_what_the_picture_shows(run, npz, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, out, _ = run("project", npz(6, 6, 1), "--images", "2", "--variance", "0.5")
    assert status == 0
    assert "directions explain 50% of the pixel variance" in out
    assert "wrote project.png" in out
    assert "channels" not in out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["project.png", "set.npz"]
    status, out, _ = run("project", npz(6, 6, 12), "--images", "2")
    assert status == 0
    assert "the picture shows channels 0, 6, 11 of 12" in out
    status, out, _ = run("project", npz(6, 6, 12), "--images", "2", "--channel", "4")
    assert status == 0
    assert "the picture shows" not in out


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--images", "10000"], ["images: 10000", "64"]),
        (["--images", "0"], ["images: 0"]),
        (["--images", "2.5"], ["--images", "2.5"]),
        (["--variance", "2"], ["variance: 2.0", "0 .. 1"]),
        (["--channel", "1"], ["channel: 1; 0 .. 0"]),
    ],
)
def test_bad_values_are_refused_in_one_line(run, tmp_path, argv, words):
    status, out, err = run("project", "digits", *argv, "--out", tmp_path)
    assert (status, out) == (2, "")
    assert all(word in err for word in words), err
    assert err.count("\n") == 1
    assert err.startswith("reconjax project: ")


def test_what_is_no_image_is_refused(run, npz):
    status, _, err = run("project", npz(8))
    assert status == 2
    assert "vectors" in err
    assert "images" in err
    status, _, err = run("project", npz(3, 6, 6))
    assert status == 2
    assert "x_train has shape (40, 3, 6, 6)" in err
    assert "--channels-first" in err
    assert "--no-channels-first" in err
    assert err.count("\n") == 1


def test_out_that_cannot_be_written_is_refused_before_the_work(run, tmp_path, monkeypatch):
    def work(*args, **kwargs):
        raise AssertionError("work was done")

    monkeypatch.setattr(studies.source, "moments_from_batches", work)
    (tmp_path / "file").write_text("")
    for command in ("compare", "detect", "project"):
        status, out, err = run(command, "digits", "--out", tmp_path / "file")
        assert (status, out) == (2, "")
        assert "--out" in err


def test_datasets_lists_what_can_be_named(run, tmp_path):
    status, out, _ = run("datasets", "--data-dir", tmp_path)
    assert status == 0
    for text in ("digits", "scenes", ".npz", "nothing"):
        assert text in out
    listed = json.loads(run("datasets", "--data-dir", tmp_path, "--json")[1])
    assert listed == {"data_dir": str(tmp_path), "prepared": []}


@pytest.mark.parametrize("command", ["project", "datasets"])
def test_help_shows_examples(run, command):
    status, out, _ = run(command, "--help")
    assert status == 0
    assert f"reconjax {command}" in out.split("Examples:")[1]
    assert len(out.splitlines()) <= 50
