"""Write a SOMA in the layout of the CELLxGENE Census, so that one code path reads both.

The layout is that of the Census schema 2 (chanzuckerberg/cellxgene-census, docs/cellxgene_census_schema.md):
`census_info` with `summary`, `datasets`, `summary_cell_counts` and `organisms`, and `census_data/{organism}`, an
Experiment with `obs` and `ms/RNA` (`var`, `X/raw`, `feature_dataset_presence_matrix`). `cellxgene_census` reads it
unchanged.

    parts = [Part({"dataset_id": "mine"}, obs, var, counts)]      # one part a dataset; a generator serves as well
    write_census(folder, parts)

One column is added to `census_info/datasets`: `counts_digest`, see `parts.counts_digest`.
"""

import contextlib
import errno
import itertools
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import tiledbsoma as soma
from scipy import sparse

from censusformer.census.parts import (
    DATASET_COLUMNS,
    OBS_DEFAULTS,
    UNKNOWN,
    Part,
    complete_obs,
    counts_digest,
    filled,
    measures,
)
from censusformer.errors import InputError
from censusformer.files import atomic_folder

SCHEMA_VERSION = "2.4.0"
_ORGANISMS = {"homo_sapiens": ("Homo sapiens", "NCBITaxon:9606"), "mus_musculus": ("Mus musculus", "NCBITaxon:10090")}

_COUNTED = ("assay", "cell_type", "disease", "self_reported_ethnicity", "sex", "suspension_type", "tissue_general")
_BLOCK = 30_000_000  # counts written at once: 20 bytes each as coordinates

_DISK = {"No space left on device": errno.ENOSPC, "quota exceeded": errno.EDQUOT, "File too large": errno.EFBIG}

_ZSTD = ["ByteShuffleFilter", {"_type": "ZstdFilter", "level": 3}]
_MATRIX = {
    "tiledb": {
        "create": {
            "capacity": 65536,
            "cell_order": "row-major",
            "tile_order": "row-major",
            # one tile over all genes: the counts of a sample's cells, whole rows, lie together
            "dims": {
                "soma_dim_0": {"tile": 2048, "filters": _ZSTD},
                "soma_dim_1": {"tile": 2**20, "filters": _ZSTD},
            },
            "attrs": {"soma_data": {"filters": _ZSTD}},
        }
    }
}


def write_census(
    folder: str | Path, parts: Iterable[Part], organism: str = "homo_sapiens", note: str = ""
) -> pd.DataFrame:
    """Write datasets as a census; the folder appears whole or not at all, and replaces a census of the same name.

    Cells of a dataset get contiguous joinids, and inside it the cells of a donor (donors sorted, cells in the order
    given), so that a sample is read as one range. Genes get joinids in the order in which the parts first name them.
    Parts are taken one at a time: only obs and var of all stay in memory.

    Parameters
    ----------
    folder
        Of the SOMA.
    parts
        One a dataset.
    organism
        As the Census names it.
    note
        What every reader of results should know of these cells; `note` in `census_info/summary`.

    Returns
    -------
    The table `census_info/datasets`.

    Raises
    ------
    InputError
        Where the folder holds something else than a census, there is no part, or two parts have the same `dataset_id`.
    OSError
        Where the disk is full.
    """
    _refuse_other(Path(folder))
    with atomic_folder(folder) as temporary, _disk_errors(folder), soma.Collection.create(str(temporary)) as census:
        experiment = census.add_new_collection("census_data").add_new_collection(organism, soma.Experiment)
        rna = experiment.add_new_collection("ms", soma.Collection).add_new_collection("RNA", soma.Measurement)
        layers = rna.add_new_collection("X", soma.Collection)
        layers.add_new_sparse_ndarray("raw", type=pa.float32(), shape=(1, 1), platform_config=_MATRIX)
        written = _write_counts(layers["raw"].uri, parts)
        obs, var, datasets = written.tables()
        _add_table(experiment, "obs", obs)
        _add_table(rna, "var", var)
        _add_presence(rna, written.measured, len(var))
        _add_info(census.add_new_collection("census_info"), datasets, obs, organism, note)
    return datasets


def _refuse_other(folder: Path) -> None:
    """Nobody's files are replaced by a census but another census."""
    if folder.exists() and not (folder / "__tiledb_group.tdb").exists() and (folder.is_file() or any(folder.iterdir())):
        raise InputError(f"{folder} is there already and is no census: give --out a folder of its own")


@contextlib.contextmanager
def _disk_errors(folder: str | Path) -> Iterator[None]:
    """What TileDB says of a full disk, as the OSError that it is."""
    try:
        yield
    except soma.SOMAError as error:
        number = next((number for text, number in _DISK.items() if text in str(error)), None)
        if number is None:
            raise
        raise OSError(number, os.strerror(number), str(folder)) from error


class _Written:
    """What is known of the datasets written so far."""

    def __init__(self) -> None:
        self.n_cells = 0
        self.obs: list[pd.DataFrame] = []
        self.datasets: list[dict[str, str | int]] = []
        self.var: list[pd.DataFrame] = []
        self.genes = pd.Index([], dtype=object)
        self.measured: list[np.ndarray] = []  # var joinids that each dataset measured
        self.found: list[np.ndarray] = []  # in how many of its cells

    def columns_of(self, var: pd.DataFrame) -> np.ndarray:
        """The var joinids of a part's genes; genes not met before are added."""
        ids = pd.Index(var["feature_id"].astype(object))
        new = ~ids.isin(self.genes)
        self.genes = self.genes.append(ids[new])
        self.var.append(var.loc[new])
        return self.genes.get_indexer(ids)

    def tables(self) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
        """`obs`, `var` and `datasets`, with joinids."""
        if not self.obs:
            raise InputError("no dataset to write: give at least one")
        obs = pd.concat(self.obs, ignore_index=True)
        own = [column for column in obs.columns if column not in OBS_DEFAULTS]
        obs[own] = obs[own].apply(filled)
        var = self._var(obs["dataset_id"].value_counts())
        datasets = pd.DataFrame(self.datasets)
        for table in (obs, var, datasets):
            table.insert(0, "soma_joinid", np.arange(len(table), dtype=np.int64))
        return obs, var, datasets

    def _var(self, n_cells: Mapping[str, int]) -> pd.DataFrame:
        var = pd.concat(self.var, ignore_index=True)
        nnz, observed = np.zeros((2, len(var)), np.int64)
        for dataset, columns, found in zip(self.datasets, self.measured, self.found, strict=True):
            nnz[columns] += found
            observed[columns] += n_cells[dataset["dataset_id"]]
        absent = pd.Series(np.nan, var.index)
        return pd.DataFrame(
            {
                "feature_id": var["feature_id"].astype(str),
                "feature_name": var["feature_name"].astype(str),
                "feature_type": var.get("feature_type", absent).fillna(UNKNOWN).astype(str),
                "feature_length": var.get("feature_length", absent).fillna(0).astype(np.int64),  # 0: not known
                "nnz": nnz,
                "n_measured_obs": observed,
            }
        )


def _write_counts(uri: str, parts: Iterable[Part]) -> _Written:
    written = _Written()
    for part in parts:
        _write_part(uri, part, written)
        del part  # its memory is free before the next one is read
    return written


def _write_part(uri: str, part: Part, written: _Written) -> None:
    dataset_id = part.dataset["dataset_id"]
    if any(dataset_id == other["dataset_id"] for other in written.datasets):
        raise InputError(f"dataset_id '{dataset_id}' stands for two datasets: give each a name of its own")
    order = np.argsort(part.obs["donor_id"].astype(str).to_numpy(str), kind="stable")
    counts = sparse.csr_matrix(part.counts[order], dtype=np.float32)
    counts.sum_duplicates()
    counts.eliminate_zeros()
    columns = written.columns_of(part.var)
    _append(uri, counts, columns, written.n_cells, len(written.genes))
    obs = complete_obs(part.obs.iloc[order], dataset_id)
    written.obs.append(obs.assign(**measures(counts)))
    written.datasets.append(_dataset_row(part))
    written.measured.append(columns)
    written.found.append(np.bincount(counts.indices, minlength=len(columns)))
    written.n_cells += counts.shape[0]


def _append(uri: str, counts: sparse.csr_matrix, columns: np.ndarray, start: int, n_genes: int) -> None:
    """Write the counts of one dataset behind the `start` cells that are there."""
    with soma.SparseNDArray.open(uri, "w") as X:
        X.resize((start + counts.shape[0], n_genes))
    # opened again: the handle that resized still checks against the shape before
    with soma.SparseNDArray.open(uri, "w") as X:
        counts = sparse.csr_matrix((counts.data, columns[counts.indices], counts.indptr), (counts.shape[0], n_genes))
        counts.sort_indices()
        stops = np.searchsorted(counts.indptr, np.arange(_BLOCK, counts.nnz, _BLOCK))
        for low, high in itertools.pairwise([0, *stops, counts.shape[0]]):
            span = slice(counts.indptr[low], counts.indptr[high])
            rows = np.repeat(np.arange(start + low, start + high), np.diff(counts.indptr[low : high + 1]))
            _write_sorted(X, rows, counts.indices[span], counts.data[span])


def _write_sorted(X: soma.SparseNDArray, rows: np.ndarray, columns: np.ndarray, values: np.ndarray) -> None:
    """Write values sorted by row and column: with one tile over all columns TileDB need not sort, which is faster."""
    table = pa.table({"soma_dim_0": rows, "soma_dim_1": columns.astype(np.int64), "soma_data": values})
    X.write(table, platform_config={"tiledb": {"write": {"sort_coords": False}}})


def _dataset_row(part: Part) -> dict[str, str | int]:
    row = {column: str(part.dataset.get(column, "")) for column in DATASET_COLUMNS}
    return row | {"dataset_total_cell_count": part.counts.shape[0], "counts_digest": counts_digest(part)}


def _add_info(info: soma.Collection, datasets: pd.DataFrame, obs: pd.DataFrame, organism: str, note: str) -> None:
    label, term = _ORGANISMS.get(organism, (organism.replace("_", " ").capitalize(), UNKNOWN))
    summary = {
        "census_schema_version": SCHEMA_VERSION,
        "census_build_date": "local",  # not the Census's, and no day: the same input gives the same tables
        "total_cell_count": str(len(obs)),
        "unique_cell_count": str(int(obs["is_primary_data"].sum())),
        f"number_donors_{organism}": str(len(obs[["dataset_id", "donor_id"]].drop_duplicates())),
        **({"note": note} if note else {}),
    }
    _add_table(info, "summary", _numbered(pd.DataFrame({"label": summary.keys(), "value": summary.values()})))
    _add_table(info, "datasets", datasets)
    _add_table(info, "summary_cell_counts", _numbered(_cell_counts(obs, label)))
    organisms = {"organism_ontology_term_id": [term], "organism_label": [label], "organism": [organism]}
    _add_table(info, "organisms", _numbered(pd.DataFrame(organisms)))


def _cell_counts(obs: pd.DataFrame, organism: str) -> pd.DataFrame:
    """Cells, all and unique, by each category that the Census counts."""
    everything = obs.assign(all="na", all_ontology_term_id="na", suspension_type_ontology_term_id="na")
    tables = []
    for category in ("all", *_COUNTED):
        keys = [category, f"{category}_ontology_term_id"]
        counts = everything.groupby(keys, sort=True)["is_primary_data"].agg(["size", "sum"]).reset_index()
        counts.columns = ["label", "ontology_term_id", "total_cell_count", "unique_cell_count"]
        tables.append(counts.assign(organism=organism, category=category))
    columns = ["organism", "category", "label", "ontology_term_id", "total_cell_count", "unique_cell_count"]
    return pd.concat(tables, ignore_index=True)[columns]


def _numbered(table: pd.DataFrame) -> pd.DataFrame:
    table.insert(0, "soma_joinid", np.arange(len(table), dtype=np.int64))
    return table


def _add_table(parent: soma.Collection, name: str, table: pd.DataFrame) -> None:
    """Add a DataFrame with the columns' own types; text of obs that repeats becomes categories, as in the Census."""
    arrow = pa.Table.from_pandas(table, preserve_index=False).replace_schema_metadata(None)
    for place, field in enumerate(arrow.schema):
        if pa.types.is_string(field.type) or pa.types.is_large_string(field.type):
            column = arrow[field.name].cast(pa.large_string()).combine_chunks()
            if name == "obs" and field.name != "observation_joinid":
                column = column.dictionary_encode()
            arrow = arrow.set_column(place, field.name, column)
    domain = [(0, max(len(table) - 1, 0))]
    # created by itself: through the collection, the categories get the time of its opening, before the frame's own, and
    # are lost
    uri = f"{parent.uri}/{name}"
    with soma.DataFrame.create(uri, schema=arrow.schema, index_column_names=["soma_joinid"], domain=domain) as frame:
        frame.write(arrow)
        parent.set(name, frame, use_relative_uri=True)


def _add_presence(rna: soma.Measurement, measured: list[np.ndarray], n_genes: int) -> None:
    """1 where a dataset (its joinid) measured a gene (its joinid)."""
    name, shape = "feature_dataset_presence_matrix", (len(measured), n_genes)
    presence = rna.add_new_sparse_ndarray(name, type=pa.uint8(), shape=shape, platform_config=_MATRIX)
    rows = np.repeat(np.arange(len(measured)), [len(columns) for columns in measured])
    _write_sorted(
        presence, rows, np.concatenate([np.sort(columns) for columns in measured]), np.ones(len(rows), np.uint8)
    )
