"""Transformers with normalization before each branch: Dosovitskiy et al. (2021), "An image is worth
16x16 words: Transformers for image recognition at scale".
"""

import functools
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax import Array

from reconjax.nets.layers import Layers, Residual

MLP_RATIO = 4  # hidden features of an MLP for each feature of a token


class Transformer(nnx.Module):
    """Blocks x + attention(norm(x)), x + mlp(norm(x)), and a last normalization."""

    def __init__(self, width: int, depth: int, heads: int, make: Layers) -> None:
        """Of `depth` blocks on tokens of `width` features."""
        identity = nnx.Sequential()
        branches: list[Any] = []
        for _ in range(depth):
            attention = [make.layer_norm(width), make.attention(width, heads)]
            mlp = [
                make.layer_norm(width),
                make.linear(width, MLP_RATIO * width),
                jax.nn.gelu,
                make.linear(MLP_RATIO * width, width),
            ]
            branches += [Residual(nnx.Sequential(*body), identity) for body in (attention, mlp)]
        self.branches = nnx.Sequential(*branches)
        self.norm = make.layer_norm(width)

    def __call__(self, x: Array) -> Array:
        """(N, T, width) to the same."""
        return self.each(x)[-1]

    def each(self, x: Array) -> list[Array]:
        """(N, T, width) after every block; after the last one they are normalized."""
        branches = self.branches.layers
        blocks = []
        for attention, mlp in zip(branches[::2], branches[1::2], strict=True):
            x = mlp(attention(x))
            blocks.append(x)
        return [*blocks[:-1], self.norm(x)]


@functools.lru_cache(maxsize=32)
def positions(rows: int, columns: int, width: int) -> np.ndarray:
    """(rows columns, width) float32: sines and cosines of the place of each token, row by row.

    Half of the features are of the row, half of the column: sin(a ω) and cos(a ω) with
    ω = 10000^(-4 i / width), i = 0 .. width / 4 - 1 (Vaswani et al., 2017, as He et al., 2022, have
    it for images).

    Args:
      rows: of the grid.
      columns: of the grid.
      width: a multiple of 4.
    """
    quarter = width // 4
    frequencies = 1e4 ** (-np.arange(quarter) / quarter)

    def waves(places: np.ndarray) -> list[np.ndarray]:
        angles = places[:, None] * frequencies
        return [np.sin(angles), np.cos(angles)]

    row, column = np.divmod(np.arange(rows * columns), columns)
    return np.concatenate(waves(row) + waves(column), axis=1).astype(np.float32)
