"""Raw counts of one's own cells by blocks of rows: of an h5ad file or an AnnData, wherever in it they stand.

One block is in memory at a time, whether the file holds them by cell, by gene or dense.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hdf5plugin  # noqa: F401 - registers compressions that h5ad files may have
import numpy as np
import pandas as pd
from anndata.abc import CSCDataset
from anndata.io import sparse_dataset
from scipy import sparse

from censusformer.census.h5ad import LAYERS, fault_of, open_h5ad, read_frame, read_obs
from censusformer.errors import InputError

if TYPE_CHECKING:
    import anndata
    import h5py

BLOCK = 1024  # cells read at a time
PASS = 2**25  # non-zeros of a file by genes that are put in order at a time: half a GB
AUTO = "auto"


@dataclass(frozen=True)
class Source:
    """Cells with raw counts.

    Parameters
    ----------
    name
        The file, or what else to call it in messages.
    place
        Where its counts stand: `X`, `layers/…` or `raw/X`.
    obs, var
        One row a cell (index: its name), one a gene.
    opened
        Opens the counts, (cells, genes): anything that gives rows by slices.
    """

    name: str
    place: str
    obs: pd.DataFrame
    var: pd.DataFrame
    opened: Callable[[], contextlib.AbstractContextManager[Any]]

    def blocks(self) -> Iterator[sparse.csr_matrix]:
        """All cells in order, up to `BLOCK` at a time, checked.

        Raises
        ------
        InputError
            Where a value is no raw count, or the file is damaged.
        """
        first = 0
        with self.opened() as matrix:
            for counts in _blocks(matrix):
                if fault := _fault(counts, first):
                    raise InputError(f"{self.name}: {self.place} {fault}. Raw counts are needed")
                yield counts
                first += counts.shape[0]


def open_file(file: Path, layer: str = AUTO) -> Source:
    """Find the raw counts of an h5ad file.

    Parameters
    ----------
    file
        The h5ad.
    layer
        `X`, `raw`, or the name of a layer; `auto`: the first of X, the usual layers and raw that holds raw counts, by
        its first cells.

    Raises
    ------
    InputError
        Where the file is unreadable, or holds none there.
    """
    with open_h5ad(file) as store:
        matrices = {place: _matrix(store[place]) for place in _places(layer) if place in store}
        place = _choose(str(file), matrices, layer)
        obs, var = read_obs(store), read_frame(store, "raw/var" if place == "raw/X" else "var")
        _check_shape(f"{file}: {place}", matrices[place].shape, obs, var)
    return Source(str(file), place, obs, var, partial(_opened, file, place))


def of_adata(adata: "anndata.AnnData", layer: str = AUTO) -> Source:
    """As `open_file`, for an AnnData, in memory or backed."""
    matrices = {"X": adata.X} if adata.X is not None else {}
    matrices |= {f"layers/{name}": adata.layers[name] for name in adata.layers}
    if adata.raw is not None:
        matrices["raw/X"] = adata.raw.X
    matrices = {place: matrices[place] for place in _places(layer) if place in matrices}
    place = _choose("the AnnData", matrices, layer)
    obs = adata.obs.set_axis(adata.obs_names.astype(str))
    matrix, var = matrices[place], adata.raw.var if place == "raw/X" else adata.var
    return Source("the AnnData", place, obs, var, lambda: contextlib.nullcontext(matrix))


@contextlib.contextmanager
def _opened(file: Path, place: str) -> Iterator[Any]:
    with open_h5ad(file) as store:
        yield _matrix(store[place])


def _places(layer: str) -> list[str]:
    if layer == AUTO:
        return ["X", *(f"layers/{name}" for name in LAYERS), "raw/X"]
    return [{"X": "X", "raw": "raw/X"}.get(layer, f"layers/{layer}")]


def _matrix(item: "h5py.Group | h5py.Dataset") -> Any:
    return sparse_dataset(item) if hasattr(item, "keys") else item


def _choose(name: str, matrices: dict[str, Any], layer: str) -> str:
    """The first place whose first cells are raw counts."""
    wanted = "X, layers/counts or raw/X" if layer == AUTO else _places(layer)[0]
    if not matrices:
        raise InputError(f"{name}: no {wanted}, where raw counts are needed; name their place with --layer")
    wrong = []
    for place, matrix in matrices.items():
        fault = _fault(next(_blocks(matrix), sparse.csr_matrix((0, 0))), 0)
        if not fault:
            return place
        wrong.append(f"{place} {fault}")
    raise InputError(f"{name}: {'; '.join(wrong)}. Raw counts are needed in {wanted}")


def _fault(counts: sparse.csr_matrix, first: int) -> str:
    fault = fault_of(counts, first)
    return fault or ("holds a count of over four billion" if counts.data.max(initial=0) >= 2**32 else "")


def _check_shape(what: str, shape: tuple[int, int], obs: pd.DataFrame, var: pd.DataFrame) -> None:
    if shape != (len(obs), len(var)):
        raise InputError(f"{what} is {tuple(shape)}, but there are {len(obs)} cells and {len(var)} genes")


def _blocks(matrix: Any) -> Iterator[sparse.csr_matrix]:
    if isinstance(matrix, CSCDataset):
        for rows in _ordered_by_cell(matrix):
            yield from _blocks(rows)
        return
    if sparse.issparse(matrix) and matrix.format != "csr":
        matrix = matrix.tocsr()
    for first in range(0, matrix.shape[0], BLOCK):
        yield sparse.csr_matrix(matrix[first : first + BLOCK])


def _ordered_by_cell(matrix: CSCDataset) -> Iterator[sparse.csr_matrix]:
    """Put a file that holds its values gene by gene in the order of cells: as many in a pass as `PASS` holds."""
    (n_cells, n_genes), group = matrix.shape, matrix.group
    ends = group["indptr"][:].astype(np.int64)
    per_cell = np.zeros(n_cells, np.int64)
    for _, rows, _ in _pieces(group, ends):
        per_cell += np.bincount(rows, minlength=n_cells)
    number = np.cumsum(per_cell) // PASS  # of the pass
    for first, last in zip(*_runs(number), strict=True):
        found = []
        for columns, rows, values in _pieces(group, ends):
            here = (rows >= first) & (rows < last)
            found.append((values[here], rows[here] - first, columns[here]))
        values, rows, columns = (np.concatenate(parts) for parts in zip(*found, strict=True))
        yield sparse.csr_matrix((values, (rows, columns)), shape=(last - first, n_genes))


def _pieces(group: "h5py.Group", ends: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Columns, rows and values, a piece of the file at a time; one empty piece of a file without values."""
    for first in range(0, max(1, int(ends[-1])), PASS // 8):
        part = slice(first, min(first + PASS // 8, int(ends[-1])))
        columns = np.searchsorted(ends, np.arange(part.start, part.stop), side="right") - 1
        yield columns, group["indices"][part].astype(np.int64), group["data"][part]


def _runs(numbers: np.ndarray) -> tuple[list[int], list[int]]:
    """Where each run of equal numbers begins and ends."""
    cuts = (np.flatnonzero(np.diff(numbers)) + 1).tolist()
    return ([0, *cuts], [*cuts, len(numbers)]) if len(numbers) else ([], [])
