"""`reconjax train`, as a user runs it."""

import dataclasses
import functools
import itertools
import json
from typing import get_args, get_type_hints

import numpy as np
import pytest

from reconjax import nets, training
from reconjax.cli import train
from reconjax.cli.main import main
from reconjax.data import load
from reconjax.nets import named
from reconjax.noise import parse_noise
from reconjax.theory import targets
from reconjax.training import objectives
from reconjax.training.probes import report

QUICK = ["--net", "linear", "--latent-dim", "4", "--epochs", "2", "--max-samples", "400"]


@pytest.fixture
def run(run):
    """Runs the command; gives (status, stdout, stderr)."""
    return functools.partial(run, "train")


def test_the_help_names_what_there_is():
    options = get_type_hints(train.TrainOptions)
    assert get_args(options["net"]) == nets.NAMES
    losses = (*objectives.LOSSES, *training.EMBEDDING_LOSSES)
    assert get_args(get_args(options["loss"])[0]) == losses
    assert get_args(get_args(get_args(options["augment"])[0])[0]) == training.AUGMENTATIONS


def test_a_table_and_no_files_but_what_is_asked(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, out, _ = run("digits", *QUICK)
    assert status == 0
    lines = out.splitlines()
    assert lines[0] == "digits: 400 samples, 64 features, 10 classes; 8 x 8, 1 channel"
    assert lines[1].startswith("linear, 580 parameters; reconstruction, 6 steps of 128, ")
    assert lines[2].split() == ["loss"]
    assert [line.split()[0] for line in lines[3:]] == ["train", "test"]
    assert list(tmp_path.iterdir()) == []


def test_guided_and_noisy_with_files_and_again(run, tmp_path):
    argv = ["digits", *QUICK, "--noise", "mask:0.5:2x2", "--guidance-weight", "0.1", "--json"]
    status, out, _ = run(*argv, "--out", tmp_path)
    assert status == 0
    result = json.loads(out)
    assert result["objective"] == "guided"
    assert result["noise"] == "mask:0.5:2x2"
    assert result["steps"] == 6
    for split in ("train", "test"):
        assert set(result[split]) == {"loss", "reconstruction", "supervised", "accuracy"}
        found = result[split]["reconstruction"] + 0.1 * result[split]["supervised"]
        assert result[split]["loss"] == pytest.approx(found, rel=1e-5)
    assert json.loads((tmp_path / "train.json").read_text()) == result
    for name in ("history.png", "reconstructions.png"):
        assert (tmp_path / name).stat().st_size > 5000
    rows = (tmp_path / "metrics.jsonl").read_text()
    # Once more: nothing is trained again, and the network is there to be loaded.
    status, out, _ = run(*argv, "--out", tmp_path)
    assert (status, json.loads(out)) == (0, result)
    assert (tmp_path / "metrics.jsonl").read_text() == rows
    trained = training.load(tmp_path)
    assert trained.model.encode(np.zeros((2, 8, 8, 1), np.float32)).shape == (2, 4)
    assert trained.head(np.zeros((2, 4), np.float32)).shape == (2, 10)
    assert json.loads((tmp_path / "settings.json").read_text())["source"] == "digits"
    # Other settings are refused.
    others = {"2": "3", "mask:0.5:2x2": "gaussian:1", "0.1": "1"}
    changed = [others.get(word, word) for word in argv]
    status, _, err = run(*changed, "--out", tmp_path)
    assert status == 2
    assert err == (
        f"reconjax train: --out {tmp_path}: holds a run with another epochs, guidance_weight,"
        " noise, objective; go on with that one, or choose another --out\n"
    )


def test_a_classifier_in_bfloat16_with_augmentation(run, tmp_path):
    status, out, _ = run(
        "digits", "--max-samples", "400", "--net", "mlp-classifier", "--epochs", "2",
        "--bfloat16", "--augment", "crop", "flip", "--loss", "mse", "--json", "--out", tmp_path,
    )  # fmt: skip
    assert status == 0
    result = json.loads(out)
    assert result["objective"] == "classification"
    assert result["net"] == {"name": "mlp-classifier", "dtype": "bfloat16"}
    assert set(result["test"]) == {"loss", "accuracy"}
    assert not (tmp_path / "reconstructions.png").exists()
    assert training.load(tmp_path).model.dtype == "bfloat16"


@pytest.mark.slow
def test_a_masked_autoencoder_is_trained_and_probed(run, tmp_path, capsys, monkeypatch):
    sizes = {"width": 32, "depth": 1, "heads": 2, "decoder_width": 16}
    monkeypatch.setitem(named._MASKED_AUTOENCODERS, "vit", (nets.MaskedAutoencoder, sizes))
    monkeypatch.setattr(report, "_probes", lambda *_: {"linear, ridge": training.ridge_probe})
    status, out, _ = run(
        "digits", "--max-samples", "300", "--net", "vit", "--epochs", "1", "--batch-size", "100",
        "--target", "patch-centered:2x2", "--loss-on", "all", "--json", "--out", tmp_path,
    )  # fmt: skip
    assert status == 0
    result = json.loads(out)
    assert result["net"] == {"name": "vit", "patch_shape": [2, 2]}
    assert (result["objective"], result["noise"]) == ("masked", "exact:0.75:2x2")
    settings = json.loads((tmp_path / "settings.json").read_text())
    assert settings["objective"]["target"] == "patch-centered:2x2"
    assert settings["objective"]["loss_on"] == "all"
    assert (tmp_path / "reconstructions.png").exists()
    argv = ["probe", tmp_path, "--max-samples", "300", "--knn", "1", "--readout", "class", "--json"]
    assert main([str(part) for part in argv]) == 0
    table = json.loads(capsys.readouterr().out)
    kinds = ["vit", "closed form, K = 32", "PCA, 32 directions"]
    assert (table["size"], list(table["ridge_paths"])) == (32, kinds)
    # The probe read the class token.
    trained = training.load(tmp_path)
    trained.model.readout = "class"
    digits = load("digits")
    part = dataclasses.replace(digits, train=digits.train.sample(300, 0))
    codes = training.feature_set(trained.model, part, trained.inputs)
    splits = (split.examples(np.arange(len(split))) for split in (codes.train, codes.test))
    right = training.ridge_probe(*itertools.chain(*splits)).test.accuracy
    np.testing.assert_allclose(table["ridge_paths"]["vit"]["test"], right, atol=0.01)


def test_two_views_are_embedded_and_probed(run, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(report, "_probes", lambda *_: {"linear, ridge": training.ridge_probe})
    argv = ["digits", *QUICK, "--noise", "mask:0.5:2x2", "--objective", "joint-embedding"]
    status, out, _ = run(*argv, "--json", "--out", tmp_path)
    assert status == 0
    result = json.loads(out)
    assert (result["objective"], result["noise"]) == ("joint-embedding", "mask:0.5:2x2")
    assert 0 < result["test"]["loss"] < 2
    assert (tmp_path / "views.png").stat().st_size > 5000
    assert not (tmp_path / "reconstructions.png").exists()
    settings = json.loads((tmp_path / "settings.json").read_text())["objective"]
    assert settings["loss"] == "whitening"
    status, _, err = run(*argv, "--loss", "vicreg", "--out", tmp_path)
    assert (status, "holds a run with another objective" in err) == (2, True)
    # A probe reads the code, beside the closed form of joint embedding, not of reconstruction.
    assert main(["probe", str(tmp_path), "--max-samples", "400", "--json"]) == 0
    paths = json.loads(capsys.readouterr().out)["ridge_paths"]
    digits = load("digits")
    part = dataclasses.replace(digits, train=digits.train.sample(400, 0))
    noise = parse_noise("mask:0.5:2x2", (8, 8, 1))
    for target, same in ((targets.joint_embedding(), True), (None, False)):
        codes = training.probes.closed_form_features(part, 4, noise, target)
        splits = (split.examples(np.arange(len(split))) for split in (codes.train, codes.test))
        right = training.ridge_probe(*itertools.chain(*splits)).test.accuracy
        found = np.asarray(paths["closed form, K = 4"]["test"])
        assert np.allclose(found, right, atol=0.005) == same


def test_a_target_is_predicted_and_vicreg_has_its_terms(run, tmp_path):
    status, out, _ = run(
        "digits", *QUICK, "--target", "whitened:0.5", "--noise", "mask:0.5:2x2", "--out", tmp_path
    )
    assert status == 0
    assert "; denoising of whitened:0.5, in its units, 6 steps" in out.splitlines()[1]
    settings = json.loads((tmp_path / "settings.json").read_text())
    assert settings["objective"]["target"] == "whitened:0.5"
    weights = ["--vicreg-weights", "1", "2", "3"]
    status, out, _ = run("digits", *QUICK, "--noise", "mask:0.5:2x2", *weights, "--json")
    assert status == 0
    terms = json.loads(out)["test"]
    found = terms["invariance"] + 2 * terms["variance"] + 3 * terms["covariance"]
    assert terms["loss"] == pytest.approx(found, rel=1e-5)


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["--batch-size", "130"], "batch_size: 130 cannot be shared by 4 devices alike"),
        (["--batch-size", "4000"], "batch_size: 4000; 1 .. 1437 with 1437 examples"),
        (["--epochs", "0"], "epochs: 0; it must be at least 1"),
        (["--learning-rate", "-1"], "learning_rate: -1.0; it must be finite and > 0"),
        (["--latent-dim", "0"], "latent_dim: 0; it must be a whole number >= 1"),
        (
            ["--net", "resnet9", "--latent-dim", "3"],
            "--latent-dim: does not apply to --net resnet9",
        ),
        (["--noise", "fog:1"], "noise: "),
        (["--noise", "mask:0.5:3x3"], "noise: "),
        (["--patch", "2"], "--patch: does not apply to --net mlp; it needs a vit"),
        (["--loss-on", "all"], "--loss-on: does not apply to --net mlp; it needs a vit"),
        (["--objective", "masked"], "--objective masked: does not apply to --net mlp"),
        (["--net", "vit", "--patch", "a"], "--patch: 'a'; HEIGHTxWIDTH or one number"),
        (["--net", "vit", "--patch", "3"], "patch_shape: 3x3 does not divide the 8x8 image"),
        (["--net", "vit", "--latent-dim", "3"], "--latent-dim: does not apply to --net vit"),
        (["--net", "vit", "--guidance-weight", "1"], "--objective guided: does not apply to"),
        (["--net", "vit", "--noise", "exact:0.5:1"], "noise: its patches are not blocks of"),
        (["--net", "vit", "--noise", "pixel:0.5", "--loss-on", "all"], "--loss-on: does not"),
        (["--net", "vit", "--target", "edges"], "target: 'edges'; known are pixels,"),
        (["--objective", "denoising"], "--objective denoising: --noise says which"),
        (["--target", "edges"], "target: 'edges'; known are pixels,"),
        (["--target", "whitened:2"], "target: 'whitened:2'; power: 2.0; it must be in [0, 1]"),
        (["--loss", "vicreg"], "--objective joint-embedding: --noise says what makes two views"),
        (
            ["--objective", "joint-embedding", "--loss", "mse", "--noise", "pixel:0.5"],
            "--loss mse:",
        ),
        (
            ["--objective", "guided", "--loss", "vicreg", "--noise", "pixel:0.5"],
            "--loss vicreg: is of two views; it does not apply to guided",
        ),
        (
            ["--loss", "whitening", "--vicreg-weights", "1", "1", "1", "--noise", "pixel:0.5"],
            "--vicreg-weights: does not apply to --loss whitening",
        ),
        (
            ["--vicreg-weights", "1", "1", "--noise", "pixel:0.5"],
            "weights: [1.0, 1.0]; three finite",
        ),
        (["--loss", "vicreg", "--noise", "pixel:0"], "noise: its two draws are the same"),
        (
            ["--loss", "vicreg", "--noise", "pixel:0.5", "--target", "highpass:1"],
            "--target: does not apply to joint-embedding",
        ),
        (
            ["--loss", "whitening", "--noise", "pixel:0.5", "--batch-size", "16"],
            "batch_size: 16; joint-embedding (whitening) of 32 values needs at least 32",
        ),
        (["--objective", "classification"], "--objective classification: --net mlp is an auto"),
        (["--net", "resnet9", "--noise", "pixel:0.5"], "--noise: does not apply to classification"),
        (["--loss", "mse"], "--loss: does not apply to reconstruction"),
        (["--augment", "grayscale"], "augment: grayscale needs 3 channels, not 1"),
        (["--class-weight", "balanced"], "Unknown option: --class-weight"),
        (["--checkpoint-every", "0"], "checkpoint_every: 0; it must be at least 1 step"),
    ],
)
def test_bad_input_is_a_line(run, argv, text):
    status, out, err = run("digits", *argv)
    assert (status, out) == (2, "")
    assert err.startswith(f"reconjax train: {text}")
    assert err.count("\n") == 1


def test_a_folder_that_cannot_be_written_is_said_before_training(run, tmp_path):
    (tmp_path / "file").write_text("")
    status, _, err = run("digits", *QUICK, "--out", tmp_path / "file")
    assert status == 2
    assert err == f"reconjax train: --out {tmp_path / 'file'}: cannot be written (File exists)\n"


def test_a_loss_that_is_not_finite_is_a_line(run):
    status, _, err = run("digits", *QUICK, "--learning-rate", "1e30")
    assert status == 2
    assert "reconjax train: the loss is not finite at step 2 of 6; try a learning rate" in err
