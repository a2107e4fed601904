"""A dataset on its way into a census: counts, cells, genes, and the columns that the Census gives its cells."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import sparse

UNKNOWN = "unknown"
DATASET_COLUMNS = (
    "citation", "collection_id", "collection_name", "collection_doi", "collection_doi_label", "dataset_id",
    "dataset_version_id", "dataset_title", "dataset_h5ad_path",
)  # fmt: skip
OBS_DEFAULTS: Mapping[str, str | bool] = {
    "assay": UNKNOWN,
    "assay_ontology_term_id": UNKNOWN,
    "cell_type": UNKNOWN,
    "cell_type_ontology_term_id": UNKNOWN,
    "development_stage": UNKNOWN,
    "development_stage_ontology_term_id": UNKNOWN,
    "disease": UNKNOWN,
    "disease_ontology_term_id": UNKNOWN,
    "donor_id": UNKNOWN,
    "is_primary_data": True,
    "self_reported_ethnicity": UNKNOWN,
    "self_reported_ethnicity_ontology_term_id": UNKNOWN,
    "sex": UNKNOWN,
    "sex_ontology_term_id": UNKNOWN,
    "suspension_type": "cell",
    "tissue": UNKNOWN,
    "tissue_ontology_term_id": UNKNOWN,
    "tissue_type": "tissue",
    "tissue_general": UNKNOWN,
    "tissue_general_ontology_term_id": UNKNOWN,
}
MEASURED = ("raw_sum", "nnz", "raw_mean_nnz", "raw_variance_nnz", "n_measured_vars")


@dataclass(frozen=True)
class Part:
    """One dataset on its way into a census.

    Attributes
    ----------
    dataset
        Values of `DATASET_COLUMNS`; `dataset_id` is required, the others default to ''.
    obs
        One row a cell. `observation_joinid` (text, unique in the dataset) and `donor_id` are required; further columns
        of the Census are filled with `OBS_DEFAULTS` where they are missing, columns of one's own are kept.
    var
        One row a gene that the dataset measured: `feature_id` (unique), `feature_name`; `feature_type` and
        `feature_length` where known.
    counts
        Raw counts, (cells, genes), of any numeric type.
    """

    dataset: Mapping[str, str]
    obs: pd.DataFrame
    var: pd.DataFrame
    counts: sparse.csr_matrix


def complete_obs(obs: pd.DataFrame, dataset_id: str) -> pd.DataFrame:
    """The Census's columns, missing ones and missing values filled with `OBS_DEFAULTS`, then the columns of one's own.

    Text and categories come out as text, numbers and truth values as they are. Nothing is computed from counts here.
    """
    own = [column for column in obs.columns if column not in (*OBS_DEFAULTS, *MEASURED, "soma_joinid", "dataset_id")]
    columns = {"dataset_id": pd.Series(dataset_id, obs.index, dtype=object)}
    for column, default in OBS_DEFAULTS.items():
        columns[column] = obs[column] if column in obs else pd.Series(default, obs.index)
    columns |= {column: obs[column] for column in own}
    return pd.DataFrame({name: filled(column, OBS_DEFAULTS.get(name)) for name, column in columns.items()})


def counts_digest(part: Part) -> str:
    """sha256 (hex) of what a dataset holds, counts and cells' labels, whatever the order of its rows and columns.

    Cells are taken in the order of observation_joinid, genes in that of feature_id; the labels belong to it because the
    files that are named after this digest hold them too. Zeros that are stored count as zeros.
    """
    names = part.obs["observation_joinid"].to_numpy(str)
    rows = np.argsort(names, kind="stable")
    genes = part.var["feature_id"].to_numpy(str)
    columns = np.argsort(genes, kind="stable")
    place = np.empty(len(columns), np.int64)
    place[columns] = np.arange(len(columns))
    counts = sparse.csr_matrix(part.counts[rows])
    counts = sparse.csr_matrix((counts.data, place[counts.indices], counts.indptr), counts.shape, copy=True)
    counts.sum_duplicates()
    counts.eliminate_zeros()
    digest = hashlib.sha256("\n".join([*names[rows], "", *genes[columns], ""]).encode())
    for array, kind in ((counts.indptr, "<i8"), (counts.indices, "<i4"), (counts.data, "<f4")):
        digest.update(np.ascontiguousarray(array, kind))
    for column in sorted(set(part.obs.columns) - {"soma_joinid"}):
        digest.update("\n".join([column, *part.obs[column].astype(str).to_numpy()[rows]]).encode())
    return digest.hexdigest()


def measures(counts: sparse.csr_matrix) -> dict[str, np.ndarray]:
    """What the Census computes of each cell's counts; means and variances are over the non-zero ones."""
    nnz = np.diff(counts.indptr).astype(np.int64)
    total = np.asarray(counts.sum(axis=1, dtype=np.float64)).ravel()
    squares = np.asarray(counts.astype(np.float64).power(2).sum(axis=1)).ravel()
    mean = total / np.maximum(nnz, 1)
    variance = np.maximum(squares - nnz * mean**2, 0) / np.maximum(nnz - 1, 1)
    n_genes = np.full(len(nnz), counts.shape[1], np.int64)
    return dict(zip(MEASURED, (total, nnz, mean, variance, n_genes), strict=True))


def filled(column: pd.Series, default: str | bool | None = None) -> pd.Series:
    """Without missing values: numbers and truth values stay, with missing numbers as NaN; all else becomes text."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype(object)
    if isinstance(default, bool):
        return column.where(column.notna(), default).astype(bool)
    if default is None and pd.api.types.is_bool_dtype(column) and column.notna().all():
        return column.astype(bool)
    if default is None and pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
        plain = isinstance(column.dtype, np.dtype) and column.dtype != np.float16  # which TileDB does not know
        return column if plain else column.astype(np.float64)
    text = column.astype(object)
    return text.where(text.notna(), default or UNKNOWN).astype(str).astype(object)
