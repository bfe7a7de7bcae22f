"""The command line, as a user runs it."""

import json
import re

import numpy as np
import pytest

import reconjax
from reconjax.cli.main import main
from reconjax.data import load


def dense_explained(images, labels):
    """1 - loss / tr S by least squares on the leading singular vectors, for every K."""
    x = images.reshape(len(images), -1) / 255
    x = x - x.mean(0)
    y = np.eye(labels.max() + 1)[labels]
    y = y - y.mean(0)
    u, s, _ = np.linalg.svd(x, full_matrices=False)
    u = u[:, s > 1e-10 * s[0]]
    steps = np.sum((u.T @ y) ** 2, axis=1) / np.sum(y**2)
    weights = np.sum((y @ (y.T @ u)) ** 2, axis=0)
    return np.cumsum(steps), np.cumsum(weights) / np.sum(weights)


def test_align_json_is_one_object_that_equals_the_dense_formulas(run, npz):
    path = npz()
    status, out, _ = run("align", path, "--json")
    result = json.loads(out)
    assert status == 0
    assert result["samples"] == 40
    assert result["features"] == 36
    assert result["classes"] == 3
    assert result["latent_dim"] == list(range(1, 37))
    data = np.load(path)
    r2, alignment = dense_explained(data["x_train"], data["y_train"])
    rank = result["rank"]
    assert rank == len(r2)
    np.testing.assert_allclose(result["r2"][:rank], r2, atol=1e-10)
    np.testing.assert_allclose(result["alignment"][:rank], alignment, atol=1e-10)
    assert result["alignment"][rank - 1 :] == pytest.approx([1.0] * (36 - rank + 1))
    np.testing.assert_allclose(result["chance"][:rank], np.arange(1, rank + 1) / rank)
    assert len(result["eigenvalues"]) == 36


def test_fewer_samples_than_features(run, npz):
    """The N-side, which never forms anything of size D x D, says what the D-side says."""
    argv = ["align", npz(), "--json", "--max-samples", "20", "--seed", "3"]
    wide = json.loads(run(*argv)[1])
    assert (wide["samples"], wide["features"], wide["rank"]) == (20, 36, 19)
    assert len(wide["r2"]) == len(wide["eigenvalues"]) == 36
    assert wide["r2"][18:] == pytest.approx([1.0] * 18)
    data = np.load(npz())
    rows = np.sort(np.random.default_rng(3).choice(40, 20, replace=False))
    r2, alignment = dense_explained(data["x_train"][rows], data["y_train"][rows])
    np.testing.assert_allclose(wide["r2"][:19], r2[:19], atol=1e-10)
    np.testing.assert_allclose(wide["alignment"][:19], alignment[:19], atol=1e-10)


def test_align_says_how_sure_it_is(run):
    result = json.loads(run("align", "digits", "--json")[1])
    assert result["folds"] == 19
    for name in ("alignment", "r2"):
        error = np.array(result[f"{name}_standard_error"])
        assert np.all((error[:50] > 1e-4) & (error[:50] < 0.05))
        corrected = np.array(result[f"{name}_corrected"])
        assert np.all(np.abs(corrected - result[name]) < 6 * error + 1e-9)
    # Heads overfit: the population's curve and that of the test split lie below.
    assert result["r2_corrected"][60] < result["r2"][60]
    data = load("digits")
    (x, labels), (test_x, test_labels) = (
        split.examples(np.arange(len(split))) for split in (data.train, data.test)
    )
    x, test_x = (images.reshape(len(images), -1).astype(float) for images in (x, test_x))
    one_hot = np.eye(10)
    y, test_y = (one_hot[c] - one_hot[labels].mean(0) for c in (labels, test_labels))
    x, test_x = x - x.mean(0), test_x - x.mean(0)
    directions = np.linalg.svd(x, full_matrices=False)[2].T
    for k in (1, 8, 40, 61):
        v = directions[:, :k]
        residual = test_x @ v @ np.linalg.lstsq(x @ v, y)[0] - test_y
        expected = 1 - np.sum(residual**2) / np.sum(test_y**2)
        assert result["held_out"][k - 1] == pytest.approx(expected, abs=1e-8)
    bare = json.loads(run("align", "digits", "--json", "--bootstrap", "0")[1])
    assert bare["folds"] == 0
    assert "r2_standard_error" not in bare
    np.testing.assert_allclose(bare["r2"], result["r2"], rtol=0, atol=1e-10)


def test_without_a_test_split_nothing_is_held_out(run, npz):
    rng = np.random.default_rng(0)
    path = npz(x_train=rng.normal(size=(40, 8)), y_train=np.arange(40) % 3)
    out = run("align", path)[1]
    assert "standard error, by halves of 11 folds" in out
    assert "held-out" not in out


def test_align_table_and_files(run, tmp_path):
    status, out, _ = run("align", "digits", "--out", tmp_path / "new" / "folder")
    assert status == 0
    assert "1437 samples, 64 features of rank 61, 10 classes" in out
    assert (tmp_path / "new/folder/align.png").stat().st_size > 10_000
    written = json.loads((tmp_path / "new/folder/align.json").read_text())
    assert written["rank"] == 61


def test_no_files_but_what_is_asked(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run("align")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["align"])
def test_what_does_not_fit_into_memory_is_refused_before_any_work(run, command, monkeypatch):
    def work(*args, **kwargs):
        raise AssertionError("work was done")

    monkeypatch.setattr(reconjax, "moments_from_batches", work)
    status, out, err = run(command, "digits", "--memory", "0.0001")
    assert status == 2
    assert not out
    assert re.search(r"D = 64 features need about \S+ GiB; 0.0001 GiB are there", err)
    assert err.count("\n") == 1


def test_max_samples_and_seed(run):
    def align(*argv):
        return json.loads(run("align", "digits", "--json", "--max-samples", "200", *argv)[1])

    assert align()["samples"] == 200
    assert align("--seed", "1") == align("--seed", "1")
    assert align("--seed", "1")["alignment"] != align("--seed", "2")["alignment"]


def test_balanced_classes_make_eq7_and_its_loss_form_equal(run, npz):
    def align(*argv):
        return json.loads(run("align", npz(), "--json", *argv)[1])["alignment"]

    weight = ["--class-weight", "balanced"]
    assert align(*weight) == pytest.approx(align(*weight, "--convention", "loss"))
    assert align() != pytest.approx(align("--convention", "loss"))
    assert align("--standardize") != pytest.approx(align())


BAD_ARRAYS = {
    "NaN": (lambda x, y: (np.where(np.arange(40)[:, None] == 3, np.nan, x), y), "NaN"),
    "inf": (lambda x, y: (np.where(np.arange(40)[:, None] == 3, np.inf, x), y), "inf"),
    "length": (lambda x, y: (x, y[:-1]), "39"),
    "negative": (lambda x, y: (x, y - 2), "-2"),
    "holes": (lambda x, y: (x, y * np.nan), "no example has a label"),
    "one class": (lambda x, y: (x, 0 * y), "class"),
    "constant": (lambda x, y: (0 * x + 3, y), "vary"),
    "empty": (lambda x, y: (x[:0], y[:0]), "x_train"),
}


@pytest.mark.parametrize("case", BAD_ARRAYS)
def test_bad_arrays_are_refused_in_one_line(run, npz, case):
    make, word = BAD_ARRAYS[case]
    x, y = make(np.random.default_rng(0).normal(size=(40, 8)), np.arange(40) % 3)
    status, out, err = run("align", npz(x_train=x, y_train=y))
    assert status == 2
    assert out == ""
    assert word in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["align", "digits", "--bootstrap", "-1"], ["align: bootstrap: -1", "0, 7, 11, 19"]),
        (
            ["align", "digits", "--bootstrap", "7", "--max-samples", "60"],
            ["align: bootstrap: 7", "fewer samples than features"],
        ),
        (["align", "no-such-set"], ["no-such-set", "digits"]),
        (["align", "digts"], ["did you mean digits?"]),
        (["align", "images.npy"], ["images.npy", "no such file"]),
        (["align", "missing.npz"], ["missing.npz"]),
        (["align", "scenes:wings=2"], ["wings", "size"]),
        (["align", "digits", "--max-samples", "0"], ["0", "at least 1"]),
    ],
)
def test_bad_values_are_refused_in_one_line(run, tmp_path, argv, words):
    status, out, err = run(*argv, "--data-dir", tmp_path)
    assert status == 2
    assert out == ""
    assert all(word in err for word in words), err
    assert err.count("\n") == 1
    assert "Traceback" not in err


@pytest.mark.parametrize("command", ["sweep", "project"])
def test_vectors_where_images_are_needed(run, npz, command):
    x = np.random.default_rng(0).normal(size=(40, 8))
    status, _, err = run(command, npz(x_train=x))
    assert status == 2
    assert "vectors" in err
    assert "images" in err


def test_constant_inputs_with_fewer_samples_than_features(run, npz):
    status, out, err = run("align", npz(x_train=np.zeros((40, 50))))
    assert (status, out) == (2, "")
    assert "vary" in err


@pytest.mark.parametrize("command", ["sweep", "project"])
def test_channels_first_are_asked_about(run, npz, command):
    first = np.random.default_rng(0).uniform(size=(40, 3, 6, 6))
    status, _, err = run(command, npz(x_train=first))
    assert status == 2
    assert "--channels-first" in err


def test_a_damaged_npz(run, npz):
    path = npz()
    path.write_bytes(path.read_bytes()[:200])
    status, _, err = run("align", path)
    assert status == 2
    assert "set.npz" in err


def test_out_that_cannot_be_written_is_refused_before_the_work(run, tmp_path):
    (tmp_path / "file").write_text("")
    for command in ("align", "sweep", "compare", "detect", "project"):
        status, out, err = run(command, "digits", "--out", tmp_path / "file")
        assert status == 2
        assert out == ""
        assert "--out" in err


@pytest.mark.parametrize("command", ["align", "sweep", "compare", "detect", "project", "datasets"])
def test_help_shows_examples(command, capsys):
    assert main([command, "--help"]) == 0
    assert f"reconjax {command}" in capsys.readouterr().out.split("Examples:")[1]
