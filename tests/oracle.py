"""Dense NumPy and SciPy oracles, written from the paper's sample-side formulas.

They share nothing with the library: no moments, no whitening, no nested factor. Samples are rows,
x (N, D) and y (N, C), centered; sums over samples are divided by N. An encoder is found from the
generalised eigenproblem, every read-out is fitted anew for every K.
"""

import itertools
from typing import NamedTuple

import numpy as np
from scipy import linalg
from threadpoolctl import threadpool_limits

# On matrices this small, threads of BLAS cost ten times what they save.
threadpool_limits(1)

SHAPE = (4, 4, 2)
FEATURES = 32
CLASSES = 4


# Data of a known rank and a moderate spectrum


def dataset(name: str, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, 4, 4, 2) and labels (N,) of 4 classes, by the name of what is special in them."""
    rng = np.random.default_rng(seed)
    samples = {"short": 20}.get(name, 90)
    shares = [0.05, 0.1, 0.25, 0.6] if name == "unbalanced" else [0.25] * CLASSES
    labels = rng.choice(CLASSES, samples, p=shares)
    labels[:CLASSES] = np.arange(CLASSES)
    rank = 9 if name == "low rank" else FEATURES
    rotation = np.linalg.qr(rng.normal(size=(FEATURES, FEATURES)))[0][:, :rank]
    codes = rng.normal(size=(samples, rank)) + rng.normal(size=(CLASSES, rank))[labels]
    x = codes * np.geomspace(1, 0.15, rank) @ rotation.T + rng.uniform(0, 2, FEATURES)
    if name == "constant pixels":
        x[:, [0, 3, 8, 9, 30]] = 0.7
    return x.reshape(samples, *SHAPE), labels


def centered(x: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Flat inputs and one-hot labels without their means."""
    x = x.reshape(len(x), -1).astype(np.float64)
    y = np.eye(labels.max() + 1)[labels]
    return x - x.mean(0), y - y.mean(0)


# Noise: what the encoder sees, as full D x D moments


class Noisy(NamedTuple):
    """G = E[x' x'ᵀ], E[x' xᵀ] and E[x' yᵀ]."""

    second: np.ndarray
    inputs: np.ndarray
    labels: np.ndarray


def noiseless(x: np.ndarray, y: np.ndarray) -> Noisy:
    return Noisy(x.T @ x / len(x), x.T @ x / len(x), x.T @ y / len(x))


def with_gaussian(noisy: Noisy, std: float) -> Noisy:
    return noisy._replace(second=noisy.second + std**2 * np.eye(len(noisy.second)))


def bernoulli_masks(count: int, ratio: float) -> tuple[np.ndarray, np.ndarray]:
    """All 2^n masks of n groups (1: kept) and their probabilities."""
    masks = np.array(list(itertools.product([0.0, 1.0], repeat=count)))
    kept = masks.sum(1)
    return masks, (1 - ratio) ** kept * ratio ** (count - kept)


def exact_masks(count: int, kept: int) -> tuple[np.ndarray, np.ndarray]:
    """All masks that keep exactly `kept` of n groups, equally likely."""
    chosen = list(itertools.combinations(range(count), kept))
    masks = np.zeros((len(chosen), count))
    for mask, groups in zip(masks, chosen, strict=True):
        mask[list(groups)] = 1
    return masks, np.full(len(masks), 1 / len(masks))


def with_masks(noisy: Noisy, groups: np.ndarray, masks: np.ndarray, chances: np.ndarray) -> Noisy:
    """The expectation over an enumeration of all masks."""
    result = [np.zeros_like(part) for part in noisy]
    for mask, chance in zip(masks[:, groups], chances, strict=True):
        result[0] += chance * mask[:, None] * noisy.second * mask
        result[1] += chance * mask[:, None] * noisy.inputs
        result[2] += chance * mask[:, None] * noisy.labels
    return Noisy(*result)


def with_dropout(noisy: Noisy, groups: np.ndarray, ratio: float) -> Noisy:
    """Independent dropout of groups, entry by entry: two features stay if both their groups do."""
    keep = 1 - ratio
    second = noisy.second.copy()
    for i, a in enumerate(groups):
        for j, b in enumerate(groups):
            second[i, j] *= keep if a == b else keep * keep
    return Noisy(second, keep * noisy.inputs, keep * noisy.labels)


def patch_groups(shape, patch, share_channels=True) -> np.ndarray:
    """The patch of every value of an image, counted value by value; partial patches allowed."""
    numbers = {}
    groups = []
    for i, j, c in itertools.product(*map(range, shape)):
        key = (i // patch[0], j // patch[1], 0 if share_channels else c)
        groups.append(numbers.setdefault(key, len(numbers)))
    return np.array(groups)


# Theorems 1 and 3


def range_basis(matrix: np.ndarray, tolerance: float = 1e-11) -> np.ndarray:
    values, vectors = np.linalg.eigh(matrix)
    return vectors[:, values > tolerance * values[-1]]


def encoder(noisy: Noisy, weight: float) -> np.ndarray:
    """(D, r) generalised eigenvectors of (F Fᵀ, G), best first; at weight 0 the limit from above.

    Directions that F does not reach are left out: they carry nothing.
    """
    basis = range_basis(noisy.second)
    second = basis.T @ noisy.second @ basis
    labels, inputs = basis.T @ noisy.labels, basis.T @ noisy.inputs
    if weight == 0:
        return basis @ _supervised_first(second, labels, inputs)
    supervised = 0.0 if np.isinf(weight) else 1.0
    reconstruction = 1.0 if np.isinf(weight) else weight
    objective = supervised * labels @ labels.T + reconstruction * inputs @ inputs.T
    values, vectors = linalg.eigh(objective, second)
    kept = values[::-1] > 1e-12 * values[-1]
    return basis @ vectors[:, ::-1][:, kept]


def _supervised_first(second: np.ndarray, labels: np.ndarray, inputs: np.ndarray) -> np.ndarray:
    """λ → 0⁺ by deflation: the supervised directions, then what reconstructs best beside them.

    Where supervised directions explain equally much, the reconstruction orders them too.
    """
    lower = np.linalg.cholesky(second)
    labels = linalg.solve_triangular(lower, labels, lower=True)
    inputs = linalg.solve_triangular(lower, inputs, lower=True)
    left, gains, _ = np.linalg.svd(labels, full_matrices=True)
    gains = np.concatenate([gains**2, np.zeros(len(left) - len(gains))])
    gains[gains < 1e-12 * gains[0]] = 0
    vectors, start = [], 0
    while start < len(gains):
        stop = start + int(np.sum(gains[start] - gains[start:] <= 1e-9 * gains[0]))
        block = left[:, start:stop]
        values, turn = np.linalg.eigh(block.T @ inputs @ inputs.T @ block)
        if gains[start] == 0:
            turn = turn[:, values > 1e-12 * np.sum(inputs**2)]
        vectors.append(block @ turn[:, ::-1])
        start = stop
    return linalg.solve_triangular(lower.T, np.concatenate(vectors, axis=1))


class Curves(NamedTuple):
    """(D,) losses for K = 1 .. D."""

    clean: np.ndarray
    noisy: np.ndarray
    reconstruction: np.ndarray

    def supervised(self, readout: str) -> np.ndarray:
        return self.clean if readout == "clean" else self.noisy


def curves(x: np.ndarray, y: np.ndarray, noisy: Noisy, weight: float) -> Curves:
    """Losses of the optimal encoder for every K, each read-out fitted on its own."""
    return losses_of(encoder(noisy, weight), x, y, noisy)


def losses_of(vectors: np.ndarray, x: np.ndarray, y: np.ndarray, noisy: Noisy) -> Curves:
    """Losses for every K of the encoder with these columns, with the best head and decoder."""
    size = x.shape[1]
    found: list[tuple[float, float, float]] = []
    for k in range(1, min(vectors.shape[1], size) + 1):
        v = vectors[:, :k]
        head = np.linalg.lstsq(x @ v, y)[0]
        clean = np.sum((x @ v @ head - y) ** 2) / len(x)
        parts = [
            (noisy.labels, np.sum(y**2) / len(y)),
            (noisy.inputs, np.sum(x**2) / len(x)),
        ]
        gram = v.T @ noisy.second @ v
        found.append((clean, *(_fitted(gram, v.T @ cross, total) for cross, total in parts)))
    found += [found[-1]] * (size - len(found))
    return Curves(*np.array(found).T)


def _fitted(gram: np.ndarray, cross: np.ndarray, total: float) -> float:
    """min over W of E‖Wᵀ z − t‖² with E[z zᵀ], E[z tᵀ] and E‖t‖²."""
    weights = np.linalg.solve(gram, cross)
    return total - 2 * np.sum(weights * cross) + np.sum(weights * (gram @ weights))
