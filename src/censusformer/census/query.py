"""Querying an open census: the cells that a filter selects, the tables about it, raw counts as CSR arrays."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import tiledbsoma
from scipy import sparse

from censusformer.errors import InputError

#: Columns of obs that `select` reads, where the census has them; the first three are required.
SELECTED = ("soma_joinid", "dataset_id", "donor_id", "person", "nnz")


@dataclass(frozen=True)
class Selection:
    """The cells that a filter selects, by joinid.

    Attributes
    ----------
    joinid
        int64 (n,), rising.
    sample
        int32 (n,): position in `samples`.
    samples
        (dataset_id, donor_id) of each sample.
    persons
        The values of `obs.person` among the sample's cells; empty where the census has no such column.
    nnz
        int64 (n,): non-zero counts of each cell; None where the census does not say.
    """

    joinid: np.ndarray
    sample: np.ndarray
    samples: list[tuple[str, str]]
    persons: list[frozenset[str]]
    nnz: np.ndarray | None

    @property
    def n_cells(self) -> np.ndarray:
        """Cells of each sample, int64."""
        return np.bincount(self.sample, minlength=len(self.samples))


def select_cells(experiment: tiledbsoma.Experiment, value_filter: str) -> Selection:
    """The cells that a filter selects; only the columns that choosing needs are read.

    Parameters
    ----------
    value_filter
        A SOMA value filter over obs; empty for all cells.

    Raises
    ------
    InputError
        If the filter cannot be understood, names an unknown column, or selects no cell.
    """
    fields = set(experiment.obs.schema.names)
    columns = [column for column in SELECTED if column in fields]
    batches = list(_filtered(experiment, value_filter, columns))
    if not sum(map(len, batches)):
        raise InputError(
            f"census.filter = {value_filter!r} selects no cell: values are compared letter by letter. "
            f"{_values_of(experiment, value_filter)}Change census.filter"
        )
    return selection(pa.concat_tables(batches, promote_options="permissive"))


def selection(table: pa.Table) -> Selection:
    """Group cells by sample; the order of rows in the table does not matter."""
    table = table.sort_by("soma_joinid")
    dataset, datasets = codes(table["dataset_id"])
    donor, donors = codes(table["donor_id"])
    pairs, sample = np.unique(dataset.astype(np.int64) * len(donors) + donor, return_inverse=True)
    samples = [(datasets[pair // len(donors)], donors[pair % len(donors)]) for pair in pairs.tolist()]
    nnz = table["nnz"].to_numpy() if "nnz" in table.column_names else None
    return Selection(table["soma_joinid"].to_numpy(), sample.astype(np.int32), samples, _persons(table, sample), nnz)


def codes(column: pa.ChunkedArray) -> tuple[np.ndarray, list[str]]:
    """A column of text as (codes int32, names), each name once; a missing value is the empty text."""
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    column = column.unify_dictionaries().combine_chunks()
    if isinstance(column, pa.ChunkedArray):  # of an empty column
        column = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
    texts = ["" if name is None else str(name) for name in column.dictionary.to_pylist()]
    names = sorted({*texts, ""})
    place = {name: code for code, name in enumerate(names)}
    translate = np.array([*(place[text] for text in texts), place[""]], np.int32)
    return translate[column.indices.fill_null(len(texts)).to_numpy(zero_copy_only=False)], names


def observation_names(experiment: tiledbsoma.Experiment, joinid: np.ndarray) -> list[str]:
    """`observation_joinid` of cells, in the order of `joinid` (rising).

    Releases before schema 2 have no such column: there the joinid itself stands for it, which names a cell within
    that release alone.
    """
    if "observation_joinid" not in experiment.obs.schema.names:
        return [str(name) for name in joinid.tolist()]
    table = read_obs(experiment, joinid, ["soma_joinid", "observation_joinid"])
    return [str(name) for name in table["observation_joinid"].to_pylist()]


def read_obs(experiment: tiledbsoma.Experiment, joinid: np.ndarray, columns: Sequence[str] | None = None) -> pa.Table:
    """Rows of obs in the order of `joinid` (rising), all columns or some; `soma_joinid` must be among them.

    Raises
    ------
    InputError
        If the census has no cell of one of these joinids.
    """
    known = joinid[joinid <= experiment.obs.domain[0][1]]  # TileDB refuses others with an error of its own
    table = experiment.obs.read((pa.array(known),), column_names=columns).concat().sort_by("soma_joinid")
    if not np.array_equal(table["soma_joinid"].to_numpy(), joinid):
        raise InputError(
            f"obs has {len(table)} of {len(joinid)} cells: the census is not the one that the cells were chosen from. "
            "Delete results/{dataset}/chunks and run again"
        )
    return table


def read_var(experiment: tiledbsoma.Experiment) -> pd.DataFrame:
    """The genes in the order of their joinids; at least `soma_joinid`, `feature_id` and `feature_name`."""
    var = experiment.ms["RNA"].var
    columns = ["soma_joinid", "feature_id", "feature_name", "feature_length"]
    table = var.read(column_names=[column for column in columns if column in var.schema.names]).concat()
    frame = table.to_pandas().sort_values("soma_joinid", ignore_index=True)
    if "feature_name" not in frame:
        frame["feature_name"] = frame["feature_id"]
    return frame


def read_datasets(census: tiledbsoma.Collection) -> pd.DataFrame:
    """`census_info/datasets`, all as text, without missing values, indexed by `dataset_id`."""
    frame = census["census_info"]["datasets"].read().concat().to_pandas()
    return frame.astype(object).where(frame.notna(), "").astype(str).set_index("dataset_id").sort_index()


def read_summary(census: tiledbsoma.Collection) -> dict[str, str]:
    """`census_info/summary`: schema versions, build date, numbers of cells and donors."""
    frame = census["census_info"]["summary"].read().concat().to_pandas()
    return dict(zip(frame["label"].astype(str), frame["value"].astype(str), strict=True))


def read_counts(experiment: tiledbsoma.Experiment, joinid: np.ndarray, genes: np.ndarray) -> sparse.csr_matrix:
    """Raw counts of some cells.

    Parameters
    ----------
    joinid
        int64 (n,), rising: cells. TileDB merges consecutive ones into ranges, which are read several times as fast.
    genes
        int64 (n_genes,), rising: joinids of the columns.

    Returns
    -------
    CSR (n, n_genes) of what X/raw holds (float32 in the Census), columns rising, without stored zeros.
    """
    X = experiment.ms["RNA"].X["raw"]
    is_run = len(joinid) > 0 and joinid[-1] - joinid[0] == len(joinid) - 1
    cells = slice(int(joinid[0]), int(joinid[-1])) if is_run else pa.array(joinid)  # a slice's end is included
    parts = [_positions(table, joinid, genes) for table in X.read((cells,)).tables()]
    rows, columns, values = (np.concatenate(arrays) for arrays in zip(*parts, strict=True)) if parts else _NOTHING
    place = rows.astype(np.int64) * len(genes) + columns
    if np.any(np.diff(place) <= 0):  # whole rows come in order, but TileDB promises none
        order = np.argsort(place, kind="stable")
        rows, columns, values = rows[order], columns[order], values[order]
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(joinid)))])
    counts = sparse.csr_matrix((values, columns, indptr), (len(joinid), len(genes)))
    if not counts.has_canonical_format:
        raise InputError("X/raw holds several values for one gene of one cell: the census is damaged")
    counts.eliminate_zeros()
    return counts


_NOTHING = (np.empty(0, np.int32), np.empty(0, np.int32), np.empty(0, np.float32))


def _positions(table: pa.Table, joinid: np.ndarray, genes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows, columns (int32) and values of a table of coordinates."""
    rows = np.searchsorted(joinid, table["soma_dim_0"].to_numpy()).astype(np.int32)
    columns = np.searchsorted(genes, table["soma_dim_1"].to_numpy()).astype(np.int32)
    return rows, columns, table["soma_data"].to_numpy()


def _values_of(experiment: tiledbsoma.Experiment, value_filter: str) -> str:
    """What this census has in the columns of text that a filter names, as sentences."""
    fields = experiment.obs.schema
    named = [name for name in fields.names if re.search(rf"\b{re.escape(name)}\b", value_filter)]
    text = [name for name in named if pa.types.is_dictionary(fields.field(name).type)]
    found = {name: column.to_pylist() for name, column in experiment.obs.get_enumeration_values(text).items()}
    shown = {name: ", ".join(repr(v) for v in values[:8]) + ", …" * (len(values) > 8) for name, values in found.items()}
    return "".join(f"Here {name} is one of {values}. " for name, values in shown.items())


def _filtered(experiment: tiledbsoma.Experiment, value_filter: str, columns: Sequence[str]) -> Iterator[pa.Table]:
    try:
        reader = experiment.obs.read(value_filter=value_filter.strip() or None, column_names=columns)
    except tiledbsoma.SOMAError as error:
        what = str(error).strip().splitlines()[0].removeprefix("SOMAError: ")
        raise InputError(
            f"census.filter = {value_filter!r} is no filter that this census understands ({what}). It is written "
            "like tissue_general == 'blood' and is_primary_data == True, over the columns "
            f"{', '.join(experiment.obs.schema.names)}"
        ) from error
    for table in reader:
        yield pa.table({name: _as_codes(table[name]) for name in columns})


def _as_codes(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Text as dictionary: old releases store it plain, and millions of cells must fit into memory."""
    is_text = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
    return column.dictionary_encode() if is_text else column


def _persons(table: pa.Table, sample: np.ndarray) -> list[frozenset[str]]:
    n_samples = int(sample.max(initial=-1)) + 1
    if "person" not in table.column_names:
        return [frozenset()] * n_samples
    person, names = codes(table["person"])
    found: list[set[str]] = [set() for _ in range(n_samples)]
    for pair in np.unique(sample.astype(np.int64) * len(names) + person).tolist():
        found[pair // len(names)].add(names[pair % len(names)])
    return [frozenset(people) for people in found]
