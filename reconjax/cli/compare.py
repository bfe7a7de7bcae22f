"""`reconjax compare`."""

import json
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

import reconjax
from reconjax.cli.options import (
    GRID,
    STATISTICS,
    DataOptions,
    LatentDims,
    Name,
    Output,
    Whole,
)
from reconjax.cli.options import command as new_command
from reconjax.cli.tables import facts, headline, print_table, say_files, through, too_few
from reconjax.cli.tasks import best_choices, print_best_choices
from reconjax.storage.files import write_json

if TYPE_CHECKING:
    import xarray

    from reconjax.evidence.places import Place

command = new_command(
    "compare",
    """
reconjax compare digits
reconjax compare cifar10 --latent-dims 64 --objective joint-embedding --out out
reconjax compare mine.npz --families mask pixel flip+mask:0.75:4x4 --json
""",
)
HEADS = ("r2", "held-out", "gain", "±", "p")


@command.default
def compare(
    data: Name = "digits",
    /,
    *,
    families: Annotated[list[str] | None, Parameter(group=GRID)] = None,
    latent_dims: Annotated[LatentDims, Parameter(group=GRID)] = None,
    max_latent_dim: Annotated[Whole | None, Parameter(group=GRID)] = None,
    target: Annotated[str, Parameter(group=GRID)] = "pixels",
    objective: Annotated[
        Literal["reconstruction", "joint-embedding"], Parameter(group=GRID)
    ] = "reconstruction",
    features: Annotated[str | None, Parameter(group=GRID)] = None,
    ridge: Annotated[float | None, Parameter(group=GRID)] = None,
    draws: Annotated[Whole | None, Parameter(group=GRID)] = None,
    tolerance: Annotated[float, Parameter(group=STATISTICS)] = 3e-4,
    reading: DataOptions = DataOptions(),  # noqa: B008 - frozen
    output: Output = Output(),  # noqa: B008
) -> None:
    """Rank families of noises, each at its best strength, on samples that chose nothing.

    Parameters
    ----------
    families
        Names like mask, gaussian, blur, or texts like mask:0.5:2x2+gaussian:0.1 (all that
        apply).
    max_latent_dim
        Instead of those: 4, 16, 64, ... up to this (64).
    target
        whitened:S, patch-centered:HxW, highpass:STD.
    objective
        What is learned.
    features
        Such as relu:2048; see docs/howto/lift.md.
    ridge
        With features, relative weight decay (0.1).
    draws
        With features, noisy copies at most (1).
    tolerance
        Error of r2 accepted for speed where K is far below D; 0: none.
    """
    output.prepare()
    result = reconjax.studies.compare(
        data,
        families=families,
        latent_dims=latent_dims,
        max_latent_dim=max_latent_dim,
        target=target,
        objective=objective,
        features=features,
        ridge=ridge,
        draws=draws,
        tolerance=tolerance,
        out=output.out,
        **reading.keywords(),
    )
    places = reconjax.studies.ranking(result)
    record = {
        **facts(result),
        **{
            name: result.attrs[name]
            for name in ("held_out_samples", "held_out_split", "folds", "noises")
        },
        "error": float(result["error"].max()),
        "without": without_noise(result),
        "ranking": [place._asdict() for place in places],
    }
    last = int(result.latent_dim[-1])
    of_tasks = best_choices(result, last, lambda own: _at(reconjax.studies.ranking(own), last))
    if of_tasks:
        record["best_by_task"] = of_tasks
    if output.out is not None:
        from reconjax.plots import comparison_figure, save, task_choices_figure

        title = (
            f"{record['data']}: families of noise against none, on"
            f" {record['held_out_samples']} held-out samples"
        )
        figure = comparison_figure(places, record["folds"], title=title)
        save(figure, output.out / "compare.png")
        if of_tasks:
            save(task_choices_figure(result, last), output.out / "compare_tasks.png")
        write_json(record, output.out / "compare.json")
    if output.json:
        print(json.dumps(record))
        return
    _print(result, places)
    print_best_choices(of_tasks, last)
    tasks = ["compare_tasks.png"] if of_tasks else []
    say_files(output.out, "compare.png", *tasks, "compare.nc", "compare.json")


def _at(places: "list[Place]", latent_dim: int) -> "list[Place]":
    """Those at one K."""
    return [place for place in places if place.latent_dim == latent_dim]


def without_noise(result: "xarray.Dataset") -> list[dict[str, Any]]:
    """What no noise gives, and chance, at every K."""
    columns = (result.latent_dim, result.r2_without, result.held_out_without, result.chance)
    names = ("latent_dim", "r2", "held_out", "chance")
    rows = zip(*(column.values.tolist() for column in columns), strict=True)
    return [dict(zip(names, row, strict=True)) for row in rows]


def _print(result: "xarray.Dataset", places: "list[Place]") -> None:
    print(headline(result))
    learned = result.attrs.get("objective") or result.attrs.get("target")
    if "lift" in result.attrs:
        print(", ".join(filter(None, [through(result), learned])))
    elif learned:
        print(f"{learned}; no noise is PCA")
    if result.attrs["side"] == "samples":
        print("by samples: no matrix is larger than {samples} x {samples}".format(**result.attrs))
    for clean in without_noise(result):
        latent_dim = clean["latent_dim"]
        rows = [(place.gain, _row(place)) for place in places if place.latent_dim == latent_dim]
        bare = ["no noise", f"{clean['r2']:.4f}", f"{clean['held_out']:.4f}", "", "", "", ""]
        rows.append((0.0, bare))
        # Of equal gains, families come first.
        table = [row for _, row in sorted(rows, key=lambda pair: -pair[0])]
        table.append(["chance", f"{clean['chance']:.4f}", "", "", "", "", ""])
        print()
        print_table([f"K = {latent_dim}", *HEADS, "at"], table, left=(f"K = {latent_dim}", "at"))
    attributes = result.attrs
    print()
    if (why := too_few(result.latent_dim.values.tolist(), result.chance.values)) is not None:
        print(why)
    print(
        "r2: share of the label variance that a linear head explains on the training split\n"
        f"held-out: on {attributes['held_out_split']} ({attributes['held_out_samples']} samples)\n"
        "gain: of the held-out r2 over that without noise; ±: its standard error over"
        f" {attributes['folds']} folds\n"
        f"p: of a gain, given that all {attributes['noises']} noises were tried"
    )


def _row(place: "Place") -> list[str]:
    gain = round(place.gain, 4) + 0.0  # without the sign of a zero
    numbers = f"{place.r2:.4f}", f"{place.held_out:.4f}", f"{gain:+.4f}"
    error = f"{place.standard_error:.4f}", f"{place.p_value:.4f}"
    return [place.family, *numbers, *error, place.noise]
