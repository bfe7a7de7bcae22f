"""`reconjax sweep`, as a user runs it."""

import errno
import functools
import json
import os
import signal
import subprocess
import sys
import time

import compiling
import numpy as np
import pytest

from reconjax import studies
from reconjax.cli.main import main

MASKS = ["digits", "--patches", "1", "2", "4", "--ratios", "0", "0.5", "0.9", "--devices", "1"]
MASKS += ["--bootstrap", "7", "--json", "--out"]


@pytest.fixture
def run(run):
    """Runs the command; gives (status, stdout, stderr)."""
    return functools.partial(run, "sweep")


def test_sweep_says_how_sure_it_is(run, tmp_path):
    argv = ["digits", "--patches", "4", "--ratios", "0", "0.25", "0.9", "--latent-dims"]
    argv += ["4", "16", "--precision", "float64", "--out", tmp_path, "--bootstrap", "7"]
    status, out, _ = run(*argv)
    assert status == 0
    assert "standard error, by halves of 7 folds" in out
    assert "the 360 samples of the test split" in out
    found = dict(np.load(tmp_path / "sweep.npz"))
    for name in ("r2", "gain"):
        assert found[f"{name}_corrected"].shape == (1, 3, 1, 2)
        assert np.all(found[f"{name}_standard_error"][:, 1:] > 0)
    assert np.all(found["gain_standard_error"][:, 0] == 0)
    assert np.all(found["p_value"][:, 0] == 1)
    assert found["held_out_without"].shape == (1, 2)
    assert np.all((found["p_value"] > 0) & (found["p_value"] <= 1))
    few, many = json.loads(run(*argv, "--json")[1])["best"]
    for row, k in ((few, 0), (many, 1)):
        best = int(np.argmax(found["r2"][0, :, 0, k]))
        for name in ("r2_standard_error", "gain_standard_error", "held_out", "p_value"):
            assert row[name] == pytest.approx(found[name][0, best, 0, k])
        assert row["held_out_without"] == pytest.approx(found["held_out_without"][0, k])
    # A gain on the training data that the test split does not see is not called one.
    assert few["held_out"] < few["held_out_without"]
    assert few["p_value"] > 0.5


def test_sweep_writes_the_grid(run, npz, tmp_path):
    status, out, _ = run(
        npz(), "--patches", "1", "3x2", "--ratios", "0", "0.5", "0.9",
        "--weights", "0", "1", "inf", "--precision", "float64", "--out", tmp_path / "out", "--json",
    )  # fmt: skip
    assert status == 0
    result = json.loads(out)
    arrays = np.load(tmp_path / "out/sweep.npz")
    np.testing.assert_array_equal(arrays["patch_shape"], [[1, 1], [3, 2]])
    np.testing.assert_array_equal(arrays["mask_ratio"], [0, 0.5, 0.9])
    np.testing.assert_array_equal(arrays["reconstruction_weight"], [0, 1, np.inf])
    np.testing.assert_array_equal(arrays["latent_dim"], np.arange(1, 37))
    for name in ("r2", "supervised_loss", "reconstruction_loss", "alignment"):
        assert arrays[name].shape == (2, 3, 3, 36)
        assert np.all(np.isfinite(arrays[name]))
    # No mask is the same for every patch, and with λ = inf it is what align says.
    np.testing.assert_allclose(arrays["r2"][0, 0], arrays["r2"][1, 0], atol=1e-9)
    principal = studies.align(str(npz()), bootstrap=0)
    np.testing.assert_allclose(arrays["r2"][0, 0, 2], principal.r2, atol=1e-9)
    for row in result["best"]:
        column, level = row["latent_dim"] - 1, [0, 1, "inf"].index(row["reconstruction_weight"])
        # The baseline has the same λ: the gain is the mask's alone.
        grid = arrays["r2"][:, :, level, column]
        assert row["r2"] == pytest.approx(grid.max())
        assert row["r2_without"] == pytest.approx(grid[0, 0])
    assert {row["reconstruction_weight"] for row in result["best"]} == {0, 1, "inf"}
    assert (tmp_path / "out/sweep.png").stat().st_size > 10_000
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["map.png", "sweep.nc", "sweep.npz", "sweep.png"]
    stored = studies.open(tmp_path / "out/sweep.nc")
    assert (stored.attrs["data"], stored.attrs["noise"]) == ("set", "mask")
    for row in result["best"]:
        weight, patch = float(row["reconstruction_weight"]), "x".join(map(str, row["patch_shape"]))
        at = {"latent_dim": row["latent_dim"], "weight": weight, "ratio": row["mask_ratio"]}
        point = stored.sel(patch=patch, **at)
        assert row["r2"] == point.r2.item()
        assert row["gain"] == point.gain.item()
        assert row["error"] == point.error.item()


@pytest.mark.parametrize(
    "noise", ["exact", pytest.param("pixel", marks=pytest.mark.slow), "gaussian"]
)
def test_sweep_of_the_other_noises(run, noise, tmp_path):
    strength = ["--stds", "0.5"] if noise == "gaussian" else ["--ratios", "0.5"]
    patches = ["--patches", "2"] if noise == "exact" else []
    argv = ["digits", "--noise", noise, *strength, *patches, "--precision", "float64"]
    status, out, _ = run(*argv, "--out", tmp_path, "--json")
    assert status == 0
    assert json.loads(out)["noise"] == noise
    arrays = np.load(tmp_path / "sweep.npz")
    assert arrays["r2"].shape == (1, 1, 1, 64)
    if noise == "gaussian":  # Corollary 3.1
        assert arrays["noise_std"] == [0.5]
        principal = studies.align("digits", bootstrap=0)
        np.testing.assert_allclose(arrays["r2"][0, 0, 0], principal.r2, atol=1e-9)


def test_the_best_of_a_bad_grid_is_not_called_no_noise(run):
    argv = ["digits", "--patches", "2x4", "--ratios", "0.5", "--latent-dims", "1", "61"]
    bad, full = json.loads(run(*argv, "--json")[1])["best"]
    assert bad["gain"] < -0.01 * bad["r2_without"]
    assert bad["at"] == "patch 2x4, ratio 0.5"
    assert full["gain"] == pytest.approx(0, abs=1e-6)
    assert full["at"] == "no noise is as good"


@pytest.mark.slow
def test_every_precision_says_so_and_how_far_off_it_is(run, tmp_path):
    argv = ["digits", "--patches", "2", "--ratios", "0.5", "--json", "--out"]
    r2, error = {}, {}
    for precision in ("float64", "mixed", "float32"):
        result = json.loads(run(*argv, tmp_path / precision, "--precision", precision)[1])
        assert result["precision"] == precision
        with np.load(tmp_path / precision / "sweep.npz") as arrays:
            r2[precision] = arrays["r2"]
            assert result["error"] == pytest.approx(arrays["error"].max())
        error[precision] = result["error"]
    assert json.loads(run(*argv, tmp_path / "default")[1])["precision"] == "mixed"
    assert error["float64"] < 1e-9
    for precision in ("mixed", "float32"):
        assert r2[precision].dtype == np.float32
        off = np.max(np.abs(r2[precision] - r2["float64"]))
        assert off < 4 * error[precision] < 0.05


@pytest.mark.slow
def test_a_largest_latent_dim_with_its_tolerance(run, tmp_path):
    argv = ["scenes:size=8,samples=1000", "--patches", "1", "2"]
    argv += ["--ratios", "0.1", "0.2", "0.3", "0.4", "0.5", "0.6", "0.8", "0.9", "--out"]
    whole = run(*argv, tmp_path / "whole", "--latent-dims", *range(1, 13))
    fast = run(*argv, tmp_path / "fast", "--max-latent-dim", 12, "--tolerance", 0.02)
    full = run(*argv, tmp_path / "full", "--max-latent-dim", 12, "--tolerance", 0)
    assert [found[0] for found in (whole, fast, full)] == [0, 0, 0]
    assert "solved in a subspace: 2 of 2 rays" in fast[1]
    assert "subspace" not in full[1]
    found = {n: dict(np.load(tmp_path / n / "sweep.npz")) for n in ("whole", "fast", "full")}
    assert found["fast"]["latent_dim"].tolist() == list(range(1, 13))
    np.testing.assert_array_equal(found["full"]["r2"], found["whole"]["r2"])
    np.testing.assert_allclose(found["fast"]["r2"], found["whole"]["r2"], rtol=0, atol=0.02)
    for name in ("held_out", "p_value"):
        assert found["fast"][name].shape == (2, 8, 1, 12)
    np.testing.assert_allclose(
        found["fast"]["held_out"], found["whole"]["held_out"], rtol=0, atol=0.03
    )
    assert found["fast"]["reduced"].all()
    assert not found["full"]["reduced"].any()


def test_devices_share_the_grid(run, tmp_path):
    argv = ["digits", "--patches", "1", "2", "--ratios", "0.3", "0.9", "--bootstrap", "7", "--out"]
    precise = ["--precision", "float64", "--devices"]
    for count in (1, 4):
        assert run(*argv, tmp_path / str(count), *precise, count)[0] == 0
    one, four = (dict(np.load(tmp_path / n / "sweep.npz")) for n in ("1", "4"))
    for name, values in one.items():
        np.testing.assert_allclose(four[name], values, rtol=0, atol=1e-10, err_msg=name)
    status, _, err = run(*argv, tmp_path / "3", "--devices", "3")
    assert status == 2
    assert "devices: 3 cannot share a grid of 2 patch shapes x 2 strengths" in err
    assert "1, 2, 4 can" in err
    assert "devices: 99; 4 are there" in run(*argv, tmp_path / "99", "--devices", "99")[2]


def test_a_full_disk_is_said_in_a_line_and_loses_nothing(run, tmp_path, monkeypatch):
    argv = [*MASKS, tmp_path]
    savez, saved = np.savez, []

    def full_after_two(file, **arrays):
        if len(saved) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        saved.append(file)
        savez(file, **arrays)

    monkeypatch.setattr(np, "savez", full_after_two)
    status, _, err = run(*argv)
    assert status == 2
    assert err.splitlines()[-1].startswith("reconjax sweep: ")
    assert "No space left on device" in err
    assert str(tmp_path) in err
    monkeypatch.setattr(np, "savez", savez)
    status, _, err = run(*argv)
    assert status == 0
    assert "going on: 2 of 3 rays are finished" in err


def test_a_reader_that_fails_is_said_in_a_line(run, tmp_path, monkeypatch):
    def broken(self, batch_size=4096):
        yield self.examples(np.arange(10))
        raise OSError(errno.EIO, "Input/output error", "shard-3")

    monkeypatch.setattr("reconjax.data.split.Split.batches", broken)
    status, _, err = run("digits", "--out", tmp_path)
    assert status == 2
    assert "Input/output error" in err
    assert "shard-3" in err
    assert err.count("\n") == 1


@pytest.mark.slow
def test_noisy_readout_explains_less(run, tmp_path):
    argv = ["digits", "--patches", "2", "--ratios", "0.75", "--out"]
    for readout in ("clean", "noisy"):
        assert run(*argv, tmp_path / readout, "--readout", readout)[0] == 0
    clean, noisy = (np.load(tmp_path / r / "sweep.npz")["r2"] for r in ("clean", "noisy"))
    assert np.all(noisy < clean)


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--ratios", "1"], ["1", "[0, 1)"]),
        (["--ratios", "-0.1"], ["[0, 1)"]),
        (["--ratios", "nan"], ["[0, 1)"]),
        (["--ratios", "half"], ["half", "ratios"]),
        (["--weights", "-1"], ["-1", "[0, inf]"]),
        (["--weights", "nan"], ["[0, inf]"]),
        (["--patches", "two"], ["two", "4x2"]),
        (["--patches", "3"], ["3x3", "8x8", "divide"]),
        (["--noise", "exact", "--patches", "4"], ["0.9", "4 patches"]),
        (["--noise", "salt"], ["salt", "mask", "gaussian"]),
        (["--latent-dims", "65"], ["65", "64"]),
        (["--latent-dims", "0"], ["0", "64"]),
        (["--latent-dims", "2.5"], ["2.5", "latent-dims"]),
        (["--batch-size", "1.5"], ["1.5", "batch-size"]),
        (["--seed", "0.5"], ["0.5", "seed"]),
        (["--batch-size", "0"], ["batch_size"]),
        (["--bootstrap", "12"], ["bootstrap: 12", "0, 7, 11, 19"]),
        (["--stds", "0.1"], ["stds", "mask"]),
        (["--noise", "gaussian", "--ratios", "0.5"], ["ratios", "gaussian"]),
        (["--noise", "pixel", "--patches", "2"], ["patches", "pixel"]),
        (["--memory", "0.0001"], ["D = 64 features need about", "0.0001 GiB are there"]),
        (["--wings", "2"], ["wings"]),
    ],
)
def test_bad_values_are_refused_in_one_line_before_any_work(run, monkeypatch, argv, words):
    def work(*args, **kwargs):
        raise AssertionError("work was done")

    for name in ("moments_from_batches", "fold_moments"):
        monkeypatch.setattr(f"reconjax.studies.source.{name}", work)
    status, out, err = run("digits", *argv)
    assert status == 2
    assert out == ""
    assert all(word in err for word in words), err
    assert err.count("\n") == 1
    assert err.startswith("reconjax sweep: ")


def test_images_are_needed_for_patches_and_their_channels_last(run, npz):
    x = np.random.default_rng(0).normal(size=(40, 8))
    argv = ["--ratios", "0", "0.5", "--latent-dims", "2", "--bootstrap", "0"]
    status, _, err = run(npz(x_train=x))
    assert status == 2
    assert "vectors" in err
    assert "images" in err
    assert run(npz(x_train=x), "--noise", "pixel", *argv)[0] == 0
    first = np.random.default_rng(0).uniform(size=(40, 3, 6, 6))
    status, _, err = run(npz(x_train=first))
    assert status == 2
    assert "--channels-first" in err


def test_out_that_cannot_be_written_is_refused_before_the_work(run, tmp_path):
    (tmp_path / "file").write_text("")
    status, out, err = run("digits", "--out", tmp_path / "file")
    assert status == 2
    assert out == ""
    assert "--out" in err


def test_no_files_but_what_is_asked(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    argv = ["digits", "--patches", "8", "--ratios", "0.5", "--latent-dims", "4", "16"]
    assert run(*argv, "--bootstrap", "0")[0] == 0
    assert list(tmp_path.iterdir()) == []


def test_without_a_test_split_nothing_is_held_out(run, npz):
    rng = np.random.default_rng(0)
    path = npz(x_train=rng.normal(size=(40, 8)), y_train=np.arange(40) % 3)
    argv = ["--noise", "pixel", "--ratios", "0", "0.5", "--latent-dims", "2", "--bootstrap", "0"]
    out = run(path, *argv)[1]
    assert "standard error" not in out
    assert "small gains may be chance" in out
    assert "held-out" not in out


def test_the_table_fits_80_columns_with_all_that_it_can_say(run, npz):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(80, 4, 4, 1)) + np.arange(80)[:, None, None, None] % 3 / 2
    path = npz(x_train=x, y_train=np.arange(80) % 3, x_test=x[:40], y_test=np.arange(40) % 3)
    argv = ["--patches", "1", "2", "--ratios", "0", "0.25", "--weights", "0.5", "inf"]
    status, out, _ = run(path, *argv, "--precision", "float32")
    assert status == 0
    lines = out.splitlines()
    heads = [i for i, line in enumerate(lines) if line.split()[:1] == ["K"]]
    assert [lines[i - 1] for i in heads] == ["λ = 0.5", "λ = inf"]
    assert max(map(len, lines)) <= 80
    for i in heads:
        assert lines[i].split()[-2:] == ["patch", "ratio"]
        assert "±" in lines[i]
        assert [line.split()[0] for line in lines[i + 1 : i + 6]] == ["1", "2", "4", "8", "16"]


@pytest.mark.parametrize("noisy", [False, True])
def test_errors_are_printed_where_they_reach_the_digits_shown(run, monkeypatch, noisy):
    from reconjax.studies import rays

    sweep = rays.sweep_targets

    def with_errors(*args, **options):
        (solved,) = sweep(*args, **options)
        error = np.full(np.shape(solved.error), 0.003 if noisy else 4e-5)
        return [solved._replace(error=error)]

    monkeypatch.setattr(rays, "sweep_targets", with_errors)
    argv = ["digits", "--patches", "8", "--ratios", "0.5", "--latent-dims", "4", "16"]
    out = run(*argv, "--bootstrap", "0")[1]
    assert ("3e-03" in out) == noisy
    assert ("error" in out) == noisy


def test_help_fits_a_screen_and_shows_examples(capsys):
    assert main(["sweep", "--help"]) == 0
    out = capsys.readouterr().out
    assert "reconjax sweep digits" in out.split("Examples:")[1]
    assert len(out.splitlines()) <= 62
    for group in ("Grid:", "Data:", "Output:"):
        assert group in out


def test_finished_rays_are_not_solved_again(run, tmp_path, monkeypatch):
    from reconjax.studies import rays

    calls, sweep = [], rays.sweep_targets

    def counted(*args, **options):
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(args)
        return sweep(*args, **options)

    monkeypatch.setattr(rays, "sweep_targets", counted)
    with pytest.raises(KeyboardInterrupt):
        run(*MASKS, tmp_path / "a")
    assert not (tmp_path / "a" / "sweep.npz").exists()
    # Other settings are refused in one line, and nothing is lost by asking.
    status, _, err = run(*MASKS, tmp_path / "a", "--readout", "noisy")
    assert status == 2
    assert "another readout" in err
    calls.clear()
    monkeypatch.setattr(rays, "sweep_targets", lambda *a, **k: (calls.append(a), sweep(*a, **k))[1])
    # Eight for standard errors, of each ray.
    assert run(*MASKS, tmp_path / "a")[0] == 0
    assert len(calls) == 1 + 3 * 8
    calls.clear()
    assert run(*MASKS, tmp_path / "b")[0] == 0
    assert len(calls) == 3 + 3 * 8
    assert not (tmp_path / "a" / "parts").exists()
    assert (tmp_path / "a/sweep.npz").read_bytes() == (tmp_path / "b/sweep.npz").read_bytes()


@pytest.mark.slow
def test_killed_at_any_moment(tmp_path):
    """SIGKILL while it runs, then run to the end: the file of the undisturbed run."""
    command = [sys.executable, "-m", "reconjax", "sweep", *MASKS]
    env = {**os.environ, **compiling.quick_environment()}
    subprocess.run([*command, str(tmp_path / "whole")], check=True, capture_output=True, env=env)
    nowhere = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    killed = subprocess.Popen([*command, str(tmp_path / "killed")], env=env, **nowhere)
    deadline = time.monotonic() + 60
    while not list((tmp_path / "killed").glob("parts/ray-*.npz")):
        assert time.monotonic() < deadline
        assert killed.poll() is None, "it ended before it could be killed"
        time.sleep(0.002)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    for path in (tmp_path / "killed").glob("parts/ray-*.npz"):
        assert np.load(path)["0-r2"].shape == (1, 3, 1, 64)
    command.append(str(tmp_path / "killed"))
    done = subprocess.run(command, check=True, capture_output=True, env=env)
    assert json.loads(done.stdout)["rank"] == 61
    whole, resumed = (tmp_path / name / "sweep.npz" for name in ("whole", "killed"))
    assert whole.read_bytes() == resumed.read_bytes()


def test_interrupted_while_it_computes(tmp_path):
    """Ctrl-C: one line and status 130, whatever is still being computed."""
    command = [sys.executable, "-m", "reconjax", "sweep", "scenes:samples=500,size=16", "--out"]
    env = {**os.environ, **compiling.quick_environment()}
    process = subprocess.Popen(
        [*command, str(tmp_path)], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "parts/run.json").exists():
        assert time.monotonic() < deadline
        assert process.poll() is None, "it ended before it could be interrupted"
        time.sleep(0.002)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[1].decode()
    assert process.returncode == 130
    assert said.splitlines()[-1] == "reconjax: interrupted"
    assert not list(tmp_path.glob("**/*.part*"))
    assert [path.name for path in tmp_path.iterdir()] == ["parts"]


@pytest.mark.slow
def test_killed_ten_times(tmp_path):
    """SIGKILL at ten random moments, five while it starts and five while it solves."""
    patches = [f"{height}x{width}" for height in range(1, 7) for width in range(1, 9)]
    ratios = [f"{ratio:.3f}" for ratio in np.linspace(0, 0.9, 40)]
    command = [sys.executable, "-m", "reconjax", "sweep", "digits", "--partial", "--patches"]
    command += [*patches, "--ratios", *ratios, "--latent-dims", "4", "16", "--json", "--out"]

    def started(name):
        return subprocess.Popen(
            [*command, str(tmp_path / name)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )

    def rays(name):
        paths = (tmp_path / name).glob("parts/ray-*.npz")
        return {path.name: path.stat().st_mtime_ns for path in paths}

    def until(process, reached):
        deadline = time.monotonic() + 120
        while not reached():
            assert time.monotonic() < deadline
            assert process.poll() is None, "it ended before it could be killed"
            time.sleep(0.001)

    begun = time.monotonic()
    process = started("whole")
    until(process, lambda: rays("whole"))
    start = time.monotonic() - begun
    until(process, lambda: len(rays("whole")) > 8)
    ray = (time.monotonic() - begun - start) / 8
    process.communicate()
    assert process.returncode == 0

    rng = np.random.default_rng(0)
    kept = {}
    for early in rng.permutation([True, False] * 5):
        moment = rng.uniform(0, start) if early else np.inf
        # At the latest after so many more rays, lest it comes to its end.
        enough = len(kept) + (3 if early else rng.integers(1, 4))
        begun = time.monotonic()
        process = started("killed")
        until(
            process,
            lambda begun=begun, moment=moment, enough=enough: (
                time.monotonic() - begun > moment or len(rays("killed")) >= enough
            ),
        )
        if not early:
            time.sleep(rng.uniform(0, ray))
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        # Nothing that was finished is lost or made again.
        now = rays("killed")
        assert now.items() >= kept.items()
        kept = now
        for name in kept:
            with np.load(tmp_path / "killed/parts" / name) as arrays:
                assert arrays["0-r2"].shape == (1, 40, 1, 2)
    assert 5 <= len(kept) < len(patches)

    process = started("killed")
    printed, _ = process.communicate()
    assert process.returncode == 0
    assert json.loads(printed)["rank"] == 61
    whole, killed = (tmp_path / name / "sweep.npz" for name in ("whole", "killed"))
    assert whole.read_bytes() == killed.read_bytes()
    assert not list((tmp_path / "killed").glob("**/*.part*"))


def test_features_are_swept_for_each_ridge(run, npz, tmp_path):
    argv = [npz(), "--patches", "1", "--ratios", "0", "0.5", "--features", "identity"]
    argv += ["--ridge", "0.1", "1", "--precision", "float64", "--out", tmp_path / "out"]
    status, out, _ = run(*argv)
    assert status == 0
    assert "identity (" in out
    assert out.index("ridge 0.1") < out.index("ridge 1")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"map.png", "sweep.nc", "sweep.npz", "sweep.png"}
    found = studies.open(tmp_path / "out" / "sweep.nc")
    record = json.loads(run(*argv[:-2], "--json")[1])
    assert record["lift"] == "identity"
    assert {row["ridge"] for row in record["best"]} == {0.1, 1.0}
    for row in record["best"]:
        at = found.sel(ridge=row["ridge"], latent_dim=row["latent_dim"]).max(["patch", "ratio"])
        assert row["r2"] == pytest.approx(at.r2.item())
        assert row["error"] == 0
    status, _, error = run(npz(), "--features", "tanh:4")
    assert status == 2
    assert "features: 'tanh:4'; known are identity, relu:WIDTHS" in error
