"""What a page says of its numbers: plain sentences, one text for each K of the slider."""

from collections.abc import Sequence

import numpy as np

from reconjax.plots.pictures import shown_channels
from reconjax.report.curves import Sweep, held_out
from reconjax.report.gathering import Results
from reconjax.report.words import (
    NO_NOISE,
    listed,
    noise_words,
    p_words,
    percent,
    points,
    recipe_words,
)
from reconjax.studies.advice import ALIGNED, DOUBTFUL, recipes, told_from_chance
from reconjax.studies.families import ranking

ByDim = dict[int, str]
# Classes that are named, of the best and of the worst.
NAMED = 3
NO_ANSWER = (
    "These labels cannot be told from labels in random order at any K: whether reconstruction is"
    " aligned with them has no answer. More samples may tell, or the inputs do not."
)


def verdict(results: Results, dims: Sequence[int]) -> ByDim:
    """Is reconstruction aligned with the labels?"""
    result = results.studies["align"]
    if not told_from_chance(result, "r2"):
        return dict.fromkeys(dims, NO_ANSWER)
    rank = int(result.attrs["rank"])
    sides = results.source
    if len(sides.train) <= sides.features:
        return _verdict_held_out(results, dims, rank)
    whole = float(result.r2.values[-1])
    texts = {}
    for k in dims:
        r2 = float(result.r2.sel(latent_dim=k))
        share = r2 / whole if whole > 0 else 0.0
        aligned = "is aligned" if share >= ALIGNED else "is misaligned"
        texts[k] = (
            f"Reconstruction {aligned} with these labels at K = {k}. The {_directions(k)} a linear"
            f" head explain {percent(r2)} of the variance of the labels; all {rank:,} directions"
            f" together let it explain {percent(whole)}. That is {percent(share, 0)} of what there"
            f" is to be had, and this page says aligned from {percent(ALIGNED, 0)} on."
        )
    return texts


def _verdict_held_out(results: Results, dims: Sequence[int], rank: int) -> ByDim:
    """The same where there are fewer samples than features, and only new samples tell."""
    tested = held_out(results, dims)
    text = (
        "There are no more samples than features, so on the training samples any labels can be"
        " told, and only new samples count."
    )
    if tested is None:
        return dict.fromkeys(dims, f"{text} No samples are held out: this has no answer.")
    best = int(np.argmax(tested))
    most = float(tested[best])
    return {
        k: (
            f"{text} On the test samples the {_directions(k)} a linear head explain"
            f" {percent(tested[place])} of the variance of the labels; the most at any K is"
            f" {percent(most)}, at K = {dims[best]}."
        )
        for place, k in enumerate(dims)
    }


def alignment(results: Results, dims: Sequence[int]) -> ByDim:
    """How to read both curves at a K."""
    result = results.studies["align"]
    tested = held_out(results, dims)
    texts = {}
    for place, k in enumerate(dims):
        at = result.sel(latent_dim=k)
        text = (
            f"At K = {k}, alignment is {percent(float(at.alignment))}; labels in random order would"
            f" have {percent(float(at.chance))}. A linear head on these {_features(k)} explains"
            f" {percent(float(at.r2))} of the variance of the labels of the training samples"
            f" (labels in random order: {percent(float(at.r2_chance))})"
        )
        if tested is not None:
            text += f", and {percent(tested[place])} on the {_tested(results)} test samples"
        texts[k] = text + "."
    return texts


def by_class(results: Results, dims: Sequence[int]) -> ByDim:
    """Which classes are read best and worst."""
    curves = results.studies["align"].r2_by_target
    names = [str(name) for name in curves.target.values]
    kind = "class" if results.source.num_classes else "target"
    whole = curves.isel(latent_dim=-1).values
    texts = {}
    for k in dims:
        at = curves.sel(latent_dim=k).values
        order = np.argsort(-at)

        def named(places: np.ndarray, at: np.ndarray = at) -> str:
            return listed(
                [f"{names[i]} ({percent(at[i], 0)} of {percent(whole[i], 0)})" for i in places]
            )

        count = min(NAMED, len(order) // 2)
        texts[k] = (
            f"At K = {k}, the best read {kind if count == 1 else _plural(kind)}"
            f" {_are(count)} {named(order[:count])}; the worst {_are(count)}"
            f" {named(order[::-1][:count])}. The second number is by all directions."
        )
    return texts


def masks(results: Results, sweep: Sweep, dims: Sequence[int]) -> ByDim:
    """The best mask of the grid."""
    count = sum(ratio > 0 for ratio in sweep.ratios) * len(sweep.patches)
    told = told_from_chance(results.studies["align"], "r2")
    texts = {}
    for place, k in enumerate(dims):
        patch, ratio = sweep.best(place)
        name, chosen = sweep.noise(patch, ratio), "test" if sweep.overfits else "training"
        if name == NO_NOISE:
            texts[k] = (
                f"At K = {k}, none of the {count} masks tells a linear head more than no mask, on"
                f" the {chosen} samples."
            )
            continue
        text = (
            f"At K = {k}, the best of {count} masks on the {chosen} samples is: {name}. It changes"
            " what a linear head explains of the labels by"
            f" {points(sweep.training[patch, ratio, place])} on the training samples"
        )
        if sweep.held_out is not None and sweep.p_value is not None:
            p = float(sweep.p_value[patch, ratio, place])
            gain = float(sweep.held_out[patch, ratio, place])
            sure = "more" if p < DOUBTFUL and gain > 0 else "not surely more"
            text += (
                f", and by {points(gain)} on the test samples, {sure} than chance"
                f" would give the best of the whole grid ({p_words(p)})"
            )
        texts[k] = text + "." if told else f"{text}. {NO_ANSWER}"
    return texts


def choices(results: Results) -> ByDim:
    """Objectives side by side, and what is to be trained; at the K of the objectives."""
    result = results.studies["objectives"]
    count = int(result.attrs["held_out_samples"])
    texts = {}
    for k in result.latent_dim.values.tolist():
        rows = recipes(result, k)
        best, plain = rows[0], rows[-1]
        if not told_from_chance(result, "r2_without"):
            texts[k] = NO_ANSWER
        elif best.certain:
            texts[k] = (
                f"First choice at K = {k}: {recipe_words(best)}, {_under(best.noise)}. On"
                f" {count:,} samples on which nothing was chosen, a linear head then explains"
                f" {percent(best.held_out)} of the variance of the labels, {points(best.gain)}"
                " compared with reconstruction without a mask (standard error"
                f" {100 * best.standard_error:.2f}, {p_words(best.p_value)} for all that was"
                " tried)."
            )
            if best.objective == "joint-embedding":
                texts[k] += " Joint embedding is the same at every ratio of one mask."
        else:
            texts[k] = (
                f"At K = {k}, no mask, target or objective that was tried surely gains more"
                f" than chance would on {count:,} held-out samples. PCA, which explains"
                f" {percent(plain.held_out)} there, is as good."
            )
        for recipe in rows[:-1]:
            if recipe.held_out < min(plain.held_out, 0.0):
                texts[k] += (
                    f" To {recipe_words(recipe)}, {_under(recipe.noise)}, fails on new samples"
                    f" ({percent(recipe.held_out)}, less than nothing)."
                )
    return texts


def objectives(results: Results) -> ByDim:
    """What each objective explains of the held-out samples."""
    result = results.studies["objectives"]
    places = ranking(result)
    texts = {}
    for k in result.latent_dim.values.tolist():
        without = float(result.held_out_without.sel(latent_dim=k))
        rows = [(place.family, place) for place in places if place.latent_dim == k]
        words = [f"reconstruction without noise {percent(without)}"]
        for family in dict.fromkeys(result.family.values.tolist()):
            place = next(place for name, place in rows if name == family)
            words.append(f"{family} {percent(place.held_out)} ({noise_words(place.noise)})")
        shares = "a linear head explains these shares of the variance of the held-out labels"
        texts[k] = f"At K = {k}, {shares}: {'; '.join(words)}."
    return texts


def never(results: Results) -> str:
    """Which noises cannot change anything."""
    result = results.studies["detect"]
    words = [noise_words(str(noise)) for noise in result.noise.values]
    verdicts = result.verdict.values.tolist()
    useless = [word for word, verdict in zip(words, verdicts, strict=True) if verdict == "never"]
    others = [word for word, verdict in zip(words, verdicts, strict=True) if verdict != "never"]
    text = f"Can never help, whatever the labels: {'; '.join(useless) or 'none of those tried'}."
    if others:
        text += f" May change what a linear head reads: {'; '.join(others)}."
    return text


def largest_changes(results: Results) -> ByDim:
    """How much each noise can change at most, at the K of the certificates."""
    result = results.studies["detect"]
    texts = {}
    for k in result.latent_dim.values.tolist():
        at = result.sel(latent_dim=k)
        changes = [
            f"{noise_words(str(noise))}: {percent(float(change))}"
            for noise, change in zip(at.noise.values, at.largest_change.values, strict=True)
        ]
        texts[k] = (
            f"At K = {k}, the share of a label's variance that a linear head explains can change,"
            f" up or down, by at most these amounts, for the label that is touched most."
            f" {'; '.join(changes)}."
        )
    return texts


def trained(results: Results) -> str:
    """What networks said of the masks that the closed form ranks first."""
    result = results.studies["finalists"]
    about = result.attrs
    chosen, first = about["chosen"], str(result.noise.values[0])
    last = result.sel(noise=chosen).isel(round=-1)
    text = (
        f"Vision transformers were trained as masked autoencoders behind the masks that the closed"
        f" form ranks first at K = {about['latent_dim']}. The last one trained, behind"
        f" {noise_words(chosen)}, lets a linear head explain {percent(float(last.r2))} of the"
        " variance of the labels of the test samples (accuracy"
        f" {percent(float(last.accuracy))}); the closed form has"
        f" {percent(float(last.predicted))} for this mask, and {percent(about['without'])} for PCA."
    )
    if chosen != first:
        text += f" Training preferred it to the closed form's first, {noise_words(first)}."
    return f"{text} One network a mask: how much another seed would change is not measured."


def data_words(results: Results) -> list[str]:
    """What the data are."""
    source, about = results.source, results.studies["align"].attrs
    shape = source.train.example_shape
    size = f"{shape[0]} numbers each"
    if len(shape) == 3:
        colors = "1 channel" if shape[2] == 1 else f"{shape[2]} channels"
        size = f"images of {shape[0]} × {shape[1]} pixels with {colors}"
        if shown_channels(shape[2]) is not None:
            size += ", of which the pictures show the first"
    count, features = len(source.train), source.features
    texts = [
        f"{source.name} has {count:,} training samples, {size}: D = {features:,} features, which"
        f" vary in {int(about['rank']):,} independent directions. The labels are"
        f" {about['targets']}."
    ]
    if source.test is not None:
        share, held = results.reading.get("test_share"), f"{len(source.test):,}"
        texts.append(
            f"They came without a test split: {held} more samples, {percent(share, 0)} of each"
            " class, are held out for one."
            if share
            else f"The test split has {held} samples."
        )
    if more := int(about.get("unlabeled", 0)):
        texts.append(
            f"{more:,} more examples have no label: the encoder learns from them too, and heads are"
            f" fitted on the {count:,} with a label."
        )
    if count <= features:
        texts.append(
            "There are no more samples than features: read the curves of the test samples, for on"
            " the training samples any labels would be explained."
        )
    note = str(about.get("notes", ""))
    return [*texts, *(f"{line[:1].upper()}{line[1:]}." for line in note.splitlines())]


def classes_words(results: Results) -> str:
    """How many examples the classes have."""
    source = results.source
    if not source.num_classes:
        return ""
    counts = np.bincount(source.train.labels, minlength=source.num_classes)
    low, high = int(counts.min()), int(counts.max())
    if low == high:
        return f"Each of the {len(counts)} classes has {low:,} training samples."
    return f"The {len(counts)} classes have from {low:,} to {high:,} training samples each."


def _under(noise: str) -> str:
    return f"under a mask of {noise_words(noise)}" if noise else "without a mask"


def _tested(results: Results) -> str:
    test = results.source.test
    return f"{0 if test is None else len(test):,}"


def _directions(count: int) -> str:
    """With the verb that follows."""
    first = "that reconstruction learns first"
    return f"direction {first} lets" if count == 1 else f"{count} directions {first} let"


def _features(count: int) -> str:
    return "feature" if count == 1 else f"{count} features"


def _plural(kind: str) -> str:
    return "classes" if kind == "class" else f"{kind}s"


def _are(count: int) -> str:
    return "is" if count == 1 else "are"
