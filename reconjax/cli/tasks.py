"""What the commands print of several tasks."""

from typing import TYPE_CHECKING, Any

from reconjax.cli.tables import print_table

if TYPE_CHECKING:
    import xarray

# Values of a task that are printed and put into JSON, where they are there.
OF_ALIGN = (
    ("alignment", "alignment_by_task"),
    ("±", "alignment_by_task_standard_error"),
    ("r2", "r2_by_task"),
    ("±", "r2_by_task_standard_error"),
    ("held-out", "held_out_by_task"),
)


def print_tasks(result: "xarray.Dataset", latent_dim: int) -> None:
    """Each task of `align` at one K, the least aligned first, against what all directions tell."""
    if "task" not in result.dims:
        return
    at = result.sel(latent_dim=latent_dim)
    by = "alignment_by_task" if "alignment_by_task" in result else "r2_by_task"
    columns = [(head, name) for head, name in OF_ALIGN if name in result]
    whole = result.r2_by_task.isel(latent_dim=-1)
    rows = [
        [
            str(at.task.values[i]),
            *(f"{float(at[name][i]):.4f}" for _, name in columns),
            f"{float(whole[i]):.4f}",
        ]
        for i in at[by].argsort().values
    ]
    print(f"each task at K = {latent_dim}, the least aligned first:")
    heads = ["task", *(head for head, _ in columns), "r2 of all"]
    print_table(heads, rows, left=["task"])


def best_by_task(result: "xarray.Dataset", latent_dim: int, by: str) -> list[dict[str, Any]]:
    """The best noise of a sweep for each task at one K and the largest λ."""
    import reconjax

    rows = []
    for task in result.task.values.tolist() if "task" in result.coords else ():
        own = reconjax.studies.of_task(result, task).isel(weight=-1)
        at = reconjax.studies.best(own, [latent_dim], by=by).isel(latent_dim=0)
        names = ("r2_without", "r2", "gain", "held_out_without", "held_out")
        where = {name: at[name].item() for name in ("patch", "ratio", "std") if name in at.coords}
        rows.append({"task": task, **{n: at[n].item() for n in names if n in at}, **where})
    return rows


def print_best_by_task(rows: list[dict[str, Any]], latent_dim: int, by: str) -> None:
    """Of each task, r2 without noise and with its best."""
    if not rows:
        return
    names = [name for name in rows[0] if name != "task"]
    heads = {
        "r2_without": "no noise",
        "r2": "best",
        "held_out_without": "test",
        "held_out": "best",
    }
    lines = [
        [
            row["task"],
            *(
                f"{v:.4f}"
                if isinstance(v := row[n], float) and n not in ("ratio", "std")
                else f"{v}"
                for n in names
            ),
        ]
        for row in rows
    ]
    of = "the test split" if by == "held_out" else "the training split"
    print(f"the best noise for each task at K = {latent_dim}, chosen on {of}:")
    print_table(["task", *(heads.get(name, name) for name in names)], lines, left=["task"])
