"""Several tasks at once: each is what it would be alone, and all inputs are read once."""

import json

import h5py
import numpy as np
import oracle
import pytest
import zarr

import reconjax
from reconjax import studies
from reconjax.cli.main import main
from reconjax.data import Dataset, load
from reconjax.report.commands import reading_options

GRID = {"patches": ["2x2"], "ratios": [0, 0.7], "precision": "float64", "bootstrap": 0}


@pytest.fixture(scope="module")
def arrays():
    (x, labels), (test_x, test_labels) = (oracle.dataset("plain", seed) for seed in (0, 1))
    rng = np.random.default_rng(0)

    def tasks(images, classes):
        flat = images.reshape(len(images), -1)
        real = np.stack([flat[:, 0] * 50, flat[:, 1] + rng.normal(size=len(flat))], axis=1)
        names = np.array(["a", "b", "c", "d", "e"])[classes % 3]
        return {"kind": names, "place": real, "odd": (classes % 2).astype(bool)}

    return x, tasks(x, labels), test_x, tasks(test_x, test_labels)


@pytest.fixture(scope="module")
def data(arrays):
    return Dataset.from_arrays(*arrays, name="several")


@pytest.fixture(scope="module")
def alone(arrays):
    x, y, test_x, test_y = arrays
    return {name: Dataset.from_arrays(x, y[name], test_x, test_y[name]) for name in y}


def test_the_head_line_names_every_task(data):
    expected = "3 tasks: kind (3 classes), place (2 real targets), odd (2 classes)"
    assert data.targets_text == expected
    assert data.num_targets == 7
    variances = [
        data.train.labels[:, part].var(axis=0).sum() for part in np.split(np.arange(7), [3, 5])
    ]
    np.testing.assert_allclose(variances, 1, rtol=1e-12)


def test_each_task_of_align_is_what_it_is_alone(data, alone):
    result = studies.align(data, bootstrap=7)
    assert result.task.values.tolist() == ["kind", "place", "odd"]
    names = ["kind: a", "kind: b", "kind: c", "place: 0", "place: 1", "odd: False", "odd: True"]
    assert result.target.values.tolist() == names
    for name, one in alone.items():
        own, by_itself = result.sel(task=name), studies.align(one, bootstrap=0)
        for curve in ("alignment", "r2", "held_out"):
            np.testing.assert_allclose(own[f"{curve}_by_task"], by_itself[curve], atol=1e-9)
        np.testing.assert_allclose(by_itself.r2_chance, result.r2_chance, atol=1e-12)
    np.testing.assert_allclose(result.r2_by_task.mean("task"), result.r2, atol=1e-12)
    assert (result.r2_by_task_standard_error[:, 3] > 0).all()


@pytest.mark.parametrize("side", ["features", "samples"])
def test_each_task_of_a_sweep_is_what_it_is_alone_on_both_sides(data, alone, side):
    result = studies.sweep(data, **GRID, weights=[np.inf], side=side)
    for name in ("kind", "place") if side == "features" else ("kind",):
        own, one = studies.of_task(result, name), alone[name]
        by_itself = studies.sweep(one, **GRID, side=side)
        for curve in ("r2", "gain", "held_out", "held_out_without"):
            np.testing.assert_allclose(own[curve], by_itself[curve], atol=1e-8)
    assert studies.best(own, [4]).r2.size == 1


STUDIES = {
    "sweep": (studies.sweep, GRID),
    "compare": (studies.compare, {"families": ["mask:0.5:2x2", "flip:0.5"], "latent_dims": [2, 5]}),
    "objectives": (
        studies.objectives,
        {
            **{"patches": [2], "ratios": [0, 0.7], "latent_dims": [2, 5]},
            **{"target": ["whitened:1"], "precision": "float64"},
        },
    ),
}


@pytest.mark.parametrize(
    ("study", "some"),
    [
        ("compare", {}),
        ("objectives", {"side": "samples"}),
        pytest.param("sweep", {}, marks=pytest.mark.slow),
        # By samples, for moments do not fit.
        pytest.param(
            "compare",
            {"families": ["mask:0.5:2x2"], "max_samples": 24, "memory": 1.5e-4},
            marks=pytest.mark.slow,
        ),
    ],
)
def test_gains_and_p_of_each_task_are_what_they_are_alone(arrays, study, some):
    x, y, test_x, test_y = arrays
    # The first task decides how the test split is dealt to folds: alone it is dealt alike.
    split = [(part["place"][:, :1], part["kind"]) for part in (y, test_y)]
    several = [dict(zip(("height", "kind"), both, strict=True)) for both in split]
    data = Dataset.from_arrays(x, several[0], test_x, several[1])
    made, options = STUDIES[study]
    options = {**options, "progress": False} | some
    whole = made(data, **options)
    height = Dataset.from_arrays(x, several[0]["height"], test_x, several[1]["height"])
    alone, own = made(height, **options), studies.of_task(whole, "height")
    same = ["r2", "gain", "held_out", "r2_without", "held_out_without", "p_value"]
    same += [] if study == "sweep" else ["gain_standard_error", "position"]
    for name in same:
        np.testing.assert_allclose(own[name], alone[name], atol=1e-8, err_msg=name)
    if study != "sweep":
        ranked = studies.ranking(own)
        assert [p.noise for p in ranked] == [p.noise for p in studies.ranking(alone)]
    if not some:
        np.testing.assert_allclose(whole.r2_by_task.mean("task"), whole.r2, atol=1e-12)
    if study == "objectives":
        assert own.attrs["r2_all"] == pytest.approx(alone.attrs["r2_all"])
        best, expected = (studies.recipes(one, 5)[0] for one in (own, alone))
        assert best.gain == pytest.approx(expected.gain)


@pytest.mark.parametrize(
    "command",
    ["compare", *(pytest.param(name, marks=pytest.mark.slow) for name in ("advise", "objectives"))],
)
def test_the_commands_say_what_is_best_for_each_task(tmp_path, capsys, arrays, command):
    written(tmp_path, arrays)
    some = ["--latent-dims", "4"]
    some += ["--families", "mask:0.5:2x2"] if command == "compare" else ["--patches", "2"]
    some += [] if command == "compare" else ["--ratios", "0", "0.5", "--target", "whitened:0.5"]
    keys = ["--target-key", "place", "odd", "--out", str(tmp_path)]
    assert main([command, str(tmp_path / "mine.npz"), *keys, *some]) == 0
    printed = capsys.readouterr().out
    table = printed.split("the best for each task at K = 4, held-out r2:\n")[1].splitlines()
    written_json = json.loads((tmp_path / f"{command}.json").read_text())["best_by_task"]
    for row, line in zip(written_json, table[1:3], strict=True):
        assert line.split()[:2] == [row["task"], f"{row['held_out_without']:.4f}"]
        if row["gain"] > 0:
            assert f"{row['gain']:+.4f}" in line
            assert row["noise"] in line
        else:
            assert line.endswith("no noise")
    reading = reading_options({"target_key": ["place", "odd"]})
    assert reading == ["--target-key", "place", "odd"]
    if command == "advise":
        assert " ".join(reading) in printed


def test_examples_without_a_label_of_every_task_are_for_the_encoder(arrays):
    x, y, test_x, test_y = arrays
    y = {**y, "place": np.where(np.arange(len(x))[:, None] % 4 == 0, np.nan, y["place"])}
    data = Dataset.from_arrays(x, y, test_x, test_y)
    assert len(data.unlabeled[0]) == -(-len(x) // 4)
    np.testing.assert_allclose(data.train.labels[:, 3:5].var(axis=0).sum(), 1, rtol=1e-12)
    result = studies.align(data)
    assert result.attrs["unlabeled"] == len(data.unlabeled[0])
    assert result.r2_by_task.dims == ("task", "latent_dim")
    kept = np.flatnonzero(np.arange(len(x)) % 4)
    one = Dataset.from_arrays(x[kept], y["kind"][kept], test_x, test_y["kind"])
    others = Dataset.from_arrays(x[::4])
    by_itself = studies.align(one, unlabeled=others)
    np.testing.assert_allclose(result.r2_by_task.sel(task="kind"), by_itself.r2, atol=1e-9)


def written(folder, arrays):
    x, y, test_x, test_y = arrays
    named = {"x_train": x, "x_test": test_x}
    for name in ("place", "odd"):
        named |= {f"{name}_train": y[name], f"{name}_test": test_y[name]}
    np.savez(folder / "mine.npz", **named)
    with h5py.File(folder / "mine.h5", "w") as file:
        store = zarr.open_group(str(folder / "mine.zarr"), mode="w")
        for name, array in named.items():
            kind, split = name.split("_")
            file[f"{split}/{'images' if kind == 'x' else kind}"] = array
            store.create_array(name, data=array)
    (folder / "npy").mkdir()
    for name, array in named.items():
        np.save(folder / "npy" / f"{name}.npy", array)
    return named


def test_target_keys_name_several_arrays_at_every_door(tmp_path, arrays):
    written(tmp_path, arrays)
    expected = Dataset.from_arrays(
        arrays[0],
        {n: arrays[1][n] for n in ("place", "odd")},
        arrays[2],
        {n: arrays[3][n] for n in ("place", "odd")},
    )
    for door in ("mine.npz", "mine.h5", "mine.zarr", "npy"):
        data = load(tmp_path / door, target_key=["place", "odd"])
        assert [task.name for task in data.tasks] == ["place", "odd"]
        np.testing.assert_array_equal(data.train.labels, expected.train.labels)
        np.testing.assert_array_equal(data.test.labels, expected.test.labels)
        one = load(tmp_path / door, target_key="odd")
        assert one.class_names == ("False", "True")
        with pytest.raises(ValueError, match=r"no target 'age' of the t.* split .*it holds"):
            load(tmp_path / door, target_key=["odd", "age"])


def test_columns_of_a_table_are_tasks(tmp_path, capsys):
    import datasets

    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 4))
    table = {f"x{i}": x[:, i] for i in range(4)}
    table |= {"age": x[:, 0] * 3, "sex": np.array(["f", "m"])[(x[:, 1] > 0) * 1]}
    kind = datasets.ClassLabel(names=["cat", "dog", "owl"])
    features = datasets.Features(
        {**{f"x{i}": datasets.Value("float64") for i in range(4)}}
        | {"age": datasets.Value("float64"), "sex": datasets.Value("string"), "kind": kind}
    )
    table["kind"] = np.arange(60) % 3
    datasets.Dataset.from_dict(table, features=features).to_parquet(tmp_path / "t.parquet")
    datasets.Dataset.from_dict(table).to_csv(tmp_path / "t.csv")
    keys = ["--target-key", "age", "sex", "kind"]
    status = main(["align", str(tmp_path / "t.parquet"), *keys, "--json", "--bootstrap", "0"])
    assert status == 0
    record = json.loads(capsys.readouterr().out)
    assert record["tasks"] == ["age", "sex", "kind"]
    assert "kind: owl" in record["r2_by_target"]
    assert record["features"] == 4
    assert abs(record["r2_by_task"][0][-1] - 1) < 1e-9
    data = load(tmp_path / "t.csv", target_key=["age", "kind"])
    assert data.features == 4
    assert [task.name for task in data.tasks] == ["age", "kind"]


def test_the_commands_print_a_table_of_tasks_and_draw_it(tmp_path, capsys, arrays):
    written(tmp_path, arrays)
    path, keys = str(tmp_path / "mine.npz"), ["--target-key", "place", "--target-key", "odd"]
    main(["align", path, *keys, "--out", str(tmp_path / "out")])
    printed = capsys.readouterr().out
    assert "2 tasks: place (2 real targets), odd (2 classes)" in printed
    assert "the least aligned first" in printed
    main(
        [
            "sweep",
            path,
            *keys,
            "--patches",
            "2",
            "--ratios",
            "0",
            "0.5",
            "--out",
            str(tmp_path / "s"),
        ]
    )
    printed = capsys.readouterr().out
    assert "the best noise for each task at K" in printed
    for picture in ("out/align_tasks.png", "s/sweep_tasks.png"):
        assert (tmp_path / picture).stat().st_size > 1000


def test_choices_are_drawn_with_the_gains_that_are_printed(tmp_path, capsys, arrays):
    x, y, test_x, test_y = arrays
    keys = {f"{name}_train": value for name, value in y.items()}
    keys |= {f"{name}_test": value for name, value in test_y.items()}
    np.savez(tmp_path / "t.npz", x_train=x, x_test=test_x, **keys)
    out = str(tmp_path / "out")
    given = ["--target-key", "place", "odd", "--latent-dims", "2", "--json", "--out", out]
    given = ["--families", "gaussian", "flip", *given]
    assert main(["compare", str(tmp_path / "t.npz"), *given]) == 0
    best = json.loads(capsys.readouterr().out)["best_by_task"]
    assert (tmp_path / "out/compare_tasks.png").stat().st_size > 1000
    result = studies.open(tmp_path / "out/compare.nc")
    figure = reconjax.plots.task_choices_figure(result, 2)
    texts = [text.get_text() for text in figure.axes[0].texts]
    for row, place in enumerate(best):
        assert f"{place['gain']:+.3f}" == max(texts[2 * row : 2 * row + 2], key=float)
    with pytest.raises(ValueError, match="latent_dim: 3; 2 are there"):
        reconjax.plots.task_choices_figure(result, 3)


@pytest.mark.parametrize(
    ("y", "test_y", "part"),
    [
        ({}, None, "y_train: no task; task -> labels is needed"),
        ({"a": [0, 1, 0, 1], "b": [0, 1, 0]}, None, "y_train (b) has 3 labels for 4 examples"),
        ({"a": [0, 1, 0, 1], "b": [0.5] * 4}, None, "y_train (b) holds the value [0.5] alone"),
        ({"a": [0, 1, 0, 1]}, [0, 1], "y_test: list; task -> labels, as in y_train"),
        ({"a": [0, 1, 0, 1]}, {"b": [0, 1]}, "y_test: the task 'a' is not in both splits"),
        (
            {"a": [0, 1, -1, -1], "b": [-1, -1, 1, 0]},
            None,
            "y_train: no example has a label of every task",
        ),
        (
            {"a": [0, 1, 1, -1], "b": [1, -1, 1, 0]},
            {"a": [0, 1], "b": ["x", "y"]},
            "y_test (b) holds texts",
        ),
    ],
)
def test_what_are_no_tasks_is_answered_in_a_line(y, test_y, part):
    x = np.random.default_rng(0).normal(size=(4, 3))
    with pytest.raises(ValueError) as caught:
        Dataset.from_arrays(x, y, None if test_y is None else x[:2], test_y)
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_tasks_of_targets_are_checked():
    moments = reconjax.moments(np.random.default_rng(0).normal(size=(9, 4)), np.arange(9) % 3)
    grid = reconjax.mask_grid((2, 2, 1), [1], [0.5])
    for tasks in ([0, 0], [0, 2, 2]):
        with pytest.raises(ValueError, match=r"tasks: .*; 0 .. T - 1, one for each of 3 targets"):
            reconjax.sweep(moments, grid, tasks=tasks)
    with pytest.raises(ValueError, match="not of several tasks, by sweep, compare, objectives"):
        studies.of_task(studies.align("digits", bootstrap=0), "digit")
