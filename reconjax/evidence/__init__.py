"""How sure a curve is.

bootstrap    standard errors from balanced half-samples
p_values     of the best of a searched grid
comparison   families of noise, solved on one split and evaluated on the other
places       their ranking, each at its best strength
"""

from reconjax.evidence.bootstrap import Bootstrap, interval_reach
from reconjax.evidence.comparison import Comparison, compare
from reconjax.evidence.p_values import search_p_values
from reconjax.evidence.places import Gains, Place, best_strengths, gains, ranking

__all__ = [
    "Bootstrap",
    "Comparison",
    "Gains",
    "Place",
    "best_strengths",
    "compare",
    "gains",
    "interval_reach",
    "ranking",
    "search_p_values",
]
