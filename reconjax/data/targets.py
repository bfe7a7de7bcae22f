"""What targets are: class numbers or real values. One rule for arrays, files and batches.

| given                                 | taken for                                    |
|---------------------------------------|----------------------------------------------|
| integers or truth values, (N,), (N, 1) | class numbers, 0 .. C - 1                    |
| whole floats, (N,)                    | class numbers                                |
| other floats, (N,)                    | one real target                              |
| floats, (N, 1)                        | one real target                              |
| numbers, (N, C), C > 1                | C real targets; truth values count as 0 and 1 |

Whoever knows better says so: `num_classes` makes (N,) and (N, 1) class numbers, `targets` is
"classes" or "real", and floats of shape (N, 1) are real values whatever they hold.
"""

import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

KINDS = ("classes", "real")
# Below so many samples a class, many classes look like real values that were rounded.
FEW_SAMPLES = 10
MANY_CLASSES = 20


class ManyClassesWarning(UserWarning):
    """Integers were taken for class numbers, and there are nearly as many classes as samples."""


def check_kind(targets: str | None) -> None:
    """Raises ValueError unless `targets` is None, "classes" or "real"."""
    if targets not in (None, *KINDS):
        raise ValueError(f"targets: {targets!r}; 'classes' or 'real' is allowed")


def as_targets(
    y: Any, name: str = "y", *, num_classes: int | None = None, targets: str | None = None
) -> Any:
    """Targets in one of two shapes: (N,) class numbers or (N, C) real values (module's table).

    Whether class numbers are 0 .. C - 1 is not looked at here.

    Args:
      y: a NumPy or JAX array, also a traced one, which is taken by its shape and dtype.
      name: what messages call it.
      num_classes: the number of classes, where the caller knows that there are classes; without
        effect on (N, C), C > 1.
      targets: None, "classes" or "real".

    Returns:
      y as (N,) or (N, C), of its own dtype.

    Raises:
      ValueError: another shape or dtype, or one that `num_classes` or `targets` rule out.
    """
    check_kind(targets)
    if y.ndim not in (1, 2):
        raise ValueError(f"{name}: shape {y.shape}; (N,) labels or (N, C) targets are needed")
    if not (jnp.issubdtype(y.dtype, jnp.number) or y.dtype == jnp.bool_):
        raise ValueError(f"{name}: dtype {y.dtype}; class numbers or real values are needed")
    single = y.ndim == 1 or y.shape[1] == 1
    if targets == "real":
        if num_classes:
            raise ValueError(f"num_classes: {num_classes}; given with targets='real', choose one")
        return y.reshape(-1, 1) if y.ndim == 1 else y
    if not single:
        if targets == "classes":
            raise ValueError(f"{name}: shape {y.shape}; class numbers are (N,) or (N, 1)")
        return y
    if targets == "classes" or num_classes or _class_numbers(y):
        return y.reshape(-1)
    return y.reshape(-1, 1)


def warn_of_many_classes(labels: Any, name: str = "y", *, stacklevel: int = 3) -> None:
    """Warns where class numbers (N,) are nearly as many as samples.

    That is: fewer than 2 samples for each class that occurs; or 20 classes or more with fewer than
    10 samples each on average.
    """
    numbers = np.asarray(labels)
    samples, classes = len(numbers), len(np.unique(numbers))
    few = classes >= MANY_CLASSES and samples < FEW_SAMPLES * classes
    if few or samples < 2 * classes:
        warnings.warn(
            f"{name}: integers taken for class numbers, {classes} classes in {samples} samples;"
            " real values: targets='real', or floats of shape (N, 1)",
            ManyClassesWarning,
            stacklevel=stacklevel,
        )


def targets_text(num_classes: int, real_targets: int) -> str:
    """What a set's targets are, in words: "10 classes", "1 real target" or "no labels"."""
    if num_classes:
        return f"{num_classes} classes"
    if real_targets:
        return f"{real_targets} real target{'s' if real_targets > 1 else ''}"
    return "no labels"


def strata(labels: np.ndarray) -> np.ndarray:
    """(N,) int64: the groups that folds are to hold alike.

    Of class numbers (N,) the classes; of real targets (N, C) two halves, below and above the median
    of the first.
    """
    if labels.ndim == 1:
        return labels
    order = np.argsort(labels[:, 0], kind="stable")
    found = np.empty(len(labels), np.int64)
    found[order] = np.arange(len(labels)) >= len(labels) / 2
    return found


def _class_numbers(y: Any) -> bool:
    """Whether targets (N,) or (N, 1) of an unknown kind are class numbers."""
    if not jnp.issubdtype(y.dtype, jnp.floating):
        return True
    if y.ndim == 2:
        return False
    if isinstance(y, jax.core.Tracer):
        return True
    values = np.asarray(y)
    # NaN and infinity are no real values either: those who check labels or moments say so.
    return bool(np.all(~np.isfinite(values) | (values == np.floor(values))))
