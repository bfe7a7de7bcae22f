"""A path that exists is what lies there: one door, or one line that says why not."""

import json

import numpy as np
import pytest
from files import pictures, refused, whole, write_folder

from reconjax.cli.main import main
from reconjax.data import load

X = pictures(12)
Y = np.arange(12) % 3


def prepared(root, name):
    """What looks like a prepared TFDS set by its files."""
    folder = root / name / "1.0.0"
    folder.mkdir(parents=True)
    (folder / "dataset_info.json").write_text(json.dumps({"fileFormat": "array_record"}))
    return folder


def test_what_exists_is_never_a_tfds_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mnist").mkdir()
    refused(lambda: load("mnist"), "mnist is an empty folder", "images in class folders")
    (tmp_path / "mnist" / "notes.txt").write_text("")
    refused(lambda: load("mnist"), "mnist is a folder that holds notes.txt", "x_train.npy")
    (tmp_path / "mnist" / "notes.txt").unlink()
    (tmp_path / "mnist").rmdir()
    write_folder(tmp_path / "mnist", X, Y)
    order = np.argsort(Y, kind="stable")
    np.testing.assert_array_equal(whole(load("mnist").train)[0], X[order])
    refused(lambda: load("mnist:3.*.*"), "mnist:3.*.* is not prepared", error=FileNotFoundError)
    store = tmp_path / "tfds"
    prepared(store, "mnist")
    refused(
        lambda: load("mnist", data_dir=store), "a folder of images lies here", "./mnist", "mnist:*"
    )
    assert len(load("./mnist", data_dir=store).train) == 12


def test_folders_that_two_doors_fit(tmp_path):
    write_folder(tmp_path, X, Y)
    np.save(tmp_path / "x_train.npy", X)
    refused(lambda: load(str(tmp_path)), "is a folder of arrays and a folder of images", "name a")
    assert len(load(str(tmp_path / "x_train.npy")).train) == 12


def test_the_folder_of_several_versions(tmp_path):
    prepared(tmp_path, "mnist")
    refused(lambda: load(str(tmp_path / "mnist")), "holds 1.0.0: name the folder of one version")


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("set.mat", "is a file of type .mat, which is not read here: scipy.io.loadmat, then numpy"),
        ("set.pkl", "pickle.load, then numpy.savez"),
        ("set.pt", "torch.load, then numpy.savez"),
        ("set.zip", "unpack it"),
        ("set.jsonl", "save_to_disk"),
        ("set.tfrecord", "prepare it with TFDS as array_record"),
        ("set.bin", "save x_train and y_train as .npz"),
        ("set", "is a file, which is not read here: save x_train and y_train as .npz"),
        ("set.png", "is an image: name the folder that holds the class folders"),
    ],
)
def test_files_that_no_door_opens(tmp_path, name, part):
    (tmp_path / name).write_bytes(b"")
    refused(lambda: load(str(tmp_path / name)), name, part)


@pytest.mark.parametrize(
    "name", ["no.npz", "no.npy", "no.h5", "no.zarr", "no.parquet", "no.tar", "no.mat", "no.jpg"]
)
def test_files_that_are_not_there(name):
    refused(lambda: load(name), f"{name}: no such file", error=FileNotFoundError)


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"skip_corrupt": True}, "skip_corrupt: does not apply to digits"),
        ({"image_key": "x"}, "image_key: does not apply to digits, but to tables, tar files"),
        ({"crop": 9}, "crop: 9 x 9; digits has images of 8 x 8"),
        ({"resize": "4:sharp"}, "resize: filter 'sharp'"),
    ],
)
def test_options_that_do_not_apply(options, part):
    refused(lambda: load("digits", **options), part)


def test_mistakes_are_one_line_on_the_command_line(tmp_path, capsys):
    write_folder(tmp_path / "set", X, Y)
    (tmp_path / "set" / "dog").mkdir()
    assert main(["align", str(tmp_path / "set")]) == 2
    err = capsys.readouterr().err
    assert err == "reconjax align: set: class folder dog/ holds no images: move it away\n"
