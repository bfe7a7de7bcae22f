"""`reconjax align`."""

import argparse
import json

import numpy as np

import reconjax
from reconjax import hosts
from reconjax.commands.inputs import dataset, spectrum
from reconjax.commands.printing import facts, folder, headline, say_files, some_dims, write_json


def run(options: argparse.Namespace) -> None:
    """Prints K against alignment, explained share and chance."""
    out = folder(options.out)
    data, principal = dataset(options), spectrum(options)
    if not hosts.first():
        return
    curve = reconjax.alignment(principal, convention=options.convention)
    found = {name: np.asarray(values) for name, values in curve._asdict().items()}
    result = {
        **facts(data, principal),
        "convention": options.convention,
        "precision": "float64",
        **{
            name: found[name].tolist()
            for name in (
                "latent_dim",
                "alignment",
                "explained",
                "chance",
                "explained_chance",
                "supervised_loss",
                "reconstruction_loss",
                "eigenvalues",
            )
        },
    }
    if out is not None:
        from reconjax.plots import alignment_figure, save

        save(alignment_figure({data.name: curve}), out / "align.png")
        write_json(result, out / "align.json")
    if options.json:
        print(json.dumps(result))
        return
    rank, features = result["rank"], result["features"]
    print(headline(result))
    print(f"{'K':>7} {'alignment':>10} {'chance':>8} {'explained':>10} {'chance':>8}")
    for k in some_dims(features, rank):
        row = [
            found[name][k - 1] for name in ("alignment", "chance", "explained", "explained_chance")
        ]
        print("{:>7} {:>10.4f} {:>8.4f} {:>10.4f} {:>8.4f}".format(k, *row))
    print(
        f"explained: share of the label variance that a linear head explains on the {rank}"
        " principal directions\nchance: the same for permuted labels"
    )
    say_files(out, "align.png", "align.json")
