"""One text form for feature maps, for the command line and for records.

| text               | features                                                                 |
|--------------------|--------------------------------------------------------------------------|
| identity           | the inputs themselves                                                    |
| relu:WIDTHS        | random layers with ReLU, `relu:2048` or `relu:1024x1024`                 |
| gelu:WIDTHS        | the same with GELU                                                       |
| conv:COUNT:SIZE:GRID | COUNT random filters of SIZE x SIZE pixels, pooled to GRID x GRID cells |
| patches:COUNT:PATCH | COUNT random features of each patch, averaged over visible patches      |
"""

from collections.abc import Sequence

from jax.typing import ArrayLike

from reconjax.lift.features import FeatureMap, identity_features
from reconjax.lift.random_features import (
    ACTIVATIONS,
    random_convolution,
    random_layers,
    random_patches,
)

FORMS = "identity, relu:WIDTHS, gelu:WIDTHS, conv:COUNT:SIZE:GRID, patches:COUNT:PATCH"


def parse_features(
    text: str, example_shape: Sequence[int], *, unit: ArrayLike = 1.0, seed: int = 0
) -> FeatureMap:
    """The feature map that a text names.

    Args:
      text: "identity", "relu:2048", "gelu:1024x1024", "conv:256:5:4", "patches:1024:4x4".
      example_shape: (H, W, C) or (D,).
      unit: what inputs are divided by: their root mean square deviation.
      seed: of the weights.

    Raises:
      ValueError: no such features, a value out of range, or those of images for other inputs.

    Example:
      >>> reconjax.lift.parse_features("conv:16:3:2", (4, 4, 1)).size(16)
      64
    """
    name, *values = text.strip().split(":")
    size = 1
    for side in example_shape:
        size *= int(side)
    try:
        if name == "identity" and not values:
            return identity_features()
        if name in ACTIVATIONS and len(values) == 1:
            widths = _numbers(values[0])
            return random_layers(widths, size, activation=name, unit=unit, seed=seed)
        if name == "conv" and len(values) == 3:
            count, side, grid = (int(value) for value in values)
            return random_convolution(count, side, grid, example_shape, seed=seed)
        if name == "patches" and len(values) == 2:
            sides = _numbers(values[1])
            shape = sides * 2 if len(sides) == 1 else sides
            return random_patches(int(values[0]), shape, example_shape, unit=unit, seed=seed)
    except ValueError as error:
        raise ValueError(f"features: {text!r}; {error}") from None
    raise ValueError(f"features: {text!r}; known are {FORMS}")


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split("x")]
