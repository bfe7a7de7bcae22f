"""How far reconstruction is aligned with a task: Eq. 7, its loss form, its chance line, Prop. 1."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from reconjax.linalg.eigen import at_no_tie, eigh_descending, ties
from reconjax.linalg.precision import highest
from reconjax.linalg.rounding import mixing
from reconjax.summary.class_moment import ClassMoment, about_zero, dense, squared_norm
from reconjax.summary.moments import Moments
from reconjax.theory.chance import Rows, equal_weights, is_traced, permuted
from reconjax.theory.checks import check_latent_dim
from reconjax.theory.spectrum import Spectrum
from reconjax.theory.uncertainty import uncertain, within

CONVENTIONS = ("eq7", "loss", "sec58", "reference")


class Alignment(NamedTuple):
    """Curves over every latent dimension K = 1 .. D; flat from the rank on.

    Attributes:
      latent_dim: (D,) int32, K.
      alignment: (D,) in the given convention; grows with K to 1 ("sec58": to `total`).
      r2: (D,) 1 − supervised loss / tr S, the share of the label variance that a linear
        head explains on the K leading directions.
      chance: (D,) the expected alignment of randomly permuted labels: K / rank for "eq7". With
        class weights it is estimated, see `reconjax.theory.chance`; NaN while traced.
      r2_chance: (D,) the same for `r2`: K / (N − 1), or estimated likewise.
      supervised_loss: (D,) in squared units of y.
      reconstruction_loss: (D,) of PCA, in squared units of x.
      eigenvalues: (D,) variance along each direction, in squared units of x.
      total: scalar, ‖Ŷᵀ Ŷ-weighted normalizer of Eq. 7 over that of Sec. 5.8; 1 would mean that
        the inputs determine the labels linearly.
      error: (D,) estimated error of `r2` by the rounding of the spectrum and, past the rank, by
        directions that rounding hides. An estimate, not a bound.
      rank: int32 scalar.
      samples: number of samples N.
    """

    latent_dim: Array
    alignment: Array
    r2: Array
    chance: Array
    r2_chance: Array
    supervised_loss: Array
    reconstruction_loss: Array
    eigenvalues: Array
    total: Array
    error: Array
    rank: Array
    samples: Array


class Proposition1(NamedTuple):
    """The test of perfect alignment at one K.

    Attributes:
      aligned: bool, all cosines are 1 up to the tolerance: the optimum does not depend on λ.
      defined: bool, K is at most the rank of the inputs and of the labels.
      unique: bool, neither eigenspace is cut within equal eigenvalues; where it is (balanced
        classes have equal ones), another choice of eigenvectors could give another answer.
      cosines: (min(C, R),) of the principal angles between the two top-K eigenspaces, NaN from K
        on.
    """

    aligned: Array
    defined: Array
    unique: Array
    cosines: Array


def alignment(
    spectrum: Spectrum,
    *,
    convention: str = "eq7",
    with_chance: bool = True,
    rows: Rows | None = None,
) -> Alignment:
    """Alignment of reconstruction with the labels for every K (Eq. 7 and Corollary 1.2).

    Conventions:
      "eq7": ‖YᵀY V_k‖² / ‖YᵀY V‖², as Eq. 7 prints it.
      "loss": ‖Y V_k‖² / ‖Y V‖², the loss form of Corollary 1.2; "eq7" for balanced classes.
      "sec58": Eq. 7 over ‖Y Yᵀ‖², the normalizer in the code of Sec. 5.8.
      "reference": the square root of Eq. 7 with the labels' mean kept in YᵀY, which is what the
        authors' published script plots.

    Args:
      spectrum: with labels.
      convention: one of the four.
      with_chance: whether chance is estimated where class weights ask for it, else NaN: up to some
        seconds for thousands of features.
      rows: real inputs for that estimate, see `reconjax.theory.chance.permuted`.

    Returns:
      `Alignment`. Its curves have derivatives with respect to the moments of the spectrum, at K
      that parts equal eigenvalues NaN; see `reconjax.linalg.eigen`. `error` is taken as constant.

    Raises:
      ValueError: an unknown convention, or a spectrum without labels.
      TypeError: moments instead of their spectrum.

    Example:
      >>> x, y = np.random.default_rng(0).normal(size=(50, 6)), np.arange(50) % 2
      >>> moments = reconjax.moments(x, y)
      >>> spectrum = reconjax.spectrum(moments)
      >>> curve = reconjax.alignment(spectrum)
      >>> curve.alignment.shape, bool(np.isclose(curve.alignment[-1], 1.0))
      ((6,), True)
      >>> bool(np.allclose(curve.chance, np.arange(1, 7) / 6))
      True
    """
    if convention not in CONVENTIONS:
        raise ValueError(f"convention: {convention!r}; one of {', '.join(CONVENTIONS)}")
    if isinstance(spectrum, Moments):
        raise TypeError("spectrum: got Moments; pass reconjax.spectrum(moments)")
    if spectrum.labels.shape[-2] == 0:
        raise ValueError("spectrum: has no labels; alignment needs them")
    unweighted = spectrum.unweighted
    result = _alignment(spectrum._replace(unweighted=None), convention)
    if unweighted is None:
        return result
    if is_traced(unweighted) or not with_chance:
        unknown = jnp.full_like(result.chance, jnp.nan)
        return result._replace(chance=unknown, r2_chance=unknown)
    if equal_weights(unweighted):
        return result
    drawn = permuted(unweighted, rows=rows)
    curves = getattr(drawn, convention), drawn.r2
    chance, r2 = (
        _padded(jnp.asarray(curve, result.chance.dtype), spectrum.features, curve[-1])
        for curve in curves
    )
    return result._replace(chance=chance, r2_chance=r2)


@jax.jit
@highest
def r2_by_target(spectrum: Spectrum) -> Array:
    """What a linear head explains of each target alone, for every K.

    The variance of target c that it explains on direction i is ŷ_ci²: that of all targets together
    is their sum (`Alignment.r2`).

    Args:
      spectrum: with labels.

    Returns:
      (C, D) shares of the variance of each target, or of each class against all others; 0 for a
      target that does not vary.

    Example:
      >>> x, y = np.random.default_rng(0).normal(size=(50, 6)), np.arange(50) % 2
      >>> spectrum = reconjax.spectrum(reconjax.moments(x, np.stack([y, x[:, 0]], axis=1)))
      >>> r2 = reconjax.theory.r2_by_target(spectrum)
      >>> r2.shape, bool(np.isclose(r2[1, -1], 1.0))  # the inputs tell the second target
      ((2, 6), True)
    """
    variance = spectrum.label_moment.diagonal()
    explained = jax.vmap(lambda row: _curve(row, spectrum.features))(spectrum.labels**2)
    there = variance > 0
    return jnp.where(there[:, None], explained / jnp.where(there, variance, 1.0)[:, None], 0.0)


def of_targets(spectrum: Spectrum, targets: ArrayLike) -> Spectrum:
    """The spectrum with some targets alone: its alignment is with these.

    Args:
      spectrum: with labels, and without class weights.
      targets: (n,) which of its targets.

    Raises:
      ValueError: class weights, which are of all classes.

    Example:
      >>> x, y = np.random.default_rng(0).normal(size=(50, 6)), np.eye(3)[np.arange(50) % 3]
      >>> second = reconjax.theory.of_targets(reconjax.spectrum(reconjax.moments(x, y)), [1])
      >>> second.labels.shape
      (1, 6)
    """
    if spectrum.unweighted is not None:
        raise ValueError("spectrum: class weights; they are of all targets together")
    own = np.asarray(targets)
    moment = dense(spectrum.label_moment)
    return spectrum._replace(
        labels=spectrum.labels[own],
        label_moment=moment[own][:, own],
        mean_y=spectrum.mean_y[own],
    )


def direction_weights(labels: Array, label_moment: Array | ClassMoment) -> tuple[Array, Array]:
    """(‖S^½ ŷ_i‖², ‖ŷ_i‖²) of the columns ŷ_i of labels (C, R): the steps of Eq. 7 and its loss."""
    if isinstance(label_moment, ClassMoment):
        turned = label_moment @ labels
    else:
        turned = jnp.matmul(label_moment, labels, precision="highest")
    eq7 = jnp.sum(labels * turned, axis=-2)
    return jnp.maximum(eq7, 0.0), jnp.sum(labels**2, axis=-2)


def proposition1(
    spectrum: Spectrum, latent_dim: ArrayLike, *, tolerance: float | None = None
) -> Proposition1:
    """Proposition 1: are the top-K eigenspaces of XᵀX and YᵀY the same?

    Args:
      spectrum: with labels.
      latent_dim: K; past the rank of the labels the eigenspace of YᵀY is not defined, and the
        result says so.
      tolerance: how far a cosine may be from 1, 0 for not at all; the root of the dtype's epsilon
        by default.

    Returns:
      `Proposition1`.

    Raises:
      ValueError: K < 1 or K > D.

    Example:
      >>> x, y = np.random.default_rng(0).normal(size=(50, 6)), np.arange(50) % 2
      >>> itself = reconjax.spectrum(reconjax.moments(x, x))  # the inputs are the targets
      >>> bool(reconjax.proposition1(itself, 2).aligned)
      True
    """
    if not isinstance(latent_dim, jax.core.Tracer):
        check_latent_dim(latent_dim, spectrum.features)
    if tolerance is None:
        tolerance = float(jnp.finfo(spectrum.eigenvalues.dtype).eps) ** 0.5
    return _proposition1(spectrum, jnp.asarray(latent_dim, jnp.int32), tolerance)


@jax.jit(static_argnames="convention")
@highest
def _alignment(spectrum: Spectrum, convention: str) -> Alignment:
    features = spectrum.features
    latent_dim = jnp.arange(1, features + 1, dtype=jnp.int32)
    label_moment = spectrum.label_moment
    error = _error(jax.lax.stop_gradient(spectrum)) / label_moment.trace()
    error = error + 8 * float(jnp.finfo(error.dtype).eps)
    eq7, loss = direction_weights(spectrum.labels, label_moment)
    cut = _padded(ties(spectrum.eigenvalues, spectrum.rank), features, False)
    supervised = label_moment.trace() - _curve(loss, features)
    spread = squared_norm(label_moment)
    total = jnp.sum(eq7) / spread
    used = jnp.minimum(latent_dim, spectrum.rank).astype(eq7.dtype)
    share, permuted = used / spectrum.rank.astype(eq7.dtype), used / (spectrum.samples - 1)
    if convention == "eq7":
        curve, chance = _curve(eq7, features) / jnp.sum(eq7), share
    elif convention == "loss":
        curve, chance = _curve(loss, features) / jnp.sum(loss), share
    elif convention == "sec58":
        curve, chance = _curve(eq7, features) / spread, permuted
    else:
        raw = about_zero(label_moment, spectrum.mean_y)
        steps, _ = direction_weights(spectrum.labels, raw)
        curve, chance = jnp.sqrt(_curve(steps, features) / jnp.sum(steps)), jnp.sqrt(share)
    supervised = at_no_tie(supervised, cut)
    left = jnp.sum(spectrum.eigenvalues) - _curve(spectrum.eigenvalues, features)
    return Alignment(
        latent_dim=latent_dim,
        alignment=at_no_tie(curve, cut),
        r2=1 - supervised / label_moment.trace(),
        chance=chance,
        r2_chance=permuted,
        supervised_loss=supervised,
        reconstruction_loss=at_no_tie(left, cut),
        eigenvalues=_padded(spectrum.eigenvalues, features, 0.0),
        total=total,
        error=_padded(error, features, error[-1]),
        rank=spectrum.rank,
        samples=spectrum.samples,
    )


def _error(spectrum: Spectrum) -> Array:
    """(R,) estimated error of the explained label variance, for every K.

    Directions that rounding mixes across K change what is explained, and so does that of M itself.
    """
    values, labels = spectrum.eigenvalues, spectrum.labels
    error = within(values, labels) + mixing(values, labels.T, values)
    if spectrum.every is None or spectrum.second is None:
        return error
    return error + uncertain(spectrum, spectrum.every, spectrum.second).missing


def _curve(steps: Array, features: int) -> Array:
    """Cumulative sum, continued flat to D where the spectrum has fewer directions."""
    curve = jnp.cumsum(steps)
    return _padded(curve, features, curve[-1])


def _padded(values: Array, features: int, fill: ArrayLike) -> Array:
    missing = features - values.shape[0]
    tail = jnp.full((missing,), fill, values.dtype)
    return jnp.concatenate([values, tail]) if missing else values


@jax.jit
@highest
def _proposition1(spectrum: Spectrum, latent_dim: Array, tolerance: ArrayLike) -> Proposition1:
    labels, d = spectrum.labels, spectrum.eigenvalues
    values, vectors = eigh_descending(dense(spectrum.label_moment))
    targets = min(labels.shape)
    eps = float(jnp.finfo(d.dtype).eps)
    cut = values > values.shape[0] * eps * values[0]
    label_rank = jnp.sum(cut, dtype=jnp.int32)
    roots = jnp.where(cut, values, 1.0)
    # Cosines between x-directions u_i and y-directions: (YYᵀ)^-½ Ŷ, masked to the leading K x K.
    cosines = (jnp.where(cut, vectors / jnp.sqrt(roots), 0.0).T @ labels)[:targets, :targets]
    index = jnp.arange(targets, dtype=jnp.int32)
    inside = index < latent_dim
    cosines = jnp.where(inside[:, None] & inside, cosines, 0.0)
    singular = jnp.linalg.svd(cosines, compute_uv=False)
    defined = latent_dim <= jnp.minimum(label_rank, spectrum.rank)
    gap = tolerance

    def separated(v: Array) -> Array:
        below = jnp.where(latent_dim < v.shape[0], v[jnp.minimum(latent_dim, v.shape[0] - 1)], 0.0)
        return v[jnp.minimum(latent_dim, v.shape[0]) - 1] - below > gap * v[0]

    return Proposition1(
        aligned=defined & jnp.all(jnp.where(inside, singular >= 1 - tolerance, True)),
        defined=defined,
        unique=separated(values) & separated(d),
        cosines=jnp.where(inside & defined, jnp.minimum(singular, 1.0), jnp.nan),
    )
