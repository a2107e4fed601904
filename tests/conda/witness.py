"""Laid into a project's src as sitecustomize.py, so that every Python with that folder on its path says what it is.

When it ends, each writes a line of JSON to witness.jsonl beside src: its command, its prefix, and the files of modules
that lie neither below that prefix (or the one it was made from) nor in the project.
"""

import atexit
import json
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]


def write() -> None:
    """Append the line."""
    named = (getattr(module, "__file__", None) or "" for module in [*sys.modules.values()])
    files = {file for file in named if file.startswith("/")}  # torch.ops calls itself _ops.py
    own = (f"{sys.prefix}/", f"{sys.base_prefix}/", f"{PROJECT}/")
    said = {
        "command": sys.orig_argv[1:4],
        "prefix": sys.prefix,
        "foreign": sorted(file for file in files if not file.startswith(own)),
    }
    with (PROJECT / "witness.jsonl").open("a") as file:
        file.write(json.dumps(said) + "\n")


atexit.register(write)
