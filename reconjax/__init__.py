"""reconjax: how far learning by reconstruction is misaligned with a task, and which noise mends it.

The closed forms of "How Learning by Reconstruction Produces Uninformative Features for Perception"
(Balestriero and LeCun, ICML 2024) in JAX. Data sets are in `reconjax.data`, plots in
`reconjax.plots`; both are imported on their own.
"""

from reconjax.alignment import Alignment, Proposition1, alignment, proposition1
from reconjax.moments import (
    Moments,
    balanced_class_weight,
    merge,
    moments,
    standardized,
    uncentered,
)
from reconjax.noise import (
    chain,
    exact_patch_mask,
    gaussian,
    identity,
    patch_groups,
    patch_mask,
    pixel_dropout,
)
from reconjax.solver import Problem, Solution, optimal_codes, problem, solve, theorem1
from reconjax.spectrum import SampleSide, Spectrum, project, spectrum, spectrum_from_samples
from reconjax.streaming import moments_from_batches
from reconjax.sweep import Sweep, gaussian_grid, mask_grid, pixel_grid, sweep, sweep_memory

__all__ = [
    "Alignment",
    "Moments",
    "Problem",
    "Proposition1",
    "SampleSide",
    "Solution",
    "Spectrum",
    "Sweep",
    "alignment",
    "balanced_class_weight",
    "chain",
    "exact_patch_mask",
    "gaussian",
    "gaussian_grid",
    "identity",
    "mask_grid",
    "merge",
    "moments",
    "moments_from_batches",
    "optimal_codes",
    "patch_groups",
    "patch_mask",
    "pixel_dropout",
    "pixel_grid",
    "problem",
    "project",
    "proposition1",
    "solve",
    "spectrum",
    "spectrum_from_samples",
    "standardized",
    "sweep",
    "sweep_memory",
    "theorem1",
    "uncentered",
]
