"""Cells with one gene taken out or raised."""

from dataclasses import replace

import numpy as np

from censusformer.tokens.cells import Cells


def shows(cells: Cells, gene: int) -> np.ndarray:
    """Whether each cell has a token of the gene, bool (n,)."""
    found = np.zeros(len(cells), bool)
    found[np.searchsorted(cells.offsets, np.flatnonzero(cells.genes == gene), side="right") - 1] = True
    return found


def without(cells: Cells, gene: int) -> Cells:
    """The cells without this gene's token; the others' bins stay as they are."""
    kept = cells.genes != gene
    offsets = np.concatenate([[0], np.cumsum(kept)])[cells.offsets].astype(np.int64)
    return replace(cells, offsets=offsets, genes=cells.genes[kept], values=cells.values[kept])


def raised(cells: Cells, gene: int, value: int) -> Cells:
    """The cells with this gene at bin `value`, whether or not they had it; genes stay in rising order."""
    rest = without(cells, gene)
    owner = np.repeat(np.arange(len(rest)), rest.lengths)
    n_before = np.bincount(owner[rest.genes < gene], minlength=len(rest))
    places = rest.offsets[:-1] + n_before
    genes = np.insert(rest.genes, places, gene).astype(rest.genes.dtype)
    values = np.insert(rest.values, places, value).astype(rest.values.dtype)
    return replace(rest, offsets=rest.offsets + np.arange(len(rest) + 1), genes=genes, values=values)
