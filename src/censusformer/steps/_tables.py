"""Reading and writing Parquet."""

import os
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from censusformer import files
from censusformer.errors import InputError

_N_END = 8


def write_table(path: str | Path, table: pa.Table) -> None:
    """Write Parquet, whole or not at all, with a seal between data and footer, where readers do not look."""
    with files.atomic(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")
        content = temporary.read_bytes()
        end = len(content) - _n_footer(content[-8:])
        temporary.write_bytes(content[:end] + files.seal(content) + content[end:])


def read_table(
    path: str | Path, columns: Sequence[str], *, optional: Sequence[str] = (), part_of: Path | None = None
) -> pa.Table:
    """Read columns of a Parquet file.

    Parameters
    ----------
    path, columns
        The file, and which of its columns.
    optional
        Columns that are read where the file has them.
    part_of
        The folder that has to be made anew as a whole where the file is damaged; None: the file alone.

    Raises
    ------
    InputError
        The file is damaged or lacks a column.
    """
    try:
        check(path)
        with pq.ParquetFile(path) as file:
            table = file.read([*columns, *optional])
    except (pa.ArrowException, OSError, ValueError) as error:
        if getattr(error, "errno", None) is not None:
            raise
        raise InputError(f"{path} is damaged ({error}); delete {part_of or 'it'} and run again") from error
    missing = [name for name in columns if name not in table.column_names]
    if missing:
        raise InputError(f"{path} has no column {', '.join(missing)}")
    return table


def check(path: str | Path) -> None:
    """Raise a ValueError where a Parquet file does not fit its seal."""
    with Path(path).open("rb") as file:
        if file.seek(0, os.SEEK_END) < _N_END:
            return
        file.seek(-_N_END, os.SEEK_END)
        tail = _n_footer(file.read())
    if not files.is_intact(path, tail):
        raise ValueError("its checksum does not fit")


def _n_footer(end: bytes) -> int:
    """Bytes of a Parquet file's footer, from its last eight: the length of the metadata, and the mark."""
    return int.from_bytes(end[:4], "little") + _N_END
