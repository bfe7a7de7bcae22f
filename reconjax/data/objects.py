"""The objects of the scenes: ten shapes and ten textures, as functions of coordinates.

Coordinates u (to the right) and v (down) run from -1 to 1 over the box around an object. A shape
says where the object is (boolean), a texture how its two colours mix (0 to 1, any dtype).
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

Field = Callable[[jax.Array, jax.Array], jax.Array]

MAX_CLASSES = 100


def class_parts(k: int) -> tuple[int, int]:
    """The numbers of the shape and of the texture of class k in 0..99, all pairs different.

    Among the first ten classes, and every ten after them, no shape or texture comes twice.
    """
    return k % 10, (k + k // 10) % 10


def class_name(k: int) -> str:
    """The name of class k in 0..99, "shape, texture"."""
    shape, texture = class_parts(k)
    return f"{tuple(SHAPES)[shape]}, {tuple(TEXTURES)[texture]}"


def _radius(u: jax.Array, v: jax.Array) -> jax.Array:
    return jnp.hypot(u, v)


def _box(u: jax.Array, v: jax.Array) -> jax.Array:
    return jnp.maximum(jnp.abs(u), jnp.abs(v))


def _star(u: jax.Array, v: jax.Array) -> jax.Array:
    # Folded onto half of one of its five points, the star is bounded by the straight line from
    # the tip (1, 0) to the notch.
    notch = 0.42 * math.cos(math.pi / 5), 0.42 * math.sin(math.pi / 5)
    sector = 2 * math.pi / 5
    angle = jnp.abs((jnp.arctan2(u, -v) + sector / 2) % sector - sector / 2)
    across = notch[1] * jnp.cos(angle) + (1 - notch[0]) * jnp.sin(angle)
    return _radius(u, v) * across < notch[1]


SHAPES: dict[str, Field] = {
    "disc": lambda u, v: _radius(u, v) < 1,
    "square": lambda u, v: _box(u, v) < 0.9,
    "triangle": lambda u, v: (jnp.abs(u) < (v + 1) / 1.85) & (v < 0.85),
    "diamond": lambda u, v: jnp.abs(u) + jnp.abs(v) < 1,
    "ring": lambda u, v: jnp.abs(_radius(u, v) - 0.74) < 0.26,
    "cross": lambda u, v: (jnp.minimum(jnp.abs(u), jnp.abs(v)) < 0.34) & (_box(u, v) < 1),
    "star": _star,
    "half-disc": lambda u, v: (_radius(u, v - 0.5) < 1) & (v < 0.5),
    "bar": lambda u, v: (jnp.abs(u) < 1) & (jnp.abs(v) < 0.4),
    "frame": lambda u, v: jnp.abs(_box(u, v) - 0.74) < 0.22,
}

# About three periods over an object: six pixels each in images of 32 x 32.
TEXTURES: dict[str, Field] = {
    "solid": lambda u, v: jnp.ones_like(u),
    "horizontal stripes": lambda u, v: jnp.cos(3 * jnp.pi * v) > 0,
    "vertical stripes": lambda u, v: jnp.cos(3 * jnp.pi * u) > 0,
    "checker": lambda u, v: jnp.sin(2.5 * jnp.pi * u) * jnp.sin(2.5 * jnp.pi * v) > 0,
    "gradient": lambda u, v: jnp.clip((u + 1) / 2, 0, 1),
    "diagonal stripes": lambda u, v: jnp.cos(2.2 * jnp.pi * (u + v)) > 0,
    "rays": lambda u, v: jnp.cos(6 * jnp.arctan2(u, v)) > 0,
    "rings": lambda u, v: jnp.cos(3.5 * jnp.pi * _radius(u, v)) > 0,
    "dots": lambda u, v: jnp.cos(3 * jnp.pi * u) + jnp.cos(3 * jnp.pi * v) > 0.6,
    "halves": lambda u, v: v < 0,
}
