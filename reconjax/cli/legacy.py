"""The `reconjax` command: its arguments, its help, its exit status."""

import argparse
import os
import signal
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any, NoReturn

from reconjax.cli import align, compare, datasets, detect, probe, project, sweep, train
from reconjax.cli.inputs import start
from reconjax.cli.printing import warnings_in_lines
from reconjax.data.targets import KINDS
from reconjax.grid.sweep import PRECISIONS
from reconjax.noise.families import NAMES
from reconjax.summary import hosts

DESCRIPTION = """\
How far is learning by reconstruction misaligned with a perception task, and which noise mends it?
Answers in closed form, before any training. DATA is one of

  digits                      8x8 handwritten digits, embedded (the default)
  scenes[:size=32,classes=10] generated images: an object on a 1/f background
  FILE.npz                    x_train, y_train[, x_test, y_test, class_names]
  cifar10, mnist:3.*.*, DIR   a TFDS set prepared under --data-dir or $TFDS_DATA_DIR
"""


def run() -> NoReturn:
    """The `reconjax` command: `main`, and the end of the process."""
    signal.signal(signal.SIGINT, _interrupted)
    status = main()
    if status:
        hosts.leave(status)
    raise SystemExit(0)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status (2 for a mistake in the input)."""
    options = _parser().parse_args(argv)
    try:
        if "distributed" in options:
            start(options)
        with warnings_in_lines(options.command):
            options.run(options)
    except (ValueError, OSError, ImportError, RuntimeError) as error:
        print(f"reconjax {options.command}: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


def _interrupted(*_: Any) -> NoReturn:
    """Ends the process. An exception could be lost: in a garbage collection it is ignored.

    What is finished is kept at any moment.
    """
    os.write(sys.stderr.fileno(), b"\nreconjax: interrupted\n")
    hosts.leave(130)


def _data_options(command: Any) -> None:
    """How the arrays of an .npz are to be understood."""
    group = command.add_argument_group("arrays in an .npz", "what they are taken for is printed")
    group.add_argument(
        "--channels-first",
        action=argparse.BooleanOptionalAction,
        help="images are (N, C, H, W); --no-channels-first: (N, H, W, C), whatever they look like",
    )
    group.add_argument(
        "--targets",
        choices=KINDS,
        help="what y_train holds: class numbers or real values (integers are class numbers)",
    )


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
_tolerance = _number("a tolerance", lambda t: 0 <= t < 1, "in [0, 1)")
_gibibytes = _number("memory", lambda g: g > 0, "a number of GiB > 0")
_share = _number("a share", lambda v: 0 <= v <= 1, "in [0, 1]")


def _parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="reconjax", description=DESCRIPTION, formatter_class=raw, epilog=_EXAMPLES["all"]
    )
    parser.add_argument("--version", action="version", version=version("reconjax"))
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, run: Callable[..., None], data: bool = True) -> Any:
        text = (run.__doc__ or "").strip()
        found = commands.add_parser(
            name, help=text, description=text, formatter_class=raw, epilog=_EXAMPLES[name]
        )
        found.set_defaults(run=run)
        found.add_argument("--json", action="store_true", help="print JSON instead")
        found.add_argument("--data-dir", help="where TFDS sets are ($TFDS_DATA_DIR)")
        if data:
            found.add_argument(
                "data", nargs="?", default="digits", metavar="DATA", help="see `reconjax datasets`"
            )
            _data_options(found)
            found.add_argument("--out", metavar="DIR", help="write pictures and arrays there")
            found.add_argument("--max-samples", type=int, metavar="N", help="a random part only")
            found.add_argument("--seed", type=int, default=0, help="of what is drawn (0)")
            found.add_argument("--class-weight", choices=["balanced"], help="weigh classes alike")
            found.add_argument(
                "--standardize", action="store_true", help="scale every feature to variance 1"
            )
            found.add_argument(
                "--memory", type=_gibibytes, metavar="GIB", help="refuse what needs more (all)"
            )
            group = found.add_argument_group("several hosts", "see docs/clusters.md")
            group.add_argument(
                "--distributed", action="store_true", help="join the job of a TPU pod or SLURM"
            )
            group.add_argument("--coordinator", metavar="HOST:PORT", help="of process 0")
            group.add_argument("--processes", type=int, metavar="N", help="how many there are")
            group.add_argument("--process", type=int, metavar="I", help="which this is, from 0 on")
        return found

    def bootstrap(command: Any, cheap: int) -> None:
        command.add_argument(
            "--bootstrap",
            type=int,
            metavar="N",
            help="standard errors by N class-stratified folds (7, 11, 19, 23, 31, ...), at N times"
            f" the work; 0: none (19 for up to {cheap} features, else 0)",
        )

    one = command("align", align.run)
    bootstrap(one, align.CHEAP)
    one.add_argument(
        "--convention",
        choices=["eq7", "loss", "sec58", "reference"],
        default="eq7",
        help="Eq. 7 (default), its loss form, Sec. 5.8's normaliser, or the authors' plots",
    )
    one = command("sweep", sweep.run)
    bootstrap(one, sweep.CHEAP)
    one.add_argument(
        "--noise",
        choices=["mask", "exact", "pixel", "gaussian"],
        default="mask",
        help="Bernoulli patches (default), an exact number of patches (MAE), single values,"
        " or Gaussian",
    )
    one.add_argument(
        "--patches",
        type=_patch,
        nargs="+",
        help="sizes like 4 or 4x2 (height x width) (1 2 4, or what fits)",
    )
    one.add_argument("--partial", action="store_true", help="allow partial patches at the edges")
    one.add_argument(
        "--ratios",
        type=_ratio,
        nargs="+",
        help="shares that are dropped, in [0, 1) (0 0.25 0.5 0.75 0.9 0.99)",
    )
    one.add_argument(
        "--stds",
        type=_std,
        nargs="+",
        help="of Gaussian noise, in units of the data, images being in [0, 1] (0 0.1 0.25 0.5 1)",
    )
    one.add_argument(
        "--weights", type=_weight, nargs="+", default=[float("inf")], help="λ in [0, inf] (inf)"
    )
    one.add_argument("--latent-dims", type=int, nargs="+", metavar="K", help="1 .. D (all)")
    one.add_argument(
        "--max-latent-dim",
        type=int,
        metavar="K",
        help="1 .. K, several times faster where K is far below D; see --tolerance",
    )
    one.add_argument(
        "--tolerance",
        type=_tolerance,
        default=3e-4,
        help="with --max-latent-dim: the error of the explained share that may be estimated,"
        " else a patch shape is solved in full; 0: always (3e-4)",
    )
    one.add_argument(
        "--precision",
        choices=PRECISIONS,
        default="mixed",
        help="float64; mixed: spectrum and whitening in float64, grid points in float32 (default);"
        " float32: all but the moments' sums, and not for images of low rank",
    )
    one.add_argument("--devices", type=int, metavar="N", help="that share the grid (all)")
    one.add_argument(
        "--readout", choices=["clean", "noisy"], default="clean", help="what the head is fitted on"
    )
    one.add_argument(
        "--batch-size", type=int, default=1, help="grid points solved side by side; bounds memory"
    )
    one = command("compare", compare.run)
    one.add_argument(
        "--families",
        nargs="+",
        metavar="NAME",
        help="of {}, or texts like mask:0.5:2x2+gaussian:0.1 (all that apply)".format(
            " ".join(NAMES)
        ),
    )
    one.add_argument(
        "--latent-dim", type=int, nargs="+", action="extend", metavar="K", help="1 .. the rank"
    )
    one.add_argument("--max-latent-dim", type=int, metavar="K", help="4, 16, 64, ... up to K (64)")
    one.add_argument(
        "--tolerance",
        type=_tolerance,
        default=3e-4,
        help="error of the explained share that may be estimated where K is far below D, for"
        " several times the speed; 0: none (3e-4)",
    )
    one = command("detect", detect.run)
    one.set_defaults(unlabeled=True)
    one.add_argument(
        "--noise",
        action="append",
        metavar="TEXT",
        help="like gaussian:0.5, mask:0.75:4x4, mask:0.5:2x2+gaussian:0.1; may be given several"
        " times (gaussian:0.5 and mask:0.75 with patches of 1, 2 and 4)",
    )
    one.add_argument(
        "--latent-dim",
        type=int,
        nargs="+",
        action="extend",
        metavar="K",
        help="1 .. the rank of the data (1 2 4 ... and the rank)",
    )
    one = command("project", project.run)
    one.add_argument("--variance", type=_share, default=0.75, help="share of the top part (0.75)")
    one.add_argument("--images", type=int, default=8, help="how many (8)")
    one = command("train", train.run)
    one.add_argument("--net", choices=train.NETS, default="mlp", help="its kind (mlp)")
    one.add_argument("--latent-dim", type=int, metavar="K", help="of an autoencoder (32)")
    one.add_argument(
        "--objective",
        choices=train.OBJECTIVES,
        help="by default what --net and the options below ask for",
    )
    one.add_argument("--noise", metavar="TEXT", help="of the input, as in mask:0.5:2x2")
    one.add_argument(
        "--guidance-weight", type=_std, metavar="W", help="of the labels beside reconstruction"
    )
    one.add_argument("--loss", choices=train.LOSSES, help="on the labels (cross_entropy)")
    one.add_argument("--epochs", type=int, default=20, help="(20)")
    one.add_argument("--batch-size", type=int, help="over all devices (128, or all there are)")
    one.add_argument("--learning-rate", type=float, default=3e-3, help="peak of one cycle (0.003)")
    one.add_argument("--weight-decay", type=float, default=1e-4, help="of AdamW (0.0001)")
    one.add_argument(
        "--augment", nargs="+", choices=train.AUGMENTATIONS, default=[], help="of the images (none)"
    )
    one.add_argument("--bfloat16", action="store_true", help="compute in bfloat16")
    one.add_argument(
        "--checkpoint-every", type=int, metavar="STEPS", help="with --out (a tenth of the run)"
    )
    one = command("probe", probe.run, data=False)
    one.add_argument(
        "features",
        metavar="RUN_OR_NPZ",
        help="the folder of `reconjax train --out`, or an .npz with features_train, labels_train"
        " and, if there, features_test, labels_test (or x_train, y_train, x_test, y_test)",
    )
    one.add_argument(
        "data",
        nargs="?",
        metavar="DATA",
        help="of which the features are (those of the run); for an .npz it adds the raw pixels",
    )
    _data_options(one)
    one.add_argument("--out", metavar="DIR", help="write probe.json and a picture there")
    one.add_argument(
        "--knn",
        type=int,
        nargs="+",
        metavar="K",
        help="nearest neighbours (of 1, 5 and 20 those below the number of samples)",
    )
    one.add_argument("--nonlinear", action="store_true", help="also train one of three layers")
    one.add_argument("--untrained", action="store_true", help="also the network before training")
    one.add_argument(
        "--run", type=int, metavar="I", dest="which", help="which of several runs in the folder"
    )
    one.add_argument("--max-samples", type=int, metavar="N", help="a random part only")
    one.add_argument("--seed", type=int, default=0, help="of what is drawn and held out (0)")
    one = command("datasets", datasets.run, data=False)
    one.add_argument("--download", nargs="+", metavar="NAME", help="prepare these TFDS sets first")
    return parser


_EXAMPLES = {
    "all": "examples:\n  reconjax align digits\n  reconjax sweep digits --out out\n"
    "  reconjax COMMAND --help",
    "align": "examples:\n  reconjax align\n  reconjax align cifar10 --data-dir ~/tfds --out out\n"
    "  reconjax align scenes:background=0 --json > flat.json\n"
    "  reconjax align mine.npz --class-weight balanced",
    "sweep": "examples:\n  reconjax sweep digits --patches 1 2 4 --ratios 0 0.5 0.9 --out out\n"
    "  reconjax sweep cifar10 --noise exact --patches 4 --ratios 0.75 --precision float64\n"
    "  reconjax sweep mine.npz --weights 0 0.1 10 inf --latent-dims 8 32 --json\n"
    "  reconjax sweep cifar10 --max-latent-dim 512\n"
    "  reconjax sweep digits --noise gaussian --stds 0.1 0.5",
    "compare": "examples:\n  reconjax compare digits\n"
    "  reconjax compare cifar10 --latent-dim 64 --out out\n"
    "  reconjax compare mine.npz --families mask pixel flip+mask:0.75:4x4 --json",
    "detect": "examples:\n  reconjax detect digits --out out\n"
    "  reconjax detect cifar10 --noise gaussian:0.5 --noise mask:0.75:4x4 --latent-dim 32 128\n"
    "  reconjax detect mine.npz --noise exact:0.75:2x2 --json",
    "project": "examples:\n  reconjax project digits\n"
    "  reconjax project cifar10 --variance 0.75 --images 8 --out out",
    "train": "examples:\n  reconjax train digits\n"
    "  reconjax train digits --noise mask:0.5:2x2 --latent-dim 16 --out out\n"
    "  reconjax train digits --guidance-weight 0.01 --epochs 50\n"
    "  reconjax train cifar10 --net resnet9 --augment crop flip --learning-rate 0.01 --out out\n"
    "started again with the same --out, it goes on where it stopped",
    "probe": "examples:\n  reconjax train digits --out run && reconjax probe run --out run/probe\n"
    "  reconjax probe run --knn 1 10 --nonlinear --untrained\n"
    "  reconjax probe run mnist --json\n"
    "  reconjax probe features.npz cifar10 --data-dir ~/tfds",
    "datasets": "examples:\n  reconjax datasets\n  reconjax datasets --data-dir ~/tfds\n"
    "  reconjax datasets --download mnist",
}
