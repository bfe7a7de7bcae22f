"""Imports follow the data, and heavy packages are loaded only where they are used."""

import ast
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

import reconjax

ROOT = Path(reconjax.__file__).parent

# What imports what: each room may import those before it.
ORDER = [
    "linalg",
    "storage",
    "data",
    "summary",
    "noise",
    "theory",
    "lift",
    "grid",
    "evidence",
    "studies",
    "nets",
    "training",
    "plots",
    "report",
    "sklearn",
    "cli",
    "__main__",
]

# The command line uses the package as its users do, and alone decides on the precision.
COMMAND_LINE = {"cli", "__main__"}

# Packages that only some modules may load, and whether they may on import.
HEAVY = {
    "matplotlib": {"plots"},
    "sklearn": {"data", "sklearn"},
    "tensorflow_datasets": {"data"},
}


def modules():
    return sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")


def place(path):
    """The name in ORDER under which a file of the package falls."""
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imported(tree):
    """(dotted name, whether inside a function) of every import in a module."""
    inside = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for node in ast.walk(function)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, id(node) in inside
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are written in full"
            for alias in node.names:
                yield f"{node.module}.{alias.name}", id(node) in inside


def violations(path, text):
    """What a module with this text imports against the rules."""
    here, found = place(path), []
    if here not in ORDER:
        return [f"{here} has no place in ORDER"]
    for name, in_function in imported(ast.parse(text)):
        top, *rest = name.split(".")
        if top == "reconjax":
            target = rest[0] if rest else ""
            if here in COMMAND_LINE and not target:
                continue
            if target == here and path.parent != ROOT:
                continue
            if target not in ORDER or ORDER.index(target) >= ORDER.index(here):
                found.append(f"{here} imports {name}")
        if top in HEAVY and (here not in HEAVY[top] or (here == "data" and not in_function)):
            found.append(f"{here} imports {name}")
    return found


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_with_the_data(path):
    assert violations(path, path.read_text()) == []


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("summary/moments.py", "from reconjax.theory.spectrum import Spectrum"),
        ("summary/moments.py", "def f():\n    import reconjax.grid.sweep"),
        ("summary/moments.py", "import reconjax"),
        ("summary/moments.py", "from reconjax.theory import spectrum"),
        ("noise/masks.py", "from reconjax.theory.solver import solve"),
        ("theory/optimum.py", "from reconjax.grid.ray import at"),
        ("theory/alignment.py", "from reconjax.grid.sweep import sweep"),
        ("grid/sweep.py", "from reconjax.plots import alignment"),
        ("grid/sweep.py", "def f():\n    import matplotlib.pyplot"),
        ("cli/main.py", "from matplotlib import pyplot"),
        ("data/embedded.py", "import sklearn.datasets"),
        ("data/tfds.py", "import tensorflow_datasets as tfds"),
        ("summary/moments.py", "def f():\n    from sklearn.datasets import load_digits"),
        ("data/embedded.py", "from reconjax.summary.moments import Moments"),
        ("elsewhere.py", ""),
    ],
)
def test_the_rules_find_what_breaks_them(module, text):
    assert len(violations(ROOT / module, text)) == 1


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("grid/sweep.py", "from reconjax.grid.ray import at\nimport jax"),
        ("data/embedded.py", "def f():\n    from sklearn.datasets import load_digits"),
        ("data/embedded.py", "from reconjax.data.split import Split"),
        ("plots/style.py", "import matplotlib"),
    ],
)
def test_the_rules_allow_what_keeps_them(module, text):
    assert violations(ROOT / module, text) == []


def fresh(code):
    """The JSON that a new interpreter prints."""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return json.loads(run.stdout.splitlines()[-1])


def test_importing_the_package_is_quick_and_loads_nothing_heavy():
    code = (
        "import json, sys, time, jax, jax.numpy, jax.scipy.linalg\n"
        "start = time.perf_counter()\n"
        "import reconjax\n"
        "print(json.dumps([time.perf_counter() - start, sorted(sys.modules),"
        " jax.config.jax_enable_x64]))"
    )
    seconds, loaded, x64 = fresh(code)
    for heavy in ("matplotlib", "sklearn", "tensorflow_datasets", "tensorflow", "orbax", "flax"):
        assert heavy not in loaded
    assert x64 is False
    for _ in range(2):  # a loaded machine may be slow once
        if seconds >= 1:
            seconds = min(seconds, fresh(code)[0])
    assert seconds < 1


def test_importing_the_package_changes_no_environment_variable():
    code = (
        "import json, os\nbefore = dict(os.environ)\nimport jax\nafter_jax = dict(os.environ)\n"
        "import reconjax\nprint(json.dumps([after_jax, dict(os.environ)]))"
    )
    before, after = fresh(code)
    assert before == after


@pytest.mark.parametrize(("given", "kept"), [(None, "20"), ("26", "26")])
def test_the_command_line_says_how_long_openblas_spins_before_it_is_loaded(given, kept):
    name = "OPENBLAS_THREAD_TIMEOUT"
    setting = f"os.environ[{name!r}] = {given!r}\n" if given else ""
    value, loaded = fresh(
        "import json, os, sys\n"
        f"os.environ.pop({name!r}, None)\n{setting}"
        "from reconjax.cli import main\nmain._prepare(None)\n"
        f"print(json.dumps([os.environ[{name!r}], 'scipy.linalg' in sys.modules]))"
    )
    assert (value, loaded) == (kept, False)


def test_help_is_quick_for_it_imports_no_jax():
    code = (
        "import json, sys\nfrom reconjax.cli.main import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "print(json.dumps(sorted(sys.modules)))"
    )
    assert not {"jax", "xarray", "numpy", "matplotlib"} & set(fresh(code))


def test_no_name_is_both_a_module_and_something_else_at_one_level():
    for package in [ROOT, *sorted(path.parent for path in ROOT.rglob("*/__init__.py"))]:
        tree = ast.parse((package / "__init__.py").read_text())
        inside = {path.stem for path in package.glob("*.py")}
        inside |= {path.parent.name for path in package.glob("*/__init__.py")}
        names = {
            alias.asname or alias.name: node.module
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }
        room = ".".join(package.relative_to(ROOT.parent).parts)
        assert not {n for n in names if n in inside and names[n] != room}, package


def test_the_root_holds_rooms_alone():
    assert {path.name for path in ROOT.glob("*.py")} == {"__init__.py", "__main__.py"}


def test_every_public_name_is_there_and_documented():
    for name in reconjax.__all__:
        assert getattr(reconjax, name).__doc__, name
    assert sorted(reconjax.__all__) == list(reconjax.__all__)


def test_no_module_sets_the_precision_of_the_caller():
    for path in modules():
        if place(path) not in COMMAND_LINE:
            assert "config.update" not in path.read_text(), path


def test_the_package_says_that_it_is_typed():
    assert (Path(importlib.util.find_spec("reconjax").origin).parent / "py.typed").exists()
