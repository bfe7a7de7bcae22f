"""The options that commands share, in the groups in which `--help` shows them."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, Group, Parameter, Token
from cyclopts.validators import Number

from reconjax.storage.files import output_folder

DATA = Group("Data", sort_key=2)
GRID = Group("Grid", sort_key=1)
STATISTICS = Group("Statistics", sort_key=3)
TRAINING = Group("Training", sort_key=1)
OUTPUT = Group("Output", sort_key=4)
HOSTS = Group("Several hosts (docs/clusters.md)", sort_key=5)


def _whole(kind: Any, tokens: Sequence[Token]) -> Any:
    """A whole number, or a list of them; 2.5 is none, and is not rounded to one."""
    numbers = []
    for token in tokens:
        try:
            numbers.append(int(token.value))
        except ValueError:
            raise ValueError(f"{token.value!r}; a whole number is needed") from None
    return numbers[0] if kind is int else numbers


Whole = Annotated[int, Parameter(converter=_whole)]
# The converter is that of the list: one of what is in it would not be called.
Wholes = Annotated[list[int] | None, Parameter(converter=_whole)]
# A sweep of numbers is given as `--ratios 0 0.5 0.9`.
Name = Annotated[str, Parameter(name="DATA", help="One of what `reconjax datasets` lists.")]
LatentDims = Annotated[Wholes, Parameter(alias="--latent-dim", help="K, one or several.")]


@Parameter(name="*", group=DATA)
@dataclasses.dataclass(frozen=True)
class ReadOptions:
    """Which examples are read, and what they are taken for."""

    data_dir: str | None = None
    """Where TFDS sets are prepared ($TFDS_DATA_DIR)."""
    max_samples: Whole | None = None
    """A random part of the training split only."""
    seed: Whole = 0
    """Of the random numbers."""
    # Short for --axes CHW and HWC, which messages about images name.
    channels_first: Annotated[
        bool | None, Parameter(negative="--no-channels-first", show=False)
    ] = None
    """Images in arrays are (N, C, H, W)."""
    axes: str | None = None
    """Of arrays: CHW, TC (sequences), DHW (volumes)."""
    targets: Literal["classes", "real"] | None = None
    """What y_train holds."""
    resize: str | None = None
    """Size of images: 32, 48x64, 32:lanczos."""
    crop: str | None = None
    """Centered part of images: 28, 40x60."""
    gray: bool | None = None
    """Make colors gray."""
    test_share: Annotated[float | None, Parameter(validator=Number(gt=0, lt=1))] = None
    """Of each class, for a test split."""
    skip_corrupt: bool | None = None
    """Leave out images that are damaged."""
    image_key: str | None = None
    """Column that holds the images."""
    target_key: list[str] | None = None
    """Of the targets, or folder of masks; several: tasks."""
    target_patch: str | None = None
    """Masks are averaged over (4 x 4 patches)."""

    def keywords(self) -> dict[str, Any]:
        """The keywords of a study; see `reconjax.studies.Reading`."""
        return dataclasses.asdict(self)


@Parameter(name="*", group=DATA)
@dataclasses.dataclass(frozen=True)
class DataOptions(ReadOptions):
    """How the data of a study are read."""

    unlabeled: str | None = None
    """More data, for the encoder alone."""
    class_weight: Literal["balanced"] | None = None
    """Give every class the same total weight."""
    standardize: bool = False
    """Scale every feature to variance 1."""
    memory: Annotated[float | None, Parameter(validator=Number(gt=0))] = None
    """Limit in GiB; what needs more is refused."""


@Parameter(name="*", group=OUTPUT)
@dataclasses.dataclass(frozen=True)
class Output:
    """Where results go."""

    out: Path | None = None
    """A folder for pictures and arrays."""
    json: bool = False
    """Print JSON instead of a table."""

    def prepare(self) -> None:
        """Creates the folder before any work; of several processes the first alone does."""
        if self.out is not None and first_process():
            output_folder(self.out)


@Parameter(name="*", group=HOSTS)
@dataclasses.dataclass(frozen=True)
class Hosts:
    """One job of several processes."""

    distributed: bool = False
    """Join the job of a TPU pod or of SLURM."""
    coordinator: str | None = None
    """HOST:PORT of process 0."""
    processes: Whole | None = None
    """The number of processes."""
    process: Whole | None = None
    """The number of this one, from 0 on."""

    @property
    def joined(self) -> bool:
        """Whether this is to be one of several processes."""
        address = self.coordinator, self.processes, self.process
        return self.distributed or any(value is not None for value in address)


def first_process() -> bool:
    """Whether this process is the only one, or the first: it alone prints and writes."""
    from reconjax.summary import hosts

    return hosts.first()


def command(name: str, examples: str) -> App:
    """A command of `reconjax`; its options are the parameters of the function that it runs.

    Args:
      name: of the command.
      examples: lines that `--help` shows last.
    """
    lines = "".join(f"  {line}\n" for line in examples.strip().splitlines())
    return App(name=name, help_epilogue=f"Examples:\n{lines}")
