"""Sums over the rows of CSR blocks: cells' quality, genes' moments by sample. One pass over the non-zeros each.

Kernels take a block's `indptr, indices, data`, and `gene_of`, which maps its columns to genes (int32, -1 for none);
they add to the arrays given last. Explicit zeros count as zeros.
"""

# ruff: noqa: PLR0917 - compiled kernels take plain arrays, by position

import numba
import numpy as np

kernel = numba.njit(cache=True, nogil=True, error_model="numpy")


@kernel
def add_gene_counts(indices: np.ndarray, data: np.ndarray, total: np.ndarray, n_cells: np.ndarray) -> None:
    """Add each column's sum of counts to `total` and its number of non-zeros to `n_cells`, int64 (n_columns,)."""
    for j in range(len(data)):
        if data[j]:
            total[indices[j]] += np.int64(data[j])
            n_cells[indices[j]] += 1


@kernel
def add_cell_counts(indptr, indices, data, gene_of, is_mito, n_counts, n_genes, n_mito):
    """Set each row's counts (int64), expressed genes (int32) and mitochondrial counts (int64) over the genes."""
    for i in range(len(indptr) - 1):
        for j in range(indptr[i], indptr[i + 1]):
            gene = gene_of[indices[j]]
            if gene >= 0 and data[j]:
                n_counts[i] += np.int64(data[j])
                n_genes[i] += 1
                if is_mito[gene]:
                    n_mito[i] += np.int64(data[j])


@kernel
def add_moments(indptr, indices, data, gene_of, group, moments):
    """Add values and their squares to float64 `moments` (n_groups, n_genes, 2): exact for counts (up to 2**53).

    `data` may be normalised values, too. `group` (int32, one a row) is the row's sample, -1 for a row to leave out.
    """
    for i in range(len(indptr) - 1):
        if group[i] < 0:
            continue
        sums = moments[group[i]]
        for j in range(indptr[i], indptr[i + 1]):
            gene = gene_of[indices[j]]
            if gene >= 0:
                value = np.float64(data[j])
                sums[gene, 0] += value
                sums[gene, 1] += value * value


@kernel
def add_clipped(indptr, indices, data, gene_of, group, clip, clipped):
    """Add number, sum and sum of squares of the counts over `clip` (n_groups, n_genes) to float64 `clipped` (…, 3).

    Integers again, so that neither the order of cells nor that of genes changes a score by a last bit, on which ties
    would hang.
    """
    for i in range(len(indptr) - 1):
        if group[i] < 0:
            continue
        limit, sums = clip[group[i]], clipped[group[i]]
        for j in range(indptr[i], indptr[i + 1]):
            gene = gene_of[indices[j]]
            if gene >= 0:
                value = np.float64(data[j])
                if value > limit[gene]:
                    sums[gene, 0] += 1.0
                    sums[gene, 1] += value
                    sums[gene, 2] += value * value
