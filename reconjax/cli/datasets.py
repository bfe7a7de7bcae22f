"""`reconjax datasets`."""

import argparse
import json

from reconjax.data import SOURCES, default_data_dir, load_tfds, prepared


def run(options: argparse.Namespace) -> None:
    """Lists what can be named, and what is prepared under the data directory."""
    folder = options.data_dir or default_data_dir()
    for name in options.download or ():
        load_tfds(name, folder, download=True)
    found = prepared(folder)
    if options.json:
        rows = [
            {
                "name": one.name,
                "version": one.version,
                "folder": str(one.directory),
                "file_format": one.file_format,
                "readable": one.readable,
            }
            for one in found
        ]
        print(json.dumps({"data_dir": str(folder), "prepared": rows}))
        return
    print("DATA can be")
    width = max(len(pattern) for pattern, _ in SOURCES)
    for pattern, text in SOURCES:
        print(f"  {pattern:<{width}}  {text}")
    print(f"prepared under {folder}" + ("" if found else ": nothing"))
    for one in found:
        note = f"  (stored as {one.file_format}: cannot be read, prepare it as array_record)"
        print(f"  {one.name}:{one.version}" + ("" if one.readable else note))
