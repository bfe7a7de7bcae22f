"""How docstrings are read for the API pages."""

import re
from typing import Any

import griffe


class Examples(griffe.Extension):
    """Takes `Example:` for the section that griffe knows as `Examples:`, which is shown as code."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Changes the docstring of whatever has one."""
        if obj.docstring is not None:
            text = re.sub(r"^( *)Example:$", r"\1Examples:", obj.docstring.value, flags=re.M)
            obj.docstring.value = text
