"""The page: sentences, figures and tables in one HTML file that needs nothing else."""

import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from importlib.resources import files
from typing import Any

import jax
import jinja2

from reconjax.report import sentences
from reconjax.report.charts import Chart, library
from reconjax.report.commands import training_commands
from reconjax.report.curves import of_sweep
from reconjax.report.dims import nearest, opening_dim, shown_dims
from reconjax.report.figures import advised_mask, figures, masks_shown
from reconjax.report.gathering import FILES, Results
from reconjax.report.pictures import MEAN_OF, Picture
from reconjax.report.words import noise_words, percent, recipe_words
from reconjax.studies.advice import EVIDENCE, Recipe, recipes, told_from_chance

# What is no setting of the reader's: where a study was read from, and how much it said.
NOT_SHOWN = ("progress", "data_dir")


def page(results: Results, data: str, latent_dim: int | None = None) -> str:
    """The HTML of a report.

    Args:
      results: the studies.
      data: the name of the data set, as a command takes it.
      latent_dim: K at which it opens; by default that of `reconjax.studies.advise`.
    """
    dims = shown_dims(results)
    opening = opening_dim(results, dims, latent_dim)
    sweep = of_sweep(results, dims)
    choice = None
    if "objectives" in results.studies:
        known = results.studies["objectives"].latent_dim.values.tolist()
        choice = nearest(known, opening)
    advised = None if choice is None else advised_mask(results, choice)
    masks = masks_shown(results, sweep, dims.index(opening), advised)
    seen = figures(results, sweep, dims, opening, masks)
    readings = {
        "verdict": sentences.verdict(results, dims),
        "alignment": sentences.alignment(results, dims),
        "masks": sentences.masks(results, sweep, dims),
    }
    if "by-class" in seen:
        readings["by_class"] = sentences.by_class(results, dims)
    if choice is not None:
        readings["choices"] = sentences.choices(results)
        readings["objectives"] = sentences.objectives(results)
    if "detect" in results.studies:
        readings["changes"] = sentences.largest_changes(results)
    room = files("reconjax.report")
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, undefined=jinja2.ChainableUndefined
    )
    environment.globals["opening"] = lambda texts: nearest(list(texts), opening)
    template = environment.from_string(room.joinpath("page.html").read_text("utf-8"))
    return template.render(
        name=results.source.name,
        version=version("reconjax"),
        notices=room.joinpath("notices.txt").read_text("utf-8"),
        style=room.joinpath("page.css").read_text("utf-8"),
        script=room.joinpath("page.js").read_text("utf-8"),
        library=library(),
        charts=_json(dims, seen, opening),
        figures=seen,
        dims=dims,
        readings=readings,
        texts=_texts(results, sweep.overfits, opening, advised),
        left_out={name: _left_out(why) for name, why in results.left_out.items()},
        patches=sweep.patches,
        first_patch=sweep.patches[sweep.best(dims.index(opening))[0]],
        verdicts=_verdicts(results),
        advice={} if choice is None else _advice(results, data),
        made=_made(results),
    )


def _json(dims: list[int], seen: Mapping[str, Chart | Picture], opening: int) -> str:
    """What the script of the page reads; "<" is written so that it ends no script."""
    charts = {
        name: {"spec": it.opened(opening), "table": it.table}
        for name, it in seen.items()
        if isinstance(it, Chart)
    }
    pictures = {name: it.table for name, it in seen.items() if isinstance(it, Picture)}
    whole = {"dims": dims, "charts": charts, "pictures": pictures}
    text = json.dumps(whole, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c")


def _texts(results: Results, overfits: bool, opening: int, advised: str | None) -> dict[str, Any]:
    """Sentences that are the same at every K."""
    studies = results.studies
    texts: dict[str, Any] = {
        "data": sentences.data_words(results),
        "classes": sentences.classes_words(results),
        "overfits": overfits,
        "evidence": " ".join(EVIDENCE.split()),
    }
    if int(studies["align"].attrs["folds"]):
        texts["bands"] = (
            "Bands are 90% intervals. They are corrected for what few samples add to a curve, so"
            " they may lie beside it."
        )
    if "project" in studies:
        about = studies["project"].attrs
        top, bottom = int(about["top_directions"]), int(about["bottom_directions"])
        texts["subspace"] = (
            f"{top:,} directions explain {percent(float(about['variance']), 0)} of the variance of"
            f" the pixels, and reconstruction learns them first; {bottom:,} directions hold the"
            " rest. Where the labels need what is in the last row, reconstruction is misaligned"
            " with them."
        )
    else:
        texts["subspace"] = _left_out(results.left_out["project"])
    if "detect" in studies:
        texts["never"] = sentences.never(results)
    if "finalists" in studies:
        texts["trained"] = sentences.trained(results)
    if "objectives" in studies:
        about = studies["objectives"].attrs
        texts["objectives"] = (
            "Each line is at its best noise, and where it says so at its best target, chosen on the"
            f" training samples at every K; {int(about['noises'])} choices were tried. The share is"
            f" that of {int(about['held_out_samples']):,} held-out samples"
            f" ({about['held_out_split']}), and bands are 90% intervals of the gain over"
            " reconstruction without noise. Joint embedding learns features on which two masked"
            " views of an image agree."
        )
        if overfits:
            texts["objectives"] += (
                " With so few samples, what is best on the training samples need not help on new"
                " ones; the map above chooses on the test samples, and so shows larger gains."
            )
    texts["made"] = (
        f"This page was made by reconjax {version('reconjax')} with jax {jax.__version__}, of the"
        " studies below."
    )
    texts["masked"] = (
        "What is dropped has the value of the mean image, as in the closed form; here that is the"
        f" mean of {min(MEAN_OF, len(results.source.train)):,} training images."
        + (
            f" No mask is sure to help at K = {opening}, so the best of the map there is shown."
            if advised is None and "objectives" in studies
            else ""
        )
        + " The last row has the usual mask of masked autoencoders, three quarters of the patches."
    )
    return texts


def _left_out(why: str) -> str:
    return f"This part is left out: {why}."


def _verdicts(results: Results) -> list[tuple[str, str, str]]:
    """Noise, verdict and reason."""
    if "detect" not in results.studies:
        return []
    result = results.studies["detect"]
    words = {"never": "never helps"}
    return [
        (noise_words(str(noise)), words.get(str(verdict), "may help"), str(reason))
        for noise, verdict, reason in zip(
            result.noise.values, result.verdict.values, result.reason.values, strict=True
        )
    ]


def _advice(results: Results, data: str) -> dict[int, dict[str, Any]]:
    """For each K of the objectives, the rows of the table and what trains the first choice."""
    result = results.studies["objectives"]
    told = told_from_chance(result, "r2_without")
    found: dict[int, dict[str, Any]] = {}
    for k in result.latent_dim.values.tolist():
        rows = recipes(result, k)
        commands: list[str] = []
        if told and len(results.source.train.example_shape) == 3:
            commands = training_commands(data, result, rows, results.reading)
        trains = "No mask is sure to help, so this trains an autoencoder without one:"
        if rows[0].certain:
            trains = "The networks of reconjax that come closest to it:"
        cells = [_cells(recipe) for recipe in rows]
        found[k] = {"rows": cells, "commands": commands, "trains": trains}
    return found


def _cells(recipe: Recipe) -> list[str]:
    cells = [recipe_words(recipe), noise_words(recipe.noise), percent(recipe.held_out, 2)]
    if not recipe.noise and recipe.target == "pixels":  # what the others gain over
        return [*cells, "", "", ""]
    gain = f"{round(100 * recipe.gain, 2) + 0.0:+.2f}"
    return [*cells, gain, f"{100 * recipe.standard_error:.2f}", f"{recipe.p_value:.4f}"]


def _made(results: Results) -> list[Sequence[str]]:
    """Where, when and with which settings each study was made."""
    rows: list[Sequence[str]] = []
    for name, result in results.studies.items():
        about = result.attrs
        settings = {
            key: value
            for key, value in json.loads(about["settings"]).items()
            if value not in (None, False, []) and key not in NOT_SHOWN
        }
        text = ", ".join(f"{key} {_setting(value)}" for key, value in settings.items())
        when = str(about["created"])[:16].replace("T", " ") + " UTC"
        row = name, when, f"{about['seconds']:.1f}", about["device"], FILES[name], text
        rows.append(row)
    return rows


def _setting(value: Any) -> str:
    if not isinstance(value, list):
        return str(value)
    if len(value) > 12:
        return f"{value[0]} to {value[-1]} ({len(value)})"
    return " ".join(map(str, value))
