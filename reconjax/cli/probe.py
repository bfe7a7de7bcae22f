"""`reconjax probe`."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from cyclopts import Parameter
from flax import nnx

from reconjax.cli.options import STATISTICS, Output, ReadOptions, Whole, Wholes
from reconjax.cli.options import command as new_command
from reconjax.cli.tables import print_table, say_files
from reconjax.data import Dataset, load
from reconjax.data.layout import shape_text
from reconjax.nets import make
from reconjax.storage.files import output_folder, write_json
from reconjax.studies.progress import progress_bar
from reconjax.studies.source import CHANGES, FILES
from reconjax.training import load as load_run
from reconjax.training.probes import (
    feature_set,
    knn_probe,
    load_features,
    logistic_probe,
    majority,
    mlp_probe,
    pca_features,
    ridge_probe,
)
from reconjax.training.runs import RunFolder

SPLITS = ("train", "validation", "test")
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


@dataclasses.dataclass(frozen=True)
class _Asked:
    """What is to be probed."""

    path: Path
    data: str | None
    run: int | None
    untrained: bool
    reading: ReadOptions


@command.default
def probe(
    features: Annotated[str, Parameter(name="RUN_OR_NPZ")],
    data: Annotated[str | None, Parameter(name="DATA")] = None,
    /,
    *,
    knn: Annotated[Wholes, Parameter(group=STATISTICS)] = None,
    nonlinear: Annotated[bool, Parameter(group=STATISTICS)] = False,
    untrained: Annotated[bool, Parameter(group=STATISTICS)] = False,
    run: Annotated[Whole | None, Parameter(group=STATISTICS)] = None,
    reading: ReadOptions = ReadOptions(),  # noqa: B008 - frozen
    output: Output = Output(),  # noqa: B008
) -> None:
    """Print what probes read off frozen features, beside raw pixels and chance.

    Parameters
    ----------
    features
        The folder of `reconjax train --out`, or an .npz of features_train, labels_train, ...
    data
        Of which the features are (those of the run); for an .npz it adds the raw pixels.
    knn
        Nearest neighbors (those of 1, 5 and 20 that are fewer than the samples).
    nonlinear
        Also train a probe of three layers.
    untrained
        Also probe the network before training.
    run
        Which of several runs in the folder.
    """
    if output.out is not None:
        output_folder(output.out)
    asked = _Asked(Path(features).expanduser(), data, run, untrained, reading)
    pixels, kinds = _pixels_and_features(asked)
    main = next(iter(kinds.values()))
    probes = _probes(knn, nonlinear, reading.seed)
    samples = len(main.train)
    if wrong := [k for k in knn or () if not 1 <= k < samples]:
        raise ValueError(f"--knn: {wrong[0]}; 1 .. {samples - 1} with {samples} training samples")
    rows, paths = [], {}
    with progress_bar("probes", len(kinds) * len(probes)) as count:
        for kind, feature_data in kinds.items():
            arrays = _arrays(feature_data)
            for name, fitted in probes.items():
                result = fitted(*arrays, num_classes=feature_data.num_classes)
                rows.append(_row(name, kind, result))
                if name == "linear, ridge":
                    paths[kind] = _path(result)
                count()
    rows.sort(key=lambda row: list(probes).index(row["probe"]))
    test = None if main.test is None else main.test.labels
    chance = majority(main.train.labels, test, num_classes=main.num_classes)
    rows.append(_row("largest class", "", chance))
    about = main if pixels is None else pixels
    record = {
        "features": features,
        "data": main.name,
        "samples": samples,
        "test_samples": None if main.test is None else len(main.test),
        "size": main.features,
        "classes": main.num_classes,
        "targets": about.targets_text,
        "example_shape": list(about.example_shape),
        "probes": rows,
        "ridge_paths": paths,
    }
    if output.out is not None:
        _draw(output.out, record)
    if output.json:
        print(json.dumps(record))
        return
    _print(record)
    say_files(output.out, "probe.json", "probe.png")


def _pixels_and_features(asked: _Asked) -> tuple[Dataset | None, dict[str, Dataset]]:
    """The images, where they are known, and kinds of features; the first are those asked for."""
    path = asked.path
    kinds: dict[str, Dataset] = {}
    pixels = None
    if path.suffix == ".npz" or path.is_file():
        for name, given in (("untrained", asked.untrained), ("run", asked.run is not None)):
            if given:
                raise ValueError(f"--{name}: does not apply to features in a file")
        main = kinds[path.stem] = _part(asked, load_features(path))
        if asked.data is not None:
            pixels = _part(asked, _opened(asked, asked.data))
            _check_same(asked, main, pixels)
    else:
        settings = _settings(path)
        trained = load_run(path, run=asked.run)
        name = asked.data or settings.get("source") or settings["data"]["name"]
        same = name == settings.get("source")
        kept = {key: settings[key] for key in (*FILES, *CHANGES) if same and key in settings}
        if "test_share" in kept:  # the same test split
            kept["seed"] = settings["seed"]
        pixels = _part(asked, _opened(asked, name, **kept))
        if not pixels.num_classes:
            raise ValueError(f"{name}: has {pixels.targets_text}; a probe needs classes")
        if trained.inputs.mean.shape != pixels.example_shape:
            raise ValueError(
                f"{name}: examples of shape {pixels.example_shape}; the network of {path} takes"
                f" {trained.inputs.mean.shape}"
            )
        main = feature_set(trained.model, pixels, trained.inputs)
        kinds[settings.get("net", {}).get("name", "network")] = main
        if asked.untrained:
            before = _untrained(asked, settings)
            kinds["untrained"] = feature_set(before, pixels, trained.inputs)
    if pixels is not None:
        size = min(main.features, len(pixels.train), pixels.features)
        kinds[f"PCA, {size} directions"] = pca_features(pixels, size)
    return pixels, kinds


def _opened(asked: _Asked, name: str, **kept: Any) -> Dataset:
    """A data set, read as the options say, else as the run did."""
    given = {key: getattr(asked.reading, key) for key in (*FILES, *CHANGES)}
    given = {key: value for key, value in given.items() if value is not None}
    options = {"seed": asked.reading.seed, **kept, **given}
    return load(name, data_dir=asked.reading.data_dir, **options)


def _part(asked: _Asked, data: Dataset) -> Dataset:
    """The data set, with the part of its training split that --max-samples leaves."""
    size = asked.reading.max_samples
    if size is None:
        return data
    return dataclasses.replace(data, train=data.train.sample(size, asked.reading.seed))


def _probes(knn: list[int] | None, nonlinear: bool, seed: int) -> dict[str, Callable[..., Any]]:
    """Name -> the probe as a function of the arrays."""

    def nearest(metric: str) -> Callable[..., Any]:
        return lambda *arrays, **how: knn_probe(
            *arrays, **how, neighbors=knn, metric=metric, seed=seed
        )

    probes: dict[str, Callable[..., Any]] = {
        "linear, ridge": ridge_probe,
        "linear, softmax": lambda *arrays, **how: logistic_probe(*arrays, **how, seed=seed),
        "nearest, cosine": nearest("cosine"),
        "nearest, Euclidean": nearest("euclidean"),
    }
    if nonlinear:
        probes["three layers"] = lambda *arrays, **how: mlp_probe(*arrays, **how, seed=seed)
    return probes


def _settings(path: Path) -> dict[str, Any]:
    if not path.is_dir():
        raise FileNotFoundError(f"{path}: neither a run's folder nor an .npz of features")
    return RunFolder(path).settings()


def _untrained(asked: _Asked, settings: dict[str, Any]) -> Any:
    """The network of a run as it was before its first step."""
    if "net" not in settings:
        raise ValueError(f"--untrained: {asked.path} does not say how its network is made")
    seed = settings["runs"][asked.run or 0]["seed"]
    data = settings["data"]
    return make(
        **settings["net"],
        example_shape=data["shape"],
        num_classes=data["classes"],
        rngs=nnx.Rngs(seed),
    )


def _check_same(asked: _Asked, features: Dataset, pixels: Dataset) -> None:
    """The features must be of these images, in this order."""
    for name in ("train", "test"):
        split, other = getattr(features, name), getattr(pixels, name)
        if None not in (split, other) and not np.array_equal(split.labels, other.labels):
            raise ValueError(
                f"{asked.data}: its {name} labels are not those of {asked.path}, in order;"
                " the features must be of these images"
            )


def _arrays(data: Dataset) -> list[Any]:
    arrays = list(data.train.examples(np.arange(len(data.train))))
    if data.test is not None:
        arrays += data.test.examples(np.arange(len(data.test)))
    return arrays


def _row(probe: str, features: str, result: Any) -> dict[str, Any]:
    """The probe at the setting that it chose."""
    row = {
        "probe": probe,
        "features": features,
        "setting": result.setting,
        "value": result.values[result.chosen].item(),
    }
    for name in SPLITS:
        scores = getattr(result, name)
        row[name] = scores and {
            "accuracy": float(scores.accuracy[result.chosen]),
            "standard_error": float(scores.standard_error[result.chosen]),
            "r2": float(scores.r2[result.chosen]),
            "samples": scores.samples,
        }
    return row


def _path(result: Any) -> dict[str, Any]:
    each = {name: getattr(result, name) for name in SPLITS}
    accuracies = {name: scores and scores.accuracy.tolist() for name, scores in each.items()}
    return {"ridge_weight": result.values.tolist(), "chosen": result.chosen, **accuracies}


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
