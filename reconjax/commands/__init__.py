"""What the commands do, a module for each; `reconjax.cli` reads their arguments."""
