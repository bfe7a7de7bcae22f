"""Training of networks: data-parallel, resumable, on the noises that have closed forms."""

from reconjax.training.augmentation import AUGMENTATIONS
from reconjax.training.evaluation import evaluate
from reconjax.training.examples import Centered
from reconjax.training.fitting import fit, fit_runs
from reconjax.training.loop import Diverged
from reconjax.training.objectives import (
    LOSSES,
    Objective,
    classification,
    denoising,
    guided,
    reconstruction,
)
from reconjax.training.runs import Trained, load

__all__ = [
    "AUGMENTATIONS",
    "LOSSES",
    "Centered",
    "Diverged",
    "Objective",
    "Trained",
    "classification",
    "denoising",
    "evaluate",
    "fit",
    "fit_runs",
    "guided",
    "load",
    "reconstruction",
]
