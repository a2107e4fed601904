from fractions import Fraction

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import example, given, settings
from hypothesis import strategies as st

from censusformer.expression.binning import Binning, bin_rows, splitmix64
from censusformer.hashing import draw, words
from censusformer.hashing import splitmix64 as plain_splitmix64

VALUES = st.integers(1, 4) | st.integers(1, 1100) | st.integers(1, 2**32 - 1)


def plain_bounds(values, n_bins):
    """Lo and hi of each value, written from the definition: edges as exact fractions, compared one by one."""
    ordered, n = sorted(values), len(values)
    edges = []
    for i in range(n_bins - 1):
        rank = Fraction(i * (n - 1), n_bins - 2) if n_bins > 2 else Fraction(0)
        below = int(rank)
        above = min(below + 1, n - 1)
        edges.append(ordered[below] + (rank - below) * (ordered[above] - ordered[below]))
    return [(sum(e < x for e in edges), sum(e <= x for e in edges)) for x in values]


def plain_bin(lo, hi, ties, seed, cell, gene_word):
    """Bin of a value between these bounds."""
    if lo == hi:
        return hi
    if ties == "middle":
        return (lo + 1 + hi) // 2
    return lo + 1 + ((int(draw(seed, cell, gene_word)[0]) >> 32) * (hi - lo) >> 32)


def plain_cell(counts, n_bins, ties, seed, cell, gene_words):
    """Bins of a cell's genes (a dict from gene to count), and its tie_var."""
    values = list(counts.values())
    bounds = plain_bounds(values, n_bins)
    bins = {
        gene: plain_bin(lo, hi, ties, seed, cell, gene_words[gene])
        for gene, (lo, hi) in zip(counts, bounds, strict=True)
    }
    drawn = [(hi - lo) ** 2 - 1 if hi > lo and ties == "random" else 0 for lo, hi in bounds]
    return bins, sum(drawn) / 12 / len(drawn) if drawn else 0.0


def bin_matrix(matrix, how, *, cell=None, chosen=None, group=None, gene_of=None, values=None, dtype=np.uint32):
    """Bin a CSR matrix; its columns are the genes unless `gene_of` says more."""
    n, g = matrix.shape
    gene_of = np.arange(g, dtype=np.int32) if gene_of is None else gene_of
    return bin_rows(
        (matrix.indptr.astype(np.int64), matrix.indices.astype(np.int32), matrix.data.astype(dtype)),
        gene_of,
        np.zeros(n, np.int32) if group is None else group,
        np.ones((1, gene_of.max() + 1), bool) if chosen is None else chosen,
        cell=draw(np.arange(n)) if cell is None else cell,
        gene_words=words(map(str, range(gene_of.max() + 1))),
        how=how,
        values=values,
    )


def row_of(binned, i):
    part = slice(binned.indptr[i], binned.indptr[i + 1])
    return dict(zip(binned.genes[part].tolist(), binned.bins[part].tolist(), strict=True))


@settings(max_examples=100, deadline=None)
@example([4, 9, 4, 2**32 - 1], 65535, "random", 2**63)
@given(
    st.lists(VALUES, min_size=1, max_size=40),
    st.integers(2, 60),
    st.sampled_from(["random", "middle"]),
    st.integers(0, 2**63),
)
def test_a_cell_is_binned_as_defined(values, n_bins, ties, seed):
    matrix = sp.csr_matrix(np.array([values], np.int64))
    binned = bin_matrix(matrix, Binning(n_bins, ties, seed))
    gene_words = words(map(str, range(len(values))))
    bins, tie_var = plain_cell(dict(enumerate(values)), n_bins, ties, seed, draw(np.arange(1))[0], gene_words)
    assert row_of(binned, 0) == bins
    assert min(bins.values()) >= 1
    assert max(bins.values()) <= n_bins - 1
    assert binned.tie_var[0] == np.float32(tie_var)


@pytest.mark.parametrize("ties", ["random", "middle"])
def test_many_cells_are_binned_as_defined(counts, ties):
    binned = bin_matrix(counts[:60], Binning(51, ties, 7), dtype=np.uint16)
    cell, gene_words = draw(np.arange(60)), words(map(str, range(counts.shape[1])))
    for i in range(60):
        row = counts[i]
        expected, tie_var = plain_cell(
            dict(zip(row.indices.tolist(), row.data.tolist(), strict=True)), 51, ties, 7, cell[i], gene_words
        )
        assert row_of(binned, i) == expected
        assert binned.tie_var[i] == np.float32(tie_var)


def test_one_gene_is_one_of_all_bins():
    matrix = sp.csr_matrix(np.full((3000, 1), 9))
    binned = bin_matrix(matrix, Binning(6))
    assert np.all(np.bincount(binned.bins, minlength=6)[1:] > 500)
    assert np.all(binned.tie_var == np.float32((5**2 - 1) / 12))
    assert np.all(bin_matrix(matrix, Binning(6, "middle")).bins == 3)


def test_ties_are_drawn_uniformly_and_anew_for_each_seed_cell_and_gene():
    matrix = sp.csr_matrix(np.ones((2000, 30), np.int64))
    binned = bin_matrix(matrix, Binning(11))
    observed = np.bincount(binned.bins, minlength=11)[1:]
    expected = 60_000 / 10
    assert ((observed - expected) ** 2 / expected).sum() < 27.9  # chi-squared, 9 degrees of freedom, p = 0.001
    table = binned.bins.reshape(2000, 30)
    assert abs(np.corrcoef(table[:, 0], table[:, 1])[0, 1]) < 0.1
    assert abs(np.corrcoef(table[:-1, 0], table[1:, 0])[0, 1]) < 0.1
    assert np.mean(bin_matrix(matrix, Binning(11, seed=1)).bins == binned.bins) < 0.12


def test_bounds_are_those_of_numpys_quantiles(counts):
    binned = bin_matrix(counts, Binning(51, "middle"))
    for i in range(50):
        values = counts[i].data
        edges = np.quantile(values, np.linspace(0, 1, 50))
        lo, hi = (values[:, None] > edges + 1e-9).sum(1), (values[:, None] >= edges - 1e-9).sum(1)
        part = binned.bins[binned.indptr[i] : binned.indptr[i + 1]]
        assert np.array_equal(part, np.where(lo == hi, hi, (lo + 1 + hi) // 2))


def test_neither_cells_nor_genes_have_an_order(counts, rng):
    cell = draw(np.arange(300))
    chosen = rng.random((1, 900)) < 0.5
    binned = bin_matrix(counts, Binning(51), cell=cell, chosen=chosen)
    rows, columns = rng.permutation(300), rng.permutation(900).astype(np.int32)
    mixed = counts[rows][:, columns]
    mixed.indices, mixed.data = mixed.indices.copy(), mixed.data.copy()
    for i in range(300):  # unsorted rows, too
        part = slice(mixed.indptr[i], mixed.indptr[i + 1])
        order = rng.permutation(part.stop - part.start)
        mixed.indices[part], mixed.data[part] = mixed.indices[part][order], mixed.data[part][order]
    permuted = bin_matrix(mixed, Binning(51), cell=cell[rows], chosen=chosen, gene_of=columns)
    for i, row in enumerate(rows):
        assert row_of(permuted, i) == row_of(binned, row)
        assert permuted.tie_var[i] == binned.tie_var[row]
        genes = permuted.genes[permuted.indptr[i] : permuted.indptr[i + 1]]
        assert np.all(np.diff(genes) > 0)


def test_other_genes_do_not_matter(counts):
    chosen = np.zeros((1, 900), bool)
    chosen[0, ::3] = True
    alone = counts.copy().tolil()
    alone[:, np.flatnonzero(~chosen[0])] = 0
    for matrix in (counts, alone.tocsr()):
        binned = bin_matrix(matrix, Binning(51), chosen=chosen)
        assert np.array_equal(binned.bins, bin_matrix(counts, Binning(51), chosen=chosen).bins)


def test_rows_have_the_lists_of_their_samples_and_dropped_ones_none(counts):
    group = np.array([0, 1, -1] * 100, np.int32)
    chosen = np.zeros((2, 900), bool)
    chosen[0, :450], chosen[1, 450:] = True, True
    binned = bin_matrix(counts, Binning(51), group=group, chosen=chosen)
    for i in range(300):
        expected = set(counts[i].indices) & set(np.flatnonzero(chosen[group[i]])) if group[i] >= 0 else set()
        assert set(row_of(binned, i)) == expected
    assert np.all(binned.tie_var[2::3] == 0)


def test_explicit_zeros_and_unknown_columns_are_no_values():
    matrix = sp.csr_matrix((np.array([0, 5, 3, 2]), np.array([0, 1, 2, 3]), np.array([0, 4])), shape=(1, 4))
    binned = bin_matrix(matrix, Binning(51, "middle"), gene_of=np.array([0, 1, -1, 2], np.int32))
    assert binned.genes.tolist() == [1, 2]


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 12), st.integers(0, 5))
def test_given_edges_bin_by_definition(n_edges, seed):
    rng = np.random.default_rng(seed)
    counts = sp.csr_matrix(rng.poisson(1.0, (20, 30)))
    total = np.asarray(counts.sum(1)).ravel().astype(np.int64)
    values = np.log1p(counts.data * 1e4 / np.repeat(total, np.diff(counts.indptr))).astype(np.float32)
    edges = np.sort(rng.choice(np.unique(values), n_edges)).astype(np.float64)  # many values equal one or several
    binned = bin_matrix(counts, Binning(n_edges + 1, "middle", 0, edges), values=values)
    lo, hi = (values[:, None] > edges).sum(1), (values[:, None] >= edges).sum(1)
    assert np.array_equal(binned.bins, np.maximum(np.where(lo == hi, hi, (lo + 1 + hi) // 2), 1))


def test_the_compiled_hash_is_the_plain_one():
    x = draw(np.arange(100))
    assert [int(splitmix64(value)) for value in x] == plain_splitmix64(x).tolist()
