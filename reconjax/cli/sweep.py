"""`reconjax sweep`."""

import itertools
import json
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

import reconjax
from reconjax.cli.options import (
    GRID,
    DataOptions,
    Hosts,
    LatentDims,
    Name,
    Output,
    Whole,
    first_process,
)
from reconjax.cli.options import command as new_command
from reconjax.cli.tables import (
    VISIBLE,
    example_shape,
    facts,
    headline,
    print_table,
    say_files,
    several_processes,
    through,
    too_few,
)
from reconjax.cli.tasks import best_by_task, print_best_by_task

if TYPE_CHECKING:
    import xarray

# Values of the best noise that --json prints, where they are there.
BEST = (
    "r2",
    "r2_without",
    "gain",
    "error",
    "r2_standard_error",
    "gain_standard_error",
    "held_out",
    "p_value",
    "held_out_without",
)
COLUMNS = (
    ("no noise", "r2_without", "{:.4f}"),
    ("best", "r2", "{:.4f}"),
    ("±", "r2_standard_error", "{:.4f}"),
    ("gain", "gain", "{:+.4f}"),
    ("±", "gain_standard_error", "{:.4f}"),
    ("test", "held_out_without", "{:.4f}"),
    ("best", "held_out", "{:.4f}"),
    ("p", "p_value", "{:.4f}"),
)
# Gains below are rounding.
NO_GAIN = 1e-6

command = new_command(
    "sweep",
    """
reconjax sweep digits --patches 1 2 4 --ratios 0 0.5 0.9 --out out
""",
)


@command.default
def sweep(
    data: Name = "digits",
    /,
    *,
    noise: Annotated[Literal["mask", "exact", "pixel", "gaussian"], Parameter(group=GRID)] = "mask",
    patches: Annotated[list[str] | None, Parameter(group=GRID)] = None,
    ratios: Annotated[list[float] | None, Parameter(group=GRID)] = None,
    stds: Annotated[list[float] | None, Parameter(group=GRID)] = None,
    weights: Annotated[list[float] | None, Parameter(group=GRID)] = None,
    latent_dims: Annotated[LatentDims, Parameter(group=GRID)] = None,
    max_latent_dim: Annotated[Whole | None, Parameter(group=GRID)] = None,
    tolerance: Annotated[float, Parameter(group=GRID)] = 3e-4,
    readout: Annotated[Literal["clean", "noisy"], Parameter(group=GRID)] = "clean",
    target: Annotated[str, Parameter(group=GRID)] = "pixels",
    objective: Annotated[
        Literal["reconstruction", "joint-embedding"], Parameter(group=GRID)
    ] = "reconstruction",
    features: Annotated[str | None, Parameter(group=GRID)] = None,
    ridges: Annotated[list[float] | None, Parameter(group=GRID, alias="--ridge")] = None,
    draws: Annotated[Whole | None, Parameter(group=GRID)] = None,
    precision: Annotated[Literal["float64", "mixed", "float32"], Parameter(group=GRID)] = "mixed",
    partial: Annotated[bool, Parameter(group=GRID)] = False,
    devices: Annotated[Whole | None, Parameter(group=GRID)] = None,
    side: Annotated[Literal["auto", "features", "samples"], Parameter(group=GRID)] = "auto",
    batch_size: Annotated[Whole, Parameter(group=GRID)] = 1,
    bootstrap: Annotated[Whole | None, Parameter(group=GRID)] = None,
    reading: DataOptions = DataOptions(),  # noqa: B008 - frozen
    output: Output = Output(),  # noqa: B008
    hosts: Hosts = Hosts(),  # noqa: B008
) -> None:
    """Print the best noise for some K: how much does it move the representation to this task?

    Parameters
    ----------
    noise
        Masks (exact: MAE's) or added noise.
    patches
        Like 4, 4x2 or 1x*, a side an axis (by image size).
    ratios
        Shares dropped, in [0, 1) (0 0.25 0.5 0.75 0.9 0.99).
    stds
        Of Gaussian noise, images in [0, 1] (0 .1 .25 .5 1).
    weights
        λ of reconstruction, 0 .. inf (inf: no supervision).
    max_latent_dim
        All K up to this; quicker where it is far below D.
    tolerance
        Error of r2 accepted for that; 0: none.
    readout
        The inputs that the head is fitted on.
    target
        whitened:S, patch-centered:H, highpass:STD.
    objective
        Learned.
    features
        Such as relu:2048; see docs/howto/lift.md.
    ridges
        With features, relative weight decay (0.1).
    draws
        With features, noisy copies at most (1).
    precision
        mixed: float32 on the grid.
    partial
        Allow partial patches at the edges.
    devices
        The number that shares the grid (all).
    side
        D x D or N x N matrices.
    batch_size
        Grid points at a time; bounds memory.
    bootstrap
        Folds for standard errors; 0: none (19 up to D = 128).
    """
    from reconjax.studies.rays import CHEAP

    output.prepare()
    result = reconjax.studies.sweep(
        data,
        noise=noise,
        patches=patches,
        ratios=ratios,
        stds=stds,
        weights=[math.inf] if weights is None else weights,
        latent_dims=latent_dims,
        max_latent_dim=max_latent_dim,
        tolerance=tolerance,
        readout=readout,
        target=target,
        objective=objective,
        features=features,
        ridges=ridges,
        draws=draws,
        precision=precision,
        partial=partial,
        devices=devices,
        side=side,
        batch_size=batch_size,
        bootstrap=bootstrap,
        out=output.out,
        **reading.keywords(),
    )
    if not first_process():
        return
    rows = list(_rows(result))
    by = "held_out" if _overfits(result) else "r2"
    dims = list(dict.fromkeys(row["latent_dim"] for row in rows))
    middle = dims[len(dims) // 2]
    of_tasks = best_by_task(result, middle, by)
    pictures = ["sweep.png"]
    if output.out is not None:
        from reconjax.plots import mask_map_figure, save, sweep_figure, task_gains_figure

        drawn = _drawn(result)
        save(sweep_figure(drawn), output.out / "sweep.png")
        if {"patch", "ratio"} <= set(drawn.r2.dims):
            first = mask_map_figure(drawn, weight=float(drawn.weight[0]))
            save(first, output.out / "map.png")
            pictures.insert(0, "map.png")
        if of_tasks:
            save(task_gains_figure(result, middle), output.out / "sweep_tasks.png")
            pictures.append("sweep_tasks.png")
    if output.json:
        record = _record(result, rows)
        print(json.dumps({**record, "best_by_task": of_tasks} if of_tasks else record))
        return
    _print(result, rows)
    print_best_by_task(of_tasks, middle, by)
    if max_latent_dim and tolerance and features is None:
        reduced = result.reduced
        print(
            f"solved in a subspace: {int(reduced.sum())} of {reduced.size} rays; the others in full"
        )
    large = result.attrs["features"] > CHEAP and result.attrs["side"] == "features"
    if bootstrap is None and not result.attrs["folds"] and large and features is None:
        print(f"more than {CHEAP} features: standard errors only with --bootstrap")
    if (why := several_processes()) is not None:
        print(why)
    say_files(output.out, *pictures, "sweep.nc", "sweep.npz")


def _rows(result: "xarray.Dataset") -> Iterator[dict[str, Any]]:
    """For each weight and some K, the best noise as --json prints it."""
    best = reconjax.studies.best(result, by="held_out" if _overfits(result) else "r2")
    strength, key = _strength(result)
    ridges = best.ridge.values.tolist() if "ridge" in best.dims else [None]
    for ridge, weight in itertools.product(ridges, best.weight.values.tolist()):
        for latent_dim in best.latent_dim.values.tolist():
            at = best.sel(weight=weight, latent_dim=latent_dim)
            at = at if ridge is None else at.sel(ridge=ridge)
            where: dict[str, Any] = {} if ridge is None else {"ridge": ridge}
            where[key] = at[strength].item()
            text = f"{strength} {at[strength].item():g}"
            if "patch" in result.dims:
                where["patch_shape"] = [int(side) for side in at.patch.item().split("x")]
                text = f"patch {at.patch.item()}, {text}"
            values = {name: at[name].item() for name in BEST if name in at}
            if ridge is not None:
                values["error"] = at.monte_carlo_error.item()
            yield {
                "reconstruction_weight": _weight(weight),
                "latent_dim": latent_dim,
                **where,
                **values,
                "at": text if _gains(values, _overfits(result)) else "no noise is as good",
            }


def _drawn(result: "xarray.Dataset") -> "xarray.Dataset":
    """The part that the picture shows: of several ridges the one that reaches most."""
    if "ridge" not in result.dims:
        return result
    reached = result["held_out" if "held_out" in result else "r2"]
    others = [name for name in reached.dims if name != "ridge"]
    return result.isel(ridge=int(reached.max(others).argmax("ridge")))


def _overfits(result: "xarray.Dataset") -> bool:
    """Whether r2 on the training data tells little, and that on a test split is there."""
    size = max(result.attrs["features"], result.attrs.get("lifted", 0))
    return "held_out" in result and result.attrs["samples"] <= size


def _gains(row: dict[str, Any], held_out: bool) -> bool:
    """Whether the noise changes more than rounding does, of what it was chosen by."""
    gain = row["held_out"] - row["held_out_without"] if held_out else row["gain"]
    return bool(abs(gain) >= NO_GAIN)


def _record(result: "xarray.Dataset", rows: list[dict[str, Any]]) -> dict[str, Any]:
    strength, key = _strength(result)
    axes = {key: result[strength].values.tolist()}
    if "patch" in result.dims:
        axes["patch_shape"] = [[int(n) for n in text.split("x")] for text in result.patch.values]
    return {
        **facts(result),
        **{name: result.attrs[name] for name in ("noise", "readout", "precision", "error")},
        **({"lift": result.attrs["lift"]} if "lift" in result.attrs else {}),
        "reduced": result.reduced.values.reshape(-1).tolist() if "reduced" in result else [],
        "folds": result.attrs["folds"],
        **axes,
        "reconstruction_weight": [_weight(weight) for weight in result.weight.values.tolist()],
        "best": rows,
    }


def _cut(result: "xarray.Dataset") -> str:
    """The patch shapes that do not divide the images."""
    shape = example_shape(result)
    sizes = [[int(side) for side in text.split("x")] for text in result.patch.values]
    from reconjax.noise.groups import cut_at_edges

    return ", ".join("x".join(map(str, size)) for size in sizes if cut_at_edges(size, shape[:-1]))


def _strength(result: "xarray.Dataset") -> tuple[str, str]:
    """The axis of strengths, and what it is called in JSON."""
    from reconjax.studies.axes import STRENGTHS

    return next((axis, key) for axis, key in STRENGTHS.items() if axis in result.dims)


def _weight(weight: float) -> float | str:
    """JSON has no infinity."""
    return str(weight) if math.isinf(weight) else weight


def _print(result: "xarray.Dataset", rows: list[dict[str, Any]]) -> None:
    about = result.attrs
    strength, key = _strength(result)
    masks = "patch" in result.dims
    print(headline(result))
    learned = about.get("objective") or about.get("target")
    lifted = through(result) if "lift" in about else None
    words = [f"{about['noise']} noise", lifted, learned, f"{about['readout']} read-out"]
    print(", ".join(filter(None, [*words, about["precision"]])))
    if about["side"] == "samples":
        print("by samples: no matrix is larger than {samples} x {samples}".format(**about))
    if masks and (cut := _cut(result)):
        print(f"patches of {cut} do not divide the images: those at the edges are partial")
    columns = [column for column in COLUMNS if column[1] in rows[0]]
    erring = any(row["error"] >= VISIBLE for row in rows)
    heads = ["K", *(head for head, _, _ in columns), *["error"] * erring]
    heads += [*["patch"] * masks, strength]
    several = len(result.weight) > 1
    groups = dict.fromkeys((row.get("ridge"), row["reconstruction_weight"]) for row in rows)
    for ridge, weight in groups:
        named = [] if ridge is None else [f"ridge {ridge:g}"]
        if named or several:
            print(", ".join([*named, *[f"λ = {weight}"] * several]))
        lines = []
        for row in rows:
            if (row.get("ridge"), row["reconstruction_weight"]) != (ridge, weight):
                continue
            line = [str(row["latent_dim"])]
            line += [form.format(row[name]) for _, name, form in columns]
            if erring:
                line.append(f"{row['error']:.0e}" if row["error"] >= VISIBLE else "")
            gains = _gains(row, _overfits(result))
            if masks:
                line.append("x".join(map(str, row["patch_shape"])) if gains else "any")
            lines.append([*line, f"{row[key]:g}" if gains else "0"])
        print_table(heads, lines)
    print("no noise, best: r2, the share of the label variance that a linear head")
    print("explains, on the training data; gain: its change")
    if _overfits(result):
        print("fewer samples than features: what counts is the test split, which chose the best")
    if erring:
        what = "that of the numbers, estimated"
        if "lift" in about:
            what = (
                f"Monte Carlo error of r2, at most {int(result.draws.max())} draws of every example"
            )
        print(f"error: {what}")
    if (why := too_few(result.latent_dim.values.tolist(), result.r2_chance.values)) is not None:
        print(why)
    if about["folds"]:
        print(f"±: standard error, by halves of {about['folds']} folds of the samples")
    if not about["test_folds"]:
        print("The best of a grid is chosen after the fact: small gains may be chance.")
        return
    points = " x ".join(str(result.sizes[name]) for name in ("patch", strength) if name in result)
    print(
        f"test: held-out r2, on the {about['test_samples']} samples of the test split, without and"
        f" with noise\np: of a gain on new data, for the best of {points}"
        f" ({about['test_folds']} folds of the test split)"
    )
