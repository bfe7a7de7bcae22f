"""Figures say what they show, and files are whole or absent."""

import numpy as np
import pytest
import scipy.stats
import xarray
from matplotlib.figure import Figure

from reconjax import alignment, moments, spectrum
from reconjax.plots import (
    alignment_figure,
    mask_map_figure,
    projection_figure,
    save,
    sweep_figure,
)
from reconjax.plots.style import apart
from reconjax.storage.files import replacing


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text"))]


def test_alignment_figure_draws_every_curve_with_its_chance_line():
    rng = np.random.default_rng(0)
    curves = {
        name: alignment(spectrum(moments(rng.normal(size=(50, 6)), np.arange(50) % 3)))
        for name in ("first", "second")
    }
    figure = alignment_figure(curves, title="two sets")
    for axes in figure.axes:
        dotted = [line for line in axes.lines if line.get_linestyle() == ":"]
        assert len([line for line in dotted if len(line.get_xdata())]) == 2
    drawn = figure.axes[0].lines[0].get_ydata()
    np.testing.assert_allclose(drawn, np.asarray(curves["first"].alignment))
    assert {"first", "second", "chance", "two sets"} <= set(texts(figure))


def swept(curves, base, **more):
    """A result of a sweep with r2 (P, R, L, Kn), r2 without noise (L, Kn), and more like r2."""
    dims = ("patch", "ratio", "weight", "latent_dim")
    variables = {"r2": (dims, curves), "r2_without": (dims[2:], base)}
    variables |= {name: (dims[-values.ndim :], values) for name, values in more.items()}
    coordinates = {
        "patch": [f"{n}x{n}" for n in range(1, curves.shape[0] + 1)],
        "ratio": np.arange(curves.shape[1]) / 10,
        "weight": [np.inf, 0.5][: curves.shape[2]],
        "latent_dim": np.arange(1, curves.shape[3] + 1),
    }
    attributes = {"study": "sweep", "data": "some", "noise": "mask", "folds": 7}
    return xarray.Dataset(variables, coordinates, attributes)


def test_sweep_figure_has_one_panel_a_ray_and_one_line_a_strength():
    curves = np.ones((3, 4, 1, 10)) * np.arange(1, 5)[None, :, None, None]
    figure = sweep_figure(swept(curves, np.ones((1, 10))), relative=True)
    assert len(figure.axes) == 3
    for axes in figure.axes:
        changes = [line.get_ydata()[0] for line in axes.lines if len(line.get_xdata()) == 10]
        assert changes == [0, 1, 2, 3]  # relative to the baseline
    assert {"patch 1x1", "patch 3x3", "0.3", "some: mask noise against none"} <= set(texts(figure))


def test_sweep_figure_has_a_column_a_weight_and_needs_no_patches():
    curves = np.arange(12.0).reshape(1, 3, 2, 2)
    result = swept(curves, np.zeros((2, 2)))
    figure = sweep_figure(result.sel(patch="1x1").rename(ratio="std"))
    assert [axes.get_title("left") for axes in figure.axes] == [
        "mask noise, λ = inf",
        "mask noise, λ = 0.5",
    ]
    for level, axes in enumerate(figure.axes):
        drawn = [line.get_ydata() for line in axes.lines if len(line.get_xdata()) == 2]
        np.testing.assert_array_equal(drawn[-3:], curves[0, :, level])
    assert "noise std" in texts(figure)
    with pytest.raises(ValueError, match="quantity: 'chance'; curves of a sweep"):
        sweep_figure(result, quantity="chance")


def test_sweep_figure_of_differences_shows_every_k_and_no_rounding():
    base = np.linspace(1e-6, 0.5, 200)
    curves = base + np.array([1e-12, 0.1])[:, None, None, None, None]
    for relative, first in ((True, 3), (False, 1)):
        figure = sweep_figure(swept(curves[1], base[None]), relative=relative)
        line = next(line for line in figure.axes[0].lines if len(line.get_xdata()) > 2)
        assert line.get_xdata()[0] == first
        shown = base[first - 1 :]
        expected = 0.1 / shown if relative else np.full_like(shown, 0.1)
        np.testing.assert_allclose(line.get_ydata(), expected)
    low, high = sweep_figure(swept(curves[0], base[None])).axes[0].get_ylim()
    assert low <= -1e-3 < 1e-3 <= high


def dashed(axes):
    return [line.get_ydata() for line in axes.lines if line.get_linestyle() == "--"]


def test_intervals_are_bands_and_what_is_held_out_is_dashed():
    rng = np.random.default_rng(0)
    curve = alignment(spectrum(moments(rng.normal(size=(50, 6)), np.arange(50) % 3)))
    low, high = np.asarray(curve.r2) - 0.1, np.asarray(curve.r2) + 0.2
    figure = alignment_figure(
        {"data": curve},
        bands={"data": {"r2": (low, high)}},
        held_out={"data": low},
    )
    by_dim, _, r2 = figure.axes
    (band,) = r2.collections
    drawn = band.get_paths()[0].vertices
    assert {*np.round(low, 9), *np.round(high, 9)} <= {*np.round(drawn[:, 1], 9)}
    np.testing.assert_allclose(dashed(r2)[0], low)
    assert {"held-out", "90 % interval, bias corrected", "chance"} <= set(texts(figure))
    assert all(len(path.vertices) == 0 for c in by_dim.collections for path in c.get_paths())
    assert {"held-out", "90 % interval, bias corrected"} & set(
        texts(alignment_figure({"data": curve}))
    ) == set()


def test_intervals_and_what_is_held_out_in_a_sweep():
    changes = np.random.default_rng(0).uniform(-0.1, 0.1, size=(2, 3, 1, 10))
    result = swept(
        1 + changes,
        np.ones((1, 10)),
        gain_corrected=changes,
        gain_standard_error=np.full(changes.shape, 0.01),
        held_out=3 + changes / 2,
        held_out_without=np.full((1, 10), 3.0),
    )
    figure = sweep_figure(result)
    reach = 0.01 * scipy.stats.t.ppf(0.95, 6)
    for axes, of_row in zip(figure.axes, changes, strict=True):
        best = of_row[np.argmax(of_row.max(axis=(1, 2))), 0]
        (band,) = [path for c in axes.collections for path in c.get_paths() if len(path.vertices)]
        ends = {*np.round(best - reach, 9), *np.round(best + reach, 9)}
        assert ends <= {*np.round(band.vertices[:, 1], 9)}
        (held_out,) = [values for values in dashed(axes) if len(values)]
        np.testing.assert_allclose(held_out, best / 2)
    assert {"held-out", "90 % interval, bias corrected"} <= set(texts(figure))
    relative = sweep_figure(result, relative=True)
    for axes, of_row in zip(relative.axes, changes, strict=True):
        (held_out,) = [values for values in dashed(axes) if len(values)]
        np.testing.assert_allclose(held_out, of_row[np.argmax(of_row.max(axis=(1, 2))), 0] / 6)
    assert "90 % interval, bias corrected" not in texts(relative)


def test_the_map_frames_what_training_prefers_and_shows_what_is_new():
    r2 = np.zeros((2, 3, 1, 4))
    r2[1, 2, 0, 1] = 0.02  # patch 2x2, ratio 0.2, K = 2: chosen
    held_out = np.zeros((2, 3, 1, 4))
    held_out[1, 2, 0, 1] = -0.0123
    result = swept(r2, np.zeros((1, 4)), held_out=held_out, held_out_without=np.zeros((1, 4)))
    first, second = mask_map_figure(result, latent_dims=[1, 2]).axes
    assert [len(axes.patches) for axes in (first, second)] == [0, 1]  # no gain, no frame
    (frame,) = second.patches
    assert frame.get_xy() == (1.5, 0.5)
    np.testing.assert_allclose(second.images[0].get_array(), held_out[:, :, 0, 1])
    assert second.texts[5].get_text() == "-12"
    alone = mask_map_figure(result[["r2", "r2_without"]], latent_dims=[2]).axes[0]
    assert alone.texts[5].get_text() == "+20"
    with pytest.raises(ValueError, match=r"latent_dims: 9; the result has 1 \.\. 4"):
        mask_map_figure(result, latent_dims=[9])
    with pytest.raises(ValueError, match="patch is needed"):
        mask_map_figure(result.sel(patch="1x1"))


@pytest.mark.parametrize("wanted", [[0.5, 0.5, 0.5], [1, 0.99, 0.98], [0.1, 0, 0.02], [0.9, 0.1]])
def test_labels_at_ends_keep_their_order_and_do_not_touch(wanted):
    places = apart(np.array(wanted, float), 0.1)
    gaps = np.diff(places[np.argsort(wanted, kind="stable")])
    assert (gaps > 0.1 - 1e-9).all()
    assert places.min() > -1e-9
    assert places.max() < 1 + 1e-9
    np.testing.assert_array_equal(apart(np.array([0.2, 0.7]), 0.1), [0.2, 0.7])


@pytest.mark.parametrize("channels", [1, 3])
def test_projection_figure_and_save(tmp_path, channels):
    images = np.random.default_rng(0).uniform(size=(2, 5, 5, channels))
    figure = projection_figure(
        images, images, images - 0.5, rows=("o", "t", "b"), names=["x", "y"], title="title"
    )
    save(figure, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
    assert {"o", "t", "b", "x", "y", "title"} <= set(texts(figure))


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    target = tmp_path / "result.txt"
    target.write_text("old")

    def stopped_half_way():
        with replacing(target) as part:
            part.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        stopped_half_way()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]
    with replacing(target) as part:
        part.write_text("new")
    assert target.read_text() == "new"
