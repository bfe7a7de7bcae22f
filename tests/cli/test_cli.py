"""The command line, as a user runs it."""

import errno
import json
import re

import numpy as np
import pytest

import reconjax
from reconjax.cli.main import main
from reconjax.data import load


@pytest.fixture
def run(capsys):
    """Runs the command; gives (status, stdout, stderr)."""

    def call(*argv):
        status = main([str(part) for part in argv])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call


@pytest.fixture
def npz(tmp_path):
    """Writes an npz from keywords, starting from 40 6x6 images of 3 unbalanced classes."""

    def write(name="set.npz", **arrays):
        rng = np.random.default_rng(0)
        labels = np.repeat([0, 1, 2], [25, 10, 5])
        images = rng.integers(0, 256, (40, 6, 6, 1)).astype(np.uint8) // (1 + labels)[
            :, None, None, None
        ].astype(np.uint8)
        arrays = {"x_train": images, "y_train": labels, **arrays}
        np.savez(tmp_path / name, **arrays)
        return tmp_path / name

    return write


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
    explained, alignment = dense_explained(data["x_train"], data["y_train"])
    rank = result["rank"]
    assert rank == len(explained)
    np.testing.assert_allclose(result["explained"][:rank], explained, atol=1e-10)
    np.testing.assert_allclose(result["alignment"][:rank], alignment, atol=1e-10)
    assert result["alignment"][rank - 1 :] == pytest.approx([1.0] * (36 - rank + 1))
    np.testing.assert_allclose(result["chance"][:rank], np.arange(1, rank + 1) / rank)
    assert len(result["eigenvalues"]) == 36


def test_fewer_samples_than_features(run, npz):
    """The N-side, which never forms anything of size D x D, says what the D-side says."""
    argv = ["align", npz(), "--json", "--max-samples", "20", "--seed", "3"]
    wide = json.loads(run(*argv)[1])
    assert (wide["samples"], wide["features"], wide["rank"]) == (20, 36, 19)
    assert len(wide["explained"]) == len(wide["eigenvalues"]) == 36
    assert wide["explained"][18:] == pytest.approx([1.0] * 18)
    data = np.load(npz())
    rows = np.sort(np.random.default_rng(3).choice(40, 20, replace=False))
    explained, alignment = dense_explained(data["x_train"][rows], data["y_train"][rows])
    np.testing.assert_allclose(wide["explained"][:19], explained[:19], atol=1e-10)
    np.testing.assert_allclose(wide["alignment"][:19], alignment[:19], atol=1e-10)


def test_align_says_how_sure_it_is(run):
    result = json.loads(run("align", "digits", "--json")[1])
    assert result["folds"] == 19
    for name in ("alignment", "explained"):
        error = np.array(result[f"{name}_standard_error"])
        assert np.all((error[:50] > 1e-4) & (error[:50] < 0.05))
        corrected = np.array(result[f"{name}_corrected"])
        assert np.all(np.abs(corrected - result[name]) < 6 * error + 1e-9)
    # Heads overfit: the population's curve and that of the test split lie below.
    assert result["explained_corrected"][60] < result["explained"][60]
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
    assert "explained_standard_error" not in bare
    np.testing.assert_allclose(bare["explained"], result["explained"], rtol=0, atol=1e-10)


def test_sweep_says_how_sure_it_is(run, tmp_path):
    argv = ["sweep", "digits", "--patches", "4", "--ratios", "0", "0.25", "0.9", "--latent-dims"]
    argv += ["4", "16", "--precision", "float64", "--out", tmp_path, "--bootstrap", "7"]
    status, out, _ = run(*argv)
    assert status == 0
    assert "standard error, by halves of 7 folds" in out
    assert "the 360 samples of the test split" in out
    found = dict(np.load(tmp_path / "sweep.npz"))
    for name in ("explained", "gain"):
        assert found[f"{name}_corrected"].shape == (1, 3, 1, 2)
        assert np.all(found[f"{name}_standard_error"][:, 1:] > 0)
    assert np.all(found["gain_standard_error"][:, 0] == 0)
    assert np.all(found["p_value"][:, 0] == 1)
    assert found["held_out_without"].shape == (1, 2)
    assert np.all((found["p_value"] > 0) & (found["p_value"] <= 1))
    few, many = json.loads(run(*argv, "--json")[1])["best"]
    for row, k in ((few, 0), (many, 1)):
        best = int(np.argmax(found["explained"][0, :, 0, k]))
        for name in ("explained_standard_error", "gain_standard_error", "held_out", "p_value"):
            assert row[name] == pytest.approx(found[name][0, best, 0, k])
        assert row["held_out_without"] == pytest.approx(found["held_out_without"][0, k])
    # A gain on the training data that the test split does not see is not called one.
    assert few["held_out"] < few["held_out_without"]
    assert few["p_value"] > 0.5


def test_without_a_test_split_nothing_is_held_out(run, npz):
    rng = np.random.default_rng(0)
    path = npz(x_train=rng.normal(size=(40, 8)), y_train=np.arange(40) % 3)
    out = run("align", path)[1]
    assert "standard error, by halves of 11 folds" in out
    assert "held-out" not in out
    argv = ["--noise", "pixel", "--ratios", "0", "0.5", "--latent-dims", "2", "--bootstrap", "0"]
    out = run("sweep", path, *argv)[1]
    assert "standard error" not in out
    assert "small gains may be chance" in out
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
    run("sweep", "digits", "--patches", "8", "--ratios", "0.5", "--latent-dims", "4")
    assert list(tmp_path.iterdir()) == []


def test_sweep_writes_the_grid(run, npz, tmp_path):
    status, out, _ = run(
        "sweep", npz(), "--patches", "1", "3x2", "--ratios", "0", "0.5", "0.9",
        "--weights", "0", "1", "inf", "--precision", "float64", "--out", tmp_path / "out", "--json",
    )  # fmt: skip
    assert status == 0
    result = json.loads(out)
    arrays = np.load(tmp_path / "out/sweep.npz")
    np.testing.assert_array_equal(arrays["patch_shape"], [[1, 1], [3, 2]])
    np.testing.assert_array_equal(arrays["mask_ratio"], [0, 0.5, 0.9])
    np.testing.assert_array_equal(arrays["reconstruction_weight"], [0, 1, np.inf])
    np.testing.assert_array_equal(arrays["latent_dim"], np.arange(1, 37))
    for name in ("explained", "supervised_loss", "reconstruction_loss", "alignment"):
        assert arrays[name].shape == (2, 3, 3, 36)
        assert np.all(np.isfinite(arrays[name]))
    # No mask is the same for every patch, and with λ = inf it is what align says.
    np.testing.assert_allclose(arrays["explained"][0, 0], arrays["explained"][1, 0], atol=1e-9)
    _, align, _ = run("align", npz(), "--json")
    explained = json.loads(align)["explained"]
    np.testing.assert_allclose(arrays["explained"][0, 0, 2], explained, atol=1e-9)
    for row in result["best"]:
        column, level = row["latent_dim"] - 1, [0, 1, "inf"].index(row["reconstruction_weight"])
        # The baseline has the same λ: the gain is the mask's alone.
        grid = arrays["explained"][:, :, level, column]
        assert row["explained"] == pytest.approx(grid.max())
        assert row["explained_without"] == pytest.approx(grid[0, 0])
    assert {row["reconstruction_weight"] for row in result["best"]} == {0, 1, "inf"}
    assert (tmp_path / "out/sweep.png").stat().st_size > 10_000
    assert [path.name for path in (tmp_path / "out").iterdir() if path.suffix == ".part"] == []


@pytest.mark.parametrize("noise", ["exact", "pixel", "gaussian"])
def test_sweep_of_the_other_noises(run, noise, tmp_path):
    strength = ["--stds", "0.5"] if noise == "gaussian" else ["--ratios", "0.5"]
    patches = ["--patches", "2"] if noise == "exact" else []
    argv = ["sweep", "digits", "--noise", noise, *strength, *patches, "--precision", "float64"]
    status, out, _ = run(*argv, "--out", tmp_path, "--json")
    assert status == 0
    assert json.loads(out)["noise"] == noise
    arrays = np.load(tmp_path / "sweep.npz")
    assert arrays["explained"].shape == (1, 1, 1, 64)
    if noise == "gaussian":  # Corollary 3.1
        assert arrays["noise_std"] == [0.5]
        _, align, _ = run("align", "digits", "--json")
        explained = json.loads(align)["explained"]
        np.testing.assert_allclose(arrays["explained"][0, 0, 0], explained, atol=1e-9)


def test_the_best_of_a_bad_grid_is_not_called_no_noise(run):
    argv = ["sweep", "digits", "--patches", "2x4", "--ratios", "0.5", "--latent-dims", "1", "61"]
    bad, full = json.loads(run(*argv, "--json")[1])["best"]
    assert bad["gain"] < -0.01 * bad["explained_without"]
    assert bad["at"] == "patch 2x4, ratio 0.5"
    assert full["gain"] == pytest.approx(0, abs=1e-6)
    assert full["at"] == "no noise is as good"


def test_every_precision_says_so_and_how_far_off_it_is(run, tmp_path):
    argv = ["sweep", "digits", "--patches", "2", "--ratios", "0.5", "--json", "--out"]
    explained, error = {}, {}
    for precision in ("float64", "mixed", "float32"):
        result = json.loads(run(*argv, tmp_path / precision, "--precision", precision)[1])
        assert result["precision"] == precision
        with np.load(tmp_path / precision / "sweep.npz") as arrays:
            explained[precision] = arrays["explained"]
            assert result["error"] == pytest.approx(arrays["error"].max())
        error[precision] = result["error"]
    assert json.loads(run(*argv, tmp_path / "default")[1])["precision"] == "mixed"
    assert error["float64"] < 1e-9
    for precision in ("mixed", "float32"):
        assert explained[precision].dtype == np.float32
        off = np.max(np.abs(explained[precision] - explained["float64"]))
        assert off < 4 * error[precision] < 0.05


def test_a_largest_latent_dim_with_its_tolerance(run, tmp_path):
    argv = ["sweep", "scenes:size=8,samples=1000", "--patches", "1", "2"]
    argv += ["--ratios", "0.1", "0.2", "0.3", "0.4", "0.5", "0.6", "0.8", "0.9", "--out"]
    whole = run(*argv, tmp_path / "whole", "--latent-dims", *range(1, 13))
    fast = run(*argv, tmp_path / "fast", "--max-latent-dim", 12, "--tolerance", 0.02)
    full = run(*argv, tmp_path / "full", "--max-latent-dim", 12, "--tolerance", 0)
    assert [found[0] for found in (whole, fast, full)] == [0, 0, 0]
    assert "solved in a subspace: 2 of 2 rays" in fast[1]
    assert "subspace" not in full[1]
    found = {n: dict(np.load(tmp_path / n / "sweep.npz")) for n in ("whole", "fast", "full")}
    assert found["fast"]["latent_dim"].tolist() == list(range(1, 13))
    np.testing.assert_array_equal(found["full"]["explained"], found["whole"]["explained"])
    np.testing.assert_allclose(
        found["fast"]["explained"], found["whole"]["explained"], rtol=0, atol=0.02
    )
    for name in ("held_out", "p_value"):
        assert found["fast"][name].shape == (2, 8, 1, 12)
    np.testing.assert_allclose(
        found["fast"]["held_out"], found["whole"]["held_out"], rtol=0, atol=0.03
    )
    assert found["fast"]["reduced"].all()
    assert not found["full"]["reduced"].any()


@pytest.mark.parametrize("command", ["align", "sweep"])
def test_what_does_not_fit_into_memory_is_refused_before_any_work(run, command, monkeypatch):
    def work(*args, **kwargs):
        raise AssertionError("work was done")

    monkeypatch.setattr(reconjax, "moments_from_batches", work)
    status, out, err = run(command, "digits", "--memory", "0.0001")
    assert status == 2
    assert not out
    assert re.search(r"D = 64 features need about \S+ GiB; 0.0001 GiB are there", err)
    assert err.count("\n") == 1


def test_devices_share_the_grid(run, tmp_path):
    argv = ["sweep", "digits", "--patches", "1", "2", "--ratios", "0.3", "0.9", "--out"]
    precise = ["--precision", "float64", "--devices"]
    for count in (1, 4):
        assert run(*argv, tmp_path / str(count), *precise, count)[0] == 0
    one, four = (dict(np.load(tmp_path / n / "sweep.npz")) for n in ("1", "4"))
    for name, values in one.items():
        np.testing.assert_allclose(four[name], values, rtol=0, atol=1e-10, err_msg=name)
    status, _, err = run(*argv, tmp_path / "3", "--devices", "3")
    assert status == 2
    assert "--devices: 3 cannot share a grid of 2 patch shapes x 2 strengths" in err
    assert "1, 2, 4 can" in err
    assert "--devices: 99; 4 are there" in run(*argv, tmp_path / "99", "--devices", "99")[2]


def test_a_full_disk_is_said_in_a_line_and_loses_nothing(run, tmp_path, monkeypatch):
    argv = ["sweep", "digits", "--patches", "1", "2", "4", "--ratios", "0.5", "--out", tmp_path]
    savez, saved = np.savez, []

    def full_after_two(file, **arrays):
        if len(saved) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        saved.append(file)
        savez(file, **arrays)

    monkeypatch.setattr(np, "savez", full_after_two)
    status, _, err = run(*argv)
    assert status == 2
    assert err.splitlines()[-1].startswith("reconjax sweep: ")
    assert "No space left on device" in err
    assert str(tmp_path) in err
    monkeypatch.setattr(np, "savez", savez)
    status, _, err = run(*argv)
    assert status == 0
    assert "going on: 2 of 3 rays are finished" in err


def test_a_reader_that_fails_is_said_in_a_line(run, tmp_path, monkeypatch):
    def broken(self, batch_size=4096):
        yield self.examples(np.arange(10))
        raise OSError(errno.EIO, "Input/output error", "shard-3")

    monkeypatch.setattr("reconjax.data.split.Split.batches", broken)
    status, _, err = run("sweep", "digits", "--out", tmp_path)
    assert status == 2
    assert "Input/output error" in err
    assert "shard-3" in err
    assert err.count("\n") == 1


def test_noisy_readout_explains_less(run, tmp_path):
    argv = ["sweep", "digits", "--patches", "2", "--ratios", "0.75", "--out"]
    for readout in ("clean", "noisy"):
        assert run(*argv, tmp_path / readout, "--readout", readout)[0] == 0
    clean, noisy = (np.load(tmp_path / r / "sweep.npz")["explained"] for r in ("clean", "noisy"))
    assert np.all(noisy < clean)


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
    "negative": (lambda x, y: (x, y - 1), "-1"),
    "fraction": (lambda x, y: (x, y + 0.5), "whole"),
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
        (["sweep", "digits", "--patches", "3"], ["3x3", "8x8", "divide"]),
        (["sweep", "digits", "--noise", "exact", "--patches", "4"], ["0.9", "4 patches"]),
        (["sweep", "digits", "--latent-dims", "65"], ["65", "64"]),
        (["sweep", "digits", "--latent-dims", "0"], ["0", "64"]),
        (["sweep", "digits", "--batch-size", "0"], ["batch_size"]),
        (["sweep", "digits", "--bootstrap", "12"], ["--bootstrap: 12", "0, 7, 11, 19"]),
        (["align", "digits", "--bootstrap", "-1"], ["--bootstrap: -1", "0, 7, 11, 19"]),
        (
            ["align", "digits", "--bootstrap", "7", "--max-samples", "60"],
            ["--bootstrap: 7", "fewer samples than features"],
        ),
        (["align", "no-such-set"], ["no-such-set", "digits"]),
        (["align", "digts"], ["did you mean digits?"]),
        (["align", "images.npy"], ["images.npy", "np.savez"]),
        (["sweep", "digits", "--stds", "0.1"], ["--stds", "mask"]),
        (["sweep", "digits", "--noise", "gaussian", "--ratios", "0.5"], ["--ratios", "gaussian"]),
        (["sweep", "digits", "--noise", "pixel", "--patches", "2"], ["--patches", "pixel"]),
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


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--ratios", "1"], ["1", "[0, 1)"]),
        (["--ratios", "-0.1"], ["[0, 1)"]),
        (["--ratios", "nan"], ["[0, 1)"]),
        (["--weights", "-1"], ["-1", "[0, inf]"]),
        (["--weights", "nan"], ["[0, inf]"]),
        (["--patches", "two"], ["two", "4x2"]),
    ],
)
def test_bad_options_are_refused_by_the_parser(argv, words, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["sweep", "digits", *argv])
    assert stop.value.code == 2
    message = capsys.readouterr().err
    assert all(word in message for word in words)


def test_vectors_where_images_are_needed(run, npz):
    x = np.random.default_rng(0).normal(size=(40, 8))
    status, _, err = run("sweep", npz(x_train=x))
    assert status == 2
    assert "vectors" in err
    assert "images" in err
    assert run("sweep", npz(x_train=x), "--noise", "pixel")[0] == 0


def test_constant_inputs_with_fewer_samples_than_features(run, npz):
    status, out, err = run("align", npz(x_train=np.zeros((40, 50))))
    assert (status, out) == (2, "")
    assert "vary" in err


def test_channels_first(run, npz):
    first = np.random.default_rng(0).uniform(size=(40, 3, 6, 6))
    status, _, err = run("sweep", npz(x_train=first))
    assert status == 2
    assert "(N, H, W, C)" in err


def test_a_damaged_npz(run, npz):
    path = npz()
    path.write_bytes(path.read_bytes()[:200])
    status, _, err = run("align", path)
    assert status == 2
    assert "set.npz" in err


def test_out_that_cannot_be_written_is_refused_before_the_work(run, tmp_path):
    (tmp_path / "file").write_text("")
    for command in ("align", "sweep"):
        status, out, err = run(command, "digits", "--out", tmp_path / "file")
        assert status == 2
        assert out == ""
        assert "--out" in err


@pytest.mark.parametrize("command", ["align", "sweep"])
def test_help_shows_examples(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    assert f"reconjax {command}" in capsys.readouterr().out.split("examples:")[1]
