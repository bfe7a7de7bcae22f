"""A killed sweep goes on where it stopped, and never mixes two runs."""

import json
import os
import signal
import subprocess
import sys
import time

import compiling
import numpy as np
import pytest

import reconjax
from reconjax.cli.main import main
from reconjax.storage.parts import Parts, fingerprint

SWEEP = [
    "sweep",
    "digits",
    "--patches",
    "1",
    "2",
    "4",
    "--ratios",
    "0",
    "0.5",
    "0.9",
    "--devices",
    "1",
]
SWEEP += ["--json", "--out"]


def test_parts_are_kept_and_belong_to_one_run(tmp_path):
    parts = Parts(tmp_path, {"ratio": 0.5})
    assert parts.load("ray-0") is None
    parts.save("ray-0", {"curve": np.arange(3.0)})
    again = Parts(tmp_path, {"ratio": 0.5})
    np.testing.assert_array_equal(again.load("ray-0")["curve"], np.arange(3.0))
    with pytest.raises(ValueError, match="another ratio"):
        Parts(tmp_path, {"ratio": 0.75})
    again.clear()
    assert list(tmp_path.iterdir()) == []


def test_fingerprint_sees_every_number():
    tree = {"a": np.zeros(3), "b": np.ones((2, 2))}
    assert fingerprint(tree) == fingerprint({"a": np.zeros(3), "b": np.ones((2, 2))})
    changed = np.ones((2, 2))
    changed[1, 1] += 1e-15
    assert fingerprint({**tree, "b": changed}) != fingerprint(tree)
    assert fingerprint({**tree, "a": np.zeros(3, np.float32)}) != fingerprint(tree)


def test_finished_rays_are_not_solved_again(tmp_path, monkeypatch, capsys):
    solved = []
    sweep = reconjax.sweep

    def counted(moments, noises, *args, **kwargs):
        if len(solved) == 2:
            raise KeyboardInterrupt
        solved.append(noises)
        return sweep(moments, noises, *args, **kwargs)

    monkeypatch.setattr(reconjax, "sweep", counted)
    with pytest.raises(KeyboardInterrupt):
        main([*SWEEP, str(tmp_path / "a")])
    assert not (tmp_path / "a" / "sweep.npz").exists()
    # Other settings are refused in one line, and nothing is lost by asking.
    assert main([*SWEEP, str(tmp_path / "a"), "--readout", "noisy"]) == 2
    assert "another readout" in capsys.readouterr().err
    del solved[:]
    monkeypatch.setattr(reconjax, "sweep", lambda *a, **k: (solved.append(a), sweep(*a, **k))[1])
    assert main([*SWEEP, str(tmp_path / "a")]) == 0
    assert len(solved) == 1
    assert main([*SWEEP, str(tmp_path / "b")]) == 0
    assert len(solved) == 4
    assert not (tmp_path / "a" / "parts").exists()
    assert (tmp_path / "a/sweep.npz").read_bytes() == (tmp_path / "b/sweep.npz").read_bytes()


def test_killed_at_any_moment(tmp_path):
    """SIGKILL while it runs, then run to the end: the file of the undisturbed run."""
    command = [sys.executable, "-m", "reconjax", *SWEEP]
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
        assert np.load(path)["explained"].shape == (1, 3, 1, 64)
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
                assert arrays["explained"].shape == (1, 40, 1, 2)
    assert 5 <= len(kept) < len(patches)

    process = started("killed")
    printed, _ = process.communicate()
    assert process.returncode == 0
    assert json.loads(printed)["rank"] == 61
    whole, killed = (tmp_path / name / "sweep.npz" for name in ("whole", "killed"))
    assert whole.read_bytes() == killed.read_bytes()
    assert not list((tmp_path / "killed").glob("**/*.part*"))
