"""Nets have the shapes, the sizes and the arithmetic that they should have."""

import math
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from reconjax import nets
from reconjax.nets import convolution, layers, resnet

AXIS = nets.AXIS


def rngs():
    return nnx.Rngs(0)


def evaluating(model):
    model.eval()
    return model


def shape_of(call, model, x_shape, dtype=jnp.float32):
    out = nnx.eval_shape(call, model, jax.ShapeDtypeStruct(x_shape, dtype))
    return out.shape, out.dtype


def examples(shape, seed=0, dtype=np.float32):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def over_devices(count, model, x):
    """The outputs in training mode on that many devices, and the new batch statistics."""
    graph, state = nnx.split(model)

    def on_one(state, x):
        model = nnx.merge(graph, state)
        return model(x), nnx.state(model, nnx.BatchStat)

    how = {"in_axes": (None, 0), "out_axes": (0, None), "devices": jax.devices()[:count]}
    parts = x.reshape(count, len(x) // count, *x.shape[1:])
    outputs, statistics = jax.pmap(on_one, AXIS, **how)(state, parts)
    return np.concatenate(outputs), statistics


TINY = {
    "linear": lambda **how: nets.make("linear", (5,), latent_dim=2, **how),
    "mlp": lambda **how: nets.make("mlp", (2, 3, 1), latent_dim=2, widths=(8, 7), **how),
    "conv": lambda **how: nets.make("conv", (9, 6, 2), latent_dim=3, widths=(8, 8), **how),
    "resnet18": lambda **how: nets.make("resnet18", (9, 8, 1), latent_dim=3, width=4, **how),
    "resnet50": lambda **how: nets.make("resnet50", (8, 8, 1), latent_dim=3, width=2, **how),
    "resnet9": lambda **how: nets.make("resnet9", (17, 16, 1), num_classes=3, width=1 / 16, **how),
    "mlp-classifier": lambda **how: nets.make(
        "mlp-classifier", (4,), num_classes=3, widths=(6, 5), **how
    ),
    "linear probe": lambda **how: nets.LinearProbe(4, 3, **how),
    "mlp probe": lambda **how: nets.MLPProbe(4, 3, width=8, **how),
}
# A deep net takes long to compile.
DEEP = "resnet50"
NAMES = [pytest.param(name, marks=pytest.mark.slow) if name == DEEP else name for name in TINY]


@pytest.fixture(scope="module")
def tiny():
    """Each net once, in training mode; ResNets with fewer blocks, but of every kind."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resnet, "BLOCKS", {18: (1, 1), 50: (2, 1)})
        return {name: make(rngs=rngs()) for name, make in TINY.items()}


# Shapes


@pytest.mark.parametrize(
    ("name", "shape", "options"),
    [
        ("linear", (64,), {}),
        ("linear", (5, 4, 3), {}),
        ("mlp", (64,), {}),
        ("mlp", (28, 28, 1), {}),
        ("conv", (8, 8, 1), {}),
        ("conv", (28, 28, 1), {}),
        ("conv", (9, 15, 2), {}),
        ("conv", (64, 96, 3), {"widths": (4, 4)}),
        ("resnet18", (8, 8, 1), {"width": 2}),
        ("resnet18", (28, 28, 3), {"width": 2}),
        ("resnet18", (37, 63, 4), {"width": 2}),
        ("resnet18", (64, 91, 3), {"width": 2}),
        pytest.param("resnet34", (17, 12, 1), {"width": 1}, marks=pytest.mark.slow),
        pytest.param("resnet50", (28, 28, 1), {"width": 1}, marks=pytest.mark.slow),
        ("resnet50", (65, 65, 3), {"width": 1}),
    ],
)
def test_an_autoencoder_gives_back_the_shape_of_its_input(name, shape, options):
    model = evaluating(nets.make(name, shape, latent_dim=6, rngs=rngs(), **options))
    assert (model.example_shape, model.latent_dim) == (shape, 6)
    assert shape_of(type(model).encode, model, (3, *shape)) == ((3, 6), jnp.float32)
    assert shape_of(type(model).decode, model, (2, 6)) == ((2, *shape), jnp.float32)


@pytest.mark.parametrize(
    ("name", "shape", "options", "features"),
    [
        ("resnet9", (16, 16, 1), {"width": 0.25}, 257),
        ("resnet9", (37, 64, 3), {"width": 0.1}, 103),
        ("mlp-classifier", (28, 28, 1), {}, 512),
        ("mlp-classifier", (7,), {"widths": ()}, 7),
    ],
)
def test_a_classifier_has_features_and_logits(name, shape, options, features):
    model = evaluating(nets.make(name, shape, num_classes=11, rngs=rngs(), **options))
    assert (model.num_features, model.num_classes) == (features, 11)
    assert shape_of(type(model).features, model, (3, *shape)) == ((3, features), jnp.float32)
    assert shape_of(type(model).__call__, model, (3, *shape)) == ((3, 11), jnp.float32)


def test_probes_take_features():
    for make in (nets.LinearProbe, nets.MLPProbe):
        model = make(20, 4, rngs=rngs())
        assert shape_of(type(model).__call__, model, (5, 20)) == ((5, 4), jnp.float32)


# Parameters


def linear(inputs, outputs):
    return inputs * outputs + outputs


def conv_norm(inputs, outputs, size=3):
    """A convolution without bias, a scale and a shift."""
    return size * size * inputs * outputs + 2 * outputs


def test_mlps_have_the_parameters_that_their_widths_say():
    def hidden(inputs, outputs):
        return inputs * outputs + 2 * outputs

    model = nets.MLPAutoencoder((4, 5, 3), 7, widths=(50, 20), rngs=rngs())
    encoder = hidden(60, 50) + hidden(50, 20) + 20 * 7  # no bias: the decoder removes it
    decoder = hidden(7, 20) + hidden(20, 50) + linear(50, 60)
    assert nets.parameter_count(model.encoder) == encoder
    assert nets.parameter_count(model) == encoder + decoder
    model = nets.make("linear", (60,), latent_dim=7, rngs=rngs())
    assert nets.parameter_count(model) == linear(60, 7) + linear(7, 60)
    model = nets.MLPClassifier((60,), 9, widths=(50, 20), rngs=rngs())
    assert nets.parameter_count(model) == hidden(60, 50) + hidden(50, 20) + linear(20, 9)
    assert nets.parameter_count(nets.LinearProbe(60, 9, rngs=rngs())) == 549
    model = nets.MLPProbe(60, 9, width=30, rngs=rngs())
    assert nets.parameter_count(model) == linear(60, 30) + linear(30, 30) + linear(30, 9)


def test_the_convolutional_autoencoder_has_the_parameters_of_its_layers():
    model = nets.ConvAutoencoder((28, 30, 2), 7, widths=(8, 16), rngs=rngs())
    there = 9 * 2 * 8 + 8 + 9 * 8 * 16 + 16 + linear(7 * 8 * 16, 7)
    back = linear(7, 7 * 8 * 16) + 9 * 16 * 8 + 8 + 9 * 8 * 2 + 2
    assert nets.parameter_count(model.encoder) == there
    assert nets.parameter_count(model) == there + back


def test_resnet9_has_the_widths_of_the_paper():
    def count(w1, w2, w3, w4, w5, channels, classes):
        single = sum(conv_norm(*ends) for ends in [(channels, w1), (w1, w2), (w2, w3), (w3, w4)])
        double = 2 * (conv_norm(w2, w2) + conv_norm(w4, w4) + conv_norm(w5, w5))
        return single + conv_norm(w4, w5) + double + linear(w5, classes)

    model = nets.ResNet9((32, 32, 3), 10, rngs=rngs())
    assert nets.parameter_count(model) == count(64, 128, 256, 512, 1028, 3, 10)
    model = nets.ResNet9((28, 28, 1), 200, width=0.25, rngs=rngs())
    assert nets.parameter_count(model) == count(16, 32, 64, 128, 257, 1, 200)


# torchvision.models: the numbers of parameters that its documentation gives, head included.
KNOWN = {18: 11_689_512, 34: 21_797_672, 50: 25_557_032}


@pytest.mark.parametrize("depth", KNOWN)
def test_resnet_encoders_have_the_known_number_of_parameters(depth):
    # 32 pixels over the strides leave one position, as the usual mean over positions does.
    model = nets.ResNetAutoencoder((32, 32, 3), 1000, depth=depth, stem="large", rngs=rngs())
    assert nets.parameter_count(model.encoder) == KNOWN[depth]


def test_resnet_18_has_the_parameters_of_its_blocks():
    """With the small stem, and a decoder that mirrors the encoder."""
    width, channels, k = 8, 2, 5
    widths = [width, 2 * width, 4 * width, 8 * width]
    there = conv_norm(channels, width) + 4 * conv_norm(width, width)
    back = 4 * conv_norm(width, width) + 9 * width * channels + channels
    for less, more in pairwise(widths):
        there += conv_norm(less, more) + 3 * conv_norm(more, more) + conv_norm(less, more, 1)
        back += conv_norm(more, less) + 3 * conv_norm(more, more) + conv_norm(more, less, 1)
    positions = 3 * 2  # 20 x 16 pixels, halved three times
    model = nets.make("resnet18", (20, 16, 2), latent_dim=k, width=8, rngs=rngs())
    assert nets.parameter_count(model.encoder) == there + linear(positions * widths[-1], k)
    assert nets.parameter_count(model.decoder) == linear(k, positions * widths[-1]) + back


def test_the_stem_is_chosen_by_the_size_of_the_image():
    def kernel(side, **how):
        model = nets.make("resnet18", (side, side, 3), latent_dim=2, width=1, rngs=rngs(), **how)
        return model.encoder.layers[0].layers[0].kernel.shape

    assert kernel(63) == (3, 3, 3, 1)
    assert kernel(64) == (7, 7, 3, 1)
    assert kernel(64, stem="small") == (3, 3, 3, 1)


# Arithmetic


@pytest.mark.parametrize("name", ["mlp", "conv", "resnet18"])
def test_a_net_decodes_what_it_encodes(tiny, name):
    model = nnx.clone(tiny[name])
    model.eval()
    x = examples((3, *model.example_shape))

    @nnx.jit
    def both(model, x):
        return model(x), model.decode(model.encode(x))

    whole, parts = both(model, x)
    np.testing.assert_allclose(whole, parts, rtol=1e-5, atol=1e-6)
    assert np.std(whole) > 1e-3
    # Evaluation looks at one example at a time, and gives the same again.
    alone, _ = both(model, np.concatenate([x[:1], 5 * x[1:]]))
    np.testing.assert_allclose(alone[0], whole[0], rtol=1e-5, atol=1e-6)
    again, _ = both(model, x)
    np.testing.assert_array_equal(again, whole)


def test_without_widths_an_autoencoder_is_linear():
    model = nets.MLPAutoencoder((2, 3, 1), 4, widths=(), rngs=rngs(), param_dtype=jnp.float64)
    encoder, decoder = model.encoder.layers[-1], model.decoder.layers[-1]
    encoder.bias[...] = jnp.asarray(examples(4, 1, np.float64))
    decoder.bias[...] = jnp.asarray(examples(6, 2, np.float64))
    x = examples((5, 2, 3, 1), 3, np.float64)
    v, z = np.asarray(encoder.kernel[...]), np.asarray(decoder.kernel[...])
    codes = x.reshape(5, 6) @ v + np.asarray(encoder.bias[...])
    np.testing.assert_allclose(model.encode(x), codes, rtol=1e-12)
    expected = (codes @ z + np.asarray(decoder.bias[...])).reshape(x.shape)
    np.testing.assert_allclose(model(x), expected, rtol=1e-12)
    assert model(x).dtype == jnp.float64


def correlated(x, kernel, stride=1):
    """A 3 x 3 convolution with zeros around the image, in NumPy."""
    size = kernel.shape[0]
    padded = np.pad(x, ((0, 0), (size // 2,) * 2, (size // 2,) * 2, (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (size, size), axis=(1, 2))
    return np.einsum("nhwcij,ijco->nhwo", windows[:, ::stride, ::stride], kernel)


def in_numpy(module, x):
    """Layers of a net in evaluation mode, in NumPy."""
    if isinstance(module, nnx.Sequential):
        for layer in module.layers:
            x = in_numpy(layer, x)
        return x
    if isinstance(module, layers.Residual):
        return in_numpy(module.body, x) + in_numpy(module.shortcut, x)
    if isinstance(module, nnx.Conv):
        y = correlated(x, np.asarray(module.kernel[...]), module.stride)
        return y if module.bias is None else y + np.asarray(module.bias[...])
    if isinstance(module, nnx.BatchNorm):
        mean, var, scale, bias = (
            np.asarray(part[...]) for part in (module.mean, module.var, module.scale, module.bias)
        )
        return (x - mean) / np.sqrt(var + 1e-5) * scale + bias
    if isinstance(module, nnx.Linear):
        return x @ np.asarray(module.kernel[...]) + np.asarray(module.bias[...])
    if isinstance(module, layers.Deconv):
        n, h, w, _ = x.shape
        kernel = np.asarray(module.kernel[...])[::-1, ::-1]
        y = np.zeros((n, 2 * h + 1, 2 * w + 1, kernel.shape[3]))
        for i in range(3):
            for j in range(3):
                y[:, i : i + 2 * h : 2, j : j + 2 * w : 2] += x @ kernel[i, j]
        return y[:, : module.size[0], : module.size[1]] + np.asarray(module.bias[...])
    if isinstance(module, layers.Reshape):
        return x.reshape(len(x), *module.shape)
    if isinstance(module, layers.Upsample):
        return x.repeat(2, axis=1).repeat(2, axis=2)[:, : module.size[0], : module.size[1]]
    if module is jax.nn.relu:
        return np.maximum(x, 0)
    if module is layers.flat:
        return x.reshape(len(x), -1)
    if module is layers.max_pool:
        h, w = x.shape[1:3]
        return np.stack(
            [x[:, i : h // 2 * 2 : 2, j : w // 2 * 2 : 2] for i in (0, 1) for j in (0, 1)]
        ).max(axis=0)
    return x.reshape(len(x), -1, x.shape[-1]).max(axis=1)


@pytest.mark.parametrize("name", ["conv", "resnet9", "resnet18", "resnet50"])
def test_nets_compute_what_their_layers_say(tiny, name):
    model = nnx.clone(tiny[name])
    model.eval()
    rng = np.random.default_rng(1)
    for _, module in nnx.iter_graph(model):
        if isinstance(module, nnx.BatchNorm):
            for part in (module.mean, module.bias):
                part[...] = jnp.asarray(rng.normal(size=part.shape), jnp.float32)
            for part in (module.var, module.scale):
                part[...] = jnp.asarray(rng.uniform(0.5, 2, size=part.shape), jnp.float32)
    x = examples((2, *model.example_shape))
    found = nnx.jit(lambda model, x: model(x))(model, x)
    if name == "resnet9":
        expected = in_numpy(model.head, in_numpy(model.body, x))
    else:
        expected = in_numpy(model.decoder, in_numpy(model.encoder, x))
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-4 * np.std(expected))


def test_max_pooling_is_that_of_a_window_and_so_is_its_gradient():
    x = examples((2, 7, 6, 3), dtype=np.float64)
    weight = examples((2, 3, 3, 3), 1, np.float64)

    def window(x):
        return nnx.max_pool(x, (2, 2), (2, 2))

    np.testing.assert_array_equal(layers.max_pool(x), window(x))
    slopes = [jax.grad(lambda x, f=f: jnp.sum(weight * f(x)))(x) for f in (layers.max_pool, window)]
    np.testing.assert_array_equal(*slopes)
    assert resnet.stem_pool(jnp.asarray(x)).shape == (2, 4, 3, 3)


def lax_convolution(x, kernel, stride):
    """XLA's own, with its own gradients."""
    around = [(len(kernel) // 2,) * 2] * 2
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), around, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def with_slopes(function, x, kernel, stride, weight):
    """Outputs, and the gradients of their weighted sum."""

    @jax.jit
    def all_three(x, kernel):
        y, back = jax.vjp(lambda x, kernel: function(x, kernel, stride), x, kernel)
        return y, *back(weight)

    return all_three(x, kernel)


@pytest.mark.parametrize(
    ("shape", "size", "outputs", "stride"),
    [
        ((3, 8, 9, 6), 3, 5, 1),
        ((3, 9, 8, 6), 3, 5, 2),
        ((2, 9, 8, 4), 1, 3, 2),
        ((3, 2, 2, 6), 3, 5, 1),
        ((3, 2, 1, 6), 3, 5, 2),
        ((4, 3, 4, 3), 7, 5, 1),
        ((3, 3, 4, 4), 7, 5, 2),
        ((1, 1, 1, 4), 3, 5, 1),
    ],
)
def test_every_form_of_a_convolution_is_the_same(shape, size, outputs, stride):
    x = examples(shape, 0, np.float64)
    kernel = examples((size, size, shape[-1], outputs), 1, np.float64)
    expected = correlated(x, kernel, stride)
    weight = examples(expected.shape, 2, np.float64)
    found = with_slopes(convolution.convolution, x, kernel, stride, weight)
    np.testing.assert_allclose(found[0], expected, rtol=0, atol=1e-10)
    wanted = with_slopes(lax_convolution, x, kernel, stride, weight)
    for mine, right in zip(found, wanted, strict=True):
        np.testing.assert_allclose(mine, right, rtol=0, atol=1e-10)


def test_the_form_of_small_images_can_be_turned_off(monkeypatch):
    def by_xla(*sizes):
        """Whether XLA computes it, by height, width and size of the kernel."""
        found = []
        for height, width, size in sizes:
            make = layers.Layers(rngs(), None, jnp.float32)
            graph, state = nnx.split(make.conv(4, 5, size))
            x = jnp.zeros((3, height, width, 4), jnp.float32)
            text = jax.make_jaxpr(lambda state, x, g=graph: nnx.merge(g, state)(x))(state, x)
            found.append("conv_general" in str(text))
        return found

    sizes = (2, 2, 3), (2, 3, 3), (4, 4, 7), (1, 1, 1)
    assert by_xla(*sizes) == [False, True, False, False]
    monkeypatch.setattr(convolution, "SMALL_IMAGES", False)
    assert by_xla(*sizes) == [True] * 4


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_convolutions_keep_the_dtype_and_can_be_mapped_and_looped(dtype):
    """As in a vmapped loop of training steps."""
    x = jnp.asarray(examples((2, 3, 2, 2, 16)), dtype)
    kernel = jnp.asarray(examples((2, 3, 3, 16, 4), 1), dtype)

    def run(form):
        def loss(kernel, x):
            return jnp.sum(jnp.square(form(x, kernel, 1)).astype(jnp.float32)) / 1e4

        def one(kernel, x):
            def step(kernel, _):
                return kernel - jax.grad(loss)(kernel, x), None

            return jax.lax.scan(step, kernel, length=2)[0]

        return jax.pmap(jax.vmap(one), devices=jax.devices()[:1])(kernel[None], x[None])

    found, wanted = run(convolution.convolution), run(lax_convolution)
    assert found.dtype == dtype
    exact = [np.asarray(part, np.float32) for part in (found, wanted)]
    np.testing.assert_allclose(*exact, atol=1e-5 if dtype == jnp.float32 else 0.1)


# Dtypes


@pytest.mark.parametrize("name", NAMES)
def test_parameters_and_outputs_are_float32_whatever_the_default(tiny, name):
    assert jax.config.jax_enable_x64
    model = tiny[name]
    assert {leaf.dtype for leaf in jax.tree.leaves(nnx.state(model))} == {jnp.dtype("float32")}
    model = nnx.clone(model)
    model.eval()
    call = type(model).__call__
    shape = (2, *model.example_shape)
    for dtype in (jnp.float32, jnp.float64, jnp.bfloat16):
        assert shape_of(call, model, shape, dtype)[1] == jnp.float32
    if hasattr(model, "encode"):
        assert shape_of(type(model).encode, model, shape, jnp.float64)[1] == jnp.float32
        decode = type(model).decode
        assert shape_of(decode, model, (2, model.latent_dim), jnp.float64)[1] == jnp.float32


@pytest.mark.parametrize("name", NAMES)
def test_bfloat16_is_the_dtype_of_the_computation_alone(name):
    model = evaluating(TINY[name](rngs=rngs(), dtype=jnp.bfloat16))
    assert {leaf.dtype for leaf in jax.tree.leaves(nnx.state(model))} == {jnp.dtype("float32")}
    call = type(model).__call__
    shape = (2, *model.example_shape)
    assert shape_of(call, model, shape)[1] == jnp.float32
    graph, state = nnx.split(model)
    x = jax.ShapeDtypeStruct(shape, jnp.float32)
    text = str(jax.make_jaxpr(lambda state, x: nnx.merge(graph, state)(x))(state, x))
    products = [line for line in text.splitlines() if "conv_general" in line or "dot_gen" in line]
    assert products
    assert all("bf16" in line for line in products), products


def test_bfloat16_gives_nearly_the_same(tiny):
    exact = nnx.clone(tiny["mlp-classifier"])
    rough = TINY["mlp-classifier"](rngs=rngs(), dtype=jnp.bfloat16)
    exact.eval()
    rough.eval()
    x = examples((50, 4))
    difference = np.abs(np.asarray(exact(x) - rough(x)))
    assert 0 < difference.max() < 0.05 * np.std(exact(x))


# Training mode


@pytest.mark.parametrize("devices", [1, 4])
def test_batch_statistics_are_those_of_the_whole_batch(devices):
    x = examples((16, 6))
    model = nets.MLPClassifier((6,), 3, widths=(5,), rngs=rngs())
    first, head = (np.asarray(part.kernel[...]) for part in (model.body.layers[1], model.head))
    outputs, statistics = over_devices(devices, model, x)
    # By hand: the running moments start from 0 and 1 and have momentum 0.9.
    y = x @ first
    norm = statistics["body"]["layers"][2]
    np.testing.assert_allclose(norm["mean"][...], 0.1 * y.mean(axis=0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(norm["var"][...], 0.9 + 0.1 * y.var(axis=0), rtol=1e-5)
    hidden = np.maximum((y - y.mean(axis=0)) / np.sqrt(y.var(axis=0) + 1e-5), 0)
    np.testing.assert_allclose(outputs, hidden @ head, rtol=1e-4, atol=1e-5)


def test_a_fresh_net_can_be_called_and_takes_the_batch_as_whole():
    """As it is made, in training mode and without a mapped axis; also compiled."""
    x = examples((16, 6))

    def fresh():
        return nets.MLPClassifier((6,), 3, widths=(5,), rngs=rngs())

    outputs, statistics = over_devices(4, fresh(), x)
    for call in (lambda model, x: model(x), nnx.jit(lambda model, x: model(x))):
        model = fresh()
        np.testing.assert_allclose(call(model, x), outputs, rtol=1e-4, atol=1e-5)
        found = nnx.as_pure(nnx.state(model, nnx.BatchStat))
        jax.tree.map(
            lambda mine, theirs: np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-6),
            found,
            nnx.as_pure(statistics),
        )


@pytest.mark.parametrize("name", ["mlp", "conv", "resnet9"])
def test_a_net_starts_alike_inside_and_outside_of_jit(tiny, name):
    inside = nnx.jit(lambda key: TINY[name](rngs=nnx.Rngs(key)))(jax.random.key(0))
    for mine, other in zip(leaves(inside), leaves(tiny[name]), strict=True):
        np.testing.assert_array_equal(mine, other)
    assert not np.array_equal(leaves(TINY[name](rngs=nnx.Rngs(1)))[-1], leaves(inside)[-1])


def test_nets_made_side_by_side_start_as_each_by_itself():
    keys = jax.random.split(jax.random.key(3), 2)
    both = nnx.vmap(lambda key: nets.MLPProbe(4, 3, width=8, rngs=nnx.Rngs(key)))(keys)
    for index in (0, 1):
        alone = nets.MLPProbe(4, 3, width=8, rngs=nnx.Rngs(keys[index]))
        for mine, other in zip(leaves(both), leaves(alone), strict=True):
            np.testing.assert_array_equal(mine[index], other)


def leaves(model):
    return jax.tree.leaves(nnx.as_pure(nnx.state(model, nnx.Param)))


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_has_a_gradient(tiny, name):
    model = tiny[name]
    graph, params, rest = nnx.split(model, nnx.Param, ...)

    def loss(params, rest, x):
        y = nnx.merge(graph, params, rest, copy=True)(x)
        target = jnp.cos(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape)
        return jnp.mean(jnp.square(y - target))

    x = examples((1, 8, *model.example_shape))
    slopes = jax.vmap(jax.grad(loss), (None, None, 0), axis_name=AXIS)
    quick = jax.jit(slopes, compiler_options={"xla_llvm_disable_expensive_passes": True})
    slopes = nnx.as_pure(quick(params, rest, x))
    for path, slope in jax.tree.leaves_with_path(slopes):
        assert np.all(np.isfinite(slope)), path
        assert np.max(np.abs(slope)) > 1e-7, path


# Names and errors


def test_every_name_makes_a_net():
    assert nets.NAMES == nets.AUTOENCODERS + nets.MASKED_AUTOENCODERS + nets.CLASSIFIERS
    for name in nets.NAMES:
        options = {} if name in ("linear", "mlp", "mlp-classifier") else {"width": 0.5}
        if name == "conv":
            options = {"widths": (3,)}
        elif name.startswith("resnet") and name in nets.AUTOENCODERS:
            options = {"width": 1}
        elif name in nets.MASKED_AUTOENCODERS:
            options = {"depth": 1} if name == "vit" else {}
        sizes = {"latent_dim": 3, "num_classes": 4}
        model = nets.make(name, (16, 16, 1), **sizes, rngs=rngs(), dtype=jnp.bfloat16, **options)
        assert model.dtype == jnp.bfloat16
        assert hasattr(model, "encode" if name in nets.AUTOENCODERS else "features")


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: nets.make("gpt", (8, 8, 1), rngs=rngs()), "net: gpt; it must be one of linear,"),
        (lambda: nets.make("mlp", (8,), rngs=rngs()), "latent_dim: None; the net mlp needs one"),
        (
            lambda: nets.make("resnet9", (16, 16, 1), latent_dim=3, rngs=rngs()),
            "num_classes: None; the net resnet9 needs one",
        ),
        (
            lambda: nets.make("linear", (8,), latent_dim=2, widths=(3,), rngs=rngs()),
            "widths: not an option of the net linear",
        ),
        (lambda: nets.MLPAutoencoder((8,), 0, rngs=rngs()), "latent_dim: 0; it must be a whole"),
        (lambda: nets.MLPAutoencoder((8,), 2.5, rngs=rngs()), "latent_dim: 2.5; it must be"),
        (lambda: nets.MLPClassifier((8,), 2, widths=(-1,), rngs=rngs()), "widths: -1; it must"),
        (lambda: nets.MLPProbe(8, 0, rngs=rngs()), "num_classes: 0; it must be a whole number"),
        (
            lambda: nets.ConvAutoencoder((7, 28, 1), 2, rngs=rngs()),
            "image_shape: 7x28 is smaller than this net's strides, 8x8 in all",
        ),
        (
            lambda: nets.ResNetAutoencoder((28, 28, 1), 2, stem="large", rngs=rngs()),
            "image_shape: 28x28 is smaller than this net's strides, 32x32 in all",
        ),
        (
            lambda: nets.ResNet9((8, 8, 1), 10, rngs=rngs()),
            "image_shape: 8x8 is smaller than this net's strides, 16x16 in all",
        ),
        (
            lambda: nets.make("conv", (64,), latent_dim=2, rngs=rngs()),
            "image_shape: (64,); this net needs images of (height, width, channels)",
        ),
        (
            lambda: nets.make("resnet34", (64,), latent_dim=2, rngs=rngs()),
            "image_shape: (64,); this net needs images of (height, width, channels)",
        ),
        (
            lambda: nets.ResNetAutoencoder((8, 8, 1), 2, depth=101, rngs=rngs()),
            "depth: 101; it must be 18, 34 or 50",
        ),
        (
            lambda: nets.ResNetAutoencoder((8, 8, 1), 2, stem="tiny", rngs=rngs()),
            "stem: tiny; it must be small or large",
        ),
        (lambda: nets.ResNet9((16, 16, 1), 10, width=0, rngs=rngs()), "width: 0; it must be a"),
        (
            lambda: nets.ResNet9((16, 16, 1), 10, width=math.nan, rngs=rngs()),
            "width: nan; it must be a factor >= 1/64",
        ),
    ],
)
def test_bad_sizes_are_refused_in_one_line(make, text):
    with pytest.raises(ValueError) as error:
        make()
    assert str(error.value).startswith(text)
    assert "\n" not in str(error.value)


def test_examples_of_another_shape_or_dtype_are_refused(tiny):
    model = tiny["conv"]
    with pytest.raises(ValueError, match=r"x: shape \(3, 9, 7, 2\); this net takes \(N, 9, 6, 2\)"):
        model(np.zeros((3, 9, 7, 2), np.float32))
    with pytest.raises(ValueError, match="x: uint8; nets take centered floats"):
        model.encode(np.zeros((3, 9, 6, 2), np.uint8))
