"""The real cells behind the demo: 559 human immune cells that celltypist ships, with labels by pbmc68k_reduced."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import h5py
import numpy as np
from scipy import sparse

from censusformer.census.symbols import ids_of, package_file, read_gencode
from censusformer.errors import InputError
from censusformer.hashing import words

SAMPLE = "data/samples/sample_cell_by_gene.csv"
REFERENCE = "datasets/10x_pbmc68k_reduced.h5ad"


@dataclass(frozen=True)
class RealCells:
    """Raw counts of real cells.

    Attributes
    ----------
    names
        One name a cell.
    labels
        One of the reference's types a cell.
    feature_id, feature_name
        One Ensembl id and one symbol a gene, sorted by id.
    counts
        (cells, genes), int64.
    """

    names: np.ndarray
    labels: np.ndarray
    feature_id: np.ndarray
    feature_name: np.ndarray
    counts: sparse.csr_matrix

    @cached_property
    def gene_words(self) -> np.ndarray:
        """The genes' words, for draws: uint64 (genes,)."""
        return words(self.feature_id)


def read_real_cells() -> RealCells:
    """Read the cells, give their genes Ensembl ids (those without one are left out) and the cells labels."""
    names, symbols, counts = read_sample(package_file("celltypist", SAMPLE))
    labels = nearest_types(symbols, counts, *read_reference(package_file("scanpy", REFERENCE)))
    ids = ids_of(symbols, read_gencode())
    known = np.flatnonzero(ids != "")
    known = known[np.unique(ids[known], return_index=True)[1]]
    return RealCells(names, labels, ids[known], symbols[known], counts[:, known])


def read_sample(file: Path) -> tuple[np.ndarray, np.ndarray, sparse.csr_matrix]:
    """Names, symbols and counts (cells, genes) of a CSV with one row a cell; its numbers are integers once rounded."""
    lines = file.read_text().splitlines()
    # a parser for tables is slow on 32,786 columns: 8 s against 1.5 s
    names, values = zip(*(line.split(",", 1) for line in lines[1:]), strict=True)
    rows = []
    for text in values:
        dense = np.fromstring(text, sep=",")
        rounded = np.rint(dense)
        if np.abs(dense - rounded).max() > 1e-6:
            raise InputError(f"{file} does not hold counts: install the pinned release of celltypist")
        rows.append(sparse.csr_matrix(rounded.astype(np.int64)))
    return np.array(names), np.array(lines[0].split(",")[1:]), sparse.vstack(rows, format="csr")


def read_reference(file: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Symbols, types and log1p expression (cells, genes) of `pbmc68k_reduced`, stored in AnnData's format of 2018."""
    with h5py.File(file) as store:
        matrix = store["raw.X"]
        parts = (matrix["data"][:], matrix["indices"][:], matrix["indptr"][:])
        expression = sparse.csr_matrix(parts, shape=tuple(matrix.attrs["h5sparse_shape"])).toarray()
        symbols = store["raw.var"]["index"].astype(str)
        types = store["uns/bulk_labels_categories"][:].astype(str)[store["obs"]["bulk_labels"]]
    return symbols, types, expression


def nearest_types(
    symbols: np.ndarray,
    counts: sparse.csr_matrix,
    reference_symbols: np.ndarray,
    types: np.ndarray,
    reference: np.ndarray,
) -> np.ndarray:
    """The type whose mean profile in the reference is nearest to each cell, by correlation over the shared genes.

    Both sides are log1p of 10,000 counts a cell and centred and scaled by gene, so that what differs between the two
    experiments does not decide.
    """
    _, ours, theirs = np.intersect1d(symbols, reference_symbols, return_indices=True)
    depth = counts.sum(axis=1)
    cells = _standardised(np.log1p(counts[:, ours].toarray() / depth * 10_000))
    expression = _standardised(reference[:, theirs])
    names = np.unique(types)
    profiles = np.stack([expression[types == name].mean(axis=0) for name in names])
    return names[np.argmax(_unit(cells) @ _unit(profiles).T, axis=1)]


def _standardised(values: np.ndarray) -> np.ndarray:
    values = np.asarray(values, np.float64)
    deviation = values.std(axis=0)
    return (values - values.mean(axis=0)) / np.where(deviation > 0, deviation, 1)


def _unit(values: np.ndarray) -> np.ndarray:
    return values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)
