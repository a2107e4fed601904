"""The step `evaluate --h5ad --embeddings`: labels told from the embeddings of one's own cells, beside baselines.

The scores are those of the step `embeddings`; each donor is held out in turn, so no model of the labels meets the donor
that it is measured on.
"""

from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from censusformer.evaluation.embedding_scores import Known, score_all
from censusformer.hashing import draw, word
from censusformer.steps._counts import Source
from censusformer.steps._embeddings import Chosen, of_counts, of_model, untrained
from censusformer.steps._own import genes_of
from censusformer.tokens.cells import Cells
from censusformer.tokens.vocabulary import Vocabulary

MOST_CELLS = 10000
_CHOSEN = word("censusformer evaluate: cells whose labels are told")


def score_labels(
    model, seed: int, cells: Cells, counts: sparse.csr_matrix, vocabulary: Vocabulary
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Score the model's embeddings of labelled cells, those of its untrained twin, and representations of the counts.

    Parameters
    ----------
    model, seed
        A `Pretrainer`, and the seed that it was trained with.
    cells, counts
        The n cells as tokens, and their raw counts (n, n_genes); at most 10,000 by hash are taken.
    vocabulary
        The model's.

    Returns
    -------
    As `evaluation.embedding_scores.score_all`.
    """
    rows = np.sort(np.argsort(draw(_CHOSEN, cells.cell), kind="stable")[:MOST_CELLS])
    cells = cells.take(rows)
    none = np.zeros(len(cells), bool)
    chosen = Chosen(cells, none, cells.sample.labels(), cells.sample.labels())
    found = dict(of_model(model, "model", cells)) | dict(of_model(untrained(model, seed), "untrained", cells))
    found |= dict(of_counts(chosen, counts[rows], np.array(vocabulary.n_samples), scvi=False))
    label, sample = np.where(chosen.labelled, cells.cell_type.codes, -1), cells.sample.codes
    known = Known(cells.cell, none, label, sample, sample, cells.dataset_id.codes, cells.cell_type.names)
    return score_all(found, known)


def read_counts(source: Source, vocabulary: Vocabulary) -> sparse.csr_matrix:
    """Raw counts of the vocabulary's genes, float32 (cells, genes); columns of one gene are summed."""
    gene_of = genes_of(source.var, vocabulary)
    column = np.flatnonzero(gene_of >= 0)
    ones = np.ones(len(column), np.float32)
    place = sparse.csr_matrix((ones, (column, gene_of[column])), (len(gene_of), vocabulary.n_genes))
    return sparse.vstack([block.astype(np.float32) @ place for block in source.blocks()], "csr")
