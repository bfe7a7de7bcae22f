"""Which objective: the choices of the study against single sweeps, its result, its refusals."""

import json

import numpy as np
import pytest

import reconjax
from reconjax import studies
from reconjax.plots import objectives_figure
from reconjax.studies.objective_choice import EMBEDDING, NOISE, TARGET

GRID = {"patches": [2, 4], "ratios": [0.0, 0.5, 0.75], "precision": "float64"}
DIMS = [4, 16]


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    out = tmp_path_factory.mktemp("objectives")
    return studies.objectives(
        "digits", target=["whitened:0.75"], latent_dims=DIMS, out=out, **GRID
    ), out


def test_each_family_has_the_points_of_its_sweeps(result):
    result, _ = result
    family = result.family.values
    assert [int(np.sum(family == name)) for name in (NOISE, TARGET, EMBEDDING)] == [6, 12, 4]
    moments = reconjax.moments(*reconjax.data.digits().train.examples(np.arange(1437)))
    noise = reconjax.noise.patch_mask(0.75, 4, (8, 8, 1))
    for name, target in (
        ("mask:0.75:4x4", None),
        ("mask:0.75:4x4 whitened:0.75", reconjax.theory.targets.whitened(0.75)),
    ):
        curve = reconjax.solve(reconjax.problem(moments, noise, target)).r2[np.array(DIMS) - 1]
        points = np.flatnonzero(result.noise.values == name)
        points = points[family[points] != EMBEDDING]
        assert len(points)
        for point in points:
            np.testing.assert_allclose(result.r2.values[point], curve, atol=1e-9)
    embedded = reconjax.theory.targets.joint_embedding()
    curve = reconjax.solve(reconjax.problem(moments, noise, embedded)).r2[np.array(DIMS) - 1]
    point = np.flatnonzero((result.noise.values == "mask:0.75:4x4") & (family == EMBEDDING))
    np.testing.assert_allclose(result.r2.values[point[0]], curve, atol=1e-9)


def test_the_best_on_the_training_split_are_ranked_by_what_they_gain(result):
    result, _ = result
    places = studies.ranking(result)
    assert {place.family for place in places} == {NOISE, TARGET, EMBEDDING}
    for place in places:
        mine = (result.family == place.family).values
        at = result.isel(point=mine).sel(latent_dim=place.latent_dim)
        assert place.r2 == pytest.approx(float(at.r2.max()), abs=1e-9)
        held_out = float(result.held_out_without.sel(latent_dim=place.latent_dim))
        assert place.gain == pytest.approx(place.held_out - held_out, abs=1e-9)
        assert 0 < place.p_value <= 1


def test_it_is_written_and_opened_again(result):
    result, out = result
    again = studies.open(out / "objectives.nc")
    np.testing.assert_array_equal(again.r2, result.r2)
    assert again.attrs["study"] == "objectives"
    assert [path.name for path in out.iterdir()] == ["objectives.nc"]


def test_it_goes_on_where_it_was_killed(result, tmp_path, monkeypatch, capsys):
    from reconjax.studies import rays

    solved, calls = rays.sweep_targets, []

    def killed(*args, **options):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return solved(*args, **options)

    options = {"target": ["whitened:0.75"], "latent_dims": DIMS, "out": tmp_path, **GRID}
    monkeypatch.setattr(rays, "sweep_targets", killed)
    with pytest.raises(KeyboardInterrupt):
        studies.objectives("digits", **options)
    again = studies.objectives("digits", **options)
    assert len(calls) == 3  # one for each patch shape, and the one that was killed
    assert "going on: 1 of 2 rays" in capsys.readouterr().err
    for name in ("r2", "held_out", "p_value"):
        np.testing.assert_array_equal(again[name], result[0][name])


def test_its_picture_has_a_line_for_each_choice(result):
    axes, gains = objectives_figure(result[0]).axes
    labels = [line.get_label() for line in axes.lines]
    assert labels[:4] == ["reconstruction, no noise", NOISE, TARGET, EMBEDDING]
    assert len(gains.lines) == 4


@pytest.mark.slow
def test_by_samples_the_same_choices_come_out():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(90, 8, 8, 2)), np.arange(90) % 3
    x[:, :4] += y[:, None, None, None]
    data = reconjax.data.Dataset.from_arrays(x[:60], y[:60], x[60:], y[60:])
    grid = {**GRID, "target": ["highpass:1"], "latent_dims": [2, 8]}
    sides = [studies.objectives(data, side=side, **grid) for side in ("features", "samples")]
    assert [one.attrs["side"] for one in sides] == ["features", "samples"]
    for name in ("r2", "held_out", "agreement"):
        np.testing.assert_allclose(sides[1][name], sides[0][name], atol=1e-7)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"target": []}, "target: \\[\\]; at least one"),
        ({"target": ["edges"]}, "target: 'edges'; known are"),
        ({"ratios": [0.0]}, "ratios: only 0; two views are the same"),
        ({"latent_dims": [100]}, "latent_dim"),
    ],
)
def test_what_cannot_be_compared_is_refused(options, why):
    quick = {"patches": [4], "ratios": [0.5], "latent_dims": [2], "precision": "float32"}
    with pytest.raises(ValueError, match=why):
        studies.objectives("digits", **{**quick, **options})


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"objective": "contrastive"}, "objective: 'contrastive'; one of"),
        ({"objective": "joint-embedding", "target": "whitened:1"}, "joint embedding predicts none"),
        ({"target": "whitened:2"}, "in \\[0, 1\\]"),
    ],
)
def test_sweep_refuses_what_it_does_not_know(options, why):
    with pytest.raises(ValueError, match=why):
        studies.sweep("digits", **options)


def test_the_command_prints_and_writes(tmp_path, capsys):
    from reconjax.cli.main import main

    options = ["--patches", "4", "--ratios", "0.5", "--target", "whitened:0.5"]
    options += ["--latent-dims", "8", "--precision", "float32", "--out", str(tmp_path)]
    assert main(["objectives", "digits", *options]) == 0
    printed = capsys.readouterr().out
    assert "joint embedding" in printed
    assert "best noise and target" in printed
    written = json.loads((tmp_path / "objectives.json").read_text())
    assert len(written["ranking"]) == 3
    assert (tmp_path / "objectives.png").stat().st_size > 5000


def test_families_can_be_compared_by_what_they_embed():
    """Under isotropic noise joint embedding is PCA; under flips it is that of symmetric images."""
    options = {"families": ["gaussian:0.5", "flip:0.5"], "latent_dims": [4, 16]}
    result = studies.compare("digits", objective="joint-embedding", **options)
    np.testing.assert_allclose(result.r2[0], result.r2_without, atol=1e-9)
    moments = reconjax.moments(*reconjax.data.digits().train.examples(np.arange(1437)))
    flip = reconjax.noise.parse_noise("flip:0.5", (8, 8, 1))
    embedded = reconjax.theory.targets.joint_embedding()
    curve = reconjax.solve(reconjax.problem(moments, flip, embedded)).r2[np.array([3, 15])]
    np.testing.assert_allclose(result.r2[1], curve, atol=1e-9)
    assert result.attrs["objective"] == "joint-embedding"
