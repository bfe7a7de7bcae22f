"""Defaults that fit the data that are there: patches, neighbors, batches; noises on a ray."""

import json

import numpy as np
import pytest

import reconjax as rj
from reconjax import noise as rn
from reconjax.cli.main import main
from reconjax.data import load, prepared
from reconjax.noise.families import families
from reconjax.noise.groups import usual_patches
from reconjax.training.fitting import usual_batch_size
from reconjax.training.probes import knn_probe
from reconjax.training.probes.neighbors import usual_neighbors

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("shape", "sizes", "partial"),
    [
        ((8, 8, 1), [(1, 1), (2, 2), (4, 4)], False),
        ((32, 32, 3), [(1, 1), (2, 2), (4, 4)], False),
        ((64, 96, 3), [(4, 4), (8, 8), (16, 16)], False),
        ((224, 224, 3), [(8, 8), (16, 16), (32, 32)], False),
        ((150, 150, 3), [(1, 1), (2, 2)], False),
        ((57, 59, 1), [(4, 4), (8, 8), (16, 16)], True),
        ((16, 128, 128, 1), [(1, 1, 1), (2, 2, 2), (4, 4, 4)], False),
        ((6, 6, 2), [(1, 1), (2, 2)], False),
        ((11, 13, 1), [(1, 1), (2, 2), (4, 4)], True),
        ((1, 8, 3), [(1, 1), (1, 2), (1, 4)], False),
        ((1, 7, 3), [(1, 1), (1, 2), (1, 4)], True),
        ((9, 1, 3), [(1, 1), (2, 1), (4, 1)], True),
        ((4, 4, 1), [(1, 1), (2, 2)], False),
        ((2, 2, 1), [(1, 1)], False),
        ((1, 1, 5), [(1, 1)], False),
    ],
)
def test_usual_patches_fit_every_image(shape, sizes, partial):
    assert usual_patches(shape) == (sizes, partial)
    for size in sizes:
        groups = rn.patch_groups(size, shape, partial=partial)
        assert groups.max() + 1 > 1 or shape[:2] == (1, 1)


@pytest.mark.parametrize(
    ("shape", "names"),
    [
        ((8, 8, 1), ["mask 1x1", "mask 2x2", "mask 4x4"]),
        ((11, 13, 1), ["mask 1x1", "mask 2x2 partial", "mask 4x4 partial", "mask 8x8 partial"]),
        ((1, 8, 3), ["mask 1x1", "mask 1x2"]),
        ((6, 9, 2), ["mask 1x1", "mask 3x3"]),
        ((2, 3, 1), ["mask 1x1"]),
    ],
)
def test_compare_tries_patches_on_every_image(shape, names):
    x = RNG.random((40, *shape))
    found = families(shape, rj.moments(x, np.arange(40) % 2), ["mask"])
    assert [family.name for family in found] == names
    for family in found:
        for text, noise in zip(family.texts, family.noises, strict=True):
            assert rj.noise_text(noise, shape) == text


def test_partial_patches_in_texts_are_those_of_python():
    x = RNG.random((30, 5, 7, 2))
    found = rj.moments(x, np.arange(30) % 2)
    noise = rj.parse_noise("mask:0.75:2x3:partial", (5, 7, 2))
    patch = np.add.outer(3 * (np.arange(5) // 2), np.arange(7) // 3).reshape(-1).repeat(2)
    m = np.cov(x.reshape(30, -1).T, bias=True)
    keep = np.where(patch[:, None] == patch, 0.25, 0.25**2)
    np.testing.assert_allclose(noise.second_moment(found.second_moment), keep * m, atol=1e-12)
    assert rj.noise_text(noise, (5, 7, 2)) == "mask:0.75:2x3:partial"
    with pytest.raises(ValueError, match=r"does not divide the 5x7 image; .* 2x3:partial"):
        rj.parse_noise("mask:0.75:2x3", (5, 7, 2))
    with pytest.raises(ValueError, match="it is written pixel:RATIO"):
        rj.parse_noise("pixel:0.75:partial", (5, 7, 2))


# Masks that treat all groups alike lie on the ray of patch masks.

GROUPS = rn.patch_groups((2, 1), (4, 2, 1))  # four groups of two values
EXACT = np.array([[a, b, c, d] for a in (0, 1) for b in (0, 1) for c in (0, 1) for d in (0, 1)])
EXACT = EXACT[EXACT.sum(1) == 2]


@pytest.mark.parametrize(
    "noise",
    [
        rn.visibility_mask(np.where(np.eye(4), 0.5, 0.25), groups=GROUPS),
        rn.visibility_mask(np.where(np.eye(4), 0.5, 0.4), groups=GROUPS),
        rn.visibility_mask(np.where(np.eye(4), 0.25, 0.0), groups=GROUPS),
        rn.mask_set(EXACT, groups=GROUPS),
    ],
)
def test_masks_that_treat_groups_alike_are_swept(noise):
    x, y = RNG.random((50, 8)), np.arange(50) % 3
    found = rj.moments(x, y)
    point = noise.ray()
    m = np.cov(x.T, bias=True)
    same = np.asarray(GROUPS)[:, None] == np.asarray(GROUPS)
    b = np.where(same, m, 0)
    ray = float(point.scale) * ((1 - float(point.share)) * m + float(point.share) * b)
    np.testing.assert_allclose(noise.second_moment(found.second_moment), ray, atol=1e-12)
    swept = rj.sweep(found, [[noise]])
    solved = rj.solve(rj.problem(found, noise))
    np.testing.assert_allclose(swept.r2[0, 0, 0], solved.r2, atol=1e-6)


@pytest.mark.parametrize(
    "noise",
    [
        rn.visibility_mask(
            np.where(np.eye(4), 0.5, 0.25)
            + 0.1 * (1 - np.eye(4)) * (np.indices((4, 4)).sum(0) == 3),
            groups=GROUPS,
        ),
        rn.visibility_mask(np.outer(q := np.array([0.3, 0.5, 0.5, 0.5]), q) + np.diag(q - q**2)),
        rn.visibility_mask(np.where(np.eye(4), 0.5, 0.25), groups=GROUPS, fill=0.5),
        rn.mask_set([[1, 0, 1, 1], [0, 1, 0, 1]], groups=GROUPS),
    ],
)
def test_other_visibilities_lie_on_no_ray(noise):
    assert noise.ray() is None


# Small sets


def test_neighbors_and_batches_fit():
    assert usual_neighbors(12) == (1, 5)
    assert usual_neighbors(5) == (1,)
    assert usual_neighbors(1000) == (1, 5, 20)
    assert [usual_batch_size(*c) for c in ((120, 1), (120, 4), (1000, 1), (1000, 3), (7, 4))] == [
        120, 120, 128, 126, 4,
    ]  # fmt: skip
    x, y = RNG.random((12, 3)), np.arange(12) % 3
    assert knn_probe(x, y).values.tolist() == [1, 5]
    with pytest.raises(ValueError, match=r"neighbors: \[20\]; whole numbers in 1 .. 11"):
        knn_probe(x, y, neighbors=[20])
    with pytest.raises(ValueError, match="neighbors: 0; whole"):
        knn_probe(x, y, neighbors=0)


# Folders that are no data set


def refused(capsys, *argv):
    assert main(["align", *map(str, argv)]) == 2
    out, err = capsys.readouterr()
    assert not out
    assert len(err.splitlines()) == 1
    assert "did you mean" not in err
    assert "--download" not in err
    return err


def test_a_folder_that_is_no_set_is_told_of(tmp_path, capsys, monkeypatch):
    photos = tmp_path / "digit"
    (photos / "cats").mkdir(parents=True)
    (photos / "cats" / "1.txt").touch()
    (photos / "list.csv").touch()
    text = (
        "is a folder that holds cats/, list.csv: it needs images in class folders, x_train.npy,"
        " parquet or tar files, or a TFDS set's dataset_info.json"
    )
    assert text in refused(capsys, photos)
    monkeypatch.chdir(tmp_path)
    assert f"digit {text}" in refused(capsys, "digit")
    assert f"./digit {text}" in refused(capsys, "./digit")
    assert f"digit/ {text}" in refused(capsys, "digit/")
    (tmp_path / "empty").mkdir()
    assert "empty is an empty folder" in refused(capsys, "empty")
    assert "digit/list.csv cannot be read as a table" in refused(capsys, "digit/list.csv")
    other = "is a file of type .txt, which is not read here: save x_train and y_train as .npz"
    assert f"digit/cats/1.txt {other}" in refused(capsys, "digit/cats/1.txt")
    (photos / "cats" / "2.jpg").touch()
    assert "digit: of 1 images all are corrupt, cats/2.jpg" in refused(capsys, "digit")
    assert "/no/such: no such folder" in refused(capsys, "/no/such")
    (tmp_path / "mine" / "1.0.0").mkdir(parents=True)
    (tmp_path / "mine" / "1.0.0" / "dataset_info.json").touch()
    assert "mine holds 1.0.0: name the folder of one version" in refused(capsys, "mine")
    with pytest.raises(FileNotFoundError, match="did you mean digits"):
        load("digitz")  # nothing lies there


@pytest.mark.parametrize(
    ("description", "stored", "readable"),
    [
        ('{"fileFormat": "array_record"}', "array_record", True),
        ('{"fileFormat": "tfrecord"}', "tfrecord", False),
        ("{}", "tfrecord", False),
        ("not json", "?", False),
        ("[]", "?", False),
    ],
)
def test_datasets_marks_what_cannot_be_read(description, stored, readable, tmp_path, capsys):
    folder = tmp_path / "made" / "1.0.0"
    folder.mkdir(parents=True)
    (folder / "dataset_info.json").write_text(description)
    (one,) = prepared(tmp_path)
    assert (one.file_format, one.readable) == (stored, readable)
    assert main(["datasets", "--data-dir", str(tmp_path), "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["prepared"]
    assert (row["file_format"], row["readable"]) == (stored, readable)
    assert main(["datasets", "--data-dir", str(tmp_path)]) == 0
    line = capsys.readouterr().out.splitlines()[-1]
    assert line.startswith("  made:1.0.0")
    assert ("cannot be read" in line) != readable
