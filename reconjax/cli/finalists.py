"""What `reconjax advise --train` says of the networks that it trained."""

from typing import TYPE_CHECKING, Any

from reconjax.cli.tables import print_table

if TYPE_CHECKING:
    import xarray

SECONDS = {"s": 1, "m": 60, "h": 3600}


def seconds(text: str) -> float:
    """Of 90s, 20m or 1h."""
    number, unit = text[:-1], text[-1:]
    try:
        seconds = float(number) * SECONDS[unit]
    except (ValueError, KeyError):
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise ValueError(f"--train: {text}; a time like 90s, 20m or 1h is needed")
    return seconds


def record(trained: "xarray.Dataset") -> dict[str, Any]:
    """Plain values: the closed form of every mask, and all trainings."""
    rows = []
    for number, epochs in enumerate(trained.epochs.values.tolist()):
        for noise in trained.noise.values.tolist():
            at = trained.sel(noise=noise, round=number)
            if bool(at.r2.notnull()):
                values = {name: float(at[name]) for name in ("validation_r2", "r2", "accuracy")}
                rows.append({"noise": noise, "epochs": epochs, **values})
    predicted = {
        str(noise): float(trained.predicted.sel(noise=noise)) for noise in trained.noise.values
    }
    return {"chosen": trained.attrs["chosen"], "predicted": predicted, "trained": rows}


def show(trained: "xarray.Dataset") -> None:
    """The masks by the closed form, and what probes of their networks explain, round by round."""
    rounds = [f"{epochs} epoch" + "s" * (epochs > 1) for epochs in trained.epochs.values.tolist()]
    print()
    rows = []
    for noise in trained.noise.values.tolist():
        at = trained.sel(noise=noise)
        measured = [f"{value:.4f}" if value == value else "" for value in at.r2.values.tolist()]
        rows.append([noise, f"{float(at.predicted):.4f}", *measured])
    closed_form = f"closed form, K = {trained.attrs['latent_dim']}"
    print_table(["mask", closed_form, *rounds], rows, left=("mask",))
    print(f"closed form without a mask, PCA: {trained.attrs['without']:.4f}")
    chosen, first = trained.attrs["chosen"], trained.noise.values[0].item()
    accuracy = float(trained.accuracy.sel(noise=chosen).isel(round=-1))
    print(
        f"r2 of linear heads on the test split; {chosen} was trained last: accuracy {accuracy:.3f}."
    )
    if chosen != first:
        print(f"Training preferred it to the first by the closed form, {first}.")
    elif len(rounds) > 1:
        print("It is the first by the closed form, too.")
    print("One network for each mask: how much another seed would change is not measured.")
