"""Wide data: the Gram matrix in chunks, directions kept in part, Theorem 1, and its memory."""

import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest

import reconjax as rj
from reconjax.cli.main import main
from reconjax.summary.sample_gram import mean_gram, transposed_product
from reconjax.theory.spectrum import SampleSide

WIDE = 137


def pixels(samples=20, features=WIDE, kind="plain"):
    """8-bit vectors (N, D) and labels (N,), with what is special in them by name."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (samples, features), dtype=np.uint8)
    if kind == "constant pixels":
        x[:, ::3] = 255
    if kind == "duplicates":
        x[11:] = x[: samples - 11]
    if kind == "faint":  # some pixels differ in one sample by one level
        x[:, ::2] = 7
        x[3, ::4] = 8
    return x, np.arange(samples) % 4


KINDS = ["plain", "constant pixels", "duplicates", "faint"]
# Rows and columns of a chunk: none divides N = 20 or D = 137, one is larger than either.
CHUNKS = [(7, 50), (3, 1), (20, 137), (512, None)]


def centered(x):
    x = np.asarray(x, np.float64) / (255 if x.dtype == np.uint8 else 1)
    return x - x.mean(0)


def svd(x, labels):
    """Eigenvalues, directions (D, R) and the labels' coordinates (R, C), by NumPy."""
    left, singular, right = np.linalg.svd(centered(x), full_matrices=False)
    y = np.eye(labels.max() + 1)[labels]
    return singular**2 / len(x), right.T, left.T @ (y - y.mean(0)) / len(x) ** 0.5


# The Gram matrix


@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("chunk", CHUNKS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_gram_matrix_of_8_bit_images_is_that_of_integers(kind, chunk, center):
    x, _ = pixels(kind=kind)
    gram, mean = mean_gram(x, center=center, rows=chunk[0], columns=chunk[1])
    whole = x.astype(object)  # Python's integers
    samples = len(x)
    moved = samples * whole - whole.sum(axis=0) if center else samples * whole
    exact = (moved @ moved.T).astype(np.float64) / (255**2 * samples**3)
    # Each entry has been rounded a few times, and never by more than itself.
    np.testing.assert_allclose(gram, exact, rtol=5 * np.finfo(float).eps, atol=1e-300)
    np.testing.assert_array_equal(gram, gram.T)
    np.testing.assert_allclose(mean, x.mean(0) / 255 * center, rtol=1e-15)


def test_8_bit_sums_are_exact_at_their_largest_and_over_many_blocks():
    x = np.zeros((5, 70_001), np.uint8)
    x[1], x[2, ::2], x[3, 1::3] = 255, 255, 1
    whole = 5 * x.astype(np.int64) - x.sum(axis=0, dtype=np.int64)
    exact = whole @ whole.T / (255**2 * 5**3)
    for columns in (None, 1024, 2**16):
        gram, _ = mean_gram(x, columns=columns)
        np.testing.assert_allclose(gram, exact, rtol=1e-15)


@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("chunk", CHUNKS)
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int32])
def test_the_gram_matrix_of_other_numbers(dtype, chunk, center):
    rng = np.random.default_rng(1)
    x = (100 * rng.normal(size=(20, WIDE)) + 900).astype(dtype)
    floats = x.astype(np.float64)
    gram, mean = mean_gram(x, center=center, rows=chunk[0], columns=chunk[1])
    moved = floats - floats.mean(0) if center else floats
    np.testing.assert_allclose(gram, moved @ moved.T / 20, atol=1e-12 * np.max(moved**2) * WIDE)
    np.testing.assert_array_equal(gram, gram.T)
    np.testing.assert_allclose(mean, floats.mean(0) * center, rtol=1e-12)


@pytest.mark.parametrize("columns", [1, 50, 137, None])
@pytest.mark.parametrize("kind", ["uint8", "float64"])
def test_products_with_the_transpose(kind, columns):
    x = pixels()[0] if kind == "uint8" else np.random.default_rng(2).normal(size=(20, WIDE))
    u = np.random.default_rng(3).normal(size=(20, 6))
    for k in (0, 1, 6):
        found = transposed_product(
            x,
            jnp.asarray(x.mean(0) / (255 if kind == "uint8" else 1)),
            jnp.asarray(u[:, :k]),
            columns=columns,
        )
        assert found.shape == (WIDE, k)
        np.testing.assert_allclose(found, centered(x).T @ u[:, :k], atol=1e-12)


# The spectrum


@pytest.mark.parametrize("dtype", ["uint8", "float64"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_number_of_directions_is_that_of_the_svd(kind, dtype):
    x, labels = pixels(kind=kind)
    x = x if dtype == "uint8" else x / 255
    values, right, coordinates = svd(x, labels)
    rank = {"duplicates": 10}.get(kind, 19)
    for kept in (None, 0, 1, 5, rank, 20):
        found = rj.spectrum_from_samples(x, labels, directions=kept)
        count = 20 if kept is None else kept
        assert (found.kept, found.features, int(found.rank)) == (count, WIDE, rank)
        assert found.eigenvalues.shape == (20,)
        assert found.labels.shape == (4, 20)
        np.testing.assert_allclose(found.eigenvalues[:rank], values[:rank], rtol=1e-10)
        assert not np.any(found.eigenvalues[rank:])
        inside = min(count, rank)
        ours = np.asarray(found.eigenvectors)
        np.testing.assert_allclose(
            ours @ ours.T, right[:, :inside] @ right[:, :inside].T, atol=1e-9
        )
        assert np.all(ours.max(axis=0) >= -ours.min(axis=0))
        # Ŷ goes with the directions, and its squares with those that are not kept.
        np.testing.assert_allclose(
            ours[:, :inside] @ found.labels[:, :inside].T,
            right[:, :inside] @ coordinates[:inside],
            atol=1e-9,
        )
        squares = np.sum(coordinates[:rank] ** 2, axis=1)
        np.testing.assert_allclose(np.sum(found.labels**2, axis=0)[:rank], squares, atol=1e-10)


def test_tiny_eigenvalues_of_8_bit_images_are_right():
    # Pixels of 1e5 times the variance of what is of interest: two dozen levels against one.
    rng = np.random.default_rng(0)
    x = np.zeros((12, 3000), np.uint8)
    x[:, :2990] = 255 * (np.arange(12) % 2)[:, None]
    x[:, 2990:] = rng.integers(0, 2, (12, 10))
    values = np.linalg.svd(centered(x), compute_uv=False) ** 2 / 12
    found = rj.spectrum_from_samples(x, np.arange(12) % 3, directions=0)
    assert values[0] / values[9] > 1e7
    # What the decomposition itself rounds; float32 sums would be off by more than these values.
    atol = np.finfo(float).eps * values[0]
    np.testing.assert_allclose(found.eigenvalues[1:10], values[1:10], rtol=0, atol=atol)


def test_float32_on_wide_data(float32):
    x, labels = pixels()
    values, right, _ = svd(x, labels)
    for data in (x, x / 255, (x / 255).astype(np.float32)):
        found = rj.spectrum_from_samples(data, labels, directions=4)
        assert {found.eigenvalues.dtype, found.eigenvectors.dtype} == {jnp.dtype("float32")}
        assert int(found.rank) == 19
        np.testing.assert_allclose(found.eigenvalues[:19], values[:19], rtol=1e-5)
        ours = np.asarray(found.eigenvectors)
        np.testing.assert_allclose(ours @ ours.T, right[:, :4] @ right[:, :4].T, atol=1e-4)


@pytest.mark.parametrize("side", ["N-side", "D-side"])
def test_the_share_of_variance_says_how_many_directions_are_kept(side):
    x, labels = pixels() if side == "N-side" else pixels(200, 30)
    whole = rj.spectrum_from_samples(x, labels)
    for variance in (0.0, 0.3, 0.75, 1.0):
        found = rj.spectrum_from_samples(x, labels, variance=variance)
        shares = np.cumsum(np.asarray(whole.eigenvalues)) / np.sum(np.asarray(whole.eigenvalues))
        assert found.kept == (1 + np.sum(shares < variance - 1e-12) if variance else 0)
        for subspace, share in (("top", variance), ("bottom", 1 - variance)):
            ours, theirs = (
                rj.project(one, x, variance=share, subspace=subspace) for one in (found, whole)
            )
            np.testing.assert_allclose(ours, theirs, atol=1e-9)


def test_alignment_and_proposition_1_need_no_directions():
    x, labels = pixels()
    whole = rj.spectrum_from_samples(x, labels)
    bare = rj.spectrum_from_samples(x, labels, directions=0)
    for convention in ("eq7", "loss", "sec58", "reference"):
        ours, theirs = (rj.alignment(one, convention=convention) for one in (bare, whole))
        for name, values in ours._asdict().items():
            np.testing.assert_allclose(values, getattr(theirs, name), atol=1e-12)
    ours, theirs = (rj.proposition1(one, 2) for one in (bare, whole))
    np.testing.assert_allclose(ours.cosines, theirs.cosines, atol=1e-9)


@pytest.mark.parametrize("side", ["N-side", "D-side"])
def test_too_few_directions_are_refused_in_one_line(side):
    x, labels = pixels() if side == "N-side" else pixels(200, 30)
    rank = 19 if side == "N-side" else 30
    few = rj.spectrum_from_samples(x, labels, directions=3)
    for call, needed in (
        (lambda: rj.project(few, x, directions=4), 4),
        (lambda: rj.project(few, x, directions=rank - 5, subspace="bottom"), 5),
        (lambda: rj.project(few, x, variance=1), rank),
        (lambda: rj.theorem1(few), rank),
    ):
        with pytest.raises(ValueError, match=f"spectrum: keeps 3 directions; .* needs {needed}$"):
            call()
    rj.project(few, x, directions=rank - 3, subspace="bottom")
    # Where the number is not known before, the result says that it is not one.
    found = jax.vmap(lambda v: rj.project(few, x, variance=v))(jnp.array([0.01, 1.0]))
    assert np.all(np.isfinite(found[0]))
    assert np.all(np.isnan(found[1]))
    assert np.all(np.isnan(jax.jit(lambda one: rj.theorem1(one).encoder)(few)))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"directions": -1}, "directions: -1; 0 .. 137 is allowed"),
        ({"directions": 138}, "directions: 138; 0 .. 137 is allowed"),
        ({"directions": 1.5}, "directions: 1.5; 0 .. 137 is allowed"),
        ({"variance": 1.1}, "variance: 1.1; 0 .. 1 is allowed"),
        ({"variance": 0.5, "directions": 2}, "variance, directions: at most one of the two"),
    ],
)
def test_directions_that_cannot_be_kept_are_refused(options, match):
    with pytest.raises(ValueError, match=match):
        rj.spectrum_from_samples(*pixels(), **options)


def test_constant_samples_are_refused():
    for x in (np.full((5, 9), 7, np.uint8), np.full((5, 9), 0.1)):
        with pytest.raises(ValueError, match="x: constant; the inputs do not vary"):
            rj.spectrum_from_samples(x, np.arange(5) % 2)
    holed = np.random.default_rng(0).normal(size=(5, 9))
    holed[1, 2], holed[3, 8] = np.nan, np.inf
    for columns in (1, 4, 9):
        with pytest.raises(ValueError, match="x: NaN or inf in 2 of 9 features"):
            mean_gram(holed, columns=columns)


# Theorem 1


@pytest.mark.parametrize("weight", [0.0, 1e-3, 1.0, np.inf])
@pytest.mark.parametrize("dtype", ["uint8", "float64"])
def test_theorem_1_on_wide_data_without_its_directions(dtype, weight):
    x, _ = pixels()
    labels = np.repeat(
        np.arange(4), [8, 6, 4, 2]
    )  # of one size, their order would be open at λ = 0
    x = x if dtype == "uint8" else x / 255
    flat, y = centered(x), np.eye(4)[labels] - np.eye(4)[labels].mean(0)
    side = SampleSide(x, labels)
    whole = rj.theorem1(side.spectrum(), weight)
    expected = oracle.curves(flat, y, oracle.noiseless(flat, y), weight)
    for latent_dim in (1, 5, None):
        found = rj.theorem1(side, weight, latent_dim=latent_dim)
        size = latent_dim or 20
        assert found.encoder.shape == (WIDE, size)
        assert found.decoder.shape == (size, WIDE)
        for name in ("supervised_loss", "reconstruction_loss", "r2"):
            np.testing.assert_allclose(getattr(found, name), getattr(whole, name), atol=1e-12)
        for name, theirs in (
            ("supervised_loss", expected.clean),
            ("reconstruction_loss", expected.reconstruction),
        ):
            np.testing.assert_allclose(getattr(found, name), theirs[:20], atol=1e-8)
        # The encoder and its decoder have the losses that are reported.
        for k in {1, min(size, 3), min(size, 19)}:
            codes = flat @ found.encoder[:, :k]
            np.testing.assert_allclose(codes.T @ codes / 20, np.eye(k), atol=1e-9)
            rebuilt = np.sum((codes @ found.decoder[:k] - flat) ** 2) / 20
            assert rebuilt == pytest.approx(float(found.reconstruction_loss[k - 1]), abs=1e-9)
            read = np.sum((codes @ found.head(k) - y) ** 2) / 20
            assert read == pytest.approx(float(found.supervised_loss[k - 1]), abs=1e-9)


def test_theorem_1_on_the_dense_side_with_fewer_latent_dimensions():
    moments = rj.moments(*oracle.dataset("plain"))
    whole = rj.theorem1(rj.spectrum(moments), 0.5)
    found = rj.theorem1(rj.spectrum(moments), 0.5, latent_dim=3)
    np.testing.assert_allclose(found.encoder, whole.encoder[:, :3], atol=1e-12)
    np.testing.assert_allclose(found.decoder, whole.decoder[:3], atol=1e-12)
    for latent_dim in (0, 33):
        with pytest.raises(ValueError, match=rf"latent_dim: {latent_dim}; 1 .. 32 is allowed"):
            rj.theorem1(rj.spectrum(moments), latent_dim=latent_dim)


# The command line


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_the_commands_keep_the_directions_that_they_need(tmp_path, monkeypatch, capsys, dtype):
    # More than one batch of samples, in fewer numbers than an image has pixels.
    x, labels = pixels(300, 4 * 100)
    images = (x if dtype == "uint8" else np.float32(x / 255)).reshape(300, 20, 20, 1)
    np.savez(tmp_path / "wide.npz", x_train=images, y_train=labels)
    kept = []

    def watched(*args, **options):
        found = rj.spectrum(rj.moments(*args)) if watched.dense else from_samples(*args, **options)
        assert args[0].dtype == dtype
        kept.append(found.kept)
        return found

    from_samples = rj.spectrum_from_samples
    monkeypatch.setattr("reconjax.studies.source.spectrum_from_samples", watched)
    results = []
    for watched.dense in (False, True):
        argv = ["project", str(tmp_path / "wide.npz"), "--variance", "0.6", "--out", str(tmp_path)]
        assert main([*argv, "--json"]) == 0
        results.append(json.loads(capsys.readouterr().out))
    assert kept == [results[0]["top_directions"], 400]
    assert 1 < kept[0] < 200
    assert results[0] == results[1]
    assert main(["align", str(tmp_path / "wide.npz"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    dense = rj.alignment(rj.spectrum(rj.moments(images, labels)))
    for name in ("alignment", "r2", "eigenvalues", "rank"):
        np.testing.assert_allclose(found[name], getattr(dense, name), atol=1e-9)


# Memory

MEMORY = """
import json, resource, sys
import jax, numpy as np
jax.config.update("jax_enable_x64", True)
import reconjax as rj
from reconjax.theory.spectrum import SampleSide

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

samples, features, kept = 800, 100_000, 32
rng = np.random.default_rng(0)
labels = np.arange(samples) % 10
tiny = SampleSide(rng.integers(0, 256, (40, 3000), np.uint8), labels[:40])
rj.alignment(tiny.spectrum(directions=3))
rj.theorem1(tiny, 1.0, latent_dim=3)
x = rng.integers(0, 256, (samples, features), np.uint8)
before = peak()
side = SampleSide(x, labels)
rj.alignment(side.spectrum(directions=0)).alignment.block_until_ready()
aligned = peak() - before
principal = side.spectrum(directions=kept)
rj.project(principal, x[:8], directions=kept).block_until_ready()
projected = peak() - before
rj.theorem1(side, 1.0, latent_dim=kept).encoder.block_until_ready()
print(json.dumps([aligned, projected, peak() - before, x.nbytes, principal.eigenvectors.nbytes]))
"""


@pytest.mark.slow
def test_nothing_of_the_size_of_the_samples_as_floats_is_made():
    run = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True)
    aligned, projected, solved, stored, kept = json.loads(run.stdout.splitlines()[-1])
    # The samples as float64 would be 8 times what is stored, D x D floats 1000 times.
    assert aligned < 3 * stored
    assert projected < 3 * (stored + kept)
    assert solved < 4 * (stored + 2 * kept)
