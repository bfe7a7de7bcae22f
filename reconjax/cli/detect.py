"""`reconjax detect`."""

import json
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

import reconjax
from reconjax.cli.options import (
    GRID,
    DataOptions,
    Hosts,
    LatentDims,
    Name,
    Output,
    first_process,
)
from reconjax.cli.options import command as new_command
from reconjax.cli.tables import headline, print_table, say_files
from reconjax.storage.files import write_json

if TYPE_CHECKING:
    import xarray

command = new_command(
    "detect",
    """
reconjax detect digits --out out
reconjax detect cifar10 --noise gaussian:0.5 mask:0.75:4x4 --latent-dims 32
reconjax detect mine.npz --noise exact:0.75:2x2 --json
""",
)
CURVES = ("largest_change", "mean_squared_cosine", "gap", "ambiguous")


@command.default
def detect(
    data: Name = "digits",
    /,
    *,
    noise: Annotated[list[str] | None, Parameter(group=GRID)] = None,
    latent_dims: Annotated[LatentDims, Parameter(group=GRID)] = None,
    side: Annotated[Literal["auto", "features", "samples"], Parameter(group=GRID)] = "auto",
    reading: DataOptions = DataOptions(),  # noqa: B008 - frozen
    output: Output = Output(),  # noqa: B008
    hosts: Hosts = Hosts(),  # noqa: B008
) -> None:
    """Print which noises can never help, and how much the others can change; needs no labels.

    Parameters
    ----------
    noise
        Texts like mask:0.75:4x4 or mask:0.5:2x2+gaussian:0.1 (gaussian:0.5, and mask:0.75
        with patches of three sizes).
    side
        D x D or N x N matrices.
    """
    output.prepare()
    result = reconjax.studies.detect(
        data,
        noises=noise,
        latent_dims=latent_dims,
        side=side,
        out=output.out,
        **reading.keywords(),
    )
    if not first_process():
        return
    records = [record(result, index) for index in range(result.sizes["noise"])]
    name = result.attrs["data"]
    if output.out is not None:
        from reconjax.plots import certificate_figure, save

        title = f"{name}: what each noise can change for a linear autoencoder"
        save(certificate_figure(result, title=title), output.out / "detect.png")
        write_json(records, output.out / "detect.json")
    if output.json:
        print(json.dumps(records))
        return
    print(headline(result, "no label was used"))
    if result.attrs["side"] == "samples":
        print("by samples: no matrix is larger than {samples} x {samples}".format(**result.attrs))
    _print(records)
    say_files(output.out, "detect.png", "detect.nc", "detect.json")


def record(result: "xarray.Dataset", index: int) -> dict[str, Any]:
    """What --json says of a noise."""
    row = result.isel(noise=index)
    every = result.direction.values

    def places(name: str) -> list[int]:
        return every[row[name].values].tolist()

    return {
        "noise": row.noise.item(),
        "verdict": row.verdict.item(),
        "reason": row.reason.item(),
        "latent_dim": result.latent_dim.values.tolist(),
        **{name: row[name].values.tolist() for name in CURVES},
        "ties": places("ties"),
        "commutator": row.commutator.item(),
        "mixing": row.mixing.item(),
        "tolerance": result.attrs["tolerance"],
        "order_margin": row.order_margin.item(),
        "order_broken": places("order_broken"),
        "sampling": result.attrs["sampling"],
        "rank": result.attrs["rank"],
    }


def _print(records: list[dict[str, Any]]) -> None:
    first = records[0]
    heads = ["noise", *(f"K={k}" for k in first["latent_dim"])]
    marks = set()
    rows = []
    for noise in records:
        cells = [noise["noise"]]
        columns = noise["largest_change"], noise["ambiguous"], noise["gap"]
        for change, ambiguous, gap in zip(*columns, strict=True):
            mark = "!" if ambiguous else "~" if gap < noise["sampling"] else " "
            marks.add(mark)
            cells.append(f"{change:.4f}{mark}")
        rows.append(cells)
    print("largest possible change of r2, for any label")
    print_table(heads, rows, left=("noise",))
    print("mean squared cosine of the representations with and without noise")
    cosines = [
        [noise["noise"], *(f"{cosine:.4f} " for cosine in noise["mean_squared_cosine"])]
        for noise in records
    ]
    print_table(heads, cosines, left=("noise",))
    verdicts = []
    for noise in records:
        helps = "never helps" if noise["verdict"] == "never" else "may help"
        verdicts += [[noise["noise"], f"{helps}: {noise['reason']}"], ["", _margins(noise)]]
    print_table(["verdict", ""], verdicts, left=("verdict", ""))
    if "~" in marks:
        sampling = f"relative {first['sampling']:.1e}"
        print(f"~: eigenvalues K and K + 1 differ by less than their sampling error ({sampling})")
    if "!" in marks:
        print("!: they differ by rounding; the bound is one for the eigenvectors that were chosen")
    print(
        "For linear encoders, decoders and heads, the head fitted on clean inputs, on these data."
        "\nWhether a change is a gain depends on the labels: `reconjax sweep`."
    )


def _margins(noise: dict[str, Any]) -> str:
    """The numbers behind the verdict."""
    text = (
        f"commutator {noise['commutator']:.1e}, mixing {noise['mixing']:.1e}"
        f" (0 is up to {noise['tolerance']:.1e})"
    )
    if broken := noise["order_broken"]:
        return f"{text}, order broken at {len(broken)} K, first at {broken[0]}"
    return f"{text}, order kept by {noise['order_margin']:.1e}"
