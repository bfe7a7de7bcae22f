"""Fig. 2: alignment of reconstruction with the labels, by K and by K / D, for several data sets.

    python -m experiments.alignment --data digits cifar10 --data-dir DIR --out out

Every curve has its chance line: the paper's "linear" growth is what permuted labels give.
"""

from typing import Any

import numpy as np

import reconjax
from experiments import report, sets
from reconjax.plots import alignment_figure

SHARES = (0.01, 0.05, 0.1, 0.2, 0.5)


def main(argv: list[str] | None = None) -> None:
    options = report.arguments(__doc__, argv, data=["digits", "scenes", "scenes:background=0"])
    results = sets.measured(options, "alignment", measure)
    curves = {name: as_curves(part) for name, part in results["parts"].items()}
    report.picture(options.out, "alignment", alignment_figure(curves))
    print(f"{'data':<24} {'N':>6} {'D':>5} {'rank':>5}  alignment at K/rank of {SHARES}   r2")
    for name, part in results["parts"].items():
        reached = " ".join(f"{part['alignment_at_share'][str(share)]:.3f}" for share in SHARES)
        print(
            f"{name:<24} {part['samples']:>6} {part['features']:>5} {part['rank']:>5}"
            f"  {reached}   {part['r2_by_all']:.4f}"
        )


def measure(name: str, options: Any) -> dict[str, Any]:
    dataset, moments = sets.training_moments(name, options)
    spectrum = reconjax.spectrum(moments)
    curve = reconjax.alignment(spectrum)
    reference = np.asarray(reconjax.alignment(spectrum, convention="reference").alignment)
    dims = thinned(moments.features)
    alignment, variance = np.asarray(curve.alignment), np.asarray(curve.eigenvalues)
    leading = {share: max(int(share * int(curve.rank)), 1) for share in SHARES}
    return {
        "samples": int(moments.samples),
        "features": moments.features,
        "classes": dataset.num_classes,
        "rank": int(curve.rank),
        "alignment_at_share": {
            str(share): float(alignment[count - 1]) for share, count in leading.items()
        },
        "pixel_variance_at_share": {
            str(share): float(variance[:count].sum() / variance.sum())
            for share, count in leading.items()
        },
        "r2_by_all": float(curve.r2[-1]),
        "normalizer_eq7_over_sec58": float(curve.total),
        "latent_dim": dims.tolist(),
        "reference_convention": report.rounded(reference[dims - 1]),
        **{
            field: report.rounded(np.asarray(getattr(curve, field))[dims - 1])
            for field in ("alignment", "chance", "r2", "r2_chance")
        },
    }


def thinned(features: int, most: int = 80) -> np.ndarray:
    """About `most` latent dimensions, evenly spread over the logarithm of K and over K."""
    spread = np.concatenate(
        [np.geomspace(1, features, most // 2), np.linspace(1, features, most // 2)]
    )
    return np.unique(np.round(spread)).astype(int)


def as_curves(part: dict[str, Any]) -> reconjax.Alignment:
    """The thinned curves, for the figure."""
    fields = {field: np.asarray(part.get(field, np.nan)) for field in reconjax.Alignment._fields}
    return reconjax.Alignment(**fields)


if __name__ == "__main__":
    main()
