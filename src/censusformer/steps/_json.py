"""Reading a JSON file that holds one object."""

import json
from pathlib import Path
from typing import Any

from censusformer.errors import InputError


def read_json(path: Path, advice: str = "") -> dict[str, Any]:
    """Read the object that a file holds; what is none is refused, with the advice where there is some."""
    what_to_do = f": {advice}" if advice else ""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} is no JSON ({error}){what_to_do}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} holds no JSON object{what_to_do}")
    return content
