"""Whitening of regular and singular matrices, against NumPy's pseudo-inverse."""

import jax.numpy as jnp
import numpy as np
import pytest

from reconjax.linalg.whitening import ridged, whiten, whiten_regular

SIZE = 6


def moment(rank, constant=False):
    random = np.random.default_rng(rank)
    root = random.normal(size=(rank, SIZE)) * 10.0 ** np.arange(-2, SIZE - 2)
    if constant:
        root[:, 1] = 0
    return root.T @ root


@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("rank", [SIZE + 4, 3])
def test_it_is_the_identity_on_the_range(rank, constant):
    second = moment(rank, constant)
    whitening = whiten(jnp.asarray(second))
    assert bool(whitening.regular) == (rank > SIZE)
    matrix = whitening.apply(jnp.eye(SIZE))
    scale = np.sqrt(np.diag(second))
    unit = np.where(scale > 0, 1 / np.where(scale > 0, scale, 1), 0)
    # W G Wᵀ is a projector whose rank is that of G.
    projector = np.asarray(matrix @ second @ matrix.T)
    np.testing.assert_allclose(projector @ projector, projector, atol=1e-8)
    assert np.trace(projector) == pytest.approx(
        np.linalg.matrix_rank(second * unit * unit[:, None])
    )
    np.testing.assert_allclose(whitening.transposed(jnp.eye(SIZE)), matrix.T, rtol=1e-12)
    # On the range of G, Wᵀ W is its inverse.
    np.testing.assert_allclose(second @ whitening.solve(jnp.asarray(second)), second, rtol=1e-6)


def test_negligible_features_are_left_out():
    second = moment(SIZE + 4)
    whitening = whiten(jnp.asarray(second), negligible=second[0, 0] * 1.01)
    assert not np.any(np.asarray(whitening.apply(jnp.eye(SIZE)))[:, 0])


def test_a_ridge_makes_a_singular_matrix_regular():
    second = jnp.asarray(moment(3))
    bent = ridged(second)
    np.testing.assert_allclose(bent, second, rtol=1e-11, atol=1e-12 * np.trace(second))
    assert np.all(np.isfinite(whiten_regular(bent).factor))
    assert np.linalg.eigvalsh(bent / np.sqrt(np.outer(np.diag(bent), np.diag(bent))))[0] > 0
