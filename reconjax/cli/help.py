"""How `--help` looks: names on the left, what they mean beside them, in 80 columns."""

import textwrap
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cyclopts.help import HelpEntry, HelpPanel
    from rich.console import Console, ConsoleOptions

# Where the texts start; a longer name pushes its text to the right.
TEXT_COLUMN = 26
COMMAND_COLUMN = 12


class Help:
    """Prints the help of a command; see `cyclopts.help.protocols.HelpFormatter`."""

    def __call__(self, console: "Console", options: "ConsoleOptions", panel: "HelpPanel") -> None:
        """A group of options, or the commands."""
        if not panel.entries:
            return
        lines = ["", f"{panel.title}:"]
        for entry in panel.entries:
            column = TEXT_COLUMN if panel.format == "parameter" else COMMAND_COLUMN
            lines += _wrapped(_names(entry), _text(console, entry), column, console.width)
        _show(console, lines)

    def render_usage(self, console: "Console", options: "ConsoleOptions", usage: object) -> None:
        """The first line."""
        text = str(usage).strip().removeprefix("Usage:").strip()
        _show(console, [f"Usage: {text}"])

    def render_description(
        self, console: "Console", options: "ConsoleOptions", description: object
    ) -> None:
        """What the command is for."""
        text = _plain(console, description)
        _show(console, ["", *textwrap.wrap(text, console.width)] if text else [])


def _names(entry: "HelpEntry") -> str:
    """How the option is given: `--noise mask|exact`, `--ratios FLOAT...`."""
    names = ", ".join(entry.display_labels)
    if entry.positional_label or not entry.metavar:
        return names
    several = "..." if entry.metavar.endswith("...") else ""
    values = "|".join(entry.choices) + several if entry.choices else entry.metavar
    return f"{names} {values}"


def _plain(console: "Console", text: Any) -> str:
    """The words of a text, whatever it is for rich."""
    segments = console.render(text or "", console.options.update(width=10_000))
    return " ".join("".join(segment.text for segment in segments).split())


def _text(console: "Console", entry: "HelpEntry") -> str:
    """What it means, with the default in parentheses."""
    text = _plain(console, entry.description)
    if entry.default is None:
        return text
    return f"{text.removesuffix('.')} ({entry.default})."


def _wrapped(names: str, text: str, column: int, width: int) -> list[str]:
    first = f"  {names}".ljust(column - 2) + "  "
    # A name that leaves no room for words has its text on the next line.
    if len(first) > width // 2 and len(first) + len(text) > width:
        return [*_broken(first.rstrip(), width), *_filled(" " * column, text, column, width)]
    return _filled(first, text, column, width)


def _broken(line: str, width: int) -> list[str]:
    """Choices that one line does not hold go on below the first of them."""
    if len(line) <= width:
        return [line]
    at = line.rindex("|", 0, width) + 1
    start = len(line[: line.index("|")].rpartition(" ")[0]) + 1
    return [line[:at], *_broken(" " * start + line[at:], width)]


def _filled(first: str, text: str, column: int, width: int) -> list[str]:
    return textwrap.wrap(
        text,
        width,
        initial_indent=first,
        subsequent_indent=" " * column,
        break_long_words=False,
        break_on_hyphens=False,
    ) or [first.rstrip()]


def _show(console: "Console", lines: list[str]) -> None:
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
