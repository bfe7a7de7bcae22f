"""The `reconjax` command: its commands, its mistakes, its exit status.

A mistake in the input is one line. Anything else is a bug, and shows a traceback.
"""

import contextlib
import os
import platform
import signal
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NoReturn

from cyclopts import App, CycloptsError, Parameter

from reconjax.cli.help import Help

DESCRIPTION = """\
How far is learning by reconstruction misaligned with a perception task, and
which noise mends it? Answers in closed form, before any training.
"""
EXAMPLES = """\
DATA is one of
  digits                      8x8 handwritten digits, embedded (the default)
  scenes[:size=32,classes=10] generated images: an object on a 1/f background
  FOLDER                      images in class folders, or under train/, test/
  FILE.npz, x.npy, FILE.h5    x_train, y_train[, x_test, y_test, class_names]
  FILE.parquet, hf:mnist      a table, or a set of the Hugging Face Hub
  cifar10, mnist:3.*.*        a TFDS set prepared under --data-dir

Examples:
  reconjax align digits
  reconjax sweep digits --out out
  reconjax COMMAND --help

An error is one line; with --debug it is a traceback.
"""
# What `--version` names: JAX, and what it needs for accelerators.
STACK = ("jax", "jaxlib", "flax", "jax-cuda13-plugin", "jax-cuda12-plugin", "libtpu")
# The function of each command is imported when it is called: `--help` is to be quick.
COMMANDS = {
    "advise": "What to train: objective, target and mask, ranked, and how sure that is.",
    "align": "How misaligned is reconstruction with this task, at every latent size K?",
    "sweep": "Which noise moves the representation to this task, and by how much?",
    "compare": "Which families of noise help on new data, each at its best strength?",
    "objectives": "Pixels, another target or joint embedding: what should be learned?",
    "detect": "Which noises can never help, whatever the task? Needs no labels.",
    "project": "What explains the pixels of images, and what is left? A picture.",
    "report": "All of this in one page: charts, pictures and advice, in HTML.",
    "train": "Trains a network with the same noise: does the answer hold there?",
    "probe": "What linear and nonlinear probes read off frozen features.",
    "datasets": "What DATA can be, and what is prepared under the data directory.",
}
PACKAGE = Path(__file__).parents[1]


def run() -> NoReturn:
    """The `reconjax` command: `main`, and the end of the process."""
    signal.signal(signal.SIGINT, _interrupted)
    status = main()
    if status:
        _leave(status)
    raise SystemExit(0)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status (2 for a mistake in the input)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    name = next((word for word in arguments if not word.startswith("-")), "")
    try:
        command, bound, _ = application().parse_args(
            arguments, exit_on_error=False, print_error=False
        )
        if command.__module__.startswith("reconjax."):
            _prepare(bound.arguments.get("hosts"))
            with _warnings_in_lines(name):
                command(*bound.args, **bound.kwargs)
        else:  # help, or the version
            command(*bound.args, **bound.kwargs)
    except BrokenPipeError:
        # Whoever reads along has enough, as `head` has. Python flushes once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (CycloptsError, ValueError, OSError, ImportError, RuntimeError) as error:
        if debug or not is_mistake(error):
            raise
        print(f"reconjax {name}".rstrip() + f": {_line(error)}", file=sys.stderr)
        return 2
    return 0


def application() -> App:
    """The commands, none of which is imported yet."""
    app = App(
        name="reconjax",
        help=DESCRIPTION,
        help_epilogue=EXAMPLES,
        version=versions,
        help_format="plaintext",
        help_formatter=Help(),
        default_parameter=Parameter(negative=(), consume_multiple=True, show_default=worth_showing),
    )
    for name, text in COMMANDS.items():
        app.command(f"reconjax.cli.{name}:command", name=name, help=text)
    return app


def versions() -> str:
    """The versions of reconjax and of what it stands on, and the devices that JAX finds."""
    import jax

    installed = []
    for name in STACK:
        with contextlib.suppress(PackageNotFoundError):
            installed.append(f"{name} {version(name)}")
    try:
        found = [device.device_kind for device in jax.devices()]
        devices = ", ".join(f"{found.count(kind)} x {kind}" for kind in dict.fromkeys(found))
    except RuntimeError as error:  # an accelerator that another process holds, for instance
        devices = f"none that starts: {_line(error)}"
    python = platform.python_version()
    return (
        f"reconjax {version('reconjax')} (python {python}, {', '.join(installed)})\n"
        f"devices: {devices}"
    )


def worth_showing(default: Any) -> str | None:
    """A default as `--help` shows it; switches are off, which goes without saying."""
    if default is None or default is False:
        return None
    return " ".join(map(str, default)) if isinstance(default, list | tuple) else str(default)


def is_mistake(error: Exception) -> bool:
    """Whether an error is about the input: of the parser, of the system, or raised by reconjax."""
    if isinstance(error, CycloptsError | OSError):
        return True
    last = traceback.extract_tb(error.__traceback__)[-1]
    return PACKAGE in Path(last.filename).parents


def _prepare(hosts: Any) -> None:
    """Sets up JAX: x64, and compiled programs kept on disk; joins the processes of the job."""
    import jax

    jax.config.update("jax_enable_x64", True)
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "reconjax"
        jax.config.update("jax_compilation_cache_dir", str(cache))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    # OpenBLAS, which factorizes for XLA on a CPU, lets its threads spin for 2^26 cycles after a
    # call, on cores that are needed for what follows. It reads this when it is loaded.
    os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "20")
    if hosts is not None and hosts.joined:
        from reconjax.summary.hosts import start

        start(hosts.coordinator, hosts.processes, hosts.process)


@contextlib.contextmanager
def _warnings_in_lines(command: str) -> Iterator[None]:
    """Prints what reconjax warns of in one line on stderr, each kind of it once."""
    from reconjax.data import ManyClassesWarning
    from reconjax.summary import hosts

    with warnings.catch_warnings(record=True) as caught:
        warnings.filterwarnings("always", category=ManyClassesWarning)
        yield
    kinds = set()
    for warning in caught:
        if not issubclass(warning.category, ManyClassesWarning):
            warnings.warn_explicit(
                warning.message, warning.category, warning.filename, warning.lineno
            )
        elif warning.category not in kinds and hosts.first():
            kinds.add(warning.category)
            text = str(warning.message).replace("targets='real'", "--targets real")
            print(f"reconjax {command}: warning: {text}", file=sys.stderr)


def _interrupted(*_: Any) -> NoReturn:
    """Ends the process. An exception could be lost: in a garbage collection it is ignored.

    What is finished is kept at any moment, and what is half written is removed.
    """
    if "reconjax.storage.files" in sys.modules:
        sys.modules["reconjax.storage.files"].remove_unfinished()
    os.write(sys.stderr.fileno(), b"\nreconjax: interrupted\n")
    _leave(130)


def _leave(status: int) -> NoReturn:
    if "reconjax.summary.hosts" in sys.modules:
        sys.modules["reconjax.summary.hosts"].leave(status)
    os._exit(status)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
