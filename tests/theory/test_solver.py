"""The closed forms of Theorems 1, 2 and 3 against dense oracles, samples and gradient descent."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import oracle
import pytest
from oracle import SHAPE

import reconjax as rj
from reconjax import noise as rn
from reconjax.theory.solver import _solve

WEIGHTS = [0.0, 1e-3, 1.0, 1e3, np.inf]
DATA = ["plain", "short", "constant pixels", "low rank", "unbalanced"]


def bernoulli(ratio, patch, share_channels=True):
    noise = rn.patch_mask(ratio, patch, SHAPE, share_channels=share_channels, partial=True)
    groups = oracle.patch_groups(SHAPE, patch, share_channels)
    masks = oracle.bernoulli_masks(groups.max() + 1, ratio)
    return noise, lambda clean: oracle.with_masks(clean, groups, *masks)


def exact(ratio, patch):
    groups = oracle.patch_groups(SHAPE, patch)
    count = groups.max() + 1
    masks = oracle.exact_masks(count, round((1 - ratio) * count))
    noise = rn.exact_patch_mask(ratio, patch, SHAPE)
    return noise, lambda clean: oracle.with_masks(clean, groups, *masks)


def dropout(ratio, patch=None):
    if patch is None:
        noise, groups = rn.pixel_dropout(ratio, SHAPE), np.arange(32)
    else:
        noise, groups = rn.patch_mask(ratio, patch, SHAPE), oracle.patch_groups(SHAPE, patch)
    return noise, lambda clean: oracle.with_dropout(clean, groups, ratio)


def additive(std):
    return rn.gaussian(std), lambda clean: oracle.with_gaussian(clean, std)


def after(first, second):
    return rn.chain(first[0], second[0]), lambda clean: second[1](first[1](clean))


# name: (noise of the library, the oracle's noisy moments from the clean ones)
NOISES = {
    "none": (None, lambda clean: clean),
    "gaussian": additive(0.5),
    "pixels": dropout(0.4),
    "1x1 patches": dropout(0.9, (1, 1)),
    "2x2 patches": bernoulli(0.6, (2, 2)),
    "4x2 patches": bernoulli(0.75, (4, 2)),
    "1x4 patches of one channel": bernoulli(0.3, (1, 4), share_channels=False),
    "partial 3x3 patches": bernoulli(0.5, (3, 3)),
    "exactly 2 of 4": exact(0.5, (2, 2)),
    "exactly 2 of 8": exact(0.75, (1, 2)),
    "mask, then gaussian": after(bernoulli(0.5, (2, 2)), additive(0.3)),
    "gaussian, then mask": after(additive(0.3), bernoulli(0.5, (2, 2))),
}


def close(actual, expected, *, rtol=0.0, atol=0.0):
    np.testing.assert_allclose(actual, expected, rtol=rtol, atol=atol)


def arrays(name):
    x, labels = oracle.dataset(name)
    return x, labels, *oracle.centered(x, labels)


def assert_losses(found, expected, readout, x, y, tolerance=1e-8):
    """Both curves, relative to what there is to explain (tr S and tr M)."""
    size = len(found.supervised_loss)
    for curve, oracle_curve, total in (
        (found.supervised_loss, expected.supervised(readout), np.sum(y**2) / len(y)),
        (found.reconstruction_loss, expected.reconstruction, np.sum(x**2) / len(x)),
    ):
        close(curve, oracle_curve[:size], atol=tolerance * total)


# Theorems 1 and 3 for every K


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("data", DATA)
def test_losses_of_solve_are_those_of_the_oracle_for_every_latent_dim(data, noise):
    images, labels, x, y = arrays(data)
    library, oracle_noise = NOISES[noise]
    noisy = oracle_noise(oracle.noiseless(x, y))
    problem = rj.problem(rj.moments(images, labels), library)
    for weight in WEIGHTS:
        expected = oracle.curves(x, y, noisy, weight)
        for readout in ("clean", "noisy"):
            found = rj.solve(problem, weight, readout=readout)
            assert_losses(found, expected, readout, x, y)


@pytest.mark.parametrize("weight", WEIGHTS)
@pytest.mark.parametrize("data", DATA)
def test_losses_of_theorem1_are_those_of_the_oracle_on_either_side(data, weight):
    images, labels, x, y = arrays(data)
    expected = oracle.curves(x, y, oracle.noiseless(x, y), weight)
    sides = rj.spectrum(rj.moments(images, labels)), rj.spectrum_from_samples(images, labels)
    assert sides[1].eigenvalues.shape == (min(x.shape),)
    for spectrum in sides:
        found = rj.theorem1(spectrum, weight)
        assert_losses(found, expected, "clean", x, y)
        close(found.r2, 1 - found.supervised_loss * len(y) / np.sum(y**2), atol=1e-12)


def test_the_noises_of_this_file_do_change_the_losses():
    x, y = oracle.centered(*oracle.dataset("plain"))
    clean = oracle.noiseless(x, y)
    plain = oracle.curves(x, y, clean, 1.0)
    for name, (_, oracle_noise) in NOISES.items():
        other = oracle.curves(x, y, oracle_noise(clean), 1.0)
        difference = np.max(np.abs(other.reconstruction - plain.reconstruction))
        assert (difference > 1e-3) == (name != "none"), name


@pytest.mark.parametrize("noise", ["none", "gaussian", "2x2 patches", "exactly 2 of 8"])
@pytest.mark.parametrize("data", ["plain", "short", "low rank"])
def test_weight_zero_is_the_limit_of_small_weights(data, noise):
    problem = rj.problem(rj.moments(*oracle.dataset(data)), NOISES[noise][0])
    limit = rj.solve(problem, 0.0)
    gaps = []
    for weight in (1e-5, 1e-7):
        near = rj.solve(problem, weight)
        gaps.append(
            max(
                jnp.max(jnp.abs(near.supervised_loss - limit.supervised_loss)),
                jnp.max(jnp.abs(near.reconstruction_loss - limit.reconstruction_loss)),
            )
        )
    # The distance is of the first order in the weight (or rounding).
    assert gaps[1] < 0.1 * gaps[0] + 1e-8
    assert gaps[1] < 1e-3


@pytest.mark.parametrize("std", [1e-6, 1e-3])
@pytest.mark.parametrize("data", ["short", "constant pixels", "low rank"])
def test_little_noise_on_data_without_full_rank_is_harmless(data, std):
    # Whitening magnifies rounding where there is no data: no K may be spent on it.
    images, labels, x, y = arrays(data)
    noisy = oracle.with_gaussian(oracle.noiseless(x, y), std)
    problem = rj.problem(rj.moments(images, labels), rn.gaussian(std))
    expected = oracle.curves(x, y, noisy, np.inf)
    assert_losses(rj.solve(problem), expected, "clean", x, y, 1e-7)
    for weight in (0.0, 1e-12, 1e-9, 1e-6):
        found = rj.solve(problem, weight).supervised_loss
        assert np.all(np.diff(found) <= 1e-9)
        close(found[-1], expected.clean[-1], atol=1e-7)


@pytest.mark.parametrize("noise", ["none", "2x2 patches"])
def test_at_weight_zero_reconstruction_orders_directions_that_explain_equally_much(noise):
    # Without noise, N < D and balanced classes every label direction is explained whole, and all
    # label variances are equal: the supervised loss leaves their order open.
    rng = np.random.default_rng(3)
    labels = np.arange(16) % 4
    x = rng.normal(size=(16, 32)) * np.geomspace(1, 0.2, 32)
    flat, y = oracle.centered(x, labels)
    noisy = NOISES[noise][1](oracle.noiseless(flat, y))
    found = rj.solve(rj.problem(rj.moments(x, labels), NOISES[noise][0]), 0.0)
    assert_losses(found, oracle.curves(flat, y, noisy, 0.0), "clean", flat, y, 1e-7)
    if noise == "none":
        by_spectrum = rj.theorem1(rj.spectrum_from_samples(x, labels), 0.0)
        assert_losses(by_spectrum, oracle.curves(flat, y, noisy, 0.0), "clean", flat, y, 1e-7)


# Encoder, head and decoder themselves


def plugged_in(solution, latent_dim, x, y, masks):
    """Losses of V, W, Z on the samples, averaged over an enumeration of masks."""
    encoder, decoder = solution.encoder[:, :latent_dim], solution.decoder[:latent_dim]
    head = solution.head(latent_dim)
    clean = noisy = reconstruction = 0.0
    for mask, chance in zip(*masks, strict=True):
        codes = x * mask @ encoder
        noisy += chance * np.sum((codes @ head - y) ** 2) / len(x)
        reconstruction += chance * np.sum((codes @ decoder - x) ** 2) / len(x)
    clean = np.sum((x @ encoder @ head - y) ** 2) / len(x)
    return clean, noisy, reconstruction


@pytest.mark.parametrize("readout", ["clean", "noisy"])
@pytest.mark.parametrize("weight", [0.0, 1.0, np.inf])
@pytest.mark.parametrize("data", ["plain", "short", "constant pixels"])
def test_encoder_head_and_decoder_give_the_reported_losses_on_masked_samples(data, weight, readout):
    images, labels, x, y = arrays(data)
    groups = oracle.patch_groups(SHAPE, (2, 2))
    masks, chances = oracle.bernoulli_masks(4, 0.4)
    problem = rj.problem(rj.moments(images, labels), rn.patch_mask(0.4, 2, SHAPE))
    found = rj.solve(problem, weight, readout=readout)
    for latent_dim in (1, 2, 5, 11, 32):
        losses = plugged_in(found, latent_dim, x, y, (masks[:, groups], chances))
        supervised, reconstruction = losses[readout == "noisy"], losses[2]
        close(supervised, found.supervised_loss[latent_dim - 1], atol=1e-8)
        close(reconstruction, found.reconstruction_loss[latent_dim - 1], atol=1e-8)
    gram = found.encoder.T @ problem.noisy_second_moment @ found.encoder
    expected = np.diag(np.arange(32) < int(found.rank)).astype(float)
    close(gram, expected, atol=1e-9)


@pytest.mark.parametrize("weight", WEIGHTS)
@pytest.mark.parametrize("data", ["plain", "short", "low rank"])
def test_weights_of_theorem1_give_the_reported_losses_on_samples(data, weight):
    images, labels, x, y = arrays(data)
    for spectrum in (
        rj.spectrum(rj.moments(images, labels)),
        rj.spectrum_from_samples(images, labels),
    ):
        found = rj.theorem1(spectrum, weight)
        for latent_dim in (1, 3, 8, len(found.r2)):
            clean, _, reconstruction = plugged_in(
                found, latent_dim, x, y, (np.ones((1, 32)), np.ones(1))
            )
            close(clean, found.supervised_loss[latent_dim - 1], atol=1e-9)
            close(reconstruction, found.reconstruction_loss[latent_dim - 1], atol=1e-9)
        gram = found.encoder.T @ (x.T @ x / len(x)) @ found.encoder
        close(gram, np.diag(np.arange(len(gram)) < int(found.rank)), atol=1e-9)


@pytest.mark.parametrize("std", [0.1, 2.0])
def test_gaussian_losses_follow_from_the_weights_and_the_variance_of_the_noise(std):
    # E‖A(x + σε) − t‖² = E‖Ax − t‖² + σ²‖A‖².
    images, labels, x, y = arrays("plain")
    problem = rj.problem(rj.moments(images, labels), rn.gaussian(std))
    found = rj.solve(problem, 0.7, readout="noisy")
    for latent_dim in (1, 4, 32):
        to_labels = found.encoder[:, :latent_dim] @ found.head(latent_dim)
        to_inputs = found.encoder[:, :latent_dim] @ found.decoder[:latent_dim]
        for weights, target, curve in (
            (to_labels, y, found.supervised_loss),
            (to_inputs, x, found.reconstruction_loss),
        ):
            clean = np.sum((x @ weights - target) ** 2) / len(x)
            total = clean + std**2 * jnp.sum(weights**2)
            close(total, curve[latent_dim - 1], atol=1e-10)


def test_no_other_encoder_does_better():
    images, labels, x, y = arrays("plain")
    noisy = NOISES["2x2 patches"][1](oracle.noiseless(x, y))
    problem = rj.problem(rj.moments(images, labels), NOISES["2x2 patches"][0])
    found = rj.solve(problem, 0.5, readout="noisy")
    best = found.supervised_loss + 0.5 * found.reconstruction_loss
    rng = np.random.default_rng(0)
    for distance in (1e-3, 0.1, 10):
        moved = np.asarray(found.encoder) + distance * rng.normal(size=(32, 32))
        other = oracle.losses_of(moved, x, y, noisy)
        assert np.all(other.noisy + 0.5 * other.reconstruction >= best - 1e-10)


# Gradient descent


def tiny():
    """Inputs of 6 values in 3 groups, centered, with all their masks."""
    rng = np.random.default_rng(1)
    labels = np.arange(40) % 3
    x = rng.normal(size=(40, 6)) @ rng.normal(size=(6, 6)) + rng.normal(size=(3, 6))[labels]
    masks = oracle.bernoulli_masks(3, 0.5)[0][:, oracle.patch_groups((3, 2, 1), (1, 2))]
    return x, labels, *oracle.centered(x, labels), masks


@jax.jit
def descend(weight, chances, steps=4000):
    """What Adam makes of the loss, averaged over all masks; the best of three random starts."""
    _, _, x, y, masks = tiny()
    seen = jnp.asarray(x * masks[:, None])
    optimizer = optax.adam(optax.cosine_decay_schedule(0.03, steps))

    def loss(params):
        encoder, head, decoder = params
        codes = seen @ encoder
        supervised = jnp.sum((codes @ head - y) ** 2, axis=(1, 2))
        reconstruction = jnp.sum((codes @ decoder - x) ** 2, axis=(1, 2))
        return chances @ (supervised + weight * reconstruction) / len(x)

    def run(key):
        shapes = zip(jax.random.split(key, 3), [(6, 2), (2, 3), (2, 6)], strict=True)
        params = [0.3 * jax.random.normal(subkey, shape) for subkey, shape in shapes]

        def step(_, carry):
            params, state = carry
            updates, state = optimizer.update(jax.grad(loss)(params), state)
            return optax.apply_updates(params, updates), state

        return loss(jax.lax.fori_loop(0, steps, step, (params, optimizer.init(params)))[0])

    return jnp.min(jax.vmap(run)(jax.random.split(jax.random.key(0), 3)))


@pytest.mark.parametrize("ratio", [0.0, 0.5], ids=["theorem 1", "theorem 3"])
@pytest.mark.parametrize("weight", [0.3, 3.0])
def test_gradient_descent_reaches_the_closed_form_and_never_beats_it(weight, ratio):
    x, labels, *_ = tiny()
    noise = rn.patch_mask(ratio, (1, 2), (3, 2, 1)) if ratio else None
    found = rj.solve(rj.problem(rj.moments(x, labels), noise), weight, readout="noisy")
    closed = found.supervised_loss[1] + weight * found.reconstruction_loss[1]
    with jax.numpy_dtype_promotion("standard"):  # optax counts its steps in int32
        reached = descend(weight, oracle.bernoulli_masks(3, ratio)[1])
    assert closed * (1 - 1e-12) <= reached <= closed * (1 + 1e-4)


# Corollaries


def test_corollary_1_1_without_reconstruction_is_ordinary_least_squares():
    images, labels, x, y = arrays("plain")
    expected = np.linalg.lstsq(x, y)[0]
    found = rj.solve(rj.problem(rj.moments(images, labels)), 0.0)
    for latent_dim in (4, 10, 32):  # K >= C
        product = found.encoder[:, :latent_dim] @ found.head(latent_dim)
        close(product, expected, atol=1e-9)


@pytest.mark.parametrize("data", DATA)
def test_corollary_1_1_with_reconstruction_alone_is_pca(data):
    images, labels, x, _ = arrays(data)
    _, singular, right = np.linalg.svd(x, full_matrices=False)
    found = rj.solve(rj.problem(rj.moments(images, labels)), np.inf)
    for latent_dim in (1, 4, 8):
        projector = right[:latent_dim].T @ right[:latent_dim]
        product = found.encoder[:, :latent_dim] @ found.decoder[:latent_dim]
        close(product, projector, atol=1e-9)
        lost = np.sum(singular[latent_dim:] ** 2) / len(x)
        close(found.reconstruction_loss[latent_dim - 1], lost, atol=1e-10)


def test_corollary_1_2_the_loss_on_principal_components_is_that_of_their_projections():
    images, labels, x, y = arrays("unbalanced")
    left = np.linalg.svd(x, full_matrices=False)[0]
    r2 = np.cumsum(np.sum((y.T @ left) ** 2, axis=0)) / len(y)
    found = rj.solve(rj.problem(rj.moments(images, labels)), np.inf)
    close(found.supervised_loss, np.sum(y**2) / len(y) - r2, atol=1e-10)


@pytest.mark.parametrize("data", DATA)
def test_corollary_3_1_gaussian_noise_changes_no_supervised_loss_of_clean_inputs(data):
    images, labels, _, _ = arrays(data)
    moments = rj.moments(images, labels)
    without = rj.solve(rj.problem(moments))
    for std in (1e-3, 0.3, 1.0, 30.0):
        problem = rj.problem(moments, rn.gaussian(std))
        found = rj.solve(problem)
        close(found.supervised_loss, without.supervised_loss, atol=1e-8)
        noisy = rj.solve(problem, readout="noisy").supervised_loss
        if std >= 0.3:
            assert jnp.max(jnp.abs(noisy - without.supervised_loss)) > 1e-2


def test_corollary_3_1_holds_for_reconstruction_alone():
    moments = rj.moments(*oracle.dataset("plain"))
    without = rj.solve(rj.problem(moments), 1.0).supervised_loss
    found = rj.solve(rj.problem(moments, rn.gaussian(1.0)), 1.0).supervised_loss
    assert jnp.max(jnp.abs(found - without)) > 1e-3


# What the closed forms imply for masks


@pytest.mark.parametrize(("patch", "ratio"), [((2, 2), 0.5), ((1, 1), 0.75), ((1, 2), 0.25)])
@pytest.mark.parametrize("weight", WEIGHTS)
def test_exact_masks_are_bernoulli_masks_at_a_higher_ratio_for_clean_inputs(patch, ratio, weight):
    moments = rj.moments(*oracle.dataset("plain"))
    count = 16 // (patch[0] * patch[1])
    kept = round((1 - ratio) * count)
    equal = (count - kept) / (count - 1)
    exact = rj.problem(moments, rn.exact_patch_mask(ratio, patch, SHAPE))
    bernoulli = rj.problem(moments, rn.patch_mask(equal, patch, SHAPE))
    plain = rj.problem(moments, rn.patch_mask(ratio, patch, SHAPE))
    # x' / q has the same moments for both, and a scale of x' changes nothing.
    if 0 < weight < np.inf:
        share = kept / count / (1 - equal)
        close(exact.noisy_label_moment, share * bernoulli.noisy_label_moment, rtol=1e-12)
    found = rj.solve(exact, weight).supervised_loss
    close(found, rj.solve(bernoulli, weight).supervised_loss, atol=1e-9)
    assert jnp.max(jnp.abs(found - rj.solve(plain, weight).supervised_loss)) > 1e-5


def test_a_ratio_towards_zero_gives_pca():
    moments = rj.moments(*oracle.dataset("plain"))
    pca = rj.solve(rj.problem(moments)).supervised_loss
    gaps = [
        jnp.max(
            jnp.abs(rj.solve(rj.problem(moments, rn.patch_mask(p, 2, SHAPE))).supervised_loss - pca)
        )
        for p in (1e-2, 1e-4, 0.0)
    ]
    assert gaps[0] > gaps[1] > gaps[2]
    assert gaps[2] < 1e-10


@pytest.mark.parametrize("ratio", [0.3, 0.9])
def test_masking_the_whole_image_at_once_changes_no_representation(ratio):
    moments = rj.moments(*oracle.dataset("plain"))
    found = rj.solve(rj.problem(moments, rn.patch_mask(ratio, (4, 4), SHAPE)), 1.0)
    without = rj.solve(rj.problem(moments), 1.0)
    close(found.supervised_loss, without.supervised_loss, atol=1e-9)
    apart = rn.patch_mask(ratio, (4, 4), SHAPE, share_channels=False)
    other = rj.solve(rj.problem(moments, apart), 1.0)
    assert jnp.max(jnp.abs(other.supervised_loss - without.supervised_loss)) > 1e-4


@pytest.mark.parametrize("factor", [1e-4, 1e4])
def test_a_common_scale_of_the_inputs_changes_nothing_but_the_unit(factor):
    images, labels = oracle.dataset("plain")
    noise = rn.patch_mask(0.5, 2, SHAPE)
    found = rj.solve(rj.problem(rj.moments(images * factor, labels), noise))
    one = rj.solve(rj.problem(rj.moments(images, labels), noise))
    close(found.supervised_loss, one.supervised_loss, atol=1e-9)
    close(found.reconstruction_loss / factor**2, one.reconstruction_loss, atol=1e-9)


# Theorem 2


@pytest.mark.parametrize("weight", WEIGHTS)
@pytest.mark.parametrize("data", ["plain", "short"], ids=["D + C < N", "D + C > N"])
def test_theorem_2_codes_are_the_top_eigenvectors_of_the_summed_gram_matrices(data, weight):
    _, _, x, y = arrays(data)
    alpha, beta = (0.0, 1.0) if np.isinf(weight) else (1.0, weight)
    values, vectors = np.linalg.eigh(alpha * y @ y.T + beta * x @ x.T)
    values, vectors = values[::-1], vectors[:, ::-1]
    scale = 1.0 if np.isinf(weight) else 1 + weight
    for latent_dim in (1, 2, 3, 10):
        codes, gains = rj.optimal_codes(x, y, weight, latent_dim)
        close(gains * scale, values[:latent_dim], atol=1e-9 * values[0])
        reach = vectors[:, :latent_dim] * (values[:latent_dim] > 1e-10 * values[0])
        close(codes @ codes.T, reach @ reach.T, atol=1e-7)
        # Plugging in: the best linear head and decoder on the codes.
        loss = sum(
            w * np.sum((target - codes @ np.linalg.lstsq(codes, target)[0]) ** 2)
            for w, target in ((alpha, y), (beta, x))
        )
        total = alpha * np.sum(y**2) + beta * np.sum(x**2)
        close(loss, total - np.sum(gains) * scale, atol=1e-9 * total)


def test_theorem_2_bounds_what_a_linear_encoder_can_do():
    images, labels, x, y = arrays("plain")
    found = rj.theorem1(rj.spectrum_from_samples(images, labels), 0.5)
    for latent_dim in (1, 5, 20):
        gains = rj.optimal_codes(x, y, 0.5, latent_dim)[1]
        best = np.sum(y**2) + 0.5 * np.sum(x**2) - 1.5 * jnp.sum(gains)
        linear = found.supervised_loss + 0.5 * found.reconstruction_loss
        assert best <= len(x) * linear[latent_dim - 1]


# Gradients, vmap, traces


def generic():
    return rj.moments(*oracle.dataset("plain"))


def masked_loss(parameters):
    """A loss as a function of mask ratio, weight and a change of the labels' moments."""
    ratio, weight, step = parameters
    moments = generic()
    change = 0.1 * jnp.sin(jnp.arange(32.0 * 4)).reshape(32, 4)
    moved = dataclasses.replace(moments, cross_moment=moments.cross_moment + step * change)
    problem = rj.problem(moved, rn.patch_mask(ratio, 2, SHAPE))
    return rj.solve(problem, weight).supervised_loss[4]


def gaussian_loss(parameters):
    std, weight = parameters
    problem = rj.problem(generic(), rn.gaussian(std))
    return rj.solve(problem, weight, readout="noisy").supervised_loss[4]


def spectrum_loss(parameters):
    return rj.theorem1(rj.spectrum(generic()), parameters[0]).reconstruction_loss[4]


@pytest.mark.parametrize(
    ("loss", "at"),
    [(masked_loss, [0.4, 0.7, 0.0]), (gaussian_loss, [0.6, 0.7]), (spectrum_loss, [0.5])],
    ids=["mask ratio, weight, cross moment", "std, weight", "weight of theorem 1"],
)
def test_gradients_of_a_loss_are_finite_differences(loss, at):
    gradient = jax.grad(loss)(jnp.array(at))
    for i, step in enumerate(1e-5 * np.eye(len(at))):
        expected = (loss(at + step) - loss(at - step)) / 2e-5
        assert abs(expected) > 1e-4
        close(gradient[i], expected, rtol=1e-5)


def test_vmap_over_the_mask_ratio_equals_one_by_one():
    ratios = jnp.array([0.1, 0.5, 0.9])
    moments = generic()

    def curve(ratio):
        return rj.solve(rj.problem(moments, rn.patch_mask(ratio, 2, SHAPE)), 1.0).supervised_loss

    together = jax.vmap(curve)(ratios)
    for row, ratio in zip(together, ratios, strict=True):
        close(row, curve(ratio), atol=1e-12)


def test_other_weights_and_ratios_do_not_compile_again():
    moments = generic()
    rj.solve(rj.problem(moments, rn.patch_mask(0.1, 2, SHAPE)), 0.1)
    size = _solve._cache_size()
    for ratio, weight in ((0.3, 0), (0.5, 1), (0.7, np.inf)):
        rj.solve(rj.problem(moments, rn.patch_mask(ratio, 1, SHAPE)), weight)
    assert _solve._cache_size() == size
    rj.solve(rj.problem(moments), 0.1, readout="noisy")
    rj.solve(rj.problem(rj.moments(np.eye(5), np.arange(5), num_classes=5)), 0.1)
    assert _solve._cache_size() > size


@pytest.mark.parametrize("data", ["plain", "short"])
def test_float32_agrees_on_well_conditioned_data(float32, data):
    images, labels, x, y = arrays(data)
    assert rj.moments(images, labels).second_moment.dtype == jnp.float32
    for name, (noise, oracle_noise) in NOISES.items():
        noisy = oracle_noise(oracle.noiseless(x, y))
        for weight in WEIGHTS:
            problem = rj.problem(rj.moments(images, labels), noise and cast(noise))
            found = rj.solve(problem, weight)
            assert found.encoder.dtype == jnp.float32, name
            # At the smallest weight, what orders the directions is itself close to rounding.
            tolerance = 4e-3 if weight == 1e-3 else 1e-3
            expected = oracle.curves(x, y, noisy, weight)
            assert_losses(found, expected, "clean", x, y, tolerance)


def cast(noise):
    """The noise's parameters in float32."""
    return jax.tree.map(
        lambda leaf: leaf.astype(jnp.float32) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf,
        noise,
    )


# Errors


@pytest.mark.parametrize("weight", [-1e-9, -1, np.nan, -np.inf])
def test_weights_out_of_range_are_refused(weight):
    moments = generic()
    x, y = np.eye(3), np.eye(3)
    for call in (
        lambda: rj.solve(rj.problem(moments), weight),
        lambda: rj.theorem1(rj.spectrum(moments), weight),
        lambda: rj.optimal_codes(x, y, weight, 1),
    ):
        with pytest.raises(ValueError, match=rf"reconstruction_weight: {weight}; .*\[0, inf\]"):
            call()


def test_what_is_no_problem_is_refused():
    with pytest.raises(ValueError, match=r"problem: Moments; make one with `reconjax.problem\("):
        rj.solve(generic())


def test_an_unknown_readout_is_refused():
    with pytest.raises(ValueError, match="readout: 'dirty'; 'clean' or 'noisy'"):
        rj.solve(rj.problem(generic()), readout="dirty")


@pytest.mark.parametrize("latent_dim", [0, -1, 33])
def test_latent_dims_out_of_range_are_refused(latent_dim):
    found = rj.solve(rj.problem(generic()))
    with pytest.raises(ValueError, match=rf"latent_dim: {latent_dim}; 1 .. 32 is allowed"):
        found.head(latent_dim)
    with pytest.raises(ValueError, match=r"latent_dim: .*; 1 .. 3 is allowed"):
        rj.optimal_codes(np.eye(3), np.eye(3), 1.0, latent_dim)


def test_codes_need_matrices_of_one_length():
    for x, y in ((np.eye(3), np.eye(4)), (np.ones(3), np.eye(3)), (np.eye(3), np.ones(3))):
        with pytest.raises(ValueError, match=r"x, y: shapes .* and .* are needed"):
            rj.optimal_codes(x, y, 1.0, 1)


@pytest.mark.parametrize("wrap", [lambda n: n, lambda n: rn.chain(rn.gaussian(1.0), n)])
def test_a_noise_for_other_images_is_refused(wrap):
    noise = wrap(rn.patch_mask(0.5, 2, (4, 4, 3)))
    with pytest.raises(ValueError, match="noise: made for 48 features; the moments have 32"):
        rj.problem(generic(), noise)
