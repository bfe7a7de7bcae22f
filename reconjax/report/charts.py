"""The charts of a page: Vega-Lite specifications over tables of `reconjax.report.curves`.

Vega-Lite because it draws SVG that takes the colors of the page, answers to parameters, is kept,
may be embedded (BSD-3-Clause), and weighs 0.9 MB, where plotly.js weighs 4.5.
All have a parameter K, which the slider of the page sets. Text, axes and grid have the color of the
page's text, so that they can be read in the dark and in print; lines differ by dashes too.
"""

from functools import cache
from typing import Any, NamedTuple

import vl_convert

from reconjax.report.curves import Table

SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
# Distinct for color-blind readers, and on white as on black.
COLORS = ("#2f86c9", "#e07b1f", "#12a37b", "#cc6fa5", "#b8a100", "#8a8a8a", "#7d6bd0", "#c2453d")
GRAY = "#8a8a8a"
DASHES = {"random labels": [2, 3], "reconstruction, no noise": [6, 4], "test samples": [6, 4]}
SOLID = [1, 0]
HEIGHT = 260
# Letters of lines that are called side by side.
SHORT = 16
INK = "currentColor"
AXIS = {
    "labelColor": INK,
    "titleColor": INK,
    "domainColor": INK,
    "tickColor": INK,
    "gridColor": INK,
    "gridOpacity": 0.13,
    "domainOpacity": 0.5,
    "labelFontSize": 12,
    "titleFontSize": 12,
    "titleFontWeight": "normal",
    "labelLimit": 150,
}
CONFIG = {
    "aria": False,
    "background": None,
    "font": "system-ui, sans-serif",
    "view": {"stroke": None},
    "axis": AXIS,
    "legend": {
        "labelColor": INK,
        "labelFontSize": 12,
        "labelLimit": 0,
        "orient": "top",
        "symbolStrokeWidth": 2.5,
        "symbolSize": 350,
        "columnPadding": 18,
        "title": None,
    },
    "text": {"fill": INK, "fontSize": 12},
}
# What the colors of a map show at least, in percentage points.
LEAST = 0.2
GAIN = {"calculate": "100 * datum[measured]", "as": "gain"}


class Chart(NamedTuple):
    """A chart of a page.

    Attributes:
      title: above it.
      alt: what is to be seen, for those who do not see it.
      table: its numbers.
      spec: Vega-Lite; its data are called "rows".
    """

    title: str
    alt: str
    table: Table
    spec: dict[str, Any]

    def opened(self, latent_dim: int) -> dict[str, Any]:
        """The whole specification, opened at a K; without its data, which the page has once."""
        parameters = [{"name": "K", "value": latent_dim}, *self.spec.get("params", [])]
        return {
            "$schema": SCHEMA,
            "width": "container",
            "data": {"name": "rows"},
            "config": CONFIG,
            "description": self.alt,
            **self.spec,
            "params": parameters,
        }


@cache
def library() -> str:
    """The JavaScript of Vega-Lite, Vega and Vega Embed, which makes `window.vegaEmbed`.

    `vl-convert-python` has it, so that nothing is fetched and no copy is kept here.
    """
    code: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    return code.replace("</script", "<\\/script")


def lines_chart(title: str, alt: str, table: Table, y: str) -> Chart:
    """Lines over K with their intervals; those chosen in the legend are shown."""
    names = list(dict.fromkeys(table["line"]))
    known = [value for value in table["share"] if value is not None]
    # Heads that fail on new samples would leave no room for the others.
    top = max([0.01, *known, *(value for value in table["high"] if value is not None)])
    low = max(min([0.0, *known]), -0.1 * top)
    share = {
        "field": "share",
        "type": "quantitative",
        "title": y,
        "axis": {"format": ".0%"},
        "scale": {"domain": [low, top]},
    }
    tooltip = [_shown("line"), _shown("K"), _shown("share", ".2%")]
    tooltip += [_shown(name) for name in ("choice", "p") if name in table]
    layers = _lines(names, share, tooltip, table["K"])
    if any(value is not None for value in table["low"]):
        encoding = {name: layers[0]["encoding"][name] for name in ("x", "color")}
        encoding["y"], encoding["y2"] = {**share, "field": "low"}, {"field": "high"}
        encoding["opacity"] = {"condition": {"param": "shown", "value": 0.18}, "value": 0}
        band = {
            "mark": {"type": "area", "clip": True},
            "transform": [{"filter": "isValid(datum.low)"}],
            "encoding": encoding,
        }
        layers = [band, *layers]
    return Chart(title, alt, table, {"height": HEIGHT, "layer": layers})


def _lines(
    names: list[str], y: dict[str, Any], tooltip: list[dict[str, Any]], dims: list[int]
) -> list[dict[str, Any]]:
    """A line for each of the field "line", values on hover, and where they are at the slider."""
    colors = iter(COLORS)
    tones = [GRAY if name == "random labels" else next(colors) for name in names]
    columns = 2 if max(map(len, names)) <= SHORT else 1
    legend = {"symbolType": "stroke", "symbolOpacity": 1, "columns": columns}
    line = {"field": "line", "type": "nominal", "sort": None, "legend": legend}
    color = {**line, "scale": {"domain": names, "range": tones}}
    dashes = [DASHES.get(name, SOLID) for name in names]
    dash = {**line, "scale": {"domain": names, "range": dashes}}
    ticks = [2**i for i in range(20) if 2**i <= dims[-1]]
    x = {
        "field": "K",
        "type": "quantitative",
        "title": "latent dimension K",
        "scale": {"type": "log", "base": 2, "domain": [min(dims), max(dims)], "nice": False},
        "axis": {"values": ticks, "format": "d", "labelOverlap": "parity", "grid": False},
    }
    select = {"type": "point", "fields": ["line"], "toggle": "true"}

    def if_shown(value: float) -> dict[str, Any]:
        return {"condition": {"param": "shown", "value": value}, "value": 0}

    here = {"transform": [{"filter": "datum.K == K"}]}
    return [
        {
            "params": [{"name": "shown", "select": select, "bind": "legend"}],
            "mark": {"type": "line", "strokeWidth": 2.2, "clip": True},
            "encoding": {
                "x": x, "y": y, "color": color, "strokeDash": dash, "opacity": if_shown(1),
            },
        },
        {
            "mark": {"type": "point", "opacity": 0, "filled": True, "clip": True},
            "encoding": {
                "x": x, "y": y, "size": if_shown(180), "detail": {"field": "line"},
                "tooltip": tooltip,
            },
        },
        {
            "data": {"values": [{}]},
            "transform": [{"calculate": "K", "as": "K"}],
            "mark": {"type": "rule", "color": INK, "opacity": 0.35, "clip": True},
            "encoding": {"x": x},
        },
        {
            **here,
            "mark": {"type": "point", "filled": True, "size": 60, "clip": True},
            "encoding": {
                "x": x, "y": y, "color": color, "opacity": if_shown(1), "tooltip": tooltip,
            },
        },
    ]  # fmt: skip


def _shown(field: str, form: str = "") -> dict[str, Any]:
    """A row of what is shown on hover."""
    kind = {"type": "quantitative", "format": form} if form else {"type": "nominal"}
    return {"field": field, **kind}


def classes_chart(title: str, alt: str, table: Table) -> Chart:
    """A bar a class at the K of the slider, and a mark at what all directions tell."""
    names = list(dict.fromkeys(table["class"]))
    bars = {"y": {"field": "class", "type": "nominal", "sort": names, "title": None}}
    axis = {"type": "quantitative", "axis": {"format": ".0%", "tickCount": 5}}
    axis["title"] = "share of the variance that a linear head explains"
    largest = max(value for value in table["all directions"] if value is not None)
    axis["scale"] = {"domain": [0, largest]}
    tooltip = [
        {"field": "class", "type": "nominal"},
        {"field": "K", "type": "quantitative"},
        {"field": "share", "type": "quantitative", "format": ".2%"},
        {"field": "all directions", "type": "quantitative", "format": ".2%"},
    ]
    layers = [
        {
            "mark": {"type": "bar", "color": COLORS[0]},
            "encoding": {**bars, "x": {**axis, "field": "share"}, "tooltip": tooltip},
        },
        {
            "mark": {"type": "tick", "color": COLORS[1], "thickness": 3, "opacity": 1},
            "encoding": {**bars, "x": {**axis, "field": "all directions"}, "tooltip": tooltip},
        },
    ]
    spec = {"height": 20 * len(names), "transform": [{"filter": "datum.K == K"}], "layer": layers}
    return Chart(title, alt, table, spec)


def map_chart(title: str, alt: str, table: Table) -> Chart:
    """(patch, ratio) at the K of the slider: a gain in color and as a number."""
    # The width of the labels, which Vega takes for less than it is.
    widest = 8 * max(map(len, table["patch"])) + 4
    place = {
        "x": {
            "field": "ratio",
            "type": "ordinal",
            "title": "share of patches dropped",
            "axis": {"format": ".0%", "labelAngle": 0, "domain": False, "ticks": False},
        },
        "y": {
            "field": "patch",
            "type": "ordinal",
            "sort": list(dict.fromkeys(table["patch"])),
            "title": "patch, in pixels",
            "axis": {"domain": False, "ticks": False, "minExtent": widest},
        },
    }
    color = {
        "field": "tone",
        "type": "quantitative",
        "legend": None,
        "scale": {"scheme": "blueorange", "reverse": True, "domain": [-1, 1]},
    }
    tooltip = [_shown("patch"), _shown("ratio", ".0%"), *_gains_shown(table)]
    strong = {"test": "abs(datum.tone) > 0.75", "value": "white"}
    layers: list[dict[str, Any]] = [
        {
            "mark": {"type": "rect", "cornerRadius": 3},
            "encoding": {**place, "color": color, "tooltip": tooltip},
        },
        {
            "transform": [{"filter": "datum.chosen == 1"}],
            # Black and white, to be seen on cells of any color.
            "mark": {"type": "rect", "filled": False, "stroke": "black", "strokeWidth": 3.5},
            "encoding": place,
        },
        {
            "transform": [{"filter": "datum.chosen == 1"}],
            "mark": {"type": "rect", "filled": False, "stroke": "white", "strokeDash": [5, 5]},
            "encoding": place,
        },
        {
            "mark": {"type": "text", "fontSize": 12},
            "encoding": {
                **place,
                "text": {"field": "gain", "type": "quantitative", "format": "+.1f"},
                "color": {"condition": strong, "value": "black"},
                "tooltip": tooltip,
            },
        },
    ]
    tone = [
        {"calculate": "abs(datum.gain)", "as": "size"},
        {"joinaggregate": [{"op": "max", "field": "size", "as": "largest"}]},
        # A change that is rounding is not to look like more.
        {"calculate": f"datum.gain / max(datum.largest, {LEAST})", "as": "tone"},
    ]
    spec = {
        "height": 44 * len(set(table["patch"])),
        "params": [_measured(table)],
        "transform": [{"filter": "datum.K == K"}, GAIN, *tone],
        "layer": layers,
    }
    return Chart(title, alt, table, spec)


def gains_chart(title: str, alt: str, table: Table, patch: str, dims: set[int]) -> Chart:
    """What each ratio gains over K, for the patch that is chosen, at first the one given.

    What is gained at the K of `dims` is all to be seen; the rest may leave the picture.
    """
    table = {**table, "line": [f"{100 * ratio:.3g}% dropped" for ratio in table["ratio"]]}
    names = list(dict.fromkeys(table["line"]))
    gains = [0.0]
    for name in ("training gain", "test gain"):
        columns = zip(table["K"], table.get(name, table["training gain"]), strict=True)
        gains += [value for k, value in columns if k in dims]
    top = max(100 * max(gains), LEAST)
    gain = {
        "field": "gain",
        "type": "quantitative",
        "title": "change, in percentage points",
        "axis": {"format": "+.1f"},
        # What fails on new samples would leave no room for what does not.
        "scale": {"domain": [max(100 * min(gains), -10 * max(top, 0.5)), top]},
    }
    tooltip = [_shown("line"), _shown("patch"), _shown("K"), *_gains_shown(table)]
    spec = {
        "height": HEIGHT,
        "params": [_measured(table), {"name": "patch", "value": patch}],
        "transform": [{"filter": "datum.patch == patch"}, GAIN],
        "layer": _lines(names, gain, tooltip, table["K"]),
    }
    return Chart(title, alt, table, spec)


def trained_chart(title: str, alt: str, table: Table) -> Chart:
    """What was measured of trained networks against the closed form, a point a training."""
    axis = {"type": "quantitative", "axis": {"format": ".0%", "tickCount": 6}}
    axis["scale"] = {"zero": False, "nice": True, "padding": 12}
    tooltip = [_shown(name) for name in ("mask", "epochs")]
    tooltip += [_shown(name, ".2%") for name in ("closed form", "trained", "accuracy")]
    words = [f"{number} epoch{'s' * (number != 1)}" for number in table["epochs"]]
    training = {"field": "training", "type": "nominal", "sort": list(dict.fromkeys(words))}
    encoding = {
        "x": {**axis, "field": "closed form", "title": "closed form, test samples"},
        "y": {**axis, "field": "trained", "title": "trained networks, test samples"},
        "color": {**training, "scale": {"range": list(COLORS)}},
        "shape": training,
        "tooltip": tooltip,
    }
    mark = {"type": "point", "filled": True, "size": 110, "opacity": 0.9}
    spec = {"height": HEIGHT, "mark": mark, "encoding": encoding}
    return Chart(title, alt, {**table, "training": words}, spec)


def _gains_shown(table: Table) -> list[dict[str, Any]]:
    shown = [_shown("training gain", "+.2%")]
    if "test gain" in table:
        shown += [_shown("test gain", "+.2%"), _shown("p", ".3f")]
    return shown


def _measured(table: Table) -> dict[str, Any]:
    """The parameter that says on which samples gains are shown."""
    return {"name": "measured", "value": "test gain" if "test gain" in table else "training gain"}
