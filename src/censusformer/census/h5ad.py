"""Read what a census needs of one h5ad file: raw counts, genes by Ensembl id, cells; and refuse what is none of it."""

import contextlib
import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
from anndata.io import read_elem
from scipy import sparse

from censusformer.census.symbols import ids_of
from censusformer.errors import InputError

logger = logging.getLogger("censusformer")

LAYERS = ("counts", "raw_counts", "raw", "umi")  # where raw counts stand in files whose X is something else
ID_COLUMNS = ("feature_id", "gene_ids", "gene_id", "ensembl_id", "ensembl", "ensembl_gene_id")
NAME_COLUMNS = ("feature_name", "gene_symbols", "gene_symbol", "gene_name", "gene_names", "symbol", "features")
_ENSEMBL = {"homo_sapiens": "ENSG", "mus_musculus": "ENSMUSG"}


@dataclass(frozen=True)
class Cells:
    """Cells of one file: obs (index = name of the cell), var (`feature_id`, `feature_name`), counts (cells, genes)."""

    obs: pd.DataFrame
    var: pd.DataFrame
    counts: sparse.csr_matrix


@contextlib.contextmanager
def open_h5ad(file: Path) -> Iterator[h5py.File]:
    """Open a file for reading; what goes wrong with it while it is open ends in one InputError that names it."""
    try:
        with h5py.File(file) as store:
            yield store
    except FileNotFoundError:
        raise InputError(f"{file}: no such file") from None
    except (InputError, MemoryError):
        raise
    except Exception as error:  # a damaged file fails in h5py, anndata, numpy or scipy, in many ways
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{file}: cannot be read as h5ad ({reason}); is the file complete?") from error


def read_obs(store: h5py.File) -> pd.DataFrame:
    """Obs, with names of cells and columns as text.

    Raises
    ------
    InputError
        Where the file has none, or two columns have one name.
    """
    obs = read_frame(store, "obs")
    obs.index = obs.index.astype(str)
    obs.columns = obs.columns.astype(str)
    if not obs.columns.is_unique:
        raise InputError(f"{store.filename}: obs has two columns '{obs.columns[obs.columns.duplicated()][0]}'")
    return obs


def read_cells(file: Path, organism: str, gencode: Callable[[], pd.DataFrame]) -> Cells:
    """Read a file.

    Parameters
    ----------
    file
        The h5ad.
    organism
        As the Census names it; decides which Ensembl ids are its own.
    gencode
        Gives the table of `symbols.read_gencode`; called only where a file has no Ensembl ids.

    Raises
    ------
    InputError
        Where the file is unreadable, holds no raw counts, or none of its genes is recognised.
    """
    with open_h5ad(file) as store:
        obs = read_obs(store)
        place, counts = read_counts(store)
        var = read_frame(store, "raw/var" if place == "raw/X" else "var")
        if counts.shape != (len(obs), len(var)):
            raise InputError(f"{file}: {place} is {counts.shape}, but there are {len(obs)} cells and {len(var)} genes")
    var, counts = by_ensembl_id(file, var, counts, organism, gencode)
    logger.info("%s: %d cells, %d genes, counts from %s", file, *counts.shape, place)
    return Cells(obs, var, counts)


def read_counts(store: h5py.File) -> tuple[str, sparse.csr_matrix]:
    """The first of X, layers and raw.X that holds raw counts, and its name.

    Raises
    ------
    InputError
        Where none does: it says what is wrong with the first.
    """
    places = [place for place in ("X", *(f"layers/{name}" for name in LAYERS), "raw/X") if place in store]
    if not places:
        raise InputError(f"{store.filename}: no X: raw counts are needed in X, layers/counts or raw/X")
    wrong = []
    for place in places:
        counts = sparse.csr_matrix(read_elem(store[place]))
        fault = fault_of(counts)
        if not fault:
            return place, counts
        wrong.append(f"{place} {fault}")
    found = "; ".join(wrong)
    raise InputError(f"{store.filename}: {found}. Raw counts are needed in X, layers/counts or raw/X")


def fault_of(counts: sparse.csr_matrix, first: int = 0) -> str:
    """Why values are no raw counts, with an example; '' where they are. The rows begin at row `first` of a whole."""
    values = counts.data
    if values.dtype.kind in "ub":
        return ""
    for name, bad in (("a missing or infinite value", ~np.isfinite(values)), ("a negative value", values < 0)):
        if bad.any():
            return f"holds {name} ({_example(counts, bad, first)})"
    bad = values != np.rint(values)
    return f"holds normalised values, not whole numbers ({_example(counts, bad, first)})" if bad.any() else ""


def by_ensembl_id(
    file: Path,
    var: pd.DataFrame,
    counts: sparse.csr_matrix,
    organism: str,
    gencode: Callable[[], pd.DataFrame],
) -> tuple[pd.DataFrame, sparse.csr_matrix]:
    """Genes by Ensembl id without version, sorted; genes without one are left out, those that share one are summed."""
    ids, names = gene_ids(var, organism)
    if not (ids != "").any() and organism == "homo_sapiens":
        ids, names = from_symbols(var, gencode())
    known = np.flatnonzero(ids != "")
    if not len(known):
        some = ", ".join(var.index.astype(str)[:3])
        wanted = f"Ensembl ids ({_ENSEMBL.get(organism, 'ENS')}…)" + (" or symbols" * (organism == "homo_sapiens"))
        raise InputError(f"{file}: no gene in var is known for {organism} (names: {some}); {wanted} are needed")
    unique, first, column = np.unique(ids[known], return_index=True, return_inverse=True)
    _log_genes(file, var.index, counts, known, len(unique))
    kept = counts[:, known]
    summed = sparse.csr_matrix((kept.data, column[kept.indices], kept.indptr), (kept.shape[0], len(unique)), copy=True)
    summed.sum_duplicates()
    return pd.DataFrame({"feature_id": unique, "feature_name": names[known][first]}), summed


def gene_ids(var: pd.DataFrame, organism: str) -> tuple[np.ndarray, np.ndarray]:
    """Ensembl ids without version ('' where a gene has none) and names, from the names of var or a column of it.

    The place where most genes have one is taken.
    """
    pattern = re.compile(rf"({_ENSEMBL.get(organism, 'ENS[A-Z]*G')}\d+)(\.\d+)?(_PAR_Y)?")
    places = {"": var.index, **{name: var[name] for name in ID_COLUMNS if name in var}}
    found = {place: _matches(values, pattern) for place, values in places.items()}
    best = max(found, key=lambda place: int((found[place] != "").sum()))
    names = next((var[name] for name in NAME_COLUMNS if name in var), var.index if best else pd.Series(found[best]))
    text = pd.Series(np.asarray(names, object)).astype(str).to_numpy(str)
    return found[best], np.where(np.isin(text, ("", "nan", "None")), found[best], text)


def _matches(values: pd.Series | pd.Index, pattern: re.Pattern) -> np.ndarray:
    matches = (pattern.fullmatch(str(value)) for value in values)
    return np.array([match.group(1) if match else "" for match in matches], dtype=str)


def from_symbols(var: pd.DataFrame, gencode: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """As `gene_ids`, from symbols by a table as `read_gencode` gives it: the place where most of them are known."""
    places = [var.index, *(var[name] for name in NAME_COLUMNS if name in var)]
    found = [(ids_of(symbols, gencode), symbols) for symbols in (np.asarray(place).astype(str) for place in places)]
    return max(found, key=lambda pair: int((pair[0] != "").sum()))


def _log_genes(file: Path, genes: pd.Index, counts: sparse.csr_matrix, known: np.ndarray, n_unique: int) -> None:
    if len(known) < len(genes):
        totals = np.asarray(counts.sum(axis=0)).ravel()
        lost = np.setdiff1d(np.arange(len(genes)), known)
        most = ", ".join(genes[lost[np.argsort(-totals[lost], kind="stable")[:5]]].astype(str))
        logger.info(
            "%s: %d of %d genes, with %.1f %% of the counts, have no Ensembl id (symbols: by GENCODE v44) and are left "
            "out; the most counted of them: %s. Ensembl ids in var lose none",
            file, len(lost), len(genes), 100 * totals[lost].sum() / max(1, totals.sum()), most,
        )  # fmt: skip
    if n_unique < len(known):
        logger.info(
            "%s: %d genes share their Ensembl id with another; their counts are summed", file, len(known) - n_unique
        )


def read_frame(store: h5py.File, name: str) -> pd.DataFrame:
    """Read `obs`, `var` or `raw/var`; refuses formats of long ago."""
    if name not in store:
        raise InputError(f"{store.filename}: no {name}: this is no h5ad")
    frame = read_elem(store[name])
    if not isinstance(frame, pd.DataFrame):
        raise InputError(f"{store.filename}: {name} has the format of anndata before 0.7: read and write it once anew")
    return frame


def _example(counts: sparse.csr_matrix, bad: np.ndarray, first: int) -> str:
    place = int(np.argmax(bad))
    row = first + int(np.searchsorted(counts.indptr, place, side="right")) - 1
    return f"{counts.data[place]:g} in row {row}, column {counts.indices[place]}"
