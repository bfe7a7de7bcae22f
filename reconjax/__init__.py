"""reconjax: how far learning by reconstruction is misaligned with a task, and which noise mends it.

The closed forms of "How Learning by Reconstruction Produces Uninformative Features for Perception"
(Balestriero and LeCun, ICML 2024) in JAX. Data sets are in `reconjax.data`, networks in
`reconjax.nets`, their training and probes in `reconjax.training`, pictures in `reconjax.plots`;
these are imported on their own.
"""

import os

from reconjax.evidence.bootstrap import Bootstrap, bootstrap
from reconjax.evidence.p_values import search_p_values
from reconjax.grid.sweep import Sweep, gaussian_grid, mask_grid, pixel_grid, sweep, sweep_memory
from reconjax.noise import (
    block_mask,
    blur,
    chain,
    channel_dropout,
    colored_gaussian,
    crop,
    estimated,
    exact_patch_mask,
    flip,
    from_function,
    gaussian,
    identity,
    linear,
    mask_set,
    mixture,
    noise_text,
    parse_noise,
    patch_groups,
    patch_mask,
    pca_mask,
    pixel_dropout,
    random_patch_mask,
    salt_and_pepper,
    shift,
    smooth_gaussian,
    speckle,
    thinning,
    visibility_mask,
)
from reconjax.summary.folds import combined, each_fold, fold_moments
from reconjax.summary.moments import (
    Moments,
    balanced_class_weight,
    merge,
    moments,
    standardized,
    uncentered,
)
from reconjax.summary.streaming import moments_from_batches
from reconjax.theory.alignment import Alignment, Proposition1, alignment, proposition1
from reconjax.theory.certificate import Certificate, certificate
from reconjax.theory.commuting import CertificateArrays, certificate_arrays
from reconjax.theory.held_out import HeldOut, held_out, held_out_explained
from reconjax.theory.solver import Problem, Solution, optimal_codes, problem, solve, theorem1
from reconjax.theory.spectrum import SampleSide, Spectrum, project, spectrum, spectrum_from_samples

# OpenBLAS, which factorises for XLA on a CPU, lets its threads spin for 2^26 cycles after a call,
# on cores that are needed for what follows. It reads this when it is loaded, at the first call.
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "20")

__all__ = [
    "Alignment",
    "Bootstrap",
    "Certificate",
    "CertificateArrays",
    "HeldOut",
    "Moments",
    "Problem",
    "Proposition1",
    "SampleSide",
    "Solution",
    "Spectrum",
    "Sweep",
    "alignment",
    "balanced_class_weight",
    "block_mask",
    "blur",
    "bootstrap",
    "certificate",
    "certificate_arrays",
    "chain",
    "channel_dropout",
    "colored_gaussian",
    "combined",
    "crop",
    "each_fold",
    "estimated",
    "exact_patch_mask",
    "flip",
    "fold_moments",
    "from_function",
    "gaussian",
    "gaussian_grid",
    "held_out",
    "held_out_explained",
    "identity",
    "linear",
    "mask_grid",
    "mask_set",
    "merge",
    "mixture",
    "moments",
    "moments_from_batches",
    "noise_text",
    "optimal_codes",
    "parse_noise",
    "patch_groups",
    "patch_mask",
    "pca_mask",
    "pixel_dropout",
    "pixel_grid",
    "problem",
    "project",
    "proposition1",
    "random_patch_mask",
    "salt_and_pepper",
    "search_p_values",
    "shift",
    "smooth_gaussian",
    "solve",
    "speckle",
    "spectrum",
    "spectrum_from_samples",
    "standardized",
    "sweep",
    "sweep_memory",
    "theorem1",
    "thinning",
    "uncentered",
    "visibility_mask",
]
