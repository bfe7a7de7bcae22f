"""Feature maps against NumPy; their text form; what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal
from flax import nnx

from reconjax.lift import (
    function_features,
    network_features,
    parse_features,
    random_convolution,
    random_patches,
)
from reconjax.lift.features import check_features, check_values

SHAPE = (4, 6, 2)
X = np.random.default_rng(0).normal(size=(3, 48))


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("identity", 48),
        ("relu:7", 7),
        ("gelu:7x5", 5),
        ("conv:3:3:2", 12),
        ("patches:5:2x3", 5),
        ("patches:5:2", 5),
    ],
)
def test_texts_name_maps_of_their_size(text, size):
    features = parse_features(text, SHAPE, unit=2.0, seed=1)
    made = features.apply(jnp.asarray(X))
    assert made.shape == (3, size)
    assert made.dtype == jnp.float64
    assert check_features(features, 48) == size
    assert features.workspace(48) >= 48
    assert features.text == ("patches:5:2x2" if text == "patches:5:2" else text)
    other = parse_features(text, SHAPE, unit=2.0, seed=2).apply(jnp.asarray(X))
    assert text == "identity" or not np.allclose(made, other)


def test_layers_are_those_of_numpy():
    features = parse_features("relu:7x5", SHAPE, unit=2.0)
    first, second = (np.asarray(w, np.float64) for w in features.weights)
    wanted = np.maximum(np.maximum(X / 2 @ first, 0) @ second, 0)
    np.testing.assert_allclose(features.apply(jnp.asarray(X)), wanted, atol=1e-12)
    assert 0.5 < np.var(first) / (2 / 48) < 1.5


def test_convolutions_are_those_of_scipy():
    features = random_convolution(3, 3, 2, SHAPE)
    filters = np.asarray(features.filters, np.float64)
    wanted = np.zeros((3, 2, 2, 3))
    for n, f in np.ndindex(3, 3):
        image = X[n].reshape(SHAPE)
        made = sum(
            scipy.signal.correlate2d(image[..., c], filters[..., c, f], mode="same")
            for c in range(2)
        )
        wanted[n, :, :, f] = np.maximum(made, 0).reshape(2, 2, 2, 3).mean(axis=(1, 3))
    made = features.apply(jnp.asarray(X))
    np.testing.assert_allclose(made, wanted.reshape(3, -1), atol=1e-12)


def test_patches_are_averaged_where_they_are_visible():
    features = random_patches(5, (2, 3), SHAPE, unit=2.0)
    images = X.reshape(3, *SHAPE).copy()
    images[0, :2, :3] = 0
    images[1] = 0
    weights, positions = (np.asarray(w, np.float64) for w in (features.weights, features.positions))
    wanted = np.zeros((3, 5))
    for n in range(3):
        tokens = []
        for index, (row, column) in enumerate(np.ndindex(2, 2)):
            patch = images[n, 2 * row : 2 * row + 2, 3 * column : 3 * column + 3]
            if np.any(patch != 0):
                tokens.append(np.maximum(patch.reshape(-1) / 2 @ weights + positions[index], 0))
        wanted[n] = np.mean(tokens, axis=0) if tokens else 0
    made = features.apply(jnp.asarray(images.reshape(3, -1)))
    np.testing.assert_allclose(made, wanted, atol=1e-12)


def test_functions_and_networks_are_given_images():
    features = function_features(lambda x: x[:, ::2].mean(axis=(1, 2)), SHAPE, name="means")
    assert features.text == "function means"
    wanted = X.reshape(3, *SHAPE)[:, ::2].mean(axis=(1, 2))
    np.testing.assert_allclose(features.apply(jnp.asarray(X)), wanted)

    class Network(nnx.Module):
        def __init__(self):
            self.layer = nnx.Linear(48, 8, param_dtype=jnp.float64, rngs=nnx.Rngs(0))
            self.dropout = nnx.Dropout(0.5, rngs=nnx.Rngs(1))

        def encode(self, x):
            return self.dropout(jnp.tanh(self.layer(x.reshape(len(x), -1))))

        def hidden(self, x):
            return self.layer(x.reshape(len(x), -1))

    model = Network()
    features = network_features(model, SHAPE)
    assert features.text == "network Network"
    wanted = model.layer(jnp.asarray(X))
    np.testing.assert_allclose(features.apply(jnp.asarray(X)), jnp.tanh(wanted), atol=1e-12)
    hidden = network_features(model, SHAPE, method="hidden")
    np.testing.assert_allclose(hidden.apply(jnp.asarray(X)), wanted, atol=1e-12)
    assert len(jax.tree.leaves(hidden)) > 0  # parameters are traced, not compiled in


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("tanh:5", "known are identity, relu:WIDTHS"),
        ("relu", "known are"),
        ("relu:0", "widths: .0.; at least one"),
        ("relu:2048:2", "known are"),
        ("relu:many", "invalid literal"),
        ("conv:3:9:2", "filter_size: "),
        ("conv:3:3:3", "grid: 3; it must divide the 4x6 image"),
        ("conv:0:3:2", "filters: 0; at least 1"),
        ("patches:5:3", "patch_shape: 3x3 does not divide the 4x6 image"),
        ("patches:0:2", "count: 0; at least 1"),
    ],
)
def test_unknown_texts_are_refused_in_a_line(text, why):
    with pytest.raises(ValueError, match=f"features: '{text}'; .*{why}") as raised:
        parse_features(text, SHAPE)
    assert "\n" not in str(raised.value)


def test_maps_that_are_none_are_refused():
    with pytest.raises(ValueError, match=r"patches need images \(H, W, C\)"):
        parse_features("conv:3:3:1", (48,))
    with pytest.raises(ValueError, match=r"of 8 examples function f makes \(7, 2\)"):
        function_features(lambda x: x[1:, 0, :2, 0], SHAPE, name="f")
    with pytest.raises(ValueError, match="features: NaN or inf in 2 of 2 features"):
        function_features(lambda x: x[:, 0, :2, 0] / 0, SHAPE)
    with pytest.raises(ValueError, match="features: int; a function"):
        function_features(5, SHAPE)
    with pytest.raises(ValueError, match=r"model: int; an nnx\.Module"):
        network_features(5, SHAPE)
    with pytest.raises(ValueError, match="method: 'decode'; Linear has none"):
        network_features(nnx.Linear(2, 2, rngs=nnx.Rngs(0)), (2,), method="decode")
    with pytest.raises(ValueError, match=r"features: str; `reconjax\.lift\.parse_features`"):
        check_features("relu:5", 48)
    with pytest.raises(ValueError, match="unit: 0; it must be finite and > 0"):
        parse_features("relu:5", SHAPE, unit=0)
    growing = function_features(lambda x: x.reshape(len(x), -1), SHAPE)
    with pytest.raises(ValueError, match="features: made for 48 values; the data have 16"):
        check_features(growing, 16)
    check_values(growing, jnp.asarray(X))
