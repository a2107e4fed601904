from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from censusformer.evaluation.baselines import (
    fit_means,
    fit_shift,
    predict_constant,
    predict_gene_dataset_mean,
    predict_gene_mean,
    predict_gene_mean_shift,
)

LENGTHS = [20] * 200


def error(predicted, cells):
    return np.mean((predicted - cells.target) ** 2)


def noise(cell, gene, dataset, rng):
    return rng.integers(1, 51, len(cell))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(2, 30), min_size=1, max_size=20), st.integers(0, 999))
def test_each_mean_is_at_least_as_good_on_its_own_tokens(cells_of, lengths, seed):
    """Least squares: constant, gene, gene and data set are nested, so errors on what they are fitted on fall."""
    cells = cells_of(lengths, noise, seed=seed)
    cells = replace(cells, mask=np.ones(len(cells.genes), bool))
    means = fit_means(cells, 40, 3)
    errors = [error(predict(means, cells), cells)
              for predict in (predict_constant, predict_gene_mean, predict_gene_dataset_mean)]  # fmt: skip
    assert errors[0] >= errors[1] - 1e-9
    assert errors[1] >= errors[2] - 1e-9
    assert errors[0] == pytest.approx(np.var(cells.values))


def test_gene_mean_is_exact_where_it_is_the_truth(cells_of):
    train, new = (cells_of(LENGTHS, lambda cell, gene, dataset, rng: gene + 1, seed=seed) for seed in (0, 1))
    means = fit_means(train, 40, 3)
    assert error(predict_gene_mean(means, new), new) == pytest.approx(0)
    assert error(predict_gene_dataset_mean(means, new), new) == pytest.approx(0)
    assert error(predict_constant(means, new), new) == pytest.approx(np.mean((new.target - train.values.mean()) ** 2))


def test_gene_dataset_mean_is_exact_where_it_is_the_truth(cells_of):
    def value(cell, gene, dataset, rng):
        return gene + 3 * dataset * (gene % 2)

    train, new = (cells_of(LENGTHS, value, seed=seed) for seed in (0, 1))
    means = fit_means(train, 40, 3)
    assert error(predict_gene_dataset_mean(means, new), new) == pytest.approx(0)
    assert error(predict_gene_mean(means, new), new) > 1


def test_what_training_never_met_falls_back(cells_of):
    train = cells_of(LENGTHS, lambda cell, gene, dataset, rng: gene + dataset, n_genes=30)
    keep = ~((train.genes == 7) & (train.dataset[train.cell] == 2))
    lengths = np.bincount(train.cell[keep], minlength=len(train))
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    train = replace(train, offsets=offsets, genes=train.genes[keep], values=train.values[keep], mask=train.mask[keep])
    means = fit_means(train, 40, 3)
    assert means.gene[30:].tolist() == [means.constant] * 10
    assert means.dataset[2, 7] == means.gene[7]
    unseen = replace(train, dataset=np.full(len(train), -1))
    assert predict_gene_dataset_mean(means, unseen).tolist() == predict_gene_mean(means, unseen).tolist()


def test_shift_is_exact_where_it_is_the_truth(cells_of):
    def value(cell, gene, dataset, rng):
        return gene + 7 * np.sin(cell)

    train, new = (cells_of([40] * 200, value, seed=seed) for seed in (0, 1))
    means = fit_means(train, 40, 3)
    shrinkage = fit_shift(means, train)
    assert shrinkage == 0
    assert error(predict_gene_mean_shift(means, shrinkage, new), new) < 1e-3
    assert error(predict_gene_mean(means, new), new) > 10


def test_shift_is_shrunk_away_where_there_is_none(cells_of):
    train, new = (cells_of([4] * 800, noise, seed=seed) for seed in (0, 1))
    means = fit_means(train, 40, 3)
    shrinkage = fit_shift(means, train)
    assert shrinkage >= 100
    plain, shrunk = (error(predict_gene_mean_shift(means, s, new), new) for s in (0.0, shrinkage))
    assert shrunk < plain
    assert predict_gene_mean_shift(means, np.inf, new).tolist() == predict_gene_mean(means, new).tolist()


def test_a_cell_without_visible_genes_has_no_shift(cells_of):
    cells = replace(cells_of([3, 3], noise), mask=np.array([True] * 3 + [False] * 3))
    means = fit_means(cells, 40, 3)
    assert predict_gene_mean_shift(means, 0.0, cells).tolist() == predict_gene_mean(means, cells).tolist()


def test_masked_bins_do_not_reach_the_shift(cells_of):
    cells = cells_of(LENGTHS, noise)
    means = fit_means(cells, 40, 3)
    other = replace(cells, values=np.where(cells.mask, 0, cells.values))
    assert predict_gene_mean_shift(means, 1.0, other).tolist() == predict_gene_mean_shift(means, 1.0, cells).tolist()


def test_the_order_of_genes_changes_nothing(cells_of, reordered):
    cells = cells_of(LENGTHS, noise)
    other, back = reordered(cells)
    means, same = fit_means(cells, 40, 3), fit_means(other, 40, 3)
    assert np.allclose(means.gene, same.gene)
    one, two = predict_gene_mean_shift(means, 3.0, cells), predict_gene_mean_shift(same, 3.0, other)
    assert np.allclose(one, two[back])
