"""What a noise can change for any label: against dense angles, random labels and the worst one."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from oracle import CLASSES, FEATURES, SHAPE
from scipy import linalg

import reconjax as rj
from reconjax import noise as rn
from reconjax.noise import pca_mask
from reconjax.summary.moments import Moments
from reconjax.theory import angles
from reconjax.theory.certificate import certificate
from reconjax.theory.commuting import (
    CLOSED,
    KEPT,
    MIXED,
    REASONS,
    REORDERED,
    TIES,
    TURNED,
    certificate_arrays,
)

DATA = ["plain", "short", "constant pixels", "low rank"]


class Colored(NamedTuple):
    """x' = x + ε, ε of any covariance."""

    covariance: jax.Array

    def mean(self, moment):
        return moment

    def second_moment(self, moment):
        return moment + self.covariance

    def ray(self):
        return None


class Operator(NamedTuple):
    """x' = T x + ε, ε of any covariance: the mean is not proportional to x."""

    matrix: jax.Array
    covariance: jax.Array

    def mean(self, moment):
        return self.matrix @ moment

    def second_moment(self, moment):
        return self.matrix @ moment @ self.matrix.T + self.covariance

    def ray(self):
        return None


def given(second, samples=1000):
    """Moments with this M (D, D), and no labels at all."""
    size = len(second)
    return Moments(
        samples=jnp.asarray(float(samples)),
        weight=jnp.asarray(float(samples)),
        mean_x=jnp.zeros(size),
        mean_y=jnp.zeros(0),
        second_moment=jnp.asarray(second),
        cross_moment=jnp.zeros((size, 0)),
        label_moment=jnp.zeros((0, 0)),
        scale=jnp.ones(size),
    )


def rotation(size, seed=0):
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(size, size)))[0]


def of(values, basis):
    return basis * np.asarray(values) @ basis.T


def noises():
    mask, exact, pixel = rn.patch_mask, rn.exact_patch_mask, rn.pixel_dropout
    return {
        "mask": mask(0.75, (2, 2), SHAPE),
        "one patch kept": exact(0.75, (2, 2), SHAPE),
        "pixel": pixel(0.3, SHAPE),
        "mask and gaussian": rn.chain(mask(0.5, (2, 1), SHAPE), rn.gaussian(0.2)),
    }


def dense_noisy(name, x, y):
    clean = oracle.noiseless(x, y)
    groups = oracle.patch_groups(SHAPE, (2, 2))
    if name == "mask":
        return oracle.with_dropout(clean, groups, 0.75)
    if name == "one patch kept":
        return oracle.with_masks(clean, groups, *oracle.exact_masks(4, 1))
    if name == "pixel":
        return oracle.with_dropout(clean, np.arange(FEATURES), 0.3)
    dropped = oracle.with_dropout(clean, oracle.patch_groups(SHAPE, (2, 1)), 0.5)
    return oracle.with_gaussian(dropped, 0.2)


# The bound itself


@pytest.mark.parametrize("data", DATA)
def test_angles_are_those_between_the_features_of_the_samples(data):
    images, labels = oracle.dataset(data)
    x, y = oracle.centered(images, labels)
    rank = np.linalg.matrix_rank(x)
    plain = x @ oracle.encoder(oracle.noiseless(x, y), np.inf)
    moments = rj.moments(images, labels)
    dims = np.arange(1, rank + 1)
    for name, noise in noises().items():
        features = x @ oracle.encoder(dense_noisy(name, x, y), np.inf)
        found = certificate(moments, noise, dims)
        assert (found.verdict, found.rank) == ("may", rank)
        between = [linalg.subspace_angles(plain[:, :k], features[:, :k]) for k in dims]
        np.testing.assert_allclose(
            found.largest_change, [np.sin(a[0]) for a in between], atol=1e-6, err_msg=name
        )
        cosines = [np.mean(np.cos(a) ** 2) for a in between]
        np.testing.assert_allclose(found.mean_squared_cosine, cosines, atol=1e-7, err_msg=name)
        np.testing.assert_array_equal(found.overlap, found.mean_squared_cosine)
        assert found.largest_change[-1] < 1e-9  # all of the data


@pytest.fixture(scope="module", params=["plain", pytest.param("short", marks=pytest.mark.slow)])
def drawn(request):
    """Moments of the inputs, a noise, and its certificate at every K."""
    images, labels = oracle.dataset(request.param)
    x, _ = oracle.centered(images, labels)
    noise = noises()["mask"]
    moments = rj.moments(images, labels)
    rank = np.linalg.matrix_rank(x)
    return x, moments, noise, certificate(moments, noise, np.arange(1, rank + 1))


def changes(moments, noise, cross, spread):
    """(n, r) explained with − without noise of n labels with these E[x yᵀ] and E[y yᵀ]."""

    @jax.jit
    @jax.vmap
    def r2(cross, spread):
        clean = rj.problem(moments)._replace(label_moment=spread)
        noisy = rj.problem(moments, noise)._replace(label_moment=spread)
        keep = noise.mean(jnp.ones(()))
        without = clean._replace(noisy_label_moment=cross, cross_moment=cross)
        with_noise = noisy._replace(noisy_label_moment=keep * cross, cross_moment=cross)
        return rj.solve(with_noise).r2 - rj.solve(without).r2

    return np.asarray(r2(jnp.asarray(cross), jnp.asarray(spread)))


def test_random_labels_never_move_more_than_the_bound(drawn):
    x, moments, noise, found = drawn
    rng = np.random.default_rng(0)
    balanced = np.arange(len(x)) % CLASSES
    rare = np.where(np.arange(len(x)) < 3, 1, 0)
    kinds = [np.eye(CLASSES)[rng.permutation(balanced)] for _ in range(150)]
    kinds += [np.eye(CLASSES)[rng.permutation(rare)] for _ in range(75)]
    kinds += [rng.normal(size=(len(x), 1)) * np.eye(1, CLASSES) for _ in range(75)]
    labels = np.stack(kinds)
    labels = labels - labels.mean(1, keepdims=True)
    cross = np.einsum("nd,bnc->bdc", x, labels) / len(x)
    spread = np.einsum("bnc,bne->bce", labels, labels) / len(x)
    moved = changes(moments, noise, cross, spread)[:, : found.rank]
    assert np.all(np.abs(moved) <= found.largest_change + 1e-9)
    # Not because the bound is out of reach: labels that follow the inputs come near it.
    assert np.max(np.abs(moved)) > 0.02
    # The share that is explained at random is the same: changes are of both signs.
    assert np.any(moved > 1e-3)
    assert np.any(moved < -1e-3)


def test_the_worst_label_reaches_the_bound(drawn):
    x, moments, noise, found = drawn
    labels = np.asarray(x @ found.worst_label.T)
    np.testing.assert_allclose(np.mean(labels**2, axis=0), 1, atol=1e-9)
    cross = (x.T @ labels / len(x)).T[:, :, None]
    moved = changes(moments, noise, cross, np.ones((len(cross), 1, 1)))
    at_its_own = np.diagonal(moved[:, : found.rank])
    np.testing.assert_allclose(at_its_own, found.largest_change, atol=1e-6)
    assert np.sum(found.largest_change > 0.1) > 3


@pytest.mark.slow
def test_the_worst_label_reaches_the_bound_through_a_sweep():
    images, _ = oracle.dataset("plain")
    moments = given(rj.moments(images, np.arange(len(images)) % 2).second_moment)
    found = certificate(moments, noises()["mask"], 5)
    x = images.reshape(len(images), -1)
    task = rj.moments(images, (x - x.mean(0)) @ found.worst_label.T)
    grid = rj.mask_grid(SHAPE, [(2, 2)], [0.0, 0.75])
    r2 = rj.sweep(task, grid, latent_dims=[5]).r2[0, :, 0, 0]
    assert float(r2[1] - r2[0]) == pytest.approx(found.largest_change[0], abs=1e-6)


def test_the_largest_angle_is_found_on_either_side_of_the_block(monkeypatch):
    monkeypatch.setattr(angles, "SMALLEST", 4)
    basis = rotation(12, seed=7)
    for k in range(1, 13):
        change, label = angles.largest_change(jnp.asarray(basis), k, k)
        block = np.linalg.svd(basis[k:, :k], compute_uv=False)
        assert change == pytest.approx(max(block, default=0.0), abs=1e-12)
        gain = np.sum((basis[:, :k].T @ label) ** 2) - np.sum(label[:k] ** 2)
        assert np.linalg.norm(label) == pytest.approx(1)
        assert gain == pytest.approx(float(change), abs=1e-12)


# The verdict


def test_commuting_and_in_order():
    basis, values = rotation(6), np.array([9.0, 5.0, 3.0, 2.0, 1.0, 0.5])
    added = np.array([1.0, 2.0, 0.5, 3.0, 2.0, 1.0])
    assert np.all(np.diff(values**2 / (values + added)) < 0)
    found = certificate(given(of(values, basis)), Colored(jnp.asarray(of(added, basis))))
    assert (found.verdict, found.reason) == ("never", KEPT)
    np.testing.assert_array_equal(found.latent_dim, [1, 2, 4, 6])
    np.testing.assert_array_equal(found.largest_change, 0)
    np.testing.assert_array_equal(found.mean_squared_cosine, 1)
    assert max(found.mixing, found.commutator) < 1e-12 < found.tolerance
    kept = values**2 / (values + added)
    assert found.order_margin == pytest.approx(np.min(-np.diff(kept) / kept[:-1]))
    assert found.order_broken == found.ties == ()


def test_commuting_but_reordering():
    basis, values = rotation(6), np.array([9.0, 5.0, 3.0, 2.0, 1.0, 0.1])
    added = np.array([0.0, 50.0, 0.0, 0.0, 0.0, 0.0])  # the second becomes the last but one
    kept = values**2 / (values + added)
    assert np.argsort(-kept).tolist() == [0, 2, 3, 4, 1, 5]
    noise = Colored(jnp.asarray(of(added, basis)))
    found = certificate(given(of(values, basis)), noise, range(1, 7))
    assert (found.verdict, found.reason) == ("may", REORDERED)
    np.testing.assert_allclose(found.largest_change, [0, 1, 1, 1, 0, 0], atol=1e-7)
    np.testing.assert_allclose(found.mean_squared_cosine, [1, 1 / 2, 2 / 3, 3 / 4, 1, 1])
    assert found.order_broken == (2, 3, 4)
    assert found.mixing < 1e-12
    assert found.order_margin == pytest.approx(kept[1] / kept[2] - 1)


def test_not_commuting():
    basis, values = rotation(6), np.array([9.0, 5.0, 3.0, 2.0, 1.0, 0.5])
    noise = Colored(jnp.asarray(of([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], rotation(6, seed=1))))
    found = certificate(given(of(values, basis)), noise, range(1, 7))
    assert (found.verdict, found.reason) == ("may", MIXED)
    m, n = of(values, basis), np.asarray(noise.covariance)
    size = np.linalg.norm(m) * np.linalg.norm(n)
    assert found.commutator == pytest.approx(np.linalg.norm(m @ n - n @ m) / size)
    estimate = basis.T @ m @ np.linalg.inv(m + n) @ m @ basis
    correlation = estimate / np.sqrt(np.outer(np.diag(estimate), np.diag(estimate)))
    assert found.mixing == pytest.approx(np.max(np.abs(correlation - np.eye(6))))
    assert np.all(found.largest_change[:4] > 0.01)


def test_equal_eigenvalues_are_reported():
    basis, values = rotation(6), np.array([9.0, 4.0, 4.0, 4.0, 1.0, 0.5])
    moments = given(of(values, basis))
    found = certificate(moments, rn.gaussian(1.0), range(1, 7))
    assert found.verdict == "never"
    assert found.ties == (2, 3)
    assert found.ambiguous.tolist() == [False, True, True, False, False, False]
    assert np.all(found.gap[[1, 2]] < 1e-12)
    # A noise that tells them apart decides what was open before, though it commutes.
    apart = Colored(jnp.asarray(of([1.0, 3.0, 2.0, 1.0, 1.0, 1.0], basis)))
    found = certificate(moments, apart, range(1, 7))
    assert (found.verdict, found.reason) == ("may", TIES)
    assert found.ties == (2, 3)
    assert found.commutator < found.tolerance
    # One that treats them alike does not.
    alike = Colored(jnp.asarray(of([1.0, 2.0, 2.0, 2.0, 1.0, 1.0], basis)))
    assert certificate(moments, alike).reason == KEPT


def test_near_ties_are_reported_by_their_gap():
    values = np.array([9.0, 4.0, 4.0 * (1 - 1e-3), 1.0, 0.5, 0.2])
    moments = given(of(values, rotation(6)), samples=5000)
    found = certificate(moments, rn.gaussian(1.0), range(1, 7))
    assert not np.any(found.ambiguous)
    np.testing.assert_allclose(found.gap, [5 / 9, 1e-3, 1 - 1 / 3.996, 0.5, 0.6, 1], rtol=1e-6)
    assert found.sampling == pytest.approx(0.02)
    # The noise may bring two directions near each other, though it keeps their order.
    added = np.array([1.0, 1.0, 1.0, 0.0, 0.0, 0.0])
    added[2] = values[2] ** 2 / (values[1] ** 2 / (values[1] + 1) * (1 - 1e-5)) - values[2]
    noise = Colored(jnp.asarray(of(added, rotation(6))))
    found = certificate(moments, noise, range(1, 7))
    assert found.verdict == "never"
    np.testing.assert_allclose(found.gap[1], 1e-5, rtol=1e-6)


def ill_conditioned():
    """Variances over 13 decades: the last ones are just above rounding."""
    return given(of(np.geomspace(1, 1e-13, FEATURES), rotation(FEATURES)))


@pytest.mark.parametrize("data", [*DATA, "ill-conditioned"])
def test_these_never_help_on_any_data(data):
    moments = ill_conditioned() if data == "ill-conditioned" else rj.moments(*oracle.dataset(data))
    shape = SHAPE
    for noise in (
        rn.identity(),
        rn.gaussian(1e-6),
        rn.gaussian(0.5),
        rn.gaussian(100.0),
        rn.chain(rn.gaussian(0.1), rn.gaussian(0.3)),
        rn.patch_mask(0.0, (2, 2), shape),
        rn.patch_mask(0.75, shape[:2], shape),  # a patch that is the image
        rn.chain(rn.patch_mask(0.75, shape[:2], shape), rn.gaussian(0.3)),
    ):
        found = certificate(moments, noise)
        assert (found.verdict, found.reason) == ("never", CLOSED)
        np.testing.assert_array_equal(found.largest_change, 0)
        assert found.order_broken == ()
    for noise in (
        rn.patch_mask(0.1, (2, 2), shape),
        rn.patch_mask(0.75, (1, 1), shape),
        rn.chain(rn.patch_mask(0.5, (2, 2), shape), rn.gaussian(0.3)),
    ):
        found = certificate(moments, noise)
        assert (found.verdict, found.reason) == ("may", MIXED)
        assert np.max(found.largest_change) > 1e-3
        assert found.commutator > found.tolerance


@pytest.mark.parametrize("data", [*DATA, "ill-conditioned"])
def test_masking_principal_components_alike_changes_nothing(data):
    moments = ill_conditioned() if data == "ill-conditioned" else rj.moments(*oracle.dataset(data))
    vectors = rj.spectrum(moments).eigenvectors
    assert certificate(moments, pca_mask(0.75, vectors)).reason == CLOSED
    # With ratios of their own, order decides.
    rising = np.linspace(0.1, 0.7, FEATURES)
    found = certificate(moments, pca_mask(rising, vectors))
    assert (found.verdict, found.reason) == ("never", KEPT)
    found = certificate(moments, pca_mask(np.where(np.arange(FEATURES) == 0, 0.95, 0.1), vectors))
    assert (found.verdict, found.reason) == ("may", REORDERED)
    assert found.order_broken[0] == 1
    assert found.largest_change[0] == pytest.approx(1)


def test_masks_of_principal_components_that_are_made_by_hand():
    moments = rj.moments(*oracle.dataset("plain"))
    values, basis = np.linalg.eigh(moments.second_moment)

    def masked(keep):
        keep = np.broadcast_to(keep, FEATURES)
        noise = Operator(*(jnp.asarray(of(v, basis)) for v in (keep, keep * (1 - keep) * values)))
        return certificate(moments, noise)

    assert masked(0.25).verdict == "never"
    assert masked(np.linspace(0.3, 0.9, FEATURES)).reason == KEPT  # eigenvalues ascend
    assert masked(np.where(np.arange(FEATURES) == FEATURES - 1, 0.1, 0.9)).order_broken[0] == 1


def test_noise_outside_the_data_counts_by_its_schur_complement():
    basis, values = rotation(6), np.array([5.0, 3.0, 2.0, 1.0])
    inside, outside = basis[:, :4], basis[:, 4:]
    moments = given(of(values, inside))
    across = np.random.default_rng(3).normal(size=(4, 2))

    def noise(on_data, beside):
        blocks = inside @ across @ outside.T
        there = inside @ on_data @ inside.T + beside * outside @ outside.T
        return Colored(jnp.asarray(there + blocks + blocks.T))

    # What the encoder can predict from beside the data it takes away: white noise is left.
    found = certificate(moments, noise(np.eye(4) + across @ across.T, 1.0), range(1, 5))
    assert (found.verdict, found.rank) == ("never", 4)
    assert found.commutator > 0.01
    # On the data alone this one is white; what is left of it is not.
    found = certificate(moments, noise(np.eye(4), np.linalg.norm(across, 2) ** 2 + 1), range(1, 5))
    assert (found.verdict, found.reason) == ("may", MIXED)
    assert np.max(found.largest_change) > 0.01


# Noises whose mean is not proportional to x


def test_an_operator_has_the_angles_of_the_oracle():
    images, labels = oracle.dataset("plain")
    x, y = oracle.centered(images, labels)
    rng = np.random.default_rng(4)
    matrix = np.eye(FEATURES) + 0.3 * rng.normal(size=(FEATURES, FEATURES))
    noise = Operator(jnp.asarray(matrix), 0.1 * jnp.eye(FEATURES))
    clean = oracle.noiseless(x, y)
    second = matrix @ clean.second @ matrix.T + 0.1 * np.eye(FEATURES)
    noisy = oracle.Noisy(second, matrix @ clean.inputs, matrix @ clean.labels)
    plain, features = (x @ oracle.encoder(one, np.inf) for one in (clean, noisy))
    found = certificate(rj.moments(images, labels), noise, range(1, FEATURES + 1))
    assert (found.verdict, found.reason) == ("may", TURNED)
    largest = [linalg.subspace_angles(plain[:, :k], features[:, :k])[0] for k in found.latent_dim]
    np.testing.assert_allclose(found.largest_change, np.sin(largest), atol=1e-6)


def test_a_noise_that_leaves_fewer_features_may_cost_some_label_everything():
    basis, values = rotation(6), np.array([6.0, 5.0, 4.0, 3.0, 2.0, 1.0])
    moments = given(of(values, basis))
    # The third principal direction is seen as nothing; the others as they are.
    keep = np.array([1.0, 1.0, 0.0, 1.0, 1.0, 1.0])
    blind = Operator(jnp.asarray(of(keep, basis)), jnp.asarray(of(1 - keep, basis)))
    found = certificate(moments, blind, range(1, 7))
    assert found.verdict == "may"
    np.testing.assert_allclose(found.largest_change, [0, 0, 1, 1, 1, 1], atol=1e-7)
    np.testing.assert_allclose(found.mean_squared_cosine, [1, 1, 2 / 3, 3 / 4, 4 / 5, 5 / 6])
    for label, k in zip(found.worst_label[2:5], (3, 4, 5), strict=True):
        variance = label @ moments.second_moment @ label
        assert variance == pytest.approx(1)
        cross = (moments.second_moment @ label)[:, None]
        task = [
            rj.problem(moments, noise)._replace(
                noisy_label_moment=operator @ cross,
                cross_moment=cross,
                label_moment=jnp.ones((1, 1)),
            )
            for noise, operator in ((None, np.eye(6)), (blind, blind.matrix))
        ]
        without, with_noise = (float(rj.solve(one).r2[k - 1]) for one in task)
        assert abs(with_noise - without) == pytest.approx(1, abs=1e-6)


def test_features_that_coincide_on_clean_data_count_once():
    """The second feature sees, on clean data, what the first does: no third one is lost by it."""
    components = jnp.array([[2.0, 0.0, 0.0], [2.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    features, _, count = angles.represented(components, jnp.diag(jnp.array([3.0, 2.0, 1.0])))
    np.testing.assert_array_equal(count, [1, 1, 2])
    np.testing.assert_allclose(np.abs(features), [[1, 0, 0], [0, 0, 1], [0, 0, 0]], atol=1e-12)


def test_an_operator_that_swaps_what_it_shows():
    """x' = (x₀, x₂, x₁, 0, x₄, x₅): the encoder reads clean x₂ where it saw x₁."""
    moments = given(np.diag([6.0, 5.0, 4.0, 3.0, 2.0, 1.0]))
    matrix = np.eye(6)[[0, 2, 1, 3, 4, 5]]
    matrix[3] = 0.0
    swap = Operator(jnp.asarray(matrix), 0.01 * jnp.eye(6))
    found = certificate(moments, swap, range(1, 7))
    np.testing.assert_allclose(found.largest_change, [0, 1, 0, 1, 1, 1], atol=1e-7)
    cosines = [1, 1 / 2, 1, 3 / 4, 4 / 5, 5 / 6]
    np.testing.assert_allclose(found.mean_squared_cosine, cosines, atol=1e-12)


# Under jax.jit


@pytest.mark.parametrize("data", ["plain", "low rank"])
def test_the_numbers_are_the_same_where_all_is_traced(data):
    moments = rj.moments(*oracle.dataset(data))
    rank = int(rj.spectrum(moments).rank)
    dims = np.array([1, 3, rank, FEATURES])
    traced = jax.jit(certificate_arrays)
    for noise in (
        rn.patch_mask(0.75, (2, 2), SHAPE),
        rn.patch_mask(0.0, (2, 2), SHAPE),
    ):
        numbers = traced(moments, noise, jnp.asarray(dims))
        plain = certificate(moments, noise, [1, 3, rank])
        assert REASONS[int(numbers.reason)] == plain.reason
        for name in ("largest_change", "mean_squared_cosine", "gap", "ambiguous"):
            numbered = np.asarray(getattr(numbers, name))[:3]
            np.testing.assert_allclose(numbered, getattr(plain, name), atol=1e-9, err_msg=name)
        np.testing.assert_allclose(numbers.overlap[:rank], plain.overlap, atol=1e-9)
        # The worst label is one up to its sign: it is judged by what it varies with.
        second = np.asarray(moments.second_moment)
        for label, other in zip(numbers.worst_label[:3], plain.worst_label, strict=True):
            assert abs(label @ second @ other) == pytest.approx(other @ second @ other, abs=1e-6)
        assert bool(np.isnan(numbers.largest_change[3])) == (rank < FEATURES)
        places = np.flatnonzero(numbers.order_broken) + 1
        assert tuple(places.tolist()) == plain.order_broken
    assert traced._cache_size() == 1  # the strength and K are no part of the program


def test_numbers_of_several_strengths_at_once():
    moments = rj.moments(*oracle.dataset("plain"))

    def change(ratio):
        mask = rn.patch_mask(ratio, (2, 2), SHAPE)
        return certificate_arrays(moments, mask, [4]).largest_change[0]

    changes = jax.jit(jax.vmap(change))(jnp.array([0.25, 0.75]))
    for ratio, found in zip((0.25, 0.75), changes, strict=True):
        expected = certificate(moments, rn.patch_mask(ratio, (2, 2), SHAPE), [4])
        assert float(found) == pytest.approx(expected.largest_change[0], abs=1e-9)


# Precision, cost, bad input


def test_float32(float32):
    images, labels = oracle.dataset("plain")
    moments = rj.moments(images.astype(np.float32), labels)
    assert moments.second_moment.dtype == jnp.float32
    assert certificate(moments, rn.gaussian(0.5)).verdict == "never"
    found = certificate(moments, rn.patch_mask(0.75, (2, 2), SHAPE), [1, 4, 16])
    x, y = oracle.centered(images, labels)
    plain, features = (
        x @ oracle.encoder(one, np.inf)
        for one in (oracle.noiseless(x, y), dense_noisy("mask", x, y))
    )
    sines = [np.sin(linalg.subspace_angles(plain[:, :k], features[:, :k])[0]) for k in (1, 4, 16)]
    np.testing.assert_allclose(found.largest_change, sines, atol=2e-3)


def test_new_latent_dims_seldom_compile():
    images, labels = oracle.dataset("plain")
    moments = rj.moments(images, labels)
    noise = rn.patch_mask(0.75, (2, 2), SHAPE)
    certificate(moments, noise, [5])
    before = angles._largest_angle._cache_size()
    certificate(moments, noise, [6, 7, 8])
    assert angles._largest_angle._cache_size() == before


def test_a_shared_decomposition_gives_the_same():
    images, labels = oracle.dataset("low rank")
    moments = rj.moments(images, labels)
    noise = rn.patch_mask(0.75, (2, 2), SHAPE)
    alone = certificate(moments, noise)
    shared = certificate(moments, noise, principal=rj.spectrum(moments))
    np.testing.assert_array_equal(alone.largest_change, shared.largest_change)


@pytest.mark.parametrize(
    ("dims", "words"),
    [
        ([3, 10], ["latent_dim: 10", "1 .. 9", "rank 9 of 32"]),
        (0, ["latent_dim: 0", "1 .. 9"]),
        (2.5, ["latent_dim: 2.5"]),
        (float("nan"), ["latent_dim: nan"]),
    ],
)
def test_latent_dims_out_of_range(dims, words):
    moments = rj.moments(*oracle.dataset("low rank"))
    with pytest.raises(ValueError) as error:
        certificate(moments, rn.gaussian(0.5), dims)
    assert all(word in str(error.value) for word in words)
    assert "\n" not in str(error.value)


def test_a_noise_for_other_images():
    moments = rj.moments(*oracle.dataset("plain"))
    with pytest.raises(ValueError, match="64 features; the moments have 32"):
        certificate(moments, rn.patch_mask(0.5, (2, 2), (8, 8)))


@pytest.mark.slow
def test_one_direction_only():
    """With a single direction there is nothing to turn to."""
    x = np.random.default_rng(0).normal(size=(20, 1)) * np.array([1.0, 2.0])
    found = certificate(rj.moments(x, np.arange(20) % 2), rn.pixel_dropout(0.5, (2,)))
    assert (found.verdict, found.rank) == ("never", 1)
