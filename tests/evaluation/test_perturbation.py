"""Null distributions of perturbations."""

import numpy as np
import pytest
from scipy.stats import false_discovery_control

from censusformer.evaluation.perturbation import matched, p_values, q_values, toward


def test_matched_genes_are_shown_by_as_many_cells():
    n_cells = np.array([100, 90, 20, 0, 111, 1000])
    assert matched(n_cells, 0, np.arange(6), 3).tolist() == [4, 1, 2]
    assert matched(n_cells, 0, np.array([0, 2, 3]), 3).tolist() == [2]  # neither itself nor a gene that nobody shows


def test_p_values_count_draws_at_least_as_far_from_zero():
    null = np.array([[1.0, -3.0, np.nan], [2.0, 0.0, 1.0], [-2.0, 0.5, 2.0]])
    np.testing.assert_allclose(p_values(np.array([2.0, -4.0, 1.5]), null), [3 / 4, 1 / 4, 2 / 3])
    assert np.isnan(p_values(np.array([np.nan]), null[:, :1]))[0]


def test_p_values_of_what_is_no_different_are_uniform():
    rng = np.random.default_rng(0)
    p = p_values(rng.normal(size=5000), rng.normal(size=(99, 5000)))
    assert np.mean(p <= 0.05) == pytest.approx(0.05, abs=0.01)
    assert p.mean() == pytest.approx(0.5, abs=0.02)


def test_q_values_are_scipys():
    p = np.random.default_rng(1).uniform(size=200) ** 2
    np.testing.assert_allclose(q_values(p), false_discovery_control(p))
    with_gap = q_values(np.append(p, np.nan))
    np.testing.assert_allclose(with_gap[:-1], q_values(p))
    assert np.isnan(with_gap[-1])


def test_toward_is_the_most_direct_way():
    centroids = np.array([[0.0, 0.0], [2.0, 0.0], [0.0, 5.0]])
    assert toward(np.array([0.1, 0.01]), centroids[0], centroids) == (1, pytest.approx(0.995, abs=1e-3))
    assert toward(np.zeros(2), centroids[0], centroids) == (-1, 0.0)
    assert toward(np.ones(2), centroids[0], centroids[:1]) == (-1, 0.0)
