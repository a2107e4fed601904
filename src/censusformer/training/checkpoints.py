"""Files that hold weights: written whole or not at all, read without pickle's code (`weights_only`)."""

import zipfile
from pathlib import Path
from typing import Any

import torch

from censusformer.errors import InputError
from censusformer.files import atomic

VERSION = 1


def save(path: str | Path, kind: str, content: dict[str, Any]) -> None:
    """Write tensors and plain values; the same content gives the same bytes (the handle hides the file's name)."""
    with atomic(path) as temporary, temporary.open("wb") as file:
        try:
            torch.save({"censusformer": kind, "version": VERSION, **content}, file)
        except RuntimeError as error:
            if isinstance(error.__context__, OSError):  # a full disk, which torch's writer hides when it closes
                raise error.__context__ from None
            raise


def load(path: str | Path, kind: str) -> dict[str, Any]:
    """Read what `save` wrote, onto the CPU.

    Raises
    ------
    InputError
        Where the file is missing, damaged, of another kind or of another version.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path} is missing")
    try:
        _check(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(f"{path} is damaged or no file of censusformer's ({reason}): delete it") from error
    if not isinstance(content, dict) or content.pop("censusformer", None) != kind:
        raise InputError(f"{path} is no {kind} that censusformer wrote")
    if content.pop("version") != VERSION:
        raise InputError(f"{path} was written by another version of censusformer: train again")
    return content


def _check(path: Path) -> None:
    """Compare all checksums: torch writes them, and never looks at them."""
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise ValueError(f"the checksum of {damaged} does not fit")
