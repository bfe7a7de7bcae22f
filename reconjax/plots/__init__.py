"""Pictures of results; each module is named after what it draws.

Every function returns a `matplotlib.figure.Figure`; `save` writes it. Nothing touches pyplot's
global state.
"""

from reconjax.plots.certificate import certificate_figure
from reconjax.plots.comparison import comparison_figure, learned_mask_figure
from reconjax.plots.curves import (
    alignment_figure,
    projection_figure,
    subspace_figure,
    targets_figure,
)
from reconjax.plots.objectives import objectives_figure
from reconjax.plots.probes import probe_figure
from reconjax.plots.style import STYLE, save
from reconjax.plots.sweeps import mask_map_figure, sweep_figure, sweep_panel
from reconjax.plots.tasks import task_choices_figure, task_gains_figure, tasks_figure
from reconjax.plots.training import finalists_figure, history_figure, reconstruction_figure

__all__ = [
    "STYLE",
    "alignment_figure",
    "certificate_figure",
    "comparison_figure",
    "finalists_figure",
    "history_figure",
    "learned_mask_figure",
    "mask_map_figure",
    "objectives_figure",
    "probe_figure",
    "projection_figure",
    "reconstruction_figure",
    "save",
    "subspace_figure",
    "sweep_figure",
    "sweep_panel",
    "targets_figure",
    "task_choices_figure",
    "task_gains_figure",
    "tasks_figure",
]
