import anndata as ad
import numpy as np
import pytest
import scanpy as sc
from scipy import sparse

from censusformer.evaluation import representations as r


@pytest.fixture(scope="module")
def counts():
    """Counts of 200 cells in two groups, float32."""
    rng = np.random.default_rng(0)
    rates = np.exp(rng.normal(0, 1, (2, 300)))
    return sparse.csr_matrix(rng.poisson(rates[np.arange(200) % 2]).astype(np.float32))


def test_normalisation_is_scanpys(counts):
    data = ad.AnnData(counts.copy())
    sc.pp.normalize_total(data, target_sum=1e4)
    sc.pp.log1p(data)
    assert np.allclose(r.log_normalised(counts).toarray(), data.X.toarray(), rtol=1e-5)


def test_a_cell_without_counts_stays_zero():
    values = r.log_normalised(sparse.csr_matrix(np.array([[0, 0], [1, 1]], np.float32)))
    assert values.toarray()[0].tolist() == [0, 0]


def test_genes_of_most_samples_then_of_largest_variance(counts):
    n_samples = np.zeros(300, int)
    n_samples[[5, 9, 200]], n_samples[7] = 2, 1
    assert r.variable_genes(n_samples, r.log_normalised(counts)).tolist() == [5, 7, 9, 200]
    many = sparse.csr_matrix(np.random.default_rng(0).poisson(1, (20, 2500)).astype(np.float32))
    chosen = r.variable_genes(np.ones(2500, int), many)
    spread = np.asarray(many.multiply(many).mean(0) - np.square(many.mean(0))).ravel()
    assert len(chosen) == r.N_GENES and (np.diff(chosen) > 0).all()
    assert spread[chosen].min() >= np.delete(spread, chosen).max()


def test_components_do_not_see_the_cells_that_they_are_not_fitted_on(counts):
    values, fitted = r.log_normalised(counts), np.arange(200) < 120
    found = r.principal_components(values, fitted)
    changed = values.toarray()
    changed[150:] = 3
    again = r.principal_components(sparse.csr_matrix(changed), fitted)
    assert found.dtype == np.float32 and found.shape == (200, 50)
    assert np.array_equal(found[:150], again[:150])
    assert abs(np.corrcoef(found[:, 0], np.arange(200) % 2)[0, 1]) > 0.95


def test_gene_sets_see_no_values():
    rng = np.random.default_rng(0)
    shown = rng.random((60, 40)) < np.where(np.arange(60)[:, None] % 2, 0.2, 0.6)
    genes, offsets = np.nonzero(shown)[1], np.r_[0, shown.sum(1).cumsum()]
    found = r.gene_sets(offsets, genes, 40, np.arange(60) < 50)
    assert found.shape == (60, 39)
    assert np.isfinite(found).all()
    assert abs(np.corrcoef(found[:, 0], shown.sum(1))[0, 1]) > 0.8


def test_harmony_brings_batches_together_and_keeps_types_apart():
    rng = np.random.default_rng(1)
    batch, kind = np.arange(400) % 2, np.arange(400) // 2 % 2
    x = rng.normal(size=(400, 5)) + 3 * np.outer(batch, np.eye(5)[1]) + 12 * np.outer(kind, np.eye(5)[0])
    aligned = r.harmony(x, batch)
    assert aligned.shape == x.shape and aligned.dtype == np.float32
    assert abs(aligned[batch == 0].mean(0) - aligned[batch == 1].mean(0)).max() < 1
    assert abs(aligned[kind == 0].mean(0) - aligned[kind == 1].mean(0)).max() > 9
    assert np.array_equal(aligned, r.harmony(x, batch))
