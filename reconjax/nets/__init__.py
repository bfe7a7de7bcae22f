"""Networks (Flax NNX): autoencoders, classifiers and probes.

Autoencoders have `encode`, `decode` and `__call__`, masked ones `features` and `predict` too,
classifiers `features` and `__call__`, probes `__call__`. They take centered floats of one shape,
(N, H, W, C) images or (N, D) vectors, of any size that their strides or patches allow. In training
mode (as made, or after `.train()`) batch statistics are those of the batch, averaged over the
mapped axis `AXIS` where there is one; after `.eval()` they are the running ones. A net starts with
the same parameters inside and outside of `jax.jit`.
"""

from reconjax.nets.autoencoder import Autoencoder, MLPAutoencoder
from reconjax.nets.classifiers import Classifier, MLPClassifier, ResNet9
from reconjax.nets.conv import ConvAutoencoder
from reconjax.nets.layers import AXIS, parameter_count
from reconjax.nets.masked_autoencoder import READOUTS, MaskedAutoencoder, check_patch, usual_patch
from reconjax.nets.named import AUTOENCODERS, CLASSIFIERS, MASKED_AUTOENCODERS, NAMES, make
from reconjax.nets.probes import LinearProbe, MLPProbe
from reconjax.nets.resnet import ResNetAutoencoder

__all__ = [
    "AUTOENCODERS",
    "AXIS",
    "CLASSIFIERS",
    "MASKED_AUTOENCODERS",
    "NAMES",
    "READOUTS",
    "Autoencoder",
    "Classifier",
    "ConvAutoencoder",
    "LinearProbe",
    "MLPAutoencoder",
    "MLPClassifier",
    "MLPProbe",
    "MaskedAutoencoder",
    "ResNet9",
    "ResNetAutoencoder",
    "check_patch",
    "make",
    "parameter_count",
    "usual_patch",
]
