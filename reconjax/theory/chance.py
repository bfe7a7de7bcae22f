"""What permuted labels explain, where class weights make samples count differently.

Without weights, labels that are permuted at random explain K / (N − 1) of their variance on K
directions, whatever the inputs. With weights w of the classes, the inputs' mean, their second
moment and its principal directions change with the permutation too: a class of n samples that
counts as much as all others brings n directions of its own, on which it is told apart by chance.
There is no closed form for every K. What is exact is the distribution of the permuted inputs up to
their second moments: n_c of N rows of whitened inputs are drawn for class c, of which the sums over
all rows are fixed. The rows are taken for Gaussian, so that the scatter within each class is a
Wishart matrix, and then whitened together, which fixes these sums.

For inputs with heavy tails it is an approximation: on 700 digits, whose outer pixels seldom vary,
with 3, 10 and 40 of another class, their r2 is met within .05, .01 and .003,
their alignment within .07, .05 and .06. Where inputs can be read again, as in a study, real ones
are drawn instead, and nothing is approximated: only those of classes but the largest are needed,
since the sums over all inputs are known.

Needed are the eigenvalues of the second moment without weights, and the counts and weights of the
classes.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from reconjax.summary.moments import Moments
from reconjax.summary.unweighted import Unweighted
from reconjax.theory.spectrum import Spectrum

# Draws go on until the standard error of every point is below this, or they cost too much.
ENOUGH = 0.004
MOST_DRAWS = 800
# Multiplications in all; 4 draws are made in any case.
MOST_WORK = 5e10
# Inputs that are read for draws in all; where these are fewer draws than that, Gaussian ones serve.
MOST_ROWS = 100_000
LEAST_DRAWS = 40
# On matrices up to this size, threads of BLAS cost more than they save: up to 40 times.
ONE_THREAD = 256


Rows = Callable[[np.random.Generator, int], np.ndarray]


class Permuted(NamedTuple):
    """Curves of permuted labels at K = 1 .. r, the mean over the draws; r is the inputs' rank.

    Attributes:
      r2: (r,) share of the label variance.
      eq7: (r,) alignment of Eq. 7; `loss`, `sec58` and `reference` (r,): other conventions of it.
      loss: see `eq7`.
      sec58: see `eq7`.
      reference: see `eq7`.
      error: the largest standard error of a mean over the draws.
    """

    r2: np.ndarray
    eq7: np.ndarray
    loss: np.ndarray
    sec58: np.ndarray
    reference: np.ndarray
    error: float


def beyond_chance(
    r2: np.ndarray, latent_dims: np.ndarray, rank: int, samples: int, targets: int
) -> np.ndarray:
    """Where r2 is three standard deviations above that of permuted labels.

    Of permuted labels it has the distribution Beta(K / 2, (N − 1 − K) / 2) for Gaussian inputs and
    one target, and the mean of C − 1 of these for C classes alike. Nothing here is about weights.

    Args:
      r2: (Kn,) of the training split.
      latent_dims: (Kn,) K.
      rank: of the inputs; past it r2 is flat.
      samples: N.
      targets: C of classes, or the number of real targets.

    Returns:
      (Kn,) bool.

    Example:
      >>> dims = np.array([1, 10])
      >>> reconjax.theory.chance.beyond_chance(np.array([0.01, 0.5]), dims, 10, 100, 2).tolist()
      [False, True]
    """
    free = max(samples - 1, 1)
    used = np.minimum(np.minimum(latent_dims, rank), free)
    variance = 2 * used * (free - used) / (free**2 * (free + 2)) / max(targets - 1, 1)
    return np.asarray(r2) > used / free + 3 * np.sqrt(variance) + 1e-9


def equal_weights(unweighted: Unweighted | None) -> bool:
    """Whether all samples count alike, so that K / (N − 1) is exact."""
    if unweighted is None:
        return True
    counts, weights = np.asarray(unweighted.counts), np.asarray(unweighted.weights)
    each = weights[counts > 0] / counts[counts > 0]
    return bool(np.all(np.abs(each - each[0]) <= 1e-6 * each[0]))


def chance_curves(
    moments: Moments | Spectrum, rank: int, latent_dims: np.ndarray, rows: Rows | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """What permuted labels give on K principal directions, K / rank and K / (N − 1) by default.

    Args:
      moments: of the data, or their spectrum.
      rank: of their second moment; past it curves are flat.
      latent_dims: (Kn,) K.
      rows: as in `permuted`.

    Returns:
      (Kn,) their alignment by Eq. 7, and (Kn,) the share of the label variance they explain.
    """
    # Of more features than labeled samples, permuted labels are explained whole.
    rank = min(rank, max(int(moments.samples) - 1, 1))
    used = np.minimum(latent_dims, rank)
    unweighted = moments.unweighted
    if unweighted is None or equal_weights(unweighted):
        return used / rank, used / (float(moments.samples) - 1)
    curves = permuted(unweighted, rows=rows)
    column = np.minimum(used, len(curves.eq7)) - 1
    return curves.eq7[column], curves.r2[column]


def is_traced(unweighted: Unweighted | None) -> bool:
    """Whether the counts are not known yet, so that nothing can be drawn."""
    return any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(unweighted))


def permuted(unweighted: Unweighted, *, rows: Rows | None = None, seed: int = 0) -> Permuted:
    """Draws what permuted labels explain.

    Args:
      unweighted: `Moments.unweighted`.
      rows: gives n different inputs (n, D), in random order, about their mean and in the units of
        the moments, where they can be read again and are few enough; else they are Gaussian.
      seed: of the draws.
    """
    from threadpoolctl import threadpool_limits  # only where it is used, like SciPy below

    counts = np.asarray(unweighted.counts, np.float64)
    weights = np.asarray(unweighted.weights, np.float64)
    weights, counts = weights[counts > 0], counts[counts > 0]
    values, basis = np.linalg.eigh(np.asarray(unweighted.second_moment, np.float64))
    values, basis = values[::-1], basis[:, ::-1]
    epsilon = float(np.finfo(np.asarray(unweighted.second_moment).dtype).eps)
    values = values[values > len(values) * epsilon * values[0]]
    values = values[: int(counts.sum()) - 1]
    share = weights / weights.sum()
    groups = _groups(counts, share)
    read = int(counts.sum() - counts.max())
    if rows is not None and read * LEAST_DRAWS > MOST_ROWS:
        rows = None
    work = float(len(values)) ** 2 * (
        20 * len(values) + 4 * len(counts) + sum(min(n, len(values)) for _, n in groups)
    )
    most = int(np.clip(MOST_WORK // work, 4, MOST_DRAWS))
    if rows is not None:
        most = min(most, MOST_ROWS // max(read, 1))
    rng = np.random.default_rng(seed)
    drawn: list[np.ndarray] = []
    with threadpool_limits(1 if len(values) <= ONE_THREAD else None):
        while len(drawn) < most and (len(drawn) < 2 or _error(drawn) > ENOUGH):
            more = min(max(len(drawn), 4), most - len(drawn))
            for _ in range(more):
                if rows is None:
                    sums = _gaussian_sums(values, counts, share, groups, rng)
                else:
                    inputs = rows(rng, read) @ basis[:, : len(values)]
                    sums = _sums(inputs, values, counts, share)
                drawn.append(_curves(*sums, share))
    r2, eq7, loss, sec58, reference = np.mean(drawn, axis=0)
    return Permuted(r2, eq7, loss, sec58, reference, _error(drawn))


def _error(drawn: list[np.ndarray]) -> float:
    return float(np.max(np.std(drawn, axis=0, ddof=1)) / len(drawn) ** 0.5)


def _groups(counts: np.ndarray, share: np.ndarray) -> list[tuple[float, int]]:
    """The shares of a sample that occur, each with the degrees of freedom within its classes."""
    # Rounding would tell equal ones apart.
    each, which = np.unique((share / counts).astype(np.float32), return_inverse=True)
    freedom = np.bincount(which, counts - 1)
    return [(float(weight), round(n)) for weight, n in zip(each, freedom, strict=True) if n > 0]


def _sums(
    inputs: np.ndarray, values: np.ndarray, counts: np.ndarray, share: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The weighted second (r, r) and cross moment (r, C) with inputs (n, r) for the classes.

    They are dealt to all classes but the largest, which has what is left of the sums over all.
    """
    largest = int(np.argmax(counts))
    means = np.zeros((len(counts), len(values)))
    rest, second, start = np.diag(counts.sum() * values), np.zeros((len(values), len(values))), 0
    for label, count in enumerate(counts.astype(int).tolist()):
        if label != largest:
            part = inputs[start : start + count]
            start += count
            scatter = part.T @ part
            means[label] = part.mean(axis=0)
            rest -= scatter
            second += share[label] / count * scatter
    means[largest] = -(counts @ means) / counts[largest]
    second += share[largest] / counts[largest] * rest
    mean = share @ means
    return second - np.outer(mean, mean), (share[:, None] * (means - mean)).T


def _gaussian_sums(
    values: np.ndarray,
    counts: np.ndarray,
    share: np.ndarray,
    groups: list[tuple[float, int]],
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """The same with Gaussian inputs that have the second moment `values` (r,) without weights."""
    size, samples = len(values), counts.sum()
    whole = np.zeros((size, size))
    weighted = np.zeros((size, size))
    for each, freedom in groups:
        within = _wishart(size, freedom, rng)
        whole += within
        weighted += within * each
    means = rng.standard_normal((len(counts), size)) / np.sqrt(counts)[:, None]
    apart = means - counts / samples @ means
    whole += (apart * counts[:, None]).T @ apart
    apart = means - share @ means
    weighted += (apart * share[:, None]).T @ apart
    from scipy import linalg

    # Whitened together, and given the second moment of the inputs.
    factor = np.linalg.cholesky(whole / samples)
    roots = np.sqrt(values)[:, None]

    def given(right: np.ndarray) -> np.ndarray:
        return linalg.solve_triangular(factor, right, lower=True, check_finite=False) * roots

    return given(given(weighted).T), given((apart * share[:, None]).T)


def _curves(moment: np.ndarray, cross: np.ndarray, share: np.ndarray) -> np.ndarray:
    """(5, r) the curves of one permutation, in the order of `Permuted`."""
    d, vectors = np.linalg.eigh(moment)
    d, vectors = d[::-1], vectors[:, ::-1]
    kept = d > len(d) * np.finfo(float).eps * d[0]
    labels = np.where(kept, cross.T @ vectors / np.sqrt(np.where(kept, d, 1.0)), 0.0)
    loss = np.sum(labels**2, axis=0)
    raw = share @ labels**2
    eq7 = np.maximum(raw - (share @ labels) ** 2, 0.0)
    spread = np.sum((share * (1 - share)) ** 2) + np.sum(share**2) ** 2 - np.sum(share**4)
    return np.stack(
        [
            np.cumsum(loss) / np.sum(share * (1 - share)),
            np.cumsum(eq7) / np.sum(eq7),
            np.cumsum(loss) / np.sum(loss),
            np.cumsum(eq7) / spread,
            np.sqrt(np.cumsum(raw) / np.sum(raw)),
        ]
    )


def _wishart(size: int, freedom: int, rng: np.random.Generator) -> np.ndarray:
    """Zᵀ Z (r, r) of Z (n, r) with normal entries, from its triangular factor (Bartlett, 1933)."""
    rows = min(size, freedom)
    factor = np.triu(rng.standard_normal((rows, size)), 1)
    index = np.arange(rows)
    factor[index, index] = np.sqrt(rng.chisquare(freedom - index))
    return factor.T @ factor
