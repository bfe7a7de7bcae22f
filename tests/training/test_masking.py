"""The objective of masked autoencoders against its definition, and that it learns."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import reconjax
from reconjax import nets, noise, training
from reconjax.data import Dataset
from reconjax.theory.targets import patch_centered, whitened
from reconjax.training.objectives import Reconstruction
from reconjax.training.optimizer import adamw

SHAPE, PATCH, COUNT = (16, 16, 2), 2, 6
TOKENS = 64


@pytest.fixture(scope="module")
def model():
    """8 x 8 patches, and predictions that are not 0."""
    sizes = {"width": 16, "depth": 1, "heads": 2, "decoder_width": 8}
    model = nets.make("vit", SHAPE, patch_shape=PATCH, **sizes, rngs=nnx.Rngs(0))
    state = nnx.state(model, nnx.Param)
    rng = np.random.default_rng(0)
    more = jax.tree.map(lambda a: a + np.float32(0.1 * rng.normal(size=a.shape)), state)
    nnx.update(model, more)
    return model


def images(count=COUNT, seed=0):
    return np.random.default_rng(seed).normal(size=(count, *SHAPE)).astype(np.float32)


def keys(count=COUNT):
    return jax.random.split(jax.random.key(3), count)


def mask(block, ratio=0.75):
    """Blocks of so many by so many patches."""
    return noise.exact_patch_mask(ratio, block * PATCH, SHAPE)


def dropped(drawn, count=COUNT):
    """(N, H, W, C) bool, by the noise itself."""
    ones = np.ones((1, *SHAPE), np.float32)
    return np.stack([np.asarray(drawn.sample(key, ones))[0] == 0 for key in keys(count)])


terms = nnx.jit(lambda objective, model, keys, x: objective.terms(model, None, keys, x, None))


@pytest.mark.parametrize("block", [1, 2, 4])
@pytest.mark.parametrize("ratio", [0.75, 0.6])
def test_exactly_so_many_blocks_are_masked_and_they_are_those_of_the_noise(model, block, ratio):
    objective = training.masked(mask(block, ratio))
    blocks = TOKENS // block**2
    kept = int((1 - ratio) * blocks + 1e-9)
    order, seen = objective.order(model, keys())
    assert seen == kept * block**2
    assert np.sort(order, axis=1).tolist() == [list(range(TOKENS))] * COUNT
    gone = np.asarray(model.patches(dropped(objective.noise)))  # (N, T, P)
    assert (gone == gone[..., :1]).all()
    for n in range(COUNT):
        assert gone[n, order[n, :seen]].sum() == 0
        assert gone[n, order[n, seen:]].all()
        grid = gone[n, :, 0].reshape(8 // block, block, 8 // block, block)
        assert (grid == grid[:, :1, :, :1]).all()
        assert (~grid[:, 0, :, 0]).sum() == kept
    assert len({row.tobytes() for row in np.asarray(order)}) > COUNT / 2  # each draws its own


A = np.random.default_rng(5).normal(size=(512, 512)).astype(np.float32) / 20


def numpy_centered(x):
    x = x.copy()
    for i in range(0, 16, PATCH):
        for j in range(0, 16, PATCH):
            part = x[:, i : i + PATCH, j : j + PATCH]
            part -= part.mean(axis=(1, 2, 3), keepdims=True)
    return x


TARGETS = {
    "pixels": (None, lambda x: x),
    "matrix": (A, lambda x: (x.reshape(len(x), -1) @ A).reshape(x.shape)),
    "centered": (patch_centered(PATCH, SHAPE), numpy_centered),
    "function": (jnp.tanh, np.tanh),
}


@pytest.mark.parametrize(
    ("block", "loss_on", "target"),
    [
        (1, "masked", "pixels"),
        (2, "all", "matrix"),
        (4, "masked", "centered"),
        (1, "all", "function"),
    ],
)
def test_the_loss_is_what_numpy_says(model, block, loss_on, target):
    given, wanted = TARGETS[target]
    objective = training.masked(mask(block), loss_on=loss_on, target=given)
    x = images()
    order, seen = map(np.asarray, objective.order(model, keys()))
    predicted = nnx.jit(lambda m, x, o: m.predict(m.encode(x, o[:, :16]), o))(model, x, order)
    assert seen == 16
    patches = np.empty_like(predicted)
    for n in range(COUNT):
        patches[n, order[n]] = predicted[n]
    error = np.square(np.asarray(model.images(patches)) - wanted(x)).astype(float)
    counts = dropped(objective.noise) if loss_on == "masked" else np.ones_like(error)
    right = (error * counts).sum((1, 2, 3)) / counts.sum((1, 2, 3))
    found = terms(objective, model, keys(), x)
    np.testing.assert_allclose(found["loss"], right, rtol=1e-4)
    np.testing.assert_array_equal(found["loss"], found["reconstruction"])


def test_what_is_masked_counts_as_the_target_alone(model):
    """With other values there, the prediction stays: the loss is a parabola of them."""
    objective = training.masked(mask(1))
    x, gone = images(), dropped(objective.noise)
    losses = [
        np.asarray(terms(objective, model, keys(), np.where(gone, x + shift, x))["loss"], float)
        for shift in np.float32([-1, 0, 1])
    ]
    np.testing.assert_allclose(losses[0] + losses[2] - 2 * losses[1], 2.0, rtol=1e-3)
    show = nnx.jit(lambda model, x: objective.shown(model, jax.random.key(0), x))
    shown = show(model, x)
    seen = np.asarray(shown["input"]) != 0
    np.testing.assert_array_equal(np.asarray(shown["output"])[seen], x[seen])
    assert seen.mean() == 0.25
    assert not (np.asarray(shown["output"])[~seen] == 0).any()


def test_without_a_mask_it_is_the_reconstruction_of_the_whole(model):
    x = images()
    whole = training.masked(mask(1, 0.0), loss_on="all")
    found = terms(whole, model, keys(), x)["loss"]
    np.testing.assert_allclose(found, terms(Reconstruction(), model, keys(), x)["loss"], rtol=1e-4)


def test_whitened_targets_have_the_variances_that_the_power_says():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 4, 4, 1)) * np.linspace(0.1, 1, 16).reshape(4, 4, 1)
    x[:, 0, 0] = 0  # a constant pixel
    flat = (x - x.mean(0)).reshape(300, 16)
    m = flat.T @ flat / 300
    values = np.linalg.eigvalsh(m[1:, 1:])
    principal = reconjax.spectrum(reconjax.moments(flat, flat))
    for power in (0.0, 0.5, 1.0):
        target = training.whitened(principal, power)
        t = np.asarray(target(flat.reshape(-1, 4, 4, 1))).reshape(300, 16)
        found = np.linalg.eigvalsh((t.T @ t / 300)[1:, 1:])
        wanted = values ** (1 - power)
        np.testing.assert_allclose(found, wanted * values.sum() / wanted.sum(), rtol=1e-6)
        # Symmetric: every value keeps its place.
        matrix = target.target.matrix
        np.testing.assert_allclose(matrix, matrix.T, atol=1e-10)
        assert np.abs(t[:, 0]).max() < 1e-10
    with pytest.raises(ValueError, match=r"power: 1\.5; it must be from 0 to 1"):
        training.whitened(principal, 1.5)


def test_biases_of_attention_are_not_decayed(model):
    attention = model.encoder.branches.layers[0].body.layers[1]
    params = nnx.as_pure(nnx.state(attention.query, nnx.Param))
    assert {name: leaf.ndim for name, leaf in params.items()} == {"kernel": 3, "bias": 2}
    rule = adamw(1.0, 0.5, 10)
    still = jax.tree.map(jnp.zeros_like, params)
    update = jax.jit(lambda params: rule.update(still, rule.init(params), params)[0])(params)
    assert {name: bool(np.any(leaf)) for name, leaf in update.items()} == {
        "kernel": True,
        "bias": False,
    }


# Training


@pytest.fixture(scope="module")
def digits():
    return reconjax.data.load("digits")


SIZES = {"width": 16, "depth": 1, "heads": 2, "decoder_width": 16}


def fitted(digits, folder, **how):
    """Half of the 16 patches are masked."""
    objective = training.masked(noise.exact_patch_mask(0.5, 2, (8, 8, 1)))
    record = {"net": {"name": "vit", **SIZES}, "source": "digits", "noise": "exact:0.5:2x2"}
    return training.fit(
        nets.make("vit", (8, 8, 1), **SIZES, rngs=nnx.Rngs(0)), digits, objective, epochs=10,
        batch_size=64, learning_rate=0.01, out=folder, record=record, evaluate_at=[0],
        devices=jax.devices()[:1], **how,
    )  # fmt: skip


@pytest.fixture(scope="module")
def trained(digits, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    return folder, fitted(digits, folder)


def test_it_learns_what_is_masked_from_what_is_seen(digits, trained):
    """More than the mean image, which is what it starts from."""
    x = digits.train.examples(np.arange(len(digits.train)))[0]
    variance = np.square(x - x.mean(0)).mean()
    first, last = (row["loss"] for row in trained[1].history if row["split"] == "test")
    assert first == pytest.approx(variance, rel=0.05)
    assert last < 0.9 * variance


class Stopped(Exception):
    pass


def test_stopped_and_resumed_is_undisturbed_to_the_bit(digits, trained, tmp_path):
    rows = []

    def on_log(row):
        rows.append(row)
        if len(rows) == 5:
            raise Stopped

    with pytest.raises(Stopped):
        fitted(digits, tmp_path, on_log=on_log)
    again, whole = (nnx.state(run.model) for run in (fitted(digits, tmp_path), trained[1]))
    jax.tree.map(np.testing.assert_array_equal, nnx.as_pure(again), nnx.as_pure(whole))


# Errors


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: training.masked(noise.patch_mask(0.5, 2, SHAPE)), "noise: Mask; masked autoenc"),
        (lambda: training.masked(noise.gaussian(1.0)), "noise: Gaussian; masked autoencoders need"),
        (
            lambda: training.masked(noise.exact_patch_mask(0.5, 2, SHAPE, fill=1.0)),
            "noise: has a fill; what is masked is not seen",
        ),
        (lambda: training.masked(mask(1), loss_on="seen"), "loss_on: 'seen'; it must be one of"),
        (lambda: training.masked(mask(1, 0.0)), "noise: masks none of 64 patches; loss_on='all'"),
        (lambda: training.masked(mask(1), target=A[:3]), "target: shape (3, 512); a matrix (D, D)"),
        (lambda: training.masked(mask(1), target=A * np.nan), "target: the matrix has values that"),
        (lambda: training.masked(mask(1), target=whitened(0.5)), "target: WhitenedInput depends"),
        (lambda: training.parse_target("edges", SHAPE, None), "target: 'edges'; known are"),
        (lambda: training.parse_target("whitened:x", SHAPE, None), "target: 'whitened:x'; "),
    ],
)  # fmt: skip
def test_bad_arguments_are_refused_in_one_line(make, text):
    with pytest.raises(ValueError) as error:
        make()
    assert str(error.value).startswith(text)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("patch", "target", "text"),
    [
        (1, None, "noise: its patches are not blocks of the network's, 2x2; exact:0.75:2x2 masks"),
        ((2, 3), None, "noise: its patches are not blocks of the network's, 2x2"),
        (6, None, "noise: its patches are not blocks of the network's, 2x2"),
        (2, A[:5, :5], "target: does not take images of (16, 16, 2)"),
        (2, lambda x: x[:, :3], "target: gives (1, 3, 16, 2) for one image; (1, 16, 16, 2) is"),
    ],
)
def test_what_does_not_fit_is_refused_before_training(model, patch, target, text):
    drawn = noise.exact_patch_mask(0.5, patch, SHAPE, partial=True)
    refused(training.masked(drawn, target=target), model, text)


def refused(objective, model, text):
    data = Dataset.from_arrays(images(4), np.arange(4) % 2)
    with pytest.raises(ValueError) as error:
        objective.check(model, data)
    assert str(error.value).startswith(text)
    assert "\n" not in str(error.value)


def test_another_network_or_noise_is_refused_before_training(model):
    other = nets.make("linear", SHAPE, latent_dim=2, rngs=nnx.Rngs(0))
    refused(training.masked(mask(1)), other, "model: MLPAutoencoder has no patches; masked needs a")
    drawn = noise.exact_patch_mask(0.5, 2, (4, 4, 1))
    refused(training.masked(drawn), model, "noise: made for 16 values, not for images of (16, 16")
    refused(training.guided(0.1), model, "model: MaskedAutoencoder has no latent_dim; guided needs")
