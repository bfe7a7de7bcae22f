"""Every command on images of 1, 2, 3, 4 and 12 channels and on 12 samples, and its head line."""

import json

import numpy as np
import pytest

from reconjax.cli.main import main


def images(channels, samples=12, shape=(4, 4)):
    """8-bit images whose classes differ by brightness."""
    rng = np.random.default_rng(channels)
    labels = np.arange(samples) % 3
    made = rng.integers(0, 200, (samples, *shape, channels)) + 15 * labels[:, None, None, None]
    return made.astype(np.uint8), labels


@pytest.fixture
def run(run):
    """Runs a command that must succeed; what it prints."""

    def call(*argv):
        status, out, err = run(*argv)
        assert status == 0, err
        return out

    return call


@pytest.fixture
def fails(capsys):
    """Runs a command that must fail in one line; that line."""

    def call(*argv):
        assert main([str(part) for part in argv]) == 2
        err = capsys.readouterr().err
        assert len(err.splitlines()) == 1
        return err

    return call


@pytest.mark.slow
@pytest.mark.parametrize(
    "channels", [12, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 2, 3, 4))]
)
def test_every_command_takes_any_channels_of_12_samples(channels, tmp_path, run, capsys):
    x, y = images(channels)
    path, out = tmp_path / "few.npz", tmp_path / "out"
    np.savez(path, x_train=x, y_train=y)
    shape = f"; 4 x 4, {channels} channel" + "s" * (channels > 1)
    assert shape in run("align", path)
    assert shape in run("sweep", path, "--out", out / "s", "--latent-dims", 1, 2, "--ratios", 0.5)
    assert shape in run("detect", path, "--latent-dim", 1, 2, "--noise", "mask:0.5:3x3:partial")
    assert shape in run("compare", path, "--families", "mask:0.5:2x2", "--latent-dim", 2)
    assert shape in run("project", path, "--out", out / "p", "--images", 3)
    argv = ("--net", "linear", "--latent-dim", 2, "--epochs", 1, "--noise", "mask:0.5:3x3:partial")
    text = run("train", path, *argv, "--out", out / "t")
    assert shape in text
    assert " 1 steps of 12," in text
    assert ("channels 0, 6, 11 of 12" in text) == (channels == 12)
    for picture in ("s/sweep.png", "p/project.png", "t/history.png", "t/reconstructions.png"):
        assert (out / picture).stat().st_size > 1000
    text = run("probe", out / "t")
    assert shape in text
    assert "neighbors" in text


def test_the_same_command_refuses_what_was_asked_for_and_does_not_fit(tmp_path, run, fails):
    x, y = images(1)
    path, out = tmp_path / "few.npz", tmp_path / "out"
    np.savez(path, x_train=x, y_train=y)
    assert "batch_size: 13; 1 .. 12" in fails("train", path, "--batch-size", 13, "--epochs", 1)
    run("train", path, "--net", "linear", "--latent-dim", 2, "--epochs", 1, "--out", out)
    assert "knn: 20; 1 .. 11 with 12 training samples" in fails("probe", out, "--knn", 20)


@pytest.mark.slow
def test_series_of_channels_have_default_patches(tmp_path, run):
    x, y = images(3, 24, (1, 8))
    path = tmp_path / "series.npz"
    np.savez(path, x_train=x, y_train=y)
    found = json.loads(run("sweep", path, "--latent-dims", 2, "--ratios", 0.5, "--json"))
    assert found["patch_shape"] == [[1, 1], [1, 2], [1, 4]]
    found = json.loads(run("compare", path, "--families", "mask", "--latent-dim", 2, "--json"))
    assert {place["family"] for place in found["ranking"]} == {"mask 1x1", "mask 1x2"}
    assert "mask:0.75:1x4" in run("detect", path, "--latent-dim", 2)


@pytest.mark.slow
def test_patches_that_divide_nothing_are_partial_and_it_is_said(tmp_path, run):
    x, y = images(1, 24, (5, 7))
    path = tmp_path / "odd.npz"
    np.savez(path, x_train=x, y_train=y)
    text = run("sweep", path, "--latent-dims", 2, "--ratios", 0.5)
    assert "patches of 2x2, 4x4 do not divide the images: those at the edges are partial" in text
    assert "mask 2x2 partial" in run("compare", path, "--families", "mask", "--latent-dim", 2)
    text = run("detect", path, "--latent-dim", 2)
    assert "mask:0.75:1x1 " in text
    assert "mask:0.75:4x4:partial" in text


def masked_share(x, y, patch, ratio, dims):
    """Theorem 3 with G = M + τB by NumPy: the clean read-out's share for each K of `dims`."""
    count, height, width, channels = x.shape
    groups = np.add.outer(width * (np.arange(height) // patch), np.arange(width) // patch)
    groups = groups.reshape(-1).repeat(channels)
    x = x.reshape(count, -1) - x.reshape(count, -1).mean(0)
    y = np.eye(y.max() + 1)[y]
    y = y - y.mean(0)
    m = x.T @ x / count
    g = m + ratio / (1 - ratio) * np.where(groups[:, None] == groups, m, 0)
    values, vectors = np.linalg.eigh(g)
    kept = values > 1e-10 * values[-1]
    whiten = vectors[:, kept] / np.sqrt(values[kept])
    order = np.linalg.eigh(whiten.T @ m @ m @ whiten)[1][:, ::-1]
    shares = []
    for k in dims:
        codes = x @ whiten @ order[:, :k]
        fit = codes @ np.linalg.lstsq(codes, y, rcond=None)[0]
        shares.append(np.sum(fit**2) / np.sum(y**2))
    return shares


def test_channels_first_is_asked_about_and_taken_alike_by_all_commands(tmp_path, run, fails):
    rng = np.random.default_rng(0)
    y = np.arange(300) % 3
    x = (
        rng.standard_normal((300, 4, 4, 6)) @ rng.standard_normal((6, 6))
        + 0.2 * y[:, None, None, None]
    )
    path, out = tmp_path / "bands.npz", tmp_path / "out"
    first = np.ascontiguousarray(x.transpose(0, 3, 1, 2))
    np.savez(path, x_train=first[:, :, :, :], y_train=y)
    assert first.shape[1:] == (6, 4, 4)
    # Four columns may well be channels: nothing is asked, and the head line says so.
    assert "; 6 x 4, 4 channels" in run("align", path, "--bootstrap", 0)
    options = ("--patches", 2, "--ratios", 0.5, "--latent-dims", 2, 8, "--bootstrap", 0)
    argv = ("sweep", path, "--channels-first", *options, "--precision", "float64", "--json")
    found = json.loads(run(*argv))
    assert found["example_shape"] == [4, 4, 6]
    right = masked_share(x, y, 2, 0.5, [2, 8])
    np.testing.assert_allclose([row["r2"] for row in found["best"]], right, atol=1e-7)

    wide = np.ascontiguousarray(rng.random((24, 12, 5, 5)))
    np.savez(path, x_train=wide, y_train=np.arange(24) % 2)
    for command in ("align", "sweep", "detect", "compare", "project", "train"):
        line = fails(command, path, "--out", out)
        assert (
            "x_train has shape (24, 12, 5, 5): is it 5 x 5, 12 channels (--channels-first" in line
        )
        assert "12 x 5, 5 channels (--no-channels-first" in line
    assert "; 5 x 5, 12 channels" in run("align", path, "--channels-first")
    assert "; 12 x 5, 5 channels" in run("align", path, "--no-channels-first")
    argv = ("--net", "linear", "--latent-dim", 2, "--epochs", 1, "--channels-first")
    run("train", path, *argv, "--out", out)
    assert "; 5 x 5, 12 channels" in run("probe", out)  # as the run took them


def test_one_image_of_one_row_is_taken_alike_by_all_commands(tmp_path, run, fails):
    rng = np.random.default_rng(0)
    path = tmp_path / "row.npz"
    np.savez(path, x_train=rng.random((12, 1, 6, 6)), y_train=np.arange(12) % 2)
    for command in ("align", "sweep", "detect", "compare", "project", "train"):
        assert "--channels-first" in fails(command, path)
    sweep = ("sweep", path, "--latent-dims", 2, "--ratios", 0.5)
    assert "; 6 x 6, 1 channel\n" in run(*sweep, "--channels-first")
    assert "; 1 x 6, 6 channels" in run(*sweep, "--no-channels-first")


@pytest.mark.slow
def test_the_head_line_says_what_targets_were_taken_for(tmp_path, run, fails, capsys):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((500, 5))
    y = (60 + 10 * x[:, 0]).astype(int)
    path = tmp_path / "many.npz"
    np.savez(path, x_train=x, y_train=y)
    centered, target = x - x.mean(0), y - y.mean()
    fit = centered @ np.linalg.lstsq(centered, target, rcond=None)[0]
    right = np.sum(fit**2) / np.sum(target**2)

    assert main(["align", str(path), "--bootstrap", "0"]) == 0
    out, err = capsys.readouterr()
    assert f", {len(np.unique(y))} classes; vectors of length 5" in out
    assert err.count("\n") == 1
    assert "warning: y_train: integers taken for class numbers" in err
    assert "--targets real" in err
    for argv in ((path, "--targets", "real"), (tmp_path / "floats.npz",)):
        np.savez(tmp_path / "floats.npz", x_train=x, y_train=y[:, None].astype(float))
        assert ", 1 real target; " in run("align", *argv, "--bootstrap", 0)
        found = json.loads(run("align", *argv, "--json", "--bootstrap", 0))
        assert found["targets"] == "1 real target"
        assert found["r2"][4] == pytest.approx(right, abs=1e-9)
    real = (path, "--targets", "real")
    found = json.loads(run("sweep", *real, "--noise", "gaussian", "--latent-dims", 5, "--json"))
    assert found["best"][0]["r2_without"] == pytest.approx(right, abs=1e-4)
    assert "1 real target" in run("compare", *real, "--families", "gaussian", "--latent-dim", 2)
    out = tmp_path / "run"
    argv = ("--net", "linear", "--latent-dim", 2, "--epochs", 1, "--out", out)
    assert "1 real target" in run("train", *real, *argv)
    assert "has 1 real target; a probe needs classes" in fails("probe", out)
    assert "has 1 real target, not classes" in fails("train", *real, "--net", "mlp-classifier")
    assert "guided needs classes" in fails("train", *real, "--guidance-weight", 1)
    assert "many has 1 real target" in fails("align", *real, "--class-weight", "balanced")


def test_labels_of_one_column_are_the_classes_of_a_file(tmp_path, run):
    x, y = images(1, 24)
    for name, labels in (("row", y), ("column", y[:, None])):
        np.savez(tmp_path / f"{name}.npz", x_train=x, y_train=labels)
    row, column = (
        json.loads(run("align", tmp_path / f"{name}.npz", "--json")) for name in ("row", "column")
    )
    assert column["classes"] == 3
    assert column["r2"] == row["r2"]


def test_pictures_have_the_range_of_the_data():
    from reconjax.plots.pictures import display_range, shown_channels

    assert display_range(np.array([0.0, 0.5])) == (0, 1)
    assert display_range(np.array([-1.0, 3.0])) == (-1, 3)
    assert display_range(np.array([40.0, 11_517.0])) == (40, 11_517)
    assert display_range(np.array([7.0, 7.0])) == (7, 8)
    assert [shown_channels(c) for c in (1, 2, 3, 4, 12)] == [
        None, [0, 1], None, [0, 2, 3], [0, 6, 11],
    ]  # fmt: skip
