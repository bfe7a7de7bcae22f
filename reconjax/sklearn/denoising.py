"""PCA that has seen a noise: the encoder and decoder of Theorem 3 at λ = inf, without labels."""

import math
import numbers
from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_array, check_is_fitted, validate_data

from reconjax.linalg.eigen import eigh_descending, significant
from reconjax.noise import Noise, parse_noise
from reconjax.sklearn.batches import in_float64, with_batch
from reconjax.summary.moments import Moments
from reconjax.theory.checks import check_noise_size
from reconjax.theory.solver import problem, solve
from reconjax.theory.targets import Pixels, Target, check_target, parse_target

FLOATS = [np.float64, np.float32]


class _Optimum(NamedTuple):
    """What is solved for: components and decoder (K, D), E[x'] (D,), ratios (K,)."""

    components: np.ndarray
    decoder: np.ndarray
    noisy_mean: np.ndarray
    ratio: np.ndarray


class DenoisingPCA(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """The K linear features of noisy samples x' from which the clean x is best reconstructed.

    They minimize E‖Z V x' − x‖² over encoders V (K, D) and decoders Z (D, K), in expectation over
    the noise, which is never drawn (Theorem 3 at λ = inf). Without noise that is PCA, with the same
    scores as `sklearn.decomposition.PCA` up to sign. Labels are not looked at.

    Scale: the rows of `decoder_` have length 1, so that codes are in the units of X. The codes of
    noisy samples are uncorrelated, and the variance of each is what it takes off the loss. Where
    the samples themselves are predicted, the rows of `decoder_` are orthonormal, as the components
    of PCA are, and codes come in the order of their variance. In each row of `components_` the
    entry of largest magnitude is positive.

    Samples are taken as they are: the strength of a noise is in the units of X, and integers are
    not scaled. Only moments of the samples are kept, (D, D) in float64, in which all is solved.

    Args:
      n_components: K, from 1 to min(n_samples, n_features), which is the default. With noise, rows
        of components past the rank of the data are 0.
      noise: None, a text such as "gaussian:0.5" or "mask:0.75:4x4", all forms of which are in
        `reconjax.noise.text`, or a noise of `reconjax.noise`.
      target: what is predicted in place of the samples, which decides which features are kept: a
        text such as "whitened:0.75", or a target of `reconjax.theory.targets`. `decoder_` leads to
        samples whatever the target.
      image_shape: (H, W, C) of the images that the rows of X are, for noises and targets that are
        about images.

    Attributes:
      components_: (K, D) the encoder.
      decoder_: (K, D) the decoder.
      mean_: (D,) of the samples, which decoding adds.
      noisy_mean_: (D,) of noisy samples, which encoding takes off; `mean_` but for noises that move
        it, such as a mask that drops to black.
      explained_variance_ratio_: (K,) what each code takes off E‖x̂ − x‖², as a share of the variance
        of x, the codes being those of noisy samples.
      n_components_: K.
      n_features_in_: D.
      n_samples_seen_: number of samples.
      feature_names_in_: of X, where it has any.

    Example:
      >>> from reconjax.sklearn import DenoisingPCA
      >>> X = np.random.default_rng(0).normal(size=(200, 4)) * [3, 2, 1, 0.1]
      >>> pca = DenoisingPCA(n_components=2, noise="gaussian:1.0").fit(X)
      >>> codes = pca.transform(X)
      >>> codes.shape, pca.inverse_transform(codes).shape
      ((200, 2), (200, 4))
      >>> pca.get_feature_names_out().tolist()
      ['denoisingpca0', 'denoisingpca1']
    """

    def __init__(
        self,
        n_components: int | None = None,
        *,
        noise: str | Noise | None = None,
        target: str | Target = "pixels",
        image_shape: Sequence[int] | None = None,
    ) -> None:
        """Keeps the arguments; they are looked at where samples are."""
        self.n_components = n_components
        self.noise = noise
        self.target = target
        self.image_shape = image_shape

    def fit(self, X: ArrayLike, y: Any = None) -> Self:
        """Fits to samples alone, whatever was seen before.

        Args:
          X: (N, D), N >= 2.
          y: ignored.

        Raises:
          ValueError: NaN or infinity, fewer than 2 samples, samples that do not vary, or a
            parameter that is out of range or does not suit the samples.
        """
        x = validate_data(self, X, dtype=FLOATS, ensure_min_samples=2)
        moments = with_batch(None, x)
        solved = self._optimum(moments, x.dtype)
        self._keep(moments, x.dtype, solved)
        return self

    def partial_fit(self, X: ArrayLike, y: Any = None) -> Self:
        """Adds a batch of any size to the samples seen so far; solves where it is next needed.

        The result is that of `fit` to all batches together, up to rounding.

        Args:
          X: (N, D), N >= 1.
          y: ignored.

        Raises:
          ValueError: as `fit`; where there are too few samples, it comes when the result is used.
        """
        first = not self.__sklearn_is_fitted__()
        x = validate_data(self, X, dtype=FLOATS, reset=first)
        moments = with_batch(None if first else self._moments, x)
        if first:  # what is wrong with the parameters is said before all batches are read
            self._check_n_components(self.n_features_in_)
            with in_float64():
                self._given(moments)
        self._keep(moments, x.dtype if first else np.promote_types(self._dtype, x.dtype), None)
        return self

    def transform(self, X: ArrayLike) -> np.ndarray:
        """The codes (N, K) of samples (N, D), noisy or clean: (X - noisy_mean_) @ components_.T."""
        check_is_fitted(self)
        solved = self._solution()
        x = validate_data(self, X, dtype=FLOATS, reset=False)
        codes = (x - solved.noisy_mean) @ solved.components.T
        return codes.astype(x.dtype, copy=False)

    def inverse_transform(self, X: ArrayLike) -> np.ndarray:
        """The best linear guess (N, D) of clean samples, from codes (N, K) of noisy ones."""
        check_is_fitted(self)
        solved = self._solution()
        codes = check_array(X, dtype=FLOATS, input_name="X")
        needed = len(solved.decoder)
        if codes.shape[1] != needed:
            raise ValueError(f"X: {codes.shape[1]} codes for each sample; {needed} are needed")
        return (codes @ solved.decoder + self.mean_).astype(codes.dtype, copy=False)

    @property
    def components_(self) -> np.ndarray:
        """(K, D) the encoder."""
        return self._solution().components

    @property
    def decoder_(self) -> np.ndarray:
        """(K, D) the decoder."""
        return self._solution().decoder

    @property
    def mean_(self) -> np.ndarray:
        """(D,) the mean of the samples."""
        check_is_fitted(self)
        return np.asarray(self._moments.mean_x, self._dtype)

    @property
    def noisy_mean_(self) -> np.ndarray:
        """(D,) the mean of noisy samples."""
        return self._solution().noisy_mean

    @property
    def explained_variance_ratio_(self) -> np.ndarray:
        """(K,) what each code takes off the loss, as a share of the variance of the samples."""
        return self._solution().ratio

    @property
    def n_components_(self) -> int:
        """K."""
        return len(self._solution().components)

    @property
    def _n_features_out(self) -> int:
        return self.n_components_

    def __sklearn_is_fitted__(self) -> bool:
        """Whether samples have been seen."""
        return hasattr(self, "n_samples_seen_")

    def __sklearn_tags__(self) -> Any:
        """What scikit-learn is to know: float32 stays float32."""
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def _keep(self, moments: Moments, dtype: np.dtype, solved: _Optimum | None) -> None:
        self._moments, self._dtype, self._solved = moments, dtype, solved
        self.n_samples_seen_ = int(moments.samples)

    def _solution(self) -> _Optimum:
        """The optimum of all samples seen, solved for once."""
        check_is_fitted(self)
        if self._solved is None:
            self._solved = self._optimum(self._moments, self._dtype)
        return self._solved

    def _optimum(self, moments: Moments, dtype: np.dtype) -> _Optimum:
        samples, count = int(moments.samples), self.n_components
        if samples < 2:
            raise ValueError(f"X: n_samples = {samples}; at least 2 are needed")
        largest = min(samples, moments.features)
        self._check_n_components(largest)
        count = largest if count is None else count
        variance = np.trace(moments.second_moment)
        # Of a constant, the rounding of its mean is left.
        rounding = 8 * np.finfo(np.float64).eps
        if variance <= rounding**2 * np.sum(moments.mean_x**2):
            raise ValueError("X: constant; samples that vary are needed")
        with in_float64():
            noise, target, noisy_mean = self._given(moments)
            if noise is None and isinstance(target, Pixels):
                # PCA: the directions themselves are orthonormal whatever their variance.
                values, vectors = map(
                    np.asarray, eigh_descending(jnp.asarray(moments.second_moment))
                )
                components = decoder = vectors[:, :count].T
                explained = np.maximum(values[:count], 0.0)
            else:
                components, decoder, explained = _denoised(moments, noise, target, count)
        largest_entry = np.argmax(np.abs(components), axis=1)[:, None]
        sign = np.where(np.take_along_axis(components, largest_entry, axis=1) < 0, -1.0, 1.0)
        parts = sign * components, sign * decoder, noisy_mean, explained / variance
        return _Optimum(*(np.asarray(part, dtype) for part in parts))

    def _given(self, moments: Moments) -> tuple[Noise | None, Target, np.ndarray]:
        """Noise, target and E[x'] for inputs with these moments; within `in_float64`."""
        features, noise, target = moments.features, self.noise, self.target
        shape: tuple[int, ...] = (features,)
        if self.image_shape is not None:
            shape = tuple(np.atleast_1d(self.image_shape).tolist())
            whole = all(isinstance(size, int) and size > 0 for size in shape)
            if not whole or len(shape) not in (2, 3) or math.prod(shape) != features:
                raise ValueError(
                    f"image_shape: {self.image_shape!r}; (H, W, C) with H W C = {features}, the"
                    " number of features of X, is needed"
                )
        if isinstance(noise, str):
            noise = parse_noise(noise, shape, moments)
        elif noise is not None and not hasattr(noise, "second_moment"):
            raise ValueError(f"noise: {noise!r}; None, a text or a noise of `reconjax.noise`")
        if noise is not None:
            check_noise_size(noise, features)
        if isinstance(target, str):
            target = parse_target(target, shape)
        check_target(target, features)
        offset = None if noise is None else noise.offset()
        mean = np.asarray(moments.mean_x)
        return noise, target, mean if offset is None else mean + np.asarray(offset)

    def _check_n_components(self, largest: int) -> None:
        count = self.n_components
        whole = isinstance(count, numbers.Integral) and not isinstance(count, bool)
        if count is not None and not (whole and 1 <= count <= largest):
            raise ValueError(
                f"n_components: {count!r}; None or a whole number from 1 to {largest} ="
                " min(n_samples, n_features) is allowed"
            )


def _denoised(
    moments: Moments, noise: Noise | None, target: Target, count: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Encoder (K, D), decoder (K, D) with rows of length 1, and the variance (K,) of codes.

    The solver's codes have variance 1, and take off the loss the squares of their decoder's rows.
    """
    unlabeled = problem(moments, noise, target)
    # The labels are 0: without a variance of theirs, r2 would be 0 / 0.
    unlabeled = unlabeled._replace(label_moment=jnp.ones((1, 1)))
    solution = solve(unlabeled, readout="noisy")
    decoder = np.asarray(solution.decoder)
    every = np.sum(decoder**2, axis=1)
    explained = np.where(every > float(significant(jnp.asarray(every))), every, 0.0)[:count]
    length = np.sqrt(explained)[:, None]
    components = np.asarray(solution.encoder)[:, :count].T * length
    decoder = np.where(length > 0, decoder[:count] / np.where(length > 0, length, 1.0), 0.0)
    return components, decoder, explained
