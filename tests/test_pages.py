"""What the pages of the project show runs as it stands, and prints what they say."""

import contextlib
import re
import shlex
from pathlib import Path

import jax
import pytest
from markdown_it import MarkdownIt

from reconjax.cli.main import main

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    str(page.relative_to(ROOT))
    for page in [
        *ROOT.glob("*.md"),
        *(page for folder in ("docs", "experiments") for page in (ROOT / folder).rglob("*.md")),
        *(ROOT / "benchmarks").rglob("*.md"),
    ]
    if not page.is_symlink()
)
# These take long.
LONG = {f"docs/howto/{name}.md" for name in ("joint-embedding", "shapes", "several-tasks")}
# These run elsewhere: what is shown there needs more than a folder of its own.
ELSEWHERE = {"docs/clusters.md": "tests/summary/test_hosts.py"}


def blocks(page):
    """(language, text) of the fenced blocks that run."""
    for token in MarkdownIt().parse((ROOT / page).read_text()):
        language = token.info.partition(" ")[0]
        if token.type == "fence" and language in ("python", "console"):
            yield language, token.content


def with_code():
    """Tutorials take longer than the rest together, and run whenever the site is built."""
    for page in PAGES:
        if page not in ELSEWHERE and any(blocks(page)):
            slow = page.startswith("docs/tutorials") or page in LONG
            yield pytest.param(page, marks=[pytest.mark.slow] * slow, id=page)


def run_console(text, capsys):
    """Runs its commands; every other line must be printed by the one before, but for `...`."""
    for command in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        line, *shown = command.splitlines()
        program, *argv = shlex.split(line)
        assert program == "reconjax"
        capsys.readouterr()
        status = main(argv)
        printed, errors = capsys.readouterr()
        assert status == 0, errors
        assert [text for text in shown if text != "..." and text not in printed.splitlines()] == []


@pytest.mark.parametrize("page", list(with_code()))
def test_its_code_runs_in_order(page, tmp_path, monkeypatch, capsys):
    # Results are read where they lie.
    monkeypatch.chdir((ROOT / page).parent if "results" in page else tmp_path)
    names: dict[str, object] = {"__name__": "page"}
    sets_precision = any("jax_enable_x64" in text for _, text in blocks(page))
    for language, text in blocks(page):
        if language == "python":
            # As in a new interpreter, where float64 is off unless the page turns it on.
            known = contextlib.nullcontext() if sets_precision else jax.enable_x64(False)
            with known:
                exec(compile(text, page, "exec"), names)
        else:
            run_console(text, capsys)


def test_the_pages_that_run_elsewhere_do():
    for page, test in ELSEWHERE.items():
        assert list(blocks(page))
        assert Path(page).name in (ROOT / test).read_text()


def test_what_is_not_printed_is_found(capsys):
    with pytest.raises(AssertionError):
        run_console("$ reconjax datasets\nno such line\n", capsys)


def test_every_room_that_offers_names_has_a_page_in_the_api():
    pages = {path.stem for path in (ROOT / "docs/api").glob("*.md")} - {"index"}
    offering = {
        folder.parent.name
        for folder in (ROOT / "reconjax").glob("*/__init__.py")
        if "__all__" in folder.read_text()
    }
    assert pages == offering


def targets(page):
    text = re.sub(r"```.*?```", "", (ROOT / page).read_text(), flags=re.DOTALL)
    return [target for target in re.findall(r"\]\(([^)#\s]+)", text) if "://" not in target]


@pytest.mark.parametrize("page", [page for page in PAGES if targets(page)])
def test_its_links_lead_somewhere(page):
    missing = [target for target in targets(page) if not ((ROOT / page).parent / target).exists()]
    assert missing == []
