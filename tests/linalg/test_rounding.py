"""The estimate of what rounding does to curves, against its definition and against rounding."""

import jax.numpy as jnp
import numpy as np
import pytest

from reconjax.linalg.rounding import mixing


def by_definition(theta, labels, metric):
    """The sums over all pairs i <= K < j, one K after the other."""
    sigma = np.finfo(theta.dtype).eps * theta.max()
    share = 1 / (((theta[:, None] - theta) / sigma) ** 2 + 1)
    length = np.sqrt(share.sum(axis=1))
    effect = (labels @ labels.T) ** 2 * share / (length[:, None] * length)
    effect *= metric / metric[:, None]
    return np.array([2 * np.sqrt(effect[:k, k:].sum()) for k in range(1, len(theta) + 1)])


@pytest.mark.parametrize("weighted", [False, True])
def test_sum_over_pairs(weighted):
    """Also where the labels of the last directions are far smaller than those of the first."""
    rng = np.random.default_rng(0)
    theta = np.logspace(0, -8, 40)
    labels = rng.normal(size=(40, 3)) * np.logspace(0, -4, 40)[:, None]
    metric = rng.uniform(0.5, 2, 40) if weighted else np.ones(40)
    found = mixing(jnp.asarray(theta), jnp.asarray(labels), jnp.asarray(metric))
    wanted = by_definition(theta, labels, metric)
    np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-8 * wanted.max())


def test_rounding_of_an_eigendecomposition():
    """In float32 the estimate is of the size of what rounding does, with a close pair or not."""
    rng = np.random.default_rng(1)
    labels = rng.normal(size=(30, 2))
    basis = np.linalg.qr(rng.normal(size=(30, 30)))[0]
    for gap in (1e-5, 0.02):
        theta = np.linspace(1, 0.1, 30)
        theta[10] = theta[9] - gap
        matrix = (basis * theta) @ basis.T
        errors = []
        for _ in range(20):
            noise = rng.normal(size=matrix.shape) * np.finfo(np.float32).eps
            vectors = np.linalg.eigh(matrix + (noise + noise.T) / np.sqrt(2))[1][:, ::-1]
            r2 = np.cumsum(np.sum((vectors.T @ (basis @ labels)) ** 2, axis=1))
            errors.append(np.abs(r2 - np.cumsum(np.sum(labels**2, axis=1)))[9])
        single = jnp.asarray(theta, jnp.float32), jnp.asarray(labels, jnp.float32)
        estimate = float(mixing(*single)[9])
        assert 0.3 < estimate / np.sqrt(np.mean(np.square(errors))) < 3
