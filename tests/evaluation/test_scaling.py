import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import linregress, t

from censusformer.evaluation.scaling import fit_power_law

X = np.array([1000.0, 2000.0, 4000.0, 9000.0])


@settings(max_examples=30)
@given(st.floats(0, 50), st.floats(1, 1e3), st.floats(-0.2, 1))
def test_an_exact_law_is_found(floor, a, exponent):
    law = fit_power_law(X, floor + a * X**-exponent, floor)
    assert law.exponent == pytest.approx(exponent, abs=1e-6)
    assert law.at(X) == pytest.approx(floor + a * X**-exponent, rel=1e-6)
    value, low, high = law.removed_by(2)
    assert value == pytest.approx(1 - 2**-exponent, abs=1e-6) and high - low < 1e-3


def test_interval_is_that_of_linear_regression():
    errors = 30 + 500 * X**-0.3 * np.array([1.02, 0.97, 1.03, 0.99])
    law, line = fit_power_law(X, errors, 30), linregress(np.log(X), np.log(errors - 30))
    half = t.ppf(0.975, 2) * line.stderr
    assert law.exponent_interval == pytest.approx((-line.slope - half, -line.slope + half))
    low, high = law.band(X)
    assert (low < law.at(X)).all() and (law.at(X) < high).all()
    at_centre = law.band(np.exp(np.log(X).mean()))
    assert np.log(at_centre[1] - 30) - np.log(at_centre[0] - 30) == pytest.approx(
        2 * t.ppf(0.975, 2) * np.sqrt(law.residual / 4)
    )


def test_samples_drawn_anew_widen_the_interval():
    rng = np.random.default_rng(0)
    errors = 30 + 500 * X**-0.3 * np.array([1.02, 0.97, 1.03, 0.99])
    drawn = 30 + (errors - 30) * np.exp(rng.normal(0, 0.3, (1000, 4)))
    wide = fit_power_law(X, errors, 30, drawn=drawn, drawn_floor=np.full(1000, 30.0), n_samples=20)
    narrow = fit_power_law(X, errors, 30)
    assert wide.exponent == narrow.exponent
    widths = [law.exponent_interval[1] - law.exponent_interval[0] for law in (wide, narrow)]
    assert widths[0] > 2 * widths[1]


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1))
def test_the_interval_covers_as_often_as_it_says(seed):
    """100 experiments with noise; the true exponent is within the interval in 95 of them, give or take."""
    rng = np.random.default_rng(seed)
    laws = [fit_power_law(X, 5 + 300 * X**-0.4 * np.exp(rng.normal(0, 0.05, 4)), 5) for _ in range(100)]
    inside = sum(law.exponent_interval[0] <= 0.4 <= law.exponent_interval[1] for law in laws)
    assert inside >= 84


def test_too_few_sizes_or_an_error_below_the_floor_give_no_fit():
    assert fit_power_law(X[:2], [3, 2], 0) is None
    assert fit_power_law([1, 1, 2], [3, 3, 2], 0) is None
    assert fit_power_law(X, [9, 8, 7, 5], 6) is None
