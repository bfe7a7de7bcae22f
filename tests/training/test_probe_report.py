"""The probes of a run beside its closed form, from Python."""

import numpy as np
import pytest
from flax import nnx

from reconjax import noise, training
from reconjax.data import load
from reconjax.nets import make
from reconjax.training.probes import closed_form_features, ridge_probe

K, RATIO, PATCH = 5, 0.5, 2


def arrays(split):
    x, y = split.examples(np.arange(len(split)))
    return x.reshape(len(x), -1).astype(float), y


@pytest.fixture(scope="module")
def digits():
    return load("digits")


@pytest.fixture(scope="module")
def closed_form(digits):
    """Both splits by the encoder of Theorem 3 under masks of patches, in NumPy alone."""
    x, _ = arrays(digits.train)
    test, _ = arrays(digits.test)
    mean = x.mean(0)
    m = (x - mean).T @ (x - mean) / len(x)
    side = np.arange(8) // PATCH
    groups = np.add.outer(8 * side, side).reshape(-1)
    keep = 1 - RATIO
    g = keep**2 * m + (keep - keep**2) * np.where(groups[:, None] == groups, m, 0)
    f = keep * m
    values, vectors = np.linalg.eigh(g)
    kept = values > 1e-10 * values[-1]
    whiten = vectors[:, kept] / np.sqrt(values[kept])
    encoder = whiten @ np.linalg.eigh(whiten.T @ f @ f @ whiten)[1][:, ::-1][:, :K]
    return (x - mean) @ encoder, (test - mean) @ encoder


def projector(features):
    basis = np.linalg.qr(features)[0]
    return basis @ basis.T


def test_closed_form_features_span_what_numpy_says(digits, closed_form):
    mask = noise.patch_mask(RATIO, PATCH, (8, 8, 1))
    made = closed_form_features(digits, K, mask)
    for split, right in zip((made.train, made.test), closed_form, strict=True):
        features = arrays(split)[0]
        assert features.shape[1] == K
        np.testing.assert_allclose(projector(features), projector(right), atol=1e-5)


def test_without_noise_they_span_the_principal_components(digits):
    made = arrays(closed_form_features(digits, K).train)[0]
    x, _ = arrays(digits.train)
    left = np.linalg.svd(x - x.mean(0), full_matrices=False)[0][:, :K]
    np.testing.assert_allclose(projector(made), left @ left.T, atol=1e-5)


@pytest.mark.slow
def test_the_probes_of_a_run_have_a_row_of_its_closed_form(digits, closed_form, tmp_path):
    net = {"name": "linear", "latent_dim": K}
    model = make(**net, example_shape=(8, 8, 1), rngs=nnx.Rngs(0))
    mask = noise.patch_mask(RATIO, PATCH, (8, 8, 1))
    record = {"net": net, "source": "digits", "noise": f"mask:{RATIO}:{PATCH}x{PATCH}"}
    training.fit(
        model, digits, training.denoising(mask), epochs=1, batch_size=512, out=tmp_path,
        record=record,
    )  # fmt: skip
    table = training.probe(tmp_path, knn=[1])
    kinds = list(table["ridge_paths"])
    assert kinds == ["linear", f"closed form, K = {K}", f"PCA, {K} directions"]
    (row,) = (
        row
        for row in table["probes"]
        if (row["probe"], row["features"]) == ("linear, ridge", f"closed form, K = {K}")
    )
    (train, y), (test, y_test) = (
        (features, arrays(split)[1])
        for features, split in zip(closed_form, (digits.train, digits.test), strict=True)
    )
    right = ridge_probe(train, y, test, y_test)
    best = right.chosen
    assert row["test"]["accuracy"] == pytest.approx(right.test.accuracy[best], abs=0.006)
    assert row["test"]["r2"] == pytest.approx(right.test.r2[best], abs=1e-4)


def test_a_size_out_of_range_is_refused_in_one_line(digits):
    with pytest.raises(ValueError, match=r"latent_dim: 65; 1 \.\. 64"):
        closed_form_features(digits, 65)
