"""Sequences, volumes and clips through every door, and what must be asked."""

import h5py
import numpy as np
import pytest
from files import refused, whole

from reconjax import studies
from reconjax.cli.main import main
from reconjax.data import Dataset, load
from reconjax.data.layout import shape_text

RNG = np.random.default_rng(0)
Y = np.arange(30) % 3


@pytest.mark.parametrize(
    ("axes", "shape", "example", "text"),
    [
        ("T", (12,), (12, 1, 1), "sequences of length 12, 1 channel"),
        ("TC", (12, 2), (12, 1, 2), "sequences of length 12, 2 channels"),
        ("CT", (2, 12), (12, 1, 2), "sequences of length 12, 2 channels"),
        ("HW", (12, 2), (12, 2, 1), "12 x 2, 1 channel"),
        ("HWC", (2, 6, 6), (2, 6, 6), "2 x 6, 6 channels"),
        ("CHW", (2, 6, 6), (6, 6, 2), "6 x 6, 2 channels"),
        ("DHW", (5, 5, 5), (5, 5, 5, 1), "5 x 5 x 5, 1 channel"),
        ("CDHW", (3, 4, 5, 6), (4, 5, 6, 3), "4 x 5 x 6, 3 channels"),
        ("tchw", (4, 3, 5, 6), (4, 5, 6, 3), "4 x 5 x 6, 3 channels"),
        (None, (4, 5, 6, 3), (4, 5, 6, 3), "4 x 5 x 6, 3 channels"),
        (None, (12,), (12,), "vectors of length 12"),
    ],
)
def test_axes_say_what_an_array_is(tmp_path, axes, shape, example, text):
    x = RNG.normal(size=(30, *shape))
    data = Dataset.from_arrays(x, Y, axes=axes)
    assert data.example_shape == example
    assert shape_text(data.example_shape) == text
    given = whole(data.train)[0]
    if axes == "tchw":
        np.testing.assert_array_equal(given[3, 2, 4, 5], x[3, 2, :, 4, 5])
    if axes in ("CT", "CHW"):
        np.testing.assert_array_equal(given.reshape(30, -1, 2)[4, :, 1], x[4, 1].reshape(-1))
    np.savez(tmp_path / "a.npz", x=x, y=Y)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"], file["y"] = x, Y
    for file in ("a.npz", "a.h5"):
        np.testing.assert_array_equal(whole(load(tmp_path / file, axes=axes).train)[0], given)
    batches = Dataset.from_batches([(x[:20], Y[:20]), (x[20:], Y[20:])], axes=axes)
    np.testing.assert_array_equal(whole(batches.train)[0], given)


@pytest.mark.parametrize(
    ("shape", "parts"),
    [
        (
            (12, 2),
            ["sequences of length 12, 2 channels (--axes TC)", "12 x 2, 1 channel (--axes HW)"],
        ),
        ((3, 40), ["sequences of length 40, 3 channels (--axes CT)", "(--axes HW)?"]),
        (
            (6, 6, 6),
            ["6 x 6 x 6, 1 channel (--axes DHW)", "--channels-first", "--no-chan"],
        ),
        ((7, 6, 6), ["6 x 6, 7 channels (--channels-first", "7 x 6 x 6, 1 channel (--axes DHW)"]),
        ((3, 4, 6, 6), ["4 x 6 x 6, 3 channels (--axes CDHW)"]),
        ((8, 3, 6, 6), ["8 x 6 x 6, 3 channels (--axes DCHW)"]),
    ],
)
def test_what_cannot_be_told_is_asked(tmp_path, shape, parts):
    x = RNG.normal(size=(6, *shape))
    np.savez(tmp_path / "a.npz", x=x, y=Y[:6])
    refused(lambda: load(tmp_path / "a.npz"), *parts)
    np.save(tmp_path / "x.npy", x)
    refused(lambda: load(tmp_path / "x.npy"), *parts)


def test_bad_axes_are_answered_in_a_line():
    x = RNG.normal(size=(6, 4, 5))

    def made(**options):
        return lambda: Dataset.from_arrays(x, Y[:6], **options)

    refused(made(axes="XY"), "axes: 'XY'; a letter for each axis is needed")
    refused(made(axes="CC"), "axes: 'CC'")
    refused(made(axes="C"), "axes: 'C'")
    refused(made(axes="DHWC"), "axes: 'DHWC' names 4 axes; an example of x_train has (4, 5)")
    refused(made(axes="TC", channels_first=False), "given with axes, choose one")
    refused(lambda: Dataset.from_arrays(np.zeros((2, 3, 3, 3, 3, 3))), "say what its axes are")


def test_a_column_of_arrays_takes_axes(tmp_path):
    import datasets

    x = RNG.normal(size=(30, 12, 2))
    features = datasets.Features(
        {"signal": datasets.Array2D((12, 2), "float64"), "label": datasets.Value("int64")}
    )
    table = datasets.Dataset.from_dict({"signal": x, "label": Y}, features=features)
    table.to_parquet(tmp_path / "t.parquet")
    data = load(tmp_path / "t.parquet", axes="TC")
    np.testing.assert_allclose(whole(data.train)[0], x[:, :, None], atol=1e-12)
    refused(lambda: load(tmp_path / "t.parquet"), "--axes TC")


@pytest.mark.parametrize("side", ["features", "samples"])
def test_a_sweep_of_volumes_is_that_of_its_groups_on_both_sides(side):
    x = RNG.normal(size=(30, 2, 4, 4)) + Y[:, None, None, None]
    grid = {"ratios": [0, 0.5], "precision": "float64", "bootstrap": 0, "side": side}
    data = Dataset.from_arrays(x, Y, axes="DHW")
    result = studies.sweep(data, patches=["2x2x2", (1, 4, 4), "*x1x*"], **grid)
    assert result.patch.values.tolist() == ["2x2x2", "1x4x4", "2x1x4"]
    # The same groups in an image: a slice of 4 x 4 is a row of 16.
    rows = Dataset.from_arrays(x.reshape(30, 2, 16), Y, axes="HW")
    same = studies.sweep(rows, patches=["1x16"], **grid)
    np.testing.assert_allclose(result.r2.sel(patch="1x4x4"), same.r2.isel(patch=0), atol=1e-9)


def test_the_commands_take_sequences_and_volumes(tmp_path, capsys):
    signal = RNG.normal(size=(60, 12, 2)) + (np.arange(60) % 3)[:, None, None]
    np.savez(tmp_path / "signal.npz", x_train=signal, y_train=np.arange(60) % 3)
    path = str(tmp_path / "signal.npz")
    assert main(["sweep", path, "--patches", "4", "--ratios", "0", "0.5"]) != 0
    assert "--axes TC" in capsys.readouterr().err
    options = [path, "--axes", "TC", "--bootstrap", "0"]
    assert main(["sweep", *options, "--patches", "4", "3x*", "--ratios", "0", "0.5"]) == 0
    assert "sequences of length 12, 2 channels" in capsys.readouterr().out
    noises = ["mask:0.5:3", "blur:1", "shift:2", "flip", "crop:6x1"]
    flags = [word for noise in noises for word in ("--noise", noise)]
    assert main(["detect", path, "--axes", "TC", *flags]) == 0
    assert "mask:0.5:3" in capsys.readouterr().out


def test_networks_of_images_refuse_volumes_in_a_line(tmp_path, capsys):
    np.savez(tmp_path / "v.npz", x=RNG.normal(size=(30, 2, 4, 4)), y=Y)
    options = [str(tmp_path / "v.npz"), "--axes", "DHW", "--out", str(tmp_path / "run")]
    assert main(["train", *options, "--net", "vit"]) != 0
    error = capsys.readouterr().err.strip()
    assert "this net needs images of (height, width, channels)" in error
    assert main(["project", *options[:3]]) != 0
    assert "needs images" in capsys.readouterr().err
