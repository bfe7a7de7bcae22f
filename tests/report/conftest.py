"""A small report, made once."""

import pytest
from stripes import GRID, small

import reconjax


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """The folder of a report of `small`."""
    folder = tmp_path_factory.mktemp("report")
    reconjax.report.write(small(), out=folder, **GRID)
    return folder
