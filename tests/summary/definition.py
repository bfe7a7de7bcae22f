"""Moments by their definition, in NumPy."""

import numpy as np


def data(samples=60, features=12, classes=3, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, samples)
    labels[:classes] = np.arange(classes)
    x = rng.normal(size=(samples, features)) @ rng.normal(size=(features, features))
    return x + 3 * rng.normal(size=features), labels


def expected(x, y, weights=None, center=True):
    """The moments by definition, in float64, with weights of the samples."""
    x = np.asarray(x, np.float64).reshape(len(x), -1)
    y = np.eye(int(y.max()) + 1)[y] if y.ndim == 1 else np.asarray(y, np.float64)
    weights = np.ones(len(x)) if weights is None else np.asarray(weights, np.float64)
    unit = weights / weights.sum()
    mean_x, mean_y = (unit @ x, unit @ y) if center else (0 * x[0], 0 * y[0])
    x, y = x - mean_x, y - mean_y
    return {
        "samples": len(x),
        "weight": weights.sum(),
        "mean_x": mean_x,
        "mean_y": mean_y,
        "second_moment": (x * unit[:, None]).T @ x,
        "cross_moment": (x * unit[:, None]).T @ y,
        "label_moment": (y * unit[:, None]).T @ y,
    }


def assert_moments(found, wanted, tolerance=1e-12):
    """Each field relative to its own largest entry."""
    for name, value in wanted.items():
        scale = np.max(np.abs(value)) or 1.0
        np.testing.assert_allclose(
            getattr(found, name), value, rtol=0, atol=tolerance * scale, err_msg=name
        )
