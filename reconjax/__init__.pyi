# What `import reconjax` offers; each name is imported when it is first used.
from . import data as data
from . import evidence as evidence
from . import grid as grid
from . import linalg as linalg
from . import nets as nets
from . import noise as noise
from . import plots as plots
from . import storage as storage
from . import studies as studies
from . import summary as summary
from . import theory as theory
from . import training as training
from .evidence.bootstrap import (
    Bootstrap as Bootstrap,
)
from .evidence.bootstrap import (
    bootstrap as bootstrap,
)
from .evidence.p_values import (
    search_p_values as search_p_values,
)
from .grid.sweep import (
    Sweep as Sweep,
)
from .grid.sweep import (
    gaussian_grid as gaussian_grid,
)
from .grid.sweep import (
    mask_grid as mask_grid,
)
from .grid.sweep import (
    pixel_grid as pixel_grid,
)
from .grid.sweep import (
    sweep as sweep,
)
from .grid.sweep import (
    sweep_memory as sweep_memory,
)
from .noise import (
    block_mask as block_mask,
)
from .noise import (
    blur as blur,
)
from .noise import (
    chain as chain,
)
from .noise import (
    channel_dropout as channel_dropout,
)
from .noise import (
    colored_gaussian as colored_gaussian,
)
from .noise import (
    crop as crop,
)
from .noise import (
    estimated as estimated,
)
from .noise import (
    exact_patch_mask as exact_patch_mask,
)
from .noise import (
    flip as flip,
)
from .noise import (
    from_function as from_function,
)
from .noise import (
    gaussian as gaussian,
)
from .noise import (
    identity as identity,
)
from .noise import (
    linear as linear,
)
from .noise import (
    mask_set as mask_set,
)
from .noise import (
    mixture as mixture,
)
from .noise import (
    noise_text as noise_text,
)
from .noise import (
    parse_noise as parse_noise,
)
from .noise import (
    patch_groups as patch_groups,
)
from .noise import (
    patch_mask as patch_mask,
)
from .noise import (
    pca_mask as pca_mask,
)
from .noise import (
    pixel_dropout as pixel_dropout,
)
from .noise import (
    random_patch_mask as random_patch_mask,
)
from .noise import (
    salt_and_pepper as salt_and_pepper,
)
from .noise import (
    shift as shift,
)
from .noise import (
    smooth_gaussian as smooth_gaussian,
)
from .noise import (
    speckle as speckle,
)
from .noise import (
    thinning as thinning,
)
from .noise import (
    visibility_mask as visibility_mask,
)
from .summary.folds import (
    combined as combined,
)
from .summary.folds import (
    each_fold as each_fold,
)
from .summary.folds import (
    fold_moments as fold_moments,
)
from .summary.moments import (
    Moments as Moments,
)
from .summary.moments import (
    balanced_class_weight as balanced_class_weight,
)
from .summary.moments import (
    merge as merge,
)
from .summary.moments import (
    moments as moments,
)
from .summary.moments import (
    standardized as standardized,
)
from .summary.moments import (
    uncentered as uncentered,
)
from .summary.streaming import (
    moments_from_batches as moments_from_batches,
)
from .theory.alignment import (
    Alignment as Alignment,
)
from .theory.alignment import (
    Proposition1 as Proposition1,
)
from .theory.alignment import (
    alignment as alignment,
)
from .theory.alignment import (
    proposition1 as proposition1,
)
from .theory.certificate import (
    Certificate as Certificate,
)
from .theory.certificate import (
    certificate as certificate,
)
from .theory.held_out import (
    HeldOut as HeldOut,
)
from .theory.held_out import (
    held_out as held_out,
)
from .theory.held_out import (
    held_out_r2 as held_out_r2,
)
from .theory.solver import (
    Problem as Problem,
)
from .theory.solver import (
    Solution as Solution,
)
from .theory.solver import (
    optimal_codes as optimal_codes,
)
from .theory.solver import (
    problem as problem,
)
from .theory.solver import (
    solve as solve,
)
from .theory.solver import (
    theorem1 as theorem1,
)
from .theory.spectrum import (
    SampleSide as SampleSide,
)
from .theory.spectrum import (
    Spectrum as Spectrum,
)
from .theory.spectrum import (
    project as project,
)
from .theory.spectrum import (
    spectrum as spectrum,
)
from .theory.spectrum import (
    spectrum_from_samples as spectrum_from_samples,
)
