"""What the commands print of several tasks."""

from typing import TYPE_CHECKING, Any

from reconjax.cli.tables import print_table

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import xarray

    from reconjax.evidence.places import Place
    from reconjax.studies import Recipe

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


def best_choices(
    result: "xarray.Dataset",
    latent_dim: int,
    choices: "Callable[[xarray.Dataset], Sequence[Place | Recipe]]",
) -> list[dict[str, Any]]:
    """For each task what gains most on held-out samples, at one K.

    Args:
      result: of `compare`, `objectives` or `advise`.
      latent_dim: K.
      choices: what there is to choose from, for the result of one task.
    """
    import reconjax

    rows = []
    for task in result.task.values.tolist() if "task" in result.coords else ():
        own = reconjax.studies.of_task(result, task)
        best = max(choices(own), key=lambda choice: choice.gain)
        without = float(own.held_out_without.sel(latent_dim=latent_dim))
        rows.append({"task": task, "held_out_without": without, **best._asdict()})
    return rows


def print_best_choices(rows: list[dict[str, Any]], latent_dim: int) -> None:
    """Of each task, r2 without noise, and what gains most if anything does."""
    if not rows:
        return
    lines = []
    for row in rows:
        line = [row["task"], f"{row['held_out_without']:.4f}"]
        if row["gain"] > 0:
            values = row["held_out"], row["standard_error"], row["p_value"]
            held_out, error, p = (f"{value:.4f}" for value in values)
            line += [held_out, f"{row['gain']:+.4f}", error, p, choice_words(row)]
        else:
            line += ["", "", "", "", "no noise"]
        lines.append(line)
    print(f"the best for each task at K = {latent_dim}, held-out r2:")
    heads = ["task", "no noise", "best", "gain", "±", "p", "at"]
    print_table(heads, lines, left=["task", "at"])


def choice_words(choice: "Mapping[str, Any]") -> str:
    """A choice in words; one among families of noise is called by its noise alone."""
    what = objective_words(choice["objective"], choice["target"]) if "objective" in choice else ""
    return " under ".join(filter(None, [what, choice["noise"]]))


def objective_words(objective: str, target: str) -> str:
    """What is learned, in words."""
    return "joint embedding" if objective == "joint-embedding" else f"reconstruct {target}"


def best_by_task(result: "xarray.Dataset", latent_dim: int, by: str) -> list[dict[str, Any]]:
    """The best noise of a sweep for each task at one K and the largest λ."""
    import reconjax

    rows = []
    for task in result.task.values.tolist() if "task" in result.coords else ():
        own = reconjax.studies.of_task(result, task).isel(weight=-1)
        at = reconjax.studies.best(own, [latent_dim], by=by).isel(latent_dim=0)
        names = ("r2_without", "r2", "gain", "held_out_without", "held_out", "p_value")
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
        "p_value": "p",
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
