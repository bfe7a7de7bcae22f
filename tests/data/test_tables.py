"""Tables as `datasets` writes them, the cache of the Hub, CSV, and WebDataset tar files."""

import io
import json
import shutil
import tarfile

import numpy as np
import pytest
from files import encoded, pictures, refused, whole
from PIL import Image

from reconjax.data import hub, load

datasets = pytest.importorskip("datasets")

X = pictures(12)
Y = np.arange(12) % 3
NAMES = ["ant", "bee", "cat"]


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    """A cache of its own, and no network."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", folder)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    return folder


def table(images=X, labels=Y, names=NAMES, **more):
    features = datasets.Features(
        {
            "picture": datasets.Image(),
            "kind": datasets.ClassLabel(names=names),
            **{key: datasets.Value("int64") for key in more},
        }
    )
    rows = {"picture": [Image.fromarray(x) for x in images], "kind": labels.tolist(), **more}
    return datasets.Dataset.from_dict(rows, features=features)


def check(data, images=X, labels=Y):
    np.testing.assert_array_equal(whole(data.train)[0], images)
    assert data.train.labels.tolist() == labels.tolist()
    assert whole(data.train)[1].tolist() == labels.tolist()


def test_a_saved_set(tmp_path):
    table().save_to_disk(tmp_path / "one")
    data = load(str(tmp_path / "one"))
    check(data)
    assert (data.name, data.class_names, data.test) == ("one", ("ant", "bee", "cat"), None)
    both = datasets.DatasetDict({"train": table(), "validation": table(X[:4], Y[:4])})
    both.save_to_disk(tmp_path / "two")
    data = load(str(tmp_path / "two"), resize=3, gray=True)
    assert data.image_shape == (3, 3, 1)
    assert data.test.labels.tolist() == [0, 1, 2, 0]
    np.testing.assert_array_equal(whole(data.test)[0], whole(data.train)[0][:4])


def test_classes_that_never_occur_do_not_count(tmp_path):
    table(labels=Y + 1, names=["none", "ant", "bee", "cat", "dog"]).save_to_disk(tmp_path / "s")
    data = load(str(tmp_path / "s"))
    assert data.class_names == ("ant", "bee", "cat")
    check(data)


def test_rows_in_an_order_of_their_own(tmp_path):
    order = np.random.default_rng(0).permutation(12)
    table().select(order[:9]).save_to_disk(tmp_path / "s")
    check(load(str(tmp_path / "s")), X[order[:9]], Y[order[:9]])


def test_parquet_and_arrow_files(tmp_path):
    table().to_parquet(tmp_path / "set.parquet")
    check(load(str(tmp_path / "set.parquet")))
    table().save_to_disk(tmp_path / "saved")
    (arrow,) = (tmp_path / "saved").glob("*.arrow")
    shutil.copy(arrow, tmp_path / "set.arrow")
    check(load(str(tmp_path / "set.arrow")))
    hub = tmp_path / "hub"
    (hub / "data").mkdir(parents=True)
    table().to_parquet(hub / "data" / "train-00000-of-00001.parquet")
    table(X[:5], Y[:5]).to_parquet(hub / "data" / "test-00000-of-00001.parquet")
    data = load(str(hub))
    check(data)
    assert len(data.test) == 5


def test_parquet_of_other_programs(tmp_path):
    import pyarrow
    from pyarrow import parquet

    rows = [{"bytes": encoded(x), "path": None} for x in X]
    columns = {"image": rows, "label": [NAMES[k] for k in Y], "id": list(range(12))}
    parquet.write_table(pyarrow.table(columns), tmp_path / "a.parquet")
    data = load(str(tmp_path / "a.parquet"))
    check(data)
    assert data.class_names == ("ant", "bee", "cat")
    columns = {"scan": [encoded(x) for x in X], "grade": (Y / 2).tolist()}
    parquet.write_table(pyarrow.table(columns), tmp_path / "b.parquet")
    refused(
        lambda: load(str(tmp_path / "b.parquet"), target_key="grade"),
        "has neither images nor columns of numbers",
        "scan (binary), grade (float64)",
    )
    data = load(str(tmp_path / "b.parquet"), image_key="scan", target_key="grade")
    np.testing.assert_array_equal(whole(data.train)[0], X)
    assert data.targets_text == "1 real target"


def test_arrays_in_a_table(tmp_path):
    rows = {"pixels": (X / 255).tolist(), "label": Y.tolist()}
    datasets.Dataset.from_dict(rows).to_parquet(tmp_path / "a.parquet")
    data = load(str(tmp_path / "a.parquet"))
    np.testing.assert_allclose(whole(data.train)[0], X / 255)
    assert data.targets_text == "3 classes"


def test_csv_of_features(tmp_path):
    lines = ["a,b,name,label"] + [f"{i},{i * i / 2},n{i},{NAMES[i % 3]}" for i in range(12)]
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
    data = load(str(tmp_path / "t.csv"))
    i = np.arange(12)
    np.testing.assert_allclose(whole(data.train)[0], np.stack([i, i * i / 2], axis=1))
    assert data.class_names == ("ant", "bee", "cat")
    assert data.train.labels.tolist() == Y.tolist()
    assert data.notes == ("features are a, b", "left out, for they are no numbers: name")
    data = load(str(tmp_path / "t.csv"), target_key="b")
    assert data.targets_text == "1 real target"
    held = load(str(tmp_path / "t.csv"), test_share=0.25).test
    assert sorted(held.labels.tolist()) == [0, 1, 2]
    gaps = [line if i != 4 else "3,,n3,ant" for i, line in enumerate(lines)]
    (tmp_path / "gaps.csv").write_text("\n".join(gaps) + "\n")
    refused(lambda: load(str(tmp_path / "gaps.csv")), "column 'b' holds no finite number in row 3")
    gaps = [line if i != 4 else "3,2,n3," for i, line in enumerate(lines)]
    (tmp_path / "none.csv").write_text("\n".join(gaps) + "\n")
    data = load(str(tmp_path / "none.csv"))
    assert data.train.labels.tolist() == np.delete(Y, 3).tolist()
    np.testing.assert_allclose(whole(data.unlabeled[0])[0], [[3, 2]])
    assert data.notes[-1] == "1 example has no label: encoders learn from them, heads do not"


def test_the_cache_of_the_hub_without_a_network(tmp_path, cache):
    refused(lambda: load("hf:someone/bugs"), "hf:someone/bugs is not in the cache", error=OSError)
    refused(lambda: load("hf:a/b/c/d"), "a set of the Hub is hf:NAME")
    # As the package leaves it there: NAMESPACE___NAME/CONFIG/VERSION/HASH.
    table().to_parquet(tmp_path / "train.parquet")
    datasets.load_dataset("parquet", data_files={"train": str(tmp_path / "train.parquet")})
    (made,) = cache.glob("parquet/*/*/*/dataset_info.json")
    kept = cache / "someone___bugs" / "default" / "0.0.0" / "0123abcd"
    shutil.copytree(made.parent, kept)
    for file in kept.glob("*.arrow"):
        file.rename(kept / file.name.replace("parquet", "bugs"))
    info = json.loads((kept / "dataset_info.json").read_text())
    info |= {"config_name": "default", "dataset_name": "bugs"}
    (kept / "dataset_info.json").write_text(json.dumps(info))
    data = load("hf:someone/bugs")
    check(data)
    assert data.name == "someone/bugs"


def test_a_dead_network_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(hub.urllib.request, "getproxies", dict)
    refused(
        lambda: load("hf:nonesuch"), "hf:nonesuch is not in the cache", "127.0.0.1:9", error=OSError
    )
    assert datasets.config.HF_HUB_OFFLINE is False


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"image_key": "scan"}, "has no column 'scan': it has picture (Image), kind (ClassLabel)"),
        ({"target_key": "y"}, "has no column 'y'"),
        ({"targets": "real"}, "kind of s holds classes"),
        ({"channels_first": True}, "channels_first: True; it does not apply to"),
    ],
)
def test_options_of_tables_that_are_refused(tmp_path, options, part):
    table().save_to_disk(tmp_path / "s")
    refused(lambda: load(str(tmp_path / "s"), **options), part)


def test_rows_without_a_label_are_kept_apart(tmp_path):
    hidden = np.where(np.arange(12) % 4 == 1, -1, Y)
    parts = {"train": table(labels=hidden), "test": table(labels=hidden)}
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "hidden")
    data = load(str(tmp_path / "hidden"))
    there = hidden >= 0
    check(data, X[there], Y[there])
    np.testing.assert_array_equal(whole(data.unlabeled[0])[0], X[~there])
    assert (data.class_names, len(data.test)) == (("ant", "bee", "cat"), 9)
    assert data.notes[-2:] == (
        "3 examples have no label: encoders learn from them, heads do not",
        "3 test examples without a label are left out",
    )
    # A class of which no example is left is none.
    table(labels=np.where(Y == 2, -1, Y)).save_to_disk(tmp_path / "two")
    assert load(str(tmp_path / "two")).class_names == ("ant", "bee")
    # A column of numbers, as other programs leave gaps in it.
    rows = {"v": [[float(i), 1.0] for i in range(6)], "y": [0.5, None, 1.5, 2.5, None, 3.5]}
    datasets.Dataset.from_dict(rows).to_parquet(tmp_path / "real.parquet")
    data = load(str(tmp_path / "real.parquet"))
    assert whole(data.train)[1].ravel().tolist() == [0.5, 1.5, 2.5, 3.5]
    assert whole(data.unlabeled[0])[0][:, 0].tolist() == [1, 4]


def test_tables_that_are_refused(tmp_path):
    table(labels=np.full(12, -1)).save_to_disk(tmp_path / "hidden")
    refused(
        lambda: load(str(tmp_path / "hidden")),
        "hidden: kind of the training split: no example has a label",
    )
    plain = datasets.Dataset.from_dict({"name": list("ab"), "label": [0, 1]})
    plain.to_parquet(tmp_path / "plain.parquet")
    refused(lambda: load(str(tmp_path / "plain.parquet")), "has neither images nor columns of num")
    twice = (
        table()
        .add_column("other", list(range(12)))
        .cast_column("other", datasets.ClassLabel(num_classes=12))
    )
    twice.save_to_disk(tmp_path / "twice")
    refused(lambda: load(str(tmp_path / "twice")), "has classes in kind, other", "--target-key")
    assert load(str(tmp_path / "twice"), target_key="kind").num_classes == 3
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 no more")
    refused(lambda: load(str(tmp_path / "broken.parquet")), "cannot be read as a table")
    refused(lambda: load(str(tmp_path / "no.csv")), "no such file", error=FileNotFoundError)
    bad = [encoded(x) for x in X]
    bad[5] = bad[5][:60]
    rows = {"image": [{"bytes": b, "path": None} for b in bad], "label": Y.tolist()}
    datasets.Dataset.from_dict(rows).to_parquet(tmp_path / "bad.parquet")
    refused(
        lambda: whole(load(str(tmp_path / "bad.parquet")).train),
        "row 5 of the training split",
        "--skip-corrupt",
    )
    left = load(str(tmp_path / "bad.parquet"), skip_corrupt=True)
    check(left, np.delete(X, 5, axis=0), np.delete(Y, 5))


def test_without_the_package_one_line_says_what_to_install(tmp_path, monkeypatch):
    table().to_parquet(tmp_path / "set.parquet")
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    refused(
        lambda: load(str(tmp_path / "set.parquet")), "pip install 'reconjax[hf]'", error=ImportError
    )


# WebDataset


def tar(path, rows):
    """Writes (name, bytes) pairs."""
    with tarfile.open(path, "w") as file:
        for name, content in rows:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))


def shard(indices, label="cls", suffix="png"):
    for i in indices:
        yield f"{i:06}.{suffix}", encoded(X[i])
        text = json.dumps({"label": int(Y[i]), "size": i / 2}) if label == "json" else str(Y[i])
        yield f"{i:06}.{label}", text.encode()


@pytest.mark.parametrize("label", ["cls", "json"])
def test_shards(tmp_path, label):
    tar(tmp_path / "train-000000.tar", shard(range(7), label))
    tar(tmp_path / "train-000001.tar", shard(range(7, 12), label))
    tar(tmp_path / "val-000000.tar", shard(range(4), label))
    data = load(str(tmp_path))
    check(data)
    assert data.test.labels.tolist() == Y[:4].tolist()
    assert data.class_names == ("0", "1", "2")
    assert len(load(str(tmp_path / "train-000000.tar"), resize=2).train) == 7
    if label == "json":
        assert load(str(tmp_path), target_key="json.size").targets_text == "1 real target"


@pytest.mark.parametrize("label", ["cls", "json"])
def test_shards_in_which_some_have_no_target(tmp_path, label):
    missing = (f"000003.{label}", f"000005.{label}")
    tar(tmp_path / "a.tar", [row for row in shard(range(9), label) if row[0] not in missing])
    data = load(str(tmp_path / "a.tar"))
    there = [i for i in range(9) if i not in (3, 5)]
    check(data, X[there], Y[there])
    np.testing.assert_array_equal(whole(data.unlabeled[0])[0], X[[3, 5]])
    assert data.notes[-1] == "2 examples have no label: encoders learn from them, heads do not"


def test_shards_that_are_refused(tmp_path):
    path = tmp_path / "a.tar"
    tar(path, [("x.txt", b"text")])
    refused(lambda: load(str(path)), "a holds no images: it holds txt")
    tar(path, [*shard(range(6)), ("000003.jpg", encoded(X[0], "JPEG"))])
    refused(lambda: load(str(path)), "000003 has images png, jpg: --image-key names one")
    assert len(load(str(path), image_key="png").train) == 6
    tar(path, [row for row in shard(range(6)) if row[0].endswith("png")])
    assert load(str(path)).targets_text == "no labels"
    refused(lambda: load(str(path), target_key="cls"), "none of 6 images has a target (cls)")
    path.write_bytes(b"no tar")
    refused(lambda: load(str(path)), "a.tar cannot be read as tar")
    tar(path, shard(range(6)))
    content = bytearray(path.read_bytes())
    start = content.find(b"IDAT")
    content[start + 4 : start + 30] = bytes(26)
    path.write_bytes(content)
    data = load(str(path))
    refused(lambda: whole(data.train), "000000.png", "--skip-corrupt")
    assert len(load(str(path), skip_corrupt=True).train) == 5


def test_what_is_wrong_with_a_table_names_its_column_and_row(tmp_path):
    def csv(text):
        (tmp_path / "t.csv").write_text(text)
        return lambda **options: load(tmp_path / "t.csv", **options)

    rows = "".join(f"{i},{i * i},{i % 2}\n" for i in range(8))
    refused(csv("a,b,label\n" + rows + "3,,1\n"), "t: column 'b' holds no finite number in row 8")
    refused(csv("a,b,label\n" + rows + "3,n.a,1\n"), "t: column 'b' holds 'n.a' in row 8: a number")
    real = csv("a,b,age\n" + rows + "3,1,old\n")
    refused(lambda: real(target_key="age", targets="real"), "column 'age' holds 'old' in row 8")
    refused(csv("a,b,label\n" + rows + "3,1,1,7\n"), "t.csv cannot be read", "line 10")
    refused(lambda: csv("a,b,label\n" + rows)(target_key="c"), "no column 'c'", "a (int64)")
    kept = csv("a,name,label\n" + "".join(f"{i},n{i},{i % 2}\n" for i in range(8)))()
    assert "left out, for they are no numbers: name" in kept.notes
