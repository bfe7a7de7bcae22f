"""What a noise can change for any task, for fewer samples than features: nothing is D x D.

A certificate (`reconjax.theory.certificate`) asks of G = E[x' x'ᵀ] only for H = W P d^½ with any W
of W G Wᵀ = I. In the principal coordinates of the samples a noise on a ray has

    HᵀH = d^½ Pᵀ G⁺ P d^½ = Q diag(μ s² / g) Qᵀ

with the Q, μ and s of `reconjax.grid.sample_side`, so that diag(μ^½ s / √g) Qᵀ is such an H, and
A = q H d^½. From there on all is as on the D side. One (N, N) eigendecomposition a ray, and one
singular value decomposition a noise.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from reconjax.grid.columns import check_form
from reconjax.grid.commutator import Commutation, commutation
from reconjax.grid.ray import Ray, inverse_deviation
from reconjax.grid.sample_side import inner_products, ray_by_samples
from reconjax.grid.stored_samples import Samples
from reconjax.linalg.eigen import inverse_root
from reconjax.linalg.precision import highest
from reconjax.noise import Isotropic, Noise, RayPoint
from reconjax.noise.rays import same_direction
from reconjax.summary.sample_gram import transposed_product
from reconjax.theory.certificate import Certificate, in_words
from reconjax.theory.checks import check_latent_dims
from reconjax.theory.commuting import Facts, Whitened, judged, whitened


def certificates_by_samples(
    data: Samples,
    noises: Sequence[Noise],
    latent_dims: ArrayLike | None = None,
    *,
    columns: Callable[[int], None] | None = None,
) -> list[Certificate]:
    """`certificate` of each noise on the sample side: the same numbers, for N < D.

    Noises of one ray, as masks of one patch, share its sums over features and its factorization.
    Memory: about as much as `sweep_samples`, and labels (Kn, D) of each noise.

    Args:
      data: from `samples`; its labels and its test split play no part.
      noises: those with a form by samples, as in `sweep_samples`.
      latent_dims: (Kn,) K in 1 .. r; by default 1, 2, 4, ... and r.
      columns: called with the number of columns that are done, 2 D in all for each noise.

    Returns:
      `Certificate`s. The commutator is rounding up to about 1e-7, where it is that small.

    Raises:
      ValueError: K out of range, a noise for another number of features, or without such a form.

    Example:
      >>> x, y = np.random.default_rng(0).normal(size=(8, 4, 6, 1)), np.arange(8) % 2
      >>> data = reconjax.grid.samples(x, y)
      >>> noises = reconjax.noise.gaussian(0.5), reconjax.noise.patch_mask(0.5, 2, (4, 6, 1))
      >>> found = reconjax.grid.certificates_by_samples(data, noises)
      >>> [certificate.verdict for certificate in found]
      ['never', 'may']
    """
    features = data.rows.train.shape[1]
    dims = check_latent_dims(latent_dims, int(data.principal.rank), features)
    for noise in noises:
        check_form(noise, features)
    points = [point for noise in noises if (point := noise.ray()) is not None]
    found: dict[int, Certificate] = {}
    for first, point in enumerate(points):
        if first in found:
            continue
        ray = _Ray(data, point.direction, columns)
        for place, other in enumerate(points[first:], first):
            if place not in found and same_direction(other.direction, point.direction):
                found[place] = _certificate(ray, other, dims)
    return [found[place] for place in range(len(points))]


class _Ray:
    """What the noises of one direction share, each part found once, when it is needed."""

    def __init__(
        self, data: Samples, direction: Any, columns: Callable[[int], None] | None
    ) -> None:
        self.data, self.direction, self._columns = data, direction, columns
        self._counted = 0

    @functools.cached_property
    def commutation(self) -> Commutation:
        """Of the direction and M."""
        return commutation(self.data, self.direction, self._count)

    @functools.cached_property
    def factorized(self) -> tuple[Ray, Array]:
        """The ray, and Q."""
        inner = inner_products(self.data, self.direction, self._count)
        principal, kappa = self.data.principal, inner.kappa
        return ray_by_samples(principal, inner.products, kappa, inner.magnified, again=False)[:2]

    def _count(self, done: int) -> None:
        self._counted += done
        if self._columns is not None:
            self._columns(done)

    def finished(self) -> None:
        """One noise is done: what of its 2 D columns was not needed, or was known, counts too."""
        self._count(2 * self.data.rows.train.shape[1] - self._counted)
        self._counted = 0


def _certificate(ray: _Ray, point: RayPoint, dims: np.ndarray) -> Certificate:
    data, principal = ray.data, ray.data.principal
    facts = _facts(ray, point)

    def by_directions() -> Whitened:
        factorized, basis = ray.factorized
        deviation = inverse_deviation(factorized, point) * jnp.sqrt(factorized.clean)
        return _whitened(deviation, basis, principal.eigenvalues, point)

    numbers = judged(
        principal.eigenvalues, principal.rank, data.spectrum.samples, facts, by_directions, dims
    )
    labels = _on_samples(data.vectors, principal.eigenvalues, numbers.worst_label)
    worst = transposed_product(data.rows.train, jnp.asarray(data.rows.mean), labels).T
    ray.finished()
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


def _facts(ray: _Ray, point: RayPoint) -> Facts:
    """Whether G = a M + b I, and the commutator of M and what the noise adds to it."""
    variances = ray.data.principal.eigenvalues
    share, scale, keep = (value.astype(variances.dtype) for value in point[1:])
    zero, yes = jnp.zeros_like(share), jnp.asarray(True)
    of_data, of_noise = scale * (1 - share), scale * share
    if not share > 0 or isinstance(point.direction, Isotropic):
        white = of_noise if isinstance(point.direction, Isotropic) else zero
        return Facts(yes, keep, yes, of_data, white, zero)
    found = ray.commutation
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
