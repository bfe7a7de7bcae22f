"""`python -m reconjax` is the `reconjax` command."""

from reconjax.cli.main import run

run()
