"""What every experiment shares: its arguments, and results in a JSON file that grows as it runs.

    options = report.arguments(__doc__)
    results = report.resume(options.out, "name", settings)   # {"settings": ..., "parts": {...}}
    for key in ...:
        if key not in results["parts"]:
            results["parts"][key] = measure(key)
            report.write(options.out, "name", results)

A part that is in the file is not measured again. To go on with other settings would mix results
that cannot be compared: `resume` refuses it.
"""

import argparse
import io
import json
import math
import platform
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

import jax
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from reconjax.storage.files import output_folder, replacing

PRESETS = ("smoke", "quick", "full")


def arguments(
    description: str | None,
    argv: Sequence[str] | None = None,
    *,
    data: Sequence[str] | None = None,
) -> argparse.Namespace:
    """Parses --preset, --out (a Path, created), --seed, --data-dir and, with `data`, --data.

    Ends the program with one line and status 2 where --out cannot be written.
    """
    parser = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
    parser.add_argument("--preset", choices=PRESETS, default="quick", help="how long to measure")
    parser.add_argument("--out", type=Path, required=True, help="folder for JSON and figures")
    parser.add_argument("--seed", type=int, default=0, help="where all randomness comes from")
    parser.add_argument("--data-dir", type=Path, help="prepared TFDS sets, where they are used")
    if data is not None:
        parser.add_argument("--data", nargs="+", default=list(data), help="see `reconjax datasets`")
    options = parser.parse_args(argv)
    try:
        options.out = output_folder(options.out)
    except OSError as error:
        fail(str(error))
    return options


def fail(message: str) -> NoReturn:
    """Ends the program with one line on stderr and status 2."""
    print(message, file=sys.stderr)
    raise SystemExit(2)


def resume(out: Path, name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The results in OUT/NAME.json, or {"settings": settings, "parts": {}} where there are none.

    Ends the program with one line and status 2 where they were made with other settings.
    """
    path = Path(out, f"{name}.json")
    wanted = plain(settings)
    if not path.exists():
        return {"settings": wanted, "parts": {}}
    try:
        found = json.loads(path.read_text())
        made = found["settings"]
        kept = {key: found[key] for key in found.keys() - _origin().keys()}
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        fail(f"{path}: cannot be read as results of {name}; move it away or choose another --out")
    if made != wanted:
        other = sorted(k for k in {*made, *wanted} if made.get(k) != wanted.get(k))
        fail(f"{path}: made with another {', '.join(other)}; choose another --out")
    return kept


def write(out: Path, name: str, results: Mapping[str, Any]) -> Path:
    """Writes OUT/NAME.json, whole or not at all: the results and where they come from.

    NaN becomes null and infinities "inf" and "-inf", so that any reader of JSON can read it.
    """
    path = Path(out, f"{name}.json")
    with replacing(path) as part:
        part.write_text(json.dumps(plain({**_origin(), **results}), allow_nan=False) + "\n")
    return path


def picture(out: Path, name: str, figure: Figure, *, dpi: int = 100) -> Path:
    """Writes OUT/NAME.png with a palette of 256 colours: a third of the size, and no worse."""
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=dpi)
    path = Path(out, f"{name}.png")
    with replacing(path) as part:
        image = Image.open(drawn).convert("RGB").quantize(256, dither=Image.Dither.NONE)
        image.save(part, format="PNG", optimize=True)
    return path


def plain(value: Any) -> Any:
    """The value as JSON will give it back: lists, dicts with text keys, finite numbers."""
    if isinstance(value, Mapping):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        return plain(np.asarray(value).tolist())
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value


def rounded(values: Any, digits: int = 5) -> list[Any]:
    """Numbers to so many significant digits: curves that are read by eye need no more."""
    array = np.asarray(values, float)
    return [float(f"{v:.{digits}g}") if v.ndim == 0 else rounded(v, digits) for v in array]


def _origin() -> dict[str, Any]:
    device = jax.devices()[0]
    argv = ["DIR" if before == "--data-dir" else word for before, word in pairwise(sys.argv)]
    packages = ("jax", "numpy", "reconjax")
    return {
        "command": [Path(sys.argv[0]).name, *argv],
        "device": f"{jax.device_count()} x {device.platform}: {device.device_kind}",
        "versions": {
            "python": platform.python_version(),
            **{package: version(package) for package in packages},
        },
    }
