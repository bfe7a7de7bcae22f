"""The experiment that compares masks before and after training: its table, and its arithmetic."""

import json

import jax
import numpy as np
import pytest
from scipy.stats import spearmanr

from experiments import table
from experiments.advisor import __main__ as command
from experiments.advisor import cells, predictors, trained, verdict
from experiments.advisor.cells import Mask

SMALL = ["--data", "scenes:samples=400,channels=1", "--nets", "mlp", "--masks", "3", "--seeds", "2"]
SMALL += ["--samples", "300", "--images", "4000"]


def row(seed=0, images=100, **changes):
    values = {"data": "a, b", "net": "vit", "block": 1, "kept": 6, "ratio": 0.9, "length": 100}
    values |= {"loss": 0.1, "r2": 0.2, "accuracy": 0.3, "neighbors": "", "class_r2": "0.1 0.2"}
    return trained.Row(**values | {"seed": seed, "images": images, "device": "cpu"} | changes)


def test_a_table_comes_back_as_it_was(tmp_path):
    rows = [row(seed, images) for seed in (0, 1) for images in (50, 100)]
    for part in (rows[:2], rows[2:3], rows[3:]):
        table.append(tmp_path / "cells.csv", part)
    assert trained.read(tmp_path) == rows
    assert trained.finished(rows, 2) == {rows[0].cell}
    assert trained.finished(rows[:3], 2) == set()


def test_a_line_that_was_cut_short_is_left_out_and_harms_no_other(tmp_path):
    path = tmp_path / "cells.csv"
    table.append(path, [row(0), row(1)])
    path.write_text(path.read_text()[:-20])
    assert trained.read(tmp_path) == [row(0)]
    table.append(path, [row(1), row(2)])
    assert trained.read(tmp_path) == [row(0), row(1), row(2)]


def test_every_mask_hides_the_number_of_blocks_that_it_says():
    assert len(set(cells.MASKS)) == len(cells.MASKS) == 22
    for mask in cells.MASKS:
        noise = mask.noise((cells.SIDE, cells.SIDE, 1))
        assert int(noise.kept) == (mask.kept or mask.blocks)
        assert noise.count == mask.blocks
        assert mask.ratio == pytest.approx(1 - int(noise.kept) / noise.count)


def synthetic(masks, r2, rungs=None):
    r2 = np.asarray(r2, float)
    rungs = np.stack([r2] * len(cells.RUNGS)) if rungs is None else np.asarray(rungs, float)
    classes = np.ones((len(r2), 2))
    return verdict.Measured("a", "mlp", list(masks), r2, 2 * r2, 1 - r2, rungs, classes)


def test_reliability_and_rank_correlation():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 20)).round(1)
    assert verdict.rank_correlation(a, b) == pytest.approx(spearmanr(a, b).statistic)
    assert np.isnan(verdict.rank_correlation(np.ones(3), b[:3]))
    signal = np.arange(12.0)[:, None]
    assert verdict.reliability(signal + np.zeros((12, 4))) == pytest.approx(1)
    noise = [verdict.reliability(rng.normal(size=(12, 4))) for _ in range(300)]
    assert abs(np.mean(noise)) < 0.05
    # Without any difference between masks both variances are estimates of one.
    assert np.mean([verdict.f_ratio(rng.normal(size=(12, 4))) for _ in range(300)]) < 1.3
    assert verdict.f_ratio(signal + 0.1 * rng.normal(size=(12, 4))) > 100
    low, high = verdict.interval(np.arange(12.0), signal + rng.normal(size=(12, 4)))
    assert 0.8 < low <= high <= 1


def test_halving_pays_for_what_is_alive_and_finds_the_best_where_rungs_tell():
    masks = cells.MASKS[1:9]
    r2 = np.array([[k, k] for k in (3, 1, 7, 5, 2, 8, 6, 4)]) / 10
    found = synthetic(masks, r2)
    choice, cost = verdict.halving(found, range(8), 0)
    assert choice == 5
    assert cost == pytest.approx(8 / 16 + 4 / 16 + 2 / 8 + 1 * (1 - 1 / 4))
    # Rungs that tell the opposite make it keep the worst.
    assert verdict.halving(synthetic(masks, r2, np.stack([-r2] * 4)), range(8), 0)[0] == 1
    # One finalist is a choice by the prior alone, at the cost of its training.
    searches = verdict.searches(found, prior=r2.mean(1))
    assert searches[1] == verdict.Search(1.0, 0.0, 0.0)
    assert searches[8] == pytest.approx((1.75, 0, 0))
    alone = verdict.searches(found, None)
    assert alone[1].regret == pytest.approx(np.mean(0.8 - r2), abs=0.05)


def test_pairs_that_share_a_ratio_or_a_block():
    masks = [Mask(1, 16), Mask(2, 4), Mask(4, 1), Mask(1, 32), Mask(1, 0)]
    found = synthetic(masks, [[5, 5], [4, 4], [3, 3], [2, 2], [9, 9]])
    guess = np.array([3.0, 2.0, 2.0, 1.0, 0.0])
    same_ratio = verdict.within(found, guess, lambda mask: mask.ratio)
    assert same_ratio == {"share": pytest.approx(2.5 / 3), "pairs": 3}  # a tie is half of a pair
    assert verdict.within(found, guess, lambda mask: mask.block) == {"share": 1.0, "pairs": 1}


def test_which_mask_for_which_classes_leaves_out_what_is_good_for_all():
    rng = np.random.default_rng(0)
    masks = list(cells.MASKS[:8])
    own = rng.normal(size=(8, 5))
    better, easier = 10 * rng.normal(size=(8, 1)), 10 * rng.normal(size=5)

    def knowing(table):
        texts = [" ".join(f"{value:.6f}" for value in row) for row in table]
        rows = zip(masks, texts, strict=True)
        return [predictors.ClassValue("a", *mask, 64, text) for mask, text in rows]

    found = synthetic(masks, np.ones((8, 2)))._replace(classes=own + better + easier)
    told = verdict.interaction(found, knowing(own - better + 3 * easier))
    assert told["correlation"] == pytest.approx(1, abs=1e-4)
    assert told["p"] < 0.01
    untold = verdict.interaction(found, knowing(rng.normal(size=(8, 5)) + better + easier))
    assert abs(untold["correlation"]) < 0.5
    assert untold["p"] > 0.05
    assert verdict.interaction(found, knowing(own)[:-1]) is None


def test_a_transformer_is_ranked_without_the_networks_that_see_everything():
    masks = [Mask(1, 0), Mask(1, 16), Mask(1, 32), Mask(1, 48)]
    rows = [
        row(seed, images, kept=mask.kept, data="a", r2=r2 + 0.01 * seed, ratio=mask.ratio)
        for mask, r2 in zip(masks, (0.1, 0.4, 0.3, 0.2), strict=True)
        for seed in range(2)
        for images in (6, 12, 25, 50, 100)
    ]
    name = verdict.PRIMARY["vit"]
    values = [
        predictors.Value("a", *mask, name, value)
        for mask, value in zip(masks, (0.9, 0.8, 0.7, 0.6), strict=True)
    ]
    part = verdict.verdict(rows, values)["vit"]["sets"]["a"]
    assert part["predictors"][name]["rank_correlation"] == pytest.approx(1)
    assert part["predictors"][name]["with_no_mask"] == pytest.approx(-0.2)
    assert part["predictors"][name]["choice"] == [1, 16]
    assert sorted(mask["mask"] for mask in part["masks"]) == [list(mask) for mask in masks]


@pytest.fixture(scope="module")
def small():
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="module")
def run(tmp_path_factory, small):
    folder = tmp_path_factory.mktemp("advisor")
    # A fourth of the pixels: as many patches.
    small.setattr(cells, "SIDE", 16)
    small.setattr(cells, "PATCH", 2)
    small.setattr(predictors, "FEATURES", ("identity", "relu:128"))
    with jax.numpy_dtype_promotion("standard"):
        command.main([*SMALL, "--out", str(folder)])
    return folder


def test_all_cells_are_trained_and_reported(run, monkeypatch, capsys):
    folder = run
    rows = trained.read(folder)
    assert len(rows) == 3 * 2 * 5
    assert len(trained.finished(rows, 2)) == 3
    assert {len(r.class_r2.split()) for r in rows if r.last} == {10}
    results = json.loads((folder / "advisor.json").read_text())
    part = results["mlp"]["sets"]["scenes:samples=400,channels=1"]
    assert part["seeds"] == 2
    assert len(part["masks"]) == 3
    assert -1 <= part["interaction"]["correlation"] <= 1
    assert (folder / "mlp.png").stat().st_size > 5000
    # Everything is there: nothing is trained or solved again.
    monkeypatch.setattr(cells, "train", None)
    monkeypatch.setattr(predictors, "closed_forms", None)
    monkeypatch.setattr(predictors, "lifted_forms", None)
    monkeypatch.setattr(predictors, "class_forms", None)
    command.main([*SMALL, "--out", str(folder)])
    assert "rank correlation" in capsys.readouterr().out


def test_closed_forms_are_those_of_the_library_on_samples_that_no_network_saw(run):
    folder = run
    values = predictors.read(folder / "predictors.csv")
    # Masks, K up to the 256 features, and targets and splits, or features and ridges.
    assert len(values) == 3 * 3 * (3 * 2 + 2 * 3)
    networks, other = cells.split_in_three("scenes:samples=400,channels=1", None, 300)
    (x, y), (z, t) = (s.examples(np.arange(len(s))) for s in (other.train, other.test))
    np.testing.assert_array_equal(x, networks.train.examples(np.arange(300))[0])
    seen = {image.tobytes() for image in (*x, *networks.test.examples(np.arange(75))[0])}
    assert not seen & {image.tobytes() for image in z}
    # Classes, weighed by their variances, are all labels.
    share = np.bincount(y, minlength=10) / len(y)
    by_class = predictors.of_classes(command.arguments([*SMALL, "--out", str(folder)]))
    assert len(by_class) == 3 * 2
    for one in by_class:
        r2 = np.array(one.class_r2.split(), float) @ (share * (1 - share))
        name = predictors.name_of("reconstruction", one.latent_dim, held_out=False)
        (whole,) = [v.value for v in values if v[:3] == one[:3] and v.predictor == name]
        assert r2 / np.sum(share * (1 - share)) == pytest.approx(whole, abs=1e-3)
    # PCA and least squares, in NumPy.
    flat, new = (images.reshape(len(images), -1) / 255 for images in (x, z))
    mean = flat.mean(0)
    axes = np.linalg.svd(flat - mean, full_matrices=False)[2][:16].T
    codes = np.c_[np.ones(len(flat)), (flat - mean) @ axes]
    one_hot = np.eye(10)[y]
    head = np.linalg.lstsq(codes, one_hot, rcond=None)[0]
    missed = np.square(np.eye(10)[t] - np.c_[np.ones(len(new)), (new - mean) @ axes] @ head).sum()
    total = np.square(np.eye(10)[t] - one_hot.mean(0)).sum()
    name = predictors.name_of("reconstruction", 16)
    (found,) = [v.value for v in values if v.predictor == name and (v.block, v.kept) == (1, 0)]
    assert found == pytest.approx(1 - missed / total, abs=2e-4)
    # Without a mask a ridge leaves the directions of PCA as they are.
    unmasked = [v for v in values if (v.block, v.kept) == (1, 0) and "K = 16" in v.predictor]
    ridged = [v.value for v in unmasked if v.predictor.startswith("identity")]
    np.testing.assert_allclose(ridged, [found] * 3, atol=2e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--masks", "23"], "23; 1 .. 22"),
        (["--seeds", "1"], "--seeds: 1"),
        (["--images", "3000"], "--images: 3000; at least 4000"),
        (["--samples", "100"], "--samples: 100; at least 250"),
        (["--nets", "linear"], "invalid choice"),
    ],
)
def test_bad_options_are_refused(options, message, tmp_path, capsys):
    with pytest.raises(SystemExit):
        command.main(["--out", str(tmp_path), *options])
    assert message in capsys.readouterr().err
