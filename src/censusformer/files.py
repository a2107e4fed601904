"""Files and folders appear whole or not at all; a seal shows whether a file is still what was written."""

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

_SEAL = b"\nSHA-256 of all but this line: "
_N_SEAL = len(_SEAL) + hashlib.sha256().digest_size


def seal(*parts: bytes) -> bytes:
    """Bytes that stand for the content of a file, to be written where readers of its format do not look.

    HDF5 and Parquet leave most of a file without a checksum, so that a flipped bit could pass for a count.
    """
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return _SEAL + digest.digest()


def is_intact(path: str | Path, tail: int = 0) -> bool:
    """Whether a file fits the seal that stands `tail` bytes before its end; true where there is none."""
    with Path(path).open("rb") as file:
        start = file.seek(0, os.SEEK_END) - tail - _N_SEAL
        if start < 0:
            return True
        file.seek(start)
        found = file.read(_N_SEAL)
        if not found.startswith(_SEAL):
            return True
        return found == seal(*_others(file, start))


def _others(file: BinaryIO, start: int) -> Iterator[bytes]:
    """What stands before and behind a seal that begins at `start`, in pieces."""
    file.seek(0)
    for first in range(0, start, 1024**2):
        yield file.read(min(1024**2, start - first))
    file.seek(_N_SEAL, os.SEEK_CUR)
    yield file.read()


def with_checksum(content: Mapping[str, Any]) -> dict[str, Any]:
    """What a JSON file is to hold, with a `checksum` of all the rest, whatever its layout."""
    text = json.dumps({key: value for key, value in content.items() if key != "checksum"}, sort_keys=True)
    return {**content, "checksum": hashlib.sha256(text.encode()).hexdigest()}


def check_checksum(content: Mapping[str, Any]) -> None:
    """Raise a ValueError where a JSON file does not fit its `checksum`; one without is taken as it is."""
    if "checksum" in content and with_checksum(content) != content:
        raise ValueError("the checksum does not fit")


@contextlib.contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` when the block ends well.

    The temporary file is flushed to disk before the rename and removed where the block fails, so that a
    killed process or a full disk never leaves half a file under the final name. Parents are created.
    The temporary name keeps the suffix, by which some writers choose their format.

    Raises
    ------
    OSError
        Where the disk is full or the like; its `filename` is `path`, whatever library met it.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    with _named(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            _flush(temporary)
            temporary.replace(path)
            _flush(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(folder: str | Path) -> Iterator[Path]:
    """Yield a temporary folder's path beside `folder`, not yet made; as `atomic`, for all that the block puts there."""
    folder = Path(folder)
    temporary, old = (folder.with_name(f".{folder.name}.{os.getpid()}{end}") for end in ("", ".old"))
    with _named(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            for path in (*temporary.rglob("*"), temporary):
                _flush(path)
            _replace(folder, temporary, old)
            _flush(folder.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
            shutil.rmtree(old, ignore_errors=True)


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """Name the file in an OSError that does not, as those of libraries that write through a handle."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, os.strerror(error.errno), str(path)) from error


def _replace(folder: Path, new: Path, old: Path) -> None:
    """Rename `new` to `folder`, what stood there to `old`; where that fails, what stood there stays."""
    if folder.exists():
        folder.rename(old)
    try:
        new.rename(folder)
    except OSError:
        if old.exists():
            old.rename(folder)
        raise


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
