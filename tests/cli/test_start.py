"""The command line before its commands run: help, version, mistakes, bugs."""

import json
import subprocess
import sys

import numpy as np
import pytest

import reconjax
from reconjax import nets, training
from reconjax.cli import main as entry
from reconjax.cli import train
from reconjax.cli.main import COMMANDS, main

# Of these none is needed to say what a command does.
HEAVY = {"jax", "numpy", "xarray", "flax", "optax", "matplotlib", "sklearn", "scipy", "h5py"}
LINES, COLUMNS = 60, 80


@pytest.fixture(scope="module")
def helps():
    """Command ("" for none) -> the text of its help and the packages that are loaded for it."""
    code = (
        "import contextlib, io, json, sys\nfrom reconjax.cli.main import main\nall = {}\n"
        f"for command in {['', *COMMANDS]}:\n"
        "    text = io.StringIO()\n"
        "    with contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):\n"
        "        main([*filter(None, [command]), '--help'])\n"
        "    all[command] = text.getvalue(), sorted(sys.modules)\n"
        "print(json.dumps(all))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**__import__("os").environ, "COLUMNS": str(COLUMNS)},
    )
    return json.loads(run.stdout)


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_loads_nothing_heavy_and_fits_a_screen(helps, command):
    text, loaded = helps[command]
    assert not HEAVY & set(loaded)
    lines = text.splitlines()
    assert len(lines) <= LINES
    assert max(map(len, lines)) <= COLUMNS
    assert f"Usage: reconjax {command or 'COMMAND'}" in text
    assert "Examples:" in text


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_what_an_option_means_stands_in_one_column(helps, command):
    """What does not fit goes on below itself, and no line is one word at the left edge."""
    text = helps[command][0].split("Examples:")[0]
    for line in text.splitlines()[4:]:
        if line and not line.endswith(":"):
            assert line.startswith("  ") or line.startswith("DATA is one of"), line


def test_help_names_the_defaults_and_the_choices(helps):
    text = helps["sweep"][0]
    assert "--noise mask|exact|pixel|gaussian  " in text
    assert "(0.0003)" in text
    assert "CHOICE" not in text


def test_the_choices_of_train_are_those_of_the_library(helps):
    hints = train.TrainOptions.__annotations__

    def choices(name):
        def literals(hint):
            for part in getattr(hint, "__args__", ()):
                yield from [part] if isinstance(part, str) else literals(part)

        return tuple(literals(hints[name]))

    assert choices("net") == nets.NAMES
    assert choices("augment") == training.AUGMENTATIONS
    losses = (*training.LOSSES, *training.embedding.EMBEDDING_LOSSES)
    assert choices("loss") == losses
    assert set(choices("objective")) == {
        training.classification().name,
        training.reconstruction().name,
        training.denoising(reconjax.noise.gaussian(1.0)).name,
        training.guided(1.0).name,
        training.masked(reconjax.noise.exact_patch_mask(0.5, 1, (2, 2))).name,
        training.joint_embedding(reconjax.noise.gaussian(1.0)).name,
    }
    assert choices("loss_on") == training.LOSS_ON


def test_the_version_names_jax_and_its_devices(capsys, monkeypatch):
    import platform
    from importlib.metadata import version

    import jax

    assert main(["--version"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    python = platform.python_version()
    start = f"reconjax {version('reconjax')} (python {python}, jax {version('jax')}, jaxlib "
    assert first.startswith(start)
    assert second == "devices: 4 x cpu"

    def held():
        raise RuntimeError("the TPU is\nalready in use")

    monkeypatch.setattr(jax, "devices", held)
    assert main(["--version"]) == 0
    assert "devices: none that starts: the TPU is already in use" in capsys.readouterr().out


MISTAKES = {
    "an unknown option": (["align", "--boostrap", "7"], "boostrap"),
    "a value that is no number": (["sweep", "--ratios", "half"], "half"),
    "a fraction of folds": (["align", "--bootstrap", "2.5"], "'2.5'; a whole number"),
    "no such data": (["align", "no-such-set"], "no-such-set"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_one_line_and_with_debug_a_traceback(case, capsys, tmp_path):
    argv, words = MISTAKES[case]
    argv = [*argv, "--data-dir", str(tmp_path)]
    assert main(argv) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"reconjax {argv[0]}: ")
    assert words in error
    assert error.count("\n") == 1
    with pytest.raises(Exception, match=words) as raised:
        main([*argv, "--debug"])
    assert len(raised.traceback) > 1


@pytest.mark.parametrize("debug", [[], ["--debug"]])
def test_a_bug_is_a_traceback(monkeypatch, debug):
    """A ValueError that NumPy raises is no word to the user about the input."""

    def broken(*args, **kwargs):
        return np.zeros(3) @ np.zeros(4)

    monkeypatch.setattr(reconjax.studies, "align", broken)
    with pytest.raises(ValueError, match="matmul"):
        main(["align", "digits", *debug])


def test_a_bug_inside_jax_is_a_traceback(monkeypatch):
    def broken(*args, **kwargs):
        import jax.numpy as jnp

        return jnp.zeros(3).reshape(7)

    monkeypatch.setattr(reconjax.studies, "align", broken)
    with pytest.raises(Exception, match="reshape"):
        main(["align", "digits"])


def test_an_error_of_reconjax_below_a_command_is_a_mistake():
    with pytest.raises(ValueError, match="std") as raised:
        reconjax.noise.gaussian(-1.0)
    assert entry.is_mistake(raised.value)
    with pytest.raises(ValueError, match="could not be broadcast") as raised:
        np.zeros(3) + np.zeros(4)
    assert not entry.is_mistake(raised.value)


def test_a_reader_that_has_enough_ends_it_in_silence():
    command = [sys.executable, "-m", "reconjax", "datasets"]
    # A pipe that nobody reads.
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 0
