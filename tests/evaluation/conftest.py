import numpy as np
import pytest

from censusformer.evaluation.masked import MaskedCells


def cells_of(lengths, value, *, n_genes=40, n_datasets=3, seed=0, share=0.5):
    """Cells with distinct genes; value(cell, gene, dataset, rng) gives the bins of all tokens at once."""
    rng = np.random.default_rng(seed)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    genes = np.concatenate([rng.choice(n_genes, length, replace=False) for length in lengths])
    dataset = rng.integers(0, n_datasets, len(lengths))
    cell = np.repeat(np.arange(len(lengths)), lengths)
    values = value(cell, genes, dataset[cell], rng).astype(float)
    return MaskedCells(offsets, genes, values, rng.random(len(genes)) < share, dataset)


def reordered(cells, seed=0):
    """The same cells with the genes of each in another order, and the order that undoes it at masked positions."""
    order = np.lexsort((np.random.default_rng(seed).random(len(cells.genes)), cells.cell))
    other = MaskedCells(cells.offsets, cells.genes[order], cells.values[order], cells.mask[order], cells.dataset)
    return other, np.argsort(order[cells.mask[order]])


@pytest.fixture(name="cells_of", scope="session")
def _cells_of():
    return cells_of


@pytest.fixture(name="reordered", scope="session")
def _reordered():
    return reordered
