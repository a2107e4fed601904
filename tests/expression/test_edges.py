from fractions import Fraction

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from censusformer.expression import edges


def found_edges(blocks, n_edges):
    """Edges by the two passes, over blocks of values."""
    upper_counts = np.zeros(edges.LOW, np.int64)
    for block in blocks:
        edges.count_upper(block, upper_counts)
    upper = edges.wanted_upper(upper_counts, edges.wanted_ranks(int(upper_counts.sum()), n_edges)[0])
    lower_counts = np.zeros((len(upper), edges.LOW), np.int64)
    for block in blocks:
        edges.count_lower(block, upper, lower_counts)
    return edges.edges_of(upper_counts, upper, lower_counts, n_edges)


VALUES = st.lists(
    st.sampled_from([0.5, 1.0, 1.0000001, 3.0]) | st.floats(0, 1e6, width=32), min_size=1, max_size=60
).map(lambda values: np.abs(np.array(values, np.float32)))


@settings(max_examples=150, deadline=None)
@given(VALUES, st.integers(1, 70), st.integers(1, 4))
def test_edges_are_the_exact_quantiles(values, n_edges, n_blocks):
    found = found_edges(np.array_split(values, n_blocks), n_edges)
    ordered, n = np.sort(values).astype(float), len(values)
    for i, edge in enumerate(found):
        rank = Fraction(i * (n - 1), max(n_edges - 1, 1))
        below = int(rank)
        a, b = ordered[below], ordered[min(below + 1, n - 1)]
        if rank == below or a == b:
            assert edge == a
        else:
            assert a < edge < b
            assert edge == pytest.approx(float(Fraction(a) + (rank - below) * (Fraction(b) - Fraction(a))), rel=1e-14)


def test_many_values_are_numpys_quantiles(rng):
    values = rng.gamma(2, 1, 200_000).astype(np.float32)
    expected = np.quantile(values.astype(float), np.linspace(0, 1, 50))
    np.testing.assert_allclose(found_edges(np.array_split(values, 7), 50), expected, rtol=1e-12)


@pytest.mark.parametrize("log1p", [True, False])
def test_normalised_values_are_scanpys(counts, csr_of, log1p):
    import anndata as ad
    import scanpy as sc

    data = ad.AnnData(counts.astype(np.float64))
    sc.pp.normalize_total(data, target_sum=1e4)
    if log1p:
        sc.pp.log1p(data)
    n, g = counts.shape
    group, chosen = np.zeros(n, np.int32), np.zeros((1, g), bool)
    group[::2], chosen[0, ::3] = -1, True
    ours = edges.normalised_values(
        csr_of(counts),
        np.arange(g, dtype=np.int32),
        group,
        chosen,
        total=np.asarray(counts.sum(1)).ravel().astype(np.int64),
        target_sum=1e4,
        log1p=log1p,
    )
    expected = sp.csr_matrix(data.X[1::2])[:, ::3]
    expected.sort_indices()
    np.testing.assert_allclose(ours, expected.data, rtol=1e-6)


def test_equal_shares_have_equal_values(csr_of):
    matrix = sp.csr_matrix(np.array([[1, 2, 4], [3, 6, 12], [7, 14, 28]]))
    values = edges.normalised_values(
        csr_of(matrix),
        np.arange(3, dtype=np.int32),
        np.zeros(3, np.int32),
        np.ones((1, 3), bool),
        total=np.array([7, 21, 49]),
        target_sum=1e4,
        log1p=True,
    ).reshape(3, 3)
    assert np.array_equal(values[0], values[1])
    assert np.array_equal(values[0], values[2])
