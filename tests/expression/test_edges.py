from fractions import Fraction

import numpy as np
import pytest
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


def test_only_chosen_values_of_kept_rows_count(counts, csr_of):
    group, chosen = np.zeros(300, np.int32), np.zeros((1, 900), bool)
    group[::2], chosen[0, ::3] = -1, True
    indptr, indices, data = csr_of(counts)
    found = edges.chosen_values((indptr, indices, data / 2), np.arange(900, dtype=np.int32), group, chosen)
    assert found.dtype == np.float32
    assert np.array_equal(found, counts[1::2][:, ::3].sorted_indices().data / 2)
