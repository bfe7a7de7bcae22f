"""Images per second of a ResNet9 training step, against the same network in PyTorch.

    python -m benchmarks.training --preset full --out benchmarks/results/training

A step is forward, backward and AdamW update of the paper's classifier, in training mode, on a batch
of 32 x 32 x 3 images that is in memory. Both networks start from the same parameters and must give
the same first losses. They are warmed up and then take turns in one run; seconds are medians.
PyTorch runs as it comes and with channels last, and the ratio is to the faster of the two. It is
needed here alone (`pip install torch`); without it JAX is measured by itself.

The step's arithmetic is set against that of a bare matrix product in the same run, and on
accelerators against the bfloat16 peak that the maker states for the device. `fit` is the training
loop of reconjax, which takes turns with bare steps: the share of its time beyond them is what its
host, its input and its metrics cost.
"""

import math
import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from benchmarks.sweep import cores
from experiments import report
from reconjax import nets
from reconjax.data import Dataset
from reconjax.nets.layers import Residual
from reconjax.training import classification, fit

SIDE, CHANNELS, CLASSES = 32, 3, 10
LEARNING_RATE, WEIGHT_DECAY = 1e-3, 1e-3
WIDTHS = {"smoke": (1 / 16,), "quick": (0.25, 1.0), "full": (0.25, 0.5, 1.0)}
BATCH = {"smoke": 16, "quick": 64, "full": 128}
BATCH_ON_ACCELERATORS = 1024  # in the full preset
TURNS = {"smoke": 3, "quick": 5, "full": 11}
PRODUCT = {"smoke": 256, "quick": 2048, "full": 2048}
FIT_SECONDS = {"smoke": 0.3, "quick": 10.0, "full": 30.0}
CHECKED_STEPS = 3
AT_LEAST = {"smoke": 0.05, "quick": 2.0, "full": 2.0}  # seconds of a turn

# Dense bfloat16 (no sparsity), operations per second, of `device_kind`: NVIDIA's data sheets of
# A100, H100, H200 and L4; Google Cloud's pages of TPU v4, v5e, v5p and v6e.
PEAK = {
    "NVIDIA A100-SXM4-40GB": 312e12,
    "NVIDIA A100-SXM4-80GB": 312e12,
    "NVIDIA H100 80GB HBM3": 989e12,
    "NVIDIA H100 PCIe": 756e12,
    "NVIDIA H200": 989e12,
    "NVIDIA L4": 121e12,
    "TPU v4": 275e12,
    "TPU v5 lite": 197e12,
    "TPU v5": 459e12,
    "TPU v6 lite": 918e12,
}


def main(argv: list[str] | None = None) -> None:
    options = report.arguments(__doc__, argv, float64=False)
    torch = imported_torch()
    versions = {"torch": torch.__version__ if torch else None}
    settings = {"preset": options.preset, "seed": options.seed, **versions}
    cases = {
        name: partial(measure, torch, width, batch, dtype, options)
        for name, width, batch, dtype in cases_of(options.preset)
    }
    show(report.measured(options.out, "training", settings, cases)["parts"])


def imported_torch() -> Any:
    """PyTorch, or None and a line that says so: also where JAX has an accelerator."""
    if jax.default_backend() != "cpu":
        print("PyTorch is compared on the CPU alone; here JAX is measured by itself")
        return None
    return torch_if_there()


def torch_if_there() -> Any:
    """PyTorch on as many threads as there are cores, or None and a line that says so."""
    try:
        import torch
    except ImportError:
        print("PyTorch is not installed (`pip install torch`); JAX is measured by itself")
        return None
    torch.set_num_threads(cores())
    return torch


def cases_of(preset: str) -> Iterator[tuple[str, float, int, str]]:
    """Name, width, batch size and dtype of each case."""
    on_cpu = jax.default_backend() == "cpu"
    batch = BATCH_ON_ACCELERATORS if preset == "full" and not on_cpu else BATCH[preset]
    for dtype in ("float32",) if on_cpu else ("float32", "bfloat16"):
        for width in WIDTHS[preset]:
            yield f"width {width:g}, batch {batch}, {dtype}", width, batch, dtype


def measure(torch: Any, width: float, batch: int, dtype: str, options: Any) -> dict[str, Any]:
    rng = np.random.default_rng(options.seed)
    images = rng.normal(size=(batch, SIDE, SIDE, CHANNELS)).astype(np.float32)
    labels = rng.integers(0, CLASSES, batch)
    model = nets.ResNet9(
        (SIDE, SIDE, CHANNELS),
        CLASSES,
        width=width,
        rngs=nnx.Rngs(options.seed),
        dtype=jnp.dtype(dtype),
    )
    steps = {"jax": jax_step(model, images, labels)}
    parameters = {"jax": nets.parameter_count(model)}
    for way in ("as it comes", "channels last") if torch else ():
        net = torch_net(torch, width)
        copy_parameters(torch, model, net)
        parameters["torch"] = sum(part.numel() for part in net.parameters())
        steps[f"torch, {way}"] = torch_step(torch, net, images, labels, way == "channels last")
    side = PRODUCT[options.preset]
    matrix = jnp.asarray(rng.normal(size=(side, side)), jnp.dtype(dtype))
    product = jax.jit(lambda a: a @ a)
    steps["product"] = lambda: product(matrix)

    load = [os.getloadavg()[0]]
    losses = {
        way: [float(step()) for _ in range(CHECKED_STEPS)]
        for way, step in steps.items()
        if way != "product"
    }
    seconds = in_turns(steps, options.preset)
    load.append(os.getloadavg()[0])

    loop = fit_beside(model, steps["jax"], batch, seconds["jax"], options)
    product_flops = 2 * side**3 / seconds.pop("product")
    step_flops = flops(width) * batch / seconds["jax"]
    rates = {way: batch / taken for way, taken in seconds.items()}
    theirs = [rate for way, rate in rates.items() if way != "jax"]
    peak = PEAK.get(jax.devices()[0].device_kind) if dtype == "bfloat16" else None
    return {
        "width": width,
        "batch": batch,
        "dtype": dtype,
        "cores": cores(),
        "load": load,
        "parameters": parameters,
        "losses": losses,
        "seconds": seconds,
        "images_per_second": rates,
        "ratio": rates["jax"] / max(theirs) if theirs else None,
        "gflops": step_flops / 1e9,
        "product_gflops": product_flops / 1e9,
        "share_of_product": step_flops / product_flops,
        "share_of_peak": step_flops / peak if peak else None,
        "fit": loop,
    }


def jax_step(model: nets.ResNet9, images: np.ndarray, labels: np.ndarray) -> Callable[[], Any]:
    """One step after the other on one device; each gives the loss before its update."""
    graph, params, rest = nnx.split(model, nnx.Param, ...)
    optimizer = optax.adamw(LEARNING_RATE, weight_decay=WEIGHT_DECAY)

    def step(state: Any, images: jax.Array, labels: jax.Array) -> Any:
        params, rest, moments = state

        def loss_of(params: Any) -> Any:
            net = nnx.merge(graph, params, rest, copy=True)
            losses = optax.softmax_cross_entropy_with_integer_labels(net(images), labels)
            return losses.mean(), nnx.state(net, nnx.Not(nnx.Param))

        (loss, rest), gradients = jax.value_and_grad(loss_of, has_aux=True)(params)
        updates, moments = optimizer.update(gradients, moments, params)
        return (optax.apply_updates(params, updates), rest, moments), loss

    compiled = jax.jit(step, donate_argnums=0)
    # Copies, since a state is donated.
    state = jax.tree.map(jnp.copy, (params, rest, optimizer.init(params)))
    batch = jax.device_put((images, labels.astype(np.int32)))

    def once() -> Any:
        nonlocal state
        state, loss = compiled(state, *batch)
        return loss

    return once


def fit_beside(
    model: nets.ResNet9, step: Callable[[], Any], batch: int, seconds: float, options: Any
) -> dict[str, float]:
    """Images per second of `fit`, and of bare steps between its dispatches.

    Its first dispatch is left out, which follows on compilation, and its last, which ends the run.
    """
    rng = np.random.default_rng(options.seed)
    images = rng.integers(0, 256, (4 * batch, SIDE, SIDE, CHANNELS), np.uint8)
    labels = np.arange(4 * batch) % CLASSES
    epochs = max(2, math.ceil(FIT_SECONDS[options.preset] / seconds / 4))
    bare: list[float] = []
    turns: list[tuple[int, float]] = []
    begin = math.nan

    def between(count: int, _: Any) -> None:
        nonlocal begin
        turns.append((count, time.perf_counter() - begin))
        start = time.perf_counter()
        jax.block_until_ready(step())
        bare.append(time.perf_counter() - start)
        begin = time.perf_counter()

    fit(
        model,
        Dataset.from_arrays(images, labels),
        classification(),
        epochs=epochs,
        batch_size=batch,
        checkpoint_every=4 * epochs,
        evaluate_at=(),
        progress=between,
        devices=jax.devices()[:1],
    )
    turns = turns[1:-1]
    a_step = sum(taken for _, taken in turns) / sum(count for count, _ in turns)
    alone = float(np.median(bare))
    return {
        "images_per_second": batch / a_step,
        "bare_images_per_second": batch / alone,
        "beyond_the_step": 1 - alone / a_step,
    }


def torch_step(
    torch: Any, net: Any, images: np.ndarray, labels: np.ndarray, channels_last: bool
) -> Callable[[], Any]:
    """The same in PyTorch."""
    batch = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
    target = torch.from_numpy(labels)
    if channels_last:
        net = net.to(memory_format=torch.channels_last)
        batch = batch.contiguous(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(
        net.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=True
    )

    def once() -> Any:
        optimizer.zero_grad(set_to_none=True)
        loss = torch.nn.functional.cross_entropy(net(batch), target)
        loss.backward()
        optimizer.step()
        return loss.item()

    return once


def widths_of(width: float) -> list[int]:
    return [round(width * full) for full in (64, 128, 256, 512, 1028)]


def torch_net(torch: Any, width: float) -> Any:
    """ResNet9 in PyTorch, in training mode."""
    nn = torch.nn

    class Residual(nn.Module):
        def __init__(self, features: int) -> None:
            super().__init__()
            self.body = nn.Sequential(*block(features, features), *block(features, features))

        def forward(self, x: Any) -> Any:
            return self.body(x) + x

    def block(inputs: int, outputs: int) -> list[Any]:
        conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        return [conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]

    w1, w2, w3, w4, w5 = widths_of(width)
    return nn.Sequential(
        *block(CHANNELS, w1),
        *block(w1, w2),
        nn.MaxPool2d(2),
        Residual(w2),
        *block(w2, w3),
        nn.MaxPool2d(2),
        *block(w3, w4),
        nn.MaxPool2d(2),
        Residual(w4),
        *block(w4, w5),
        nn.MaxPool2d(2),
        Residual(w5),
        nn.AdaptiveMaxPool2d(1),
        nn.Flatten(),
        nn.Linear(w5, CLASSES),
    )


def copy_parameters(torch: Any, model: nets.ResNet9, net: Any) -> None:
    """Gives the PyTorch network the parameters of the JAX one."""
    kinds = (torch.nn.Conv2d, torch.nn.BatchNorm2d, torch.nn.Linear)
    theirs = [module for module in net.modules() if isinstance(module, kinds)]
    ours = [*with_parameters(model.body), model.head]
    for mine, other in zip(ours, theirs, strict=True):
        weight = np.asarray(
            mine.scale[...] if isinstance(mine, nnx.BatchNorm) else mine.kernel[...]
        )
        weight = weight.transpose({1: (0,), 2: (1, 0), 4: (3, 2, 0, 1)}[weight.ndim])
        with torch.no_grad():
            other.weight.copy_(torch.from_numpy(weight.copy()))
            if other.bias is not None:
                other.bias.copy_(torch.from_numpy(np.array(mine.bias[...])))


def with_parameters(module: Any) -> Iterator[Any]:
    """Convolutions and normalizations in the order in which they are used."""
    if isinstance(module, nnx.Sequential):
        for layer in module.layers:
            yield from with_parameters(layer)
    elif isinstance(module, Residual):
        yield from with_parameters(module.body)
    elif isinstance(module, nnx.Conv | nnx.BatchNorm):
        yield module


def flops(width: float) -> float:
    """Operations for one image: of the convolutions, forward and twice as many backward."""
    w1, w2, w3, w4, w5 = widths_of(width)
    half, quarter, eighth, last = SIDE // 2, SIDE // 4, SIDE // 8, SIDE // 16
    convolutions = [
        (CHANNELS, w1, SIDE),
        (w1, w2, SIDE),
        *[(w2, w2, half)] * 2,
        (w2, w3, half),
        (w3, w4, quarter),
        *[(w4, w4, eighth)] * 2,
        (w4, w5, eighth),
        *[(w5, w5, last)] * 2,
    ]
    return 3.0 * sum(2 * 9 * inputs * outputs * side**2 for inputs, outputs, side in convolutions)


def in_turns(steps: dict[str, Callable[[], Any]], preset: str) -> dict[str, float]:
    """Median seconds of each step, which take turns; all have run before.

    The first step of a turn is not timed: it finds the threads of another still waiting for work,
    and nothing of its own in the caches, which no training meets.
    """
    counts = {}
    for way, step in steps.items():
        jax.block_until_ready(step())
        start = time.perf_counter()
        jax.block_until_ready(step())
        counts[way] = max(1, round(AT_LEAST[preset] / (time.perf_counter() - start)))
    seconds: dict[str, list[float]] = {way: [] for way in steps}
    for _ in range(TURNS[preset]):
        for way, step in steps.items():
            jax.block_until_ready(step())
            start = time.perf_counter()
            for _ in range(counts[way]):
                result = step()
            jax.block_until_ready(result)
            seconds[way].append((time.perf_counter() - start) / counts[way])
    return {way: float(np.median(taken)) for way, taken in seconds.items()}


def show(parts: dict[str, Any]) -> None:
    print(
        f"\n{'':<30} {'parameters':>10} {'JAX':>9} {'PyTorch':>9} {'ratio':>7}"
        f" {'GFLOP/s':>9} {'/ product':>9} {'/ peak':>7} {'fit':>9} {'beyond':>7}"
    )
    for name, part in parts.items():
        rates = part["images_per_second"]
        theirs = max((rate for way, rate in rates.items() if way != "jax"), default=None)
        print(
            f"{name:<30} {part['parameters']['jax']:>10} {rates['jax']:>9.1f} {cell(theirs, 9, 1)}"
            f" {cell(part['ratio'], 7, 2)} {part['gflops']:>9.1f} {part['share_of_product']:>9.2f}"
            f" {cell(part['share_of_peak'], 7, 2)} {part['fit']['images_per_second']:>9.1f}"
            f" {part['fit']['beyond_the_step']:>7.1%}"
        )
    print(
        "\nJAX, PyTorch: images per second, of PyTorch in the faster of its two layouts; / product:"
        "\nof the rate of a bare matrix product in the same run; / peak: of the bfloat16 peak that"
        "\nthe maker states; fit: images per second of the training loop; beyond: the share of its"
        "\ntime beyond the bare steps with which it took turns"
    )


def cell(value: float | None, width: int, digits: int) -> str:
    return f"{'-':>{width}}" if value is None else f"{value:>{width}.{digits}f}"


if __name__ == "__main__":
    main()
