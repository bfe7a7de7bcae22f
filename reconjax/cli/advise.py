"""`reconjax advise`."""

import json
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

import reconjax
from reconjax.cli import finalists
from reconjax.cli.options import GRID, DataOptions, LatentDims, Name, Output
from reconjax.cli.options import command as new_command
from reconjax.cli.tables import (
    facts,
    headline,
    like_chance,
    print_table,
    say_files,
    too_few,
)
from reconjax.cli.tasks import best_choices, objective_words, print_best_choices
from reconjax.storage.files import write_json

if TYPE_CHECKING:
    import xarray

    from reconjax.studies import Recipe

command = new_command(
    "advise",
    """
reconjax advise digits
reconjax advise cifar10 --latent-dims 96 --out out
reconjax advise cifar10 --train 1h --out out
reconjax advise photos/ --resize 64 --patches 8 16 --ratios 0 0.5 0.75
""",
)


@command.default
def advise(
    data: Name = "digits",
    /,
    *,
    patches: Annotated[list[str] | None, Parameter(group=GRID)] = None,
    ratios: Annotated[list[float] | None, Parameter(group=GRID)] = None,
    target: Annotated[list[str] | None, Parameter(group=GRID)] = None,
    latent_dims: Annotated[LatentDims, Parameter(group=GRID)] = None,
    precision: Annotated[Literal["float64", "mixed", "float32"], Parameter(group=GRID)] = "mixed",
    side: Annotated[Literal["auto", "features", "samples"], Parameter(group=GRID)] = "auto",
    train: str | None = None,
    reading: DataOptions = DataOptions(),  # noqa: B008 - frozen
    output: Output = Output(),  # noqa: B008
) -> None:
    """What to train: objective, target and mask, ranked, with what each gains and how sure that is.

    Parameters
    ----------
    patches
        Of masks: 4, or height x width 4x2 (by image size).
    ratios
        Shares dropped, in [0, 1) (0 0.25 0.5 0.75 0.9).
    target
        Tried beside pixels: whitened:S, patch-centered:HxW, highpass:STD (whitened:0.5
        whitened:0.75).
    latent_dims
        K that your head reads, or the encoder's width; the last one decides (16 64).
    precision
        mixed: float32 on the grid.
    side
        D x D or N x N matrices.
    train
        Then train masked autoencoders for so long, like 90s, 20m or 1h; with --out it goes on.
    """
    from reconjax.report.commands import training_commands
    from reconjax.studies.advice import RATIOS
    from reconjax.studies.objective_choice import TARGETS

    budget = None
    if train is not None:
        from reconjax.training.finalists import check_reading

        budget = finalists.seconds(train)
        check_reading(reading.keywords())
    output.prepare()
    result = reconjax.studies.advise(
        data,
        patches=patches,
        ratios=RATIOS if ratios is None else ratios,
        target=TARGETS if target is None else target,
        latent_dims=latent_dims,
        precision=precision,
        side=side,
        out=output.out,
        **reading.keywords(),
    )
    dims = result.latent_dim.values.tolist()
    ranked = {latent_dim: reconjax.studies.recipes(result, latent_dim) for latent_dim in dims}
    commands = training_commands(data, result, ranked[dims[-1]], reading.keywords())
    record = {
        **facts(result),
        "r2_all": result.attrs["r2_all"],
        "held_out_samples": result.attrs["held_out_samples"],
        "recipes": [recipe._asdict() for rows in ranked.values() for recipe in rows],
        "commands": commands,
    }
    of_tasks = best_choices(result, dims[-1], lambda own: reconjax.studies.recipes(own, dims[-1]))
    if of_tasks:
        record["best_by_task"] = of_tasks
    if output.out is not None:
        from reconjax.plots import objectives_figure, save, task_choices_figure

        save(objectives_figure(result), output.out / "advise.png")
        if of_tasks:
            save(task_choices_figure(result, dims[-1]), output.out / "advise_tasks.png")
        write_json(record, output.out / "advise.json")
    if not output.json:
        _print(result, ranked, of_tasks, commands)
    if budget is not None:
        folder = None if output.out is None else output.out / "finalists"
        trained = reconjax.training.train_finalists(data, budget, out=folder, **reading.keywords())
        record["finalists"] = finalists.record(trained)
        if output.out is not None:
            from reconjax.plots import finalists_figure, save

            save(finalists_figure(trained), output.out / "finalists.png")
            write_json(record, output.out / "advise.json")
        if not output.json:
            finalists.show(trained)
    if output.json:
        print(json.dumps(record))
        return
    more = ["advise_tasks.png"] if of_tasks else []
    more += [] if budget is None else ["finalists.png", "finalists/finalists.nc"]
    say_files(output.out, "advise.png", "advise.nc", "advise.json", *more)


def _print(
    result: "xarray.Dataset",
    ranked: "dict[int, list[Recipe]]",
    of_tasks: list[dict[str, Any]],
    commands: list[str],
) -> None:
    print(headline(result))
    dims = list(ranked)
    for latent_dim, rows in ranked.items():
        head = f"K = {latent_dim}"
        print()
        heads = [head, "noise", "held-out", "gain", "±", "p"]
        print_table(heads, map(_cells, rows), left=(head, "noise"))
    if of_tasks:
        print()
        print_best_choices(of_tasks, dims[-1])
    about = result.attrs
    print(
        "held-out: the share of the label variance that a linear head explains on"
        f" {about['held_out_samples']} samples\n"
        "on which nothing was chosen; gain: its change by noise, target or objective; ±: the\n"
        "standard error of the gain; p: of a gain, given that all"
        f" {about['noises']} were tried\n"
    )
    no_answer = like_chance(result, "r2_without")
    for line in _verdict(result, ranked) if no_answer is None else [no_answer]:
        print(line)
    if (why := too_few(dims, result.chance.values)) is not None:
        print(why)
    print("Never matters: Gaussian noise of any strength, and whitening without noise.")
    if no_answer is not None:
        return
    if ranked[dims[-1]][0].certain:
        from reconjax.studies.advice import EVIDENCE

        print(EVIDENCE)
        print("The networks of reconjax that come closest to it:")
    else:
        print("An autoencoder without a mask:")
    for line in commands:
        print(f"  {line}")


def _cells(recipe: "Recipe") -> list[str]:
    """A row of the table."""
    cells = [_what(recipe), recipe.noise or "no noise", f"{recipe.held_out:.4f}"]
    if not recipe.noise:  # what the others gain over
        return [*cells, "", "", ""]
    numbers = f"{recipe.gain:+.4f}", f"{recipe.standard_error:.4f}", f"{recipe.p_value:.4f}"
    return [*cells, *numbers]


def _verdict(result: "xarray.Dataset", ranked: "dict[int, list[Recipe]]") -> list[str]:
    """Is reconstruction aligned, and what gains most, at the last K."""
    rows = list(ranked.values())[-1]
    best, plain = rows[0], rows[-1]
    overfits = result.attrs["samples"] <= result.attrs["features"]
    lines = _on_new_samples(result, ranked) if overfits else _aligned(result, plain)
    for recipe in rows:
        if recipe.held_out < min(plain.held_out, 0.0):
            lines.append(
                f"{_what(recipe).capitalize()} under {recipe.noise} fails on new samples (r2"
                f" {recipe.held_out:.2f}): it divides by the\nvariance of what hardly varies here;"
                " more samples or --resize may help."
            )
    if best.certain:
        lines.append(f"First choice: {_what(best)} under {best.noise}.")
        if best.objective == "joint-embedding":
            lines.append("Joint embedding is the same at every ratio of one mask.")
    else:
        count = result.attrs["held_out_samples"]
        lines.append(
            f"Nothing surely gains more than chance on {count} held-out samples: PCA is as good."
        )
    return lines


def _aligned(result: "xarray.Dataset", plain: "Recipe") -> list[str]:
    from reconjax.studies.advice import ALIGNED

    explained, everything = plain.r2, result.attrs["r2_all"]
    share = explained / everything if everything > 0 else 0.0
    by_chance = min(result.attrs["rank"] / max(result.attrs["samples"] - 1, 1), 1.0)
    aligned = share >= ALIGNED
    return [
        f"Reconstruction is {'' if aligned else 'mis'}aligned at K = {plain.latent_dim}"
        f" ({'from' if aligned else 'below'} {ALIGNED:.0%}): its directions explain"
        f" {explained:.3f},",
        f"all {result.attrs['rank']} together {everything:.3f} of the labels ({share:.0%});"
        f" permuted labels have {by_chance:.3f} there.",
    ]


def _on_new_samples(result: "xarray.Dataset", ranked: "dict[int, list[Recipe]]") -> list[str]:
    """What there is to say where the training samples let any labels be explained."""
    held_out = [f"{rows[-1].held_out:.3f} at K = {k}" for k, rows in ranked.items()]
    return [
        f"{result.attrs['samples']} samples of {result.attrs['features']} features: on so few any"
        " labels can be explained, so whether",
        "reconstruction is misaligned cannot be told. More samples, or a smaller --resize, may.",
        f"On new samples, without noise, it explains {', '.join(held_out)}.",
    ]


def _what(recipe: "Recipe") -> str:
    """Objective and target in words."""
    return objective_words(recipe.objective, recipe.target)
