"""The closed forms as estimators of scikit-learn.

denoising   PCA that has seen a noise: the encoder of Theorem 3 without labels
batches     moments of samples without labels, batch by batch
"""

from reconjax.sklearn.denoising import DenoisingPCA

__all__ = ["DenoisingPCA"]
