"""Noises given as a plain function (key, x) -> x', with moments measured by Monte Carlo."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike, DTypeLike

from reconjax.linalg.eigen import eigh_descending, significant
from reconjax.linalg.precision import highest
from reconjax.noise.base import Noise, pytree, static

Draw = Callable[[Array, Array], Array]


@pytree
class Function(Noise):
    """A noise that is only known by what it draws; `estimated` measures its moments.

    Attributes:
      function: (key, x) -> x', for x (N, ...) as `sample` is given it.
    """

    function: Draw = static()

    def sample(self, key: Array, x: Array) -> Array:
        """What the function returns.

        Raises:
          ValueError: another shape, or not a number (NaN or inf; not seen while traced).
        """
        return _drawn(self.function, key, x)

    def mean(self, moment: Array) -> Array:
        """Raises ValueError: it is not known."""
        raise ValueError(_unknown(self.function))

    def second_moment(self, moment: Array, mean: Array | None = None) -> Array:
        """Raises ValueError: it is not known."""
        raise ValueError(_unknown(self.function))

    def offset(self) -> Array | None:
        """Raises ValueError: it is not known."""
        raise ValueError(_unknown(self.function))


class Error(NamedTuple):
    """Standard errors of measured moments, entry by entry, by the randomness of the noise alone.

    Attributes:
      mean: (D,) of E[x'].
      input_moment: (D, D) of E[x' xᵀ].
      covariance: (D, D) of Cov x'.
    """

    mean: Array
    input_moment: Array
    covariance: Array


@pytree
class Estimated(Noise):
    """A noise with moments that were measured on samples: x' = T x + b + e to second order.

    T is the regression of x' on x and e what it leaves, of covariance R. For the samples' own
    moments this gives back what was measured; for others it is exact where E[x'|x] is linear and
    Cov[x'|x] does not depend on x. `nonlinearity` says how far E[x'|x] is from linear: where it is
    not small, E[x' yᵀ] = T E[x yᵀ] is not exact (a clean read-out with λ = inf does not need it).

    Attributes:
      matrix: (D, D) T.
      shift: (D,) b.
      residual: (D, D) R.
      second: (D, D) Cov x' as measured.
      inputs: (D, D) E[x' xᵀ] as measured, for the centered x.
      error: their standard errors.
      nonlinearity: the share of tr Cov x' that is in E[x'|x] but not linear in x; an unbiased
        estimate, which may come out slightly below 0.
      function: see `Function`.
    """

    matrix: Array
    shift: Array
    residual: Array
    second: Array
    inputs: Array
    error: Error
    nonlinearity: Array
    function: Draw = static()

    @property
    def features(self) -> int:
        """D."""
        return self.matrix.shape[0]

    def sample(self, key: Array, x: Array) -> Array:
        """What the function returns; errors as `Function.sample`."""
        return _drawn(self.function, key, x)

    @highest
    def mean(self, moment: Array) -> Array:
        """T E[x fᵀ]."""
        return self.matrix.astype(moment.dtype) @ moment

    @highest
    def second_moment(self, moment: Array, mean: Array | None = None) -> Array:
        """T G Tᵀ + R."""
        matrix = self.matrix.astype(moment.dtype)
        return matrix @ moment @ matrix.T + self.residual.astype(moment.dtype)

    def offset(self) -> Array:
        """B."""
        return self.shift


def from_function(function: Draw) -> Function:
    """A noise from a plain function (key, x) -> x' that draws x' of the shape of the centered x.

    It samples, and trains networks; for the closed forms `estimated` measures its moments.

    Args:
      function: of a key and the centered x (..., D) or (N, H, W, C), traceable by JAX; x' has the
        shape of x.

    Returns:
      A noise without closed form.

    Raises:
      ValueError: not a function.

    Example:
      >>> import jax
      >>> halved = reconjax.noise.from_function(lambda key, x: x / 2)
      >>> halved.sample(jax.random.key(0), np.ones((1, 2), np.float32)).tolist()
      [[0.5, 0.5]]
    """
    if not callable(function):
        raise ValueError(f"function: {function!r}; a function (key, x) -> x' is needed")
    return Function(function=function)


def estimated(
    noise: Noise,
    x: ArrayLike,
    *,
    key: Array,
    draws: int = 16,
    batch_size: int = 1024,
) -> Estimated:
    """Measures the moments of a noise on samples.

    Use the samples whose moments are to be used: T is a regression on them.

    Args:
      noise: a function (key, x) -> x', or any noise.
      x: (N, D) or (N, H, W, C) centered floats, what the noise is to act on; N > D for a T that is
        determined.
      key: of the noise.
      draws: at least 2 noisy copies of every sample; standard errors fall as draws^-½.
      batch_size: samples that are given to the noise at a time.

    Returns:
      `Estimated`.

    Raises:
      ValueError: fewer than 2 draws or samples, x that is not centered or not finite, a noise that
        returns another shape, NaN or inf.

    Example:
      >>> import jax
      >>> halved = reconjax.noise.from_function(lambda key, x: x / 2)
      >>> x = np.random.default_rng(0).normal(size=(100, 2)).astype(np.float32)
      >>> noise = reconjax.noise.estimated(halved, x - x.mean(0), key=jax.random.key(0))
      >>> m = reconjax.moments(x, np.arange(100) % 2).second_moment
      >>> bool(np.allclose(noise.second_moment(m), m / 4, atol=1e-3))
      True
    """
    function = jax.jit(noise.sample) if hasattr(noise, "sample") else noise
    if not callable(function):
        raise ValueError(f"noise: {noise!r}; a noise or a function (key, x) -> x' is needed")
    if draws < 2 or batch_size < 1:
        raise ValueError(f"draws, batch_size: {draws}, {batch_size}; at least 2 and 1 are needed")
    x = jnp.asarray(x, float)
    if x.ndim < 2 or x.shape[0] < 2:
        raise ValueError(f"x: shape {x.shape}; at least 2 samples (N, D) or (N, H, W, C)")
    samples = x.shape[0]
    values = x.reshape(samples, -1)
    center = jnp.mean(values, axis=0)
    spread = float(jnp.max(jnp.std(values, axis=0)))
    if not float(jnp.max(jnp.abs(center))) < 1e-3 * spread:
        raise ValueError(
            f"x: means up to {float(jnp.max(jnp.abs(center))):.3g} at a deviation of {spread:.3g};"
            " centered samples that vary are needed"
        )
    values = values - center
    sums = _Sums.zeros(samples, values.shape[1], values.dtype)
    means = []
    for draw in range(draws):
        starts = range(0, samples, batch_size)
        keys = jax.random.split(jax.random.fold_in(key, draw), len(starts))
        parts = [
            _drawn(function, subkey, x[start : start + batch_size])
            for subkey, start in zip(keys, starts, strict=True)
        ]
        mean, sums = _added(sums, values, jnp.concatenate(parts).reshape(samples, -1))
        means.append(mean)
    matrix, residual, mean, second, linear = _fitted(
        values, jnp.stack(means), sums.inputs, sums.covariance
    )
    of_mean = draws**0.5
    of_variance = (draws * (draws - 1)) ** 0.5
    # Two draws of a sample share its conditional mean, and nothing else.
    conditional = sums.cross / (draws - 1)
    # What noise is left in T counts as linear, and is taken off again.
    chance = (jnp.trace(second) - conditional) * min(values.shape) / (samples * draws)
    return Estimated(
        matrix=matrix,
        shift=mean - matrix @ center,
        residual=residual,
        second=second,
        inputs=sums.inputs,
        error=Error(
            mean=jnp.std(jnp.stack(means), axis=0, ddof=1) / of_mean,
            input_moment=jnp.sqrt(sums.input_squares) / of_variance,
            covariance=jnp.sqrt(sums.covariance_squares) / of_variance,
        ),
        nonlinearity=(conditional - (linear - chance)) / jnp.trace(second),
        function=function,
    )


class _Sums(NamedTuple):
    """Running means over the draws, and sums of squares about them (Welford)."""

    draws: Array
    inputs: Array
    input_squares: Array
    covariance: Array
    covariance_squares: Array
    last: Array
    cross: Array

    @classmethod
    def zeros(cls, samples: int, features: int, dtype: DTypeLike) -> "_Sums":
        zero, square = jnp.zeros((), dtype), jnp.zeros((features, features), dtype)
        last = jnp.zeros((samples, features), dtype)
        return cls(zero, square, square, square, square, last, zero)


@jax.jit
@highest
def _added(sums: _Sums, values: Array, noisy: Array) -> tuple[Array, _Sums]:
    """E[x'] of one more draw for each sample, and its E[x' xᵀ] and Cov x' in the sums."""
    samples = values.shape[0]
    mean = jnp.mean(noisy, axis=0)
    noisy = noisy - mean
    draws = sums.draws + 1

    def welford(old: Array, squares: Array, value: Array) -> tuple[Array, Array]:
        new = old + (value - old) / draws
        return new, squares + (value - old) * (value - new)

    inputs = welford(sums.inputs, sums.input_squares, noisy.T @ values / samples)
    covariance = welford(sums.covariance, sums.covariance_squares, noisy.T @ noisy / samples)
    cross = sums.cross + jnp.sum(sums.last * noisy) / samples
    return mean, _Sums(draws, *inputs, *covariance, noisy, cross)


@jax.jit
@highest
def _fitted(
    values: Array, means: Array, inputs: Array, covariance: Array
) -> tuple[Array, Array, Array, Array, Array]:
    """T, R, E[x'], Cov x' and the variance tr T M Tᵀ that is linear in x."""
    mean = jnp.mean(means, axis=0)
    # Each draw was centered by its own mean, whose randomness belongs to the covariance.
    apart = means - mean
    second = covariance + apart.T @ apart / (means.shape[0] - 1)
    moment = values.T @ values / values.shape[0]
    scales, vectors = eigh_descending(moment)
    kept = scales > significant(scales)
    inverse = vectors * jnp.where(kept, 1 / jnp.where(kept, scales, 1.0), 0.0)
    matrix = (inputs @ inverse) @ vectors.T
    by_mean = matrix @ moment @ matrix.T
    return matrix, second - by_mean, mean, second, jnp.trace(by_mean)


def _drawn(function: Draw, key: Array, x: Array) -> Array:
    """function(key, x), checked."""
    drawn: ArrayLike = function(key, x)
    if np.shape(drawn) != x.shape:
        raise ValueError(
            f"noise: {_name(function)} returned shape {np.shape(drawn)} for x of shape {x.shape};"
            " it must keep the shape"
        )
    drawn = jnp.asarray(drawn).astype(x.dtype)
    if not isinstance(drawn, jax.core.Tracer) and not bool(jnp.all(jnp.isfinite(drawn))):
        raise ValueError(f"noise: {_name(function)} returned NaN or inf")
    return drawn


def _name(function: Draw) -> str:
    return getattr(function, "__name__", type(function).__name__)


def _unknown(function: Draw) -> str:
    return (
        f"noise: the moments of the function {_name(function)} are not known;"
        " reconjax.noise.estimated(function, x, key=key) measures them"
    )
