"""The examples in docstrings run, and every public function has one."""

import doctest
import importlib
import importlib.util
import inspect
import pkgutil
import re
from pathlib import Path

import numpy as np
import pytest

import reconjax

ROOT = Path(reconjax.__file__).parent
ROOMS = [info.name for info in pkgutil.iter_modules(reconjax.__path__) if info.ispkg]

# Public functions that have no example yet, by room; the rooms that are not here have none.
EXEMPT: dict[str, tuple[str, ...]] = {}
# Examples that train networks or make a whole report.
SLOW = {"training.finalists.train_finalists", "report.writing.write"}


def modules():
    return [
        info.name
        for info in pkgutil.walk_packages(reconjax.__path__, "reconjax.")
        if not info.name.endswith("__main__")
    ]


def room(value):
    return value.__module__.split(".")[1]


def public_functions():
    """The functions that the root and the rooms offer, each once."""
    values = {name: getattr(reconjax, name) for name in reconjax.__all__}
    for name in ROOMS:
        module = importlib.import_module(f"reconjax.{name}")
        offered = {other: getattr(module, other) for other in getattr(module, "__all__", ())}
        values |= {f"{name}.{other}": value for other, value in offered.items()}
    unique = {id(value): (name, value) for name, value in reversed(values.items())}
    return [
        pytest.param(value, id=name)
        for name, value in sorted(unique.values(), key=lambda pair: pair[0])
        if callable(value) and not inspect.isclass(value)
    ]


def examples():
    finder = doctest.DocTestFinder(exclude_empty=True)
    for name in modules():
        module = importlib.import_module(name)
        scope = {"reconjax": reconjax, "np": np}
        for test in finder.find(module, name, globs=scope):
            if test.examples:
                short = test.name.removeprefix("reconjax.")
                yield pytest.param(test, id=short, marks=[pytest.mark.slow] * (short in SLOW))


def run(test):
    report = []
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    runner.run(test, out=report.append)
    assert runner.failures == 0, "".join(report)


@pytest.mark.parametrize("example", list(examples()))
def test_examples_run(example, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run(example)


@pytest.mark.parametrize("function", public_functions())
def test_public_functions_have_an_example(function):
    exempt = EXEMPT.get(room(function), ())
    if exempt is None or function.__name__ in exempt:
        pytest.skip("no example yet")
    text = inspect.getdoc(function) or ""
    assert ">>>" in text, f"{function.__module__}.{function.__name__} has no example"


def resolves(name):
    """Whether a dotted name is a module of the package, or something in one."""
    value, path = reconjax, "reconjax"
    for part in name.split(".")[1:]:
        path = f"{path}.{part}"
        if hasattr(value, part):
            value = getattr(value, part)
        elif importlib.util.find_spec(path) is not None:
            value = importlib.import_module(path)
        else:
            return False
    return True


def test_what_texts_refer_to_is_there():
    pages = [ROOT.parent / "README.md", *(ROOT.parent / "docs").rglob("*.md")]
    names = {
        (str(path.relative_to(ROOT.parent)), name)
        for path in [*ROOT.rglob("*.py"), *pages]
        for name in re.findall(r"`(reconjax(?:\.\w+)+)", path.read_text())
    }
    assert len(names) > 20
    assert [pair for pair in sorted(names) if not resolves(pair[1])] == []


def test_a_function_without_an_example_and_an_example_that_is_wrong_are_found():
    with pytest.raises(AssertionError, match="has no example"):
        test_public_functions_have_an_example(reconjax.linalg.eigen.signs)
    parsed = doctest.DocTestParser().get_doctest(">>> 1 + 1\n3\n", {}, "wrong", None, 0)
    with pytest.raises(AssertionError, match="Expected"):
        run(parsed)
