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
        rows = [{"name": s.name, "version": s.version, "folder": str(s.directory)} for s in found]
        print(json.dumps({"data_dir": str(folder), "prepared": rows}))
        return
    print("DATA can be")
    width = max(len(pattern) for pattern, _ in SOURCES)
    for pattern, text in SOURCES:
        print(f"  {pattern:<{width}}  {text}")
    print(f"prepared under {folder}" + ("" if found else ": nothing"))
    for one in found:
        print(f"  {one.name}:{one.version}")
