"""The whole grid of noises, strengths, weights and latent dimensions in one compiled call.

sweep        the call, and the grids
sample_side  the call for fewer samples than features, with nothing of size D x D
columns      what it adds up over groups of features
ray          one factorization for every strength of a noise
subspace     a ray for the leading K alone
task         a ray, its points and their curves
kernel       what is compiled, on one device or many
"""

from reconjax.grid.sample_side import Samples, samples, sweep_samples
from reconjax.grid.sweep import Sweep, gaussian_grid, mask_grid, pixel_grid, sweep_memory

__all__ = [
    "Samples",
    "Sweep",
    "gaussian_grid",
    "mask_grid",
    "pixel_grid",
    "samples",
    "sweep_memory",
    "sweep_samples",
]
