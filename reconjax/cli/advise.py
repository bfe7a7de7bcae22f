"""`reconjax advise`."""

import dataclasses
import json
import shlex
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

import reconjax
from reconjax.cli import finalists
from reconjax.cli.options import GRID, DataOptions, LatentDims, Name, Output, ReadOptions
from reconjax.cli.options import command as new_command
from reconjax.cli.tables import (
    example_shape,
    facts,
    headline,
    like_chance,
    print_table,
    say_files,
    too_few,
)
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
# Up to this share of what all directions explain, reconstruction is called misaligned.
ALIGNED = 0.9
EVIDENCE = """\
Exact for linear encoders and heads. Trained networks follow it in part: over the
masks of a set, the rank correlation of their probes with the closed form was +0.43
to +0.86 for vision transformers, +0.30 to +0.75 for MLPs (experiments/results/advisor)."""


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
        Of masks, sizes like 4 or 4x2, height x width (1 2 4).
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
    commands = [
        " ".join([line, *_read_alike(reading)])
        for line in _commands(data, result, ranked[dims[-1]])
    ]
    record = {
        **facts(result),
        "r2_all": result.attrs["r2_all"],
        "held_out_samples": result.attrs["held_out_samples"],
        "recipes": [recipe._asdict() for rows in ranked.values() for recipe in rows],
        "commands": commands,
    }
    if output.out is not None:
        from reconjax.plots import objectives_figure, save

        save(objectives_figure(result), output.out / "advise.png")
        write_json(record, output.out / "advise.json")
    if not output.json:
        _print(result, ranked, commands)
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
    more = [] if budget is None else ["finalists.png", "finalists/finalists.nc"]
    say_files(output.out, "advise.png", "advise.nc", "advise.json", *more)


def _print(
    result: "xarray.Dataset", ranked: "dict[int, list[Recipe]]", commands: list[str]
) -> None:
    print(headline(result))
    dims = list(ranked)
    for latent_dim, rows in ranked.items():
        head = f"K = {latent_dim}"
        print()
        heads = [head, "noise", "held-out", "gain", "±", "p"]
        print_table(heads, map(_cells, rows), left=(head, "noise"))
    print()
    no_answer = like_chance(result, "r2_without")
    for line in _verdict(result, ranked[dims[-1]]) if no_answer is None else [no_answer]:
        print(line)
    if (why := too_few(dims, result.chance.values)) is not None:
        print(why)
    print("Never matters: Gaussian noise of any strength, and whitening without noise.")
    if no_answer is not None:
        return
    if ranked[dims[-1]][0].certain:
        print(EVIDENCE)
    for line in commands:
        print(f"  {line}")


def _cells(recipe: "Recipe") -> list[str]:
    """A row of the table."""
    cells = [_what(recipe), recipe.noise or "no noise", f"{recipe.held_out:.4f}"]
    if not recipe.noise:  # what the others gain over
        return [*cells, "", "", ""]
    numbers = f"{recipe.gain:+.4f}", f"{recipe.standard_error:.4f}", f"{recipe.p_value:.4f}"
    return [*cells, *numbers]


def _verdict(result: "xarray.Dataset", rows: "list[Recipe]") -> list[str]:
    """Is reconstruction aligned, and what gains most."""
    best, plain = rows[0], rows[-1]
    explained, everything = plain.r2, result.attrs["r2_all"]
    share = explained / everything if everything > 0 else 0.0
    by_chance = min(result.attrs["rank"] / max(result.attrs["samples"] - 1, 1), 1.0)
    aligned = share >= ALIGNED
    lines = [
        f"Reconstruction is {'' if aligned else 'mis'}aligned at K = {plain.latent_dim}"
        f" ({'from' if aligned else 'below'} {ALIGNED:.0%}): its directions explain"
        f" {explained:.3f},",
        f"all {result.attrs['rank']} together {everything:.3f} of the labels ({share:.0%});"
        f" permuted labels have {by_chance:.3f} there.",
    ]
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
            f"Nothing gains what {count} held-out samples can tell from none: PCA is as good."
        )
    return lines


def _what(recipe: "Recipe") -> str:
    """Objective and target in words."""
    if recipe.objective == "joint-embedding":
        return "joint embedding"
    return f"reconstruct {recipe.target}"


def _commands(data: str, result: "xarray.Dataset", rows: "list[Recipe]") -> list[str]:
    """What trains the first reconstruction that a network here can take."""
    name = shlex.quote(data)
    reconstruction = [recipe for recipe in rows if recipe.objective == "reconstruction"]
    best = reconstruction[0]
    if not best.certain:
        best = rows[-1]  # PCA is as good
    if not best.noise:
        return [f"reconjax train {name} --latent-dim {best.latent_dim} --out run"]
    commands: list[str] = []
    masks = _masks_of_tokens(result, best.latent_dim)
    if masks is not None:
        commands.append(
            f"reconjax train {name} --net vit --noise {masks[0]} --target {masks[1]} --out vit"
        )
    mlp = next((r for r in reconstruction if r.noise and r.target == "pixels"), None)
    if mlp is not None:
        commands.append(
            f"reconjax train {name} --noise {mlp.noise} --latent-dim {mlp.latent_dim} --out mlp"
        )
    return commands


def _read_alike(reading: DataOptions) -> list[str]:
    """The options by which `train` reads the same examples."""
    words: list[str] = []
    for field in dataclasses.fields(ReadOptions):
        value, option = getattr(reading, field.name), field.name.replace("_", "-")
        if value == field.default:
            continue
        if isinstance(value, bool):
            words.append(f"--{option}" if value else f"--no-{option}")
        else:
            words += [f"--{option}", shlex.quote(str(value))]
    return words


def _masks_of_tokens(result: "xarray.Dataset", latent_dim: int) -> tuple[str, str] | None:
    """The mask of whole patches of a ViT, and the target, that explain most; or None."""
    from reconjax.nets import usual_patch
    from reconjax.studies.objective_choice import TARGET

    shape = example_shape(result)
    if len(shape) != 3:
        return None
    height, width = usual_patch(tuple(shape))
    found = None
    at = result.sel(latent_dim=latent_dim)
    for index in range(at.sizes["point"]):
        point = at.isel(point=index)
        noise, _, target = str(point.noise.item()).partition(" ")
        _, ratio, patch, *_ = noise.split(":")
        sides = [int(side) for side in patch.split("x")]
        fits = not (sides[0] % height or sides[1] % width) and float(ratio) > 0
        r2 = float(point.r2)
        if point.family.item() == TARGET and fits and (found is None or r2 > found[0]):
            found = r2, f"exact:{ratio}:{patch}", target or "pixels"
    return None if found is None else found[1:]
