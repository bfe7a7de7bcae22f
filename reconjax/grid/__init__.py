"""The whole grid of noises, strengths, weights and latent dimensions in one compiled call.

sweep           the call
grids           what it is called with
points          the points of a grid, and the devices that share them
sample_side     the call for fewer samples than features, with nothing of size D x D
stored_samples  what that is called with
columns         what it adds up over groups of features
sample_certificate  what a noise can change for any task, likewise
commutator      of the second moment and a noise's, likewise
ray             one factorization for every strength of a noise
subspace        a ray for the leading K alone
new_data        a test split on a ray
task            a ray, its points and their curves
kernel          what is compiled, on one device or many
"""

from reconjax.grid.grids import gaussian_grid, mask_grid, pixel_grid
from reconjax.grid.sample_certificate import certificates_by_samples
from reconjax.grid.sample_side import sweep_samples, sweep_samples_targets
from reconjax.grid.stored_samples import Samples, samples
from reconjax.grid.sweep import Sweep, sweep_memory, sweep_targets

__all__ = [
    "Samples",
    "Sweep",
    "certificates_by_samples",
    "gaussian_grid",
    "mask_grid",
    "pixel_grid",
    "samples",
    "sweep_memory",
    "sweep_samples",
    "sweep_samples_targets",
    "sweep_targets",
]
