"""Images on the top and the bottom subspace, against NumPy's SVD; pictures of any channels."""

import numpy as np
import pytest

import reconjax
from reconjax import studies
from reconjax.data import Dataset
from reconjax.plots import save, subspace_figure


def dataset(channels=1, count=60, test=None):
    rng = np.random.default_rng(channels)
    features = 16 * channels
    mixed = rng.normal(size=(count, features)) @ rng.normal(size=(features, features))
    x = (mixed / 20 + 0.5).reshape(count, 4, 4, channels)
    names = ["cat", "dog"]
    if test is None:
        return Dataset.from_arrays(x, np.arange(count) % 2, class_names=names)
    return Dataset.from_arrays(
        x, np.arange(count) % 2, x[:test] / 2, np.arange(test) % 2, class_names=names
    )


@pytest.mark.parametrize(("channels", "count"), [(1, 60), (3, 20)])
def test_projections_are_those_of_the_svd(channels, count):
    data = dataset(channels, count)
    found = studies.project(data, variance=0.6, images=5, progress=False)
    x = data.train.examples(np.arange(count))[0].reshape(count, -1)
    mean = x.mean(0)
    _, singular, vectors = np.linalg.svd(x - mean, full_matrices=False)
    share = np.cumsum(singular**2) / np.sum(singular**2)
    top = int(np.argmax(share >= 0.6)) + 1
    assert found.attrs["top_directions"] == top
    assert found.attrs["top_directions"] + found.attrs["bottom_directions"] == found.attrs["rank"]
    shown = found.images.values.reshape(5, -1)
    assert all(any(np.allclose(row, other) for other in x) for row in shown)
    part = (shown - mean) @ vectors[:top].T @ vectors[:top]
    np.testing.assert_allclose(found.top.values.reshape(5, -1), part + mean, atol=1e-9)
    np.testing.assert_allclose(found.bottom.values.reshape(5, -1), shown - mean - part, atol=1e-9)
    names = np.array(["cat", "dog"])
    np.testing.assert_array_equal(found.class_name, names[found.labels])


def test_images_of_the_test_split_are_shown_where_there_is_one(tmp_path):
    data = dataset(test=6)
    found = studies.project(data, images=4, out=tmp_path, progress=False)
    assert np.max(np.abs(found.images.values)) <= np.max(np.abs(data.test.examples(range(6))[0]))
    kept = data.test.examples(np.arange(6))[0]
    for image in found.images.values:
        assert any(np.array_equal(image, other) for other in kept)
    opened = studies.open(tmp_path / "project.nc")
    for name in found.variables:
        np.testing.assert_array_equal(opened[name], found[name], err_msg=name)
    assert opened.attrs["variance"] == 0.75
    other = studies.project(data, images=4, seed=1, progress=False)
    assert not np.array_equal(other.images, found.images)


def shown(figure):
    return [axes.get_images()[0].get_array() for axes in figure.axes]


def drawn(images):
    """Images between black and white: 0 and 1, or their extremes where they go beyond."""
    if images.min() >= 0 and images.max() <= 1:
        return images
    return (images - images.min()) / np.ptp(images)


@pytest.mark.parametrize(
    ("channels", "rows", "note"),
    [
        (1, None, ""),
        (2, [0, 1], ""),
        (3, None, ""),
        (4, [0, 2, 3], "channels 0, 2, 3 of 4, from 0"),
        (12, [0, 6, 11], "channels 0, 6, 11 of 12, from 0"),
    ],
)
def test_pictures_of_any_number_of_channels(channels, rows, note, tmp_path):
    count = 2
    found = studies.project(dataset(channels, 12), images=count, progress=False)
    figure = subspace_figure(found, title="all")
    assert figure.get_suptitle() == ("all; " + note if note else "all")
    images = found.images.values
    views = [images] if rows is None else [images[..., channel] for channel in rows]
    pictures = shown(figure)
    assert len(pictures) == 3 * len(views) * count
    for row, view in enumerate(views):
        for column, image in enumerate(drawn(view)):
            np.testing.assert_allclose(pictures[row * count + column], image.squeeze(), atol=1e-12)
        label = figure.axes[row * count].get_ylabel()
        assert label == ("original" if rows is None else f"original\nchannel {rows[row]}")
    last = subspace_figure(found, channel=channels - 1, title="here")
    assert last.get_suptitle() == f"here; channel {channels - 1} of {channels}"
    pictures = shown(last)
    assert len(pictures) == 3 * count
    for picture, image in zip(pictures, drawn(images[..., -1]), strict=False):
        np.testing.assert_allclose(picture, image, atol=1e-12)
    with pytest.raises(ValueError, match=rf"channel: {channels}; 0 \.\. {channels - 1}"):
        subspace_figure(found, channel=channels)
    save(figure, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 5_000


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"images": 0}, r"images: 0; 1 \.\. 64"),
        ({"images": 65}, r"images: 65; 1 \.\. 64"),
        ({"images": 2.5}, r"images: 2\.5; a whole number is needed"),
        ({"variance": 1.5}, r"variance: 1\.5; 0 \.\. 1"),
        ({"variance": float("nan")}, "variance: nan"),
    ],
)
def test_options_out_of_range_are_refused(options, text):
    with pytest.raises(ValueError, match=text):
        studies.project(dataset(), **options)


def test_what_is_no_image_is_refused():
    x, labels = np.random.default_rng(0).normal(size=(20, 8)), np.arange(20) % 2
    with pytest.raises(ValueError, match="holds vectors of length 8; this needs images"):
        studies.project(Dataset.from_arrays(x, labels))
    with pytest.raises(ValueError, match="data: moments"):
        studies.project(reconjax.moments(x, labels))
