"""`python -m reconjax` is the `reconjax` command."""

from reconjax.cli import main

raise SystemExit(main())
