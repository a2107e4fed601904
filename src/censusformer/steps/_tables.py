"""Reading and writing Parquet."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from censusformer import files
from censusformer.errors import InputError


def write_table(path: str | Path, table: pa.Table) -> None:
    """Write Parquet, whole or not at all."""
    with files.atomic(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def read_table(path: str | Path, columns: Sequence[str]) -> pa.Table:
    """Read columns of a Parquet file.

    Raises
    ------
    InputError
        The file is damaged or lacks a column.
    """
    try:
        with pq.ParquetFile(path) as file:
            table = file.read(columns)
    except (pa.ArrowException, OSError) as error:
        if getattr(error, "errno", None) is not None:
            raise
        raise InputError(f"{path} is damaged ({error}); delete it and run again") from error
    missing = [name for name in columns if name not in table.column_names]
    if missing:
        raise InputError(f"{path} has no column {', '.join(missing)}")
    return table
