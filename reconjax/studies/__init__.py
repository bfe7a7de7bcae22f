"""Studies: data in, a labeled result out; what commands, experiments and users call.

reading           how a study reads its data
source            what a study works on: the data, their moments, folds and test split
labeled           results as `xarray.Dataset`, written as NetCDF and opened again
progress          a bar for long work
alignment         `align`
sweeps            `sweep`
choice            the `best` of its grid, and that of each task
rays              the grid of a sweep, solved ray by ray
axes              the axes of a grid, as users write them
families          `compare`, and its `ranking`
objective_choice  `objectives`
advice            `advise`, and its `recipes`
certificates      `detect`
subspaces         `project`
"""

from reconjax.studies.advice import Recipe, advise, recipes
from reconjax.studies.alignment import align
from reconjax.studies.certificates import detect
from reconjax.studies.choice import best, of_task
from reconjax.studies.families import compare, ranking
from reconjax.studies.labeled import open_result as open
from reconjax.studies.objective_choice import objectives
from reconjax.studies.reading import Reading
from reconjax.studies.subspaces import project
from reconjax.studies.sweeps import sweep

__all__ = [
    "Reading",
    "Recipe",
    "advise",
    "align",
    "best",
    "compare",
    "detect",
    "objectives",
    "of_task",
    "open",
    "project",
    "ranking",
    "recipes",
    "sweep",
]
