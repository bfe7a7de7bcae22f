"""The axes of a grid, as users give them: noises, weights, latent dimensions."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from reconjax.grid.grids import gaussian_grid, mask_grid, pixel_grid
from reconjax.noise.base import check, parse_window, window_size
from reconjax.noise.groups import usual_patches
from reconjax.storage.parts import fingerprint
from reconjax.studies.rays import Arrays, Grid
from reconjax.studies.source import Source
from reconjax.theory.checks import check_latent_dim
from reconjax.theory.targets import Target, check_target, joint_embedding, parse_target

NOISES = ("mask", "exact", "pixel", "gaussian")
RATIOS = (0.0, 0.25, 0.5, 0.75, 0.9, 0.99)
STDS = (0.0, 0.1, 0.25, 0.5, 1.0)
# What the axes of strength are called in the arrays of sweep.npz.
STRENGTHS = {"ratio": "mask_ratio", "std": "noise_std"}
OBJECTIVES = ("reconstruction", "joint-embedding")

Patch = int | str | Sequence[int]


def noise_grid(
    source: Source,
    noise: str,
    patches: Sequence[Patch] | None,
    ratios: Sequence[float] | None,
    stds: Sequence[float] | None,
    partial: bool,
    image_shape: Sequence[int] | None,
) -> tuple[Grid, Arrays]:
    """(P, R) noises, and the axes that they span: patch where there is one, ratio or std."""
    if noise not in NOISES:
        raise ValueError(f"noise: {noise!r}; one of {', '.join(NOISES)}")
    gaussian, masks = noise == "gaussian", noise in ("mask", "exact")
    given = (
        ("stds", stds, gaussian),
        ("ratios", ratios, not gaussian),
        ("patches", patches, masks),
    )
    for name, value, applies in given:
        if value is not None and not applies:
            raise ValueError(f"{name}: does not apply to noise {noise}")
    if gaussian:
        text = "finite and >= 0"
        strengths = numbers("stds", stds, lambda s: (s >= 0) & (s < np.inf), text, STDS)
        return gaussian_grid(strengths), {"std": np.asarray(strengths)}
    strengths = numbers("ratios", ratios, lambda p: (p >= 0) & (p < 1), "in [0, 1)", RATIOS)
    axes = {"ratio": np.asarray(strengths)}
    if noise == "pixel":
        return pixel_grid((source.features,), strengths), axes
    shape = image_shape_of(source, image_shape)
    if patches is None:
        sizes, cut = usual_patches(shape)
        partial = partial or cut
    else:
        sizes = [patch_shape(patch, shape) for patch in patches]
    if not sizes:
        raise ValueError("patches: none; at least one is needed")
    grid = mask_grid(shape, sizes, strengths, exact=noise == "exact", partial=partial)
    return grid, {"patch": np.asarray(["x".join(map(str, size)) for size in sizes]), **axes}


def patch_shape(patch: Patch, shape: Sequence[int]) -> tuple[int, ...]:
    """(height, width) of 4, (4, 2), "4", "4x2" or "1x*", or a side for each axis of the data."""
    try:
        if isinstance(patch, str):
            window = parse_window(patch)
        else:
            whole = [int(side) for side in np.atleast_1d(np.asarray(patch))]
            if not np.array_equal(whole, np.atleast_1d(np.asarray(patch))):
                raise ValueError
            window = whole[0] if len(whole) == 1 else list[int | None](whole)
    except (ValueError, TypeError):
        raise ValueError(
            f"patches: {patch!r}; sizes like 4, (4, 2), '4x2' or '1x*' are needed"
        ) from None
    return window_size("patches", window, shape)


def image_shape_of(source: Source, given: Sequence[int] | None) -> Sequence[int]:
    """(H, W, C), as given or that of the data."""
    if given is not None:
        if len(given) not in (2, 3, 4) or math.prod(given) != source.features:
            raise ValueError(
                f"image_shape: {tuple(given)}; (H, W, C) of {source.features} values is needed"
            )
        return given
    if source.dataset is None:
        raise ValueError("image_shape: not given; masks of patches need the (H, W, C) of moments")
    return source.dataset.image_shape


def predicted(
    source: Source, target: str | Target, objective: str, image_shape: Sequence[int] | None
) -> Target | None:
    """What is predicted in place of x; None for x itself.

    Raises:
      ValueError: an unknown objective, joint embedding with a target, as `parse_target`.
    """
    if objective not in OBJECTIVES:
        raise ValueError(f"objective: {objective!r}; one of {', '.join(OBJECTIVES)}")
    if objective == "joint-embedding":
        if target != "pixels":
            raise ValueError(f"target: {target!r}; joint embedding predicts none")
        return joint_embedding()
    if target == "pixels":
        return None
    if not isinstance(target, str):
        check_target(target, source.features)
        return target
    images = target.startswith(("patch-centered", "highpass"))
    shape = image_shape_of(source, image_shape) if images else (source.features,)
    return parse_target(target, shape)


def names_of_target(target: str | Target, objective: str) -> dict[str, str]:
    """As settings; none where x is reconstructed."""
    if objective != "reconstruction":
        return {"objective": objective}
    if target == "pixels":
        return {}
    name = target if isinstance(target, str) else f"{type(target).__name__} {fingerprint(target)}"
    return {"target": name}


def check_unused(what: str, **given: Any) -> None:
    """Raises ValueError for an option that does not apply to what is done."""
    for name, value in given.items():
        if value not in (None, False):
            raise ValueError(f"{name}: {value}; it does not apply to {what}")


def numbers(
    name: str, values: Any, allowed: Callable[[Any], Any], text: str, default: Sequence[float] = ()
) -> list[float]:
    """Numbers, all of them allowed; the default for None."""
    if values is None:
        return list(default)
    listed = [float(value) for value in np.atleast_1d(np.asarray(values, np.float64))]
    if not listed:
        raise ValueError(f"{name}: none; at least one is needed")
    for number in listed:
        check(name, number, allowed, text)
    return listed


def latent_dims_axis(
    given: Sequence[int] | None, largest: int | None, features: int | None
) -> list[int] | None:
    """K, of inputs of D features where that bounds it; None for all."""
    dims = None if given is None else np.atleast_1d(np.asarray(given)).tolist()
    for latent_dim in (*(dims or ()), *([] if largest is None else [largest])):
        check("latent_dim", latent_dim, lambda k: k % 1 == 0, "a whole number")
        if features is None:
            check("latent_dim", latent_dim, lambda k: k >= 1, "at least 1")
        else:
            check_latent_dim(latent_dim, features)
    if largest is None:
        return None if dims is None else [int(latent_dim) for latent_dim in dims]
    if dims:
        raise ValueError("max_latent_dim: given with latent_dims; choose one")
    return list(range(1, largest + 1))
