"""What every experiment shares: its arguments, its parts, results in a JSON file, pictures.

    options = report.arguments(__doc__)
    results = report.measured(options.out, "name", settings, {"case": measure, ...})
    report.picture(options.out, "name", draw(results["parts"]))

Every case is measured on its own and kept at once: a run that was killed goes on with the next one.
"""

import argparse
import io
import json
import math
import platform
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

import jax
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from reconjax.storage.files import output_folder, replacing
from reconjax.storage.parts import Parts
from reconjax.studies.progress import say

PRESETS = ("smoke", "quick", "full")


def arguments(
    description: str | None,
    argv: Sequence[str] | None = None,
    *,
    data: Sequence[str] | None = None,
    float64: bool = True,
) -> argparse.Namespace:
    """Parses --preset, --out (a Path, created), --seed, --data-dir and, with `data`, --data.

    Turns `jax_enable_x64` on, unless it is told not to. Ends the program with one line and status 2
    where --out cannot be written.
    """
    parser = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
    parser.add_argument("--preset", choices=PRESETS, default="quick", help="how long to measure")
    parser.add_argument("--out", type=Path, required=True, help="folder for JSON and figures")
    parser.add_argument("--seed", type=int, default=0, help="where all randomness comes from")
    parser.add_argument("--data-dir", type=Path, help="prepared TFDS sets, where they are used")
    if data is not None:
        parser.add_argument("--data", nargs="+", default=list(data), help="see `reconjax datasets`")
    options = parser.parse_args(argv)
    if float64:
        jax.config.update("jax_enable_x64", True)
    try:
        options.out = output_folder(options.out)
    except OSError as error:
        fail(str(error))
    return options


def fail(message: str) -> NoReturn:
    """Ends the program with one line on stderr and status 2."""
    print(message, file=sys.stderr)
    raise SystemExit(2)


def measured(
    out: Path, name: str, settings: Mapping[str, Any], cases: Mapping[str, Callable[[], Any]]
) -> dict[str, Any]:
    """{"settings": settings, "parts": {case: cases[case]()}}, which OUT/NAME.json then holds.

    Finished parts are kept in OUT/parts until all are there; what OUT/NAME.json holds is not
    measured again. A part says how many "seconds" it took, unless it says so itself.

    Ends the program with one line and status 2 where either is of other settings.
    """
    wanted, path = plain({**settings, "parts": list(cases)}), Path(out, f"{name}.json")
    if path.exists():
        return _finished(path, name, wanted)
    try:
        unfinished = Parts(out, {"results": name, **wanted})
    except ValueError as error:
        fail(str(error))
    parts = {}
    for index, (case, measure) in enumerate(cases.items()):
        kept = unfinished.load(f"part-{index}")
        if kept is None:
            started = time.perf_counter()
            value = measure()
            value.setdefault("seconds", round(time.perf_counter() - started, 1))
            kept = {"json": np.asarray(json.dumps(plain(value)))}
            unfinished.save(f"part-{index}", kept)
            say(f"{name}: {case} is measured, {index + 1} of {len(cases)}")
        parts[case] = json.loads(str(kept["json"]))
    results = {"settings": plain(settings), "parts": parts}
    write(out, name, results)
    unfinished.clear()
    return results


def _finished(path: Path, name: str, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """The results in a file."""
    try:
        stored = json.loads(path.read_text())
        made = {**stored["settings"], "parts": list(stored["parts"])}
    except (OSError, ValueError, KeyError, TypeError):
        fail(f"{path}: cannot be read as results of {name}; move it away or choose another --out")
    other = sorted(k for k in {*made, *wanted} - {"parts"} if made.get(k) != wanted.get(k))
    if other or made != wanted:
        fail(f"{path}: made with another {', '.join(other or ['parts'])}; choose another --out")
    return {key: value for key, value in stored.items() if key not in _origin()}


def write(out: Path, name: str, results: Mapping[str, Any]) -> Path:
    """Writes OUT/NAME.json, whole or not at all: the results and where they come from.

    NaN becomes null and infinities "inf" and "-inf", so that any reader of JSON can read it.
    """
    path = Path(out, f"{name}.json")
    with replacing(path) as part:
        part.write_text(json.dumps(plain({**_origin(), **results}), allow_nan=False) + "\n")
    return path


def picture(out: Path, name: str, figure: Figure, *, dpi: int = 100) -> Path:
    """Writes OUT/NAME.png with a palette of 256 colors: a third of the size, and no worse."""
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=dpi)
    path = Path(out, f"{name}.png")
    with replacing(path) as part:
        image = Image.open(drawn).convert("RGB").quantize(256, dither=Image.Dither.NONE)
        image.save(part, format="PNG", optimize=True)
    return path


def plain(value: Any) -> Any:
    """The value as JSON will give it back: lists, dicts with text keys, finite numbers."""
    if hasattr(value, "_asdict"):  # a NamedTuple
        value = value._asdict()
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
