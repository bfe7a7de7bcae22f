"""The `reconjax` command: `main` reads the arguments, and each command has a module."""
