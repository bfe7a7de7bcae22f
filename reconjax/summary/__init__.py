"""What is known of a data set without the data.

moments       moments of arrays
streaming     moments of data that come in batches
union         moments of several sets of samples together
exact_sums    sums over 8-bit images without rounding
folds         moments of parts of the data
sample_gram   the (N, N) side of wide data
class_moment  the labels' second moment where there are many classes
unweighted    what chance needs where classes weigh differently
hosts         one data set that several hosts share
"""

from reconjax.summary.class_moment import ClassMoment
from reconjax.summary.folds import combined, each_fold, fold_memory, fold_moments, stratified
from reconjax.summary.moments import Moments, balanced_class_weight, standardized, uncentered
from reconjax.summary.streaming import moments_from_batches
from reconjax.summary.union import merge

__all__ = [
    "ClassMoment",
    "Moments",
    "balanced_class_weight",
    "combined",
    "each_fold",
    "fold_memory",
    "fold_moments",
    "merge",
    "moments_from_batches",
    "standardized",
    "stratified",
    "uncentered",
]
