"""What noises can change for any task, from the inputs alone (Corollary 3.1)."""

import os
from collections.abc import Sequence
from typing import Unpack

import jax.numpy as jnp
import numpy as np
import xarray
from jax import Array

from reconjax.data import Dataset
from reconjax.grid.columns import NO_FORM, check_form
from reconjax.grid.sample_certificate import certificates_by_samples
from reconjax.linalg.precision import in_float64
from reconjax.noise import Noise, noise_text, parse_noise
from reconjax.noise.groups import cut_at_edges, usual_patches
from reconjax.storage.files import output_folder
from reconjax.studies.labeled import labeled, save
from reconjax.studies.reading import Reading
from reconjax.studies.sample_side import Side, inputs_side, solved_by_samples
from reconjax.studies.source import Source
from reconjax.summary import hosts
from reconjax.summary.moments import Moments
from reconjax.theory.certificate import Certificate, certificate
from reconjax.theory.checks import check_latent_dim, check_latent_dims
from reconjax.theory.spectrum import Spectrum, spectrum

# (D, D) float64 matrices that a certificate holds at its peak.
DENSE_MATRICES = 16
# The fields of `Certificate` by their dimensions beside the noise.
CURVES = ("largest_change", "mean_squared_cosine", "gap", "ambiguous")
SCALARS = ("verdict", "reason", "commutator", "mixing", "order_margin")
PLACES = ("ties", "order_broken")


@in_float64
def detect(
    data: str | Dataset | Moments = "digits",
    *,
    noises: Sequence[str | Noise] | None = None,
    latent_dims: Sequence[int] | None = None,
    side: Side = "auto",
    out: str | os.PathLike[str] | None = None,
    **reading: Unpack[Reading],
) -> xarray.Dataset:
    """Which noises can never help, and how much the others can change; no label is looked at.

    It is about linear encoders, decoders and heads, the head fitted on clean inputs.

    Args:
      data: a name, as for `reconjax.data.load`; a data set, with labels or without; or moments.
      noises: texts like "mask:0.75:4x4", or noises; by default Gaussian noise, and masks of small
        patches that divide the images (moments know no images: they are vectors).
      latent_dims: K in 1 .. the rank; by default 1, 2, 4, ... and the rank.
      side: "features": by (D, D) moments; "samples": by (N, N) matrices, with nothing of size
        D x D; "auto": by samples where they are fewer and all noises have such a form.
      out: a folder, in which `detect.nc` is written.
      **reading: see `reconjax.studies.Reading`; `class_weight` does not apply.

    Returns:
      A dataset over `noise` and `latent_dim`: the fields of `reconjax.Certificate` with their
      meanings there, `verdict`, `reason`, `largest_change`, `mean_squared_cosine`, `gap`,
      `ambiguous`, `worst_label` (over `feature` too), `commutator`, `mixing` and `order_margin`;
      and over `direction` (1 .. the rank, as K) `overlap`, `ties` and `order_broken`. Its
      attributes have `tolerance`, `sampling`, the rank and the side.

    Raises:
      ValueError: an option out of range, a text that names no noise, class weights, noises that
        have no form on the side that is asked for.
      FileNotFoundError: no data has that name.

    Example:
      >>> result = reconjax.studies.detect("digits", noises=["gaussian:0.5", "mask:0.75:2x2"])
      >>> result.verdict.values.tolist()
      ['never', 'may']
    """
    if reading.get("class_weight"):
        weight = reading["class_weight"]
        raise ValueError(f"class_weight: {weight!r}; it does not apply, detect uses no labels")
    source = Source(data, labels=False, **reading)
    shape = (source.features,) if source.dataset is None else source.dataset.example_shape
    given = _usual(shape) if noises is None else list(noises)
    if not given:
        raise ValueError("noises: none; at least one is needed")
    wanted = None if latent_dims is None else np.asarray(latent_dims)
    for latent_dim in () if wanted is None else wanted.reshape(-1).tolist():
        check_latent_dim(latent_dim, source.features)  # the rank is known later
    needed = DENSE_MATRICES * 8 * source.features**2
    by_samples = _by_samples(source, side, given, shape, needed)
    if not by_samples:
        source.check_memory(needed, "certificates")
        _check(given, _StandIn(shape))
    folder = output_folder(out) if out is not None and hosts.first() else None
    known = inputs_side(source) if by_samples else source.moments()
    facts = known if isinstance(known, Moments) else known.spectrum
    principal = spectrum(facts) if isinstance(facts, Moments) else facts
    dims = check_latent_dims(wanted, int(principal.rank), source.features)
    every = [
        parse_noise(noise, shape, principal) if isinstance(noise, str) else noise for noise in given
    ]
    if isinstance(known, Moments):
        certificates = []
        with source.progress("noises", len(every)) as advance:
            for noise in every:
                certificates.append(certificate(known, noise, dims, principal=principal))
                advance()
    else:
        with source.progress("features", 2 * source.features * len(every)) as count:
            certificates = certificates_by_samples(known, every, dims, columns=count)
    rank = int(principal.rank)
    texts = [_text(noise, shape, facts) for noise in given]
    result = labeled(
        "detect",
        source,
        _variables(certificates, rank),
        {
            "noise": texts,
            "latent_dim": dims,
            "direction": np.arange(1, rank + 1),
        },
        {
            "samples": int(facts.samples),
            "features": source.features,
            "side": "samples" if by_samples else "features",
            "rank": rank,
            "tolerance": certificates[0].tolerance,
            "sampling": certificates[0].sampling,
        },
        {"noises": texts, "latent_dims": dims.tolist()},
    )
    if folder is not None:
        save(result, folder / "detect.nc")
    return result


def _usual(example_shape: tuple[int, ...]) -> list[str | Noise]:
    """The noises when none is given: masks of small patches."""
    if len(example_shape) < 3:
        return ["gaussian:0.5", "pixel:0.75"]
    masks = []
    for size in usual_patches(example_shape)[0]:
        partial = ":partial" if cut_at_edges(size, example_shape) else ""
        masks.append(f"mask:0.75:{'x'.join(map(str, size))}{partial}")
    return ["gaussian:0.5", *masks]


class _StandIn:
    """Data of which nothing is known yet but their shape, for noises that ask for some."""

    def __init__(self, shape: tuple[int, ...], directions: bool = True) -> None:
        """With principal directions (D, D), or without."""
        self.shape, self.directions = shape, directions
        self.mean = self.eigenvalues = jnp.zeros(int(np.prod(shape)))
        self.scale = jnp.ones_like(self.mean)

    @property
    def eigenvectors(self) -> Array:
        """Made up when they are asked for."""
        if not self.directions:
            raise ValueError(f"it needs principal directions, and {NO_FORM}")
        return jnp.eye(self.mean.size)


def _check(noises: Sequence[str | Noise], data: _StandIn) -> list[Noise]:
    """The noises; raises ValueError for a text that names none, before the data are read."""
    return [parse_noise(n, data.shape, data) if isinstance(n, str) else n for n in noises]


def _by_samples(
    source: Source, side: Side, noises: Sequence[str | Noise], shape: tuple[int, ...], needed: int
) -> bool:
    """Whether certificates are found on the sample side; on the other one they need so many bytes.

    Raises:
      ValueError: as `solved_by_samples`; a noise without a form by samples, where moments are not
        asked for or do not fit.
    """
    if not solved_by_samples(source, side, "clean", None):
        return False
    try:
        for noise in _check(noises, _StandIn(shape, directions=False)):
            check_form(noise, source.features)
    except ValueError as error:
        if NO_FORM in str(error) and side == "auto" and needed <= source.memory():
            return False
        raise
    return True


def _text(noise: str | Noise, shape: tuple[int, ...], data: Moments | Spectrum) -> str:
    """What a noise is called; its kind, where no text names it."""
    if isinstance(noise, str):
        return noise
    try:
        return noise_text(noise, shape, data)
    except ValueError:
        return type(noise).__name__


def _variables(
    certificates: list[Certificate], rank: int
) -> dict[str, tuple[list[str], np.ndarray]]:
    def stacked(name: str) -> np.ndarray:
        return np.stack([np.asarray(getattr(noise, name)) for noise in certificates])

    every = np.arange(1, rank + 1)
    places = {
        name: np.stack([np.isin(every, getattr(noise, name)) for noise in certificates])
        for name in PLACES
    }
    return {
        **{name: (["noise", "latent_dim"], stacked(name)) for name in CURVES},
        **{name: (["noise"], stacked(name)) for name in SCALARS},
        "worst_label": (["noise", "latent_dim", "feature"], stacked("worst_label")),
        "overlap": (["noise", "direction"], stacked("overlap")),
        **{name: (["noise", "direction"], array) for name, array in places.items()},
    }
