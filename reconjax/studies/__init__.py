"""Studies: data in, a labelled result out; what commands, experiments and users call.

source         what a study works on: how the data are read, their moments, folds and test split
labelled       results as `xarray.Dataset`, written as NetCDF and opened again
progress       a bar for long work
alignment      `align`
families       `compare`, and its `ranking`
certificates   `detect`
subspaces      `project`
"""

from reconjax.studies.alignment import align
from reconjax.studies.certificates import detect
from reconjax.studies.families import compare, ranking
from reconjax.studies.labelled import open_result as open
from reconjax.studies.source import Reading
from reconjax.studies.subspaces import project

__all__ = ["Reading", "align", "compare", "detect", "open", "project", "ranking"]
