"""The training loop: the same on any number of devices, after a kill, and as the theory says.

Run as a program, this file is one of several processes, or a run that is killed.
"""

import dataclasses
import errno
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import compiling
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import reconjax
from reconjax.data import Dataset, load
from reconjax.nets import AXIS, ConvAutoencoder, MLPAutoencoder, MLPClassifier
from reconjax.summary import hosts
from reconjax.training import (
    Centered,
    Diverged,
    classification,
    denoising,
    evaluate,
    fit,
    fit_runs,
    guided,
    parallel,
    reconstruction,
)
from reconjax.training import load as load_run
from reconjax.training.augmentation import augmented, check_augmentation
from reconjax.training.examples import Examples, order
from reconjax.training.optimizer import one_cycle
from reconjax.training.runs import RunFolder, named
from reconjax.training.step import start


class Normed(nnx.Module):
    """A tiny autoencoder with batch statistics."""

    def __init__(self, features, latent_dim, rngs, axis=AXIS):
        self.latent_dim = latent_dim
        self.first = nnx.Linear(features, 5, use_bias=False, rngs=rngs)
        self.norm = nnx.BatchNorm(5, momentum=0.9, axis_name=axis, rngs=rngs)
        self.second = nnx.Linear(5, latent_dim, rngs=rngs)
        self.back = nnx.Linear(latent_dim, features, rngs=rngs)

    def encode(self, x):
        return self.second(nnx.relu(self.norm(self.first(x.reshape(len(x), -1)))))

    def decode(self, z):
        return self.back(z).reshape(len(z), 4, 4, 1)

    def __call__(self, x):
        return self.decode(self.encode(x))


def normed(axis=AXIS):
    return Normed(16, 3, nnx.Rngs(0), axis)


def linear(features, latent_dim, seed=0):
    return MLPAutoencoder((features,), latent_dim, widths=(), rngs=nnx.Rngs(seed))


def noise_images():
    """48 8-bit images of 4x4 pixels in 3 classes, and 13 to test."""
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (61, 4, 4, 1)).astype(np.uint8), rng.integers(0, 3, 61)
    y[:3] = 0, 1, 2
    return Dataset.from_arrays(x[:48], y[:48], x[48:], y[48:], name="noise")


@pytest.fixture(scope="module")
def images():
    return noise_images()


@pytest.fixture(scope="module")
def vectors():
    """512 vectors with a decaying spectrum, and classes that follow a direction in the middle."""
    rng = np.random.default_rng(1)
    axes = np.linalg.qr(rng.standard_normal((8, 8)))[0]
    z = rng.standard_normal((512, 8))
    x = (z * 0.75 ** np.arange(8)) @ axes + rng.standard_normal(8)
    y = np.digitize(z[:, 4] + 0.1 * rng.standard_normal(512), [-0.5, 0.5])
    return Dataset.from_arrays(x.astype(np.float32), y, name="decaying")


def one_step(dataset, objective, devices, augment=(), chunk=2):
    """(state, terms) after one step of the whole training split, by the loop's program."""
    step, state, examples = begun(dataset, objective, augment)
    rows = np.zeros((1, chunk, len(dataset.train)), np.int32)
    rows[0, 0] = backwards(dataset)
    devices = tuple(devices)
    (state,), terms = parallel.dispatch(
        parallel.training(step, devices, chunk),
        [parallel.replicated(state, devices)], objective, examples, rows, 1, devices,
    )  # fmt: skip
    return of_first_run(state, {name: values[:, 0] for name, values in terms.items()})


def begun(dataset, objective, augment=(), axis=AXIS):
    """A step, the state of one run before it, and the examples."""
    model = normed(axis)
    pair = model, objective.head(model, dataset.num_classes, nnx.Rngs(1))
    step, state = start(
        [pair], np.uint32([3]), np.float32([1e-3]), np.float32([0.5]), augment=augment, steps=10,
        weight_decay=1e-4,
    )  # fmt: skip
    return step, state, Examples.of(dataset.train, dataset.num_classes)


def backwards(dataset):
    return np.arange(len(dataset.train), dtype=np.int32)[::-1]


def of_first_run(state, terms):
    state, terms = jax.tree.map(lambda leaf: leaf[0], (state, dict(terms)))
    return named(state), {name: float(value) for name, value in terms.items()}


def close(found, expected, name=""):
    # Adam divides a gradient by its own size: where it is rounding alone, the step has any sign.
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-7, err_msg=name)


def same_step(found, expected):
    for name, values in expected[0].items():
        if not name.startswith("params"):
            close(found[0][name], values, name)
    assert found[1].keys() == expected[1].keys()
    for name, value in expected[1].items():
        close(found[1][name], value, name)


def test_a_step_is_pure_and_needs_no_mapped_axis(images):
    """Compiled by itself, on the whole batch, it is that of the loop's program."""
    objective = noisy_guided()
    step, state, examples = begun(images, objective, ["flip"], axis=None)

    @jax.jit
    def once(state):
        state = jax.tree.map(lambda leaf: leaf[0], state)
        key = jax.random.fold_in(jax.random.key(state.seed), state.step)
        rows = jnp.asarray(backwards(images))
        batch = examples.rows(rows).batch(key, jnp.arange(48, dtype=jnp.int32), step.augment)
        return jax.tree.map(lambda leaf: leaf[None], step(state, objective, batch))

    before = named(jax.tree.map(np.copy, state))
    by_itself = of_first_run(*once(state))
    same_step(by_itself, one_step(images, objective, jax.devices()[:2], ["flip"]))
    for name, leaf in named(state).items():
        np.testing.assert_array_equal(leaf, before[name])


def noisy_guided():
    return guided(0.5, reconjax.noise.patch_mask(0.5, (2, 2), (4, 4, 1)))


def test_a_step_is_that_of_plain_jax_on_the_whole_batch(images):
    """Loss, gradients (in Adam's first moment) and batch statistics, without any mapped axis."""
    state, terms = one_step(images, guided(0.5), jax.devices()[:1])
    model = normed(axis=None)
    head = nnx.Linear(3, 3, rngs=nnx.Rngs(1))
    pixels, labels = images.train.examples(np.arange(48))
    x = pixels.astype(np.float32) / 255
    x = jnp.asarray(x - x.mean(0))

    def loss(nets):
        model, head = nets
        z = model.encode(x)
        error = jnp.mean((model.decode(z) - x) ** 2)
        logits = jax.nn.log_softmax(head(z))
        return error - 0.5 * jnp.mean(jnp.take_along_axis(logits, labels[:, None], axis=1))

    value, gradients = nnx.value_and_grad(loss)((model, head))
    close(terms["loss"], value)
    flat = {name: 0.1 * leaf for name, leaf in named(nnx.as_pure(gradients)).items()}
    moments = {name.partition("/mu/")[2]: leaf for name, leaf in state.items() if "/mu/" in name}
    assert flat.keys() == moments.keys()
    for name, leaf in flat.items():
        close(moments[name], leaf, name)
    close(state["rest/0/norm/mean"], model.norm.mean[...])
    close(state["rest/0/norm/var"], model.norm.var[...])


@pytest.mark.parametrize(("count", "chunk"), [(2, 2), (4, 1)])
def test_a_step_on_several_devices_is_that_on_one(images, count, chunk):
    """With noise and augmentation too: their draws belong to the example, not to the device.

    Inside of a loop and, as for convolutions on CPUs, without one.
    """
    one = one_step(images, noisy_guided(), jax.devices()[:1], ["flip"])
    same_step(one_step(images, noisy_guided(), jax.devices()[:count], ["flip"], chunk), one)


def fifty(images, model=None):
    options = {"epochs": 25, "batch_size": 24, "checkpoint_every": 50}
    alone = dataclasses.replace(images, test=None)
    return fit(model or normed(), alone, noisy_guided(), **options)


@pytest.mark.slow
def test_all_copies_are_equal_after_fifty_steps_and_without_the_mean_they_are_not(
    images, monkeypatch
):
    trained = fifty(images)
    assert trained.step == 50
    parallel.training.cache_clear()
    monkeypatch.setattr("reconjax.training.step.mean_over_devices", lambda tree: tree)
    with pytest.raises(RuntimeError, match=r"differs between devices"):
        fifty(images)
    parallel.training.cache_clear()


def test_batch_statistics_of_each_device_alone_are_found_out(images):
    with pytest.raises(RuntimeError, match=r"rest.*norm.*differs"):
        fifty(images, model=normed(axis=None))


def test_pmap_is_in_one_module_alone():
    package = Path(reconjax.__file__).parent
    users = [path.name for path in package.rglob("*.py") if "pmap(" in path.read_text()]
    assert users == ["parallel.py"]


def eight():
    """Prints how far a step on 8 devices is from that on 1."""
    jax.config.update("jax_num_cpu_devices", 8)
    dataset = noise_images()
    one = one_step(dataset, noisy_guided(), jax.devices()[:1])
    same_step(one_step(dataset, noisy_guided(), jax.devices()), one)
    print("equal on", jax.device_count())


@pytest.mark.slow
def test_a_step_on_eight_devices_is_that_on_one():
    found = subprocess.run(
        [sys.executable, __file__, "eight"], check=True, capture_output=True, text=True
    )
    assert found.stdout == "equal on 8\n"


def expected_reconstruction(model, second_moment, noise):
    """E‖A x' + c − x‖² of a linear autoencoder, from moments: no sampling."""
    features = len(second_moment)
    zero = np.asarray(model(jnp.zeros((1, features), jnp.float32)), float)[0]
    matrix = np.asarray(model(jnp.eye(features, dtype=jnp.float32)), float) - zero
    noisy = np.asarray(noise.second_moment(jnp.asarray(second_moment)))
    cross = np.asarray(noise.mean(jnp.asarray(second_moment)))
    return (
        np.trace(second_moment)
        - 2 * np.trace(cross.T @ matrix)
        + np.trace(matrix.T @ noisy @ matrix)
        + zero @ zero
    )


def centered_moments(dataset):
    x, y = dataset.train.examples(np.arange(len(dataset.train)))
    return reconjax.moments(x.astype(float), y, num_classes=dataset.num_classes)


def test_a_linear_autoencoder_finds_the_optimum_of_theorem_1(vectors):
    weight, features, classes = 0.5, 8, 3
    trained = fit(
        linear(features, 3), vectors, guided(weight, loss="mse"), epochs=1500, batch_size=512,
        learning_rate=2e-2, weight_decay=0, devices=jax.devices()[:1], evaluate_at=[],
    )  # fmt: skip
    found = evaluate(trained, vectors.train, guided(weight, loss="mse"))
    moments = centered_moments(vectors)
    best = reconjax.solve(reconjax.problem(moments), classes / (weight * features))
    k = 2
    optimum = best.reconstruction_loss[k] / features + weight * best.supervised_loss[k] / classes
    assert optimum * (1 - 1e-5) <= found["loss"] < 1.01 * optimum
    # PCA, which the weight leads away from, is far from it.
    pca = reconjax.solve(reconjax.problem(moments), np.inf)
    other = pca.reconstruction_loss[k] / features + weight * pca.supervised_loss[k] / classes
    assert other > 1.05 * optimum


def test_a_linear_autoencoder_finds_the_optimum_of_theorem_3(vectors):
    noise = reconjax.noise.pixel_dropout(0.5, (8,))
    trained = fit(
        linear(8, 3), vectors, denoising(noise), epochs=600, batch_size=256,
        learning_rate=2e-2, weight_decay=0, devices=jax.devices()[:1], evaluate_at=[],
    )  # fmt: skip
    moments = centered_moments(vectors)
    best = float(reconjax.solve(reconjax.problem(moments, noise), np.inf).reconstruction_loss[2])
    found = expected_reconstruction(trained.model, np.asarray(moments.second_moment), noise)
    assert best * (1 - 1e-5) <= found < 1.01 * best
    # The optimum without noise is another encoder.
    clean = linear_pca(np.asarray(moments.second_moment), 3)
    assert expected_reconstruction(clean, np.asarray(moments.second_moment), noise) > 1.05 * best


def linear_pca(second_moment, latent_dim):
    top = np.linalg.eigh(second_moment)[1][:, -latent_dim:]
    return lambda x: x @ jnp.asarray(top @ top.T, jnp.float32)


# A run that is interrupted


def resumable(images, out, **options):
    return fit(
        normed(), images, noisy_guided(), epochs=8, batch_size=12, seed=5, out=out,
        augment=["flip"], checkpoint_every=3, devices=jax.devices()[:2], **options,
    )  # fmt: skip


def timeless(rows):
    return [{k: v for k, v in row.items() if k != "images_per_second"} for row in rows]


def same_rows(found, expected):
    """Rows of metrics that are equal up to rounding."""
    for row, other in zip(found, expected, strict=True):
        assert row == {
            name: value if isinstance(value, str) else pytest.approx(value, rel=1e-3)
            for name, value in other.items()
        }


def same_run(found, expected):
    assert found.step == expected.step
    assert timeless(found.history) == timeless(expected.history)
    for one, other in ((found.model, expected.model), (found.head, expected.head)):
        one, other = named(nnx.as_pure(nnx.state(one))), named(nnx.as_pure(nnx.state(other)))
        assert one.keys() == other.keys()
        for name in one:
            assert one[name].tobytes() == other[name].tobytes(), name


@pytest.fixture(scope="module")
def undisturbed(images, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return folder, resumable(images, folder)


class Stopped(Exception):
    pass


def stopping(after):
    """An `on_log` that ends the run once so many rows are written."""
    seen = []

    def on_log(row):
        seen.append(row)
        if len(seen) == after:
            raise Stopped

    return on_log


def steps_of(folder):
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [(row["split"], row["step"]) for row in rows]


@pytest.mark.parametrize("after", [1, 9])
def test_stopped_and_resumed_is_undisturbed_to_the_bit(images, undisturbed, tmp_path, after):
    whole, expected = undisturbed
    with pytest.raises(Stopped):
        resumable(images, tmp_path, on_log=stopping(after))
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 9')  # a line that a kill left unfinished
    same_run(resumable(images, tmp_path), expected)
    assert steps_of(tmp_path) == steps_of(whole)
    assert len(set(steps_of(whole))) == len(steps_of(whole))


def test_a_finished_run_is_read_and_not_made_again(images, undisturbed):
    folder, expected = undisturbed
    told = []
    same_run(resumable(images, folder, on_log=told.append), expected)
    assert told == []


def test_load_gives_what_fit_gave(images, undisturbed):
    folder, expected = undisturbed
    found = load_run(folder, model=normed())
    same_run(found, expected)
    x = found.inputs.centered(images.test.examples(np.arange(3))[0])
    np.testing.assert_array_equal(found.model(x), expected.model(x))
    with pytest.raises(ValueError, match="give it as model="):
        load_run(folder)
    with pytest.raises(ValueError, match="another network"):
        load_run(folder, model=Normed(16, 2, nnx.Rngs(0)))
    with pytest.raises(FileNotFoundError, match="holds no run"):
        load_run(folder / "checkpoints")


def test_only_the_last_checkpoints_are_kept(undisturbed):
    folder, _ = undisturbed
    names = sorted(int(path.stem) for path in (folder / "checkpoints").iterdir())
    assert names == [27, 30, 32]


def test_other_settings_are_refused_in_a_line(images, undisturbed):
    folder, _ = undisturbed
    with pytest.raises(ValueError, match=r"holds a run with another batch_size, epochs; go on"):
        fit(
            normed(), images, noisy_guided(), epochs=9, batch_size=16, seed=5, out=folder,
            augment=["flip"],
        )  # fmt: skip
    other = Dataset.from_arrays(*images.train.examples(np.arange(48)[::-1]), name="noise")
    with pytest.raises(ValueError, match=r"another data, seed;"):
        fit(
            normed(), other, noisy_guided(), epochs=8, batch_size=12, seed=6, out=folder,
            augment=["flip"],
        )  # fmt: skip


def damage(path, how):
    """Damages a file."""
    content = bytearray(path.read_bytes())
    if how == "flipped":
        content[len(content) // 2] ^= 0x10
    path.write_bytes(content[: len(content) // 2] if how == "cut" else content)
    if how == "empty":
        path.write_bytes(b"")


@pytest.mark.parametrize("how", ["cut", "flipped", "empty"])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(
    images, undisturbed, tmp_path, capsys, how
):
    whole, expected = undisturbed
    folder = tmp_path / "run"
    shutil.copytree(whole, folder)
    damage(folder / "checkpoints" / "32.npz", how)
    assert load_run(folder, model=normed()).step == 30
    said = capsys.readouterr().err
    assert "32.npz: damaged" in said
    assert said.count("\n") == 1
    same_run(resumable(images, folder), expected)
    assert steps_of(folder) == steps_of(whole)


def test_a_byte_that_flips_anywhere_is_found_out_or_changes_nothing(undisturbed, tmp_path, capsys):
    folder = tmp_path / "run"
    shutil.copytree(undisturbed[0], folder)
    path = folder / "checkpoints" / "32.npz"
    content, (_, arrays) = path.read_bytes(), RunFolder(folder).restore()
    random = np.random.default_rng(0)
    steps = set()
    for place in random.integers(0, len(content), 60):
        flipped = bytearray(content)
        flipped[place] ^= 1 << random.integers(8)
        path.write_bytes(flipped)
        step, restored = RunFolder(folder).restore()
        steps.add(step)
        if step == 32:
            assert restored.keys() == arrays.keys()
            assert all(np.array_equal(restored[name], arrays[name]) for name in arrays)
    assert 30 in steps


def test_parameters_of_other_dtypes_are_kept(vectors, tmp_path):
    def half():
        how = {"widths": (4,), "rngs": nnx.Rngs(0), "param_dtype": jnp.bfloat16}
        return MLPClassifier((8,), 3, **how)

    how = {"epochs": 1, "batch_size": 512, "devices": jax.devices()[:1], "out": tmp_path}
    trained = fit(half(), vectors, classification(), **how)
    same_run(load_run(tmp_path, model=half()), trained)
    same_run(fit(half(), vectors, classification(), **how), trained)


def test_a_full_disk_is_said_in_a_line_and_nothing_is_lost(
    images, undisturbed, tmp_path, monkeypatch
):
    save = np.savez

    def full(path, **arrays):
        if "15.npz" in path.name:
            path.write_bytes(b"half of it")
            raise OSError(errno.ENOSPC, "No space left on device")
        save(path, **arrays)

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match=r"15.npz: cannot be written \(No space left") as caught:
        resumable(images, tmp_path)
    assert "\n" not in str(caught.value)
    monkeypatch.undo()
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == ["12.npz", "6.npz", "9.npz"]
    rows = []
    made = []
    options = {
        "on_log": rows.append,
        "progress": lambda *count_and_means: made.append(count_and_means),
    }
    same_run(resumable(images, tmp_path, **options), undisturbed[1])
    assert rows[0]["step"] == 15
    assert made[0] == (12, {})  # what was made before
    assert sum(count for count, _ in made) == 32


def killed(folder):
    """A run that says where it is, slowly enough to be killed."""
    jax.config.update("jax_num_cpu_devices", 4)
    jax.config.update("jax_enable_x64", True)
    data = noise_images()

    def told(row):
        print(row["step"], flush=True)
        time.sleep(0.02)

    with compiling.quickly():  # to the bit what a test computes
        resumable(data, folder, on_log=told)


def kill_at(folder, step):
    """Starts a run and kills it once it has come to a step."""
    process = subprocess.Popen(
        [sys.executable, __file__, "killed", str(folder)],
        env={**os.environ, "JAX_COMPILATION_CACHE_DIR": jax.config.jax_compilation_cache_dir},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) >= step:
            break
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL


def test_killed_and_resumed_is_undisturbed_to_the_bit(images, undisturbed, tmp_path):
    whole, expected = undisturbed
    kill_at(tmp_path, int(np.random.default_rng().integers(3, 30)))
    same_run(resumable(images, tmp_path), expected)
    assert steps_of(tmp_path) == steps_of(whole)


@pytest.mark.slow
def test_killed_again_and_again(images, undisturbed, tmp_path):
    whole, expected = undisturbed
    for step in (1, 7, 12, 20, 31):
        kill_at(tmp_path, step)
    same_run(resumable(images, tmp_path), expected)
    assert steps_of(tmp_path) == steps_of(whole)


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_checkpoint(images, tmp_path):
    how = {"learning_rate": 1e25, "epochs": 2, "batch_size": 24}
    with pytest.raises(Diverged, match=r"loss is not finite at step 2 of 4; try a .*1e\+25"):
        fit(normed(), images, reconstruction(), **how)
    with pytest.raises(Diverged, match=r"step 2 of 4; the checkpoint of step 1 is kept"):
        fit(normed(), images, reconstruction(), out=tmp_path, checkpoint_every=1, **how)
    last = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])
    assert (last["step"], last["loss"]) == (2, None)
    assert load_run(tmp_path, model=normed()).step == 1


def test_a_network_of_the_same_kind_is_not_compiled_again(images):
    how = {"epochs": 2, "batch_size": 12, "devices": jax.devices()[:2]}
    fit(Normed(16, 3, nnx.Rngs(0)), images, noisy_guided(), **how)
    compiled = parallel.training.cache_info().misses, parallel.evaluation.cache_info().misses
    objective = guided(0.1, reconjax.noise.patch_mask(0.9, (2, 2), (4, 4, 1)))
    other = fit(Normed(16, 3, nnx.Rngs(1)), images, objective, seed=1, learning_rate=1e-2, **how)
    assert other.step == 8
    again = parallel.training.cache_info().misses, parallel.evaluation.cache_info().misses
    assert again == compiled


# Several runs in one program


@pytest.mark.parametrize("together", ["vmap", "map"])
def test_several_runs_are_those_that_one_makes_by_itself(images, together, tmp_path):
    def make(seed):
        return Normed(16, 3, nnx.Rngs(seed))

    how = {"epochs": 2, "batch_size": 12, "devices": jax.devices()[:2]}
    seeds, rates = [4, 4, 7, 7], [1e-3, 1e-3, 3e-3, 1e25]
    found = fit_runs(
        make, images, noisy_guided(), seeds=seeds, learning_rates=rates, weights=[0, 0.5, 0.5, 0.5],
        together=together, out=tmp_path, **how,
    )  # fmt: skip
    assert len(found) == 4
    for index in (1, 2):
        one = fit(
            make(seeds[index]), images, noisy_guided(), seed=seeds[index],
            learning_rate=rates[index], **how,
        )  # fmt: skip
        rows, expected = timeless(found[index].history), timeless(one.history)
        assert [row.pop("run") for row in rows] == [index] * len(rows)
        assert [row.pop("run") for row in expected] == [0] * len(expected)
        same_rows(rows, expected)
    # A head whose weight is 0 stays as it was made, and the others' does not.
    start = named(nnx.as_pure(nnx.state(noisy_guided().head(make(4), 3, nnx.Rngs(4)))))
    for index, moved in ((0, False), (1, True)):
        head = named(nnx.as_pure(nnx.state(found[index].head)))
        assert np.allclose(head["kernel"], start["kernel"], atol=1e-5) != moved
    # The last one has diverged, which is its own affair.
    assert found[3].history[-1]["loss"] is None
    same_run(load_run(tmp_path, model=make(0), run=2), found[2])
    with pytest.raises(ValueError, match=r"holds 4 runs; run=0 .. 3 names one"):
        load_run(tmp_path, model=make(0))


# Two processes


def share(address, process, folder):
    """One of two processes with two devices each, which train one network."""
    jax.config.update("jax_num_cpu_devices", 2)
    jax.config.update("jax_enable_x64", True)
    hosts.start(address, 2, process, timeout=60)
    data = noise_images()
    out = folder / "run"
    first = shared_run(data, out, epochs=4)
    again = shared_run(data, out, epochs=4)  # reads the checkpoint
    assert again.step == first.step
    np.savez(folder / f"{process}.npz", **named(nnx.as_pure(nnx.state(again.model))))
    (folder / f"{process}.json").write_text(json.dumps(first.history))
    os._exit(0)  # not waiting for the other


def shared_run(data, out, epochs):
    return fit(normed(), data, noisy_guided(), epochs=epochs, batch_size=24, out=out)


@pytest.mark.slow
def test_two_processes_train_as_one_does(images, tmp_path):
    with socket.create_server(("", 0)) as server:
        address = f"localhost:{server.getsockname()[1]}"
    running = [
        subprocess.Popen(
            [sys.executable, __file__, "share", address, str(process), str(tmp_path)],
            env={**os.environ, **compiling.quick_environment()},
            stderr=subprocess.PIPE,
            text=True,
        )
        for process in (0, 1)
    ]
    try:
        errors = [process.communicate(timeout=100)[1] for process in running]
    finally:
        for process in running:
            process.kill()
    assert [process.returncode for process in running] == [0, 0], errors
    alone = shared_run(images, None, epochs=4)
    histories = [json.loads((tmp_path / f"{i}.json").read_text()) for i in (0, 1)]
    assert timeless(histories[0]) == timeless(histories[1])
    same_rows(timeless(histories[0]), timeless(alone.history))
    one, other = (dict(np.load(tmp_path / f"{i}.npz")) for i in (0, 1))
    for name in one:
        assert one[name].tobytes() == other[name].tobytes(), name


# Objectives


@jax.tree_util.register_pytree_node_class
class Agreement:
    """Embeddings of two noisy views are drawn together; the head is a module of its own."""

    name = "agreement"

    def __init__(self, noise):
        self.noise = noise

    def tree_flatten(self):
        return (self.noise,), None

    @classmethod
    def tree_unflatten(cls, _, children):
        return cls(*children)

    def check(self, model, dataset):
        if not hasattr(model, "encode"):
            raise ValueError("model: agreement needs an encoder")

    def head(self, model, num_classes, rngs):
        return nnx.Linear(model.latent_dim, 7, rngs=rngs)

    def terms(self, model, head, keys, x, labels):
        def view(fold):
            own = jax.vmap(jax.random.fold_in, (0, None))(keys, fold)
            return head(model.encode(jax.vmap(self.noise.sample)(own, x[:, None])[:, 0]))

        return {"loss": jnp.mean((view(0) - view(1)) ** 2, axis=1)}

    def settings(self):
        return {"name": self.name}


def test_another_objective_with_a_head_of_its_own_needs_no_other_change(images, tmp_path):
    objective = Agreement(reconjax.noise.patch_mask(0.5, (2, 2), (4, 4, 1)))
    how = {"epochs": 30, "batch_size": 24, "learning_rate": 1e-2, "out": tmp_path}
    trained = fit(normed(), images, objective, **how)
    losses = [row["loss"] for row in trained.history if row["split"] == "train"]
    assert losses[-1] < 0.5 * losses[0]
    assert trained.head.kernel.shape == (3, 7)
    same_run(load_run(tmp_path, model=normed(), objective=objective), trained)
    with pytest.raises(ValueError, match="agreement needs an encoder"):
        fit(MLPClassifier((4, 4, 1), 3, rngs=nnx.Rngs(0)), images, objective, batch_size=24)


# The parts


def test_inputs_are_centered_by_the_mean_of_the_training_split(images, vectors):
    x, _ = images.train.examples(np.arange(48))
    inputs = Centered.of(images.train, batch_size=20)
    assert inputs.mean.dtype == jnp.float32
    np.testing.assert_allclose(inputs.mean, x.mean(0) / 255, rtol=1e-6)
    np.testing.assert_allclose(inputs.centered(x).mean(0), 0, atol=1e-6)
    assert inputs.centered(x[:2]).dtype == jnp.float32
    floats, _ = vectors.train.examples(np.arange(512))
    centered = Centered.of(vectors.train).centered(floats)
    np.testing.assert_allclose(centered, floats - floats.mean(0), atol=1e-6)


def test_every_epoch_has_its_own_order_and_all_examples_take_part():
    first, second = order(0, 0, 10, 4), order(0, 1, 10, 4)
    assert first.shape == (2, 4)
    assert len({*first.ravel()}) == 8
    assert not np.array_equal(first, second)
    assert {*np.concatenate([order(0, epoch, 10, 4) for epoch in range(9)]).ravel()} == {*range(10)}
    np.testing.assert_array_equal(
        first, np.random.default_rng([0, 0]).permutation(10)[:8].reshape(2, 4)
    )


def test_augmentations_are_windows_mirrors_and_grays():
    rng = np.random.default_rng(0)
    image = jnp.asarray(rng.uniform(0.1, 1, (16, 16, 3)), jnp.float32)
    keys = jax.random.split(jax.random.key(0), 200)

    def draw(*names):
        return np.asarray(jax.jit(jax.vmap(lambda key: augmented(names, key, image)))(keys))

    padded = np.pad(image, ((2, 2), (2, 2), (0, 0)))
    windows = {padded[i : i + 16, j : j + 16].tobytes() for i in range(5) for j in range(5)}
    assert {one.tobytes() for one in draw("crop")} == windows
    mirrored = np.asarray(image)[:, ::-1]
    flipped = draw("flip")
    flips = [np.array_equal(one, mirrored) for one in flipped]
    assert 70 < sum(flips) < 130
    assert all(np.array_equal(o, image) for o, f in zip(flipped, flips, strict=True) if not f)
    gray = image @ jnp.asarray([0.299, 0.587, 0.114], jnp.float32)
    drawn = draw("grayscale")
    grays = [np.ptp(one, axis=-1).max() == 0 for one in drawn]
    assert 20 < sum(grays) < 65
    np.testing.assert_allclose(drawn[grays.index(True)][..., 0], gray, rtol=1e-5)


def test_losses_are_those_of_numpy():
    rng = np.random.default_rng(0)
    logits, labels = rng.standard_normal((6, 4)), rng.integers(0, 4, 6)
    x = jnp.asarray(logits, jnp.float32)
    keys = jax.random.split(jax.random.key(0), 6)

    def terms(objective):
        return objective.terms(lambda x: x, None, keys, x, jnp.asarray(labels, jnp.int32))

    squares = ((logits - np.eye(4)[labels]) ** 2).mean(1)
    np.testing.assert_allclose(terms(classification("mse"))["loss"], squares, rtol=1e-5)
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    entropy = -np.log(shares[np.arange(6), labels])
    found = terms(classification())
    np.testing.assert_allclose(found["loss"], entropy, rtol=1e-5)
    np.testing.assert_array_equal(found["accuracy"], logits.argmax(1) == labels)


def test_the_cycle_goes_up_and_down():
    cycle = one_cycle(100)
    shares = np.asarray([cycle(step) for step in range(101)])
    assert shares[0] == pytest.approx(1 / 25)
    assert shares.argmax() == 30
    assert shares[30] == pytest.approx(1)
    assert shares[100] == pytest.approx(1 / 25e4, rel=1e-3)
    for steps in (1, 2, 3):
        assert np.isfinite([one_cycle(steps)(step) for step in range(steps)]).all()


def test_weights_decay_and_biases_do_not():
    from reconjax.training.optimizer import adamw

    params = {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}
    rule = adamw(0.1, 0.5, 10)
    updates, _ = rule.update(jax.tree.map(jnp.zeros_like, params), rule.init(params), params)
    new = optax.apply_updates(params, updates)
    np.testing.assert_allclose(new["kernel"], 1 - 0.1 / 25 * 0.5, rtol=1e-6)
    np.testing.assert_array_equal(new["bias"], 1)


def test_evaluation_streams_and_pads_and_is_the_mean_over_the_split(images):
    model = normed()
    model.eval()
    trained = fit(model, images, reconstruction(), epochs=2, batch_size=24)
    x = trained.inputs.centered(images.test.examples(np.arange(13))[0])
    error = float(jnp.mean((trained.model(x) - x) ** 2))
    for size, devices in ((512, None), (5, jax.devices()[:1]), (7, jax.devices()[:3])):
        found = evaluate(trained, images.test, reconstruction(), batch_size=size, devices=devices)
        assert found["loss"] == pytest.approx(error, rel=1e-5)
    assert trained.history[-1]["loss"] == pytest.approx(error, rel=1e-5)


def test_the_caller_measures_at_the_steps_that_it_names(images):
    seen = []

    def measure(trained):
        seen.append(trained.step)
        return {"energy": np.arange(3.0), "bad": np.nan}

    trained = fit(
        normed(), images, reconstruction(), epochs=2, batch_size=24, evaluate_at=[0, 3],
        measure=measure,
    )  # fmt: skip
    assert seen == [0, 3, 4]
    rows = [row for row in trained.history if row["split"] == "test"]
    assert [row["step"] for row in rows] == [0, 3, 4]
    assert rows[1]["energy"] == [0, 1, 2]
    assert rows[1]["bad"] is None


def test_convolutions_on_cpus_stay_out_of_loops(images, monkeypatch):
    """Where XLA computes them many times slower."""
    made = []
    training = parallel.training
    monkeypatch.setattr(parallel, "training", lambda *how: (made.append(how[2]), training(*how))[1])
    model = ConvAutoencoder((4, 4, 1), 3, widths=(4,), rngs=nnx.Rngs(0))
    alone = dataclasses.replace(images, test=None)
    trained = fit(model, alone, reconstruction(), epochs=10, batch_size=12, learning_rate=1e-2)
    assert made == [1]
    assert trained.history[-1]["loss"] < 0.7 * trained.history[0]["loss"]


def test_a_classifier_learns_and_stays_as_it_was(vectors):
    model = MLPClassifier((8,), 3, widths=(16,), rngs=nnx.Rngs(0))
    before = named(nnx.as_pure(nnx.state(model)))
    told = []
    trained = fit(
        model, vectors, classification(), epochs=20, batch_size=64, learning_rate=1e-2,
        progress=lambda count, means: told.append((count, means)), evaluate_at=[],
    )  # fmt: skip
    assert trained.head is None
    assert evaluate(trained, vectors.train, classification())["accuracy"] > 0.8
    for name, leaf in named(nnx.as_pure(nnx.state(model))).items():
        np.testing.assert_array_equal(leaf, before[name])
    assert sum(count for count, _ in told) == trained.step == 160
    assert {"loss", "accuracy", "images_per_second"} <= told[-1][1].keys()


def wrong_labels(images):
    class Split(type(images.train)):
        @property
        def labels(self):
            return np.full(48, 3)

    split = Split(*images.train.examples(np.arange(48)))
    return Dataset("wrong", ("a", "b", "c"), split, None)


@pytest.mark.parametrize(
    ("how", "text"),
    [
        ({"batch_size": 26}, "batch_size: 26 cannot be shared by 4 devices alike; a multiple of 4"),
        ({"batch_size": 49}, "batch_size: 49; 1 .. 48 with 48 examples"),
        ({"batch_size": 0}, "batch_size: 0; 1 .. 48"),
        ({"epochs": 0}, "epochs: 0; it must be at least 1"),
        ({"learning_rate": 0}, "learning_rate: 0; it must be finite and > 0"),
        ({"learning_rate": np.nan}, "learning_rate: nan; it must"),
        ({"weight_decay": -1}, "weight_decay: -1; it must be finite and >= 0"),
        ({"seed": -1}, "seed: -1; a whole number"),
        ({"augment": ["blur"]}, "augment: 'blur'; crop, flip, grayscale are there"),
        ({"augment": ["grayscale"]}, "augment: grayscale needs 3 channels, not 1"),
        ({"checkpoint_every": 0}, "checkpoint_every: 0; it must be at least 1 step"),
        ({"evaluate_at": [99]}, "evaluate_at: 99; 0 .. 4 in a run of 4 steps"),
        ({"model": lambda: linear(16, 2)}, r"model: made for examples of (16,), not of (4, 4, 1)"),
        ({"model": lambda: nnx.Linear(1, 1, rngs=nnx.Rngs(0))}, "model: Linear has no encode"),
        (
            {"model": lambda: MLPClassifier((4, 4, 1), 5, widths=(), rngs=nnx.Rngs(0)),
             "objective": classification()},
            "model: gives (1, 5) for one example; classification needs (1, 3)",
        ),
        ({"dataset": wrong_labels}, "labels: 3; 0 .. 2 with 3 classes"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_at_the_door_in_a_line(images, how, text):
    given = {"epochs": 2, "batch_size": 24, **how}
    model, objective = given.pop("model", normed)(), given.pop("objective", reconstruction())
    data = given.pop("dataset", lambda images: images)(images)
    with pytest.raises(ValueError) as caught:
        fit(model, data, objective, **given)
    assert str(caught.value).startswith(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: classification("hinge"), "loss: 'hinge'; it must be one of cross_entropy, mse"),
        (lambda: guided(-1), "guidance_weight: -1; it must be finite and >= 0"),
        (lambda: guided(np.inf), "guidance_weight: inf; it must"),
        (lambda: check_augmentation(["flip"], (64,)), "augment: flip needs images, not examples"),
        (
            lambda: several(seeds=[1, 2], learning_rates=[1, 2, 3]),
            "runs: 2 seeds, 3 learning",
        ),
        (lambda: several(weights=[1, 2]), "weights: given for an objective that has none"),
        (lambda: several(together="both"), "together: 'both'; it must be 'vmap' or 'map'"),
    ],
)
def test_what_cannot_be_is_refused(make, text):
    with pytest.raises(ValueError) as caught:
        make()
    assert str(caught.value).startswith(text)


def several(**options):
    return fit_runs(lambda seed: normed(), load("digits"), reconstruction(), **options)


if __name__ == "__main__":
    jax.config.update("jax_numpy_dtype_promotion", "strict")
    what, *arguments = sys.argv[1:]
    if what == "eight":
        eight()
    elif what == "killed":
        killed(Path(arguments[0]))
    else:
        share(arguments[0], int(arguments[1]), Path(arguments[2]))
