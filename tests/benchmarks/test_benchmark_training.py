"""The benchmark of a training step runs, and compares networks that are the same."""

import json
import sys

import jax
import numpy as np
import pytest
from flax import nnx

from benchmarks import training
from reconjax import nets

WIDTH = training.WIDTHS["smoke"][0]


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """What a run without PyTorch wrote."""
    out = tmp_path_factory.mktemp("training")
    with pytest.MonkeyPatch.context() as patch, jax.numpy_dtype_promotion("standard"):
        patch.setitem(sys.modules, "torch", None)
        training.main(["--preset", "smoke", "--out", str(out)])
    return json.loads((out / "training.json").read_text())


def test_without_pytorch_jax_is_measured_by_itself(measured):
    assert measured["settings"] == {"preset": "smoke", "seed": 0, "torch": None}
    (part,) = measured["parts"].values()
    assert (part["width"], part["batch"], part["dtype"]) == (WIDTH, 16, "float32")
    assert part["ratio"] is None
    assert part["share_of_peak"] is None
    assert list(part["seconds"]) == ["jax"]
    rate = part["images_per_second"]["jax"]
    assert rate == pytest.approx(16 / part["seconds"]["jax"])
    assert part["gflops"] == pytest.approx(rate * training.flops(WIDTH) / 1e9)
    assert part["share_of_product"] == pytest.approx(part["gflops"] / part["product_gflops"])
    losses = part["losses"]["jax"]
    assert losses[-1] < losses[0]
    loop = part["fit"]
    ratio = loop["images_per_second"] / loop["bare_images_per_second"]
    assert loop["beyond_the_step"] == pytest.approx(1 - ratio)
    assert ratio > 0


def test_operations_are_those_that_the_layers_make():
    """Against XLA's count of the forward pass, which leaves out products with zeros around."""
    model = nets.ResNet9((32, 32, 3), 10, width=0.25, rngs=nnx.Rngs(0))
    model.eval()
    graph, state = nnx.split(model)
    x = jax.ShapeDtypeStruct((1, 32, 32, 3), np.float32)
    forward = jax.jit(lambda state, x: nnx.merge(graph, state)(x))
    counted = forward.lower(state, x).cost_analysis()["flops"]
    assert 0.75 < counted / (training.flops(0.25) / 3) < 1.0


@pytest.mark.slow
def test_the_network_in_pytorch_is_the_same(tmp_path, capsys):
    pytest.importorskip("torch")
    with jax.numpy_dtype_promotion("standard"):
        training.main(["--preset", "smoke", "--out", str(tmp_path)])
    (part,) = json.loads((tmp_path / "training.json").read_text())["parts"].values()
    assert part["parameters"]["jax"] == part["parameters"]["torch"]
    for way in ("as it comes", "channels last"):
        np.testing.assert_allclose(
            part["losses"][f"torch, {way}"], part["losses"]["jax"], rtol=1e-3
        )
    fastest = max(rate for way, rate in part["images_per_second"].items() if way != "jax")
    assert part["ratio"] == pytest.approx(part["images_per_second"]["jax"] / fastest)
    assert "images per second" in capsys.readouterr().out
