"""`reconjax detect`."""

import argparse
import dataclasses
import json
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import reconjax
from reconjax.cli.inputs import check_memory, dataset, split
from reconjax.cli.printing import folder, progress, say_files
from reconjax.data.layout import shape_text
from reconjax.noise import parse_noise
from reconjax.noise.groups import usual_patches
from reconjax.storage.files import replacing
from reconjax.summary import hosts
from reconjax.theory.certificate import Certificate, certificate, check_latent_dims
from reconjax.theory.solver import check_latent_dim

# (D, D) float64 matrices that a certificate holds at its peak.
DENSE_MATRICES = 16


def run(options: argparse.Namespace) -> None:
    """Prints which noises can never help, and how much the others can change; needs no labels."""
    data = dataset(options)
    if options.class_weight:
        raise ValueError("--class-weight: does not apply; detect uses no labels")
    texts = options.noise or _usual(data.example_shape)
    for latent_dim in options.latent_dim or ():
        check_latent_dim(latent_dim, data.features)  # the rank is known later
    check_memory(options, DENSE_MATRICES * 8 * data.features**2, "certificates")
    _check(texts, data)
    out = folder(options.out)
    found = _moments(options)
    if not hosts.first():
        return
    certificates = []
    with progress("noises", len(texts) + 1) as bar:
        principal = reconjax.spectrum(found)
        check_latent_dims(options.latent_dim, int(principal.rank), found.features)
        bar()
        for text in texts:
            noise = parse_noise(text, data.example_shape, principal)
            certificates.append(certificate(found, noise, options.latent_dim, principal=principal))
            bar()
    results = [_result(*one) for one in zip(texts, certificates, strict=True)]
    if out is not None:
        from reconjax.plots import certificate_figure, save

        named = dict(zip(texts, certificates, strict=True))
        title = f"{data.name}: what each noise can change for a linear autoencoder"
        save(certificate_figure(named, title=title), out / "detect.png")
        with replacing(out / "detect.json") as part:
            part.write_text(json.dumps(results) + "\n")
    if options.json:
        print(json.dumps(results))
        return
    rank = certificates[0].rank
    print(
        f"{data.name}: {int(found.samples)} samples, {found.features} features of rank {rank};"
        f" no label was used; {shape_text(data.example_shape)}"
    )
    _print(texts, certificates)
    say_files(out, "detect.png", "detect.json")


def _usual(example_shape: tuple[int, ...]) -> list[str]:
    """The noises when none is given: masks of small patches."""
    if len(example_shape) != 3:
        return ["gaussian:0.5", "pixel:0.75"]
    height, width, _ = example_shape
    masks = [
        f"mask:0.75:{h}x{w}" + (":partial" if height % h or width % w else "")
        for h, w in usual_patches(example_shape)[0]
    ]
    return ["gaussian:0.5", *masks]


def _check(texts: list[str], data: Any) -> None:
    """Raises ValueError for a text that names no noise, before the data are read."""
    zeros = jnp.zeros(data.features)
    stand_in = reconjax.Spectrum(
        eigenvalues=zeros,
        eigenvectors=jnp.eye(data.features),
        rank=jnp.int32(0),
        labels=zeros[:0, None],
        label_moment=zeros[:0, None],
        mean_y=zeros[:0],
        mean=zeros,
        scale=jnp.ones(data.features),
        samples=jnp.ones(()),
    )
    for text in texts:
        parse_noise(text, data.example_shape, stand_in)


def _moments(options: argparse.Namespace) -> Any:
    """The moments of the training split; its labels are not looked at."""
    mine = hosts.part(split(options))
    with progress("samples", len(mine)) as bar:

        def counted() -> Iterator[tuple[Any, Any]]:
            for images, _ in mine.batches():
                # 8-bit images with labels are summed without rounding: any two classes will do.
                yield images, np.arange(len(images)) % 2
                bar(len(images))

        local = jax.local_devices()
        found = reconjax.moments_from_batches(
            counted(), num_classes=2, devices=local if len(local) > 1 else None
        )
    found = hosts.merged(found)
    if options.standardize:
        found = reconjax.standardized(found)
    return dataclasses.replace(
        found,
        cross_moment=found.cross_moment[:, :0],
        label_moment=found.label_moment[:0, :0],
        mean_y=found.mean_y[:0],
    )


def _result(text: str, one: Certificate) -> dict[str, Any]:
    """What --json says of a noise."""
    result = {"noise": text, **one._asdict()}
    del result["worst_label"], result["overlap"]
    return {
        name: value.tolist() if isinstance(value, np.ndarray) else value
        for name, value in result.items()
    }


def _print(texts: list[str], certificates: list[Certificate]) -> None:
    dims = certificates[0].latent_dim
    width = max(map(len, texts))
    head = " ".join([" " * width, *(f"{f'K={k}':>8}" for k in dims)])
    marks = set()
    print(f"largest possible change of the explained share, for any label\n{head}")
    for text, one in zip(texts, certificates, strict=True):
        cells = ""
        for change, ambiguous, gap in zip(one.largest_change, one.ambiguous, one.gap, strict=True):
            mark = "!" if ambiguous else "~" if gap < one.sampling else " "
            marks.add(mark)
            cells += f"{change:>8.4f}{mark}"
        print(f"{text:<{width}} {cells}".rstrip())
    print(f"mean squared cosine of the representations with and without noise\n{head}")
    for text, one in zip(texts, certificates, strict=True):
        print(f"{text:<{width}} {''.join(f'{c:>8.4f} ' for c in one.mean_squared_cosine)}".rstrip())
    print("verdict")
    for text, one in zip(texts, certificates, strict=True):
        helps = "never helps" if one.verdict == "never" else "may help"
        print(f"{text:<{width}}  {helps}: {one.reason}\n{'':<{width}}    {_margins(one)}")
    if "~" in marks:
        sampling = f"relative {certificates[0].sampling:.1e}"
        print(f"~: eigenvalues K and K + 1 differ by less than their sampling error ({sampling})")
    if "!" in marks:
        print("!: they differ by rounding; the bound is one for the eigenvectors that were chosen")
    print(
        "For linear encoders, decoders and heads, the head fitted on clean inputs, on these data."
        "\nWhether a change is a gain depends on the labels: `reconjax sweep`."
    )


def _margins(one: Certificate) -> str:
    """What the verdict was judged by."""
    text = (
        f"commutator {one.commutator:.1e}, mixing {one.mixing:.1e} (0 is up to {one.tolerance:.1e})"
    )
    if one.order_broken:
        return f"{text}, order broken at {len(one.order_broken)} K, first at {one.order_broken[0]}"
    return f"{text}, order kept by {one.order_margin:.1e}"
