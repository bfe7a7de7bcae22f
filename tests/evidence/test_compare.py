"""Comparisons against dense least squares, the choice of strengths, and what chance gives."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import linalg, ndimage

import reconjax
from reconjax.evidence.comparison import Comparison, compare, concatenated
from reconjax.evidence.places import ranking
from reconjax.grid.kernel import solve_grid
from reconjax.noise.families import NAMES, Family, families, parse_noise
from reconjax.plots import comparison_figure, learned_mask_figure
from reconjax.theory.held_out import held_out

SHAPE = (4, 4, 1)
DIMS = np.array([2, 5])
FOLDS = 5
TEXTS = ["mask:0.25:2x2", "mask:0.9:2x2", "shift:1"]


def images(count, seed, signal=1.0):
    """Smooth images of three classes."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    coarse = rng.normal(size=(count, 2, 2, 1))
    coarse[:, 0, 0, 0] += signal * labels
    x = np.repeat(np.repeat(coarse, 2, axis=1), 2, axis=2)
    return x + 0.5 * rng.normal(size=x.shape), labels


@pytest.fixture(scope="module")
def data():
    x, labels = images(300, 0)
    folds = [images(30, seed) for seed in range(1, FOLDS + 1)]
    moments = reconjax.moments(x, labels, num_classes=3)
    judge = held_out([reconjax.moments(*fold, num_classes=3) for fold in folds], moments)
    return (x, labels), folds, moments, judge


@pytest.fixture(scope="module")
def found(data):
    _, _, moments, judge = data
    chosen = families(SHAPE, moments, ["mask", "gaussian", "shift"])
    return compare(moments, judge, chosen, DIMS)


def flat(x):
    return x.reshape(len(x), -1)


def dense(data, noise, latent_dim):
    """Explained, held out and (B,) agreement, by generalized eigenvectors and least squares."""
    (x, labels), folds, *_ = data
    mean_x, mean_y = flat(x).mean(axis=0), np.eye(3)[labels].mean(axis=0)
    x, y = flat(x) - mean_x, np.eye(3)[labels] - mean_y
    second = jnp.asarray(x.T @ x / len(x))
    noisy = second if noise is None else noise.second_moment(second)
    across = second if noise is None else noise.mean(second)
    vectors = linalg.eigh(np.asarray(across @ across.T), np.asarray(noisy))[1][:, ::-1]
    encoder = vectors[:, :latent_dim]
    head = np.linalg.lstsq(x @ encoder, y, rcond=None)[0]
    predictor = encoder @ head
    r2 = 1 - np.sum((x @ predictor - y) ** 2) / np.sum(y**2)
    test = [(flat(a) - mean_x, np.eye(3)[b] - mean_y) for a, b in folds]
    x, y = (np.concatenate(part) for part in zip(*test, strict=True))
    total = np.sum(y**2) / len(y)
    held = 1 - np.mean(np.sum((x @ predictor - y) ** 2, axis=1)) / total
    # The agreement is about the means of the test split.
    agreement = [
        np.mean(np.sum((b - y.mean(axis=0)) * ((a - x.mean(axis=0)) @ predictor), axis=1)) / total
        for a, b in test
    ]
    return r2, held, np.array(agreement)


@pytest.mark.parametrize("text", TEXTS)
def test_points_are_those_of_dense_least_squares(data, found, text):
    point = found.noise.index(text)
    noise = reconjax.noise.parse_noise(text, SHAPE)
    for column, latent_dim in enumerate(DIMS.tolist()):
        r2, held, agreement = dense(data, noise, latent_dim)
        assert found.r2[point, column] == pytest.approx(r2, abs=1e-9)
        assert found.held_out[point, column] == pytest.approx(held, abs=1e-9)
        np.testing.assert_allclose(found.agreement[point, column], agreement, atol=1e-9)


def test_no_noise_is_that_of_dense_least_squares(data, found):
    for column, latent_dim in enumerate(DIMS.tolist()):
        r2, held, agreement = dense(data, None, latent_dim)
        assert found.r2_without[column] == pytest.approx(r2, abs=1e-9)
        assert found.held_out_without[column] == pytest.approx(held, abs=1e-9)
        np.testing.assert_allclose(found.agreement_without[column], agreement, atol=1e-9)
    np.testing.assert_allclose(found.chance, DIMS / 299)


def test_gaussian_noise_is_told_to_change_nothing(found):
    places = [place for place in ranking(found) if place.family == "gaussian"]
    assert len(places) == len(DIMS)
    for place in places:
        assert abs(place.gain) < 1e-9
        assert place.p_value == 1
        # Of strengths that are alike, the weakest.
        assert place.noise == found.noise[found.family.index("gaussian")]


def test_strengths_are_chosen_in_training_and_judged_elsewhere():
    rng = np.random.default_rng(0)
    agreement = rng.normal(size=(3, 1, 8))
    without = rng.normal(size=(1, 8))
    made = Comparison(
        latent_dim=np.array([4]),
        family=("a", "a", "b"),
        noise=("a:1", "a:2", "b:1"),
        r2=np.array([[0.5], [0.6], [0.4]]),
        held_out=np.array([[0.9], [0.1], [0.2]]),
        agreement=agreement,
        error=np.full((3, 1), 1e-9),
        r2_without=np.array([0.3]),
        held_out_without=np.array([0.2]),
        agreement_without=without,
        chance=np.array([0.1]),
        rank=9,
    )
    places = {place.family: place for place in ranking(made)}
    assert places["a"].noise == "a:2"
    assert places["a"].held_out == 0.1
    assert places["a"].gain == pytest.approx(0.1 - 0.2)
    # The spread is that of 2 E[y · f].
    difference = 2 * (agreement[1, 0] - without[0])
    assert places["a"].standard_error == pytest.approx(difference.std(ddof=1) / np.sqrt(8))
    order = [place.gain for place in ranking(made)]
    assert order == sorted(order, reverse=True)


@pytest.mark.slow
def test_on_labels_without_signal_the_winner_is_seldom_significant():
    first, draws, level = [], 80, 0.2
    chosen = None
    for seed in range(draws):
        rng = np.random.default_rng(seed)
        x, labels = images(60 + 12 * FOLDS, 1000 + seed)
        labels = rng.permutation(labels)
        parts = np.split(np.arange(len(x)), 60 + 12 * np.arange(FOLDS))
        train, *folds = (reconjax.moments(x[i], labels[i], num_classes=3) for i in parts)
        chosen = chosen or families(SHAPE, train, ["mask", "flip:0.5"])
        places = ranking(compare(train, held_out(folds, train), chosen, DIMS), flips=199)
        first.append(min(p.p_value for p in places if p.latent_dim == DIMS[0]))
    # Binomial: level plus three standard errors; and not so careful that nothing is found.
    share = np.mean(np.array(first) <= level)
    assert share <= level + 3 * np.sqrt(level * (1 - level) / draws)
    assert share > 0.02


@pytest.mark.slow
def test_a_subspace_gives_the_same_as_the_whole():
    rng = np.random.default_rng(3)
    side, count = 10, 600
    grid = np.stack(np.meshgrid(*[np.arange(side)] * 2, indexing="ij")).reshape(2, -1)
    distance = np.linalg.norm(grid[:, :, None] - grid[:, None], axis=0)
    smooth = np.linalg.cholesky(np.exp(-distance / 4) + 1e-6 * np.eye(side**2))
    labels = np.arange(count) % 4
    x = rng.normal(size=(count, side**2)) @ smooth.T
    x[np.arange(count), labels * 5] += 2.0
    parts = [reconjax.moments(x[i::3], labels[i::3], num_classes=4) for i in range(3)]
    judge = held_out(parts[1:], parts[0])
    chosen = families((side, side, 1), parts[0], ["block:4"])
    dims = np.array([2, 4])
    near = compare(parts[0], judge, chosen, dims, tolerance=1e-2)
    exact = compare(parts[0], judge, chosen, dims)
    off = np.abs(near.r2 - exact.r2)
    assert 0 < off.max() < 1e-2
    assert np.all(off <= 2 * near.error)
    assert np.abs(near.agreement - exact.agreement).max() < 1e-2
    assert np.all(near.error > exact.error)


def test_families_suit_the_data():
    rng = np.random.default_rng(0)
    x = rng.uniform(size=(40, 4 * 4 * 3))
    labels = np.arange(40) % 2
    moments = reconjax.moments(x, labels)
    named = {family.name: family for family in families((4, 4, 3), moments)}
    masks = {"mask 1x1", "mask 2x2"}
    assert set(named) == masks | set(NAMES) - {"mask", "tflip"}  # images do not turn over in time
    vectors = {family.name for family in families((48,), moments)}
    assert vectors == {"pixel", "gaussian", "speckle", "thin", "saltpepper"}
    centered = reconjax.moments(x - x.mean(axis=0), labels)
    assert "thin" not in {family.name for family in families((48,), centered)}

    # In other units, the strengths are the same relative to the data.
    scaled = reconjax.moments(1000 * x, labels)
    one, other = (
        np.array([float(n.std) for n in families((48,), m, ["gaussian"])[0].noises])
        for m in (moments, scaled)
    )
    np.testing.assert_allclose(other / one, 1000, rtol=0.01)


@pytest.mark.parametrize(
    ("names", "text"),
    [
        (["channel"], "families: channel; it does not apply"),
        (["nonsense:3"], "known are"),
        ([], "families: none"),
    ],
)
def test_families_that_do_not_apply_are_refused(data, names, text):
    _, _, moments, judge = data
    with pytest.raises(ValueError, match=text):
        compare(moments, judge, families(SHAPE, moments, names), DIMS)


@pytest.mark.parametrize("latent_dim", [17, 0, 2.5, float("nan")])
def test_latent_dims_past_the_rank_or_not_whole_are_refused(data, latent_dim):
    _, _, moments, judge = data
    with pytest.raises(ValueError, match=rf"latent_dim: {latent_dim}; 1 .. 16 is allowed"):
        compare(moments, judge, families(SHAPE, moments, ["flip"]), [2, latent_dim])
    with pytest.raises(ValueError, match="latent_dims: shape"):
        compare(moments, judge, families(SHAPE, moments, ["flip"]), [])


def test_latent_dims_are_whole_numbers(data, found):
    _, _, moments, judge = data
    assert found.latent_dim.dtype == np.int32
    floats = compare(moments, judge, families(SHAPE, moments, ["flip"]), [2.0, 5.0])
    assert floats.latent_dim.dtype == np.int32
    assert floats.latent_dim.tolist() == [2, 5]


def test_uncentered_moments_are_refused(data):
    _, _, moments, judge = data
    with pytest.raises(ValueError, match="centered moments are needed"):
        compare(
            reconjax.summary.uncentered(moments), judge, families(SHAPE, moments, ["flip"]), DIMS
        )


def test_families_apart_are_the_same_as_together(data, found):
    _, _, moments, judge = data
    names = ["mask", "gaussian", "shift"]
    parts = [compare(moments, judge, families(SHAPE, moments, [name]), DIMS) for name in names]
    whole = concatenated(parts)
    assert (whole.family, whole.noise) == (found.family, found.noise)
    for name, values in found._asdict().items():
        if name not in ("family", "noise"):
            np.testing.assert_array_equal(getattr(whole, name), values, err_msg=name)


def test_figures_show_every_family(found):
    figure = comparison_figure(ranking(found), FOLDS, title="here")
    panels = figure.axes
    assert [axes.get_title("left") for axes in panels] == ["K = 2", "K = 5"]
    labels = {label.get_text() for label in panels[0].get_yticklabels()}
    assert labels == set(found.family)
    ratio = np.eye(2)
    figure = learned_mask_figure({"a": [("K = 2", ratio)]}, {"a": np.zeros((4, 4, 3))})
    shown = [axes.get_images()[0].get_array() for axes in figure.axes[:2]]
    np.testing.assert_array_equal(shown[1], ratio)


def test_rays_of_all_kinds_run_one_program(data, found):
    _, _, moments, judge = data
    programs = solve_grid._cache_size()
    compare(moments, judge, families(SHAPE, moments, ["speckle"]), DIMS)
    assert solve_grid._cache_size() == programs


def _blurred_r2(x, y, noise):
    """(D,) r2 of the clean read-out where all noise is T, by singular vectors of X Tᵀ."""
    size = x[0].size
    unit = reconjax.moments(
        np.eye(size).reshape(size, *x.shape[1:]), np.arange(size) % 2, center=False
    )
    operator = np.asarray(reconjax.problem(unit, noise).noisy_input_moment) * size
    samples = x.reshape(len(x), -1) - x.reshape(len(x), -1).mean(axis=0)
    targets = np.eye(3)[y] - np.eye(3)[y].mean(axis=0)
    left, values, right = np.linalg.svd(samples @ operator.T, full_matrices=False)
    kept = values > max(samples.shape) * np.finfo(float).eps * values[0]
    left, right = left[:, kept], right[kept].T / values[kept]
    best = np.linalg.svd(samples.T @ left, full_matrices=False)[2].T
    features = np.linalg.qr(samples @ right @ best)[0]
    curve = np.cumsum(np.sum((features.T @ targets) ** 2, axis=1)) / np.sum(targets**2)
    return np.concatenate([curve, np.full(size - len(curve), curve[-1])])


@pytest.mark.parametrize(("reach", "blur"), [(0.6, 1), (1, 2), (3, 0.5)])
def test_a_blur_that_hides_directions_says_so(reach, blur):
    rng = np.random.default_rng(0)
    x = ndimage.gaussian_filter(rng.standard_normal((600, 8, 8)), (0, reach, reach))[..., None]
    y = np.digitize(x[:, 4, 4, 0] - x[:, 2, 3, 0], [-0.1, 0.1])
    noise = parse_noise(f"blur:{blur}", (8, 8, 1))
    moments = reconjax.moments(x, y)
    dims = np.arange(1, int(reconjax.spectrum(moments).rank) + 1)
    judge = held_out([moments, moments], moments)
    result = compare(moments, judge, [Family("blur", (str(blur),), (noise,))], dims)
    error = np.abs(result.r2[0] - _blurred_r2(x, y, noise)[dims - 1])
    assert np.all(error < 10 * result.error[0])
