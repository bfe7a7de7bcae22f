"""What the tests of commands share."""

import numpy as np
import pytest

from reconjax.cli.main import main


@pytest.fixture
def run(capsys):
    """Runs a command; gives (status, stdout, stderr)."""

    def call(*argv):
        status = main([str(part) for part in argv])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call


@pytest.fixture
def npz(tmp_path):
    """Writes an npz from keywords, starting from 40 6x6 images of 3 unbalanced classes."""

    def write(name="set.npz", **arrays):
        rng = np.random.default_rng(0)
        labels = np.repeat([0, 1, 2], [25, 10, 5])
        images = rng.integers(0, 256, (40, 6, 6, 1)).astype(np.uint8) // (1 + labels)[
            :, None, None, None
        ].astype(np.uint8)
        np.savez(tmp_path / name, **{"x_train": images, "y_train": labels, **arrays})
        return tmp_path / name

    return write
