"""Sums over the rows of CSR blocks: cells' quality, genes' moments by sample. One pass over the non-zeros each.

Kernels take a block's `indptr, indices, data`, and `gene_of`, which maps its columns to genes (int32, -1 for none);
they add to the arrays given last. Explicit zeros count as zeros.
"""

# ruff: noqa: PLR0917 - compiled kernels take plain arrays, by position

from collections.abc import Iterable

import numba
import numpy as np

kernel = numba.njit(cache=True, nogil=True, error_model="numpy")


@kernel
def add_gene_counts(indices: np.ndarray, data: np.ndarray, total: np.ndarray, n_cells: np.ndarray) -> None:
    """Add each column's sum of counts to `total` and its number of non-zeros to `n_cells`, int64 (n_columns,)."""
    for j in range(len(data)):
        total[indices[j]] += np.int64(data[j])
        n_cells[indices[j]] += data[j] > 0


@kernel
def count_cells(
    indptr, indices, data, is_kept, is_mito, min_genes, group, n_counts, n_genes, n_mito, ones, large_at, large
):
    """Count each row, drop poor ones, and split the others' counts into ones, which most are, and larger ones.

    Sets each row's counts (int64), expressed genes (int32) and mitochondrial counts (int64) over the columns that are
    kept genes, and `group` to -1 where it expresses fewer than `min_genes`. In the rows that are left, adds to `ones`
    (int32 (n_groups, n_columns)) how often a column's count is 1; lists the other counts in `large` (uint32), and in
    `large_at` (int64) where in `ones` they belong. Both have room for all. Returns how many there are.
    """
    end = 0
    for i in range(len(indptr) - 1):
        columns, values = indices[indptr[i] : indptr[i + 1]], data[indptr[i] : indptr[i + 1]]
        counts, expressed, mito = np.int64(0), 0, np.int64(0)
        for j in range(len(values)):  # no branch on the data, here and below
            value = np.int64(values[j]) * is_kept[columns[j]]
            counts += value
            expressed += value > 0
            mito += value * is_mito[columns[j]]
        n_counts[i], n_genes[i], n_mito[i] = counts, expressed, mito
        if expressed < min_genes:
            group[i] = -1
        if group[i] < 0:
            continue
        of_group, first = ones[group[i]], np.int64(group[i]) * ones.shape[1]
        for j in range(len(values)):
            of_group[columns[j]] += values[j] == 1
            large_at[end], large[end] = first + columns[j], values[j]
            end += values[j] > 1
    return end


@kernel
def hash_counts(indptr, indices, data, word, hashed):
    """Hash each row's counts: the sum of count x its column's word (uint64) modulo 2**64 (Carter and Wegman 1979).

    Rows have the same hash if they have the same counts, in whatever order, and else with a chance of about 2**-63.
    A column with word 0 does not count. Sets uint64 `hashed` (n_rows,).
    """
    for i in range(len(indptr) - 1):
        total = np.uint64(0)
        for j in range(indptr[i], indptr[i + 1]):
            total += np.uint64(data[j]) * word[indices[j]]
        hashed[i] = total


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
def _add_large(at, values, limit, sums):
    for k in range(len(values)):
        value = np.float64(values[k])
        if value > limit[at[k]]:
            of_gene = sums[at[k]]
            of_gene[0] += 1.0
            of_gene[1] += value
            of_gene[2] += value * value


def add_over(ones: np.ndarray, large: Iterable[tuple[np.ndarray, np.ndarray]], limit: np.ndarray) -> np.ndarray:
    """Number, sum and sum of squares of the counts over a limit, as `count_cells` splits them.

    Integers, so that neither the order of cells nor that of genes changes a score by a last bit, on which ties would
    hang.

    Parameters
    ----------
    ones
        int32 (n_groups, n_columns).
    large
        Pairs of `large_at` and `large`, of one block of rows each.
    limit
        float64 (n_groups, n_columns).

    Returns
    -------
    float64 (n_groups, n_columns, 3), exact up to 2**53.
    """
    sums = np.empty((*ones.shape, 3))
    sums[...] = (ones * (limit < 1))[:, :, None]
    for at, values in large:
        _add_large(at, values, limit.ravel(), sums.reshape(-1, 3))
    return sums
