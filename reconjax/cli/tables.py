"""What the commands print: one table, one line about the data."""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import xarray

FACTS = ("data", "samples", "features", "rank", "classes", "targets")
# Chance from which on what labels explain tells nothing.
TELLS_NOTHING = 0.5
# Errors from here on reach the digits of a table.
VISIBLE = 5e-5
# Columns of a log file, which is not folded.
WIDE = 1000


def print_table(
    heads: Sequence[str], rows: Iterable[Sequence[str]], left: Sequence[str] = ()
) -> None:
    """Prints a table; columns are aligned to the right but for those named in `left`.

    On a terminal that is too narrow the left-aligned columns fold; a file gets whole lines.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="")
    for head in heads:
        if head in left:
            table.add_column(Text(head), justify="left", overflow="fold")
        else:
            table.add_column(Text(head), justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*map(Text, row))
    width = None if sys.stdout.isatty() else WIDE
    console = Console(width=width, highlight=False, file=sys.stdout)
    with console.capture() as capture:
        console.print(table)
    for line in capture.get().splitlines():
        print(line.rstrip())


def headline(result: "xarray.Dataset", labels: str | None = None) -> str:
    """What a result is about, in a line; `labels` in place of what they were taken for."""
    from reconjax.data.layout import shape_text

    about = result.attrs
    text = "{data}: {samples} samples, {features} features of rank {rank}, ".format(**about)
    if "lift" in about:  # whose rank is that of the lifted problem
        text = text.replace(" of rank {rank}".format(**about), "")
    if more := about.get("unlabeled", 0):
        text = text.replace(" samples", f" labeled samples, {more} without a label", 1)
    shape = example_shape(result)
    return text + (labels or about["targets"]) + (f"; {shape_text(shape)}" if shape else "")


def through(result: "xarray.Dataset") -> str:
    """The features of a lifted study; of one ridge, also what the noise drawn may do."""
    text = "{lift} ({lifted} features)".format(**result.attrs)
    if "ridge" not in result.attrs:
        return text
    error = float(result.error.max())
    return f"{text}, ridge {result.attrs['ridge']:g}, Monte Carlo error up to {error:.0e}"


def facts(result: "xarray.Dataset") -> dict[str, Any]:
    """What every JSON result says of the data."""
    return {
        **{name: result.attrs[name] for name in FACTS},
        "example_shape": example_shape(result),
    }


def example_shape(result: "xarray.Dataset") -> list[int]:
    """(H, W, C) or (D,); nothing for moments. NetCDF keeps a list of one number as a number."""
    import numpy as np

    return np.atleast_1d(result.attrs["example_shape"]).tolist()


def too_few(latent_dims: Iterable[int], chance: Iterable[float]) -> str | None:
    """A line where permuted labels explain so much that what labels explain tells nothing."""
    for latent_dim, share in zip(latent_dims, chance, strict=True):
        if share >= TELLS_NOTHING:
            return (
                f"from K = {latent_dim} on chance is {share:.2f} and more: so few examples, or so"
                " uneven weights, tell nothing there"
            )
    return None


def some_dims(features: int, rank: int) -> list[int]:
    """1, 2, 4, ... and the rank."""
    powers = [2**i for i in range(features.bit_length()) if 2**i < rank]
    return [*powers, rank]


def like_chance(result: "xarray.Dataset", r2: str) -> str | None:
    """A line where labels cannot be told from permuted ones at any K; r2 is what it is called.

    It stands in for a verdict: alignment with labels that the inputs do not tell means nothing.
    """
    from reconjax.studies.advice import told_from_chance

    if told_from_chance(result, r2):
        return None
    return (
        "These labels cannot be told from permuted ones at any K shown: whether reconstruction is\n"
        "aligned with them has no answer. More samples may tell, or the inputs do not."
    )


def several_processes() -> str | None:
    """A line where there can be no standard errors and nothing held out."""
    import jax

    if jax.process_count() == 1:
        return None
    return "several processes: no standard errors, nothing held out and no p"


def say_files(folder: Path | None, *names: str) -> None:
    """Says what was written."""
    if folder is not None:
        print("wrote " + ", ".join(str(folder / name) for name in names))
