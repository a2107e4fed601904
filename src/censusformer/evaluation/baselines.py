"""Predictors that any model has to beat: means by gene, by gene and data set, and with the cell's shift.

Each token counts alike, as in the loss. Predictions are float64 (M,), at masked positions in token order.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from censusformer.evaluation.masked import MaskedCells

SHRINKAGES = (0.0, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, np.inf)


@dataclass(frozen=True)
class Means:
    """Mean bins of training tokens.

    Parameters
    ----------
    constant
        The mean of all.
    gene
        float64 (n_genes,): by gene; the constant for a gene that has no token.
    dataset
        float64 (n_datasets, n_genes): by data set and gene; the gene's mean where there is no token.
    """

    constant: float
    gene: np.ndarray
    dataset: np.ndarray


def fit_means(cells: MaskedCells, n_genes: int, n_datasets: int) -> Means:
    """Average the bins of all tokens, masked or not: the best constant by gene needs no mask."""
    genes, values = cells.genes.astype(np.int64), cells.values.astype(np.float64)
    constant = float(values.mean())
    gene = _means(genes, values, np.full(n_genes, constant))
    pair = cells.dataset[cells.cell] * n_genes + genes
    dataset = _means(pair, values, np.tile(gene, n_datasets)).reshape(n_datasets, n_genes)
    return Means(constant, gene, dataset)


def _means(group: np.ndarray, values: np.ndarray, otherwise: np.ndarray) -> np.ndarray:
    count = np.bincount(group, minlength=len(otherwise))
    total = np.bincount(group, values, minlength=len(otherwise))
    return np.where(count > 0, total / np.maximum(count, 1), otherwise)


def predict_constant(means: Means, cells: MaskedCells) -> np.ndarray:
    """Predict the mean bin everywhere."""
    return np.full(len(cells.target), means.constant)


def predict_gene_mean(means: Means, cells: MaskedCells) -> np.ndarray:
    """Predict each gene's mean bin."""
    return means.gene[cells.target_gene]


def predict_gene_dataset_mean(means: Means, cells: MaskedCells) -> np.ndarray:
    """Predict each gene's mean bin within the cell's data set, the gene's where the data set is unknown."""
    dataset = cells.dataset[cells.target_cell]
    return np.where(dataset >= 0, means.dataset[dataset, cells.target_gene], means.gene[cells.target_gene])


def fit_shift(means: Means, cells: MaskedCells, shrinkages: Sequence[float] = SHRINKAGES) -> float:
    """Choose the shrinkage of a cell's shift that has the lowest squared error on these training cells.

    A cell's shift is the sum of its visible genes' residuals over their number plus the shrinkage: the plain mean
    residual at 0, no shift at infinity; in between the posterior mean of a shift that is normal around 0.
    """
    errors = [np.square(predict_gene_mean_shift(means, s, cells) - cells.target).mean() for s in shrinkages]
    return float(shrinkages[int(np.argmin(errors))])


def predict_gene_mean_shift(means: Means, shrinkage: float, cells: MaskedCells) -> np.ndarray:
    """Predict each gene's mean bin plus the cell's shift, from its visible genes."""
    visible = ~cells.mask
    residual = cells.values[visible] - means.gene[cells.genes[visible]]
    total = np.bincount(cells.cell[visible], residual, minlength=len(cells))
    count = np.bincount(cells.cell[visible], minlength=len(cells))
    shift = total / np.maximum(count + shrinkage, 1)
    return means.gene[cells.target_gene] + shift[cells.target_cell]
