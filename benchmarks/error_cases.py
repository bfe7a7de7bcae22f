"""Problems of all kinds with their curves, computed apart from the library and without squaring.

The oracle works on the samples. With centered, weighted samples X (N, D) in rows, noise of strength
τ is a factor B of its covariance under the samples, and the singular value decomposition of both

    [X; √τ B] = U Σ Vᵀ,   U₁ the first N rows of U,

whitens x': on clean x the whitened features are √N U₁. The encoder for every K are the right
singular vectors W of [√λ Xᵀ U₁; √α Yᵀ U₁], and the read-out is one QR of U₁ W. No second moment is
ever formed, so that directions count down to variances of the square of rounding.
"""

from typing import Any, NamedTuple

import numpy as np
from scipy import ndimage

import reconjax as rj


class Case(NamedTuple):
    """A data set with labels and a grid of one ray.

    Attributes:
      name: what makes it again.
      x: (N, H, W, C) images, floats or uint8.
      y: (N,) integer labels.
      class_weight: as in `reconjax.moments`.
      noise: "mask", "exact mask", "pixels" or "gaussian".
      patch: (height, width) of the masks.
      strengths: mask ratios, or standard deviations.
      weights: λ.
      readout: "clean" or "noisy".
      precision: of the sweep.
      side: "features", (D, D) moments, or "samples", (N, N), without class weights.
    """

    name: str
    x: np.ndarray
    y: np.ndarray
    class_weight: str | None = None
    noise: str = "mask"
    patch: tuple[int, int] = (4, 4)
    strengths: tuple[float, ...] = (0.0, 0.5)
    weights: tuple[float, ...] = (np.inf,)
    readout: str = "clean"
    precision: str = "float64"
    side: str = "features"

    def grid(self) -> list[list[Any]]:
        """The row of noises for `sweep`."""
        if self.noise == "pixels":
            return rj.grid.pixel_grid(self.x.shape[1:], self.strengths)
        if self.noise == "gaussian":
            return rj.grid.gaussian_grid(self.strengths)
        exact = self.noise == "exact mask"
        return rj.mask_grid(self.x.shape[1:], [self.patch], self.strengths, exact=exact)

    def solved(self) -> rj.Sweep:
        """What the library makes of it."""
        classes = int(self.y.max()) + 1
        if self.side == "samples":
            data = rj.grid.samples(self.x, self.y, num_classes=classes)
            dims = np.arange(1, int(np.prod(self.x.shape[1:])) + 1)
            options = {"readout": self.readout, "precision": self.precision}
            return rj.grid.sweep_samples(data, self.grid(), self.weights, dims, **options)
        moments = rj.moments(self.x, self.y, num_classes=classes, class_weight=self.class_weight)
        return rj.sweep(
            moments,
            self.grid(),
            self.weights,
            readout=self.readout,
            precision=None if self.precision == "as moments" else self.precision,
        )


# The oracle


def factors(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """X (N, D) and Y (N, C), centered, in rows of length √(weight of the sample)."""
    x = case.x.reshape(len(case.x), -1).astype(np.float64)
    if case.x.dtype == np.uint8:
        x /= 255
    y = np.eye(case.y.max() + 1)[case.y]
    weight = np.ones(len(x))
    if case.class_weight == "balanced":
        counts = np.bincount(case.y)
        weight = (1 / np.where(counts > 0, counts, 1))[case.y]
    weight /= weight.sum()
    root = np.sqrt(weight)[:, None]
    varies = np.ptp(x, axis=0) > 0  # exactly: what rounding leaves of a constant is no feature
    return root * np.where(varies, x - weight @ x, 0.0), root * (y - weight @ y)


def noise_factor(case: Case, x: np.ndarray, strength: float) -> tuple[np.ndarray, float]:
    """(n, D) √τ B, and the share c by which signal falls below that of x + noise.

    E[x' x'ᵀ] = g (Xᵀ X + τ Bᵀ B) and E[x'|x] = q x for x (N, D), c = q² / g.
    """
    features = x.shape[1]
    if case.noise == "gaussian":
        return strength * np.eye(features), 1.0
    if case.noise == "pixels":
        groups = np.arange(features)
    else:
        height, width, channels = case.x.shape[1:]
        rows, columns = np.arange(height) // case.patch[0], np.arange(width) // case.patch[1]
        number = rows[:, None] * (columns[-1] + 1) + columns
        groups = np.repeat(number.ravel(), channels)
    count = groups.max() + 1
    once = 1 - strength
    twice = once**2
    if case.noise == "exact mask":
        kept = round(once * count)
        once, twice = kept / count, kept * (kept - 1) / (count * (count - 1))
    parts = []
    for group in range(count):
        part = np.zeros_like(x)
        part[:, groups == group] = x[:, groups == group]
        parts.append(np.linalg.qr(part, mode="r") if len(part) > 4 else part)
    return np.sqrt((once - twice) / twice) * np.concatenate(parts), once**2 / twice


def rank_of(x: np.ndarray) -> int:
    """Number of singular values of centered x (N, D) above the rounding of float64."""
    values = np.linalg.svd(x, compute_uv=False)
    count = int(np.sum(values > max(x.shape) * np.finfo(float).eps * values[0]))
    return min(count, len(x) - 1)


def r2(case: Case, strength: float, weight: float) -> np.ndarray:
    """(D,) r2 for K = 1 .. D; flat from the rank of the samples on."""
    x, y = factors(case)
    features = x.shape[1]
    rank = rank_of(x)
    left = np.linalg.svd(x, full_matrices=False)[0][:, :rank]
    # Not the singular vectors of the other side, in which a constant feature has rounding.
    small, y_small = left.T @ x, left.T @ y
    noise, signal = np.zeros((0, features)), 1.0
    if strength > 0:
        noise, signal = noise_factor(case, small, strength)
    stacked = np.concatenate([small, noise])
    # In units of the features: none is too small to be seen.
    length = np.linalg.norm(stacked, axis=0)
    left, values, _ = np.linalg.svd(stacked / np.where(length > 0, length, 1), full_matrices=False)
    kept = values > max(stacked.shape) * np.finfo(float).eps * values[0]
    codes = left[: len(small), kept]
    alpha, share = (0.0, 1.0) if np.isinf(weight) else (1.0, weight)
    objective = np.concatenate(
        [np.sqrt(share) * small.T @ codes, np.sqrt(alpha) * y_small.T @ codes]
    )
    right = np.linalg.svd(objective, full_matrices=False)[2].T
    features_of_x = codes @ right[:, :rank]
    if case.readout == "clean":
        features_of_x = np.linalg.qr(features_of_x)[0]
    steps = np.sum((features_of_x.T @ y_small) ** 2, axis=1)
    steps *= signal if case.readout == "noisy" else 1.0
    curve = np.cumsum(steps) / np.sum(y**2)
    return np.concatenate([curve, np.full(features - len(curve), curve[-1])])


def error_and_estimate(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """(R, L, D) distance of the library's curve from the oracle's, and what the library states."""
    solved = case.solved()
    truth = np.array([[r2(case, s, w) for w in case.weights] for s in case.strengths])
    error = np.abs(np.asarray(solved.r2, np.float64)[0] - truth)
    return error, np.broadcast_to(np.asarray(solved.error, np.float64)[0], error.shape)


# Data


def smooth(samples: int, size: int, seed: int = 0) -> np.ndarray:
    """(N, size, size, 1) float32 images of Gaussian noise, smoothed over three pixels."""
    rng = np.random.default_rng(seed)
    x = ndimage.gaussian_filter(rng.standard_normal((samples, size, size)), (0, 3, 3)) * 10.5
    return x.astype("float32")[..., None]


SHAPES = ((4, 4, 1), (8, 8, 1), (4, 4, 2))
PATCHES = {(4, 4, 1): ((2, 2), (1, 4), (4, 4)), (8, 8, 1): ((2, 2), (4, 4), (2, 8))}
KINDS = ("smooth", "spectrum", "white", "8 bit", "low rank", "offset")


def images(kind: str, samples: int, shape: tuple[int, int, int], rng: Any) -> np.ndarray:
    """(N, H, W, C) images of a kind."""
    size = int(np.prod(shape))
    if kind == "white":
        return rng.normal(size=(samples, *shape))
    if kind == "low rank":
        rank = int(rng.integers(1, size))
        return (rng.normal(size=(samples, rank)) @ rng.normal(size=(rank, size))).reshape(
            -1, *shape
        )
    if kind == "spectrum":
        # Eigenvectors are waves, from slow to fast, and variances fall to a share of the largest.
        waves = np.cos(np.pi * np.outer(np.arange(size) + 0.5, np.arange(size)) / size)
        deviations = np.sqrt(np.logspace(0, -rng.uniform(2, 14), size))
        codes = rng.normal(size=(samples, size))
        if samples > size and rng.random() < 0.5:
            codes = np.linalg.qr(codes - codes.mean(axis=0))[0] * np.sqrt(samples)
        return (codes * deviations @ waves.T).reshape(-1, *shape)
    reach = float(rng.uniform(0.5, 3))
    x = ndimage.gaussian_filter(rng.normal(size=(samples, *shape)), (0, reach, reach, 0))
    x /= np.std(x)
    if kind == "8 bit":
        return np.clip(128 + 40 * x, 0, 255).astype(np.uint8)
    return (x + (100 if kind == "offset" else 0)).astype(np.float32)


def random_case(
    seed: int,
    *,
    shapes: tuple[Any, ...] = SHAPES,
    precisions: tuple[str, ...] = ("float64", "mixed", "float32"),
    noises: tuple[str, ...] = ("mask", "exact mask", "pixels", "gaussian"),
    readouts: tuple[str, ...] = ("clean", "noisy"),
) -> Case:
    """The problem of a seed: data of any kind and number, with or without what makes trouble."""
    rng = np.random.default_rng(seed)
    shape = shapes[rng.integers(len(shapes))]
    kind = KINDS[rng.integers(len(KINDS))]
    samples = int(rng.choice([2, 3, 5, 8, 12, 20, 40, 60, 65, 150, 600]))
    x = images(kind, samples, shape, rng)
    flat = x.reshape(samples, -1)
    told = [kind, f"N = {samples}", "x".join(map(str, shape))]
    if rng.random() < 0.3:
        flat[:, rng.choice(flat.shape[1], 3, replace=False)] = 7
        told.append("constant features")
    if rng.random() < 0.3:
        here = rng.choice(flat.shape[1], (2, 4), replace=False)
        flat[:, here[0]] = flat[:, here[1]]
        told.append("duplicate features")
    y = rng.choice(3, samples, p=rng.dirichlet(np.full(3, 2.0)))
    if rng.random() < 0.5 and samples > 3:  # labels that the data know of
        direction = rng.normal(size=flat.shape[1])
        y = np.digitize(*_thirds(flat @ direction))
        told.append("linear labels")
    y[: min(3, samples)] = np.arange(min(3, samples))
    y[-1] = 2
    weighted = bool(rng.random() < 0.25)
    noise = noises[rng.integers(len(noises))]
    patches = PATCHES.get(shape, ((2, 2), (1, 4), (4, 4)))
    patch = patches[rng.integers(len(patches) - (noise == "exact mask" and shape[0] == 4))]
    strengths = (0.0, 0.1, 1.0) if noise == "gaussian" else (0.0, 0.5, 0.9)
    if noise == "exact mask":
        strengths = (0.0, 0.25, 0.5)
    readout = readouts[rng.integers(len(readouts))]
    precision = precisions[rng.integers(len(precisions))]
    told += [noise, f"patch {patch}", readout, precision, "balanced" if weighted else ""]
    return Case(
        f"seed {seed}: " + ", ".join(filter(None, told)),
        x,
        y,
        "balanced" if weighted else None,
        noise,
        patch,
        strengths,
        (1e-3, 1.0, np.inf),
        readout,
        precision,
    )


def _thirds(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return values, np.quantile(values, [1 / 3, 2 / 3])
