"""Training of networks, data-parallel and resumable, with the noises of the theory; probes."""

from reconjax.training.augmentation import AUGMENTATIONS
from reconjax.training.embedding import EMBEDDING_LOSSES, joint_embedding
from reconjax.training.evaluation import evaluate
from reconjax.training.examples import Centered
from reconjax.training.finalists import train_finalists
from reconjax.training.fitting import fit, fit_runs
from reconjax.training.loop import Diverged
from reconjax.training.masking import LOSS_ON, masked
from reconjax.training.objectives import (
    LOSSES,
    Objective,
    classification,
    denoising,
    guided,
    reconstruction,
)
from reconjax.training.probes import (
    feature_set,
    knn_probe,
    logistic_probe,
    mlp_probe,
    probe,
    ridge_probe,
)
from reconjax.training.runs import Trained, load
from reconjax.training.targets import parse_target, whitened

__all__ = [
    "AUGMENTATIONS",
    "EMBEDDING_LOSSES",
    "LOSSES",
    "LOSS_ON",
    "Centered",
    "Diverged",
    "Objective",
    "Trained",
    "classification",
    "denoising",
    "evaluate",
    "feature_set",
    "fit",
    "fit_runs",
    "guided",
    "joint_embedding",
    "knn_probe",
    "load",
    "logistic_probe",
    "masked",
    "mlp_probe",
    "parse_target",
    "probe",
    "reconstruction",
    "ridge_probe",
    "train_finalists",
    "whitened",
]
