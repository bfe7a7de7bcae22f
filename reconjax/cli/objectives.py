"""`reconjax objectives`."""

import json
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

import reconjax
from reconjax.cli.compare import without_noise
from reconjax.cli.options import GRID, DataOptions, LatentDims, Name, Output, Whole
from reconjax.cli.options import command as new_command
from reconjax.cli.tables import (
    facts,
    headline,
    like_chance,
    print_table,
    say_files,
    through,
    too_few,
)
from reconjax.cli.tasks import best_choices, print_best_choices
from reconjax.storage.files import write_json

if TYPE_CHECKING:
    import xarray

    from reconjax.evidence.places import Place

command = new_command(
    "objectives",
    """
reconjax objectives digits --patches 1 2 --ratios 0 0.5 0.9
reconjax objectives cifar10 --latent-dims 16 64 --out out
reconjax objectives photos/ --resize 64 --target highpass:2 whitened:0.75
""",
)
HEADS = ("r2", "held-out", "gain", "±", "p")


@command.default
def objectives(
    data: Name = "digits",
    /,
    *,
    noise: Annotated[Literal["mask", "exact", "pixel", "gaussian"], Parameter(group=GRID)] = "mask",
    patches: Annotated[list[str] | None, Parameter(group=GRID)] = None,
    ratios: Annotated[list[float] | None, Parameter(group=GRID)] = None,
    stds: Annotated[list[float] | None, Parameter(group=GRID)] = None,
    target: Annotated[list[str] | None, Parameter(group=GRID)] = None,
    latent_dims: Annotated[LatentDims, Parameter(group=GRID)] = None,
    features: Annotated[str | None, Parameter(group=GRID)] = None,
    ridge: Annotated[float | None, Parameter(group=GRID)] = None,
    draws: Annotated[Whole | None, Parameter(group=GRID)] = None,
    precision: Annotated[Literal["float64", "mixed", "float32"], Parameter(group=GRID)] = "mixed",
    side: Annotated[Literal["auto", "features", "samples"], Parameter(group=GRID)] = "auto",
    reading: DataOptions = DataOptions(),  # noqa: B008 - frozen
    output: Output = Output(),  # noqa: B008
) -> None:
    """Reconstruct pixels, reconstruct something else, or embed jointly?

    Parameters
    ----------
    noise
        Masks (exact: MAE's) or added noise.
    patches
        Of masks: 4, or height x width 4x2 (by image size).
    ratios
        Shares dropped, in [0, 1) (0 0.25 0.5 0.75 0.9 0.99).
    stds
        Of Gaussian noise, images in [0, 1] (0 .1 .25 .5 1).
    target
        Tried beside pixels: whitened:S, patch-centered:HxW, highpass:STD (whitened:0.5
        whitened:0.75).
    features
        Such as relu:2048; see docs/howto/lift.md.
    ridge
        With features, relative weight decay (0.1).
    draws
        With features, noisy copies (2).
    precision
        mixed: float32 on the grid.
    side
        D x D or N x N matrices.
    """
    from reconjax.studies.objective_choice import TARGETS

    output.prepare()
    result = reconjax.studies.objectives(
        data,
        noise=noise,
        patches=patches,
        ratios=ratios,
        stds=stds,
        target=TARGETS if target is None else target,
        latent_dims=latent_dims,
        features=features,
        ridge=ridge,
        draws=draws,
        precision=precision,
        side=side,
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
    of_tasks = best_choices(result, last, lambda own: reconjax.studies.recipes(own, last))
    if of_tasks:
        record["best_by_task"] = of_tasks
    if output.out is not None:
        from reconjax.plots import objectives_figure, save, task_choices_figure

        save(objectives_figure(result), output.out / "objectives.png")
        if of_tasks:
            save(task_choices_figure(result, last), output.out / "objectives_tasks.png")
        write_json(record, output.out / "objectives.json")
    if output.json:
        print(json.dumps(record))
        return
    _print(result, places)
    print_best_choices(of_tasks, last)
    tasks = ["objectives_tasks.png"] if of_tasks else []
    say_files(output.out, "objectives.png", *tasks, "objectives.nc", "objectives.json")


def _print(result: "xarray.Dataset", places: "list[Place]") -> None:
    print(headline(result))
    if "lift" in result.attrs:
        print(through(result))
    order = {name: i for i, name in enumerate(dict.fromkeys(result.family.values.tolist()))}
    for bare in without_noise(result):
        latent_dim = bare["latent_dim"]
        here = [place for place in places if place.latent_dim == latent_dim]
        first = ["no noise", f"{bare['r2']:.4f}", f"{bare['held_out']:.4f}", "", "", "", ""]
        rows = [first]
        for place in sorted(here, key=lambda place: order[place.family]):
            name = place.family.removeprefix("reconstruction, ").removesuffix(", best noise")
            gain = round(place.gain, 4) + 0.0  # without the sign of a zero
            numbers = f"{place.r2:.4f}", f"{place.held_out:.4f}", f"{gain:+.4f}"
            error = f"{place.standard_error:.4f}", f"{place.p_value:.4f}"
            rows.append([name, *numbers, *error, _named(place.noise)])
        rows.append(["chance", f"{bare['chance']:.4f}", "", "", "", "", ""])
        print()
        print_table([f"K = {latent_dim}", *HEADS, "at"], rows, left=(f"K = {latent_dim}", "at"))
    about = result.attrs
    print()
    if (why := like_chance(result, "r2_without")) is not None:
        print(why)
    if (why := too_few(result.latent_dim.values.tolist(), result.chance.values)) is not None:
        print(why)
    print(
        "r2: share of the label variance that a linear head explains on the training split,\n"
        "where noise and target were chosen; the first rows reconstruct"
        f"{'' if 'lift' in about else ', and no noise is PCA'}\n"
        f"held-out: on {about['held_out_split']} ({about['held_out_samples']} samples)\n"
        "gain: of the held-out r2 over that without noise; ±: its standard error over"
        f" {about['folds']} folds\n"
        f"p: of a gain, given that all {about['noises']} points were tried"
    )


def _named(noise: str) -> str:
    """A noise and its target; one of no strength is none."""
    text, _, target = noise.partition(" ")
    if float(text.split(":")[1]) == 0:
        return f"no noise {target}".rstrip()
    return noise
