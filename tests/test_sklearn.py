"""The estimator, judged by scikit-learn's checks, by its PCA, and by reduced-rank regression."""

import pickle

import jax
import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import reconjax
from reconjax.sklearn import DenoisingPCA
from reconjax.theory.targets import joint_embedding, linear_target

SHAPE = (4, 4, 1)
FEATURES = 16


def images(samples=60, dtype="float64", seed=0):
    """(N, 16) with a decaying spectrum and a mean; two pixels are constant."""
    rng = np.random.default_rng(seed)
    rotation = np.linalg.qr(rng.normal(size=(FEATURES, FEATURES)))[0]
    x = rng.normal(size=(samples, FEATURES)) * np.geomspace(2, 0.1, FEATURES) @ rotation.T
    x = x + rng.uniform(0, 3, FEATURES)
    x[:, [0, 9]] = 0.7
    return x.astype(dtype)


@parametrize_with_checks([DenoisingPCA(), DenoisingPCA(noise="gaussian:0.5")])
def test_scikit_learn_takes_it_for_an_estimator(estimator, check):
    check(estimator)


# Without noise: PCA


@pytest.mark.parametrize("samples", [60, 9])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("noise", [None, "identity"])
def test_without_noise_it_is_pca(samples, dtype, noise):
    x, new = images(samples, dtype), images(20, dtype, seed=1)
    count = min(samples - 1, FEATURES - 2)
    ours = DenoisingPCA(count, noise=noise).fit(x)
    pca = PCA(count, svd_solver="full").fit(x.astype("float64"))
    tolerance = {"rtol": 0, "atol": 1e-9 if dtype == "float64" else 2e-5}
    sign = np.sign(np.sum(ours.components_ * pca.components_, axis=1))
    np.testing.assert_allclose(ours.components_, sign[:, None] * pca.components_, **tolerance)
    np.testing.assert_allclose(ours.decoder_, ours.components_, **tolerance)
    for given in (x, new):
        np.testing.assert_allclose(ours.transform(given), sign * pca.transform(given), **tolerance)
        back = pca.inverse_transform(pca.transform(given))
        np.testing.assert_allclose(ours.inverse_transform(ours.transform(given)), back, **tolerance)
    ratio = pca.explained_variance_ratio_
    np.testing.assert_allclose(ours.explained_variance_ratio_, ratio, **tolerance)
    assert ours.n_components_ == count
    assert {ours.components_.dtype, ours.mean_.dtype, ours.transform(x).dtype} == {np.dtype(dtype)}


def test_by_default_it_keeps_as_many_components_as_pca():
    for x in (images(9), images(60)):
        ours, pca = DenoisingPCA().fit(x), PCA().fit(x)
        assert ours.n_components_ == pca.n_components_
        components = ours.components_
        np.testing.assert_allclose(components @ components.T, np.eye(len(components)), atol=1e-12)
        np.testing.assert_allclose(ours.inverse_transform(ours.transform(x)), x, atol=1e-12)


def test_small_variances_keep_orthonormal_components():
    x = images() * np.geomspace(1, 1e-7, FEATURES)
    components = DenoisingPCA().fit(x).components_
    np.testing.assert_allclose(components @ components.T, np.eye(FEATURES), atol=1e-12)


# With noise: reduced-rank regression, written from its textbook form


def noisy_moments(x, noise):
    """E[x' x'ᵀ] and E[x' xᵀ] of centered x, value by value."""
    covariance = np.cov(x.T.astype("float64"), bias=True)
    if noise == "gaussian:0.5":
        return covariance + 0.25 * np.eye(FEATURES), covariance
    assert noise == "mask:0.75:2x2"
    keep = 0.25
    rows, columns = np.divmod(np.arange(FEATURES), 4)
    patch = 2 * (rows // 2) + columns // 2
    together = np.where(patch[:, None] == patch, keep, keep**2)
    return together * covariance, keep * covariance


def reduced_rank(second, cross, count):
    """(D, D) of rank K: the best linear guess of t from x', on its own K principal directions."""
    best = np.linalg.pinv(second, rcond=1e-12, hermitian=True) @ cross
    directions = np.linalg.eigh(cross.T @ best)[1][:, ::-1][:, :count]
    return best @ directions @ directions.T


def loss(linear, second, cross, covariance):
    """E‖Lᵀ x' − x‖²."""
    return np.trace(covariance) - 2 * np.sum(linear * cross) + np.sum(linear * (second @ linear))


@pytest.mark.parametrize("noise", ["gaussian:0.5", "mask:0.75:2x2"])
@pytest.mark.parametrize(("samples", "dtype"), [(60, "float64"), (60, "float32"), (9, "float64")])
def test_with_noise_it_is_reduced_rank_regression(samples, dtype, noise):
    x = images(samples, dtype)
    second, cross = noisy_moments(x, noise)
    covariance = np.cov(x.T.astype("float64"), bias=True)
    rank = min(samples - 1, FEATURES - 2)
    exact = dtype == "float64"
    for count in (1, 4, rank):
        ours = DenoisingPCA(count, noise=noise, image_shape=SHAPE).fit(x)
        linear = (ours.components_.T @ ours.decoder_).astype("float64")
        expected = reduced_rank(second, cross, count)
        np.testing.assert_allclose(linear, expected, atol=1e-8 if exact else 1e-5)
        found, least = (loss(each, second, cross, covariance) for each in (linear, expected))
        np.testing.assert_allclose(found, least, rtol=1e-9 if exact else 1e-5)
        # The documented scale.
        decoder = ours.decoder_
        np.testing.assert_allclose(decoder @ decoder.T, np.eye(count), atol=1e-9 if exact else 1e-5)
        codes = ours.components_ @ second @ ours.components_.T
        shares = ours.explained_variance_ratio_ * np.trace(covariance)
        np.testing.assert_allclose(codes, np.diag(shares), atol=1e-9 if exact else 1e-5)
        np.testing.assert_allclose(np.trace(covariance) - np.sum(shares), least, rtol=1e-5)
        assert np.all(np.diff(ours.explained_variance_ratio_) <= 0)
        # What it does to samples is that linear function about the mean.
        back = ours.inverse_transform(ours.transform(x))
        assert back.dtype == x.dtype
        tolerance = 1e-9 if exact else 1e-4
        np.testing.assert_allclose(back, x.mean(0) + (x - x.mean(0)) @ linear, atol=tolerance)


def test_past_the_rank_of_the_data_nothing_is_encoded():
    ours = DenoisingPCA(noise="gaussian:0.5").fit(images(9))
    assert ours.n_components_ == 9
    assert np.all(ours.components_[8] == 0)
    assert np.all(ours.decoder_[8] == 0)
    assert np.all(np.abs(ours.decoder_[7]).max() > 0.1)


def test_drawn_noise_is_taken_off_no_worse_than_by_pca():
    x = images(2000)
    noise = reconjax.parse_noise("mask:0.5:2x2:fill=0", SHAPE, x.mean(0))
    mean = x.mean(0)
    noisy = np.asarray(noise.sample(jax.random.key(0), x - mean)) + mean
    assert np.any(noisy == 0)

    def error(estimator):
        return np.mean(
            np.sum((estimator.inverse_transform(estimator.transform(noisy)) - x) ** 2, 1)
        )

    ours = DenoisingPCA(6, noise="mask:0.5:2x2:fill=0", image_shape=SHAPE).fit(x)
    np.testing.assert_allclose(ours.noisy_mean_, noisy.mean(0), atol=0.15)
    assert np.abs(ours.noisy_mean_ - ours.mean_).max() > 0.3
    expected = np.trace(np.cov(x.T)) * (1 - ours.explained_variance_ratio_.sum())
    np.testing.assert_allclose(error(ours), expected, rtol=0.03)
    assert error(ours) < 0.8 * error(PCA(6).fit(x))


def test_a_noise_may_be_an_object_made_in_float32():
    x = images(dtype="float32")
    text = DenoisingPCA(3, noise="mask:0.75:2x2+gaussian:0.5", image_shape=SHAPE).fit(x)
    with jax.enable_x64(False):
        noise = reconjax.parse_noise("mask:0.75:2x2+gaussian:0.5", SHAPE)
        given = DenoisingPCA(3, noise=noise).fit(x)
        np.testing.assert_allclose(given.components_, text.components_, atol=1e-6)
        clone(given).fit(x)


def test_the_precision_of_jax_does_not_matter(float32):
    x = images()
    ours = pickle.loads(pickle.dumps(DenoisingPCA(5).partial_fit(x[:20])))
    ours = pickle.loads(pickle.dumps(ours.partial_fit(x[20:])))
    pca = PCA(5).fit(x)
    np.testing.assert_allclose(np.abs(ours.transform(x)), np.abs(pca.transform(x)), atol=1e-11)


# Other targets


def test_a_target_decides_which_features_are_kept():
    x = images()
    covariance = np.cov(x.T, bias=True)
    second, cross = noisy_moments(x, "gaussian:0.5")
    matrix = np.random.default_rng(2).normal(size=(FEATURES, 5))
    ours = DenoisingPCA(3, noise="gaussian:0.5", target=linear_target(matrix)).fit(x)
    expected = reduced_rank(second, cross @ matrix, 3)
    span = np.linalg.svd(expected, full_matrices=False)[0][:, :3]
    codes = ours.components_.T
    np.testing.assert_allclose(span @ (span.T @ codes), codes, atol=1e-9)
    # The decoder is the best one for samples: least squares on the codes.
    least = np.linalg.solve(codes.T @ second @ codes, codes.T @ cross)
    np.testing.assert_allclose(ours.decoder_, least, atol=1e-9)
    np.testing.assert_allclose(np.linalg.norm(ours.decoder_, axis=1), 1, atol=1e-12)
    found = loss(codes @ ours.decoder_, second, cross, covariance) / np.trace(covariance)
    np.testing.assert_allclose(1 - ours.explained_variance_ratio_.sum(), found, rtol=1e-9)


@pytest.mark.parametrize("target", ["whitened:0.5", "patch-centered:2x2", joint_embedding()])
def test_every_target_has_codes(target):
    ours = DenoisingPCA(4, noise="mask:0.5:2x2", target=target, image_shape=SHAPE).fit(images())
    assert np.all(ours.explained_variance_ratio_ > 0)


# Batches


@pytest.mark.parametrize("noise", [None, "gaussian:0.5"])
def test_batches_of_any_size_give_what_all_samples_give(noise):
    x = images() + 1e3
    whole = DenoisingPCA(6, noise=noise).fit(x)
    parts = DenoisingPCA(6, noise=noise)
    for start, stop in [(0, 1), (1, 4), (4, 37), (37, 60)]:
        parts.partial_fit(x[start:stop])
    assert parts.n_samples_seen_ == 60
    for name in ("components_", "decoder_", "mean_", "noisy_mean_", "explained_variance_ratio_"):
        np.testing.assert_allclose(getattr(parts, name), getattr(whole, name), atol=1e-8)
    again = parts.fit(x[:30])
    assert again.n_samples_seen_ == 30
    np.testing.assert_allclose(again.mean_, x[:30].mean(0))


def test_it_solves_once_and_only_where_that_is_needed(monkeypatch):
    solved = []
    plain = DenoisingPCA._optimum
    monkeypatch.setattr(DenoisingPCA, "_optimum", lambda *given: solved.append(1) or plain(*given))
    ours = DenoisingPCA(4)
    for batch in np.split(images(), 20):
        ours.partial_fit(batch)
    assert solved == []
    ours.transform(images())
    assert ours.components_.shape == (4, FEATURES)
    assert solved == [1]


def test_many_samples_are_summed_in_parts(monkeypatch):
    monkeypatch.setattr("reconjax.sklearn.batches.ROWS", 32)
    x = images(100)
    np.testing.assert_allclose(
        np.abs(DenoisingPCA(3).fit_transform(x)), np.abs(PCA(3).fit_transform(x)), atol=1e-10
    )


# Among other estimators


def test_a_grid_of_noises_is_searched_in_a_pipeline():
    x, y = load_digits(return_X_y=True)
    x = x.reshape(-1, 4, 2, 4, 2).mean((2, 4)).reshape(-1, FEATURES)
    pipeline = make_pipeline(
        StandardScaler(with_std=False),
        DenoisingPCA(4, image_shape=SHAPE),
        StandardScaler(),
        LogisticRegression(),
    )
    noises = [None, "gaussian:9", "mask:0.9:1x2"]
    search = GridSearchCV(pipeline, {"denoisingpca__noise": noises}, cv=2).fit(x[:450], y[:450])
    without, gaussian, masks = search.cv_results_["mean_test_score"]
    assert without == gaussian != masks  # white noise never changes the span (Corollary 3.1)
    assert search.score(x[450:900], y[450:900]) > 0.6
    assert pickle.loads(pickle.dumps(search)).predict(x[:5]).shape == (5,)


def test_codes_may_be_tables_with_names():
    x = pd.DataFrame(images(), columns=[f"pixel{i}" for i in range(FEATURES)])
    ours = DenoisingPCA(2, noise="gaussian:0.5").set_output(transform="pandas")
    codes = ours.fit_transform(x)
    assert codes.columns.tolist() == ["denoisingpca0", "denoisingpca1"]
    assert ours.feature_names_in_.tolist() == x.columns.tolist()
    np.testing.assert_array_equal(clone(ours).fit_transform(x), codes)


def test_the_largest_entry_of_each_component_is_positive():
    for noise in (None, "gaussian:0.5"):
        components = DenoisingPCA(noise=noise).fit(images()).components_
        assert np.all(components.max(1) >= -components.min(1))


# What is not allowed


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_components": 0}, "n_components: 0; None or a whole number from 1 to 16 ="),
        ({"n_components": 17}, "n_components: 17; "),
        ({"n_components": 0.9}, "n_components: 0.9; "),
        ({"n_components": True}, "n_components: True; "),
        ({"noise": "gausian:1"}, "noise: 'gausian:1': is no noise; did you mean gaussian:STD"),
        (
            {"noise": "mask:0.5:2x2"},
            r"noise: .*image_shape: \(16,\); patches need images \(H, W, C\)",
        ),
        ({"noise": 0.5}, "noise: 0.5; None, a text or a noise"),
        ({"noise": reconjax.noise.patch_mask(0.5, 1, (2, 2))}, "noise: made for 4 features"),
        ({"noise": reconjax.noise.from_function(lambda key, x: x)}, "noise: .*estimated"),
        ({"target": "pixel"}, "target: 'pixel'; known are pixels, whitened:S"),
        ({"target": 3}, "target: 3; make one with"),
        ({"target": linear_target(np.eye(3))}, "target: made for 3 features, not 16"),
        ({"image_shape": (4, 5, 1)}, r"image_shape: \(4, 5, 1\); \(H, W, C\) with H W C = 16"),
        ({"image_shape": (16,)}, r"image_shape: \(16,\); "),
        ({"image_shape": 16}, "image_shape: 16; "),
        ({"image_shape": (-4, -4, 1)}, r"image_shape: \(-4, -4, 1\); "),
        ({"image_shape": "4x4"}, "image_shape: '4x4'; "),
    ],
)
def test_parameters_that_are_out_of_range_are_named(options, message):
    with pytest.raises(ValueError, match=f"^{message}") as raised:
        DenoisingPCA(**options).fit(images())
    assert "\n" not in str(raised.value)
    with pytest.raises(ValueError, match=f"^{message}"):
        DenoisingPCA(**options).partial_fit(images())


def test_samples_that_do_not_do_are_named():
    for value in (0, 1, 0.1):
        with pytest.raises(ValueError, match="X: constant"):
            DenoisingPCA().fit(np.full((5, 3), value))
    few = DenoisingPCA(4).partial_fit(images(1))
    with pytest.raises(ValueError, match="n_samples = 1; at least 2"):
        few.transform(images())
    few.partial_fit(images(2))
    with pytest.raises(ValueError, match="n_components: 4; None or a whole number from 1 to 3"):
        few.transform(images())
    assert few.partial_fit(images(2)).transform(images()).shape == (60, 4)
    with pytest.raises(ValueError, match="X: 3 codes for each sample; 4 are needed"):
        few.inverse_transform(np.ones((2, 3)))
    with pytest.raises(NotFittedError):
        _ = DenoisingPCA().components_
