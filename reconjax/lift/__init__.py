"""The lift: closed forms of encoders that are linear on fixed, nonlinear features.

features         feature maps: any function, any network
random_features  random layers, filters and patches
text             their text form
seen             a data set seen through features, without noise
moments          what is known of noisy features
streaming        the same by Monte Carlo, over batches, draws, devices and hosts
solver           the optimum for a path of ridges, every K at once
draws            the same for one noise, with as many draws as it needs
reduced          its compiled core
"""

from reconjax.lift.draws import solve_noise
from reconjax.lift.features import (
    FeatureMap,
    function_features,
    identity_features,
    network_features,
)
from reconjax.lift.moments import (
    Covariances,
    LiftedMoments,
    exact_moments,
    lift_memory,
    more_draws,
)
from reconjax.lift.random_features import random_convolution, random_layers, random_patches
from reconjax.lift.seen import Lift, lift, linear_lift
from reconjax.lift.solver import LiftedSolution, ridge_path, solve_lifted
from reconjax.lift.streaming import lifted_moments
from reconjax.lift.text import parse_features

__all__ = [
    "Covariances",
    "FeatureMap",
    "Lift",
    "LiftedMoments",
    "LiftedSolution",
    "exact_moments",
    "function_features",
    "identity_features",
    "lift",
    "lift_memory",
    "lifted_moments",
    "linear_lift",
    "more_draws",
    "network_features",
    "parse_features",
    "random_convolution",
    "random_layers",
    "random_patches",
    "ridge_path",
    "solve_lifted",
    "solve_noise",
]
