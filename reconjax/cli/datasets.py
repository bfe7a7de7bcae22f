"""`reconjax datasets`."""

import json
from typing import Annotated

from cyclopts import Parameter

from reconjax.cli.options import DATA, OUTPUT
from reconjax.cli.options import command as new_command
from reconjax.cli.tables import print_table

command = new_command(
    "datasets",
    """
reconjax datasets
reconjax datasets --data-dir ~/tfds
reconjax datasets --download mnist
""",
)


@command.default
def datasets(
    *,
    data_dir: Annotated[str | None, Parameter(group=DATA)] = None,
    download: Annotated[list[str] | None, Parameter(group=DATA)] = None,
    json_: Annotated[bool, Parameter(name="--json", group=OUTPUT)] = False,
) -> None:
    """List what DATA can be, and what is prepared under the data directory.

    Parameters
    ----------
    data_dir
        Where TFDS sets are prepared ($TFDS_DATA_DIR).
    download
        Prepare these TFDS sets first.
    json_
        Print JSON instead of a table.
    """
    from reconjax.data import SOURCES, default_data_dir, load_tfds, prepared

    folder = data_dir or default_data_dir()
    for name in download or ():
        load_tfds(name, folder, download=True)
    present = prepared(folder)
    if json_:
        rows = [
            {
                "name": entry.name,
                "version": entry.version,
                "folder": str(entry.directory),
                "file_format": entry.file_format,
                "readable": entry.readable,
            }
            for entry in present
        ]
        print(json.dumps({"data_dir": str(folder), "prepared": rows}))
        return
    print_table(["DATA can be", ""], SOURCES, left=("DATA can be", ""))
    print(f"prepared under {folder}" + ("" if present else ": nothing"))
    for entry in present:
        note = f"  (stored as {entry.file_format}: cannot be read, prepare it as array_record)"
        print(f"  {entry.name}:{entry.version}" + ("" if entry.readable else note))
