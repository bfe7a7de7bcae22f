"""Grids of noises for a sweep: a row for each ray, a column for each strength."""

from collections.abc import Sequence

from reconjax.noise import Noise, exact_patch_mask, gaussian, patch_mask, pixel_dropout


def mask_grid(
    image_shape: Sequence[int],
    patch_shapes: Sequence[int | Sequence[int]],
    mask_ratios: Sequence[float],
    *,
    exact: bool = False,
    share_channels: bool = True,
    partial: bool = False,
) -> list[list[Noise]]:
    """(P, R) noises for `sweep`: a row for each patch shape, a column for each ratio.

    Args:
      image_shape: (H, W, C).
      patch_shapes: (height, width) pairs, or ints for squares.
      mask_ratios: p in [0, 1), the share that is dropped.
      exact: keep an exact number of patches (MAE) instead of Bernoulli masks.
      share_channels: the channels of a pixel are dropped together.
      partial: allow partial edge patches.

    Raises:
      ValueError: as `patch_mask`.

    Example:
      >>> grid = reconjax.mask_grid((4, 4, 1), patch_shapes=[1, 2], mask_ratios=[0, 0.5, 0.9])
      >>> len(grid), len(grid[0])
      (2, 3)
    """
    make = exact_patch_mask if exact else patch_mask
    return [
        [
            make(ratio, patch, image_shape, share_channels=share_channels, partial=partial)
            for ratio in mask_ratios
        ]
        for patch in patch_shapes
    ]


def pixel_grid(example_shape: Sequence[int], mask_ratios: Sequence[float]) -> list[list[Noise]]:
    """(1, R) noises: independent dropout of every value.

    Example:
      >>> len(reconjax.grid.pixel_grid((4, 4, 1), [0, 0.5])[0])
      2
    """
    return [[pixel_dropout(ratio, example_shape) for ratio in mask_ratios]]


def gaussian_grid(stds: Sequence[float]) -> list[list[Noise]]:
    """(1, R) noises: isotropic Gaussian noise of each standard deviation.

    Example:
      >>> [float(noise.std) for noise in reconjax.grid.gaussian_grid([0.1, 0.5])[0]]
      [0.1, 0.5]
    """
    return [[gaussian(std) for std in stds]]
