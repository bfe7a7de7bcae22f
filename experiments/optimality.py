"""Is the closed form the optimum? Gradient descent against Theorems 1 and 3 (Fig. 9 and beyond).

The gap loss(t) − loss* of Adam must fall to 0 and never below it, but for rounding. First the
authors' setting (binary inputs, labels that are a linear map of them), then what it leaves out:
label noise, inputs without full rank, K above the rank, and noisy inputs. The loss is taken from
the moments, noise and all, so that a step costs the same whatever N is and no mask is sampled.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import optax
from jax import Array
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, LogLocator, NullLocator

import reconjax as rj
from experiments import report
from reconjax.plots import STYLE

NAME = "optimality"
SAMPLES, TARGETS = 256, 2
LEARNING_RATES = (1e-1, 1e-2, 1e-3, 1e-4)
PAPER_WEIGHTS = (0.0, 0.1, 1.0, 10.0)
CASE_WEIGHTS = (0.0, 1.0, 10.0, np.inf)
IMAGE = (4, 4)
CASES = {
    "noisy labels": 3,
    "rank 8 of 16": 3,
    "K above rank 8": 12,
    "2x2 patches masked": 3,
    "1x1 patches masked": 3,
    "Gaussian noise": 3,
}
PRESETS: dict[str, dict[str, Any]] = {
    "smoke": {
        "features": [16],
        "latent_dims": [3],
        "cases": ["2x2 patches masked"],
        "steps": {16: 1000},
        "seeds": 2,
    },
    "quick": {
        "features": [16, 512],
        "latent_dims": [3, 16],
        "cases": list(CASES),
        "steps": {16: 10_000, 512: 1500},
        "seeds": 3,
    },
    "full": {
        "features": [16, 512],
        "latent_dims": [3, 16],
        "cases": list(CASES),
        "steps": {16: 10_000, 512: 10_000},
        "seeds": 5,
    },
}
POINTS = 48  # kept of each curve
DRAWS = 4000  # of the noise, to check its moments


class Task(NamedTuple):
    """Samples, their noise and the latent dimension: one panel row of the figure."""

    x: Array
    y: Array
    noise: Any
    latent_dim: int


class Weights(NamedTuple):
    """The parameters of the linear autoencoder: V (D, K), W (K, C) and Z (K, D)."""

    encoder: Array
    head: Array
    decoder: Array


def paper_task(key: Array, features: int, latent_dim: int) -> Task:
    """The authors' test: binary inputs, and labels that are a linear map of them."""
    x_key, map_key = jax.random.split(key)
    x = (jax.random.normal(x_key, (SAMPLES, features)) > 0).astype(float)
    y = x @ jax.random.normal(map_key, (features, TARGETS)) / features**0.5
    return Task(x - x.mean(0), y - y.mean(0), None, latent_dim)


def case_task(key: Array, case: str) -> Task:
    """What the authors' test leaves out; inputs of 16 features, which may be 4 x 4 images."""
    features = IMAGE[0] * IMAGE[1]
    x_key, mix_key, map_key, label_key = jax.random.split(key, 4)
    if "rank" in case:
        x = jax.random.normal(x_key, (SAMPLES, 8)) @ jax.random.normal(mix_key, (8, features))
    elif case == "noisy labels":
        x = (jax.random.normal(x_key, (SAMPLES, features)) > 0).astype(float)
    else:  # neighbors must resemble each other, or a masked pixel cannot be told from the others
        place = np.stack(np.meshgrid(*map(np.arange, IMAGE)), -1).reshape(features, 2)
        distance = np.linalg.norm(place[:, None] - place, axis=-1)
        mixing = np.linalg.cholesky(np.exp(-distance / 2))
        x = jax.random.normal(x_key, (SAMPLES, features)) @ mixing.T
    y = x @ jax.random.normal(map_key, (features, TARGETS)) / features**0.5
    if case in ("noisy labels", "K above rank 8"):
        y = y + y.std() * jax.random.normal(label_key, y.shape)
    noise = {
        "2x2 patches masked": rj.noise.patch_mask(0.5, 2, IMAGE),
        "1x1 patches masked": rj.noise.patch_mask(0.75, 1, IMAGE),
        "Gaussian noise": rj.noise.gaussian(0.5),
    }.get(case)
    return Task(x - x.mean(0), y - y.mean(0), noise, CASES[case])


def loss(weights: Weights, problem: rj.Problem, alpha: Array, weight: Array) -> Array:
    """α E‖Wᵀ Vᵀ x' − y‖² + λ E‖Zᵀ Vᵀ x' − x‖², over D as in the authors' test, from moments."""
    v, w, z = weights
    gram = v.T @ (problem.noisy_second_moment @ v)
    labels = v.T @ problem.noisy_label_moment
    inputs = v.T @ problem.noisy_input_moment
    supervised = jnp.trace(problem.label_moment) + jnp.sum(w * (gram @ w - 2 * labels))
    reconstruction = problem.input_variance + jnp.sum(z * (gram @ z - 2 * inputs))
    return (alpha * supervised + weight * reconstruction) / problem.noisy_input_moment.shape[1]


def closed_form(
    moments: rj.Moments, noise: Any, latent_dim: int, weight: float
) -> tuple[Array, Weights]:
    """The loss of the closed form, by its own account, and its parameters."""
    if noise is None:  # the solver of its own that Theorem 1 has
        solution = rj.theorem1(rj.spectrum(moments), weight)
    else:
        solution = rj.solve(rj.problem(moments, noise), weight, readout="noisy")
    k = latent_dim
    alpha, lam = mix(weight)
    optimum = alpha * solution.supervised_loss[k - 1] + lam * solution.reconstruction_loss[k - 1]
    weights = Weights(solution.encoder[:, :k], solution.head(k), solution.decoder[:k])
    return optimum / moments.features, weights


def mix(weight: float) -> tuple[float, float]:
    """(α, λ) of the loss; λ = inf is reconstruction alone."""
    return (0.0, 1.0) if np.isinf(weight) else (1.0, float(weight))


@partial(jax.jit, static_argnames=("latent_dim", "steps"))
def descend(
    problem: rj.Problem,
    mixes: Array,
    rates: Array,
    keys: Array,
    *,
    latent_dim: int,
    steps: int,
) -> tuple[Array, Weights]:
    """Adam with cosine decay for every λ, learning rate and seed at once.

    Returns:
      Losses (λ, rate, seed, steps + 1) and the last parameters, with the same leading axes.
    """
    features, targets = problem.noisy_label_moment.shape
    dtype = problem.noisy_second_moment.dtype
    adam = optax.scale_by_adam()

    def run(mixture: Array, rate: Array, key: Array) -> tuple[Array, Weights]:
        shapes = (features, latent_dim), (latent_dim, targets), (latent_dim, features)
        parts = zip(jax.random.split(key, 3), shapes, strict=True)
        start = Weights(*(jax.random.normal(k, s, dtype) / s[0] ** 0.5 for k, s in parts))

        def step(state: Any, t: Array) -> tuple[Any, Array]:
            weights, memory = state
            value, slope = jax.value_and_grad(loss)(weights, problem, *mixture)
            update, memory = adam.update(slope, memory)
            size = rate * (1 + jnp.cos(jnp.pi * t / steps)) / 2
            weights = jax.tree.map(lambda w, u: w - size * u, weights, update)
            return (weights, memory), value

        times = jnp.arange(steps).astype(dtype)
        (weights, _), values = jax.lax.scan(step, (start, adam.init(start)), times)
        return jnp.append(values, loss(weights, problem, *mixture)), weights

    for axes in ((None, None, 0), (None, 0, None), (0, None, None)):
        run = jax.vmap(run, axes)
    return run(mixes, rates, keys)


@jax.jit
def sampled_loss(task: Task, weights: Weights, mixture: Array, key: Array) -> tuple[Array, Array]:
    """The loss with noise that is drawn, and its standard error."""
    alpha, lam = mixture

    def draw_loss(key: Array) -> Array:
        codes = task.noise.sample(key, task.x) @ weights.encoder
        supervised = jnp.sum((codes @ weights.head - task.y) ** 2)
        return alpha * supervised + lam * jnp.sum((codes @ weights.decoder - task.x) ** 2)

    draws = jax.lax.map(draw_loss, jax.random.split(key, DRAWS)) / task.x.size
    return jnp.mean(draws), jnp.std(draws) / DRAWS**0.5


def measure(task: Task, weights: Sequence[float], steps: int, seeds: int, key: Array) -> Any:
    """One row of panels: every λ, learning rate and seed in one call."""
    seed_keys, draw_key = jax.random.split(key, seeds), jax.random.fold_in(key, seeds)
    moments = rj.moments(task.x, task.y)
    problem = rj.problem(moments, task.noise)
    mixes = np.array([mix(weight) for weight in weights])
    optima = [closed_form(moments, task.noise, task.latent_dim, weight) for weight in weights]
    optimum = np.array([value for value, _ in optima])
    # What the loss is where the code is 0: the scale against which a gap is small.
    total = mixes @ np.array([jnp.trace(problem.label_moment), problem.input_variance])
    total = total / task.x.shape[1]

    def gaps(problem: rj.Problem, keys: Array, optimum: Any) -> tuple[np.ndarray, Weights]:
        dtype = problem.noisy_second_moment.dtype
        rates = jnp.asarray(LEARNING_RATES, dtype)
        losses, last = descend(
            problem,
            jnp.asarray(mixes, dtype),
            rates,
            keys,
            latent_dim=task.latent_dim,
            steps=steps,
        )
        gap = (losses - jnp.asarray(optimum, dtype)[:, None, None, None]).astype(float)
        return np.asarray(gap) / total[:, None, None, None], last

    gap, last = gaps(problem, seed_keys, optimum)
    single = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), moments)
    optimum32 = [closed_form(single, task.noise, task.latent_dim, w)[0] for w in weights]
    gap32, _ = gaps(rj.problem(single, task.noise), seed_keys[:1], optimum32)

    shown = np.unique(np.geomspace(1, steps + 1, POINTS).round().astype(int)) - 1
    curve = gap[..., shown]
    panels = []
    for index, weight in enumerate(weights):
        final = gap[index, :, :, -1]
        best = int(np.argmin(final.mean(1)))
        itself = loss(optima[index][1], problem, *mixes[index])
        panel = {
            "reconstruction_weight": weight,
            "optimum": optimum[index],
            "optimum_over_total": optimum[index] / total[index],
            "closed_form_gap": (itself - optimum[index]) / total[index],
            "best_learning_rate": LEARNING_RATES[best],
            "final_gap_mean": final[best].mean(),
            "final_gap_worst": final[best].max(),
            "final_gap_by_rate": final.mean(1),
            "smallest_gap": gap[index].min(),
            "smallest_gap_float32": gap32[index].min(),
            "final_gap_float32": gap32[index, :, 0, -1].min(),
            "median": report.rounded(np.median(curve[index], 1), 3),
            "low": report.rounded(curve[index].min(1), 3),
            "high": report.rounded(curve[index].max(1), 3),
        }
        if task.noise is not None:
            untrained = jax.tree.map(lambda leaf, i=index: leaf[i, -1, 0], last)
            panel["sampled_noise"] = {}
            for name, chosen in (("closed form", optima[index][1]), ("half trained", untrained)):
                draw_key, now_key = jax.random.split(draw_key)
                exact = loss(chosen, problem, *mixes[index])
                sampled, error = sampled_loss(task, chosen, mixes[index], now_key)
                panel["sampled_noise"][name] = {
                    "exact": exact,
                    "sampled": sampled,
                    "standard_errors": (sampled - exact) / error,
                }
        panels.append(panel)
    return {
        "features": task.x.shape[1],
        "latent_dim": task.latent_dim,
        "rank": rj.spectrum(moments).rank,
        "steps": steps,
        "shown": shown,
        "panels": panels,
    }


def summary(parts: dict[str, Any]) -> dict[str, Any]:
    """The extremes over all panels, as shares of the loss where the code is 0."""
    panels = {
        f"{name}, λ={panel['reconstruction_weight']}": panel
        for name, part in parts.items()
        for panel in part["panels"]
    }

    def extreme(key: str, order: Any) -> dict[str, Any]:
        where = max(panels, key=lambda name: order(panels[name][key]))
        return {"value": panels[where][key], "where": where}

    def lowest(value: float) -> float:
        return -value

    deviations = [
        check["standard_errors"]
        for panel in panels.values()
        for check in panel.get("sampled_noise", {}).values()
    ]
    return {
        "panels": len(panels),
        "smallest_gap": extreme("smallest_gap", lowest),
        "smallest_gap_float32": extreme("smallest_gap_float32", lowest),
        "largest_final_gap": extreme("final_gap_worst", float),
        "closed_form_gap": extreme("closed_form_gap", abs),
        "sampling_checks": len(deviations),
        "largest_sampling_deviation": max(map(abs, deviations), default=None),
    }


def figure(grid: list[list[tuple[Any, Any]]], rows: list[str], columns: list[str]) -> Figure:
    """Gap against step; one line a learning rate, the band is the range over the seeds."""
    colors = matplotlib.colormaps["plasma"](np.linspace(0.05, 0.82, len(LEARNING_RATES)))
    with matplotlib.rc_context(STYLE):
        width, height = 1.2 + 2.2 * len(columns), 1.3 + 1.9 * len(rows)
        made = Figure(figsize=(width, height), layout="constrained")
        axes = made.subplots(len(rows), len(columns), sharex="row", sharey=True, squeeze=False)
        for i, row in enumerate(rows):
            for j, column in enumerate(columns):
                panel_axes(axes[i, j], *grid[i][j], colors)
                if i == 0:
                    axes[i, j].set_title(column, pad=16)
            axes[i, 0].set_ylabel(row)
        handles, labels = axes[0, 0].get_legend_handles_labels()
        for below in axes[-1]:
            below.set_xlabel("gradient step")
        across = len(labels) if len(columns) > 3 else 3
        made.legend(handles, labels, loc="outside lower center", ncols=across, fontsize=9)
        made.supylabel("(loss − optimum) / loss of a zero code", fontsize=10)
        made.suptitle("How far Adam is above the closed form")
    return made


def panel_axes(axes: Axes, part: Any, panel: Any, colors: Any) -> None:
    """One panel of `figure`."""
    floor, rounding = 1e-18, 1e-15
    step = np.array(part["shown"]) + 1
    axes.axhspan(floor, rounding, color="0.9", lw=0)
    for color, rate, *lines in zip(
        colors, LEARNING_RATES, panel["median"], panel["low"], panel["high"], strict=True
    ):
        median, low, high = (np.maximum(line, floor) for line in lines)
        axes.fill_between(step, low, high, color=color, alpha=0.22, lw=0)
        axes.plot(step, median, color=color, lw=1.6, label=f"rate {rate:g}")
    axes.plot([], [], color="0.9", lw=7, label="rounding, or below 0")
    axes.set(xscale="log", yscale="log", ylim=(floor, 30), xlim=(1, step[-1]))
    axes.yaxis.set_major_locator(FixedLocator([10.0**n for n in (-16, -12, -8, -4, 0)]))
    axes.xaxis.set_major_locator(LogLocator(10, numticks=6))
    axes.yaxis.set_minor_locator(NullLocator())
    text = f"smallest gap {panel['smallest_gap']:.0e}"
    axes.annotate(text, (0.5, 1.03), xycoords="axes fraction", ha="center", fontsize=8, color="0.3")


def weight_label(weight: Any) -> str:
    return "λ = ∞" if weight == "inf" else f"λ = {weight:g}"


def draw(out: Path, parts: dict[str, Any], paper: list[str], cases: list[str]) -> None:
    """Fig. 9, and the same for the cases that it leaves out."""
    grid = [[(parts[name], panel) for panel in parts[name]["panels"]] for name in paper]
    columns = [weight_label(panel["reconstruction_weight"]) for _, panel in grid[0]]
    rows = [name.replace(" ", "\n") for name in paper]
    report.picture(out, "fig9", figure(grid, rows, columns))
    grid = [
        [(parts[name], parts[name]["panels"][i]) for name in cases]
        for i in range(len(CASE_WEIGHTS))
    ]
    rows = [weight_label(p["reconstruction_weight"]) for p in parts[cases[0]]["panels"]]
    columns = [f"{name}\nK = {CASES[name]}" for name in cases]
    report.picture(out, "beyond_fig9", figure(grid, rows, columns), dpi=85)


def main(argv: Sequence[str] | None = None) -> None:
    options = report.arguments(__doc__, argv)
    preset = PRESETS[options.preset]
    settings = {"preset": options.preset, "seed": options.seed, **preset, "samples": SAMPLES}
    paper = {f"D={d} K={k}": (d, k) for d in preset["features"] for k in preset["latent_dims"]}

    def measured(index: int, name: str) -> dict[str, Any]:
        key = jax.random.fold_in(jax.random.key(options.seed), index)
        data_key, run_key = jax.random.split(key)
        task = paper_task(data_key, *paper[name]) if name in paper else case_task(data_key, name)
        weights = PAPER_WEIGHTS if name in paper else CASE_WEIGHTS
        return measure(task, weights, preset["steps"][task.x.shape[1]], preset["seeds"], run_key)

    names = enumerate([*paper, *preset["cases"]])
    cases = {name: partial(measured, index, name) for index, name in names}
    results = report.measured(options.out, NAME, settings, cases)
    results["summary"] = summary(results["parts"])
    report.write(options.out, NAME, results)
    draw(options.out, results["parts"], list(paper), preset["cases"])
    for name, value in results["summary"].items():
        print(f"{name}: {value}")


if __name__ == "__main__":
    main()
