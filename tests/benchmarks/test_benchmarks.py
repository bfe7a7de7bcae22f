"""Benchmarks run, and write what they measured."""

import json

import jax
import numpy as np
import pytest

import reconjax
from benchmarks import beside, moments, sample_side, scaling, sweep

PRECISIONS = ("float64", "mixed")


def test_moments_are_measured_beside_the_bare_product(tmp_path, capsys):
    with jax.numpy_dtype_promotion("standard"):  # as on the command line
        moments.main(["--preset", "smoke", "--data", "digits", "--out", str(tmp_path)])
    results = json.loads((tmp_path / "moments.json").read_text())
    assert results["settings"] == {"preset": "smoke", "seed": 0, "data": ["digits"]}
    assert results["command"]
    assert "jax" in results["versions"]
    part = results["parts"]["digits"]
    assert (part["samples"], part["features"]) == (500, 64)
    for way, seconds in part["seconds"].items():
        assert seconds > 0
        assert part["gflops"][way] == pytest.approx(2 * 500 * 64**2 / seconds / 1e9)
    floor = min(part["seconds"][f"float32 product, {way}"] for way in ("one call", "chunks"))
    assert part["share_of_float32_product"] == pytest.approx(floor / part["seconds"]["moments"])
    assert len(part["load"]) == 2
    assert part["spectrum"]["difference"] < 1e-12
    assert all(seconds > 0 for seconds in part["spectrum"]["seconds"].values())
    assert "of the float32 product's rate" in capsys.readouterr().out


def test_records_are_compared_with_the_larger_part():
    seconds = moments.records(lambda: sum(range(9_000)), lambda: 0, lambda: sum(range(30_000)), 3)
    larger = max(seconds["decode"], seconds["product"])
    assert seconds["ratio"] == pytest.approx(seconds["together"] / larger)
    assert seconds["possible"] >= larger
    assert seconds["ratio to possible"] <= seconds["ratio"]


@pytest.mark.slow
def test_sweep_is_measured_against_the_direct_algorithm_and_the_floor(tmp_path, capsys):
    rng = np.random.default_rng(0)
    labels = np.arange(200) % 3
    x = rng.integers(0, 200, (200, 4, 4, 1)) + 20 * labels[:, None, None, None]
    np.savez(tmp_path / "some.npz", x_train=x.astype(np.uint8), y_train=labels)
    data = str(tmp_path / "some.npz")
    with jax.numpy_dtype_promotion("standard"):
        sweep.main(["--preset", "smoke", "--data", data, "--out", str(tmp_path)])
    part = json.loads((tmp_path / "sweep.json").read_text())["parts"][data]
    assert (part["samples"], part["features"]) == (200, 16)
    assert part["difference"] < 1e-6
    assert list(part["ways"]) == [
        f"{precision}, 2 ratios{few}"
        for few in ("", ", K <= 4", ", K <= 1")
        for precision in PRECISIONS
    ]
    for way, row in part["ways"].items():
        assert row["points"] == 6
        assert row["a_point"] == pytest.approx(row["seconds"] / 6)
        assert row["rate"] == pytest.approx(part["direct"] / row["a_point"])
        for dtype, floor in part["eigh"].items():
            assert row["to_floor"][dtype] == pytest.approx(row["seconds"] / (9 * floor))
        assert row["difference"] <= (1e-3 if way.startswith("mixed") else 1e-12)
        assert row["reduced"] == "0 of 3"
    assert "rate" in capsys.readouterr().out


@pytest.mark.slow
def test_this_machine_stands_beside_the_committed_one(tmp_path, capsys):
    with jax.numpy_dtype_promotion("standard"):
        beside.main(["--preset", "smoke", "--out", str(tmp_path)])
    here = json.loads((tmp_path / "bench.json").read_text())["parts"]["digits"]
    then = beside.committed("sweep")["parts"]["digits"]
    printed = capsys.readouterr().out
    direct = (
        f"{then['direct']:>11.4f}{here['direct']:>11.4f}{here['direct'] / then['direct']:>17.2f}x"
    )
    assert direct in printed
    assert printed.count("a point") == 5
    assert "committed: 1 x cpu" in printed


def test_what_compiling_takes_is_left_out_of_a_single_run():
    @jax.jit
    def slow_to_compile(x):
        for _ in range(200):
            x = jax.numpy.sin(x) + 1
        return x

    with sweep.compilation() as spent:
        slow_to_compile(jax.numpy.ones(3)).block_until_ready()
    assert sum(spent) > 0
    count = len(spent)
    slow_to_compile(jax.numpy.zeros(3, int))
    assert len(spent) == count  # it listens no more
    calls = []
    sweep.timed(lambda: calls.append(1), long=-1.0)
    assert len(calls) == 1
    sweep.timed(lambda: calls.append(1), repeats=2)
    assert len(calls) == 4


def test_generated_images_have_a_falling_spectrum_and_labels_that_depend_on_them():
    (x, labels), *others = scaling.batches(5000, 192, seed=0)
    assert x.shape == (4096, 8, 8, 3)
    assert x.dtype == np.uint8
    assert [len(y) for _, y in others] == [5000 - 4096]
    again = next(scaling.batches(5000, 192, seed=0))
    np.testing.assert_array_equal(x, again[0])
    principal = reconjax.spectrum(reconjax.moments(x, labels, num_classes=scaling.CLASSES))
    assert int(principal.rank) == 192
    variance = np.asarray(principal.eigenvalues)
    assert variance[0] > 20 * variance[10] > 20 * variance[100]
    assert np.bincount(labels, minlength=scaling.CLASSES).min() > 40
    assert float(reconjax.alignment(principal).r2[-1]) > 0.1


def test_exponents_are_those_of_power_laws():
    parts = [{"size": n, "seconds": {"a": 2.0 * n**3, "b": 5.0 * n}} for n in (10, 20, 80)]
    parts[-1]["seconds"].pop("b")
    growth = scaling.exponents(parts)
    assert growth["a"] == {"10 to 20": pytest.approx(3), "20 to 80": pytest.approx(3)}
    assert growth["b"] == {"10 to 20": pytest.approx(1)}


@pytest.mark.slow
def test_scaling_is_measured_and_drawn(tmp_path, capsys, monkeypatch):
    command = ["--preset", "smoke", "--out", str(tmp_path)]
    with jax.numpy_dtype_promotion("standard"):
        scaling.main(command)
    results = json.loads((tmp_path / "scaling.json").read_text())
    kinds = [key.split()[0] for key in results["parts"]]
    assert sorted(set(kinds)) == ["devices", "features", "samples", "strengths"]
    for part in results["parts"].values():
        # Points and rays are differences of times, and these are short.
        measured = (way for way in part["seconds"] if not way.startswith(("point,", "ray,")))
        assert all(part["seconds"][way] > 0 for way in measured)
    for devices in (1, 2, 4):
        assert results["parts"][f"devices {devices}"]["difference"] < 1e-12
    assert set(results["exponents"]["eigh, float64"]) == {"64 to 192"}
    assert (tmp_path / "scaling.png").stat().st_size > 5000
    assert "say nothing about real ones" in capsys.readouterr().out
    # What is in the file is not measured again.
    monkeypatch.setattr(scaling, "timed", None)
    scaling.main(command)
    assert json.loads((tmp_path / "scaling.json").read_text())["parts"] == results["parts"]


@pytest.mark.slow
def test_the_sample_side_is_measured_against_its_eigendecompositions(tmp_path, capsys):
    with jax.numpy_dtype_promotion("standard"):
        sample_side.main(["--preset", "smoke", "--out", str(tmp_path)])
    parts = json.loads((tmp_path / "sample_side.json").read_text())["parts"]
    assert [(part["samples"], part["features"]) for part in parts.values()] == [
        (40, 192),
        (80, 192),
    ]
    for part in parts.values():
        assert part["to_floor"] == pytest.approx(part["each"]["sweep"] / part["each"]["eigh"])
    assert parts["base"]["by_features"] > 0
    assert parts["base"]["difference"] < 1e-3
    assert parts["samples"]["by_features"] is None
    assert "by (D, D) moments" in capsys.readouterr().out
