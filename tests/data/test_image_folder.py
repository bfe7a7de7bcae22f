"""Folders of images: made with Pillow, read as people have them."""

import numpy as np
import pytest
from files import CLASSES, encoded, pictures, refused, whole, write_folder
from PIL import Image

import reconjax as rj
from reconjax import studies
from reconjax.data import encoded as encoded_module
from reconjax.data import load
from reconjax.data.encoded import Images
from reconjax.data.geometry import geometry

IMAGES = pictures(24)
LABELS = np.arange(24) % 3


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "set"
    write_folder(root, IMAGES, LABELS)
    return root


def test_class_folders_alone_are_a_training_split(folder):
    data = load(str(folder))
    order = np.argsort(LABELS, kind="stable")
    images, labels = whole(data.train)
    np.testing.assert_array_equal(images, IMAGES[order])
    assert images.dtype == np.uint8
    assert labels.tolist() == LABELS[order].tolist()
    assert (data.name, data.class_names, data.test) == ("set", CLASSES, None)
    assert data.image_shape == (6, 5, 3)


@pytest.mark.parametrize("test", ["test", "val", "validation", "Val"])
@pytest.mark.parametrize("suffix", ["png", "tif", "bmp", "PNG"])
def test_train_and_test_folders(tmp_path, test, suffix):
    order = write_folder(tmp_path, IMAGES, LABELS, "train", suffix)
    held = write_folder(tmp_path, IMAGES[:6], LABELS[:6], test, suffix)
    (tmp_path / "README.txt").write_text("about")
    (tmp_path / ".DS_Store").write_text("")
    (tmp_path / "train" / "ant" / "._0001.png").write_text("")
    data = load(str(tmp_path))
    np.testing.assert_array_equal(whole(data.train)[0], IMAGES[order])
    np.testing.assert_array_equal(whole(data.test)[0], IMAGES[held])
    assert data.test.labels.tolist() == LABELS[held].tolist()


def test_a_test_folder_comes_before_a_validation_folder(tmp_path):
    write_folder(tmp_path, IMAGES, LABELS, "train")
    write_folder(tmp_path, IMAGES[:6], LABELS[:6], "val")
    write_folder(tmp_path, IMAGES[:9], LABELS[:9], "test")
    assert len(load(tmp_path).test) == 9


def test_lossy_files_and_deeper_folders(tmp_path):
    flat = np.full((8, 8, 3), 100, np.uint8)
    for name, kind, suffix in (("a", "JPEG", "jpg"), ("b", "WEBP", "webp")):
        (tmp_path / name / "more").mkdir(parents=True)
        for i in range(3):
            image = flat + np.uint8(40 * (i + (name == "b")))
            (tmp_path / name / "more" / f"{i}.{suffix}").write_bytes(encoded(image, kind))
    images, labels = whole(load(str(tmp_path)).train)
    assert labels.tolist() == [0, 0, 0, 1, 1, 1]
    expected = 100 + 40 * np.array([0, 1, 2, 1, 2, 3])
    assert np.abs(images.mean((1, 2, 3)) - expected).max() < 3


def test_gray_and_color_become_color(tmp_path):
    write_folder(tmp_path, IMAGES[:6], LABELS[:6])
    Image.fromarray(IMAGES[6, ..., 0]).save(tmp_path / "cat" / "gray.png")
    Image.fromarray(IMAGES[6, ..., 0] > 100).save(tmp_path / "cat" / "two.png")
    data = load(str(tmp_path))
    images, _ = whole(data.train)
    np.testing.assert_array_equal(images[-2], np.repeat(IMAGES[6, ..., :1], 3, axis=-1))
    np.testing.assert_array_equal(images[-1], 255 * np.repeat(IMAGES[6, ..., :1] > 100, 3, axis=-1))
    assert data.notes == ("2 of 8 images are gray: they get three equal channels",)
    gray = load(str(tmp_path), gray=True)
    assert gray.image_shape == (6, 5, 1)
    assert gray.notes == ()
    luma = IMAGES[0].astype(float) @ [0.299, 0.587, 0.114]
    assert np.abs(whole(gray.train)[0][0, ..., 0] - luma).max() <= 1


def test_sixteen_bits_are_on_one_scale_with_eight(tmp_path):
    deep = np.random.default_rng(1).integers(0, 65536, (4, 6, 5)).astype(np.uint16)
    deep[2:] %= 256  # dark images are no 8-bit images
    for split, count in (("train", 4), ("test", 2)):
        for name in ("a", "b"):
            (tmp_path / split / name).mkdir(parents=True)
            for i in range(4 - count, 4):
                Image.fromarray(deep[i]).save(tmp_path / split / name / f"{i}.png")
                Image.fromarray(deep[i]).save(tmp_path / split / name / f"{i}.tif")
    Image.fromarray(IMAGES[0, ..., 0]).save(tmp_path / "train" / "b" / "x.png")
    data = load(str(tmp_path))
    images, _ = whole(data.train)
    assert images.dtype == np.float32
    np.testing.assert_allclose(images[0, ..., 0], deep[0] / 65535, rtol=1e-6)
    np.testing.assert_allclose(images[1, ..., 0], deep[0] / 65535, rtol=1e-6)
    np.testing.assert_allclose(images[-1, ..., 0], IMAGES[0, ..., 0] / 255, rtol=1e-6)
    held, _ = whole(data.test)
    assert held.dtype == np.float32
    np.testing.assert_allclose(held[0, ..., 0], deep[2] / 65535, rtol=1e-6)
    assert data.notes == ("24 of 25 images have 16 bits: all become 0 to 1",)


def test_transparent_images_are_shown_on_white(tmp_path):
    write_folder(tmp_path, IMAGES[:6], LABELS[:6])
    alpha = np.concatenate([IMAGES[6], np.full((6, 5, 1), 0, np.uint8)], axis=-1)
    alpha[0, ..., 3] = 255
    Image.fromarray(alpha).save(tmp_path / "cat" / "clear.png")
    data = load(str(tmp_path))
    shown = whole(data.train)[0][-1]
    np.testing.assert_array_equal(shown[0], IMAGES[6, 0])
    assert (shown[1:] == 255).all()
    assert data.notes == ("1 of 7 images are transparent: shown on white",)


def test_a_photograph_is_turned_as_its_camera_says(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for i in range(2):
            Image.fromarray(IMAGES[i]).save(tmp_path / name / f"{i}.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    turned = np.rot90(IMAGES[2], 1)
    Image.fromarray(np.ascontiguousarray(turned)).save(tmp_path / "b" / "2.png", exif=exif)
    images, _ = whole(load(str(tmp_path)).train)
    np.testing.assert_array_equal(images[-1], IMAGES[2])


def test_sizes_that_differ_are_refused_and_made_alike(tmp_path):
    write_folder(tmp_path, IMAGES[:6], LABELS[:6])
    wide = pictures(1, (8, 20))[0]
    Image.fromarray(wide).save(tmp_path / "cat" / "wide.png")
    refused(lambda: load(str(tmp_path)), "images of 2 sizes, 6 x 5 (6), 8 x 20 (1)", "--resize 5")
    data = load(str(tmp_path), resize="4x4:box")
    assert data.image_shape == (4, 4, 3)
    # The centered square of 8 x 8, averaged over squares of 2 x 2.
    expected = wide[:, 6:14].reshape(4, 2, 4, 2, 3).mean((1, 3))
    assert np.abs(whole(data.train)[0][-1] - expected).max() <= 1
    cropped = load(str(tmp_path), crop=4)
    np.testing.assert_array_equal(whole(cropped.train)[0][-1], wide[2:6, 8:12])
    refused(lambda: load(str(tmp_path), crop=6), "crop: 6 x 6", "6 x 5")


def test_a_split_of_images_is_read_in_any_way_that_arrays_are(folder, monkeypatch):
    order = np.argsort(LABELS, kind="stable")
    memory = rj.data.Dataset.from_arrays(IMAGES[order], LABELS[order])
    for kept in (2**28, 0):
        monkeypatch.setattr(encoded_module, "KEPT_BYTES", kept)
        monkeypatch.setattr(encoded_module, "CHUNK", 3)
        data = load(str(folder))
        found = rj.moments_from_batches(data.train.batches(5), num_classes=3)
        right = rj.moments(IMAGES[order], LABELS[order], num_classes=3)
        np.testing.assert_allclose(found.second_moment, right.second_moment, atol=1e-12)
        sample, same = data.train.sample(7, seed=2), memory.train.sample(7, seed=2)
        np.testing.assert_array_equal(whole(sample)[0], whole(same)[0])
        np.testing.assert_array_equal(sample.labels, same.labels)
        twice = data.train.examples(np.array([5, 2, 5]))[0]
        np.testing.assert_array_equal(twice, IMAGES[order[[5, 2, 5]]])
        twice[:] = 0  # a copy
        np.testing.assert_array_equal(data.train.examples(np.array([5]))[0][0], IMAGES[order[5]])


def test_large_sets_are_not_kept_in_memory(folder, monkeypatch):
    monkeypatch.setattr(encoded_module, "KEPT_BYTES", 24 * 90 - 1)
    assert load(str(folder)).train.images._kept is None
    monkeypatch.setattr(encoded_module, "KEPT_BYTES", 24 * 90)
    images = load(str(folder)).train.images
    assert isinstance(images, Images)
    assert images._kept is not None


def test_a_test_share_is_stratified_and_leaves_no_example_out(folder):
    data = load(str(folder), test_share=0.25, seed=3)
    assert np.bincount(data.test.labels).tolist() == [2, 2, 2]
    assert np.bincount(data.train.labels).tolist() == [6, 6, 6]
    both = np.concatenate([whole(data.train)[0], whole(data.test)[0]]).reshape(24, -1)
    assert sorted(map(tuple, both)) == sorted(map(tuple, IMAGES.reshape(24, -1)))
    other = load(str(folder), test_share=0.25, seed=4)
    assert (other.test.numbers != data.test.numbers).any()
    again = load(str(folder), test_share=0.25, seed=3)
    assert (again.test.numbers == data.test.numbers).all()


@pytest.mark.parametrize("share", [0, 1, -0.1, "half"])
def test_test_shares_that_are_refused(folder, share):
    refused(lambda: load(str(folder), test_share=share), "test_share", "between 0 and 1")


def test_a_test_share_beside_a_test_split_is_refused():
    refused(lambda: load("digits", test_share=0.2), "test_share: 0.2", "test split of 360")
    assert len(load("scenes:size=8,samples=20,classes=2", resize=4).test) == 4


def test_corrupt_files_are_named_counted_and_left_out_on_demand(folder):
    (folder / "ant" / "0000.png").write_bytes(b"no image")
    refused(
        lambda: load(str(folder)),
        "set: of 24 images 1 is corrupt, ant/0000.png (no image that Pillow can read)",
        "--skip-corrupt",
    )
    jpeg = encoded(pictures(1)[0], "JPEG")
    whole_file = encoded(IMAGES[1])
    (folder / "bee" / "0001.png").write_bytes(whole_file[: len(whole_file) - 40])
    (folder / "cat" / "zz.jpg").write_bytes(jpeg[:-20])
    (folder / "cat" / "zy.png").write_bytes(b"")
    (folder / "ant" / "0000.png").write_bytes(encoded(IMAGES[0]))
    refused(lambda: load(str(folder)), "of 26 images", "cat/zy.png")
    (folder / "cat" / "zy.png").unlink()
    data = load(str(folder))  # headers alone are read
    refused(
        lambda: whole(data.train),
        "of 25 images 2 are corrupt, bee/0001.png (",
        "cat/zz.jpg (",
        "truncated",
        "--skip-corrupt",
    )
    data = load(str(folder), skip_corrupt=True)
    assert len(data.train) == 23
    assert data.notes == ("2 corrupt images are left out of 25: bee/0001.png, cat/zz.jpg",)
    assert len(whole(data.train)[0]) == 23


def test_images_that_were_not_looked_at_are_checked_when_they_are_read(folder, monkeypatch):
    monkeypatch.setattr(encoded_module, "SURVEYED", 3)
    Image.fromarray(pictures(1, (7, 5))[0]).save(folder / "bee" / "0004.png")
    data = load(str(folder))
    refused(lambda: whole(data.train), "bee/0004.png is 7 x 5", "6 x 5", "--resize")
    for path in folder.rglob("*.png"):
        Image.fromarray(IMAGES[0, ..., 0]).save(path)
    Image.fromarray(IMAGES[0]).save(folder / "bee" / "0004.png")
    refused(lambda: whole(load(str(folder)).train), "bee/0004.png is in color")


def test_images_beside_the_class_folders_have_no_label(tmp_path):
    write_folder(tmp_path / "train", IMAGES, LABELS)
    write_folder(tmp_path / "test", IMAGES, LABELS)
    for split, count in (("train", 2), ("test", 1)):
        for index in range(count):
            Image.fromarray(IMAGES[index]).save(tmp_path / split / f"x{index}.png")
    data = load(str(tmp_path))
    assert (len(data.train), len(data.test)) == (len(IMAGES), len(IMAGES))
    np.testing.assert_array_equal(data.unlabeled[0].examples(np.arange(2))[0], IMAGES[:2])
    assert "2 examples have no label: encoders learn from them, heads do not" in data.notes
    assert "1 test examples without a label are left out" in data.notes


def test_layouts_that_are_refused(tmp_path):
    empty = tmp_path / "empty"
    write_folder(empty, IMAGES, LABELS)
    (empty / "dog").mkdir()
    refused(lambda: load(str(empty)), "class folder dog/ holds no images")
    (empty / "dog" / "notes.txt").write_text("")
    refused(lambda: load(str(empty)), "class folder dog/ holds no images")

    both = tmp_path / "both"
    write_folder(both, IMAGES, LABELS, "train")
    write_folder(both, IMAGES, LABELS, "extra")
    refused(lambda: load(str(both)), "train/ with class folders, and extra/ beside it")

    only = tmp_path / "only"
    write_folder(only, IMAGES, LABELS, "test")
    refused(lambda: load(str(only)), "only holds test/ and no train/")

    single = tmp_path / "single"
    write_folder(single, IMAGES, LABELS * 0, names=CLASSES[:1])
    refused(lambda: load(str(single)), "holds class ant alone")

    mixed = tmp_path / "mixed"
    write_folder(mixed, IMAGES, LABELS)
    Image.fromarray(IMAGES[0, ..., 0].astype(np.float32)).save(mixed / "ant" / "x.tif")
    refused(lambda: load(str(mixed)), "1 of 25 images hold floats")

    frames = tmp_path / "frames"
    write_folder(frames, IMAGES, LABELS)
    pages = [Image.fromarray(image) for image in IMAGES[:3]]
    pages[0].save(frames / "ant" / "x.tif", save_all=True, append_images=pages[1:])
    refused(lambda: load(str(frames)), "ant/x.tif (it holds 3 images)")


def test_a_class_may_be_called_train(tmp_path):
    write_folder(tmp_path, IMAGES, LABELS, names=("car", "plane", "train"))
    assert load(str(tmp_path)).class_names == ("car", "plane", "train")


def test_images_without_class_folders_have_no_labels(tmp_path):
    for i in range(5):
        Image.fromarray(IMAGES[i]).save(tmp_path / f"{i}.png")
    data = load(str(tmp_path))
    assert data.targets_text == "no labels"
    np.testing.assert_array_equal(whole(data.train)[0], IMAGES[:5])


def test_floats_are_taken_as_they_are(tmp_path):
    values = np.random.default_rng(0).normal(size=(4, 6, 5)).astype(np.float32) * 1000
    for i in range(4):
        (tmp_path / "ab"[i % 2]).mkdir(exist_ok=True)
        Image.fromarray(values[i]).save(tmp_path / "ab"[i % 2] / f"{i}.tif")
    images, _ = whole(load(str(tmp_path)).train)
    np.testing.assert_array_equal(images[..., 0], values[[0, 2, 1, 3]])


@pytest.mark.parametrize("size", [0, -3, "3x", "axb", 2.5, (1, 2, 3), "4x4:best"])
def test_sizes_that_are_none(size):
    refused(lambda: geometry(size, None, False), "resize: ")
    if size != "4x4:best":
        refused(lambda: geometry(None, size, False), "crop: ")


def test_arrays_are_resized_as_images_are(folder, tmp_path):
    np.savez(tmp_path / "a.npz", x_train=IMAGES, y_train=LABELS)
    from_files = load(str(folder), resize=3, crop="2x3", gray=True)
    from_array = load(str(tmp_path / "a.npz"), resize=3, crop="2x3", gray=True)
    order = np.argsort(LABELS, kind="stable")
    np.testing.assert_array_equal(whole(from_files.train)[0], whole(from_array.train)[0][order])
    assert from_array.image_shape == (2, 3, 1)
    values = IMAGES[:, :, :4, :2] / 255
    floats = rj.data.Dataset.from_arrays(values, LABELS)
    found = studies.source.Source(floats, resize="3x2:box").dataset
    expected = values.reshape(24, 3, 2, 2, 2, 2).mean((2, 4))
    np.testing.assert_allclose(whole(found.train)[0], expected, atol=1e-6)
    vectors = rj.data.Dataset.from_arrays(IMAGES.reshape(24, -1), LABELS)
    refused(lambda: studies.source.Source(vectors, resize=3), "resize: does not apply", "vectors")


def test_a_study_reads_a_folder(folder, capsys):
    rng = np.random.default_rng(0)
    for k, path in enumerate(sorted(folder.rglob("*.png"))):
        image = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8) // 2 + np.uint8(40 * (k // 8))
        Image.fromarray(image).save(path)
    Image.fromarray(image[..., 0]).save(path)
    from reconjax.cli.main import main

    assert main(["align", str(folder), "--resize", "2", "--test-share", "0.25"]) == 0
    out, err = capsys.readouterr()
    head = "set: 18 samples, 12 features of rank 12, 3 classes; 2 x 2, 3 channels"
    assert out.splitlines()[0] == head
    assert "held-out: r2 on the 6 samples" in out
    assert err.splitlines()[0] == "set: 1 of 24 images are gray: they get three equal channels"
    assert main(["align", str(folder), "--resize", "0"]) == 2
    assert "resize: '0'" in capsys.readouterr().err
