"""The page on scale says what was measured."""

import json
from pathlib import Path

import pytest

from benchmarks import projection

DOCS = Path(__file__).parents[1] / "docs"


def test_the_page_on_scale_has_the_projected_table_and_the_measured_rates():
    page, rates = (DOCS / "scale.md").read_text(), projection.measured()
    assert projection.table() in page
    for text in (
        f"{1e3 * rates.decode[224]:.1f} ms of one core",
        f"{rates.product / 1e9:.0f} x 10⁹ operations",
        f"{rates.spectrum:.1f} s",
        f"{rates.point:.2f} s",
        f"{1e9 * rates.ray:.2f} ns",
    ):
        assert text in page


def test_simulated_hosts_gave_what_one_host_gives_and_the_page_says_so():
    parts = json.loads((projection.RESULTS / "hosts" / "hosts.json").read_text())["parts"]
    page = (DOCS / "scale.md").read_text()
    assert list(parts) == ["1 host", "2 hosts", "4 hosts"]
    for name, part in parts.items():
        assert part["same bits"]
        assert part["difference"] < 1e-9
        assert sum(part["each"]["samples"]) == part["samples"]
        assert f"| {name} | {part['each']['samples'][0]:,} |" in page


def test_the_projection_gives_what_was_measured_where_both_are_there():
    rates, here = projection.measured(), projection.MACHINES[0]
    seconds, bound = projection.sweep(rates, here, 32)
    assert seconds == pytest.approx(18 * rates.point)
    assert bound == "eigensolver"
    # 3 patch shapes x 5 ratios of 3,450 photographs of 128 x 128 x 3 took 6.6 minutes.
    columns = 3 * rates.ray * 3450**2 * 49_152
    solving = 18 * rates.solve * 3450**3
    assert (columns + solving) / 60 == pytest.approx(6.6, rel=0.1)
