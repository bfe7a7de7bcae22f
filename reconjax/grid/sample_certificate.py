"""What a noise can change for any task, for fewer samples than features: nothing is D x D.

A certificate (`reconjax.theory.certificate`) asks of G = E[x' x'ᵀ] only for H = W P d^½ with any W
of W G Wᵀ = I. In the principal coordinates of the samples a noise on a ray has

    HᵀH = d^½ Pᵀ G⁺ P d^½ = Q diag(μ s² / g) Qᵀ

with the Q, μ and s of `reconjax.grid.sample_side`, so that diag(μ^½ s / √g) Qᵀ is such an H, and
A = q H d^½. From there on all is as on the D side. One (N, N) eigendecomposition and one singular
value decomposition a noise.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from reconjax.grid.columns import check_form
from reconjax.grid.commutator import commutation
from reconjax.grid.ray import inverse_deviation
from reconjax.grid.sample_side import inner_products, ray_by_samples
from reconjax.grid.stored_samples import Samples
from reconjax.linalg.eigen import inverse_root
from reconjax.linalg.precision import highest
from reconjax.noise import Isotropic, Noise, RayPoint
from reconjax.summary.sample_gram import transposed_product
from reconjax.theory.certificate import Certificate, in_words
from reconjax.theory.checks import check_latent_dims
from reconjax.theory.commuting import Facts, Whitened, judged, whitened


def certificate_by_samples(
    data: Samples,
    noise: Noise,
    latent_dims: ArrayLike | None = None,
    *,
    columns: Callable[[int], None] | None = None,
) -> Certificate:
    """`certificate` on the sample side: the same numbers, for N < D.

    Memory: about as much as `sweep_samples`, and labels (Kn, D).

    Args:
      data: from `samples`; its labels and its test split play no part.
      noise: one with a form by samples, as in `sweep_samples`.
      latent_dims: (Kn,) K in 1 .. r; by default 1, 2, 4, ... and r.
      columns: called with the number of columns that are done, 2 D in all.

    Returns:
      `Certificate`. The commutator is rounding up to about 1e-7, where it is that small.

    Raises:
      ValueError: K out of range, a noise for another number of features, or without such a form.

    Example:
      >>> x, y = np.random.default_rng(0).normal(size=(8, 4, 6, 1)), np.arange(8) % 2
      >>> data = reconjax.grid.samples(x, y)
      >>> noises = reconjax.noise.gaussian(0.5), reconjax.noise.patch_mask(0.5, 2, (4, 6, 1))
      >>> [reconjax.grid.certificate_by_samples(data, noise).verdict for noise in noises]
      ['never', 'may']
    """
    features, principal = data.rows.train.shape[1], data.principal
    dims = check_latent_dims(latent_dims, int(principal.rank), features)
    check_form(noise, features)
    point = noise.ray()
    assert point is not None

    def count(done: int) -> None:
        if columns is not None:
            columns(done)

    facts = _facts(data, point, count)

    def by_directions() -> Whitened:
        inner = inner_products(data, point.direction, count)
        ray, basis, _ = ray_by_samples(
            principal, inner.products, inner.kappa, inner.magnified, again=False
        )
        deviation = inverse_deviation(ray, point) * jnp.sqrt(ray.clean)
        return _whitened(deviation, basis, principal.eigenvalues, point)

    numbers = judged(
        principal.eigenvalues, principal.rank, data.spectrum.samples, facts, by_directions, dims
    )
    if bool(facts.closed):
        count(features)
    labels = _on_samples(data.vectors, principal.eigenvalues, numbers.worst_label)
    worst = transposed_product(data.rows.train, jnp.asarray(data.rows.mean), labels).T
    return in_words(numbers._replace(worst_label=worst), dims)


@jax.jit
@highest
def _whitened(deviation: Array, basis: Array, eigenvalues: Array, point: RayPoint) -> Whitened:
    components = (deviation * jax.lax.rsqrt(point.scale))[:, None] * basis.T
    return whitened(components, point.keep * components * jnp.sqrt(eigenvalues))


@jax.jit
@highest
def _on_samples(vectors: Array, eigenvalues: Array, coordinates: Array) -> Array:
    """(N, Kn) w with Xᵀ w = P times coordinates (Kn, N)."""
    return vectors @ (inverse_root(eigenvalues)[:, None] * coordinates.T) / len(vectors) ** 0.5


def _facts(data: Samples, point: RayPoint, columns: Callable[[int], None]) -> Facts:
    """Whether G = a M + b I, and the commutator of M and what the noise adds to it."""
    variances = data.principal.eigenvalues
    share, scale, keep = (value.astype(variances.dtype) for value in point[1:])
    zero, yes = jnp.zeros_like(share), jnp.asarray(True)
    of_data, of_noise = scale * (1 - share), scale * share
    if not share > 0 or isinstance(point.direction, Isotropic):
        columns(data.rows.train.shape[1])
        white = of_noise if isinstance(point.direction, Isotropic) else zero
        return Facts(yes, keep, yes, of_data, white, zero)
    found = commutation(data, point.direction, columns)
    whole = jnp.linalg.norm(variances)
    # What is added to q² M is a multiple of M, and one of B.
    own = of_data - keep**2
    squares = (own * whole) ** 2 + 2 * own * of_noise * found.product
    added = jnp.sqrt(jnp.maximum(squares + (of_noise * found.size) ** 2, 0.0))
    closed = found.same | (found.white > 0)
    acts = added > 64 * float(jnp.finfo(variances.dtype).eps) * keep**2 * whole
    commutator = of_noise * found.commutator / jnp.where(acts, added * whole, 1.0)
    return Facts(
        additive=yes,
        keep=keep,
        closed=closed,
        scale=jnp.where(found.same, scale, of_data),
        white=of_noise * found.white,
        commutator=jnp.where(acts & ~closed, commutator, zero),
    )
