"""The closed forms of the paper, on moments.

spectrum       principal directions of moments, and of samples where there are fewer than features
projection     inputs on the top and the bottom subspace
solver         the one problem of which Theorems 1 and 3 are cases
noiseless      Theorem 1 in principal coordinates, also of wide data
codes          Theorem 2
optimum        the solver's core, for every K at once
targets        what is predicted in place of x; joint embedding
tied           directions that an objective does not tell apart
alignment      Eq. 7, its chance line, each target alone, Proposition 1
chance         what permuted labels explain, with class weights
certificate    what a noise can never change (Corollary 3.1)
commuting      its numbers, in arrays that JAX traces
angles         principal angles between representations, for the certificate
held_out       encoders and heads on a test split
mask_learning  a mask that is learned by gradients
uncertainty    what rounding leaves open of a curve
checks         of arguments
"""

from reconjax.theory.alignment import (
    Alignment,
    Proposition1,
    of_targets,
    proposition1,
    r2_by_target,
)
from reconjax.theory.certificate import Certificate
from reconjax.theory.codes import optimal_codes
from reconjax.theory.commuting import CertificateArrays, certificate_arrays
from reconjax.theory.held_out import HeldOut, held_out_r2
from reconjax.theory.mask_learning import LearnedMask, learned_mask, r2_at
from reconjax.theory.noiseless import theorem1
from reconjax.theory.projection import project
from reconjax.theory.solver import Problem, Solution, problem, solve
from reconjax.theory.spectrum import SampleSide, Spectrum, spectrum_from_samples

__all__ = [
    "Alignment",
    "Certificate",
    "CertificateArrays",
    "HeldOut",
    "LearnedMask",
    "Problem",
    "Proposition1",
    "SampleSide",
    "Solution",
    "Spectrum",
    "certificate_arrays",
    "held_out_r2",
    "learned_mask",
    "of_targets",
    "optimal_codes",
    "problem",
    "project",
    "proposition1",
    "r2_at",
    "r2_by_target",
    "solve",
    "spectrum_from_samples",
    "theorem1",
]
