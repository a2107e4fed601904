"""Genes for the step `embeddings`: vectors, neighbours, markers, and errors by how often a gene was trained."""

import logging
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import sparse

from censusformer.evaluation import gene_vectors
from censusformer.evaluation.markers import marker_genes
from censusformer.tokens.cells import Cells
from censusformer.tokens.masking import evaluation_mask
from censusformer.tokens.vocabulary import Vocabulary

logger = logging.getLogger("censusformer")
RATIO = 0.5  # of a cell's genes that are hidden where the error of each gene is measured


@dataclass(frozen=True)
class Genes:
    """Tables of genes: one row a gene, one a set of markers, one a class of frequency."""

    genes: pd.DataFrame
    markers: pd.DataFrame
    frequency: pd.DataFrame


def measure_genes(model, fresh, train: Cells, scored: Cells, vocabulary: Vocabulary) -> Genes:
    """Look at the gene embedding, and at the error at hidden positions of `scored`.

    Parameters
    ----------
    model, fresh
        The model, and the same with its initial weights.
    train
        All training cells.
    scored
        Cells whose hidden genes are predicted.
    """
    n_cells = np.bincount(train.genes, minlength=vocabulary.n_genes)
    compared = n_cells >= gene_vectors.MIN_TRAINED
    vectors = {"model": _gene_embedding(model), "untrained": _gene_embedding(fresh)}
    if compared.sum() > gene_vectors.MIN_SET:
        vectors["pca"] = _loadings(train, compared)
    errors, frequency = _errors(model, train, scored, vocabulary, n_cells)
    table = pd.DataFrame({"feature_id": vocabulary.genes, "feature_name": vocabulary.names,
                          "n_samples": vocabulary.n_samples, "n_cells": n_cells})  # fmt: skip
    table = table.join(errors).join(_neighbours(vectors["model"], compared, vocabulary))
    return Genes(table, _markers(vectors, compared, n_cells, vocabulary), frequency)


def _gene_embedding(model) -> np.ndarray:
    """The genes as they enter the encoder, float32 (n_genes, d)."""
    import torch

    with torch.no_grad():
        device = next(model.parameters()).device
        return model.encoder(torch.arange(model.config.n_genes, device=device)).float().cpu().numpy()


def _loadings(train: Cells, compared: np.ndarray) -> np.ndarray:
    """Genes by what a singular value decomposition of the training cells' bins says of them; zeros for the others."""
    from sklearn.decomposition import TruncatedSVD

    shape = len(train), len(compared)
    values = train.values.astype(np.float32)  # noqa: PD011 - an array of Cells
    bins = sparse.csr_matrix((values, train.genes.astype(np.int32), train.offsets), shape)
    part = bins[:, np.flatnonzero(compared)]
    svd = TruncatedSVD(min(50, min(part.shape) - 1), random_state=0).fit(part)
    found = np.zeros((len(compared), svd.components_.shape[0]), np.float32)
    found[compared] = (svd.components_ * svd.singular_values_[:, None]).T
    return found


def _neighbours(vectors: np.ndarray, compared: np.ndarray, vocabulary: Vocabulary) -> pd.DataFrame:
    names, genes = np.array(vocabulary.names, object), np.flatnonzero(compared)
    frame = pd.DataFrame({"neighbours": [[]] * len(compared), "cosines": [[]] * len(compared)}, dtype=object)
    if len(genes) > 1:
        near, cosines = gene_vectors.nearest(gene_vectors.unit_vectors(vectors, compared), compared)
        frame.loc[genes, "neighbours"] = pd.Series(names[near].tolist(), genes, dtype=object)
        frame.loc[genes, "cosines"] = pd.Series(cosines.round(4).tolist(), genes, dtype=object)
    return frame


def _markers(
    vectors: dict[str, np.ndarray], compared: np.ndarray, n_cells: np.ndarray, vocabulary: Vocabulary
) -> pd.DataFrame:
    sets = {name: np.array(genes, np.int64) for name, genes in marker_genes(vocabulary.names).items()}
    rows = []
    if compared.any():
        for name, x in vectors.items():
            unit = gene_vectors.unit_vectors(x, compared)
            rows += [(name, *found) for found in gene_vectors.enrichment(unit, compared, n_cells, sets)]
    columns = ["representation", "set", "metric", "value", "expected", "low", "high", "p", "n"]
    kinds = {"value": float, "expected": float, "low": float, "high": float, "p": float, "n": np.int64}
    return pd.DataFrame(rows, columns=columns).astype(kinds)


def _errors(
    model, train: Cells, scored: Cells, vocabulary: Vocabulary, n_cells: np.ndarray
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Errors of both heads and of each gene's mean, by gene and by frequency of training."""
    from censusformer.training import predict_masked

    mask = evaluation_mask(scored, vocabulary.gene_words, RATIO)
    gene = scored.genes[mask].astype(np.int64)
    target = scored.values[mask].astype(np.float64)  # noqa: PD011 - an array of Cells
    sample = np.repeat(scored.sample.codes, scored.lengths)[mask]
    gep, gepc = predict_masked(model, scored, mask)
    totals = np.bincount(train.genes, train.values, len(n_cells))
    means = np.where(n_cells > 0, totals / np.maximum(n_cells, 1), totals.sum() / max(1, n_cells.sum()))
    squared = {name: (x - target) ** 2 for name, x in (("gep", gep), ("gepc", gepc), ("gene_mean", means[gene]))}
    n = np.bincount(gene, minlength=len(n_cells))
    with np.errstate(invalid="ignore"):
        by_gene = {f"mse_{name}": np.bincount(gene, x, len(n)) / n for name, x in squared.items()}
    frequency = gene_vectors.error_by_frequency(squared, gene, sample, n_cells)
    return pd.DataFrame({"n_masked": n, **by_gene}), frequency
