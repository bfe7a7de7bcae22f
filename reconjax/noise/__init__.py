"""Noise: what happens to the input that the encoder sees.

A noise is a small pytree whose parameters are its leaves. Each one knows

- how to draw x' given the centered x: `sample(key, x)`;
- its conditional mean E[x'|x] = T x + b: `mean(F)`, which maps E[x fᵀ] to E[x' fᵀ] = T E[x fᵀ], and
  `offset()`, which is b, or None where it is 0;
- the covariance of x': `second_moment(G)` maps E[x xᵀ] of the centered x to Cov x'. The closed
  forms center what the encoder sees (a bias does that in a network), so that this, and not
  E[x' x'ᵀ], is their G; the two are the same where b = 0;
- its ray, if it has one. Every noise with E[x'|x] = q x is additive colored noise: for a family
  of strengths, Cov x' = g ((1 - ρ) M + ρ B) with one direction B and a share ρ in [0, 1] that
  grows with the strength. One factorization of (M, B) then serves the whole family.

In all of them x is centered: a masked value becomes 0, which is the mean image's value, unless
another `fill` is given. Noises compose and mix: `chain(a, b)` applies a, then b; `mixture(a, b)`
applies one of them. In a chain, a noise may find an x that an earlier one has moved away from mean
0: `second_moment(G, mean)` then takes E x too. `parse_noise` makes a noise of a text.
"""

from reconjax.noise.additive import (
    ColoredGaussian,
    Gaussian,
    Speckle,
    Thinning,
    colored_gaussian,
    gaussian,
    smooth_gaussian,
    speckle,
    thinning,
)
from reconjax.noise.base import Noise
from reconjax.noise.basis import InBasis, in_basis, pca_mask
from reconjax.noise.compose import Chain, Identity, Mixture, chain, identity, mixture
from reconjax.noise.groups import patch_groups
from reconjax.noise.masks import (
    Mask,
    SaltAndPepper,
    channel_dropout,
    group_mask,
    patch_mask,
    pixel_dropout,
    salt_and_pepper,
)
from reconjax.noise.naming import noise_text
from reconjax.noise.operators import (
    Blur,
    Crop,
    Flip,
    Linear,
    Shift,
    blur,
    crop,
    flip,
    linear,
    shift,
)
from reconjax.noise.random_masks import (
    Beta,
    ExactMask,
    RandomMask,
    Uniform,
    exact_patch_mask,
    random_patch_mask,
)
from reconjax.noise.rays import (
    Colored,
    Direction,
    FeatureVariance,
    FilledGroup,
    Independent,
    Isotropic,
    RayPoint,
    Rotated,
    SameGroup,
)
from reconjax.noise.sampled import Estimated, Function, estimated, from_function
from reconjax.noise.text import known_noises, parse_noise
from reconjax.noise.visibility import (
    BlockMask,
    MaskSet,
    PairMask,
    block_mask,
    mask_set,
    visibility_mask,
)

__all__ = [
    "Beta",
    "BlockMask",
    "Blur",
    "Chain",
    "Colored",
    "ColoredGaussian",
    "Crop",
    "Direction",
    "Estimated",
    "ExactMask",
    "FeatureVariance",
    "FilledGroup",
    "Flip",
    "Function",
    "Gaussian",
    "Identity",
    "InBasis",
    "Independent",
    "Isotropic",
    "Linear",
    "Mask",
    "MaskSet",
    "Mixture",
    "Noise",
    "PairMask",
    "RandomMask",
    "RayPoint",
    "Rotated",
    "SaltAndPepper",
    "SameGroup",
    "Shift",
    "Speckle",
    "Thinning",
    "Uniform",
    "block_mask",
    "blur",
    "chain",
    "channel_dropout",
    "colored_gaussian",
    "crop",
    "estimated",
    "exact_patch_mask",
    "flip",
    "from_function",
    "gaussian",
    "group_mask",
    "identity",
    "in_basis",
    "known_noises",
    "linear",
    "mask_set",
    "mixture",
    "noise_text",
    "parse_noise",
    "patch_groups",
    "patch_mask",
    "pca_mask",
    "pixel_dropout",
    "random_patch_mask",
    "salt_and_pepper",
    "shift",
    "smooth_gaussian",
    "speckle",
    "thinning",
    "visibility_mask",
]
