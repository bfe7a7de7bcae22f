"""The leading eigenvectors of a symmetric matrix, at a small part of the cost of all of them."""

import jax
import jax.numpy as jnp
from jax import Array

from reconjax.linalg.eigen import eigh_descending, signs
from reconjax.linalg.precision import highest

# Columns that are multiplied at a time.
BLOCK = 16
# Beside twice as many directions as are wanted, so many are searched.
BESIDE = 256
# By how many roundings of the largest eigenvalue the result may not be that of an eigenvector.
ROUNDINGS = 256
# Steps that look for eigenvalues which were missed.
STEPS = 4


def searched(count: int) -> int:
    """The directions among which so many eigenvectors are searched."""
    return -(-(2 * count + BESIDE) // BLOCK) * BLOCK


def leading_pays(count: int, size: int) -> bool:
    """Whether `leading_eigh` is allowed, and faster than all eigenvectors."""
    return 2 * searched(count) <= size


@highest
def leading_eigh(matrix: Array, count: int) -> tuple[Array, Array]:
    """The largest eigenvalues of a symmetric matrix, and their eigenvectors.

    By block Lanczos with full orthogonalization (Golub and Van Loan, Sec. 10.3.6), in double
    precision to the last digits where eigenvalues decay. Nothing is taken on trust: where what was
    found is no eigenvector up to rounding, or a search from other random directions finds a larger
    eigenvalue that was missed, as may be one of many equal ones, the matrix is decomposed in full.

    Args:
      matrix: (R, R), symmetric.
      count: how many are needed; `leading_pays(count, R)` must hold.

    Returns:
      Eigenvalues, largest first, and eigenvectors in columns: (M,) and (R, M) with
      M = `searched(count)`. Those past `count` are less and less exact.

    Example:
      >>> import jax.numpy as jnp
      >>> from reconjax.linalg.leading import leading_eigh
      >>> matrix = jnp.diag(0.9 ** jnp.arange(600.0))
      >>> values, vectors = leading_eigh(matrix, 3)
      >>> bool(jnp.allclose(values[:3], jnp.array([1, 0.9, 0.81]), atol=1e-5))
      True
    """
    size, held = matrix.shape[0], searched(count)

    def beside(block: Array, basis: Array) -> Array:
        """An orthonormal basis (R, b) of what a block has beside the basis (R, M)."""
        block = jnp.linalg.qr(block - basis @ (basis.T @ block))[0]
        # Again, for what rounding has left. By its Cholesky factor: it is nearly orthonormal.
        block = block - basis @ (basis.T @ block)
        factor = jnp.linalg.cholesky(block.T @ block, symmetrize_input=False)
        return jax.scipy.linalg.solve_triangular(factor, block.T, lower=True).T

    def enlarged(index: int, state: tuple[Array, Array]) -> tuple[Array, Array]:
        basis, block = state
        block = beside(block, basis)
        return jax.lax.dynamic_update_slice(basis, block, (0, index * BLOCK)), matrix @ block

    starts = jax.random.normal(jax.random.key(0), (2, size, BLOCK), matrix.dtype)
    state = jnp.zeros((size, held), matrix.dtype), starts[0]
    basis, _ = jax.lax.fori_loop(0, held // BLOCK, enlarged, state)
    image = matrix @ basis
    inside = basis.T @ image
    values, rotation = eigh_descending((inside + inside.T) / 2)
    vectors = basis @ rotation
    residual = (image @ rotation - vectors * values)[:, :count]
    bound = ROUNDINGS * float(jnp.finfo(matrix.dtype).eps) * jnp.max(jnp.abs(values))
    exact = jnp.max(jnp.linalg.norm(residual, axis=0)) <= bound

    others = beside(starts[1], vectors[:, :count])
    for _ in range(STEPS):
        others = beside(matrix @ others, vectors[:, :count])
    rest = others.T @ (matrix @ others)
    missed = jnp.linalg.eigvalsh((rest + rest.T) / 2)[-1] > values[count - 1] + bound

    def whole() -> tuple[Array, Array]:
        values, vectors = eigh_descending(matrix)
        return values[:held], vectors[:, :held]

    return jax.lax.cond(exact & ~missed, lambda: (values, vectors * signs(vectors)), whole)
