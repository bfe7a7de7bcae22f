"""The sample side of wide data: the Gram matrix X Xᵀ (N, N) and products Xᵀ u, from column chunks.

X (N, D) stays in memory as it is, and only a chunk of its columns is a float at a time. 8-bit
images are summed without rounding, as in `reconjax.summary.exact_sums`: float32 adds 2^10 products
of (pixel − 128), int32 those of a chunk, int64 on the host the chunks, and the mean is removed from
the integers.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from reconjax.data.units import as_floats
from reconjax.linalg.precision import highest
from reconjax.summary.exact_sums import BLOCK, LARGEST_BATCH

CHUNK_BYTES = 2**25  # of a chunk of columns
ROWS = 512  # of one product of rows with rows


def mean_gram(
    x: np.ndarray, *, center: bool = True, columns: int | None = None, rows: int = ROWS
) -> tuple[Array, Array]:
    """X Xᵀ / N and the mean of the rows, in JAX's default float.

    uint8 is scaled from [0, 255] to [0, 1], and its matrix is rounded once, at the end.

    Args:
      x: (N, D), uint8, another integer or a float.
      center: remove the mean of the rows first.
      columns: of a chunk; by default as many as make it `CHUNK_BYTES`. For uint8 it is rounded up
        to whole blocks of 2^10, 2^16 at most.
      rows: products are made for rows x rows samples at a time, on and above the diagonal only.

    Returns:
      (N, N) symmetric matrix and (D,) mean, which is 0 where it was not removed.

    Raises:
      ValueError: NaN or inf, or features that do not vary.
    """
    make = _pixel_gram if x.dtype == np.uint8 else _float_gram
    gram, mean = make(x, center, columns, min(rows, len(x)))
    if np.trace(gram) <= 0:
        raise ValueError("x: constant; the inputs do not vary")
    gram /= len(x)
    dtype = jnp.result_type(float)
    return jnp.asarray(gram, dtype), jnp.asarray(mean if center else 0 * mean, dtype)


def transposed_product(
    x: np.ndarray, mean: Array, u: Array, *, columns: int | None = None
) -> Array:
    """(x − mean)ᵀ u, with uint8 x scaled from [0, 255] to [0, 1].

    Args:
      x: (N, D) as in `mean_gram`.
      mean: (D,).
      u: (N, k).
      columns: of a chunk; by default as many as make it `CHUNK_BYTES` in the dtype of u.

    Returns:
      (D, k) in the dtype of u.
    """
    samples, features = x.shape
    product = jnp.zeros((features, u.shape[1]), u.dtype)
    if u.shape[1] == 0:
        return product
    width = min(columns or max(CHUNK_BYTES // (samples * u.dtype.itemsize), 1), features)
    for start in range(0, features, width):
        # The last chunk begins early, so that all are of one size: one compilation serves them.
        start = min(start, features - width)
        product = _put_rows(product, _chunk(x, start, width), mean, u, jnp.int32(start))
    return product


def _pixel_gram(
    x: np.ndarray, center: bool, columns: int | None, rows: int
) -> tuple[np.ndarray, np.ndarray]:
    """X Xᵀ (N, N) and mean (D,) of uint8 / 255, in float64; nothing but the results is rounded."""
    samples, features = x.shape
    width = min(-(-(columns or CHUNK_BYTES // samples) // BLOCK) * BLOCK, LARGEST_BATCH)
    block = min(BLOCK, features)
    gram = np.zeros((samples, samples), np.int64)
    by_row, by_column = np.zeros(samples, np.int64), np.zeros(features, np.int64)
    for start in range(0, features, width):
        part = x[:, start : start + width]
        by_row += np.sum(part, axis=1, dtype=np.int64)
        by_column[start : start + width] = np.sum(part, axis=0, dtype=np.int64)
        # Filled up to whole blocks with 128, which stands for 0.
        filling = ((0, -samples % rows), (0, -part.shape[1] % block))
        _add_products(gram, jnp.asarray(np.pad(part, filling, constant_values=128)), rows)
    _mirror(gram, rows)
    # In integers, which fit as long as N D < 2^47; the last division alone is rounded.
    if center:
        # N (x_i − mean)ᵀ(x_j − mean) = N g_ij − Σ_j g_ij − Σ_i g_ij + Σ_ij g_ij / N
        sums = np.sum(gram, axis=1)
        whole, rest = divmod(int(np.sum(sums)), samples)
        gram *= samples
        gram -= sums[:, None]
        gram -= sums - whole
        result = gram + rest / samples
        result /= samples * 255.0**2
    else:
        # x_iᵀ x_j = g_ij + 128 Σ_d (x_id + x_jd) − 128² D
        gram += 128 * by_row[:, None]
        gram += 128 * by_row - 128**2 * features
        result = gram / 255.0**2
    return result, by_column / (255 * samples)


def _float_gram(
    x: np.ndarray, center: bool, columns: int | None, rows: int
) -> tuple[np.ndarray, np.ndarray]:
    """X Xᵀ (N, N) and mean (D,) in float64, from products in JAX's default float."""
    samples, features = x.shape
    itemsize = jnp.result_type(float).itemsize
    # Of fewer columns, adding the products up would cost as much as making them.
    width = columns or max(CHUNK_BYTES // (samples * itemsize), BLOCK)
    gram, mean = np.zeros((samples, samples)), np.zeros(features)
    for start in range(0, features, width):
        part = _chunk(x, start, width)
        chunk, means = _centered(part, center, -samples % rows)
        mean[start : start + width] = np.asarray(means)
        if np.all(np.isfinite(mean)):
            _add_products(gram, chunk, rows)
    bad = int(np.sum(~np.isfinite(mean)))
    if bad:
        raise ValueError(f"x: NaN or inf in {bad} of {features} features")
    _mirror(gram, rows)
    return gram, mean


def _chunk(x: np.ndarray, start: int, width: int) -> Array:
    return jnp.asarray(np.ascontiguousarray(x[:, start : start + width]))


def _add_products(gram: np.ndarray, chunk: Array, rows: int) -> None:
    """Adds the products of the chunk's rows to the Gram matrix, on and above the diagonal."""
    samples = len(gram)
    for i in range(0, samples, rows):
        # All of a row of blocks are under way while the host adds up the first.
        products = [
            (j, _product(chunk, jnp.int32(i), jnp.int32(j), rows)) for j in range(i, samples, rows)
        ]
        for j, product in products:
            target = gram[i : i + rows, j : j + rows]
            target += np.asarray(product)[: target.shape[0], : target.shape[1]]


def _mirror(gram: np.ndarray, rows: int) -> None:
    """Copies the blocks above the diagonal below it."""
    for i in range(0, len(gram), rows):
        for j in range(i + rows, len(gram), rows):
            gram[j : j + rows, i : i + rows] = gram[i : i + rows, j : j + rows].T


@functools.partial(jax.jit, static_argnames="rows")
@highest
def _product(chunk: Array, i: Array, j: Array, rows: int) -> Array:
    """(rows, rows) products of the chunk's rows from i on with those from j on; int32 for uint8."""
    left, right = (jax.lax.dynamic_slice_in_dim(chunk, start, rows) for start in (i, j))
    if chunk.dtype != jnp.uint8:
        return left @ right.T
    block = min(BLOCK, chunk.shape[1])

    def add(total: Array, start: Array) -> tuple[Array, None]:
        a, b = (
            jax.lax.dynamic_slice_in_dim(part, start, block, axis=1).astype(jnp.float32) - 128
            for part in (left, right)
        )
        return total + (a @ b.T).astype(jnp.int32), None

    starts = jnp.arange(0, chunk.shape[1], block, dtype=jnp.int32)
    return jax.lax.scan(add, jnp.zeros((rows, rows), jnp.int32), starts)[0]


@functools.partial(jax.jit, static_argnames=("center", "filling"))
def _centered(part: Array, center: bool, filling: int) -> tuple[Array, Array]:
    """A chunk as floats without its mean (n,), and that mean; `filling` rows of 0 at the end."""
    floats = as_floats(part, jnp.result_type(float))
    # The mean is itself rounded: a second pass over the residuals mends it.
    mean = jnp.mean(floats, axis=0)
    mean = mean + jnp.mean(floats - mean, axis=0)
    return jnp.pad(floats - mean if center else floats, ((0, filling), (0, 0))), mean


@functools.partial(jax.jit, donate_argnums=0)
@highest
def _put_rows(product: Array, part: Array, mean: Array, u: Array, start: Array) -> Array:
    """`product` (D, k) with (part − mean)ᵀ u of a chunk of columns in its rows from `start` on."""
    means = jax.lax.dynamic_slice_in_dim(mean, start, part.shape[1])
    rows = (as_floats(part, u.dtype) - means).T @ u
    return jax.lax.dynamic_update_slice_in_dim(product, rows, start, axis=0)
