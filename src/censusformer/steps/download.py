"""Reads the list of one chunk's cells and the census that it names; writes the raw counts of these cells as h5ad.

Rows are by joinid. What arrives is checked against the list and against obs before it is written.
"""

import argparse
import logging
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import tiledbsoma
from scipy import sparse

from censusformer.census import query
from censusformer.census.open import Source, experiment
from censusformer.census.retry import read_all
from censusformer.errors import InputError
from censusformer.hashing import cell_keys, to_hex
from censusformer.steps._h5ad import Labels, compact, write_chunk
from censusformer.steps._tables import check

logger = logging.getLogger("censusformer")

BATCH_CELLS = 2048  # cells read at a time: about 3 million counts of blood, 150 MB while they are put in order
_COLUMNS = ["cell", "soma_joinid", "sample"]
_LARGEST = 2**31  # counts are stored as int32 at most


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of this step."""
    parser.add_argument(
        "--list",
        type=Path,
        nargs="+",
        required=True,
        help="list of the chunk's cells, in one data set or in several: the first that can be read serves",
    )
    parser.add_argument("--out", type=Path, required=True, help="h5ad file to write")


def run(args: argparse.Namespace) -> None:
    """Download the raw counts of one chunk."""
    listed, source = read_list(args.list)
    started = time.monotonic()
    joinid = listed["soma_joinid"].to_numpy()
    obs, var, counts = fetch(source, joinid)
    check_cells(obs, listed["cell"].to_numpy(), args.list)
    check_counts(obs, counts)
    write_chunk(
        args.out,
        (counts.indptr, counts.indices, counts.data),
        obs_columns(obs, listed["sample"]),
        var_columns(var),
        obs_names=to_hex(listed["cell"].to_numpy()),
        var_names=var["feature_id"].astype(str).tolist(),
    )
    seconds = time.monotonic() - started
    n_cells, n_genes = counts.shape
    logger.info(
        "%s: %d cells x %d genes in %.0f s (%.0f cells/s)", args.out, n_cells, n_genes, seconds, n_cells / seconds
    )


def read_list(paths: Sequence[Path]) -> tuple[pa.Table, Source]:
    """The first list that can be read, rows by joinid, and the census that it names.

    Raises
    ------
    InputError
        If none can be read.
    """
    reasons = []
    for path in paths:
        try:
            check(path)
            with pq.ParquetFile(path) as file:
                source = Source.from_json((file.schema_arrow.metadata or {})[b"census"])
                return file.read(_COLUMNS).select(_COLUMNS).sort_by("soma_joinid"), source
        except (OSError, pa.ArrowException, KeyError, ValueError, TypeError) as error:
            reasons.append(
                f"{path}: {str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__}"
            )
    raise InputError(
        f"no list of this chunk's cells ({'; '.join(reasons)}): delete results/{{dataset}}/chunks and run again"
    )


def fetch(source: Source, joinid: np.ndarray) -> tuple[pa.Table, pd.DataFrame, sparse.csr_matrix]:
    """Obs, var and raw counts of cells, batch by batch.

    Parameters
    ----------
    joinid
        int64 (n,), rising.

    Returns
    -------
    All columns of obs, (n, n_columns); the genes; counts as CSR (n, n_genes), uint16 or int32.
    """
    results = read_all(source, [lambda census: _tables(census, source, joinid)])
    obs, var = next(results)
    results.close()
    genes = var["soma_joinid"].to_numpy()
    batches = np.split(joinid, range(BATCH_CELLS, len(joinid), BATCH_CELLS))
    tasks = [partial(_counts, source=source, joinid=batch, genes=genes) for batch in batches]
    blocks = [compacted(block, obs, start) for start, block in _progress(read_all(source, tasks), len(joinid))]
    return obs, var, _stacked(blocks, len(genes))


def check_cells(obs: pa.Table, cell: np.ndarray, lists: Sequence[Path]) -> None:
    """Refuse cells other than those of the list."""
    name = "observation_joinid" if "observation_joinid" in obs.column_names else "soma_joinid"
    keys = cell_keys(obs["dataset_id"].to_pylist(), obs[name].to_pylist())
    if not np.array_equal(keys, cell):
        raise InputError(
            f"{np.count_nonzero(keys != cell)} of {len(cell)} cells are not those of {lists[0]}: the census has "
            "changed. Delete results/{dataset}/chunks and run again"
        )


def check_counts(obs: pa.Table, counts: sparse.csr_matrix) -> None:
    """Refuse counts whose sums or numbers of non-zeros are not those of obs, where the census has these columns."""
    found = {"nnz": np.diff(counts.indptr), "raw_sum": np.asarray(counts.sum(axis=1, dtype=np.float64)).ravel()}
    for name, values in found.items():
        if name not in obs.column_names:
            continue
        # sums of many counts were rounded when the Census added them up as float32
        wrong = np.flatnonzero(~np.isclose(values, obs[name].to_numpy(), rtol=1e-5, atol=0.5))
        if len(wrong):
            raise InputError(
                f"data set {obs['dataset_id'][int(wrong[0])]}: X/raw of {len(wrong)} cells does not fit obs.{name}: "
                "the census or its copy is damaged"
            )


def compacted(block: sparse.csr_matrix, obs: pa.Table, start: int) -> sparse.csr_matrix:
    """A block of counts, whose first row is row `start` of obs, as uint16 or int32.

    Raises
    ------
    InputError
        If a value is no count; the message names its data set.
    """
    values = block.data
    wrong = np.flatnonzero(~((values >= 0) & (values < _LARGEST) & (values == np.floor(values))))
    if len(wrong):
        row = start + int(np.searchsorted(block.indptr, wrong[0], side="right")) - 1
        raise InputError(
            f"data set {obs['dataset_id'][row]}: X/raw holds {values[wrong[0]]:g}, which is no count. Leave the data "
            "set out by census.filter (assays other than UMI assays may hold estimates)"
        )
    block.data = compact(values.astype(np.int64))
    return block


def obs_columns(obs: pa.Table, sample: pa.ChunkedArray) -> dict[str, np.ndarray | Labels]:
    """Columns of obs as an h5ad file takes them: text as categories, unless each cell has its own."""
    columns: dict[str, np.ndarray | Labels] = {"sample": _column(sample)}
    for name in obs.column_names:
        taken = name in ("sample", "_index")
        columns[f"census_{name}" if taken else name] = _column(obs[name])
    return columns


def var_columns(var: pd.DataFrame) -> dict[str, np.ndarray | Labels]:
    """Columns of genes: name, and length where the census has it."""
    columns: dict[str, np.ndarray | Labels] = {"feature_name": var["feature_name"].astype(str).to_numpy(object)}
    if "feature_length" in var:
        columns["feature_length"] = var["feature_length"].to_numpy()
    return columns


def _tables(census: tiledbsoma.Collection, source: Source, joinid: np.ndarray) -> tuple[pa.Table, pd.DataFrame]:
    cells = experiment(census, source)
    return query.read_obs(cells, joinid), query.read_var(cells)


def _counts(census: tiledbsoma.Collection, source: Source, joinid: np.ndarray, genes: np.ndarray) -> sparse.csr_matrix:
    return query.read_counts(experiment(census, source), joinid, genes)


def _progress(blocks: Iterator[sparse.csr_matrix], n_cells: int) -> Iterator[tuple[int, sparse.csr_matrix]]:
    """Each block and its first row; logs how far it is, every ten seconds."""
    done, started = 0, time.monotonic()
    logged = started
    for block in blocks:
        yield done, block
        done += block.shape[0]
        now = time.monotonic()
        if now - logged > 10:
            rate = done / (now - started)
            left = (n_cells - done) / rate
            logger.info("%d of %d cells, %.0f cells/s, %.0f s left", done, n_cells, rate, left)
            logged = now


def _stacked(blocks: Sequence[sparse.csr_matrix], n_genes: int) -> sparse.csr_matrix:
    """Blocks of rows as one matrix, in the widest type that one of them has."""
    nnz = np.concatenate([np.diff(block.indptr) for block in blocks])
    indptr = np.concatenate([[0], np.cumsum(nnz, dtype=np.int64)])  # int32 where they fit, as anndata's readers want
    indices = np.concatenate([block.indices for block in blocks])
    data = np.concatenate([block.data for block in blocks])
    return sparse.csr_matrix((data, indices, indptr), (len(nnz), n_genes))


def _column(column: pa.ChunkedArray) -> np.ndarray | Labels:
    kind = column.type
    is_text = pa.types.is_dictionary(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind)
    if not is_text and (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        return column.to_numpy()
    if pa.types.is_boolean(kind) and not column.null_count:
        return column.to_numpy()
    codes, names = query.codes(column if is_text else column.cast(pa.string()))
    if not pa.types.is_dictionary(kind) and len(names) > len(codes):
        return np.array(names, dtype=object)[codes]
    used, codes = np.unique(np.where(codes == 0, -1, codes), return_inverse=True)  # names[0] is the missing text
    is_missing = used[:1] == -1
    labels = tuple(names[code] for code in used.tolist() if code >= 0)
    return Labels((codes - int(is_missing.any())).astype(np.int32), labels)
