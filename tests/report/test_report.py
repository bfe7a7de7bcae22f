"""The page of a report: what is in it, where its numbers come from, and what it refuses."""

import html
import json
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest
import vl_convert
import xarray
from stripes import GRID, small

import reconjax
from reconjax import studies
from reconjax.cli.main import main
from reconjax.report import gathering
from reconjax.report.dims import MOST, nearest, shown_dims
from reconjax.report.words import noise_words, percent, points

VOID = {"meta", "link", "input", "br", "image"}


class Page(HTMLParser):
    """Tags in their order, checked to be closed as they were opened, and the text of scripts."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.scripts = [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag == "script":
            self.scripts.append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts[-1] += data

    def attributes(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def text(made):
    return (made / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(text):
    return Page(text)


@pytest.fixture(scope="module")
def charts(page):
    return json.loads(page.scripts[0])


def test_it_has_every_part_and_needs_no_network(text, page):
    sections = [section["id"] for section in page.attributes("section")]
    assert sections == [
        "short", "data", "alignment", "subspaces", "masks", "objectives", "never", "advice",
        "settings",
    ]  # fmt: skip
    for tag, name in (("script", "src"), ("link", "href"), ("img", "src"), ("image", "href")):
        for attributes in page.attributes(tag):
            assert attributes.get(name, "data:").startswith("data:")
    policy = next(m["content"] for m in page.attributes("meta") if "http-equiv" in m)
    assert policy.startswith("default-src 'none'")
    assert len(text.encode()) < 2_000_000
    assert "University of Washington" in text  # the license of what is embedded
    assert all(figure["aria-label"] for figure in page.attributes("div") if "role" in figure)


def test_names_of_classes_are_text_and_never_markup(text, page):
    assert "<b>bold" not in text
    assert html.escape("</script><b>bold") in text
    assert [tag for tag, _ in page.tags].count("script") == 3


def test_its_sentences_have_the_numbers_of_the_studies(made, text, page):
    curves, grid = studies.open(made / "align.nc"), studies.open(made / "sweep.nc")
    opening = page.attributes("input")[0]
    dims = json.loads(page.scripts[0])["dims"]
    k = dims[int(opening["value"])]
    assert k == 64
    at, sentences = curves.sel(latent_dim=k), html.unescape(text)
    assert f"At K = {k}, alignment is {percent(float(at.alignment))};" in sentences
    assert f"and {percent(float(at.held_out))} on the 80 test samples." in sentences
    best = studies.best(grid, [k]).squeeze()
    name = noise_words(f"mask:{best.ratio.item():g}:{best.patch.item()}")
    if best.ratio.item() > 0:
        assert f"At K = {k}, the best of 4 masks on the training samples is: {name}." in sentences
        assert f"by {points(float(best.gain))} on the training samples" in sentences
    first = studies.recipes(studies.open(made / "objectives.nc"), k)[0]
    assert percent(first.held_out, 2) in sentences


def test_every_number_of_the_map_is_that_of_the_sweep(made, charts):
    grid = studies.open(made / "sweep.nc").sel(weight=np.inf)
    table = charts["charts"]["mask-map"]["table"]
    assert set(table["ratio"]) == {0.5, 0.9}
    names = ("K", "patch", "ratio", "training gain", "test gain", "p")
    columns = [table[name] for name in names]
    for k, patch, ratio, training, tested, p in zip(*columns, strict=True):
        at = {"latent_dim": k, "patch": patch, "ratio": ratio}
        there = grid.sel(at)
        held_out = float(there.held_out - there.held_out_without)
        found = [float(there.gain), held_out, float(there.p_value)]
        np.testing.assert_allclose([training, tested, p], found, atol=1e-6)
    assert len(table["K"]) == 4 * len(charts["dims"])
    chosen = [k for k, one in zip(table["K"], table["chosen"], strict=True) if one]
    assert set(chosen) <= set(charts["dims"])


def test_every_chart_compiles_and_every_figure_has_numbers(page, charts):
    figures = {figure["id"] for figure in page.attributes("figure")}
    assert figures == {*charts["charts"], *charts["pictures"]}
    assert figures >= {"alignment-curve", "by-class", "mask-map", "objectives", "masked-images"}
    for chart in charts["charts"].values():
        assert vl_convert.vegalite_to_vega(json.dumps(chart["spec"]))["marks"]
        assert [p["value"] for p in chart["spec"]["params"] if p["name"] == "K"] == [64]
    for table in [c["table"] for c in charts["charts"].values()] + [*charts["pictures"].values()]:
        assert len({len(column) for column in table.values()}) == 1
        assert len(next(iter(table.values()))) > 0


def test_it_is_taken_up_and_made_to_the_same_bytes(made, text, monkeypatch, capsys):
    for name in ("align", "sweep", "objectives", "detect", "project"):
        monkeypatch.setattr(studies, name, lambda *_, **__: pytest.fail("made again"))
    options = {**GRID, "progress": True}
    path = reconjax.report.write(small(), out=made, **options)
    assert path.read_text(encoding="utf-8") == text
    assert capsys.readouterr().err.count("taken up from") == 5


def test_killed_and_started_again_it_makes_what_is_missing(made, text, tmp_path, monkeypatch):
    def killed(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(studies, "objectives", killed)
    for name in ("align.nc", "project.nc", "sweep.nc"):
        shutil.copy(made / name, tmp_path)
    with pytest.raises(KeyboardInterrupt):
        reconjax.report.write(small(), out=tmp_path, **GRID)
    assert not (tmp_path / "report.html").exists()
    monkeypatch.undo()
    monkeypatch.setattr(studies, "sweep", lambda *_, **__: pytest.fail("made again"))
    shutil.copy(made / "objectives.nc", tmp_path)
    path = reconjax.report.write(small(), out=tmp_path, **GRID)
    # All but when the certificates were made, and how long that took.
    same = [
        re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC|>[\d.]+<", "", t) for t in (text, path.read_text())
    ]
    assert same[0] == same[1]


@pytest.mark.parametrize(
    ("data", "options", "line"),
    [
        (dict(name="other"), {}, "align.nc: of stripes, not other; choose another --out"),
        (dict(shape=(12, 8, 1)), {}, "examples of shape (12, 12, 1), not (12, 8, 1)"),
        (dict(count=190), {}, "align.nc: of 200 samples, not 190"),
        ({}, {"seed": 3}, "another seed, None and not 3"),
        ({}, {"patches": [2]}, "sweep.nc: has patch ['2x2', '4x4'] and not ['2x2']"),
        ({}, {"ratios": [0.25]}, "has ratio [0.0, 0.5, 0.9] and not [0.25]"),
        ({}, {"latent_dim": 23}, "objectives.nc: has no K = 23"),
        ({}, {"latent_dim": 199}, "latent_dim: 199"),
        ({}, {"latent_dim": 2.5}, "latent_dim: 2.5; a whole number"),
        ({}, {"patches": ["a"]}, "patches: 'a'"),
    ],
)
def test_a_folder_of_something_else_is_refused_in_a_line(made, data, options, line):
    before = {path.name: path.stat().st_mtime_ns for path in made.iterdir()}
    with pytest.raises(ValueError) as error:
        reconjax.report.write(small(**data), out=made, **{**GRID, **options})
    assert line in str(error.value)
    assert "\n" not in str(error.value)
    assert {path.name: path.stat().st_mtime_ns for path in made.iterdir()} == before


@pytest.mark.parametrize(
    ("attribute", "value", "line"),
    [
        ("reconjax", "0.0.7", "align.nc: of reconjax 0.0.7, and this is"),
        ("format", 0, "wrote it in another form (format 0"),
        ("study", "sweep", "align.nc: of the study sweep; one of align is needed"),
    ],
)
def test_a_study_of_another_version_is_refused(made, tmp_path, attribute, value, line):
    with xarray.open_dataset(made / "align.nc", engine="h5netcdf") as stored:
        stored.load().assign_attrs({attribute: value}).to_netcdf(
            tmp_path / "align.nc", engine="h5netcdf"
        )
    with pytest.raises(ValueError, match=re.escape(line)):
        reconjax.report.write(small(), out=tmp_path, **GRID)


@pytest.mark.parametrize(
    ("settings", "weight", "line"),
    [
        ({"noise": "gaussian"}, np.inf, "a sweep of noise gaussian"),
        ({"objective": "joint-embedding"}, np.inf, "a sweep of joint-embedding"),
        ({"target": "whitened:0.5"}, np.inf, "a sweep of whitened:0.5"),
        ({"readout": "noisy"}, np.inf, "a sweep of the noisy read-out"),
        ({"weights": ["1.0"]}, 1.0, "a sweep of weights 1.0"),
    ],
)
def test_a_sweep_that_answers_another_question_is_kept(made, tmp_path, settings, weight, line):
    result = studies.open(made / "sweep.nc")
    result.attrs["settings"] = json.dumps({**json.loads(result.attrs["settings"]), **settings})
    result.assign_coords(weight=[weight]).to_netcdf(tmp_path / "sweep.nc", engine="h5netcdf")
    with pytest.raises(ValueError, match=line):
        reconjax.report.write(small(), out=tmp_path, **GRID)
    assert [path.name for path in tmp_path.iterdir()] == ["sweep.nc"]


@pytest.mark.slow
def test_fewer_samples_than_features_are_reported_by_samples(tmp_path):
    # And there is no test split.
    data = small(30, 9, (8, 8, 1))
    data = reconjax.data.Dataset.from_arrays(*data.train.examples(np.arange(30)), name="few")
    path = reconjax.report.write(data, out=tmp_path, **{**GRID, "ratios": [0, 0.5]})
    text = html.unescape(path.read_text())
    assert "6 more samples, 20% of each class, are held out for one." in text
    assert "only new samples count. On the test samples" in text
    for name in ("sweep", "objectives", "detect"):
        assert studies.open(tmp_path / f"{name}.nc").attrs["side"] == "samples"
    assert "left out" not in text


@pytest.mark.slow
def test_vectors_with_real_targets_have_a_page_without_pictures(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 12))
    y = x[:, :2] + 0.1 * rng.normal(size=(200, 2))
    data = reconjax.data.Dataset.from_arrays(x, y, name="table")
    path = reconjax.report.write(data, out=tmp_path, ratios=[0, 0.5], progress=False)
    page = Page(path.read_text())
    figures = {figure["id"] for figure in page.attributes("figure")}
    assert "examples" not in figures
    assert {"mask-map", "objectives", "by-class"} <= figures
    assert "the examples are vectors, of which there are no pictures" in path.read_text()


def test_the_command_says_last_where_the_page_is(made, tmp_path, capsys):
    data = small()
    (x, y), (x_test, y_test) = (
        split.examples(np.arange(len(split))) for split in (data.train, data.test)
    )
    arrays = {"x_train": x, "y_train": y, "x_test": x_test, "y_test": y_test}
    np.savez(tmp_path / "stripes.npz", **arrays, class_names=data.class_names)
    out = tmp_path / "out"
    shutil.copytree(made, out)
    assert main(["report", str(tmp_path / "stripes.npz"), "--out", str(out)]) == 0
    captured = capsys.readouterr()
    assert captured.out.splitlines()[-1] == f"wrote {out / 'report.html'}"
    assert captured.err.count("taken up from") == 5
    assert main(["report", "digits", "--out", str(out)]) == 2
    err = capsys.readouterr().err
    assert (
        err
        == f"reconjax report: {out / 'align.nc'}: of stripes, not digits; choose another --out\n"
    )


def test_finalists_that_are_there_are_shown(made, tmp_path):
    for name in ("align.nc", "project.nc", "sweep.nc", "objectives.nc", "detect.nc"):
        shutil.copy(made / name, tmp_path)
    (tmp_path / "finalists").mkdir()
    about = studies.open(made / "align.nc").attrs
    attributes = {
        **{n: about[n] for n in ("data", "example_shape", "settings", "reconjax", "format")},
        **{"created": about["created"], "seconds": 1.0, "device": about["device"]},
        **{"study": "finalists", "chosen": "exact:0.75:2x2", "latent_dim": 32, "without": 0.4},
    }
    found = xarray.Dataset(
        {
            "predicted": ("noise", [0.5, 0.45]),
            "r2": (("noise", "round"), [[0.61, np.nan], [0.62, 0.64]]),
            "accuracy": (("noise", "round"), [[0.7, np.nan], [0.71, 0.72]]),
            "epochs": ("round", [5, 10]),
        },
        {"noise": ["exact:0.5:2x2", "exact:0.75:2x2"], "round": [0, 1]},
        attributes,
    )
    found.to_netcdf(tmp_path / "finalists" / "finalists.nc", engine="h5netcdf")
    page = reconjax.report.write(small(), out=tmp_path, **GRID).read_text()
    text = html.unescape(page)
    assert "lets a linear head explain 64.0% of the variance" in text
    assert "(accuracy 72.0%); the closed form has 45.0% for this mask, and 40.0% for PCA." in text
    table = json.loads(Page(page).scripts[0])["charts"]["trained"]["table"]
    assert table["trained"] == [0.61, 0.62, 0.64]
    assert table["epochs"] == [5, 5, 10]


def test_of_many_k_some_are_shown_with_the_first_and_the_last():
    attributes = {"rank": 700}
    dims = {"latent_dim": np.arange(1, 785)}
    sweep = xarray.Dataset(coords=dims)
    results = gathering.Results(
        None, {}, {"align": xarray.Dataset(attrs=attributes), "sweep": sweep}, {}
    )
    shown = shown_dims(results)
    assert shown == sorted(set(shown))
    assert len(shown) <= MOST
    assert {1, 2, 16, 64, 512, 700} <= set(shown)
    assert max(shown) == 700
    assert nearest(shown, 40) <= 40 < nearest(shown, 90)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("mask:0.75:4x4", "4 × 4 patches, 75% dropped"),
        ("mask:0.5:1x1", "single pixels, 50% dropped"),
        ("exact:0.75:4x2", "4 × 2 patches, exactly 75% dropped"),
        ("mask:0.5:4x4:partial", "4 × 4 patches, 50% dropped"),
        ("mask:0:2x2", "no mask"),
        ("", "no mask"),
        ("pixel:0.9", "single values, 90% dropped"),
        ("gaussian:0.5", "Gaussian noise of standard deviation 0.5"),
        ("blur:1", "blur:1"),
        ("mask:0.5:2x2:fill=0", "mask:0.5:2x2:fill=0"),
        ("mask:0.5:2x2 whitened:0.75", "2 × 2 patches, 50% dropped, predicting pixels whitened by"
         " a power of 0.75"),
    ],
)  # fmt: skip
def test_noises_have_words(text, words):
    assert noise_words(text) == words


def test_numbers_have_no_sign_of_zero():
    assert percent(-0.00001) == "0.0%"
    assert points(-0.0000001) == "+0.00 percentage points"
