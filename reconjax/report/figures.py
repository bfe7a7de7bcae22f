"""The figures of a page, by the names that they have in it."""

from collections.abc import Mapping, Sequence

from reconjax.report.charts import (
    Chart,
    classes_chart,
    gains_chart,
    lines_chart,
    map_chart,
    trained_chart,
)
from reconjax.report.curves import (
    Sweep,
    alignment_table,
    certificates_table,
    classes_table,
    explained_table,
    finalists_table,
    map_table,
    objectives_table,
)
from reconjax.report.gathering import Results
from reconjax.report.pictures import Picture, contact_sheet, masked, subspaces, usual_mask
from reconjax.studies.advice import recipes


def figures(
    results: Results, sweep: Sweep, dims: Sequence[int], opening: int, masks: Mapping[str, str]
) -> dict[str, Chart | Picture]:
    """What there is to be seen.

    Args:
      results: the studies.
      sweep: the grid at those K.
      dims: K of the slider.
      opening: the K at which the page opens.
      masks: those under which images are shown: what each is here -> its text.
    """
    name, studies = results.source.name, results.studies
    share = "share of the label variance"
    found: dict[str, Chart | Picture] = {
        "alignment-curve": lines_chart(
            "Alignment with the labels",
            f"Alignment (Eq. 7) of the first K directions of {name} with its labels, and that of"
            " labels in random order.",
            alignment_table(results, dims),
            "alignment (Eq. 7)",
        ),
        "explained": lines_chart(
            "What a linear head explains",
            "The share of the variance of the labels that a linear head on the first K directions"
            f" of {name} explains, on training and test samples.",
            explained_table(results, dims),
            share,
        ),
        "mask-map": map_chart(
            "Change by the mask, against no mask, in percentage points",
            "A map of the gain of every mask at the chosen K, over patch and share dropped.",
            map_table(sweep, dims),
        ),
        "mask-gains": gains_chart(
            "Change by the mask over K, for one patch",
            "A line for each share that is dropped: its gain against no mask, over K.",
            map_table(sweep, dims),
            sweep.patches[sweep.best(list(dims).index(opening))[0]],
            sweep.sound(dims),
        ),
    }
    # Of no more samples than features, any labels are read on the training samples.
    informative = len(results.source.train) > results.source.features
    if "r2_by_target" in studies["align"] and informative:
        kind = "class" if results.source.num_classes else "target"
        found["by-class"] = classes_chart(
            f"What is read of each {kind} (the upright mark: by all directions)",
            f"A bar for each {kind}: the share of its variance that a linear head on the first K"
            " directions explains, and a mark at what all directions explain.",
            classes_table(results, dims),
        )
    if "objectives" in studies:
        found["objectives"] = lines_chart(
            "What a linear head explains of the test samples, by what is learned",
            "A line for each objective over K: reconstruction without noise, with its best noise,"
            " with its best noise and target, and joint embedding.",
            objectives_table(results),
            share,
        )
    if "detect" in studies:
        found["certificates"] = lines_chart(
            "The largest change that any label can see",
            "A line for each noise over K: the largest possible change, for any label, of what a"
            " linear head explains.",
            certificates_table(studies["detect"]),
            "largest change",
        )
    if "finalists" in studies:
        found["trained"] = trained_chart(
            "Trained networks against the closed form",
            "A point for each training: what the closed form says of its mask, and what a linear"
            " probe of the trained network explains.",
            finalists_table(studies["finalists"]),
        )
    if len(results.source.train.example_shape) == 3:
        found["examples"] = contact_sheet(results)
        found["masked-images"] = masked(results, masks)
    if "project" in studies:
        found["subspace"] = subspaces(results)
    return found


def masks_shown(results: Results, sweep: Sweep, place: int, advised: str | None) -> dict[str, str]:
    """The recommended mask, else the best of the grid at a K; and MAE's usual one."""
    shape = results.source.train.example_shape
    if len(shape) != 3:
        return {}
    patch, ratio = sweep.best(place)
    found = {}
    if advised is not None:
        found["Recommended"] = advised
    elif sweep.ratios[ratio] > 0:
        found["Best of the map"] = sweep.text(patch, ratio, shape)
    return {**found, "Usual": usual_mask(shape)}


def advised_mask(results: Results, latent_dim: int) -> str | None:
    """The mask of the first choice, where it is sure to help; its text, or None."""
    best = recipes(results.studies["objectives"], latent_dim)[0]
    return best.noise or None if best.certain else None
