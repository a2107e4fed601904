"""One's own h5ad files as datasets of a census."""

import functools
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import sparse

from censusformer.census.assays import term_of
from censusformer.census.h5ad import Cells, open_h5ad, read_cells, read_obs
from censusformer.census.parts import MEASURED, OBS_DEFAULTS, UNKNOWN, Part, filled
from censusformer.census.symbols import read_gencode
from censusformer.errors import InputError

logger = logging.getLogger("censusformer")

_TRUTH = {"true": True, "false": False, "1": True, "0": False, "1.0": True, "0.0": False}
_ABSENT = ("", "nan", "NaN", "None", "<NA>")  # how missing values look as text


def read_parts(files: Sequence[Path], organism: str = "homo_sapiens") -> Iterator[Part]:
    """Read files as datasets, sorted by path; one dataset at a time is in memory.

    The dataset is obs.dataset_id, else the file's stem; a dataset may stand in several files, a file may hold several.

    Raises
    ------
    InputError
        Names file and column: a file that is unreadable or holds no raw counts, a missing donor_id, a cell that stands
        there twice, a column that cannot be understood.
    """
    files = sorted({Path(file).absolute(): Path(file) for file in files}.values())
    if not files:
        raise InputError("no h5ad file to read: see census.h5ad")
    homes = datasets_of(files)
    gencode = functools.cache(read_gencode)
    held: dict[Path, Cells] = {}  # the file read last, which may hold further datasets

    def read(file: Path) -> Cells:
        if file not in held:
            held.clear()
            held[file] = read_cells(file, organism, gencode)
        return held[file]

    for dataset_id, where in homes.items():
        yield _part(dataset_id, [(file, _only(read(file), dataset_id, file)) for file in where])


def datasets_of(files: Sequence[Path]) -> dict[str, list[Path]]:
    """The files of each dataset; obs alone is read, so that most faults show before any counts are read."""
    homes: dict[str, list[Path]] = {}
    for file in files:
        with open_h5ad(file) as store:
            obs = read_obs(store)
        _check_obs(file, obs)
        for dataset_id in pd.unique(dataset_ids(file, obs)):
            homes.setdefault(dataset_id, []).append(file)
        twin = homes.get(file.stem, [file])[0]
        if "dataset_id" not in obs and twin != file:
            raise InputError(
                f"{file} has the dataset id of {twin}, '{file.stem}': rename one, or give both a column obs.dataset_id"
            )
    return homes


def dataset_ids(file: Path, obs: pd.DataFrame) -> np.ndarray:
    """The dataset of each cell, as text."""
    if "dataset_id" not in obs:
        return np.full(len(obs), file.stem, object)
    ids = obs["dataset_id"].astype(object).where(obs["dataset_id"].notna(), "").astype(str)
    if (ids == "").any():
        raise InputError(f"{file}: obs.dataset_id is empty for {(ids == '').sum()} cells; fill it, or drop the column")
    return ids.to_numpy(object)


def census_obs(file: Path, obs: pd.DataFrame) -> pd.DataFrame:
    """Obs of a file in the Census's terms.

    The cell's name becomes observation_joinid, known assays get their ontology ids, tissue_general falls back to
    tissue, empty donors become 'unknown'; other columns are kept. What the Census computes or TileDB reserves is left
    out.
    """
    reserved = [name for name in obs if not name or name.startswith(("soma_", "__"))]
    if set(reserved) - {"soma_joinid"}:
        logger.info("%s: left out the columns of obs with reserved names: %s", file, ", ".join(reserved))
    result = obs.drop(columns=[*reserved, *(name for name in MEASURED if name in obs)])
    result["observation_joinid"] = obs.index
    result["donor_id"] = _text(obs["donor_id"])
    if "is_primary_data" in obs:
        result["is_primary_data"] = truth(file, "is_primary_data", obs["is_primary_data"])
    if "tissue_general" not in obs:
        result["tissue_general"] = obs.get("tissue", UNKNOWN)
    if "assay" in obs and "assay_ontology_term_id" not in obs:
        result["assay_ontology_term_id"] = _assay_terms(file, _text(obs["assay"]))
    absent = [name for name in OBS_DEFAULTS if name not in result and "_ontology_term_id" not in name]
    _log_obs(file, absent, obs)
    return pd.DataFrame({name: filled(column) for name, column in result.reset_index(drop=True).items()})


def truth(file: Path, name: str, column: pd.Series) -> np.ndarray:
    """A column of truth values, whether stored as such, as numbers or as text."""
    if column.dtype == bool:
        return column.to_numpy()
    values = column.astype(str).str.casefold().map(_TRUTH)
    if values.isna().any():
        odd = column[values.isna().to_numpy()].iloc[0]
        raise InputError(f"{file}: obs.{name} holds '{odd}'; only true and false are understood")
    return values.to_numpy(bool)


def _check_obs(file: Path, obs: pd.DataFrame) -> None:
    if not len(obs):
        raise InputError(f"{file}: obs has no cells")
    if "donor_id" not in obs:
        some = ", ".join(obs.columns[:8])
        raise InputError(f"{file}: obs has no column donor_id, which says whose cells they are (columns: {some})")
    keys = pd.DataFrame({"dataset": dataset_ids(file, obs), "cell": obs.index.to_numpy()})
    if keys.duplicated().any():
        twice = keys["cell"][keys.duplicated()].iloc[0]
        raise InputError(f"{file}: obs names the cell '{twice}' more than once; names must be unique in a dataset")


def _only(cells: Cells, dataset_id: str, file: Path) -> Cells:
    rows = dataset_ids(file, cells.obs) == dataset_id
    return cells if rows.all() else Cells(cells.obs[rows], cells.var, cells.counts[rows])


def _part(dataset_id: str, pieces: list[tuple[Path, Cells]]) -> Part:
    """Join the pieces of a dataset; what one of them measured counts as measured."""
    obs = pd.concat([census_obs(file, cells.obs) for file, cells in pieces], ignore_index=True)
    twice = obs["observation_joinid"][obs["observation_joinid"].duplicated()]
    if len(twice):
        names = " and ".join(str(file) for file, _ in pieces)
        raise InputError(f"{names}: dataset '{dataset_id}' has the cell '{twice.iloc[0]}' (name in obs) in two of them")
    var = pd.concat([cells.var for _, cells in pieces]).drop_duplicates("feature_id").sort_values("feature_id")
    genes = pd.Index(var["feature_id"])
    counts = sparse.vstack([_placed(cells, genes) for _, cells in pieces], format="csr")
    names = ";".join(file.name for file, _ in pieces)
    return Part({"dataset_id": dataset_id, "dataset_title": dataset_id, "dataset_h5ad_path": names}, obs, var, counts)


def _placed(cells: Cells, genes: pd.Index) -> sparse.csr_matrix:
    columns = genes.get_indexer(cells.var["feature_id"])
    shape = (cells.counts.shape[0], len(genes))
    return sparse.csr_matrix((cells.counts.data, columns[cells.counts.indices], cells.counts.indptr), shape)


def _text(column: pd.Series) -> pd.Series:
    """As text without spaces around, missing and empty values as 'unknown'."""
    text = column.astype(object).where(column.notna(), "").astype(str).str.strip()
    return text.where(~text.isin(_ABSENT), UNKNOWN)


def _assay_terms(file: Path, labels: pd.Series) -> pd.Series:
    terms = {label: term_of(label) or UNKNOWN for label in labels.unique()}
    odd = [label for label, term in terms.items() if term == UNKNOWN and label != UNKNOWN]
    if odd:
        logger.info("%s: no ontology id is known for the assays %s; obs.assay_ontology_term_id can name it", file, odd)
    return labels.map(terms)


def _log_obs(file: Path, absent: list[str], obs: pd.DataFrame) -> None:
    nameless = int((_text(obs["donor_id"]) == UNKNOWN).sum())
    if nameless:
        logger.info("%s: %d cells have no donor_id; cells of unknown donors are no sample", file, nameless)
    if "tissue_general" not in obs:
        stand_in = (
            "tissue" if "tissue" in obs else "'unknown' (a census.filter over tissue_general then selects nothing)"
        )
        logger.info("%s: no obs.tissue_general: %s stands in", file, stand_in)
    if absent:
        logger.info(
            "%s: columns that obs has not got, and what stands in: %s",
            file,
            ", ".join(f"{n}={OBS_DEFAULTS[n]}" for n in absent),
        )
