"""Moments that must not be merged, folds that the bootstrap takes, and weights of classes."""

import dataclasses

import numpy as np
import pytest

import reconjax as rj
from reconjax.data import Dataset


def parts():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 4)) * np.array([1.0, 2.0, 3.0, 4.0])
    x[30:] *= 3
    labels = np.arange(60) % 2
    return x, labels, [rj.moments(x[i], labels[i]) for i in (np.arange(30), np.arange(30, 60))]


def test_moments_that_were_standardized_apart_are_not_merged():
    x, labels, (first, second) = parts()
    apart = [rj.standardized(part) for part in (first, second)]
    for one, other in ((apart[0], apart[1]), (apart[0], second)):
        with pytest.raises(ValueError, match=r"scale: .* cannot be merged") as error:
            rj.merge(one, other)
        assert "\n" not in str(error.value)
    whole = rj.standardized(rj.merge(first, second))
    expected = np.corrcoef(x.T)
    np.testing.assert_allclose(whole.second_moment, expected, atol=1e-12)
    # In units that are the same, merging is as exact.
    scaled = [
        dataclasses.replace(
            part,
            scale=whole.scale,
            second_moment=part.second_moment / np.outer(whole.scale, whole.scale),
            cross_moment=part.cross_moment / whole.scale[:, None],
        )
        for part in (first, second)
    ]
    np.testing.assert_allclose(rj.merge(*scaled).second_moment, expected, atol=1e-12)
    assert rj.merge(first, second).samples == len(labels)


def test_folds_that_were_standardized_apart_are_not_combined():
    x, labels, _ = parts()
    split = Dataset.from_arrays(x, labels).train
    folds = rj.fold_moments(split, 5, num_classes=2)
    np.testing.assert_allclose(
        rj.summary.combined(folds).second_moment, np.cov(x.T, bias=True), atol=1e-12
    )
    apart = dataclasses.replace(folds, scale=folds.scale * np.arange(1.0, 6.0)[:, None])
    with pytest.raises(ValueError, match="scale: 1 and 2 of feature 0"):
        rj.summary.combined(apart)


def test_the_default_folds_are_what_the_bootstrap_takes():
    x, labels, _ = parts()
    folds = rj.fold_moments(Dataset.from_arrays(x, labels).train, num_classes=2)
    assert len(folds.samples) == 19
    estimate = rj.bootstrap(folds, lambda part: part.mean_x)
    np.testing.assert_allclose(estimate.value, x.mean(axis=0), atol=1e-12)


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        ([0, 1, 2], "labels: 2; whole numbers 0 .. 1"),
        ([0, -1], "labels: -1"),
        ([0, 0.5], r"labels: 0\.5"),
        ([], "labels: shape"),
        ([[0, 1]], "labels: shape"),
    ],
)
def test_labels_out_of_range_have_no_weights(labels, text):
    with pytest.raises(ValueError, match=text):
        rj.summary.balanced_class_weight(np.array(labels), 2)


def test_weights_of_classes_give_each_the_same_total():
    labels = np.array([0, 0, 0, 2])
    weight = rj.summary.balanced_class_weight(labels, 4)
    assert weight.shape == (4,)
    np.testing.assert_allclose(weight * np.bincount(labels, minlength=4), [2, 0, 2, 0])
