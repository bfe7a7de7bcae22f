"""`python -m reconjax` is the `reconjax` command."""

from reconjax.cli import run

run()
