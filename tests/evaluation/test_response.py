"""Means by group, the additive baseline and scores over persons."""

import numpy as np
import pytest
from scipy import sparse

from censusformer.evaluation import response as measure

RNG = np.random.default_rng(0)


def test_means_of_groups_by_condition():
    values = RNG.random((60, 5))
    person, state, stimulated = RNG.integers(0, 3, 60), RNG.integers(0, 2, 60), RNG.random(60) < 0.5
    groups = measure.grouped(sparse.csr_matrix(values), person, state, stimulated)
    assert groups.n_control.sum() + groups.n_stimulated.sum() == 60
    for g, (p, s) in enumerate(zip(groups.person, groups.state, strict=True)):
        here = (person == p) & (state == s)
        np.testing.assert_array_equal(np.flatnonzero(groups.of == g), np.flatnonzero(here))
        for found, rows in ((groups.control[g], here & ~stimulated), (groups.stimulated[g], here & stimulated)):
            np.testing.assert_allclose(found, values[rows].mean(0))


def test_groups_without_cells_of_a_condition_have_no_mean():
    groups = measure.grouped(
        sparse.csr_matrix(np.ones((4, 2))), np.array([0, 0, 1, 1]), np.zeros(4, int), np.arange(4) < 1
    )
    assert groups.n_stimulated.tolist() == [1, 0]
    assert np.isnan(groups.stimulated[1]).all()
    assert (groups.control == 1).all()


def test_additive_knows_other_persons_alone():
    shifts = np.array([[1.0], [3.0], [10.0], [100.0], [7.0]])
    state = np.array([0, 0, 1, 0, 2])
    fitted = np.array([True, True, True, False, False])
    found = measure.additive(shifts, state, fitted)
    assert found[3] == 2  # the mean of its state
    assert found[4] == pytest.approx(14 / 3)  # nobody has its state
    shifts[3:] = 1e6
    np.testing.assert_array_equal(measure.additive(shifts, state, fitted), found)


def test_intervals_are_over_persons():
    person = np.repeat(np.arange(6), [1, 2, 3, 1, 2, 3])
    errors = RNG.random(12)
    means = measure.by_person(errors, person)
    np.testing.assert_allclose(means, [errors[person == p].mean() for p in range(6)])
    score = measure.mean_over_persons(means)
    assert score.value == pytest.approx(means.mean())
    assert score.low < score.value < score.high
    assert measure.mean_over_persons(means[:4]).low is None


def test_correlation_by_row():
    one, other = RNG.random((4, 30)), RNG.random((4, 30))
    np.testing.assert_allclose(
        measure.correlation(one, other), [np.corrcoef(a, b)[0, 1] for a, b in zip(one, other, strict=True)]
    )
    assert measure.correlation(np.zeros((1, 3)), other[:1, :3]).tolist() == [0]
