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


def counted(csr, group, *, is_kept=None, is_mito=None, min_genes=0, n_groups=1):
    """What `count_cells` finds in rows: their counts, genes and mitochondrial counts; ones; larger counts."""
    n, g = len(group), len(is_kept)
    of_cells = np.zeros(n, np.int64), np.zeros(n, np.int32), np.zeros(n, np.int64)
    ones, at, large = (
        np.zeros((n_groups, g), np.int32),
        np.empty(len(csr[2]), np.int64),
        np.empty(len(csr[2]), np.uint32),
    )
    end = moments.count_cells(*csr, is_kept, is_mito, min_genes, group, *of_cells, ones, at, large)
    return of_cells, ones, (at[:end], large[:end])


@pytest.mark.parametrize("indices", [np.uint16, np.int32])
def test_cells_are_counted_over_the_kept_genes(counts, csr_of, indices):
    n, g = counts.shape
    is_kept = np.arange(g) % 2 == 1
    is_mito = is_kept & (np.arange(g) < 100)
    group = np.where(np.arange(n) % 5, 0, -1).astype(np.int32)
    kept = counts.toarray()[:, 1::2]
    n_genes = (kept > 0).sum(1)
    least = int(np.median(n_genes))
    found, ones, (at, large) = counted(
        csr_of(counts, indices=indices), group, is_kept=is_kept, is_mito=is_mito, min_genes=least
    )
    assert np.array_equal(found[0], kept.sum(1))
    assert np.array_equal(found[1], n_genes)
    assert np.array_equal(found[2], kept[:, :50].sum(1))
    left = (np.arange(n) % 5 > 0) & (n_genes >= least)
    assert np.array_equal(group >= 0, left)
    assert np.array_equal(ones[0], (counts.toarray()[left] == 1).sum(0))
    summed = ones[0] + np.bincount(at, large, minlength=g)
    assert np.array_equal(summed, counts.toarray()[left].sum(0))


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
    matrix = sp.csr_matrix(np.array([[5, 1, 0], [2, 9, 1], [6, 0, 1], [7, 7, 7]]))
    every, group = np.ones(3, bool), np.array([1, 1, 1, -1], np.int32)
    _, ones, large = counted(csr_of(matrix), group, is_kept=every, is_mito=~every, n_groups=2)
    clip = np.array([[0.0, 0.0, 0.0], [4.5, 9.0, 0.5]])
    halves = [tuple(array[:2] for array in large), tuple(array[2:] for array in large)]
    over = moments.add_over(ones, halves, clip)
    assert over[1].tolist() == [[2, 11, 61], [0, 0, 0], [2, 2, 2]]
    assert not over[0].any()
