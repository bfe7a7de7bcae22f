"""Which latent sizes K a page offers, and where it opens."""

import numpy as np

from reconjax.report.gathering import Results
from reconjax.studies.advice import LATENT_DIMS

# Places of the slider at most.
MOST = 48


def shown_dims(results: Results) -> list[int]:
    """K of the sweep up to the rank; of many, some at even distances on a logarithmic scale.

    Powers of two, the K of the objectives and the largest are among them.
    """
    rank = int(results.studies["align"].attrs["rank"])
    there = [k for k in results.studies["sweep"].latent_dim.values.tolist() if k <= rank]
    if len(there) <= MOST:
        return there
    kept = {k for k in there if k & (k - 1) == 0} | {there[-1]}
    if "objectives" in results.studies:
        kept |= set(results.studies["objectives"].latent_dim.values.tolist()) & set(there)
    wanted = np.geomspace(there[0], there[-1], MOST - len(kept))
    places = np.searchsorted(there, np.round(wanted)).clip(0, len(there) - 1)
    return sorted(kept | {there[place] for place in places})


def opening_dim(results: Results, shown: list[int], asked: int | None) -> int:
    """The K at which the page opens: what was asked for, else that of `reconjax advise`."""
    if asked is not None:
        return nearest(shown, asked)
    features = results.source.features
    usual = [k for k in LATENT_DIMS if 2 * k <= features]
    return nearest(shown, usual[-1] if usual else 1)


def nearest(dims: list[int], latent_dim: int) -> int:
    """The largest of some K that is not above another, or the smallest."""
    return max((k for k in dims if k <= latent_dim), default=dims[0])
