"""Figures say what they show, and files are whole or absent."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from reconjax import alignment, moments, spectrum
from reconjax.files import replacing
from reconjax.plots import alignment_figure, projection_figure, save, sweep_figure


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


def test_sweep_figure_has_one_panel_a_ray_and_one_line_a_strength():
    dims = np.arange(1, 11)
    curves = np.ones((3, 4, 1, 10)) * np.arange(1, 5)[None, :, None, None]
    figure = sweep_figure(
        dims, curves, np.ones((1, 10)), rows=["a", "b", "c"], lines=["1", "2", "3", "4"]
    )
    assert len(figure.axes) == 3
    for axes in figure.axes:
        changes = [line.get_ydata()[0] for line in axes.lines if len(line.get_xdata()) == 10]
        assert changes == [0, 1, 2, 3]  # relative to the baseline


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
