"""What the README shows runs as it stands."""

import re
import shlex
from pathlib import Path

import pytest

from reconjax.cli.main import main

README = (Path(__file__).parent.parent / "README.md").read_text()
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", README, flags=re.DOTALL)


def test_its_code_runs_in_order(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    ran = 0
    for language, text in BLOCKS:
        if language == "python":
            exec(compile(text, "README.md", "exec"), names)
            ran += 1
        elif language == "console":
            for line in text.splitlines():
                program, *argv = shlex.split(line.removeprefix("$ "))
                assert program == "reconjax"
                assert main(argv) == 0, capsys.readouterr().err
                ran += 1
    assert ran >= 8
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {"sweep.npz", "project.png"}


@pytest.mark.parametrize("target", re.findall(r"\]\(([^)#]+)\)", README))
def test_its_links_lead_somewhere(target):
    if not target.startswith("https://"):
        assert (Path(__file__).parent.parent / target).exists()
