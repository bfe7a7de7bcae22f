"""`reconjax align`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

import reconjax
from reconjax.cli.options import (
    STATISTICS,
    DataOptions,
    Hosts,
    Name,
    Output,
    Whole,
    first_process,
)
from reconjax.cli.options import command as new_command
from reconjax.cli.tables import (
    VISIBLE,
    facts,
    headline,
    like_chance,
    print_table,
    say_files,
    several_processes,
    some_dims,
    too_few,
)
from reconjax.cli.tasks import print_tasks
from reconjax.storage.files import write_json

if TYPE_CHECKING:
    import xarray

# Targets that are named, of the best and of the worst.
SHOWN = 2
# Arrays that --json prints, where they are there.
CURVES = (
    "latent_dim",
    "alignment",
    "r2",
    "chance",
    "r2_chance",
    "supervised_loss",
    "reconstruction_loss",
    "eigenvalues",
    "alignment_standard_error",
    "alignment_corrected",
    "r2_standard_error",
    "r2_corrected",
    "held_out",
    "alignment_by_task",
    "r2_by_task",
    "held_out_by_task",
)
COLUMNS = (
    ("alignment", "alignment"),
    ("±", "alignment_standard_error"),
    ("chance", "chance"),
    ("r2", "r2"),
    ("±", "r2_standard_error"),
    ("chance", "r2_chance"),
    ("held-out", "held_out"),
)

command = new_command(
    "align",
    """
reconjax align
reconjax align cifar10 --data-dir ~/tfds --out out
reconjax align scenes:background=0 --json > flat.json
reconjax align mine.npz --class-weight balanced
reconjax align photos --resize 32 --test-share 0.2
""",
)


@command.default
def align(
    data: Name = "digits",
    /,
    *,
    convention: Annotated[
        Literal["eq7", "loss", "sec58", "reference"], Parameter(group=STATISTICS)
    ] = "eq7",
    bootstrap: Annotated[Whole | None, Parameter(group=STATISTICS)] = None,
    reading: DataOptions = DataOptions(),  # noqa: B008 - frozen
    output: Output = Output(),  # noqa: B008
    hosts: Hosts = Hosts(),  # noqa: B008
) -> None:
    """Print alignment, r2 and chance for some K: is reconstruction aligned with this task?

    Parameters
    ----------
    convention
        Eq. 7, its loss form, the normalizer of Sec. 5.8, or that of the authors' plots.
    bootstrap
        Folds for standard errors: 7, 11, 19, ...; 0: none (19 up to 1024 features).
    """
    output.prepare()
    result = reconjax.studies.align(
        data, convention=convention, bootstrap=bootstrap, out=output.out, **reading.keywords()
    )
    if not first_process():
        return
    record = {
        **facts(result),
        **{name: result.attrs[name] for name in ("convention", "precision", "error", "folds")},
        **{name: result[name].values.tolist() for name in CURVES if name in result},
    }
    record["tasks"] = result.task.values.tolist() if "task" in result.dims else []
    if "r2_by_target" in result:
        curves = zip(result.target.values.tolist(), result.r2_by_target.values, strict=True)
        record["r2_by_target"] = {name: curve.tolist() for name, curve in curves}
    files = ["align.png", "align.nc", "align.json"]
    if output.out is not None:
        files = [*_draw(result, output.out), *files]
        write_json(record, output.out / "align.json")
    if output.json:
        print(json.dumps(record))
        return
    _print(result)
    say_files(output.out, *files)


def _draw(result: "xarray.Dataset", folder: Path) -> list[str]:
    """Draws the curves, those of each target too; the names of further pictures."""
    from reconjax.evidence.bootstrap import interval_reach
    from reconjax.plots import alignment_figure, save, targets_figure, tasks_figure

    name = result.attrs["data"]
    bands = {}
    if result.attrs["folds"]:
        reach = interval_reach(result.attrs["folds"])
        for curve in ("alignment", "r2"):
            center, error = result[f"{curve}_corrected"], result[f"{curve}_standard_error"]
            bands[curve] = (center - reach * error, center + reach * error)
    held_out = {name: result.held_out.values} if "held_out" in result else {}
    save(
        alignment_figure({name: result}, bands={name: bands}, held_out=held_out),
        folder / "align.png",
    )
    files = []
    if "task" in result.dims:
        save(tasks_figure(result), folder / "align_tasks.png")
        files.append("align_tasks.png")
    if "r2_by_target" in result:
        save(targets_figure(result), folder / "targets.png")
        files.append("targets.png")
    return files


def _print(result: "xarray.Dataset") -> None:
    facts = result.attrs
    print(headline(result))
    rank, error = facts["rank"], result.error.values
    print(f"{facts['precision']}: errors of r2 about {error[:rank].max():.0e}")
    if (more := error[-1] - error[rank - 1]) >= VISIBLE:
        print(f"past K = {rank} rounding may hide directions: r2 may be up to {more:.1g} more")
    columns = [(head, result[name].values) for head, name in COLUMNS if name in result]
    dims = some_dims(facts["features"], facts["rank"])
    position = {int(k): i for i, k in enumerate(result.latent_dim.values)}
    rows = [[str(k), *(f"{curve[position[k]]:.4f}" for _, curve in columns)] for k in dims]
    print_table(["K", *(head for head, _ in columns)], rows)
    print(
        f"r2: share of the label variance that a linear head explains on the {facts['rank']}"
        " principal directions\nchance: the same for permuted labels"
    )
    if (why := too_few(dims, [result.r2_chance.values[position[k]] for k in dims])) is not None:
        print(why)
    if (why := like_chance(result, "r2")) is not None:
        print(why)
    print_tasks(result, dims[len(dims) // 2])
    for line in _by_target(result, dims[len(dims) // 2]):
        print(line)
    if facts["folds"]:
        print(f"±: standard error, by halves of {facts['folds']} folds of the samples")
    if "held_out" in result:
        print(f"held-out: r2 on the {facts['test_samples']} samples of the test split")
    if (why := several_processes()) is not None:
        print(why)


def _by_target(result: "xarray.Dataset", latent_dim: int) -> list[str]:
    """Which targets are read best and worst at some K, against all directions."""
    if "r2_by_target" not in result:
        return []
    at = result.r2_by_target.sel(latent_dim=latent_dim)
    all_of_them = result.r2_by_target.isel(latent_dim=-1)
    order = at.argsort().values[::-1]
    few = order if len(order) <= 2 * SHOWN else [*order[:SHOWN], *order[-SHOWN:]]
    shown = [
        f"{at.target.values[i]} {float(at[i]):.3f} of {float(all_of_them[i]):.3f}" for i in few
    ]
    if len(few) < len(order):
        shown.insert(SHOWN, "...")
    what = "class" if result.attrs["classes"] else "target"
    return [
        f"r2 by {what} at K = {latent_dim}, of that on all directions:",
        "  " + ", ".join(shown),
    ]
