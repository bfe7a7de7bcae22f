"""The points of a grid of noises, and the devices that share them."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from reconjax.noise import Noise, RayPoint
from reconjax.noise.rays import same_direction


def grid_points(noises: Sequence[Sequence[Noise]], features: int) -> RayPoint:
    """(P, R) ray points: leaves (P, R), the direction's leaves (P, ...)."""
    if not all(isinstance(row, Sequence) for row in noises):
        raise ValueError("noises: rows of noises are needed, such as from `mask_grid`")
    if not noises or not noises[0]:
        raise ValueError("noises: an empty grid; at least one noise is needed")
    rows = []
    for row in noises:
        if len(row) != len(noises[0]):
            raise ValueError(f"noises: rows of {len(noises[0])} and {len(row)}; all must be equal")
        points = []
        for noise in row:
            point = noise.ray()
            if point is None:
                raise ValueError(f"noises: {type(noise).__name__} lies on no ray; use solve for it")
            points.append(point)
        direction = points[0].direction
        for point in points:
            if not same_direction(point.direction, direction):
                raise ValueError("noises: the noises of one row lie on different rays")
        for leaf in jax.tree.leaves(direction):
            if leaf.shape[0] != features:
                raise ValueError(
                    f"noises: made for {leaf.shape[0]} features; the moments have {features}"
                )
        columns = (jnp.stack([point[i] for point in points]) for i in (1, 2, 3))
        rows.append(RayPoint(direction, *columns))
    if any(type(row.direction) is not type(rows[0].direction) for row in rows):
        raise ValueError("noises: rows of different kinds of noise; sweep each kind on its own")
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *rows)


def divided(mesh: Mesh, rays: int, strengths: int) -> Mesh:
    """The devices of a mesh as ("ray", "strength"), so that each has an equal part of a grid.

    Raises:
      ValueError: their number is not a x b with a a divisor of `rays` and b one of `strengths`.
    """
    devices = mesh.devices.flatten()
    sizes = device_counts(rays, strengths)
    if devices.size not in sizes:
        raise ValueError(
            f"mesh: {devices.size} devices; a grid of {rays} rays x {strengths} strengths can be"
            f" dealt to {', '.join(map(str, sorted(sizes)))}"
        )
    return Mesh(devices.reshape(sizes[devices.size], -1), ("ray", "strength"))


def device_counts(rays: int, strengths: int) -> dict[int, int]:
    """The numbers of devices that can share a grid, each with how many of them share the rays."""
    return {
        a * b: a
        for b in range(strengths, 0, -1)
        for a in range(1, rays + 1)
        if rays % a == 0 and strengths % b == 0
    }
