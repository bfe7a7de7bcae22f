"""A data set as it is seen through fixed features: all that does not depend on a noise."""

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike, DTypeLike

from reconjax.data import Dataset, Split
from reconjax.data.targets import strata
from reconjax.data.units import as_floats
from reconjax.lift.features import FeatureMap, check_features, check_values, identity_features
from reconjax.lift.moments import check_lift_memory, lift_memory
from reconjax.summary import hosts
from reconjax.summary.folds import most_folds, stratified
from reconjax.summary.moments import Moments
from reconjax.summary.streaming import moments_from_batches
from reconjax.theory.held_out import HeldOut, held_out
from reconjax.theory.solver import factored
from reconjax.theory.spectrum import Spectrum, decomposed

# Numbers that a batch may need on the way, and its examples at most and at least.
WORKSPACE, LARGEST, SMALLEST = 2**24, 2048, 8
# Folds of the test split at most.
TEST_FOLDS = 20
# So many examples are tried before the data are read.
TRIED = 16


@dataclasses.dataclass(frozen=True)
class Lift:
    """A data set seen through features.

    Attributes:
      features: φ.
      moments: of the data themselves, x (D,) and y (C,), centered.
      clean: of φ(x) (m,) and y.
      held_out: of φ(x) and y of the test split; None without one.
      split: the examples themselves; None where the moments are all that is known.
      num_classes: C; None for real targets.
      class_weight: (C,) or None.
      dtype: of features and their products.
    """

    features: FeatureMap
    moments: Moments
    clean: Moments
    held_out: HeldOut | None = None
    split: Split | None = None
    num_classes: int | None = None
    class_weight: Any = None
    dtype: Any = None

    @property
    def size(self) -> int:
        """M."""
        return self.clean.features

    def __repr__(self) -> str:
        """In a line: the arrays are long."""
        return f"Lift({self.features.text}, {self.size} features, {self.clean.targets} targets)"

    @functools.cached_property
    def factor(self) -> tuple[Array, Array, Array]:
        """A root of Cov φ(x), the labels along it, and the eigenvalues; see `factored`."""
        return factored(self.clean.second_moment, self.clean.cross_moment)

    @functools.cached_property
    def principal(self) -> Spectrum:
        """The principal directions of the data themselves."""
        return decomposed(self.moments, None)[0]


def lift(
    data: Dataset,
    features: FeatureMap,
    *,
    moments: Moments | None = None,
    class_weight: ArrayLike | None = None,
    dtype: DTypeLike | None = None,
    devices: Sequence[jax.Device] | None = None,
    memory: float | None = None,
    seed: int = 0,
) -> Lift:
    """The clean features of a data set, with labels, on the training and on the test split.

    Args:
      data: with labels for every example.
      features: φ, from `parse_features` or another function here.
      moments: of the training split, if they are there already; centered, `standardized` or not.
      class_weight: None or (C,) weights, as in `moments_from_batches`.
      dtype: of the features and of their products, which are summed in JAX's default float; that
        is the default here. float32 is a few times faster.
      devices: of this process, to which batches are dealt.
      memory: GiB; more features than fit are refused. No limit by default.
      seed: of the folds of the test split.

    Raises:
      ValueError: features of other inputs, that return another number of examples, NaN or inf, or
        that need more than the memory given; data without labels, uncentered moments.

    Example:
      >>> data = reconjax.data.load("digits")
      >>> features = reconjax.lift.parse_features("relu:32", data.example_shape)
      >>> reconjax.lift.lift(data, features).clean.features
      32
    """
    size = check_features(features, data.features)
    if not data.num_targets:
        raise ValueError(f"{data.name}: no labels; the lift needs them")
    needed = lift_memory(size, data.features, data.num_targets)
    what = f"{features.text}, {size} features of {data.features} values,"
    check_lift_memory(needed, memory, what)
    options: dict[str, Any] = {
        "num_classes": data.num_classes or None,
        "class_weight": class_weight,
        "devices": devices,
    }
    train = hosts.part(data.train)
    if moments is None:
        moments = hosts.merged(moments_from_batches(train.batches(), **options))
    if not moments.centered:
        raise ValueError("moments: uncentered; the lift needs centered ones")
    if (moments.features, moments.targets) != (data.features, data.num_targets):
        raise ValueError(
            f"moments: of {moments.features} features and {moments.targets} targets; the data have"
            f" {data.features} and {data.num_targets}"
        )
    floats = jnp.dtype(dtype or jnp.result_type(float))
    some, _ = train.examples(np.arange(min(TRIED, len(train))))
    check_values(features, centered(jnp.asarray(some), moments.mean_x, moments.scale, floats))

    def seen(split: Split) -> Moments:
        try:
            return moments_from_batches(_batches(split, features, moments, floats), **options)
        except ValueError as error:
            raise ValueError(f"features: {features.text}; {error}") from None

    clean = hosts.merged(seen(train))
    test = None
    if data.test is not None and jax.process_count() == 1:
        classes = strata(data.test.labels)
        count = min(TEST_FOLDS, most_folds(classes))
        if count > 1:
            fold = stratified(classes, count, seed=seed)
            parts = (data.test.subset(np.flatnonzero(fold == index)) for index in range(count))
            test = held_out((seen(part) for part in parts), clean)
    return Lift(
        features=features,
        moments=moments,
        clean=clean,
        held_out=test,
        split=train,
        num_classes=data.num_classes or None,
        class_weight=class_weight,
        dtype=floats,
    )


def linear_lift(moments: Moments, held_out: HeldOut | None = None) -> Lift:
    """The identity features of data that are known by their moments alone.

    Args:
      moments: centered, with labels.
      held_out: the test split, from `reconjax.held_out`.

    Raises:
      ValueError: uncentered moments, or without labels.

    Example:
      >>> x, y = np.random.default_rng(0).normal(size=(50, 6)), np.arange(50) % 2
      >>> reconjax.lift.linear_lift(reconjax.moments(x, y)).size
      6
    """
    if not moments.centered:
        raise ValueError("moments: uncentered; the lift needs centered ones")
    if not moments.targets:
        raise ValueError("moments: no labels; the lift needs them")
    return Lift(identity_features(), moments, moments, held_out)


def batch_rows(features: FeatureMap, inputs: int) -> int:
    """How many examples go through the features at a time: their workspace is bounded."""
    return int(np.clip(WORKSPACE // features.workspace(inputs), SMALLEST, LARGEST))


def centered(images: Array, mean: Array, scale: Array, dtype: DTypeLike) -> Array:
    """(n, D) inputs of the features: about the mean and in the units of the moments."""
    flat = as_floats(images.reshape(images.shape[0], -1), dtype)
    return (flat - mean.astype(dtype)) / scale.astype(dtype)


@functools.partial(jax.jit, static_argnames="dtype")
def of_clean(
    features: FeatureMap, images: Array, mean: Array, scale: Array, *, dtype: DTypeLike
) -> Array:
    """φ(x) (n, m) of examples as they are stored."""
    return features.apply(centered(images, mean, scale, dtype))


def _batches(
    split: Split, features: FeatureMap, moments: Moments, dtype: DTypeLike
) -> Iterator[tuple[Array, Any]]:
    rows = min(batch_rows(features, moments.features), len(split))
    for images, labels in split.batches(rows):
        missing = rows - len(labels)
        if missing:  # one compilation serves all
            images = np.pad(images, [(0, missing)] + [(0, 0)] * (images.ndim - 1))
        made = of_clean(features, jnp.asarray(images), moments.mean_x, moments.scale, dtype=dtype)
        yield made[: len(labels)], labels
