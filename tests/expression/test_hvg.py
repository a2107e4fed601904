import warnings

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from censusformer.expression import hvg, moments
from censusformer.expression.normalize import normalised

FLAVORS = ("seurat_v3", "seurat_v3_paper", "seurat", "cell_ranger")


def scores_of(counts, flavor, span=1.0, csr_of=None):
    """Scores of a sample's genes as the step computes them; NaN for genes without counts."""
    n, g = counts.shape
    csr = csr_of(counts)
    group = np.zeros(n, np.int32)
    on = np.asarray(counts.sum(0)).ravel() > 0
    scores = np.full(g, np.nan)
    if flavor in hvg.COUNT_FLAVORS:
        ones, room = np.zeros((1, g), np.int32), (np.empty(len(csr[2]), np.int64), np.empty(len(csr[2]), np.uint32))
        of_cells = np.zeros(n, np.int64), np.zeros(n, np.int32), np.zeros(n, np.int64)
        end = moments.count_cells(*csr, np.ones(g, bool), np.zeros(g, bool), 0, group, *of_cells, ones, *room)
        large = [tuple(array[:end] for array in room)]
        sums = moments.add_over(ones, large, np.zeros((1, g)))[0, on, 1:]
        mean, variance = hvg.mean_variance(n, *sums.T)
        trend = hvg.variance_trend(mean, variance, span)
        clip = np.full((1, g), np.inf)
        clip[0, on] = hvg.clip_values(n, mean, trend)
        scores[on] = hvg.seurat_v3_scores(n, sums, trend, moments.add_over(ones, large, clip)[0, on])
    else:
        total = np.asarray(counts.sum(1)).ravel().astype(np.int64)
        values = normalised(csr[0], csr[2], total, target_sum=1e4, log1p=flavor == "cell_ranger")
        sums = np.zeros((1, g, 2))
        moments.add_moments(*csr[:2], values, np.arange(g, dtype=np.int32), group, sums)
        scores[on] = hvg.dispersion_scores(*hvg.mean_variance(n, *sums[0, on].T), flavor)
    return scores


def scanpy_of(counts, flavor, n_top, span=1.0):
    """Scanpy's scores and its choice, among the genes that are expressed."""
    import scanpy as sc

    on = np.asarray(counts.sum(0)).ravel() > 0
    data = ad.AnnData(sp.csr_matrix(counts[:, on].astype(np.float64)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scanpy's own: divisions by 0, lists that are shorter than asked for
        if flavor in hvg.DISPERSION_FLAVORS:
            sc.pp.normalize_total(data, target_sum=1e4)
            sc.pp.log1p(data)
        found = sc.pp.highly_variable_genes(data, flavor=flavor, n_top_genes=n_top, span=span, inplace=False)
    name = "variances_norm" if flavor in hvg.COUNT_FLAVORS else "dispersions_norm"
    scores, chosen = np.full(len(on), np.nan), np.zeros(len(on), bool)
    scores[on], chosen[on] = found[name].to_numpy(), found["highly_variable"].to_numpy()
    return scores, chosen


def assert_as_scanpy(counts, flavor, n_top, csr_of, span=1.0):
    ours = scores_of(counts, flavor, span, csr_of)
    theirs, chosen = scanpy_of(counts, flavor, n_top, span)
    np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9)
    top = hvg.top_genes(ours, n_top)
    cut = ours[top[-1]]
    if np.count_nonzero(np.isclose(ours, cut, rtol=1e-9)) == 1:  # no tie at the cut
        assert set(top) == set(np.flatnonzero(chosen))
    else:
        clear = ~np.isclose(ours, cut, rtol=1e-9)
        assert set(top[clear[top]]) == set(np.flatnonzero(chosen & clear))


@pytest.mark.parametrize("flavor", FLAVORS)
def test_scores_and_choice_are_scanpys(counts, csr_of, flavor):
    assert_as_scanpy(counts, flavor, 200, csr_of)


@pytest.mark.parametrize("flavor", FLAVORS)
@pytest.mark.parametrize("n", [7, 40])
def test_few_cells_are_scanpys_too(counts, csr_of, flavor, n):
    assert_as_scanpy(counts[:n], flavor, 100, csr_of)


def test_span_reaches_loess(counts, csr_of):
    assert_as_scanpy(counts, "seurat_v3", 200, csr_of, span=0.3)
    assert not np.allclose(scores_of(counts, "seurat_v3", 0.3, csr_of), scores_of(counts, "seurat_v3", 1.0, csr_of))


@pytest.mark.blood
@pytest.mark.parametrize("flavor", FLAVORS)
@pytest.mark.parametrize("name", ["kang_ctrl_stim", "citefuse_eccite", "savercat_3donors"])
def test_blood_is_as_scanpys(blood, csr_of, name, flavor):
    data = ad.read_h5ad(blood / f"{name}.h5ad")
    matrix = sp.csr_matrix(data.X)
    for rows in data.obs.groupby("donor_id", observed=True).indices.values():
        if len(rows) >= 50:
            assert_as_scanpy(matrix[rows], flavor, 1200, csr_of)


@pytest.mark.parametrize("flavor", ["seurat_v3", "seurat", "cell_ranger"])
def test_neither_cells_nor_genes_have_an_order(counts, csr_of, rng, flavor):
    rows, columns = rng.permutation(counts.shape[0]), rng.permutation(counts.shape[1])
    ours, permuted = scores_of(counts, flavor, 1.0, csr_of), scores_of(counts[rows][:, columns], flavor, 1.0, csr_of)
    np.testing.assert_allclose(permuted, ours[columns], rtol=1e-9, atol=1e-12)
    if flavor == "seurat_v3":  # exact sums: a tie is a tie whatever the order of the cells
        assert np.array_equal(scores_of(counts[rows], flavor, 1.0, csr_of), ours, equal_nan=True)


def test_clipping_matters_and_is_scanpys(counts, csr_of):
    spiked = counts.tolil(copy=True)
    spiked[3, 10:20] = 70_000  # over the square that float32 holds
    assert_as_scanpy(spiked.tocsr(), "seurat_v3", 100, csr_of)


def test_loess_that_fails_gives_way_to_a_larger_span_then_to_a_parabola():
    mean = np.repeat(np.arange(1, 11) / 50, 5)
    trend = hvg.variance_trend(mean, 1.5 * mean, 0.3)
    assert trend.span == 0.6  # at 0.3 a neighbourhood has too few distinct means
    assert np.allclose(trend.std**2, 1.5 * mean)
    few = np.repeat([0.1, 0.2], 5)
    trend = hvg.variance_trend(few, 2 * few, 1.0)
    assert trend.span is None
    assert np.allclose(trend.std**2, 2 * few)


@pytest.mark.parametrize("n_varying", [0, 1, 2])
def test_hardly_any_gene_varies(n_varying):
    variance = np.zeros(5)
    variance[:n_varying] = 0.5
    trend = hvg.variance_trend(np.ones(5), variance, 1.0)
    assert np.isfinite(trend.std).all()
    assert np.allclose(trend.std[n_varying:], 1)


def test_one_cell_has_no_variance():
    sums = np.array([[1.0, 1.0], [3.0, 9.0]])
    mean, variance = hvg.mean_variance(1, *sums.T)
    trend = hvg.variance_trend(mean, variance, 1.0)
    assert hvg.seurat_v3_scores(1, sums, trend, np.zeros((2, 3))).tolist() == [0, 0]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from([0.0, 1.0, 2.5, np.inf, -np.inf, np.nan]), max_size=30), st.integers(1, 20))
def test_top_genes_are_by_score_then_order(scores, n_top):
    scores = np.array(scores)
    by_definition = [i for i in np.lexsort((np.arange(len(scores)), -scores)) if not np.isnan(scores[i])]
    assert hvg.top_genes(scores, n_top).tolist() == by_definition[:n_top]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.permutations(range(6)).map(lambda p: p[:4]), min_size=1, max_size=6), st.booleans())
def test_shared_list_is_by_median_rank_then_number_of_samples_then_gene(lists, by_samples):
    gene = np.array([g for one in lists for g in one])
    rank = np.array([r for one in lists for r in range(len(one))])
    ranks = {g: [one.index(g) for one in lists if g in one] for g in set(gene.tolist())}

    def place(g):
        median, n = np.median(ranks[g]), len(ranks[g])
        return (-n, median, g) if by_samples else (median, -n, g)

    genes, median, n = hvg.shared_ranks(gene, rank, 6, by_samples=by_samples)
    assert genes.tolist() == sorted(ranks, key=place)
    assert median.tolist() == [np.median(ranks[g]) for g in genes]
    assert n.tolist() == [len(ranks[g]) for g in genes]


@pytest.mark.parametrize("flavor", ["seurat_v3", "seurat_v3_paper"])
def test_shared_list_is_scanpys_with_batches(counts, csr_of, flavor):
    import scanpy as sc

    counts = counts[:, np.minimum(*(np.asarray(part.sum(0)).ravel() for part in (counts[:150], counts[150:]))) >= 60]
    data = ad.AnnData(counts.astype(np.float64))  # well expressed genes: no two have one score
    data.obs["batch"] = ["a"] * 150 + ["b"] * 150
    found = sc.pp.highly_variable_genes(
        data, flavor=flavor, n_top_genes=100, span=1.0, batch_key="batch", inplace=False, subset=False
    )
    tops = [hvg.top_genes(scores_of(part, flavor, 1.0, csr_of), 100) for part in (counts[:150], counts[150:])]
    genes, median, n = hvg.shared_ranks(
        np.concatenate(tops), np.tile(np.arange(100), 2), counts.shape[1], by_samples=flavor == "seurat_v3_paper"
    )
    assert np.array_equal(median, found["highly_variable_rank"].to_numpy()[genes])
    assert np.array_equal(n, found["highly_variable_nbatches"].to_numpy()[genes])
    chosen = set(np.flatnonzero(found["highly_variable"]))
    assert (median[99], n[99]) != (median[100], n[100])
    assert set(genes[:100]) == chosen
