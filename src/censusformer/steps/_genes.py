"""Tables that the steps on expression share: the kept genes, and which of them each cell's sample selected."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from censusformer import files
from censusformer.errors import InputError
from censusformer.hashing import words
from censusformer.steps._chunks import Chunk


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


@dataclass(frozen=True)
class Genes:
    """The kept genes in the order of the vocabulary, of `genes.parquet`."""

    feature_id: tuple[str, ...]
    feature_name: tuple[str, ...]

    @classmethod
    def read(cls, path: str | Path) -> "Genes":
        """Read `genes.parquet`."""
        table = read_table(path, ["feature_id", "feature_name"])
        return cls(*(tuple(table[name].to_pylist()) for name in ("feature_id", "feature_name")))

    def __len__(self) -> int:
        return len(self.feature_id)

    @cached_property
    def position(self) -> dict[str, int]:
        """The gene id's place in the vocabulary."""
        return {feature_id: i for i, feature_id in enumerate(self.feature_id)}

    @cached_property
    def words(self) -> np.ndarray:
        """The genes' words, uint64 (n_genes,)."""
        return words(self.feature_id)

    def of_columns(self, chunk: Chunk) -> np.ndarray:
        """Which kept gene each of the chunk's columns is, int32; -1 for none."""
        return np.array([self.position.get(feature_id, -1) for feature_id in chunk.feature_id], np.int32)

    def find(self, feature_ids: Sequence[str], source: str | Path) -> np.ndarray:
        """Places of these gene ids, which `source` names; all are kept genes."""
        try:
            return np.array([self.position[feature_id] for feature_id in feature_ids], np.int64)
        except KeyError as error:
            raise InputError(f"{source} names gene {error}, which is not kept; run `hvg` again") from None


@dataclass(frozen=True)
class Selection:
    """What a chunk's cells show: for each row of the chunk its sample's genes.

    Parameters
    ----------
    group
        int32 (n_cells,): the row's sample, -1 for a dropped cell.
    total
        int64 (n_cells,): the cell's counts over the kept genes, 0 for a dropped one.
    chosen
        bool (n_samples, n_genes).
    """

    group: np.ndarray
    total: np.ndarray
    chosen: np.ndarray


def read_selection(
    chunk: Chunk, genes: Genes, hvg: str | Path, cells: str | Path, shared: str | Path | None
) -> Selection:
    """Read which rows of the chunk were kept, and the genes that their samples, or all of them (`shared`), selected."""
    table = read_table(cells, ["cell", "sample", "n_counts"])
    samples, codes = _categories(table["sample"])
    rows = _rows_of(chunk, table["cell"].to_numpy(), cells)
    group = np.full(chunk.n_cells, -1, np.int32)
    group[rows] = codes
    total = np.zeros(chunk.n_cells, np.int64)
    total[rows] = table["n_counts"].to_numpy()
    chosen = np.zeros((len(samples), len(genes)), bool)
    if shared is not None:
        chosen[:, genes.find(read_table(shared, ["feature_id"])["feature_id"].to_pylist(), shared)] = True
    else:
        _mark(chosen, samples, genes, hvg)
    return Selection(group, total, chosen)


def _mark(chosen: np.ndarray, samples: Sequence[str], genes: Genes, hvg: str | Path) -> None:
    table = read_table(hvg, ["sample", "feature_id"])
    names, codes = _categories(table["sample"])
    row_of = {sample: i for i, sample in enumerate(samples)}
    unknown = sorted(set(names) - set(row_of))
    if unknown:
        raise InputError(f"{hvg} has sample {unknown[0]!r}, whose cells are not in this chunk; run `hvg` again")
    rows = np.array([row_of[name] for name in names], np.int64)
    chosen[rows[codes], genes.find(table["feature_id"].to_pylist(), hvg)] = True


def _categories(column: pa.ChunkedArray) -> tuple[list[str], np.ndarray]:
    encoded = column.combine_chunks()
    if not pa.types.is_dictionary(encoded.type):
        encoded = encoded.dictionary_encode()
    return encoded.dictionary.to_pylist(), encoded.indices.to_numpy().astype(np.int32)


def _rows_of(chunk: Chunk, cell: np.ndarray, source: str | Path) -> np.ndarray:
    order = np.argsort(chunk.cell, kind="stable")
    place = np.searchsorted(chunk.cell, cell, sorter=order)
    rows = order[np.minimum(place, len(order) - 1)] if len(order) else place
    if len(cell) and not (len(order) and np.array_equal(chunk.cell[rows], cell)):
        raise InputError(f"{source} lists cells that {chunk.path} does not hold; run `hvg` again")
    return rows
