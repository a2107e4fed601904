"""Which of a chunk's cells were kept, and which genes their samples selected."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from censusformer.errors import InputError
from censusformer.steps._chunks import Chunk
from censusformer.steps._genes import Genes
from censusformer.steps._tables import read_table


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
        chosen[:, genes.find(read_table(shared, ["feature_id"])["feature_id"], shared)] = True
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
    chosen[rows[codes], genes.find(table["feature_id"], hvg)] = True


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
