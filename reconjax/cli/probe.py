"""`reconjax probe`."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

import reconjax
from reconjax.cli.options import STATISTICS, Output, ReadOptions, Whole, Wholes
from reconjax.cli.options import command as new_command
from reconjax.cli.tables import print_table, say_files
from reconjax.storage.files import write_json

HEADS = ("probe", "features", "chosen", "train", "validation", "test")

command = new_command(
    "probe",
    """
reconjax train digits --out run && reconjax probe run --out run/probe
reconjax probe run --knn 1 10 --nonlinear --untrained
reconjax probe run mnist --json
reconjax probe features.npz cifar10 --data-dir ~/tfds
""",
)


@command.default
def probe(
    features: Annotated[str, Parameter(name="RUN_OR_NPZ")],
    data: Annotated[str | None, Parameter(name="DATA")] = None,
    /,
    *,
    knn: Annotated[Wholes, Parameter(group=STATISTICS)] = None,
    nonlinear: Annotated[bool, Parameter(group=STATISTICS)] = False,
    untrained: Annotated[bool, Parameter(group=STATISTICS)] = False,
    readout: Annotated[Literal["mean", "class"] | None, Parameter(group=STATISTICS)] = None,
    run: Annotated[Whole | None, Parameter(group=STATISTICS)] = None,
    reading: ReadOptions = ReadOptions(),  # noqa: B008 - frozen
    output: Output = Output(),  # noqa: B008
) -> None:
    """Print what probes read off frozen features, beside closed forms and chance.

    Parameters
    ----------
    features
        A folder of `reconjax train --out`, or an .npz of features_train, labels_train, ...
    data
        The images (those of the run); for an .npz it adds the raw pixels.
    knn
        Numbers of nearest neighbors (1 5 20).
    nonlinear
        Also train a probe of three layers.
    untrained
        Also probe the network before training.
    readout
        Of a ViT: the mean of its tokens, or the class token (mean).
    run
        Which of several runs in the folder.
    """
    output.prepare()
    record = reconjax.training.probe(
        features,
        data,
        knn=knn,
        nonlinear=nonlinear,
        untrained=untrained,
        readout=readout,
        run=run,
        **reading.keywords(),
    )
    if output.out is not None:
        _draw(output.out, record)
    if output.json:
        print(json.dumps(record))
        return
    _print(record)
    say_files(output.out, "probe.json", "probe.png")


def _draw(folder: Path, record: dict[str, Any]) -> None:
    from reconjax.plots import probe_figure, save

    *rows, chance = record["probes"]
    split = "validation" if rows[0]["test"] is None else "test"
    figure = probe_figure(
        rows,
        record["ridge_paths"],
        chance=(chance["test"] or chance["train"])["accuracy"],
        split=split,
        title=f"{record['data']}: {record['size']} features",
    )
    save(figure, folder / "probe.png")
    write_json(record, folder / "probe.json")


def _print(record: dict[str, Any]) -> None:
    from reconjax.data.layout import shape_text

    test = record["test_samples"]
    print(
        f"{record['data']}: {record['size']} features, {record['samples']} training and"
        f" {test or 'no'} test samples, {record['targets']}; {shape_text(record['example_shape'])}"
    )
    lines = [
        [
            row["probe"],
            row["features"],
            f"{row['setting']} {row['value']:.3g}",
            f"{row['train']['accuracy']:.1%}" if row["train"] else "-",
            *(_with_error(row[name]) for name in ("validation", "test")),
        ]
        for row in record["probes"]
    ]
    print_table(HEADS, lines, left=HEADS[:3])
    print(
        "accuracy ± standard error. Each probe chose its setting by `validation`, without the test"
        "\nsplit: by leave-one-out (ridge, nearest) or on a part of the training split held out of"
        "\nthe fit (the others)."
    )


def _with_error(scores: dict[str, Any] | None) -> str:
    return f"{scores['accuracy']:.1%} ± {scores['standard_error']:.1%}" if scores else "-"
