"""Links as they are in the repository, for the site: pages outside of docs/ have a place in it."""

import os
import re
from pathlib import Path
from typing import Any

# Where what lies outside of docs/ is in the site, by the links beside this file.
PLACES = {
    "experiments/results": "results",
    "benchmarks/results": "benchmarks",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "README.md": "index.md",
    "docs": "",
}
LINK = re.compile(r"\[([^\]]*)\]\((?!\w+:)([^)#\s]+)(#[^)]*)?\)")


def on_page_markdown(markdown: str, *, page: Any, config: Any, **_: Any) -> str:
    """A hook of MkDocs: each relative link leads to the page in the site, or is its text alone."""
    root = Path(config.docs_dir).parent
    here = Path(page.file.abs_src_path)
    shown = Path(config.docs_dir, page.file.src_uri).parent

    def moved(match: re.Match[str]) -> str:
        text, target, anchor = match[1], match[2], match[3] or ""
        path = Path(os.path.normpath(here.resolve().parent / target))
        if not path.exists():  # code that looks like a link, or what MkDocs is to complain of
            return match[0]
        for outside, inside in PLACES.items():
            if path.is_relative_to(root / outside):
                place = Path(config.docs_dir, inside, path.relative_to(root / outside))
                return f"[{text}]({os.path.relpath(place, shown)}{anchor})"
        return text  # source code, which has no page

    return LINK.sub(moved, markdown)
