"""`reconjax probe`."""

import argparse
import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from reconjax.cli.inputs import opened, start
from reconjax.cli.printing import folder, progress, say_files, understood, write_json
from reconjax.data.layout import shape_text

SPLITS = ("train", "validation", "test")


def run(options: argparse.Namespace) -> None:
    """Prints what probes read off frozen features, beside raw pixels and chance."""
    start(options)
    out = folder(options.out)
    kinds = dict(_kinds(options))
    main = next(iter(kinds.values()))
    probes = _probes(options)
    _check_neighbors(options, len(main.train))
    rows, paths = [], {}
    with progress("probes", len(kinds) * len(probes)) as bar:
        for kind, data in kinds.items():
            arrays = _arrays(data)
            for name, probe in probes.items():
                found = probe(*arrays, num_classes=data.num_classes)
                rows.append(_row(name, kind, found))
                if name == "linear, ridge":
                    paths[kind] = _path(found)
                bar()
    rows.sort(key=lambda row: list(probes).index(row["probe"]))
    from reconjax.training.probes import majority

    test = None if main.test is None else main.test.labels
    chance = majority(main.train.labels, test, num_classes=main.num_classes)
    rows.append(_row("largest class", "", chance))
    result = {
        "features": str(options.features),
        "data": main.name,
        "samples": len(main.train),
        "test_samples": None if main.test is None else len(main.test),
        "size": main.features,
        "classes": main.num_classes,
        **understood(options.pixels or main),
        "probes": rows,
        "ridge_paths": paths,
    }
    if out is not None:
        _draw(out, result)
    if options.json:
        print(json.dumps(result))
        return
    _print(result)
    say_files(out, "probe.json", "probe.png")


def _kinds(options: argparse.Namespace) -> Iterator[tuple[str, Any]]:
    """What the features are called, and the data set of them; the first are those asked for."""
    from reconjax.training.features import feature_set, load_features
    from reconjax.training.probes import pca_features

    path = Path(options.features).expanduser()
    if path.suffix == ".npz" or path.is_file():
        for name, given in (("untrained", options.untrained), ("run", options.which is not None)):
            if given:
                raise ValueError(f"--{name}: does not apply to features in a file")
        made, pixels = _part(options, load_features(path)), None
        if options.data is not None:
            pixels = _part(options, opened(options, options.data))
            _check_same(options, made, pixels)
        yield path.stem, made
    else:
        from reconjax.training import load as load_run

        settings = _settings(path)
        trained = load_run(path, run=options.which)
        name = options.data or settings.get("source") or settings["data"]["name"]
        same = name == settings.get("source")
        keep = ("channels_first", "targets") if same else ()
        told = {key: settings[key] for key in keep if key in settings}
        pixels = _part(options, opened(options, name, **told))
        if not pixels.num_classes:
            raise ValueError(f"{name}: has {pixels.targets_text}; a probe needs classes")
        if trained.inputs.mean.shape != pixels.example_shape:
            raise ValueError(
                f"{name}: examples of shape {pixels.example_shape}; the network of {path} takes"
                f" {trained.inputs.mean.shape}"
            )
        made = feature_set(trained.model, pixels, trained.inputs)
        yield settings.get("net", {}).get("name", "network"), made
        if options.untrained:
            yield "untrained", feature_set(_untrained(options, settings), pixels, trained.inputs)
    options.pixels = pixels
    if pixels is not None:
        size = min(made.features, len(pixels.train), pixels.features)
        yield f"PCA, {size} directions", pca_features(pixels, size)


def _probes(options: argparse.Namespace) -> dict[str, Callable[..., Any]]:
    """Name -> the probe as a function of the arrays."""
    from reconjax.training.neighbors import knn_probe
    from reconjax.training.probes import ridge_probe
    from reconjax.training.trained_probes import logistic_probe, mlp_probe

    def nearest(metric: str) -> Callable[..., Any]:
        return lambda *arrays, **how: knn_probe(
            *arrays, **how, neighbors=options.knn, metric=metric, seed=options.seed
        )

    found: dict[str, Callable[..., Any]] = {
        "linear, ridge": ridge_probe,
        "linear, softmax": lambda *arrays, **how: logistic_probe(*arrays, **how, seed=options.seed),
        "nearest, cosine": nearest("cosine"),
        "nearest, Euclidean": nearest("euclidean"),
    }
    if options.nonlinear:
        found["three layers"] = lambda *arrays, **how: mlp_probe(*arrays, **how, seed=options.seed)
    return found


def _part(options: argparse.Namespace, data: Any) -> Any:
    """The data set, with the part of its training split that --max-samples leaves."""
    if options.max_samples is None:
        return data
    return dataclasses.replace(data, train=data.train.sample(options.max_samples, options.seed))


def _settings(path: Path) -> dict[str, Any]:
    from reconjax.training.runs import RunFolder

    if not path.is_dir():
        raise FileNotFoundError(f"{path}: neither a run's folder nor an .npz of features")
    return RunFolder(path).settings()


def _untrained(options: argparse.Namespace, settings: dict[str, Any]) -> Any:
    """The network of a run as it was before its first step."""
    from flax import nnx

    from reconjax.nets import make

    if "net" not in settings:
        raise ValueError(f"--untrained: {options.features} does not say how its network is made")
    seed = settings["runs"][options.which or 0]["seed"]
    data = settings["data"]
    return make(
        **settings["net"],
        example_shape=data["shape"],
        num_classes=data["classes"],
        rngs=nnx.Rngs(seed),
    )


def _check_same(options: argparse.Namespace, made: Any, pixels: Any) -> None:
    """The features must be of these images, in this order."""
    for name in ("train", "test"):
        one, other = getattr(made, name), getattr(pixels, name)
        if one is not None and other is not None and not np.array_equal(one.labels, other.labels):
            raise ValueError(
                f"{options.data}: its {name} labels are not those of {options.features}, in order;"
                " the features must be of these images"
            )


def _check_neighbors(options: argparse.Namespace, samples: int) -> None:
    if wrong := [k for k in options.knn or () if not 1 <= k < samples]:
        raise ValueError(f"--knn: {wrong[0]}; 1 .. {samples - 1} with {samples} training samples")


def _arrays(data: Any) -> list[Any]:
    found = list(data.train.examples(np.arange(len(data.train))))
    if data.test is not None:
        found += data.test.examples(np.arange(len(data.test)))
    return found


def _row(probe: str, features: str, found: Any) -> dict[str, Any]:
    """The probe at the setting that it chose."""
    row = {
        "probe": probe,
        "features": features,
        "setting": found.setting,
        "value": found.values[found.chosen].item(),
    }
    for name in SPLITS:
        scores = getattr(found, name)
        row[name] = scores and {
            "accuracy": float(scores.accuracy[found.chosen]),
            "standard_error": float(scores.standard_error[found.chosen]),
            "explained": float(scores.explained[found.chosen]),
            "samples": scores.samples,
        }
    return row


def _path(found: Any) -> dict[str, Any]:
    each = {name: getattr(found, name) for name in SPLITS}
    accuracies = {name: scores and scores.accuracy.tolist() for name, scores in each.items()}
    return {"ridge_weight": found.values.tolist(), "chosen": found.chosen, **accuracies}


def _draw(out: Path, result: dict[str, Any]) -> None:
    from reconjax.plots import probe_figure, save

    *rows, chance = result["probes"]
    split = "validation" if rows[0]["test"] is None else "test"
    figure = probe_figure(
        rows,
        result["ridge_paths"],
        chance=(chance["test"] or chance["train"])["accuracy"],
        split=split,
        title=f"{result['data']}: {result['size']} features",
    )
    save(figure, out / "probe.png")
    write_json(result, out / "probe.json")


def _print(result: dict[str, Any]) -> None:
    test = result["test_samples"]
    print(
        f"{result['data']}: {result['size']} features, {result['samples']} training and"
        f" {test or 'no'} test samples, {result['targets']}; {shape_text(result['example_shape'])}"
    )
    rows = result["probes"]
    settings = [f"{row['setting']} {row['value']:.3g}" for row in rows]
    wide = max(len(row["features"]) for row in rows)
    print(
        f"{'probe':<19} {'features':<{wide}} {'chosen':<20}"
        f" {'train':>7} {'validation':>14} {'test':>14}"
    )
    for row, setting in zip(rows, settings, strict=True):
        train = f"{row['train']['accuracy']:.1%}" if row["train"] else "-"
        others = (_with_error(row[name]) for name in ("validation", "test"))
        print(
            f"{row['probe']:<19} {row['features']:<{wide}} {setting:<20} {train:>7}"
            + "".join(f" {text:>14}" for text in others)
        )
    print(
        "accuracy ± standard error. Each probe chose its setting by `validation`, without the test"
        " split:\nby leave-one-out (ridge, nearest) or on a part of the training split held out of"
        " the fit (the others)."
    )


def _with_error(scores: dict[str, Any] | None) -> str:
    return f"{scores['accuracy']:.1%} ± {scores['standard_error']:.1%}" if scores else "-"
