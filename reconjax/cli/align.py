"""`reconjax align`."""

import argparse
import json
from typing import Any

import numpy as np

import reconjax
from reconjax.cli.inputs import by_samples, dataset, spectrum
from reconjax.cli.printing import facts, folder, headline, say_files, some_dims, write_json
from reconjax.cli.resampling import judge, nothing_because, resampled, training
from reconjax.summary import hosts
from reconjax.theory.held_out import held_out_explained

# Up to so many features, the spectra of all folds take a few seconds.
CHEAP = 1024
CURVES = (
    "latent_dim",
    "alignment",
    "explained",
    "chance",
    "explained_chance",
    "supervised_loss",
    "reconstruction_loss",
    "eigenvalues",
)
JUDGED = ("alignment", "explained")


def run(options: argparse.Namespace) -> None:
    """Prints K against alignment, explained share and chance."""
    out = folder(options.out)
    data = dataset(options)
    estimates, held_out = {}, None
    if by_samples(options):
        if options.bootstrap:
            raise ValueError(
                f"--bootstrap: {options.bootstrap}; with fewer samples than features 0 alone is"
                " allowed"
            )
        principal = spectrum(options)
    else:
        moments, folds = training(options, CHEAP)
        principal = reconjax.spectrum(moments)
        if folds is not None:
            estimates = resampled(options, folds, lambda found: _curves(options, found))
        judging = judge(options, moments)
        if judging is not None:
            held_out = np.asarray(held_out_explained(principal, judging))
    if not hosts.first():
        return
    curve = reconjax.alignment(principal, convention=options.convention)
    found = {name: np.asarray(values) for name, values in curve._asdict().items()}
    errors = {}
    for name, estimate in estimates.items():
        errors[f"{name}_standard_error"] = np.asarray(estimate.standard_error)
        errors[f"{name}_corrected"] = np.asarray(estimate.corrected)
    if held_out is not None:
        errors["held_out"] = held_out
    result = {
        **facts(data, principal),
        "convention": options.convention,
        "precision": "float64",
        "error": float(curve.error),
        "folds": estimates["explained"].folds if estimates else 0,
        **{name: found[name].tolist() for name in CURVES},
        **{name: values.tolist() for name, values in errors.items()},
    }
    if out is not None:
        from reconjax.plots import alignment_figure, save

        figure = alignment_figure(
            {data.name: curve},
            bands={data.name: {name: one.interval() for name, one in estimates.items()}},
            held_out={} if held_out is None else {data.name: held_out},
        )
        save(figure, out / "align.png")
        write_json(result, out / "align.json")
    if options.json:
        print(json.dumps(result))
        return
    print(headline(result))
    print(f"float64: errors of the explained share about {result['error']:.0e}")
    columns = (
        ("alignment", found["alignment"]),
        ("±", errors.get("alignment_standard_error")),
        ("chance", found["chance"]),
        ("explained", found["explained"]),
        ("±", errors.get("explained_standard_error")),
        ("chance", found["explained_chance"]),
        ("held-out", held_out),
    )
    titles = [f"{name:>{max(8, len(name) + 1)}}" for name, _ in columns]
    shown = [(title, c[1]) for title, c in zip(titles, columns, strict=True) if c[1] is not None]
    print(f"{'K':>7} " + "".join(name for name, _ in shown))
    for k in some_dims(result["features"], result["rank"]):
        print(f"{k:>7} " + "".join(f"{curve[k - 1]:>{len(name)}.4f}" for name, curve in shown))
    print(
        f"explained: share of the label variance that a linear head explains on the"
        f" {result['rank']} principal directions\nchance: the same for permuted labels"
    )
    if estimates:
        print(f"±: standard error, by halves of {result['folds']} folds of the samples")
    if held_out is not None:
        print(f"held-out: explained on the {len(data.test)} samples of the test split")
    if (why := nothing_because()) is not None:
        print(why)
    say_files(out, "align.png", "align.json")


def _curves(options: argparse.Namespace, moments: Any) -> dict[str, Any]:
    curve = reconjax.alignment(reconjax.spectrum(moments), convention=options.convention)
    return {name: getattr(curve, name) for name in JUDGED}
