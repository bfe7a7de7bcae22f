"""Probes against scikit-learn, direct solves and explicit refits."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors

from reconjax.cli.main import main
from reconjax.data import Dataset, digits
from reconjax.data.split import ArraySplit
from reconjax.training.examples import Centered
from reconjax.training.probes import (
    feature_set,
    features,
    knn_probe,
    load_features,
    logistic_probe,
    majority,
    mlp_probe,
    pca_features,
    ridge_probe,
)
from reconjax.training.probes.task import Standard, held_out_part

CLASSES = 3
WEIGHTS = (1e-6, 1e-3, 0.1, 10.0)


def labeled(samples, size, seed=0, noise=1.0):
    """Features with classes of unequal frequency around random centers, in uneven units."""
    random = np.random.default_rng(seed)
    y = random.choice(CLASSES, samples, p=[0.5, 0.3, 0.2])
    y[:CLASSES] = np.arange(CLASSES)
    centers = np.random.default_rng(99).normal(size=(CLASSES, size))
    x = centers[y] + noise * random.normal(size=(samples, size))
    return x * np.geomspace(1e-2, 1e2, size) + 5, y


@pytest.fixture(scope="module")
def tall():
    """60 + 40 samples of 6 features, two of them duplicates, and a constant one."""
    x, y = labeled(100, 5)
    x = np.concatenate([x, 3 * x[:, :1], np.full((100, 1), 7.0)], axis=1)
    return x[:60], y[:60], x[60:], y[60:]


@pytest.fixture(scope="module")
def wide():
    """20 + 10 samples of 30 features."""
    x, y = labeled(30, 30, noise=3.0)
    return x[:20], y[:20], x[20:], y[20:]


def direct(x, y, weight, classes=CLASSES):
    """Kernel and bias by the normal equations of augmented least squares, on standardized x."""
    mean, std = x.mean(0), x.std(0)
    varies = std > 1e-12
    z = (x - mean)[:, varies] / std[varies]
    one_hot = np.eye(classes)[y]
    rows = np.concatenate([z, np.sqrt(len(x) * weight) * np.eye(z.shape[1])])
    targets = np.concatenate([one_hot - one_hot.mean(0), np.zeros((z.shape[1], classes))])
    kernel = np.zeros((x.shape[1], classes))
    solved = np.linalg.lstsq(rows, targets, rcond=None)[0]
    kernel[varies] = solved / std[varies][:, None]
    return kernel, one_hot.mean(0) - mean @ kernel


@pytest.mark.parametrize("shape", ["tall", "wide"])
def test_ridge_path_is_that_of_direct_solves_and_of_scikit_learn(shape, request):
    x, y, x_test, y_test = request.getfixturevalue(shape)
    found = ridge_probe(x, y, x_test, y_test, ridge_weights=WEIGHTS)
    mean = np.eye(CLASSES)[y].mean(0)
    for index, weight in enumerate(WEIGHTS):
        kernel, bias = direct(x, y, weight)
        for scores, inputs, labels in ((found.train, x, y), (found.test, x_test, y_test)):
            made, one_hot = inputs @ kernel + bias, np.eye(CLASSES)[labels]
            accuracy = np.mean(made.argmax(1) == labels)
            assert scores.accuracy[index] == pytest.approx(accuracy, abs=1e-12)
            error = np.sqrt(accuracy * (1 - accuracy) / len(labels))
            assert scores.standard_error[index] == pytest.approx(error)
            r2 = 1 - np.sum((one_hot - made) ** 2) / np.sum((one_hot - mean) ** 2)
            assert scores.r2[index] == pytest.approx(r2, abs=1e-7)
            assert scores.samples == len(labels)
        z = Standard.of(x)(x)
        peer = Ridge(alpha=len(x) * weight, solver="svd").fit(z, np.eye(CLASSES)[y])
        np.testing.assert_allclose(peer.predict(z), x @ kernel + bias, atol=1e-6)
    kernel, bias = direct(x, y, WEIGHTS[found.chosen])
    np.testing.assert_allclose(
        x_test @ found.linear.kernel + found.linear.bias, x_test @ kernel + bias, atol=1e-6
    )


@pytest.mark.parametrize("shape", ["tall", "wide"])
def test_leave_one_out_is_that_of_refits(shape, request):
    x, y, *_ = request.getfixturevalue(shape)
    found = ridge_probe(x, y, ridge_weights=WEIGHTS)
    z = Standard.of(x)(x)  # the scale is that of all samples
    one_hot = np.eye(CLASSES)[y]
    for index, weight in enumerate(WEIGHTS):
        made = np.empty_like(one_hot)
        for i in range(len(x)):
            rest = np.arange(len(x)) != i
            # The penalty of the whole problem: N ρ, not (N − 1) ρ.
            peer = Ridge(alpha=len(x) * weight, solver="svd").fit(z[rest], one_hot[rest])
            made[i] = peer.predict(z[i : i + 1])[0]
        r2 = 1 - np.sum((one_hot - made) ** 2) / np.sum((one_hot - one_hot.mean(0)) ** 2)
        assert found.validation.accuracy[index] == pytest.approx(np.mean(made.argmax(1) == y))
        assert found.validation.r2[index] == pytest.approx(r2, rel=1e-5, abs=1e-6)
    best = max(
        range(len(WEIGHTS)),
        key=lambda i: (found.validation.accuracy[i], found.validation.r2[i]),
    )
    assert found.chosen == best
    assert found.chosen_by_r2 == max(range(len(WEIGHTS)), key=lambda i: found.validation.r2[i])
    assert found.test is None


def test_ridge_in_float32_on_bfloat16_features_in_other_units(tall, float32):
    x, y, x_test, y_test = tall
    x, x_test = (
        np.asarray(jnp.asarray(part, jnp.bfloat16).astype(jnp.float32)) for part in (x, x_test)
    )
    found = ridge_probe(x, y, x_test, y_test, ridge_weights=WEIGHTS)
    with jax.enable_x64(True):
        exact = ridge_probe(1e3 * x, y, 1e3 * x_test, y_test, ridge_weights=WEIGHTS)
    for name in ("train", "validation", "test"):
        one, other = getattr(found, name), getattr(exact, name)
        np.testing.assert_allclose(one.r2, other.r2, atol=2e-3)


def test_rows_are_summed_up_in_blocks(tall, monkeypatch):
    x, y, x_test, y_test = tall
    whole = ridge_probe(x, y, x_test, y_test, ridge_weights=WEIGHTS)
    for module in ("ridge", "task"):
        monkeypatch.setattr(f"reconjax.training.probes.{module}.ROWS", 16)
    parts = ridge_probe(x, y, x_test, y_test, ridge_weights=WEIGHTS)
    for name in ("train", "validation", "test"):
        for one, other in zip(getattr(whole, name), getattr(parts, name), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-9)


def test_logistic_probe_reaches_the_loss_of_scikit_learn(tall):
    x, y, x_test, y_test = tall
    penalties = np.array([1e-3, 1.0])
    found = logistic_probe(x, y, x_test, y_test, penalties=penalties, tolerance=1e-7)
    penalty = penalties[found.chosen]
    standard = Standard.of(x)
    z = standard(x)
    peer = LogisticRegression(C=1 / (len(x) * penalty), tol=1e-10, max_iter=10_000).fit(z, y)

    def loss(kernel, logits):
        shifted = logits - logits.max(1, keepdims=True)
        log = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
        return -log[np.arange(len(y)), y].mean() + penalty / 2 * np.sum(kernel**2)

    ours = np.where(np.isinf(standard.scale), 0, standard.scale)[:, None] * found.linear.kernel
    theirs = loss(peer.coef_.T, z @ peer.coef_.T + peer.intercept_)
    assert loss(ours, x @ found.linear.kernel + found.linear.bias) == pytest.approx(
        theirs, rel=1e-6
    )
    assert found.train.accuracy[found.chosen] == pytest.approx(peer.score(z, y))
    assert found.test.accuracy[found.chosen] == pytest.approx(peer.score(standard(x_test), y_test))
    probability = peer.predict_proba(standard(x_test))
    one_hot, mean = np.eye(CLASSES)[y_test], np.eye(CLASSES)[y].mean(0)
    brier = 1 - np.sum((one_hot - probability) ** 2) / np.sum((one_hot - mean) ** 2)
    assert found.test.r2[found.chosen] == pytest.approx(brier, abs=1e-4)


def test_logistic_validation_is_of_samples_that_were_not_fitted(tall):
    x, y, *_ = tall
    found = logistic_probe(x, y, penalties=[0.1], held_out=0.25, seed=3, tolerance=1e-7)
    part = held_out_part(y, 0.25, seed=3)
    rest = np.setdiff1d(np.arange(len(y)), part)
    z = Standard.of(x)(x)
    peer = LogisticRegression(C=1 / (len(rest) * 0.1), tol=1e-10, max_iter=10_000)
    peer.fit(z[rest], y[rest])
    assert found.validation.accuracy[0] == pytest.approx(peer.score(z[part], y[part]))
    assert found.validation.samples == len(part)


def test_held_out_part_has_every_class_in_its_share():
    y = np.repeat([0, 1, 2, 3], [100, 40, 2, 1])
    part = held_out_part(y, 0.2, seed=1)
    assert np.bincount(y[part], minlength=4).tolist() == [20, 8, 1, 0]
    assert len(set(part)) == len(part)
    assert not np.array_equal(part, held_out_part(y, 0.2, seed=2))
    np.testing.assert_array_equal(part, held_out_part(y, 0.2, seed=1))


def rings(samples, seed):
    """Two classes that no linear probe tells apart."""
    random = np.random.default_rng(seed)
    y = random.integers(0, 2, samples)
    angle = random.uniform(0, 2 * np.pi, samples)
    radius = 1 + y + 0.1 * random.normal(size=samples)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1).astype(np.float32), y


def test_mlp_probe_learns_what_no_linear_probe_can():
    x, y = rings(400, 0)
    x_test, y_test = rings(300, 1)
    found = mlp_probe(x, y, x_test, y_test, width=32, epochs=12, batch_size=32, learning_rate=1e-2)
    assert LogisticRegression().fit(x, y).score(x_test, y_test) < 0.65
    assert found.test.accuracy[found.chosen] > 0.95
    assert found.chosen == found.validation.best()
    assert found.validation.samples == len(held_out_part(y, 0.1))
    assert found.test.r2[found.chosen] > 0.8
    again = mlp_probe(x, y, x_test, y_test, width=32, epochs=12, batch_size=32, learning_rate=1e-2)
    np.testing.assert_array_equal(found.test.accuracy, again.test.accuracy)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_knn_is_that_of_scikit_learn(metric):
    x, y = labeled(150, 6, seed=2, noise=2.0)
    x = x / np.geomspace(1e-2, 1e2, 6)
    x, y, x_test, y_test = x[:100], y[:100], x[100:], y[100:]
    ks = (1, 4, 9)
    found = knn_probe(x, y, x_test, y_test, neighbors=ks, metric=metric, memory=3 * 500 * 8)
    nearest = NearestNeighbors(metric=metric).fit(x)
    for index, k in enumerate(ks):
        peer = KNeighborsClassifier(k, metric=metric).fit(x, y)
        shares = peer.predict_proba(x_test)
        order = nearest.kneighbors(x_test, k)[1]
        assert found.test.accuracy[index] == np.mean(elected(y[order]) == y_test)
        if k == 1:
            assert found.test.accuracy[index] == peer.score(x_test, y_test)
        one_hot, mean = np.eye(CLASSES)[y_test], np.eye(CLASSES)[y].mean(0)
        brier = 1 - np.sum((one_hot - shares) ** 2) / np.sum((one_hot - mean) ** 2)
        assert found.test.r2[index] == pytest.approx(brier)
        # The training samples without themselves.
        own = nearest.kneighbors(None, k)[1]
        assert found.validation.accuracy[index] == np.mean(elected(y[own]) == y)
    assert found.chosen == found.validation.best()


def elected(votes):
    """The class with most votes in each row; among equals, the one that comes first."""
    return np.array(
        [max(row, key=lambda c: (np.sum(row == c), -list(row).index(c))) for row in votes]
    )


def test_knn_ties_go_to_the_nearest_and_to_the_first():
    x = np.array([[-1.0], [1.0], [-3.0], [3.0], [-8.0], [8.0]])
    y = np.array([2, 1, 0, 0, 0, 1])
    # Of the two at distance 1, sample 0 is the first; with 0.5 the second is nearer.
    queries, labels = np.array([[0.0], [0.5]]), np.array([2, 1])
    found = knn_probe(x, y, queries, labels, neighbors=(1, 2), metric="euclidean")
    assert found.test.accuracy.tolist() == [1, 1]
    # Two votes for 0 at distance 3 against one each of the nearer: the majority decides.
    found = knn_probe(x, y, queries, np.zeros(2, int), neighbors=4, metric="euclidean")
    assert found.test.accuracy.tolist() == [1]


def test_knn_validation_may_be_of_a_part():
    x, y = labeled(80, 4, seed=5)
    found = knn_probe(x, y, validation=30, neighbors=3)
    assert found.validation.samples == 30
    assert found.test is None


def test_majority_is_the_largest_class_of_the_training_split():
    found = majority([0, 1, 1, 1, 2, 2], [2, 2, 1, 0])
    assert found.values.tolist() == [1]
    assert found.test.accuracy.tolist() == [0.25]
    assert found.train.accuracy.tolist() == [0.5]
    assert found.train.r2.tolist() == [0.0]


@pytest.mark.parametrize("samples", [80, 10])
def test_pca_features_are_those_of_a_singular_value_decomposition(samples):
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (samples + 7, 4, 3, 1), dtype=np.uint8)
    labels = np.arange(samples + 7) % 2
    data = Dataset.from_arrays(
        images[:samples], labels[:samples], images[samples:], labels[samples:]
    )
    found = pca_features(data, 5)
    x = images.reshape(len(images), -1) / 255
    mean = x[:samples].mean(0)
    _, _, right = np.linalg.svd(x[:samples] - mean)
    for split, part in ((found.train, x[:samples]), (found.test, x[samples:])):
        made, _ = split.examples(np.arange(len(split)))
        expected = (part - mean) @ right[:5].T
        np.testing.assert_allclose(made @ made.T, expected @ expected.T, atol=1e-5)
        np.testing.assert_array_equal(
            split.labels, labels[:samples] if len(part) == samples else labels[samples:]
        )


class Coder(nnx.Module):
    """The smallest encoder with a mode."""

    def __init__(self):
        self.linear = nnx.Linear(12, 3, rngs=nnx.Rngs(0))
        self.dropout = nnx.Dropout(0.5, rngs=nnx.Rngs(1))

    def encode(self, x):
        return self.dropout(self.linear(x.reshape(len(x), -1)))


@pytest.fixture(scope="module")
def pictures():
    random = np.random.default_rng(3)
    images = random.integers(0, 256, (45, 2, 2, 3), dtype=np.uint8)
    return Dataset.from_arrays(images, np.arange(45) % 5, images[:8], np.arange(8) % 5)


def test_streamed_features_are_those_in_memory(pictures):
    model, inputs = Coder(), Centered.of(pictures.train)
    images, labels = pictures.train.examples(np.arange(45))
    x = images / np.float32(255) - np.asarray(inputs.mean)
    expected = x.reshape(45, -1) @ np.asarray(model.linear.kernel) + np.asarray(model.linear.bias)
    for options in ({}, {"batch_size": 7}, {"batch_size": 10, "devices": jax.local_devices()}):
        made, found = features(model, pictures.train, inputs, **options)
        assert made.dtype == np.float32
        np.testing.assert_allclose(made, expected, atol=1e-6)
        np.testing.assert_array_equal(found, labels)
    assert not model.dropout.deterministic  # the caller's network is as it was
    made = feature_set(model, pictures, inputs)
    np.testing.assert_allclose(made.test.examples(np.arange(8))[0], expected[:8], atol=1e-6)
    assert made.class_names == pictures.class_names


def test_features_of_a_function_need_no_network(pictures):
    made, _ = features(lambda x: x.sum(axis=(1, 2)).astype(jnp.bfloat16), pictures.train)
    images, _ = pictures.train.examples(np.arange(45))
    np.testing.assert_allclose(made, (images / 255).sum(axis=(1, 2)), rtol=1e-2)


def test_one_compilation_serves_every_state_of_training(pictures):
    from reconjax.training.features import _features

    model = Coder()
    features(model, pictures.train, batch_size=16)
    before = _features._cache_size()
    model.linear.kernel[...] = model.linear.kernel[...] * 2
    features(model, pictures.test, batch_size=16)  # one batch of 8
    features(model, pictures.train, batch_size=16)
    assert _features._cache_size() <= before + 1


def test_features_from_elsewhere(tmp_path):
    x, y = labeled(20, 4)
    np.savez(tmp_path / "a.npz", features_train=x, labels_train=y, features_test=x, labels_test=y)
    found = load_features(tmp_path / "a.npz")
    np.testing.assert_array_equal(found.test.examples(np.arange(20))[0], x)
    np.savez(tmp_path / "b.npz", x_train=x, y_train=y)
    assert load_features(tmp_path / "b.npz").test is None
    for arrays, text in (
        ({"features_train": x}, "without labels_train"),
        ({"features_train": x * np.nan, "labels_train": y}, "features_train holds 80 values"),
        ({"features_train": x, "labels_train": 0 * y}, "labels_train holds class 0 alone"),
        ({"x_train": x}, "has no labels; a probe needs classes"),
    ):
        np.savez(tmp_path / "c.npz", **arrays)
        with pytest.raises(ValueError, match=text) as error:
            load_features(tmp_path / "c.npz")
        assert "\n" not in str(error.value)
    (tmp_path / "d.npz").write_text("no zip")
    with pytest.raises(ValueError, match="cannot be read"):
        load_features(tmp_path / "d.npz")


# Of one size in both tests of the command, which then share their compiled programs.
SAMPLES = 200
NEIGHBORS = ("--knn", "1", "3")
PIXELS = ("x_train", "y_train", "x_test", "y_test")
FEATURES = ("features_train", "labels_train", "features_test", "labels_test")


def without_bar(err):
    """What is left of stderr where a slow machine has shown a progress bar."""
    return err.split("\r")[-1].strip()


@pytest.fixture
def run(capsys):
    """Runs `reconjax probe`; gives (status, stdout, stderr)."""

    def call(*argv):
        status = main(["probe", *(str(part) for part in argv)])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call


def test_the_command_on_features_in_a_file_beside_raw_pixels(run, tmp_path):
    data = digits()
    train, test = data.train.examples(np.arange(SAMPLES)), data.test.examples(np.arange(360))
    np.savez(tmp_path / "pixels.npz", **dict(zip(PIXELS, (*train, *test), strict=True)))
    # As features: some pixels of the middle rows.
    x, x_test = (
        part.reshape(len(part), -1)[:, 26:32].astype(np.float32) for part, _ in (train, test)
    )
    arrays = dict(zip(FEATURES, (x, train[1], x_test, test[1]), strict=True))
    np.savez(tmp_path / "made.npz", **arrays)
    argv = [tmp_path / "made.npz", tmp_path / "pixels.npz", *NEIGHBORS]
    status, out, err = run(*argv, "--out", tmp_path / "out", "--json")
    assert (status, without_bar(err)) == (0, "")
    result = json.loads(out)
    assert json.loads((tmp_path / "out" / "probe.json").read_text()) == result
    assert (tmp_path / "out" / "probe.png").stat().st_size > 10_000
    assert (result["samples"], result["test_samples"], result["size"]) == (SAMPLES, 360, 6)
    rows = {(row["probe"], row["features"]): row for row in result["probes"]}
    assert len(rows) == len(result["probes"]) == 9
    for kind, (one, other) in {
        "made": (x, x_test),
        "PCA, 6 directions": pca(train, test),
    }.items():
        row = rows["linear, ridge", kind]
        kernel, bias = direct(one.astype(float), train[1], row["value"], classes=10)
        made = (other @ kernel + bias).argmax(1)
        assert row["test"]["accuracy"] == pytest.approx(np.mean(made == test[1]), abs=0.01)
    path = result["ridge_paths"]["made"]
    assert path["test"][path["chosen"]] == rows["linear, ridge", "made"]["test"]["accuracy"]
    largest = np.bincount(train[1]).argmax()
    assert rows["largest class", ""]["test"]["accuracy"] == np.mean(test[1] == largest)


def pca(train, test):
    """Both splits on six principal directions, by a singular value decomposition."""
    x, x_test = (part.reshape(len(part), -1) for part, _ in (train, test))
    _, _, right = np.linalg.svd(x - x.mean(0))
    return (x - x.mean(0)) @ right[:6].T, (x_test - x.mean(0)) @ right[:6].T


def test_the_command_on_a_run(run, tmp_path, capsys):
    argv = ["train", "digits", "--net", "linear", "--latent-dim", "6", "--epochs", "1"]
    assert main([*argv, "--max-samples", "256", "--out", str(tmp_path)]) == 0
    capsys.readouterr()
    status, out, err = run(tmp_path, "--max-samples", SAMPLES, *NEIGHBORS, "--untrained")
    assert (status, without_bar(err)) == (0, "")
    lines = out.splitlines()
    text = "digits: 6 features, 200 training and 360 test samples, 10 classes; 8 x 8, 1 channel"
    assert lines[0] == text
    ridge = [line for line in lines if line.startswith("linear, ridge")]
    kinds = ("linear ", "untrained ", "closed form, K = 6 ", "PCA, 6 directions ")
    assert all(kind in line for kind, line in zip(kinds, ridge, strict=True))
    for argv, text in (
        ([tmp_path, tmp_path / "none.npz"], "none.npz: no such file"),
        ([tmp_path, "scenes:size=16"], "scenes:size=16: examples of shape (16, 16, 3); the net"),
        ([tmp_path, "--run", "3"], "run: 3; 0 .. 0 are there"),
    ):
        status, out, err = run(*argv)
        assert (status, out) == (2, "")
        assert text in err
        assert err.count("\n") == 1


def test_the_command_says_in_one_line_what_is_wrong(run, tmp_path):
    x, y = labeled(12, 3)
    np.savez(tmp_path / "a.npz", x_train=x, y_train=y)
    np.savez(tmp_path / "b.npz", x_train=x, y_train=y[::-1])
    np.savez(tmp_path / "nan.npz", x_train=x * np.nan, y_train=y)
    for argv, text in (
        (["nowhere"], "nowhere: neither a run's folder nor an .npz"),
        ([tmp_path], "holds no run"),
        ([tmp_path / "c.npz"], "c.npz: no such file"),
        ([tmp_path / "nan.npz"], "NaN"),
        ([tmp_path / "a.npz", "--knn", "12"], "knn: 12; 1 .. 11 with 12 training samples"),
        ([tmp_path / "a.npz", "--untrained"], "untrained: does not apply"),
        ([tmp_path / "a.npz", tmp_path / "b.npz"], "labels are not those of"),
        ([tmp_path / "a.npz", "--max-samples", "0"], "max_samples: 0; a whole number, at least 1"),
    ):
        status, out, err = run(*argv)
        assert (status, out) == (2, ""), argv
        assert text in err
        assert err.startswith("reconjax probe: ")
        assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda x, y: ridge_probe(x, y, ridge_weights=[0.0]), "ridge_weights"),
        (lambda x, y: ridge_probe(x, y, ridge_weights=[]), "ridge_weights"),
        (lambda x, y: ridge_probe(x * np.nan, y), "NaN"),
        (lambda x, y: ridge_probe(x, 0 * y), "alone"),
        (lambda x, y: ridge_probe(x, y[:-1]), "labels for"),
        (lambda x, y: ridge_probe(np.ones_like(x), y), "constant"),
        (lambda x, y: ridge_probe(x, y, num_classes=2), "num_classes: 2"),
        (lambda x, y: ridge_probe(x, y, x[:, 1:], y), "x_test"),
        (lambda x, y: knn_probe(x, y, neighbors=len(x)), r"neighbors: 20; .* 1 \.\. 19"),
        (lambda x, y: knn_probe(x, y, neighbors=0), "neighbors: 0"),
        (lambda x, y: knn_probe(x, y, neighbors=1.5), "neighbors"),
        (lambda x, y: knn_probe(x, y, metric="l1"), "metric: 'l1'"),
        (lambda x, y: knn_probe(x, y, neighbors=1, memory=0), "memory: 0"),
        (lambda x, y: logistic_probe(x, y, penalties=-1), "penalties"),
        (lambda x, y: logistic_probe(x, y, held_out=1.0), "held_out: 1.0"),
        (lambda x, y: mlp_probe(x, y, epochs=0), "epochs: 0"),
        (lambda x, y: held_out_part(np.arange(4), 0.5), "two samples"),
        (lambda x, y: pca_features(Dataset.from_arrays(x, y), 5), r"latent_dim: 5; 1 \.\. 4"),
        (lambda x, y: features(3, ArraySplit(x, y)), "model: int"),
        (lambda x, y: features(nnx.Dropout(0.5), ArraySplit(x, y)), "no features and no encode"),
        (lambda x, y: features(jnp.log, ArraySplit(-x - 99, y)), "NaN or infinite"),
        (lambda x, y: features(jnp.log, ArraySplit(x, y), batch_size=0), "batch_size: 0"),
    ],
)
def test_bad_input_is_told_in_one_line(call, text):
    x, y = labeled(20, 4)
    with pytest.raises(ValueError, match=text) as error:
        call(x, y)
    assert "\n" not in str(error.value)
