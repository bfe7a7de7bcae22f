"""The leading eigenvectors against dense NumPy, where they are easy to find and where not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reconjax.linalg.leading import leading_eigh, leading_pays

SIZE, COUNT = 576, 8
EQUAL = 60  # more than are multiplied at a time

SPECTRA = {
    "decaying": 0.97 ** np.arange(SIZE),
    "of both signs": (-0.97) ** np.arange(SIZE),
    "many equal ones on top": np.where(np.arange(SIZE) < EQUAL, 1.0, 0.5 * 0.9 ** np.arange(SIZE)),
    "of low rank": np.where(np.arange(SIZE) < 3, 1.0 + np.arange(SIZE), 0.0),
    "nothing": np.zeros(SIZE),
    # Neither decays: found by the full decomposition.
    "flat": np.linspace(1, 0.999, SIZE),
}
leading = jax.jit(leading_eigh, static_argnums=1)


@pytest.mark.parametrize("name", SPECTRA)
def test_values_and_spans_are_those_of_numpy(name):
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.normal(size=(SIZE, SIZE)))[0]
    matrix = (basis * SPECTRA[name]) @ basis.T
    matrix = (matrix + matrix.T) / 2
    assert leading_pays(COUNT, SIZE)
    assert not leading_pays(COUNT + 17, SIZE)
    values, vectors = (np.asarray(part) for part in leading(jnp.asarray(matrix), COUNT))
    wanted = np.sort(SPECTRA[name])[::-1][:COUNT]
    np.testing.assert_allclose(values[:COUNT], wanted, atol=1e-12)
    first = vectors[:, :COUNT]
    np.testing.assert_allclose(first.T @ first, np.eye(COUNT), atol=1e-12)
    np.testing.assert_allclose(matrix @ first, first * wanted, atol=1e-11)


def test_a_block_diagonal_matrix_hides_no_eigenvalue():
    # A start that has nothing of one block: what was found looks right, and is not all.
    matrix = jnp.diag(jnp.where(jnp.arange(SIZE) < 4, 1.0, 0.0)).at[-1, -1].set(2.0)
    values, vectors = leading(matrix, COUNT)
    np.testing.assert_allclose(values[:COUNT], [2, 1, 1, 1, 1, 0, 0, 0], atol=1e-12)
    assert abs(vectors[-1, 0]) == pytest.approx(1)
