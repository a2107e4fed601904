import numpy as np
import pytest
import scipy.sparse as sp

from censusformer.expression import moments


@pytest.mark.parametrize("data", [np.uint16, np.uint32])
@pytest.mark.parametrize("indices", [np.uint16, np.int32])
def test_gene_counts_are_the_columns_sums(counts, csr_of, data, indices):
    _, columns, values = csr_of(counts, data=data, indices=indices)
    total, n_cells = np.zeros((2, counts.shape[1]), np.int64)
    half = len(values) // 2
    for part in (slice(half), slice(half, None)):
        moments.add_gene_counts(columns[part], values[part], total, n_cells)
    assert np.array_equal(total, np.asarray(counts.sum(0)).ravel())
    assert np.array_equal(n_cells, np.asarray((counts > 0).sum(0)).ravel())


def test_sums_pass_32_bits():
    total, n_cells = np.zeros((2, 1), np.int64)
    moments.add_gene_counts(np.zeros(3, np.int32), np.full(3, 2**32 - 1, np.uint32), total, n_cells)
    assert total[0] == 3 * (2**32 - 1)


def test_cells_are_counted_over_the_kept_genes(counts, csr_of):
    n, g = counts.shape
    gene_of = np.where(np.arange(g) % 2, np.arange(g) // 2, -1).astype(np.int32)
    is_mito = np.arange(g // 2) < 50
    n_counts, n_genes, n_mito = np.zeros(n, np.int64), np.zeros(n, np.int32), np.zeros(n, np.int64)
    moments.add_cell_counts(*csr_of(counts), gene_of, is_mito, n_counts, n_genes, n_mito)
    kept = counts.toarray()[:, 1::2]
    assert np.array_equal(n_counts, kept.sum(1))
    assert np.array_equal(n_genes, (kept > 0).sum(1))
    assert np.array_equal(n_mito, kept[:, :50].sum(1))


def test_moments_are_by_group_without_the_dropped_rows(counts, csr_of):
    n, g = counts.shape
    group = (np.arange(n) % 4 - 1).astype(np.int32)
    sums = np.zeros((3, g, 2))
    moments.add_moments(*csr_of(counts), np.arange(g, dtype=np.int32), group, sums)
    dense = counts.toarray().astype(float)
    for k in range(3):
        assert np.array_equal(sums[k, :, 0], dense[group == k].sum(0))
        assert np.array_equal(sums[k, :, 1], (dense[group == k] ** 2).sum(0))


def test_values_over_the_limit_are_counted(csr_of):
    matrix = sp.csr_matrix(np.array([[5, 1, 0], [2, 9, 1], [6, 0, 1]]))
    clipped = np.zeros((1, 3, 3))
    clip = np.array([[4.5, 9.0, 0.5]])
    moments.add_clipped(*csr_of(matrix), np.arange(3, dtype=np.int32), np.zeros(3, np.int32), clip, clipped)
    assert clipped[0].tolist() == [[2, 11, 61], [0, 0, 0], [2, 2, 2]]
