"""Two real processes with two simulated devices each are one job, and give what one process gives.

Run as a program, this file is one of the two processes.
"""

import contextlib
import dataclasses
import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import compiling
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import reconjax
from reconjax.data import load
from reconjax.data.split import ArraySplit
from reconjax.summary import hosts

ROOT = Path(__file__).parents[2]
PATHS = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
PAGE = ROOT / "docs" / "clusters.md"
CLUSTER = re.compile(r"^(SLURM|OMPI|JAX|TPU|KUBERNETES)_")


def digits_moments(split):
    return reconjax.moments_from_batches(split.batches(256), num_classes=10)


def by_class(split):
    return split.subset(np.argsort(split.labels, kind="stable"))


def digits_sweep(moments, **options):
    grid = reconjax.mask_grid((8, 8, 1), [1, 2], [0.25, 0.75])
    return reconjax.sweep(moments, grid, [0.1, np.inf], **options)


def unlike(moments, process):
    """(what differs, the moments of this process) where the other process has others."""
    half = dataclasses.replace(
        moments,
        mean_x=moments.mean_x[:32],
        scale=moments.scale[:32],
        second_moment=moments.second_moment[:32, :32],
        cross_moment=moments.cross_moment[:32],
    )
    others = {
        "features": half,
        "targets": dataclasses.replace(moments, label_moment=jnp.eye(9)),
        "centered": reconjax.summary.uncentered(moments),
        "bits": jax.tree.map(lambda leaf: leaf.astype("float32"), moments),
        "checksum of shapes": dataclasses.replace(moments, samples=moments.samples[None]),
        "checksum of scale": dataclasses.replace(moments, scale=2 * moments.scale),
    }
    return {name: (moments, other)[process] for name, other in others.items()}


def digits_lift():
    """Covariances of random features, without noise: with it, batches of the parts differ."""
    data = load("digits")
    seen = reconjax.lift.lift(data, reconjax.lift.random_layers([8], 64))
    return reconjax.lift.lifted_moments(seen).covariances


def message(call, *arguments, **options):
    """The kind and the text of the error that a call ends in."""
    try:
        call(*arguments, **options)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "no error"


def one_of_two(address, process, folder):
    """What each of the two processes computes; it leaves its findings in files."""
    jax.config.update("jax_num_cpu_devices", 2)
    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_numpy_dtype_promotion", "strict")
    hosts.start(address, 2, process, timeout=60)
    train = load("digits").train
    halves = hosts.part(train)
    own = digits_moments(halves)
    whole = hosts.merged(own)
    unequal = train.subset(np.arange(256) if process == 0 else np.arange(256, len(train)))
    found = {
        "digits": whole,
        "float32": hosts.merged(jax.tree.map(lambda leaf: leaf.astype("float32"), own)),
        "unequal": hosts.merged(digits_moments(unequal)),
        "sorted": hosts.merged(digits_moments(hosts.part(by_class(train)))),
    }
    mesh = jax.sharding.Mesh(np.array(jax.devices()).reshape(2, 2), ("a", "b"))
    found["sweep"] = digits_sweep(whole, mesh=mesh)
    found["lift"] = digits_lift()
    arrays = {
        f"{name}{jax.tree_util.keystr(path)}": np.asarray(leaf)
        for name, tree in found.items()
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }
    facts = {
        "devices": [jax.device_count(), jax.local_device_count()],
        "first": hosts.first(),
        "samples": len(halves),
        "ends": [halves.labels[0].item(), halves.labels[-1].item()],
        "committed": whole.second_moment.committed,
        "twice": message(hosts.start, address, 2, process),
        "small": message(hosts.part, train.subset(np.arange(3))),
        **{name: message(hosts.merged, other) for name, other in unlike(whole, process).items()},
    }
    if process == 0:  # process 1 is gone by now, or goes while this one waits
        facts["alone"] = message(hosts.merged, whole)
    np.savez(folder / f"{process}.npz", **arrays)
    (folder / f"{process}.json").write_text(json.dumps(facts))
    os._exit(0)  # not waiting for the other


def lonely(free, taken):
    """Starts that must fail, each in one line and soon, and one that does not."""
    jax.config.update("jax_num_cpu_devices", 1)
    if taken:
        print(message(hosts.start, f"localhost:{taken}", 2, 0, timeout=0.5), flush=True)
        os._exit(0)  # taking down the service of a job sometimes crashes
    print(message(hosts.start))
    print(message(hosts.start, f"localhost:{free}", 1, 0, timeout=5), flush=True)
    os._exit(0)


@contextlib.contextmanager
def listening():
    """A port on which something listens that is none of ours."""
    with socket.create_server(("", 0)) as server:
        yield server.getsockname()[1]


def free_port():
    with listening() as port:
        return port


def run_all(commands, environments=({}, {})):
    """The standard outputs of programs that run side by side; none may fail or hang."""
    found = ends_of(commands, environments)
    for status, _, errors in found:
        assert status == 0, errors
    return [output for _, output, _ in found]


def ends_of(commands, environments=({}, {})):
    """(status, standard output, standard error) of programs that run side by side."""
    clean = {name: value for name, value in os.environ.items() if not CLUSTER.match(name)}
    quick = compiling.quick_environment()
    running = [
        subprocess.Popen(
            [sys.executable, *map(str, command)],
            env={
                **clean,
                **quick,
                "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}",
                **environment,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for command, environment in zip(commands, environments, strict=False)
    ]
    try:
        outputs = [process.communicate(timeout=100) for process in running]
    finally:
        for process in running:
            process.kill()
            process.wait()
    return [(process.returncode, *both) for process, both in zip(running, outputs, strict=True)]


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """(arrays, facts) of process 0 and of process 1."""
    folder = tmp_path_factory.mktemp("hosts")
    address = f"localhost:{free_port()}"
    run_all([(__file__, "two", address, process, folder) for process in (0, 1)])
    return [
        (
            dict(np.load(folder / f"{process}.npz")),
            json.loads((folder / f"{process}.json").read_text()),
        )
        for process in (0, 1)
    ]


def expected():
    train = load("digits").train
    whole = digits_moments(train)
    return {
        "digits": (whole, 1e-10),
        "float32": (whole, 1e-5),
        "unequal": (whole, 1e-10),
        "sorted": (whole, 1e-10),
        "sweep": (digits_sweep(whole), 1e-10),
        "lift": (digits_lift(), 1e-10),
    }


def test_two_processes_give_what_one_gives(both):
    (arrays, _), _ = both
    seen = set()
    for name, (tree, tolerance) in expected().items():
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
            key = f"{name}{jax.tree_util.keystr(path)}"
            np.testing.assert_allclose(arrays[key], leaf, rtol=0, atol=tolerance, err_msg=key)
            seen.add(key)
    assert seen == set(arrays)
    assert arrays["digits.second_moment"].dtype == np.float64
    assert arrays["float32.second_moment"].dtype == np.float32


def test_both_processes_have_the_same_bits(both):
    (one, _), (other, _) = both
    assert one.keys() == other.keys()
    for name in one:
        assert one[name].tobytes() == other[name].tobytes(), name


@pytest.mark.parametrize("name", ["digits", "float32", "unequal"])
def test_merged_second_moments_are_symmetric(both, name):
    for arrays, _ in both:
        for moment in ("second_moment", "label_moment"):
            found = arrays[f"{name}.{moment}"]
            np.testing.assert_array_equal(found, found.T)


def test_the_parts_are_contiguous_and_cover_the_split(both):
    train = load("digits").train
    (_, one), (_, other) = both
    assert one["devices"] == other["devices"] == [4, 2]
    assert (one["first"], other["first"]) == (True, False)
    assert one["samples"] + other["samples"] == len(train)
    assert abs(one["samples"] - other["samples"]) <= 1
    middle = one["samples"]
    assert one["ends"] == train.labels[[0, middle - 1]].tolist()
    assert other["ends"] == train.labels[[middle, -1]].tolist()
    assert not one["committed"]  # usable on any device, as moments of one process are


def test_a_split_that_is_too_small_is_refused_by_all(both):
    for _, facts in both:
        assert facts["small"] == (
            "ValueError: split: 3 samples for 2 processes; at least 2 each are needed"
        )


@pytest.mark.parametrize(
    ("name", "bounds"),
    [
        ("features", "32 and 64"),
        ("targets", "9 and 10"),
        ("centered", "0 and 1"),
        ("bits", "32 and 64"),
        ("checksum of shapes", ""),
        ("checksum of scale", ""),
    ],
)
def test_moments_that_differ_are_refused_by_all(both, name, bounds):
    (_, one), (_, other) = both
    assert one[name] == other[name]
    assert one[name].startswith(f"ValueError: moments: {name} between {bounds}")


def test_a_process_that_is_left_alone_says_so(both):
    (_, facts), _ = both
    assert facts["alone"].startswith("OSError: hosts: another process failed")
    assert "\n" not in facts["alone"]


def test_a_second_start_is_refused(both):
    for _, facts in both:
        assert facts["twice"].startswith("RuntimeError: hosts.start: called twice")


def test_starts_that_cannot_succeed_end_in_one_line():
    (output,) = run_all([(__file__, "lonely", free_port(), "")])
    no_cluster, alone = output.splitlines()
    assert no_cluster.startswith("ValueError: hosts.start: no cluster was found")
    assert alone == "no error"
    with listening() as taken:
        (output,) = run_all([(__file__, "lonely", "", taken)])
    (line,) = output.splitlines()
    assert line.startswith(f"OSError: hosts.start: port {taken} cannot be used")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("localhost:1234", None, None), "processes: not given"),
        (("localhost:1234", 2, None), "process: not given"),
        ((None, 2, 0), "coordinator: not given"),
        (("localhost:1234", 0, 0), "processes: 0"),
        (("localhost:1234", 2, 2), "process: 2; 0 .. 1"),
        (("localhost:1234", 2, -1), "process: -1"),
        (("localhost:1234", 2.0, 0), "processes: 2.0; a whole number"),
        (("localhost:1234", 2, True), "process: True; a whole number"),
        (("localhost", 2, 0), "coordinator: 'localhost'; HOST:PORT"),
        ((":1234", 2, 0), "coordinator: ':1234'"),
        (("localhost:", 2, 0), "coordinator: 'localhost:'"),
        (("localhost:http", 2, 0), "coordinator: 'localhost:http'"),
        (("localhost:65536", 2, 0), "coordinator: 'localhost:65536'"),
    ],
)
def test_wrong_arguments_are_named(arguments, text):
    with pytest.raises(ValueError, match=re.escape(text)):
        hosts.start(*arguments)


def test_a_wrong_timeout_is_named():
    with pytest.raises(ValueError, match="timeout: 0"):
        hosts.start("localhost:1234", 2, 0, timeout=0)


def test_a_start_after_the_first_computation_is_refused():
    jax.devices()
    for arguments in ((), ("localhost:1234", 2, 0)):
        with pytest.raises(RuntimeError, match="must be called before any JAX"):
            hosts.start(*arguments)


@pytest.mark.slow
def test_a_process_that_waits_in_vain_ends():
    start = f"hosts.start('localhost:{free_port()}', 2, 0, timeout=1)"
    ((status, _, errors),) = ends_of([("-c", f"from reconjax.summary import hosts; {start}")])
    assert status != 0
    assert "DEADLINE_EXCEEDED" in errors


def test_a_single_process_keeps_what_it_has():
    train = load("digits").train
    found = digits_moments(train)
    assert hosts.merged(found) is found
    assert hosts.part(train) is train
    assert hosts.first()


@pytest.mark.parametrize("processes", [2, 3, 7])
@pytest.mark.parametrize("count", [14, 20, 101])
def test_parts_differ_by_one_sample_at_most(monkeypatch, processes, count):
    split = ArraySplit(np.arange(count)[:, None], np.zeros(count, int))
    monkeypatch.setattr(jax, "process_count", lambda: processes)
    seen = []
    for process in range(processes):
        monkeypatch.setattr(jax, "process_index", lambda process=process: process)
        images, _ = hosts.part(split).examples(slice(None))
        seen.append(images[:, 0].tolist())
    assert np.concatenate(seen).tolist() == list(range(count))
    assert max(map(len, seen)) - min(map(len, seen)) <= 1


def merged_here(parts):
    """The arithmetic of `merged`, with the processes as an axis of one array."""
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves)[:, None], *parts)
    return jax.jit(jax.vmap(hosts._merged, axis_name="process", out_axes=None))(stacked)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("offset", [0.0, 1e3])
def test_far_means_and_unequal_parts_are_merged_soundly(dtype, offset):
    random = np.random.default_rng(0)
    x = random.normal(size=(60, 5)) @ random.normal(size=(5, 5)) + offset
    x[40:] += 3
    y = random.integers(0, 3, 60)
    whole = reconjax.moments(x, y, num_classes=3)
    parts = [
        reconjax.moments(x[part], y[part], num_classes=3)
        for part in (slice(0, 2), slice(2, 40), slice(40, 60))
    ]
    parts = [jax.tree.map(lambda leaf: leaf.astype(dtype), part) for part in parts]
    found = merged_here(parts)
    rounding = float(jnp.finfo(dtype).eps)
    np.testing.assert_allclose(found.mean_x, whole.mean_x, rtol=4 * rounding, atol=4 * rounding)
    # The means are known to `offset * rounding`, and their distances enter squared.
    tolerance = 100 * rounding * (1 + offset)
    for name in ("second_moment", "cross_moment", "label_moment"):
        np.testing.assert_allclose(getattr(found, name), getattr(whole, name), atol=tolerance)
    assert (found.samples, found.weight) == (60, 60)


def test_weights_and_units_are_respected():
    random = np.random.default_rng(1)
    x, y = random.normal(size=(30, 4)), np.arange(30) % 3
    weight = np.array([0.0, 1.0, 2.5])
    scale = jnp.arange(1.0, 5.0)
    parts = [
        reconjax.moments(x[part], y[part], num_classes=3, class_weight=weight)
        for part in (slice(0, 7), slice(7, 30))
    ]
    scaled = [
        dataclasses.replace(
            part,
            scale=scale,
            second_moment=part.second_moment / jnp.outer(scale, scale),
            cross_moment=part.cross_moment / scale[:, None],
        )
        for part in parts
    ]
    empty = jax.tree.map(jnp.zeros_like, scaled[0])
    found = merged_here([*scaled, dataclasses.replace(empty, scale=scale)])
    for one, other in zip(
        jax.tree.leaves(found), jax.tree.leaves(reconjax.merge(*scaled)), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=1e-14, atol=1e-14)
    whole = reconjax.moments(x, y, num_classes=3, class_weight=weight)
    np.testing.assert_allclose(found.second_moment * jnp.outer(scale, scale), whole.second_moment)


def test_uncentered_moments_are_averaged():
    random = np.random.default_rng(2)
    x, y = random.normal(size=(30, 4)) + 1, np.arange(30) % 3
    parts = [
        reconjax.moments(x[part], y[part], num_classes=3, center=False)
        for part in (slice(0, 7), slice(7, 30))
    ]
    whole = reconjax.moments(x, y, num_classes=3, center=False)
    for one, other in zip(jax.tree.leaves(merged_here(parts)), jax.tree.leaves(whole), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-13)


def test_memory_does_not_grow_with_the_processes():
    features = 128
    x = np.random.default_rng(0).normal(size=(8, features))
    parts = reconjax.moments(x, np.arange(8) % 2, num_classes=2)
    square = features * features * 8
    for processes in (2, 4):
        mesh = jax.sharding.Mesh(np.array(jax.devices()[:processes]), ("process",))
        sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("process"))
        shapes = jax.tree.map(
            lambda leaf, p=processes, s=sharding: jax.ShapeDtypeStruct(
                (p, *leaf.shape), leaf.dtype, sharding=s
            ),
            parts,
        )
        compiled = hosts._compiled(hosts._merged, mesh).lower(shapes).compile()
        used = compiled.memory_analysis()
        held = used.argument_size_in_bytes + used.output_size_in_bytes + used.temp_size_in_bytes
        assert held < 3.5 * square
        assert "all-gather" not in compiled.as_text()


PYTHON_BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)


@pytest.mark.slow
def test_the_page_on_clusters_runs_as_a_job_that_slurm_started(tmp_path):
    """Its code as it stands, in two processes that find each other as under SLURM."""
    program = tmp_path / "job.py"
    program.write_text("\n".join(PYTHON_BLOCKS))
    slurm = {
        "SLURM_JOB_ID": "1",
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_NTASKS": "2",
        "JAX_COORDINATOR_PORT": str(free_port()),
        "JAX_NUM_CPU_DEVICES": "2",
    }
    outputs = run_all(
        [(program,), (program,)],
        [{**slurm, "SLURM_PROCID": str(i), "SLURM_LOCALID": str(i)} for i in (0, 1)],
    )
    lines = [[line for line in text.splitlines() if "[Gloo]" not in line] for text in outputs]
    assert lines[0]
    assert not lines[1]


def test_the_links_of_the_page_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)\)", PAGE.read_text()):
        assert target.startswith("https://") or (PAGE.parent / target).exists()


if __name__ == "__main__":
    if sys.argv[1] == "two":
        one_of_two(sys.argv[2], int(sys.argv[3]), Path(sys.argv[4]))
    else:
        lonely(*sys.argv[2:])


@pytest.mark.slow
def test_the_command_line_on_two_processes_writes_what_one_writes(tmp_path):
    command = ["-m", "reconjax", "sweep", "digits", "--patches", "1", "2"]
    command += ["--ratios", "0.25", "0.75", "--latent-dims", "4", "16", "--precision", "float64"]
    address = f"localhost:{free_port()}"
    job = ["--out", str(tmp_path / "two"), "--coordinator", address, "--processes", "2"]
    devices = {
        **compiling.quick_environment(),
        "JAX_NUM_CPU_DEVICES": "2",
        "XDG_CACHE_HOME": str(tmp_path),
    }
    first, second = run_all([[*command, *job, "--process", i] for i in "01"], [devices, devices])
    assert "wrote" in first
    assert "wrote" not in second
    run_all([[*command, "--out", str(tmp_path / "one")]], [devices])
    one, two = (dict(np.load(tmp_path / name / "sweep.npz")) for name in ("one", "two"))
    # One process tells more: standard errors and the test split.
    for name, values in two.items():
        np.testing.assert_allclose(one[name], values, rtol=0, atol=1e-10, err_msg=name)


@pytest.mark.slow
def test_the_command_line_of_a_job_ends_in_one_line_on_all_processes(tmp_path):
    command = ["-m", "reconjax", "sweep", "digits", "--patches", "1", "2", "4"]
    address = f"localhost:{free_port()}"
    job = ["--ratios", "0.5", "--coordinator", address, "--processes", "2", "--process"]
    devices = {
        **compiling.quick_environment(),
        "JAX_NUM_CPU_DEVICES": "2",
        "XDG_CACHE_HOME": str(tmp_path),
    }
    for status, _, errors in ends_of([[*command, *job, i] for i in "01"], [devices, devices]):
        assert status == 2
        assert "devices: 4 cannot share a grid of 3 patch shapes x 1" in errors
