"""The masked autoencoder against its plain definition: patches, attention, what each part sees."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from reconjax import nets
from reconjax.nets.transformer import Transformer, positions

SHAPE, PATCH = (8, 12, 2), (2, 4)
TOKENS, VALUES = 4 * 3, 2 * 4 * 2
SEEN = 5


def rngs():
    return nnx.Rngs(0)


def small(**options):
    sizes = {"width": 24, "depth": 2, "heads": 3, "decoder_width": 16}
    return nets.make("vit", SHAPE, **{**sizes, "patch_shape": PATCH, **options}, rngs=rngs())


encode = nnx.jit(lambda model, x, seen=None: model.encode(x, seen))
predict = nnx.jit(lambda model, codes, order=None: model.predict(codes, order))
features = nnx.jit(lambda model, x: model.features(x))


@pytest.fixture(scope="module")
def model():
    """With numbers where training starts from 0."""
    model = small()
    state = nnx.state(model, nnx.Param)
    nnx.update(model, jax.tree.map(lambda leaf: leaf + 0.1 * examples(leaf.shape), state))
    return model


def examples(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def orders(count, seed=0):
    rng = np.random.default_rng(seed)
    return np.stack([rng.permutation(TOKENS) for _ in range(count)]).astype(np.int32)


def test_patches_are_cut_out_row_by_row_and_put_back(model):
    x = examples((3, *SHAPE))
    found = np.asarray(model.patches(x))
    assert (model.tokens, found.shape) == (TOKENS, (3, TOKENS, VALUES))
    for i in range(4):
        for j in range(3):
            patch = x[:, 2 * i : 2 * i + 2, 4 * j : 4 * j + 4]
            np.testing.assert_array_equal(found[:, 3 * i + j], patch.reshape(3, -1))
    np.testing.assert_array_equal(model.images(found), x)


def test_positions_say_how_far_two_tokens_are_apart():
    """sin a sin b + cos a cos b = cos(a - b): products depend on the offset alone."""
    rows, columns, width = 5, 7, 24
    found = positions(rows, columns, width).astype(float)
    row, column = np.divmod(np.arange(rows * columns), columns)
    frequencies = 10000.0 ** (-4 * np.arange(width // 4) / width)
    wanted = sum(
        np.cos(np.subtract.outer(place, place)[..., None] * frequencies).sum(-1)
        for place in (row, column)
    )
    np.testing.assert_allclose(found @ found.T, wanted, atol=1e-5)
    np.testing.assert_allclose(found[0], np.repeat([0, 1, 0, 1], width // 4), atol=0)


def normalized(x, layer):
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    scale, bias = (np.asarray(part[...], float) for part in (layer.scale, layer.bias))
    return (x - mean) / np.sqrt(variance + 1e-6) * scale + bias


def linear(x, layer, axes=1):
    kernel, bias = (np.asarray(part[...], float) for part in (layer.kernel, layer.bias))
    return np.tensordot(x, kernel, axes) + bias


def by_hand(x, transformer):
    """A transformer on the tokens (T, width) of one example, in NumPy, head by head."""
    attentions, mlps = transformer.branches.layers[::2], transformer.branches.layers[1::2]
    for attention, mlp in zip(attentions, mlps, strict=True):
        norm, layer = attention.body.layers
        q, k, v = (
            linear(normalized(x, norm), getattr(layer, n)) for n in ("query", "key", "value")
        )
        heads = []
        for head in range(q.shape[1]):
            scores = np.exp(q[:, head] @ k[:, head].T / np.sqrt(q.shape[2]))
            heads.append(scores / scores.sum(1, keepdims=True) @ v[:, head])
        x = x + linear(np.stack(heads, axis=1), layer.out, axes=2)
        norm, first, _, second = mlp.body.layers
        hidden = linear(normalized(x, norm), first)
        cubic = np.sqrt(2 / np.pi) * (hidden + 0.044715 * hidden**3)
        x = x + linear(0.5 * hidden * (1 + np.tanh(cubic)), second)
    return normalized(x, transformer.norm)


def test_encoder_and_decoder_are_what_the_definition_says(model):
    x, order = examples((2, *SHAPE)), orders(2)
    codes = np.asarray(encode(model, x, order[:, :SEEN]))
    predicted = np.asarray(predict(model, codes, order))
    assert (codes.shape, predicted.shape) == ((2, 1 + SEEN, 24), (2, TOKENS, VALUES))
    for n in range(2):
        seen = np.asarray(model.patches(x))[n, order[n, :SEEN]].astype(float)
        tokens = linear(seen, model.embedding) + positions(4, 3, 24)[order[n, :SEEN]]
        tokens = np.concatenate([np.asarray(model.class_token[...])[None], tokens])
        wanted = by_hand(tokens, model.encoder)
        np.testing.assert_allclose(codes[n], wanted, atol=2e-4)
        known = linear(wanted, model.decoder_embedding)
        blank = np.tile(np.asarray(model.mask_token[...], float), (TOKENS - SEEN, 1))
        tokens = np.concatenate([known, blank])
        tokens[1:] += positions(4, 3, 16)[order[n]]
        wanted = linear(by_hand(tokens, model.decoder)[1:], model.prediction)
        np.testing.assert_allclose(predicted[n], wanted, atol=2e-3)


def test_what_is_masked_never_reaches_the_encoder(model):
    x, order = examples((4, *SHAPE)), orders(4)
    patches = np.array(model.patches(x))
    other = patches.copy()
    for n in range(4):
        other[n, order[n, SEEN:]] = np.nan
    codes = encode(model, x, order[:, :SEEN])
    np.testing.assert_array_equal(codes, encode(model, model.images(other), order[:, :SEEN]))
    slopes = jax.jit(jax.grad(lambda x: jnp.square(model.encode(x, order[:, :SEEN])[:, 0]).sum()))(
        x
    )
    slopes = np.abs(np.asarray(model.patches(slopes))).max(-1)
    for n in range(4):
        assert (slopes[n, order[n, SEEN:]] == 0).all()
        assert (slopes[n, order[n, :SEEN]] > 0).all()


class Recorder(nnx.Module):
    """Keeps what a decoder is given."""

    def __init__(self):
        self.tokens = []

    def __call__(self, tokens):
        self.tokens.append(np.asarray(tokens))
        return tokens


def test_the_decoder_sees_every_position_once_and_blanks_where_masked():
    model, order = small(), orders(3)
    codes = jnp.zeros((3, 1 + SEEN, 24))
    model.mask_token[...] = jnp.full(16, 100.0)
    recorder = model.decoder = Recorder()
    model.predict(codes, order)
    (tokens,) = recorder.tokens
    assert tokens.shape == (3, 1 + TOKENS, 16)
    blank = tokens.mean(-1) > 50
    assert (blank == ([False] * (1 + SEEN) + [True] * (TOKENS - SEEN))).all()
    places = tokens[:, 1:] - 100 * blank[:, 1:, None]
    table = positions(4, 3, 16)
    for n in range(3):
        distances = np.abs(places[n][:, None] - table).max(-1)
        assert distances.argmin(1).tolist() == order[n].tolist()  # a permutation
        assert distances.min(1).max() < 1e-4


def test_the_order_of_patches_changes_nothing_but_the_order(model):
    x, order = examples((2, *SHAPE)), orders(2)
    other = np.concatenate([order[:, :SEEN][:, ::-1], order[:, SEEN:][:, ::-1]], axis=1)
    first, second = (
        model.images(
            jnp.take_along_axis(
                predict(model, encode(model, x, each[:, :SEEN]), each),
                jnp.argsort(each, axis=1)[..., None],
                axis=1,
            )
        )
        for each in (order, other)
    )
    np.testing.assert_allclose(first, second, atol=1e-4)


def test_features_are_of_the_whole_image(model):
    x = examples((3, *SHAPE))
    everything = np.tile(np.arange(TOKENS, dtype=np.int32), (3, 1))
    other, every = nnx.clone(model), nnx.clone(model)
    other.readout, every.readout = "class", "blocks"

    @nnx.jit
    def outputs(model, other, x):
        codes = model.encode(x, everything)
        image = model.images(model.predict(codes))
        return codes, model.encode(x), model.features(x), other.features(x), image, model(x)

    codes, encoded, mean, first, image, reconstruction = map(np.asarray, outputs(model, other, x))
    np.testing.assert_allclose(encoded, codes, atol=1e-6)
    np.testing.assert_allclose(mean, codes[:, 1:].mean(1), atol=1e-6)
    np.testing.assert_allclose(first, codes[:, 0], atol=1e-6)
    np.testing.assert_allclose(reconstruction, image, atol=1e-5)
    # After the first block: what reaches the second one.
    attention, mlp = model.encoder.branches.layers[:2]
    seen = nnx.jit(lambda attention, mlp, tokens: mlp(attention(tokens)))
    after = np.asarray(seen(attention, mlp, model._tokens(x)))
    blocks = np.asarray(features(every, x))
    np.testing.assert_allclose(blocks, np.hstack([after[:, 1:].mean(1), mean]), atol=1e-6)
    other.readout = "first"
    with pytest.raises(ValueError, match="readout: 'first'; it must be one of mean, class, blocks"):
        jax.eval_shape(other.features, x)


def test_bfloat16_is_the_dtype_of_the_products_and_gives_nearly_the_same(model):
    rough = small(dtype=jnp.bfloat16)
    nnx.update(rough, nnx.state(model))
    assert {leaf.dtype for leaf in jax.tree.leaves(nnx.state(rough))} == {jnp.dtype("float32")}
    x = examples((6, *SHAPE))
    exact, found = (np.asarray(features(net, x)) for net in (model, rough))
    assert found.dtype == np.float32
    assert 0 < np.abs(found - exact).max() < 0.1 * np.abs(exact).max()
    graph, state = nnx.split(rough)
    made = jax.make_jaxpr(lambda s, x: nnx.merge(graph, s)(x))(state, jnp.asarray(x))
    dtypes = [operand.aval.dtype for product in products(made.jaxpr) for operand in product]
    assert len(dtypes) > 20
    assert set(dtypes) == {jnp.dtype(jnp.bfloat16)}


def products(program):
    """The operands of every matrix product in a program and in those that it calls."""
    for line in program.eqns:
        if line.primitive.name == "dot_general":
            yield line.invars
        for value in line.params.values():
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from products(inner)


def test_it_starts_from_the_mean_image():
    assert np.abs(nnx.jit(lambda model, x: model(x))(small(), examples((2, *SHAPE)))).max() == 0


@pytest.mark.parametrize(
    ("shape", "patch"),
    [
        ((224, 224, 3), 16), ((32, 32, 3), 4), ((28, 28, 1), 4), ((64, 64, 3), 8), ((8, 8, 1), 2),
        ((96, 128, 3), 8), ((11, 13, 1), 1), ((4, 4, 1), 1),
    ],
)  # fmt: skip
def test_the_patch_by_default(shape, patch):
    assert nets.usual_patch(shape) == (patch, patch)


def test_the_usual_sizes_have_the_usual_numbers_of_parameters():
    """Of a block: 12 w² + 13 w; ViT-Ti and ViT-S as Touvron et al. (2021) have them."""
    for name, width in (("vit-ti", 192), ("vit-s", 384)):
        model = nets.make(name, (32, 32, 3), rngs=rngs())
        assert isinstance(model.encoder, Transformer)
        blocks = 12 * (12 * width**2 + 13 * width)
        assert nets.parameter_count(model.encoder) == blocks + 2 * width
        assert nets.parameter_count(model.decoder) < 0.2 * blocks


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: nets.make("vit", (64,), rngs=rngs()), "image_shape: (64,); this net needs images"),
        (lambda: small(patch_shape=5), "patch_shape: 5x5 does not divide the 8x12 image"),
        (lambda: small(patch_shape=(2, 2, 2)), "patch_shape: (2, 2, 2); (height, width) or one"),
        (lambda: small(patch_shape=0), "patch_shape: 0; it must be a whole number >= 1"),
        (lambda: small(width=18), "width: 18; it must be a multiple of 4"),
        (lambda: small(heads=5), "heads: 5; it must divide width, 24"),
        (lambda: small(decoder_heads=3), "decoder_heads: 3; it must divide decoder_width, 16"),
        (lambda: small(depth=0), "depth: 0; it must be a whole number >= 1"),
        (lambda: small(readout="max"), "readout: 'max'; it must be one of mean, class, blocks"),
        (lambda: nets.make("vit-s", SHAPE, width=8, rngs=rngs()), "width: not an option of"),
    ],
)  # fmt: skip
def test_bad_sizes_are_refused_in_one_line(make, text):
    with pytest.raises(ValueError) as error:
        make()
    assert str(error.value).startswith(text)
    assert "\n" not in str(error.value)
