"""How far from commuting M and the direction B of a ray are, from samples; nothing is D x D.

With the principal directions M = P diag(d) Pᵀ on the range of M, B M − M B has the norm

    ‖B M − M B‖² = ‖n d − d n‖² + 2 (‖B P d‖² − ‖n d‖²),   n = Pᵀ B P   (r, r),

its part within that range, and that which leads out of it. In the coordinates of the samples
P d^½ is AᵀU: for the columns A_g (N, P) of each group of features, its part of it is A_gᵀ U, and of
B it is A_gᵀA_g, of which both norms are added up.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from reconjax.grid.columns import Alone, alone, column_chunks
from reconjax.grid.stored_samples import Samples
from reconjax.linalg.eigen import inverse_root
from reconjax.linalg.precision import highest
from reconjax.linalg.products import gram
from reconjax.noise.rays import Direction, SameGroup


class Commutation(NamedTuple):
    """What is known of a direction B beside M.

    Attributes:
      commutator: ‖B M − M B‖.
      size: ‖B‖.
      product: tr(B M).
      same: whether B = M, one group having all that varies.
      white: b where B = b I; 0 where it is not.
    """

    commutator: Array
    size: Array
    product: Array
    same: Array
    white: Array


class _Sums(NamedTuple):
    """Over groups: Uᵀ A B Aᵀ U (m, m), ‖B P d‖², ‖B‖², tr(B M), and those that are not constant.

    `least` and `most` are those of the diagonal of B.
    """

    inner: Array
    across: Array
    size: Array
    product: Array
    groups: Array
    least: Array
    most: Array


def commutation(
    data: Samples, direction: Direction, columns: Callable[[int], None] | None = None
) -> Commutation:
    """The commutator of M and B, and what tells whether B is a multiple of M or of I.

    It costs 2 N² D operations beside those of E.

    Args:
      data: from `samples`; the test split plays no part.
      direction: B.
      columns: called with the number of columns that are done, D in all.

    Raises:
      ValueError: a direction that has no form by samples.

    Example:
      >>> from reconjax.grid.commutator import commutation
      >>> x, y = np.random.default_rng(0).normal(size=(8, 4, 6, 1)), np.arange(8) % 2
      >>> data = reconjax.grid.samples(x, y)
      >>> ray = reconjax.noise.patch_mask(0.5, (4, 6), (4, 6, 1)).ray()  # one patch alone: B = M
      >>> bool(commutation(data, ray.direction).same)
      True
    """
    features = data.rows.train.shape[1]
    single = alone(direction, features)
    groups = np.arange(features)
    if isinstance(direction, SameGroup):
        groups = np.asarray(direction.groups)
        if groups.max() == features - 1 and len(np.unique(groups)) == features:
            single = Alone(np.zeros(features), with_data=True)
    rows = data.rows._replace(test=data.rows.test[:0])
    zero = jnp.zeros_like(data.principal.eigenvalues[0])
    sums = _Sums(jnp.zeros_like(data.vectors), zero, zero, zero, zero, zero + jnp.inf, zero)
    for index, train, _ in column_chunks(rows, groups):
        noise = None
        if single is not None:
            noise = jnp.asarray(single.variance[index], zero.dtype)
            if single.with_data:
                noise = noise + jnp.sum(train**2, axis=-1)
        there = jnp.asarray(index[:, 0] >= 0)
        sums = _added(sums, train, there, noise, data.vectors, data.principal.eigenvalues)
        if columns is not None:
            columns(int(np.sum(index >= 0)))
    return _commutation(sums, data.principal.eigenvalues, diagonal=single is not None)


@jax.jit
@highest
def _added(
    sums: _Sums, train: Array, there: Array, noise: Array | None, vectors: Array, variances: Array
) -> _Sums:
    """With groups of columns (G, P, N), or single columns whose noise has variances (G, 1)."""
    if train.shape[1] >= train.shape[2]:
        return _added_wide(sums, train, there, vectors, variances)
    along = train @ vectors  # of P d^½
    if noise is None:
        block = train @ train.mT
        turned = block @ along
        squares = jnp.sum(block**2, axis=(1, 2))
        product, least, most = jnp.sum(squares), sums.least, sums.most
    else:
        turned = noise[..., None] * along
        squares = jnp.where(there, noise[:, 0] ** 2, 0.0)
        product = jnp.sum(noise * jnp.sum(train**2, axis=-1))
        least = jnp.minimum(sums.least, jnp.min(jnp.where(there, noise[:, 0], jnp.inf)))
        most = jnp.maximum(sums.most, jnp.max(jnp.where(there, noise[:, 0], 0.0)))
    size = along.shape[-1]
    inner = along.reshape(-1, size).T @ turned.reshape(-1, size)
    return _Sums(
        inner=sums.inner + inner,
        across=sums.across + jnp.sum(turned**2 * variances),
        size=sums.size + jnp.sum(squares),
        product=sums.product + product,
        groups=sums.groups + jnp.sum(squares > 0, dtype=squares.dtype),
        least=least,
        most=most,
    )


def _added_wide(sums: _Sums, train: Array, there: Array, vectors: Array, variances: Array) -> _Sums:
    """Groups of at least as many columns as samples, by their (N, N) products."""

    def add(sums: _Sums, columns: Array) -> tuple[_Sums, None]:
        products = gram(columns)
        turned = products @ vectors
        square = jnp.sum(products**2)
        more = _Sums(
            inner=gram(turned),
            across=jnp.sum(turned * (products @ turned) * variances),
            size=square,
            product=square,
            groups=(square > 0).astype(square.dtype),
            least=jnp.zeros_like(square),
            most=jnp.zeros_like(square),
        )
        return jax.tree.map(jnp.add, sums, more), None

    return jax.lax.scan(add, sums, train)[0]


@jax.jit(static_argnames="diagonal")
@highest
def _commutation(sums: _Sums, variances: Array, diagonal: bool) -> Commutation:
    epsilon = float(jnp.finfo(variances.dtype).eps)
    over, root = inverse_root(variances), jnp.sqrt(variances)
    within = sums.inner * over[:, None] * over  # n
    turned = within * (variances[None, :] - variances[:, None])
    out = sums.across - jnp.sum((sums.inner * over[:, None] * root) ** 2)
    # A difference of sums that are equal is rounding.
    out = jnp.where(out > 64 * epsilon * sums.across, out, 0.0)
    size, unit = jnp.sqrt(sums.size), sums.most - sums.least
    equal = diagonal & (unit <= 64 * epsilon * sums.most)
    return Commutation(
        commutator=jnp.sqrt(jnp.sum(turned**2) + 2 * out),
        size=size,
        product=sums.product,
        same=jnp.asarray(not diagonal) & (sums.groups == 1),
        white=jnp.where(equal, sums.most, 0.0),
    )
