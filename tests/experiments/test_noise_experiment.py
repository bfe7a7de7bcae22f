"""The experiment on families of noise and learned masks, on the digits."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import reconjax
from experiments import noises
from reconjax.theory.held_out import held_out


def test_smoke(tmp_path):
    argv = ["--preset", "smoke", "--out", str(tmp_path)]
    with jax.numpy_dtype_promotion("standard"):  # as on the command line
        noises.main(argv)
    part = json.loads((tmp_path / "noises.json").read_text())["parts"]["digits"]
    assert part["samples"] == 600
    assert part["noises"] == 2
    assert len(part["ranking"]) == 4
    assert [mask["latent_dim"] for mask in part["masks"]] == [4, 16]
    for mask in part["masks"]:
        # It starts from the best uniform ratio.
        assert mask["learned"]["r2"] >= mask["uniform"]["r2"] - 1e-6
        assert mask["gain"] == pytest.approx(
            mask["learned"]["held_out"] - mask["uniform"]["held_out"]
        )
        assert np.shape(mask["learned"]["mask_ratio"]) == (8, 8)
    for name in ("families", "masks"):
        assert (tmp_path / f"{name}.png").stat().st_size > 5000
    before = (tmp_path / "noises.json").read_text()
    noises.main(argv)  # a second run measures nothing
    assert (tmp_path / "noises.json").read_text() == before


def test_averaged_moments_are_those_of_averaged_images():
    rng = np.random.default_rng(0)
    images, labels = rng.normal(size=(60, 4, 6, 3)), np.arange(60) // 3 % 3
    small = images.reshape(60, 2, 2, 3, 2, 3).mean(axis=(2, 4))

    def both(x):
        train, *folds = (reconjax.moments(x[i::3], labels[i::3], num_classes=3) for i in range(3))
        return train, held_out(folds, train)

    *averaged, shape = noises.averaged(*both(images), (4, 6, 3), 20)
    assert shape == (2, 3, 3)
    pairs = zip(jax.tree.leaves(averaged), jax.tree.leaves(both(small)), strict=True)
    for of_moments, of_images in pairs:
        np.testing.assert_allclose(of_moments, of_images, atol=1e-12)
    assert noises.averaged(*both(images), (4, 6, 3), 72)[2] == (4, 6, 3)
    assert isinstance(averaged[0].mean_x, jnp.ndarray)
