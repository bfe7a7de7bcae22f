"""`reconjax compare`."""

import argparse
import dataclasses
import json
from typing import Any

import jax
import numpy as np

import reconjax
from reconjax.cli.inputs import check_memory, dataset, moments
from reconjax.cli.printing import facts, folder, headline, progress, say_files, write_json
from reconjax.cli.resampling import judge
from reconjax.data.targets import strata
from reconjax.evidence.comparison import Comparison, Place, compare, ranking
from reconjax.noise.families import check_names, families
from reconjax.summary.folds import most_folds, stratified
from reconjax.theory.solver import check_latent_dim

# (D, D) float64 matrices that a comparison holds at its peak.
DENSE_MATRICES = 24
# Powers of it are the K by default.
STEP = 4
LARGEST = 64
PARTS = {5: "a fifth", 4: "a quarter", 3: "a third", 2: "a half"}


def run(options: argparse.Namespace) -> None:
    """Ranks families of noises, each at its best strength, on samples that chose nothing."""
    data = _with_test_split(options)
    check_names(options.families or (), data.example_shape)
    if options.latent_dim and options.max_latent_dim is not None:
        raise ValueError("--max-latent-dim: given with --latent-dim; choose one")
    for latent_dim in (*(options.latent_dim or ()), options.max_latent_dim or 1):
        check_latent_dim(latent_dim, data.features)  # the rank is known later
    check_memory(options, DENSE_MATRICES * 8 * data.features**2, "a comparison")
    out = folder(options.out)
    training = moments(options)
    held_out = judge(options, training)
    if held_out is None:
        raise ValueError(f"{data.name}: the test split needs two samples of two classes at least")
    chosen = families(data.example_shape, training, options.families)
    points = sum(len(family.noises) for family in chosen)
    with progress("noises", points) as bar:
        principal = reconjax.spectrum(training)
        found = compare(
            training,
            held_out,
            chosen,
            np.asarray(_latent_dims(options, int(principal.rank))),
            tolerance=options.tolerance,
            principal=principal,
            progress=bar,
        )
    places = ranking(found)
    result = {
        **facts(data, training, found.rank),
        "held_out_samples": len(data.test),
        "held_out_split": options.held_out_split,
        "folds": held_out.folds.shape[0],
        "noises": points,
        "error": float(np.max(found.error)),
        "without": [
            {"latent_dim": k, "explained": explained, "held_out": held, "chance": chance}
            for k, explained, held, chance in zip(*_without(found), strict=True)
        ],
        "ranking": [place._asdict() for place in places],
    }
    if out is not None:
        from reconjax.plots import comparison_figure, save

        title = f"{data.name}: families of noise against none, on {len(data.test)} held-out samples"
        figure = comparison_figure(places, held_out.folds.shape[0], title=title)
        save(figure, out / "compare.png")
        write_json(result, out / "compare.json")
    if options.json:
        print(json.dumps(result))
        return
    print(headline(result))
    _print(found, places)
    source = "the test split"
    if options.held_out_split != "test":
        source = f"{options.held_out_share}, held out"
    print(
        f"explained: share of the label variance on the training split; held-out: on {source}"
        f" ({len(data.test)} samples)\n"
        "gain: of the held-out share over that without noise; ±: its standard error over"
        f" {result['folds']} folds;\np: of a gain, given that all {points} noises were tried"
    )
    say_files(out, "compare.png", "compare.json")


def _with_test_split(options: argparse.Namespace) -> Any:
    """The data set; where it has no test split, a fifth of the samples is kept apart for one.

    Of few samples it is a larger part, a half at most.
    """
    if jax.process_count() > 1:
        raise ValueError("--distributed: compare runs in one process")
    data = dataset(options)
    options.held_out_split = "test" if data.test is not None else "training"
    if data.test is None:
        groups = strata(data.train.labels)
        # The part that is held out needs two folds, each with two classes.
        parts = next((count for count in PARTS if most_folds(groups) >= 2 * count), None)
        if parts is None:
            raise ValueError(
                f"{data.name}: no test split, and too few samples to hold some out: two classes of"
                f" at least {2 * min(PARTS)} are needed"
            )
        options.held_out_share = PARTS[parts]
        part = stratified(groups, parts, seed=options.seed)
        options.dataset = data = dataclasses.replace(
            data,
            train=data.train.subset(np.flatnonzero(part != 0)),
            test=data.train.subset(np.flatnonzero(part == 0)),
        )
    return data


def _latent_dims(options: argparse.Namespace, rank: int) -> list[int]:
    """--latent-dim, or powers of 4 up to --max-latent-dim and below the rank."""
    if options.latent_dim:
        return sorted(set(options.latent_dim))
    largest = options.max_latent_dim or LARGEST
    powers = [STEP**i for i in range(1, 12) if STEP**i <= min(largest, rank - 1)]
    return powers or [min(largest, rank)]


def _without(found: Comparison) -> list[list[float]]:
    """K, explained, held out and chance without noise, by K."""
    columns = found.latent_dim, found.explained_without, found.held_out_without, found.chance
    return [np.asarray(column).tolist() for column in columns]


def _print(found: Comparison, places: list[Place]) -> None:
    width = max(len("family"), *(len(place.family) for place in places))
    head = f"{'explained':>9} {'held-out':>8} {'gain':>8} {'±':>7} {'p':>7}  at"
    for latent_dim, explained, held, chance in zip(*_without(found), strict=True):
        print(f"\n{f'K = {latent_dim}':<{width}} {head}")
        rest = f"{'':>8} {'':>7} {'':>7}  "
        rows = [(-place.gain, _line(place, width)) for place in places]
        rows = [
            row for row, place in zip(rows, places, strict=True) if place.latent_dim == latent_dim
        ]
        rows.append((0.0, f"{'no noise':<{width}} {explained:>9.4f} {held:>8.4f} {rest}"))
        for _, row in sorted(rows, key=lambda row: row[0]):
            print(row.rstrip())
        print(f"{'chance':<{width}} {chance:>9.4f}")
    print()


def _line(place: Place, width: int) -> str:
    gain = round(place.gain, 4) + 0.0  # without the sign of a zero
    return (
        f"{place.family:<{width}} {place.explained:>9.4f} {place.held_out:>8.4f}"
        f" {gain:>+8.4f} {place.standard_error:>7.4f} {place.p_value:>7.4f}  {place.noise}"
    )
