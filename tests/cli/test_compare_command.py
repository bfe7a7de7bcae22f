"""`reconjax compare`, as a user runs it."""

import functools
import json

import numpy as np
import pytest

from reconjax import studies


@pytest.fixture
def run(run):
    """Runs the command; gives (status, stdout, stderr)."""
    return functools.partial(run, "compare")


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Smooth images of three classes, without a test split."""
    rng = np.random.default_rng(5)
    labels = np.arange(240) % 3
    coarse = rng.normal(size=(240, 2, 2, 1))
    coarse[:, 0, 0, 0] += labels
    x = np.repeat(np.repeat(coarse, 2, axis=1), 2, axis=2)
    x = x + 0.5 * rng.normal(size=x.shape)
    path = tmp_path_factory.mktemp("compare") / "set.npz"
    np.savez(path, x_train=x.astype(np.float32), y_train=labels)
    return path


def test_it_ranks_and_writes(run, archive, tmp_path):
    argv = [archive, "--families", "flip", "block:2x2", "--latent-dim", 2, 5, "--out", tmp_path]
    status, printed, _ = run(*argv)
    assert status == 0
    for word in ("K = 2", "K = 5", "no noise", "chance", "block:2x2", "a fifth"):
        assert word in printed
    written = json.loads((tmp_path / "compare.json").read_text())
    assert (tmp_path / "compare.png").stat().st_size > 5000
    assert written["held_out_split"] == "a fifth, held out"
    assert written["samples"] + written["held_out_samples"] == 240
    assert written["held_out_samples"] == 48
    assert written["noises"] == 2
    assert [row["latent_dim"] for row in written["without"]] == [2, 5]
    assert len(written["ranking"]) == 4
    lines = [line.split() for line in printed.splitlines()]
    for row in written["ranking"]:
        numbers = [f"{row[name]:.4f}" for name in ("r2", "held_out")]
        numbers += [f"{row['gain']:+.4f}", f"{row['standard_error']:.4f}", f"{row['p_value']:.4f}"]
        assert [row["family"], *numbers, row["noise"]] in lines
    for row in written["without"]:
        assert ["no", "noise", f"{row['r2']:.4f}", f"{row['held_out']:.4f}"] in lines
        assert ["chance", f"{row['chance']:.4f}"] in lines
    # The rows of a K are in the order of their gains, no noise among them.
    for k in (2, 5):
        start = next(i for i, line in enumerate(lines) if line[:3] == ["K", "=", str(k)])
        held = [
            float(line[-5] if "no" not in line else line[-1]) for line in lines[start + 1 :][:3]
        ]
        assert held == sorted(held, reverse=True)
    assert max(map(len, printed.splitlines()[:-1])) <= 90
    opened = studies.open(tmp_path / "compare.nc")
    assert [place._asdict() for place in studies.ranking(opened)] == written["ranking"]
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == []
    same = run(*argv[:-2], "--json")[1]
    assert json.loads(same) == written


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["--families", "nonsense"], "known are mask"),
        (["--families", "mask:2:2x2"], "in [0, 1)"),
        (["--latent-dim", "0"], "latent_dim: 0; 1 .. 16"),
        (["--latent-dim", "99"], "latent_dim: 99; 1 .. 16"),
        (["--latent-dim", "2.5"], "'2.5'; a whole number is needed"),
        (["--max-latent-dim", "2.5"], "'2.5'; a whole number is needed"),
        (["--seed", "0.5"], "'0.5'; a whole number is needed"),
        (["--latent-dim", "2", "--max-latent-dim", "4"], "choose one"),
        (["--tolerance", "1"], "[0, 1)"),
        (["--memory", "0.00001"], "need about"),
    ],
)
def test_bad_input_is_one_line(run, archive, argv, text):
    status, out, error = run(archive, *argv)
    assert (status, out) == (2, "")
    assert text in error
    assert error.startswith("reconjax compare: ")
    assert len(error.splitlines()) == 1


def test_too_few_samples_to_hold_out_are_refused(run, tmp_path):
    path = tmp_path / "few.npz"
    np.savez(path, x_train=np.random.default_rng(0).random((6, 4, 4)), y_train=np.arange(6) % 2)
    status, _, error = run(path)
    assert status == 2
    assert "too few samples to hold some out" in error


def test_help_shows_examples(run):
    status, out, _ = run("--help")
    assert status == 0
    assert "reconjax compare" in out.split("Examples:")[1]
    assert len(out.splitlines()) <= 50
