"""Probes of frozen features, and what they are compared with.

A probe gets arrays, `ridge_probe(x_train, y_train, x_test, y_test)`, which `features` makes of a
network and a split, and gives a `Probe`: its accuracy and R² at every setting, and the setting that
it chose without the test split.
"""

from reconjax.training.features import feature_set, features, load_features
from reconjax.training.probes.baselines import closed_form_features, majority, pca_features
from reconjax.training.probes.mlp import mlp_probe
from reconjax.training.probes.neighbors import knn_probe
from reconjax.training.probes.report import probe
from reconjax.training.probes.ridge import ridge_probe
from reconjax.training.probes.softmax import logistic_probe
from reconjax.training.probes.task import Probe, Scores

__all__ = [
    "Probe",
    "Scores",
    "closed_form_features",
    "feature_set",
    "features",
    "knn_probe",
    "load_features",
    "logistic_probe",
    "majority",
    "mlp_probe",
    "pca_features",
    "probe",
    "ridge_probe",
]
