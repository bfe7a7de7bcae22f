"""What is read off a grid: the best of it, and each of several tasks."""

from collections.abc import Sequence

import xarray

from reconjax.studies.axes import STRENGTHS

# Up to so many latent dimensions, `best` gives all of them.
FEW = 12
# What `of_task` reads, and what is the same for all tasks.
STUDIES = ("sweep", "compare", "objectives")
SHARED = ("r2_chance", "chance", "reduced", "reconstruction_loss")


def best(
    result: xarray.Dataset, latent_dims: Sequence[int] | None = None, *, by: str = "r2"
) -> xarray.Dataset:
    """For each weight and some K, the noise with the largest r2, and what is known of it.

    The noise is chosen after the fact: `p_value` accounts for that.

    Args:
      result: from `sweep`, or a part of it by `.sel`.
      latent_dims: K; by default all where there are up to 12, else 1, 2, 4, ... and the rank.
      by: "r2", on the training split, or "held_out", on the test split, which is to be preferred
        where there are fewer samples than features: r2 ends at 1 there, whatever the noise.

    Returns:
      The variables of the result at that noise, over `weight` and `latent_dim`, and which it is:
      `patch` and `ratio`, or `std`.

    Raises:
      ValueError: it is no result of `sweep`, or lacks one of the K or what to choose by.

    Example:
      >>> grid = dict(patches=[2, 4], ratios=[0.25, 0.75], precision="float32", bootstrap=0)
      >>> table = reconjax.studies.best(reconjax.studies.sweep("digits", **grid), [16])
      >>> table.patch.item(), table.ratio.item()
      ('4x4', 0.25)
    """
    if result.attrs.get("study") != "sweep":
        raise ValueError(f"result: of the study {result.attrs.get('study')!r}; 'sweep' is needed")
    if by not in ("r2", "held_out") or by not in result:
        allowed = " or ".join(name for name in ("r2", "held_out") if name in result)
        raise ValueError(f"by: {by!r}; {allowed} is there")
    if "latent_dim" in result.dims:
        there = result.latent_dim.values.tolist()
        wanted = _some(there, result.attrs["rank"]) if latent_dims is None else list(latent_dims)
        missing = [k for k in wanted if k not in there]
        if missing:
            raise ValueError(f"latent_dims: {missing[0]}; {there[0]} .. {there[-1]} are there")
        result = result.sel(latent_dim=wanted)
    result = result.drop_dims("fold", errors="ignore")
    noises = [name for name in ("patch", *STRENGTHS) if name in result.r2.dims]
    return result.isel(result[by].argmax(noises)) if noises else result


def of_task(result: xarray.Dataset, task: str) -> xarray.Dataset:
    """What a grid says of one of several tasks, for `best`, `ranking`, `recipes` and pictures.

    Args:
      result: from `sweep`, `compare`, `objectives` or `advise`, of data with several tasks.
      task: its name.

    Returns:
      The result with `r2`, `gain`, `held_out`, `p_value` and so on of that task, and without what
      is known of all tasks together alone.

    Raises:
      ValueError: it is no such result, or has no such task.

    Example:
      >>> x, digits = reconjax.data.load("digits").train.examples(np.arange(300))
      >>> tasks = {"digit": digits, "odd": digits % 2}
      >>> data = reconjax.data.Dataset.from_arrays(x, tasks)
      >>> grid = dict(patches=[2, 4], ratios=[0.25, 0.75], precision="float32", bootstrap=0)
      >>> odd = reconjax.studies.of_task(reconjax.studies.sweep(data, **grid), "odd")
      >>> odd.r2.dims
      ('patch', 'ratio', 'weight', 'latent_dim')
    """
    if result.attrs.get("study") not in STUDIES or "task" not in result.coords:
        raise ValueError(f"result: not of several tasks, by {', '.join(STUDIES)}")
    if task not in result.task.values:
        raise ValueError(f"task: {task!r}; {', '.join(map(str, result.task.values))} are there")
    own = {
        str(name).replace("_by_task", ""): result[name].sel(task=task, drop=True)
        for name in result.data_vars
        if "_by_task" in str(name)
    }
    shared = [name for name in SHARED if name in result]
    rest = result[shared].drop_vars("task", errors="ignore")
    named = {name: result.coords[name] for name in ("family", "noise") if name in result.coords}
    facts: dict[str, object] = {"task": task}
    if "r2_all" in own:
        facts["r2_all"] = float(own.pop("r2_all"))
    return rest.assign(own).assign_coords(named).assign_attrs(result.attrs | facts)


def _some(there: Sequence[int], rank: int) -> list[int]:
    """All of a few K; of many, 1, 2, 4, ... up to the rank, and the rank or the largest K."""
    if len(there) <= FEW:
        return list(there)
    last = min(rank, there[-1])
    return [k for k in there if k == last or (k < last and k & (k - 1) == 0)]
