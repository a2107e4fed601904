from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp

from censusformer.evaluation import ridge
from censusformer.evaluation.baselines import fit_means, predict_gene_mean
from censusformer.evaluation.ridge import fit_components, fit_ridge, solve, visible_matrix

N_GENES = 40


def low_rank(cell, gene, dataset, rng):
    """Three hidden traits of a cell, the genes' loadings on them, and noise of variance 4; near 0, as absent genes."""
    n, hidden = cell.max() + 1, np.random.default_rng(5)
    loadings = hidden.normal(size=(N_GENES, 3)) * 6
    traits = rng.normal(size=(n, 3))
    return gene % 7 + (traits[cell] * loadings[gene]).sum(1) + 2 * rng.normal(size=len(cell))


def noise(cell, gene, dataset, rng):
    return rng.integers(1, 51, len(cell))


def fitted(cells, k=6):
    return fit_ridge(cells, fit_means(cells, N_GENES, 3).gene, np.arange(len(cells)) % 10 == 0, k)


def error(predicted, cells):
    return np.mean((predicted - cells.target) ** 2)


def test_components_are_those_of_the_dense_matrix():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 4)) @ np.diag([9, 6, 4, 2]) @ rng.normal(size=(4, 30)) + 0.1 * rng.normal(size=(200, 30))
    x[np.abs(x) < 3] = 0
    found = fit_components(sp.csr_matrix(x + 1), 4)
    _, size, axes = np.linalg.svd(x - x.mean(0), full_matrices=False)
    assert np.allclose(np.abs(np.sum(found.axes.T * axes[:4], axis=1)), 1, atol=1e-6)
    assert np.allclose(found.scale, size[:4] / np.sqrt(200))
    scores = found.scores(sp.csr_matrix(x + 1))
    assert np.allclose(scores.mean(0), 0, atol=1e-9)
    assert np.allclose(scores.T @ scores / 200, np.eye(4), atol=1e-6)


def test_fewer_cells_than_components_and_no_variance():
    few = fit_components(sp.csr_matrix(np.eye(3, 10)), 20)
    assert few.axes.shape == (10, 3)
    assert np.allclose(fit_components(sp.csr_matrix(np.ones((5, 10))), 2).scores(sp.csr_matrix(np.ones((5, 10)))), 0)


def test_visible_matrix_hides_what_is_masked(cells_of):
    cells = cells_of([5, 0, 9], noise)
    dense = np.zeros((3, N_GENES))
    for token in np.flatnonzero(~cells.mask):
        dense[cells.cell[token], cells.genes[token]] = cells.values[token]
    assert visible_matrix(cells, N_GENES).toarray().tolist() == dense.tolist()


@pytest.mark.parametrize("block", [7, 2**14])
def test_regressions_are_those_of_a_loop_over_genes(cells_of, monkeypatch, block):
    monkeypatch.setattr(ridge, "_BLOCK_CELLS", block)
    monkeypatch.setattr(ridge, "_BLOCK_TOKENS", 10 * block)
    cells = cells_of([12] * 60, low_rank)
    model = fitted(cells)
    features = np.column_stack([model.components.scores(visible_matrix(cells, N_GENES)), np.ones(60)])
    for gene in range(N_GENES):
        here = cells.target_gene == gene
        z, y = features[cells.target_cell[here]], cells.target[here] - model.gene_mean[gene]
        expected = np.linalg.solve(z.T @ z + model.strength * np.eye(7), z.T @ y)
        assert np.allclose(model.coefficients[gene], expected, atol=1e-9)
        assert np.allclose(model.predict(cells)[here], model.gene_mean[gene] + z @ expected)


def test_finds_what_cells_share(cells_of):
    train, new = (cells_of([25] * 1500, low_rank, seed=seed) for seed in (0, 1))
    model = fitted(train)
    plain = error(predict_gene_mean(fit_means(train, N_GENES, 3), new), new)
    assert error(model.predict(new), new) < 0.4 * plain
    assert error(model.predict(new), new) > 4  # the noise


def test_is_penalised_away_where_there_is_nothing_to_find(cells_of):
    train, new = (cells_of([25] * 300, noise, seed=seed) for seed in (0, 1))
    model = fitted(train)
    assert model.strength >= 100
    means = fit_means(train, N_GENES, 3)
    assert error(model.predict(new), new) < 1.02 * error(predict_gene_mean(means, new), new)


def test_the_strength_is_the_best_on_held_out_cells(cells_of):
    cells, held = cells_of([15] * 300, low_rank), np.arange(300) % 10 == 0
    mean = fit_means(cells, N_GENES, 3).gene
    model = fit_ridge(cells, mean, held, 6)
    features = np.column_stack([model.components.scores(visible_matrix(cells, N_GENES)), np.ones(300)])
    parts, errors = held[cells.target_cell], []
    residual = cells.target - mean[cells.target_gene]
    equations = ridge._normal_equations(features, residual, cells, ~parts, N_GENES)
    for strength in ridge.STRENGTHS:
        found = (features[cells.target_cell] * solve(*equations, strength)[cells.target_gene]).sum(1)
        errors.append(np.mean((found - residual)[parts] ** 2))
    assert model.strength == ridge.STRENGTHS[np.argmin(errors)]
    assert min(errors) < errors[-1]


def test_a_gene_that_was_never_masked_gets_its_mean(cells_of):
    cells = cells_of([25] * 100, low_rank)
    cells = replace(cells, mask=cells.mask & (cells.genes != 3))
    model = fitted(cells)
    assert not model.coefficients[3].any()
    other = replace(cells, mask=cells.genes == 3)
    assert np.allclose(model.predict(other), model.gene_mean[3])


def test_masked_bins_do_not_leak(cells_of):
    train, new = (cells_of([20] * 200, low_rank, seed=seed) for seed in (0, 1))
    model = fitted(train)
    hidden = replace(new, values=np.where(new.mask, 0, new.values))
    assert model.predict(hidden).tolist() == model.predict(new).tolist()


def test_without_held_out_cells_the_penalty_is_the_highest(cells_of):
    cells = cells_of([20] * 5, low_rank)
    assert fit_ridge(cells, np.zeros(N_GENES), np.zeros(5, bool), 3).strength == ridge.STRENGTHS[-1]


def test_the_order_of_genes_changes_nothing(cells_of, reordered):
    cells = cells_of([20] * 200, low_rank)
    other, back = reordered(cells)
    assert np.allclose(fitted(cells).predict(cells), fitted(other).predict(other)[back])
