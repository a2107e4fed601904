import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from censusformer.evaluation.scores import (
    METRICS,
    cell_correlations,
    interval,
    mse,
    ranks_within,
    resample,
    spearman_gene,
    sums_by_sample,
    tie_floor,
)


def sums(predicted, target, cell, *, gene_mean=None, tie_var=None, sample=None):
    n = int(cell.max()) + 1
    sample = np.zeros(n, int) if sample is None else sample
    return sums_by_sample(
        predicted,
        target,
        cell,
        gene_mean=np.full(len(target), target.mean()) if gene_mean is None else gene_mean,
        tie_var=np.zeros(n) if tie_var is None else tie_var,
        sample=sample,
        n_samples=int(sample.max()) + 1,
    )


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 5)), max_size=40))
def test_ranks_are_those_of_scipy_in_each_group(pairs):
    group, values = (np.array([pair[i] for pair in pairs], int) for i in (0, 1))
    found = ranks_within(values, group)
    for g in set(group.tolist()):
        assert found[group == g].tolist() == stats.rankdata(values[group == g]).tolist()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 999))
def test_correlations_are_those_of_scipy(seed):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(3, 20, 8)
    cell = np.repeat(np.arange(8), lengths)
    target, predicted = rng.integers(1, 6, len(cell)), rng.normal(size=len(cell)).round(1)
    found = cell_correlations(predicted, target, cell, 9)
    assert np.isnan(found[8])
    for i in range(8):
        y, p = target[cell == i], predicted[cell == i]
        if len(set(y)) == 1:
            assert np.isnan(found[i])
        elif len(set(p)) > 1:
            assert found[i] == pytest.approx(stats.spearmanr(p, y).statistic)


def test_correlations_that_are_not_defined():
    cell = np.array([0, 0, 1, 1, 1, 2, 2, 2])
    target = np.array([1, 2, 4, 4, 4, 1, 2, 3])
    found = cell_correlations(np.full(8, 7.0), target, cell, 3)
    assert np.isnan(found).tolist() == [True, True, False]  # too few positions; equal bins; equal predictions
    assert found[2] == 0


def test_correlation_by_gene_asks_for_ten_positions():
    gene = np.repeat([3, 9], [9, 10])
    x = np.arange(19.0)
    assert spearman_gene(x, x, gene) == (1.0, 1)
    assert spearman_gene(-x, x, gene) == (-1.0, 1)
    value, n = spearman_gene(x[:5], x[:5], gene[:5])
    assert np.isnan(value)
    assert n == 0


def test_metrics_are_their_formulas():
    rng = np.random.default_rng(0)
    cell = np.repeat(np.arange(30), 12)
    target, predicted = rng.integers(1, 51, 360), rng.normal(25, 9, 360)
    gene_mean, tie_var, sample = rng.normal(25, 3, 360), rng.random(30) * 40, rng.integers(0, 4, 30)
    total = sums(predicted, target, cell, gene_mean=gene_mean, tie_var=tie_var, sample=sample).sum(0)
    error = np.mean((predicted - target) ** 2)
    base, floor = np.mean((gene_mean - target) ** 2), np.mean(tie_var[cell])
    rho = [stats.spearmanr(predicted[cell == i], target[cell == i]).statistic for i in range(30)]
    expected = {
        "mse": error,
        "mae": np.mean(np.abs(predicted - target)),
        "r2": 1 - error / np.var(target),
        "spearman_cell": np.mean(rho),
        "reducible_removed": (base - error) / (base - floor),
    }
    assert {name: float(metric(total)) for name, metric in METRICS.items()} == pytest.approx(expected)
    assert tie_floor(total) == pytest.approx(floor)


def test_knowing_all_but_the_draws_reaches_the_floor():
    """Bins drawn uniformly from lo+1..hi: their middle is the best predictor, and its error the floor."""
    rng = np.random.default_rng(1)
    low, width = rng.integers(0, 20, 40_000), rng.integers(1, 25, 40_000)
    target, cell = low + rng.integers(1, width + 1), np.repeat(np.arange(400), 100)
    tie_var = ((width**2 - 1) / 12).reshape(400, 100).mean(1)
    total = sums(low + (width + 1) / 2, target, cell, tie_var=tie_var).sum(0)
    assert METRICS["reducible_removed"](total) == pytest.approx(1, abs=0.01)
    assert mse(total) == pytest.approx(tie_floor(total), rel=0.02)


def test_sums_of_parts_are_the_sums_of_the_whole():
    rng = np.random.default_rng(2)
    cell, sample = np.repeat(np.arange(40), 10), np.arange(40) % 7
    target, predicted = rng.integers(1, 51, 400), rng.normal(25, 9, 400)
    whole = sums(predicted, target, cell, sample=sample)
    for s in range(7):
        here = sample[cell] == s
        assert mse(whole[s]) == pytest.approx(np.mean((predicted - target)[here] ** 2))


def test_an_interval_covers_the_truth_as_often_as_it_says():
    """Errors of a sample share an effect: the interval over samples sees it, one over positions would not."""
    rng, truth, covered = np.random.default_rng(3), 10 + 4, 0
    for _ in range(200):
        effect = rng.normal(0, 2, 30)
        squared = 10 + effect**2
        table = np.zeros((30, 9))
        table[:, 0], table[:, 3] = 50, 50 * squared
        low, high = interval(resample(table), mse)
        covered += low < truth < high
    assert 0.85 < covered / 200 < 0.99


def test_intervals_are_drawn_by_hash_and_need_five_samples():
    table = np.abs(np.random.default_rng(4).normal(size=(6, 9))) + 1
    first = interval(resample(table), mse)
    assert first == interval(resample(table), mse)
    assert first[0] < mse(table.sum(0)) < first[1]
    empty = np.vstack([table[:4], np.zeros((3, 9))])
    assert np.isnan(interval(resample(empty), mse)).all()
