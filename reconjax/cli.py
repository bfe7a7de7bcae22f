"""The `reconjax` command.

jax is imported when a command runs, so that `--help` and mistakes in the arguments answer at once.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from reconjax.files import output_folder, replacing

DESCRIPTION = """\
How far is learning by reconstruction misaligned with a perception task, and which noise mends it?
Answers in closed form, before any training. DATA is one of

  digits                      8x8 handwritten digits, embedded (the default)
  scenes[:size=32,classes=10] generated images: an object on a 1/f background
  FILE.npz                    x_train, y_train[, x_test, y_test, class_names]
  cifar10, mnist:3.*.*, DIR   a TFDS set prepared under --data-dir or $TFDS_DATA_DIR
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status (2 for a mistake in the input)."""
    options = _parser().parse_args(argv)
    try:
        options.run(options)
    except (ValueError, OSError, ImportError) as error:
        print(f"reconjax {options.command}: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"reconjax {options.command}: interrupted", file=sys.stderr)
        return 130
    return 0


def align(options: argparse.Namespace) -> None:
    """Prints K against alignment, explained share and chance."""
    folder = output_folder(options.out) if options.out else None
    dataset, moments = _moments(options)
    from reconjax import alignment, spectrum

    curve = alignment(spectrum(moments), convention=options.convention)
    found = {name: np.asarray(values) for name, values in curve._asdict().items()}
    result = {
        **_facts(dataset, moments, int(found["rank"])),
        "convention": options.convention,
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
    if folder is not None:
        from reconjax.plots import alignment_figure, save

        save(alignment_figure({dataset.name: curve}), folder / "align.png")
        _write_json(result, folder / "align.json")
    if options.json:
        print(json.dumps(result))
        return
    rank, features = result["rank"], result["features"]
    print(_headline(result))
    print(f"{'K':>7} {'alignment':>10} {'chance':>8} {'explained':>10} {'chance':>8}")
    for k in _some_dims(features, rank):
        row = [
            found[name][k - 1] for name in ("alignment", "chance", "explained", "explained_chance")
        ]
        print("{:>7} {:>10.4f} {:>8.4f} {:>10.4f} {:>8.4f}".format(k, *row))
    print(
        f"explained: share of the label variance that a linear head explains on the {rank}"
        " principal directions\nchance: the same for permuted labels"
    )
    _say_files(folder, "align.png", "align.json")


def sweep(options: argparse.Namespace) -> None:
    """Prints the best noise for some K; writes sweep.png and sweep.npz to --out."""
    folder = output_folder(options.out) if options.out else None
    _load(options, check=lambda dataset: _grid(options, dataset))
    dataset, moments = _moments(options)
    import reconjax

    grid, axes = _grid(options, dataset)
    progress = _progress("grid points", len(grid) * len(grid[0]) * len(options.weights))
    with progress as bar:
        found = reconjax.sweep(
            moments,
            grid,
            options.weights,
            options.latent_dims,
            readout=options.readout,
            batch_size=options.batch_size,
            dtype="float32" if options.float32 else None,
            progress=bar,
        )
        curves = {name: np.asarray(values) for name, values in found._asdict().items()}
    # The noise-free column was put in front for the comparison.
    baseline = {name: curves[name][0, 0] for name in ("alignment", "explained")}
    names = ("explained", "supervised_loss", "reconstruction_loss", "alignment")
    arrays = {
        **axes,
        "reconstruction_weight": curves["reconstruction_weight"],
        "latent_dim": curves["latent_dim"],
        **{name: curves[name][:, 1:] for name in names},
    }
    best = list(_best(arrays, baseline["explained"], moments.features, int(found.rank)))
    precision = "float32 grid, float64 spectrum" if options.float32 else "float64"
    result = {
        **_facts(dataset, moments, int(found.rank)),
        "noise": options.noise,
        "readout": options.readout,
        "precision": precision,
        **{name: np.asarray(values).tolist() for name, values in axes.items()},
        "reconstruction_weight": [str(w) if np.isinf(w) else w for w in options.weights],
        "best": best,
    }
    if folder is not None:
        with replacing(folder / "sweep.npz") as part:
            np.savez(part, allow_pickle=False, **arrays)
        from reconjax.plots import save, sweep_figure

        figure = sweep_figure(
            arrays["latent_dim"],
            arrays["alignment"],
            baseline["alignment"],
            rows=_row_names(options, axes),
            lines=[f"{value:g}" for value in axes[_strength(options)]],
            columns=[f"λ = {w:g}" for w in options.weights] if len(options.weights) > 1 else [""],
            title=f"{dataset.name}: {options.noise} noise against none",
            strength=_strength(options).replace("_", " "),
        )
        save(figure, folder / "sweep.png")
    if options.json:
        print(json.dumps(result))
        return
    print(_headline(result))
    print(f"{options.noise} noise, {options.readout} read-out, {precision}")
    print(f"{'K':>7} {'no noise':>9} {'best':>9} {'gain':>8}  at")
    for row in best:
        print(
            f"{row['latent_dim']:>7} {row['explained_without']:>9.4f} {row['explained']:>9.4f}"
            f" {row['gain']:>+8.2%}  {row['at']}"
        )
    print(
        "explained share of the label variance on the training data; gain: relative change."
        "\nThe best of a grid is chosen after the fact: small gains may be chance."
    )
    _say_files(folder, "sweep.png", "sweep.npz")


def project(options: argparse.Namespace) -> None:
    """Writes project.png: images, their top and their bottom subspace side by side."""
    folder = output_folder(options.out or ".")
    if options.images < 1:
        raise ValueError(f"--images: {options.images}; at least 1")
    _load(options, check=lambda dataset: dataset.image_shape)
    dataset, moments = _moments(options)
    from reconjax import project as project_on
    from reconjax import spectrum
    from reconjax.moments import as_floats
    from reconjax.plots import projection_figure, save

    shown = (dataset.test or dataset.train).sample(options.images, options.seed)
    raw, labels = shown.examples(np.arange(len(shown)))
    images = np.asarray(as_floats(raw))
    principal = spectrum(moments)
    top = project_on(principal, images, variance=options.variance)
    bottom = project_on(
        principal, images, variance=1 - options.variance, subspace="bottom", keep_mean=False
    )
    values = np.asarray(principal.eigenvalues)
    reached = np.cumsum(values) / values.sum() >= options.variance - 1e-12
    count = 0 if options.variance <= 0 else int(np.argmax(reached)) + 1
    rank = int(principal.rank)
    figure = projection_figure(
        images,
        top,
        bottom,
        rows=(
            "original",
            f"top {options.variance:.0%}\n({count} directions)",
            f"bottom {1 - options.variance:.0%}\n({rank - count} directions)",
        ),
        names=[dataset.class_names[label] for label in labels],
        title=f"{dataset.name}: what explains the pixels, and what is left",
    )
    save(figure, folder / "project.png", dpi=130)
    result = {
        **_facts(dataset, moments, rank),
        "variance": options.variance,
        "top_directions": count,
        "bottom_directions": rank - count,
        "picture": str(folder / "project.png"),
    }
    if options.json:
        print(json.dumps(result))
        return
    print(_headline(result))
    print(
        f"{count} directions explain {options.variance:.0%} of the pixel variance;"
        f" the other {rank - count} the rest"
    )
    _say_files(folder, "project.png")


def datasets(options: argparse.Namespace) -> None:
    """Lists what can be named, and what is prepared under the data directory."""
    from reconjax.data import SOURCES, default_data_dir, load_tfds, prepared

    folder = options.data_dir or default_data_dir()
    for name in options.download or ():
        load_tfds(name, folder, download=True)
    found = prepared(folder)
    if options.json:
        rows = [{"name": s.name, "version": s.version, "folder": str(s.directory)} for s in found]
        print(json.dumps({"data_dir": str(folder), "prepared": rows}))
        return
    print("DATA can be")
    width = max(len(pattern) for pattern, _ in SOURCES)
    for pattern, text in SOURCES:
        print(f"  {pattern:<{width}}  {text}")
    print(f"prepared under {folder}" + ("" if found else ": nothing"))
    for one in found:
        print(f"  {one.name}:{one.version}")


def _load(options: argparse.Namespace, check: Callable[[Any], Any] | None = None) -> Any:
    """The data set, opened once; `check` may refuse it before any work is done."""
    if not hasattr(options, "dataset"):
        import jax

        jax.config.update("jax_enable_x64", True)
        from reconjax.data import load

        options.dataset = load(options.data, data_dir=options.data_dir)
    if check is not None:
        check(options.dataset)
    return options.dataset


def _moments(options: argparse.Namespace) -> tuple[Any, Any]:
    """The data set and the float64 moments of its training split, in one streaming pass."""
    dataset = _load(options)
    from reconjax import balanced_class_weight, moments_from_batches, standardized

    split = dataset.train
    if options.max_samples is not None:
        split = split.sample(options.max_samples, options.seed)
    weight = None
    if options.class_weight == "balanced":
        weight = balanced_class_weight(split.labels, dataset.num_classes)
    with _progress("samples", len(split)) as bar:

        def counted() -> Iterator[tuple[Any, Any]]:
            for images, labels in split.batches():
                yield images, labels
                bar(len(labels))

        found = moments_from_batches(
            counted(), num_classes=dataset.num_classes, class_weight=weight, dtype="float64"
        )
    return dataset, standardized(found) if options.standardize else found


def _grid(options: argparse.Namespace, dataset: Any) -> tuple[Any, dict[str, np.ndarray]]:
    """(P, 1 + R) noises, the first column without noise, and the axes of the other columns."""
    from reconjax import gaussian_grid, mask_grid, pixel_grid

    if options.noise == "gaussian":
        return gaussian_grid([0.0, *options.stds]), {"noise_std": np.asarray(options.stds)}
    ratios = [0.0, *options.ratios]
    axes = {"mask_ratio": np.asarray(options.ratios)}
    if options.noise == "pixel":
        return pixel_grid(dataset.example_shape, ratios), axes
    exact = options.noise == "exact"
    grid = mask_grid(
        dataset.image_shape, options.patches, ratios, exact=exact, partial=options.partial
    )
    return grid, {"patch_shape": np.asarray(options.patches), **axes}


def _strength(options: argparse.Namespace) -> str:
    return "noise_std" if options.noise == "gaussian" else "mask_ratio"


def _row_names(options: argparse.Namespace, axes: dict[str, np.ndarray]) -> list[str]:
    if "patch_shape" not in axes:
        return [f"{options.noise} noise"]
    return [f"patch {height}x{width}" for height, width in axes["patch_shape"]]


def _best(
    arrays: dict[str, np.ndarray], baseline: np.ndarray, features: int, rank: int
) -> Iterator[dict[str, Any]]:
    """For some K, the grid point with the largest explained share and its gain over no noise."""
    dims = arrays["latent_dim"]
    wanted = _some_dims(features, rank) if len(dims) > 12 else list(dims)
    strength = "noise_std" if "noise_std" in arrays else "mask_ratio"
    for k in wanted:
        column = int(np.flatnonzero(dims == k)[0])
        explained = arrays["explained"][..., column]
        p, r, w = np.unravel_index(int(np.argmax(explained)), explained.shape)
        weight = float(arrays["reconstruction_weight"][w])
        value, without = float(explained[p, r, w]), float(baseline[w, column])
        where: dict[str, Any] = {strength: float(arrays[strength][r])}
        text = f"{strength.split('_')[1]} {where[strength]:g}"
        if "patch_shape" in arrays:
            where["patch_shape"] = arrays["patch_shape"][p].tolist()
            text = "patch {}x{}, ".format(*where["patch_shape"]) + text
        if len(arrays["reconstruction_weight"]) > 1:
            text += f", weight {weight:g}"
        if value <= without * (1 + 1e-9):
            text = "no noise"
        yield {
            "latent_dim": int(k),
            **where,
            "reconstruction_weight": str(weight) if np.isinf(weight) else weight,
            "explained": value,
            "explained_without": without,
            "gain": value / without - 1,
            "at": text,
        }


def _some_dims(features: int, rank: int) -> list[int]:
    """1, 2, 4, ... and the rank."""
    powers = [2**i for i in range(features.bit_length()) if 2**i < rank]
    return [*powers, rank]


def _facts(dataset: Any, moments: Any, rank: int) -> dict[str, Any]:
    return {
        "data": dataset.name,
        "samples": int(moments.samples),
        "features": moments.features,
        "rank": rank,
        "classes": dataset.num_classes,
    }


def _headline(result: dict[str, Any]) -> str:
    text = "{data}: {samples} samples, {features} features of rank {rank}, {classes} classes"
    return text.format(**result)


class _progress:
    """A bar on stderr for work that takes more than a second; calling it counts."""

    def __init__(self, what: str, total: int) -> None:
        self.what, self.total = what, total

    def __enter__(self) -> Callable[..., None]:
        from tqdm import tqdm

        self.bar = tqdm(total=self.total, desc=self.what, delay=1, leave=False, file=sys.stderr)
        return lambda count=1: (self.bar.update(count), None)[1]

    def __exit__(self, *_: object) -> None:
        self.bar.close()


def _write_json(result: dict[str, Any], path: Any) -> None:
    with replacing(path) as part:
        part.write_text(json.dumps(result) + "\n")


def _say_files(folder: Any, *names: str) -> None:
    if folder is not None:
        print("wrote " + ", ".join(str(folder / name) for name in names))


def _patch(text: str) -> tuple[int, int]:
    parts = text.lower().split("x")
    try:
        height, width = (int(part) for part in (parts * 2 if len(parts) == 1 else parts))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}; a size like 4 or 4x2 is needed") from None
    return height, width


def _number(name: str, allowed: Callable[[float], bool], text: str) -> Callable[[str], float]:
    def parse(value: str) -> float:
        try:
            number = float(value)
        except ValueError:
            number = float("nan")
        if not allowed(number):
            raise argparse.ArgumentTypeError(f"{value}; {name} must be {text}")
        return number

    return parse


_ratio = _number("a ratio", lambda p: 0 <= p < 1, "in [0, 1)")
_weight = _number("a weight", lambda w: w >= 0, "in [0, inf]")
_std = _number("a standard deviation", lambda s: 0 <= s < float("inf"), "finite and >= 0")
_share = _number("a share", lambda v: 0 <= v <= 1, "in [0, 1]")


def _parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="reconjax", description=DESCRIPTION, formatter_class=raw, epilog=_EXAMPLES["all"]
    )
    from importlib.metadata import version

    parser.add_argument("--version", action="version", version=version("reconjax"))
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, run: Callable[..., None], data: bool = True) -> Any:
        text = (run.__doc__ or "").strip()
        found = commands.add_parser(
            name, help=text, description=text, formatter_class=raw, epilog=_EXAMPLES[name]
        )
        found.set_defaults(run=run)
        found.add_argument("--json", action="store_true", help="print one JSON object instead")
        found.add_argument("--data-dir", help="where TFDS sets are ($TFDS_DATA_DIR)")
        if data:
            found.add_argument(
                "data", nargs="?", default="digits", metavar="DATA", help="see `reconjax datasets`"
            )
            found.add_argument("--out", metavar="DIR", help="write pictures and arrays there")
            found.add_argument("--max-samples", type=int, metavar="N", help="a random part only")
            found.add_argument("--seed", type=int, default=0, help="of what is drawn (0)")
            found.add_argument("--class-weight", choices=["balanced"], help="weigh classes alike")
            found.add_argument(
                "--standardize", action="store_true", help="scale every feature to variance 1"
            )
            found.add_argument(
                "--float32",
                action="store_true",
                help="solve the grid in float32; moments and spectrum stay in float64",
            )
        return found

    one = command("align", align)
    one.add_argument(
        "--convention",
        choices=["eq7", "loss", "sec58", "reference"],
        default="eq7",
        help="Eq. 7 (default), its loss form, Sec. 5.8's normaliser, or the authors' plots",
    )
    one = command("sweep", sweep)
    one.add_argument(
        "--noise",
        choices=["mask", "exact", "pixel", "gaussian"],
        default="mask",
        help="Bernoulli patches (default), an exact number of patches (MAE), single values,"
        " or Gaussian",
    )
    one.add_argument("--patches", type=_patch, nargs="+", default=[(1, 1), (2, 2), (4, 4)])
    one.add_argument("--partial", action="store_true", help="allow partial patches at the edges")
    one.add_argument("--ratios", type=_ratio, nargs="+", default=[0, 0.25, 0.5, 0.75, 0.9, 0.99])
    one.add_argument("--stds", type=_std, nargs="+", default=[0, 0.1, 0.25, 0.5, 1])
    one.add_argument(
        "--weights", type=_weight, nargs="+", default=[float("inf")], help="λ in [0, inf] (inf)"
    )
    one.add_argument("--latent-dims", type=int, nargs="+", metavar="K", help="1 .. D (all)")
    one.add_argument("--readout", choices=["clean", "noisy"], default="clean")
    one.add_argument(
        "--batch-size", type=int, default=1, help="grid points solved side by side; bounds memory"
    )
    one = command("project", project)
    one.add_argument("--variance", type=_share, default=0.75, help="share of the top part (0.75)")
    one.add_argument("--images", type=int, default=8, help="how many (8)")
    one = command("datasets", datasets, data=False)
    one.add_argument("--download", nargs="+", metavar="NAME", help="prepare these TFDS sets first")
    return parser


_EXAMPLES = {
    "all": "examples:\n  reconjax align digits\n  reconjax sweep digits --out out\n"
    "  reconjax COMMAND --help",
    "align": "examples:\n  reconjax align\n  reconjax align cifar10 --data-dir ~/tfds --out out\n"
    "  reconjax align scenes:background=0 --json > flat.json\n"
    "  reconjax align mine.npz --class-weight balanced",
    "sweep": "examples:\n  reconjax sweep digits --patches 1 2 4 --ratios 0 0.5 0.9 --out out\n"
    "  reconjax sweep cifar10 --noise exact --patches 4 --ratios 0.75 --float32\n"
    "  reconjax sweep mine.npz --weights 0 0.1 10 inf --latent-dims 8 32 --json\n"
    "  reconjax sweep digits --noise gaussian --stds 0.1 0.5",
    "project": "examples:\n  reconjax project digits\n"
    "  reconjax project cifar10 --variance 0.75 --images 8 --out out",
    "datasets": "examples:\n  reconjax datasets\n  reconjax datasets --data-dir ~/tfds\n"
    "  reconjax datasets --download mnist",
}
