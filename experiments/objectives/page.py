"""The results in words and tables, all of whose numbers are those of the results."""

from collections.abc import Iterator, Mapping
from typing import Any

from experiments.networks import percent
from experiments.objectives.cells import BATCH_SIZE, CHOICES, LATENT_DIM, NETS, SIDE
from experiments.objectives.picture import short

QUESTIONS = {
    "target": "a partly whitened target against pixels, behind the same mask or none",
    "whitening": "joint embedding, whitened, against pixels behind the same mask",
    "vicreg": "VICReg against pixels behind the same mask",
}


def page(results: Mapping[str, Any]) -> str:
    """The page."""
    return "\n".join(lines(results)) + "\n"


def lines(results: Mapping[str, Any]) -> Iterator[str]:
    """Its lines."""
    yield "# Trained networks: pixels, whitened pixels, or joint embedding?"
    yield ""
    yield (
        f"R² of one-hot labels by a linear probe of the code (K = {LATENT_DIM}), on the test split,"
        f" in percent; {results['seeds']} seeds, mean ± standard error. In brackets: the linear"
        " closed form of the same choice on the same test split. Images of"
        f" {SIDE} x {SIDE}, {results['samples']} for training, {results['images']} seen by each"
        f" training, in batches of {BATCH_SIZE}. On {'; '.join(results['trained_on'])}."
    )
    yield ""
    yield "    python -m experiments.objectives --data-dir DIR --out experiments/results/objectives"
    yield ""
    yield "trains what is missing; with `--minutes 0` it reports on what is there."
    for net, part in results["nets"].items():
        yield ""
        widths = " ".join(map(str, NETS[net].get("widths", ())))
        yield f"## {net}, widths {widths}" if widths else f"## {net}"
        yield ""
        yield from of_net(part)
    yield ""
    yield "![gains over pixels](networks.png)"


def of_net(part: Mapping[str, Any]) -> Iterator[str]:
    """Tables of one kind of network."""
    chosen = {kind: own for kind, own in part["settings"].items() if own is not None}
    texts = [f"{kind}: {setting(own)}" for kind, own in chosen.items()]
    yield f"Settings, chosen by other seeds: {'; '.join(texts) or 'none yet'}."
    sets = {data: found for data, found in part["sets"].items() if rows(found)}
    yield ""
    if sets:
        yield from table(sets)
        yield ""
    for name, count in part["signs"].items():
        yield (
            f"- **{QUESTIONS[name]}**: {count['comparisons']} comparisons, better in"
            f" {count['better']}, worse in {count['worse']}, no clear difference (two standard"
            f" errors) in {count['comparisons'] - count['clear']}; the closed form foresaw the sign"
            f" of {count['foreseen']} of the {count['clear']} clear ones."
        )
    if part["missing"]:
        total = sum(map(len, part["missing"].values()))
        yield f"- **Missing**: {total} of {len(CHOICES) * len(part['sets'])} cells."
        for data, choices in part["missing"].items():
            names = [f"{choice['learned']} ({choice['noise']})" for choice in choices]
            each = "all" if len(choices) == len(CHOICES) else ", ".join(names)
            yield f"  - {short(data)}: {each}."


def setting(own: Mapping[str, Any]) -> str:
    """A learning rate, and weights."""
    text = f"learning rate {own['learning_rate']:g}"
    if own["weights"] is None:
        return text
    return f"{text}, weights {' '.join(f'{weight:g}' for weight in own['weights'])}"


def rows(found: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The choices of a set that are trained."""
    return [choice for choice in found["choices"] if choice["r2"] is not None]


def table(sets: Mapping[str, Any]) -> Iterator[str]:
    """A row for each choice, a column for each set."""
    yield "| learned, noise | " + " | ".join(map(short, sets)) + " |"
    yield "|---" * (1 + len(sets)) + "|"
    for number, choice in enumerate(next(iter(sets.values()))["choices"]):
        row = [found["choices"][number] for found in sets.values()]
        if any(own["r2"] is not None for own in row):
            texts = [cell(own) for own in row]
            yield f"| {choice['learned']}, {choice['noise']} | " + " | ".join(texts) + " |"
    for name, text in (
        ("spread over choices / seeds", spread),
        ("F", lambda found: f"{found['f']:.0f}"),
        ("rank correlation with the closed form", lambda f: f"{f['rank_correlation']:+.2f}"),
    ):
        texts = [text(found) if "f" in found else "–" for found in sets.values()]
        yield f"| {name} | " + " | ".join(texts) + " |"


def cell(own: Mapping[str, Any]) -> str:
    """A mean with its error, and the closed form."""
    expected = f"[{100 * own['closed_form']:.1f}]"
    return f"– {expected}" if own["r2"] is None else f"{percent(own['r2'])} {expected}"


def spread(found: Mapping[str, Any]) -> str:
    """Standard deviations, in percent."""
    return "{:.2f} / {:.2f}".format(*(100 * found["spread"][name] for name in ("choices", "seeds")))
