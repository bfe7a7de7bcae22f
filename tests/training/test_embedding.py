"""Joint embedding: its losses against NumPy, its linear case against the closed form, any number of
devices, and what else can be predicted than pixels.
"""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from flax import nnx

import reconjax
from reconjax import nets, training
from reconjax.data import Dataset
from reconjax.noise import patch_mask
from reconjax.theory import targets
from reconjax.training import denoising, evaluate, fit, joint_embedding, parallel, reconstruction
from reconjax.training.embedding import Views, vicreg_terms, whitening_terms
from reconjax.training.examples import Centered, Examples
from reconjax.training.objectives import statistics, terms_of
from reconjax.training.runs import Trained, named
from reconjax.training.step import start

SHAPE = (4, 4, 1)
MASK = patch_mask(0.5, (2, 2), SHAPE)
CHOICES = [joint_embedding(MASK), joint_embedding(MASK, "vicreg", weights=(3, 2, 0.5))]
both = pytest.mark.parametrize("objective", CHOICES, ids=lambda objective: objective.loss)


@pytest.fixture(scope="module")
def images():
    """96 8-bit images of 4 x 4 pixels in 3 classes, and 37 to test."""
    rng = np.random.default_rng(0)
    smooth = np.kron(rng.integers(0, 200, (133, 2, 2, 1)), np.ones((1, 2, 2, 1), int))
    x = (smooth + rng.integers(0, 56, (133, *SHAPE))).astype(np.uint8)
    y = np.arange(133) % 3
    return Dataset.from_arrays(x[:96], y[:96], x[96:], y[96:], name="smooth")


def mlp(latent_dim=3, seed=0):
    return nets.make("mlp", SHAPE, latent_dim=latent_dim, widths=(6,), rngs=nnx.Rngs(seed))


def linear(features, latent_dim, seed=0):
    return nets.make("linear", (features,), latent_dim=latent_dim, rngs=nnx.Rngs(seed))


def views_of(z, other):
    """`Views`, as a definition has them."""
    apart = z - other
    return Views(
        np.float64(len(z)), np.stack([z.sum(0), other.sum(0)]),
        np.stack([z.T @ z, other.T @ other]), apart.T @ apart,
    )  # fmt: skip


def two_views(size=5, samples=200, shared=1.0, seed=0):
    rng = np.random.default_rng(seed)
    common = shared * rng.normal(size=(samples, size)) * np.arange(1, size + 1)
    z, other = common + rng.normal(size=(2, samples, size)) @ rng.normal(size=(size, size))
    return z + 2, other - 1


# The losses


def test_vicreg_is_term_by_term_that_of_numpy():
    z, other = two_views()
    size = z.shape[1]
    variance = covariance = 0
    for view in (z, other):
        found = np.cov(view.T)  # over N - 1
        variance += np.maximum(0, 1 - np.sqrt(np.diagonal(found) + 1e-4)).sum() / size / 2
        covariance += (found**2).sum() / size - (np.diagonal(found) ** 2).sum() / size
    expected = {
        "invariance": ((z - other) ** 2).mean(),
        "variance": variance,
        "covariance": covariance,
    }
    weights = np.array([3, 2, 0.5])
    terms = vicreg_terms(jax.tree.map(jnp.asarray, views_of(z, other)), jnp.asarray(weights))
    for name, value in expected.items():
        np.testing.assert_allclose(terms[name], value, rtol=1e-10, err_msg=name)
    np.testing.assert_allclose(terms["loss"], weights @ list(expected.values()), rtol=1e-10)
    # Small embeddings lack variance; large ones do not.
    small = vicreg_terms(jax.tree.map(jnp.asarray, views_of(z / 100, other / 100)), weights)
    assert small["variance"] > 0.5
    assert variance < 0.5


def test_whitening_is_the_mean_squared_difference_of_whitened_views():
    z, other = two_views()
    mean = (z.mean(0) + other.mean(0)) / 2
    everything = np.concatenate([z, other]) - mean
    root = scipy.linalg.sqrtm(np.linalg.inv(everything.T @ everything / len(everything)))
    expected = (((z - other) @ root) ** 2).mean()
    found = whitening_terms(jax.tree.map(jnp.asarray, views_of(z, other)))
    np.testing.assert_allclose(found["loss"], expected, rtol=1e-3)  # the ridge
    # Whatever invertible map comes after.
    turned = np.random.default_rng(1).normal(size=(5, 5))
    again = whitening_terms(jax.tree.map(jnp.asarray, views_of(z @ turned, other @ turned)))
    np.testing.assert_allclose(again["loss"], expected, rtol=1e-2)
    same = whitening_terms(jax.tree.map(jnp.asarray, views_of(z, z)))
    assert abs(float(same["loss"])) < 1e-3
    z, other = two_views(shared=0.0, samples=20_000)
    alone = whitening_terms(jax.tree.map(jnp.asarray, views_of(z - 2, other + 1)))
    np.testing.assert_allclose(alone["loss"], 2, atol=0.02)


def test_directions_that_collapse_are_no_gain():
    z, other = two_views()
    fine = whitening_terms(jax.tree.map(jnp.asarray, views_of(z, other)))["loss"]
    for scale in (1e-3, 1e-5, 0):
        scales = np.array([1, 1, 1, scale, scale])
        lost = whitening_terms(jax.tree.map(jnp.asarray, views_of(z * scales, other * scales)))
        assert lost["loss"] > fine - 1e-6
    assert lost["loss"] > fine + 0.1
    three = whitening_terms(jax.tree.map(jnp.asarray, views_of(z[:, :3], other[:, :3])))["loss"]
    np.testing.assert_allclose(lost["loss"], (3 * three + 2 * 2) / 5, rtol=1e-3)


# The two views


def test_two_draws_differ_and_belong_to_the_example_and_the_step():
    objective = joint_embedding(patch_mask(0.5, 1, SHAPE))
    x = jnp.ones((32, *SHAPE), jnp.float32)
    keys = jax.random.split(jax.random.key(0), 32)
    first, second = map(np.asarray, objective.views(keys, x))
    # Each pixel agrees where both or neither are dropped.
    assert 0.4 < np.mean(first == second) < 0.6
    again, _ = objective.views(keys[5:7], x[5:7])
    np.testing.assert_array_equal(again, first[5:7])
    other, _ = objective.views(jax.random.split(jax.random.key(1), 32), x)
    assert np.mean(np.asarray(other) == first) < 0.6
    assert len({view.tobytes() for view in [*first, *second]}) > 60


# Devices


def begun(dataset, objective):
    """A step, the state of one run before it, and the examples."""
    model = mlp()
    step, state = start(
        [(model, None)], np.uint32([3]), np.float32([1e-3]), np.float32([0.5]), steps=10,
        weight_decay=1e-4,
    )  # fmt: skip
    return step, state, Examples.of(dataset.train, dataset.num_classes)


def one_step(dataset, objective, count, chunk=2):
    """Arrays of the state, and terms, after one step of the whole training split."""
    step, state, examples = begun(dataset, objective)
    samples = len(dataset.train)
    rows = np.zeros((1, chunk, samples), np.int32)
    rows[0, 0] = np.arange(samples)[::-1]
    devices = tuple(jax.devices()[:count])
    (state,), terms = parallel.dispatch(
        parallel.training(step, devices, chunk),
        [parallel.replicated(state, devices)], objective, examples, rows, 1, devices,
    )  # fmt: skip
    return named(state), {name: values[0, 0] for name, values in terms.items()}


DONE = {}


def on_one_device(dataset, objective):
    """`one_step`, compiled once."""
    if objective.loss not in DONE:
        DONE[objective.loss] = one_step(dataset, objective, 1)
    return DONE[objective.loss]


@both
def test_a_step_on_several_devices_is_that_on_one(images, objective):
    """Loss and gradients (in Adam's first moment): covariances are of the whole batch."""
    state, terms = on_one_device(images, objective)
    count, chunk = (2, 2) if objective.loss == "vicreg" else (4, 1)
    other, found = one_step(images, objective, count, chunk)
    for name, value in terms.items():
        np.testing.assert_allclose(found[name], value, rtol=2e-5, atol=1e-6, err_msg=name)
    moments = [name for name in state if "/mu/" in name and "encoder" in name]
    assert moments
    for name in moments:
        size = np.abs(state[name]).max()
        assert size > 0
        np.testing.assert_allclose(other[name], state[name], rtol=1e-4, atol=1e-4 * size)
    for name in state:
        if name.startswith("rest"):
            np.testing.assert_allclose(other[name], state[name], rtol=2e-5, atol=2e-7)


@both
def test_a_step_is_that_of_plain_jax_on_the_whole_batch(images, objective):
    """Covariances of each quarter alone would be another loss."""
    examples = Examples.of(images.train, images.num_classes)
    after, terms = on_one_device(images, objective)
    key = jax.random.fold_in(jax.random.key(np.uint32(3)), 0)
    rows = jnp.arange(96)[::-1]
    batch = examples.rows(rows).batch(key, jnp.arange(96, dtype=jnp.int32))
    views = objective.views(batch.keys, batch.x)
    model = mlp()

    def loss(model):
        z, other = jnp.split(model.encode(jnp.concatenate(views)), 2)
        if objective.loss == "vicreg":
            spread = [jnp.cov(view.T) for view in (z, other)]
            lacking = [jax.nn.relu(1 - jnp.sqrt(jnp.diagonal(c) + 1e-4)).mean() for c in spread]
            others = [jnp.square(c).sum() - jnp.square(jnp.diagonal(c)).sum() for c in spread]
            return (
                3 * jnp.square(z - other).mean()
                + 2 * (lacking[0] + lacking[1]) / 2
                + 0.5 * (others[0] + others[1]) / z.shape[1]
            )
        whole = jnp.concatenate([z, other])
        values, vectors = jnp.linalg.eigh(jnp.cov(whole.T, ddof=0))
        white = (z - other) @ (vectors / jnp.sqrt(values))
        return jnp.square(white).mean()

    value, gradients = nnx.value_and_grad(loss)(model)
    np.testing.assert_allclose(terms["loss"], value, rtol=1e-4)
    flat = {n: 0.1 * leaf for n, leaf in named(nnx.as_pure(gradients)).items() if "encoder" in n}
    found = {name.partition("/mu/0/")[2]: leaf[0] for name, leaf in after.items() if "/mu/" in name}
    assert flat
    for name, leaf in flat.items():
        np.testing.assert_allclose(found[name], leaf, rtol=2e-3, atol=1e-3 * np.abs(leaf).max())
    model = mlp()
    quarters = [
        statistics(objective, model, None, jax.tree.map(lambda leaf, i=i: leaf[i::4], batch))
        for i in range(4)
    ]
    name = "covariance" if objective.loss == "vicreg" else "loss"
    apart = np.mean([terms_of(objective, part)[name] for part in quarters])
    assert abs(apart - terms[name]) > 1e-2 * terms[name]


@both
def test_evaluation_is_of_the_whole_split_whatever_the_batch(images, objective):
    model = mlp()
    model.eval()
    trained = Trained(model, None, Centered.of(images.train), [], 0)
    found = [
        evaluate(trained, images.test, objective, batch_size=size, devices=jax.devices()[:count])
        for size, count in ((8, 1), (16, 4))
    ]
    position = jnp.arange(37, dtype=jnp.int32)
    x, y = images.test.examples(np.arange(37))
    batch = Examples(trained.inputs, x, y.astype(np.int32)).batch(jax.random.key(0), position)
    z, other = (
        np.asarray(model.encode(view), float) for view in objective.views(batch.keys, batch.x)
    )
    expected = objective.terms_of(jax.tree.map(jnp.asarray, views_of(z, other)))
    for terms in found:
        assert terms.keys() == expected.keys()
        for name, value in terms.items():
            assert value == pytest.approx(float(expected[name]), rel=1e-4), name


# Training


@pytest.fixture(scope="module")
def vectors():
    """Vectors of which joint embedding under dropout and PCA keep other directions."""
    rng = np.random.default_rng(1)
    shared = rng.normal(size=(1024, 2)) @ np.repeat(np.eye(2), 4, axis=1)
    alone = 3 * rng.normal(size=(1024, 3))
    x = np.hstack([shared + 0.3 * rng.normal(size=(1024, 8)), alone]).astype(np.float32)
    return Dataset.from_arrays(x, np.arange(1024) % 2, name="vectors")


def moments_of(dataset):
    return reconjax.moments(*dataset.train.examples(np.arange(len(dataset.train))))


def test_a_linear_encoder_reaches_the_subspace_of_the_closed_form(vectors):
    features, latent_dim = vectors.features, 2
    noise = reconjax.noise.pixel_dropout(0.5, (features,))
    trained = fit(
        linear(features, latent_dim), vectors, joint_embedding(noise), epochs=600,
        batch_size=1024, learning_rate=3e-2, weight_decay=0, devices=jax.devices()[:1],
        evaluate_at=[],
    )  # fmt: skip
    moments = moments_of(vectors)
    second = np.asarray(moments.second_moment)
    noisy = np.asarray(reconjax.problem(moments, noise).noisy_second_moment)
    best = np.asarray(
        reconjax.solve(reconjax.problem(moments, noise, targets.joint_embedding())).encoder
    )
    found = np.asarray(trained.model.encoder.layers[1].kernel, float)

    def cosines(one, other):
        root = np.linalg.cholesky(noisy).T
        a, b = (np.linalg.qr(root @ basis)[0] for basis in (one, other))
        return np.linalg.svd(a.T @ b, compute_uv=False)

    assert cosines(found, best[:, :latent_dim]).min() > 0.999
    # PCA keeps the directions that share nothing.
    pca = np.linalg.eigh(second)[1][:, -latent_dim:]
    assert cosines(pca, best[:, :latent_dim]).max() < 0.5
    # The loss, without the draws: 2 - 2 times the mean generalized eigenvalue, m(x) = x / 2.
    second = second / 4
    largest = scipy.linalg.eigh(second, noisy, eigvals_only=True)[::-1][:latent_dim]
    inner = np.linalg.solve(found.T @ noisy @ found, found.T @ second @ found)
    assert largest.mean() * (1 - 1e-3) < np.trace(inner) / latent_dim <= largest.mean() * (1 + 1e-9)
    (*_, last) = (row["loss"] for row in trained.history if row["split"] == "train")
    assert last == pytest.approx(2 - 2 * largest.mean(), abs=0.05)


def test_a_linear_autoencoder_reaches_the_closed_form_of_a_target(vectors):
    features, latent_dim = vectors.features, 3
    noise = reconjax.noise.pixel_dropout(0.5, (features,))
    moments = moments_of(vectors)
    target = training.whitened(reconjax.spectrum(moments), 0.75)
    objective = denoising(noise, target=target)
    trained = fit(
        linear(features, latent_dim), vectors, objective, epochs=400, batch_size=512,
        learning_rate=2e-2, weight_decay=0, devices=jax.devices()[:1], evaluate_at=[],
    )  # fmt: skip
    matrix = np.asarray(target.target.matrix, float)
    # E‖A' x' + c - t‖² of what was found, from moments; the constant c is that of the mean.
    second = np.asarray(moments.second_moment)
    q = 0.5
    noisy = np.asarray(reconjax.problem(moments, noise).noisy_second_moment)
    layers = trained.model
    through = np.asarray(layers.encoder.layers[1].kernel, float) @ np.asarray(
        layers.decoder.layers[0].kernel, float
    )
    total = np.trace(matrix.T @ second @ matrix)
    found = (
        total
        - 2 * q * np.trace(through.T @ second @ matrix)
        + np.trace(through.T @ noisy @ through)
    )

    def closed(target):
        solution = reconjax.solve(reconjax.problem(moments, noise, target), np.inf)
        encoder = np.asarray(solution.encoder)[:, :latent_dim]
        cross = q * encoder.T @ second @ matrix
        inner = encoder.T @ noisy @ encoder
        return total - np.trace(cross.T @ np.linalg.solve(inner, cross))

    best = closed(targets.whitened(0.75))
    assert best * (1 - 1e-5) <= found < best + 0.01 * total
    # That of pixels is another encoder, which this one beats.
    assert found < closed(None) - 0.02 * total


def test_the_loss_of_a_target_is_in_its_units():
    x = jax.random.normal(jax.random.key(0), (6, *SHAPE), jnp.float32)
    keys = jax.random.split(jax.random.key(1), 6)
    model = mlp()
    model.eval()
    matrix = np.random.default_rng(0).normal(size=(16, 16)).astype(np.float32)
    wanted = (np.asarray(x).reshape(6, -1) @ matrix).reshape(x.shape)
    for target in (matrix, lambda x: (x.reshape(6, -1) @ matrix).reshape(x.shape)):
        terms = reconstruction(target=target).terms(model, None, keys, x, None)
        expected = ((np.asarray(model(x)) - wanted) ** 2).mean((1, 2, 3))
        np.testing.assert_allclose(terms["loss"], expected, rtol=1e-4)
    assert "target" not in reconstruction().settings()
    assert reconstruction(target=matrix).settings()["target"].startswith("LinearTarget ")
    # What is not in pixels is not shown as if it were.
    shown = denoising(MASK, target=matrix).shown(model, jax.random.key(0), x)
    assert list(shown) == ["input"]


def test_stopped_and_resumed_is_undisturbed_to_the_bit(images, tmp_path):
    objective = CHOICES[0]
    options = {"epochs": 6, "batch_size": 48, "checkpoint_every": 5, "devices": jax.devices()[:2]}
    options |= {"learning_rate": 1e-2, "augment": ["flip"]}
    whole = fit(mlp(), images, objective, **options, out=tmp_path / "whole")

    def stop(row):
        if row["step"] > 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(
            mlp(), images, objective, **options, out=tmp_path / "part", evaluate_at=[8], on_log=stop
        )
    assert [path.stem for path in (tmp_path / "part" / "checkpoints").iterdir()] == ["5"]
    fit(mlp(), images, objective, **options, out=tmp_path / "part")
    again = training.load(tmp_path / "part", model=mlp())
    one, other = (named(nnx.as_pure(nnx.state(run.model))) for run in (whole, again))
    for name in one:
        assert one[name].tobytes() == other[name].tobytes(), name
    settings = json.loads((tmp_path / "part" / "settings.json").read_text())["objective"]
    assert (settings["name"], settings["loss"]) == ("joint-embedding", objective.loss)
    other = joint_embedding(MASK, "vicreg", weights=(1, 1, 1))
    with pytest.raises(ValueError, match="holds a run with another objective"):
        fit(mlp(), images, other, **options, out=tmp_path / "part")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["conv", "vit"])
def test_networks_with_an_embedding_learn(name):
    rng = np.random.default_rng(0)
    smooth = np.kron(rng.normal(size=(64, 2, 2, 1)), np.ones((1, 4, 4, 1)))
    x = (smooth + 0.1 * rng.normal(size=(64, 8, 8, 1))).astype(np.float32)
    dataset = Dataset.from_arrays(x, np.arange(64) % 2, name="smooth")
    how = {
        "conv": {"latent_dim": 3, "widths": (4,)},
        "vit": {"width": 8, "depth": 1, "heads": 2, "decoder_width": 8, "decoder_depth": 1},
    }[name]
    model = nets.make(name, (8, 8, 1), rngs=nnx.Rngs(0), **how)
    objective = joint_embedding(patch_mask(0.25, 2, (8, 8, 1)), "vicreg")
    trained = fit(model, dataset, objective, epochs=15, batch_size=64, learning_rate=1e-2,
                  devices=jax.devices()[:1], evaluate_at=[])  # fmt: skip
    losses = [row["loss"] for row in trained.history if row["split"] == "train"]
    first = evaluate(Trained(model, None, trained.inputs, [], 0), dataset.train, objective)
    assert losses[-1] < first["loss"]


# At the door


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: joint_embedding(None), "noise: None; joint embedding needs one"),
        (lambda: joint_embedding(MASK, "barlow"), "loss: 'barlow'; it must be one of whitening"),
        (lambda: joint_embedding(MASK, weights=(1, 1, 1)), r"weights: \(1, 1, 1\); whitening has"),
        (lambda: joint_embedding(MASK, "vicreg", weights=(1, 2)), r"weights: \(1, 2\); three"),
        (lambda: joint_embedding(MASK, "vicreg", weights=(1, 2, -1)), "three finite numbers >= 0"),
        (lambda: reconstruction(target=np.ones((3, 4))), r"target: shape \(3, 4\); a matrix"),
        (lambda: denoising(MASK, target=targets.whitened(0.5)), "depends on the data"),
    ],
)
def test_what_cannot_be_is_refused(make, text):
    with pytest.raises(ValueError, match=text) as found:
        make()
    assert "\n" not in str(found.value)


@pytest.mark.parametrize(
    ("model", "objective", "options", "text"),
    [
        (mlp(20), CHOICES[0], {"batch_size": 12}, "batch_size: 12; .* of 20 values needs"),
        (mlp(), joint_embedding(patch_mask(0.5, 2, (8, 8, 1))), {}, "made for 64 values"),
        (mlp(), joint_embedding(patch_mask(0.0, 2, SHAPE)), {}, "draws are the same"),
        (mlp(), reconstruction(target=np.eye(9)), {}, "target: "),
        (mlp(), reconstruction(target=lambda x: x[:, :2]), {}, r"target: gives \(1, 2, 4, 1\)"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_before_training(images, model, objective, options, text):
    with pytest.raises(ValueError, match=text) as found:
        fit(model, images, objective, **options)
    assert "\n" not in str(found.value)
