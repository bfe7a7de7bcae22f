"""Eq. 7 against the paper's sample-side formulas, its chance line, and Proposition 1."""

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from scipy.ndimage import gaussian_filter

import reconjax as rj
from reconjax.data import load

DATA = ["plain", "short", "constant pixels", "low rank", "unbalanced"]


def arrays(data):
    images, labels = oracle.dataset(data)
    return images, labels, *oracle.centered(images, labels)


def left_vectors(x):
    """U of x = U S Vᵀ up to the rank."""
    left, singular, _ = np.linalg.svd(x, full_matrices=False)
    return left[:, singular > 1e-10 * singular[0]]


def curve(steps, size=32):
    """Cumulative sum over columns, flat from the last one on."""
    steps = np.cumsum(steps)
    return np.concatenate([steps, np.full(size - len(steps), steps[-1])])


def by_columns(matrix):
    return np.sum(matrix**2, axis=0)


def by_definition(convention, x, y, labels):
    """The four conventions, each from samples."""
    left = left_vectors(x)
    if convention == "loss":
        steps = by_columns(y.T @ left)
        return curve(steps) / np.sum(steps)
    if convention == "reference":
        one_hot = np.eye(labels.max() + 1)[labels]
        roots = np.sqrt(curve(by_columns(one_hot @ (one_hot.T @ left))))
        return roots / roots[-1]
    steps = by_columns(y @ (y.T @ left))
    whole = np.sum(steps) if convention == "eq7" else np.sum((y @ y.T) ** 2)
    return curve(steps) / whole


def both_sides(images, labels):
    return rj.spectrum(rj.moments(images, labels)), rj.spectrum_from_samples(images, labels)


# Curves


@pytest.mark.parametrize("convention", ["eq7", "loss", "sec58", "reference"])
@pytest.mark.parametrize("data", DATA)
def test_every_convention_is_its_formula_on_samples(data, convention):
    images, labels, x, y = arrays(data)
    expected = by_definition(convention, x, y, labels)
    for spectrum in both_sides(images, labels):
        found = rj.alignment(spectrum, convention=convention)
        assert found.alignment.shape == (32,)
        np.testing.assert_allclose(found.alignment, expected, rtol=0, atol=1e-10)
        left = left_vectors(x)
        total = np.sum((y @ (y.T @ left)) ** 2) / np.sum((y @ y.T) ** 2)
        assert float(found.total) == pytest.approx(total, rel=1e-9)
        assert int(found.rank) == left.shape[1]
        assert int(found.samples) == len(x)
        np.testing.assert_array_equal(found.latent_dim, np.arange(1, 33))


def test_the_conventions_differ_for_unbalanced_classes():
    spectrum = rj.spectrum(rj.moments(*oracle.dataset("unbalanced")))
    names = ("eq7", "loss", "sec58", "reference")
    curves = {name: rj.alignment(spectrum, convention=name).alignment for name in names}
    for i, name in enumerate(names):
        for other in names[:i]:
            assert jnp.max(jnp.abs(curves[name] - curves[other])) > 1e-3, (name, other)


def test_eq7_is_the_loss_form_for_balanced_classes():
    # S is then a multiple of the identity on what centered labels span.
    images, _ = oracle.dataset("plain")
    spectrum = rj.spectrum(rj.moments(images[:88], np.arange(88) % 4))
    eq7, loss = (rj.alignment(spectrum, convention=c).alignment for c in ("eq7", "loss"))
    np.testing.assert_allclose(eq7, loss, rtol=0, atol=1e-12)
    images, labels = oracle.dataset("unbalanced")
    balanced = rj.spectrum(rj.moments(images, labels, class_weight="balanced"))
    eq7, loss = (rj.alignment(balanced, convention=c).alignment for c in ("eq7", "loss"))
    np.testing.assert_allclose(eq7, loss, rtol=0, atol=1e-12)


@pytest.mark.parametrize("data", DATA)
def test_curves_grow_to_one_and_are_flat_past_the_rank(data):
    images, labels, _, _ = arrays(data)
    for spectrum in both_sides(images, labels):
        for convention, end in (("eq7", 1), ("loss", 1), ("reference", 1), ("sec58", None)):
            found = rj.alignment(spectrum, convention=convention)
            assert np.all(np.diff(found.alignment) >= 0)
            assert float(found.alignment[-1]) == pytest.approx(float(end or found.total), rel=1e-12)
            rank = int(found.rank)
            for past in (found.alignment, found.r2, found.chance, found.supervised_loss):
                np.testing.assert_allclose(past[rank - 1 :], past[rank - 1], rtol=0, atol=1e-12)
            np.testing.assert_allclose(found.reconstruction_loss[rank - 1 :], 0, atol=1e-10)


@pytest.mark.parametrize("data", DATA)
def test_losses_are_those_of_heads_and_decoders_on_principal_components(data):
    images, labels, x, y = arrays(data)
    expected = oracle.curves(x, y, oracle.noiseless(x, y), np.inf)
    for spectrum in both_sides(images, labels):
        found = rj.alignment(spectrum)
        np.testing.assert_allclose(found.supervised_loss, expected.clean, rtol=0, atol=1e-9)
        np.testing.assert_allclose(
            found.reconstruction_loss, expected.reconstruction, rtol=0, atol=1e-9
        )
        r2 = 1 - expected.clean * len(y) / np.sum(y**2)
        np.testing.assert_allclose(found.r2, r2, rtol=0, atol=1e-9)
        assert found.eigenvalues.shape == (32,)


def test_labels_that_the_inputs_determine_reach_a_total_of_one():
    x = np.eye(4)[np.arange(40) % 4] + 3.0
    found = rj.alignment(rj.spectrum(rj.moments(x, np.arange(40) % 4)))
    assert float(found.total) == pytest.approx(1)
    assert float(found.r2[-1]) == pytest.approx(1)


def test_alignment_under_jit_and_vmap():
    images, labels = oracle.dataset("plain")
    curves = jax.jit(lambda x: rj.alignment(rj.spectrum(rj.moments(x, labels, num_classes=4))))
    expected = rj.alignment(rj.spectrum(rj.moments(images, labels)))
    np.testing.assert_allclose(curves(images).alignment, expected.alignment, atol=1e-12)
    stacked = jax.vmap(curves)(jnp.stack([images, images[::-1]]))
    np.testing.assert_allclose(stacked.alignment[0], expected.alignment, atol=1e-12)
    assert jnp.max(jnp.abs(stacked.alignment[1] - expected.alignment)) > 1e-3


def test_float32_is_close(float32):
    for data in DATA:
        images, labels, x, y = arrays(data)
        for spectrum in both_sides(images, labels):
            for convention in ("eq7", "reference"):
                found = rj.alignment(spectrum, convention=convention)
                assert found.alignment.dtype == found.chance.dtype == jnp.float32
                expected = by_definition(convention, x, y, labels)
                np.testing.assert_allclose(found.alignment, expected, rtol=0, atol=1e-3)


# Chance


@pytest.mark.parametrize("data", ["plain", "low rank", "short"])
def test_the_chance_lines_are_the_means_over_permuted_labels(data):
    images, labels, _, y = arrays(data)
    rng = np.random.default_rng(0)
    spectrum = rj.spectrum_from_samples(images, labels)
    left = left_vectors(arrays(data)[2])
    found = rj.alignment(spectrum)
    draws = 400
    one = jax.jit(lambda coordinates: rj.alignment(spectrum._replace(labels=coordinates)))
    curves = {"r2": [], "alignment": []}
    for _ in range(draws):
        permuted = y[rng.permutation(len(y))].T @ left / len(y) ** 0.5
        drawn = one(np.pad(permuted, ((0, 0), (0, len(spectrum.eigenvalues) - left.shape[1]))))
        for name, values in curves.items():
            values.append(getattr(drawn, name))
    mean, error = np.mean(curves["r2"], 0), np.std(curves["r2"], 0) / draws**0.5
    assert np.all(np.abs(mean - found.r2_chance) <= 4 * error + 1e-12)
    np.testing.assert_allclose(np.mean(curves["alignment"], 0), found.chance, atol=0.02)
    # Real labels are far from chance, so the check can fail.
    if data != "short":
        assert np.max(np.abs(found.r2 - found.r2_chance)) > 0.2


def test_the_chance_lines_by_formula():
    images, labels = oracle.dataset("low rank")
    spectrum = rj.spectrum(rj.moments(images, labels))
    used = np.minimum(np.arange(1, 33), 9)
    for convention, expected in (
        ("eq7", used / 9),
        ("loss", used / 9),
        ("reference", np.sqrt(used / 9)),
        ("sec58", used / 89),
    ):
        found = rj.alignment(spectrum, convention=convention)
        np.testing.assert_allclose(found.chance, expected, rtol=1e-12)
        np.testing.assert_allclose(found.r2_chance, used / 89, rtol=1e-12)


# Proposition 1


def constructed(gains, coordinates, seed=0):
    """Inputs and targets with given singular values along known, centered sample directions.

    x = U diag(gains) Pᵀ and y = U diag(coordinates) Qᵀ.
    """
    rng = np.random.default_rng(seed)
    raw = rng.normal(size=(50, len(gains)))
    left = np.linalg.qr(raw - raw.mean(0))[0]
    p = np.linalg.qr(rng.normal(size=(len(gains),) * 2))[0]
    q = np.linalg.qr(rng.normal(size=(len(coordinates),) * 2))[0]
    y = left[:, : len(coordinates)] * coordinates @ q.T
    return left * gains @ p.T, y


GAINS = np.array([9.0, 7, 5, 4, 3, 2])


@pytest.mark.parametrize("latent_dim", [1, 2, 3])
def test_tasks_aligned_by_construction_are_found_aligned_and_do_not_depend_on_the_weight(
    latent_dim,
):
    x, y = constructed(GAINS, np.array([3.0, 2.0, 1.0]))
    for spectrum in both_sides(x, y):
        found = rj.proposition1(spectrum, latent_dim)
        assert (bool(found.aligned), bool(found.defined), bool(found.unique)) == (True,) * 3
        np.testing.assert_allclose(found.cosines[:latent_dim], 1, atol=1e-9)
        assert np.all(np.isnan(found.cosines[latent_dim:]))
    losses = [
        rj.theorem1(rj.spectrum(rj.moments(x, y)), weight).supervised_loss[latent_dim - 1]
        for weight in (0.0, 0.01, 1.0, 100.0, np.inf)
    ]
    np.testing.assert_allclose(losses, losses[0], atol=1e-10)


def test_a_task_on_weak_directions_is_not_aligned():
    # Labels prefer the third direction: at K = 3 the spaces agree, below they do not.
    x, y = constructed(GAINS, np.array([1.0, 2.0, 3.0]))
    spectrum = rj.spectrum(rj.moments(x, y))
    for latent_dim, aligned, cosines in ((1, False, [0]), (2, False, [1, 0]), (3, True, [1] * 3)):
        found = rj.proposition1(spectrum, latent_dim)
        assert bool(found.aligned) == aligned
        assert bool(found.defined)
        np.testing.assert_allclose(found.cosines[:latent_dim], cosines, atol=1e-9)


@pytest.mark.parametrize("latent_dim", [1, 2, 3])
def test_cosines_are_those_of_the_angles_between_sample_spaces(latent_dim):
    images, labels, x, y = arrays("unbalanced")
    inputs = left_vectors(x)[:, :latent_dim]
    targets = np.linalg.svd(y, full_matrices=False)[0][:, :latent_dim]
    expected = np.linalg.svd(inputs.T @ targets, compute_uv=False)
    for spectrum in both_sides(images, labels):
        found = rj.proposition1(spectrum, latent_dim)
        np.testing.assert_allclose(found.cosines[:latent_dim], expected, atol=1e-9)
        assert not bool(found.aligned)
        assert bool(found.defined)
        assert bool(found.unique)


def test_past_the_rank_of_labels_or_inputs_it_is_not_defined():
    images, labels = oracle.dataset("unbalanced")
    spectrum = rj.spectrum(rj.moments(images, labels))
    # Four classes, centered: rank 3.
    for latent_dim, defined in ((3, True), (4, False), (5, False), (32, False)):
        found = rj.proposition1(spectrum, latent_dim)
        assert bool(found.defined) == defined
        assert not (bool(found.aligned) and not defined)
        assert bool(np.all(np.isnan(found.cosines))) != defined
    with pytest.raises(ValueError, match=r"latent_dim: 40; 1 \.\. 32 is allowed"):
        rj.proposition1(spectrum, 40)
    x, y = constructed(np.array([3.0, 2.0, 0, 0]), np.array([3.0, 2.0, 1.0]))
    spectrum = rj.spectrum(rj.moments(x, y))
    assert bool(rj.proposition1(spectrum, 2).aligned)
    assert not bool(rj.proposition1(spectrum, 3).defined)


def test_an_eigenspace_cut_within_equal_eigenvalues_is_not_unique():
    images, _ = oracle.dataset("plain")
    balanced = rj.spectrum(rj.moments(images[:88], np.arange(88) % 4))
    # Balanced labels have C - 1 equal eigenvalues: only K = C - 1 takes all of them.
    for latent_dim, unique in ((1, False), (2, False), (3, True)):
        found = rj.proposition1(balanced, latent_dim)
        assert bool(found.unique) == unique
        assert bool(found.defined)
    x, y = constructed(np.array([3.0, 3.0, 1.0]), np.array([3.0, 2.0]))
    equal = rj.spectrum(rj.moments(x, y))
    assert not bool(rj.proposition1(equal, 1).unique)
    assert bool(rj.proposition1(equal, 2).unique)


def test_a_tolerance_decides_how_close_is_aligned():
    x, y = constructed(GAINS, np.array([3.0, 2.0]))
    y = y + 0.01 * np.random.default_rng(0).normal(size=y.shape) * np.abs(y).max()
    spectrum = rj.spectrum(rj.moments(x, y))
    assert not bool(rj.proposition1(spectrum, 2).aligned)
    assert bool(rj.proposition1(spectrum, 2, tolerance=0.1).aligned)


def test_a_tolerance_of_0_is_not_the_default():
    x, y = constructed(GAINS, np.array([3.0, 2.0]))
    y = y + 1e-6 * np.random.default_rng(0).normal(size=y.shape) * np.abs(y).max()
    spectrum = rj.spectrum(rj.moments(x, y))
    default = rj.proposition1(spectrum, 2)
    away = 1 - np.min(default.cosines[:2])
    assert 0 < away < 1e-9  # far within the default
    assert bool(default.aligned)
    assert not bool(rj.proposition1(spectrum, 2, tolerance=0).aligned)


def test_latent_dims_do_not_compile_again_and_may_be_traced():
    spectrum = rj.spectrum(rj.moments(*oracle.dataset("unbalanced")))
    found = jax.vmap(lambda k: rj.proposition1(spectrum, k).defined)(jnp.arange(1, 6))
    assert found.tolist() == [True, True, True, False, False]


# Errors


def test_what_has_no_alignment_is_refused():
    images, labels = oracle.dataset("plain")
    spectrum = rj.spectrum(rj.moments(images, labels))
    with pytest.raises(ValueError, match="convention: 'eq8'; one of eq7, loss, sec58, reference"):
        rj.alignment(spectrum, convention="eq8")
    without = rj.spectrum(rj.moments(images, np.zeros((len(images), 0))))
    with pytest.raises(ValueError, match="spectrum: has no labels; alignment needs them"):
        rj.alignment(without)
    with pytest.raises(TypeError, match=r"pass reconjax\.spectrum"):
        rj.alignment(rj.moments(images, labels))
    for latent_dim in (0, -3, 1.5):
        with pytest.raises(ValueError, match=f"latent_dim: {latent_dim}; 1 .. "):
            rj.proposition1(spectrum, latent_dim)


# Rounding


@pytest.mark.parametrize(
    "name",
    ["digits", pytest.param("scenes:size=16", marks=pytest.mark.slow), "plain", "unbalanced"],
)
def test_the_error_of_float32_is_estimated(name):
    if name in DATA:
        images, labels = oracle.dataset(name)
    else:
        train = load(name).train
        images, labels = train.examples(np.arange(len(train)))
    moments = rj.moments(images, labels)
    exact = rj.alignment(rj.spectrum(moments))
    single = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), moments)
    found = rj.alignment(rj.spectrum(single))
    # What the cut-off took from the last directions is not part of the estimate.
    last = min(int(found.rank), int(exact.rank)) - 1
    change = np.asarray(found.r2, float) - np.asarray(exact.r2)
    error = np.max(np.abs(change[:last]))
    stated = float(np.max(found.error[:last]))
    assert error / 3 < stated < 100 * error
    assert float(np.max(exact.error[:last])) < 1e-6 * stated


@pytest.mark.parametrize(("samples", "size"), [(20, 8), (60, 16), (1500, 16)])
def test_directions_that_rounding_hides_are_part_of_the_error(samples, size):
    # Smooth float images: the spectrum goes on far below rounding.
    rng = np.random.default_rng(0)
    images = rng.standard_normal((samples, size, size))
    images = (gaussian_filter(images, (0, 3, 3)) * 10.5).astype(np.float32)
    labels = np.arange(samples) % 2
    both = [
        rj.spectrum(rj.moments(images[..., None], labels)),
        rj.spectrum_from_samples(images[..., None], labels),
    ]
    # The samples themselves, which no square has rounded.
    x = images.reshape(samples, -1).astype(float)
    y = np.eye(2)[labels]
    vectors, _, _ = np.linalg.svd(x - x.mean(0), full_matrices=False)
    steps = np.sum((vectors.T @ (y - y.mean(0))) ** 2, axis=1) / np.sum((y - y.mean(0)) ** 2)
    true = np.cumsum(steps)[: samples - 1]
    for spectrum in both:
        found = rj.alignment(spectrum)
        error = np.abs(np.asarray(found.r2)[: len(true)] - true)
        assert np.all(error <= 10 * np.asarray(found.error)[: len(true)])
    hidden = float(found.error[-1] - found.error[int(found.rank) - 1])
    assert (hidden > 0.1) == (error[-1] > 1e-3)


@pytest.mark.parametrize("data", DATA)
def test_each_target_alone_is_explained_as_by_least_squares(data):
    images, labels, x, y = arrays(data)
    spectrum = rj.spectrum(rj.moments(images, labels, num_classes=y.shape[1]))
    found = np.asarray(rj.theory.r2_by_target(spectrum))
    explained = (y.T @ left_vectors(x)) ** 2
    expected = np.stack([curve(row) for row in explained]) / np.sum(y**2, axis=0)[:, None]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)
    # Weighed by their variances, they are r2 of all.
    variance = np.sum(y**2, axis=0)
    np.testing.assert_allclose(
        variance @ found / variance.sum(), rj.alignment(spectrum).r2, atol=1e-12
    )


def test_a_target_that_does_not_vary_is_not_explained_and_many_classes_are():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 6))
    targets = np.stack([x[:, 0], np.ones(40)], axis=1)
    found = np.asarray(rj.theory.r2_by_target(rj.spectrum(rj.moments(x, targets))))
    np.testing.assert_allclose(found[:, -1], [1, 0], atol=1e-12)
    labels = np.arange(1200) % 600
    x = rng.normal(size=(1200, 6))
    many = rj.theory.r2_by_target(rj.spectrum(rj.moments(x, labels, num_classes=600)))
    one_hot = (labels == 7) - np.mean(labels == 7)
    fitted = np.linalg.lstsq(x - x.mean(0), one_hot, rcond=None)[0]
    residual = one_hot - (x - x.mean(0)) @ fitted
    assert float(many[7, -1]) == pytest.approx(1 - residual @ residual / (one_hot @ one_hot))
