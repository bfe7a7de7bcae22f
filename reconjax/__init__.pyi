# What `import reconjax` offers; each name is imported when it is first used. All other names are in
# the rooms: `reconjax.noise` has the noises, `reconjax.data` the data, and so on.
from . import (
    data,
    evidence,
    grid,
    lift,
    linalg,
    nets,
    noise,
    plots,
    report,
    sklearn,
    storage,
    studies,
    summary,
    theory,
    training,
)
from .evidence.bootstrap import bootstrap
from .evidence.comparison import compare
from .evidence.p_values import search_p_values
from .grid.grids import mask_grid
from .grid.sweep import Sweep, sweep
from .noise.naming import noise_text
from .noise.text import parse_noise
from .summary.folds import fold_moments
from .summary.moments import Moments, moments, standardized
from .summary.streaming import moments_from_batches
from .summary.union import merge
from .theory.alignment import Alignment, alignment, proposition1
from .theory.certificate import Certificate, certificate
from .theory.codes import optimal_codes
from .theory.held_out import held_out
from .theory.noiseless import theorem1
from .theory.projection import project
from .theory.solver import Problem, Solution, problem, solve
from .theory.spectrum import SampleSide, Spectrum, spectrum, spectrum_from_samples

__all__ = [
    "Alignment",
    "Certificate",
    "Moments",
    "Problem",
    "SampleSide",
    "Solution",
    "Spectrum",
    "Sweep",
    "alignment",
    "bootstrap",
    "certificate",
    "compare",
    "data",
    "evidence",
    "fold_moments",
    "grid",
    "held_out",
    "lift",
    "linalg",
    "mask_grid",
    "merge",
    "moments",
    "moments_from_batches",
    "nets",
    "noise",
    "noise_text",
    "optimal_codes",
    "parse_noise",
    "plots",
    "problem",
    "project",
    "proposition1",
    "report",
    "search_p_values",
    "sklearn",
    "solve",
    "spectrum",
    "spectrum_from_samples",
    "standardized",
    "storage",
    "studies",
    "summary",
    "sweep",
    "theorem1",
    "theory",
    "training",
]
