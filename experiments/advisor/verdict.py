"""Whether what was known before training ranks the masks as probes of the trained networks do.

A measure of one set and one kind of network is an array (masks, seeds).

A vision transformer has no bottleneck: without a mask it learns to copy, which no closed form at
some K describes. Its masks are ranked among themselves, and again with no mask among them.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import rankdata

from experiments.advisor import cells
from experiments.advisor.cells import Mask
from experiments.advisor.predictors import ClassValue, Value, name_of
from experiments.advisor.trained import Row
from reconjax.training.eigenspace import rank_correlation

# The K that was fixed before, the width of the tokens or the size of the code; and the predictor.
LATENT_DIM = {"vit": cells.WIDTH, "mlp": cells.LATENT_DIM, "conv": cells.LATENT_DIM}
PRIMARY = {net: name_of("reconstruction", latent_dim) for net, latent_dim in LATENT_DIM.items()}
RESAMPLES = 1000
DRAWS = 200
# With so many finalists successive halving starts.
STARTS = (1, 2, 4, 8, 16)
# Below this ratio of variances, masks differ by too little to be ranked.
LEAST_F = 3.0


class Measured(NamedTuple):
    """The trained networks of one set and one kind.

    Attributes:
      data: the name of the set.
      net: of the network.
      masks: (M,) those with all seeds.
      r2: (M, S) of the linear probe at the end.
      accuracy: (M, S) of the same.
      loss: (M, S) of the objective at the end.
      rungs: (R, M, S) r2 after each share of the training of `cells.RUNGS`.
      classes: (M, C) r2 of each class at the end, means over the seeds.
    """

    data: str
    net: str
    masks: list[Mask]
    r2: np.ndarray
    accuracy: np.ndarray
    loss: np.ndarray
    rungs: np.ndarray
    classes: np.ndarray

    def masked(self) -> "Measured":
        """Without the networks that see everything."""
        on = np.array([mask.kept > 0 for mask in self.masks])
        masks = [mask for mask in self.masks if mask.kept]
        ends = (values[on] for values in (self.r2, self.accuracy, self.loss))
        return Measured(self.data, self.net, masks, *ends, self.rungs[:, on], self.classes[on])


def measured(rows: Sequence[Row], data: str, net: str) -> Measured | None:
    """What the table has of them; None with fewer than three masks."""
    own: dict[tuple[int, int], dict[int, list[Row]]] = {}
    for row in sorted(rows, key=lambda row: row.images):
        if (row.data, row.net) == (data, net):
            own.setdefault((row.block, row.kept), {}).setdefault(row.seed, []).append(row)
    seeds = max((len(runs) for runs in own.values()), default=0)
    order = [mask for mask in cells.MASKS if len(own.get(tuple(mask), ())) == seeds]
    if not own or len(order) < 3:
        return None
    runs = [[own[mask][seed] for seed in sorted(own[mask])] for mask in order]

    def column(name: str, index: int = -1) -> np.ndarray:
        return np.array([[getattr(run[index], name) for run in seeds] for seeds in runs])

    rungs = [column("r2", index) for index in range(len(cells.RUNGS))]
    ends = (column(name) for name in ("r2", "accuracy", "loss"))
    texts = [[run[-1].class_r2 for run in seeds] for seeds in runs]
    classes = np.array([[np.array(text.split(), float) for text in row] for row in texts]).mean(1)
    return Measured(data, net, order, *ends, np.array(rungs), classes)


def habits(found: Measured) -> dict[str, np.ndarray]:
    """(M,) what practice would rank by, without theory, and what costs a whole training of each."""
    ratio = np.array([mask.ratio for mask in found.masks])
    return {
        "a higher ratio is better": ratio,
        "a ratio near 0.75": -np.abs(ratio - 0.75),
        "a lower ratio is better": -ratio,
        "low loss (all trained)": -found.loss.mean(1),
        "1/16 of the training of each": found.rungs[0].mean(1),
    }


def predictors(found: Measured, values: Sequence[Value]) -> dict[str, np.ndarray]:
    """(M,) of each closed form that knows all masks, and of the habits."""
    own: dict[str, dict[tuple[int, int], float]] = {}
    for value in values:
        if value.data == found.data:
            own.setdefault(value.predictor, {})[value.block, value.kept] = value.value
    closed = {
        name: np.array([by_mask[mask] for mask in found.masks])
        for name, by_mask in own.items()
        if all(tuple(mask) in by_mask for mask in found.masks)
    }
    return closed | habits(found)


def f_ratio(values: np.ndarray) -> float:
    """Variance over the masks to variance over the seeds of (M, S), both of a mean of S.

    NaN where seeds do not differ.
    """
    between, within = values.mean(1).var(ddof=1), values.var(axis=1, ddof=1).mean()
    return float(values.shape[1] * between / within) if within > 0 else math.nan


def reliability(values: np.ndarray) -> float:
    """Mean rank correlation over the masks between the means of both halves of the seeds."""
    seeds = values.shape[1]
    found = []
    for code in range(1, 2 ** (seeds - 1)):
        half = np.array([bool(code >> seed & 1) for seed in range(seeds)])
        if half.sum() == seeds // 2:
            found.append(rank_correlation(values[:, half].mean(1), values[:, ~half].mean(1)))
    return float(np.mean(found))


def interval(predictor: np.ndarray, values: np.ndarray) -> tuple[float, float]:
    """90 % of the rank correlations with means of resampled seeds; NaN for a constant."""
    masks, seeds = values.shape
    drawn = np.random.default_rng(0).integers(seeds, size=(RESAMPLES, masks, seeds))
    means = np.take_along_axis(values[None], drawn, 2).mean(2)
    # `rank_correlation` of all of them at once.
    ranks, of_predictor = rankdata(means, axis=1), rankdata(predictor)
    ranks, of_predictor = ranks - ranks.mean(1, keepdims=True), of_predictor - of_predictor.mean()
    size = np.linalg.norm(ranks, axis=1) * np.linalg.norm(of_predictor)
    if not (told := size > 0).any():
        return math.nan, math.nan
    low, high = np.quantile((ranks @ of_predictor)[told] / size[told], [0.05, 0.95])
    return float(low), float(high)


def within(found: Measured, predictor: np.ndarray, same: Callable[[Mask], Any]) -> dict[str, float]:
    """The share of pairs of masks that are alike in one respect which are ordered right."""
    mean = found.r2.mean(1)
    right, pairs = 0.0, 0
    for i, first in enumerate(found.masks):
        for j, second in enumerate(found.masks[:i]):
            if first.kept and second.kept and same(first) == same(second):
                agreement = np.sign(predictor[i] - predictor[j]) * np.sign(mean[i] - mean[j])
                right, pairs = right + (1 + agreement) / 2, pairs + 1
    return {"share": float(right / pairs) if pairs else math.nan, "pairs": pairs}


def interaction(found: Measured, values: Sequence[ClassValue]) -> dict[str, float] | None:
    """Whether the closed form knows which mask is for which classes.

    Both tables of r2, masks by classes, less the means of their rows and columns, are correlated.

    Returns:
      The correlation, and the share of permutations of the masks that reach it; None where the
      closed form of a mask is missing.
    """
    own = {
        (value.block, value.kept): np.array(value.class_r2.split(), float)
        for value in values
        if (value.data, value.latent_dim) == (found.data, LATENT_DIM[found.net])
    }
    if not all(tuple(mask) in own for mask in found.masks):
        return None
    first, second = (
        table - table.mean(0) - table.mean(1, keepdims=True) + table.mean()
        for table in (np.array([own[mask] for mask in found.masks]), found.classes)
    )
    first, second = first / np.linalg.norm(first), second / np.linalg.norm(second)
    rng = np.random.default_rng(0)
    correlation = float(np.sum(first * second))
    drawn = [np.sum(first[rng.permutation(len(first))] * second) for _ in range(RESAMPLES)]
    return {
        "correlation": correlation,
        "p": float((1 + np.sum(np.array(drawn) >= correlation)) / (1 + RESAMPLES)),
    }


def regret(choice: int, values: np.ndarray) -> float:
    """What the choice loses against the best mask, by means over the seeds."""
    mean = values.mean(1)
    return float(mean.max() - mean[choice])


class Search(NamedTuple):
    """Successive halving from some finalists on.

    Attributes:
      cost: in trainings to the end.
      regret: of what it chooses, in R², a mean over the seeds and draws.
      accuracy: the same in accuracy.
    """

    cost: float
    regret: float
    accuracy: float


def halving(found: Measured, order: Sequence[int], seed: int) -> tuple[int, float]:
    """The choice and the cost: measured at every rung by one seed, the better half goes on.

    The last one is trained to its end.
    """
    alive, cost, before = list(order), 0.0, 0.0
    for rung, share in enumerate(cells.RUNGS):
        if len(alive) == 1:
            break
        cost += len(alive) * (share - before)
        before = share
        kept = max(len(alive) // 2, 1)
        alive = sorted(alive, key=lambda mask: -found.rungs[rung][mask, seed])[:kept]
    cost += len(alive) * (1 - before)
    return max(alive, key=lambda mask: found.r2[mask, seed]), cost


def searches(found: Measured, prior: np.ndarray | None) -> dict[int, Search]:
    """Of the first 1, 2, 4 ... masks by a predictor (M,), or of so many at random."""
    rng = np.random.default_rng(0)
    seeds = found.r2.shape[1]
    results = {}
    for start in [*(s for s in STARTS if s < len(found.masks)), len(found.masks)]:
        outcomes = []
        for draw in range(DRAWS if prior is None else seeds):
            order = rng.permutation(len(found.masks)) if prior is None else np.argsort(-prior)
            choice, cost = halving(found, order[:start].tolist(), draw % seeds)
            outcomes.append((cost, regret(choice, found.r2), regret(choice, found.accuracy)))
        results[start] = Search(*np.mean(outcomes, axis=0).tolist())
    return results


def verdict(
    rows: Sequence[Row], values: Sequence[Value], by_class: Sequence[ClassValue] = ()
) -> dict[str, Any]:
    """Everything, by network and set."""
    results: dict[str, Any] = {}
    for net in cells.NETS:
        for data in dict.fromkeys(row.data for row in rows):
            found = measured(rows, data, net)
            if found is not None:
                results.setdefault(net, {})[data] = of_set(found, values, by_class)
    return {net: {"sets": sets, **across(net, sets)} for net, sets in results.items()}


def of_set(
    whole: Measured, values: Sequence[Value], by_class: Sequence[ClassValue]
) -> dict[str, Any]:
    """Reliability of the measure, and what every predictor is worth."""
    found = whole.masked() if whole.net == "vit" else whole
    scores, all_scores = predictors(found, values), predictors(whole, values)
    mean, whole_mean = found.r2.mean(1), whole.r2.mean(1)
    ranked = {}
    for name, score in scores.items():
        choice = int(np.argmax(score))
        ranked[name] = {
            "rank_correlation": rank_correlation(score, mean),
            "interval": interval(score, found.r2),
            "with_no_mask": rank_correlation(all_scores[name], whole_mean),
            "with_accuracy": rank_correlation(score, found.accuracy.mean(1)),
            "choice": list(found.masks[choice]),
            "regret": regret(choice, found.r2),
            "accuracy_lost": regret(choice, found.accuracy),
            "within_ratio": within(found, score, lambda mask: round(mask.ratio, 3)),
            "within_block": within(found, score, lambda mask: mask.block),
        }
    primary = PRIMARY[found.net]
    return {
        "masks": [
            {
                "mask": list(mask),
                "ratio": mask.ratio,
                "r2": float(whole_mean[index]),
                "seeds": float(whole.r2[index].std(ddof=1)),
                "accuracy": float(whole.accuracy[index].mean()),
                "predicted": float(all_scores[primary][index]),
            }
            for index, mask in enumerate(whole.masks)
        ],
        "seeds": found.r2.shape[1],
        "interaction": interaction(found, by_class),
        "f": f_ratio(found.r2),
        "f_accuracy": f_ratio(found.accuracy),
        "reliability": reliability(found.r2),
        "rungs": [rank_correlation(rung.mean(1), mean) for rung in found.rungs],
        "accuracy_and_r2": rank_correlation(found.accuracy.mean(1), mean),
        "spread": float(mean.max() - mean.min()),
        "random_regret": float(mean.max() - mean.mean()),
        "random_accuracy_lost": float(found.accuracy.mean(1).max() - found.accuracy.mean()),
        "predictors": ranked,
        "searches": {
            name: {str(start): search._asdict() for start, search in searches(found, prior).items()}
            for name, prior in {
                "halving alone": None,
                "theory, then halving": scores[primary],
                "a ratio near 0.75, then halving": scores["a ratio near 0.75"],
            }.items()
        },
    }


def across(net: str, sets: Mapping[str, Any]) -> dict[str, Any]:
    """Means over the sets in which masks differ, and the best predictor of the other sets."""
    told = {data: part for data, part in sets.items() if part["f"] >= LEAST_F}
    names = [
        name
        for name in dict.fromkeys(name for part in told.values() for name in part["predictors"])
        if all(name in part["predictors"] for part in told.values())
    ]

    def mean(name: str, field: str, parts: Sequence[Any]) -> float:
        found = [part["predictors"][name][field] for part in parts]
        return float(np.mean(np.nan_to_num(found)))

    fields = ("rank_correlation", "with_no_mask", "with_accuracy", "regret", "accuracy_lost")
    everything = list(told.values())
    chosen = {}
    for data, part in told.items():
        others = [other for name, other in told.items() if name != data]
        if others:
            closed = [name for name in names if ", K = " in name and "split" not in name]
            best = max(closed, key=lambda name: mean(name, "rank_correlation", others))
            chosen[data] = {"predictor": best, **part["predictors"][best]}
    return {
        "primary": PRIMARY[net],
        "told": list(told),
        "means": {n: {f: mean(n, f, everything) for f in fields} for n in names} if told else {},
        "chosen_on_the_others": chosen,
    }
