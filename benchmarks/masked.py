"""Images per second of a masked autoencoder's training step, against the same network in PyTorch.

    python -m benchmarks.masked --preset full --out benchmarks/results/masked

A step is forward, backward and AdamW update of a vision transformer that sees a fourth of the
patches of images that are in memory, and predicts the others; which ones was drawn before. Both
networks start from the same parameters and must give the same first losses. They are warmed up and
then take turns in one run; seconds are medians. PyTorch is needed here alone (`pip install torch`);
without it JAX is measured by itself. On a GPU PyTorch runs there too, in bfloat16 as JAX does, and
the network of small images a second time as `torch.compile` makes it.

The step's arithmetic, of matrix products alone, is set against that of a bare matrix product in the
same run, and on accelerators against the bfloat16 peak that the maker states for the device.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from benchmarks.sweep import cores
from benchmarks.training import LEARNING_RATE, PEAK, WEIGHT_DECAY, cell, in_turns, torch_if_there
from experiments import report
from reconjax import nets
from reconjax.nets.transformer import positions

RATIO = 0.75  # of the patches is masked
CHECKED_STEPS = 3


class Case(NamedTuple):
    """A network on images of one size.

    Attributes:
      net: a name of `reconjax.nets.make`.
      side: of the images, in pixels.
      batch: images of a step.
      options: of the network.
    """

    net: str
    side: int
    batch: int
    options: dict[str, Any]


SMALL = {"width": 16, "depth": 1, "heads": 2, "decoder_width": 8}
CPU = {
    "smoke": (Case("vit", 16, 8, SMALL),),
    "quick": (Case("vit", 32, 64, {}),),
    "full": (Case("vit", 32, 250, {}), Case("vit-ti", 32, 64, {}), Case("vit-s", 224, 8, {})),
}
ACCELERATORS = CPU | {"full": (Case("vit", 32, 1000, {}), Case("vit-s", 224, 256, {}))}
COMPILED_UP_TO = 32  # pixels: larger networks take torch.compile minutes


def main(argv: list[str] | None = None) -> None:
    options = report.arguments(__doc__, argv, float64=False)
    torch = torch_if_there()
    on_cpu = jax.default_backend() == "cpu"
    settings = {"preset": options.preset, "seed": options.seed}
    settings["torch"] = torch.__version__ if torch else None
    dtype = "float32" if on_cpu else "bfloat16"
    cases = {
        f"{case.net}, {case.side} x {case.side}, batch {case.batch}, {dtype}": partial(
            measure, torch, case, dtype, options
        )
        for case in (CPU if on_cpu else ACCELERATORS)[options.preset]
    }
    show(report.measured(options.out, "masked", settings, cases)["parts"])


def measure(torch: Any, case: Case, dtype: str, options: Any) -> dict[str, Any]:
    rng = np.random.default_rng(options.seed)
    shape = (case.side, case.side, 3)
    images = rng.normal(size=(case.batch, *shape)).astype(np.float32)
    model: Any = nets.make(
        case.net, shape, rngs=nnx.Rngs(options.seed), dtype=jnp.dtype(dtype), **case.options
    )
    seen = round((1 - RATIO) * model.tokens)
    order = rng.permuted(np.tile(np.arange(model.tokens, dtype=np.int32), (case.batch, 1)), axis=1)
    steps = {"jax": jax_step(model, images, order, seen)}
    parameters = {"jax": nets.parameter_count(model)}
    compiled = jax.default_backend() == "gpu" and case.side <= COMPILED_UP_TO
    for way in ("torch", "torch, compiled")[: 1 + compiled] if torch else ():
        net = torch_net(torch, model)
        copy_parameters(torch, model, net)
        parameters[way] = sum(part.numel() for part in net.parameters())
        steps[way] = torch_step(torch, net, images, order, seen, compiled=way != "torch")
    side = 4096 if jax.default_backend() != "cpu" else 256 if options.preset == "smoke" else 2048
    matrix = jnp.asarray(rng.normal(size=(side, side)), jnp.dtype(dtype))
    product = jax.jit(lambda a: a @ a)
    steps["product"] = lambda: product(matrix)
    losses = {
        way: [float(step()) for _ in range(CHECKED_STEPS)]
        for way, step in steps.items()
        if way != "product"
    }
    seconds = in_turns(steps, options.preset)
    product_flops = 2 * side**3 / seconds.pop("product")
    rates = {way: case.batch / taken for way, taken in seconds.items()}
    theirs = [rate for way, rate in rates.items() if way != "jax"]
    step_flops = flops(model, seen) * rates["jax"]
    peak = PEAK.get(jax.devices()[0].device_kind) if dtype == "bfloat16" else None
    return {
        **case._asdict(),
        "dtype": dtype,
        "cores": cores(),
        "parameters": parameters,
        "losses": losses,
        "seconds": seconds,
        "images_per_second": rates,
        "ratio": rates["jax"] / max(theirs) if theirs else None,
        "gflops": step_flops / 1e9,
        "share_of_product": step_flops / product_flops,
        "share_of_peak": step_flops / peak if peak else None,
    }


def flops(model: Any, seen: int) -> float:
    """Operations for one image: of the matrix products, forward and twice as many backward.

    For each token of width w in a block: 4 w² of attention's projections, 8 w² of the MLP, and
    2 t w of attention to t tokens, each a multiplication and an addition.
    """
    width, decoder_width = model.width, model.decoder_width
    values = int(np.prod(model.patch_shape)) * model.example_shape[2]

    def blocks(part: Any, w: int, tokens: int) -> int:
        depth = len(part.branches.layers) // 2
        return depth * tokens * (12 * w**2 + 2 * tokens * w)

    encoder = seen * values * width + blocks(model.encoder, width, 1 + seen)
    decoder = (1 + seen) * width * decoder_width + model.tokens * decoder_width * values
    decoder += blocks(model.decoder, decoder_width, 1 + model.tokens)
    return 3.0 * 2 * (encoder + decoder)


def jax_step(
    model: Any, images: np.ndarray, order: np.ndarray, seen: int
) -> Callable[[], jax.Array]:
    """One step after the other on one device; each gives the loss before its update."""
    graph, params = nnx.split(model)
    optimizer = optax.adamw(LEARNING_RATE, weight_decay=WEIGHT_DECAY)

    def step(state: Any, images: jax.Array, order: jax.Array) -> Any:
        params, moments = state

        def loss_of(params: Any) -> jax.Array:
            net = nnx.merge(graph, params, copy=True)
            predicted = net.predict(net.encode(images, order[:, :seen]), order)[:, seen:]
            wanted = jnp.take_along_axis(net.patches(images), order[:, seen:, None], axis=1)
            return jnp.square(predicted - wanted).mean()

        loss, gradients = jax.value_and_grad(loss_of)(params)
        updates, moments = optimizer.update(gradients, moments, params)
        return (optax.apply_updates(params, updates), moments), loss

    compiled = jax.jit(step, donate_argnums=0)
    # Copies, since a state is donated.
    state = jax.tree.map(jnp.copy, (params, optimizer.init(params)))
    batch = jax.device_put((images, order))

    def once() -> jax.Array:
        nonlocal state
        state, loss = compiled(state, *batch)
        return loss

    return once


class Loss:
    """A number that PyTorch may still be working at."""

    def __init__(self, torch: Any, value: Any) -> None:
        self.torch, self.value = torch, value

    def __float__(self) -> float:
        return float(self.value)

    def block_until_ready(self) -> "Loss":
        """As that of a `jax.Array`."""
        if self.value.is_cuda:
            self.torch.cuda.synchronize()
        return self


def torch_step(
    torch: Any, net: Any, images: np.ndarray, order: np.ndarray, seen: int, *, compiled: bool
) -> Callable[[], Loss]:
    """The same in PyTorch."""
    place = "cuda" if jax.default_backend() == "gpu" else "cpu"
    net = net.to(place)
    x = torch.from_numpy(images).to(place)
    places = torch.from_numpy(order.astype(np.int64)).to(place)
    optimizer = torch.optim.AdamW(
        net.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=True
    )

    def loss_of() -> Any:
        with torch.autocast(place, torch.bfloat16, enabled=place == "cuda"):
            predicted = net(x, places, seen)
        wanted = taken(torch, net.patches(x), places[:, seen:])
        return torch.square(predicted[:, seen:].float() - wanted).mean()

    forward = torch.compile(loss_of) if compiled else loss_of

    def once() -> Loss:
        optimizer.zero_grad(set_to_none=True)
        loss = forward()
        loss.backward()
        optimizer.step()
        return Loss(torch, loss.detach())

    return once


def taken(torch: Any, tokens: Any, places: Any) -> Any:
    """Some tokens (N, V, w) of each image's (N, T, w)."""
    return torch.take_along_dim(tokens, places[..., None], dim=1)


def torch_net(torch: Any, model: Any) -> Any:
    """The masked autoencoder in PyTorch."""
    nn = torch.nn
    values = int(np.prod(model.patch_shape)) * model.example_shape[2]
    (rows, columns), (height, width) = model.grid, model.patch_shape

    class Block(nn.Module):
        def __init__(self, size: int, heads: int) -> None:
            super().__init__()
            self.heads = heads
            self.norm = nn.LayerNorm(size, eps=1e-6)
            self.query, self.key, self.value, self.out = (nn.Linear(size, size) for _ in range(4))
            self.mlp = nn.Sequential(
                nn.LayerNorm(size, eps=1e-6),
                nn.Linear(size, 4 * size),
                nn.GELU("tanh"),
                nn.Linear(4 * size, size),
            )

        def forward(self, x: Any) -> Any:
            y = self.norm(x)
            split = [
                part(y).unflatten(2, (self.heads, -1)).transpose(1, 2)
                for part in (self.query, self.key, self.value)
            ]
            mixed = nn.functional.scaled_dot_product_attention(*split)
            x = x + self.out(mixed.transpose(1, 2).flatten(2))
            return x + self.mlp(x)

    def transformer(part: Any, size: int) -> Any:
        layers = part.branches.layers[::2]
        heads = [attention.body.layers[1].num_heads for attention in layers]
        return nn.Sequential(*(Block(size, each) for each in heads), nn.LayerNorm(size, eps=1e-6))

    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Linear(values, model.width)
            self.class_token = nn.Parameter(torch.zeros(model.width))
            self.encoder = transformer(model.encoder, model.width)
            self.decoder_embedding = nn.Linear(model.width, model.decoder_width)
            self.mask_token = nn.Parameter(torch.zeros(model.decoder_width))
            self.decoder = transformer(model.decoder, model.decoder_width)
            self.prediction = nn.Linear(model.decoder_width, values)
            for name, size in (("places", model.width), ("all_places", model.decoder_width)):
                self.register_buffer(name, torch.from_numpy(positions(rows, columns, size)))

        def patches(self, x: Any) -> Any:
            parts = x.reshape(len(x), rows, height, columns, width, -1)
            return parts.permute(0, 1, 3, 2, 4, 5).reshape(len(x), rows * columns, -1)

        def forward(self, x: Any, order: Any, seen: int) -> Any:
            visible = order[:, :seen]
            tokens = self.embedding(taken(torch, self.patches(x), visible)) + self.places[visible]
            first = self.class_token.expand(len(x), 1, -1)
            codes = self.encoder(torch.cat([first, tokens], 1))
            known = self.decoder_embedding(codes)
            blank = self.mask_token.expand(len(x), order.shape[1] - seen, -1)
            patches = torch.cat([known[:, 1:], blank], 1) + self.all_places[order]
            return self.prediction(self.decoder(torch.cat([known[:, :1], patches], 1))[:, 1:])

    return Masked()


def copy_parameters(torch: Any, model: Any, net: Any) -> None:
    """Gives the PyTorch network the parameters of the JAX one."""

    def copy(theirs: Any, ours: Any) -> None:
        with torch.no_grad():
            theirs.copy_(torch.from_numpy(np.array(ours).reshape(theirs.shape)))

    def linear(theirs: Any, ours: Any) -> None:
        size = theirs.weight.shape[1]
        copy(theirs.weight, np.asarray(ours.kernel[...]).reshape(size, -1).T)
        copy(theirs.bias, ours.bias[...])

    def norm(theirs: Any, ours: Any) -> None:
        copy(theirs.weight, ours.scale[...])
        copy(theirs.bias, ours.bias[...])

    def transformer(theirs: Any, ours: Any) -> None:
        branches = ours.branches.layers
        for block, attention, mlp in zip(theirs[:-1], branches[::2], branches[1::2], strict=True):
            before, heads = attention.body.layers
            norm(block.norm, before)
            for name in ("query", "key", "value", "out"):
                linear(getattr(block, name), getattr(heads, name))
            norm(block.mlp[0], mlp.body.layers[0])
            linear(block.mlp[1], mlp.body.layers[1])
            linear(block.mlp[3], mlp.body.layers[3])
        norm(theirs[-1], ours.norm)

    for name in ("embedding", "decoder_embedding", "prediction"):
        linear(getattr(net, name), getattr(model, name))
    for name in ("class_token", "mask_token"):
        copy(getattr(net, name), getattr(model, name)[...])
    for name in ("encoder", "decoder"):
        transformer(getattr(net, name), getattr(model, name))


def show(parts: dict[str, Any]) -> None:
    print(
        f"\n{'':<40} {'parameters':>10} {'JAX':>9} {'PyTorch':>9} {'ratio':>6}"
        f" {'GFLOP/s':>9} {'/ product':>9} {'/ peak':>7}"
    )
    for name, part in parts.items():
        rates = part["images_per_second"]
        theirs = max((rate for way, rate in rates.items() if way != "jax"), default=None)
        print(
            f"{name:<40} {part['parameters']['jax']:>10} {rates['jax']:>9.1f} {cell(theirs, 9, 1)}"
            f" {cell(part['ratio'], 6, 2)} {part['gflops']:>9.1f} {part['share_of_product']:>9.3f}"
            f" {cell(part['share_of_peak'], 7, 3)}"
        )
    print(
        "\nJAX, PyTorch: images per second, of PyTorch in the faster of its ways; / product: of the"
        "\nrate of a bare matrix product in the same run; / peak: of the bfloat16 peak that the"
        "\nmaker states"
    )


if __name__ == "__main__":
    main()
