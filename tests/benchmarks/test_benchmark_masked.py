"""The benchmark of masked autoencoders runs, and compares networks that are the same."""

import json

import jax
import numpy as np
import pytest
from flax import nnx

from benchmarks import masked
from reconjax import nets


def test_operations_are_those_that_the_products_make():
    """Against XLA's count of both halves, which has the elementwise operations too."""
    model = nets.make("vit", (32, 32, 3), rngs=nnx.Rngs(0))
    graph, state = nnx.split(model)
    order = np.tile(np.arange(64, dtype=np.int32), (1, 1))

    @jax.jit
    def forward(state, x):
        net = nnx.merge(graph, state)
        return net.predict(net.encode(x, order[:, :16]), order)

    counted = forward.lower(state, jax.ShapeDtypeStruct((1, 32, 32, 3), np.float32))
    ratio = counted.cost_analysis()["flops"] / (masked.flops(model, 16) / 3)
    assert 1.0 < ratio < 1.15


@pytest.mark.slow
def test_the_network_in_pytorch_is_the_same(tmp_path, capsys):
    pytest.importorskip("torch")
    with jax.numpy_dtype_promotion("standard"):
        masked.main(["--preset", "smoke", "--out", str(tmp_path)])
    (part,) = json.loads((tmp_path / "masked.json").read_text())["parts"].values()
    assert part["parameters"]["jax"] == part["parameters"]["torch"]
    np.testing.assert_allclose(part["losses"]["torch"], part["losses"]["jax"], rtol=1e-5)
    rates = part["images_per_second"]
    assert part["ratio"] == pytest.approx(rates["jax"] / rates["torch"])
    assert "images per second" in capsys.readouterr().out
