import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp

from censusformer.expression.normalize import normalised


@pytest.mark.parametrize("log1p", [True, False])
def test_values_are_scanpys(counts, log1p):
    import scanpy as sc

    data = ad.AnnData(counts.astype(np.float64))
    sc.pp.normalize_total(data, target_sum=1e4)
    if log1p:
        sc.pp.log1p(data)
    total = np.asarray(counts.sum(1)).ravel()
    ours = normalised(counts.indptr, counts.data.astype(np.uint16), total, target_sum=1e4, log1p=log1p)
    np.testing.assert_allclose(ours, data.X.data, rtol=1e-12)


def test_equal_shares_have_equal_values():
    matrix = sp.csr_matrix(np.array([[1, 2, 4], [3, 6, 12], [7, 14, 28]]))
    values = normalised(matrix.indptr, matrix.data, np.array([7, 21, 49]), target_sum=1e4, log1p=True).reshape(3, 3)
    assert np.array_equal(values[0], values[1])
    assert np.array_equal(values[0], values[2])


def test_a_cell_without_counts_is_left_as_it_is():
    data = np.array([5, 3, 0])
    assert normalised(np.array([0, 1, 3]), data, np.array([5, 0]), target_sum=10, log1p=False).tolist() == [10, 3, 0]
