"""Every probe on the features of a run, beside what raw pixels and closed forms give."""

import dataclasses
from collections.abc import Callable, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from flax import nnx

from reconjax.data import Dataset
from reconjax.nets import MASKED_AUTOENCODERS, READOUTS, make
from reconjax.noise import parse_noise
from reconjax.studies.progress import progress_bar
from reconjax.studies.source import CHANGES, FILES, Source
from reconjax.theory import targets
from reconjax.training.features import feature_set, load_features
from reconjax.training.probes.baselines import closed_form_features, majority, pca_features
from reconjax.training.probes.mlp import mlp_probe
from reconjax.training.probes.neighbors import knn_probe
from reconjax.training.probes.ridge import ridge_probe
from reconjax.training.probes.softmax import logistic_probe
from reconjax.training.probes.task import Probe
from reconjax.training.runs import RunFolder
from reconjax.training.runs import load as load_run

SPLITS = ("train", "validation", "test")
# Of more features than this, a closed form takes longer than all probes.
CLOSED_FORM_FEATURES = 4096


def probe(
    path: str | PathLike[str],
    data: str | None = None,
    *,
    knn: Sequence[int] | None = None,
    nonlinear: bool = False,
    untrained: bool = False,
    readout: str | None = None,
    run: int | None = None,
    data_dir: str | None = None,
    max_samples: int | None = None,
    seed: int = 0,
    progress: bool = True,
    **images: Any,
) -> dict[str, Any]:
    """What probes read off frozen features, beside raw pixels, closed forms and chance.

    Args:
      path: the folder of a training (`fit(..., out=path)`, `reconjax train --out`), or an .npz of
        features, as for `load_features`.
      data: a name, as for `reconjax.data.load`, of the images: by default those of the training;
        with an .npz it adds the raw pixels.
      knn: numbers of nearest neighbors; by default those of 1, 5 and 20 that are fewer than the
        samples.
      nonlinear: also train a probe of three layers.
      untrained: also probe the network before its training.
      readout: of a masked autoencoder, one of `reconjax.nets.READOUTS`; by default the mean over
        the tokens.
      run: which of several runs in the folder.
      data_dir: where TFDS sets are prepared.
      max_samples: a random part of the training split of this size; all by default.
      seed: of the random numbers.
      progress: show a bar on a terminal.
      **images: how images and labels are read, `channels_first`, `resize` and the others of
        `reconjax.studies.Reading`; by default as in the training.

    Returns:
      Plain values: "probes", a list with the scores of every probe on every kind of features, the
      network's first; "ridge_paths", kind -> accuracies of the ridge probe at each of its weights;
      and what the features and the images are. Besides the network's, there are principal
      components of the pixels, and for an autoencoder on at most 4096 features the closed form: the
      linear encoder of Theorem 3 under the noise of the run, for its target or for joint embedding,
      with the K of the run.

    Raises:
      FileNotFoundError: there is no run and no file.
      ValueError: an option out of range or that does not apply, labels that are no classes, or
        images that are not those of the features.

    Example:
      >>> import tempfile
      >>> x = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     np.savez(folder + "/a.npz", features_train=x, labels_train=np.arange(40) % 2)
      ...     table = reconjax.training.probe(folder + "/a.npz", knn=[1])
      >>> [row["probe"] for row in table["probes"]][:2]
      ['linear, ridge', 'linear, softmax']
    """
    request = _Request(
        Path(path).expanduser(),
        data,
        run,
        untrained,
        readout,
        data_dir,
        max_samples,
        seed,
        images,
    )
    pixels, kinds = _pixels_and_features(request)
    main = next(iter(kinds.values()))
    samples = len(main.train)
    if wrong := [k for k in knn or () if not 1 <= k < samples]:
        raise ValueError(f"knn: {wrong[0]}; 1 .. {samples - 1} with {samples} training samples")
    probes = _probes(knn, nonlinear, seed)
    rows, paths = [], {}
    with progress_bar("probes", len(kinds) * len(probes), progress) as count:
        for kind, feature_data in kinds.items():
            arrays = _arrays(feature_data)
            for name, fit in probes.items():
                result = fit(*arrays, num_classes=feature_data.num_classes)
                rows.append(_row(name, kind, result))
                if name == "linear, ridge":
                    paths[kind] = _path(result)
                count()
    rows.sort(key=lambda row: list(probes).index(row["probe"]))
    test = None if main.test is None else main.test.labels
    chance = majority(main.train.labels, test, num_classes=main.num_classes)
    rows.append(_row("largest class", "", chance))
    about = main if pixels is None else pixels
    return {
        "features": str(path),
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


@dataclasses.dataclass(frozen=True)
class _Request:
    """What is to be probed, and how its data are read."""

    path: Path
    data: str | None
    run: int | None
    untrained: bool
    readout: str | None
    data_dir: str | None
    max_samples: int | None
    seed: int
    images: dict[str, Any]

    def open(self, data: str | Dataset, **kept: Any) -> Dataset:
        """A part of a data set, its arrays understood as the options say, else as the run did."""
        given = {key: value for key, value in self.images.items() if value is not None}
        reading = {"seed": self.seed, **kept, **given} if isinstance(data, str) else {}
        reading |= {"max_samples": self.max_samples, "data_dir": self.data_dir}
        return Source(data, labels=False, **reading).sampled()


def _pixels_and_features(request: _Request) -> tuple[Dataset | None, dict[str, Dataset]]:
    """The images, where they are known, and kinds of features; the first are those of `path`."""
    path = request.path
    if path.suffix == ".npz" or path.is_file():
        given_options = {
            "untrained": request.untrained,
            "readout": request.readout is not None,
            "run": request.run is not None,
        }
        for name, given in given_options.items():
            if given:
                raise ValueError(f"{name}: does not apply to features in a file")
        main = request.open(load_features(path))
        kinds = {path.stem: main}
        if request.data is None:
            return None, kinds
        pixels = request.open(request.data)
        _check_same(request, main, pixels)
    elif path.is_dir():
        pixels, kinds = _of_run(request)
        main = next(iter(kinds.values()))
    else:
        raise FileNotFoundError(f"{path}: neither a run's folder nor an .npz of features")
    size = min(main.features, len(pixels.train), pixels.features)
    kinds[f"PCA, {size} directions"] = pca_features(pixels, size)
    return pixels, kinds


def _of_run(request: _Request) -> tuple[Dataset, dict[str, Dataset]]:
    """The images of a run, the features of its network, and those of its closed form."""
    path, settings = request.path, RunFolder(request.path).settings()
    trained = load_run(path, run=request.run)
    name = request.data or settings.get("source") or settings["data"]["name"]
    same = name == settings.get("source")
    kept = {key: settings[key] for key in (*FILES, *CHANGES) if same and key in settings}
    if "test_share" in kept:  # the same test split
        kept["seed"] = settings["seed"]
    pixels = request.open(name, **kept)
    if not pixels.num_classes:
        raise ValueError(f"{name}: has {pixels.targets_text}; a probe needs classes")
    if trained.inputs.mean.shape != pixels.example_shape:
        raise ValueError(
            f"{name}: examples of shape {pixels.example_shape}; the network of {path} takes"
            f" {trained.inputs.mean.shape}"
        )
    net = settings.get("net", {})
    networks = {net.get("name", "network"): trained.model}
    if request.untrained:
        networks["untrained"] = _untrained(request, settings)
    kinds = {}
    for kind, network in networks.items():
        if request.readout is not None:
            _read_out(network, kind, request.readout)
        kinds[kind] = feature_set(network, pixels, trained.inputs)
    size = net.get("latent_dim")
    if net.get("name") in MASKED_AUTOENCODERS:
        size = trained.model.width
    if size is not None and "noise" in settings and pixels.features <= CLOSED_FORM_FEATURES:
        text = settings["noise"]
        noise = None if text is None else parse_noise(text, pixels.example_shape)
        size = min(size, pixels.features)
        target = _target(settings["objective"], pixels)
        kinds[f"closed form, K = {size}"] = closed_form_features(pixels, size, noise, target)
    return pixels, kinds


def _target(objective: dict[str, Any], pixels: Dataset) -> targets.Target | None:
    """What the closed form of a run predicts; x itself where that of the run has no name."""
    if objective["name"] == "joint-embedding":
        return targets.joint_embedding()
    try:
        return targets.parse_target(objective.get("target", "pixels"), pixels.example_shape)
    except ValueError:
        return None


def _read_out(network: Any, name: str, readout: str) -> None:
    """Has the network give these features."""
    if not hasattr(network, "readout"):
        raise ValueError(f"readout: does not apply to the network {name}")
    if readout not in READOUTS:
        raise ValueError(f"readout: {readout!r}; it must be one of {', '.join(READOUTS)}")
    network.readout = readout


def _probes(
    knn: Sequence[int] | None, nonlinear: bool, seed: int
) -> dict[str, Callable[..., Probe]]:
    """Name -> the probe as a function of the arrays."""

    def nearest(metric: str) -> Callable[..., Probe]:
        return lambda *arrays, **how: knn_probe(
            *arrays, **how, neighbors=knn, metric=metric, seed=seed
        )

    probes: dict[str, Callable[..., Probe]] = {
        "linear, ridge": ridge_probe,
        "linear, softmax": lambda *arrays, **how: logistic_probe(*arrays, **how, seed=seed),
        "nearest, cosine": nearest("cosine"),
        "nearest, Euclidean": nearest("euclidean"),
    }
    if nonlinear:
        probes["three layers"] = lambda *arrays, **how: mlp_probe(*arrays, **how, seed=seed)
    return probes


def _untrained(request: _Request, settings: dict[str, Any]) -> nnx.Module:
    """The network of a run as it was before its first step."""
    if "net" not in settings:
        raise ValueError(f"untrained: {request.path} does not say how its network is made")
    seed = settings["runs"][request.run or 0]["seed"]
    data = settings["data"]
    return make(
        **settings["net"],
        example_shape=data["shape"],
        num_classes=data["classes"],
        rngs=nnx.Rngs(seed),
    )


def _check_same(request: _Request, features: Dataset, pixels: Dataset) -> None:
    """The features must be of these images, in this order."""
    for name in ("train", "test"):
        split, other = getattr(features, name), getattr(pixels, name)
        if None not in (split, other) and not np.array_equal(split.labels, other.labels):
            raise ValueError(
                f"{request.data}: its {name} labels are not those of {request.path}, in order;"
                " the features must be of these images"
            )


def _arrays(data: Dataset) -> list[np.ndarray]:
    arrays = list(data.train.examples(np.arange(len(data.train))))
    if data.test is not None:
        arrays += data.test.examples(np.arange(len(data.test)))
    return arrays


def _row(name: str, features: str, result: Probe) -> dict[str, Any]:
    """The probe at the setting that it chose."""
    at = result.chosen
    row: dict[str, Any] = {
        "probe": name,
        "features": features,
        "setting": result.setting,
        "value": result.values[at].item(),
    }
    for split in SPLITS:
        scores = getattr(result, split)
        row[split] = scores and {
            "accuracy": float(scores.accuracy[at]),
            "standard_error": float(scores.standard_error[at]),
            "r2": float(scores.r2[at]),
            "samples": scores.samples,
        }
    return row


def _path(result: Probe) -> dict[str, Any]:
    each = {name: getattr(result, name) for name in SPLITS}
    accuracies = {name: scores and scores.accuracy.tolist() for name, scores in each.items()}
    return {"ridge_weight": result.values.tolist(), "chosen": result.chosen, **accuracies}
