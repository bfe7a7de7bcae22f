"""Chance with class weights, on inputs with heavy tails, against permuted labels."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

import reconjax
from reconjax import studies
from reconjax.data import Dataset

DIMS = np.array([1, 4, 16, 40])
DRAWS = 60


def permuted(x, y, rng):
    """(2, Kn) r2 and alignment of labels that are permuted with their weights, by the SVD."""
    y = rng.permutation(y)
    weights = reconjax.summary.balanced_class_weight(y, 2)[y]
    weights = weights / weights.sum()
    targets = np.eye(2)[y]
    x, targets = x - weights @ x, targets - weights @ targets
    u, s, _ = np.linalg.svd(x * np.sqrt(weights)[:, None], full_matrices=False)
    rank = int(np.sum(s > 1e-9 * s[0]))
    labels = u[:, :rank].T @ (targets * np.sqrt(weights)[:, None])
    label_moment = (targets * weights[:, None]).T @ targets
    r2 = np.cumsum(np.sum(labels**2, axis=1)) / np.trace(label_moment)
    eq7 = np.cumsum(np.sum(labels @ label_moment * labels, axis=1))
    return np.stack([r2, eq7 / eq7[-1]])[:, np.minimum(DIMS, rank) - 1]


@pytest.mark.parametrize("few", [3, 12])
def test_chance_is_that_of_permuted_labels_of_the_same_images(few):
    images, digits = load_digits(return_X_y=True)
    rare, common = np.flatnonzero(digits == 0)[:few], np.flatnonzero(digits != 0)[:300]
    x = images[np.concatenate([rare, common])].reshape(-1, 8, 8, 1)
    y = np.repeat([0, 1], [few, 300])
    result = studies.align(Dataset.from_arrays(x, y), class_weight="balanced", bootstrap=0)
    curves = np.stack([result.r2_chance, result.chance])[:, DIMS - 1]
    rng = np.random.default_rng(0)
    draws = np.stack([permuted(x.reshape(len(x), -1), y, rng) for _ in range(DRAWS)])
    error = draws.std(axis=0, ddof=1) / np.sqrt(DRAWS)
    # The study's own error is about 0.004.
    assert np.all(np.abs(curves - draws.mean(axis=0)) <= 4 * np.hypot(error, 0.005))
    assert result.r2_chance.values[39] > 3 * 40 / (len(x) - 1)


def test_without_weights_chance_is_exact():
    result = studies.align("digits", bootstrap=0)
    used = np.minimum(result.latent_dim, result.attrs["rank"])
    np.testing.assert_allclose(result.r2_chance, used / (result.attrs["samples"] - 1))
    np.testing.assert_allclose(result.chance, used / result.attrs["rank"])
