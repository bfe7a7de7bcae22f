"""Finished parts of a run are kept, belong to it alone, and are never seen half written."""

import subprocess
import sys

import numpy as np
import pytest

from reconjax.storage.parts import Parts, fingerprint


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


def test_an_interrupt_leaves_no_half_file(tmp_path):
    """Ctrl-C in the middle of writing: what was there before is there, and nothing else."""
    (tmp_path / "result.txt").write_text("old")
    code = (
        "import os, signal\n"
        "from reconjax.cli import main\n"
        "from reconjax.storage.files import replacing\n"
        "def work():\n"
        f"    with replacing({str(tmp_path / 'result.txt')!r}) as part:\n"
        "        part.write_text('half')\n"
        "        assert part.exists()\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "        while True: pass\n"
        "main.main = work\n"
        "main.run()\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60)
    assert ended.returncode == 130
    assert ended.stderr.decode().splitlines()[-1] == "reconjax: interrupted"
    assert [path.name for path in tmp_path.iterdir()] == ["result.txt"]
    assert (tmp_path / "result.txt").read_text() == "old"
