import json

import jax
import numpy as np
import pytest

import reconjax
from experiments import guidance, networks, perception, report, spectral_learning
from reconjax.data import digits

MODULES = (pytest.param(perception, marks=pytest.mark.slow), spectral_learning, guidance)


class Results(dict):
    """What each experiment has measured, made when it is asked for."""

    def of(self, module, folder):
        if module.NAME not in self:
            self[module.NAME] = run(module, folder)
        return self[module.NAME]


def run(module, folder, *more):
    with jax.numpy_dtype_promotion("standard"):  # as on the command line
        module.main(["--preset", "smoke", "--out", str(folder), *more])
    return json.loads((folder / f"{module.NAME}.json").read_text())


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return tmp_path_factory.mktemp("runs"), Results()


@pytest.mark.parametrize("module", MODULES)
def test_finished_parts_are_not_made_again_and_there_is_a_picture(module, runs, monkeypatch):
    folder, results = runs
    before = results.of(module, folder)["parts"]

    def refuse(*args, **kwargs):
        raise AssertionError("measured again")

    monkeypatch.setattr(module, "measure", refuse)
    monkeypatch.setattr(module, "picture", lambda *args: None)
    monkeypatch.setattr(report, "picture", lambda *args: None)
    assert run(module, folder)["parts"] == before
    assert (folder / f"{module.NAME}.png").stat().st_size > 5000


def test_another_seed_is_refused_in_one_line(runs, capsys):
    runs[1].of(guidance, runs[0])
    with pytest.raises(SystemExit) as error:
        run(guidance, runs[0], "--seed", "7")
    assert error.value.code == 2
    assert capsys.readouterr().err.strip().splitlines() == [
        f"{runs[0] / 'guidance.json'}: made with another seed; choose another --out"
    ]


@pytest.mark.parametrize("module", MODULES)
def test_data_that_are_not_there_are_one_line(module, tmp_path, capsys):
    argv = ("--data", "nothing", "--data-dir", str(tmp_path))
    with pytest.raises(SystemExit) as error:
        run(module, tmp_path, *argv)
    assert error.value.code == 2
    assert len([line for line in capsys.readouterr().err.splitlines() if "nothing" in line]) == 1


@pytest.mark.slow
def test_perception_has_every_arm_and_pairs_them(runs):
    results = runs[1].of(perception, runs[0])
    preset = perception.PRESETS["smoke"]
    arms = sum(len(perception.arms(variant)) for variant in preset["variants"])
    assert len(results["parts"]) == arms * preset["seeds"] == 14
    for rows in results["summary"]["digits"].values():
        for share, row in rows["shares"].items():
            assert row["variance"] >= float(share)
            pairs = np.subtract(row["bottom"]["values"], row["top"]["values"])
            np.testing.assert_allclose(row["difference"]["values"], pairs, atol=1e-4)
    plain = results["summary"]["digits"]["mlp-classifier, cross-entropy"]
    # Ten classes: a net that sees all of the digits learns something.
    assert plain["all"]["mean"] > 0.4


class Options:
    """What a command line gives."""

    preset, seed, data_dir = "smoke", 0, None


@pytest.fixture(scope="module")
def images():
    return perception.Images(Options, perception.PRESETS["smoke"])


def pixels(split):
    return np.asarray(split.examples(np.arange(len(split)))[0], float)


def test_both_sides_of_a_share_add_up_to_all_of_the_images(images):
    top, bottom, everything = (
        images.projected("digits", False, perception.Arm(share, side), 0)
        for share, side in ((0.9, "top"), (0.9, "bottom"), (1.0, "top"))
    )
    spectrum = reconjax.spectrum(
        reconjax.moments_from_batches(digits().train.batches(), num_classes=10)
    )
    assert top[1]["directions"] + bottom[1]["directions"] == int(spectrum.rank)
    assert top[1]["variance"] + bottom[1]["variance"] == pytest.approx(1)
    for split in ("train", "test"):
        parts = [pixels(getattr(data, split)) for data, _ in (top, bottom, everything)]
        assert parts[0].shape[1:] == (8, 8, 1)
        np.testing.assert_allclose(parts[0] + parts[1], parts[2], atol=1e-5)
    # The sides are orthogonal, and the mean and the directions are those of the training split.
    flat = [pixels(data.test).reshape(-1, 64) for data, _ in (top, bottom)]
    vectors = np.asarray(spectrum.eigenvectors)
    count = top[1]["directions"]
    assert abs(flat[0] @ vectors[:, count:]).max() < 1e-5
    assert abs(flat[1] @ vectors[:, :count]).max() < 1e-5


def test_rescaled_images_have_deviation_one_before_and_after(images):
    data, _ = images.projected("digits", True, perception.Arm(0.9, "bottom"), 0)
    np.testing.assert_allclose(pixels(data.test).std((1, 2, 3)), 1, rtol=1e-3)
    doubled = perception.rescale(3 * pixels(digits().test)[:5])
    np.testing.assert_allclose(doubled, perception.rescale(pixels(digits().test)[:5]), rtol=1e-5)


def test_the_order_of_learning_is_told_from_the_residuals(runs):
    results = runs[1].of(spectral_learning, runs[0])
    for part in results["parts"].values():
        steps, residual = part["steps"], np.asarray(part["residual"])
        assert residual.shape == (len(steps), len(part["first"])) == np.shape(part["energy"])
        assert part["first"][0] == 1
        assert steps[0] == 0
        assert all(np.diff(steps) > 0)
        # The first group is one direction, and the first octave as well.
        below = np.flatnonzero(residual[:, 0] < 0.5)
        assert part["octaves"][0] == (steps[below[0]] if len(below) else "inf")
        # No net of the same latent size reconstructs more than PCA after so few steps.
        assert part["pixels"][-1] < part["pca"]["pixels"][0] < 1
        assert -1 <= part["rank_correlation"] < 0  # from the top down
    row = results["summary"]["digits: mlp"]
    assert row["top"]["mean"] <= float(row["bottom"]["mean"])
    assert row["rank_correlation_by_group"]["mean"] < -0.5


def test_a_direction_counts_by_its_variance_and_by_its_labels():
    def tracked(residual):
        return spectral_learning.Tracked(
            np.array([3.0, 1.0]), 1 - np.array(residual), np.array(residual), np.int32(5)
        )

    history = [tracked([1.0, 1.3]), tracked([0.2, 1.0]), tracked([0.0, 0.25])]
    shares = spectral_learning.curves(history, [0, 1, 10], np.array([0.1, 0.3]))
    assert shares["pixels"] == pytest.approx([0, 0.6, 0.9375])
    assert shares["labels"] == pytest.approx([0, 0.2, 0.8125])
    assert (shares["half_of_pixels"], shares["half_of_labels"]) == (1, 10)
    assert spectral_learning.crossing(np.array([0.1, 0.2]), [0, 1]) == np.inf


def test_labels_drawn_at_random_have_no_share_beyond_chance():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 12)) * np.arange(1, 13)
    totals = []
    for _ in range(60):
        spectrum = reconjax.spectrum(reconjax.moments(x, rng.integers(0, 3, 60), num_classes=3))
        shares = spectral_learning.label_shares(spectrum)
        totals.append([shares[:6].sum(), shares[6:].sum(), float(np.sum(spectrum.labels**2))])
    top, bottom, r2 = np.transpose(totals)
    for part in (top, bottom):
        assert abs(part.mean()) < 4 * part.std() / np.sqrt(len(part))
    assert r2.mean() > 10 * abs(top.mean() + bottom.mean())


def test_groups_are_ranked_by_their_mean_residual():
    part = {"eigenvalue": [4, 2, 1], "residual": [[1, 1, 1.5], [0.2, 0.5, 1], [0, 0.1, 0.9]]}
    assert spectral_learning.by_group(part) == pytest.approx(-1)
    part["residual"] = [[1, 1, 1], [0.9, 0.5, 0.1]]
    assert spectral_learning.by_group(part) == pytest.approx(1)


def test_a_pair_of_equal_weights_is_equal(runs, monkeypatch):
    monkeypatch.setattr(guidance, "WEIGHTS", (0.0, 0.01))
    preset = guidance.PRESETS["smoke"]
    part = runs[1].of(guidance, runs[0])["parts"]["digits: K = 8: seed 0"]
    monkeypatch.setattr(guidance, "WEIGHTS", (0.0, 0.0))
    data = networks.sample(digits(), preset["samples"], preset["tested"], 0)
    with jax.numpy_dtype_promotion("standard"):
        pair, measured = guidance.measure(preset, data, 8, 0)
    leaves = [jax.tree.leaves(guidance.nnx.state(trained.model)) for trained in pair]
    assert all(bool((a == b).all()) for a, b in zip(*leaves, strict=True))
    assert measured["weights"]["0"]["linear"] == part["weights"]["0"]["linear"]
    assert measured["matched"]["linear"][0] == measured["matched"]["linear"][1]
    assert part["weights"]["0.01"]["test_loss"] != part["weights"]["0"]["test_loss"]
    assert part["weights"]["0"]["nonlinear"] > 0.2


def test_accuracies_are_read_off_at_a_loss():
    curve = {"test_loss": [4.0, 2.0, 1.0], "linear": [0.1, 0.3, 0.4]}
    assert guidance.read_off(curve, 2.0) == pytest.approx(0.3)
    assert guidance.read_off(curve, np.sqrt(2.0)) == pytest.approx(0.35)
    assert guidance.read_off(curve, 1.0) == pytest.approx(0.4)
    assert guidance.read_off(curve, 9.0) == pytest.approx(0.1)  # it was never as large


def test_means_have_errors_and_differences_signs():
    statistics = networks.mean([1.0, 2.0, 3.0])
    assert (statistics["mean"], statistics["error"]) == (2.0, pytest.approx(1 / np.sqrt(3)))
    assert np.isnan(networks.mean([1.0])["error"])
    assert networks.difference([3.0, 3.1, 3.2], [1.0, 1.2, 1.1])["sign"] == 1
    assert networks.difference([1.0, 3.0], [2.0, 1.0])["sign"] == 0
    assert networks.difference([np.inf, 1.0], [np.inf, 2.0])["sign"] == 0
    assert networks.log_steps(100, 3) == [0, 1, 10, 100]
