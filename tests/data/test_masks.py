"""A mask for each image, averaged over patches: real targets, a task for each class."""

import io

import h5py
import numpy as np
import pytest
from files import encoded, pictures, refused, write_folder
from PIL import Image

from reconjax import studies
from reconjax.data import Dataset, load

RNG = np.random.default_rng(0)
X = pictures(24, (8, 12))
MASKS = RNG.integers(0, 3, (24, 8, 12)).astype(np.uint8)


def shares(masks, number, sides):
    """(N, patches) by a loop over the patches."""
    height, width = masks.shape[1:]
    return np.stack(
        [
            (masks[:, r : r + sides[0], c : c + sides[1]] == number).mean(axis=(1, 2))
            for r in range(0, height, sides[0])
            for c in range(0, width, sides[1])
        ],
        axis=1,
    )


def unscaled(data, task):
    """The targets of a task up to its scale."""
    place = [one.name for one in data.tasks].index(task)
    columns = np.asarray(data.task_of_target) == place
    return data.train.labels[:, columns]


def test_every_class_of_a_mask_is_a_task_of_its_shares():
    data = Dataset.from_arrays(X, MASKS, target_patch=4)
    assert [task.name for task in data.tasks] == ["0", "1", "2"]
    assert data.notes == ("masks of 8 x 12: targets are shares in 2 x 3 patches of 4 x 4",)
    for number in range(3):
        expected = shares(MASKS, number, (4, 4))
        expected = expected / np.sqrt(expected.var(axis=0).sum())
        np.testing.assert_allclose(unscaled(data, str(number)), expected, atol=1e-12)


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64])
def test_a_mask_of_one_class_is_real_targets(dtype):
    value = 255 if dtype is np.uint8 else 1
    masks = ((MASKS == 2) * value).astype(dtype)[..., None]
    data = Dataset.from_arrays(X, masks)
    assert data.real_targets == 16
    assert not data.tasks
    np.testing.assert_allclose(data.train.labels, shares(MASKS, 2, (2, 3)), atol=1e-12)


def test_edges_of_masks_that_four_does_not_divide_are_averaged_over_what_is_there():
    depth = RNG.normal(size=(24, 8, 10))
    data = Dataset.from_arrays(X, depth)
    assert data.real_targets == 4 * 4
    expected = depth[:, 0:2, 9:].mean(axis=(1, 2))
    np.testing.assert_allclose(data.train.labels[:, 3], expected, atol=1e-12)


def test_void_pixels_are_no_class_and_void_masks_no_label():
    masks = MASKS.copy()
    masks[:, 0, 0] = 255
    masks[3] = 255
    data = Dataset.from_arrays(X, masks, target_patch="8x12")
    assert [task.name for task in data.tasks] == ["0", "1", "2"]
    assert len(data.unlabeled[0]) == 1
    kept = np.delete(masks, 3, axis=0)
    expected = shares(kept, 1, (8, 12))
    expected = expected / expected.std()
    np.testing.assert_allclose(unscaled(data, "1"), expected, atol=1e-12)


def test_channels_of_a_mask_are_tasks_beside_other_targets():
    soft = RNG.random((24, 8, 12, 2))
    data = Dataset.from_arrays(X, {"part": soft, "age": RNG.normal(size=24)}, target_patch=4)
    assert [task.name for task in data.tasks] == ["part 0", "part 1", "age"]
    assert data.num_targets == 13
    result = studies.align(data, bootstrap=0)
    assert result.sizes["task"] == 3


def test_classes_stay_classes_beside_a_mask():
    kinds = np.arange(24) % 3
    data = Dataset.from_arrays(X, {"kind": kinds, "name": kinds.astype(str), "ink": MASKS == 1})
    assert [task.size for task in data.tasks] == [3, 3, 16]
    assert data.tasks[0].class_names == ("0", "1", "2")


def test_masks_in_files_are_read_in_blocks_and_named_by_key(tmp_path, monkeypatch):
    monkeypatch.setattr("reconjax.data.regions._BLOCK", 8 * 12 * 5)
    np.savez(tmp_path / "a.npz", x_train=X, masks_train=MASKS)
    np.save(tmp_path / "x.npy", X)
    np.save(tmp_path / "seg.npy", MASKS)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["images"], file["seg"] = X, MASKS
    expected = Dataset.from_arrays(X, MASKS, target_patch=4)
    for path, key in (("a.npz", "masks"), ("x.npy", "seg"), ("a.h5", "seg")):
        data = load(tmp_path / path, target_key=key, target_patch=4)
        np.testing.assert_array_equal(data.train.labels, expected.train.labels)
        assert data.notes == expected.notes


def test_a_column_of_masks_follows_the_images_through_resize_and_crop(tmp_path):
    import datasets

    buffer = io.BytesIO()
    rows = {"image": [encoded(x) for x in X], "mask": [encoded(mask) for mask in MASKS]}
    indices = Image.fromarray(MASKS[0])
    indices.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    indices.save(buffer, "PNG")
    rows["mask"][0] = buffer.getvalue()
    features = datasets.Features({"image": datasets.Image(), "mask": datasets.Image()})
    table = {name: [{"bytes": b, "path": None} for b in own] for name, own in rows.items()}
    datasets.Dataset.from_dict(table, features=features).to_parquet(tmp_path / "seg.parquet")
    data = load(tmp_path / "seg.parquet", target_key="mask", target_patch=4)
    expected = Dataset.from_arrays(X, MASKS, target_patch=4)
    np.testing.assert_allclose(data.train.labels, expected.train.labels, atol=1e-12)
    cropped = load(tmp_path / "seg.parquet", target_key="mask", target_patch=4, crop="4x8")
    expected = Dataset.from_arrays(X[:, 2:6, 2:10], MASKS[:, 2:6, 2:10], target_patch=4)
    np.testing.assert_allclose(cropped.train.labels, expected.train.labels, atol=1e-12)
    refused(
        lambda: load(tmp_path / "seg.parquet", target_key="image", image_key="mask"), "mode RGB"
    )


def write_masks(root, masks, names):
    for name, mask in zip(names, masks, strict=True):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(root / f"{name}.png")


def test_a_folder_of_masks_lies_beside_the_photographs(tmp_path):
    photos, names = tmp_path / "photos", [f"park/{n:02}" for n in range(24)]
    write_folder(photos, X, np.zeros(24, int), names=("park",), suffix="bmp")
    (photos / "park").rename(photos / "old")
    (photos / "park").mkdir()
    for n in range(24):
        (photos / "old" / f"{n:04}.bmp").rename(photos / f"{names[n]}.bmp")
    (photos / "old").rmdir()
    write_masks(tmp_path / "masks", MASKS, names)
    expected = Dataset.from_arrays(X, MASKS, target_patch=4)
    for key in ("masks", str(tmp_path / "masks")):
        data = load(photos, target_key=key, target_patch=4)
        np.testing.assert_array_equal(data.train.labels, expected.train.labels)
        assert data.notes == expected.notes
    cropped = load(photos, target_key="masks", target_patch=4, crop="4x8")
    expected = Dataset.from_arrays(X[:, 2:6, 2:10], MASKS[:, 2:6, 2:10], target_patch=4)
    np.testing.assert_array_equal(cropped.train.labels, expected.train.labels)
    # In the folder itself, without the folders of the images, beside other masks; one is missing.
    inside = photos / "ink"
    write_masks(inside, (MASKS[1:] == 2) * np.uint8(255), [name[5:] for name in names[1:]])
    write_masks(inside, MASKS[:1], ["none"])
    data = load(photos, target_key=["masks", "ink"], target_patch=4)
    assert [task.name for task in data.tasks] == ["masks 0", "masks 1", "masks 2", "ink"]
    assert (len(data.train), len(data.unlabeled[0])) == (23, 1)
    assert data.notes[0] == "1 masks of no image in ink are left out"
    expected = shares(MASKS[1:], 2, (4, 4))
    np.testing.assert_allclose(
        unscaled(data, "ink"), expected / np.sqrt(expected.var(axis=0).sum()), atol=1e-12
    )


def test_a_folder_of_masks_that_does_not_fit_is_answered_in_a_line(tmp_path):
    photos, masks = tmp_path / "photos", tmp_path / "masks"
    write_folder(photos, X[:4], [0, 0, 1, 1], split="train", names=("a", "b"))
    write_folder(photos, X[4:6], [0, 1], split="test", names=("a", "b"))

    def opened(key="masks", **options):
        return lambda: load(photos, target_key=key, **options)

    refused(opened("wool"), "target_key: 'wool'; no folder of masks", "is in photos, beside it")
    refused(opened("."), "give the whole path")
    refused(opened(str(photos)), "it is the folder of the images itself")
    masks.mkdir()
    refused(opened(), "no image has a mask", "train/a/0000.png, masks holds no images")
    write_masks(masks, MASKS[:1], ["0000_mask"])
    refused(opened(), "no image has a mask of its name", "masks holds 0000_mask.png")
    write_masks(masks, MASKS[:1], ["0000"])
    refused(opened(), "train/a/0000.png and test/a/0000.png have one mask, 0000.png in masks")
    (masks / "0000.png").unlink()
    write_masks(masks, MASKS[:4], ["a/0000", "a/0001", "b/0002", "test/b/0001"])
    write_masks(masks, MASKS[:1, :4], ["test/a/0000"])
    refused(opened(), "masks/test/a/0000.png is 4 x 12, ", "masks/a/0000.png is 8 x 12: --resize")
    write_masks(masks, MASKS[:1], ["test/a/0000"])
    data = load(photos, target_key="masks")
    assert (len(data.train), len(data.test), len(data.unlabeled[0])) == (3, 2, 1)
    write_masks(masks, X[:1], ["test/a/0000"])
    refused(opened(), "masks/test/a/0000.png is a mask of mode RGB")
    (masks / "test/a/0000.png").write_bytes(b"no image")
    refused(opened(), "masks/test/a/0000.png cannot be read: cannot identify image file")
    (masks / "a/0000.bmp").write_bytes(b"")
    refused(opened(), "masks holds a/0000.bmp and a/0000.png: one is needed")
    tall = tmp_path / "tall"
    write_masks(tall, MASKS[:2, :, :4], ["train/a/0000", "test/a/0000"])
    refused(opened("tall"), "masks of 8 x 4 for images of 8 x 12")
    refused(lambda: load(photos, target_patch=4), "target_patch: 4x4", "holds no masks")


def test_what_are_no_masks_is_answered_in_a_line():
    def made(y, **options):
        return lambda: Dataset.from_arrays(X, y, **options)

    refused(made(MASKS, target_patch=5), "target_patch: 5x5 does not divide the masks of 8 x 12")
    refused(made(np.arange(24) % 2, target_patch=4), "target_patch: 4x4; y_train holds no masks")
    refused(made(MASKS[:20]), "y_train", "20 labels for 24 examples")
    refused(made(MASKS * 0), "y_train holds the class [0] alone")
    refused(made(RNG.integers(0, 9999, (24, 8, 12))), "more than 256 values")
    refused(made(MASKS.astype("U1")), "masks are numbers or truth values")
    refused(made(MASKS, targets="classes"), "it does not apply to masks")
    x_test = {"x_test": X[:4], "y_test": MASKS[:4, :4]}
    refused(made(MASKS, **x_test), "y_test has shape (4, 4, 12): y_train's masks are (8, 12)")
    half = np.where(np.arange(12) < 6, np.nan, RNG.random((24, 8, 12)))
    refused(made(half), "holds NaN or infinity")


def test_images_are_not_moved_against_masks_in_arrays():
    data = Dataset.from_arrays(X, MASKS)
    assert studies.align(data, resize="4x6", bootstrap=0).attrs["features"] == 72
    refused(lambda: studies.align(data, crop=4), "crop: it would move the images")
    refused(lambda: studies.align(data, resize=6), "resize: it would move the images")
