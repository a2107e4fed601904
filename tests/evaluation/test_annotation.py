"""Scores of labels against those of scikit-learn, calibration, intervals, the baseline."""

import numpy as np
import pytest
from scipy import sparse
from sklearn.metrics import f1_score

from censusformer.evaluation import annotation as measure

RNG = np.random.default_rng(0)


def test_macro_f1_is_scikit_learns_over_the_classes_that_occur():
    for n in (3, 7):
        truth, guess = RNG.integers(0, n, 200), RNG.integers(0, n, 200)
        table = measure.confusions(truth, guess, np.zeros(200, int), n + 2)  # two classes that nobody has
        wanted = f1_score(truth, guess, average="macro", labels=np.unique(truth))
        assert measure.macro_f1(table[0]) == pytest.approx(wanted)


def test_confusions_add_up_over_groups():
    truth, guess, group = (RNG.integers(0, 4, 300) for _ in range(3))
    table = measure.confusions(truth, guess, group, 4)
    assert table.shape == (4, 4, 4)
    np.testing.assert_array_equal(table.sum(0), measure.confusions(truth, guess, np.zeros(300, int), 4)[0])


def test_the_interval_holds_the_value_and_needs_persons():
    truth, group = RNG.integers(0, 3, 400), RNG.integers(0, 8, 400)
    guess = np.where(RNG.random(400) < 0.7, truth, 0)
    score = measure.scored(measure.confusions(truth, guess, group, 3))
    assert score.low < score.value < score.high
    few = measure.scored(measure.confusions(truth, guess, group % 4, 3))
    assert (few.low, few.high) == (None, None)
    assert few.value == pytest.approx(score.value)


def test_the_lead_over_oneself_is_zero_and_over_worse_is_positive():
    truth, group = RNG.integers(0, 3, 400), RNG.integers(0, 8, 400)
    good, bad = (np.where(RNG.random(400) < share, truth, 0) for share in (0.9, 0.3))
    ours, theirs = (measure.confusions(truth, guess, group, 3) for guess in (good, bad))
    same = measure.scored(ours, ours)
    assert (same.value, same.low, same.high) == (0, 0, 0)
    lead = measure.scored(ours, theirs)
    assert 0 < lead.low < lead.value < lead.high


@pytest.mark.parametrize("wanted", [0.4, 1.0, 3.0])
def test_temperature_is_found_again(wanted):
    logits = RNG.normal(0, 2, (20_000, 4))
    chances = measure.probabilities(logits, 1.0)
    truth = (chances.cumsum(1) < RNG.random((20_000, 1))).sum(1)
    assert measure.fit_temperature(logits * wanted, truth) == pytest.approx(wanted, rel=0.1)


def test_calibration_error():
    confidence = np.repeat([0.25, 0.85], 1000)
    correct = np.concatenate([np.arange(1000) < 250, np.arange(1000) < 850])
    assert measure.calibration_error(confidence, correct) == pytest.approx(0, abs=1e-9)
    assert measure.calibration_error(confidence, ~correct) == pytest.approx((0.5 + 0.7) / 2)


def test_log_normalised():
    counts = sparse.csr_matrix(RNG.poisson(1, (5, 30)))
    found = measure.log_normalised(counts).toarray()
    np.testing.assert_allclose(np.expm1(found).sum(1), 1e4, rtol=1e-5)
    assert measure.log_normalised(sparse.csr_matrix((2, 3))).nnz == 0


def data(n=300, n_genes=60):
    """Three classes, each with ten genes of its own; the last ten genes vary in nobody."""
    classes = RNG.integers(0, 3, n)
    rates = np.full((n, n_genes), 0.5)
    for k in range(3):
        rates[classes == k, 10 * k : 10 * k + 10] = 3
    counts = RNG.poisson(rates)
    counts[:, 50:] = 1
    return sparse.csr_matrix(counts), classes


def test_variable_genes_are_those_that_vary():
    counts, _ = data()
    assert np.isin(measure.variable_genes(counts, 30), np.arange(30)).mean() > 0.9
    assert len(measure.variable_genes(counts, 100)) == 60


def test_the_baseline_learns_and_never_sees_the_held_out_labels():
    counts, classes = data()
    train, valid = np.arange(300) < 150, (np.arange(300) >= 150) & (np.arange(300) < 200)
    test = ~train & ~valid
    predicted = measure.logistic_regression(counts, classes, train, valid, n_genes=40)
    assert np.mean(predicted[test] == classes[test]) > 0.9
    wrong = np.where(test, (classes + 1) % 3, classes)
    np.testing.assert_array_equal(measure.logistic_regression(counts, wrong, train, valid, n_genes=40), predicted)


def test_compared_says_what_unknown_is_worth():
    classes = np.repeat([0, 1], 100)
    sure = np.tile(np.arange(100) < 60, 2)
    logits = np.zeros((200, 2))
    logits[np.arange(200), classes] = np.where(sure, 5, -0.1)  # the unsure ones are wrong
    person = np.arange(200) % 10
    found = measure.compared(logits, np.ones(200), classes, 1 - classes, person, unknown=0.8)
    assert found["accuracy"] == pytest.approx(0.6)
    assert found["unknown"] == pytest.approx(0.4)
    assert (found["accuracy_called"], found["accuracy_unknown"]) == (1, 0)
    assert found["logistic_hvg"]["value"] == 0
    assert found["lead"]["value"] == found["model"]["value"]
    everything = measure.compared(logits, np.ones(200), classes, classes, person, unknown=0.01)
    assert everything["accuracy_unknown"] is None
